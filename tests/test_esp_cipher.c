/* test_esp_cipher.c - every algorithm, key length, offset and length, in each engine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "dataplane/esp_cipher.h"
#include "filters/limits.h"
#include "tests/dice.h"
#include "tests/esp_seal.h"

enum { ENGINES = ESP_ENGINE_KINDS, PACKET_MAX = 4096, PAGE = 4096, FILL = 0xa5, MARGIN = 64 };

static const char *const engine_names[ENGINES] = {"fast", "ipsec-mb", "OpenSSL"};

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

static struct fence source, target; // opened once: mapping is what would cost

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
	uint32_t n = esp_ciphers[sa->cipher].iv_bytes + offset + len;

	for (unsigned at_end = 0; at_end < 2; at_end++) {
		uint8_t *iv = at_end ? source.end - n : source.begin;
		uint8_t *to = at_end ? target.end - len : target.begin;
		uint8_t *margin = at_end ? to - MARGIN : to + len;
		struct esp_job job = {
			.key = key, .iv = iv, .offset = offset, .len = len, .out = to};

		memcpy(iv, packet + ESP_HEADER_BYTES, n);
		memset(margin, FILL, MARGIN);
		memset(to, FILL, len);
		esp_decrypt_burst(engine, &job, 1);
		assert_memory_equal(to, clear + offset, len);
		for (unsigned i = 0; i < MARGIN; i++)
			assert_int_equal(margin[i], FILL);
	}
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

/* As a worker does: prefixes and trailers of packets of all kinds in one burst. */
static void a_mixed_burst_is_read_as_piece_by_piece(void **state)
{
	static struct esp_job jobs[ESP_JOBS_MAX];
	static uint8_t packets[ESP_JOBS_MAX][256], whole[ENGINES][ESP_JOBS_MAX][128];
	struct esp_key *keys[ESP_JOBS_MAX];
	struct dice d = dice_open("burst");

	(void)state;
	for (unsigned i = 0; i < ESP_JOBS_MAX; i++) {
		enum esp_cipher cipher = dice_below(&d, ESP_UNSUPPORTED);
		struct sa_record sa = random_sa(&d, cipher, dice_below(&d, key_lengths(cipher)), 0,
						ESP_AUTH_NONE);

		roll(&d, packets[i], sizeof(packets[i]));
		keys[i] = esp_key_open(&sa, false, NULL);
		assert_non_null(keys[i]);
		jobs[i] = (struct esp_job){.key = keys[i],
					   .iv = packets[i],
					   .offset = 16 * dice_below(&d, 7),
					   .len = 16 * dice_below(&d, 8)};
	}
	for (unsigned e = 0; e < ENGINES; e++) {
		for (unsigned i = 0; i < ESP_JOBS_MAX; i++)
			jobs[i].out = whole[e][i];
		esp_decrypt_burst(engines[e], jobs, ESP_JOBS_MAX);
		for (unsigned i = 0; i < ESP_JOBS_MAX; i++) {
			uint8_t alone[128];

			jobs[i].out = alone;
			esp_decrypt_burst(engines[e], &jobs[i], 1);
			assert_memory_equal(alone, whole[e][i], jobs[i].len);
			assert_memory_equal(whole[e][i], whole[0][i], jobs[i].len);
		}
	}
	for (unsigned i = 0; i < ESP_JOBS_MAX; i++)
		esp_key_close(keys[i]);
}

/* ---- ICVs ---- */

/* What the engine has to say of a right ICV. */
static enum esp_icv right_answer(unsigned engine, const struct sa_record *sa)
{
	if (sa->icv_bytes == 0)
		return ESP_ICV_UNCHECKED;
	return sa->auth == ESP_AUTH_AES_XCBC_96 && engine == ESP_OPENSSL ? ESP_ICV_UNCHECKED
									 : ESP_ICV_OK;
}

