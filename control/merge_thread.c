/* merge_thread.c - see merge_thread.h.
 *
 * A step is bounded so that those who wait for a store's lock wait a millisecond at the most.
 */
#include "control/merge_thread.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

enum { STEP_RECORDS = 32768, IDLE_NS = 200000 };

struct merge_thread {
	pthread_t thread;
	struct merger *merger;
	_Atomic bool is_stopping;
};

static void *run(void *arg)
{
	struct merge_thread *t = arg;
	const struct timespec idle = {.tv_nsec = IDLE_NS};

	while (!atomic_load_explicit(&t->is_stopping, memory_order_relaxed)) {
		uint64_t n = merge_step(t->merger, STEP_RECORDS);

		merge_release(t->merger);
		if (n == 0)
			(void)nanosleep(&idle, NULL);
	}
	return NULL;
}

struct merge_thread *merge_thread_start(struct merger *merger)
{
	struct merge_thread *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->merger = merger;
	if (pthread_create(&t->thread, NULL, run, t) != 0) {
		free(t);
		return NULL;
	}
	(void)pthread_setname_np(t->thread, "merge");
	return t;
}

void merge_thread_stop(struct merge_thread *t)
{
	if (t == NULL)
		return;
	atomic_store_explicit(&t->is_stopping, true, memory_order_relaxed);
	(void)pthread_join(t->thread, NULL);
	free(t);
}
