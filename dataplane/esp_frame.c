/* esp_frame.c - see esp_frame.h.
 *
 * How a wrong key is told without the ICV: next header, padding, the inner packet's version, its length
 * against the payload's, and, IPv4, its header checksum.  For transport mode there is no IP header inside:
 * there the padding, and what the transport header says of itself.  docs/esp.md has the fraction of wrong keys
 * that gets through.
 * TFC padding (RFC 4303, 2.7): an inner IP packet may be shorter than the payload, never longer.
 */
#include "dataplane/esp_frame.h"

#include <string.h>

#include "dataplane/headers_fast.h"

enum {
	PROTO_ICMP = 1,
	PROTO_IGMP = 2,
	PROTO_IPIP = 4,
	PROTO_ASSIGNED_MAX = 142, // by IANA without a gap (ROHC)
	PROTO_IPV6 = 41,
	PROTO_GRE = 47,
	PROTO_ICMPV6 = 58,
	PROTO_NONE = 59,
	PROTO_OSPF = 89,
	PROTO_PIM = 103,
	PROTO_VRRP = 112,
	PROTO_L2TP = 115,
	PROTO_TEST = 253, // and 254: RFC 3692
	NEXT_HOP_BY_HOP = 0,
	NEXT_ROUTING = 43,
	NEXT_FRAGMENT = 44,
	NEXT_DESTINATION = 60,
	TCP_MESSAGE_MIN = 2 + ESP_HEADER_BYTES, // RFC 9329 3: a length, which counts itself
};

#define NOT_LIKELY UINT32_MAX

/* ---- where it lies ---- */

/* Where the IP packet ends by its own word; 0: it does not say (offload). */
static uint32_t ip_end_of(const struct pkt *p)
{
	const uint8_t *ip = p->data + p->h.l3_offset;
	uint32_t length = load_be16(ip + (p->h.family == 4 ? 2 : 4));

	if (length == 0)
		return 0;
	return p->h.l3_offset + length + (p->h.family == 4 ? 0 : IPV6_BYTES);
}

bool esp_locate(const struct pkt *p, struct esp_frame *out)
{
	uint32_t at = p->h.l4_offset, end = ip_end_of(p);

	if (end == 0)
		end = p->wire_len > p->len ? 0 : p->h.ip_end;
	if (p->h.protocol == PROTO_UDP) {
		uint32_t udp_length = load_be16(p->data + at + 4);

		if (udp_length >= UDP_BYTES && end != 0 && at + udp_length < end)
			end = at + udp_length;
		at += UDP_BYTES;
	}
	if (p->h.flags & PKT_FRAGMENT_FIRST)
		end = 0;
	if (p->h.ip_end < at + ESP_HEADER_BYTES || (end != 0 && end < at + ESP_HEADER_BYTES))
		return false;
	out->esp = p->data + at;
	out->readable = p->h.ip_end - at;
	out->whole = end != 0 ? end - at : 0;
	if (out->whole != 0 && out->readable > out->whole)
		out->readable = out->whole;
	return true;
}

unsigned esp_locate_tcp(const struct pkt *p, struct esp_frame out[static ESP_MESSAGES_MAX],
			bool *fits)
{
	uint32_t at = p->h.l4_offset + (p->data[p->h.l4_offset + 12] >> 4) * 4u, end = ip_end_of(p);
	unsigned n = 0;

	if (end == 0)
		end = p->h.ip_end;
	while (n < ESP_MESSAGES_MAX && at + TCP_MESSAGE_MIN <= p->h.ip_end) {
		uint32_t bytes = load_be16(p->data + at), left = p->h.ip_end - at;

		if (bytes < TCP_MESSAGE_MIN)
			break;
		if (load_be32(p->data + at + 2) != 0) // else it is IKE
			out[n++] = (struct esp_frame){.esp = p->data + at + 2,
						      .readable = (bytes < left ? bytes : left) - 2,
						      .whole = bytes - 2};
		at += bytes;
	}
	*fits = at == end;
	return n;
}

/* ---- what is inside ---- */

static bool checksum_is_right(const uint8_t *ip, uint32_t bytes)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < bytes; i += 2)
		sum += load_be16(ip + i);
	sum = (sum & 0xffff) + (sum >> 16);
	sum += sum >> 16;
	return (sum & 0xffff) == 0xffff;
}

/* The length of an inner IP packet that has room in `room`, or 0. */
static uint32_t ipv4_bytes(const uint8_t *ip, uint32_t readable, uint32_t room)
{
	uint32_t header, total;

	if (readable < IPV4_BYTES_MIN || ip[0] >> 4 != 4)
		return 0;
	header = (ip[0] & 15u) * 4;
	total = load_be16(ip + 2);
	if (header < IPV4_BYTES_MIN || header > readable || total < header || total > room)
		return 0;
	return checksum_is_right(ip, header) ? total : 0;
}

