/* sa_registry.c - three lists and the slots of their counters.
 *
 * 10,000 SAs may come and go one by one (a gateway that rekeys) or all at once (a dump each minute), so
 * nothing is compared with everything: beside each list lies an array of its SPIs, four bytes an SA, that
 * a search of one runs over; and two whole lists are laid side by side sorted.
 * A dump that says what is known already changes nothing: the dataplane is not told again.
 * Removal fills the hole with the last one, unless the list has wildcards, whose order decides.
 */
#include "control/sa_registry.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/sa_resolve.h"
#include "control/secret.h"

enum { NO_SLOT = SA_MAX };
enum slot_state { SLOT_FREE, SLOT_NEW, SLOT_SENT, SLOT_KNOWN };

static const enum sa_origin set_order[SA_ORIGINS] = {SA_FROM_FILE, SA_FROM_API, SA_FROM_KERNEL};

struct source {
	struct sa_list list;
	uint32_t spis[SA_MAX]; // of list.items
	uint32_t n_wildcards;
};

struct sa_registry {
	struct source sources[SA_ORIGINS];
	uint8_t slots[SA_MAX]; // enum slot_state
	uint32_t next_slot;    // round and round: a slot that is free is left alone for long
	bool is_changed, is_resolved;
	struct faults warnings;
};

struct sa_registry *sa_registry_open(void)
{
	struct sa_registry *r = calloc(1, sizeof(*r));

	if (r != NULL)
		r->is_changed = true; // that there is none is worth saying, too
	return r;
}

void sa_registry_close(struct sa_registry *r)
{
	if (r == NULL)
		return;
	for (unsigned o = 0; o < SA_ORIGINS; o++)
		sa_list_fini(&r->sources[o].list);
	faults_fini(&r->warnings);
	free(r);
}

static void changed(struct sa_registry *r)
{
	r->is_changed = true;
	r->is_resolved = false;
}

void sa_registry_touch(struct sa_registry *r)
{
	changed(r);
}

bool sa_registry_is_changed(const struct sa_registry *r)
{
	return r->is_changed;
}

static bool is_wildcard(const struct sa_record *record)
{
	return record->spi_mask != (uint32_t)SA_SPI_WHOLE || !sa_address_is_whole(&record->dst);
}

uint32_t sa_registry_n_of(const struct sa_registry *r, enum sa_origin origin)
{
	return r->sources[origin].list.n;
}

uint32_t sa_registry_n(const struct sa_registry *r)
{
	uint32_t n = 0;

	for (unsigned o = 0; o < SA_ORIGINS; o++)
		n += r->sources[o].list.n;
	return n;
}

/* Would so many SAs and wildcards be too many, beside those of the other origins? */
static int check_room(const struct sa_registry *r, enum sa_origin origin, uint32_t n,
		      uint32_t n_wildcards, struct error *err)
{
	for (unsigned o = 0; o < SA_ORIGINS; o++) {
		if (o != origin) {
			n += r->sources[o].list.n;
			n_wildcards += r->sources[o].n_wildcards;
		}
	}
	if (n > SA_MAX)
		error_set(
			err,
			"There would be %u SAs, and gatecap has room for %u in all, those of file, "
			"API and kernel together: leave out those that are no longer used.",
			n, SA_MAX);
	else if (n_wildcards > SA_WILDCARDS_MAX)
		error_set(
			err,
			"There would be %u SAs with a wildcard in SPI or destination, and gatecap "
			"has room for %u: write SPI and destination in full where they are known.",
			n_wildcards, SA_WILDCARDS_MAX);
	else
		return 0;
	return -E2BIG;
}

static int out_of_memory(struct error *err)
{
	error_set(err, "There is no memory for the SAs; those in force stay.");
	return -ENOMEM;
}

/* ---- Slots ---- */

static uint32_t take_slot(struct sa_registry *r)
{
	uint32_t slot = r->next_slot;

	for (uint32_t n = 0; r->slots[slot] != SLOT_FREE; n++) {
		assert(n < SA_MAX); // as many slots as SAs
		slot = (slot + 1) % SA_MAX;
	}
	r->slots[slot] = SLOT_NEW;
	r->next_slot = (slot + 1) % SA_MAX;
	return slot;
}

void sa_registry_applied(struct sa_registry *r)
{
	for (uint32_t i = 0; i < SA_MAX; i++)
		if (r->slots[i] == SLOT_SENT)
			r->slots[i] = SLOT_KNOWN;
}

