/* esp_names.c - two tables of names.
 *
 * AEADs whose ICV has several lengths have a name a length, as Wireshark's AES-GCM has: a file of eight
 * columns has no other place for it.  RIPEMD-160 is known by the length of its ICV alone: what is
 * encrypted can be read, and nothing is said of whether it is genuine.  IIV (RFC 8750) and the old
 * ciphers are known, so that a file with them is no wrong file, and are not decrypted.
 */
#include "control/esp_names.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "filters/json_place.h"

static const struct esp_cipher_name cipher_names[] = {
	{"NULL", ESP_NULL, 0, false},
	{"TripleDES-CBC [RFC2451]", ESP_3DES_CBC, 0, false},
	{"AES-CBC [RFC3602]", ESP_AES_CBC, 0, false},
	{"AES-CTR [RFC3686]", ESP_AES_CTR, 0, false},
	{"DES-CBC [RFC2405]", ESP_UNSUPPORTED, 0, false},
	{"CAST5-CBC [RFC2144]", ESP_UNSUPPORTED, 0, false},
	{"BLOWFISH-CBC [RFC2451]", ESP_UNSUPPORTED, 0, false},
	{"TWOFISH-CBC", ESP_UNSUPPORTED, 0, false},
	{"AES-GCM [RFC4106]", ESP_AES_GCM, 0, false},
	{"AES-GCM with 8 octet ICV [RFC4106]", ESP_AES_GCM, 8, false},
	{"AES-GCM with 12 octet ICV [RFC4106]", ESP_AES_GCM, 12, false},
	{"AES-GCM with 16 octet ICV [RFC4106]", ESP_AES_GCM, 16, false},
	// Later versions of Wireshark.
	{"AES-GCM with IIV and 16 octet ICV [RFC4106 & RFC8750]", ESP_UNSUPPORTED, 0, true},
	{"ChaCha20 with Poly1305 [RFC7634]", ESP_CHACHA20_POLY1305, 16, true},
	{"ChaCha20 with Poly1305 and IIV [RFC7634 & RFC8750]", ESP_UNSUPPORTED, 0, true},
	// Ours.
	{"ChaCha20-Poly1305 [RFC7634]", ESP_CHACHA20_POLY1305, 16, true},
	{"AES-CCM with 8 octet ICV [RFC4309]", ESP_AES_CCM, 8, true},
	{"AES-CCM with 12 octet ICV [RFC4309]", ESP_AES_CCM, 12, true},
	{"AES-CCM with 16 octet ICV [RFC4309]", ESP_AES_CCM, 16, true},
	{"AES-GMAC [RFC4543]", ESP_AES_GMAC, 16, true},
};

static const struct esp_auth_name auth_names[] = {
	{"NULL", ESP_AUTH_NONE, 0, false},
	{"HMAC-SHA-1-96 [RFC2404]", ESP_AUTH_HMAC_SHA1_96, 0, false},
	{"HMAC-SHA-256-96 [draft-ietf-ipsec-ciph-sha-256-00]", ESP_AUTH_HMAC_SHA256_96, 0, false},
	{"HMAC-SHA-256-128 [RFC4868]", ESP_AUTH_HMAC_SHA256_128, 0, false},
	{"HMAC-SHA-384-192 [RFC4868]", ESP_AUTH_HMAC_SHA384_192, 0, false},
	{"HMAC-SHA-512-256 [RFC4868]", ESP_AUTH_HMAC_SHA512_256, 0, false},
	{"HMAC-MD5-96 [RFC2403]", ESP_AUTH_HMAC_MD5_96, 0, false},
	{"MAC-RIPEMD-160-96 [RFC2857]", ESP_AUTH_UNCHECKED, 12, false},
	{"ANY 64 bit authentication [no checking]", ESP_AUTH_UNCHECKED, 8, false},
	{"ANY 96 bit authentication [no checking]", ESP_AUTH_UNCHECKED, 12, false},
	{"ANY 128 bit authentication [no checking]", ESP_AUTH_UNCHECKED, 16, false},
	{"ANY 192 bit authentication [no checking]", ESP_AUTH_UNCHECKED, 24, false},
	{"ANY 256 bit authentication [no checking]", ESP_AUTH_UNCHECKED, 32, false},
	// Ours.
	{"AES-XCBC-MAC-96 [RFC3566]", ESP_AUTH_AES_XCBC_96, 0, true},
};

