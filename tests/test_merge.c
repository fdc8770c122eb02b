/* test_merge.c - random rings against a plain sort; one writer.  Stores and rings: merge_scene.h. */
#include "tests/merge_scene.h"

#include <pthread.h>
#include <sched.h>

enum { THREAD_RECORDS = 40000 };

static void run_random(struct scene *s, unsigned n_bursts)
{
	for (unsigned i = 0; i < n_bursts; i++) {
		scene_burst(s, dice_below(&s->d, s->n_rings));
		if (dice_one_in(&s->d, 5)) {
			bool whole = dice_one_in(&s->d, 2);
			uint64_t max = 1 + dice_below(&s->d, 20);

			if (whole)
				(void)scene_merge_all(s->merger);
			else // one more: no late record of the last time stays behind
				assert_true(merge_step(s->merger, max) <= max + 1);
			if (dice_one_in(&s->d, 2))
				merge_commit(s->merger);
			// Bounded delay: one whole step deals all that every watermark has passed.
			if (whole && dice_one_in(&s->d, 20))
				scene_check(s, scene_oldest_watermark(s));
			if (whole)
				assert_int_equal(merge_time_ns(s->merger),
						 scene_oldest_watermark(s));
		}
	}
	scene_end_traffic(s);
	do
		merge_commit(s->merger);
	while (merge_step(s->merger, 1 + dice_below(&s->d, 100)) > 0);
	merge_commit(s->merger);
	scene_check(s, UINT64_MAX);
	assert_int_equal(merge_waiting_bytes(s->merger), 0);
	assert_int_equal(merge_corrupt(s->merger), 0);
	assert_true(s->n_pushed > n_bursts);
}

static void random_rings_come_out_as_a_sort_has_them(void **state)
{
	static const unsigned n_rings[] = {1, 2, 4, 8};

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct scene s;

		scene_open(&s, "random_rings_come_out_as_a_sort_has_them", n_rings[i], 0);
		run_random(&s, 5000);
		scene_close(&s);
	}
}

/* Counts run free: 2^64 is a place like any other. */
static void rings_that_wrap_at_2_to_the_64_come_out_the_same(void **state)
{
	struct scene s;

	(void)state;
	scene_open(&s, "rings_that_wrap_at_2_to_the_64_come_out_the_same", 2,
		   UINT64_MAX - 2 * SCENE_RING + 1);
	run_random(&s, 5000);
	assert_true(s.workers[0].pair.writer.head < UINT64_MAX / 2);
	scene_close(&s);
}

static void nothing_is_dealt_before_every_watermark_has_passed_it(void **state)
{
	struct scene s;

	(void)state;
	scene_open(&s, "nothing_is_dealt_before_every_watermark_has_passed_it", 2, 0);
	assert_true(scene_push(&s, 0, 1000, false));
	assert_true(scene_push(&s, 0, 1001, false));
	ring_publish(&s.workers[0].pair.writer, 5000);
	assert_int_equal(merge_step(s.merger, UINT64_MAX), 0); // ring 1 has said nothing yet
	ring_publish(&s.workers[1].pair.writer, 1000);
	assert_int_equal(merge_step(s.merger, UINT64_MAX), 0); // it may still add one of 1000
	ring_publish(&s.workers[1].pair.writer, 1001);
	assert_int_equal(merge_step(s.merger, UINT64_MAX), 1);
	ring_publish(&s.workers[1].pair.writer, 1002);
	assert_int_equal(merge_step(s.merger, UINT64_MAX), 1);
	scene_check(&s, 1002);
	scene_close(&s);
}

static void dead_workers_rings_are_merged_to_their_heads(void **state)
{
	struct scene s;

	(void)state;
	scene_open(&s, "dead_workers_rings_are_merged_to_their_heads", 3, 0);
	for (unsigned i = 0; i < 300; i++)
		scene_burst(&s, dice_below(&s.d, 3));
	merge_ignore_watermarks(s.merger);
	(void)scene_merge_all(s.merger);
	scene_check(&s, UINT64_MAX);
	scene_close(&s);
}

