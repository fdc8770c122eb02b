/* esp_key.c - expand a record's keys, once for each SA, with ipsec-mb; OpenSSL expands as it goes.
 *
 * ipsec-mb expands through the functions of a manager of its own, made once and never freed: 200 KB that
 * hold no key, since nothing is ever submitted to it.
 */
#include "dataplane/esp_key.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

#include "dataplane/key_memory.h"

enum { CCM_FLAGS = 3 }; // CCM: L' = L - 1, four bytes of counter

static_assert(sizeof(struct esp_key) <= KEY_MEMORY_ALLOC_MAX, "a key fits");
static_assert(sizeof(struct esp_cold) <= KEY_MEMORY_ALLOC_MAX, "and what is cold of it");

static pthread_once_t maker_once = PTHREAD_ONCE_INIT;
static IMB_MGR *maker; // its functions are called, nothing is submitted

static void open_maker(void)
{
	IMB_ARCH arch;

	(void)OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL); // as esp_evp.h says
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

/* ---- What ICVs need ---- */

const char *esp_digest_name(enum esp_auth auth)
{
	switch (auth) {
	case ESP_AUTH_HMAC_MD5_96:
		return "MD5";
	case ESP_AUTH_HMAC_SHA1_96:
		return "SHA1";
	case ESP_AUTH_HMAC_SHA256_96:
	case ESP_AUTH_HMAC_SHA256_128:
		return "SHA256";
	case ESP_AUTH_HMAC_SHA384_192:
		return "SHA384";
	case ESP_AUTH_HMAC_SHA512_256:
		return "SHA512";
	default:
		return NULL;
	}
}

void esp_hmac_pads(const struct esp_cold *cold, unsigned n_block, uint8_t *inner, uint8_t *outer)
{
	for (unsigned i = 0; i < n_block; i++) {
		uint8_t byte = i < cold->auth_key_bytes ? cold->icv.auth_key[i] : 0;

		inner[i] = byte ^ 0x36;
		outer[i] = byte ^ 0x5c;
	}
}

/* A key longer than the digest's block is replaced by its digest (RFC 2104, 3). */
static void shorten_key(struct esp_cold *cold, unsigned n_block)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	EVP_MD *md;
	unsigned n = 0;

	if (cold->auth_key_bytes <= n_block)
		return;
	md = EVP_MD_fetch(NULL, esp_digest_name(cold->auth), NULL);
	if (md != NULL &&
	    EVP_Digest(cold->icv.auth_key, cold->auth_key_bytes, digest, &n, md, NULL) == 1) {
		explicit_bzero(cold->icv.auth_key, sizeof(cold->icv.auth_key));
		memcpy(cold->icv.auth_key, digest, n);
		cold->auth_key_bytes = (uint8_t)n;
		explicit_bzero(digest, sizeof(digest));
	}
	EVP_MD_free(md);
}

static void one_block(enum esp_auth auth, const uint8_t *block, uint8_t *state)
{
	switch (auth) {
	case ESP_AUTH_HMAC_MD5_96:
		IMB_MD5_ONE_BLOCK(maker, block, state);
		break;
	case ESP_AUTH_HMAC_SHA1_96:
		IMB_SHA1_ONE_BLOCK(maker, block, state);
		break;
	case ESP_AUTH_HMAC_SHA384_192:
		IMB_SHA384_ONE_BLOCK(maker, block, state);
		break;
	case ESP_AUTH_HMAC_SHA512_256:
		IMB_SHA512_ONE_BLOCK(maker, block, state);
		break;
	default:
		IMB_SHA256_ONE_BLOCK(maker, block, state);
		break;
	}
}

static void fill_hmac(struct esp_cold *cold)
{
	bool is_long =
		cold->auth == ESP_AUTH_HMAC_SHA384_192 || cold->auth == ESP_AUTH_HMAC_SHA512_256;
	unsigned n_block = is_long ? 128 : 64;
	uint8_t inner[ESP_HMAC_BLOCK_MAX], outer[ESP_HMAC_BLOCK_MAX];

	shorten_key(cold, n_block);
	esp_hmac_pads(cold, n_block, inner, outer);
	one_block(cold->auth, inner, cold->icv.mb.hmac.inner);
	one_block(cold->auth, outer, cold->icv.mb.hmac.outer);
	explicit_bzero(inner, sizeof(inner));
	explicit_bzero(outer, sizeof(outer));
}

static void fill_gcm(struct esp_cold *cold)
{
	struct gcm_key_data *gcm = &cold->icv.mb.gcm;

	if (cold->key_bytes == IMB_KEY_128_BYTES)
		IMB_AES128_GCM_PRE(maker, cold->enc_key, gcm);
	else if (cold->key_bytes == IMB_KEY_192_BYTES)
		IMB_AES192_GCM_PRE(maker, cold->enc_key, gcm);
	else
		IMB_AES256_GCM_PRE(maker, cold->enc_key, gcm);
}

static void fill_icv(struct esp_cold *cold, const struct sa_record *record)
{
	cold->auth_key_bytes = record->auth_key_bytes;
	memcpy(cold->icv.auth_key, record->auth_key, record->auth_key_bytes);
	if (cold->cipher == ESP_AES_GCM || cold->cipher == ESP_AES_GMAC)
		fill_gcm(cold);
	else if (esp_digest_name(cold->auth) != NULL)
		fill_hmac(cold);
	else if (cold->auth == ESP_AUTH_AES_XCBC_96)
		IMB_AES_XCBC_KEYEXP(maker, cold->icv.auth_key, cold->icv.mb.xcbc.k1,
				    cold->icv.mb.xcbc.k2, cold->icv.mb.xcbc.k3);
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
	    record->auth_key_bytes > ESP_AUTH_KEY_MAX) {
		error_set(err, "SA 0x%08x: its algorithm is none that is decrypted here.",
			  record->spi);
		return false;
	}
	if (!esp_takes_key(record->cipher, record->enc_key_bytes)) {
		error_set(err, "SA 0x%08x: %s takes no key of %u bytes.", record->spi,
			  esp_ciphers[record->cipher].name, record->enc_key_bytes);
		return false;
	}
	if (!esp_takes_icv(record->cipher, record->auth, record->icv_bytes)) {
		error_set(err, "SA 0x%08x: %s with %s has no ICV of %u bytes.", record->spi,
			  esp_ciphers[record->cipher].name, esp_auths[record->auth].name,
			  record->icv_bytes);
		return false;
	}
	if (record->auth == ESP_AUTH_AES_XCBC_96 && record->auth_key_bytes != AES_BLOCK_BYTES) {
		error_set(err, "SA 0x%08x: aes-xcbc-96 takes no key of %u bytes.", record->spi,
			  record->auth_key_bytes);
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
	if (verify)
		fill_icv(key->cold, record);
	return key;
}

void esp_key_close(struct esp_key *key)
{
	if (key == NULL)
		return;
	key_memory_free(key->cold, cold_bytes(key->cold->has_icv));
	key_memory_free(key, hot_bytes(key->way, key->n_rounds));
}
