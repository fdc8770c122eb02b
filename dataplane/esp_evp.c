/* esp_evp.c - a context for each algorithm and key length, given the key of each job.
 *
 * Slow by design: a key is expanded for each job, so that nothing is shared with the fast engine, not
 * even its expanded keys, when the tests compare the two.
 */
#include "dataplane/esp_evp.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

/* Contexts by algorithm; those of AES threefold: 128, 192, 256. */
enum evp_kind {
	EVP_CTR,
	EVP_CBC = 3,
	EVP_GCM = 6,
	EVP_CCM = 9,
	EVP_3DES = 12,
	EVP_CHACHA20,
	EVP_CHACHA20_POLY1305,
	EVP_KINDS
};

struct esp_evp {
	EVP_CIPHER_CTX *ciphers[EVP_KINDS];
	EVP_MD_CTX *digests[ESP_AUTH_COUNT]; // of HMACs, the others NULL
	uint8_t unused[ESP_PACKET_MAX];	     // what an AEAD decrypts while it checks
};

static const char *const cipher_names[EVP_KINDS] = {
	[EVP_CTR] = "AES-128-CTR",
	"AES-192-CTR",
	"AES-256-CTR",
	[EVP_CBC] = "AES-128-CBC",
	"AES-192-CBC",
	"AES-256-CBC",
	[EVP_GCM] = "AES-128-GCM",
	"AES-192-GCM",
	"AES-256-GCM",
	[EVP_CCM] = "AES-128-CCM",
	"AES-192-CCM",
	"AES-256-CCM",
	[EVP_3DES] = "DES-EDE3-CBC",
	[EVP_CHACHA20] = "ChaCha20",
	[EVP_CHACHA20_POLY1305] = "ChaCha20-Poly1305",
};

static EVP_CIPHER_CTX *open_cipher(const char *name)
{
	EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, NULL);
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	bool is_good = cipher != NULL && ctx != NULL &&
		       EVP_DecryptInit_ex2(ctx, cipher, NULL, NULL, NULL) == 1 &&
		       EVP_CIPHER_CTX_set_padding(ctx, 0) == 1;

	EVP_CIPHER_free(cipher); // ctx holds its own
	if (is_good)
		return ctx;
	EVP_CIPHER_CTX_free(ctx);
	return NULL;
}

static EVP_MD_CTX *open_digest(const char *name)
{
	EVP_MD *md = EVP_MD_fetch(NULL, name, NULL);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool is_good = md != NULL && ctx != NULL && EVP_DigestInit_ex2(ctx, md, NULL) == 1;

	EVP_MD_free(md); // ctx holds its own
	if (is_good)
		return ctx;
	EVP_MD_CTX_free(ctx);
	return NULL;
}

static bool open_all(struct esp_evp *evp)
{
	for (unsigned i = 0; i < EVP_KINDS; i++) {
		evp->ciphers[i] = open_cipher(cipher_names[i]);
		if (evp->ciphers[i] == NULL)
			return false;
	}
	for (unsigned i = EVP_CCM; i < EVP_CCM + 3; i++)
		if (EVP_CIPHER_CTX_ctrl(evp->ciphers[i], EVP_CTRL_AEAD_SET_IVLEN, 11, NULL) != 1)
			return false;
	for (unsigned i = 0; i < ESP_AUTH_COUNT; i++) {
		const char *name = esp_digest_name((enum esp_auth)i);

		if (name == NULL)
			continue;
		evp->digests[i] = open_digest(name);
		if (evp->digests[i] == NULL)
			return false;
	}
	return true;
}

struct esp_evp *esp_evp_open(void)
{
	struct esp_evp *evp = calloc(1, sizeof(*evp));

	(void)OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
	if (evp == NULL || open_all(evp))
		return evp;
	esp_evp_close(evp);
	return NULL;
}

void esp_evp_close(struct esp_evp *evp)
{
	if (evp == NULL)
		return;
	for (unsigned i = 0; i < EVP_KINDS; i++)
		EVP_CIPHER_CTX_free(evp->ciphers[i]); // wipes the key
	for (unsigned i = 0; i < ESP_AUTH_COUNT; i++)
		EVP_MD_CTX_free(evp->digests[i]);
	free(evp);
}

