/* esp_key_double.c - esp_cipher.h without ciphers: an SA set that is looked up in and not decrypted with.
 *
 * A key is a copy of its record's bytes, so that a leak or a missing wipe is still found.
 */
#include <stdlib.h>
#include <string.h>

#include "dataplane/esp_cipher.h"

struct esp_key {
	uint8_t bytes[ESP_ENC_KEY_MAX];
};

struct esp_key *esp_key_open(const struct sa_record *record, bool verify, struct error *err)
{
	struct esp_key *key = malloc(sizeof(*key));

	(void)verify;
	(void)err;
	if (key != NULL)
		memcpy(key->bytes, record->enc_key, sizeof(key->bytes));
	return key;
}

void esp_key_close(struct esp_key *key)
{
	free(key);
}