bool sa_registry_is_counted(const struct sa_registry *r, const struct sa_item *item)
{
	return r->slots[item->record.slot] == SLOT_KNOWN;
}

/* ---- Two lists side by side ---- */

/* By what an SA's slot hangs on. */
static int slot_order(const struct sa_record *x, const struct sa_record *y)
{
	if (x->spi != y->spi)
		return x->spi < y->spi ? -1 : 1;
	if (x->spi_mask != y->spi_mask)
		return x->spi_mask < y->spi_mask ? -1 : 1;
	return memcmp(&x->dst, &y->dst, sizeof(x->dst));
}

static int place_order(const void *a, const void *b, void *items)
{
	const uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
	const struct sa_item *list = items;
	int order = slot_order(&list[i].record, &list[j].record);

	return order != 0 ? order : (i > j) - (i < j);
}

/* Gives (free) the places of the list in order, or NULL. */
static uint32_t *sorted(const struct sa_list *list)
{
	uint32_t *places = calloc(list->n + 1U, sizeof(*places));

	for (uint32_t i = 0; places != NULL && i < list->n; i++)
		places[i] = i;
	if (places != NULL)
		qsort_r(places, list->n, sizeof(*places), place_order, list->items);
	return places;
}

/* The same to the dataplane and to people, but for what is ours to fill. */
static bool item_equal(const struct sa_item *a, const struct sa_item *b)
{
	const size_t algorithms = offsetof(struct sa_record, mode),
		     flags = offsetof(struct sa_record, flags),
		     keys = offsetof(struct sa_record, enc_key);
	const uint8_t *x = (const uint8_t *)&a->record, *y = (const uint8_t *)&b->record;

	return memcmp(x, y, offsetof(struct sa_record, slot)) == 0 &&
	       a->record.esn_high == b->record.esn_high &&
	       memcmp(x + algorithms, y + algorithms, flags - algorithms) == 0 &&
	       (a->record.flags & SA_ESN) == (b->record.flags & SA_ESN) &&
	       memcmp(x + keys, y + keys, sizeof(a->record) - keys) == 0 &&
	       strcmp(a->connection, b->connection) == 0 && a->if_id == b->if_id &&
	       a->mark == b->mark && a->reqid == b->reqid &&
	       memcmp(&a->remote, &b->remote, sizeof(a->remote)) == 0;
}

/* New items take over the slots of old ones.  True: there is nothing new at all. */
static bool pair_up(struct sa_registry *r, const struct source *old, const uint32_t *old_at,
		    struct sa_list *new, const uint32_t *new_at)
{
	bool is_same = old->list.n == new->n;
	uint32_t i = 0, j = 0;

	while (i < old->list.n || j < new->n) {
		const struct sa_item *was = i < old->list.n ? &old->list.items[old_at[i]] : NULL;
		struct sa_item *is = j < new->n ? &new->items[new_at[j]] : NULL;
		int order = was == NULL	 ? 1
			    : is == NULL ? -1
					 : slot_order(&was->record, &is->record);

		if (order == 0) {
			is->record.slot = was->record.slot;
			is_same = is_same && item_equal(was, is) &&
				  (old->n_wildcards == 0 || old_at[i] == new_at[j]);
		} else if (order < 0) {
			r->slots[was->record.slot] = SLOT_FREE;
		} else {
			is->record.slot = NO_SLOT;
		}
		is_same = is_same && order == 0;
		i += order <= 0;
		j += order >= 0;
	}
	return is_same;
}

/* Take the list over, whole. */
static void install(struct sa_registry *r, struct source *source, struct sa_list *list,
		    uint32_t n_wildcards)
{
	sa_list_fini(&source->list);
	source->list = *list;
	*list = (struct sa_list){0};
	source->n_wildcards = n_wildcards;
	for (uint32_t i = 0; i < source->list.n; i++) {
		struct sa_record *record = &source->list.items[i].record;

		source->spis[i] = record->spi;
		if (record->slot == NO_SLOT)
			record->slot = take_slot(r);
	}
}

static uint32_t count_wildcards(const struct sa_list *list)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < list->n; i++)
		n += is_wildcard(&list->items[i].record);
	return n;
}

int sa_registry_replace(struct sa_registry *r, enum sa_origin origin, struct sa_list *list,
			struct error *err)
{
	struct source *source = &r->sources[origin];
	uint32_t n_wildcards = count_wildcards(list);
	uint32_t *old_at = NULL, *new_at = NULL;
	int rc = check_room(r, origin, list->n, n_wildcards, err);

