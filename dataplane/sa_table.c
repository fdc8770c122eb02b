/* sa_table.c - buckets of one cache line with seven SPIs each, and an entry of one cache line for each SA.
 *
 * A look-up reads the bucket (all its SPIs in one comparison) and, if an SPI is there, its entry: the rest of
 * what has to agree, and what the worker needs, lie in that line.  An unknown SPI costs the bucket only.
 * Of SAs that differ by source alone all lie in one chain, in the order of the set.  The source of an IPv6
 * SA does not fit into its line and lies apart.
 *
 * The hash is multiply-shift with secret multipliers (Thorup, "High Speed Hashing for Integers and Strings",
 * 2015): of any set that was chosen without knowing them two SAs meet in a bucket with the
 * probability 1 / n_buckets, which is all that a keyed hash is for here, since only control adds SAs.
 * Refused: SipHash (keyed_hash.h), 70 cycles for this key against 4, and it is asked twice, to prefetch and
 * to find; a source in the key, since sources may have wildcards.
 *
 * Chains are bounded: an SPI and destination are in at most SAME_MAX records, as long a walk as wildcards
 * are.  A set with more of them is refused: it would hold the workers up.
 */
#include "dataplane/sa_table.h"

#include <assert.h>
#include <errno.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "dataplane/locked_memory.h"
#include "filters/lanes.h"

enum {
	LINE_BYTES = 64,
	BUCKET_SPIS = 7,
	BUCKET_LOAD = 3, // SAs a bucket on the average, at the most
	HASH_WORDS = 5,	 // SPI and an IPv6 address
	SAME_MAX = 64,	 // SAs of one SPI and destination
};

struct bucket {
	alignas(LINE_BYTES) uint32_t spi[LANES]; // the last one is none
	uint32_t at[BUCKET_SPIS];		 // entry; 0: free
	uint32_t next;				 // bucket behind it; 0: none
};

/* Where a packet has to come from. */
enum source_kind { SOURCE_ANY, SOURCE_V4, SOURCE_V6 };

struct entry {
	alignas(LINE_BYTES) struct sa sa;
	uint8_t dst[16];
	uint32_t src_value, src_mask; // of SOURCE_V4, as in memory
	uint32_t source;	      // of SOURCE_V6: its place in `sources`
	uint8_t family;
	uint8_t source_kind;
};

static_assert(sizeof(struct bucket) == LINE_BYTES && sizeof(struct entry) == LINE_BYTES,
	      "a line each: see above");

struct wildcard {
	struct sa sa;
	uint32_t spi, spi_mask;
	struct sa_address src, dst;
};

struct sa_table {
	uint64_t hash[HASH_WORDS + 1];
	unsigned hash_shift;
	uint32_t n_wildcards;
	struct bucket *buckets; // 2^n, then those that are chained; [0] is no chained one
	struct entry *entries;	// from 1 on
	struct wildcard *wildcards;
	struct sa_address *sources;
	// Cold.
	uint64_t generation;
	bool verifies_icv;
	uint32_t n_sas, n_entries, n_sources;
	uint32_t n_buckets, n_chained;
	uint32_t n_new_slots;
	uint32_t *new_slots;
	struct esp_key **keys; // all that were opened
	uint32_t n_keys;
	size_t bytes; // of this block
};

/* ---- look-up ---- */

static inline uint32_t word_at(const uint8_t *p)
{
	uint32_t word;

	memcpy(&word, p, sizeof(word));
	return word;
}

static inline struct bucket *bucket_of(const struct sa_table *t, uint32_t spi, uint8_t family,
				       const uint8_t *dst)
{
	uint64_t sum = t->hash[0] + t->hash[1] * spi + t->hash[2] * word_at(dst);

	if (family == 6)
		sum += t->hash[3] * word_at(dst + 4) + t->hash[4] * word_at(dst + 8) +
		       t->hash[5] * word_at(dst + 12);
	return &t->buckets[sum >> t->hash_shift];
}

/* The lanes of a bucket that have the SPI, the first in the lowest bit. */
static inline unsigned lanes_with(const struct bucket *b, uint32_t spi)
{
	v8 spis, wanted = (v8){0} + (int32_t)spi;

	memcpy(&spis, b->spi, sizeof(spis));
	return v8_bits(spis == wanted) & ((1U << BUCKET_SPIS) - 1);
}

static bool address_fits(const struct sa_address *a, uint8_t family, const uint8_t *address)
{
	unsigned n = family == 4 ? 4 : 16;

	if (a->family == 0)
		return true;
	if (a->family != family)
		return false;
	for (unsigned i = 0; i < n; i += 4)
		if ((word_at(address + i) & word_at(a->mask + i)) != word_at(a->value + i))
			return false;
	return true;
}

static inline bool source_fits(const struct sa_table *t, const struct entry *e, uint8_t family,
			       const uint8_t *src)
{
	if (e->source_kind == SOURCE_ANY)
		return true;
	if (e->source_kind == SOURCE_V4)
		return family == 4 && (word_at(src) & e->src_mask) == e->src_value;
	return address_fits(&t->sources[e->source], family, src);
}

