/* trie.h - addresses to 31-bit values: what a set of subnets says of one address.
 *
 * A byte a level for three levels, then four bits a level: a small node is one cache line.
 * Values are pushed to the leaves when a prefix is put in, so that a lookup ends at the first leaf: two
 * loads down to a /16, three for a /24, and nothing depends on how many prefixes there are.
 * Use:     trie_init, puts, trie_seal, lookups; nothing is put in after the seal.
 * Threads: build by one, then immutable and free for all.
 * Memory:  trie_init() takes nothing but the struct; nodes grow by realloc; trie_fini() frees.
 * Order:   put prefixes in by ascending length (trie_put_lpm), any order (trie_put_or).
 * Trust:   prefixes may come from whoever wants to see it fail: a short one put in over many long ones,
 *          again and again, is work without end.  So both memory and work have a budget.
 * Proof:   tests/test_trie.c against a linear list
 */
#ifndef GATECAP_FILTERS_TRIE_H
#define GATECAP_FILTERS_TRIE_H

#include <stdint.h>

#include "filters/filter_set.h"

enum { TRIE_WIDE = 256, TRIE_SMALL = 16 }; // entries of a node

#define TRIE_CHILD UINT32_C(0x80000000)

/* What several tries may take together: memory, and the work of putting prefixes in. */
struct trie_budget {
	uint64_t entries_left, steps_left;
};

/* An entry is a value, or TRIE_CHILD | where its node begins in `entries`.  Sealed: the root's are all
 * where a wide node begins.
 */
struct trie {
	uint32_t root[TRIE_WIDE];
	uint32_t
		*entries; // of all nodes; at most 65,536 of IPv4's are wide ones of the third level
	uint32_t n_entries, n_allocated;
	struct trie_budget *budget; // NULL: none but the machine's
};

/* All addresses give `value`. */
void trie_init(struct trie *trie, uint32_t value);
void trie_fini(struct trie *trie);

/* OR `bits` into every address of the subnet.  0 or -ENOMEM: memory is short, or the budget used up. */
int trie_put_or(struct trie *trie, const struct set_subnet *subnet, uint32_t bits);

/* Every address of the subnet now gives `value`.  0 or -ENOMEM. */
int trie_put_lpm(struct trie *trie, const struct set_subnet *subnet, uint32_t value);

/* No more prefixes: the first two levels can now be looked up without a question between them.
 * 0 or -ENOMEM; takes nothing from the budget: at most 256 KiB.
 */
int trie_seal(struct trie *trie);

/* What the first two bytes of an address say: a value, or TRIE_CHILD and the way on. */
static inline uint32_t trie_begin(const struct trie *trie, uint8_t byte0, uint8_t byte1)
{
	return trie->entries[trie->root[byte0] + byte1];
}

/* The value, from what trie_begin() gave.  addr: network order, 4 or 16 bytes, as the family has it. */
static inline uint32_t trie_finish(const struct trie *trie, uint32_t entry, const uint8_t *addr)
{
	if (!(entry & TRIE_CHILD))
		return entry;
	entry = trie->entries[(entry & ~TRIE_CHILD) + addr[2]];
	for (unsigned i = 3; __builtin_expect(entry & TRIE_CHILD, 0); i++) {
		entry = trie->entries[(entry & ~TRIE_CHILD) + (addr[i] >> 4)];
		if (!(entry & TRIE_CHILD))
			break;
		entry = trie->entries[(entry & ~TRIE_CHILD) + (addr[i] & 15)];
	}
	return entry;
}

static inline uint32_t trie_lookup(const struct trie *trie, const uint8_t *addr)
{
	return trie_finish(trie, trie_begin(trie, addr[0], addr[1]), addr);
}

#endif
