/* build_esp.h - ESP packets for tests, encrypted with NULL: their bytes are those on the wire.
 *
 * Usage:   as build_packet.h; put_spi(), what is inside, put_trailer().
 */
#ifndef GATECAP_TESTS_BUILD_ESP_H
#define GATECAP_TESTS_BUILD_ESP_H

#include "tests/build_packet.h"

enum { BUILD_ICV = 12 };
enum build_protocol { IPIP = 4, TCP = 6, UDP = 17, IPV6 = 41, ESP = 50, NONE = 59 };

void put_spi(struct build *b, uint32_t spi); // and sequence number 1
/* Padding 1, 2, 3 ..., its length, the next header, an ICV of BUILD_ICV zeros. */
void put_trailer(struct build *b, uint8_t pad, uint8_t next);
void fix_checksum(uint8_t *ip); // of an IPv4 header

/* An IPv4 packet with TCP, 10.1.0.1:4000 -> 10.2.0.1:80 and so many bytes of data, as a frame of its own. */
struct build inner_frame(uint8_t flags, uint32_t n_data);

/* It in ESP, 192.0.2.1 -> 192.0.2.254. */
struct build tunnel(uint32_t spi, const struct build *inner);

/* It in ESP behind RFC 9329's length. */
void put_tcp_message(struct build *b, uint32_t spi, const struct build *inner);

#endif
