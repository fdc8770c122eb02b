/* merge.c - k-way merge in runs.
 *
 * A worker pushes bursts, so neighbours in a ring are neighbours in time: the ring with the oldest head
 * is drained until another ring's head is older, and only then the heads are compared again.  One ring
 * needs no comparing at all.
 *
 * A run is dealt in batches: first the headers are looked at, then the records go to one store after the
 * other, each filled in a loop of its own: 64 -> 49 cycles a record with pwrite() (TSC of 2.0 GHz, 60-byte
 * frames; docs/performance.md).  What not all captures want is picked for each store.  One by one go the
 * records of a batch in which the filter set changes, those of a very short one, and what a resumed store
 * may have already.
 *
 * Late records (OpenVPN segments that were held until their flow was decided) lie behind younger ones.
 * The ring says how many it ever had; while that number does not move nobody looks for them.  When it
 * moves, the new ones are copied to a short list in order of time, which is then merged like a ring.
 * Their worker's watermark stayed behind them, so none can come too late.
 *
 * A commit is a cut through all rings (struct store_mark): everything before each ring's cursor is in the
 * stores, and of the late records those up to the time that was dealt last.  What lies behind a late
 * record in its ring is not older, so nothing of that is dealt before it: a cursor can stay at the first
 * late record that is not dealt yet.  Only after the commit the tails are published; whoever resumes
 * finds what was not committed in the rings and deals it again.
 */
#include <stdlib.h>
#include <string.h>

#include "control/merge_internal.h"

/* Generations are compared in 16 bits: half of them are before, half behind. */
enum { GENERATIONS_AHEAD = 0x8000 };

/* A batch stays in the first-level cache; fewer records than the last are not worth its set-up. */
enum { BATCH_RECORDS = 64, BATCH_BYTES = 16 << 10, BATCH_RECORDS_MIN = 4 };

/* Records of one source that are dealt together. */
struct batch {
	uint64_t stop, until_ns; // of the ring, of time
	unsigned n_max, n;
	uint8_t any, all;		// captures that want one of them, every one
	uint16_t generation, differing; // of all of them, if no bit differs
	const struct record *records[BATCH_RECORDS];
};

static inline const struct record *record_at(const struct source *s, uint64_t at)
{
	return (const struct record *)(s->ring.data + (at & s->ring.mask));
}

/* Is there a whole, possible record at `at`? */
static inline bool is_whole(const struct source *s, uint64_t at)
{
	const struct record *record = record_at(s, at);

	return s->end - at >= sizeof(*record) && s->end - at >= record_bytes(record->caplen) &&
	       record->caplen <= record->wire_len && record->captures != 0 &&
	       record->captures < 1 << CAPTURES_MAX;
}

struct ring_cut merge_cut_of(const struct merge_writer *w, unsigned i)
{
	const struct source *s = &w->sources[i];
	struct ring_cut cut = {s->ring.tail, s->ring.n_late};

	for (unsigned k = 0; k < w->n_late && !s->is_closed; k++)
		if (w->late[k]->source == s && (int64_t)(cut.cursor - w->late[k]->at) > 0)
			cut.cursor = w->late[k]->at;
	// Only late records lie between.
	for (uint64_t at = cut.cursor; at != s->ring.tail;
	     at += record_bytes(record_at(s, at)->caplen))
		cut.n_late--;
	return cut;
}

void merge_begin_at_tails(struct merge_writer *w)
{
	uint64_t closed = atomic_load_explicit(&w->merger->closed, memory_order_relaxed);

	while (w->n_late > 0)
		free(w->late[--w->n_late]);
	for (unsigned i = 0; i < w->n; i++) {
		struct source *s = &w->sources[i];

		s->ring = w->merger->rings[i];
		s->end = s->scanned = s->resumed = s->ring.tail;
		s->n_late = s->ring.n_late;
		s->is_closed = closed >> i & 1;
		w->committed[i] = (struct ring_cut){s->ring.tail, s->ring.n_late};
	}
	w->mark.dealt_ns = 0;
	atomic_store_explicit(&w->merged_ns, 0, memory_order_relaxed);
}