/* Every call here can only fail by a mistake of ours: key and IV are set, sizes are blocks. */
static void decrypt_with(EVP_CIPHER_CTX *ctx, const uint8_t *key, const uint8_t *iv,
			 const uint8_t *in, uint32_t len, uint8_t *out)
{
	int n = 0;
	bool is_good = EVP_DecryptInit_ex2(ctx, NULL, key, iv, NULL) == 1 &&
		       EVP_DecryptUpdate(ctx, out, &n, in, (int)len) == 1 && n == (int)len;

	assert(is_good);
	(void)is_good;
}

/* Blocks have 64 bytes: what lies in front of the offset within one is thrown away. */
static void decrypt_chacha20(struct esp_evp *evp, const struct esp_job *job)
{
	const struct esp_key *key = job->key;
	const uint8_t *in = job->iv + 8 + job->offset;
	EVP_CIPHER_CTX *ctx = evp->ciphers[EVP_CHACHA20];
	uint32_t counter = job->offset / CHACHA20_BLOCK_BYTES + key->first_counter;
	uint32_t skip = job->offset % CHACHA20_BLOCK_BYTES;
	uint8_t iv[16], unused[CHACHA20_BLOCK_BYTES] = {0};
	int n = 0;
	bool is_good;

	memcpy(iv, &counter, 4); // little-endian, as this machine
	memcpy(iv + 4, key->nonce, 4);
	memcpy(iv + 8, job->iv, 8);
	is_good = EVP_DecryptInit_ex2(ctx, NULL, key->cold->enc_key, iv, NULL) == 1 &&
		  (skip == 0 || EVP_DecryptUpdate(ctx, unused, &n, unused, (int)skip) == 1) &&
		  EVP_DecryptUpdate(ctx, job->out, &n, in, (int)job->len) == 1 &&
		  n == (int)job->len;
	assert(is_good);
	(void)is_good;
}

void esp_evp_decrypt(struct esp_evp *evp, const struct esp_job *job)
{
	const struct esp_key *key = job->key;
	const struct esp_cold *cold = key->cold;
	const uint8_t *payload = job->iv + esp_ciphers[cold->cipher].iv_bytes;
	const uint8_t *in = payload + job->offset;
	unsigned size = cold->key_bytes / 8U - 2; // of AES: 128, 192, 256
	uint8_t counter[AES_BLOCK_BYTES];

	if (job->len == 0)
		return;
	switch ((enum esp_way)key->way) {
	case ESP_WAY_COPY:
		memcpy(job->out, in, job->len);
		break;
	case ESP_WAY_3DES:
		decrypt_with(evp->ciphers[EVP_3DES], cold->enc_key, in - DES_BLOCK_BYTES, in,
			     job->len, job->out);
		break;
	case ESP_WAY_AES_CBC:
		decrypt_with(evp->ciphers[EVP_CBC + size], cold->enc_key, in - AES_BLOCK_BYTES, in,
			     job->len, job->out);
		break;
	case ESP_WAY_AES_CTR:
		esp_counter_block(key, job->iv, job->offset / AES_BLOCK_BYTES, counter);
		decrypt_with(evp->ciphers[EVP_CTR + size], cold->enc_key, counter, in, job->len,
			     job->out);
		break;
	case ESP_WAY_CHACHA20:
		decrypt_chacha20(evp, job);
		break;
	}
}

/* ---- ICVs ---- */

