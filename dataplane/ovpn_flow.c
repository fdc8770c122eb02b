/* ovpn_flow.c - a four-way flow table, and a pool of held segments in order of arrival.
 *
 * Why exact filling for flows met in the middle: most segments of an HTTPS flow begin inside a
 * record, with bytes as good as random.  "Plausible length and opcode" accepts one in ten of them and
 * would record strangers' HTTPS; packets that fill the segment exactly accept one in 190,000.
 * OpenVPN sends each packet with one write, so at least the direction that carries acknowledgements
 * shows them within a few segments.
 * Why one list for all held segments: times never decrease within a worker, so the list is in order
 * of time, its head is the watermark, and ageing looks at nothing but the head.
 */
#include "dataplane/ovpn_flow.h"

#include <assert.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "dataplane/headers_fast.h"
#include "dataplane/keyed_hash.h"

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };

enum flow_marks {
	MARK_FROM_START = 1, // saw a SYN: the next payload is the first
	MARK_CLOSING = 2,    // saw FIN or RST
};

enum flow_state { FLOW_FREE, FLOW_UNDECIDED, FLOW_GIVEN_UP, FLOW_OTHER, FLOW_OVPN };

struct flow_key {
	uint8_t low[16], high[16]; // the two ends, in order of (address, port)
	uint16_t low_port, high_port;
	uint8_t family;
	uint8_t zero[3];
};

struct flow {
	struct flow_key key;
	uint64_t last_ns;
	uint16_t held[HELD_SEGMENTS_MAX]; // slots, oldest first
	uint8_t state;			  // enum flow_state
	uint8_t n_payloads;		  // that told nothing
	uint8_t n_held;
	uint8_t marks; // enum flow_marks
};

struct slot {
	struct held_segment segment;
	uint32_t flow;	     // index
	uint16_t prev, next; // in order of arrival; next also links the free ones
	uint8_t bytes[HELD_BYTES_MAX];
};

enum { LIST = OVPN_HELD_MAX }; // the slot that is head and tail of the list

struct ovpn_flows {
	struct classify_hooks hooks;
	struct hash_key secret;
	uint16_t free_slot; // LIST: none
	alignas(64) struct flow flows[OVPN_FLOWS_MAX];
	struct slot slots[OVPN_HELD_MAX + 1];
};

static_assert(sizeof(struct flow_key) == 40, "hashed and compared as bytes: no padding");
static_assert(sizeof(struct flow) == 64, "one cache line a flow");
static_assert((OVPN_FLOWS_MAX & (OVPN_FLOWS_MAX - 1)) == 0, "buckets are picked with a mask");
static_assert(OVPN_HELD_MAX < UINT16_MAX, "slots are numbered with 16 bits");

static uint64_t want_nothing(void *ctx, const struct pkt *pkt)
{
	(void)ctx;
	(void)pkt;
	return 0;
}

struct ovpn_flows *ovpn_flows_open(const struct classify_hooks *hooks)
{
	struct ovpn_flows *flows = aligned_alloc(64, sizeof(*flows));

	if (flows == NULL)
		return NULL;
	memset(flows, 0, sizeof(*flows));
	if (getrandom(&flows->secret, sizeof(flows->secret), 0) != sizeof(flows->secret)) {
		free(flows);
		return NULL;
	}
	if (hooks != NULL)
		flows->hooks = *hooks;
	else
		flows->hooks.hold_wanted = want_nothing;
	for (uint16_t i = 0; i < OVPN_HELD_MAX; i++)
		flows->slots[i].next = (uint16_t)(i + 1);
	flows->slots[LIST].prev = flows->slots[LIST].next = LIST;
	return flows;
}

void ovpn_flows_close(struct ovpn_flows *flows)
{
	free(flows);
}

size_t ovpn_flows_bytes(void)
{
	return sizeof(struct ovpn_flows);
}

/* What payload looks like. */

static bool is_tls_record(const uint8_t *p, size_t len)
{
	enum { RECORD_BYTES_MAX = 16384 + 2048 };

	return len >= 5 && p[0] >= 20 && p[0] <= 23 && p[1] == 3 && p[2] <= 4 &&
	       load_be16(p + 3) > 0 && load_be16(p + 3) <= RECORD_BYTES_MAX;
}

/* The first packet of a session, either side, or its head.  Lengths as OpenVPN's own port-share
 * takes them: 14 to 255; with tls-crypt-v2 (opcode 10) the client's key is wrapped in, 336 to 1025.
 */
static bool is_session_reset(const uint8_t *p, size_t len)
{
	uint16_t length;

	if (len < 3)
		return false;
	length = load_be16(p);
	switch (p[2]) { // opcode << 3 | key id, which is 0 in a reset
	case 1 << 3:
	case 2 << 3:
	case 7 << 3:
	case 8 << 3:
		return length >= 14 && length <= 255;
	case 10 << 3:
		return length >= 336 && length <= 1025;
	default:
		return false;
	}
}