static void give_up(struct merge_writer *w, struct source *s)
{
	s->is_closed = true;
	s->ring.tail = s->end;
	atomic_fetch_or_explicit(&w->merger->closed, UINT64_C(1) << (s - w->sources),
				 memory_order_relaxed);
}

/* Copy one late record into the list, by time; after those of the same time. */
static void keep_late(struct merge_writer *w, const struct source *s, uint64_t ring_at)
{
	const struct record *record = record_at(s, ring_at);
	struct late *late;
	unsigned at = w->n_late;

	if (w->n_late == w->n_late_allocated) {
		unsigned n = w->n_late_allocated > 0 ? 2 * w->n_late_allocated : 64;
		void *grown = reallocarray(w->late, n, sizeof(*w->late));

		if (grown == NULL)
			abort(); // a few hundred bytes: nothing sensible is left to do
		w->late = grown;
		w->n_late_allocated = n;
	}
	late = malloc(sizeof(*late) + record->caplen);
	if (late == NULL)
		abort();
	late->source = s;
	late->at = ring_at;
	late->record = *record;
	memcpy(late->frame, record + 1, record->caplen);
	while (at > 0 && w->late[at - 1]->record.time_ns > record->time_ns) {
		w->late[at] = w->late[at - 1];
		at--;
	}
	w->late[at] = late;
	w->n_late++;
}

/* Look for late records in what was published since the last look. */
static void find_late(struct merge_writer *w, struct source *s)
{
	uint64_t n_late = atomic_load_explicit(&s->ring.shared->n_late, memory_order_relaxed);

	if ((int64_t)(s->ring.tail - s->scanned) > 0) // the counts wrap
		s->scanned = s->ring.tail;
	if (n_late == s->n_late) {
		s->scanned = s->end;
		return;
	}
	while (s->scanned != s->end && is_whole(s, s->scanned)) {
		const struct record *record = record_at(s, s->scanned);

		if (record->flags & RECORD_LATE) {
			keep_late(w, s, s->scanned);
			s->n_late++;
		}
		s->scanned += record_bytes(record->caplen);
	}
}

/* Read watermarks, then heads: what may be merged is what is older than the oldest watermark. */
static uint64_t look(struct merge_writer *w)
{
	uint64_t limit_ns = UINT64_MAX;

	for (unsigned i = 0; i < w->n; i++) {
		struct source *s = &w->sources[i];
		uint64_t watermark_ns = ring_watermark(&s->ring);

		if (s->is_closed)
			continue;
		s->end = s->ring.tail + ring_available(&s->ring);
		if (s->end - s->ring.tail > s->ring.size) {
			s->end = s->ring.tail;
			give_up(w, s);
			continue;
		}
		find_late(w, s);
		if (watermark_ns < limit_ns)
			limit_ns = watermark_ns;
	}
	return atomic_load_explicit(&w->merger->ignore_watermarks, memory_order_relaxed)
		       ? UINT64_MAX
		       : limit_ns;
}

/* Slots whose stores had the record at `at` of ring i before they were resumed. */
static unsigned had_already(const struct merge_writer *w, unsigned i, uint64_t at)
{
	unsigned slots = 0;

	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if (w->resumed[slot].n_rings > 0 && (int64_t)(w->resumed[slot].cursors[i] - at) > 0)
			slots |= 1U << slot;
	return slots;
}

static unsigned had_already_late(const struct merge_writer *w, uint64_t time_ns)
{
	unsigned slots = 0;

	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if (time_ns <= w->resumed[slot].dealt_ns)
			slots |= 1U << slot;
	return slots;
}

