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
enum evp_kind { EVP_CTR, EVP_CBC = 3, EVP_3DES = 6, EVP_CHACHA20, EVP_KINDS };

struct esp_evp {
	EVP_CIPHER_CTX *ciphers[EVP_KINDS];
};

static const char *const names[EVP_KINDS] = {
	[EVP_CTR] = "AES-128-CTR",
	"AES-192-CTR",
	"AES-256-CTR",
	[EVP_CBC] = "AES-128-CBC",
	"AES-192-CBC",
	"AES-256-CBC",
	[EVP_3DES] = "DES-EDE3-CBC",
	[EVP_CHACHA20] = "ChaCha20",
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

struct esp_evp *esp_evp_open(void)
{
	struct esp_evp *evp = calloc(1, sizeof(*evp));

	(void)OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
	for (unsigned i = 0; evp != NULL && i < EVP_KINDS; i++) {
		evp->ciphers[i] = open_cipher(names[i]);
		if (evp->ciphers[i] == NULL) {
			esp_evp_close(evp);
			evp = NULL;
		}
	}
	return evp;
}

void esp_evp_close(struct esp_evp *evp)
{
	if (evp == NULL)
		return;
	for (unsigned i = 0; i < EVP_KINDS; i++)
		EVP_CIPHER_CTX_free(evp->ciphers[i]); // wipes the key
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
