/* esp_names.h - the algorithms of ESP by name, as a person writes an SA down, and keys that fit them.
 *
 * Names:   Wireshark's of its esp_sa file, exactly; ours for what it lacks, in its style; and the short
 *          names of filters/esp_algorithm.h.
 * Flow:    esp_sa_file.c, sa_json.c -> struct esp_choice -> struct sa_record
 * Threads: constants.
 * Secrets: no sentence shows a byte of a key, only how long it is.
 * Proof:   tests/test_esp_sa_file.c, tests/oracle_esp_sa.py
 */
#ifndef GATECAP_CONTROL_ESP_NAMES_H
#define GATECAP_CONTROL_ESP_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "filters/esp_algorithm.h"

enum { ESP_KEYS_TEXT_MAX = 64, ESP_ALGORITHM_TEXT_MAX = 64 };

struct esp_cipher_name {
	const char *name;
	uint8_t cipher;	   // enum esp_cipher
	uint8_t icv_bytes; // of an AEAD whose name says it; 0: the name does not
	bool is_ours;	   // Wireshark 4.0 refuses a file with it
};

struct esp_auth_name {
	const char *name;
	uint8_t auth;	   // enum esp_auth
	uint8_t icv_bytes; // of ESP_AUTH_UNCHECKED; else the algorithm's
	bool is_ours;
};

/* A name as it stands in the file; NULL: there is none such. */
const struct esp_cipher_name *esp_cipher_find(const char *name);
const struct esp_auth_name *esp_auth_find(const char *name);

/* The known name that is nearest to it. */
const char *esp_cipher_nearest(const char *name);
const char *esp_auth_nearest(const char *name);

/* "AES-CBC, HMAC-SHA-256-128": the names without the brackets with their sources, for people.  auth NULL:
 * there is none.
 */
void esp_algorithm_text(const char *cipher, const char *auth, char text[ESP_ALGORITHM_TEXT_MAX]);

/* All names, in order; NULL behind the last. */
const struct esp_cipher_name *esp_cipher_name_at(unsigned i);
const struct esp_auth_name *esp_auth_name_at(unsigned i);

/* "20, 28 or 36 bytes, the salt of 4 included".  Gives text. */
char *esp_cipher_keys_text(enum esp_cipher cipher, char text[ESP_KEYS_TEXT_MAX]);

#endif