static void room_comes_back_only_with_a_commit(void **state)
{
	unsigned n_refused = 0; // in a row: in the end not even the shortest fits
	struct scene s;

	(void)state;
	scene_open(&s, "room_comes_back_only_with_a_commit", 1, 0);
	while (n_refused < 10000)
		n_refused = scene_push(&s, 0, 1000, false) ? 0 : n_refused + 1;
	ring_publish(&s.workers[0].pair.writer, UINT64_MAX);
	assert_true(merge_waiting_bytes(s.merger) > SCENE_RING - 400);
	assert_true(merge_step(s.merger, UINT64_MAX) > 0);
	assert_true(merge_commit_is_due(s.merger));
	assert_int_equal(merge_step(s.merger, UINT64_MAX), 0);
	assert_false(scene_push(&s, 0, 1000, false));
	merge_commit(s.merger);
	assert_true(scene_push(&s, 0, 1000, false) && scene_push(&s, 0, 1000, false));
	ring_publish(&s.workers[0].pair.writer, UINT64_MAX);
	(void)scene_merge_all(s.merger);
	merge_commit(s.merger);
	assert_int_equal(merge_waiting_bytes(s.merger), 0);
	scene_check(&s, UINT64_MAX);
	scene_close(&s);
}

/* ---- crashes ---- */

static void crashes_at_any_moment_lose_nothing_and_double_nothing(void **state)
{
	static const unsigned n_rings[] = {1, 2, 4, 8};

	(void)state;
	for (unsigned k = 0; k < 4; k++) {
		struct scene s;
		unsigned n_crashes = 0;

		scene_open(&s, "crashes_at_any_moment_lose_nothing_and_double_nothing", n_rings[k],
			   0);
		merge_commit(s.merger);
		for (unsigned i = 0; i < s.n_rings; i++)
			scene_watched[i] = s.workers[i].pair.tail;
		for (unsigned i = 0; i < 4000; i++) {
			scene_burst(&s, dice_below(&s.d, s.n_rings));
			if (dice_one_in(&s.d, 4))
				(void)merge_step(s.merger, 1 + dice_below(&s.d, 30));
			if (dice_one_in(&s.d, 12) || merge_commit_is_due(s.merger))
				merge_commit(s.merger);
			if (dice_one_in(&s.d, 40)) {
				if (dice_one_in(&s.d, 2))
					scene_crash_in_commit(&s);
				assert_true(scene_crash(&s));
				n_crashes++;
			}
		}
		for (unsigned i = 0; i < s.n_rings; i++) {
			s.workers[i].n_held = 0;
			ring_publish(&s.workers[i].pair.writer, UINT64_MAX);
		}
		(void)scene_merge_all(s.merger);
		scene_check(&s, UINT64_MAX);
		assert_true(n_crashes > 20);
		memset(scene_watched, 0, sizeof(scene_watched));
		scene_close(&s);
	}
}

/* The store has all up to the late record, the ring gives it all once more, and one that is new. */
static void first_record_behind_a_late_one_that_was_committed_is_dealt(void **state)
{
	uint64_t tail, n_late;
	struct scene s;

	(void)state;
	scene_open(&s, "first_record_behind_a_late_one_that_was_committed_is_dealt", 1, 0);
	merge_commit(s.merger);
	assert_true(scene_push(&s, 0, 1000, false));
	assert_true(scene_push(&s, 0, 900, true));
	ring_publish(&s.workers[0].pair.writer, 1001);
	assert_int_equal(scene_merge_all(s.merger), 2);
	tail = s.workers[0].pair.tail->tail;
	n_late = s.workers[0].pair.tail->n_late;
	merge_commit(s.merger); // and dies before the ring has heard of it
	s.workers[0].pair.tail->tail = tail;
	s.workers[0].pair.tail->n_late = n_late;
	assert_true(scene_push(&s, 0, 1001, false));
	ring_publish(&s.workers[0].pair.writer, 2000);
	assert_true(scene_crash(&s));
	(void)scene_merge_all(s.merger);
	scene_check(&s, 2000);
	scene_close(&s);
}

static void store_that_could_not_commit_is_told_that_records_are_missing(void **state)
{
	struct scene s;

	(void)state;
	scene_open(&s, "store_that_could_not_commit_is_told_that_records_are_missing", 1, 0);
	merge_commit(s.merger);
	assert_true(scene_push(&s, 0, 1000, false));
	ring_publish(&s.workers[0].pair.writer, 2000);
	(void)scene_merge_all(s.merger);
	s.stores[2].refuses = true;
	merge_commit(s.merger);
	assert_false(scene_crash(&s));
	assert_false(merge_resume_store(s.merger, 2, &s.stores[2], 0, &s.stores[2].mark));
	assert_true(merge_resume_store(s.merger, 1, &s.stores[1], 0, &s.stores[1].mark));
	s.stores[1].mark.epoch++; // of another dataplane
	assert_false(merge_resume_store(s.merger, 1, &s.stores[1], 0, &s.stores[1].mark));
	scene_close(&s);
}