static inline void deal(struct merge_writer *w, const struct record *record, const uint8_t *frame,
			unsigned skip)
{
	for (unsigned captures = record->captures % (1 << CAPTURES_MAX) & ~skip; captures != 0;
	     captures &= captures - 1) {
		int slot = __builtin_ctz(captures);
		struct store *store = w->stores[slot];
		uint16_t age = (uint16_t)(record->generation - w->first_generation[slot]);

		if (store != NULL && age < GENERATIONS_AHEAD)
			store_append(store, record, frame);
	}
}

/* Time of the next record of a source, late ones skipped; UINT64_MAX: none before the limit. */
static uint64_t next_time(struct merge_writer *w, struct source *s, uint64_t limit_ns)
{
	while (s->ring.tail != s->end) {
		const struct record *record = record_at(s, s->ring.tail);

		if (!is_whole(s, s->ring.tail)) {
			give_up(w, s);
			break;
		}
		if (!(record->flags & RECORD_LATE))
			return record->time_ns < limit_ns ? record->time_ns : UINT64_MAX;
		s->ring.tail += record_bytes(record->caplen);
		s->ring.n_late++;
	}
	return UINT64_MAX;
}

/* To one store after the other, while the records are in the first-level cache. */
static void deal_batch(struct merge_writer *w, const struct batch *b)
{
	for (unsigned captures = b->any % (1 << CAPTURES_MAX); captures != 0;
	     captures &= captures - 1) {
		int slot = __builtin_ctz(captures);
		struct store *store = w->stores[slot];
		uint16_t age = (uint16_t)(b->generation - w->first_generation[slot]);
		const struct record *wanted[BATCH_RECORDS];
		unsigned n = 0;

		if (store == NULL || age >= GENERATIONS_AHEAD)
			continue;
		if (b->all >> slot & 1) {
			store_append_batch(store, b->records, b->n);
			continue;
		}
		for (unsigned i = 0; i < b->n; i++) {
			wanted[n] = b->records[i];
			n += b->records[i]->captures >> slot & 1;
		}
		store_append_batch(store, wanted, n);
	}
}

static void deal_each(struct merge_writer *w, const struct batch *b, unsigned skip)
{
	for (unsigned i = 0; i < b->n; i++)
		deal(w, b->records[i], (const uint8_t *)(b->records[i] + 1), skip);
}

/* Take the next records of s as the batch says; at a younger or an impossible one it ends early. */
static void take_batch(struct source *s, struct batch *b)
{
	uint64_t at = s->ring.tail;
	uint16_t generation = record_at(s, at)->generation, differing = 0;
	unsigned n = 0, any = 0, all = UINT8_MAX;

	while (n < b->n_max && (int64_t)(b->stop - at) > 0) {
		const struct record *record = record_at(s, at);

		if (__builtin_expect(!is_whole(s, at), 0))
			break;
		if (__builtin_expect(record->flags & RECORD_LATE, 0)) {
			s->ring.n_late++;
		} else if (record->time_ns < b->until_ns) {
			b->records[n++] = record;
			any |= record->captures;
			all &= record->captures;
			differing |= record->generation ^ generation;
		} else {
			break;
		}
		at += record_bytes(record->caplen);
	}
	s->ring.tail = at;
	b->n = n;
	b->any = (uint8_t)any;
	b->all = (uint8_t)all;
	b->generation = generation;
	b->differing = differing;
}

/* Deal a batch of what lies before `stop`.  False: the run is over; next_time() sees why. */
static bool drain_batch(struct merge_writer *w, struct source *s, uint64_t stop, struct batch *b)
{
	bool is_resumed = (int64_t)(s->resumed - s->ring.tail) > 0, ended_early;
	unsigned skip = 0;

	if (__builtin_expect(is_resumed, 0)) // stores may have it: each is asked about
		b->n_max = 1;
	b->stop = stop - s->ring.tail > BATCH_BYTES ? s->ring.tail + BATCH_BYTES : stop;
	take_batch(s, b);
	ended_early = b->n < b->n_max && (int64_t)(b->stop - s->ring.tail) > 0;
	if (is_resumed && b->n > 0) // late ones may lie before it
		skip = had_already(w, (unsigned)(s - w->sources),
				   s->ring.tail - record_bytes(b->records[0]->caplen));
	if (b->n > 0)
		w->mark.dealt_ns = b->records[b->n - 1]->time_ns;
	if (b->n < BATCH_RECORDS_MIN || b->differing != 0)
		deal_each(w, b, skip);
	else
		deal_batch(w, b);
	return !ended_early;
}