/* A right packet is good; every bit that is authenticated and every bit of the ICV counts. */
static void check_icv(struct dice *d, const struct sa_record *sa, size_t n_payload, bool has_esn)
{
	struct esp_key *key = esp_key_open(sa, true, NULL);
	uint8_t clear[512], iv[16];
	struct esp_clear c = {.spi = sa->spi,
			      .seq = (uint32_t)dice_next(d),
			      .seq_high = 1 + dice_below(d, 9),
			      .has_esn = has_esn,
			      .iv = iv,
			      .payload = clear,
			      .len = n_payload};
	uint8_t packet[PACKET_MAX], *esp;
	uint32_t len;

	assert_non_null(key);
	roll(d, clear, sizeof(clear));
	roll(d, iv, sizeof(iv));
	len = (uint32_t)esp_seal(sa, &c, packet);
	esp = source.end - len;
	memcpy(esp, packet, len);
	for (unsigned e = 0; e < ENGINES; e++) {
		enum esp_icv right = right_answer(e, sa);
		enum esp_icv wrong = right == ESP_ICV_OK ? ESP_ICV_BAD : right;
		uint32_t step = n_payload > 16 ? 31 : 1; // bits

		assert_int_equal(esp_check_icv(engines[e], key, esp, len, has_esn, c.seq_high),
				 right);
		for (uint32_t bit = 0; bit < len * 8; bit += step) {
			esp[bit / 8] ^= (uint8_t)(1U << bit % 8);
			assert_int_equal(
				esp_check_icv(engines[e], key, esp, len, has_esn, c.seq_high),
				wrong);
			esp[bit / 8] ^= (uint8_t)(1U << bit % 8);
		}
		if (right == ESP_ICV_OK) // the halves that nobody sent, and the other number space
			assert_int_equal(esp_check_icv(engines[e], key, esp, len, !has_esn, 0),
					 ESP_ICV_BAD);
		if (has_esn && right == ESP_ICV_OK)
			assert_int_equal(
				esp_check_icv(engines[e], key, esp, len, true, c.seq_high + 1),
				ESP_ICV_BAD);
	}
	esp_key_close(key);
}

static const size_t icv_payloads[] = {0, 16, 48, 64, 112, 128, 400};

enum { ICV_PAYLOADS = sizeof(icv_payloads) / sizeof(icv_payloads[0]) };

static void every_flipped_bit_of_an_aead_packet_is_bad(void **state)
{
	struct dice d = dice_open("aead");

	(void)state;
	for (unsigned cipher = 0; cipher < ESP_UNSUPPORTED; cipher++)
		for (unsigned i = 0; esp_is_aead(cipher) && i < key_lengths(cipher); i++)
			for (unsigned icv = 0; icv < 3 && esp_ciphers[cipher].icv_bytes[icv] != 0;
			     icv++)
				for (unsigned n = 0; n < 2 * ICV_PAYLOADS; n++) {
					struct sa_record sa =
						random_sa(&d, cipher, i, icv, ESP_AUTH_NONE);

					check_icv(&d, &sa, icv_payloads[n / 2], n % 2 == 1);
				}
}

static void every_flipped_bit_under_an_hmac_is_bad(void **state)
{
	static const enum esp_cipher under[] = {ESP_NULL, ESP_3DES_CBC, ESP_AES_CBC, ESP_AES_CTR};
	struct dice d = dice_open("hmac");

	(void)state;
	for (unsigned auth = ESP_AUTH_HMAC_MD5_96; auth < ESP_AUTH_COUNT; auth++)
		for (unsigned c = 0; c < 4; c++)
			for (unsigned n = 0; n < 2 * ICV_PAYLOADS; n++) {
				struct sa_record sa = random_sa(&d, under[c], 0, 0, auth);

				check_icv(&d, &sa, icv_payloads[n / 2], n % 2 == 1);
			}
}

