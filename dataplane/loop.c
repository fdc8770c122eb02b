/* loop.c - one pass: read the clock, ask each queue once.
 *
 * The clock is read before the queues are asked, and a pass without packets promises that time as the
 * watermark: nothing that arrives later can carry an earlier one.  (Less the lag of packet sockets,
 * whose frames are shown milliseconds after the time that they carry.)  While packets come, the promise is
 * the last time given out, since a played file may still owe frames that were due before now.
 *
 * Why a thread that stands still ends the process: it may hold a packet, a matcher and a half-written
 * record, and nothing can take them from it.  The supervisor starts the process anew.
 */
#include "dataplane/loop.h"

#include <assert.h>
#include <errno.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "filters/log.h"
#include "dataplane/worker.h"

enum {
	PASSES_BEFORE_SLEEP = 64,
	PASSES_WITHOUT_IDLE = 64, // at the most, while packets keep coming
	SLEEP_MIN_NS = 50 * 1000,
	SLEEP_MAX_NS = 400 * 1000,
	WAIT_NS = 100 * 1000,
};

struct thread {
	/* Written at open. */
	alignas(128) struct worker *worker;
	struct rx_queue queues[PORTS_MAX];
	unsigned n_queues;
	bool is_sleeping;
	/* The worker's. */
	struct rx_time time;
	unsigned n_idle_passes, n_busy_passes;
	uint64_t sleep_ns;
	struct pkt burst[BURST_MAX]; // zero at first: rx fills only the first block of each
	/* The main thread's. */
	alignas(128) const struct worker_shared *shared;
	uint64_t heartbeat; // last seen
	unsigned silent_ms;
	/* The worker's: false when it has left loop_run(). */
	alignas(128) _Atomic bool is_running;
};

struct loop {
	_Atomic bool is_stopping;
	unsigned n_workers;
	struct thread threads[];
};

static_assert(offsetof(struct thread, shared) % 128 == 0 &&
		      offsetof(struct thread, is_running) - offsetof(struct thread, shared) >=
			      128 &&
		      sizeof(struct thread) % 128 == 0,
	      "worker, main thread and the next worker share no pair of lines");
static_assert(offsetof(struct loop, threads) >= 128, "all workers read is_stopping");

static void init_queues(struct thread *thread, unsigned index, const struct args *args,
			const struct rx *rx)
{
	for (unsigned port = 0; port < args->n_ports; port++)
		if (index < args->ports[port].n_queues)
			rx_queue_init(&thread->queues[thread->n_queues++], rx, port, index,
				      &thread->time);
	for (unsigned port = 0; port < args->n_ports; port++)
		if (args->ports[port].is_inner)
			worker_has_inner_port(thread->worker);
	thread->is_sleeping = args->is_sleeping || thread->n_queues == 0;
}

int loop_open(struct loop **out, const struct args *args, const struct share *share,
	      const struct rx *rx, const struct clock *clock, struct error *err)
{
	size_t size = sizeof(struct loop) + args->n_workers * sizeof(struct thread);
	struct loop *loop = aligned_alloc(alignof(struct thread), size);

	if (loop == NULL)
		goto short_of_memory;
	memset(loop, 0, size);
	loop->n_workers = args->n_workers;
	for (unsigned i = 0; i < args->n_workers; i++) {
		struct thread *thread = &loop->threads[i];
		struct ring_writer ring;

		share_ring(share, i, &ring);
		thread->shared = share_worker(share, i);
		thread->time.clock = clock;
		thread->sleep_ns = SLEEP_MIN_NS;
		thread->worker = worker_open(share_worker(share, i), &ring);
		if (thread->worker == NULL)
			goto short_of_memory;
		init_queues(thread, i, args, rx);
		atomic_init(&thread->is_running, true);
	}
	*out = loop;
	return 0;

short_of_memory:
	loop_close(loop);
	error_set(err, "Memory is short for %u workers; each takes %zu MiB beside its ring.",
		  args->n_workers, worker_bytes() >> 20);
	return -ENOMEM;
}

void loop_close(struct loop *loop)
{
	if (loop == NULL)
		return;
	for (unsigned i = 0; i < loop->n_workers; i++)
		worker_close(loop->threads[i].worker);
	free(loop);
}

/* ---- the worker's thread ---- */

/* Ask each queue once; gives the packets that came. */
static unsigned poll_queues(struct thread *thread)
{
	struct pkt *p = thread->burst;
	unsigned total = 0;

	for (unsigned i = 0; i < thread->n_queues; i++) {
		struct rx_queue *q = &thread->queues[i];
		unsigned n = rx_burst(q, p, BURST_MAX);

		if (n == 0)
			continue;
		worker_burst(thread->worker, p, n, q->port, q->is_inner);
		rx_free(q);
		total += n;
	}
	return total;
}

