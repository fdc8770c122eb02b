/* bench_writer.c - what merger and stores alone can do.
 *
 * writer  One ring, fed on core 1 by a simulated worker that waits when the ring is full, so that the
 *         writer is never idle and nothing is lost; the merge-and-store thread on core 0, as in the
 *         product.  What is counted are the records of all stores together.
 * merge   N rings, filled beforehand with bursts in turn, then merged into the stores, on one core, or by two
 *         writers on both, since nobody else needs one meanwhile.  Only merging and storing is timed, until
 *         the last writer is done.  All rings together are as long for each N, longer than any cache.
 */
#include "tools/bench_rings.h"

#include <stdio.h>

#include <cjson/cJSON.h>
#include <rte_cycles.h>
#include <rte_launch.h>
#include <rte_pause.h>

#include "control/merge_thread.h"

enum { MERGE_BYTES = 256 << 20, STEP_RECORDS = 32768 };

struct feed {
	struct bench_rings rings;
	unsigned burst;
	double seconds;
	uint64_t n_pushed, n_waits;
};

/* The simulated worker. */
static int feed(void *arg)
{
	struct feed *f = arg;
	struct ring_writer *writer = &f->rings.writers[0];
	uint64_t end = rte_rdtsc() + (uint64_t)(f->seconds * (double)rte_get_tsc_hz());

	while (rte_rdtsc() < end && !bench_is_interrupted) {
		unsigned n = bench_rings_push(&f->rings, 0, f->burst);

		ring_publish(writer, f->rings.time_ns);
		f->n_pushed += n;
		if (n < f->burst) {
			f->n_waits++;
			for (unsigned i = 0; i < 64; i++)
				rte_pause();
		}
	}
	ring_publish(writer, UINT64_MAX);
	return 0;
}

static void print_writer(const struct bench_options *o, const struct feed *f, double seconds)
{
	uint64_t lost, stored = bench_rings_stored(&f->rings, &lost);
	uint64_t due = f->n_pushed * (o->is_spread ? 1 : o->n_captures);
	const struct bench_result result = {
		.unit = "mrps", .rate = (double)stored / seconds / 1e6, .lost = due - stored};
	struct cJSON *c = bench_conditions(o);

	(void)cJSON_AddStringToObject(c, "source", "simulated worker");
	(void)cJSON_AddStringToObject(c, "loop", "closed, the worker waits for the writer");
	(void)cJSON_AddNumberToObject(c, "captures", o->n_captures);
	(void)cJSON_AddStringToObject(
		c, "records", o->is_spread ? "each to one capture" : "each to all captures");
	(void)cJSON_AddNumberToObject(c, "snap_bytes", SNAP_BYTES_DEFAULT);
	(void)cJSON_AddNumberToObject(c, "file_mb", o->file_mb);
	bench_add(c, "pushed_mrps", (double)f->n_pushed / seconds / 1e6);
	(void)cJSON_AddNumberToObject(c, "waits", (double)f->n_waits);
	bench_print(o, &result, c);
}

int bench_writer(const struct bench_options *o)
{
	static struct feed f;
	struct merge_thread *thread = NULL;
	double start;
	int rc = bench_rings_open(&f.rings, o, 1, BENCH_RING_BYTES);

	if (rc == 0)
		thread = merge_thread_start(f.rings.merger, BENCH_SYNC_MS);
	if (thread != NULL) {
		f.burst = o->burst;
		f.seconds = o->seconds;
		start = bench_now();
		bench_on_worker(feed, &f);
		while (merge_waiting_bytes(f.rings.merger) > 0)
			bench_sleep();
		print_writer(o, &f, bench_now() - start);
		merge_thread_stop(thread);
	}
	bench_rings_close(&f.rings);
	return thread != NULL ? 0 : -1;
}

