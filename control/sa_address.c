/* sa_address.c - patterns to value and mask, and back.
 *
 * An address is taken apart into nibbles, since that is what a wildcard of Wireshark's stands for; a
 * LENGTH then cuts the mask at its bit.  (Wireshark cuts at nibbles: /22 is broken there.)  Refused: a
 * list of alternatives, or inet_pton() with * replaced by 0 and by f, which finds the same in two
 * parses and loses where the fault is.
 */
#include "control/sa_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "filters/hex.h"

enum { GROUPS = 8, SPI_DIGITS = 8, SHORTER_THAN_KEYS = 12 };

struct cursor {
	const char *text;
	size_t at, end; // the end of the address, in front of its /LENGTH
	const char *why;
};

static bool fails(struct cursor *c, const char *why)
{
	c->why = why;
	return false;
}

/* The decimal number at the cursor: at most three digits, at most max. */
static bool take_decimal(struct cursor *c, unsigned max, unsigned *out)
{
	unsigned value = 0, n = 0;

	while (c->text[c->at + n] >= '0' && c->text[c->at + n] <= '9' && n < 3)
		value = value * 10 + (unsigned)(c->text[c->at + n++] - '0');
	if (n == 0 || value > max)
		return false;
	c->at += n;
	*out = value;
	return true;
}

/* Clear the mask from bit `length` on. */
static bool cut_mask(struct cursor *c, unsigned bits, struct sa_address *out)
{
	unsigned length;

	if (c->text[c->end] == '\0')
		return true;
	c->at = c->end + 1;
	if (!take_decimal(c, bits, &length) || c->text[c->at] != '\0')
		return fails(c, bits == 32 ? "behind the / stands a length of 0-32"
					   : "behind the / stands a length of 0-128");
	for (unsigned i = length; i < bits; i++)
		out->mask[i / 8] &= (uint8_t) ~(0x80u >> i % 8);
	return true;
}

static bool take_v4(struct cursor *c, struct sa_address *out)
{
	if (strchr(c->text, ':') != NULL)
		return fails(c, "it is an IPv6 address, where one of IPv4 is expected");
	for (unsigned i = 0; i < 4; i++) {
		unsigned octet;

		if (i > 0 && c->text[c->at++] != '.') {
			c->at--;
			return fails(c, "an IPv4 address has four parts, 192.0.2.* for instance");
		}
		if (c->text[c->at] == '*') {
			c->at++;
			continue;
		}
		if (!take_decimal(c, 255, &octet))
			return fails(c, "a part of an IPv4 address is 0-255 or *");
		out->value[i] = (uint8_t)octet;
		out->mask[i] = 0xff;
	}
	return c->at == c->end ? true : fails(c, "the IPv4 address ends before this");
}

/* One group of one to four digits; * is a digit of any value.  Missing ones, on the left, are 0. */
static bool take_group(struct cursor *c, uint16_t *value, uint16_t *mask)
{
	unsigned n = 0;

	*value = 0;
	*mask = 0xffff;
	for (; n < 4; n++, c->at++) {
		char digit = c->text[c->at];
		int nibble = digit == '*' ? 0 : hex_value(digit);

		if (nibble < 0)
			break;
		*value = (uint16_t)(*value << 4 | nibble);
		*mask = (uint16_t)(*mask << 4 | (digit == '*' ? 0 : 0xf));
	}
	return n > 0;
}

static void put_group(struct sa_address *out, unsigned i, uint16_t value, uint16_t mask)
{
	out->value[2 * i] = (uint8_t)(value >> 8);
	out->value[2 * i + 1] = (uint8_t)value;
	out->mask[2 * i] = (uint8_t)(mask >> 8);
	out->mask[2 * i + 1] = (uint8_t)mask;
}

