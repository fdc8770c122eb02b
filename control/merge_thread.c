/* merge_thread.c - see merge_thread.h.
 *
 * One thread a writer: what they have in common is in merge_writers.c.
 * A step is bounded so that those who wait for a store's lock wait a millisecond at the most.  A commit
 * costs a write a capture: it is made when the merger says so, or when what was merged is COMMIT_AGE_NS
 * old.  fdatasync() may take seconds on a slow disk, so a thread of its own does it: the rings go on
 * being emptied.
 */
#include "control/merge_thread.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { STEP_RECORDS = 32768, IDLE_NS = 200000, COMMIT_AGE_NS = 10 * 1000 * 1000 };

struct writing {
	struct merge_thread *all;
	pthread_t thread;
	unsigned writer;
};

struct merge_thread {
	struct writing writings[WRITERS_MAX];
	unsigned n_writings; // threads that were started
	pthread_t syncing;
	struct merger *merger;
	_Atomic bool is_stopping;
	unsigned sync_ms; // 0: there is no second thread
	pthread_mutex_t lock;
	pthread_cond_t stopped; // is_stopping was set
};

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void *merge(void *arg)
{
	const struct writing *writing = arg;
	struct merge_thread *t = writing->all;
	struct merger *m = t->merger;
	unsigned writer = writing->writer;
	const struct timespec idle = {.tv_nsec = IDLE_NS};
	uint64_t committed_ns = now_ns();

	while (!atomic_load_explicit(&t->is_stopping, memory_order_relaxed)) {
		uint64_t n = merge_writer_step(m, writer, STEP_RECORDS), time_ns = now_ns();

		if (merge_writer_commit_is_due(m, writer) ||
		    (merge_writer_uncommitted_bytes(m, writer) > 0 &&
		     time_ns - committed_ns >= COMMIT_AGE_NS)) {
			merge_writer_commit(m, writer);
			committed_ns = time_ns;
		}
		if (n == 0) {
			merge_writer_wait(m, writer, &t->is_stopping);
			(void)nanosleep(&idle, NULL);
		}
	}
	merge_writer_commit(m, writer);
	return NULL;
}

/* Wait until the next sync, or until the end: then true. */
static bool wait_for_stop(struct merge_thread *t)
{
	uint64_t until_ns = now_ns() + (uint64_t)t->sync_ms * 1000000;
	const struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000),
				       .tv_nsec = (long)(until_ns % 1000000000)};
	int rc = 0;

	(void)pthread_mutex_lock(&t->lock);
	while (!t->is_stopping && rc != ETIMEDOUT)
		rc = pthread_cond_timedwait(&t->stopped, &t->lock, &until);
	(void)pthread_mutex_unlock(&t->lock);
	return t->is_stopping;
}

static void *sync_often(void *arg)
{
	struct merge_thread *t = arg;
	struct store *stores[CAPTURES_MAX];

	while (!wait_for_stop(t)) {
		unsigned n = merge_hold_stores(t->merger, stores);

		for (unsigned i = 0; i < n; i++) {
			(void)store_sync(stores[i]); // store_disk_error() tells
			store_close(stores[i]);
		}
	}
	return NULL;
}

static struct merge_thread *new_thread(struct merger *merger, unsigned sync_ms)
{
	struct merge_thread *t = calloc(1, sizeof(*t));
	pthread_condattr_t monotonic;

	if (t == NULL)
		return NULL;
	t->merger = merger;
	t->sync_ms = sync_ms;
	(void)pthread_mutex_init(&t->lock, NULL);
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&t->stopped, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
	return t;
}

static void free_thread(struct merge_thread *t)
{
	(void)pthread_cond_destroy(&t->stopped);
	(void)pthread_mutex_destroy(&t->lock);
	free(t);
}

static void tell_stop(struct merge_thread *t)
{
	(void)pthread_mutex_lock(&t->lock);
	t->is_stopping = true;
	(void)pthread_cond_signal(&t->stopped);
	(void)pthread_mutex_unlock(&t->lock);
}

static int start_writing(struct merge_thread *t)
{
	struct writing *writing = &t->writings[t->n_writings];
	char name[16];

	*writing = (struct writing){.all = t, .writer = t->n_writings};
	if (pthread_create(&writing->thread, NULL, merge, writing) != 0)
		return -1;
	(void)snprintf(name, sizeof(name), "merge.%u", t->n_writings);
	(void)pthread_setname_np(writing->thread, name);
	t->n_writings++;
	return 0;
}

struct merge_thread *merge_thread_start(struct merger *merger, unsigned sync_ms)
{
	struct merge_thread *t = new_thread(merger, sync_ms);

	if (t == NULL)
		return NULL;
	while (t->n_writings < merge_n_writers(merger) && start_writing(t) == 0)
		;
	if (t->n_writings == merge_n_writers(merger)) {
		if (sync_ms == 0)
			return t;
		if (pthread_create(&t->syncing, NULL, sync_often, t) == 0) {
			(void)pthread_setname_np(t->syncing, "sync");
			return t;
		}
	}
	t->sync_ms = 0; // that one does not run
	merge_thread_stop(t);
	return NULL;
}

void merge_thread_stop(struct merge_thread *t)
{
	if (t == NULL)
		return;
	tell_stop(t);
	merge_end_waits(t->merger);
	for (unsigned i = 0; i < t->n_writings; i++)
		(void)pthread_join(t->writings[i].thread, NULL);
	if (t->sync_ms > 0)
		(void)pthread_join(t->syncing, NULL);
	free_thread(t);
}
