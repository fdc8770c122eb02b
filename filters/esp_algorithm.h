/* esp_algorithm.h - the algorithms of ESP that gatecap reads, in one table.
 *
 * Flow:    names and key lengths for those who read SAs (control/), sizes for those who decrypt (dataplane/).
 * Threads: constants.
 * Units:   bytes.
 * Source:  RFC 4303; each row names its RFC.  Names are those of Wireshark's esp_sa file.
 * Proof:   tests/test_esp_algorithm.c
 */
#ifndef GATECAP_FILTERS_ESP_ALGORITHM_H
#define GATECAP_FILTERS_ESP_ALGORITHM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum esp_cipher {
	ESP_NULL,	       // RFC 2410
	ESP_3DES_CBC,	       // RFC 2451
	ESP_AES_CBC,	       // RFC 3602
	ESP_AES_CTR,	       // RFC 3686
	ESP_AES_CCM,	       // RFC 4309
	ESP_AES_GCM,	       // RFC 4106
	ESP_AES_GMAC,	       // RFC 4543: nothing is encrypted
	ESP_CHACHA20_POLY1305, // RFC 7634
	ESP_UNSUPPORTED,       // the SA is known, its algorithm is none of these: no keys
	ESP_CIPHER_COUNT,
};

enum esp_auth {
	ESP_AUTH_NONE,
	ESP_AUTH_UNCHECKED, // an ICV of a known length is there, and nothing is known of it
	ESP_AUTH_HMAC_MD5_96,
	ESP_AUTH_HMAC_SHA1_96,
	ESP_AUTH_HMAC_SHA256_96,
	ESP_AUTH_HMAC_SHA256_128,
	ESP_AUTH_HMAC_SHA384_192,
	ESP_AUTH_HMAC_SHA512_256,
	ESP_AUTH_AES_XCBC_96,
	ESP_AUTH_COUNT,
};

enum {
	ESP_HEADER_BYTES = 8,  // SPI and sequence number
	ESP_TRAILER_BYTES = 2, // pad length and next header
	ESP_ENC_KEY_MAX = 36,  // salt included
	ESP_AUTH_KEY_MAX = 128,
	ESP_ICV_MAX = 32,
};

struct esp_cipher_info {
	const char *name;     // short, as `gatecap sa list` has it: "aes-gcm"
	uint8_t key_bytes[3]; // allowed, without salt, shortest first; 0: no more of them
	uint8_t salt_bytes;   // behind the key, as RFC 4106 and `ip xfrm state` have it
	uint8_t iv_bytes;     // in each packet, behind the ESP header
	uint8_t block_bytes;  // 1: a stream; ciphertext is a multiple of it
	uint8_t icv_bytes[3]; // its own ICV, allowed lengths; 0: none, an esp_auth gives it
};

struct esp_auth_info {
	const char *name;  // "hmac-sha256-128"
	uint8_t key_bytes; // that its RFC asks for; 0: any
	uint8_t icv_bytes; // 0: any (ESP_AUTH_UNCHECKED), or none
};

extern const struct esp_cipher_info esp_ciphers[ESP_CIPHER_COUNT];
extern const struct esp_auth_info esp_auths[ESP_AUTH_COUNT];

/* Has the cipher an ICV of its own (GCM, GMAC, CCM, ChaCha20-Poly1305)? */
bool esp_is_aead(enum esp_cipher cipher);

/* A key of so many bytes, salt included; an ICV of so many bytes. */
bool esp_takes_key(enum esp_cipher cipher, size_t key_bytes);
bool esp_takes_icv(enum esp_cipher cipher, enum esp_auth auth, size_t icv_bytes);

#endif