/* Groups into values and masks; *gap is how many stand in front of ::, or GROUPS. */
static bool take_groups(struct cursor *c, uint16_t *values, uint16_t *masks, unsigned *n,
			unsigned *gap)
{
	while (c->at < c->end) {
		bool is_gap = c->text[c->at] == ':' && c->text[c->at + 1] == ':';

		if (is_gap && *gap < GROUPS)
			return fails(c, ":: may stand there once");
		if (is_gap) {
			*gap = *n;
			c->at += 2;
			continue;
		}
		if (*n > 0 && *gap != *n && c->text[c->at++] != ':') {
			c->at--;
			return fails(c, "groups of an IPv6 address have one to four hexadecimal "
					"digits or *, with : between them");
		}
		if (*n == GROUPS)
			return fails(c, "an IPv6 address has eight groups");
		if (!take_group(c, &values[*n], &masks[*n]))
			return fails(c, "a group of an IPv6 address has one to four hexadecimal "
					"digits or *");
		++*n;
	}
	return true;
}

static bool take_v6(struct cursor *c, struct sa_address *out)
{
	uint16_t values[GROUPS], masks[GROUPS];
	unsigned n = 0, gap = GROUPS;

	if (strchr(c->text, '.') != NULL)
		return fails(
			c,
			"it is an IPv4 address, where one of IPv6 in hexadecimal digits is expected");
	if (!take_groups(c, values, masks, &n, &gap))
		return false;
	if (gap == GROUPS ? n != GROUPS : n == GROUPS)
		return fails(c, "an IPv6 address has eight groups; :: stands for those left out");
	memset(out->mask, 0xff, sizeof(out->mask));
	for (unsigned i = 0; i < n; i++)
		put_group(out, i < gap ? i : GROUPS - n + i, values[i], masks[i]);
	return true;
}

int sa_address_parse(const char *text, unsigned family, struct sa_address *out, const char **why,
		     size_t *at)
{
	struct cursor c = {.text = text, .end = strcspn(text, "/")};
	struct sa_address address = {.family = (uint8_t)family};
	bool is_sound;

	if (c.end == 0)
		is_sound = fails(&c, "it is empty; * stands for any address");
	else if (c.end == 1 && text[0] == '*')
		is_sound = true;
	else
		is_sound = family == 4 ? take_v4(&c, &address) : take_v6(&c, &address);
	if (!is_sound || !cut_mask(&c, family == 4 ? 32 : 128, &address)) {
		*why = c.why;
		*at = c.at;
		return -EINVAL;
	}
	for (unsigned i = 0; i < sizeof(address.value); i++)
		address.value[i] &= address.mask[i];
	*out = address;
	return 0;
}

/* ---- SPIs ---- */

static const char spi_is[] =
	"an SPI is a number such as 0x12345678, or 0x and eight digits of which some are *, or *";

static bool has_prefix(const char *text)
{
	return text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
}

static bool spi_pattern(struct cursor *c, uint32_t *spi, uint32_t *mask)
{
	*spi = *mask = 0;
	if (c->end != 2 + SPI_DIGITS || !has_prefix(c->text))
		return fails(c, "with * in it an SPI has to have 0x and all of its eight digits");
	for (c->at = 2; c->at < c->end; c->at++) {
		char digit = c->text[c->at];
		int nibble = digit == '*' ? 0 : hex_value(digit);

		if (nibble < 0)
			return fails(c, spi_is);
		*spi = *spi << 4 | (uint32_t)nibble;
		*mask = *mask << 4 | (digit == '*' ? 0 : 0xf);
	}
	return true;
}

static bool spi_number(struct cursor *c, uint32_t *spi)
{
	unsigned base = has_prefix(c->text) ? 16 : c->text[0] == '0' ? 8 : 10;
	uint64_t value = 0;

	c->at = base == 16 ? 2 : 0;
	if (c->at == c->end)
		return fails(c, spi_is);
	for (; c->at < c->end; c->at++) {
		int digit = hex_value(c->text[c->at]);

		if (digit < 0 || digit >= (int)base)
			return fails(c, base == 8 ? "with a leading 0 an SPI is octal, as in C"
						  : spi_is);
		value = value * base + (unsigned)digit;
		if (value > UINT32_MAX)
			return fails(c, "an SPI has 32 bits");
	}
	*spi = (uint32_t)value;
	return true;
}

