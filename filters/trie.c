/* trie.c - building the tries of trie.h.
 *
 * A prefix that ends inside a node covers a run of its entries; each entry either holds a value, which
 * is changed, or leads to a child, all of whose leaves are changed.
 * Refused: DIR-24-8 (64 MiB for IPv4 alone, one miss a lookup), a stride of 8 below the root (1 KiB a
 * node: 30,000 hosts would take 90 MB).
 */
#include "filters/trie.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

void trie_init(struct trie *trie, uint32_t value)
{
	for (unsigned i = 0; i < 1 << TRIE_ROOT_BITS; i++)
		trie->root[i] = value;
	trie->nodes = NULL;
	trie->n_nodes = trie->n_allocated = 0;
}

void trie_fini(struct trie *trie)
{
	free(trie->nodes);
	trie->nodes = NULL;
	trie->n_nodes = trie->n_allocated = 0;
}

/* A new node whose entries all hold `value`; its index in *index. */
static int add_node(struct trie *trie, uint32_t value, uint32_t *index)
{
	if (trie->n_nodes == trie->n_allocated) {
		uint32_t n = trie->n_allocated > 0 ? 2 * trie->n_allocated : 64;
		void *grown = reallocarray(trie->nodes, n, sizeof(*trie->nodes));

		if (grown == NULL)
			return -ENOMEM;
		trie->nodes = grown;
		trie->n_allocated = n;
	}
	for (unsigned i = 0; i < TRIE_FANOUT; i++)
		trie->nodes[trie->n_nodes][i] = value;
	*index = trie->n_nodes++;
	return 0;
}

/* Change every leaf at and below one entry.  Depth is bounded by the address: 30 levels. */
static void change_leaves(struct trie *trie, uint32_t *entry, uint32_t value, bool is_or)
{
	if (!(*entry & TRIE_CHILD)) {
		*entry = is_or ? *entry | value : value;
		return;
	}
	for (unsigned i = 0; i < TRIE_FANOUT; i++)
		change_leaves(trie, &trie->nodes[*entry & ~TRIE_CHILD][i], value, is_or);
}

static unsigned nibble(const uint8_t *addr, unsigned bit)
{
	return bit & 4 ? addr[bit / 8] & 15 : addr[bit / 8] >> 4;
}

static int put(struct trie *trie, const struct set_subnet *subnet, uint32_t value, bool is_or)
{
	unsigned bits = TRIE_ROOT_BITS, done = 0, first = subnet->addr[0];
	uint32_t node = 0; // meaningful once done > 0

	while (subnet->prefix_len > done + bits) {
		uint32_t *entry = done == 0 ? &trie->root[first] : &trie->nodes[node][first];
		uint32_t child = *entry & ~TRIE_CHILD;

		if (!(*entry & TRIE_CHILD)) {
			if (add_node(trie, *entry, &child) != 0)
				return -ENOMEM;
			// add_node may have moved the nodes
			entry = done == 0 ? &trie->root[first] : &trie->nodes[node][first];
			*entry = child | TRIE_CHILD;
		}
		node = child;
		done += bits;
		bits = TRIE_STRIDE_BITS;
		first = nibble(subnet->addr, done);
	}

	unsigned span = 1U << (done + bits - subnet->prefix_len);

	first &= ~(span - 1);
	for (unsigned i = first; i < first + span; i++)
		change_leaves(trie, done == 0 ? &trie->root[i] : &trie->nodes[node][i], value, is_or);
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
