/* test_merge_writers.c - several writers behind the same rings: together they are what one is.
 *
 * What each store must have is a plain sort of what was pushed (merge_scene.h), whoever filled it.  Most of
 * it without threads: the writers step and commit in any order, as the dice fall; then with all of them.
 */
#include "tests/merge_scene.h"

#include <pthread.h>
#include <sched.h>

#include "control/merge_thread.h"

enum { BURSTS = 4000, THREAD_RINGS = 3, EVERYBODY = (1 << CAPTURES_MAX) - 1 };

/* Some writer does something. */
static void some_writer_goes_on(struct scene *s)
{
	unsigned writer = dice_below(&s->d, merge_n_writers(s->merger));

	if (!dice_one_in(&s->d, 3))
		(void)merge_writer_step(s->merger, writer,
					dice_one_in(&s->d, 2) ? 1 + dice_below(&s->d, 30)
							      : UINT64_MAX);
	if (dice_one_in(&s->d, 4) || merge_writer_commit_is_due(s->merger, writer))
		merge_writer_commit(s->merger, writer);
	scene_check_tails(s);
}

static void finish(struct scene *s)
{
	scene_end_traffic(s);
	(void)scene_merge_all(s->merger);
	merge_commit(s->merger);
	scene_check_tails(s);
	assert_int_equal(merge_waiting_bytes(s->merger), 0);
	assert_int_equal(merge_corrupt(s->merger), 0);
}

static void each_store_has_what_one_writer_would_give_it(void **state)
{
	static const unsigned n_rings[] = {1, 2, 4, 8};

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		for (unsigned n_writers = 2; n_writers <= WRITERS_MAX; n_writers++) {
			struct scene s;

			scene_open_writers(&s, "each_store_has_what_one_writer_would_give_it",
					   n_rings[i], n_writers);
			for (unsigned k = 0; k < BURSTS; k++) {
				scene_burst(&s, dice_below(&s.d, s.n_rings));
				some_writer_goes_on(&s);
			}
			finish(&s);
			scene_check(&s, UINT64_MAX);
			assert_true(s.n_pushed > BURSTS);
			scene_close(&s);
		}
}

/* Push one record for every slot of slots_on, and let it be merged. */
static void push_one(struct scene *s, uint64_t time_ns)
{
	struct fake_worker *w = &s->workers[0];
	struct record r = {.time_ns = time_ns,
			   .wire_len = SNAP_BYTES_MAX + w->n_pushed,
			   .captures = s->slots_on,
			   .generation = s->generation};

	assert_true(ring_pair_push(&w->pair, &r, 0));
	s->pushed[s->n_pushed++] =
		(struct seen){time_ns, w->n_pushed++, 0, s->slots_on, 0, s->generation};
	ring_publish(&w->pair.writer, time_ns + 1);
}

/* Which slots got a record since list lengths were as in before[], which is renewed. */
static uint8_t grown(const struct scene *s, unsigned before[CAPTURES_MAX])
{
	uint8_t slots = 0;

	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		if (s->stores[slot].n > before[slot])
			slots |= (uint8_t)(1U << slot);
		before[slot] = s->stores[slot].n;
	}
	return slots;
}

/* Slots of each writer: whose lists grow when only this one steps. */
static void look_who_fills_what(struct scene *s, uint64_t time_ns, uint8_t slots[WRITERS_MAX])
{
	unsigned before[CAPTURES_MAX];

	(void)grown(s, before);
	push_one(s, time_ns);
	for (unsigned i = 0; i < merge_n_writers(s->merger); i++) {
		(void)merge_writer_step(s->merger, i, UINT64_MAX);
		slots[i] = grown(s, before);
	}
	merge_commit(s->merger);
}

static void drop_store(struct scene *s, unsigned slot)
{
	merge_set_store(s->merger, slot, NULL, 0);
	s->slots_on &= (uint8_t) ~(1U << slot);
	s->slots_given &= (uint8_t) ~(1U << slot);
}

