/* trie.c - building the tries of trie.h.
 *
 * A prefix that ends inside a node covers a run of its entries; each entry either holds a value, which
 * is changed, or leads to a child, all of whose leaves are changed.
 * Sealing gives each leaf of the root a wide node that holds nothing else, one for each distinct value:
 * a KiB each, mostly one or two, for a branch less in every lookup.
 * Refused: DIR-24-8 (64 MiB for IPv4 alone, one miss a lookup), a stride of 8 all the way (1 KiB a
 * node: 30,000 IPv6 hosts would take 400 MB); a stride of 4 from the third byte on (two lines that miss
 * for each /24: 95 against 87 cycles a packet with 1,000 subnets a side).
 */
#include "filters/trie.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

/* Where a prefix stands on its way down: bits used so far, and the node that the next ones index. */
struct step {
	uint32_t *node;
	unsigned done, bits;
};

enum { WIDE_BITS = 24 }; // a byte a level down to here

static unsigned bits_at(unsigned done)
{
	return done < WIDE_BITS ? 8 : 4;
}

static unsigned index_at(const uint8_t *addr, unsigned done)
{
	if (done < WIDE_BITS)
		return addr[done / 8];
	return done & 4 ? addr[done / 8] & 15 : addr[done / 8] >> 4;
}

void trie_init(struct trie *trie, uint32_t value)
{
	for (unsigned i = 0; i < TRIE_WIDE; i++)
		trie->root[i] = value;
	trie->entries = NULL;
	trie->n_entries = trie->n_allocated = 0;
	trie->budget = NULL;
}

void trie_fini(struct trie *trie)
{
	free(trie->entries);
	trie->entries = NULL;
	trie->n_entries = trie->n_allocated = 0;
}

static bool take(uint64_t *left, uint64_t n)
{
	if (*left < n)
		return false;
	*left -= n;
	return true;
}

/* A new node of n entries that all hold `value`; where it begins in *at. */
static int add_node(struct trie *trie, uint32_t n, uint32_t value, uint32_t *at)
{
	if (trie->budget != NULL && !take(&trie->budget->entries_left, n))
		return -ENOMEM;
	if (trie->n_allocated - trie->n_entries < n) {
		uint32_t more = 2 * trie->n_allocated + TRIE_WIDE;
		uint32_t *grown = NULL;

		if (trie->n_allocated < TRIE_CHILD / 4) // an entry has 31 bits to say where
			grown = reallocarray(trie->entries, more, sizeof(*grown));
		if (grown == NULL)
			return -ENOMEM;
		trie->entries = grown;
		trie->n_allocated = more;
	}
	*at = trie->n_entries;
	for (uint32_t i = 0; i < n; i++)
		trie->entries[trie->n_entries++] = value;
	return 0;
}

/* Change every leaf at and below the entry, whose node's children begin after `done` bits.  Depth is
 * bounded by the address: 30 levels.
 */
static int change_leaves(struct trie *trie, uint32_t *entry, unsigned done, uint32_t value,
			 bool is_or)
{
	unsigned n = 1U << bits_at(done);
	uint32_t *node;

	if (!(*entry & TRIE_CHILD)) {
		*entry = is_or ? *entry | value : value;
		return 0;
	}
	if (trie->budget != NULL && !take(&trie->budget->steps_left, n))
		return -ENOMEM;
	node = trie->entries + (*entry & ~TRIE_CHILD);
	for (unsigned i = 0; i < n; i++)
		if (change_leaves(trie, &node[i], done + bits_at(done), value, is_or) != 0)
			return -ENOMEM;
	return 0;
}

/* Go one level down, where a node is made if there is none. */
static int descend(struct trie *trie, struct step *step, const uint8_t *addr)
{
	unsigned i = index_at(addr, step->done), next = step->done + step->bits;
	uint32_t entry = step->node[i], at = entry & ~TRIE_CHILD;

	if (!(entry & TRIE_CHILD)) {
		bool is_root = step->node == trie->root;
		uint32_t here = is_root ? 0 : (uint32_t)(step->node - trie->entries);

		if (add_node(trie, 1U << bits_at(next), entry, &at) != 0)
			return -ENOMEM;
		// add_node may have moved the entries
		step->node = is_root ? trie->root : trie->entries + here;
		step->node[i] = at | TRIE_CHILD;
	}
	*step = (struct step){trie->entries + at, next, bits_at(next)};
	return 0;
}

static int put(struct trie *trie, const struct set_subnet *subnet, uint32_t value, bool is_or)
{
	struct step step = {trie->root, 0, 8};
	unsigned first, span;

	while (subnet->prefix_len > step.done + step.bits)
		if (descend(trie, &step, subnet->addr) != 0)
			return -ENOMEM;
	span = 1U << (step.done + step.bits - subnet->prefix_len);
	first = index_at(subnet->addr, step.done) & ~(span - 1);
	if (trie->budget != NULL && !take(&trie->budget->steps_left, span + step.done / 4))
		return -ENOMEM;
	for (unsigned i = first; i < first + span; i++)
		if (change_leaves(trie, &step.node[i], step.done + step.bits, value, is_or) != 0)
			return -ENOMEM;
	return 0;
}

int trie_put_or(struct trie *trie, const struct set_subnet *subnet, uint32_t bits)
{
	return put(trie, subnet, bits, true);
}

int trie_put_lpm(struct trie *trie, const struct set_subnet *subnet, uint32_t value)
{
	return put(trie, subnet, value, false);
}

int trie_seal(struct trie *trie)
{
	uint32_t values[TRIE_WIDE], at[TRIE_WIDE];
	unsigned n = 0;

	trie->budget = NULL;
	for (unsigned i = 0; i < TRIE_WIDE; i++) {
		uint32_t entry = trie->root[i];
		unsigned k = 0;

		if (entry & TRIE_CHILD) {
			trie->root[i] = entry & ~TRIE_CHILD;
			continue;
		}
		while (k < n && values[k] != entry)
			k++;
		if (k == n) {
			if (add_node(trie, TRIE_WIDE, entry, &at[n]) != 0)
				return -ENOMEM;
			values[n++] = entry;
		}
		trie->root[i] = at[k];
	}
	return 0;
}
