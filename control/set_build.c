/* set_build.c - two passes over the same description: count, then write.
 *
 * One walk serves both: with the block still NULL it only counts, so that the two can never disagree.
 */
#include "control/set_build.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static_assert((int)PEER_ADDRESSES_MAX <= (int)SET_PEER_PORTS_MAX,
	      "what config takes, the check takes");

/* Where the next element of each array goes; the arrays are NULL while counting. */
struct writer {
	struct set_header n; // counts so far
	struct set_capture *captures;
	struct set_filter *filters;
	struct set_connection *connections;
	struct set_peer *peers;
	struct set_remote *remotes;
	struct set_endpoint *endpoints;
	struct set_subnet *subnets;
	uint16_t *ports;
};

static struct set_subnet to_set_subnet(const struct subnet *subnet)
{
	struct set_subnet out = {.prefix_len = subnet->prefix_len, .family = subnet->family};

	memcpy(out.addr, subnet->addr, sizeof(out.addr));
	return out;
}

static struct set_slice put_subnets(struct writer *w, const struct subnet *list, unsigned n)
{
	struct set_slice slice = {.first = w->n.n_subnets, .n = n};

	for (unsigned i = 0; i < n; i++) {
		if (w->subnets != NULL)
			w->subnets[w->n.n_subnets] = to_set_subnet(&list[i]);
		w->n.n_subnets++;
	}
	return slice;
}

static struct set_slice put_ports(struct writer *w, const uint16_t *list, unsigned n)
{
	struct set_slice slice = {.first = w->n.n_ports, .n = n};

	if (w->ports != NULL && n > 0)
		memcpy(&w->ports[w->n.n_ports], list, n * sizeof(*list));
	w->n.n_ports += n;
	return slice;
}

static void put_filter(struct writer *w, const struct filter *f)
{
	struct set_filter out = {
		.src = put_subnets(w, f->src, f->n_src),
		.dst = put_subnets(w, f->dst, f->n_dst),
		.src_port = put_ports(w, f->src_port, f->n_src_port),
		.dst_port = put_ports(w, f->dst_port, f->n_dst_port),
		.any_protocol = f->n_protocol == 0,
		.tcp_flags = f->tcp_flags,
		.single_direction = f->single_direction,
	};

	for (unsigned i = 0; i < f->n_protocol; i++)
		out.protocols[f->protocol[i] / 32] |= 1U << (f->protocol[i] % 32);
	if (w->filters != NULL)
		w->filters[w->n.n_filters] = out;
	w->n.n_filters++;
}

static void put_capture(struct writer *w, const struct set_source_capture *capture)
{
	const struct filter_data *data = capture->data;
	struct set_capture out = {
		.slot = capture->slot,
		.is_new = capture->is_new,
		.connection = capture->connection,
		.tracing_flags = data->tracing_flags,
		.snap_bytes = data->snap_bytes,
		.filters = {.first = w->n.n_filters, .n = data->n_filters},
	};

	for (unsigned i = 0; i < data->n_filters; i++)
		put_filter(w, &data->filters[i]);
	if (w->captures != NULL)
		w->captures[w->n.n_captures] = out;
	w->n.n_captures++;
}

static void put_peer(struct writer *w, uint32_t connection, const struct subnet *address,
		     struct set_slice udp_ports)
{
	struct set_peer out = {.connection = connection, .udp_ports = udp_ports};

	if (address != NULL)
		out.address = to_set_subnet(address);
	if (w->peers != NULL)
		w->peers[w->n.n_peers] = out;
	w->n.n_peers++;
}

static void put_connection(struct writer *w, const struct set_source *source, uint32_t index)
{
	const struct connection *c = &source->config->connections[index];
	struct set_slice udp_ports = put_ports(w, c->peer.udp_ports, c->peer.n_udp_ports);

	if (w->connections != NULL)
		w->connections[index].type = c->type == CONNECTION_OPENVPN;
	w->n.n_connections++;
	if (c->peer.any)
		put_peer(w, index, NULL, udp_ports);
	for (unsigned i = 0; i < c->peer.n_addresses; i++)
		put_peer(w, index, &c->peer.addresses[i], udp_ports);
	for (unsigned i = 0; i < source->n_resolved; i++)
		if (source->resolved[i].connection == index)
			put_peer(w, index, &source->resolved[i].address, udp_ports);
	for (unsigned i = 0; i < c->n_remote_subnets; i++) {
		struct set_remote out = {.connection = index,
					 .subnet = to_set_subnet(&c->remote_subnets[i])};

		if (w->remotes != NULL)
			w->remotes[w->n.n_remotes] = out;
		w->n.n_remotes++;
	}
}

static void put_endpoint(struct writer *w, const struct endpoint *e)
{
	struct set_endpoint out = {.address = to_set_subnet(&e->address),
				   .port = e->port,
				   .protocol = e->protocol,
				   .shared = e->shared};

	if (w->endpoints != NULL)
		w->endpoints[w->n.n_endpoints] = out;
	w->n.n_endpoints++;
}

static void put_all(struct writer *w, const struct set_source *source)
{
	const struct config *config = source->config;

	for (unsigned i = 0; i < source->n_captures; i++)
		put_capture(w, &source->captures[i]);
	for (unsigned i = 0; i < config->n_connections; i++)
		put_connection(w, source, i);
	for (unsigned i = 0; i < config->gateway.n_endpoints; i++)
		put_endpoint(w, &config->gateway.endpoints[i]);
}

/* Give each array its place behind the header, in the order of filter_set.h; the end. */
static size_t place(struct writer *w, uint8_t *mem, const struct set_header *n)
{
	size_t at = sizeof(struct set_header);

#define PLACE(field, count)                            \
	do {                                           \
		if (mem != NULL)                       \
			w->field = (void *)(mem + at); \
		at += (count) * sizeof(*w->field);     \
	} while (0)

	PLACE(captures, n->n_captures);
	PLACE(filters, n->n_filters);
	PLACE(connections, n->n_connections);
	PLACE(peers, n->n_peers);
	PLACE(remotes, n->n_remotes);
	PLACE(endpoints, n->n_endpoints);
	PLACE(subnets, n->n_subnets);
	PLACE(ports, n->n_ports);
#undef PLACE
	return (at + 7) & ~(size_t)7;
}

void *set_build(const struct set_source *source, size_t *bytes)
{
	struct writer counting = {0}, writing = {0};
	struct set_header *header;
	size_t total;
	uint8_t *mem;

	put_all(&counting, source);
	total = place(&counting, NULL, &counting.n);
	mem = calloc(1, total);
	if (mem == NULL)
		return NULL;
	(void)place(&writing, mem, &counting.n);
	put_all(&writing, source);

	header = (struct set_header *)mem;
	*header = writing.n;
	header->magic = SET_MAGIC;
	header->version = SET_VERSION;
	header->generation = source->generation;
	header->total_bytes = (uint32_t)total;
	*bytes = total;
	return mem;
}
