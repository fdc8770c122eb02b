/* slow_matcher.c - the rules, one after another, as docs/semantics.md has them. */
#include "tests/slow_matcher.h"

static bool bit_at(const uint8_t *addr, unsigned i)
{
	return addr[i / 8] >> (7 - i % 8) & 1;
}

static bool subnet_has(const struct subnet *s, unsigned family, const uint8_t *addr)
{
	if (s->family != family)
		return false;
	for (unsigned i = 0; i < s->prefix_len; i++)
		if (bit_at(s->addr, i) != bit_at(addr, i))
			return false;
	return true;
}

static bool subnets_have(const struct subnet *list, unsigned n, unsigned family,
			 const uint8_t *addr)
{
	for (unsigned i = 0; i < n; i++)
		if (subnet_has(&list[i], family, addr))
			return true;
	return n == 0;
}

static bool ports_have(const uint16_t *list, unsigned n, bool has_ports, uint16_t port)
{
	for (unsigned i = 0; i < n; i++)
		if (has_ports && list[i] == port)
			return true;
	return n == 0;
}

static bool protocols_have(const struct filter *f, uint8_t protocol)
{
	for (unsigned i = 0; i < f->n_protocol; i++)
		if (f->protocol[i] == protocol)
			return true;
	return f->n_protocol == 0;
}

static struct match_key swapped(const struct match_key *key)
{
	struct match_key other = *key;

	other.src = key->dst;
	other.dst = key->src;
	other.sport = key->dport;
	other.dport = key->sport;
	return other;
}

/* As written. */
static bool filter_takes(const struct filter *f, const struct match_key *key)
{
	if (!subnets_have(f->src, f->n_src, key->family, key->src))
		return false;
	if (!subnets_have(f->dst, f->n_dst, key->family, key->dst))
		return false;
	if (!ports_have(f->src_port, f->n_src_port, key->has_ports, key->sport))
		return false;
	if (!ports_have(f->dst_port, f->n_dst_port, key->has_ports, key->dport))
		return false;
	if (!protocols_have(f, key->protocol))
		return false;
	if (f->tcp_flags != 0)
		return key->has_tcp_flags && (key->tcp_flags & f->tcp_flags) != 0;
	return true;
}

/* The connection whose remote subnet is the longest that has the address; -1: none. */
static int connection_of(const struct config *config, unsigned family, const uint8_t *addr)
{
	int best = -1, best_len = -1;

	for (unsigned i = 0; i < config->n_connections; i++)
		for (unsigned j = 0; j < config->connections[i].n_remote_subnets; j++) {
			const struct subnet *s = &config->connections[i].remote_subnets[j];

			if (subnet_has(s, family, addr) && s->prefix_len > best_len) {
				best = (int)i;
				best_len = s->prefix_len;
			}
		}
	return best;
}

/* Is an inner packet of this connection (-1: none) in scope, and its tunnel's bit set? */
static bool carries(const struct set_source *source, const struct set_source_capture *c,
		    int connection)
{
	unsigned flags = c->data->tracing_flags;

	if (connection < 0)
		return false;
	if (c->connection != SET_GATEWAY_WIDE && c->connection != (uint32_t)connection)
		return false;
	if (source->config->connections[connection].type == CONNECTION_OPENVPN)
		return flags & TRACE_OVPN;
	return flags & TRACE_ESP;
}

static bool in_scope(const struct set_source *source, const struct set_source_capture *c,
		     const struct match_key *key)
{
	int from = connection_of(source->config, key->family, key->src);
	int to = connection_of(source->config, key->family, key->dst);

	if (from < 0 && to < 0)
		return c->connection == SET_GATEWAY_WIDE &&
		       (c->data->tracing_flags & (TRACE_ESP | TRACE_OVPN)) != 0;
	return carries(source, c, from) || carries(source, c, to);
}