/* Another capture in a slot that is free; its records have the generation that comes now. */
static void new_store(struct scene *s, unsigned slot)
{
	struct store *store = &s->stores[slot];

	*store = (struct store){.list = store->list,
				.first_generation = ++s->generation,
				.last_generation = UINT16_MAX};
	merge_set_store(s->merger, slot, store, s->generation);
	s->slots_on |= (uint8_t)(1U << slot);
	s->slots_given |= (uint8_t)(1U << slot);
}

static void new_store_goes_to_the_writer_with_the_fewest(void **state)
{
	uint8_t slots[WRITERS_MAX];

	(void)state;
	for (unsigned n = 1; n <= WRITERS_MAX; n++) {
		unsigned most = 0, fewest = CAPTURES_MAX;
		uint8_t all = 0, moved;
		struct scene s;

		scene_open_writers(&s, "new_store_goes_to_the_writer_with_the_fewest", 1, n);
		look_who_fills_what(&s, 1000, slots);
		for (unsigned i = 0; i < n; i++) {
			unsigned count = (unsigned)__builtin_popcount(slots[i]);

			assert_int_equal(all & slots[i], 0);
			all |= slots[i];
			most = count > most ? count : most;
			fewest = count < fewest ? count : fewest;
		}
		assert_int_equal(all, EVERYBODY);
		assert_true(most - fewest <= 1);
		// The last one's stores end; all that come then are its.
		moved = slots[n - 1];
		for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
			if (moved >> slot & 1)
				drop_store(&s, slot);
		for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
			if (moved >> slot & 1)
				new_store(&s, slot);
		look_who_fills_what(&s, 2000, slots);
		assert_int_equal(slots[n - 1], moved);
		scene_check(&s, UINT64_MAX);
		scene_close(&s);
	}
}

static void writer_without_a_store_holds_nobody_up(void **state)
{
	struct scene s;

	(void)state;
	scene_open_writers(&s, "writer_without_a_store_holds_nobody_up", 1, 3);
	for (unsigned slot = 1; slot < CAPTURES_MAX; slot++)
		drop_store(&s, slot);
	push_one(&s, 1000);
	assert_int_equal(merge_writer_step(s.merger, 1, UINT64_MAX), 0);
	assert_int_equal(merge_writer_step(s.merger, 2, UINT64_MAX), 0);
	assert_int_equal(merge_writer_step(s.merger, 0, UINT64_MAX), 1);
	merge_writer_commit(s.merger, 0);
	assert_int_equal(merge_waiting_bytes(s.merger), 0);
	assert_int_equal(merge_time_ns(s.merger), 1001);
	// What a writer that sleeps has not committed goes with it.
	new_store(&s, 1);
	push_one(&s, 2000);
	(void)merge_writer_step(s.merger, 0, UINT64_MAX);
	merge_writer_commit(s.merger, 0);
	assert_true(merge_waiting_bytes(s.merger) > 0);
	drop_store(&s, 1);
	assert_int_equal(merge_waiting_bytes(s.merger), 0);
	// Nobody has a store, and the rings are emptied.
	drop_store(&s, 0);
	s.slots_on = 1;
	push_one(&s, 3000);
	assert_true(merge_waiting_bytes(s.merger) > 0);
	(void)merge_step(s.merger, UINT64_MAX);
	merge_commit(s.merger);
	assert_int_equal(merge_waiting_bytes(s.merger), 0);
	scene_close(&s);
}

static void time_is_that_of_the_slowest(void **state)
{
	struct scene s;

	(void)state;
	scene_open_writers(&s, "time_is_that_of_the_slowest", 1, 2);
	look_who_fills_what(&s, 1000, (uint8_t[WRITERS_MAX]){0});
	assert_int_equal(merge_time_ns(s.merger), 1001);
	push_one(&s, 2000);
	(void)merge_writer_step(s.merger, 1, UINT64_MAX);
	assert_int_equal(merge_time_ns(s.merger), 1001);
	(void)merge_writer_step(s.merger, 0, UINT64_MAX);
	assert_int_equal(merge_time_ns(s.merger), 2001);
	push_one(&s, 3000);
	(void)merge_writer_step(s.merger, 0, UINT64_MAX);
	assert_int_equal(merge_time_ns(s.merger), 2001);
	scene_close(&s);
}

