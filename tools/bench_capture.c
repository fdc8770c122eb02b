/* bench_capture.c - the product around a source: what a worker costs, and what is recorded without loss.
 *
 * Placement: the worker on core 1, the merge-and-store thread on core 0, beside the main thread, which
 * sleeps.  Source, rings and the state folder are what the product uses.
 *
 * Without loss: the source is paced by the TSC.  First the closed loop says what is possible at all;
 * then the highest rate at which nothing is lost is searched by halving, and run for the whole time.
 *
 * Dropped: the merger reads the rings as always, and there are no stores.  It keeps up with any worker
 * then, so that a closed loop shows what the worker itself costs.
 */
#include "tools/bench.h"

#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <rte_ethdev.h>

#include "control/merge_thread.h"
#include "tools/bench_esp.h"
#include "tools/bench_loop.h"
#include "tools/pipeline.h"

enum { SEARCH_STEPS = 7, TRIES = 3, OVERLOAD = 3 };

struct bench {
	const struct bench_options *o;
	struct bench_loop loop;
	struct filter_data data[CAPTURES_MAX];
	struct config config;
	struct sa_table *sas; // of ESP
	struct pipeline pipeline;
	struct merge_thread *merge_thread;
};

/* Of one trial; records are those of all captures together. */
struct figures {
	double mpps, cycles;
	uint64_t n_pkts, lost_port, lost_ring, lost_disk, recorded, wraps;
	uint64_t received;	 // as the worker's own books say, of the first capture
	double recorded_seconds; // until the last one was merged
};

static int open_source(struct bench *b)
{
	const struct bench_options *o = b->o;

	b->loop.burst = o->burst;
	if (!o->is_device)
		return bench_source_ring(&b->loop.source, o->n_frames, &o->mix);
	return rte_eth_dev_count_avail() > 0 ? bench_source_device(&b->loop.source, 0) : -1;
}

static int open_bench(struct bench *b, const struct bench_options *o)
{
	b->o = o;
	if (config_defaults(&b->config) != 0)
		return -1;
	for (unsigned slot = 0; slot < o->n_captures; slot++)
		if (bench_filter_data(o, slot, &b->data[slot]) != 0)
			return -1;
	if (o->mix.esp != BENCH_ESP_NONE) {
		b->sas = bench_esp_sas(&o->mix, o->verifies_icv);
		if (b->sas == NULL)
			return -1;
		// What is inside, and that alone, is recorded.
		b->data[0].filters[0].single_direction = true;
	}
	return open_source(b);
}

static void close_bench(struct bench *b)
{
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		filter_data_fini(&b->data[slot]);
	config_fini(&b->config);
	sa_table_close(b->sas);
}

/* Everything for one trial, with counters at zero. */
static int open_captures(struct bench *b)
{
	const struct pipeline_settings settings = {.config = &b->config,
						   .data = b->data,
						   .n_captures = b->o->n_captures,
						   .connection = SET_GATEWAY_WIDE,
						   .dir = b->o->is_dropped ? NULL : b->o->dir,
						   .name = "bench.data",
						   .ring_bytes = BENCH_RING_BYTES,
						   .sas = b->sas,
						   .has_huge_pages = b->o->is_huge,
						   .reserve = true};
	struct error err = {0};

	if (pipeline_open(&b->pipeline, &settings, &err) != 0) {
		(void)fprintf(stderr, "%s\n", err.text);
		return -1;
	}
	memset(b->pipeline.ring_data, 0,
	       BENCH_RING_BYTES); // page faults now, not while it is measured
	b->loop.worker = b->pipeline.worker;
	b->merge_thread = merge_thread_start(b->pipeline.merger, BENCH_SYNC_MS);
	return b->merge_thread != NULL ? 0 : -1;
}

static void close_captures(struct bench *b)
{
	merge_thread_stop(b->merge_thread);
	pipeline_close(&b->pipeline);
	b->loop.worker = NULL;
	b->loop.n_lost = NULL;
}

static void drain(struct bench *b)
{
	worker_finish(b->loop.worker);
	while (merge_waiting_bytes(b->pipeline.merger) > 0)
		bench_sleep();
}