static uint32_t ipv6_bytes(const uint8_t *ip, uint32_t readable, uint32_t room)
{
	uint32_t total;

	if (readable < IPV6_BYTES || ip[0] >> 4 != 6)
		return 0;
	total = IPV6_BYTES + load_be16(ip + 4);
	return total <= room ? total : 0;
}

static uint32_t inner_bytes(uint8_t next_header, const struct esp_plain *plain, uint32_t room)
{
	return next_header == PROTO_IPIP ? ipv4_bytes(plain->prefix, plain->prefix_bytes, room)
					 : ipv6_bytes(plain->prefix, plain->prefix_bytes, room);
}

static bool is_extension(uint8_t type)
{
	return type == NEXT_HOP_BY_HOP || type == NEXT_ROUTING || type == NEXT_FRAGMENT ||
	       type == NEXT_DESTINATION;
}

/* Those that travel in transport mode.  A wrong key makes any of 256. */
static bool is_usual(uint8_t protocol)
{
	static const uint8_t usual[] = {
		PROTO_ICMP, PROTO_IGMP,	  PROTO_DCCP,	 PROTO_IPV6, PROTO_GRE,	    PROTO_ESP,
		PROTO_AH,   PROTO_ICMPV6, PROTO_IPIP,	 PROTO_OSPF, PROTO_PIM,	    PROTO_VRRP,
		PROTO_L2TP, PROTO_SCTP,	  PROTO_UDPLITE, PROTO_TEST, PROTO_TEST + 1};

	return memchr(usual, protocol, sizeof(usual)) != NULL;
}

/* How long what is inside is, by what its header says of itself and the room there is: UDP may have TFC padding
 * behind it.  NOT_LIKELY: it is none.  Protocols that say nothing are believed where they are to be expected.
 */
static uint32_t transport_bytes(enum sa_mode mode, uint8_t protocol, const struct esp_plain *plain,
				uint32_t room)
{
	const uint8_t *at = plain->prefix;
	uint32_t readable = plain->prefix_bytes < room ? plain->prefix_bytes : room;

	if (protocol == PROTO_TCP)
		return readable >= TCP_BYTES_MIN && at[12] >> 4 >= 5 && (at[12] >> 4) * 4u <= room
			       ? room
			       : NOT_LIKELY;
	if (protocol == PROTO_UDP)
		return readable >= UDP_BYTES && load_be16(at + 4) >= UDP_BYTES &&
				       load_be16(at + 4) <= room
			       ? load_be16(at + 4)
			       : NOT_LIKELY;
	if (protocol == NEXT_DESTINATION) // RFC 4303 3.1.1: it may stand behind ESP
		return readable >= 8 && (at[1] + 1u) * 8 <= room ? room : NOT_LIKELY;
	if (is_usual(protocol))
		return room;
	return mode == SA_MODE_TRANSPORT && protocol <= PROTO_ASSIGNED_MAX &&
			       !is_extension(protocol)
		       ? room
		       : NOT_LIKELY;
}

/* RFC 4303 2.4: 1, 2, 3 ...  Looked at as far as it was decrypted. */
static bool padding_is_right(const uint8_t *tail, uint32_t tail_bytes, uint32_t pad_bytes)
{
	uint32_t seen = tail_bytes - ESP_TRAILER_BYTES;
	const uint8_t *end = tail + seen;

	if (seen > pad_bytes)
		seen = pad_bytes;
	for (uint32_t i = 0; i < seen; i++)
		if (end[-1 - (int32_t)i] != (uint8_t)(pad_bytes - i))
			return false;
	return true;
}

/* IPv6 has no checksum: what else is likely of a header. */
static bool ipv6_is_likely(const uint8_t *ip)
{
	static const uint8_t next[] = {
		PROTO_TCP,    PROTO_UDP,     PROTO_ICMPV6,    PROTO_ESP,  PROTO_AH,
		PROTO_GRE,    PROTO_SCTP,    PROTO_IPIP,      PROTO_IPV6, NEXT_HOP_BY_HOP,
		NEXT_ROUTING, NEXT_FRAGMENT, NEXT_DESTINATION};

	return ip[7] != 0 && memchr(next, ip[6], sizeof(next)) != NULL;
}