int sa_spi_parse(const char *text, uint32_t *spi, uint32_t *mask, const char **why, size_t *at)
{
	struct cursor c = {.text = text, .end = strlen(text)};
	uint32_t value = 0, bits = UINT32_MAX;
	bool is_sound = true;

	if (strcmp(text, "*") == 0)
		bits = 0;
	else if (strchr(text, '*') != NULL)
		is_sound = spi_pattern(&c, &value, &bits);
	else
		is_sound = spi_number(&c, &value);
	if (!is_sound) {
		*why = c.why;
		*at = c.at;
		return -EINVAL;
	}
	*spi = value;
	*mask = bits;
	return 0;
}

bool sa_text_is_no_key(const char *text)
{
	size_t len = strlen(text);

	if (len <= SHORTER_THAN_KEYS)
		return true;
	return len < INET6_ADDRSTRLEN && strpbrk(text, ".:") != NULL &&
	       strspn(text, "0123456789abcdefABCDEF.:*/") == len;
}

/* ---- Back to text ---- */

char *sa_spi_text(uint32_t spi, uint32_t mask, char text[SA_SPI_TEXT_MAX])
{
	if (mask == 0)
		return strcpy(text, "*");
	(void)snprintf(text, SA_SPI_TEXT_MAX, "0x%08x", spi);
	for (unsigned i = 0; i < SPI_DIGITS; i++)
		if ((mask >> 4 * (SPI_DIGITS - 1 - i) & 0xf) == 0)
			text[2 + i] = '*';
	return text;
}

static void v4_text(const struct sa_address *a, char *text)
{
	size_t at = 0;

	for (unsigned i = 0; i < 4; i++)
		at += (size_t)snprintf(text + at, SA_ADDRESS_TEXT_MAX - at,
				       a->mask[i] == 0 ? "%s*" : "%s%u", i > 0 ? "." : "",
				       a->value[i]);
}

static void v6_text(const struct sa_address *a, char *text)
{
	size_t at = 0;

	for (unsigned i = 0; i < 2 * sizeof(a->value); i++) {
		unsigned shift = i % 2 == 0 ? 4 : 0;

		if (i > 0 && i % 4 == 0)
			text[at++] = ':';
		text[at++] = (a->mask[i / 2] >> shift & 0xf) == 0
				     ? '*'
				     : "0123456789abcdef"[a->value[i / 2] >> shift & 0xf];
	}
	text[at] = '\0';
}

static bool has_bit(const uint8_t *mask, unsigned i)
{
	return (mask[i / 8] >> (7 - i % 8) & 1) != 0;
}

char *sa_address_text(const struct sa_address *address, char text[SA_ADDRESS_TEXT_MAX])
{
	unsigned bits = address->family == 4 ? 32 : 128, end = bits, n_ones = 0;
	bool is_prefix;

	while (end > 0 && !has_bit(address->mask, end - 1))
		end--;
	while (n_ones < end && has_bit(address->mask, n_ones))
		n_ones++;
	if (end == 0)
		return strcpy(text, "*");
	is_prefix = n_ones == end;
	if (is_prefix)
		(void)inet_ntop(address->family == 4 ? AF_INET : AF_INET6, address->value, text,
				SA_ADDRESS_TEXT_MAX);
	else if (address->family == 4)
		v4_text(address, text);
	else
		v6_text(address, text);
	// A pattern's own * say where it ends, but for a bit in the midst of one.
	if (is_prefix ? end < bits : end % (address->family == 4 ? 8 : 4) != 0)
		(void)snprintf(text + strlen(text), 5, "/%u", end);
	return text;
}