static void sleep_a_little(struct thread *thread)
{
	struct timespec wait = {.tv_nsec = (long)thread->sleep_ns};

	clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, NULL);
	if (thread->sleep_ns < SLEEP_MAX_NS)
		thread->sleep_ns *= 2;
}

static void pass(struct thread *thread)
{
	uint64_t now_ns = clock_now_ns(thread->time.clock);
	uint64_t promise_ns;

	if (now_ns > thread->time.now_ns)
		thread->time.now_ns = now_ns;
	if (poll_queues(thread) > 0) {
		thread->n_idle_passes = 0;
		thread->sleep_ns = SLEEP_MIN_NS;
		if (++thread->n_busy_passes >= PASSES_WITHOUT_IDLE) {
			thread->n_busy_passes = 0;
			worker_idle(thread->worker, thread->time.issued_ns);
		}
		return;
	}
	thread->n_busy_passes = 0;
	promise_ns = thread->time.now_ns - thread->time.lag_ns;
	if (promise_ns > thread->time.issued_ns)
		thread->time.issued_ns = promise_ns;
	worker_idle(thread->worker, thread->time.issued_ns);
	if (++thread->n_idle_passes > PASSES_BEFORE_SLEEP && thread->is_sleeping)
		sleep_a_little(thread);
}

void loop_run(struct loop *loop, unsigned index)
{
	struct thread *thread = &loop->threads[index];

	while (!atomic_load_explicit(&loop->is_stopping, memory_order_relaxed))
		pass(thread);
	worker_finish(thread->worker);
	// S1 pairs with S2 in loop_is_stopped(): the worker is done with everything it borrowed.
	atomic_store_explicit(&thread->is_running, false, memory_order_release);
}

/* ---- the main thread ---- */

void loop_stop(struct loop *loop)
{
	atomic_store_explicit(&loop->is_stopping, true, memory_order_relaxed);
}

bool loop_is_stopped(const struct loop *loop)
{
	for (unsigned i = 0; i < loop->n_workers; i++)
		if (atomic_load_explicit(&loop->threads[i].is_running, memory_order_acquire)) // S2
			return false;
	return true;
}

typedef uint64_t generation_in_use(const struct worker *worker);

static bool all_use(const struct loop *loop, generation_in_use *in_use, uint64_t generation)
{
	for (unsigned i = 0; i < loop->n_workers; i++)
		if (in_use(loop->threads[i].worker) != generation)
			return false;
	return true;
}

static int wait_until_all_use(const struct loop *loop, generation_in_use *in_use,
			      uint64_t generation)
{
	const struct timespec wait = {.tv_nsec = WAIT_NS};
	struct timespec start, now;

	clock_gettime(CLOCK_MONOTONIC, &start);
	while (!all_use(loop, in_use, generation)) {
		clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, NULL);
		clock_gettime(CLOCK_MONOTONIC, &now);
		if ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 >
		    LOOP_DEAD_MS)
			return -ETIMEDOUT;
	}
	return 0;
}

int loop_publish(struct loop *loop, const struct matcher *matcher)
{
	for (unsigned i = 0; i < loop->n_workers; i++)
		worker_publish(loop->threads[i].worker, matcher);
	return wait_until_all_use(loop, worker_generation, matcher_generation(matcher));
}

int loop_publish_sas(struct loop *loop, const struct sa_table *sas)
{
	for (unsigned i = 0; i < loop->n_workers; i++)
		worker_publish_sas(loop->threads[i].worker, sas);
	return wait_until_all_use(loop, worker_sa_generation, sa_table_generation(sas));
}

int loop_watch(struct loop *loop, unsigned tick_ms, struct error *err)
{
	for (unsigned i = 0; i < loop->n_workers; i++) {
		struct thread *thread = &loop->threads[i];
		uint64_t heartbeat =
			atomic_load_explicit(&thread->shared->heartbeat, memory_order_relaxed);
		bool was_silent = thread->silent_ms >= LOOP_SILENT_MS;

		if (heartbeat != thread->heartbeat) {
			thread->heartbeat = heartbeat;
			thread->silent_ms = 0;
			continue;
		}
		thread->silent_ms += tick_ms;
		if (!was_silent && thread->silent_ms >= LOOP_SILENT_MS)
			log_warning("Worker %u has been silent for %d ms.", i, LOOP_SILENT_MS);
		if (thread->silent_ms >= LOOP_DEAD_MS) {
			error_set(
				err,
				"Worker %u has been silent for %d ms; a thread cannot be restarted "
				"safely, so the process ends and has to be started anew.",
				i, LOOP_DEAD_MS);
			return -EDEADLK;
		}
	}
	return 0;
}