static void capture_without_a_store_gets_nothing_and_stops_nobody(void **state)
{
	struct scene s;

	(void)state;
	scene_open(&s, "capture_without_a_store_gets_nothing_and_stops_nobody", 2, 0);
	merge_set_store(s.merger, 3, NULL, 0);
	for (unsigned i = 0; i < 200; i++)
		scene_burst(&s, i % 2);
	for (unsigned i = 0; i < s.n_pushed; i++)
		s.pushed[i].captures &= (uint8_t) ~(1U << 3);
	for (unsigned i = 0; i < 2; i++)
		ring_publish(&s.workers[i].pair.writer, UINT64_MAX);
	(void)scene_merge_all(s.merger);
	assert_int_equal(s.stores[3].n, 0);
	assert_true(s.stores[2].n > 0);
	scene_close(&s);
}

/* Damage: what is written over a record or a head; the ring is closed, counted, the others go on. */

enum damage {
	WIRE_SHORTER_THAN_CAPTURED,
	LENGTH_BEYOND_HEAD,
	NO_CAPTURE,
	CAPTURE_BEYOND_THE_LAST,
	HALF_A_HEADER,
	HEAD_FAR_AWAY,
	DAMAGES,
};

static void damage_ring(struct fake_worker *w, enum damage damage, uint8_t *at)
{
	struct record *r = (struct record *)at;

	if (damage == WIRE_SHORTER_THAN_CAPTURED) {
		r->wire_len = r->caplen - 1U;
	} else if (damage == LENGTH_BEYOND_HEAD) {
		r->caplen = SNAP_BYTES_MAX;
		r->wire_len = UINT32_MAX;
	} else if (damage == NO_CAPTURE) {
		r->captures = 0;
	} else if (damage == CAPTURE_BEYOND_THE_LAST) {
		r->captures = 1 << CAPTURES_MAX;
	} else if (damage == HALF_A_HEADER) {
		w->pair.writer.head += 8;
	} else {
		w->pair.writer.head += 2 * SCENE_RING;
	}
}

static void corrupt_record_closes_its_ring_and_is_counted(void **state)
{
	(void)state;
	for (unsigned damage = 0; damage < DAMAGES; damage++) {
		struct record r = {.time_ns = 50,
				   .wire_len = SNAP_BYTES_MAX + 200,
				   .caplen = 64,
				   .captures = 1,
				   .port = 0};
		struct scene s;
		struct fake_worker *bad;
		uint8_t *at;

		scene_open(&s, "corrupt_record_closes_its_ring_and_is_counted", 2, 0);
		bad = &s.workers[0];
		assert_true(scene_push(&s, 0, 10, false));
		assert_true(scene_push(&s, 1, 20, false));
		at = bad->pair.data + bad->pair.writer.head;
		assert_true(ring_pair_push(&bad->pair, &r, (uint8_t)r.wire_len));
		damage_ring(bad, damage, at);
		ring_publish(&bad->pair.writer, 60);
		ring_publish(&s.workers[1].pair.writer, 100);
		(void)scene_merge_all(s.merger);
		assert_int_equal(merge_corrupt(s.merger), 1);
		// The other ring goes on, and waits for nobody.
		assert_true(scene_push(&s, 1, 200, false));
		ring_publish(&s.workers[1].pair.writer, 300);
		(void)scene_merge_all(s.merger);
		merge_commit(s.merger);
		if (damage == HEAD_FAR_AWAY || damage == HALF_A_HEADER)
			s.pushed[0].captures &= (uint8_t)(damage == HEAD_FAR_AWAY ? 0 : 0xff);
		if (damage == HALF_A_HEADER) { // the whole one before it was good
			s.pushed[s.n_pushed++] = (struct seen){50, 200, 0, 1, 0};
		}
		scene_check(&s, 300);
		assert_int_equal(merge_corrupt(s.merger), 1);
		scene_close(&s);
	}
}

