/* classify.c - the class of each packet of a burst, survivors to the front.
 *
 * The usual packet costs one pass over its headers and two bits: `ovpn_ports` has a bit for each
 * port that an OpenVPN endpoint uses, so that addresses and the list of endpoints are looked at only
 * for packets that have such a port.  (A 64 KiB byte table was refused: with random ports it pushes
 * everything else out of the first-level cache; 8 KiB does not.)
 *
 * Precedence when ports collide: a configured OpenVPN endpoint goes before ports 500 and 4500: the
 * endpoint was written down by someone, the well-known ports are a default, and an OpenVPN client
 * behind NAT may well come from port 4500.  Of two endpoints that both fit, the first in the list.
 *
 * TCP 4500 (RFC 9329) is decided segment by segment: no reassembly, so a segment that continues an
 * ESP packet or a long IKE message is ESP.  The stream prefix is IKE, and so is what carries no
 * payload (SYN, ACK, FIN): the connection is IKE's, and a user who wants IKE wants to see it open.
 */
#include "dataplane/classify.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/fragment.h"
#include "dataplane/headers_fast.h"
#include "dataplane/ovpn_flow.h"

enum { PORT_IKE = 500, PORT_NATT = 4500, PREFETCH_AHEAD = 4 };

struct classifier {
	uint64_t ovpn_ports[65536 / 64];
	struct ovpn_endpoint endpoints[CLASSIFY_ENDPOINTS_MAX];
	unsigned n_endpoints;
	struct fragment_table *fragments;
	struct ovpn_flows *flows;
};

/* What becomes of one packet here.  settled: CLASS_OTHER, with a verdict; GOES_ON: any other class. */
enum { GOES_ON = VERDICT_COUNT, HELD };

struct outcome {
	uint8_t class_;	 // enum pkt_class
	uint8_t verdict; // enum verdict, GOES_ON or HELD
};

static_assert(HELD < UINT8_MAX, "an outcome is two bytes");

static inline struct outcome as_class(enum pkt_class class_)
{
	return (struct outcome){(uint8_t)class_, class_ == CLASS_OTHER ? VERDICT_OTHER : GOES_ON};
}

static inline struct outcome as_other(enum verdict verdict)
{
	return (struct outcome){CLASS_OTHER, (uint8_t)verdict};
}

struct classifier *classifier_open(const struct classify_hooks *hooks)
{
	struct classifier *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->fragments = fragment_open();
	c->flows = ovpn_flows_open(hooks);
	if (c->fragments == NULL || c->flows == NULL) {
		classifier_close(c);
		return NULL;
	}
	return c;
}

void classifier_close(struct classifier *c)
{
	if (c == NULL)
		return;
	fragment_close(c->fragments);
	ovpn_flows_close(c->flows);
	free(c);
}

size_t classifier_bytes(void)
{
	return sizeof(struct classifier) + fragment_bytes() + ovpn_flows_bytes();
}

void classifier_set_endpoints(struct classifier *c, const struct ovpn_endpoint *endpoints,
			      unsigned n)
{
	assert(n <= CLASSIFY_ENDPOINTS_MAX);
	memset(c->ovpn_ports, 0, sizeof(c->ovpn_ports));
	c->n_endpoints = n;
	for (unsigned i = 0; i < n; i++) {
		c->endpoints[i] = endpoints[i];
		c->ovpn_ports[endpoints[i].port / 64] |= UINT64_C(1) << (endpoints[i].port % 64);
	}
}

/* A number, not a truth: the two of a packet are or-ed, which costs less than a second branch. */
static inline uint64_t ovpn_port_bit(const struct classifier *c, uint16_t port)
{
	return c->ovpn_ports[port / 64] >> (port % 64) & 1;
}

static bool endpoint_is(const struct ovpn_endpoint *e, const struct headers *h,
			const uint8_t *address, uint16_t port)
{
	if (e->port != port || e->protocol != h->protocol)
		return false;
	if (e->family == 0)
		return true;
	return e->family == h->family && memcmp(e->address, address, e->family == 4 ? 4 : 16) == 0;
}

