/* address.c - prefixes in one table, the first that fits wins.
 *
 * The table is short and read once per connection, so it is scanned from the top: exact services
 * first, since they lie inside wider ranges (169.254.169.254 is link-local too, and a user is helped
 * more by the word "metadata").
 */
#include "control/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

enum { V4_BYTES = 4, V6_BYTES = 16 };

struct prefix {
	enum address_class class;
	uint8_t n_bits;
	uint8_t bytes[V6_BYTES];
};

static const struct prefix v4_prefixes[] = {
	{ADDRESS_METADATA, 32, {169, 254, 169, 254}},
	{ADDRESS_METADATA, 32, {168, 63, 129, 16}},   // Azure's host agent: looks public
	{ADDRESS_METADATA, 32, {100, 100, 100, 200}}, // Alibaba
	{ADDRESS_METADATA, 24, {192, 0, 0}},	      // Oracle's 192.0.0.192; special use anyway
	{ADDRESS_LINK_LOCAL, 16, {169, 254}},
	{ADDRESS_LOOPBACK, 8, {127}},
	{ADDRESS_PRIVATE, 8, {10}},
	{ADDRESS_PRIVATE, 12, {172, 16}},
	{ADDRESS_PRIVATE, 16, {192, 168}},
	{ADDRESS_PRIVATE, 10, {100, 64}},
	{ADDRESS_UNUSABLE, 8, {0}},
	{ADDRESS_UNUSABLE, 3, {224}}, // multicast, reserved, broadcast
};

static const struct prefix v6_prefixes[] = {
	{ADDRESS_METADATA, 128, {0xfd, 0, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54}},
	{ADDRESS_LOOPBACK, 128, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}},
	{ADDRESS_UNUSABLE, 128, {0}},
	{ADDRESS_LINK_LOCAL, 10, {0xfe, 0x80}},
	{ADDRESS_PRIVATE, 10, {0xfe, 0xc0}}, // site-local, deprecated
	{ADDRESS_PRIVATE, 7, {0xfc}},
	{ADDRESS_UNUSABLE, 8, {0xff}},
};

/* IPv6 prefixes that carry an IPv4 address, and where. */
static const struct {
	uint8_t n_bits, offset;
	uint8_t bytes[V6_BYTES];
} v6_carriers[] = {
	{96, 12, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}}, // mapped
	{96, 12, {0}},					      // compatible, deprecated
	{96, 12, {0x00, 0x64, 0xff, 0x9b}},		      // NAT64
	{16, 2, {0x20, 0x02}},				      // 6to4
};

static bool prefix_holds(const uint8_t *prefix, unsigned n_bits, const uint8_t *address)
{
	unsigned whole = n_bits / 8, rest = n_bits % 8;

	if (memcmp(prefix, address, whole) != 0)
		return false;
	return rest == 0 || (prefix[whole] ^ address[whole]) >> (8 - rest) == 0;
}

static enum address_class look_up(const struct prefix *table, size_t n, const uint8_t *address)
{
	for (size_t i = 0; i < n; i++) {
		if (prefix_holds(table[i].bytes, table[i].n_bits, address))
			return table[i].class;
	}
	return ADDRESS_PUBLIC;
}

static enum address_class classify_v4(const uint8_t *address)
{
	return look_up(v4_prefixes, sizeof(v4_prefixes) / sizeof(v4_prefixes[0]), address);
}

static enum address_class classify_v6(const uint8_t *address)
{
	enum address_class class =
		look_up(v6_prefixes, sizeof(v6_prefixes) / sizeof(v6_prefixes[0]), address);

	if (class != ADDRESS_PUBLIC)
		return class;
	for (size_t i = 0; i < sizeof(v6_carriers) / sizeof(v6_carriers[0]); i++) {
		if (prefix_holds(v6_carriers[i].bytes, v6_carriers[i].n_bits, address))
			return classify_v4(address + v6_carriers[i].offset);
	}
	return ADDRESS_PUBLIC;
}

enum address_class address_classify(const struct sockaddr *address)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;

	if (address->sa_family == AF_INET) {
		memcpy(&v4, address, sizeof(v4));
		return classify_v4((const uint8_t *)&v4.sin_addr);
	}
	if (address->sa_family == AF_INET6) {
		memcpy(&v6, address, sizeof(v6));
		return classify_v6(v6.sin6_addr.s6_addr);
	}
	return ADDRESS_UNUSABLE;
}

const char *address_class_name(enum address_class class)
{
	switch (class) {
	case ADDRESS_PUBLIC:
		return "a public address";
	case ADDRESS_PRIVATE:
		return "a private address";
	case ADDRESS_LOOPBACK:
		return "a loopback address, which is this machine";
	case ADDRESS_LINK_LOCAL:
		return "a link-local address";
	case ADDRESS_METADATA:
		return "the address of a cloud's metadata service";
	case ADDRESS_UNUSABLE:
		break;
	}
	return "not the address of a host";
}

bool address_parse(const char *text, struct sockaddr_storage *out)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	char bare[INET6_ADDRSTRLEN];
	size_t len = strlen(text);

	if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
		text++;
		len -= 2;
	}
	if (len >= sizeof(bare))
		return false;
	memcpy(bare, text, len);
	bare[len] = '\0';
	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, bare, &v4.sin_addr) == 1)
		memcpy(out, &v4, sizeof(v4));
	else if (inet_pton(AF_INET6, bare, &v6.sin6_addr) == 1)
		memcpy(out, &v6, sizeof(v6));
	else
		return false;
	return true;
}

bool address_equal(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	struct sockaddr_in a4, b4;
	struct sockaddr_in6 a6, b6;

	if (a->ss_family != b->ss_family)
		return false;
	if (a->ss_family == AF_INET) {
		memcpy(&a4, a, sizeof(a4));
		memcpy(&b4, b, sizeof(b4));
		return a4.sin_addr.s_addr == b4.sin_addr.s_addr;
	}
	memcpy(&a6, a, sizeof(a6));
	memcpy(&b6, b, sizeof(b6));
	return a->ss_family == AF_INET6 && memcmp(&a6.sin6_addr, &b6.sin6_addr, V6_BYTES) == 0;
}
