/* test_sa_set.c - a set of SAs that lies anywhere is refused, or is harmless, and no sentence shows a key.
 *
 * Every byte of a valid set is changed in several ways, and the set is cut at every length: run under
 * ASan (build-asan) this shows each read that the check let out.  What passes is compiled and looked up in.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka wants the above first
#include <cmocka.h>
#include <errno.h>

#include "dataplane/sa_table.h"
#include "tests/random_sas.h"

enum { SMALL = 24, PACKETS = 8, SECRET_BYTE = 'S' };

/* What the byte looks like in text and in hexadecimal. */
static const char *const secrets[] = {"SSSS", "535353", "53 53", "53:53", "53, 53"};

static void assert_no_key(const struct error *err)
{
	for (unsigned i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++)
		assert_null(strstr(err->text, secrets[i]));
}

/* Compile a set that passed and look packets up in it. */
static void use(const struct sa_set *set, struct dice *d, const struct random_sas *from)
{
	struct error err = {0};
	struct sa_table *t = sa_table_open(set, &err);
	uint32_t n;

	assert_non_null(t);
	assert_int_equal(sa_table_n(t), set->header->n_sas);
	for (unsigned i = 0; i < PACKETS; i++) {
		struct sa_packet p;
		const struct sa *sa;

		random_sas_packet(from, d, &p);
		sa = sa_table_find(t, p.spi, p.family, p.src, p.dst);
		if (sa != NULL) {
			assert_in_range(sa->slot, 0, SA_MAX - 1);
			assert_in_range(sa->icv_bytes, 0, ESP_ICV_MAX);
			assert_in_range(sa->mode, SA_MODE_ANY, SA_MODE_TRANSPORT);
			if (sa->connection_kind != SA_CONNECTION_NONE)
				assert_in_range(sa->connection, 0, CONNECTIONS_MAX - 1);
		}
	}
	assert_in_range((uintptr_t)sa_table_new_slots(t, &n), 1, UINTPTR_MAX);
	assert_in_range(n, 0, set->header->n_sas);
	sa_table_close(t);
}

/* Check a copy of exactly `bytes` bytes.  True if it passed; then it was used. */
static bool check_copy(const void *mem, size_t bytes, struct dice *d, const struct random_sas *from)
{
	struct sa_set set = {0};
	struct error err = {0};
	void *copy = malloc(bytes > 0 ? bytes : 1);
	int rc;

	assert_non_null(copy);
	memcpy(copy, mem, bytes);
	rc = sa_set_check(copy, bytes, &set, &err);
	if (rc == 0) {
		assert_string_equal(err.text, "");
		use(&set, d, from);
	} else {
		assert_int_equal(rc, -EINVAL);
		assert_null(set.header); // untouched
		assert_non_null(strstr(err.text, " was refused: "));
		assert_non_null(strstr(err.text, "the keys in force stay."));
		assert_no_key(&err);
	}
	free(copy);
	return rc == 0;
}

/* A small set with something of everything, whose keys are all of one byte. */
static void throw_set(struct random_sas *set, struct dice *d)
{
	const struct random_sas_kind kind = {
		.n = SMALL, .n_wildcards = 6, .n_spis = 8, .n_addresses = 8};

	random_sas_open(set);
	random_sas_throw(set, d, &kind);
	for (uint32_t i = 0; i < SMALL; i++) {
		struct sa_record *r = &set->sas[i];

		memset(r->enc_key, SECRET_BYTE, r->enc_key_bytes);
		memset(r->auth_key, SECRET_BYTE, r->auth_key_bytes);
	}
	assert_true(check_copy(set->header, set->bytes, d, set));
}

static void every_byte_flipped_crashes_nothing(void **state)
{
	static const uint8_t flips[] = {0x01, 0x10, 0x80};
	struct dice d = dice_open("every_byte_flipped_crashes_nothing");
	unsigned n_passed = 0, n_refused = 0;
	struct random_sas set;
	uint8_t *mem;

	(void)state;
	throw_set(&set, &d);
	mem = (uint8_t *)set.header;
	for (size_t i = 0; i < set.bytes; i++)
		for (unsigned k = 0; k < sizeof(flips); k++) {
			mem[i] ^= flips[k];
			if (check_copy(mem, set.bytes, &d, &set))
				n_passed++;
			else
				n_refused++;
			mem[i] ^= flips[k];
		}
	assert_true(n_passed > 0 && n_refused > 0);
	random_sas_close(&set);
}

