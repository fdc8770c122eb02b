/* matcher_tables.h - the compiled tables.
 *
 * Flow:    matcher.c fills struct matcher; matcher.c, match_plain.c and match_esp.c look up.  Nobody else includes this.
 */
#ifndef GATECAP_FILTERS_MATCHER_TABLES_H
#define GATECAP_FILTERS_MATCHER_TABLES_H

#include "filters/matcher.h"
#include "filters/trie.h"

enum {
	MATCH_BITS_PER_SLOT = FILTERS_PER_CAPTURE_MAX * FILTER_DIRECTIONS,
	MATCH_PORT_PEERS_MAX = 8192, // each is looked at for each packet
};

/* One side's ports: for each port an index into the distinct masks, of as many bits as they need: 1, 2, 4,
 * 8 or 16, so that one list of any length takes 8 KiB.  words is NULL while no filter names a port on
 * this side.
 */
struct port_table {
	uint32_t *words; // the indices, the first port lowest
	uint32_t *masks;
	uint32_t n_masks;
	uint32_t log2_bits;
	uint32_t without_ports; // for packets that have none
};

static inline uint32_t port_index_mask(const struct port_table *table)
{
	return (1U << (1U << table->log2_bits)) - 1;
}

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
	bool has_remotes;

	/* ESP that has keys. */
	uint8_t decrypt;	   // slots whose filters look inside
	uint8_t *connection_slots; // [connection + 1]: in scope of its packets; [0]: gateway-wide
	uint32_t n_connections;
	uint32_t both_forms;	// bits of filters that want the outer packet, too
	uint8_t esp_unfiltered; // slots that want an outer ESP packet whatever is inside

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

/* Every dimension of an inner packet but the scope; of a later fragment without its first. */
uint32_t match_dimensions(const struct matcher *m, const struct match_key *key);
uint32_t match_dimensions_no_first(const struct matcher *m, const struct match_key *key);

/* Slots in scope of an outer packet by its addresses. */
uint8_t match_peer_slots(const struct matcher *m, const struct match_key *key);

#endif
