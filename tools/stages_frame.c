/* stages_frame.c - see stages_frame.h.
 *
 * Few flows share the TCP port: their table's hash has a secret of its own in each run, and with few of
 * them no two meet.
 */
#include "tools/stages_frame.h"

#include <string.h>

enum {
	ETHER = 14,
	VLAN = 4,
	IPV4 = 20,
	IPV6 = 40,
	TCP = 20,
	PROTO_TCP = 6,
	PROTO_UDP = 17,
	PROTO_ESP = 50,
	N_TCP_FLOWS = 16,
	MORE_FRAGMENTS = 0x2000,
};

static void put_be16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

/* A frame of zeros with MAC addresses; gives where the EtherType belongs. */
static uint8_t *begin(uint8_t *frame, uint32_t bytes)
{
	static const uint8_t macs[12] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};

	memset(frame, 0, bytes);
	memcpy(frame, macs, sizeof(macs));
	return frame + sizeof(macs);
}

/* Gives where the payload belongs.  `fragment`: the word of flags and offset. */
static uint8_t *put_ipv4(uint8_t *type, uint32_t bytes, uint8_t protocol, uint32_t id,
			 uint32_t fragment)
{
	uint8_t *ip = type + 2;

	put_be16(type, 0x0800);
	ip[0] = 0x45;
	put_be16(ip + 2, bytes);
	put_be16(ip + 4, id);
	put_be16(ip + 6, fragment);
	ip[8] = 64;
	ip[9] = protocol;
	ip[12] = ip[16] = 10;
	ip[13] = 1;
	ip[17] = 2;
	put_be16(ip + 14, id);
	put_be16(ip + 18, id * 7);
	return ip + IPV4;
}

static uint8_t *put_ipv6(uint8_t *type, uint32_t bytes, uint8_t protocol, uint32_t id)
{
	static const uint8_t src[6] = {0x20, 0x01, 0x0d, 0xb8, 0, 1};
	static const uint8_t dst[6] = {0x20, 0x01, 0x0d, 0xb8, 0, 2};
	uint8_t *ip = type + 2;

	put_be16(type, 0x86dd);
	ip[0] = 0x60;
	put_be16(ip + 4, bytes - IPV6);
	ip[6] = protocol;
	ip[7] = 64;
	memcpy(ip + 8, src, sizeof(src));
	memcpy(ip + 24, dst, sizeof(dst));
	put_be16(ip + 22, id);
	put_be16(ip + 38, id);
	return ip + IPV6;
}

static uint8_t *put_ports(uint8_t *at, uint32_t sport, uint32_t dport)
{
	put_be16(at, sport);
	put_be16(at + 2, dport);
	return at + 4;
}

static uint8_t *put_tcp(uint8_t *at, uint32_t sport, uint32_t dport)
{
	(void)put_ports(at, sport, dport);
	at[12] = 0x50;
	at[13] = 0x10; // ACK
	return at + TCP;
}

static uint8_t *put_udp(uint8_t *at, uint32_t sport, uint32_t dport, uint32_t bytes)
{
	put_be16(put_ports(at, sport, dport), bytes);
	return at + 8;
}

void stages_frame_slow(uint8_t frame[STAGES_SLOW_BYTES], uint32_t i)
{
	uint32_t bytes = STAGES_SLOW_BYTES - ETHER, id = i / 4 + 1;
	uint8_t *type = begin(frame, STAGES_SLOW_BYTES);

	switch (i % 4) {
	case 0:
		(void)put_tcp(put_ipv6(type, bytes, PROTO_TCP, id), 40000 + id, 443);
		break;
	case 1:
		put_be16(type, 0x8100);
		put_be16(type + 2, 7);
		(void)put_tcp(put_ipv4(type + VLAN, bytes - VLAN, PROTO_TCP, id, 0), 40000 + id,
			      443);
		break;
	case 2:
		(void)put_udp(put_ipv4(type, bytes, PROTO_UDP, id, MORE_FRAGMENTS), 40000 + id, 53,
			      2 * bytes);
		break;
	default:
		(void)put_ipv4(type, bytes, PROTO_UDP, id, (bytes - IPV4) / 8);
		break;
	}
}

/* What the two kinds of flow on the shared port carry; each segment shows it. */
static void put_shared(uint8_t *payload, uint32_t bytes, uint32_t is_https)
{
	if (is_https) {
		payload[0] = 23; // application data, TLS 1.2
		payload[1] = payload[2] = 3;
		put_be16(payload + 3, bytes - 5);
	} else {
		put_be16(payload, bytes - 2);
		payload[2] = 9 << 3; // P_DATA_V2
	}
}

void stages_frame_outer(uint8_t frame[STAGES_OUTER_BYTES], uint32_t i)
{
	uint32_t bytes = STAGES_OUTER_BYTES - ETHER, kind = i % STAGES_OUTER_KINDS;
	uint32_t id = i / STAGES_OUTER_KINDS + 1, flow = id % N_TCP_FLOWS;
	uint8_t *type = begin(frame, STAGES_OUTER_BYTES), *at;

	switch (kind) {
	case 3:
		at = put_udp(put_ipv4(type, bytes, PROTO_UDP, id, 0), 4500, 4500, bytes - IPV4);
		put_be16(at, 0x1234); // an SPI that is not 0
		break;
	case 4:
		(void)put_udp(put_ipv4(type, bytes, PROTO_UDP, id, 0), 500, 500, bytes - IPV4);
		break;
	case 5:
		(void)put_udp(put_ipv4(type, bytes, PROTO_UDP, id, 0), 40000, 1194, bytes - IPV4);
		break;
	case 6:
	case 7:
		at = put_tcp(put_ipv4(type, bytes, PROTO_TCP, flow, 0), 40000 + kind, 443);
		put_shared(at, bytes - IPV4 - TCP, kind == 7);
		break;
	default:
		put_be16(put_ipv4(type, bytes, PROTO_ESP, id, 0), 0x1234);
		break;
	}
}