/* The OpenVPN endpoint that this packet comes from or goes to, or NULL. */
static const struct ovpn_endpoint *endpoint_find(const struct classifier *c,
						 const struct headers *h)
{
	for (unsigned i = 0; i < c->n_endpoints; i++) {
		const struct ovpn_endpoint *e = &c->endpoints[i];

		if (endpoint_is(e, h, h->src, h->sport) || endpoint_is(e, h, h->dst, h->dport))
			return e;
	}
	return NULL;
}

static inline bool either_port(const struct headers *h, uint16_t port)
{
	return (h->sport == port) | (h->dport == port);
}

/* RFC 3948: one byte 0xff keeps a NAT open; four zero bytes mark IKE; the rest is ESP.  How long the
 * payload is, is the UDP header's word: a capture file may hold less of it.
 */
static enum pkt_class natt_class(const struct pkt *p)
{
	const uint8_t *payload = p->data + p->h.l4_offset + UDP_BYTES;
	uint32_t readable = p->h.ip_end - p->h.l4_offset - UDP_BYTES;
	uint32_t udp_length = load_be16(payload - 4);
	uint32_t len = udp_length >= UDP_BYTES ? udp_length - UDP_BYTES : readable;

	if (len >= 4 && readable >= 4) {
		if (load_be32(payload) == 0)
			return CLASS_IKE;
		return len > 4 ? CLASS_ESP : CLASS_OTHER;
	}
	return len == 1 && readable >= 1 && payload[0] == 0xff ? CLASS_IKE : CLASS_OTHER;
}

/* RFC 9329: "IKETCP", then packets behind a length of two bytes; zero markers as in UDP. */
static enum pkt_class tcp_encap_class(const struct pkt *p)
{
	uint32_t start = p->h.l4_offset + (p->data[p->h.l4_offset + 12] >> 4) * 4u;
	const uint8_t *payload = p->data + start;
	uint32_t len = start < p->h.ip_end ? p->h.ip_end - start : 0;

	if (len == 0)
		return CLASS_IKE;
	if (len >= 6 && (memcmp(payload, "IKETCP", 6) == 0 || load_be32(payload + 2) == 0))
		return CLASS_IKE;
	return len == 3 && memcmp(payload, "\0\3\xff", 3) == 0 ? CLASS_IKE : CLASS_ESP;
}

static struct outcome shared_class(struct classifier *c, struct pkt *p)
{
	switch (ovpn_flow_segment(c->flows, p)) {
	case OVPN_YES:
		return as_class(CLASS_OVPN);
	case OVPN_HELD:
		return (struct outcome){CLASS_OTHER, HELD};
	case OVPN_UNWANTED:
		return as_other(VERDICT_NOT_MATCHED);
	case OVPN_UNDECIDED:
		return as_other(VERDICT_OVPN_UNDECIDED);
	default:
		return as_other(VERDICT_OTHER);
	}
}

static struct outcome endpoint_class(struct classifier *c, struct pkt *p,
				     const struct ovpn_endpoint *endpoint)
{
	if (endpoint->shared && p->h.protocol == PROTO_TCP)
		return shared_class(c, p);
	return as_class(CLASS_OVPN);
}

/* A packet whose transport header is in this frame. */
static inline struct outcome transport_class(struct classifier *c, struct pkt *p)
{
	const struct headers *h = &p->h;

	if (h->protocol == PROTO_ESP)
		return as_class(CLASS_ESP);
	if (h->protocol != PROTO_UDP && h->protocol != PROTO_TCP)
		return as_class(CLASS_OTHER);
	if (ovpn_port_bit(c, h->sport) | ovpn_port_bit(c, h->dport)) {
		const struct ovpn_endpoint *endpoint = endpoint_find(c, h);

		if (endpoint != NULL)
			return endpoint_class(c, p, endpoint);
	}
	if (either_port(h, PORT_NATT))
		return as_class(h->protocol == PROTO_UDP ? natt_class(p) : tcp_encap_class(p));
	if (h->protocol == PROTO_UDP && either_port(h, PORT_IKE))
		return as_class(CLASS_IKE);
	return as_class(CLASS_OTHER);
}

