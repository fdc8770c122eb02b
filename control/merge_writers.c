/* merge_writers.c - several writers behind the same rings: who fills which store, commits, tails.
 *
 * Each writer reads all rings for itself, with cursors of its own, and deals to its own stores only.  So
 * nothing is handed from thread to thread: the one line that two of them write is a ring's tail, a few
 * hundred times a second.  The other way was one thread that merges and hands the records to others: it
 * saves them the look at the headers (18 to 20 cycles, half of a record's cost with one store, a sixth with
 * five), and costs a queue that every record goes through.  Five stores by two writers instead of one, on
 * two cores: 80 -> 116 million records/s (docs/performance.md).
 *
 * A commit is each writer's own: its stores, with its cursors.  The tail of a ring is what all who are awake
 * have committed, so what any store misses after a crash is in the rings still; the marks say for each store
 * what is in it, whoever filled it, so that the next gatecapd may have another number of writers.
 *
 * A writer without a store sleeps: it would read every record and hold the tails back, for nothing.  One
 * stays awake without one, so that the rings go on being emptied.  Who wakes begins at the tails: all that
 * comes for its new store is behind them, since it was given before the dataplane heard of its generation.
 * A new store goes to whoever has the fewest.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "control/merge_internal.h"

/* A commit is due long before a worker meets a full ring. */
enum { COMMIT_RING_PART = 8 };

static uint64_t commit_bytes_for(const struct ring_reader *rings, unsigned n)
{
	uint64_t bytes = STORE_COMMIT_BYTES;

	for (unsigned i = 0; i < n; i++)
		if (rings[i].size / COMMIT_RING_PART < bytes)
			bytes = rings[i].size / COMMIT_RING_PART;
	return bytes;
}

/* Zeros on lines of their own, or NULL. */
static void *new_lines(size_t bytes)
{
	const size_t lines = 2 * CACHE_LINE_BYTES;
	void *mem = aligned_alloc(lines, (bytes + lines - 1) / lines * lines);

	return mem != NULL ? memset(mem, 0, bytes) : NULL;
}

static struct merge_writer *new_writer(struct merger *m, unsigned number, uint64_t epoch)
{
	struct merge_writer *w = new_lines(sizeof(*w));

	if (w == NULL)
		return NULL;
	(void)pthread_mutex_init(&w->lock, NULL);
	(void)pthread_cond_init(&w->awoken, NULL);
	w->merger = m;
	w->number = number;
	w->n = m->n_rings;
	w->mark.epoch = epoch;
	w->mark.n_rings = m->n_rings;
	w->commit_bytes = commit_bytes_for(m->rings, m->n_rings);
	merge_begin_at_tails(w);
	return w;
}

struct merger *merge_open_writers(const struct ring_reader *rings, unsigned n, uint64_t epoch,
				  unsigned n_writers)
{
	struct merger *m = new_lines(sizeof(*m));

	if (m == NULL)
		return NULL;
	(void)pthread_mutex_init(&m->change_lock, NULL);
	(void)pthread_mutex_init(&m->tails_lock, NULL);
	m->n_rings = n;
	memcpy(m->rings, rings, n * sizeof(*rings));
	m->awake = 1;
	for (; m->n_writers < n_writers; m->n_writers++) {
		m->writers[m->n_writers] = new_writer(m, m->n_writers, epoch);
		if (m->writers[m->n_writers] == NULL) {
			merge_close(m);
			return NULL;
		}
	}
	return m;
}

struct merger *merge_open(const struct ring_reader *rings, unsigned n, uint64_t epoch)
{
	return merge_open_writers(rings, n, epoch, 1);
}

static void close_writer(struct merge_writer *w)
{
	for (unsigned i = 0; i < w->n_late; i++)
		free(w->late[i]);
	free(w->late);
	(void)pthread_cond_destroy(&w->awoken);
	(void)pthread_mutex_destroy(&w->lock);
	free(w);
}

