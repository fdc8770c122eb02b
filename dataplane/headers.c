/* headers.c - any Ethernet frame, read through a cursor.
 *
 * One function a layer; each takes its bytes from the cursor or says no, and what was filled in
 * before stays.  Two bounds keep hostile chains short: VLAN_TAGS_MAX tags, EXTENSIONS_MAX extension
 * headers.  Settled here, because the RFCs leave it to the reader:
 * - The IP packet ends where its own length says or where the frame does, whichever is first.  A
 *   total length of 0 (segmentation offload, seen by a capture on the sender) means the rest of the
 *   frame; so does an IPv6 payload length of 0, unless the next header says there is no payload.
 * - A fifth VLAN tag is "not IP", like any EtherType that we do not know: the frame is whole.
 * - An IPv6 fragment header with offset 0 and nothing to follow (RFC 6946) is no fragment.
 * - Behind a later fragment's header there is payload, whatever its next header is called.
 * - TCP options may be cut: nothing here looks at them.  A data offset under 5 lies.
 * - A UDP length of 1 to 7 lies; 0 (jumbograms, offload) means the rest.  UDP-Lite has a coverage there.
 */
#include "dataplane/classify.h"
#include "dataplane/cursor.h"
#include "dataplane/headers_fast.h"

enum {
	EXTENSIONS_MAX = 8,
	ETHERTYPE_IPV4 = 0x0800,
	ETHERTYPE_IPV6 = 0x86dd,
};

enum ipv6_next_header {
	NEXT_HOP_BY_HOP = 0,
	NEXT_ROUTING = 43,
	NEXT_FRAGMENT = 44,
	NEXT_NONE = 59,
	NEXT_DESTINATION = 60,
};

/* The EtherType, 0x0800 on the fast path, is never that much. */
#define NOT_FAST                                  \
	{                                         \
		.lie_at = 12, .lie_least = 0xffff \
	}

const struct fast_protocol fast_protocols[256] = {
	[0 ... PROTO_TCP - 1] = NOT_FAST,
	[PROTO_TCP] = {.total_least = IPV4_BYTES_MIN + TCP_BYTES_MIN,
		       .lie_at = ETHER_BYTES + IPV4_BYTES_MIN + 12,
		       .lie_least = 5 << 12,
		       .flags = PKT_HAS_PORTS | PKT_HAS_TCP_FLAGS,
		       .tcp_flag_mask = 0xff,
		       .port_mask = -1},
	[PROTO_TCP + 1 ... PROTO_UDP - 1] = NOT_FAST,
	[PROTO_UDP] = {.total_least = IPV4_BYTES_MIN + UDP_BYTES,
		       .lie_at = ETHER_BYTES + IPV4_BYTES_MIN + 4,
		       .lie_least = UDP_BYTES,
		       .flags = PKT_HAS_PORTS,
		       .port_mask = -1},
	[PROTO_UDP + 1 ... PROTO_ESP - 1] = NOT_FAST,
	[PROTO_ESP] = {.total_least = IPV4_BYTES_MIN},
	[PROTO_ESP + 1 ... 255] = NOT_FAST,
};

static bool is_vlan(uint16_t type)
{
	return type == 0x8100 || type == 0x88a8 || type == 0x9100 || type == 0x9200;
}

/* The EtherType behind the tags; false when the frame is cut before it. */
static bool ether_read(struct cursor *c, uint16_t *type)
{
	if (!cursor_skip(c, 12) || !cursor_be16(c, type))
		return false;
	for (unsigned i = 0; i < VLAN_TAGS_MAX && is_vlan(*type); i++) {
		if (!cursor_skip(c, 2) || !cursor_be16(c, type))
			return false;
	}
	return true;
}

static bool fixed_header_present(uint8_t protocol, size_t left)
{
	switch (protocol) {
	case PROTO_UDP:
	case PROTO_UDPLITE:
		return left >= UDP_BYTES;
	case PROTO_TCP:
		return left >= TCP_BYTES_MIN;
	default:
		return left >= 12; // SCTP and DCCP
	}
}

/* Ports, and what of the fixed header can lie.  c stands at the transport header. */
static int transport_read(struct cursor *c, struct headers *h)
{
	const uint8_t *at = c->at;

	if (c->left >= 4) {
		h->sport = load_be16(at);
		h->dport = load_be16(at + 2);
		h->flags |= PKT_HAS_PORTS;
	}
	if (!fixed_header_present(h->protocol, c->left))
		return -1;
	if (h->protocol == PROTO_UDP) {
		uint16_t udp_length = load_be16(at + 4);

		return udp_length == 0 || udp_length >= UDP_BYTES ? 0 : -1;
	}
	if (h->protocol == PROTO_TCP) {
		if (at[12] < 5 << 4)
			return -1;
		h->tcp_flags = at[13];
		h->flags |= PKT_HAS_TCP_FLAGS;
	}
	return 0;
}

static bool has_ports(uint8_t protocol)
{
	switch (protocol) {
	case PROTO_TCP:
	case PROTO_UDP:
	case PROTO_UDPLITE:
	case PROTO_SCTP:
	case PROTO_DCCP:
		return true;
	default:
		return false;
	}
}

