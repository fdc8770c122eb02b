/* build_packet.h - frames for tests, layer by layer, and a page that faults behind them.
 *
 * Usage:   start with {0}, put_ether() or put_vlan()..., put_ipv4() or put_ipv6(), extension headers,
 *          one transport header, payload; then fix_lengths() writes the IP and UDP lengths.
 * Memory:  plain, by value.  guard_copy() gives a copy whose last byte is the last of a page, with
 *          nothing readable behind; it stays valid until the next call.
 */
#ifndef GATECAP_TESTS_BUILD_PACKET_H
#define GATECAP_TESTS_BUILD_PACKET_H

#include <stdint.h>

enum { BUILD_BYTES_MAX = 4096 };

struct build {
	uint8_t bytes[BUILD_BYTES_MAX];
	uint32_t len;
	uint32_t l3, udp; // offsets; 0: none
};

/* Addresses: 192.0.2.1 -> 192.0.2.254, 2001:db8::1 -> 2001:db8::fe. */
void put_bytes(struct build *b, const void *data, uint32_t len);
void put_zeros(struct build *b, uint32_t len);
void put_be16(struct build *b, uint16_t value);
void put_ether(struct build *b, uint16_t type);
/* Another tag: the EtherType before becomes `tpid`, then `type` follows. */
void put_vlan(struct build *b, uint16_t tpid, uint16_t type);
/* fragment: the 16 bits of flags and offset. */
void put_ipv4(struct build *b, uint8_t protocol, uint16_t id, uint16_t fragment);
void put_ipv6(struct build *b, uint8_t next);
/* Hop-by-hop, routing or destination header of 8 * (extra + 1) bytes. */
void put_options(struct build *b, uint8_t next, uint8_t extra);
void put_fragment(struct build *b, uint8_t next, uint16_t offset_and_more, uint32_t id);
/* AH with an ICV of 12 bytes. */
void put_ah(struct build *b, uint8_t next);
void put_udp(struct build *b, uint16_t sport, uint16_t dport);
void put_tcp(struct build *b, uint16_t sport, uint16_t dport, uint8_t tcp_flags);
void swap_addresses(struct build *b);
void fix_lengths(struct build *b);

/* NULL ends the process: a test without its guard proves nothing. */
const uint8_t *guard_copy(const void *data, uint32_t len);

/* xorshift64*; *state is not 0. */
uint64_t random_next(uint64_t *state);
/* A seed from the clock or from GATECAP_SEED, printed. */
uint64_t random_seed(const char *test);

#endif