/* One who sleeps was once further than it is told to begin. */
static void writer_that_wakes_has_not_merged_what_it_merged_before(void **state)
{
	struct scene s;

	(void)state;
	scene_open_writers(&s, "writer_that_wakes_has_not_merged_what_it_merged_before", 1, 2);
	push_one(&s, 1000);
	(void)merge_writer_step(s.merger, 1, UINT64_MAX);
	for (unsigned slot = 1; slot < CAPTURES_MAX; slot += 2) // those of writer 1
		drop_store(&s, slot);
	(void)merge_writer_step(s.merger, 0, UINT64_MAX);
	assert_int_equal(merge_time_ns(s.merger), 1001);
	new_store(&s, 1);
	assert_int_equal(merge_time_ns(s.merger), 0);
	push_one(&s, 2000);
	(void)merge_writer_step(s.merger, 0, UINT64_MAX);
	assert_int_equal(merge_time_ns(s.merger), 0);
	(void)merge_writer_step(s.merger, 1, UINT64_MAX);
	assert_int_equal(merge_time_ns(s.merger), 2001);
	assert_int_equal(s.stores[1].n, 1);
	scene_check_slots(&s, 1U << 0 | 1U << 1 | 1U << 2 | 1U << 4, UINT64_MAX);
	scene_close(&s);
}

/* It has found a late record and not dealt it when it falls asleep; the others do. */
static void writer_that_wakes_has_forgotten_late_records(void **state)
{
	struct scene s;

	(void)state;
	scene_open_writers(&s, "writer_that_wakes_has_forgotten_late_records", 1, 2);
	s.slots_on = 1;
	while (s.n_pushed == 0)
		assert_true(scene_push(&s, 0, 1000, true));
	ring_publish(&s.workers[0].pair.writer, 1000);
	assert_int_equal(merge_step(s.merger, UINT64_MAX), 0);
	for (unsigned slot = 1; slot < CAPTURES_MAX; slot += 2) // those of writer 1
		drop_store(&s, slot);
	ring_publish(&s.workers[0].pair.writer, 1001);
	assert_int_equal(merge_step(s.merger, UINT64_MAX), 1);
	merge_commit(s.merger);
	assert_int_equal(merge_waiting_bytes(s.merger), 0);
	new_store(&s, 1);
	merge_writer_commit(s.merger, 1);
	assert_int_equal(merge_waiting_bytes(s.merger), 0);
	scene_check_tails(&s);
	scene_check_slots(&s, s.slots_given, UINT64_MAX);
	scene_close(&s);
}

/* A capture ends: as gatecapd does it, when all before that moment is merged; or at once. */
static void end_capture(struct scene *s, unsigned slot)
{
	uint64_t end_ns = 0;

	s->slots_on &= (uint8_t) ~(1U << slot);
	s->stores[slot].last_generation = s->generation++;
	if (dice_one_in(&s->d, 4)) { // nobody looks at what it has, but that it stays so
		unsigned n = s->stores[slot].n;

		drop_store(s, slot);
		(void)scene_merge_all(s->merger);
		assert_int_equal(s->stores[slot].n, n);
		assert_int_equal(s->stores[slot].n_committed, n);
		return;
	}
	for (unsigned i = 0; i < s->n_rings; i++) {
		struct fake_worker *w = &s->workers[i];

		end_ns = w->now_ns >= end_ns ? w->now_ns + 1 : end_ns;
	}
	for (unsigned i = 0; i < s->n_rings; i++) {
		s->workers[i].n_held = 0;
		s->workers[i].now_ns = end_ns;
		scene_publish(&s->workers[i]);
	}
	while (merge_time_ns(s->merger) < end_ns)
		some_writer_goes_on(s);
	drop_store(s, slot);
	assert_int_equal(s->stores[slot].n_committed, s->stores[slot].n);
	scene_check_slots(s, (uint8_t)(1U << slot), UINT64_MAX);
}