static struct outcome later_fragment_class(struct classifier *c, struct pkt *p)
{
	uint64_t class_;

	if (fragment_get(c->fragments, &p->h, 0, p->time_ns, &class_))
		return as_class((enum pkt_class)class_);
	if (p->h.protocol == PROTO_ESP)
		return as_class(CLASS_ESP);
	return as_other(VERDICT_FRAGMENT_NO_FIRST);
}

/* A shared flow that is not decided yet leaves its later fragments OTHER. */
static __attribute__((noinline)) struct outcome fragment_class(struct classifier *c, struct pkt *p,
							       bool parsed)
{
	struct outcome outcome = as_other(VERDICT_MALFORMED);

	if (p->h.flags & PKT_FRAGMENT_LATER)
		return later_fragment_class(c, p);
	if (parsed)
		outcome = transport_class(c, p);
	fragment_put(c->fragments, &p->h, 0, p->time_ns,
		     outcome.verdict == GOES_ON ? outcome.class_ : CLASS_OTHER);
	return outcome;
}

static inline struct outcome outer_class(struct classifier *c, struct pkt *p)
{
	bool parsed = headers_parse_inline(p->data, p->len, &p->h) == 0;

	if (__builtin_expect(p->h.flags & (PKT_FRAGMENT_FIRST | PKT_FRAGMENT_LATER), 0))
		return fragment_class(c, p, parsed);
	if (__builtin_expect(!parsed, 0))
		return as_other(VERDICT_MALFORMED);
	return transport_class(c, p);
}

/* Those of a burst that go on: their places. */
struct survivors {
	uint8_t at[BURST_MAX];
	unsigned n;
};

/* Book one outcome. */
static inline void settle(struct pkt *p, unsigned i, struct survivors *on, struct outcome outcome,
			  struct tally *tally)
{
	p[i].class_ = outcome.class_;
	if (outcome.verdict == GOES_ON)
		on->at[on->n++] = (uint8_t)i;
	else if (outcome.verdict == HELD)
		tally->n_held++;
	else
		tally->verdicts[outcome.verdict]++;
}

static inline void prefetch(const struct pkt *p, unsigned i, unsigned n)
{
	if (i + PREFETCH_AHEAD < n)
		__builtin_prefetch(p[i + PREFETCH_AHEAD].data);
}

unsigned classify_outer_burst(struct classifier *c, struct pkt *p, unsigned n, struct tally *tally,
			      uint64_t *n_class)
{
	/* The row behind the last class takes what the hooks count later: held segments. */
	uint64_t counts[CLASS_COUNT + 1] = {0};
	struct survivors on = {.n = 0};

	for (unsigned i = 0; i < n; i++) {
		struct outcome outcome;

		prefetch(p, i, n);
		outcome = outer_class(c, &p[i]);
		counts[outcome.verdict == HELD ? CLASS_COUNT : outcome.class_]++;
		settle(p, i, &on, outcome, tally);
	}
	for (unsigned i = 0; i < CLASS_COUNT; i++)
		n_class[i] += counts[i];
	if (on.n < n)
		pkt_gather(p, on.at, on.n);
	return on.n;
}

void classifier_age(struct classifier *c, uint64_t now_ns)
{
	ovpn_flows_age(c->flows, now_ns);
}

uint64_t classifier_oldest_held_ns(const struct classifier *c)
{
	return ovpn_flows_oldest_held_ns(c->flows);
}

void classifier_drop_held(struct classifier *c)
{
	ovpn_flows_age(c->flows, UINT64_MAX);
}

void classifier_flush(struct classifier *c)
{
	ovpn_flows_flush(c->flows);
}
