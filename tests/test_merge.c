/* test_merge.c - random rings against a plain sort.
 *
 * The stores here are lists: this file has its own store_append(), store_commit() and so on, so that the
 * linker leaves control/store*.c out and every record that is dealt can be looked at.
 * A crash is a new merger over the same rings, with lists cut to what was committed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka wants the above first
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "control/merge.h"
#include "tests/dice.h"
#include "tests/ring_pair.h"

enum {
	RINGS_MAX = 8,
	RING = 1 << 16,
	RECORDS_MAX = 40000,
	HELD_MAX = 6,
	THREAD_RECORDS = 40000,
	EPOCH = 77
};

/* What is remembered of a record: enough to tell it from every other. */
struct seen {
	uint64_t time_ns;
	uint32_t number; // of its ring, as pushed
	uint8_t ring, captures, is_late;
};

struct store {
	struct seen *list;
	unsigned n;
	int n_locks;
	unsigned n_committed;
	struct store_mark mark; // of that commit
	bool refuses;		// commits fail
};

static int commits_until_death = -1; // then commits are not heard any more; -1: never

/* Rings whose tails must not be ahead of a commit. */
static const struct ring_tail *watched[RINGS_MAX];

void store_lock_for_append(struct store *store)
{
	store->n_locks++;
}

void store_lock(struct store *store)
{
	store->n_locks++;
}

void store_unlock(struct store *store)
{
	store->n_locks--;
}

void store_hold(struct store *store)
{
	(void)store;
}

int store_commit(struct store *store, const struct store_mark *mark)
{
	assert_int_equal(store->n_locks, 1);
	if (store->refuses || commits_until_death == 0)
		return -EIO;
	// What this commit covers is in the rings until it is there: whoever dies now loses nothing.
	for (unsigned i = 0; i < store->mark.n_rings && watched[i] != NULL; i++)
		assert_true((int64_t)(store->mark.cursors[i] - watched[i]->tail) >= 0);
	if (commits_until_death > 0)
		commits_until_death--;
	store->n_committed = store->n;
	store->mark = *mark;
	return 0;
}

/* Frames are filled with their number's low byte; wire_len carries the number. */
void store_append(struct store *store, const struct record *record, const uint8_t *frame)
{
	assert_int_equal(store->n_locks, 1);
	assert_true(store->n < RECORDS_MAX);
	for (unsigned i = 0; i < record->caplen; i++)
		assert_int_equal(frame[i], (uint8_t)record->wire_len);
	store->list[store->n++] =
		(struct seen){record->time_ns, record->wire_len - SNAP_BYTES_MAX, record->port,
			      record->captures, record->flags & RECORD_LATE};
}

void store_append_batch(struct store *store, const struct record *const *records, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		store_append(store, records[i], (const uint8_t *)(records[i] + 1));
}

/* One worker as the merger sees it. */
struct fake_worker {
	struct ring_pair pair;
	uint64_t now_ns;
	uint32_t n_pushed;
	uint64_t held_ns[HELD_MAX]; // oldest first
	unsigned n_held;
};

struct scene {
	struct dice d;
	struct fake_worker workers[RINGS_MAX];
	unsigned n_rings;
	uint64_t
		last_held_ns; // late times differ: among equal ones the order is that of finding them
	struct seen *pushed;
	unsigned n_pushed;
	struct store stores[CAPTURES_MAX];
	struct merger *merger;
};

static void scene_open(struct scene *s, const char *name, unsigned n_rings, uint64_t start)
{
	struct ring_reader readers[RINGS_MAX];

	memset(s, 0, sizeof(*s));
	s->d = dice_open(name);
	s->n_rings = n_rings;
	s->pushed = calloc(RECORDS_MAX, sizeof(*s->pushed));
	assert_non_null(s->pushed);
	for (unsigned i = 0; i < n_rings; i++) {
		ring_pair_open(&s->workers[i].pair, RING, start);
		s->workers[i].now_ns = 1000;
		readers[i] = s->workers[i].pair.reader;
	}
	s->merger = merge_open(readers, n_rings, EPOCH);
	assert_non_null(s->merger);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		s->stores[slot].list = calloc(RECORDS_MAX, sizeof(struct seen));
		assert_non_null(s->stores[slot].list);
		merge_set_store(s->merger, slot, &s->stores[slot], 0);
	}
}

static void scene_close(struct scene *s)
{
	merge_close(s->merger);
	for (unsigned i = 0; i < s->n_rings; i++)
		ring_pair_close(&s->workers[i].pair);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		free(s->stores[slot].list);
	free(s->pushed);
}

