/* test_esp_cipher.c - every algorithm, key length, offset and length, in each engine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "dataplane/esp_cipher.h"
#include "filters/limits.h"
#include "tests/dice.h"
#include "tests/esp_seal.h"

enum { ENGINES = 2, PACKET_MAX = 4096, PAGE = 4096, FILL = 0xa5 };

static const char *const engine_names[ENGINES] = {"ipsec-mb", "OpenSSL"};

static struct esp_engine *engines[ENGINES];

/* A buffer of whole pages between two that nobody may touch: bytes are laid at its front or at its end. */
struct fence {
	uint8_t *begin, *end;
};

static struct fence fence_open(size_t bytes)
{
	size_t n = (bytes + PAGE - 1) / PAGE * PAGE;
	uint8_t *base = mmap(NULL, n + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(base != MAP_FAILED);
	assert_int_equal(mprotect(base + PAGE, n, PROT_READ | PROT_WRITE), 0);
	return (struct fence){base + PAGE, base + PAGE + n};
}

static void fence_close(struct fence *f)
{
	(void)munmap(f->begin - PAGE, (size_t)(f->end - f->begin) + 2 * PAGE);
}

static void roll(struct dice *d, void *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)out)[i] = (uint8_t)dice_next(d);
}

/* An SA of this cipher with the key_i'th key length and icv_i'th ICV length, random keys. */
static struct sa_record random_sa(struct dice *d, enum esp_cipher cipher, unsigned key_i,
				  unsigned icv_i, enum esp_auth auth)
{
	const struct esp_cipher_info *info = &esp_ciphers[cipher];
	struct sa_record sa = {
		.spi = (uint32_t)dice_next(d), .cipher = (uint8_t)cipher, .auth = (uint8_t)auth};

	sa.enc_key_bytes = (uint8_t)(info->key_bytes[key_i] + info->salt_bytes);
	sa.icv_bytes = esp_is_aead(cipher) ? info->icv_bytes[icv_i] : esp_auths[auth].icv_bytes;
	sa.auth_key_bytes = esp_auths[auth].key_bytes;
	roll(d, sa.enc_key, sa.enc_key_bytes);
	roll(d, sa.auth_key, sa.auth_key_bytes);
	return sa;
}

static unsigned key_lengths(enum esp_cipher cipher)
{
	unsigned n = 1;

	while (n < 3 && esp_ciphers[cipher].key_bytes[n] != 0)
		n++;
	return n;
}

/* Decrypt a piece whose bytes (and what CBC needs in front) are all that can be read, at the end of a page
 * and at the front of one; nothing beyond `len` may be written.
 */
static void check_piece(struct esp_engine *engine, const struct sa_record *sa,
			const struct esp_key *key, const uint8_t *packet, const uint8_t *clear,
			uint32_t offset, uint32_t len)
{
	uint32_t iv_bytes = esp_ciphers[sa->cipher].iv_bytes, n = iv_bytes + offset + len;
	struct fence in = fence_open(PACKET_MAX), out = fence_open(PACKET_MAX);

	for (unsigned at_end = 0; at_end < 2; at_end++) {
		uint8_t *iv = at_end ? in.end - n : in.begin;
		uint8_t *to = at_end ? out.end - len : out.begin;
		struct esp_job job = {
			.key = key, .iv = iv, .offset = offset, .len = len, .out = to};

		memset(out.begin, FILL, (size_t)(out.end - out.begin));
		memcpy(iv, packet + ESP_HEADER_BYTES, n);
		esp_decrypt_burst(engine, &job, 1);
		assert_memory_equal(to, clear + offset, len);
		for (uint8_t *p = out.begin; p < out.end; p++)
			assert_true((p >= to && p < to + len) || *p == FILL);
	}
	fence_close(&in);
	fence_close(&out);
}

/* Offsets by whole blocks, lengths by blocks or, of streams, by bytes. */
static void check_pieces(struct dice *d, enum esp_cipher cipher, unsigned key_i)
{
	uint32_t block = esp_ciphers[cipher].block_bytes;
	uint32_t step = cipher == ESP_3DES_CBC ? 8 : 16;
	struct sa_record sa = random_sa(d, cipher, key_i, 0, ESP_AUTH_NONE);
	uint8_t clear[416], iv[16], packet[PACKET_MAX];
	struct esp_key *key = esp_key_open(&sa, false, NULL);

	assert_non_null(key);
	roll(d, clear, sizeof(clear));
	roll(d, iv, sizeof(iv));
	(void)esp_seal(
		&sa,
		&(struct esp_clear){
			.spi = sa.spi, .seq = 7, .iv = iv, .payload = clear, .len = sizeof(clear)},
		packet);
	for (unsigned e = 0; e < ENGINES; e++)
		for (uint32_t offset = 0; offset <= 288; offset += step)
			for (uint32_t len = 0; len <= 128; len += block > 1  ? block
								  : len < 35 ? 1
									     : 13)
				check_piece(engines[e], &sa, key, packet, clear, offset, len);
	esp_key_close(key);
}

static void pieces_at_any_block_are_those_of_the_whole(void **state)
{
	struct dice d = dice_open("pieces");

	(void)state;
	for (unsigned cipher = 0; cipher < ESP_UNSUPPORTED; cipher++)
		for (unsigned i = 0; i < key_lengths(cipher); i++)
			check_pieces(&d, cipher, i);
}

static int open_engines(void **state)
{
	(void)state;
	engines[0] = esp_engine_open(ESP_IPSEC_MB);
	engines[1] = esp_engine_open(ESP_OPENSSL);
	for (unsigned i = 0; i < ENGINES; i++)
		if (engines[i] == NULL)
			print_message("%s cannot be opened\n", engine_names[i]);
	return engines[0] != NULL && engines[1] != NULL ? 0 : -1;
}

static int close_engines(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ENGINES; i++)
		esp_engine_close(engines[i]);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces_at_any_block_are_those_of_the_whole),
	};

	return cmocka_run_group_tests(tests, open_engines, close_engines);
}