static uint32_t bit(unsigned slot, unsigned filter, unsigned direction)
{
	return 1U << ((slot * FILTERS_PER_CAPTURE_MAX + filter) * FILTER_DIRECTIONS + direction);
}

uint32_t slow_inner(const struct set_source *source, const struct match_key *key)
{
	struct match_key other = swapped(key);
	uint32_t verdict = 0;

	for (unsigned i = 0; i < source->n_captures; i++) {
		const struct set_source_capture *c = &source->captures[i];

		if (!in_scope(source, c, key))
			continue;
		for (unsigned j = 0; j < c->data->n_filters; j++) {
			const struct filter *f = &c->data->filters[j];

			if (filter_takes(f, key))
				verdict |= bit(c->slot, j, 0);
			if (!f->single_direction && filter_takes(f, &other))
				verdict |= bit(c->slot, j, 1);
		}
	}
	return verdict;
}

uint32_t slow_inner_no_first(const struct set_source *source, const struct match_key *key)
{
	struct match_key no_headers = *key;
	uint32_t verdict;

	no_headers.has_ports = no_headers.has_tcp_flags = false;
	verdict = slow_inner(source, &no_headers);
	// Filters that ask for ports or flags never take a packet that shows none: nothing to remove.
	return verdict;
}

/* One side of an outer packet against one peer. */
static bool peer_is(const struct peer *p, bool address_fits, bool is_udp, uint16_t port)
{
	return address_fits && (!is_udp || ports_have(p->udp_ports, p->n_udp_ports, true, port));
}

static bool peer_has_address(const struct set_source *source, uint32_t connection, unsigned family,
			     const uint8_t *addr)
{
	const struct peer *p = &source->config->connections[connection].peer;

	if (p->any)
		return true;
	for (unsigned i = 0; i < p->n_addresses; i++)
		if (subnet_has(&p->addresses[i], family, addr))
			return true;
	for (unsigned i = 0; i < source->n_resolved; i++)
		if (source->resolved[i].connection == connection &&
		    subnet_has(&source->resolved[i].address, family, addr))
			return true;
	return false;
}

static bool outer_in_scope(const struct set_source *source, uint32_t connection,
			   const struct match_key *key)
{
	const struct peer *p;
	bool is_udp = key->protocol == 17 && key->has_ports;

	if (connection == SET_GATEWAY_WIDE)
		return true;
	p = &source->config->connections[connection].peer;
	return peer_is(p, peer_has_address(source, connection, key->family, key->src), is_udp,
		       key->sport) ||
	       peer_is(p, peer_has_address(source, connection, key->family, key->dst), is_udp,
		       key->dport);
}

/* Rule 5: an ESP packet that nobody can read is wanted where some filter tests nothing. */
static bool wants_unread_esp(const struct filter_data *data)
{
	for (unsigned i = 0; i < data->n_filters; i++)
		if (filter_tests_nothing(&data->filters[i]))
			return true;
	return data->n_filters == 0;
}

uint8_t slow_outer(const struct set_source *source, unsigned trace, const struct match_key *key)
{
	uint8_t wanted = 0;

	for (unsigned i = 0; i < source->n_captures; i++) {
		const struct set_source_capture *c = &source->captures[i];

		if (!(c->data->tracing_flags & trace) ||
		    !outer_in_scope(source, c->connection, key))
			continue;
		if (trace != TRACE_ESP || wants_unread_esp(c->data))
			wanted |= (uint8_t)(1U << c->slot);
	}
	return wanted;
}

uint8_t slow_fold(uint32_t verdict)
{
	uint8_t captures = 0;

	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		for (unsigned i = 0; i < FILTERS_PER_CAPTURE_MAX * FILTER_DIRECTIONS; i++)
			if (verdict >> (slot * FILTERS_PER_CAPTURE_MAX * FILTER_DIRECTIONS + i) & 1)
				captures |= (uint8_t)(1U << slot);
	return captures;
}