void merge_close(struct merger *m)
{
	if (m == NULL)
		return;
	for (unsigned i = 0; i < m->n_writers; i++)
		close_writer(m->writers[i]);
	(void)pthread_mutex_destroy(&m->tails_lock);
	(void)pthread_mutex_destroy(&m->change_lock);
	free(m);
}

/* ---- locks ---- */

void merge_lock_stores(struct merge_writer *w)
{
	// A mutex is not fair: let those who change the stores go first, however long they need to wake.
	while (atomic_load_explicit(&w->n_waiting, memory_order_relaxed) > 0)
		(void)sched_yield();
	(void)pthread_mutex_lock(&w->lock);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if (w->stores[slot] != NULL)
			store_lock_for_append(w->stores[slot]);
}

void merge_unlock_stores(struct merge_writer *w)
{
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if (w->stores[slot] != NULL)
			store_unlock(w->stores[slot]);
	(void)pthread_mutex_unlock(&w->lock);
}

static void lock_for_change(struct merge_writer *w)
{
	atomic_fetch_add_explicit(&w->n_waiting, 1, memory_order_relaxed);
	(void)pthread_mutex_lock(&w->lock);
	atomic_fetch_sub_explicit(&w->n_waiting, 1, memory_order_relaxed);
}

static unsigned awake_of(const struct merger *m)
{
	// pairs with wake(): whose bit is seen has forgotten how far it had come before.
	return atomic_load_explicit(&m->awake, memory_order_acquire);
}

/* ---- commits ---- */

/* Where the writer is, between two steps: into its mark and into cuts[]. */
static void take_cut(struct merge_writer *w, struct ring_cut *cuts)
{
	for (unsigned i = 0; i < w->n; i++) {
		cuts[i] = merge_cut_of(w, i);
		w->mark.cursors[i] = cuts[i].cursor;
	}
}

/* Behind take_cut().  A store that was resumed may be ahead of the writer for a while: its mark never goes
 * back.
 */
static void commit_store(const struct merge_writer *w, unsigned slot)
{
	const struct store_mark *resumed = &w->resumed[slot];
	struct store_mark mark = w->mark;

	for (unsigned i = 0; i < resumed->n_rings; i++)
		if ((int64_t)(resumed->cursors[i] - mark.cursors[i]) > 0)
			mark.cursors[i] = resumed->cursors[i];
	if (resumed->dealt_ns > mark.dealt_ns)
		mark.dealt_ns = resumed->dealt_ns;
	(void)store_commit(w->stores[slot], &mark); // the store tells its errno
}

/* Give back to the workers what all who are awake have committed.  Under tails_lock. */
static void release_tails(struct merger *m)
{
	for (unsigned i = 0; i < m->n_rings; i++) {
		const struct ring_cut *least = NULL;

		for (unsigned awake = awake_of(m); awake != 0; awake &= awake - 1) {
			const struct ring_cut *cut =
				&m->writers[__builtin_ctz(awake)]->committed[i];

			if (least == NULL || (int64_t)(least->cursor - cut->cursor) > 0)
				least = cut; // the counts wrap
		}
		m->rings[i].tail = least->cursor;
		m->rings[i].n_late = least->n_late;
		ring_release(&m->rings[i]);
	}
}

void merge_writer_commit(struct merger *m, unsigned writer)
{
	struct merge_writer *w = m->writers[writer];
	struct ring_cut cuts[WORKERS_MAX];

	merge_lock_stores(w);
	take_cut(w, cuts);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if (w->stores[slot] != NULL)
			commit_store(w, slot);
	w->uncommitted_bytes = 0;
	(void)pthread_mutex_lock(&m->tails_lock);
	if (merge_is_awake(w)) {
		memcpy(w->committed, cuts, w->n * sizeof(*cuts));
		release_tails(m);
	}
	(void)pthread_mutex_unlock(&m->tails_lock);
	merge_unlock_stores(w);
}

/* ---- who fills which store; all under change_lock ---- */

static unsigned n_stores(const struct merge_writer *w)
{
	unsigned n = 0;

	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		n += w->stores[slot] != NULL;
	return n;
}