static bool push(struct scene *s, unsigned ring, uint64_t time_ns, bool is_late)
{
	struct fake_worker *w = &s->workers[ring];
	struct record r = {.time_ns = time_ns,
			   .wire_len = SNAP_BYTES_MAX + w->n_pushed,
			   .caplen = (uint16_t)dice_below(&s->d, 300),
			   .captures = (uint8_t)(1 + dice_below(&s->d, 31)),
			   .port = (uint8_t)ring,
			   .flags = is_late ? RECORD_LATE : 0};

	if (s->n_pushed == RECORDS_MAX || !ring_pair_push(&w->pair, &r, (uint8_t)r.wire_len))
		return false;
	s->pushed[s->n_pushed++] =
		(struct seen){time_ns, w->n_pushed++, (uint8_t)ring, r.captures, is_late};
	return true;
}

static void publish(struct fake_worker *w)
{
	uint64_t watermark = w->n_held > 0 && w->held_ns[0] < w->now_ns ? w->held_ns[0] : w->now_ns;

	ring_publish(&w->pair.writer, watermark);
}

/* A flow is decided: some of what is held goes out (late) or is dropped, the oldest first. */
static void let_go(struct scene *s, unsigned ring)
{
	struct fake_worker *w = &s->workers[ring];
	unsigned n = 1 + dice_below(&s->d, w->n_held), done = 0;

	while (done < n && (dice_one_in(&s->d, 3) || push(s, ring, w->held_ns[done], true)))
		done++;
	w->n_held -= done;
	memmove(w->held_ns, w->held_ns + done, w->n_held * sizeof(w->held_ns[0]));
}

static void burst(struct scene *s, unsigned ring)
{
	struct fake_worker *w = &s->workers[ring];
	unsigned n = dice_below(&s->d, 12);

	if (w->n_held > 0 && dice_one_in(&s->d, 3))
		let_go(s, ring);
	for (unsigned i = 0; i < n; i++) {
		w->now_ns += dice_below(&s->d, 3); // equal times, within a ring and between rings
		if (w->n_held < HELD_MAX && w->now_ns > s->last_held_ns && dice_one_in(&s->d, 9)) {
			s->last_held_ns = w->now_ns;
			w->held_ns[w->n_held++] = w->now_ns;
		} else if (!push(s, ring, w->now_ns, false)) {
			break;
		}
	}
	if (dice_one_in(&s->d, 10))
		w->now_ns += dice_below(&s->d, 50); // an idle pass
	publish(w);
}

/* The order that merge.h promises. */
static int by_promise(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;

	if (x->time_ns != y->time_ns)
		return x->time_ns < y->time_ns ? -1 : 1;
	if (x->is_late != y->is_late)
		return x->is_late ? -1 : 1;
	if (x->ring != y->ring)
		return x->ring < y->ring ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

static uint64_t oldest_watermark(const struct scene *s)
{
	uint64_t oldest = UINT64_MAX;

	for (unsigned i = 0; i < s->n_rings; i++) {
		uint64_t w = atomic_load(&s->workers[i].pair.shared->ring.watermark_ns);

		oldest = w < oldest ? w : oldest;
	}
	return oldest;
}

/* What was pushed and is older than `limit_ns`, sorted, must be what each store has. */
static void check(struct scene *s, uint64_t limit_ns)
{
	unsigned at[CAPTURES_MAX] = {0};
	struct seen *sorted = malloc((s->n_pushed + 1) * sizeof(*sorted));

	assert_non_null(sorted);
	memcpy(sorted, s->pushed, s->n_pushed * sizeof(*sorted));
	qsort(sorted, s->n_pushed, sizeof(*sorted), by_promise);
	for (unsigned i = 0; i < s->n_pushed && sorted[i].time_ns < limit_ns; i++)
		for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
			const struct seen *got = &s->stores[slot].list[at[slot]];

			if (!(sorted[i].captures >> slot & 1))
				continue;
			assert_true(at[slot]++ < s->stores[slot].n);
			assert_int_equal(got->time_ns, sorted[i].time_ns);
			assert_int_equal(got->ring, sorted[i].ring);
			assert_int_equal(got->number, sorted[i].number);
			assert_int_equal(got->captures, sorted[i].captures);
		}
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		assert_int_equal(at[slot], s->stores[slot].n); // and nothing else
	free(sorted);
}

/* All that may be merged, with the commits that it takes. */
static uint64_t merge_all(struct merger *m)
{
	uint64_t n, all = 0;

	do {
		if (merge_commit_is_due(m))
			merge_commit(m);
		n = merge_step(m, UINT64_MAX);
		all += n;
	} while (n > 0);
	return all;
}