static void captures_come_and_go_and_each_gets_its_own(void **state)
{
	static const unsigned n_rings[] = {1, 3, 8};

	(void)state;
	for (unsigned i = 0; i < 9; i++) {
		struct scene s;
		unsigned n_changes = 0;

		scene_open_writers(&s, "captures_come_and_go_and_each_gets_its_own", n_rings[i % 3],
				   2 + i % 4);
		while (s.n_pushed < 2 * BURSTS) {
			scene_burst(&s, dice_below(&s.d, s.n_rings));
			some_writer_goes_on(&s);
			if (dice_one_in(&s.d, 30)) {
				unsigned slot = dice_below(&s.d, CAPTURES_MAX);

				if (s.slots_on >> slot & 1)
					end_capture(&s, slot);
				else
					new_store(&s, slot);
				n_changes++;
			}
		}
		finish(&s);
		scene_check_slots(&s, s.slots_on, UINT64_MAX);
		assert_true(n_changes > 10);
		scene_close(&s);
	}
}

static void crashes_at_any_moment_lose_nothing_with_any_number_of_writers(void **state)
{
	static const unsigned n_rings[] = {1, 2, 4, 8};

	(void)state;
	for (unsigned k = 0; k < 4; k++) {
		struct scene s;
		unsigned n_crashes = 0;

		scene_open_writers(&s,
				   "crashes_at_any_moment_lose_nothing_with_any_number_of_writers",
				   n_rings[k], 3);
		merge_commit(s.merger);
		for (unsigned i = 0; i < s.n_rings; i++)
			scene_watched[i] = s.workers[i].pair.tail;
		for (unsigned i = 0; i < BURSTS; i++) {
			unsigned slot = dice_below(&s.d, CAPTURES_MAX);

			scene_burst(&s, dice_below(&s.d, s.n_rings));
			some_writer_goes_on(&s);
			if (!(s.slots_on >> slot & 1) && dice_one_in(&s.d, 20))
				new_store(&s, slot);
			else if (s.slots_on >> slot & 1 && dice_one_in(&s.d, 80))
				end_capture(&s, slot);
			if (dice_one_in(&s.d, 40)) {
				if (dice_one_in(&s.d, 2))
					scene_crash_in_commit(&s);
				assert_true(scene_crash_to(&s, 1 + dice_below(&s.d, WRITERS_MAX)));
				n_crashes++;
			}
		}
		scene_end_traffic(&s);
		(void)scene_merge_all(s.merger);
		scene_check_slots(&s, s.slots_on, UINT64_MAX);
		assert_true(n_crashes > 20);
		memset(scene_watched, 0, sizeof(scene_watched));
		scene_close(&s);
	}
}

static void impossible_record_closes_its_ring_for_all_and_counts_once(void **state)
{
	struct record bad = {.time_ns = 20, .wire_len = 1, .caplen = 64, .captures = 1};
	struct scene s;

	(void)state;
	scene_open_writers(&s, "impossible_record_closes_its_ring_for_all_and_counts_once", 1, 3);
	for (unsigned slot = 2; slot < CAPTURES_MAX; slot++)
		drop_store(&s, slot);
	push_one(&s, 10);
	assert_true(ring_pair_push(&s.workers[0].pair, &bad, 1));
	ring_publish(&s.workers[0].pair.writer, 30);
	(void)scene_merge_all(s.merger);
	merge_commit(s.merger);
	assert_int_equal(merge_corrupt(s.merger), 1);
	assert_int_equal(merge_waiting_bytes(s.merger), 0);
	// Writer 2 has never seen it, and does not go on behind it.
	new_store(&s, 2);
	push_one(&s, 40);
	s.n_pushed--;
	(void)scene_merge_all(s.merger);
	assert_int_equal(s.stores[2].n, 0);
	assert_int_equal(merge_corrupt(s.merger), 1);
	scene_check_slots(&s, 3, UINT64_MAX);
	scene_close(&s);
}

/* ---- threads: workers, writers, and captures that come and go ---- */

struct producer {
	struct fake_worker *w;
	_Atomic uint64_t *clock;
	_Atomic uint32_t *wanted; // generation << 8 | slots_on
	struct dice d;
	uint8_t ring;
	struct seen *pushed;
	unsigned n_pushed;
	_Atomic bool *is_over;
};

