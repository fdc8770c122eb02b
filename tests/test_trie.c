/* test_trie.c - the trie beside a list of prefixes that is walked from end to end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka wants the above first
#include <cmocka.h>

#include "filters/trie.h"
#include "tests/dice.h"

enum { PREFIXES_MAX = 200, ROUNDS = 60, LOOKUPS = 1500 };

struct prefix {
	struct set_subnet subnet;
	uint32_t value;
};

static bool covers(const struct set_subnet *s, const uint8_t *addr)
{
	for (unsigned i = 0; i < s->prefix_len; i++)
		if (((s->addr[i / 8] ^ addr[i / 8]) >> (7 - i % 8)) & 1)
			return false;
	return true;
}

/* Prefixes that often nest: half of them grow out of one that is there. */
static void throw_prefix(struct dice *d, struct prefix *list, unsigned n, unsigned bytes)
{
	struct prefix *p = &list[n];

	for (unsigned i = 0; i < 16; i++)
		p->subnet.addr[i] = (uint8_t)dice_next(d);
	p->subnet.family = bytes == 4 ? 4 : 6;
	p->subnet.prefix_len = (uint8_t)dice_below(d, bytes * 8 + 1);
	if (dice_one_in(d, 12))
		p->subnet.prefix_len = (uint8_t)(dice_one_in(d, 2) ? 0 : bytes * 8);
	if (n > 0 && dice_one_in(d, 2))
		memcpy(p->subnet.addr, list[dice_below(d, n)].subnet.addr,
		       1 + dice_below(d, bytes));
	p->value = (uint32_t)dice_next(d) & 0x7fffffff;
}

/* Half of the addresses lie in a prefix, half of those at its edge. */
static void throw_address(struct dice *d, const struct prefix *list, unsigned n, uint8_t addr[16])
{
	const struct set_subnet *s = &list[dice_below(d, n)].subnet;
	bool ones = dice_one_in(d, 2), edge = dice_one_in(d, 2);

	for (unsigned i = 0; i < 16; i++)
		addr[i] = (uint8_t)dice_next(d);
	if (dice_one_in(d, 2))
		return;
	for (unsigned i = 0; i < 128; i++) {
		bool from_prefix = i < s->prefix_len;
		uint8_t mask = (uint8_t)(0x80 >> i % 8);

		if (!from_prefix && !edge)
			break;
		if (from_prefix ? s->addr[i / 8] & mask : ones)
			addr[i / 8] |= mask;
		else
			addr[i / 8] &= (uint8_t)~mask;
	}
	if (s->prefix_len > 0 && dice_one_in(d, 4)) // just outside
		addr[(s->prefix_len - 1) / 8] ^= (uint8_t)(0x80 >> (s->prefix_len - 1) % 8);
}

static uint32_t list_or(const struct prefix *list, unsigned n, uint32_t start, const uint8_t *addr)
{
	for (unsigned i = 0; i < n; i++)
		if (covers(&list[i].subnet, addr))
			start |= list[i].value;
	return start;
}

/* The longest; of equal ones the last put in. */
static uint32_t list_lpm(const struct prefix *list, unsigned n, uint32_t start, const uint8_t *addr)
{
	int longest = -1;

	for (unsigned i = 0; i < n; i++)
		if (covers(&list[i].subnet, addr) && list[i].subnet.prefix_len >= longest) {
			longest = list[i].subnet.prefix_len;
			start = list[i].value;
		}
	return start;
}

static void put_by_length(struct trie *trie, const struct prefix *list, unsigned n)
{
	for (unsigned len = 0; len <= 128; len++)
		for (unsigned i = 0; i < n; i++)
			if (list[i].subnet.prefix_len == len)
				assert_int_equal(trie_put_lpm(trie, &list[i].subnet, list[i].value),
						 0);
}

static void compare_with_list(struct dice *d, unsigned bytes, bool is_or)
{
	struct prefix list[PREFIXES_MAX] = {0};
	unsigned n = 1 + dice_below(d, dice_one_in(d, 2) ? PREFIXES_MAX : 4);
	uint32_t start = (uint32_t)dice_next(d) & 0x7fffffff;
	struct trie trie;
	uint8_t addr[16];

	trie_init(&trie, start);
	for (unsigned i = 0; i < n; i++) {
		throw_prefix(d, list, i, bytes);
		if (is_or)
			assert_int_equal(trie_put_or(&trie, &list[i].subnet, list[i].value), 0);
	}
	if (!is_or)
		put_by_length(&trie, list, n);
	assert_int_equal(trie_seal(&trie), 0);
	for (unsigned i = 0; i < LOOKUPS; i++) {
		throw_address(d, list, n, addr);
		assert_int_equal(trie_lookup(&trie, addr), is_or ? list_or(list, n, start, addr)
								 : list_lpm(list, n, start, addr));
	}
	trie_fini(&trie);
}

