/* test_ring.c - the ring alone: full, wrapped, lied to, and between two threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka wants the above first
#include <cmocka.h>
#include <pthread.h>
#include <sched.h>

#include "tests/dice.h"
#include "tests/ring_pair.h"

enum { SIZE = 1 << 16, STRESS_MESSAGES = 300000 };

static void full_ring_refuses_and_changes_nothing(void **state)
{
	struct ring_pair p, before;

	(void)state;
	ring_pair_open(&p, SIZE, 0);
	for (unsigned i = 0; i < SIZE / 64; i++) {
		uint8_t *at = ring_reserve(&p.writer, 64);

		assert_non_null(at);
		memset(at, (int)i, 64);
		ring_advance(&p.writer, 64);
	}
	ring_publish(&p.writer, 1);
	before = p;
	assert_null(ring_reserve(&p.writer, 8));
	assert_null(ring_reserve(&p.writer, SIZE));
	assert_memory_equal(&p.writer, &before.writer, sizeof(p.writer));
	assert_int_equal(ring_available(&p.reader), SIZE);
	for (unsigned i = 0; i < SIZE; i++)
		assert_int_equal(p.data[i], (uint8_t)(i / 64));
	// What the reader gives back, and not a byte more, can be taken.
	p.reader.tail += 24;
	assert_null(ring_reserve(&p.writer, 8)); // not released yet
	ring_release(&p.reader);
	assert_null(ring_reserve(&p.writer, 32));
	assert_non_null(ring_reserve(&p.writer, 24));
	ring_pair_close(&p);
}

static void nothing_is_seen_before_it_is_published(void **state)
{
	struct ring_pair p;

	(void)state;
	ring_pair_open(&p, SIZE, 0);
	assert_non_null(ring_reserve(&p.writer, 64));
	ring_advance(&p.writer, 64);
	assert_int_equal(ring_available(&p.reader), 0);
	ring_publish(&p.writer, 77);
	assert_int_equal(ring_watermark(&p.reader), 77);
	assert_int_equal(ring_available(&p.reader), 64);
	ring_pair_close(&p);
}

static void whole_ring_can_be_one_reservation(void **state)
{
	struct ring_pair p;

	(void)state;
	ring_pair_open(&p, SIZE, 40);
	assert_non_null(ring_reserve(&p.writer, SIZE));
	ring_advance(&p.writer, SIZE);
	assert_null(ring_reserve(&p.writer, 8));
	ring_pair_close(&p);
}

static void second_mapping_shows_the_same_bytes(void **state)
{
	struct ring_pair p;

	(void)state;
	ring_pair_open(&p, SIZE, 0);
	for (unsigned i = 0; i < SIZE; i++)
		p.data[i] = (uint8_t)(i * 7);
	for (unsigned i = 0; i < SIZE; i++)
		assert_int_equal(p.data[SIZE + i], (uint8_t)(i * 7));
	memset(p.data + SIZE - 8, 0xab, 16); // over the seam
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(p.data[i], 0xab);
		assert_int_equal(p.data[SIZE - 1 - i], 0xab);
	}
	ring_pair_close(&p);
}

/* One message: its length and a byte pattern made of its number. */
static void write_message(struct ring_pair *p, uint8_t *at, uint64_t number, uint64_t bytes)
{
	(void)p;
	memcpy(at, &bytes, 8);
	memset(at + 8, (int)(number % 251), bytes - 8);
}

static bool message_is(const uint8_t *at, uint64_t number, uint64_t *bytes)
{
	memcpy(bytes, at, 8);
	for (uint64_t i = 8; i < *bytes; i++)
		if (at[i] != number % 251)
			return false;
	return true;
}

static void counts_wrap_at_2_to_the_64(void **state)
{
	struct dice d = dice_open("counts_wrap_at_2_to_the_64");
	struct ring_pair p;
	uint64_t n_in = 0, n_out = 0;

	(void)state;
	ring_pair_open(&p, SIZE, UINT64_MAX - 3 * SIZE + 1);
	while (p.reader.tail > SIZE || n_out == 0) {
		uint64_t bytes = 16 + 8 * dice_below(&d, 500);
		uint8_t *at = ring_reserve(&p.writer, bytes);

		if (at != NULL) {
			write_message(&p, at, n_in++, bytes);
			ring_advance(&p.writer, bytes);
			ring_publish(&p.writer, n_in);
		}
		assert_in_range(p.writer.head - p.reader.tail, 0, SIZE);
		if (at == NULL || dice_one_in(&d, 3)) {
			while (ring_available(&p.reader) > 0) {
				assert_true(message_is(p.data + (p.reader.tail & (SIZE - 1)),
						       n_out++, &bytes));
				p.reader.tail += bytes;
			}
			ring_release(&p.reader);
		}
	}
	assert_true(n_out > 10);
	ring_pair_close(&p);
}

/* The tail is the other process's: whatever it says, we never write over what is not read. */
static void lying_tail_gives_no_room(void **state)
{
	static const int64_t lies[] = {8,	  1,	     SIZE,	  1 << 30,
				       INT64_MAX, INT64_MIN, -(SIZE + 8), -SIZE - 1};
	struct ring_pair p;

	(void)state;
	ring_pair_open(&p, SIZE, 1 << 20);
	for (unsigned i = 0; i < SIZE / 64; i++) {
		assert_non_null(ring_reserve(&p.writer, 64));
		ring_advance(&p.writer, 64);
	}
	for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		atomic_store(&p.tail->tail, p.writer.head + (uint64_t)lies[i]);
		assert_null(ring_reserve(&p.writer, 8));
		assert_null(ring_reserve(&p.writer, SIZE));
	}
	// A tail that tells the truth again is believed again.
	atomic_store(&p.tail->tail, p.writer.head - SIZE + 64);
	assert_non_null(ring_reserve(&p.writer, 64));
	assert_null(ring_reserve(&p.writer, 72));
	// A tail that goes back takes room away only where it is looked at; never more than the size.
	ring_advance(&p.writer, 64);
	atomic_store(&p.tail->tail, p.writer.head - SIZE);
	assert_null(ring_reserve(&p.writer, 8));
	ring_pair_close(&p);
}

