/* fragment.c - a four-way table of whole keys, one cache line an entry.
 *
 * Whole keys, not digests: a collision would give a stranger's fragment another packet's verdict.
 * Entries are never swept: an old one is as good as free, and age is looked at where the entry is.
 * 16,384 entries: at 30 s, 546 fragmented packets a second before the oldest must go early; a later
 * fragment follows its first within milliseconds, so in practice the table holds far more.
 */
#include "dataplane/fragment.h"

#include <assert.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "dataplane/keyed_hash.h"

struct fragment_key {
	uint8_t src[16], dst[16];
	uint64_t extra;
	uint32_t id;
	uint8_t family; // 0: the entry is free
	uint8_t protocol;
	uint16_t zero;
};

struct fragment_entry {
	struct fragment_key key;
	uint64_t time_ns;
	uint64_t value;
};

struct fragment_table {
	struct hash_key secret;
	alignas(64) struct fragment_entry entries[FRAGMENT_ENTRIES];
};

static_assert(sizeof(struct fragment_key) == 48, "hashed and compared as bytes: no padding");
static_assert(sizeof(struct fragment_entry) == 64, "one cache line an entry");
static_assert(FRAGMENT_ENTRIES % FRAGMENT_WAYS == 0 &&
		      (FRAGMENT_ENTRIES & (FRAGMENT_ENTRIES - 1)) == 0,
	      "buckets are picked with a mask");

struct fragment_table *fragment_open(void)
{
	struct fragment_table *table = aligned_alloc(64, sizeof(*table));

	if (table == NULL)
		return NULL;
	memset(table, 0, sizeof(*table));
	if (getrandom(&table->secret, sizeof(table->secret), 0) != sizeof(table->secret)) {
		free(table);
		return NULL;
	}
	return table;
}

void fragment_close(struct fragment_table *table)
{
	free(table);
}

size_t fragment_bytes(void)
{
	return sizeof(struct fragment_table);
}

/* The key's protocol is the one in the IPv4 header, three bytes before the source address: behind AH
 * h->protocol is what AH protects, which only the first fragment knows.
 */
static struct fragment_key key_of(const struct headers *h, uint64_t extra_key)
{
	struct fragment_key key = {.extra = extra_key, .id = h->fragment_id, .family = h->family};
	size_t address_bytes = h->family == 4 ? 4 : 16;

	memcpy(key.src, h->src, address_bytes);
	memcpy(key.dst, h->dst, address_bytes);
	if (h->family == 4)
		key.protocol = h->src[-3];
	return key;
}

static size_t bucket_of(const struct fragment_table *table, const struct fragment_key *key)
{
	return keyed_hash(&table->secret, key, sizeof(*key)) & (FRAGMENT_ENTRIES - FRAGMENT_WAYS);
}

static bool is_old(const struct fragment_entry *entry, uint64_t time_ns)
{
	return time_ns > entry->time_ns && time_ns - entry->time_ns > FRAGMENT_AGE_NS;
}

/* The entry of this key, else a free one, else the oldest. */
static struct fragment_entry *entry_for(struct fragment_table *table,
					const struct fragment_key *key)
{
	struct fragment_entry *bucket = table->entries + bucket_of(table, key);
	struct fragment_entry *best = bucket;

	for (unsigned i = 0; i < FRAGMENT_WAYS; i++) {
		if (memcmp(&bucket[i].key, key, sizeof(*key)) == 0)
			return &bucket[i];
		if (best->key.family != 0 &&
		    (bucket[i].key.family == 0 || bucket[i].time_ns < best->time_ns))
			best = &bucket[i];
	}
	return best;
}

void fragment_put(struct fragment_table *table, const struct headers *h, uint64_t extra_key,
		  uint64_t time_ns, uint64_t value)
{
	struct fragment_key key = key_of(h, extra_key);
	struct fragment_entry *entry = entry_for(table, &key);

	*entry = (struct fragment_entry){.key = key, .time_ns = time_ns, .value = value};
}

bool fragment_get(const struct fragment_table *table, const struct headers *h, uint64_t extra_key,
		  uint64_t time_ns, uint64_t *value)
{
	struct fragment_key key = key_of(h, extra_key);
	const struct fragment_entry *bucket = table->entries + bucket_of(table, &key);

	for (unsigned i = 0; i < FRAGMENT_WAYS; i++) {
		if (memcmp(&bucket[i].key, &key, sizeof(key)) != 0)
			continue;
		if (is_old(&bucket[i], time_ns))
			return false;
		*value = bucket[i].value;
		return true;
	}
	return false;
}