/* Good and bad, every algorithm, more bytes than the engine's scratch holds, in one call. */
static void a_mixed_burst_of_icvs_is_judged_one_by_one(void **state)
{
	static uint8_t packets[BURST_MAX][9000], clear[8192];
	struct dice d = dice_open("burst of ICVs");
	struct esp_icv_job jobs[BURST_MAX];
	struct esp_key *keys[BURST_MAX];
	enum esp_icv says[BURST_MAX], right[BURST_MAX];
	uint8_t iv[16];
	bool is_xcbc[BURST_MAX];

	(void)state;
	roll(&d, clear, sizeof(clear));
	roll(&d, iv, sizeof(iv));
	for (unsigned i = 0; i < BURST_MAX; i++) {
		enum esp_cipher cipher = dice_below(&d, ESP_UNSUPPORTED);
		enum esp_auth auth = ESP_AUTH_HMAC_MD5_96 + dice_below(&d, 7);
		struct sa_record sa = random_sa(&d, cipher, dice_below(&d, key_lengths(cipher)), 0,
						esp_is_aead(cipher) ? ESP_AUTH_NONE : auth);
		struct esp_clear c = {.spi = i,
				      .seq = i,
				      .seq_high = i,
				      .has_esn = i % 2 == 0,
				      .iv = iv,
				      .payload = clear,
				      .len = 16 * dice_below(&d, 512)};

		jobs[i] = (struct esp_icv_job){.key = keys[i] = esp_key_open(&sa, true, NULL),
					       .esp = packets[i],
					       .len = (uint32_t)esp_seal(&sa, &c, packets[i]),
					       .seq_high = i,
					       .has_esn = c.has_esn};
		right[i] = dice_one_in(&d, 3) ? ESP_ICV_BAD : ESP_ICV_OK;
		packets[i][dice_below(&d, jobs[i].len)] ^= right[i] == ESP_ICV_BAD;
		is_xcbc[i] = sa.auth == ESP_AUTH_AES_XCBC_96;
	}
	for (unsigned e = 0; e < ENGINES; e++) {
		esp_check_icv_burst(engines[e], jobs, BURST_MAX, says);
		for (unsigned i = 0; i < BURST_MAX; i++)
			assert_int_equal(says[i], is_xcbc[i] && e == ESP_OPENSSL ? ESP_ICV_UNCHECKED
										 : right[i]);
	}
	for (unsigned i = 0; i < BURST_MAX; i++)
		esp_key_close(keys[i]);
}

static void what_cannot_be_checked_is_unchecked(void **state)
{
	struct dice d = dice_open("unchecked");
	struct sa_record gcm = random_sa(&d, ESP_AES_GCM, 0, 0, ESP_AUTH_NONE);
	struct sa_record none = random_sa(&d, ESP_AES_CBC, 0, 0, ESP_AUTH_NONE);
	struct sa_record unknown = random_sa(&d, ESP_AES_CBC, 0, 0, ESP_AUTH_UNCHECKED);
	struct esp_key *keys[] = {esp_key_open(&gcm, false, NULL), esp_key_open(&none, true, NULL),
				  NULL};
	uint8_t packet[64] = {0};

	(void)state;
	unknown.icv_bytes = 12;
	keys[2] = esp_key_open(&unknown, true, NULL);
	for (unsigned e = 0; e < ENGINES; e++)
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(esp_check_icv(engines[e], keys[i], packet, sizeof(packet),
						       false, 0),
					 ESP_ICV_UNCHECKED);
	for (unsigned i = 0; i < 3; i++)
		esp_key_close(keys[i]);
}

static void a_key_of_a_wrong_length_is_refused_with_spi_and_without_a_byte_of_it(void **state)
{
	struct sa_record sa = {.spi = 0xc0ffee01, .cipher = ESP_AES_GCM, .enc_key_bytes = 21};
	struct error err = {0};

	(void)state;
	memset(sa.enc_key, 'K', sizeof(sa.enc_key));
	assert_null(esp_key_open(&sa, false, &err));
	assert_non_null(strstr(err.text, "0xc0ffee01"));
	assert_non_null(strstr(err.text, "aes-gcm"));
	assert_null(strstr(err.text, "KK"));
	assert_null(strstr(err.text, "4b4b"));
	sa.enc_key_bytes = 20;
	sa.icv_bytes = 0; // an ICV of no bytes would always be right
	assert_null(esp_key_open(&sa, false, &err));
	assert_non_null(strstr(err.text, "ICV"));
	sa.cipher = ESP_UNSUPPORTED;
	assert_null(esp_key_open(&sa, false, NULL));
	esp_key_close(NULL);
}

