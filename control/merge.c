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
#include "control/merge.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Generations are compared in 16 bits: half of them are before, half behind. */
enum { GENERATIONS_AHEAD = 0x8000, COMMIT_RING_PART = 8 };

/* A batch stays in the first-level cache; fewer records than the last are not worth its set-up. */
enum { BATCH_RECORDS = 64, BATCH_BYTES = 16 << 10, BATCH_RECORDS_MIN = 4 };

struct late {
	const struct source *source;
	uint64_t at;	      // in its ring
	struct record record; // its frame follows
	uint8_t frame[];
};

struct source {
	struct ring_reader ring;
	uint64_t end;	  // head as last read
	uint64_t resumed; // records before this may be in a store already
	uint64_t scanned; // late records before this are in the list
	uint64_t n_late;  // found so far, those before the first tail included
	bool is_closed;	  // gave an impossible record
};

/* Records of one source that are dealt together. */
struct batch {
	uint64_t stop, until_ns; // of the ring, of time
	unsigned n_max, n;
	uint8_t any, all;		// captures that want one of them, every one
	uint16_t generation, differing; // of all of them, if no bit differs
	const struct record *records[BATCH_RECORDS];
};

struct merger {
	struct source sources[WORKERS_MAX];
	unsigned n;
	pthread_mutex_t stores_lock; // held for a step
	_Atomic unsigned n_waiting;  // for stores_lock, the merge thread not counted
	struct store *stores[CAPTURES_MAX];
	uint16_t first_generation[CAPTURES_MAX];
	struct store_mark resumed[CAPTURES_MAX]; // what each store had already
	struct store_mark mark;			 // what was dealt; the cursors are the sources'
	uint64_t uncommitted_bytes, commit_bytes;
	struct late **late; // by time, oldest first
	unsigned n_late, n_late_allocated;
	_Atomic uint64_t merged_ns;
	_Atomic uint64_t n_corrupt;
	_Atomic bool ignore_watermarks;
};

static_assert(offsetof(struct merger, mark) - offsetof(struct merger, n_waiting) >=
		      2 * CACHE_LINE_BYTES,
	      "who waits for the stores writes far from what the merge thread counts");

/* A commit is due long before a worker meets a full ring. */
static uint64_t commit_bytes_for(const struct ring_reader *rings, unsigned n)
{
	uint64_t bytes = STORE_COMMIT_BYTES;

	for (unsigned i = 0; i < n; i++)
		if (rings[i].size / COMMIT_RING_PART < bytes)
			bytes = rings[i].size / COMMIT_RING_PART;
	return bytes;
}

struct merger *merge_open(const struct ring_reader *rings, unsigned n, uint64_t epoch)
{
	struct merger *m = aligned_alloc(64, (sizeof(*m) + 63) / 64 * 64);

	if (m == NULL)
		return NULL;
	memset(m, 0, sizeof(*m));
	(void)pthread_mutex_init(&m->stores_lock, NULL);
	m->n = n;
	m->mark.epoch = epoch;
	m->mark.n_rings = n;
	m->commit_bytes = commit_bytes_for(rings, n);
	for (unsigned i = 0; i < n; i++) {
		struct source *s = &m->sources[i];

		s->ring = rings[i];
		s->end = s->scanned = s->resumed = rings[i].tail;
		s->n_late = rings[i].n_late;
	}
	return m;
}

void merge_close(struct merger *m)
{
	if (m == NULL)
		return;
	for (unsigned i = 0; i < m->n_late; i++)
		free(m->late[i]);
	free(m->late);
	(void)pthread_mutex_destroy(&m->stores_lock);
	free(m);
}

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

/* Up to where ring i is dealt, and how many late records lie before that. */
static uint64_t cursor_of(const struct merger *m, unsigned i, uint64_t *n_late)
{
	const struct source *s = &m->sources[i];
	uint64_t cursor = s->ring.tail;

	*n_late = s->ring.n_late;
	for (unsigned k = 0; k < m->n_late && !s->is_closed; k++)
		if (m->late[k]->source == s && (int64_t)(cursor - m->late[k]->at) > 0)
			cursor = m->late[k]->at;
	// Only late records lie between.
	for (uint64_t at = cursor; at != s->ring.tail; at += record_bytes(record_at(s, at)->caplen))
		--*n_late;
	return cursor;
}

/* Under stores_lock, so between two steps: the mark is that of what was dealt.  A store that was resumed
 * may be ahead of it for a while: its mark never goes back.
 */