/* Deal records of one source as long as they are older than `until_ns`; at most n. */
static uint64_t drain_run(struct merge_writer *w, struct source *s, uint64_t until_ns, uint64_t n)
{
	uint64_t start = s->ring.tail, stop = s->end, done = 0;
	struct batch batch;
	bool goes_on = true;

	if (stop - start > w->commit_bytes - w->uncommitted_bytes)
		stop = start + (w->commit_bytes - w->uncommitted_bytes);
	batch.until_ns = until_ns;
	while (goes_on && done < n && (int64_t)(stop - s->ring.tail) > 0) {
		batch.n_max = n - done < BATCH_RECORDS ? (unsigned)(n - done) : BATCH_RECORDS;
		goes_on = drain_batch(w, s, stop, &batch);
		done += batch.n;
	}
	w->uncommitted_bytes += s->ring.tail - start;
	return done;
}

static void deal_late(struct merge_writer *w)
{
	struct late *late = w->late[0];

	deal(w, &late->record, late->frame, had_already_late(w, late->record.time_ns));
	w->mark.dealt_ns = late->record.time_ns;
	w->uncommitted_bytes += record_bytes(late->record.caplen);
	memmove(w->late, w->late + 1, --w->n_late * sizeof(*w->late));
	free(late);
}

/* One run: the source that is oldest, up to where the second oldest begins.  0: nothing is left. */
static uint64_t merge_run(struct merge_writer *w, uint64_t limit_ns, uint64_t n)
{
	uint64_t oldest_ns = UINT64_MAX, second_ns = limit_ns;
	uint64_t late_ns = w->n_late > 0 ? w->late[0]->record.time_ns : UINT64_MAX;
	struct source *oldest = NULL;

	for (unsigned i = 0; i < w->n; i++) {
		uint64_t time_ns = next_time(w, &w->sources[i], limit_ns);

		if (time_ns < oldest_ns) {
			if (oldest_ns < second_ns)
				second_ns = oldest_ns;
			oldest_ns = time_ns;
			oldest = &w->sources[i];
		} else if (time_ns < second_ns) {
			second_ns = time_ns;
		}
	}
	if (late_ns < limit_ns && late_ns <= oldest_ns) {
		deal_late(w);
		return 1;
	}
	if (oldest == NULL)
		return 0;
	if (late_ns < second_ns)
		second_ns = late_ns;
	// Equal heads: take this one record, then compare again.
	if (second_ns <= oldest_ns)
		return drain_run(w, oldest, oldest_ns + 1, 1);
	return drain_run(w, oldest, second_ns, n);
}

uint64_t merge_writer_step(struct merger *m, unsigned writer, uint64_t records_max)
{
	struct merge_writer *w = m->writers[writer];
	uint64_t limit_ns, done = 0, n = 1;
	bool is_all;

	merge_lock_stores(w);
	if (!merge_is_awake(w)) {
		merge_unlock_stores(w);
		return 0;
	}
	limit_ns = look(w);
	while (done < records_max && w->uncommitted_bytes < w->commit_bytes && n > 0) {
		n = merge_run(w, limit_ns, records_max - done);
		done += n;
	}
	is_all = n == 0;
	// Of the time that was dealt last no late record stays behind: a commit could not tell it.
	while (w->n_late > 0 && w->late[0]->record.time_ns <= w->mark.dealt_ns) {
		deal_late(w);
		done++;
	}
	// All before the limit has gone out, unless the step ended for its size.
	if (is_all)
		atomic_store_explicit(&w->merged_ns, limit_ns, memory_order_release);
	merge_unlock_stores(w);
	return done;
}