/* Nonce, AAD, ciphertext, ICV: the order that CCM wants of its length, and what the others take, too. */
static bool is_aead_good(struct esp_evp *evp, EVP_CIPHER_CTX *ctx, const struct esp_icv_job *job)
{
	const struct esp_key *key = job->key;
	const uint8_t *iv = job->esp + ESP_HEADER_BYTES, *payload = iv + 8;
	int len = (int)(job->len - ESP_HEADER_BYTES - 8 - key->icv_bytes), n = 0;
	bool is_ccm = key->cold->cipher == ESP_AES_CCM, is_gmac = key->cold->cipher == ESP_AES_GMAC;
	uint8_t nonce[12], aad[ESP_AAD_MAX], icv[ESP_ICV_MAX];
	int n_aad = (int)esp_aad(job, aad);

	(void)esp_aead_nonce(key, iv, nonce);
	memcpy(icv, payload + len, key->icv_bytes);
	return (!is_ccm ||
		EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, key->icv_bytes, icv) == 1) &&
	       EVP_DecryptInit_ex2(ctx, NULL, key->cold->enc_key, nonce, NULL) == 1 &&
	       (is_ccm ||
		EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, key->icv_bytes, icv) == 1) &&
	       (!is_ccm || EVP_DecryptUpdate(ctx, NULL, &n, NULL, len) == 1) &&
	       EVP_DecryptUpdate(ctx, NULL, &n, aad, n_aad) == 1 &&
	       (!is_gmac || EVP_DecryptUpdate(ctx, NULL, &n, iv, 8) == 1) &&
	       EVP_DecryptUpdate(ctx, is_gmac ? NULL : evp->unused, &n, payload, len) == 1 &&
	       (is_ccm || EVP_DecryptFinal_ex(ctx, evp->unused, &n) == 1);
}

/* RFC 2104, written out: OpenSSL's own HMAC allocates for each key. */
static bool is_hmac_good(EVP_MD_CTX *ctx, const struct esp_icv_job *job)
{
	const struct esp_cold *cold = job->key->cold;
	uint32_t len = job->len - job->key->icv_bytes;
	unsigned n_block = (unsigned)EVP_MD_CTX_get_block_size(ctx), n = 0;
	uint8_t pads[2][ESP_HMAC_BLOCK_MAX], high[4], digest[EVP_MAX_MD_SIZE];
	bool is_good;

	esp_hmac_pads(cold, n_block, pads[0], pads[1]);
	esp_put_be32(high, job->seq_high);
	is_good = EVP_DigestInit_ex2(ctx, NULL, NULL) == 1 &&
		  EVP_DigestUpdate(ctx, pads[0], n_block) == 1 &&
		  EVP_DigestUpdate(ctx, job->esp, len) == 1 &&
		  EVP_DigestUpdate(ctx, high, job->has_esn ? sizeof(high) : 0) == 1 &&
		  EVP_DigestFinal_ex(ctx, digest, &n) == 1 &&
		  EVP_DigestInit_ex2(ctx, NULL, NULL) == 1 &&
		  EVP_DigestUpdate(ctx, pads[1], n_block) == 1 &&
		  EVP_DigestUpdate(ctx, digest, n) == 1 && EVP_DigestFinal_ex(ctx, digest, &n) == 1;
	assert(is_good);
	explicit_bzero(pads, sizeof(pads));
	return is_good && CRYPTO_memcmp(digest, job->esp + len, job->key->icv_bytes) == 0;
}

static EVP_CIPHER_CTX *aead_of(struct esp_evp *evp, const struct esp_cold *cold)
{
	unsigned size = cold->key_bytes / 8U - 2;

	switch (cold->cipher) {
	case ESP_CHACHA20_POLY1305:
		return evp->ciphers[EVP_CHACHA20_POLY1305];
	case ESP_AES_CCM:
		return evp->ciphers[EVP_CCM + size];
	case ESP_AES_GCM:
	case ESP_AES_GMAC:
		return evp->ciphers[EVP_GCM + size];
	default:
		return NULL;
	}
}

enum esp_icv esp_evp_check(struct esp_evp *evp, const struct esp_icv_job *job)
{
	const struct esp_cold *cold = job->key->cold;
	EVP_CIPHER_CTX *aead = aead_of(evp, cold);

	if (aead != NULL)
		return is_aead_good(evp, aead, job) ? ESP_ICV_OK : ESP_ICV_BAD;
	if (evp->digests[cold->auth] == NULL)
		return ESP_ICV_UNCHECKED;
	return is_hmac_good(evp->digests[cold->auth], job) ? ESP_ICV_OK : ESP_ICV_BAD;
}
