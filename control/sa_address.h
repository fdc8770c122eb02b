/* sa_address.h - addresses and SPIs with wildcards, as Wireshark's esp_sa has them.
 *
 * IPv4:    "*", or four numbers or * (192.0.2.*), with /LENGTH or without.
 * IPv6:    "*", or groups of hexadecimal digits in which * stands for one digit (2001:db8::1*), with
 *          :: and /LENGTH or without.
 * SPI:     "*", a number as in C (0x1f, 31, 037), or 0x and eight digits of which some are *.
 * Threads: any.
 * Proof:   tests/test_sa_address.c, tests/oracle_esp_sa.py
 */
#ifndef GATECAP_CONTROL_SA_ADDRESS_H
#define GATECAP_CONTROL_SA_ADDRESS_H

#include <stdbool.h>

#include "filters/sa_set.h"

enum { SA_ADDRESS_TEXT_MAX = 64, SA_SPI_TEXT_MAX = 16 };

/* 0 and *out, or -EINVAL, *why (a clause: "an octet is 0-255 or *") and *at: the offset of what is wrong. */
int sa_address_parse(const char *text, unsigned family, struct sa_address *out, const char **why,
		     size_t *at);
int sa_spi_parse(const char *text, uint32_t *spi, uint32_t *mask, const char **why, size_t *at);

/* May a sentence show it, though it stands in the wrong place: can it be no key?  Twelve bytes are shorter than
 * any key; an address has nothing but its digits, and something between them.
 */
bool sa_text_is_no_key(const char *text);

/* What the parsers read back as the same.  Give text. */
char *sa_address_text(const struct sa_address *address, char text[SA_ADDRESS_TEXT_MAX]);
char *sa_spi_text(uint32_t spi, uint32_t mask, char text[SA_SPI_TEXT_MAX]);

#endif
