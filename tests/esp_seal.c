/* esp_seal.c - one EVP call after the other; a test process ends where one fails. */
#include "tests/esp_seal.h"

#include <arpa/inet.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 16, AAD_MAX = 12 };

static void must(bool holds, const char *what)
{
	if (holds)
		return;
	(void)fprintf(stderr, "esp_seal: %s\n", what);
	abort();
}

static const EVP_CIPHER *evp_cipher(const struct sa_record *sa)
{
	size_t bits = 8U * (sa->enc_key_bytes - esp_ciphers[sa->cipher].salt_bytes);
	char name[32];

	switch ((enum esp_cipher)sa->cipher) {
	case ESP_3DES_CBC:
		return EVP_des_ede3_cbc();
	case ESP_CHACHA20_POLY1305:
		return EVP_chacha20_poly1305();
	default:
		(void)snprintf(name, sizeof(name), "aes-%zu-%s", bits,
			       sa->cipher == ESP_AES_CBC   ? "cbc"
			       : sa->cipher == ESP_AES_CTR ? "ctr"
			       : sa->cipher == ESP_AES_CCM ? "ccm"
							   : "gcm");
		return EVP_get_cipherbyname(name);
	}
}

/* SPI and sequence number, as they are authenticated. */
static size_t aad(const struct esp_clear *clear, uint8_t out[AAD_MAX])
{
	const uint32_t words[3] = {htonl(clear->spi),
				   htonl(clear->has_esn ? clear->seq_high : clear->seq),
				   htonl(clear->seq)};

	memcpy(out, words, sizeof(words));
	return clear->has_esn ? 12 : 8;
}

static void seal_aead(const struct sa_record *sa, const struct esp_clear *clear, uint8_t *out)
{
	size_t n_salt = esp_ciphers[sa->cipher].salt_bytes, n_aad;
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	bool is_ccm = sa->cipher == ESP_AES_CCM, is_gmac = sa->cipher == ESP_AES_GMAC;
	uint8_t nonce[12], head[AAD_MAX];
	int n = 0;

	memcpy(nonce, sa->enc_key + sa->enc_key_bytes - n_salt, n_salt);
	memcpy(nonce + n_salt, clear->iv, 8);
	n_aad = aad(clear, head);
	must(EVP_EncryptInit_ex(ctx, evp_cipher(sa), NULL, NULL, NULL) == 1, "cipher");
	must(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_IVLEN, (int)n_salt + 8, NULL) == 1, "IV");
	if (is_ccm)
		must(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, sa->icv_bytes, NULL) == 1,
		     "ICV");
	must(EVP_EncryptInit_ex(ctx, NULL, NULL, sa->enc_key, nonce) == 1, "key");
	if (is_ccm)
		must(EVP_EncryptUpdate(ctx, NULL, &n, NULL, (int)clear->len) == 1, "length");
	must(EVP_EncryptUpdate(ctx, NULL, &n, head, (int)n_aad) == 1, "AAD");
	if (is_gmac) { // RFC 4543: IV and payload are authenticated, nothing is encrypted
		memcpy(out, clear->payload, clear->len);
		must(EVP_EncryptUpdate(ctx, NULL, &n, clear->iv, 8) == 1, "IV");
		must(EVP_EncryptUpdate(ctx, NULL, &n, clear->payload, (int)clear->len) == 1,
		     "payload");
	} else {
		must(EVP_EncryptUpdate(ctx, out, &n, clear->payload, (int)clear->len) == 1,
		     "payload");
	}
	must(EVP_EncryptFinal_ex(ctx, out + clear->len, &n) == 1, "end");
	must(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, sa->icv_bytes, out + clear->len) == 1,
	     "ICV");
	EVP_CIPHER_CTX_free(ctx);
}

static void seal_plain_mode(const struct sa_record *sa, const struct esp_clear *clear, uint8_t *out)
{
	uint8_t iv[BLOCK] = {0};
	EVP_CIPHER_CTX *ctx;
	int n = 0;

	if (sa->cipher == ESP_NULL) {
		memcpy(out, clear->payload, clear->len);
		return;
	}
	memcpy(iv, clear->iv, esp_ciphers[sa->cipher].iv_bytes);
	if (sa->cipher == ESP_AES_CTR) { // RFC 3686, 4: nonce, IV, 1
		memcpy(iv, sa->enc_key + sa->enc_key_bytes - 4, 4);
		memcpy(iv + 4, clear->iv, 8);
		iv[BLOCK - 1] = 1;
	}
	ctx = EVP_CIPHER_CTX_new();
	must(EVP_EncryptInit_ex(ctx, evp_cipher(sa), NULL, sa->enc_key, iv) == 1, "key");
	must(EVP_CIPHER_CTX_set_padding(ctx, 0) == 1, "padding");
	must(EVP_EncryptUpdate(ctx, out, &n, clear->payload, (int)clear->len) == 1, "payload");
	must(n == (int)clear->len, "payload in whole blocks");
	EVP_CIPHER_CTX_free(ctx);
}

