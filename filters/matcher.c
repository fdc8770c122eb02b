/* matcher.c - compile a filter set into the tables of matcher.h, and look them up.
 *
 * Tables: a trie for each address family and side; for each port side 64 Ki indices into the distinct
 * masks, of as few bits as they need (none at all while no filter names a port); 256 masks for
 * protocols, 256 for TCP flags.  Everything that holds for a dimension without lists is folded into
 * one constant, so that a filter without ports costs no port lookup.
 * Refused: cross products (rte_acl): 100 subnets x 100 ports x both ways is 10,000 rules there and 200
 * set members here.
 */
#include "filters/matcher.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "filters/matcher_tables.h"

enum {
	N_PORTS = 1 << 16,
	TRIE_ENTRIES_MAX = 1 << 27, // 512 MiB: five captures with 1 MiB of IPv6 hosts each
	TRIE_STEPS_MAX = 1 << 27,   // a second or two
	PROTOCOL_TCP = 6,
	PROTOCOL_UDP = 17,
};

#define SLOT_BITS ((UINT32_C(1) << MATCH_BITS_PER_SLOT) - 1)

static uint32_t bit_of(unsigned slot, unsigned filter, unsigned direction)
{
	return UINT32_C(1) << (slot * MATCH_BITS_PER_SLOT + filter * FILTER_DIRECTIONS + direction);
}

/* Put one subnet list of a filter into the tries of one side. */
static int put_subnets(struct trie tries[2], const struct filter_set *set, struct set_slice slice,
		       uint32_t bit)
{
	for (uint32_t i = 0; i < slice.n; i++) {
		const struct set_subnet *subnet = &set->subnets[slice.first + i];

		if (trie_put_or(&tries[subnet->family == 6], subnet, bit) != 0)
			return -ENOMEM;
	}
	if (slice.n == 0) {
		static const struct set_subnet any = {.prefix_len = 0};

		for (unsigned family = 0; family < 2; family++)
			if (trie_put_or(&tries[family], &any, bit) != 0)
				return -ENOMEM;
	}
	return 0;
}

/* The bits of one side's ports, [port], while compiling. */
static void put_ports(uint32_t *masks, bool *is_named, const struct filter_set *set,
		      struct set_slice slice, uint32_t bit)
{
	for (uint32_t i = 0; i < slice.n; i++)
		masks[set->ports[slice.first + i]] |= bit;
	if (slice.n > 0) {
		*is_named = true;
		return;
	}
	for (uint32_t i = 0; i < N_PORTS; i++)
		masks[i] |= bit;
}

/* Number the distinct ones of the [port] masks, in `index`.  A small open hash finds repeats. */
static int number_masks(struct port_table *table, const uint32_t *by_port, uint16_t *index)
{
	uint32_t *slot_of = calloc(2 * N_PORTS, sizeof(*slot_of)); // index + 1, 0: free

	if (slot_of == NULL)
		return -ENOMEM;
	for (uint32_t port = 0; port < N_PORTS; port++) {
		uint32_t mask = by_port[port], h = (mask * UINT32_C(2654435761)) >> 15;

		while (slot_of[h] != 0 && table->masks[slot_of[h] - 1] != mask)
			h = (h + 1) % (2 * N_PORTS);
		if (slot_of[h] == 0) {
			table->masks[table->n_masks] = mask;
			slot_of[h] = ++table->n_masks;
		}
		index[port] = (uint16_t)(slot_of[h] - 1);
	}
	free(slot_of);
	return 0;
}

/* Turn [port] masks into a table. */
static int compress_ports(struct port_table *table, const uint32_t *by_port)
{
	uint16_t *index = malloc(N_PORTS * sizeof(*index));
	int rc = -ENOMEM;

	table->masks = malloc(N_PORTS * sizeof(*table->masks));
	if (index == NULL || table->masks == NULL || number_masks(table, by_port, index) != 0)
		goto done;
	while (UINT64_C(1) << (1U << table->log2_bits) < table->n_masks)
		table->log2_bits++;
	table->words = calloc((size_t)N_PORTS << table->log2_bits >> 5, sizeof(*table->words));
	if (table->words == NULL)
		goto done;
	for (uint32_t port = 0; port < N_PORTS; port++) {
		uint32_t at = port << table->log2_bits;

		table->words[at / 32] |= (uint32_t)index[port] << at % 32;
	}
	rc = 0;
done:
	free(index);
	return rc;
}

