/* test_sa_list.c - lists of SAs: order, limits, sameness, wiped memory; and addresses with wildcards and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/sa_address.h"
#include "control/sa_list.h"
#include "control/secret.h"
#include "tests/dice.h"

static struct sa_item numbered(uint32_t spi)
{
	struct sa_item item = {.record = {.spi = spi, .spi_mask = UINT32_MAX}};

	memset(item.record.enc_key, 0xa5, sizeof(item.record.enc_key));
	return item;
}

static void items_keep_their_order(void **state)
{
	struct sa_list list = {0};

	(void)state;
	for (uint32_t i = 0; i < 100; i++) {
		struct sa_item item = numbered(i);

		assert_int_equal(sa_list_add(&list, &item), 0);
	}
	sa_list_remove(&list, 99);
	sa_list_remove(&list, 50);
	sa_list_remove(&list, 0);
	assert_int_equal(list.n, 97);
	for (uint32_t i = 0; i < list.n; i++)
		assert_int_equal(list.items[i].record.spi, i + 1 + (i >= 49));
	sa_list_fini(&list);
	assert_null(list.items);
	assert_int_equal(list.n, 0);
	sa_list_fini(&list);
}

static void a_list_ends_at_its_limit_and_stays_whole(void **state)
{
	struct sa_list list = {0};
	struct sa_item item = numbered(7);

	(void)state;
	assert_int_equal(sa_list_grow(&list, SA_MAX + 1), -E2BIG);
	assert_null(list.items);
	assert_int_equal(sa_list_grow(&list, SA_MAX), 0);
	for (uint32_t i = 0; i < SA_MAX; i++)
		assert_int_equal(sa_list_add(&list, &item), 0);
	assert_int_equal(list.n_allocated, SA_MAX);
	assert_int_equal(sa_list_add(&list, &item), -E2BIG);
	assert_int_equal(list.n, SA_MAX);
	assert_int_equal(sa_list_grow(&list, UINT32_MAX), -E2BIG);
	sa_list_fini(&list);
}

static void what_is_removed_is_wiped(void **state)
{
	static const struct sa_item zero;
	struct sa_list list = {0};
	struct sa_item item = numbered(7);

	(void)state;
	assert_int_equal(sa_list_add(&list, &item), 0);
	assert_int_equal(sa_list_add(&list, &item), 0);
	sa_list_remove(&list, 0);
	assert_memory_equal(&list.items[1], &zero, sizeof(zero));
	assert_int_equal(list.items[0].record.enc_key[0], 0xa5);
	sa_list_fini(&list);
}

/* Is the page of `at` locked and left out of core dumps, as /proc says? */
static bool is_locked_and_not_dumped(const void *at)
{
	FILE *maps = fopen("/proc/self/smaps", "r");
	char line[512];
	bool is_inside = false, is_good = false;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps) != NULL) {
		uintptr_t begin, end;

		if (sscanf(line, "%lx-%lx ", &begin, &end) == 2)
			is_inside = (uintptr_t)at >= begin && (uintptr_t)at < end;
		else if (is_inside && strncmp(line, "VmFlags:", 8) == 0)
			is_good = strstr(line, " lo") != NULL && strstr(line, " dd") != NULL;
	}
	(void)fclose(maps);
	return is_good;
}

static void keys_are_in_locked_memory_that_is_not_dumped(void **state)
{
	struct sa_list list = {0};

	(void)state;
	for (uint32_t i = 0; i < 40; i++) { // grows twice
		struct sa_item item = numbered(i);

		assert_int_equal(sa_list_add(&list, &item), 0);
	}
	if (secret_unlocked() > 0)
		print_message("[          ] without the locks: RLIMIT_MEMLOCK is used up\n");
	else
		assert_true(is_locked_and_not_dumped(&list.items[39]));
	sa_list_fini(&list);
}

/* ---- Sameness ---- */

static struct sa_item between(const char *src, const char *dst, const char *spi)
{
	struct sa_item item = {0};
	const char *why = NULL;
	size_t at;
	int rc = sa_spi_parse(spi, &item.record.spi, &item.record.spi_mask, &why, &at);

	if (src != NULL && rc == 0)
		rc = sa_address_parse(src, strchr(src, ':') ? 6 : 4, &item.record.src, &why, &at);
	if (dst != NULL && rc == 0)
		rc = sa_address_parse(dst, strchr(dst, ':') ? 6 : 4, &item.record.dst, &why, &at);
	if (rc != 0)
		fail_msg("%s", why);
	return item;
}

