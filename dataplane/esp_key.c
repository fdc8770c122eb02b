/* esp_key.c - expand a record's keys, once for each SA, with ipsec-mb; OpenSSL expands as it goes.
 *
 * ipsec-mb expands through the functions of a manager of its own, made once and never freed: 200 KB that
 * hold no key, since nothing is ever submitted to it.
 */
#include "dataplane/esp_key.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

#include "dataplane/key_memory.h"

enum { CCM_FLAGS = 3, HASH_BLOCK_MAX = 128 }; // CCM: L' = L - 1, four bytes of counter

static_assert(sizeof(struct esp_key) <= KEY_MEMORY_ALLOC_MAX, "a key fits");
static_assert(sizeof(struct esp_cold) <= KEY_MEMORY_ALLOC_MAX, "and what is cold of it");

static pthread_once_t maker_once = PTHREAD_ONCE_INIT;
static IMB_MGR *maker; // its functions are called, nothing is submitted

static void open_maker(void)
{
	IMB_ARCH arch;

	maker = alloc_mb_mgr(0);
	if (maker != NULL)
		init_mb_mgr_auto(maker, &arch);
	if (maker != NULL && imb_get_errno(maker) != 0) {
		free_mb_mgr(maker);
		maker = NULL;
	}
}

static enum esp_way way_of(enum esp_cipher cipher)
{
	switch (cipher) {
	case ESP_3DES_CBC:
		return ESP_WAY_3DES;
	case ESP_AES_CBC:
		return ESP_WAY_AES_CBC;
	case ESP_AES_CTR:
	case ESP_AES_CCM:
	case ESP_AES_GCM:
		return ESP_WAY_AES_CTR;
	case ESP_CHACHA20_POLY1305:
		return ESP_WAY_CHACHA20;
	default:
		return ESP_WAY_COPY;
	}
}

static size_t hot_bytes(enum esp_way way, unsigned n_rounds)
{
	switch (way) {
	case ESP_WAY_3DES:
		return sizeof(struct esp_key);
	case ESP_WAY_AES_CBC:
	case ESP_WAY_AES_CTR:
		return offsetof(struct esp_key, hot.aes) + (n_rounds + 1) * AES_BLOCK_BYTES;
	default:
		return offsetof(struct esp_key, hot.chacha20) + 32;
	}
}

static size_t cold_bytes(bool verify)
{
	return verify ? sizeof(struct esp_cold) : offsetof(struct esp_cold, icv);
}

/* Both directions, for ipsec-mb makes them together. */
static void expand_aes(const uint8_t *raw, size_t bytes, uint8_t *to_encrypt, uint8_t *to_decrypt)
{
	if (bytes == IMB_KEY_128_BYTES)
		IMB_AES_KEYEXP_128(maker, raw, to_encrypt, to_decrypt);
	else if (bytes == IMB_KEY_192_BYTES)
		IMB_AES_KEYEXP_192(maker, raw, to_encrypt, to_decrypt);
	else
		IMB_AES_KEYEXP_256(maker, raw, to_encrypt, to_decrypt);
}

static void fill_aes(struct esp_key *key, const uint8_t *raw, size_t bytes)
{
	alignas(16) uint8_t encrypt[AES_ROUND_KEYS_MAX * AES_BLOCK_BYTES];
	alignas(16) uint8_t decrypt[AES_ROUND_KEYS_MAX * AES_BLOCK_BYTES];

	expand_aes(raw, bytes, encrypt, decrypt);
	memcpy(key->hot.aes, key->way == ESP_WAY_AES_CBC ? decrypt : encrypt,
	       (key->n_rounds + 1U) * AES_BLOCK_BYTES);
	explicit_bzero(encrypt, sizeof(encrypt));
	explicit_bzero(decrypt, sizeof(decrypt));
}

