/* subnet.c - address ranges as text.
 *
 * inet_pton decides what an address is (it knows no 010.1.0.0, no 10.1, no zone index), so that
 * gatecap, Wireshark and the kernel agree.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "filters/filter_data.h"

/* A plain decimal number without leading zeros, at most three digits; -1 for anything else. */
static int prefix_parse(const char *text)
{
	int value = 0;
	size_t len = strlen(text);

	if (len == 0 || len > 3 || (text[0] == '0' && len > 1))
		return -1;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return -1;
		value = value * 10 + (*text - '0');
	}
	return value;
}

/* Clear what lies behind the prefix.  Returns whether anything was set there. */
static bool mask_host_bits(struct subnet *subnet)
{
	unsigned n_bytes = subnet->family == 4 ? 4 : 16;
	bool had = false;

	for (unsigned i = 0; i < n_bytes; i++) {
		int bits = subnet->prefix_len - (int)(8 * i); // of this byte, that stay
		unsigned mask = bits >= 8 ? 0xff : bits <= 0 ? 0 : 0xffu << (8 - bits) & 0xff;

		had |= (subnet->addr[i] & ~mask) != 0;
		subnet->addr[i] = (uint8_t)(subnet->addr[i] & mask);
	}
	return had;
}

int subnet_parse(const char *text, struct subnet *out, bool *had_host_bits, const char **why)
{
	const char *slash = strchr(text, '/');
	size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
	char address[INET6_ADDRSTRLEN];
	struct subnet subnet = {.family = memchr(text, ':', len) != NULL ? 6 : 4};
	int prefix_max = subnet.family == 4 ? 32 : 128, prefix = prefix_max;

	*why = "must be an IPv4 or IPv6 address, or one with a prefix length, such as 10.1.0.0/24 "
	       "or 2001:db8::/32";
	if (len >= sizeof(address))
		return -EINVAL;
	memcpy(address, text, len);
	address[len] = '\0';
	if (inet_pton(subnet.family == 4 ? AF_INET : AF_INET6, address, subnet.addr) != 1)
		return -EINVAL;
	if (slash != NULL)
		prefix = prefix_parse(slash + 1);
	if (prefix < 0 || prefix > prefix_max) {
		*why = subnet.family == 4 ? "prefix length is 0-32" : "prefix length is 0-128";
		return -EINVAL;
	}
	subnet.prefix_len = (uint8_t)prefix;
	*had_host_bits = mask_host_bits(&subnet);
	*out = subnet;
	return 0;
}

char *subnet_text(const struct subnet *subnet, char text[SUBNET_TEXT_MAX])
{
	char address[INET6_ADDRSTRLEN] = "";

	(void)inet_ntop(subnet->family == 4 ? AF_INET : AF_INET6, subnet->addr, address,
			sizeof(address));
	(void)snprintf(text, SUBNET_TEXT_MAX, "%s/%u", address, subnet->prefix_len);
	return text;
}