static void every_word_set_to_an_edge_crashes_nothing(void **state)
{
	static const uint32_t edges[] = {0, 0x7fffffff, 0xffffffff, SA_MAX, 0x01010101};
	struct dice d = dice_open("every_word_set_to_an_edge_crashes_nothing");
	struct random_sas set;
	uint8_t *mem;

	(void)state;
	throw_set(&set, &d);
	mem = (uint8_t *)set.header;
	for (size_t i = 0; i + 4 <= set.bytes; i += 4)
		for (unsigned k = 0; k < sizeof(edges) / sizeof(edges[0]); k++) {
			uint8_t kept[4];

			memcpy(kept, mem + i, 4);
			memcpy(mem + i, &edges[k], 4);
			(void)check_copy(mem, set.bytes, &d, &set);
			memcpy(mem + i, kept, 4);
		}
	random_sas_close(&set);
}

static void cut_set_is_refused_at_every_length(void **state)
{
	struct dice d = dice_open("cut_set_is_refused_at_every_length");
	struct random_sas set;

	(void)state;
	throw_set(&set, &d);
	for (size_t n = 0; n < set.bytes; n++) {
		assert_false(check_copy(set.header, n, &d, &set));
		// The same with a header that agrees with the cut.
		if (n >= sizeof(*set.header)) {
			set.header->total_bytes = (uint32_t)n;
			assert_false(check_copy(set.header, n, &d, &set));
			set.header->total_bytes = (uint32_t)set.bytes;
		}
	}
	random_sas_close(&set);
}

/* ---- each field ---- */

struct liar {
	struct random_sas set;
	struct dice d;
};

/* Change one field, see it refused, and the truth accepted again. */
static void lie(struct liar *l, const char *what, void *field, size_t size, uint64_t value)
{
	uint64_t kept = 0;

	memcpy(&kept, field, size);
	memcpy(field, &value, size); // little endian, as the field is
	if (check_copy(l->set.header, l->set.bytes, &l->d, &l->set))
		fail_msg("%s passed", what);
	memcpy(field, &kept, size);
	assert_true(check_copy(l->set.header, l->set.bytes, &l->d, &l->set));
}

/* IPv4, AES-CBC, HMAC-SHA256-128. */
static struct sa_record cbc_record(uint32_t slot)
{
	struct sa_record r = {
		.spi = 0x12345678,
		.spi_mask = UINT32_MAX,
		.src = {.value = {192, 0, 2, 1}, .mask = {255, 255, 255, 255}, .family = 4},
		.dst = {.value = {192, 0, 2, 2}, .mask = {255, 255, 255, 255}, .family = 4},
		.slot = slot,
		.connection = 7,
		.connection_kind = SA_CONNECTION_FIXED,
		.mode = SA_MODE_TUNNEL,
		.cipher = ESP_AES_CBC,
		.auth = ESP_AUTH_HMAC_SHA256_128,
		.icv_bytes = 16,
		.enc_key_bytes = 32,
		.auth_key_bytes = 32,
		.flags = SA_NEW | SA_ESN,
	};

	memset(r.enc_key, SECRET_BYTE, r.enc_key_bytes);
	memset(r.auth_key, SECRET_BYTE, r.auth_key_bytes);
	return r;
}

/* n SAs like the above, one destination each. */
static void make_set(struct random_sas *set, struct dice *d, uint32_t n)
{
	const struct random_sas_kind kind = {.n = n};

	random_sas_open(set);
	random_sas_throw(set, d, &kind);
	for (uint32_t i = 0; i < n; i++) {
		set->sas[i] = cbc_record(i);
		set->sas[i].dst.value[2] = (uint8_t)i;
	}
}

static void each_lie_is_refused(void **state)
{
	struct liar l = {.d = dice_open("each_lie_is_refused")};
	struct sa_set_header *h;
	struct sa_record *r;

	(void)state;
	make_set(&l.set, &l.d, 3);
	h = l.set.header;
	r = &l.set.sas[1];
#define LIE(field, value) lie(&l, #field " = " #value, &(field), sizeof(field), value)
	LIE(h->magic, 0);
	LIE(h->version, 2);
	LIE(h->total_bytes, (uint32_t)l.set.bytes + 8);
	LIE(h->n_sas, 2);
	LIE(h->n_sas, 4);
	LIE(h->n_sas, UINT32_MAX);
	LIE(h->flags, 2);
	LIE(h->reserved, 1);
	LIE(r->spi_mask, 0xfffffff0);
	LIE(r->src.family, 5);
	LIE(r->src.family, 0);
	LIE(r->src.value[4], 1);
	LIE(r->src.mask[4], 255);
	LIE(r->src.mask[3], 254);
	LIE(r->src.reserved[2], 1);
	LIE(r->dst.family, 1);
	LIE(r->dst.mask[0], 0);
	LIE(r->slot, 2);
	LIE(r->slot, SA_MAX);
	LIE(r->slot, UINT32_MAX);
	LIE(r->connection, CONNECTIONS_MAX);
	LIE(r->connection_kind, SA_CONNECTION_FIXED + 1);
	LIE(r->mode, SA_MODE_TRANSPORT + 1);
	LIE(r->cipher, ESP_CIPHER_COUNT);
	LIE(r->cipher, ESP_UNSUPPORTED);
	LIE(r->cipher, ESP_NULL);
	LIE(r->cipher, ESP_3DES_CBC);
	LIE(r->cipher, ESP_CHACHA20_POLY1305);
	LIE(r->auth, ESP_AUTH_COUNT);
	LIE(r->auth, ESP_AUTH_NONE);
	LIE(r->auth, ESP_AUTH_AES_XCBC_96);
	LIE(r->icv_bytes, 12);
	LIE(r->icv_bytes, 255);
	LIE(r->enc_key_bytes, 0);
	LIE(r->enc_key_bytes, 31);
	LIE(r->enc_key_bytes, 36);
	LIE(r->enc_key_bytes, 255);
	LIE(r->auth_key_bytes, 0);
	LIE(r->auth_key_bytes, ESP_AUTH_KEY_MAX + 1);
	LIE(r->flags, 4);
#undef LIE
	random_sas_close(&l.set);
}