/* Whole OpenVPN packets and nothing else. */
static bool is_filled_with_packets(const uint8_t *p, size_t len)
{
	enum { PACKET_BYTES_MIN = 14 };
	size_t at = 0;

	while (len - at >= 2 + PACKET_BYTES_MIN) {
		size_t length = load_be16(p + at);
		unsigned opcode = p[at + 2] >> 3;

		if (length < PACKET_BYTES_MIN || length > len - at - 2 || opcode < 1 || opcode > 11)
			return false;
		at += 2 + length;
	}
	return at > 0 && at == len;
}

enum ovpn_answer ovpn_payload_shape(const uint8_t *payload, size_t len, bool from_start)
{
	if (is_tls_record(payload, len))
		return OVPN_NO;
	if (is_filled_with_packets(payload, len))
		return OVPN_YES;
	return from_start && is_session_reset(payload, len) ? OVPN_YES : OVPN_UNDECIDED;
}

/* Held segments. */

static void slot_unlink(struct ovpn_flows *flows, uint16_t i)
{
	struct slot *slot = &flows->slots[i];

	flows->slots[slot->prev].next = slot->next;
	flows->slots[slot->next].prev = slot->prev;
	slot->next = flows->free_slot;
	flows->free_slot = i;
}

static void drop_held(struct ovpn_flows *flows, struct flow *flow, enum verdict why)
{
	unsigned n = flow->n_held;

	flow->n_held = 0;
	for (unsigned i = 0; i < n; i++) {
		flows->hooks.drop(flows->hooks.ctx, &flows->slots[flow->held[i]].segment, why);
		slot_unlink(flows, flow->held[i]);
	}
}

static void release_held(struct ovpn_flows *flows, struct flow *flow)
{
	unsigned n = flow->n_held;

	flow->n_held = 0;
	for (unsigned i = 0; i < n; i++) {
		flows->hooks.release(flows->hooks.ctx, &flows->slots[flow->held[i]].segment);
		slot_unlink(flows, flow->held[i]);
	}
}

/* The oldest of all goes; it is the oldest of its flow too. */
static void drop_oldest(struct ovpn_flows *flows)
{
	uint16_t i = flows->slots[LIST].next;
	struct flow *flow = &flows->flows[flows->slots[i].flow];

	assert(flow->n_held > 0 && flow->held[0] == i);
	flow->n_held--;
	memmove(flow->held, flow->held + 1, flow->n_held * sizeof(flow->held[0]));
	flows->hooks.drop(flows->hooks.ctx, &flows->slots[i].segment, VERDICT_OVPN_UNDECIDED);
	slot_unlink(flows, i);
}

static void slot_fill(struct ovpn_flows *flows, struct flow *flow, const struct pkt *pkt,
		      uint64_t ticket)
{
	uint16_t i = flows->free_slot, last = flows->slots[LIST].prev;
	struct slot *slot = &flows->slots[i];

	flows->free_slot = slot->next;
	slot->segment = (struct held_segment){
		.data = slot->bytes,
		.len = pkt->len < HELD_BYTES_MAX ? pkt->len : HELD_BYTES_MAX,
		.wire_len = pkt->wire_len,
		.time_ns = pkt->time_ns,
		.ticket = ticket,
		.port = pkt->port,
	};
	memcpy(slot->bytes, pkt->data, slot->segment.len);
	slot->flow = (uint32_t)(flow - flows->flows);
	slot->prev = last;
	slot->next = LIST;
	flows->slots[last].next = i;
	flows->slots[LIST].prev = i;
	flow->held[flow->n_held++] = i;
}

static enum ovpn_answer hold(struct ovpn_flows *flows, struct flow *flow, struct pkt *pkt)
{
	uint64_t ticket;

	if (flow->n_held == HELD_SEGMENTS_MAX)
		return OVPN_UNDECIDED;
	pkt->class_ = CLASS_OVPN; // what it would be: the worker asks its captures about that
	ticket = flows->hooks.hold_wanted(flows->hooks.ctx, pkt);
	pkt->class_ = CLASS_OTHER;
	if (ticket == 0)
		return OVPN_UNWANTED;
	if (flows->free_slot == LIST)
		drop_oldest(flows);
	slot_fill(flows, flow, pkt, ticket);
	return OVPN_HELD;
}

/* The flow table. */

static void flow_settle(struct ovpn_flows *flows, struct flow *flow, enum flow_state state)
{
	flow->state = (uint8_t)state;
	if (state == FLOW_OVPN)
		release_held(flows, flow);
	else
		drop_held(flows, flow,
			  state == FLOW_OTHER ? VERDICT_OTHER : VERDICT_OVPN_UNDECIDED);
}

static struct flow_key key_of(const struct headers *h)
{
	size_t n = h->family == 4 ? 4 : 16;
	int order = memcmp(h->src, h->dst, n);
	bool src_low = order != 0 ? order < 0 : h->sport <= h->dport;
	struct flow_key key = {
		.low_port = src_low ? h->sport : h->dport,
		.high_port = src_low ? h->dport : h->sport,
		.family = h->family,
	};