/* Under the writer's lock. */
static void wake(struct merge_writer *w)
{
	struct merger *m = w->merger;

	(void)pthread_mutex_lock(&m->tails_lock);
	merge_begin_at_tails(w);
	// From here on no tail goes past it.
	atomic_fetch_or_explicit(&m->awake, 1U << w->number, memory_order_release);
	(void)pthread_mutex_unlock(&m->tails_lock);
	(void)pthread_cond_signal(&w->awoken);
}

/* Under the writer's lock.  Nobody waits for what it has not committed: it has no store. */
static void sleep_unless_alone(struct merge_writer *w)
{
	struct merger *m = w->merger;

	(void)pthread_mutex_lock(&m->tails_lock);
	if ((awake_of(m) & ~(1U << w->number)) != 0) {
		atomic_fetch_and_explicit(&m->awake, ~(1U << w->number), memory_order_relaxed);
		release_tails(m);
	}
	(void)pthread_mutex_unlock(&m->tails_lock);
}

/* Whoever fills the slot's store, or NULL. */
static struct merge_writer *owner_of(const struct merger *m, unsigned slot)
{
	for (unsigned i = 0; i < m->n_writers; i++)
		if (m->writers[i]->stores[slot] != NULL)
			return m->writers[i];
	return NULL;
}

/* The one with the fewest stores; of those one that is awake. */
static struct merge_writer *idlest(const struct merger *m)
{
	struct merge_writer *found = m->writers[0];

	for (unsigned i = 1; i < m->n_writers; i++) {
		struct merge_writer *w = m->writers[i];

		if (n_stores(w) < n_stores(found) ||
		    (n_stores(w) == n_stores(found) && merge_is_awake(w) && !merge_is_awake(found)))
			found = w;
	}
	return found;
}

/* The slot is, or is to be, this writer's.  Under its lock. */
static void change_store(struct merge_writer *w, unsigned slot, struct store *store,
			 uint64_t first_generation)
{
	if (w->stores[slot] != NULL && w->stores[slot] != store) {
		struct ring_cut cuts[WORKERS_MAX];

		store_lock(w->stores[slot]);
		take_cut(w, cuts);
		commit_store(w, slot);
		store_unlock(w->stores[slot]);
	}
	w->stores[slot] = store;
	w->first_generation[slot] = (uint16_t)first_generation;
	w->resumed[slot] = (struct store_mark){0};
	if (store != NULL && !merge_is_awake(w))
		wake(w);
	else if (store == NULL && n_stores(w) == 0 && merge_is_awake(w))
		sleep_unless_alone(w);
}

/* Does the writer begin where the store's mark is, or before? */
static bool resume(struct merge_writer *w, unsigned slot, const struct store_mark *mark)
{
	bool is_whole = true;

	w->resumed[slot] = *mark;
	for (unsigned i = 0; i < w->n; i++) {
		struct source *s = &w->sources[i];

		if ((int64_t)(s->ring.tail - mark->cursors[i]) > 0) // the counts wrap
			is_whole = false;
		else if ((int64_t)(mark->cursors[i] - s->resumed) > 0)
			s->resumed = mark->cursors[i];
	}
	return is_whole;
}

/* mark: NULL, or of a store that is resumed. */
static bool set_store(struct merger *m, unsigned slot, struct store *store,
		      uint64_t first_generation, const struct store_mark *mark)
{
	struct merge_writer *w;
	bool is_whole = false;

	(void)pthread_mutex_lock(&m->change_lock);
	w = owner_of(m, slot);
	if (w == NULL && store != NULL)
		w = idlest(m);
	if (w != NULL) {
		lock_for_change(w);
		change_store(w, slot, store, first_generation);
		if (mark != NULL && mark->epoch == w->mark.epoch && mark->n_rings == w->n)
			is_whole = resume(w, slot, mark);
		(void)pthread_mutex_unlock(&w->lock);
	}
	(void)pthread_mutex_unlock(&m->change_lock);
	return is_whole;
}