static void aead_brings_its_own_icv(void **state)
{
	struct liar l = {.d = dice_open("aead_brings_its_own_icv")};
	struct sa_record *r;

	(void)state;
	make_set(&l.set, &l.d, 1);
	r = l.set.sas;
	r->cipher = ESP_AES_GCM;
	r->auth = ESP_AUTH_NONE;
	r->enc_key_bytes = 36;
	r->auth_key_bytes = 0;
	assert_true(check_copy(l.set.header, l.set.bytes, &l.d, &l.set));
	lie(&l, "an HMAC beside GCM", &r->auth, 1, ESP_AUTH_HMAC_SHA256_128);
	lie(&l, "an unchecked ICV beside GCM", &r->auth, 1, ESP_AUTH_UNCHECKED);
	lie(&l, "no ICV", &r->icv_bytes, 1, 0);
	lie(&l, "a key without salt", &r->enc_key_bytes, 1, 32);
	lie(&l, "a key of an HMAC", &r->auth_key_bytes, 1, 1);
	random_sas_close(&l.set);
}

static void sixty_four_wildcards_are_taken_and_one_more_is_refused(void **state)
{
	struct dice d = dice_open("sixty_four_wildcards_are_taken_and_one_more_is_refused");
	struct random_sas set;

	(void)state;
	make_set(&set, &d, SA_WILDCARDS_MAX + 2);
	for (uint32_t i = 0; i < SA_WILDCARDS_MAX; i++) {
		if (i % 2 == 0)
			set.sas[i].spi = set.sas[i].spi_mask = 0;
		else
			memset(&set.sas[i].dst, 0, sizeof(set.sas[i].dst));
	}
	// A source that is not whole is none of them.
	memset(&set.sas[SA_WILDCARDS_MAX].src, 0, sizeof(set.sas[0].src));
	assert_true(check_copy(set.header, set.bytes, &d, &set));
	set.sas[SA_WILDCARDS_MAX].dst.mask[3] = set.sas[SA_WILDCARDS_MAX].dst.value[3] = 0;
	assert_false(check_copy(set.header, set.bytes, &d, &set));
	random_sas_close(&set);
}

static void sentence_names_the_sa_and_what_is_wrong(void **state)
{
	struct dice d = dice_open("sentence_names_the_sa_and_what_is_wrong");
	struct random_sas set;
	struct sa_set checked;
	struct error err = {0};

	(void)state;
	make_set(&set, &d, 9);
	set.sas[6].enc_key_bytes = 7;
	assert_int_equal(sa_set_check(set.header, set.bytes, &checked, &err), -EINVAL);
	assert_string_equal(
		err.text,
		"SA 7 of the set (SPI 0x12345678, aes-cbc with a key of 7 bytes, "
		"hmac-sha256-128 with one of 32, ICV of 16) was refused: its cipher takes "
		"no key of that length; the keys in force stay.");
	random_sas_close(&set);
}

static void empty_set_is_valid(void **state)
{
	struct dice d = dice_open("empty_set_is_valid");
	struct random_sas set;
	struct sa_set checked = {0};

	(void)state;
	make_set(&set, &d, 0);
	assert_int_equal(sa_set_check(set.header, set.bytes, &checked, NULL), 0);
	assert_ptr_equal(checked.header, set.header);
	random_sas_close(&set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_byte_flipped_crashes_nothing),
		cmocka_unit_test(every_word_set_to_an_edge_crashes_nothing),
		cmocka_unit_test(cut_set_is_refused_at_every_length),
		cmocka_unit_test(each_lie_is_refused),
		cmocka_unit_test(aead_brings_its_own_icv),
		cmocka_unit_test(sixty_four_wildcards_are_taken_and_one_more_is_refused),
		cmocka_unit_test(sentence_names_the_sa_and_what_is_wrong),
		cmocka_unit_test(empty_set_is_valid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
