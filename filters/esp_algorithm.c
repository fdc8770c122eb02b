/* esp_algorithm.c - the table. */
#include "filters/esp_algorithm.h"

const struct esp_cipher_info esp_ciphers[ESP_CIPHER_COUNT] = {
	[ESP_NULL] = {"null", {0}, 0, 0, 1, {0}},
	[ESP_3DES_CBC] = {"3des-cbc", {24}, 0, 8, 8, {0}},
	[ESP_AES_CBC] = {"aes-cbc", {16, 24, 32}, 0, 16, 16, {0}},
	[ESP_AES_CTR] = {"aes-ctr", {16, 24, 32}, 4, 8, 1, {0}},
	[ESP_AES_CCM] = {"aes-ccm", {16, 24, 32}, 3, 8, 1, {8, 12, 16}},
	[ESP_AES_GCM] = {"aes-gcm", {16, 24, 32}, 4, 8, 1, {8, 12, 16}},
	[ESP_AES_GMAC] = {"aes-gmac", {16, 24, 32}, 4, 8, 1, {16}},
	[ESP_CHACHA20_POLY1305] = {"chacha20-poly1305", {32}, 4, 8, 1, {16}},
	[ESP_UNSUPPORTED] = {"unsupported", {0}, 0, 0, 1, {0}},
};

const struct esp_auth_info esp_auths[ESP_AUTH_COUNT] = {
	[ESP_AUTH_NONE] = {"none", 0, 0},
	[ESP_AUTH_UNCHECKED] = {"unchecked", 0, 0},
	[ESP_AUTH_HMAC_MD5_96] = {"hmac-md5-96", 16, 12},
	[ESP_AUTH_HMAC_SHA1_96] = {"hmac-sha1-96", 20, 12},
	[ESP_AUTH_HMAC_SHA256_96] = {"hmac-sha256-96", 32, 12},
	[ESP_AUTH_HMAC_SHA256_128] = {"hmac-sha256-128", 32, 16},
	[ESP_AUTH_HMAC_SHA384_192] = {"hmac-sha384-192", 48, 24},
	[ESP_AUTH_HMAC_SHA512_256] = {"hmac-sha512-256", 64, 32},
	[ESP_AUTH_AES_XCBC_96] = {"aes-xcbc-96", 16, 12},
};

bool esp_is_aead(enum esp_cipher cipher)
{
	return esp_ciphers[cipher].icv_bytes[0] != 0;
}

bool esp_takes_key(enum esp_cipher cipher, size_t key_bytes)
{
	const struct esp_cipher_info *info = &esp_ciphers[cipher];

	if (info->key_bytes[0] == 0)
		return key_bytes == 0;
	for (unsigned i = 0; i < 3; i++)
		if (info->key_bytes[i] != 0 &&
		    key_bytes == (size_t)info->key_bytes[i] + info->salt_bytes)
			return true;
	return false;
}

bool esp_takes_icv(enum esp_cipher cipher, enum esp_auth auth, size_t icv_bytes)
{
	const struct esp_cipher_info *info = &esp_ciphers[cipher];

	if (!esp_is_aead(cipher))
		return auth == ESP_AUTH_UNCHECKED ? icv_bytes > 0 && icv_bytes <= ESP_ICV_MAX
						  : icv_bytes == esp_auths[auth].icv_bytes;
	for (unsigned i = 0; i < 3; i++)
		if (auth == ESP_AUTH_NONE && icv_bytes == info->icv_bytes[i] && icv_bytes > 0)
			return true;
	return false;
}
