/* matcher_tables.h - the compiled tables, and the lookups that are made for every packet, inline.
 *
 * Flow:    matcher.c fills struct matcher; dataplane/match.c looks up.  Nobody else includes this.
 * Why inline: the key is a struct of nine members that the compiler dissolves when it sees both sides.
 * Plain packets: four loads for both addresses, one for protocol and flags together, and one branch for
 *          each dimension that no filter names; ports cost two loads a side.
 * Refused:  one loop a dimension over the whole burst: 21.7 Mpps against 30.5 (EPYC 7001, reject_64),
 *          the keys are read again for each.
 */
#ifndef GATECAP_FILTERS_MATCHER_TABLES_H
#define GATECAP_FILTERS_MATCHER_TABLES_H

#include <assert.h>
#include <string.h>

#include "filters/matcher.h"
#include "filters/trie.h"

enum {
	MATCH_BITS_PER_SLOT = FILTERS_PER_CAPTURE_MAX * FILTER_DIRECTIONS,
	MATCH_PORT_PEERS_MAX = 8192, // each is looked at for each packet
};

/* One side's ports: masks[index[port]]; index is NULL while no filter names a port on this side. */
struct port_table {
	uint16_t *index;
	uint32_t *masks;
	uint32_t n_masks;
	uint32_t without_ports; // for packets that have none
};

/* A peer with UDP ports: looked at one by one, they are few (sites behind one NAT address). */
struct port_peer {
	struct set_subnet address;
	const uint16_t *ports;
	uint32_t n_ports;
	uint8_t slots;
};

struct matcher {
	struct trie_budget budget; // while compiling
	uint64_t generation;
	uint32_t snap_bytes[CAPTURES_MAX];
	uint8_t slots, new_slots;

	/* Inner: one mask a dimension. */
	struct trie src[2], dst[2]; // [family == 6]
	struct port_table sport, dport;
	uint32_t protocol[256];
	uint32_t tcp_flags[256];
	uint32_t kind[MATCH_KINDS]; // of plain packets: the two above, and what else is known by it
	uint32_t not_tcp;	    // bits without a flag test
	uint32_t no_ports_no_flags; // bits that a fragment without its first may match
	struct trie remotes[2];	    // connection index + 1, longest prefix; 0: none
	uint32_t *connection_masks; // [connection + 1]; [0] is 0
	uint32_t no_connection_mask; // for packets of no connection
	bool has_remotes, names_ports;
	bool is_short; // neither: addresses and kind say it all

	/* Outer. */
	uint8_t outer[TRACE_OVPN + 1]; // slots that want an outer packet of this tracing bit
	uint8_t gateway_wide;
	struct trie peers[2]; // slots whose peer has the address, on any port
	struct port_peer *port_peers;
	uint32_t n_port_peers;
	uint8_t any_peer; // slots of connections whose peer is any, without ports

	struct set_endpoint endpoints[SET_ENDPOINTS_MAX];
	uint32_t n_endpoints;
	uint16_t *ports; // copy of the set's, for port_peers
};

/* Bits of the captures that are in scope of an inner packet. */
static inline uint32_t scope_of(const struct matcher *m, unsigned v6, const uint8_t *src,
				const uint8_t *dst)
{
	uint32_t from, to;

	if (!m->has_remotes)
		return m->no_connection_mask;
	from = trie_lookup(&m->remotes[v6], src);
	to = trie_lookup(&m->remotes[v6], dst);
	if ((from | to) == 0)
		return m->no_connection_mask;
	return m->connection_masks[from] | m->connection_masks[to];
}

static inline uint32_t addresses_of(const struct matcher *m, const struct match_key *key)
{
	unsigned v6 = key->family == 6;

	return trie_lookup(&m->src[v6], key->src) & trie_lookup(&m->dst[v6], key->dst);
}

static inline uint32_t port_mask(const struct port_table *table, bool has_ports, uint16_t port)
{
	if (table->index == NULL)
		return UINT32_MAX; // no filter names a port on this side
	return has_ports ? table->masks[table->index[port]] : table->without_ports;
}

static inline uint32_t match_inner_inline(const struct matcher *m, const struct match_key *key)
{
	uint32_t flags = key->has_tcp_flags ? m->tcp_flags[key->tcp_flags] : m->not_tcp;

	return addresses_of(m, key) & port_mask(&m->sport, key->has_ports, key->sport) &
	       port_mask(&m->dport, key->has_ports, key->dport) & m->protocol[key->protocol] &
	       flags & scope_of(m, key->family == 6, key->src, key->dst);
}

/* The plain packet's ports, on the sides that some filter names. */
static inline uint32_t plain_ports(const struct matcher *m, uint32_t ports)
{
	uint16_t sport = __builtin_bswap16((uint16_t)ports);
	uint16_t dport = __builtin_bswap16((uint16_t)(ports >> 16));

	return port_mask(&m->sport, true, sport) & port_mask(&m->dport, true, dport);
}

/* On the stack, so that the usual path keeps its words in registers. */
static inline uint32_t plain_finish(const struct trie *trie, uint32_t entry, uint32_t word)
{
	uint8_t address[sizeof(word)];

	memcpy(address, &word, sizeof(address));
	return trie_finish(trie, entry, address);
}

static inline uint32_t plain_scope(const struct matcher *m, const struct match_plain *plain)
{
	uint8_t src[sizeof(plain->src)], dst[sizeof(plain->dst)];

	memcpy(src, &plain->src, sizeof(src));
	memcpy(dst, &plain->dst, sizeof(dst));
	return scope_of(m, 0, src, dst);
}

static inline uint32_t match_plain_inline(const struct matcher *m, const struct match_plain *plain)
{
	uint32_t src = trie_begin(&m->src[0], (uint8_t)plain->src, (uint8_t)(plain->src >> 8));
	uint32_t dst = trie_begin(&m->dst[0], (uint8_t)plain->dst, (uint8_t)(plain->dst >> 8));
	uint32_t mask = m->kind[plain->kind];

	if ((src | dst) & TRIE_CHILD) {
		src = plain_finish(&m->src[0], src, plain->src);
		dst = plain_finish(&m->dst[0], dst, plain->dst);
	}
	mask &= src & dst;
	if (m->is_short)
		return mask;
	if (m->names_ports && plain->kind < MATCH_KIND_NO_PORTS)
		mask &= plain_ports(m, plain->ports);
	if (m->has_remotes)
		mask &= plain_scope(m, plain);
	return mask;
}

/* Folding a mask to captures: when the first bit of each slot says whether any of its six is set, a
 * multiplication brings bit 6k to 20 + k: the factor has bits 20 - 5k, and no two products meet there.
 */
enum {
	MATCH_FOLD_FIRST = 0x1041041,
	MATCH_FOLD_GATHER = 0x108421,
	MATCH_FOLD_SHIFT = 20,
	MATCH_FOLD_CAPTURES = 31,
};

static_assert(MATCH_BITS_PER_SLOT == 6 && CAPTURES_MAX == 5, "it gathers 5 x 6 bits");

#endif