static void run_random(struct scene *s, unsigned n_bursts)
{
	for (unsigned i = 0; i < n_bursts; i++) {
		burst(s, dice_below(&s->d, s->n_rings));
		if (dice_one_in(&s->d, 5)) {
			bool whole = dice_one_in(&s->d, 2);
			uint64_t max = 1 + dice_below(&s->d, 20);

			if (whole)
				(void)merge_all(s->merger);
			else // one more: no late record of the last time stays behind
				assert_true(merge_step(s->merger, max) <= max + 1);
			if (dice_one_in(&s->d, 2))
				merge_commit(s->merger);
			// Bounded delay: one whole step deals all that every watermark has passed.
			if (whole && dice_one_in(&s->d, 20))
				check(s, oldest_watermark(s));
			if (whole)
				assert_int_equal(merge_time_ns(s->merger), oldest_watermark(s));
		}
	}
	for (unsigned i = 0; i < s->n_rings; i++) {
		s->workers[i].n_held = 0;
		s->workers[i].now_ns = UINT64_MAX;
		publish(&s->workers[i]);
	}
	do
		merge_commit(s->merger);
	while (merge_step(s->merger, 1 + dice_below(&s->d, 100)) > 0);
	merge_commit(s->merger);
	check(s, UINT64_MAX);
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
		   UINT64_MAX - 2 * RING + 1);
	run_random(&s, 5000);
	assert_true(s.workers[0].pair.writer.head < UINT64_MAX / 2);
	scene_close(&s);
}

static void nothing_is_dealt_before_every_watermark_has_passed_it(void **state)
{
	struct scene s;

	(void)state;
	scene_open(&s, "nothing_is_dealt_before_every_watermark_has_passed_it", 2, 0);
	assert_true(push(&s, 0, 1000, false));
	assert_true(push(&s, 0, 1001, false));
	ring_publish(&s.workers[0].pair.writer, 5000);
	assert_int_equal(merge_step(s.merger, UINT64_MAX), 0); // ring 1 has said nothing yet
	ring_publish(&s.workers[1].pair.writer, 1000);
	assert_int_equal(merge_step(s.merger, UINT64_MAX), 0); // it may still add one of 1000
	ring_publish(&s.workers[1].pair.writer, 1001);
	assert_int_equal(merge_step(s.merger, UINT64_MAX), 1);
	ring_publish(&s.workers[1].pair.writer, 1002);
	assert_int_equal(merge_step(s.merger, UINT64_MAX), 1);
	check(&s, 1002);
	scene_close(&s);
}

static void dead_workers_rings_are_merged_to_their_heads(void **state)
{
	struct scene s;

	(void)state;
	scene_open(&s, "dead_workers_rings_are_merged_to_their_heads", 3, 0);
	for (unsigned i = 0; i < 300; i++)
		burst(&s, dice_below(&s.d, 3));
	merge_ignore_watermarks(s.merger);
	(void)merge_all(s.merger);
	check(&s, UINT64_MAX);
	scene_close(&s);
}

static void room_comes_back_only_with_a_commit(void **state)
{
	unsigned n_refused = 0; // in a row: in the end not even the shortest fits
	struct scene s;

	(void)state;
	scene_open(&s, "room_comes_back_only_with_a_commit", 1, 0);
	while (n_refused < 10000)
		n_refused = push(&s, 0, 1000, false) ? 0 : n_refused + 1;
	ring_publish(&s.workers[0].pair.writer, UINT64_MAX);
	assert_true(merge_waiting_bytes(s.merger) > RING - 400);
	assert_true(merge_step(s.merger, UINT64_MAX) > 0);
	assert_true(merge_commit_is_due(s.merger));
	assert_int_equal(merge_step(s.merger, UINT64_MAX), 0);
	assert_false(push(&s, 0, 1000, false));
	merge_commit(s.merger);
	assert_true(push(&s, 0, 1000, false) && push(&s, 0, 1000, false));
	ring_publish(&s.workers[0].pair.writer, UINT64_MAX);
	(void)merge_all(s.merger);
	merge_commit(s.merger);
	assert_int_equal(merge_waiting_bytes(s.merger), 0);
	check(&s, UINT64_MAX);
	scene_close(&s);
}

/* ---- crashes ---- */

/* The process dies; another one takes over what is committed.  Were the rings whole for every store? */
static bool crash_and_resume(struct scene *s)
{
	struct ring_reader readers[RINGS_MAX];
	bool is_whole = true;

	merge_close(s->merger);
	for (unsigned i = 0; i < s->n_rings; i++) {
		const struct ring_reader *old = &s->workers[i].pair.reader;

		ring_reader_init(&readers[i], old->data, old->size, old->shared, old->tail_shared);
	}
	s->merger = merge_open(readers, s->n_rings, EPOCH);
	assert_non_null(s->merger);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		struct store *store = &s->stores[slot];

		store->n = store->n_committed;
		is_whole &= merge_resume_store(s->merger, slot, store, 0, &store->mark);
	}
	return is_whole;
}