void merge_set_store(struct merger *m, unsigned slot, struct store *store,
		     uint64_t first_generation)
{
	(void)set_store(m, slot, store, first_generation, NULL);
}

bool merge_resume_store(struct merger *m, unsigned slot, struct store *store,
			uint64_t first_generation, const struct store_mark *mark)
{
	return set_store(m, slot, store, first_generation, mark);
}

unsigned merge_hold_stores(struct merger *m, struct store **out)
{
	unsigned n = 0;

	(void)pthread_mutex_lock(&m->change_lock);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		const struct merge_writer *w = owner_of(m, slot);

		if (w == NULL)
			continue;
		store_hold(w->stores[slot]);
		out[n++] = w->stores[slot];
	}
	(void)pthread_mutex_unlock(&m->change_lock);
	return n;
}

void merge_writer_wait(struct merger *m, unsigned writer, const _Atomic bool *is_stopping)
{
	struct merge_writer *w = m->writers[writer];

	(void)pthread_mutex_lock(&w->lock);
	while (!merge_is_awake(w) && !atomic_load_explicit(is_stopping, memory_order_relaxed))
		(void)pthread_cond_wait(&w->awoken, &w->lock);
	(void)pthread_mutex_unlock(&w->lock);
}

void merge_end_waits(struct merger *m)
{
	for (unsigned i = 0; i < m->n_writers; i++) {
		struct merge_writer *w = m->writers[i];

		lock_for_change(w); // whoever is about to wait has seen is_stopping, or is woken
		(void)pthread_cond_signal(&w->awoken);
		(void)pthread_mutex_unlock(&w->lock);
	}
}

/* ---- of all writers ---- */

uint64_t merge_time_ns(const struct merger *m)
{
	uint64_t oldest_ns = UINT64_MAX;

	for (unsigned awake = awake_of(m); awake != 0; awake &= awake - 1) {
		const struct merge_writer *w = m->writers[__builtin_ctz(awake)];
		uint64_t merged_ns = atomic_load_explicit(&w->merged_ns, memory_order_acquire);

		if (merged_ns < oldest_ns)
			oldest_ns = merged_ns;
	}
	return oldest_ns;
}

void merge_ignore_watermarks(struct merger *m)
{
	atomic_store_explicit(&m->ignore_watermarks, true, memory_order_relaxed);
}

uint64_t merge_corrupt(const struct merger *m)
{
	return (uint64_t)__builtin_popcountll(
		atomic_load_explicit(&m->closed, memory_order_relaxed));
}

uint64_t merge_waiting_bytes(const struct merger *m)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < m->n_rings; i++) {
		const struct ring_reader *ring = &m->rings[i];

		bytes += atomic_load_explicit(&ring->shared->head, memory_order_relaxed) -
			 atomic_load_explicit(&ring->tail_shared->tail, memory_order_relaxed);
	}
	return bytes;
}

unsigned merge_n_writers(const struct merger *m)
{
	return m->n_writers;
}

uint64_t merge_writer_uncommitted_bytes(const struct merger *m, unsigned writer)
{
	return m->writers[writer]->uncommitted_bytes;
}

bool merge_writer_commit_is_due(const struct merger *m, unsigned writer)
{
	const struct merge_writer *w = m->writers[writer];

	return w->uncommitted_bytes >= w->commit_bytes;
}

uint64_t merge_step(struct merger *m, uint64_t records_max)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < m->n_writers; i++)
		n += merge_writer_step(m, i, records_max);
	return n;
}

void merge_commit(struct merger *m)
{
	for (unsigned i = 0; i < m->n_writers; i++)
		merge_writer_commit(m, i);
}

bool merge_commit_is_due(const struct merger *m)
{
	bool is_due = false;

	for (unsigned i = 0; i < m->n_writers; i++)
		is_due |= merge_writer_commit_is_due(m, i);
	return is_due;
}

uint64_t merge_uncommitted_bytes(const struct merger *m)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < m->n_writers; i++)
		bytes += merge_writer_uncommitted_bytes(m, i);
	return bytes;
}
