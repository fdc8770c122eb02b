/* build_esp.c - see build_esp.h. */
#include "tests/build_esp.h"

#include <string.h>

void put_spi(struct build *b, uint32_t spi)
{
	put_be16(b, (uint16_t)(spi >> 16));
	put_be16(b, (uint16_t)spi);
	put_be16(b, 0);
	put_be16(b, 1); // sequence number
}

void put_trailer(struct build *b, uint8_t pad, uint8_t next)
{
	for (uint8_t i = 1; i <= pad; i++)
		put_bytes(b, &i, 1);
	put_bytes(b, (uint8_t[]){pad, next}, 2);
	put_zeros(b, BUILD_ICV);
}

void fix_checksum(uint8_t *ip)
{
	uint32_t sum = 0;

	ip[10] = ip[11] = 0;
	for (unsigned i = 0; i < (ip[0] & 15u) * 4; i += 2)
		sum += (uint32_t)(ip[i] << 8 | ip[i + 1]);
	sum = (sum & 0xffff) + (sum >> 16);
	sum += sum >> 16;
	ip[10] = (uint8_t)(~sum >> 8);
	ip[11] = (uint8_t)~sum;
}

struct build inner_frame(uint8_t flags, uint32_t n_data)
{
	struct build b = {0};

	put_ether(&b, 0x0800);
	put_ipv4(&b, TCP, 7, 0);
	memcpy(b.bytes + b.l3 + 12, "\x0a\x01\x00\x01\x0a\x02\x00\x01", 8);
	put_tcp(&b, 4000, 80, flags);
	for (uint32_t i = 0; i < n_data; i++)
		put_bytes(&b, (uint8_t[]){(uint8_t)i}, 1);
	fix_lengths(&b);
	fix_checksum(b.bytes + b.l3);
	return b;
}

struct build tunnel(uint32_t spi, const struct build *inner)
{
	struct build b = {0};

	put_ether(&b, 0x0800);
	put_ipv4(&b, ESP, 1, 0);
	put_spi(&b, spi);
	put_bytes(&b, inner->bytes + inner->l3, inner->len - inner->l3);
	put_trailer(&b, 2, inner->bytes[inner->l3] >> 4 == 6 ? IPV6 : IPIP);
	fix_lengths(&b);
	return b;
}

void put_tcp_message(struct build *b, uint32_t spi, const struct build *inner)
{
	put_be16(b, (uint16_t)(2 + 8 + inner->len - 14 + 2 + 2 + BUILD_ICV));
	put_spi(b, spi);
	put_bytes(b, inner->bytes + 14, inner->len - 14);
	put_trailer(b, 2, IPIP);
}