static unsigned n_allocations; // by OpenSSL

static void *count_malloc(size_t n, const char *file, int line)
{
	(void)file;
	(void)line;
	n_allocations++;
	return malloc(n);
}

static void *count_realloc(void *mem, size_t n, const char *file, int line)
{
	(void)file;
	(void)line;
	n_allocations++;
	return realloc(mem, n);
}

static void plain_free(void *mem, const char *file, int line)
{
	(void)file;
	(void)line;
	free(mem);
}

static void a_packet_allocates_at_most_two_small_states_of_openssl(void **state)
{
	struct dice d = dice_open("allocations");
	uint8_t packet[512], to[64];

	(void)state;
	assert_true(n_allocations > 0); // they are counted
	roll(&d, packet, sizeof(packet));
	for (unsigned i = 0; i < ESP_UNSUPPORTED * ESP_AUTH_COUNT; i++) {
		enum esp_cipher cipher = i / ESP_AUTH_COUNT;
		enum esp_auth auth = esp_is_aead(cipher) ? ESP_AUTH_NONE : i % ESP_AUTH_COUNT;
		struct sa_record sa = random_sa(&d, cipher, 0, 0, auth);
		struct esp_job job = {.iv = packet, .offset = 16, .len = 64, .out = to};
		struct esp_key *key;
		unsigned before;
		bool has_states;

		if (auth == ESP_AUTH_UNCHECKED)
			continue;
		job.key = key = esp_key_open(&sa, true, NULL);
		assert_non_null(key);
		before = n_allocations;
		for (unsigned e = 0; e < ENGINES; e++) {
			esp_decrypt_burst(engines[e], &job, 1);
			(void)esp_check_icv(engines[e], key, packet, sizeof(packet), true, 1);
		}
		// OpenSSL 3.0 makes a digest's state anew for each of the two of an HMAC.
		// A bad ICV of its CCM makes an entry in its list of errors: two more.
		has_states = cipher == ESP_AES_CCM ||
			     (auth > ESP_AUTH_UNCHECKED && auth < ESP_AUTH_AES_XCBC_96);
		assert_true(n_allocations - before <= (has_states ? 2U * (ENGINES - 1) : 0U));
		esp_key_close(key);
	}
}

static int open_engines(void **state)
{
	(void)state;
	source = fence_open(PACKET_MAX);
	target = fence_open(PACKET_MAX);
	for (unsigned i = 0; i < ENGINES; i++) {
		engines[i] = esp_engine_open((enum esp_engine_kind)i);
		if (engines[i] == NULL) {
			print_message("%s cannot be opened\n", engine_names[i]);
			return -1;
		}
	}
	return 0;
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
		cmocka_unit_test(every_flipped_bit_of_an_aead_packet_is_bad),
		cmocka_unit_test(every_flipped_bit_under_an_hmac_is_bad),
		cmocka_unit_test(a_mixed_burst_is_read_as_piece_by_piece),
		cmocka_unit_test(a_mixed_burst_of_icvs_is_judged_one_by_one),
		cmocka_unit_test(what_cannot_be_checked_is_unchecked),
		cmocka_unit_test(a_packet_allocates_at_most_two_small_states_of_openssl),
		cmocka_unit_test(
			a_key_of_a_wrong_length_is_refused_with_spi_and_without_a_byte_of_it),
	};

	if (CRYPTO_set_mem_functions(count_malloc, count_realloc, plain_free) != 1)
		return 1;
	return cmocka_run_group_tests(tests, open_engines, close_engines);
}