static inline bool entry_fits(const struct sa_table *t, const struct entry *e, uint8_t family,
			      const uint8_t *src, const uint8_t *dst)
{
	bool is_dst = e->family == family && word_at(e->dst) == word_at(dst);

	if (is_dst && family == 6)
		is_dst = memcmp(e->dst, dst, 16) == 0;
	return is_dst && source_fits(t, e, family, src);
}

static const struct sa *find_wildcard(const struct sa_table *t, uint32_t spi, uint8_t family,
				      const uint8_t *src, const uint8_t *dst)
{
	for (uint32_t i = 0; i < t->n_wildcards; i++) {
		const struct wildcard *w = &t->wildcards[i];

		if ((spi & w->spi_mask) == w->spi && address_fits(&w->dst, family, dst) &&
		    address_fits(&w->src, family, src))
			return &w->sa;
	}
	return NULL;
}

const struct sa *sa_table_find(const struct sa_table *t, uint32_t spi, uint8_t family,
			       const uint8_t *src, const uint8_t *dst)
{
	const struct bucket *b = bucket_of(t, spi, family, dst);

	for (;;) {
		for (unsigned bits = lanes_with(b, spi); bits != 0; bits &= bits - 1) {
			const struct entry *e = &t->entries[b->at[__builtin_ctz(bits)]];

			// Of a free lane, SPI 0, it is entry 0, which is of no family.
			if (entry_fits(t, e, family, src, dst))
				return &e->sa;
		}
		if (b->next == 0)
			return find_wildcard(t, spi, family, src, dst);
		b = &t->buckets[b->next];
	}
}

void sa_table_prefetch(const struct sa_table *t, uint32_t spi, uint8_t family, const uint8_t *dst)
{
	__builtin_prefetch(bucket_of(t, spi, family, dst));
}

/* ---- compiling ---- */

/* Bytes of the block so far, and the address of the next part in it. */
struct layout {
	uint8_t *base; // NULL: only counting
	size_t bytes;
};