/* Bursts to the rings in turn until one is full; then the watermark of all is behind everything. */
static uint64_t fill(struct bench_rings *r, unsigned burst)
{
	uint64_t n_pushed = 0;
	unsigned n = burst;

	for (unsigned i = 0; n == burst; i = (i + 1) % r->n) {
		n = bench_rings_push(r, i, burst);
		n_pushed += n;
	}
	for (unsigned i = 0; i < r->n; i++)
		ring_publish(&r->writers[i], r->time_ns);
	return n_pushed;
}

/* As merge_thread.c does it. */
static void empty_by(struct merger *merger, unsigned writer)
{
	while (merge_writer_step(merger, writer, STEP_RECORDS) > 0 ||
	       merge_writer_commit_is_due(merger, writer))
		if (merge_writer_commit_is_due(merger, writer))
			merge_writer_commit(merger, writer);
	merge_writer_commit(merger, writer);
}

static int empty_by_second(void *arg)
{
	empty_by(arg, 1);
	return 0;
}

/* Gives the cycles until all writers are done. */
static uint64_t empty(struct merger *merger)
{
	bool has_second = merge_n_writers(merger) == BENCH_WRITERS_MAX;
	uint64_t start = rte_rdtsc();

	if (has_second && rte_eal_remote_launch(empty_by_second, merger, BENCH_WORKER_LCORE) != 0)
		empty_by(merger, 1); // never: that core has nothing to do
	empty_by(merger, 0);
	if (has_second)
		(void)rte_eal_wait_lcore(BENCH_WORKER_LCORE);
	return rte_rdtsc() - start;
}

static void print_merge(const struct bench_options *o, const struct bench_rings *r,
			uint64_t n_pushed, uint64_t cycles)
{
	uint64_t lost, stored = bench_rings_stored(r, &lost);
	uint64_t due = n_pushed * (o->is_spread ? 1 : o->n_captures);
	bool is_alone = o->n_writers == 1;
	const struct bench_result result = {
		.unit = "mrps",
		.rate = (double)stored / (double)cycles * (double)rte_get_tsc_hz() / 1e6,
		.cycles = is_alone ? (double)cycles / (double)stored : 0,
		.lost = due - stored};
	struct cJSON *c = bench_conditions(o);

	(void)cJSON_DeleteItemFromObject(c, "worker_core");
	if (!is_alone)
		(void)cJSON_AddNumberToObject(c, "second_writer_core", BENCH_WORKER_LCORE);
	(void)cJSON_AddStringToObject(c, "source", "rings filled beforehand");
	(void)cJSON_AddStringToObject(c, "loop", "closed");
	(void)cJSON_AddNumberToObject(c, "rings", r->n);
	(void)cJSON_AddNumberToObject(c, "ring_mb", (double)(r->ring_bytes >> 20));
	(void)cJSON_AddNumberToObject(c, "writers", o->n_writers);
	(void)cJSON_AddNumberToObject(c, "captures", o->n_captures);
	(void)cJSON_AddStringToObject(
		c, "records", o->is_spread ? "each to one capture" : "each to all captures");
	(void)cJSON_AddNumberToObject(c, "snap_bytes", SNAP_BYTES_DEFAULT);
	(void)cJSON_AddNumberToObject(c, "file_mb", o->file_mb);
	bench_print(o, &result, c);
}

int bench_merge(const struct bench_options *o)
{
	static struct bench_rings rings;
	uint64_t n_pushed = 0, cycles = 0;
	int rc;

	rc = bench_rings_open(&rings, o, o->n_rings, MERGE_BYTES / o->n_rings);
	while (rc == 0 && (double)cycles < o->seconds * (double)rte_get_tsc_hz() &&
	       !bench_is_interrupted) {
		n_pushed += fill(&rings, o->burst);
		cycles += empty(rings.merger);
	}
	if (rc == 0)
		print_merge(o, &rings, n_pushed, cycles);
	bench_rings_close(&rings);
	return rc;
}