	if (rc == 0) {
		old_at = sorted(&source->list);
		new_at = sorted(list);
		if (old_at == NULL || new_at == NULL)
			rc = out_of_memory(err);
	}
	if (rc == 0) {
		if (!pair_up(r, source, old_at, list, new_at))
			changed(r);
		else
			r->is_resolved = false; // the new items have not been told theirs
		install(r, source, list, n_wildcards);
	}
	free(old_at);
	free(new_at);
	sa_list_fini(list);
	return rc;
}

/* Is one of the sorted list the same SA? */
static bool has_same(const struct sa_list *list, const uint32_t *places, const struct sa_item *item)
{
	uint32_t low = 0, high = list->n;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (slot_order(&list->items[places[middle]].record, &item->record) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < list->n; low++) {
		const struct sa_item *at = &list->items[places[low]];

		if (slot_order(&at->record, &item->record) != 0)
			return false;
		if (sa_item_is_same_sa(at, item))
			return true;
	}
	return false;
}

/* Of the same SA twice in a list nobody can say which is meant. */
static int check_twins(const struct sa_list *list, const uint32_t *places, struct error *err)
{
	for (uint32_t i = 0; i < list->n; i++) {
		const struct sa_item *item = &list->items[places[i]];

		for (uint32_t j = i + 1; j < list->n; j++) {
			const struct sa_item *next = &list->items[places[j]];

			if (slot_order(&item->record, &next->record) != 0)
				break;
			if (!sa_item_is_same_sa(item, next))
				continue;
			error_set(err,
				  "SPI 0x%08x is given twice for the same addresses, as SA %u and "
				  "SA %u of the list: leave one out.",
				  item->record.spi, places[i], places[j]);
			return -EEXIST;
		}
	}
	return 0;
}

int sa_registry_put_all(struct sa_registry *r, enum sa_origin origin, struct sa_list *list,
			struct error *err)
{
	const struct sa_list *old = &r->sources[origin].list;
	uint32_t *places = sorted(list);
	struct sa_list all = {0};
	int rc = places != NULL ? check_twins(list, places, err) : -ENOMEM;

	for (uint32_t i = 0; rc == 0 && i < old->n; i++)
		if (!has_same(list, places, &old->items[i]))
			rc = sa_list_add(&all, &old->items[i]);
	for (uint32_t i = 0; rc == 0 && i < list->n; i++)
		rc = sa_list_add(&all, &list->items[i]);
	free(places);
	if (rc == 0) {
		rc = sa_registry_replace(r, origin, &all, err);
	} else if (rc == -E2BIG) {
		rc = check_room(r, origin, old->n + list->n, 0, err);
		assert(rc != 0);
	} else if (rc != -EEXIST) {
		rc = out_of_memory(err);
	}
	sa_list_fini(&all);
	sa_list_fini(list);
	return rc;
}

/* ---- One by one ---- */

/* The place of the same SA, or the number of all. */
static uint32_t find(const struct source *source, const struct sa_item *like)
{
	uint32_t i = 0;

	for (; i < source->list.n; i++)
		if (source->spis[i] == like->record.spi &&
		    sa_item_is_same_sa(&source->list.items[i], like))
			break;
	return i;
}

int sa_registry_put(struct sa_registry *r, enum sa_origin origin, const struct sa_item *item,
		    struct error *err)
{
	struct source *source = &r->sources[origin];
	uint32_t at = find(source, item), slot;
	int rc;

	if (at < source->list.n) { // the same SPI and destination: as wild as before
		struct sa_item *known = &source->list.items[at];

		if (item_equal(known, item))
			return 0;
		slot = known->record.slot;
		*known = *item;
		known->record.slot = slot;
		changed(r);
		return 0;
	}
	rc = check_room(r, origin, source->list.n + 1,
			source->n_wildcards + is_wildcard(&item->record), err);
	if (rc != 0)
		return rc;
	if (sa_list_add(&source->list, item) != 0)
		return out_of_memory(err);
	source->list.items[at].record.slot = take_slot(r);
	source->spis[at] = item->record.spi;
	source->n_wildcards += is_wildcard(&item->record);
	changed(r);
	return 0;
}

