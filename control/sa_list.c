/* sa_list.c - one block of items in a secret's pages, doubled when it is full.
 *
 * A list of secret.h blocks, one an item, was refused: a mapping, two guard pages and a lock for each of
 * 16384 SAs.  mremap() was refused, too: a block that moves in place is fast, but the lock's accounting of
 * a mapping that grows is the kernel's, and a failure half-way leaves an unlocked tail.
 */
#include "control/sa_list.h"

#include <errno.h>
#include <string.h>

#include "control/secret.h"

enum { ITEMS_FIRST = 16 };

int sa_list_grow(struct sa_list *list, uint32_t n_more)
{
	uint32_t n = list->n_allocated > 0 ? list->n_allocated : ITEMS_FIRST;
	struct sa_item *items;

	if (n_more > SA_MAX - list->n)
		return -E2BIG;
	if (list->n + n_more <= list->n_allocated)
		return 0;
	while (n < list->n + n_more)
		n *= 2;
	if (n > SA_MAX)
		n = SA_MAX;
	items = secret_alloc(n * sizeof(*items));
	if (items == NULL)
		return -ENOMEM;
	if (list->n > 0)
		memcpy(items, list->items, list->n * sizeof(*items));
	secret_free(list->items);
	list->items = items;
	list->n_allocated = n;
	return 0;
}

int sa_list_add(struct sa_list *list, const struct sa_item *item)
{
	int rc = sa_list_grow(list, 1);

	if (rc == 0)
		list->items[list->n++] = *item;
	return rc;
}

void sa_list_remove(struct sa_list *list, uint32_t at)
{
	memmove(&list->items[at], &list->items[at + 1], (list->n - at - 1) * sizeof(*list->items));
	list->n--;
	explicit_bzero(&list->items[list->n], sizeof(*list->items));
}

void sa_list_fini(struct sa_list *list)
{
	secret_free(list->items);
	*list = (struct sa_list){0};
}

static bool is_equal(const struct sa_address *a, const struct sa_address *b)
{
	return a->family == b->family && memcmp(a->value, b->value, sizeof(a->value)) == 0 &&
	       memcmp(a->mask, b->mask, sizeof(a->mask)) == 0;
}

/* Does it name an address at all, be it in part? */
static bool is_named(const struct sa_address *a)
{
	static const uint8_t none[sizeof(a->mask)];

	return memcmp(a->mask, none, sizeof(none)) != 0;
}

bool sa_item_is_same_sa(const struct sa_item *a, const struct sa_item *b)
{
	const struct sa_record *x = &a->record, *y = &b->record;

	if (x->spi != y->spi || x->spi_mask != y->spi_mask || !is_equal(&x->dst, &y->dst))
		return false;
	return !is_named(&x->src) || !is_named(&y->src) || is_equal(&x->src, &y->src);
}
