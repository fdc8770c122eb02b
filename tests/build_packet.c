/* build_packet.c - the plainest way to write each header. */
#include "tests/build_packet.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { GUARD_BYTES = 1 << 19, PAGE_BYTES = 4096 };

void put_bytes(struct build *b, const void *data, uint32_t len)
{
	assert(b->len + len <= sizeof(b->bytes));
	if (len > 0) // data may be NULL then, which memcpy() may not be given
		memcpy(b->bytes + b->len, data, len);
	b->len += len;
}

void put_zeros(struct build *b, uint32_t len)
{
	assert(b->len + len <= sizeof(b->bytes));
	memset(b->bytes + b->len, 0, len);
	b->len += len;
}

void put_be16(struct build *b, uint16_t value)
{
	put_bytes(b, (uint8_t[]){(uint8_t)(value >> 8), (uint8_t)value}, 2);
}

void put_ether(struct build *b, uint16_t type)
{
	put_bytes(b, "\2\0\0\0\0\2\2\0\0\0\0\1", 12);
	put_be16(b, type);
}

void put_vlan(struct build *b, uint16_t tpid, uint16_t type)
{
	b->len -= 2;
	put_be16(b, tpid);
	put_be16(b, 100);
	put_be16(b, type);
}

void put_ipv4(struct build *b, uint8_t protocol, uint16_t id, uint16_t fragment)
{
	b->l3 = b->len;
	put_bytes(b, "\x45\0\0\0", 4);
	put_be16(b, id);
	put_be16(b, fragment);
	put_bytes(b, (uint8_t[]){64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 254}, 12);
}

void put_ipv6(struct build *b, uint8_t next)
{
	b->l3 = b->len;
	put_bytes(b, (uint8_t[]){0x60, 0, 0, 0, 0, 0, next, 64}, 8);
	put_bytes(b, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01", 16);
	put_bytes(b, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\xfe", 16);
}

void put_options(struct build *b, uint8_t next, uint8_t extra)
{
	put_bytes(b, (uint8_t[]){next, extra}, 2);
	put_zeros(b, 6 + 8u * extra);
}

void put_fragment(struct build *b, uint8_t next, uint16_t offset_and_more, uint32_t id)
{
	put_bytes(b, (uint8_t[]){next, 0}, 2);
	put_be16(b, offset_and_more);
	put_be16(b, (uint16_t)(id >> 16));
	put_be16(b, (uint16_t)id);
}

void put_ah(struct build *b, uint8_t next)
{
	put_bytes(b, (uint8_t[]){next, 4}, 2);
	put_zeros(b, 22);
}

void put_udp(struct build *b, uint16_t sport, uint16_t dport)
{
	b->udp = b->len;
	put_be16(b, sport);
	put_be16(b, dport);
	put_zeros(b, 4);
}

void put_tcp(struct build *b, uint16_t sport, uint16_t dport, uint8_t tcp_flags)
{
	put_be16(b, sport);
	put_be16(b, dport);
	put_zeros(b, 8);
	put_bytes(b, (uint8_t[]){5 << 4, tcp_flags, 1, 0, 0, 0, 0, 0}, 8);
}

void swap_addresses(struct build *b)
{
	int v4 = b->bytes[b->l3] >> 4 == 4;
	uint8_t kept[16], *src = b->bytes + b->l3 + (v4 ? 12 : 8);
	size_t n = v4 ? 4 : 16;

	memcpy(kept, src, n);
	memcpy(src, src + n, n);
	memcpy(src + n, kept, n);
}

static void patch_be16(struct build *b, uint32_t at, uint32_t value)
{
	b->bytes[at] = (uint8_t)(value >> 8);
	b->bytes[at + 1] = (uint8_t)value;
}

void fix_lengths(struct build *b)
{
	if (b->l3 != 0 && b->bytes[b->l3] >> 4 == 4)
		patch_be16(b, b->l3 + 2, b->len - b->l3);
	else if (b->l3 != 0)
		patch_be16(b, b->l3 + 4, b->len - b->l3 - 40);
	if (b->udp != 0)
		patch_be16(b, b->udp + 4, b->len - b->udp);
}

const uint8_t *guard_copy(const void *data, uint32_t len)
{
	static uint8_t *end;

	assert(len <= GUARD_BYTES);
	if (end == NULL) {
		uint8_t *map = mmap(NULL, GUARD_BYTES + PAGE_BYTES, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (map == MAP_FAILED || mprotect(map + GUARD_BYTES, PAGE_BYTES, PROT_NONE) != 0)
			abort();
		end = map + GUARD_BYTES;
	}
	if (len > 0)
		memcpy(end - len, data, len);
	return end - len;
}

uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1d;
}

uint64_t random_seed(const char *test)
{
	const char *given = getenv("GATECAP_SEED");
	struct timespec now;
	uint64_t seed;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	seed = given != NULL ? strtoull(given, NULL, 0)
			     : (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	seed |= 1;
	printf("%s: GATECAP_SEED=%llu\n", test, (unsigned long long)seed);
	return seed;
}