static void random_bytes_in_a_ring_never_lead_out_of_it(void **state)
{
	struct dice d = dice_open("random_bytes_in_a_ring_never_lead_out_of_it");

	(void)state;
	for (unsigned round = 0; round < 300; round++) {
		struct ring_pair p;
		struct ring_reader reader;
		struct merger *m;
		struct record *first;

		ring_pair_open(&p, 1 << 12, 0);
		for (unsigned i = 0; i < 1 << 12; i++)
			p.data[i] = (uint8_t)dice_next(&d);
		first = (struct record *)p.data;
		first->caplen = (uint16_t)dice_below(&d, 5000);
		first->wire_len = 5000;
		first->time_ns = 1;
		if (dice_one_in(&d, 2))
			first->flags = RECORD_LATE;
		p.writer.n_late = dice_below(&d, 3);
		p.writer.head = dice_below(&d, (1 << 12) + 1);
		ring_publish(&p.writer, dice_next(&d));
		reader = p.reader;
		m = merge_open(
			&reader, 1,
			SCENE_EPOCH); // no store: what comes out does not matter, only where it lay
		assert_non_null(m);
		(void)scene_merge_all(m);
		merge_commit(m);
		assert_true(merge_corrupt(m) <= 1);
		merge_close(m);
		ring_pair_close(&p);
	}
}

/* Threads: one producer a ring, a clock that all of them read. */

struct producer {
	struct fake_worker *w;
	_Atomic uint64_t *clock;
	struct dice d;
	uint8_t ring;
};

static void *produce(void *ctx)
{
	struct producer *p = ctx;
	struct fake_worker *w = p->w;

	for (uint32_t n = 0; n < THREAD_RECORDS / 4;) {
		struct record r = {.wire_len = SNAP_BYTES_MAX + n,
				   .caplen = (uint16_t)dice_below(&p->d, 120),
				   .captures = 1,
				   .port = p->ring};

		r.time_ns = atomic_fetch_add(p->clock, 1);
		while (!ring_pair_push(&w->pair, &r, (uint8_t)r.wire_len)) {
			ring_publish(&w->pair.writer, r.time_ns);
			sched_yield();
		}
		n++;
		if (dice_one_in(&p->d, 8))
			ring_publish(&w->pair.writer, r.time_ns + 1);
	}
	ring_publish(&w->pair.writer, UINT64_MAX);
	return NULL;
}

static void threads_come_out_in_the_order_of_their_clock(void **state)
{
	struct producer producers[4];
	pthread_t threads[4];
	_Atomic uint64_t clock = 1;
	struct scene s;
	uint64_t n = 0;

	(void)state;
	scene_open(&s, "threads_come_out_in_the_order_of_their_clock", 4, 0);
	for (unsigned i = 0; i < 4; i++) {
		producers[i] =
			(struct producer){&s.workers[i], &clock, {dice_next(&s.d)}, (uint8_t)i};
		assert_int_equal(pthread_create(&threads[i], NULL, produce, &producers[i]), 0);
	}
	while (n < THREAD_RECORDS) {
		uint64_t done = merge_step(s.merger, 1000);

		merge_commit(s.merger);
		n += done;
		if (done == 0)
			sched_yield();
	}
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(s.stores[0].n, THREAD_RECORDS);
	for (unsigned i = 0; i < THREAD_RECORDS; i++) // the clock gave each time once
		assert_int_equal(s.stores[0].list[i].time_ns, i + 1);
	scene_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_rings_come_out_as_a_sort_has_them),
		cmocka_unit_test(rings_that_wrap_at_2_to_the_64_come_out_the_same),
		cmocka_unit_test(nothing_is_dealt_before_every_watermark_has_passed_it),
		cmocka_unit_test(dead_workers_rings_are_merged_to_their_heads),
		cmocka_unit_test(room_comes_back_only_with_a_commit),
		cmocka_unit_test(crashes_at_any_moment_lose_nothing_and_double_nothing),
		cmocka_unit_test(first_record_behind_a_late_one_that_was_committed_is_dealt),
		cmocka_unit_test(store_that_could_not_commit_is_told_that_records_are_missing),
		cmocka_unit_test(capture_without_a_store_gets_nothing_and_stops_nobody),
		cmocka_unit_test(corrupt_record_closes_its_ring_and_is_counted),
		cmocka_unit_test(random_bytes_in_a_ring_never_lead_out_of_it),
		cmocka_unit_test(threads_come_out_in_the_order_of_their_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
