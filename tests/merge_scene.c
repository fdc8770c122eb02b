/* merge_scene.c - see merge_scene.h. */
#include "tests/merge_scene.h"

#include <errno.h>

static int commits_until_death = -1; // then commits are not heard any more; -1: never
static struct scene *dying;	     // whose tails are those of that moment

const struct ring_tail *scene_watched[SCENE_RINGS_MAX];

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

void store_close(struct store *store)
{
	(void)store;
}

int store_sync(struct store *store)
{
	(void)store;
	return 0;
}

static void remember_tails(struct scene *s)
{
	for (unsigned i = 0; i < s->n_rings; i++) {
		const struct ring_tail *tail = s->workers[i].pair.tail;

		s->at_death[i] = (struct tails){tail->tail, tail->n_late};
	}
}

int store_commit(struct store *store, const struct store_mark *mark)
{
	assert_int_equal(store->n_locks, 1);
	if (store->refuses || commits_until_death == 0)
		return -EIO;
	// What this commit covers is in the rings until it is there: whoever dies now loses nothing.
	for (unsigned i = 0; i < store->mark.n_rings && scene_watched[i] != NULL; i++)
		assert_true((int64_t)(store->mark.cursors[i] - scene_watched[i]->tail) >= 0);
	store->n_committed = store->n;
	store->mark = *mark;
	if (commits_until_death > 0 && --commits_until_death == 0)
		remember_tails(dying);
	return 0;
}

/* Frames are filled with their number's low byte; wire_len carries the number. */
void store_append(struct store *store, const struct record *record, const uint8_t *frame)
{
	assert_int_equal(store->n_locks, 1);
	assert_true(store->n < SCENE_RECORDS_MAX);
	for (unsigned i = 0; i < record->caplen; i++)
		assert_int_equal(frame[i], (uint8_t)record->wire_len);
	store->list[store->n++] = (struct seen){
		record->time_ns,  record->wire_len - SNAP_BYTES_MAX, record->port,
		record->captures, record->flags & RECORD_LATE,	     record->generation};
}

void store_append_batch(struct store *store, const struct record *const *records, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		store_append(store, records[i], (const uint8_t *)(records[i] + 1));
}

static void open_scene(struct scene *s, const char *name, unsigned n_rings, unsigned n_writers,
		       uint64_t start)
{
	struct ring_reader readers[SCENE_RINGS_MAX];

	memset(s, 0, sizeof(*s));
	s->d = dice_open(name);
	s->n_rings = n_rings;
	s->slots_on = s->slots_given = (1 << CAPTURES_MAX) - 1;
	s->pushed = calloc(SCENE_RECORDS_MAX, sizeof(*s->pushed));
	assert_non_null(s->pushed);
	for (unsigned i = 0; i < n_rings; i++) {
		ring_pair_open(&s->workers[i].pair, SCENE_RING, start);
		s->workers[i].now_ns = 1000;
		readers[i] = s->workers[i].pair.reader;
		s->tails_seen[i] = start;
	}
	s->merger = merge_open_writers(readers, n_rings, SCENE_EPOCH, n_writers);
	assert_non_null(s->merger);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		s->stores[slot].last_generation = UINT16_MAX;
		s->stores[slot].list = calloc(SCENE_RECORDS_MAX, sizeof(struct seen));
		assert_non_null(s->stores[slot].list);
		merge_set_store(s->merger, slot, &s->stores[slot], 0);
	}
}

void scene_open(struct scene *s, const char *name, unsigned n_rings, uint64_t start)
{
	open_scene(s, name, n_rings, 1, start);
}

void scene_open_writers(struct scene *s, const char *name, unsigned n_rings, unsigned n_writers)
{
	open_scene(s, name, n_rings, n_writers, 0);
}

void scene_close(struct scene *s)
{
	merge_close(s->merger);
	for (unsigned i = 0; i < s->n_rings; i++)
		ring_pair_close(&s->workers[i].pair);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		free(s->stores[slot].list);
	free(s->pushed);
}

bool scene_push(struct scene *s, unsigned ring, uint64_t time_ns, bool is_late)
{
	struct fake_worker *w = &s->workers[ring];
	struct record r = {.time_ns = time_ns,
			   .wire_len = SNAP_BYTES_MAX + w->n_pushed,
			   .caplen = (uint16_t)dice_below(&s->d, 300),
			   .captures = (uint8_t)((1 + dice_below(&s->d, 31)) & s->slots_on),
			   .generation = s->generation,
			   .port = (uint8_t)ring,
			   .flags = is_late ? RECORD_LATE : 0};

	if (r.captures == 0)
		return true; // nobody wants it
	if (s->n_pushed == SCENE_RECORDS_MAX || !ring_pair_push(&w->pair, &r, (uint8_t)r.wire_len))
		return false;
	s->pushed[s->n_pushed++] = (struct seen){time_ns,    w->n_pushed++, (uint8_t)ring,
						 r.captures, is_late,	    s->generation};
	return true;
}

void scene_publish(struct fake_worker *w)
{
	uint64_t watermark = w->n_held > 0 && w->held_ns[0] < w->now_ns ? w->held_ns[0] : w->now_ns;

	ring_publish(&w->pair.writer, watermark);
}

/* A flow is decided: some of what is held goes out (late) or is dropped, the oldest first. */
static void let_go(struct scene *s, unsigned ring)
{
	struct fake_worker *w = &s->workers[ring];
	unsigned n = 1 + dice_below(&s->d, w->n_held), done = 0;

	while (done < n && (dice_one_in(&s->d, 3) || scene_push(s, ring, w->held_ns[done], true)))
		done++;
	w->n_held -= done;
	memmove(w->held_ns, w->held_ns + done, w->n_held * sizeof(w->held_ns[0]));
}