/* In the middle of a commit: some stores have heard of it, the rings have not. */
static void crash_in_commit(struct scene *s)
{
	uint64_t tails[RINGS_MAX], n_late[RINGS_MAX];

	for (unsigned i = 0; i < s->n_rings; i++) {
		tails[i] = s->workers[i].pair.reader.tail_shared->tail;
		n_late[i] = s->workers[i].pair.reader.tail_shared->n_late;
	}
	commits_until_death = (int)dice_below(&s->d, CAPTURES_MAX + 1);
	merge_commit(s->merger);
	commits_until_death = -1;
	for (unsigned i = 0; i < s->n_rings; i++) {
		s->workers[i].pair.reader.tail_shared->tail = tails[i];
		s->workers[i].pair.reader.tail_shared->n_late = n_late[i];
	}
}

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
			watched[i] = s.workers[i].pair.tail;
		for (unsigned i = 0; i < 4000; i++) {
			burst(&s, dice_below(&s.d, s.n_rings));
			if (dice_one_in(&s.d, 4))
				(void)merge_step(s.merger, 1 + dice_below(&s.d, 30));
			if (dice_one_in(&s.d, 12) || merge_commit_is_due(s.merger))
				merge_commit(s.merger);
			if (dice_one_in(&s.d, 40)) {
				if (dice_one_in(&s.d, 2))
					crash_in_commit(&s);
				assert_true(crash_and_resume(&s));
				n_crashes++;
			}
		}
		for (unsigned i = 0; i < s.n_rings; i++) {
			s.workers[i].n_held = 0;
			ring_publish(&s.workers[i].pair.writer, UINT64_MAX);
		}
		(void)merge_all(s.merger);
		check(&s, UINT64_MAX);
		assert_true(n_crashes > 20);
		memset(watched, 0, sizeof(watched));
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
	assert_true(push(&s, 0, 1000, false));
	assert_true(push(&s, 0, 900, true));
	ring_publish(&s.workers[0].pair.writer, 1001);
	assert_int_equal(merge_all(s.merger), 2);
	tail = s.workers[0].pair.tail->tail;
	n_late = s.workers[0].pair.tail->n_late;
	merge_commit(s.merger); // and dies before the ring has heard of it
	s.workers[0].pair.tail->tail = tail;
	s.workers[0].pair.tail->n_late = n_late;
	assert_true(push(&s, 0, 1001, false));
	ring_publish(&s.workers[0].pair.writer, 2000);
	assert_true(crash_and_resume(&s));
	(void)merge_all(s.merger);
	check(&s, 2000);
	scene_close(&s);
}

static void store_that_could_not_commit_is_told_that_records_are_missing(void **state)
{
	struct scene s;

	(void)state;
	scene_open(&s, "store_that_could_not_commit_is_told_that_records_are_missing", 1, 0);
	merge_commit(s.merger);
	assert_true(push(&s, 0, 1000, false));
	ring_publish(&s.workers[0].pair.writer, 2000);
	(void)merge_all(s.merger);
	s.stores[2].refuses = true;
	merge_commit(s.merger);
	assert_false(crash_and_resume(&s));
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
		burst(&s, i % 2);
	for (unsigned i = 0; i < s.n_pushed; i++)
		s.pushed[i].captures &= (uint8_t) ~(1U << 3);
	for (unsigned i = 0; i < 2; i++)
		ring_publish(&s.workers[i].pair.writer, UINT64_MAX);
	(void)merge_all(s.merger);
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
		w->pair.writer.head += 2 * RING;
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
		assert_true(push(&s, 0, 10, false));
		assert_true(push(&s, 1, 20, false));
		at = bad->pair.data + bad->pair.writer.head;
		assert_true(ring_pair_push(&bad->pair, &r, (uint8_t)r.wire_len));
		damage_ring(bad, damage, at);
		ring_publish(&bad->pair.writer, 60);
		ring_publish(&s.workers[1].pair.writer, 100);
		(void)merge_all(s.merger);
		assert_int_equal(merge_corrupt(s.merger), 1);
		// The other ring goes on, and waits for nobody.
		assert_true(push(&s, 1, 200, false));
		ring_publish(&s.workers[1].pair.writer, 300);
		(void)merge_all(s.merger);
		merge_commit(s.merger);
		if (damage == HEAD_FAR_AWAY || damage == HALF_A_HEADER)
			s.pushed[0].captures &= (uint8_t)(damage == HEAD_FAR_AWAY ? 0 : 0xff);
		if (damage == HALF_A_HEADER) { // the whole one before it was good
			s.pushed[s.n_pushed++] = (struct seen){50, 200, 0, 1, 0};
		}
		check(&s, 300);
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
			EPOCH); // no store: what comes out does not matter, only where it lay
		assert_non_null(m);
		(void)merge_all(m);
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
