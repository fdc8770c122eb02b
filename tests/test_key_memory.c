/* test_key_memory.c - keys side by side, wiped, and nothing left of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "dataplane/key_memory.h"

enum { KEYS = 3000, BYTES = 250, PAGE = 4096 };

static void keys_are_zero_aligned_and_apart(void **state)
{
	static uint8_t *keys[KEYS];

	(void)state;
	for (unsigned i = 0; i < KEYS; i++) {
		keys[i] = key_memory_alloc(KEY_MEMORY_HOT, BYTES);
		assert_non_null(keys[i]);
		assert_int_equal((uintptr_t)keys[i] % 64, 0);
		for (unsigned k = 0; k < BYTES; k++)
			assert_int_equal(keys[i][k], 0);
		memset(keys[i], (int)i, BYTES);
	}
	for (unsigned i = 0; i < KEYS; i++)
		for (unsigned k = 0; k < BYTES; k++)
			assert_int_equal(keys[i][k], i & 0xff);
	assert_true(key_memory_chunks() <= 4);
	for (unsigned i = 0; i < KEYS; i++)
		key_memory_free(keys[i], BYTES);
	assert_int_equal(key_memory_chunks(), 0);
	assert_int_equal(key_memory_unlocked(), 0);
}

static void what_is_freed_is_wiped_while_others_live(void **state)
{
	uint8_t *gone = key_memory_alloc(KEY_MEMORY_HOT, BYTES);
	uint8_t *stays = key_memory_alloc(KEY_MEMORY_HOT, BYTES);

	(void)state;
	memset(gone, 1, BYTES);
	memset(stays, 2, BYTES);
	key_memory_free(gone, BYTES);
	for (unsigned i = 0; i < BYTES; i++) {
		assert_int_equal(gone[i], 0);
		assert_int_equal(stays[i], 2);
	}
	key_memory_free(stays, BYTES);
}

static void the_last_key_takes_its_pages_along(void **state)
{
	uint8_t *key = key_memory_alloc(KEY_MEMORY_COLD, BYTES);
	void *page = key - (uintptr_t)key % PAGE;
	unsigned char is_there;

	(void)state;
	assert_int_equal(mincore(page, PAGE, &is_there), 0);
	key_memory_free(key, BYTES);
	assert_int_equal(mincore(page, PAGE, &is_there), -1);
	assert_int_equal(errno, ENOMEM);
	key_memory_free(NULL, 1);
}

static void hot_and_cold_share_no_chunk(void **state)
{
	uint8_t *hot = key_memory_alloc(KEY_MEMORY_HOT, BYTES);
	uint8_t *cold = key_memory_alloc(KEY_MEMORY_COLD, BYTES);

	(void)state;
	assert_int_equal(key_memory_chunks(), 2);
	key_memory_free(hot, BYTES);
	assert_int_equal(key_memory_chunks(), 1);
	key_memory_free(cold, BYTES);
	assert_int_equal(key_memory_chunks(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_are_zero_aligned_and_apart),
		cmocka_unit_test(what_is_freed_is_wiped_while_others_live),
		cmocka_unit_test(the_last_key_takes_its_pages_along),
		cmocka_unit_test(hot_and_cold_share_no_chunk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