	memcpy(key.low, src_low ? h->src : h->dst, n);
	memcpy(key.high, src_low ? h->dst : h->src, n);
	return key;
}

static bool is_old(const struct flow *flow, uint64_t now_ns)
{
	return now_ns > flow->last_ns &&
	       now_ns - flow->last_ns >
		       (flow->marks & MARK_CLOSING ? OVPN_CLOSING_NS : OVPN_IDLE_NS);
}

/* How dear an entry is; the least dear makes room. */
static unsigned worth(const struct flow *flow, uint64_t now_ns)
{
	if (flow->state == FLOW_FREE)
		return 0;
	if (is_old(flow, now_ns))
		return 1;
	return 1u + flow->state;
}

static struct flow *flow_for(struct ovpn_flows *flows, const struct headers *h, uint64_t now_ns)
{
	struct flow_key key = key_of(h);
	uint64_t hash = keyed_hash(&flows->secret, &key, sizeof(key));
	struct flow *bucket = &flows->flows[hash & (OVPN_FLOWS_MAX - OVPN_FLOW_WAYS)];
	struct flow *least = bucket;

	for (unsigned i = 0; i < OVPN_FLOW_WAYS; i++) {
		unsigned a = worth(&bucket[i], now_ns), b = worth(least, now_ns);

		if (a > 1 && memcmp(&bucket[i].key, &key, sizeof(key)) == 0)
			return &bucket[i];
		if (a < b || (a == b && bucket[i].last_ns < least->last_ns))
			least = &bucket[i];
	}
	if (least->state == FLOW_UNDECIDED)
		flow_settle(flows, least, FLOW_GIVEN_UP);
	*least = (struct flow){.key = key, .state = FLOW_UNDECIDED};
	return least;
}

static size_t payload_find(const struct pkt *pkt, const uint8_t **payload)
{
	size_t start = pkt->h.l4_offset + (pkt->data[pkt->h.l4_offset + 12] >> 4) * 4u;

	*payload = pkt->data + start;
	return start < pkt->h.ip_end ? pkt->h.ip_end - start : 0;
}

static enum ovpn_answer undecided_segment(struct ovpn_flows *flows, struct flow *flow,
					  struct pkt *pkt)
{
	const uint8_t *payload;
	size_t len = payload_find(pkt, &payload);

	if (len == 0) {
		if (!(pkt->h.tcp_flags & TCP_RST))
			return hold(flows, flow, pkt);
		flow_settle(flows, flow, FLOW_GIVEN_UP);
		return OVPN_UNDECIDED;
	}
	switch (ovpn_payload_shape(payload, len, flow->marks & MARK_FROM_START)) {
	case OVPN_YES:
		flow_settle(flows, flow, FLOW_OVPN);
		return OVPN_YES;
	case OVPN_NO:
		flow_settle(flows, flow, FLOW_OTHER);
		return OVPN_NO;
	default:
		if (++flow->n_payloads == OVPN_PAYLOADS_MAX)
			flow_settle(flows, flow, FLOW_GIVEN_UP);
		return OVPN_UNDECIDED;
	}
}

enum ovpn_answer ovpn_flow_segment(struct ovpn_flows *flows, struct pkt *pkt)
{
	uint8_t tcp_flags = pkt->h.tcp_flags;
	struct flow *flow = flow_for(flows, &pkt->h, pkt->time_ns);

	if ((tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN && flow->state != FLOW_UNDECIDED)
		*flow = (struct flow){.key = flow->key, .state = FLOW_UNDECIDED};
	flow->last_ns = pkt->time_ns;
	if (tcp_flags & (TCP_FIN | TCP_RST))
		flow->marks |= MARK_CLOSING;
	if (tcp_flags & TCP_SYN)
		flow->marks |= MARK_FROM_START;
	switch (flow->state) {
	case FLOW_OVPN:
		return OVPN_YES;
	case FLOW_OTHER:
		return OVPN_NO;
	case FLOW_GIVEN_UP:
		return OVPN_UNDECIDED;
	default:
		return undecided_segment(flows, flow, pkt);
	}
}

void ovpn_flows_age(struct ovpn_flows *flows, uint64_t now_ns)
{
	uint64_t oldest_ns;

	while ((oldest_ns = ovpn_flows_oldest_held_ns(flows)) < now_ns &&
	       now_ns - oldest_ns > OVPN_HOLD_NS)
		drop_oldest(flows);
}

void ovpn_flows_flush(struct ovpn_flows *flows)
{
	for (unsigned i = 0; i < OVPN_FLOWS_MAX; i++) {
		if (flows->flows[i].state == FLOW_UNDECIDED)
			flow_settle(flows, &flows->flows[i], FLOW_GIVEN_UP);
	}
}

uint64_t ovpn_flows_oldest_held_ns(const struct ovpn_flows *flows)
{
	uint16_t i = flows->slots[LIST].next;

	return i == LIST ? UINT64_MAX : flows->slots[i].segment.time_ns;
}
