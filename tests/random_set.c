/* random_set.c - small pools, so that lists overlap and packets fall into them.
 *
 * No two connections get the same remote subnet: which of them has its packets is not defined.
 */
#include "tests/random_set.h"

#include <string.h>

static const uint8_t protocols[] = {6, 6, 17, 17, 1, 58, 132, 33, 136, 47, 0, 255};

struct random_set *random_set_open(void)
{
	struct random_set *set = calloc(1, sizeof(*set));

	if (set == NULL)
		abort();
	return set;
}

void random_set_close(struct random_set *set)
{
	free(set);
}

static void mask_host_bits(struct subnet *s)
{
	for (unsigned i = s->prefix_len; i < 128; i++)
		s->addr[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
}

/* 10.x.y.z and 2001:db8:...: few first bytes, so that prefixes nest. */
static void throw_address(struct dice *d, unsigned family, uint8_t addr[16])
{
	for (unsigned i = 0; i < 16; i++)
		addr[i] = (uint8_t)dice_next(d);
	if (dice_one_in(d, 10))
		return;
	addr[0] = family == 4 ? 10 : 0x20;
	for (unsigned i = 1; i < (family == 4 ? 3 : 9); i++)
		addr[i] = (uint8_t)dice_below(d, 3);
}

static void throw_pools(struct random_set *set, struct dice *d)
{
	static const uint8_t lengths4[] = {0, 8, 12, 16, 17, 23, 24, 31, 32, 32};
	static const uint8_t lengths6[] = {0, 3, 32, 48, 56, 64, 65, 127, 128, 128};

	for (unsigned i = 0; i < POOL_SUBNETS; i++) {
		struct subnet *s = &set->subnets[i];

		memset(s, 0, sizeof(*s));
		s->family = dice_one_in(d, 2) ? 4 : 6;
		throw_address(d, s->family, s->addr);
		s->prefix_len =
			s->family == 4 ? lengths4[dice_below(d, 10)] : lengths6[dice_below(d, 10)];
		if (s->prefix_len == 0 && !dice_one_in(d, 4))
			s->prefix_len = 24;
		mask_host_bits(s);
	}
	for (unsigned i = 0; i < POOL_PORTS; i++)
		set->ports[i] = (uint16_t)dice_next(d);
	set->ports[0] = 0;
	set->ports[1] = 65535;
}

/* 0 half of the time: an empty list. */
static unsigned throw_length(struct dice *d)
{
	return dice_one_in(d, 2) ? 0 : 1 + dice_below(d, RANDOM_LIST_MAX);
}

static unsigned throw_subnets(const struct random_set *set, struct dice *d, struct subnet *list)
{
	unsigned n = throw_length(d);

	for (unsigned i = 0; i < n; i++)
		list[i] = set->subnets[dice_below(d, POOL_SUBNETS)];
	return n;
}

static unsigned throw_ports(const struct random_set *set, struct dice *d, uint16_t *list)
{
	unsigned n = throw_length(d);

	for (unsigned i = 0; i < n; i++)
		list[i] = set->ports[dice_below(d, POOL_PORTS)];
	return n;
}

static void throw_filter(const struct random_set *set, struct dice *d,
			 struct random_filter_lists *lists, struct filter *f)
{
	*f = (struct filter){.src = lists->src,
			     .dst = lists->dst,
			     .src_port = lists->sport,
			     .dst_port = lists->dport,
			     .protocol = lists->protocol};
	f->single_direction = dice_one_in(d, 2);
	if (dice_one_in(d, 8))
		return; // tests nothing
	f->n_src = throw_subnets(set, d, lists->src);
	f->n_dst = throw_subnets(set, d, lists->dst);
	f->n_src_port = throw_ports(set, d, lists->sport);
	f->n_dst_port = throw_ports(set, d, lists->dport);
	f->n_protocol = throw_length(d);
	for (unsigned i = 0; i < f->n_protocol; i++)
		lists->protocol[i] = protocols[dice_below(d, sizeof(protocols))];
	f->tcp_flags = (uint8_t)(dice_one_in(d, 3) ? 1U << dice_below(d, 8) : 0);
	if (dice_one_in(d, 10))
		f->tcp_flags = (uint8_t)dice_next(d);
}

static void throw_connection(struct random_set *set, struct dice *d, unsigned i)
{
	struct connection *c = &set->connections[i];
	struct random_connection_lists *lists = &set->connection_lists[i];

	*c = (struct connection){.type = dice_one_in(d, 2) ? CONNECTION_IPSEC : CONNECTION_OPENVPN,
				 .remote_subnets = lists->remotes};
	c->peer = (struct peer){.any = dice_one_in(d, 5),
				.addresses = lists->addresses,
				.udp_ports = lists->udp_ports};
	if (!c->peer.any)
		c->peer.n_addresses = throw_subnets(set, d, lists->addresses);
	if (dice_one_in(d, 3))
		c->peer.n_udp_ports = throw_ports(set, d, lists->udp_ports);
	// Every RANDOM_CONNECTIONS_MAX-th subnet of the pool is this connection's, if it is not a repeat.
	for (unsigned k = i; k < POOL_SUBNETS; k += RANDOM_CONNECTIONS_MAX) {
		bool is_repeat = false;

		for (unsigned earlier = 0; earlier < k; earlier++)
			is_repeat |= memcmp(&set->subnets[earlier], &set->subnets[k],
					    sizeof(struct subnet)) == 0;
		if (!is_repeat && dice_one_in(d, 2))
			lists->remotes[c->n_remote_subnets++] = set->subnets[k];
	}
}

static void throw_captures(struct random_set *set, struct dice *d)
{
	unsigned slot_order[CAPTURES_MAX] = {0, 1, 2, 3, 4};
	unsigned n = dice_below(d, CAPTURES_MAX + 1);

	for (unsigned i = 0; i < n; i++) {
		unsigned k = i + dice_below(d, CAPTURES_MAX - i), kept = slot_order[i];
		struct filter_data *data = &set->data[i];

		slot_order[i] = slot_order[k];
		slot_order[k] = kept;
		*data = (struct filter_data){.tracing_flags = dice_below(d, 16) & TRACE_DEFAULT,
					     .snap_bytes = 1 + dice_below(d, SNAP_BYTES_MAX),
					     .file_mb = 1,
					     .n_filters = dice_below(d, 4)};
		if (dice_one_in(d, 2) || data->tracing_flags == 0)
			data->tracing_flags = TRACE_DEFAULT;
		for (unsigned j = 0; j < data->n_filters; j++)
			throw_filter(set, d, &set->filter_lists[i][j], &data->filters[j]);
		set->captures[i] = (struct set_source_capture){
			.slot = slot_order[i], .is_new = dice_one_in(d, 2), .data = data};
		set->captures[i].connection = SET_GATEWAY_WIDE;
		if (set->config.n_connections > 0 && !dice_one_in(d, 3))
			set->captures[i].connection = dice_below(d, set->config.n_connections);
	}
	set->source.n_captures = n;
}

static void throw_endpoints(struct random_set *set, struct dice *d)
{
	set->config.gateway.n_endpoints = dice_below(d, 4);
	for (unsigned i = 0; i < set->config.gateway.n_endpoints; i++) {
		struct endpoint *e = &set->config.gateway.endpoints[i];

		*e = (struct endpoint){.port = set->ports[dice_below(d, POOL_PORTS)],
				       .protocol = dice_one_in(d, 2) ? 6 : 17};
		e->shared = e->protocol == 6 && dice_one_in(d, 2);
	}
}

void random_set_throw(struct random_set *set, struct dice *d)
{
	memset(set, 0, sizeof(*set));
	throw_pools(set, d);
	set->config.connections = set->connections;
	set->config.n_connections = dice_below(d, RANDOM_CONNECTIONS_MAX + 1);
	for (unsigned i = 0; i < set->config.n_connections; i++)
		throw_connection(set, d, i);
	throw_endpoints(set, d);
	set->source = (struct set_source){.config = &set->config,
					  .captures = set->captures,
					  .resolved = set->resolved,
					  .generation = dice_next(d)};
	throw_captures(set, d);
	if (set->config.n_connections > 0)
		set->source.n_resolved = dice_below(d, RANDOM_RESOLVED_MAX + 1);
	for (unsigned i = 0; i < set->source.n_resolved; i++)
		set->resolved[i] = (struct resolved_peer){
			.connection = dice_below(d, set->config.n_connections),
			.address = set->subnets[dice_below(d, POOL_SUBNETS)]};
}

/* Half of the time inside a subnet of the pool, sometimes one bit outside. */
static void throw_listed_address(const struct random_set *set, struct dice *d, unsigned family,
				 uint8_t addr[16])
{
	const struct subnet *s = &set->subnets[dice_below(d, POOL_SUBNETS)];

	throw_address(d, family, addr);
	if (dice_one_in(d, 2) || s->family != family)
		return;
	for (unsigned i = 0; i < s->prefix_len; i++) {
		uint8_t mask = (uint8_t)(0x80 >> i % 8);

		addr[i / 8] = (uint8_t)((addr[i / 8] & ~mask) | (s->addr[i / 8] & mask));
	}
	if (s->prefix_len > 0 && dice_one_in(d, 6))
		addr[(s->prefix_len - 1) / 8] ^= (uint8_t)(0x80 >> (s->prefix_len - 1) % 8);
}

static uint16_t throw_port(const struct random_set *set, struct dice *d)
{
	uint16_t port = (uint16_t)dice_next(d);

	if (dice_one_in(d, 2))
		port = set->ports[dice_below(d, POOL_PORTS)];
	return dice_one_in(d, 8) ? (uint16_t)(port + 1) : port;
}

void random_key_throw(const struct random_set *set, struct dice *d, struct random_key *out)
{
	struct match_key *key = &out->key;

	*key = (struct match_key){.src = out->src, .dst = out->dst};
	key->family = dice_one_in(d, 2) ? 4 : 6;
	key->protocol = protocols[dice_below(d, sizeof(protocols))];
	if (dice_one_in(d, 8))
		key->protocol = (uint8_t)dice_next(d);
	throw_listed_address(set, d, key->family, out->src);
	throw_listed_address(set, d, key->family, out->dst);
	key->has_ports = !dice_one_in(d, 4);
	key->has_tcp_flags = key->protocol == 6 && key->has_ports && !dice_one_in(d, 5);
	if (key->has_ports) {
		key->sport = throw_port(set, d);
		key->dport = throw_port(set, d);
	}
	if (key->has_tcp_flags)
		key->tcp_flags = (uint8_t)dice_next(d);
}
