/* test_esp_algorithm.c - what the table allows, and nothing beside it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "filters/esp_algorithm.h"

/* Key lengths with salt, ICV lengths of the cipher's own. */
static const struct {
	enum esp_cipher cipher;
	uint8_t keys[3], icvs[3];
} allowed[] = {
	/* 1 */ {ESP_NULL, {0}, {0}},
	/* 2 */ {ESP_3DES_CBC, {24}, {0}},
	/* 3 */ {ESP_AES_CBC, {16, 24, 32}, {0}},
	/* 4 */ {ESP_AES_CTR, {20, 28, 36}, {0}},
	/* 5 */ {ESP_AES_CCM, {19, 27, 35}, {8, 12, 16}},
	/* 6 */ {ESP_AES_GCM, {20, 28, 36}, {8, 12, 16}},
	/* 7 */ {ESP_AES_GMAC, {20, 28, 36}, {16}},
	/* 8 */ {ESP_CHACHA20_POLY1305, {36}, {16}},
	/* 9 */ {ESP_UNSUPPORTED, {0}, {0}},
};

enum { CIPHERS = sizeof(allowed) / sizeof(allowed[0]) };

static bool is_in(const uint8_t list[3], size_t n)
{
	return list[0] == n || (n != 0 && (list[1] == n || list[2] == n));
}

static void a_key_has_one_of_the_lengths_of_its_rfc(void **state)
{
	(void)state;
	assert_int_equal(CIPHERS, ESP_CIPHER_COUNT);
	for (unsigned i = 0; i < CIPHERS; i++)
		for (size_t n = 0; n <= 300; n++)
			assert_int_equal(esp_takes_key(allowed[i].cipher, n),
					 is_in(allowed[i].keys, n));
}

static void an_aead_has_an_icv_of_its_own_and_no_other(void **state)
{
	(void)state;
	for (unsigned i = 0; i < CIPHERS; i++) {
		assert_int_equal(esp_is_aead(allowed[i].cipher), allowed[i].icvs[0] != 0);
		if (allowed[i].icvs[0] == 0)
			continue;
		for (unsigned auth = 0; auth < ESP_AUTH_COUNT; auth++)
			for (size_t n = 0; n <= 300; n++)
				assert_int_equal(
					esp_takes_icv(allowed[i].cipher, (enum esp_auth)auth, n),
					auth == ESP_AUTH_NONE && is_in(allowed[i].icvs, n));
	}
}

static void an_icv_has_the_length_of_its_algorithm(void **state)
{
	static const uint8_t lengths[ESP_AUTH_COUNT] = {0, 0, 12, 12, 12, 16, 24, 32, 12};

	(void)state;
	for (unsigned auth = 0; auth < ESP_AUTH_COUNT; auth++)
		for (size_t n = 0; n <= 300; n++)
			assert_int_equal(esp_takes_icv(ESP_AES_CBC, (enum esp_auth)auth, n),
					 auth == ESP_AUTH_UNCHECKED ? n > 0 && n <= ESP_ICV_MAX
								    : n == lengths[auth]);
}

static void names_are_there_and_differ(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ESP_CIPHER_COUNT; i++)
		for (unsigned k = 0; k < i; k++)
			assert_string_not_equal(esp_ciphers[i].name, esp_ciphers[k].name);
	for (unsigned i = 0; i < ESP_AUTH_COUNT; i++)
		for (unsigned k = 0; k < i; k++)
			assert_string_not_equal(esp_auths[i].name, esp_auths[k].name);
}

static void everything_fits_its_record(void **state)
{
	(void)state;
	for (unsigned i = 0; i < CIPHERS; i++) {
		for (unsigned k = 0; k < 3; k++) {
			assert_true(allowed[i].keys[k] <= ESP_ENC_KEY_MAX);
			assert_true(allowed[i].icvs[k] <= ESP_ICV_MAX);
		}
		assert_true(esp_ciphers[i].block_bytes > 0);
	}
	for (unsigned i = 0; i < ESP_AUTH_COUNT; i++) {
		assert_true(esp_auths[i].icv_bytes <= ESP_ICV_MAX);
		assert_true(esp_auths[i].key_bytes <= ESP_AUTH_KEY_MAX);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_key_has_one_of_the_lengths_of_its_rfc),
		cmocka_unit_test(an_aead_has_an_icv_of_its_own_and_no_other),
		cmocka_unit_test(an_icv_has_the_length_of_its_algorithm),
		cmocka_unit_test(names_are_there_and_differ),
		cmocka_unit_test(everything_fits_its_record),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
