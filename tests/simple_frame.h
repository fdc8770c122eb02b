/* simple_frame.h - the few frames that the tests behind classify need: Ethernet, IPv4, one payload. */
#ifndef GATECAP_TESTS_SIMPLE_FRAME_H
#define GATECAP_TESTS_SIMPLE_FRAME_H

#include <stdint.h>
#include <string.h>

enum { FRAME_L4 = 14 + 20, FRAME_BYTES_MAX = 256 };

struct simple_frame {
	uint32_t src, dst; // host order
	uint8_t protocol;
	uint16_t sport, dport;
	uint8_t tcp_flags;
	uint16_t id, fragment; // fragment: the 16 bits of flags and offset
	uint32_t n_payload;
	const uint8_t *payload; // NULL: bytes 0x55
};

static inline void frame_be16(uint8_t *at, uint16_t v)
{
	at[0] = (uint8_t)(v >> 8);
	at[1] = (uint8_t)v;
}

static inline void frame_be32(uint8_t *at, uint32_t v)
{
	frame_be16(at, (uint16_t)(v >> 16));
	frame_be16(at + 2, (uint16_t)v);
}

/* A transport header where there is one (none in a later fragment); its length. */
static inline uint32_t frame_transport(uint8_t *at, const struct simple_frame *f)
{
	if ((f->fragment & 0x1fff) != 0 || (f->protocol != 6 && f->protocol != 17))
		return 0;
	frame_be16(at, f->sport);
	frame_be16(at + 2, f->dport);
	if (f->protocol == 17) {
		frame_be16(at + 4, (uint16_t)(8 + f->n_payload));
		return 8;
	}
	at[12] = 5 << 4;
	at[13] = f->tcp_flags;
	return 20;
}

/* Write the frame; gives its length. */
static inline uint32_t frame_write(const struct simple_frame *f, uint8_t buf[FRAME_BYTES_MAX])
{
	uint8_t *ip = buf + 14;
	uint32_t header, len;

	memset(buf, 0, FRAME_BYTES_MAX);
	memcpy(buf, "\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0", 14);
	header = frame_transport(buf + FRAME_L4, f);
	len = FRAME_L4 + header + f->n_payload;
	if (f->payload != NULL)
		memcpy(buf + FRAME_L4 + header, f->payload, f->n_payload);
	else
		memset(buf + FRAME_L4 + header, 0x55, f->n_payload);
	ip[0] = 0x45;
	frame_be16(ip + 2, (uint16_t)(len - 14));
	frame_be16(ip + 4, f->id);
	frame_be16(ip + 6, f->fragment);
	ip[8] = 64;
	ip[9] = f->protocol;
	frame_be32(ip + 12, f->src);
	frame_be32(ip + 16, f->dst);
	return len;
}

#endif
