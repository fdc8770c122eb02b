/* test_block_list.c - ids and lists of blocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "control/block_list.h"
#include "control/upload.h"

static void ids_are_of_one_length_and_need_no_encoding(void **state)
{
	static const uint64_t jobs[] = {0, 1, 0x0123456789abcdef, UINT64_MAX};
	static const uint32_t blocks[] = {0, 9, 49999, UINT32_MAX};

	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		struct block_id id = block_id(jobs[i / 4], blocks[i % 4]);

		assert_int_equal(strlen(id.text), BLOCK_ID_CHARS);
		assert_int_equal(strspn(id.text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
						 "abcdefghijklmnopqrstuvwxyz0123456789"),
				 BLOCK_ID_CHARS);
	}
}

static void ids_differ_by_job_and_by_block(void **state)
{
	(void)state;
	assert_string_not_equal(block_id(1, 2).text, block_id(2, 1).text);
	assert_string_not_equal(block_id(1, 2).text, block_id(1, 3).text);
	assert_string_equal(block_id(1, 2).text, block_id(1, 2).text);
}

static void an_empty_blob_has_an_empty_list(void **state)
{
	char *xml = block_list_xml(7, 0);

	(void)state;
	assert_string_equal(xml,
			    "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList></BlockList>");
	free(xml);
}

static void the_longest_list_names_every_block_in_order(void **state)
{
	char *xml = block_list_xml(7, UPLOAD_BLOCKS_MAX);
	const char *at = strstr(xml, "<Latest>");

	(void)state;
	for (uint32_t i = 0; i < UPLOAD_BLOCKS_MAX; i++) {
		assert_int_equal(strncmp(at, "<Latest>", 8), 0);
		assert_int_equal(strncmp(at + 8, block_id(7, i).text, BLOCK_ID_CHARS), 0);
		assert_int_equal(strncmp(at + 8 + BLOCK_ID_CHARS, "</Latest>", 9), 0);
		at += 8 + BLOCK_ID_CHARS + 9;
	}
	assert_string_equal(at, "</BlockList>");
	free(xml);
}

static void blocks_grow_when_there_would_be_too_many(void **state)
{
	(void)state;
	assert_int_equal(block_bytes_for(0, 8, 50000), 8);
	assert_int_equal(block_bytes_for(400000, 8, 50000), 8);
	assert_int_equal(block_bytes_for(400001, 8, 50000), 9);
	assert_int_equal(block_bytes_for(500000000, 1, 50000), 10000);
	assert_int_equal(block_bytes_for(UINT64_MAX, 1, 1), UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_are_of_one_length_and_need_no_encoding),
		cmocka_unit_test(ids_differ_by_job_and_by_block),
		cmocka_unit_test(an_empty_blob_has_an_empty_list),
		cmocka_unit_test(the_longest_list_names_every_block_in_order),
		cmocka_unit_test(blocks_grow_when_there_would_be_too_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