enum {
	N_CIPHER_NAMES = sizeof(cipher_names) / sizeof(cipher_names[0]),
	N_AUTH_NAMES = sizeof(auth_names) / sizeof(auth_names[0]),
	NAME_BYTES_MAX = 64,
};

static_assert(N_AUTH_NAMES <= (unsigned)N_CIPHER_NAMES, "nearest() has room for these");

const struct esp_cipher_name *esp_cipher_name_at(unsigned i)
{
	return i < N_CIPHER_NAMES ? &cipher_names[i] : NULL;
}

const struct esp_auth_name *esp_auth_name_at(unsigned i)
{
	return i < N_AUTH_NAMES ? &auth_names[i] : NULL;
}

const struct esp_cipher_name *esp_cipher_find(const char *name)
{
	for (unsigned i = 0; i < N_CIPHER_NAMES; i++)
		if (strcmp(cipher_names[i].name, name) == 0)
			return &cipher_names[i];
	return NULL;
}

const struct esp_auth_name *esp_auth_find(const char *name)
{
	for (unsigned i = 0; i < N_AUTH_NAMES; i++)
		if (strcmp(auth_names[i].name, name) == 0)
			return &auth_names[i];
	return NULL;
}

/* How much of a name stands in front of the brackets. */
static int name_length(const char *name)
{
	const char *bracket = strstr(name, " [");

	return (int)(bracket != NULL ? (size_t)(bracket - name) : strlen(name));
}

/* Without the brackets, in which every name differs from what people write.  names[i] is at offset 0 of
 * each row.
 */
static const char *nearest(const char *name, const void *rows, size_t row_bytes, unsigned n)
{
	char bare[N_CIPHER_NAMES][NAME_BYTES_MAX], wanted[NAME_BYTES_MAX];
	const char *known[N_CIPHER_NAMES], *best, *names[N_CIPHER_NAMES];
	unsigned at = 0;

	for (unsigned i = 0; i < n; i++) {
		memcpy(&names[i], (const char *)rows + i * row_bytes, sizeof(names[i]));
		(void)snprintf(bare[i], sizeof(bare[i]), "%.*s", name_length(names[i]), names[i]);
		known[i] = bare[i];
	}
	(void)snprintf(wanted, sizeof(wanted), "%.*s", name_length(name), name);
	best = json_nearest(wanted, known, n);
	while (known[at] != best)
		at++;
	return names[at];
}

const char *esp_cipher_nearest(const char *name)
{
	return nearest(name, cipher_names, sizeof(cipher_names[0]), N_CIPHER_NAMES);
}

const char *esp_auth_nearest(const char *name)
{
	return nearest(name, auth_names, sizeof(auth_names[0]), N_AUTH_NAMES);
}

char *esp_cipher_keys_text(enum esp_cipher cipher, char text[ESP_KEYS_TEXT_MAX])
{
	const struct esp_cipher_info *info = &esp_ciphers[cipher];
	unsigned n = 0;
	size_t at = 0;

	while (n < 3 && info->key_bytes[n] != 0)
		n++;
	for (unsigned i = 0; i < n; i++)
		at += (size_t)snprintf(text + at, ESP_KEYS_TEXT_MAX - at, "%s%u",
				       i == 0	    ? ""
				       : i + 1 == n ? " or "
						    : ", ",
				       info->key_bytes[i] + info->salt_bytes);
	(void)snprintf(text + at, ESP_KEYS_TEXT_MAX - at, " bytes");
	if (info->salt_bytes > 0) {
		at = strlen(text);
		(void)snprintf(text + at, ESP_KEYS_TEXT_MAX - at, ", the salt of %u included",
			       info->salt_bytes);
	}
	return text;
}

void esp_algorithm_text(const char *cipher, const char *auth, char text[ESP_ALGORITHM_TEXT_MAX])
{
	(void)snprintf(text, ESP_ALGORITHM_TEXT_MAX, "%.*s%s%.*s", name_length(cipher), cipher,
		       auth != NULL ? ", " : "", auth != NULL ? name_length(auth) : 0,
		       auth != NULL ? auth : "");
}
