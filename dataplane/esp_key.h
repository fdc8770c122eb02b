/* esp_key.h - the expanded keys of one SA, as the engines of esp_cipher.h read them.
 *
 * Two blocks: hot, what a packet needs to be decrypted, in as few lines as the key has (three for
 * AES-128, four for AES-256); cold, what only OpenSSL or an ICV needs.  Each kind has its own chunks, so
 * that 10,000 SAs are 2.5 MB of hot lines and nothing between them.
 * Threads: immutable once opened.
 * Memory:  key_memory.h.
 */
#ifndef GATECAP_DATAPLANE_ESP_KEY_H
#define GATECAP_DATAPLANE_ESP_KEY_H

#include <assert.h>
#include <intel-ipsec-mb.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dataplane/esp_cipher.h"

enum {
	AES_BLOCK_BYTES = 16,
	AES_ROUND_KEYS_MAX = 15,
	DES_BLOCK_BYTES = 8,
	DES_KEYS = 3,
	DES_SCHEDULE_WORDS = 16,
	CHACHA20_BLOCK_BYTES = 64,
	HMAC_STATE_BYTES = 64, // of the longest, SHA-512
	XCBC_K1_WORDS = 44,
};

/* How payloads are read; the counter modes of AES are one. */
enum esp_way { ESP_WAY_COPY, ESP_WAY_3DES, ESP_WAY_AES_CBC, ESP_WAY_AES_CTR, ESP_WAY_CHACHA20 };

/* What only OpenSSL and ICVs need.  A key opened without verify ends before `icv`. */
struct esp_cold {
	uint8_t cipher, auth; // enum esp_cipher, enum esp_auth
	uint8_t key_bytes;    // without salt
	uint8_t auth_key_bytes;
	uint8_t salt[4];
	bool has_icv; // the block goes on
	uint8_t enc_key[32];
	struct {
		uint8_t auth_key[ESP_AUTH_KEY_MAX];
		alignas(64) union {
			struct gcm_key_data gcm; // GCM, GMAC
			struct {
				alignas(16) uint8_t inner[HMAC_STATE_BYTES];
				alignas(16) uint8_t outer[HMAC_STATE_BYTES];
			} hmac; // after the first block: the key xor ipad, opad
			struct {
				alignas(16) uint32_t k1[XCBC_K1_WORDS];
				alignas(16) uint8_t k2[AES_BLOCK_BYTES];
				alignas(16) uint8_t k3[AES_BLOCK_BYTES];
			} xcbc;
		} mb;
	} icv;
};

struct esp_key {
	uint8_t way;	       // enum esp_way
	uint8_t n_rounds;      // AES: 10, 12, 14
	uint8_t first_counter; // of the payload's first block
	uint8_t icv_bytes;
	uint8_t nonce[4];      // what a counter block begins with
	struct esp_cold *cold; // of this SA, too
	alignas(16) union {    // as long as it has to be: esp_key_bytes()
		uint8_t aes[AES_ROUND_KEYS_MAX]
			   [AES_BLOCK_BYTES]; // CTR: to encrypt; CBC: to decrypt
		uint8_t chacha20[32];
		struct {
			const void *schedules[DES_KEYS]; // as ipsec-mb wants them: at words
			uint64_t words[DES_KEYS][DES_SCHEDULE_WORDS];
		} des;
	} hot;
};

static_assert(offsetof(struct esp_key, hot) == 16, "AES-128 is three lines");
static_assert(offsetof(struct esp_key, hot.aes) + sizeof(((struct esp_key *)0)->hot.aes) == 256,
	      "AES-256 is four");

/* Counter block of the payload's block `block` (of AES_BLOCK_BYTES). */
static inline void esp_counter_block(const struct esp_key *key, const uint8_t *iv, uint32_t block,
				     uint8_t out[AES_BLOCK_BYTES])
{
	uint32_t counter = __builtin_bswap32(block + key->first_counter);

	__builtin_memcpy(out, key->nonce, 4);
	__builtin_memcpy(out + 4, iv, 8);
	__builtin_memcpy(out + 12, &counter, 4);
}

/* Nonce of an AEAD, salt and IV: 12 bytes, of CCM 11.  Gives its length. */
static inline size_t esp_aead_nonce(const struct esp_key *key, const uint8_t *iv, uint8_t out[12])
{
	size_t n = esp_ciphers[key->cold->cipher].salt_bytes;

	__builtin_memcpy(out, key->cold->salt, n);
	__builtin_memcpy(out + n, iv, 8);
	return n + 8;
}

#endif