static void commit_store(struct merger *m, unsigned slot)
{
	const struct store_mark *resumed = &m->resumed[slot];
	struct store_mark mark = m->mark;
	uint64_t n_late;

	for (unsigned i = 0; i < m->n; i++)
		mark.cursors[i] = cursor_of(m, i, &n_late);
	for (unsigned i = 0; i < resumed->n_rings; i++)
		if ((int64_t)(resumed->cursors[i] - mark.cursors[i]) > 0)
			mark.cursors[i] = resumed->cursors[i];
	if (resumed->dealt_ns > mark.dealt_ns)
		mark.dealt_ns = resumed->dealt_ns;
	(void)store_commit(m->stores[slot], &mark); // the store tells its errno
}

static void lock_for_change(struct merger *m)
{
	atomic_fetch_add_explicit(&m->n_waiting, 1, memory_order_relaxed);
	(void)pthread_mutex_lock(&m->stores_lock);
	atomic_fetch_sub_explicit(&m->n_waiting, 1, memory_order_relaxed);
}

void merge_set_store(struct merger *m, unsigned slot, struct store *store,
		     uint64_t first_generation)
{
	lock_for_change(m);
	if (m->stores[slot] != NULL && m->stores[slot] != store) {
		store_lock(m->stores[slot]);
		commit_store(m, slot);
		store_unlock(m->stores[slot]);
	}
	m->stores[slot] = store;
	m->first_generation[slot] = (uint16_t)first_generation;
	m->resumed[slot] = (struct store_mark){0};
	(void)pthread_mutex_unlock(&m->stores_lock);
}

bool merge_resume_store(struct merger *m, unsigned slot, struct store *store,
			uint64_t first_generation, const struct store_mark *mark)
{
	bool is_whole = mark->epoch == m->mark.epoch && mark->n_rings == m->n;

	merge_set_store(m, slot, store, first_generation);
	if (!is_whole)
		return false;
	lock_for_change(m);
	m->resumed[slot] = *mark;
	for (unsigned i = 0; i < m->n; i++) {
		struct source *s = &m->sources[i];

		if ((int64_t)(s->ring.tail - mark->cursors[i]) > 0) // the counts wrap
			is_whole = false;
		else if ((int64_t)(mark->cursors[i] - s->resumed) > 0)
			s->resumed = mark->cursors[i];
	}
	(void)pthread_mutex_unlock(&m->stores_lock);
	return is_whole;
}

uint64_t merge_time_ns(const struct merger *m)
{
	return atomic_load_explicit(&m->merged_ns, memory_order_acquire);
}

void merge_ignore_watermarks(struct merger *m)
{
	atomic_store_explicit(&m->ignore_watermarks, true, memory_order_relaxed);
}

uint64_t merge_corrupt(const struct merger *m)
{
	return atomic_load_explicit(&m->n_corrupt, memory_order_relaxed);
}

uint64_t merge_waiting_bytes(const struct merger *m)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < m->n; i++) {
		const struct ring_reader *ring = &m->sources[i].ring;

		bytes += atomic_load_explicit(&ring->shared->head, memory_order_relaxed) -
			 atomic_load_explicit(&ring->tail_shared->tail, memory_order_relaxed);
	}
	return bytes;
}

static void give_up(struct merger *m, struct source *s)
{
	s->is_closed = true;
	s->ring.tail = s->end;
	atomic_fetch_add_explicit(&m->n_corrupt, 1, memory_order_relaxed);
}

/* Copy one late record into the list, by time; after those of the same time. */
static void keep_late(struct merger *m, const struct source *s, uint64_t ring_at)
{
	const struct record *record = record_at(s, ring_at);
	struct late *late;
	unsigned at = m->n_late;

	if (m->n_late == m->n_late_allocated) {
		unsigned n = m->n_late_allocated > 0 ? 2 * m->n_late_allocated : 64;
		void *grown = reallocarray(m->late, n, sizeof(*m->late));

		if (grown == NULL)
			abort(); // a few hundred bytes: nothing sensible is left to do
		m->late = grown;
		m->n_late_allocated = n;
	}
	late = malloc(sizeof(*late) + record->caplen);
	if (late == NULL)
		abort();
	late->source = s;
	late->at = ring_at;
	late->record = *record;
	memcpy(late->frame, record + 1, record->caplen);
	while (at > 0 && m->late[at - 1]->record.time_ns > record->time_ns) {
		m->late[at] = m->late[at - 1];
		at--;
	}
	m->late[at] = late;
	m->n_late++;
}

/* Look for late records in what was published since the last look. */
static void find_late(struct merger *m, struct source *s)
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
			keep_late(m, s, s->scanned);
			s->n_late++;
		}
		s->scanned += record_bytes(record->caplen);
	}
}

