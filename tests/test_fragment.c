/* test_fragment.c - the fragment table: keys, age, room; and the hash under it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "dataplane/fragment.h"
#include "dataplane/keyed_hash.h"

/* An IP header for h.src and h.dst to point into. */
struct packet {
	uint8_t ip[40];
	struct headers h;
};

static struct headers *packet4(struct packet *p, uint32_t src, uint8_t protocol, uint32_t id)
{
	memset(p, 0, sizeof(*p));
	p->ip[9] = protocol;
	memcpy(p->ip + 12, &src, 4);
	p->h = (struct headers){.src = p->ip + 12,
				.dst = p->ip + 16,
				.family = 4,
				.protocol = protocol,
				.fragment_id = id};
	return &p->h;
}

static struct headers *packet6(struct packet *p, uint32_t src, uint8_t protocol, uint32_t id)
{
	memset(p, 0, sizeof(*p));
	memcpy(p->ip + 8, &src, 4);
	p->h = (struct headers){.src = p->ip + 8,
				.dst = p->ip + 24,
				.family = 6,
				.protocol = protocol,
				.fragment_id = id};
	return &p->h;
}

static int open_table(void **state)
{
	*state = fragment_open();
	return *state == NULL;
}

static int close_table(void **state)
{
	fragment_close(*state);
	return 0;
}

static void value_comes_back_and_unknown_keys_touch_nothing(void **state)
{
	struct packet p;
	uint64_t value = 77;

	assert_false(fragment_get(*state, packet4(&p, 1, 17, 5), 0, 10, &value));
	assert_int_equal(value, 77);
	fragment_put(*state, packet4(&p, 1, 17, 5), 0, 10, 0x123456789abcdef0);
	assert_true(fragment_get(*state, packet4(&p, 1, 17, 5), 0, 10, &value));
	assert_true(value == 0x123456789abcdef0);
	fragment_put(*state, packet4(&p, 1, 17, 5), 0, 11, 4);
	assert_true(fragment_get(*state, packet4(&p, 1, 17, 5), 0, 11, &value));
	assert_int_equal(value, 4);
}

static void every_part_of_the_key_counts(void **state)
{
	struct packet p;
	uint64_t value;

	fragment_put(*state, packet4(&p, 1, 17, 5), 9, 10, 1);
	assert_true(fragment_get(*state, packet4(&p, 1, 17, 5), 9, 10, &value));
	assert_false(fragment_get(*state, packet4(&p, 2, 17, 5), 9, 10, &value));
	assert_false(fragment_get(*state, packet4(&p, 1, 50, 5), 9, 10, &value));
	assert_false(fragment_get(*state, packet4(&p, 1, 17, 6), 9, 10, &value));
	assert_false(fragment_get(*state, packet4(&p, 1, 17, 5), 8, 10, &value));
	assert_false(fragment_get(*state, packet6(&p, 1, 17, 5), 9, 10, &value));
	packet4(&p, 1, 17, 5)->dst = (const uint8_t *)"\1\2\3\4";
	assert_false(fragment_get(*state, &p.h, 9, 10, &value));
}

static void ipv6_leaves_the_protocol_out(void **state)
{
	struct packet p;
	uint64_t value;

	fragment_put(*state, packet6(&p, 1, 17, 5), 0, 10, 3);
	assert_true(fragment_get(*state, packet6(&p, 1, 60, 5), 0, 10, &value));
	assert_int_equal(value, 3);
}

static void entry_lives_30_seconds(void **state)
{
	struct packet p;
	uint64_t value;

	fragment_put(*state, packet4(&p, 1, 17, 5), 0, 1000, 3);
	assert_true(fragment_get(*state, packet4(&p, 1, 17, 5), 0, 1000 + FRAGMENT_AGE_NS, &value));
	assert_false(
		fragment_get(*state, packet4(&p, 1, 17, 5), 0, 1001 + FRAGMENT_AGE_NS, &value));
	assert_true(fragment_get(*state, packet4(&p, 1, 17, 5), 0, 0, &value)); // time stood still
}

static void full_table_forgets_the_oldest_and_never_mixes_values(void **state)
{
	enum { N = 16 * FRAGMENT_ENTRIES };
	struct packet p;
	uint64_t value;
	unsigned n_old = 0, n_new = 0;

	for (uint32_t i = 0; i < N; i++)
		fragment_put(*state, packet4(&p, i, 17, 5), 0, i, i);
	for (uint32_t i = 0; i < N; i++) {
		if (!fragment_get(*state, packet4(&p, i, 17, 5), 0, N, &value))
			continue;
		assert_int_equal(value, i);
		*(i < N / 2 ? &n_old : &n_new) += 1;
	}
	assert_int_equal(n_old + n_new, FRAGMENT_ENTRIES); // every entry is in use
	assert_true(n_new > n_old * 4);
}

static void tables_have_different_secrets(void **state)
{
	const struct hash_key *mine = *state;
	struct fragment_table *other = fragment_open();

	assert_non_null(other);
	assert_memory_not_equal(mine, other, sizeof(struct hash_key)); // the first member
	fragment_close(other);
}

static void size_is_what_the_entries_need(void **state)
{
	(void)state;
	assert_in_range(fragment_bytes(), FRAGMENT_ENTRIES * 64, FRAGMENT_ENTRIES * 64 + 128);
}

/* The example of the paper's appendix: key 00..0f, message 00..0e. */
static void hash_gives_the_papers_value(void **state)
{
	struct hash_key key;
	uint8_t bytes[16];

	(void)state;
	for (uint8_t i = 0; i < 16; i++)
		bytes[i] = i;
	memcpy(&key, bytes, sizeof(key));
	assert_true(keyed_hash(&key, bytes, 15) == 0xa129ca6149be45e5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(test) cmocka_unit_test_setup_teardown(test, open_table, close_table)
		T(value_comes_back_and_unknown_keys_touch_nothing),
		T(every_part_of_the_key_counts),
		T(ipv6_leaves_the_protocol_out),
		T(entry_lives_30_seconds),
		T(full_table_forgets_the_oldest_and_never_mixes_values),
		T(tables_have_different_secrets),
		T(size_is_what_the_entries_need),
#undef T
		cmocka_unit_test(hash_gives_the_papers_value),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
