/* esp_sa_dump.c - print what is read of a file of SAs, keys too, for oracle_esp_sa.py: test keys only.
 *
 * One line an SA, fields with blanks between:
 *     line spi spi_mask src_family src_value src_mask dst_family dst_value dst_mask cipher auth icv_bytes
 *     encryption_key authentication_key mode esn esn_high connection
 * Hexadecimal without 0x, "-" for nothing; blanks of a connection's name as _.
 * Exit: 0; 1 and the sentence when the file is refused.
 */
#include <stdio.h>

#include "control/esp_sa_file.h"

static void print_bytes(const uint8_t *bytes, unsigned n)
{
	(void)putchar(' ');
	for (unsigned i = 0; i < n; i++)
		(void)printf("%02x", bytes[i]);
	if (n == 0)
		(void)putchar('-');
}

static void print_address(const struct sa_address *address)
{
	unsigned n = address->family == 4 ? 4 : 16;

	(void)printf(" %u", address->family);
	print_bytes(address->value, n);
	print_bytes(address->mask, n);
}

static void print_item(const struct sa_item *item)
{
	const struct sa_record *r = &item->record;

	(void)printf("%u %08x %08x", item->line, r->spi, r->spi_mask);
	print_address(&r->src);
	print_address(&r->dst);
	(void)printf(" %s %s %u", esp_ciphers[r->cipher].name, esp_auths[r->auth].name,
		     r->icv_bytes);
	print_bytes(r->enc_key, r->enc_key_bytes);
	print_bytes(r->auth_key, r->auth_key_bytes);
	(void)printf(" %u %d %u ", r->mode, (r->flags & SA_ESN) != 0, r->esn_high);
	for (const char *c = item->connection; *c != '\0'; c++)
		(void)putchar(*c == ' ' ? '_' : *c);
	(void)printf("%s\n", item->connection[0] == '\0' ? "-" : "");
}

int main(int argc, char **argv)
{
	struct sa_list list = {0};
	struct error err = {0};

	if (argc != 2) {
		(void)fprintf(stderr, "usage: esp_sa_dump FILE\n");
		return 2;
	}
	if (esp_sa_load(argv[1], &list, &err) != 0) {
		(void)fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	for (uint32_t i = 0; i < list.n; i++)
		print_item(&list.items[i]);
	sa_list_fini(&list);
	return 0;
}