/* Read watermarks, then heads: what may be merged is what is older than the oldest watermark. */
static uint64_t look(struct merger *m)
{
	uint64_t limit_ns = UINT64_MAX;

	for (unsigned i = 0; i < m->n; i++) {
		struct source *s = &m->sources[i];
		uint64_t watermark_ns = ring_watermark(&s->ring);

		if (s->is_closed)
			continue;
		s->end = s->ring.tail + ring_available(&s->ring);
		if (s->end - s->ring.tail > s->ring.size) {
			s->end = s->ring.tail;
			give_up(m, s);
			continue;
		}
		find_late(m, s);
		if (watermark_ns < limit_ns)
			limit_ns = watermark_ns;
	}
	return atomic_load_explicit(&m->ignore_watermarks, memory_order_relaxed) ? UINT64_MAX
										 : limit_ns;
}

/* Slots whose stores had the record at `at` of ring i before they were resumed. */
static unsigned had_already(const struct merger *m, unsigned i, uint64_t at)
{
	unsigned slots = 0;

	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if (m->resumed[slot].n_rings > 0 && (int64_t)(m->resumed[slot].cursors[i] - at) > 0)
			slots |= 1U << slot;
	return slots;
}

static unsigned had_already_late(const struct merger *m, uint64_t time_ns)
{
	unsigned slots = 0;

	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if (time_ns <= m->resumed[slot].dealt_ns)
			slots |= 1U << slot;
	return slots;
}

static inline void deal(struct merger *m, const struct record *record, const uint8_t *frame,
			unsigned skip)
{
	for (unsigned captures = record->captures % (1 << CAPTURES_MAX) & ~skip; captures != 0;
	     captures &= captures - 1) {
		int slot = __builtin_ctz(captures);
		struct store *store = m->stores[slot];
		uint16_t age = (uint16_t)(record->generation - m->first_generation[slot]);

		if (store != NULL && age < GENERATIONS_AHEAD)
			store_append(store, record, frame);
	}
}