int sa_registry_remove(struct sa_registry *r, enum sa_origin origin, const struct sa_item *like)
{
	struct source *source = &r->sources[origin];
	struct sa_list *list = &source->list;
	uint32_t at = find(source, like), last = list->n - 1;

	if (at == list->n)
		return -ENOENT;
	r->slots[list->items[at].record.slot] = SLOT_FREE;
	source->n_wildcards -= is_wildcard(&list->items[at].record);
	if (source->n_wildcards == 0) {
		list->items[at] = list->items[last];
		source->spis[at] = source->spis[last];
		sa_list_remove(list, last);
	} else {
		sa_list_remove(list, at);
		memmove(&source->spis[at], &source->spis[at + 1], (last - at) * sizeof(uint32_t));
	}
	changed(r);
	return 0;
}

/* ---- The set ---- */

static void resolve_one(struct sa_registry *r, const struct sa_resolver *resolver,
			struct sa_item *item)
{
	uint32_t connection = 0;
	enum sa_connection kind = sa_resolver_find(resolver, item, &connection);

	item->record.flags &= SA_NEW | SA_ESN;
	item->record.flags |= sa_resolver_direction(resolver, item);
	item->record.connection_kind = (uint8_t)kind;
	item->record.connection = connection;
	if (item->connection[0] != '\0' && kind == SA_CONNECTION_NONE)
		faults_add(
			&r->warnings, "",
			"The SA with SPI 0x%08x asks for connection \"%s\", and there is no IPsec "
			"connection of that name: it belongs to none.",
			item->record.spi, item->connection);
}

int sa_registry_resolve(struct sa_registry *r, const struct config *config,
			const struct resolved_peer *resolved, unsigned n_resolved)
{
	struct sa_resolver *resolver;

	if (r->is_resolved)
		return 0;
	resolver = sa_resolver_open(config, resolved, n_resolved);
	if (resolver == NULL)
		return -ENOMEM;
	faults_fini(&r->warnings);
	for (unsigned o = 0; o < SA_ORIGINS; o++) {
		struct sa_list *list = &r->sources[set_order[o]].list;

		for (uint32_t i = 0; i < list->n; i++)
			resolve_one(r, resolver, &list->items[i]);
	}
	sa_resolver_close(resolver);
	r->is_resolved = true;
	return 0;
}

/* A record into the set, and its slot has been sent. */
static void write_record(struct sa_registry *r, const struct sa_record *record,
			 struct sa_record *out)
{
	uint8_t *state = &r->slots[record->slot];

	*out = *record;
	out->flags &= (uint8_t)~SA_NEW;
	if (*state != SLOT_KNOWN) {
		out->flags |= SA_NEW;
		*state = SLOT_SENT;
	}
}

void *sa_registry_build(struct sa_registry *r, const struct config *config,
			const struct resolved_peer *resolved, unsigned n_resolved,
			uint64_t generation, size_t *bytes)
{
	uint32_t n = sa_registry_n(r), at = 0;
	size_t total = sizeof(struct sa_set_header) + n * sizeof(struct sa_record);
	struct sa_set_header *header;
	struct sa_record *records;

	static_assert(sizeof(struct sa_set_header) % 8 == 0 && sizeof(struct sa_record) % 8 == 0,
		      "no gaps in the set");
	if (sa_registry_resolve(r, config, resolved, n_resolved) != 0)
		return NULL;
	header = secret_alloc(total);
	if (header == NULL)
		return NULL;
	records = (struct sa_record *)(header + 1);
	*header = (struct sa_set_header){.magic = SA_SET_MAGIC,
					 .version = SA_SET_VERSION,
					 .generation = generation,
					 .total_bytes = (uint32_t)total,
					 .n_sas = n,
					 .flags = config->esp.verify_icv ? SA_SET_VERIFY_ICV : 0};
	for (unsigned o = 0; o < SA_ORIGINS; o++) {
		const struct sa_list *list = &r->sources[set_order[o]].list;

		for (uint32_t i = 0; i < list->n; i++)
			write_record(r, &list->items[i].record, &records[at++]);
	}
	r->is_changed = false;
	*bytes = total;
	return header;
}

/* ---- Looking ---- */

const struct sa_item *sa_registry_at(const struct sa_registry *r, uint32_t i,
				     enum sa_origin *origin)
{
	for (unsigned o = 0; o < SA_ORIGINS; o++) {
		const struct sa_list *list = &r->sources[set_order[o]].list;

		if (i < list->n) {
			*origin = set_order[o];
			return &list->items[i];
		}
		i -= list->n;
	}
	return NULL;
}

const struct faults *sa_registry_warnings(const struct sa_registry *r)
{
	return &r->warnings;
}