static void *lay(struct layout *l, size_t n, size_t size)
{
	void *at = l->base != NULL ? l->base + l->bytes : NULL;

	l->bytes += (n * size + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
	return at;
}

/* One block for all, so that one lock and one wipe do for all. */
static void lay_out(struct layout *l, struct sa_table *counted)
{
	(void)lay(l, 1, sizeof(struct sa_table));
	// Of n SAs at most n / BUCKET_SPIS fill a bucket and go on in another.
	counted->buckets = lay(l, counted->n_buckets + counted->n_entries / BUCKET_SPIS,
			       sizeof(struct bucket));
	counted->entries = lay(l, counted->n_entries + 1, sizeof(struct entry));
	counted->wildcards = lay(l, counted->n_wildcards, sizeof(struct wildcard));
	counted->sources = lay(l, counted->n_sources, sizeof(struct sa_address));
	counted->keys = lay(l, counted->n_sas, sizeof(struct esp_key *));
	counted->new_slots = lay(l, counted->n_new_slots, sizeof(uint32_t));
}

static void count(const struct sa_set *set, struct sa_table *t)
{
	t->generation = set->header->generation;
	t->verifies_icv = (set->header->flags & SA_SET_VERIFY_ICV) != 0;
	t->n_sas = set->header->n_sas;
	for (uint32_t i = 0; i < t->n_sas; i++) {
		const struct sa_record *r = &set->sas[i];

		t->n_new_slots += (r->flags & SA_NEW) != 0;
		if (sa_record_is_wildcard(r)) {
			t->n_wildcards++;
			continue;
		}
		t->n_entries++;
		t->n_sources += r->src.family == 6;
	}
	t->hash_shift = 63; // two buckets at least: a shift by 64 is none
	t->n_buckets = 2;
	while (t->n_buckets * BUCKET_LOAD < t->n_entries) {
		t->n_buckets *= 2;
		t->hash_shift--;
	}
}

/* Empty, with room for all of the set.  NULL: memory is short. */
static struct sa_table *table_for(const struct sa_set *set)
{
	struct sa_table counted = {0}, *t;
	struct layout layout = {0};

	count(set, &counted);
	lay_out(&layout, &counted);
	counted.bytes = layout.bytes;
	t = locked_alloc(layout.bytes);
	if (t == NULL)
		return NULL;
	if (getrandom(counted.hash, sizeof(counted.hash), 0) != sizeof(counted.hash)) {
		locked_free(t, layout.bytes);
		return NULL;
	}
	layout = (struct layout){.base = (uint8_t *)t};
	lay_out(&layout, &counted);
	// Counted anew as they are put in.
	counted.n_entries = counted.n_wildcards = counted.n_sources = counted.n_new_slots = 0;
	*t = counted;
	explicit_bzero(&counted, sizeof(counted));
	return t;
}

/* The key of a record into *sa, and the rest of it. */
static int open_sa(struct sa_table *t, const struct sa_record *r, struct sa *sa, struct error *err)
{
	const struct esp_cipher_info *info = &esp_ciphers[r->cipher];

	*sa = (struct sa){.slot = r->slot,
			  .connection = r->connection,
			  .connection_kind = r->connection_kind,
			  .mode = r->mode,
			  .flags = r->flags,
			  .iv_bytes = info->iv_bytes,
			  .icv_bytes = r->icv_bytes,
			  .block_bytes = info->block_bytes,
			  .esn_high = r->esn_high};
	if (r->flags & SA_NEW)
		t->new_slots[t->n_new_slots++] = r->slot;
	if (r->cipher == ESP_UNSUPPORTED)
		return 0;
	t->keys[t->n_keys] = esp_key_open(r, t->verifies_icv, err);
	if (t->keys[t->n_keys] == NULL)
		return -EINVAL;
	sa->key = t->keys[t->n_keys++];
	return 0;
}

/* Behind all that are there: of one SPI and destination the first of the set comes first. */
static int put_in_bucket(struct sa_table *t, const struct sa_record *r, uint32_t at,
			 struct error *err)
{
	struct bucket *b = bucket_of(t, r->spi, r->dst.family, r->dst.value);
	unsigned n_same = 0, lane;

	for (;; b = &t->buckets[b->next]) {
		for (lane = 0; lane < BUCKET_SPIS && b->at[lane] != 0; lane++)
			n_same += b->spi[lane] == r->spi &&
				  t->entries[b->at[lane]].family == r->dst.family &&
				  memcmp(t->entries[b->at[lane]].dst, r->dst.value,
					 sizeof(r->dst.value)) == 0;
		if (lane < BUCKET_SPIS || b->next == 0)
			break;
	}
	if (n_same >= SAME_MAX) {
		error_set(err,
			  "The set of SAs has more than %d of SPI 0x%08x and one destination; at "
			  "most so many may differ by their source alone; the keys in force stay.",
			  SAME_MAX, r->spi);
		return -E2BIG;
	}
	if (lane == BUCKET_SPIS) {
		b->next = t->n_buckets + t->n_chained++;
		b = &t->buckets[b->next];
		lane = 0;
	}
	b->spi[lane] = r->spi;
	b->at[lane] = at;
	return 0;
}

static int add_entry(struct sa_table *t, const struct sa_record *r, struct error *err)
{
	struct entry *e = &t->entries[t->n_entries + 1];
	int rc = open_sa(t, r, &e->sa, err);

	if (rc != 0)
		return rc;
	memcpy(e->dst, r->dst.value, sizeof(e->dst));
	e->family = r->dst.family;
	if (r->src.family == 4) {
		e->source_kind = SOURCE_V4;
		e->src_value = word_at(r->src.value);
		e->src_mask = word_at(r->src.mask);
	} else if (r->src.family == 6) {
		e->source_kind = SOURCE_V6;
		e->source = t->n_sources;
		t->sources[t->n_sources++] = r->src;
	}
	return put_in_bucket(t, r, ++t->n_entries, err);
}

static int add_wildcard(struct sa_table *t, const struct sa_record *r, struct error *err)
{
	struct wildcard *w = &t->wildcards[t->n_wildcards++];

	w->spi = r->spi;
	w->spi_mask = r->spi_mask;
	w->src = r->src;
	w->dst = r->dst;
	return open_sa(t, r, &w->sa, err);
}

struct sa_table *sa_table_open(const struct sa_set *set, struct error *err)
{
	struct sa_table *t = table_for(set);

	if (t == NULL) {
		error_set(err, "Memory is short for a table of %u SAs; the keys in force stay.",
			  set->header->n_sas);
		return NULL;
	}
	for (uint32_t i = 0; i < t->n_sas; i++) {
		const struct sa_record *r = &set->sas[i];
		int rc = sa_record_is_wildcard(r) ? add_wildcard(t, r, err) : add_entry(t, r, err);

		if (rc != 0) {
			sa_table_close(t);
			return NULL;
		}
	}
	return t;
}

void sa_table_close(struct sa_table *t)
{
	if (t == NULL)
		return;
	for (uint32_t i = 0; i < t->n_keys; i++)
		esp_key_close(t->keys[i]);
	locked_free(t, t->bytes);
}

uint64_t sa_table_generation(const struct sa_table *t)
{
	return t->generation;
}

bool sa_table_verifies_icv(const struct sa_table *t)
{
	return t->verifies_icv;
}

uint32_t sa_table_n(const struct sa_table *t)
{
	return t->n_sas;
}

size_t sa_table_bytes(const struct sa_table *t)
{
	return t->bytes;
}

const uint32_t *sa_table_new_slots(const struct sa_table *t, uint32_t *n)
{
	*n = t->n_new_slots;
	return t->new_slots;
}