/* Everything of one filter but its addresses and ports, for one direction. */
static void put_filter(struct matcher *m, const struct set_filter *f, uint32_t bit, bool swapped)
{
	for (unsigned p = 0; p < 256; p++)
		if (f->any_protocol || (f->protocols[p / 32] >> (p % 32) & 1))
			m->protocol[p] |= bit;
	for (unsigned flags = 0; flags < 256; flags++)
		if (f->tcp_flags == 0 || (f->tcp_flags & flags) != 0)
			m->tcp_flags[flags] |= bit;
	if (f->tcp_flags == 0)
		m->not_tcp |= bit;
	if (f->src_port.n == 0 && f->dst_port.n == 0 && f->tcp_flags == 0)
		m->no_ports_no_flags |= bit;
	if ((swapped ? f->dst_port : f->src_port).n == 0)
		m->sport.without_ports |= bit;
	if ((swapped ? f->src_port : f->dst_port).n == 0)
		m->dport.without_ports |= bit;
}

/* The addresses of one filter, for one direction: of its lists those that are empty, or the others. */
static int put_addresses(struct matcher *m, const struct filter_set *set,
			 const struct set_filter *f, uint32_t bit, bool swapped, bool is_empty)
{
	struct set_slice src = swapped ? f->dst : f->src, dst = swapped ? f->src : f->dst;

	if ((src.n == 0) == is_empty && put_subnets(m->src, set, src, bit) != 0)
		return -ENOMEM;
	if ((dst.n == 0) == is_empty && put_subnets(m->dst, set, dst, bit) != 0)
		return -ENOMEM;
	return 0;
}

/* An empty list is a bit for every address: it goes in while the tries are small. */
static int compile_addresses(struct matcher *m, const struct filter_set *set, bool is_empty)
{
	for (uint32_t i = 0; i < set->header->n_captures; i++) {
		const struct set_capture *c = &set->captures[i];

		for (uint32_t j = 0; j < c->filters.n; j++) {
			const struct set_filter *f = &set->filters[c->filters.first + j];

			for (unsigned d = 0; d < (f->single_direction ? 1U : 2U); d++)
				if (put_addresses(m, set, f, bit_of(c->slot, j, d), d == 1,
						  is_empty) != 0)
					return -ENOMEM;
		}
	}
	return 0;
}

static int compile_filters(struct matcher *m, const struct filter_set *set, uint32_t *sports,
			   uint32_t *dports)
{
	bool has_sports = false, has_dports = false;

	for (uint32_t i = 0; i < set->header->n_captures; i++) {
		const struct set_capture *c = &set->captures[i];

		for (uint32_t j = 0; j < c->filters.n; j++) {
			const struct set_filter *f = &set->filters[c->filters.first + j];

			for (unsigned d = 0; d < (f->single_direction ? 1U : 2U); d++) {
				uint32_t bit = bit_of(c->slot, j, d);

				if (!f->single_direction && (c->tracing_flags & TRACE_ESP))
					m->both_forms |= bit;
				put_filter(m, f, bit, d == 1);
				put_ports(sports, &has_sports, set, d ? f->dst_port : f->src_port,
					  bit);
				put_ports(dports, &has_dports, set, d ? f->src_port : f->dst_port,
					  bit);
			}
		}
	}
	if ((has_sports && compress_ports(&m->sport, sports) != 0) ||
	    (has_dports && compress_ports(&m->dport, dports) != 0))
		return -ENOMEM;
	return 0;
}

static int compile_inner(struct matcher *m, const struct filter_set *set)
{
	uint32_t *sports = calloc(N_PORTS, sizeof(*sports));
	uint32_t *dports = calloc(N_PORTS, sizeof(*dports));
	int rc = -ENOMEM;

	if (sports != NULL && dports != NULL)
		rc = compile_filters(m, set, sports, dports);
	if (rc == 0)
		rc = compile_addresses(m, set, true);
	if (rc == 0)
		rc = compile_addresses(m, set, false);
	free(sports);
	free(dports);
	return rc;
}

static int by_prefix_len(const void *a, const void *b)
{
	const struct set_remote *const *x = a, *const *y = b;

	return (int)(*x)->subnet.prefix_len - (int)(*y)->subnet.prefix_len;
}

