/* filter_set.c - prove a filter set before anything reads it.
 *
 * The sizes of all arrays follow from the header; they must fill the block to the byte.  After that
 * every index and slice is checked against its array, every enumeration against its range.
 */
#include "filters/filter_set.h"

#include <errno.h>
#include <string.h>

static bool slice_fits(struct set_slice slice, uint32_t n)
{
	return slice.first <= n && slice.n <= n - slice.first;
}

/* family 0 stands for "any address" where the caller allows it. */
static bool subnet_ok(const struct set_subnet *subnet, bool may_be_any)
{
	if (subnet->family == 0)
		return may_be_any;
	return (subnet->family == 4 && subnet->prefix_len <= 32) ||
	       (subnet->family == 6 && subnet->prefix_len <= 128);
}

/* Point *set into mem; false if the counts do not add up to `bytes`. */
static bool lay_out(const struct set_header *h, size_t bytes, struct filter_set *set)
{
	const uint8_t *at = (const uint8_t *)(h + 1), *end = (const uint8_t *)h + bytes;

#define TAKE(field, count)                                              \
	do {                                                            \
		if ((count) > (size_t)(end - at) / sizeof(*set->field)) \
			return false;                                   \
		set->field = (const void *)at;                          \
		at += (count) * sizeof(*set->field);                    \
	} while (0)

	set->header = h;
	TAKE(captures, h->n_captures);
	TAKE(filters, h->n_filters);
	TAKE(connections, h->n_connections);
	TAKE(peers, h->n_peers);
	TAKE(remotes, h->n_remotes);
	TAKE(endpoints, h->n_endpoints);
	TAKE(subnets, h->n_subnets);
	TAKE(ports, h->n_ports);
#undef TAKE
	return end - at < 8; // padding to 8 bytes
}

static bool captures_ok(const struct filter_set *set)
{
	const struct set_header *h = set->header;
	uint32_t slots = 0;

	for (uint32_t i = 0; i < h->n_captures; i++) {
		const struct set_capture *c = &set->captures[i];

		if (c->slot >= CAPTURES_MAX || (slots & (1U << c->slot)) || c->is_new > 1 ||
		    (c->connection != SET_GATEWAY_WIDE && c->connection >= h->n_connections) ||
		    c->tracing_flags > TRACE_DEFAULT || c->snap_bytes < 1 ||
		    c->snap_bytes > SNAP_BYTES_MAX || c->filters.n > FILTERS_PER_CAPTURE_MAX ||
		    !slice_fits(c->filters, h->n_filters))
			return false;
		slots |= 1U << c->slot;
	}
	return true;
}

static bool filters_ok(const struct filter_set *set)
{
	const struct set_header *h = set->header;

	for (uint32_t i = 0; i < h->n_filters; i++) {
		const struct set_filter *f = &set->filters[i];

		if (!slice_fits(f->src, h->n_subnets) || !slice_fits(f->dst, h->n_subnets) ||
		    !slice_fits(f->src_port, h->n_ports) || !slice_fits(f->dst_port, h->n_ports) ||
		    f->any_protocol > 1 || f->single_direction > 1)
			return false;
	}
	for (uint32_t i = 0; i < h->n_subnets; i++)
		if (!subnet_ok(&set->subnets[i], false))
			return false;
	return true;
}

static bool scopes_ok(const struct filter_set *set)
{
	const struct set_header *h = set->header;

	for (uint32_t i = 0; i < h->n_connections; i++)
		if (set->connections[i].type > 1)
			return false;
	for (uint32_t i = 0; i < h->n_peers; i++) {
		const struct set_peer *p = &set->peers[i];

		if (p->connection >= h->n_connections || !subnet_ok(&p->address, true) ||
		    p->udp_ports.n > SET_PEER_PORTS_MAX || !slice_fits(p->udp_ports, h->n_ports))
			return false;
	}
	for (uint32_t i = 0; i < h->n_remotes; i++)
		if (set->remotes[i].connection >= h->n_connections ||
		    !subnet_ok(&set->remotes[i].subnet, false))
			return false;
	for (uint32_t i = 0; i < h->n_endpoints; i++) {
		const struct set_endpoint *e = &set->endpoints[i];

		if (!subnet_ok(&e->address, true) || (e->protocol != 6 && e->protocol != 17) ||
		    e->shared > (e->protocol == 6))
			return false;
	}
	return true;
}

int filter_set_check(const void *mem, size_t bytes, struct filter_set *out, struct error *err)
{
	const struct set_header *h = mem;
	struct filter_set set;
	const char *why = NULL;

	if (bytes < sizeof(*h) || h->magic != SET_MAGIC || h->version != SET_VERSION)
		why = "it does not begin as one of this version does";
	else if (h->total_bytes != bytes || h->n_captures > CAPTURES_MAX ||
		 h->n_connections > CONNECTIONS_MAX || h->n_endpoints > SET_ENDPOINTS_MAX ||
		 h->n_ports > SET_PORTS_MAX || !lay_out(h, bytes, &set))
		why = "its counts do not add up to its size";
	else if (!captures_ok(&set))
		why = "a capture in it is out of range";
	else if (!filters_ok(&set))
		why = "a filter in it is out of range";
	else if (!scopes_ok(&set))
		why = "a connection, peer or endpoint in it is out of range";
	if (why != NULL) {
		error_set(err,
			  "The filter set of %zu bytes was refused: %s; the one in force stays.",
			  bytes, why);
		return -EINVAL;
	}
	*out = set;
	return 0;
}