/* Time of the next record of a source, late ones skipped; UINT64_MAX: none before the limit. */
static uint64_t next_time(struct merger *m, struct source *s, uint64_t limit_ns)
{
	while (s->ring.tail != s->end) {
		const struct record *record = record_at(s, s->ring.tail);

		if (!is_whole(s, s->ring.tail)) {
			give_up(m, s);
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
static void deal_batch(struct merger *m, const struct batch *b)
{
	for (unsigned captures = b->any % (1 << CAPTURES_MAX); captures != 0;
	     captures &= captures - 1) {
		int slot = __builtin_ctz(captures);
		struct store *store = m->stores[slot];
		uint16_t age = (uint16_t)(b->generation - m->first_generation[slot]);
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

static void deal_each(struct merger *m, const struct batch *b, unsigned skip)
{
	for (unsigned i = 0; i < b->n; i++)
		deal(m, b->records[i], (const uint8_t *)(b->records[i] + 1), skip);
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
static bool drain_batch(struct merger *m, struct source *s, uint64_t stop, struct batch *b)
{
	bool is_resumed = (int64_t)(s->resumed - s->ring.tail) > 0, ended_early;
	unsigned skip = 0;

	if (__builtin_expect(is_resumed, 0)) // stores may have it: each is asked about
		b->n_max = 1;
	b->stop = stop - s->ring.tail > BATCH_BYTES ? s->ring.tail + BATCH_BYTES : stop;
	take_batch(s, b);
	ended_early = b->n < b->n_max && (int64_t)(b->stop - s->ring.tail) > 0;
	if (is_resumed && b->n > 0) // late ones may lie before it
		skip = had_already(m, (unsigned)(s - m->sources),
				   s->ring.tail - record_bytes(b->records[0]->caplen));
	if (b->n > 0)
		m->mark.dealt_ns = b->records[b->n - 1]->time_ns;
	if (b->n < BATCH_RECORDS_MIN || b->differing != 0)
		deal_each(m, b, skip);
	else
		deal_batch(m, b);
	return !ended_early;
}

/* Deal records of one source as long as they are older than `until_ns`; at most n. */
static uint64_t drain_run(struct merger *m, struct source *s, uint64_t until_ns, uint64_t n)
{
	uint64_t start = s->ring.tail, stop = s->end, done = 0;
	struct batch batch;
	bool goes_on = true;

	if (stop - start > m->commit_bytes - m->uncommitted_bytes)
		stop = start + (m->commit_bytes - m->uncommitted_bytes);
	batch.until_ns = until_ns;
	while (goes_on && done < n && (int64_t)(stop - s->ring.tail) > 0) {
		batch.n_max = n - done < BATCH_RECORDS ? (unsigned)(n - done) : BATCH_RECORDS;
		goes_on = drain_batch(m, s, stop, &batch);
		done += batch.n;
	}
	m->uncommitted_bytes += s->ring.tail - start;
	return done;
}

static void deal_late(struct merger *m)
{
	struct late *late = m->late[0];

	deal(m, &late->record, late->frame, had_already_late(m, late->record.time_ns));
	m->mark.dealt_ns = late->record.time_ns;
	m->uncommitted_bytes += record_bytes(late->record.caplen);
	memmove(m->late, m->late + 1, --m->n_late * sizeof(*m->late));
	free(late);
}

/* One run: the source that is oldest, up to where the second oldest begins.  0: nothing is left. */
static uint64_t merge_run(struct merger *m, uint64_t limit_ns, uint64_t n)
{
	uint64_t oldest_ns = UINT64_MAX, second_ns = limit_ns;
	uint64_t late_ns = m->n_late > 0 ? m->late[0]->record.time_ns : UINT64_MAX;
	struct source *oldest = NULL;

	for (unsigned i = 0; i < m->n; i++) {
		uint64_t time_ns = next_time(m, &m->sources[i], limit_ns);

		if (time_ns < oldest_ns) {
			if (oldest_ns < second_ns)
				second_ns = oldest_ns;
			oldest_ns = time_ns;
			oldest = &m->sources[i];
		} else if (time_ns < second_ns) {
			second_ns = time_ns;
		}
	}
	if (late_ns < limit_ns && late_ns <= oldest_ns) {
		deal_late(m);
		return 1;
	}
	if (oldest == NULL)
		return 0;
	if (late_ns < second_ns)
		second_ns = late_ns;
	// Equal heads: take this one record, then compare again.
	if (second_ns <= oldest_ns)
		return drain_run(m, oldest, oldest_ns + 1, 1);
	return drain_run(m, oldest, second_ns, n);
}

static void lock_stores(struct merger *m)
{
	// A mutex is not fair: let those who change the stores go first, however long they need to wake.
	while (atomic_load_explicit(&m->n_waiting, memory_order_relaxed) > 0)
		(void)sched_yield();
	(void)pthread_mutex_lock(&m->stores_lock);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if (m->stores[slot] != NULL)
			store_lock_for_append(m->stores[slot]);
}

static void unlock_stores(struct merger *m)
{
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if (m->stores[slot] != NULL)
			store_unlock(m->stores[slot]);
	(void)pthread_mutex_unlock(&m->stores_lock);
}

uint64_t merge_step(struct merger *m, uint64_t records_max)
{
	uint64_t limit_ns, done = 0, n = 1;
	bool is_all;

	lock_stores(m);
	limit_ns = look(m);
	while (done < records_max && m->uncommitted_bytes < m->commit_bytes && n > 0) {
		n = merge_run(m, limit_ns, records_max - done);
		done += n;
	}
	is_all = n == 0;
	// Of the time that was dealt last no late record stays behind: a commit could not tell it.
	while (m->n_late > 0 && m->late[0]->record.time_ns <= m->mark.dealt_ns) {
		deal_late(m);
		done++;
	}
	unlock_stores(m);
	// All before the limit has gone out, unless the step ended for its size.
	if (is_all)
		atomic_store_explicit(&m->merged_ns, limit_ns, memory_order_release);
	return done;
}

void merge_commit(struct merger *m)
{
	lock_stores(m);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if (m->stores[slot] != NULL)
			commit_store(m, slot);
	unlock_stores(m);
	m->uncommitted_bytes = 0;
	for (unsigned i = 0; i < m->n; i++) {
		uint64_t n_late, cursor = cursor_of(m, i, &n_late);

		ring_release_to(&m->sources[i].ring, cursor, n_late);
	}
}

uint64_t merge_uncommitted_bytes(const struct merger *m)
{
	return m->uncommitted_bytes;
}

bool merge_commit_is_due(const struct merger *m)
{
	return m->uncommitted_bytes >= m->commit_bytes;
}

unsigned merge_hold_stores(struct merger *m, struct store **out)
{
	unsigned n = 0;

	lock_for_change(m);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		if (m->stores[slot] == NULL)
			continue;
		store_hold(m->stores[slot]);
		out[n++] = m->stores[slot];
	}
	(void)pthread_mutex_unlock(&m->stores_lock);
	return n;
}