/* Longest prefix wins: put the shortest first. */
static int compile_remotes(struct matcher *m, const struct filter_set *set)
{
	uint32_t n = set->header->n_remotes;
	const struct set_remote **order = calloc((size_t)n + 1, sizeof(struct set_remote *));

	if (order == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		order[i] = &set->remotes[i];
	qsort(order, n, sizeof(*order), by_prefix_len);
	for (uint32_t i = 0; i < n; i++) {
		const struct set_subnet *subnet = &order[i]->subnet;

		if (trie_put_lpm(&m->remotes[subnet->family == 6], subnet,
				 order[i]->connection + 1) != 0) {
			free(order);
			return -ENOMEM;
		}
	}
	free(order);
	m->has_remotes = n > 0;
	return 0;
}

/* Rule 3: inner packets join when the bit of the tunnel that carries them is set. */
static int compile_scopes(struct matcher *m, const struct filter_set *set)
{
	uint32_t n = set->header->n_connections;

	m->n_connections = n;
	m->connection_masks = calloc((size_t)n + 1, sizeof(*m->connection_masks));
	m->connection_slots = malloc((size_t)n + 1);
	if (m->connection_masks == NULL || m->connection_slots == NULL)
		return -ENOMEM;
	memset(m->connection_slots, m->gateway_wide, (size_t)n + 1);
	for (uint32_t i = 0; i < set->header->n_captures; i++) {
		const struct set_capture *c = &set->captures[i];
		uint32_t bits = SLOT_BITS << (c->slot * MATCH_BITS_PER_SLOT);

		if (c->connection == SET_GATEWAY_WIDE &&
		    (c->tracing_flags & (TRACE_ESP | TRACE_OVPN)))
			m->no_connection_mask |= bits;
		if (c->connection != SET_GATEWAY_WIDE)
			m->connection_slots[c->connection + 1] |= (uint8_t)(1U << c->slot);
		for (uint32_t k = 0; k < n; k++) {
			unsigned carrier = set->connections[k].type == 1 ? TRACE_OVPN : TRACE_ESP;

			if ((c->connection == SET_GATEWAY_WIDE || c->connection == k) &&
			    (c->tracing_flags & carrier))
				m->connection_masks[k + 1] |= bits;
		}
	}
	return compile_remotes(m, set);
}

static bool tests_nothing(const struct set_filter *f)
{
	return f->src.n == 0 && f->dst.n == 0 && f->src_port.n == 0 && f->dst_port.n == 0 &&
	       f->any_protocol && f->tcp_flags == 0;
}

/* Rules 1, 2 and 5 of what is recorded. */
static void compile_outer(struct matcher *m, const struct filter_set *set)
{
	for (uint32_t i = 0; i < set->header->n_captures; i++) {
		const struct set_capture *c = &set->captures[i];
		uint8_t slot = (uint8_t)(1U << c->slot);
		bool esp = c->filters.n == 0;

		if (esp && (c->tracing_flags & TRACE_ESP))
			m->esp_unfiltered |= slot;
		for (uint32_t j = 0; j < c->filters.n; j++)
			esp |= tests_nothing(&set->filters[c->filters.first + j]);
		if (esp && (c->tracing_flags & TRACE_ESP))
			m->outer[TRACE_ESP] |= slot;
		if (c->filters.n > 0 && (c->tracing_flags & (TRACE_ESP | TRACE_OVPN)))
			m->decrypt |= slot;
		if (c->tracing_flags & TRACE_IKE)
			m->outer[TRACE_IKE] |= slot;
		if (c->tracing_flags & TRACE_OVPN)
			m->outer[TRACE_OVPN] |= slot;
		if (c->connection == SET_GATEWAY_WIDE)
			m->gateway_wide |= slot;
		m->slots |= slot;
		m->new_slots |= c->is_new ? slot : 0;
		m->snap_bytes[c->slot] = c->snap_bytes;
	}
}

/* Slots of the captures on one connection. */
static uint8_t slots_of(const struct filter_set *set, uint32_t connection)
{
	uint8_t slots = 0;

	for (uint32_t i = 0; i < set->header->n_captures; i++)
		if (set->captures[i].connection == connection)
			slots |= (uint8_t)(1U << set->captures[i].slot);
	return slots;
}

static int put_peer(struct matcher *m, const struct set_peer *peer, uint8_t slots)
{
	unsigned family = peer->address.family == 6;

	if (peer->udp_ports.n > 0) {
		if (m->n_port_peers == MATCH_PORT_PEERS_MAX)
			return -ENOMEM;
		m->port_peers[m->n_port_peers++] = (struct port_peer){
			.address = peer->address,
			.ports = m->ports + peer->udp_ports.first,
			.n_ports = peer->udp_ports.n,
			.slots = slots,
		};
		return 0;
	}
	if (peer->address.family == 0) {
		m->any_peer |= slots;
		return 0;
	}
	return trie_put_or(&m->peers[family], &peer->address, slots);
}

static int compile_peers(struct matcher *m, const struct filter_set *set)
{
	const struct set_header *h = set->header;

	m->ports = malloc(((size_t)h->n_ports + 1) * sizeof(*m->ports));
	m->port_peers = calloc((size_t)h->n_peers + 1, sizeof(*m->port_peers));
	if (m->ports == NULL || m->port_peers == NULL)
		return -ENOMEM;
	if (h->n_ports > 0)
		memcpy(m->ports, set->ports, h->n_ports * sizeof(*m->ports));
	for (uint32_t i = 0; i < h->n_peers; i++) {
		uint8_t slots = slots_of(set, set->peers[i].connection);

		if (slots != 0 && put_peer(m, &set->peers[i], slots) != 0)
			return -ENOMEM;
	}
	return 0;
}

static uint32_t port_mask(const struct port_table *table, bool has_ports, uint16_t port)
{
	uint32_t at = (uint32_t)port << table->log2_bits;

	if (table->words == NULL)
		return UINT32_MAX; // no filter names a port on this side
	if (!has_ports)
		return table->without_ports;
	return table->masks[table->words[at / 32] >> at % 32 & port_index_mask(table)];
}

/* Protocol, flags, the lack of ports, and the scope if there is but one: in one table. */
static void compile_kinds(struct matcher *m)
{
	uint32_t scope = m->has_remotes ? UINT32_MAX : m->no_connection_mask;
	uint32_t without_ports =
		port_mask(&m->sport, false, 0) & port_mask(&m->dport, false, 0) & m->not_tcp;

	for (unsigned i = 0; i < 256; i++) {
		m->kind[MATCH_KIND_TCP + i] = m->protocol[PROTOCOL_TCP] & m->tcp_flags[i] & scope;
		m->kind[MATCH_KIND_PORTS + i] = m->protocol[i] & m->not_tcp & scope;
		m->kind[MATCH_KIND_NO_PORTS + i] = m->protocol[i] & without_ports & scope;
	}
}

static int seal_tries(struct matcher *m)
{
	int rc = 0;

	for (unsigned family = 0; family < 2 && rc == 0; family++)
		if (trie_seal(&m->src[family]) != 0 || trie_seal(&m->dst[family]) != 0 ||
		    trie_seal(&m->remotes[family]) != 0 || trie_seal(&m->peers[family]) != 0)
			rc = -ENOMEM;
	return rc;
}

static void set_budget(struct matcher *m)
{
	m->budget = (struct trie_budget){TRIE_ENTRIES_MAX, TRIE_STEPS_MAX};
	for (unsigned family = 0; family < 2; family++) {
		m->src[family].budget = m->dst[family].budget = &m->budget;
		m->remotes[family].budget = m->peers[family].budget = &m->budget;
	}
}

struct matcher *matcher_open(const struct filter_set *set, struct error *err)
{
	struct matcher *m = calloc(1, sizeof(*m));

	if (m != NULL) {
		set_budget(m);
		m->generation = set->header->generation;
		m->n_endpoints = set->header->n_endpoints;
		if (m->n_endpoints > 0)
			memcpy(m->endpoints, set->endpoints,
			       m->n_endpoints * sizeof(*m->endpoints));
		compile_outer(m, set);
		if (compile_inner(m, set) == 0 && compile_scopes(m, set) == 0 &&
		    compile_peers(m, set) == 0 && seal_tries(m) == 0) {
			compile_kinds(m);
			return m;
		}
	}
	matcher_close(m);
	error_set(err,
		  "The filter set of %u bytes could not be compiled: its tables would be larger "
		  "than %u MiB or take too long to make, or memory is short; make the lists of "
		  "subnets and peers shorter.",
		  set->header->total_bytes, (unsigned)(TRIE_ENTRIES_MAX * sizeof(uint32_t) >> 20));
	return NULL;
}

void matcher_close(struct matcher *m)
{
	if (m == NULL)
		return;
	for (unsigned family = 0; family < 2; family++) {
		trie_fini(&m->src[family]);
		trie_fini(&m->dst[family]);
		trie_fini(&m->remotes[family]);
		trie_fini(&m->peers[family]);
	}
	free(m->sport.words);
	free(m->sport.masks);
	free(m->dport.words);
	free(m->dport.masks);
	free(m->connection_masks);
	free(m->connection_slots);
	free(m->port_peers);
	free(m->ports);
	free(m);
}

uint64_t matcher_generation(const struct matcher *m)
{
	return m->generation;
}

uint8_t matcher_slots(const struct matcher *m)
{
	return m->slots;
}

uint8_t matcher_new_slots(const struct matcher *m)
{
	return m->new_slots;
}

const struct set_endpoint *matcher_endpoints(const struct matcher *m, uint32_t *n)
{
	*n = m->n_endpoints;
	return m->endpoints;
}

uint32_t matcher_snap_bytes(const struct matcher *m, uint8_t captures)
{
	uint32_t longest = 0;

	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if ((captures >> slot & 1) && m->snap_bytes[slot] > longest)
			longest = m->snap_bytes[slot];
	return longest;
}

/* Bits of the captures that are in scope of an inner packet. */
static uint32_t scope_of(const struct matcher *m, unsigned v6, const uint8_t *src,
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

static uint32_t addresses_of(const struct matcher *m, const struct match_key *key)
{
	unsigned v6 = key->family == 6;

	return trie_lookup(&m->src[v6], key->src) & trie_lookup(&m->dst[v6], key->dst);
}

uint32_t match_dimensions(const struct matcher *m, const struct match_key *key)
{
	uint32_t flags = key->has_tcp_flags ? m->tcp_flags[key->tcp_flags] : m->not_tcp;

	return addresses_of(m, key) & port_mask(&m->sport, key->has_ports, key->sport) &
	       port_mask(&m->dport, key->has_ports, key->dport) & m->protocol[key->protocol] &
	       flags;
}

uint32_t match_dimensions_no_first(const struct matcher *m, const struct match_key *key)
{
	return addresses_of(m, key) & m->protocol[key->protocol] & m->no_ports_no_flags;
}

uint32_t match_inner(const struct matcher *m, const struct match_key *key)
{
	return match_dimensions(m, key) & scope_of(m, key->family == 6, key->src, key->dst);
}

uint32_t match_inner_no_first(const struct matcher *m, const struct match_key *key)
{
	return match_dimensions_no_first(m, key) &
	       scope_of(m, key->family == 6, key->src, key->dst);
}

uint8_t match_fold(uint32_t verdict)
{
	uint32_t any = verdict | verdict >> 3;

	any |= any >> 1 | any >> 2;
	return (any & MATCH_FOLD_FIRST) * MATCH_FOLD_GATHER >> MATCH_FOLD_SHIFT &
	       MATCH_FOLD_CAPTURES;
}

static bool prefix_covers(const struct set_subnet *subnet, uint8_t family, const uint8_t *addr)
{
	unsigned whole = subnet->prefix_len / 8, rest = subnet->prefix_len % 8;

	if (subnet->family == 0)
		return true;
	if (subnet->family != family || memcmp(subnet->addr, addr, whole) != 0)
		return false;
	return rest == 0 || ((subnet->addr[whole] ^ addr[whole]) >> (8 - rest)) == 0;
}

static bool port_listed(const struct port_peer *peer, uint16_t port)
{
	for (uint32_t i = 0; i < peer->n_ports; i++)
		if (peer->ports[i] == port)
			return true;
	return false;
}

/* Slots whose peer names UDP ports.  Packets without UDP ports are told by the address alone. */
static uint8_t port_peer_slots(const struct matcher *m, const struct match_key *key)
{
	bool is_udp = key->has_ports && key->protocol == PROTOCOL_UDP;
	uint8_t slots = 0;

	for (uint32_t i = 0; i < m->n_port_peers; i++) {
		const struct port_peer *peer = &m->port_peers[i];

		if ((prefix_covers(&peer->address, key->family, key->src) &&
		     (!is_udp || port_listed(peer, key->sport))) ||
		    (prefix_covers(&peer->address, key->family, key->dst) &&
		     (!is_udp || port_listed(peer, key->dport))))
			slots |= peer->slots;
	}
	return slots;
}

uint8_t match_peer_slots(const struct matcher *m, const struct match_key *key)
{
	unsigned v6 = key->family == 6;
	uint8_t slots = m->gateway_wide | m->any_peer;

	slots |= (uint8_t)(trie_lookup(&m->peers[v6], key->src) |
			   trie_lookup(&m->peers[v6], key->dst));
	if (m->n_port_peers > 0)
		slots |= port_peer_slots(m, key);
	return slots;
}

uint8_t match_outer(const struct matcher *m, unsigned trace, const struct match_key *key)
{
	uint8_t wanted = m->outer[trace];

	if ((wanted & ~m->gateway_wide) == 0)
		return wanted;
	return wanted & match_peer_slots(m, key);
}
