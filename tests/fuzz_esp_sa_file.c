/* fuzz_esp_sa_file.c - any bytes as a file of SAs, and as one SA in JSON: an answer, and SAs that may be used.
 *
 * Input:   the text; one that begins with { is JSON.
 * Checked: what is accepted keeps the rules of sa_set.h and is written back as it was read; what is refused
 *          leaves nothing and has a sentence that steers no terminal.
 */
#include "control/esp_sa_file.h"
#include "control/sa_address.h"
#include "control/sa_json.h"
#include "tests/fuzz_insist.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_printable(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return false;
	return true;
}

static void check_address(const struct sa_address *address)
{
	char text[SA_ADDRESS_TEXT_MAX];
	struct sa_address back;
	const char *why;
	size_t at;

	insist(address->family == 4 || address->family == 6 || address->family == 0, "a family");
	for (unsigned i = 0; i < 16; i++)
		insist((address->value[i] & ~address->mask[i]) == 0, "no value outside the mask");
	if (address->family == 0)
		return;
	for (unsigned i = address->family == 4 ? 4 : 16; i < 16; i++)
		insist(address->mask[i] == 0, "IPv4 has four bytes");
	insist(sa_address_parse(sa_address_text(address, text), address->family, &back, &why,
				&at) == 0,
	       "an address reads as it is written");
	insist(memcmp(address, &back, sizeof(back)) == 0, "and is the same");
}

static void check_item(const struct sa_item *item)
{
	const struct sa_record *r = &item->record;

	check_address(&r->src);
	check_address(&r->dst);
	insist((r->spi & ~r->spi_mask) == 0, "no SPI outside the mask");
	insist(r->cipher < ESP_CIPHER_COUNT && r->auth < ESP_AUTH_COUNT, "known algorithms");
	insist(r->mode <= SA_MODE_TRANSPORT && (r->flags & ~SA_ESN) == 0, "mode and flags");
	insist(strnlen(item->connection, NAME_MAX_BYTES) < NAME_MAX_BYTES, "a name ends");
	insist(strnlen(item->algorithm, ALGORITHM_TEXT_MAX) < ALGORITHM_TEXT_MAX, "a text ends");
	insist(is_printable(item->connection) && is_printable(item->algorithm), "printable");
	if (r->cipher == ESP_UNSUPPORTED) {
		insist(r->enc_key_bytes == 0 && r->auth_key_bytes == 0, "no keys");
		return;
	}
	insist(esp_takes_key(r->cipher, r->enc_key_bytes), "a key that fits");
	insist(esp_takes_icv(r->cipher, r->auth, r->icv_bytes), "an ICV that fits");
	insist(esp_auths[r->auth].key_bytes == r->auth_key_bytes,
	       "an authentication key that fits");
}

static void read_json(const char *text, size_t size)
{
	struct faults faults = {0};
	struct sa_item item;

	for (int extent = SA_JSON_WHOLE; extent <= SA_JSON_NAME; extent++) {
		memset(&item, 0, sizeof(item));
		if (sa_json_parse(text, size, (enum sa_json_extent)extent, &item, &faults) == 0)
			check_item(&item);
		else
			insist(faults.n > 0, "refused means a fault");
	}
	for (unsigned i = 0; i < faults.n; i++)
		insist(is_printable(faults.list[i].text), "a fault steers no terminal");
	faults_fini(&faults);
}

static void read_file(const char *text, size_t size)
{
	struct sa_list list = {0};
	struct error err = {0};
	uint32_t line = 0;

	if (esp_sa_parse(text, size, "keys", &list, &err) != 0) {
		insist(list.n == 0 && list.items == NULL, "refused means nothing");
		insist(strncmp(err.text, "keys: line ", 11) == 0 && is_printable(err.text),
		       "a sentence that steers no terminal");
		return;
	}
	for (uint32_t i = 0; i < list.n; i++) {
		check_item(&list.items[i]);
		insist(list.items[i].line > line, "lines rise");
		line = list.items[i].line;
	}
	sa_list_fini(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 0 && data[0] == '{')
		read_json((const char *)data, size);
	else
		read_file((const char *)data, size);
	return 0;
}