void scene_burst(struct scene *s, unsigned ring)
{
	struct fake_worker *w = &s->workers[ring];
	unsigned n = dice_below(&s->d, 12);

	if (w->n_held > 0 && dice_one_in(&s->d, 3))
		let_go(s, ring);
	for (unsigned i = 0; i < n; i++) {
		w->now_ns += dice_below(&s->d, 3); // equal times, within a ring and between rings
		if (w->n_held < SCENE_HELD_MAX && w->now_ns > s->last_held_ns &&
		    dice_one_in(&s->d, 9)) {
			s->last_held_ns = w->now_ns;
			w->held_ns[w->n_held++] = w->now_ns;
		} else if (!scene_push(s, ring, w->now_ns, false)) {
			break;
		}
	}
	if (dice_one_in(&s->d, 10))
		w->now_ns += dice_below(&s->d, 50); // an idle pass
	scene_publish(w);
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

uint64_t scene_oldest_watermark(const struct scene *s)
{
	uint64_t oldest = UINT64_MAX;

	for (unsigned i = 0; i < s->n_rings; i++) {
		uint64_t w = atomic_load(&s->workers[i].pair.shared->ring.watermark_ns);

		oldest = w < oldest ? w : oldest;
	}
	return oldest;
}

static bool is_of(const struct seen *seen, unsigned slot, const struct store *store)
{
	return seen->captures >> slot & 1 && seen->generation >= store->first_generation &&
	       seen->generation <= store->last_generation;
}

static void compare(const struct seen *sorted, unsigned n, unsigned slot, const struct store *store)
{
	unsigned at = 0;

	for (unsigned i = 0; i < n; i++) {
		const struct seen *got = &store->list[at];

		if (!is_of(&sorted[i], slot, store))
			continue;
		assert_true(at++ < store->n);
		assert_int_equal(got->time_ns, sorted[i].time_ns);
		assert_int_equal(got->ring, sorted[i].ring);
		assert_int_equal(got->number, sorted[i].number);
		assert_int_equal(got->captures, sorted[i].captures);
	}
	assert_int_equal(at, store->n); // and nothing else
}

void scene_check_slots(struct scene *s, uint8_t slots, uint64_t limit_ns)
{
	struct seen *sorted = malloc((s->n_pushed + 1) * sizeof(*sorted));
	unsigned n = 0;

	assert_non_null(sorted);
	for (unsigned i = 0; i < s->n_pushed; i++)
		if (s->pushed[i].time_ns < limit_ns)
			sorted[n++] = s->pushed[i];
	qsort(sorted, n, sizeof(*sorted), by_promise);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if (slots >> slot & 1)
			compare(sorted, n, slot, &s->stores[slot]);
	free(sorted);
}

void scene_check(struct scene *s, uint64_t limit_ns)
{
	scene_check_slots(s, (1 << CAPTURES_MAX) - 1, limit_ns);
}

void scene_end_traffic(struct scene *s)
{
	for (unsigned i = 0; i < s->n_rings; i++) {
		s->workers[i].n_held = 0;
		s->workers[i].now_ns = UINT64_MAX;
		scene_publish(&s->workers[i]);
	}
}

void scene_check_tails(struct scene *s)
{
	for (unsigned i = 0; i < s->n_rings; i++) {
		uint64_t tail = s->workers[i].pair.tail->tail;

		assert_true((int64_t)(tail - s->tails_seen[i]) >= 0);
		s->tails_seen[i] = tail;
	}
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		const struct store_mark *mark = &s->stores[slot].mark;

		for (unsigned i = 0; i < mark->n_rings && s->slots_given >> slot & 1; i++)
			assert_true((int64_t)(mark->cursors[i] - s->workers[i].pair.tail->tail) >=
				    0);
	}
}

/* All that may be merged, with the commits that it takes. */
uint64_t scene_merge_all(struct merger *m)
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

bool scene_crash_to(struct scene *s, unsigned n_writers)
{
	struct ring_reader readers[SCENE_RINGS_MAX];
	bool is_whole = true;

	merge_close(s->merger);
	for (unsigned i = 0; i < s->n_rings; i++) {
		const struct ring_reader *old = &s->workers[i].pair.reader;

		ring_reader_init(&readers[i], old->data, old->size, old->shared, old->tail_shared);
	}
	for (unsigned i = 0; i < s->n_rings; i++)
		s->tails_seen[i] = readers[i].tail;
	s->merger = merge_open_writers(readers, s->n_rings, SCENE_EPOCH, n_writers);
	assert_non_null(s->merger);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		struct store *store = &s->stores[slot];

		store->n = store->n_committed;
		if (!(s->slots_given >> slot & 1))
			continue;
		if (store->mark.epoch == SCENE_EPOCH)
			is_whole &= merge_resume_store(s->merger, slot, store,
						       store->first_generation, &store->mark);
		else // without a commit of these rings: as gatecapd does it
			merge_set_store(s->merger, slot, store, store->first_generation);
	}
	return is_whole;
}

bool scene_crash(struct scene *s)
{
	return scene_crash_to(s, 1);
}

void scene_crash_in_commit(struct scene *s)
{
	dying = s;
	commits_until_death = (int)dice_below(&s->d, CAPTURES_MAX + 1);
	if (commits_until_death == 0)
		remember_tails(s);
	merge_commit(s->merger);
	for (unsigned i = 0; i < s->n_rings && commits_until_death == 0; i++) {
		s->workers[i].pair.tail->tail = s->at_death[i].tail;
		s->workers[i].pair.tail->n_late = s->at_death[i].n_late;
	}
	commits_until_death = -1;
}