static void ors_of_random_prefixes_equal_a_list(void **state)
{
	struct dice d = dice_open("ors_of_random_prefixes_equal_a_list");

	(void)state;
	for (unsigned i = 0; i < ROUNDS; i++)
		compare_with_list(&d, i % 2 ? 4 : 16, true);
}

static void longest_of_random_prefixes_equals_a_list(void **state)
{
	struct dice d = dice_open("longest_of_random_prefixes_equals_a_list");

	(void)state;
	for (unsigned i = 0; i < ROUNDS; i++)
		compare_with_list(&d, i % 2 ? 4 : 16, false);
}

static void empty_trie_gives_its_value_everywhere(void **state)
{
	struct trie trie;
	uint8_t addr[16] = {0};

	(void)state;
	trie_init(&trie, 7);
	assert_int_equal(trie_seal(&trie), 0);
	for (unsigned i = 0; i < 256; i++) {
		addr[0] = (uint8_t)i;
		assert_int_equal(trie_lookup(&trie, addr), 7);
	}
	trie_fini(&trie);
}

static void prefix_of_each_length_covers_exactly_its_addresses(void **state)
{
	(void)state;
	for (unsigned len = 0; len <= 128; len++) {
		struct set_subnet s = {.prefix_len = (uint8_t)len, .family = 6};
		uint8_t addr[16];
		struct trie trie;

		memset(s.addr, 0xa5, sizeof(s.addr)); // host bits are set: they must not matter
		trie_init(&trie, 0);
		assert_int_equal(trie_put_or(&trie, &s, 1), 0);
		assert_int_equal(trie_seal(&trie), 0);
		for (unsigned bit = 0; bit < 128; bit++) {
			memcpy(addr, s.addr, sizeof(addr));
			addr[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
			assert_int_equal(trie_lookup(&trie, addr), bit >= len);
		}
		assert_int_equal(trie_lookup(&trie, s.addr), 1);
		trie_fini(&trie);
	}
}

/* fini, then init again: nothing of the first use is left. */
static void trie_is_empty_again_after_fini(void **state)
{
	struct set_subnet s = {.prefix_len = 32, .family = 4, .addr = {10, 1, 2, 3}};
	struct trie trie;

	(void)state;
	trie_init(&trie, 0);
	assert_int_equal(trie_put_or(&trie, &s, 5), 0);
	trie_fini(&trie);
	trie_fini(&trie);
	trie_init(&trie, 0);
	assert_int_equal(trie.n_entries, 0);
	assert_int_equal(trie_seal(&trie), 0);
	assert_int_equal(trie_lookup(&trie, s.addr), 0);
	trie_fini(&trie);
}

/* Put hosts in until it says no; gives how many it took. */
static unsigned hosts_taken(struct trie *trie, unsigned n_max)
{
	unsigned n = 0;

	while (n < n_max) {
		struct set_subnet s = {.family = 6, .prefix_len = 128};

		s.addr[0] = (uint8_t)n;
		s.addr[1] = (uint8_t)(n >> 8);
		if (trie_put_or(trie, &s, 1) != 0)
			break;
		n++;
	}
	return n;
}

static void budget_of_entries_ends_what_would_grow_without_end(void **state)
{
	struct trie_budget budget = {.entries_left = 100000, .steps_left = UINT64_MAX};
	static const uint8_t first[16] = {0}, other[16] = {0xff, 0xff};
	struct trie trie;

	(void)state;
	trie_init(&trie, 0);
	trie.budget = &budget;
	assert_in_range(hosts_taken(&trie, 10000), 100, 300);
	assert_true(trie.n_entries <= 100000);
	assert_int_equal(trie_seal(&trie), 0);		// not of the budget
	assert_int_equal(trie_lookup(&trie, first), 1); // what was taken stays
	assert_int_equal(trie_lookup(&trie, other), 0);
	trie_fini(&trie);
}

static void budget_of_steps_ends_short_prefixes_over_long_ones(void **state)
{
	struct trie_budget budget = {.entries_left = UINT64_MAX, .steps_left = 1000000};
	const struct set_subnet all = {.family = 6};
	struct trie trie;
	unsigned n = 0;

	(void)state;
	trie_init(&trie, 0);
	trie.budget = &budget;
	assert_int_equal(hosts_taken(&trie, 100), 100);
	while (n < 1000 && trie_put_or(&trie, &all, 2) == 0)
		n++;
	assert_in_range(n, 5, 50); // each walks 100 paths of 28 small nodes
	trie_fini(&trie);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ors_of_random_prefixes_equal_a_list),
		cmocka_unit_test(longest_of_random_prefixes_equals_a_list),
		cmocka_unit_test(empty_trie_gives_its_value_everywhere),
		cmocka_unit_test(prefix_of_each_length_covers_exactly_its_addresses),
		cmocka_unit_test(trie_is_empty_again_after_fini),
		cmocka_unit_test(budget_of_entries_ends_what_would_grow_without_end),
		cmocka_unit_test(budget_of_steps_ends_short_prefixes_over_long_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