static void produce_one(struct producer *p)
{
	uint32_t wanted = atomic_load(p->wanted);
	struct record r = {.wire_len = SNAP_BYTES_MAX + p->n_pushed,
			   .caplen = (uint16_t)dice_below(&p->d, 120),
			   .captures = (uint8_t)((1 + dice_below(&p->d, EVERYBODY)) & wanted),
			   .generation = (uint16_t)(wanted >> 8),
			   .port = p->ring};

	r.time_ns = atomic_fetch_add(p->clock, 1);
	if (r.captures == 0)
		return;
	while (!ring_pair_push(&p->w->pair, &r, (uint8_t)r.wire_len)) {
		ring_publish(&p->w->pair.writer, r.time_ns);
		(void)sched_yield();
	}
	p->pushed[p->n_pushed] =
		(struct seen){r.time_ns, p->n_pushed, p->ring, r.captures, 0, r.generation};
	p->n_pushed++;
}

static void *produce(void *ctx)
{
	struct producer *p = ctx;

	while (!atomic_load(p->is_over)) {
		if (p->n_pushed < SCENE_RECORDS_MAX / THREAD_RINGS)
			produce_one(p);
		if (dice_one_in(&p->d, 8)) {
			ring_publish(&p->w->pair.writer, atomic_load(p->clock));
			(void)sched_yield();
		}
	}
	ring_publish(&p->w->pair.writer, UINT64_MAX);
	return NULL;
}

struct traffic {
	struct producer producers[THREAD_RINGS];
	pthread_t threads[THREAD_RINGS];
	_Atomic uint64_t clock;
	_Atomic uint32_t wanted;
	_Atomic bool is_over;
};

static void traffic_begin(struct traffic *t, struct scene *s)
{
	t->clock = 1;
	for (unsigned i = 0; i < THREAD_RINGS; i++) {
		struct producer *p = &t->producers[i];

		*p = (struct producer){.w = &s->workers[i],
				       .clock = &t->clock,
				       .wanted = &t->wanted,
				       .d = {dice_next(&s->d)},
				       .ring = (uint8_t)i,
				       .is_over = &t->is_over};
		p->pushed = calloc(SCENE_RECORDS_MAX / THREAD_RINGS, sizeof(*p->pushed));
		assert_non_null(p->pushed);
		assert_int_equal(pthread_create(&t->threads[i], NULL, produce, p), 0);
	}
}

static void traffic_end(struct traffic *t, struct scene *s)
{
	atomic_store(&t->is_over, true);
	for (unsigned i = 0; i < THREAD_RINGS; i++) {
		struct producer *p = &t->producers[i];

		assert_int_equal(pthread_join(t->threads[i], NULL), 0);
		memcpy(s->pushed + s->n_pushed, p->pushed, p->n_pushed * sizeof(*p->pushed));
		s->n_pushed += p->n_pushed;
		free(p->pushed);
	}
}

/* A store that nobody fills any more, and its slot. */
struct ended {
	struct store store;
	unsigned slot;
};

/* Wait until the clock has gone on so far; hold the stores now and then, as the sync thread does. */
static void let_pass(struct scene *s, struct traffic *t, uint64_t n)
{
	uint64_t until = atomic_load(&t->clock) + n;

	while (atomic_load(&t->clock) < until) {
		struct store *held[CAPTURES_MAX];

		if (dice_one_in(&s->d, 50))
			assert_true(merge_hold_stores(s->merger, held) <= CAPTURES_MAX);
		(void)sched_yield();
	}
}

static void flip(struct scene *s, struct traffic *t, struct ended *ended, unsigned *n_ended)
{
	unsigned slot = dice_below(&s->d, CAPTURES_MAX);

	if (!(s->slots_on >> slot & 1)) {
		s->stores[slot].list = calloc(SCENE_RECORDS_MAX, sizeof(struct seen));
		assert_non_null(s->stores[slot].list);
		new_store(s, slot);
		atomic_store(&t->wanted, (uint32_t)s->generation << 8 | s->slots_on);
		return;
	}
	s->slots_on &= (uint8_t) ~(1U << slot);
	s->stores[slot].last_generation = s->generation++;
	atomic_store(&t->wanted, (uint32_t)s->generation << 8 | s->slots_on);
	drop_store(s, slot);
	ended[(*n_ended)++] = (struct ended){s->stores[slot], slot};
	s->stores[slot].list = NULL;
}