/* What the books of worker and stores say. */
static int read_books(struct bench *b, struct figures *out)
{
	const struct slot_counters *slot = &b->pipeline.shared->slots[0][0];
	uint64_t in_file = 0;

	out->received = slot->received;
	out->lost_ring = slot->ring_full;
	for (unsigned i = 0; i < b->o->n_captures; i++) {
		struct store_counts counts = {0};

		if (b->o->is_dropped)
			continue;
		if (store_count(b->pipeline.stores[i], &counts) != 0)
			return -1;
		out->lost_disk += counts.lost_disk[0];
		out->recorded += counts.in_file[0] + counts.overwritten[0];
		in_file += counts.in_file[0];
	}
	out->wraps = out->recorded / (in_file > 0 ? in_file : 1);
	if (b->o->is_dropped)
		out->recorded = slot->recorded * b->o->n_captures;
	return 0;
}

static uint64_t lost_of(const struct figures *f)
{
	return f->lost_port + f->lost_ring + f->lost_disk;
}

/* One trial at a rate (0: closed loop). */
static int trial(struct bench *b, double offered_pps, double seconds, struct figures *out)
{
	double start;
	int rc;

	*out = (struct figures){0};
	b->loop.offered_pps = offered_pps;
	b->loop.seconds = seconds;
	if (open_captures(b) != 0)
		return -1;
	// A rate that loses is of no interest, the rest of its time neither.
	if (offered_pps > 0 && !b->loop.is_pressing)
		b->loop.n_lost = &b->pipeline.shared->slots[0][0].ring_full;
	start = bench_now();
	bench_on_worker(bench_loop, &b->loop);
	drain(b);
	out->recorded_seconds = bench_now() - start;
	out->mpps = bench_loop_mpps(&b->loop);
	out->cycles = bench_loop_cycles(&b->loop);
	out->n_pkts = b->loop.n_pkts;
	out->lost_port = b->loop.n_lost_port;
	rc = read_books(b, out);
	close_captures(b);
	return rc;
}

/* Does the rate hold without loss?  A machine that does other things, too, gets TRIES chances: a writer
 * that was not run for 40 ms says nothing about the product.
 */
static bool holds(struct bench *b, double rate, double seconds, struct figures *out)
{
	for (unsigned i = 0; i < TRIES && !bench_is_interrupted; i++)
		if (trial(b, rate, seconds, out) == 0 && lost_of(out) == 0 &&
		    (double)(out->n_pkts + BURST_MAX) > rate * seconds * 0.99)
			return true;
	return false;
}

/* The highest rate without loss; *out is of the last, long run at it. */
static int search(struct bench *b, struct figures *out)
{
	double low = 0, high, probe_seconds = b->o->seconds < 4 ? b->o->seconds / 4 : 1;
	struct figures f;

	if (trial(b, 0, probe_seconds, &f) != 0)
		return -1;
	high = f.mpps * 1e6 * 1.02;
	for (unsigned step = 0; step < SEARCH_STEPS && !bench_is_interrupted; step++) {
		double rate = (low + high) / 2;

		if (holds(b, rate, probe_seconds, &f))
			low = rate;
		else
			high = rate;
	}
	while (low > 0 && !holds(b, low, b->o->seconds, out) && !bench_is_interrupted)
		low *= 0.95;
	if (low > 0)
		return 0;
	(void)fprintf(stderr, "There is no rate at which nothing is lost, down to %.2f Mpps.\n",
		      high / 1e6);
	return -1;
}

static struct cJSON *capture_conditions(const struct bench *b, const struct figures *f)
{
	struct cJSON *c = bench_source_conditions(b->o);

	(void)cJSON_AddNumberToObject(c, "captures", b->o->n_captures);
	(void)cJSON_AddStringToObject(c, "match", bench_match_text(b->o));
	if (b->o->n_captures == 0)
		return c;
	(void)cJSON_AddNumberToObject(c, "snap_bytes", b->data[0].snap_bytes);
	(void)cJSON_AddNumberToObject(c, "received", (double)f->received);
	(void)cJSON_AddNumberToObject(c, "recorded", (double)f->recorded);
	(void)cJSON_AddStringToObject(c, "stores",
				      b->o->is_dropped ? "none: merged and dropped" : "circular");
	if (!b->o->is_dropped) {
		(void)cJSON_AddNumberToObject(c, "file_mb", b->data[0].file_mb);
		(void)cJSON_AddNumberToObject(c, "wraps", (double)f->wraps);
	}
	return c;
}

static int capture(struct bench *b)
{
	struct figures f = {0};
	struct bench_result result = {.unit = "mpps"};

	b->loop.pass = b->o->mix.esp != BENCH_ESP_NONE ? bench_pass_outer : bench_pass_worker;
	if ((b->o->is_paced ? search(b, &f) : trial(b, 0, b->o->seconds, &f)) != 0)
		return -1;
	result.rate = f.mpps;
	result.cycles = f.cycles;
	result.lost = lost_of(&f);
	bench_print(b->o, &result, capture_conditions(b, &f));
	return 0;
}

