/* fuzz_esp_cipher.c - any record, any packet, any pieces: the engines agree, and stay within the bytes. */
#include "dataplane/esp_cipher.h"
#include "tests/fuzz_insist.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PIECES = 8, PIECE_MAX = 512 };

static struct esp_engine *engines[ESP_ENGINE_KINDS];

static void fill(struct bytes *b, void *out, size_t n)
{
	const uint8_t *from;
	size_t had = bytes_take(b, n, &from);

	if (had > 0)
		memcpy(out, from, had);
}

/* Wrong lengths now and then: they must be refused. */
static struct sa_record take_record(struct bytes *b)
{
	struct sa_record sa = {.cipher = bytes_u8(b) % (ESP_CIPHER_COUNT + 1),
			       .auth = bytes_u8(b) % (ESP_AUTH_COUNT + 1)};
	uint8_t pick = bytes_u8(b);

	if (sa.cipher < ESP_CIPHER_COUNT) {
		const struct esp_cipher_info *info = &esp_ciphers[sa.cipher];

		sa.enc_key_bytes = (uint8_t)(info->key_bytes[pick % 3] + info->salt_bytes);
		sa.icv_bytes = info->icv_bytes[pick / 4 % 3];
		if (esp_is_aead(sa.cipher))
			sa.auth = ESP_AUTH_NONE;
	}
	if (sa.icv_bytes == 0 && sa.auth < ESP_AUTH_COUNT) {
		sa.icv_bytes = esp_auths[sa.auth].icv_bytes;
		sa.auth_key_bytes = esp_auths[sa.auth].key_bytes;
	}
	if (pick >= 240) // any: RFC 2104 takes all, XCBC one
		sa.auth_key_bytes = bytes_u8(b) % (ESP_AUTH_KEY_MAX + 1);
	fill(b, sa.enc_key, sizeof(sa.enc_key));
	fill(b, sa.auth_key, sa.auth_key_bytes);
	return sa;
}

/* Pieces of a packet that is exactly as long as malloc says. */
static void check_pieces(struct bytes *b, const struct esp_key *key, enum esp_cipher cipher,
			 const uint8_t *iv, uint32_t payload)
{
	const struct esp_cipher_info *info = &esp_ciphers[cipher];
	uint32_t step = cipher == ESP_3DES_CBC ? 8 : 16;
	uint8_t *out[ESP_ENGINE_KINDS][PIECES];
	struct esp_job jobs[PIECES];
	unsigned n = bytes_u8(b) % (PIECES + 1);

	for (unsigned i = 0; i < n; i++) {
		uint32_t offset = bytes_u8(b) * step, len = bytes_u16(b) % PIECE_MAX;

		offset = offset <= payload ? offset : 0;
		len = len <= payload - offset ? len : payload - offset;
		len -= len % info->block_bytes;
		jobs[i] = (struct esp_job){.key = key, .iv = iv, .offset = offset, .len = len};
	}
	for (unsigned e = 0; e < ESP_ENGINE_KINDS; e++) {
		for (unsigned i = 0; i < n; i++)
			jobs[i].out = out[e][i] = malloc(jobs[i].len + (jobs[i].len == 0));
		esp_decrypt_burst(engines[e], jobs, n);
	}
	for (unsigned i = 0; i < n; i++)
		for (unsigned e = 0; e < ESP_ENGINE_KINDS; e++) {
			insist(memcmp(out[e][i], out[ESP_OPENSSL][i], jobs[i].len) == 0,
			       "engines read the same");
			if (e > 0)
				free(out[e - 1][i]);
			if (e == ESP_OPENSSL)
				free(out[e][i]);
		}
}

static void check_icv(struct bytes *b, const struct esp_key *key, const struct sa_record *sa,
		      const uint8_t *esp, uint32_t len)
{
	bool has_esn = bytes_u8(b) % 2 == 1;
	enum esp_icv says[ESP_ENGINE_KINDS];

	for (unsigned e = 0; e < ESP_ENGINE_KINDS; e++)
		says[e] = esp_check_icv(engines[e], key, esp, len, has_esn, 3);
	insist(says[ESP_FAST] == says[ESP_IPSEC_MB], "ipsec-mb agrees with itself");
	insist(says[ESP_FAST] == says[ESP_OPENSSL] || sa->auth == ESP_AUTH_AES_XCBC_96,
	       "engines say the same of an ICV");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes b = {data, size};
	struct sa_record sa = take_record(&b);
	struct error err = {0};
	struct esp_key *key = esp_key_open(&sa, true, &err);
	uint32_t head, payload;
	uint8_t *esp;

	for (unsigned e = 0; e < ESP_ENGINE_KINDS && engines[e] == NULL; e++) {
		engines[e] = esp_engine_open((enum esp_engine_kind)e);
		insist(engines[e] != NULL, "an engine");
	}
	insist(key != NULL || err.text[0] != '\0', "a refusal is a sentence");
	if (key == NULL)
		return 0;
	head = ESP_HEADER_BYTES + esp_ciphers[sa.cipher].iv_bytes;
	payload = bytes_u16(&b) % 2048;
	payload -= payload % esp_ciphers[sa.cipher].block_bytes;
	esp = calloc(1, head + payload + sa.icv_bytes);
	insist(esp != NULL, "memory");
	check_pieces(&b, key, sa.cipher, esp + ESP_HEADER_BYTES, payload);
	fill(&b, esp, head + payload + sa.icv_bytes);
	check_pieces(&b, key, sa.cipher, esp + ESP_HEADER_BYTES, payload);
	check_icv(&b, key, &sa, esp, head + payload + sa.icv_bytes);
	free(esp);
	esp_key_close(key);
	return 0;
}