/* RFC 4302: the length field counts 32-bit words, minus 2; the fixed part has three. */
static bool ah_read(struct cursor *c, struct headers *h)
{
	const uint8_t *at = c->at;

	if (c->left < 12 || at[1] < 1 || !cursor_skip(c, (at[1] + 2u) * 4))
		return false;
	h->protocol = at[0];
	return true;
}

/* RFC 8200 4.5.  One in a packet: a second one lies. */
static bool fragment_header_read(struct cursor *c, struct headers *h, bool *seen)
{
	const uint8_t *at = cursor_take(c, 8);
	uint16_t field;

	if (at == NULL || *seen)
		return false;
	*seen = true;
	field = load_be16(at + 2);
	h->protocol = at[0];
	h->fragment_id = load_be32(at + 4);
	if (field >> 3 != 0)
		h->flags |= PKT_FRAGMENT_LATER;
	else if (field & 1)
		h->flags |= PKT_FRAGMENT_FIRST;
	return true;
}

/* Hop-by-hop, routing and destination options share one shape: length in 8 bytes, minus one. */
static bool options_read(struct cursor *c, struct headers *h)
{
	const uint8_t *at = c->at;

	if (c->left < 8 || !cursor_skip(c, (at[1] + 1u) * 8))
		return false;
	h->protocol = at[0];
	return true;
}

static bool is_extension(const struct headers *h)
{
	if (h->flags & PKT_FRAGMENT_LATER)
		return false;
	switch (h->protocol) {
	case PROTO_AH:
		return true;
	case NEXT_HOP_BY_HOP:
	case NEXT_ROUTING:
	case NEXT_FRAGMENT:
	case NEXT_DESTINATION:
		return h->family == 6;
	default:
		return false;
	}
}

static bool extension_read(struct cursor *c, struct headers *h, bool *fragment_seen)
{
	switch (h->protocol) {
	case PROTO_AH:
		return ah_read(c, h);
	case NEXT_FRAGMENT:
		return fragment_header_read(c, h, fragment_seen);
	default:
		return options_read(c, h);
	}
}

/* From behind the IP header to the transport header. */
static int upper_read(struct cursor *c, const uint8_t *data, struct headers *h)
{
	bool fragment_seen = false;

	h->l4_offset = (uint16_t)(c->at - data);
	for (unsigned n = 0; is_extension(h); n++) {
		if (n == EXTENSIONS_MAX || !extension_read(c, h, &fragment_seen))
			return -1;
		h->l4_offset = (uint16_t)(c->at - data);
	}
	if ((h->flags & PKT_FRAGMENT_LATER) || !has_ports(h->protocol))
		return 0;
	return transport_read(c, h);
}

static int ipv4_read(struct cursor *c, const uint8_t *data, struct headers *h)
{
	const uint8_t *ip = c->at;
	size_t header_bytes, total;
	uint16_t field;

	if (c->left < IPV4_BYTES_MIN || ip[0] >> 4 != 4)
		return -1;
	header_bytes = (ip[0] & 15u) * 4;
	total = load_be16(ip + 2);
	if (total != 0)
		cursor_cut(c, total);
	if (header_bytes < IPV4_BYTES_MIN || c->left < header_bytes)
		return -1;
	h->family = 4;
	h->src = ip + 12;
	h->dst = ip + 16;
	h->protocol = ip[9];
	h->fragment_id = load_be16(ip + 4);
	h->l3_offset = (uint16_t)(ip - data);
	h->ip_end = (uint32_t)(h->l3_offset + c->left);
	field = load_be16(ip + 6);
	if (field & 0x1fff)
		h->flags = PKT_FRAGMENT_LATER;
	else if (field & 0x2000)
		h->flags = PKT_FRAGMENT_FIRST;
	(void)cursor_skip(c, header_bytes);
	return upper_read(c, data, h);
}

static int ipv6_read(struct cursor *c, const uint8_t *data, struct headers *h)
{
	const uint8_t *ip = cursor_take(c, IPV6_BYTES);
	uint16_t payload;

	if (ip == NULL || ip[0] >> 4 != 6)
		return -1;
	payload = load_be16(ip + 4);
	h->family = 6;
	h->src = ip + 8;
	h->dst = ip + 24;
	h->protocol = ip[6];
	h->l3_offset = (uint16_t)(ip - data);
	if (payload != 0 || h->protocol == NEXT_NONE)
		cursor_cut(c, payload);
	h->ip_end = (uint32_t)(h->l3_offset + IPV6_BYTES + c->left);
	return upper_read(c, data, h);
}

int headers_slow(const uint8_t *data, uint32_t len, struct headers *h)
{
	struct cursor c = cursor_over(data, len);
	uint16_t type;

	*h = (struct headers){0};
	if (!ether_read(&c, &type))
		return -1;
	if (type == ETHERTYPE_IPV4)
		return ipv4_read(&c, data, h);
	if (type == ETHERTYPE_IPV6)
		return ipv6_read(&c, data, h);
	return 0;
}

int headers_parse(const uint8_t *data, uint32_t len, struct headers *h)
{
	return headers_parse_inline(data, len, h);
}