static void fill_hot(struct esp_key *key, const uint8_t *raw, size_t bytes)
{
	switch ((enum esp_way)key->way) {
	case ESP_WAY_AES_CBC:
	case ESP_WAY_AES_CTR:
		fill_aes(key, raw, bytes);
		break;
	case ESP_WAY_CHACHA20:
		memcpy(key->hot.chacha20, raw, bytes);
		break;
	case ESP_WAY_3DES:
		for (unsigned i = 0; i < DES_KEYS; i++) {
			(void)IMB_DES_KEYSCHED(maker, key->hot.des.words[i],
					       raw + (size_t)i * DES_BLOCK_BYTES);
			key->hot.des.schedules[i] = key->hot.des.words[i];
		}
		break;
	case ESP_WAY_COPY:
		break;
	}
}

/* The part in front of the counter: salt, of CCM behind the flags of A_i (RFC 3610, 2.3). */
static void fill_nonce(struct esp_key *key, const struct sa_record *record, size_t salt_bytes)
{
	const uint8_t *salt = record->enc_key + record->enc_key_bytes - salt_bytes;
	bool is_ccm = record->cipher == ESP_AES_CCM;

	key->nonce[0] = is_ccm ? CCM_FLAGS : 0;
	memcpy(key->nonce + is_ccm, salt, salt_bytes);
	memcpy(key->cold->salt, salt, salt_bytes);
	key->first_counter = record->cipher == ESP_AES_GCM ? 2 : 1; // GCM: 1 is the tag's
}

static struct esp_key *alloc_key(enum esp_way way, unsigned n_rounds, bool verify)
{
	struct esp_key *key = key_memory_alloc(KEY_MEMORY_HOT, hot_bytes(way, n_rounds));

	if (key == NULL)
		return NULL;
	key->cold = key_memory_alloc(KEY_MEMORY_COLD, cold_bytes(verify));
	key->way = (uint8_t)way;
	key->n_rounds = (uint8_t)n_rounds;
	if (key->cold == NULL) {
		key_memory_free(key, hot_bytes(way, n_rounds));
		return NULL;
	}
	key->cold->has_icv = verify;
	return key;
}

static bool is_possible(const struct sa_record *record, struct error *err)
{
	if (record->cipher >= ESP_UNSUPPORTED || record->auth >= ESP_AUTH_COUNT ||
	    record->auth_key_bytes > ESP_AUTH_KEY_MAX ||
	    !esp_takes_key(record->cipher, record->enc_key_bytes)) {
		error_set(err, "SA 0x%08x: a key of %u bytes does not fit its algorithm.",
			  record->spi, record->enc_key_bytes);
		return false;
	}
	(void)pthread_once(&maker_once, open_maker);
	if (maker == NULL)
		error_set(err,
			  "SA 0x%08x: libipsec-mb cannot expand its %s key on this processor: %s.",
			  record->spi, esp_ciphers[record->cipher].name,
			  imb_get_strerror(imb_get_errno(NULL)));
	return maker != NULL;
}

struct esp_key *esp_key_open(const struct sa_record *record, bool verify, struct error *err)
{
	size_t salt_bytes, key_bytes;
	struct esp_key *key;

	if (!is_possible(record, err))
		return NULL;
	salt_bytes = esp_ciphers[record->cipher].salt_bytes;
	key_bytes = record->enc_key_bytes - salt_bytes;
	key = alloc_key(way_of(record->cipher), (unsigned)key_bytes / 4 + 6, verify);
	if (key == NULL) {
		error_set(err, "SA 0x%08x: there is no memory for its %s key.", record->spi,
			  esp_ciphers[record->cipher].name);
		return NULL;
	}
	key->icv_bytes = record->icv_bytes;
	key->cold->cipher = record->cipher;
	key->cold->auth = record->auth;
	key->cold->key_bytes = (uint8_t)key_bytes;
	memcpy(key->cold->enc_key, record->enc_key, key_bytes);
	fill_nonce(key, record, salt_bytes);
	fill_hot(key, record->enc_key, key_bytes);
	return key;
}

void esp_key_close(struct esp_key *key)
{
	if (key == NULL)
		return;
	key_memory_free(key->cold, cold_bytes(key->cold->has_icv));
	key_memory_free(key, hot_bytes(key->way, key->n_rounds));
}