static void sas_are_the_same_by_spi_destination_and_a_source_that_both_name(void **state)
{
	static const struct {
		int number;
		const char *a[3], *b[3];
		bool is_same;
	} rows[] = {
		{1, {"1.1.1.1", "2.2.2.2", "7"}, {"1.1.1.1", "2.2.2.2", "7"}, true},
		{2, {"1.1.1.1", "2.2.2.2", "7"}, {"1.1.1.1", "2.2.2.2", "8"}, false},
		{3, {"1.1.1.1", "2.2.2.2", "7"}, {"1.1.1.1", "2.2.2.3", "7"}, false},
		{4, {"1.1.1.1", "2.2.2.2", "7"}, {"1.1.1.2", "2.2.2.2", "7"}, false},
		{5, {"1.1.1.1", "2.2.2.2", "7"}, {"*", "2.2.2.2", "7"}, true},
		{6, {"1.1.1.1", "2.2.2.2", "7"}, {NULL, "2.2.2.2", "7"}, true},
		{7, {NULL, "2.2.2.2", "7"}, {NULL, "2.2.2.2", "7"}, true},
		{8, {"*", NULL, "7"}, {"*", "2.2.2.2", "7"}, false},
		{9, {"1.1.1.*", "2.2.2.2", "7"}, {"1.1.1.1", "2.2.2.2", "7"}, false},
		{10, {"*", "2.2.2.2", "0x0000000*"}, {"*", "2.2.2.2", "0"}, false},
		{11, {"::1", "::2", "7"}, {"*", "::2", "7"}, true},
		{12, {"*", "2.2.2.0/24", "7"}, {"*", "2.2.2.*", "7"}, true},
		{13, {"*", "::/0", "7"}, {"*", "*", "7"}, false}, // of two families
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct sa_item a = between(rows[i].a[0], rows[i].a[1], rows[i].a[2]);
		struct sa_item b = between(rows[i].b[0], rows[i].b[1], rows[i].b[2]);

		if (sa_item_is_same_sa(&a, &b) != rows[i].is_same ||
		    sa_item_is_same_sa(&b, &a) != rows[i].is_same)
			fail_msg("row %d", rows[i].number);
	}
}

/* ---- Addresses ---- */

static void addresses_are_written_as_short_as_they_are_read(void **state)
{
	static const char *const texts[][2] = {
		{"192.0.2.1", "192.0.2.1"},
		{"*", "*"},
		{"0.0.0.0/0", "*"},
		{"192.0.2.*", "192.0.2.0/24"},
		{"192.*.2.1", "192.*.2.1"},
		{"192.*.2.99/22", "192.*.0.*/22"},
		{"10.9.8.7/9", "10.0.0.0/9"},
		{"2001:db8::1", "2001:db8::1"},
		{"2001:DB8::1*", "2001:db8::10/124"},
		{"2001:db8:*::1", "2001:0db8:000*:0000:0000:0000:0000:0001"},
		{"*::/5", "::/5"},
		{"1*::ff/126", "001*:0000:0000:0000:0000:0000:0000:00fc/126"},
		{"::", "::"},
		{"1::/15", "::/15"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct sa_item item = between(texts[i][0], NULL, "1");
		char text[SA_ADDRESS_TEXT_MAX];

		assert_string_equal(sa_address_text(&item.record.src, text), texts[i][1]);
	}
}

/* Random patterns of nibbles (octets) and a length: read back they are the same. */
static void addresses_come_back_as_they_were(void **state)
{
	struct dice dice = dice_open("test_sa_list");

	(void)state;
	for (unsigned n = 0; n < 20000; n++) {
		bool is_v6 = dice_one_in(&dice, 2);
		unsigned bits = is_v6 ? 128 : 32, unit = is_v6 ? 4 : 8;
		struct sa_address a = {.family = is_v6 ? 6 : 4}, back;
		unsigned length = dice_one_in(&dice, 2) ? bits : dice_below(&dice, bits + 1);
		uint32_t stars = dice_one_in(&dice, 2) ? 100 : 4;
		char text[SA_ADDRESS_TEXT_MAX];
		const char *why;
		size_t at;

		for (unsigned i = 0; i < bits; i += unit) {
			bool is_star = dice_one_in(&dice, stars);

			for (unsigned bit = i; bit < i + unit && bit < length; bit++) {
				if (is_star)
					continue;
				a.mask[bit / 8] |= (uint8_t)(0x80u >> bit % 8);
				if (dice_one_in(&dice, 2))
					a.value[bit / 8] |= (uint8_t)(0x80u >> bit % 8);
			}
		}
		(void)sa_address_text(&a, text);
		if (sa_address_parse(text, a.family, &back, &why, &at) != 0)
			fail_msg("%s: %s", text, why);
		if (memcmp(&a, &back, sizeof(a)) != 0)
			fail_msg("%s is another one", text);
	}
}

static void spis_come_back_as_they_were(void **state)
{
	struct dice dice = dice_open("test_sa_list");

	(void)state;
	for (unsigned n = 0; n < 20000; n++) {
		uint32_t spi = (uint32_t)dice_next(&dice), mask = 0, spi_back, mask_back;
		char text[SA_SPI_TEXT_MAX];
		const char *why;
		size_t at;

		for (unsigned i = 0; i < 8; i++)
			mask = mask << 4 | (dice_one_in(&dice, 4) ? 0 : 0xf);
		spi &= mask;
		(void)sa_spi_text(spi, mask, text);
		if (sa_spi_parse(text, &spi_back, &mask_back, &why, &at) != 0)
			fail_msg("%s: %s", text, why);
		assert_int_equal(spi, spi_back);
		assert_int_equal(mask, mask_back);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(items_keep_their_order),
		cmocka_unit_test(a_list_ends_at_its_limit_and_stays_whole),
		cmocka_unit_test(what_is_removed_is_wiped),
		cmocka_unit_test(keys_are_in_locked_memory_that_is_not_dumped),
		cmocka_unit_test(sas_are_the_same_by_spi_destination_and_a_source_that_both_name),
		cmocka_unit_test(addresses_are_written_as_short_as_they_are_read),
		cmocka_unit_test(addresses_come_back_as_they_were),
		cmocka_unit_test(spis_come_back_as_they_were),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
