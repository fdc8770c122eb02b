/* esp_algorithm.c - two tables, and what may be asked of them. */
#include "filters/esp_algorithm.h"

#include <assert.h>

const struct esp_cipher_info esp_ciphers[ESP_CIPHER_COUNT] = {
	[ESP_NULL] = {.name = "null", .block_bytes = 1},
	[ESP_3DES_CBC] = {.name = "3des-cbc", .key_bytes = {24}, .iv_bytes = 8, .block_bytes = 8},
	[ESP_AES_CBC] = {.name = "aes-cbc",
			 .key_bytes = {16, 24, 32},
			 .iv_bytes = 16,
			 .block_bytes = 16},
	[ESP_AES_CTR] = {.name = "aes-ctr",
			 .key_bytes = {16, 24, 32},
			 .salt_bytes = 4,
			 .iv_bytes = 8,
			 .block_bytes = 1},
	[ESP_AES_CCM] = {.name = "aes-ccm",
			 .key_bytes = {16, 24, 32},
			 .salt_bytes = 3,
			 .iv_bytes = 8,
			 .block_bytes = 1,
			 .icv_bytes = {8, 12, 16}},
	[ESP_AES_GCM] = {.name = "aes-gcm",
			 .key_bytes = {16, 24, 32},
			 .salt_bytes = 4,
			 .iv_bytes = 8,
			 .block_bytes = 1,
			 .icv_bytes = {8, 12, 16}},
	[ESP_AES_GMAC] = {.name = "aes-gmac",
			  .key_bytes = {16, 24, 32},
			  .salt_bytes = 4,
			  .iv_bytes = 8,
			  .block_bytes = 1,
			  .icv_bytes = {16}},
	[ESP_CHACHA20_POLY1305] = {.name = "chacha20-poly1305",
				   .key_bytes = {32},
				   .salt_bytes = 4,
				   .iv_bytes = 8,
				   .block_bytes = 1,
				   .icv_bytes = {16}},
	[ESP_UNSUPPORTED] = {.name = "unsupported", .block_bytes = 1},
};

const struct esp_auth_info esp_auths[ESP_AUTH_COUNT] = {
	[ESP_AUTH_NONE] = {.name = "none"},
	[ESP_AUTH_UNCHECKED] = {.name = "unchecked"},
	[ESP_AUTH_HMAC_MD5_96] = {.name = "hmac-md5-96", .key_bytes = 16, .icv_bytes = 12},
	[ESP_AUTH_HMAC_SHA1_96] = {.name = "hmac-sha1-96", .key_bytes = 20, .icv_bytes = 12},
	[ESP_AUTH_HMAC_SHA256_96] = {.name = "hmac-sha256-96", .key_bytes = 32, .icv_bytes = 12},
	[ESP_AUTH_HMAC_SHA256_128] = {.name = "hmac-sha256-128", .key_bytes = 32, .icv_bytes = 16},
	[ESP_AUTH_HMAC_SHA384_192] = {.name = "hmac-sha384-192", .key_bytes = 48, .icv_bytes = 24},
	[ESP_AUTH_HMAC_SHA512_256] = {.name = "hmac-sha512-256", .key_bytes = 64, .icv_bytes = 32},
	[ESP_AUTH_AES_XCBC_96] = {.name = "aes-xcbc-96", .key_bytes = 16, .icv_bytes = 12},
};

static_assert(ESP_ENC_KEY_MAX == 32 + 4, "the longest key and the longest salt");

bool esp_is_aead(enum esp_cipher cipher)
{
	return esp_ciphers[cipher].icv_bytes[0] != 0;
}

/* n is one of the three, zero none of them. */
static bool is_one_of(const uint8_t allowed[3], size_t n)
{
	for (unsigned i = 0; i < 3; i++)
		if (allowed[i] == n && n != 0)
			return true;
	return false;
}

bool esp_takes_key(enum esp_cipher cipher, size_t key_bytes)
{
	const struct esp_cipher_info *info = &esp_ciphers[cipher];

	if (info->key_bytes[0] == 0)
		return key_bytes == 0;
	return key_bytes > info->salt_bytes &&
	       is_one_of(info->key_bytes, key_bytes - info->salt_bytes);
}

bool esp_takes_icv(enum esp_cipher cipher, enum esp_auth auth, size_t icv_bytes)
{
	if (cipher == ESP_UNSUPPORTED) // nothing is read with it
		return icv_bytes <= ESP_ICV_MAX;
	if (esp_is_aead(cipher))
		return auth == ESP_AUTH_NONE && is_one_of(esp_ciphers[cipher].icv_bytes, icv_bytes);
	if (auth == ESP_AUTH_UNCHECKED)
		return icv_bytes > 0 && icv_bytes <= ESP_ICV_MAX;
	return icv_bytes == esp_auths[auth].icv_bytes;
}