/* Without a trailer only an IP packet can be told from noise. */
static struct esp_inside look_without_trailer(enum sa_mode mode, const struct esp_plain *plain)
{
	struct esp_inside inside = {.form = ESP_NOT_PLAUSIBLE};
	uint32_t room = plain->payload_bytes != 0 ? plain->payload_bytes - ESP_TRAILER_BYTES
						  : UINT16_MAX + IPV6_BYTES;

	if (mode == SA_MODE_TRANSPORT || plain->prefix_bytes == 0)
		return inside;
	inside.next_header = plain->prefix[0] >> 4 == 4 ? PROTO_IPIP : PROTO_IPV6;
	inside.bytes = inner_bytes(inside.next_header, plain, room);
	if (inside.bytes != 0 &&
	    (inside.next_header == PROTO_IPIP || room - inside.bytes <= UINT8_MAX ||
	     ipv6_is_likely(plain->prefix)))
		inside.form = ESP_TUNNEL;
	return inside;
}

struct esp_inside esp_look(enum sa_mode mode, const struct esp_plain *plain)
{
	struct esp_inside inside = {.form = ESP_NOT_PLAUSIBLE};
	uint32_t pad, room;

	if (plain->tail == NULL)
		return look_without_trailer(mode, plain);
	pad = plain->tail[plain->tail_bytes - 2];
	inside.next_header = plain->tail[plain->tail_bytes - 1];
	if (pad + ESP_TRAILER_BYTES > plain->payload_bytes ||
	    !padding_is_right(plain->tail, plain->tail_bytes, pad))
		return inside;
	room = plain->payload_bytes - ESP_TRAILER_BYTES - pad;
	if (inside.next_header == PROTO_NONE) {
		inside.form = ESP_DUMMY;
	} else if (mode != SA_MODE_TRANSPORT &&
		   (inside.next_header == PROTO_IPIP || inside.next_header == PROTO_IPV6)) {
		inside.bytes = inner_bytes(inside.next_header, plain, room);
		inside.form = inside.bytes != 0 ? ESP_TUNNEL : ESP_NOT_PLAUSIBLE;
	} else if (mode != SA_MODE_TUNNEL) {
		inside.bytes = transport_bytes(mode, inside.next_header, plain, room);
		inside.form = inside.bytes != NOT_LIKELY ? ESP_TRANSPORT : ESP_NOT_PLAUSIBLE;
	}
	return inside;
}

/* ---- the frame that is made of it ---- */

/* The byte in the IP header, or in an extension header, that says what follows the last header that is kept;
 * *end: where that one ends.  NULL: the headers do not lead there.
 */
static const uint8_t *kept_headers(const struct pkt *p, uint32_t *end)
{
	const uint8_t *ip = p->data + p->h.l3_offset, *next = ip + 6;
	uint32_t at = p->h.l3_offset + IPV6_BYTES;

	if (p->h.family == 4) {
		*end = p->h.l3_offset + (ip[0] & 15u) * 4;
		return ip + 9;
	}
	while (at < p->h.l4_offset && is_extension(*next)) {
		uint8_t type = *next;

		next = p->data + at;
		at += type == NEXT_FRAGMENT ? 8 : (p->data[at + 1] + 1u) * 8;
	}
	*end = at;
	return at <= p->h.l4_offset ? next : NULL;
}

static void store_be16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void rewrite_ipv4(uint8_t *ip, uint32_t header, uint32_t bytes)
{
	uint32_t sum = 0;

	store_be16(ip + 2, header + bytes);
	store_be16(ip + 10, 0);
	for (uint32_t i = 0; i < header; i += 2)
		sum += load_be16(ip + i);
	sum = (sum & 0xffff) + (sum >> 16);
	sum += sum >> 16;
	store_be16(ip + 10, ~sum & 0xffff);
}

uint32_t esp_head(const struct pkt *p, const struct esp_inside *inside, uint8_t *at)
{
	uint32_t l3 = p->h.l3_offset, end = l3;
	const uint8_t *next = NULL;
	uint8_t *head;

	if (inside->form == ESP_TRANSPORT)
		next = kept_headers(p, &end);
	if (end > ESP_HEAD_BYTES || (inside->form == ESP_TRANSPORT && next == NULL))
		return 0;
	head = at - end;
	memcpy(head, p->data, end);
	if (inside->form == ESP_TUNNEL) {
		store_be16(at - 2, inside->next_header == PROTO_IPIP ? 0x0800 : 0x86dd);
		return end;
	}
	head[next - p->data] = inside->next_header;
	if (p->h.family == 4)
		rewrite_ipv4(head + l3, end - l3, inside->bytes);
	else
		store_be16(head + l3 + 4, end - l3 - IPV6_BYTES + inside->bytes);
	return end;
}
