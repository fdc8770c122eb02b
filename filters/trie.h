/* trie.h - addresses to 31-bit values: what a set of subnets says of one address.
 *
 * One byte at the root, then four bits a level: a node is one cache line.  Values are pushed to the
 * leaves when a prefix is put in, so that a lookup ends at the first leaf: one load for "any", five
 * for a /24, and nothing depends on how many prefixes there are.
 * Threads: build by one, then immutable and free for all.
 * Memory:  trie_init() takes nothing but the struct; nodes grow by realloc; trie_fini() frees.
 * Order:   put prefixes in by ascending length (trie_put_lpm), any order (trie_put_or).
 * Proof:   tests/test_trie.c against a linear list
 */
#ifndef GATECAP_FILTERS_TRIE_H
#define GATECAP_FILTERS_TRIE_H

#include <stdint.h>

#include "filters/filter_set.h"

enum { TRIE_ROOT_BITS = 8, TRIE_STRIDE_BITS = 4, TRIE_FANOUT = 1 << TRIE_STRIDE_BITS };

#define TRIE_CHILD UINT32_C(0x80000000)

struct trie {
	uint32_t root[1 << TRIE_ROOT_BITS]; // a value, or TRIE_CHILD | index of a node
	uint32_t (*nodes)[TRIE_FANOUT];
	uint32_t n_nodes, n_allocated;
};

/* All addresses give `value`. */
void trie_init(struct trie *trie, uint32_t value);
void trie_fini(struct trie *trie);

/* OR `bits` into every address of the subnet.  0 or -ENOMEM. */
int trie_put_or(struct trie *trie, const struct set_subnet *subnet, uint32_t bits);

/* Every address of the subnet now gives `value`.  0 or -ENOMEM. */
int trie_put_lpm(struct trie *trie, const struct set_subnet *subnet, uint32_t value);

/* addr: network order, 4 or 16 bytes as the trie's family has it. */
static inline uint32_t trie_lookup(const struct trie *trie, const uint8_t *addr)
{
	uint32_t entry = trie->root[addr[0]];

	for (unsigned i = 1; __builtin_expect(entry & TRIE_CHILD, 0); i++) {
		entry = trie->nodes[entry & ~TRIE_CHILD][addr[i] >> 4];
		if (!(entry & TRIE_CHILD))
			break;
		entry = trie->nodes[entry & ~TRIE_CHILD][addr[i] & 15];
	}
	return entry;
}

#endif