static void aes_block(const uint8_t key[BLOCK], const uint8_t in[BLOCK], uint8_t out[BLOCK])
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int n = 0;

	must(EVP_EncryptInit_ex(ctx, EVP_aes_128_ecb(), NULL, key, NULL) == 1, "key");
	must(EVP_CIPHER_CTX_set_padding(ctx, 0) == 1, "padding");
	must(EVP_EncryptUpdate(ctx, out, &n, in, BLOCK) == 1, "block");
	EVP_CIPHER_CTX_free(ctx);
}

/* RFC 3566, 4. */
static void xcbc(const uint8_t key[BLOCK], const uint8_t *m, size_t len, uint8_t tag[BLOCK])
{
	uint8_t keys[3][BLOCK], block[BLOCK], last[BLOCK] = {0}, e[BLOCK] = {0};
	size_t n_last = len % BLOCK != 0 ? len % BLOCK : len != 0 ? BLOCK : 0;

	for (unsigned i = 0; i < 3; i++) {
		memset(block, (int)i + 1, BLOCK);
		aes_block(key, block, keys[i]);
	}
	for (size_t at = 0; at + n_last < len; at += BLOCK) {
		for (unsigned i = 0; i < BLOCK; i++)
			block[i] = m[at + i] ^ e[i];
		aes_block(keys[0], block, e);
	}
	memcpy(last, m + len - n_last, n_last);
	if (n_last < BLOCK)
		last[n_last] = 0x80;
	for (unsigned i = 0; i < BLOCK; i++)
		block[i] = last[i] ^ e[i] ^ keys[n_last == BLOCK ? 1 : 2][i];
	aes_block(keys[0], block, tag);
}

static const EVP_MD *evp_md(enum esp_auth auth)
{
	switch (auth) {
	case ESP_AUTH_HMAC_MD5_96:
		return EVP_md5();
	case ESP_AUTH_HMAC_SHA1_96:
		return EVP_sha1();
	case ESP_AUTH_HMAC_SHA384_192:
		return EVP_sha384();
	case ESP_AUTH_HMAC_SHA512_256:
		return EVP_sha512();
	default:
		return EVP_sha256();
	}
}

/* The high half of the sequence number behind the packet, where there is one (RFC 4303, 2.2.1). */
static void add_icv(const struct sa_record *sa, const struct esp_clear *clear, uint8_t *esp,
		    size_t len)
{
	uint8_t *m = malloc(len + 4), tag[EVP_MAX_MD_SIZE] = {0};
	uint32_t high = htonl(clear->seq_high);
	size_t n = len + (clear->has_esn ? 4 : 0);

	must(m != NULL, "memory");
	memcpy(m, esp, len);
	memcpy(m + len, &high, 4);
	if (sa->auth == ESP_AUTH_AES_XCBC_96)
		xcbc(sa->auth_key, m, n, tag);
	else if (sa->auth > ESP_AUTH_UNCHECKED)
		must(HMAC(evp_md(sa->auth), sa->auth_key, sa->auth_key_bytes, m, n, tag, NULL) !=
			     NULL,
		     "HMAC");
	memcpy(esp + len, tag, sa->icv_bytes);
	free(m);
}

size_t esp_seal(const struct sa_record *sa, const struct esp_clear *clear, uint8_t *out)
{
	const uint32_t head[2] = {htonl(clear->spi), htonl(clear->seq)};
	size_t n_iv = esp_ciphers[sa->cipher].iv_bytes;
	uint8_t *payload = out + ESP_HEADER_BYTES + n_iv;

	memcpy(out, head, sizeof(head));
	memcpy(out + ESP_HEADER_BYTES, clear->iv, n_iv);
	if (esp_is_aead(sa->cipher)) {
		seal_aead(sa, clear, payload);
	} else {
		seal_plain_mode(sa, clear, payload);
		add_icv(sa, clear, out, ESP_HEADER_BYTES + n_iv + clear->len);
	}
	return ESP_HEADER_BYTES + n_iv + clear->len + sa->icv_bytes;
}