/* Of a store that was taken away at some moment: all up to that, in order. */
static void check_ended(struct scene *s, const struct ended *ended)
{
	unsigned at = 0;

	assert_int_equal(ended->store.n_committed, ended->store.n);
	for (unsigned i = 0; i < s->n_pushed && at < ended->store.n; i++) {
		const struct seen *p = &s->pushed[i], *got = &ended->store.list[at];

		if (!(p->captures >> ended->slot & 1) ||
		    p->generation < ended->store.first_generation)
			continue;
		assert_int_equal(got->time_ns, p->time_ns);
		assert_int_equal(got->ring, p->ring);
		assert_int_equal(got->number, p->number);
		at++;
	}
	assert_int_equal(at, ended->store.n);
}

static int by_time(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;

	return x->time_ns < y->time_ns ? -1 : x->time_ns > y->time_ns;
}

static void threads_fill_stores_that_come_and_go(void **state)
{
	static struct traffic t;
	struct ended ended[60];
	unsigned n_ended = 0, n_filled = 0;
	struct merge_thread *writers;
	struct scene s;

	(void)state;
	scene_open_writers(&s, "threads_fill_stores_that_come_and_go", THREAD_RINGS, 3);
	atomic_store(&t.wanted, EVERYBODY);
	writers = merge_thread_start(s.merger, 1);
	assert_non_null(writers);
	traffic_begin(&t, &s);
	for (unsigned i = 0; i < 60; i++) {
		let_pass(&s, &t, dice_below(&s.d, 1000));
		flip(&s, &t, ended, &n_ended);
	}
	traffic_end(&t, &s);
	while (merge_time_ns(s.merger) != UINT64_MAX || merge_waiting_bytes(s.merger) > 0)
		(void)sched_yield();
	merge_thread_stop(writers);
	qsort(s.pushed, s.n_pushed, sizeof(*s.pushed), by_time);
	scene_check_slots(&s, s.slots_on, UINT64_MAX);
	for (unsigned i = 0; i < n_ended; i++) {
		n_filled += ended[i].store.n > 0;
		check_ended(&s, &ended[i]);
		free(ended[i].store.list);
	}
	assert_true(n_ended > 10 && n_filled > 3);
	scene_close(&s);
}

/* None has a store, or none but one: all threads end all the same. */
static void threads_that_sleep_end_when_they_are_told(void **state)
{
	(void)state;
	for (unsigned n_stores = 0; n_stores < 3; n_stores++) {
		struct merge_thread *writers;
		struct scene s;

		scene_open_writers(&s, "threads_that_sleep_end_when_they_are_told", 1, WRITERS_MAX);
		for (unsigned slot = n_stores; slot < CAPTURES_MAX; slot++)
			drop_store(&s, slot);
		writers = merge_thread_start(s.merger, 0);
		assert_non_null(writers);
		s.slots_on |= 1; // of a capture that is gone, perhaps
		push_one(&s, 1000);
		while (merge_waiting_bytes(s.merger) > 0)
			(void)sched_yield();
		merge_thread_stop(writers);
		scene_check_slots(&s, s.slots_given, UINT64_MAX);
		scene_close(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_store_has_what_one_writer_would_give_it),
		cmocka_unit_test(new_store_goes_to_the_writer_with_the_fewest),
		cmocka_unit_test(writer_without_a_store_holds_nobody_up),
		cmocka_unit_test(time_is_that_of_the_slowest),
		cmocka_unit_test(writer_that_wakes_has_not_merged_what_it_merged_before),
		cmocka_unit_test(writer_that_wakes_has_forgotten_late_records),
		cmocka_unit_test(captures_come_and_go_and_each_gets_its_own),
		cmocka_unit_test(crashes_at_any_moment_lose_nothing_with_any_number_of_writers),
		cmocka_unit_test(impossible_record_closes_its_ring_for_all_and_counts_once),
		cmocka_unit_test(threads_fill_stores_that_come_and_go),
		cmocka_unit_test(threads_that_sleep_end_when_they_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