static void random_tails_never_let_more_than_the_ring_be_written(void **state)
{
	struct dice d = dice_open("random_tails_never_let_more_than_the_ring_be_written");
	struct ring_pair p;

	(void)state;
	ring_pair_open(&p, SIZE, 0);
	for (unsigned i = 0; i < 200000; i++) {
		uint64_t bytes = 8 + 8 * dice_below(&d, 600), tail = dice_next(&d);
		const uint8_t *at;

		if (dice_one_in(&d, 2))
			tail = p.writer.head - dice_below(&d, 2 * SIZE);
		atomic_store(&p.tail->tail, tail);
		at = ring_reserve(&p.writer, bytes);
		if (at == NULL)
			continue;
		assert_in_range((uintptr_t)at, (uintptr_t)p.data, (uintptr_t)p.data + SIZE - 1);
		assert_in_range(p.writer.head + bytes - p.writer.tail, 8, SIZE);
		ring_advance(&p.writer, bytes);
	}
	ring_pair_close(&p);
}

static void new_writer_and_reader_go_on_where_the_lines_are(void **state)
{
	struct ring_pair p;
	struct record record = {.caplen = 8, .wire_len = 8, .flags = RECORD_LATE};

	(void)state;
	ring_pair_open(&p, SIZE, 0);
	assert_true(ring_pair_push(&p, &record, 1));
	assert_true(ring_pair_push(&p, &record, 2));
	ring_publish(&p.writer, 5);
	p.reader.tail += 32;
	ring_release(&p.reader);
	ring_writer_init(&p.writer, p.data, SIZE, &p.shared->ring, p.tail);
	ring_reader_init(&p.reader, p.data, SIZE, &p.shared->ring, p.tail);
	assert_int_equal(p.writer.head, 64);
	assert_int_equal(p.writer.n_late, 2);
	assert_int_equal(p.reader.tail, 32);
	assert_int_equal(ring_available(&p.reader), 32);
	assert_null(ring_reserve(&p.writer, SIZE)); // 32 bytes are still unread
	assert_non_null(ring_reserve(&p.writer, SIZE - 32));
	ring_pair_close(&p);
}

struct stress {
	struct ring_pair pair;
	struct dice dice;
};

static void *produce(void *ctx)
{
	struct stress *s = ctx;

	for (uint64_t n = 0; n < STRESS_MESSAGES;) {
		uint64_t bytes = 16 + 8 * dice_below(&s->dice, 40);
		uint8_t *at = ring_reserve(&s->pair.writer, bytes);

		if (at != NULL) {
			write_message(&s->pair, at, n++, bytes);
			ring_advance(&s->pair.writer, bytes);
		}
		if (at == NULL || dice_one_in(&s->dice, 8) || n == STRESS_MESSAGES)
			ring_publish(&s->pair.writer, n);
		if (at == NULL)
			sched_yield();
	}
	return NULL;
}

/* The watermark says how many messages its head covers: reading it first must never show fewer. */
static void two_threads_lose_and_tear_nothing(void **state)
{
	struct stress s = {.dice = dice_open("two_threads_lose_and_tear_nothing")};
	uint64_t n = 0, bytes;
	pthread_t producer;

	(void)state;
	ring_pair_open(&s.pair, 1 << 13, UINT64_MAX - (1 << 20) + 1);
	assert_int_equal(pthread_create(&producer, NULL, produce, &s), 0);
	while (n < STRESS_MESSAGES) {
		struct ring_reader *r = &s.pair.reader;
		uint64_t covered = ring_watermark(r), end = r->tail + ring_available(r);

		if (end == r->tail)
			sched_yield();
		while (r->tail != end) {
			if (!message_is(s.pair.data + (r->tail & r->mask), n++, &bytes))
				fail_msg("message %llu is torn", (unsigned long long)n - 1);
			r->tail += bytes;
		}
		assert_true(n >= covered);
		ring_release(r);
	}
	assert_int_equal(pthread_join(producer, NULL), 0);
	assert_int_equal(ring_available(&s.pair.reader), 0);
	ring_pair_close(&s.pair);
}

static void mapping_that_cannot_be_gives_null(void **state)
{
	(void)state;
	assert_null(ring_map(-1, 0, SIZE, PROT_READ));
	ring_unmap(NULL, SIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(full_ring_refuses_and_changes_nothing),
		cmocka_unit_test(nothing_is_seen_before_it_is_published),
		cmocka_unit_test(whole_ring_can_be_one_reservation),
		cmocka_unit_test(second_mapping_shows_the_same_bytes),
		cmocka_unit_test(counts_wrap_at_2_to_the_64),
		cmocka_unit_test(lying_tail_gives_no_room),
		cmocka_unit_test(random_tails_never_let_more_than_the_ring_be_written),
		cmocka_unit_test(new_writer_and_reader_go_on_where_the_lines_are),
		cmocka_unit_test(two_threads_lose_and_tear_nothing),
		cmocka_unit_test(mapping_that_cannot_be_gives_null),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