/* What was offered is received or was lost at the port; what was received was lost or is in the store. */
static bool balances(const struct bench *b, const struct figures *f)
{
	return f->received == f->n_pkts && f->n_pkts == f->recorded + f->lost_ring + f->lost_disk &&
	       b->o->n_captures == 1;
}

static void print_overload(const struct bench *b, const struct figures *f, double peak_pps)
{
	struct cJSON *c = capture_conditions(b, f);
	const struct bench_result result = {.unit = "mpps",
					    .rate = (double)f->recorded / f->recorded_seconds / 1e6,
					    .cycles = f->cycles,
					    .lost = lost_of(f)};

	(void)cJSON_ReplaceItemInObject(c, "loop",
					cJSON_CreateString("paced, 3 x the rate without loss"));
	bench_add(c, "peak_mpps", peak_pps / 1e6);
	bench_add(c, "offered_mpps", OVERLOAD * peak_pps / 1e6);
	(void)cJSON_AddNumberToObject(c, "lost_port", (double)f->lost_port);
	(void)cJSON_AddNumberToObject(c, "lost_ring", (double)f->lost_ring);
	(void)cJSON_AddNumberToObject(c, "lost_disk", (double)f->lost_disk);
	(void)cJSON_AddNumberToObject(c, "descriptors", BENCH_DESCRIPTORS);
	(void)cJSON_AddBoolToObject(c, "ledger_balances", balances(b, f));
	bench_print(b->o, &result, c);
}

static int overload(struct bench *b)
{
	double peak_pps = b->o->peak_mpps * 1e6;
	struct figures f = {0};

	b->loop.pass = bench_pass_worker;
	if (peak_pps <= 0) {
		if (search(b, &f) != 0)
			return -1;
		peak_pps = f.mpps * 1e6;
	}
	b->loop.is_pressing = true;
	if (trial(b, OVERLOAD * peak_pps, b->o->seconds, &f) != 0)
		return -1;
	print_overload(b, &f, peak_pps);
	return 0;
}

/* A loop of its own, without captures' stores and search. */
static int plain_loop(struct bench *b, bool has_worker)
{
	struct bench_result result = {.unit = "mpps"};
	struct figures none = {0};

	b->loop.seconds = b->o->seconds;
	if (has_worker && open_captures(b) != 0)
		return -1;
	bench_on_worker(bench_loop, &b->loop);
	if (has_worker)
		close_captures(b);
	result.rate = bench_loop_mpps(&b->loop);
	result.cycles = bench_loop_cycles(&b->loop);
	bench_print(b->o, &result, capture_conditions(b, &none));
	return 0;
}

static int floor_job(struct bench *b)
{
	b->loop.pass = bench_pass_floor;
	return plain_loop(b, false);
}

static int inline_job(struct bench *b)
{
	b->loop.pass = bench_pass_inline;
	return plain_loop(b, false);
}

static int inline_idle_job(struct bench *b)
{
	b->loop.pass = bench_pass_inline_worker;
	return plain_loop(b, true);
}

static int with_bench(const struct bench_options *o, int (*job)(struct bench *))
{
	static struct bench b;
	int rc = open_bench(&b, o);

	if (rc == 0)
		rc = job(&b);
	close_bench(&b);
	return rc;
}

/* Nothing can be lost, nothing is captured. */
static int with_no_capture(const struct bench_options *o, int (*job)(struct bench *))
{
	struct bench_options idle = *o;

	idle.n_captures = 0;
	idle.is_paced = false;
	return with_bench(&idle, job);
}

int bench_floor(const struct bench_options *o)
{
	return with_no_capture(o, floor_job);
}

int bench_inline(const struct bench_options *o)
{
	return with_no_capture(o, inline_job);
}

int bench_inline_idle(const struct bench_options *o)
{
	return with_no_capture(o, inline_idle_job);
}

int bench_capture(const struct bench_options *o)
{
	struct bench_options paced = *o;

	// Nothing is recorded, so nothing can be lost.
	if (o->n_captures == 0 || o->filter == FILTER_REJECT)
		paced.is_paced = false;
	return with_bench(&paced, capture);
}

int bench_overload(const struct bench_options *o)
{
	return with_bench(o, overload);
}
