/* costs_run.c - worker and writer at once, with a clock at each stage's border.
 *
 * Neither waits without need and nothing is lost: the worker pauses while half of the ring is waiting for
 * the writer, the writer while there is less than a batch; what they wait is nobody's.  So both stages are
 * measured as they are when the other one uses the memory, too.
 *
 * Merging and storing alternate from record to record, or batch to batch, where no clock may be.  So the run
 * is made twice: without a store the writer only merges; the second time the store's cost is what is
 * more.
 */
#include "tools/costs_jobs.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <rte_cycles.h>
#include <rte_pause.h>

#include "control/config.h"
#include "dataplane/costs.h"
#include "dataplane/record.h"
#include "tools/bench_source.h"
#include "tools/pipeline.h"
#include "tools/stages_frame.h"

enum {
	STEP_RECORDS = 4096, // far from COSTS_STALL
	BATCH_BYTES = 1 << 20,
	BURSTS_BETWEEN_LOOKS = 64,
	N_BORDERS = 1000000,
};

#define WARM_UP_SECONDS 0.3

/* What one thread found after its warm-up. */
struct found {
	struct costs costs;
	uint64_t n; // packets or records
};

struct costs_job {
	const struct costs_options *o;
	struct bench_source source;
	struct config config;
	struct filter_data data;
	struct pipeline pipeline;
	enum cost writer_stage; // of a step: COST_MERGE without a store, else COST_STORE
	uint64_t start, warm, end;
	struct found worker, writer;
	_Atomic bool is_over; // the worker is done
};

static const char *const names[COST_COUNT] = {
	[COST_RX] = "rx",	  [COST_INNER] = "inner",   [COST_CLASSIFY] = "classify",
	[COST_MATCH] = "match",	  [COST_RECORD] = "record", [COST_BOOKS] = "books",
	[COST_RETURN] = "return", [COST_MERGE] = "merge",   [COST_STORE] = "store",
	[COST_WRITE] = "write",	  [COST_COMMIT] = "commit",
};

double costs_border_cycles(void)
{
	uint64_t cycles;

	costs_begin();
	for (unsigned i = 0; i < N_BORDERS; i++)
		costs_end(COST_RX);
	cycles = costs_here.cycles[COST_RX];
	memset(&costs_here, 0, sizeof(costs_here));
	return (double)cycles / N_BORDERS;
}

/* Start counting once the caches have seen everything. */
static void warm_up(const struct costs_job *job, struct found *found, bool *is_warm)
{
	if (*is_warm || rte_rdtsc() < job->warm)
		return;
	*is_warm = true;
	found->n = 0;
	memset(&costs_here, 0, sizeof(costs_here));
}

/* Not merge_waiting_bytes(): the pointers that it reads lie in the line of the merger's cursor.  Asked again
 * and again from here, it cost the writer 30 cycles a record.
 */
static uint64_t waiting_bytes(const struct costs_job *job)
{
	return atomic_load_explicit(&job->pipeline.shared->ring.head, memory_order_relaxed) -
	       atomic_load_explicit(&job->pipeline.tail->tail, memory_order_relaxed);
}

static void wait_for_writer(const struct costs_job *job)
{
	if (waiting_bytes(job) < BENCH_RING_BYTES / 2)
		return;
	while (waiting_bytes(job) > BENCH_RING_BYTES / 4)
		rte_pause();
}

static int work(void *arg)
{
	struct costs_job *job = arg;
	struct worker *worker = job->pipeline.worker;
	bool is_warm = false;
	struct pkt p[BURST_MAX];

	memset(p, 0, sizeof(p));
	for (unsigned pass = 0; rte_rdtsc() < job->end && !bench_is_interrupted; pass++) {
		unsigned n;

		if (pass % BURSTS_BETWEEN_LOOKS == 0) {
			worker_idle(worker, job->source.time.issued_ns);
			wait_for_writer(job);
			warm_up(job, &job->worker, &is_warm);
		}
		costs_begin();
		n = bench_source_rx(&job->source, p, job->o->bench.burst);
		costs_end(COST_RX);
		worker_burst(worker, p, n, 0, !job->o->is_outer);
		bench_source_return(&job->source);
		costs_end(COST_RETURN);
		job->worker.n += n;
	}
	job->worker.costs = costs_here;
	worker_finish(worker);
	return 0;
}

static void *write_out(void *arg)
{
	struct costs_job *job = arg;
	struct merger *merger = job->pipeline.merger;
	bool is_warm = false;

	while (!job->is_over || merge_waiting_bytes(merger) > 0) {
		bool is_over = job->is_over;
		uint64_t n;

		// Tails move with commits only, so what is waiting counts from the last one.
		if (!is_over &&
		    merge_waiting_bytes(merger) < merge_uncommitted_bytes(merger) + BATCH_BYTES) {
			rte_pause();
			continue;
		}
		costs_begin();
		n = merge_step(merger, STEP_RECORDS);
		costs_end(job->writer_stage);
		if (merge_commit_is_due(merger) || is_over) {
			merge_commit(merger);
			costs_end(COST_COMMIT);
		}
		if (is_over)
			continue;
		job->writer.n += n;
		job->writer.costs = costs_here;
		warm_up(job, &job->writer, &is_warm);
	}
	return NULL;
}

static int open_pipeline(struct costs_job *job, bool has_store)
{
	const struct pipeline_settings settings = {.config = &job->config,
						   .data = &job->data,
						   .n_captures = job->o->bench.n_captures,
						   .connection = SET_GATEWAY_WIDE,
						   .dir = has_store ? job->o->bench.dir : NULL,
						   .name = "costs",
						   .ring_bytes = BENCH_RING_BYTES,
						   .has_huge_pages = job->o->bench.is_huge,
						   .reserve = true};
	struct error err = {0};

	if (pipeline_open(&job->pipeline, &settings, &err) != 0) {
		(void)fprintf(stderr, "%s\n", err.text);
		return -1;
	}
	memset(job->pipeline.ring_data, 0, BENCH_RING_BYTES); // page faults now
	return 0;
}

/* Both threads for a while.  0 or -1. */
static int measure(struct costs_job *job, bool has_store)
{
	double hz = (double)rte_get_tsc_hz();
	pthread_t writer;

	if (open_pipeline(job, has_store) != 0)
		return -1;
	job->writer_stage = has_store ? COST_STORE : COST_MERGE;
	job->is_over = false;
	job->start = rte_rdtsc();
	job->warm = job->start + (uint64_t)(WARM_UP_SECONDS * hz);
	job->end = job->warm + (uint64_t)(job->o->bench.seconds * hz);
	memset(&job->worker, 0, sizeof(job->worker));
	memset(&job->writer, 0, sizeof(job->writer));
	if (pthread_create(&writer, NULL, write_out, job) == 0) {
		bench_on_worker(work, job);
		job->is_over = true;
		(void)pthread_join(writer, NULL);
	}
	if (job->pipeline.shared->slots[0][0].ring_full > 0)
		(void)fprintf(stderr, "Packets were lost, which costs more than recording them.\n");
	pipeline_close(&job->pipeline);
	return 0;
}

/* The frames in the port become others of the same length. */
static void make_outer(struct bench_source *source, uint32_t n_frames)
{
	struct pkt p[BURST_MAX];

	for (uint32_t i = 0; i < n_frames;) {
		unsigned n = bench_source_rx(source, p, BURST_MAX);

		for (unsigned k = 0; k < n; k++, i++)
			stages_frame_outer((uint8_t *)(uintptr_t)p[k].data, i);
		bench_source_return(source);
	}
}

static int open_job(struct costs_job *job)
{
	struct bench_options b = job->o->bench;
	static const char outer_filter[] = "{}";
	const struct filter_data_rules rules = {.filters_max = 1};
	struct faults faults = {0}, warnings = {0};
	int rc = config_defaults(&job->config);

	if (rc == 0 && job->o->is_outer)
		rc = filter_data_parse(outer_filter, strlen(outer_filter), &rules, &job->data,
				       &faults, &warnings);
	else if (rc == 0)
		rc = bench_filter_data(&b, 0, &job->data);
	faults_fini(&faults);
	faults_fini(&warnings);
	if (job->o->is_outer)
		b.mix = (struct bench_mix){.frame_bytes = STAGES_OUTER_BYTES, .n_flows = 1};
	if (rc == 0)
		rc = bench_source_ring(&job->source, b.n_frames, &b.mix);
	if (rc == 0 && job->o->is_outer)
		make_outer(&job->source, b.n_frames);
	return rc;
}

/* With the borders' own cycles in them: how much of these hides behind the work, nobody can say. */
static void add_costs(struct cJSON *to, const struct found *f)
{
	for (unsigned i = 0; i < COST_COUNT && f->n > 0; i++)
		if (f->costs.cycles[i] > 0)
			(void)cJSON_AddNumberToObject(to, names[i],
						      (double)f->costs.cycles[i] / (double)f->n);
}

struct cJSON *costs_run(const struct costs_options *o)
{
	static struct costs_job job;
	struct cJSON *out, *worker, *writer;

	job.o = o;
	if (open_job(&job) != 0 || measure(&job, false) != 0)
		return NULL;
	out = cJSON_CreateObject();
	worker = cJSON_AddObjectToObject(out, "worker");
	writer = cJSON_AddObjectToObject(out, "writer");
	add_costs(cJSON_AddObjectToObject(out, "merging"), &job.writer);
	if (measure(&job, true) == 0) {
		add_costs(worker, &job.worker);
		add_costs(writer, &job.writer);
	}
	(void)cJSON_AddNumberToObject(out, "packets", (double)job.worker.n);
	(void)cJSON_AddNumberToObject(out, "records", (double)job.writer.n);
	(void)cJSON_AddNumberToObject(
		out, "stalls", (double)(job.worker.costs.n_stalls + job.writer.costs.n_stalls));
	filter_data_fini(&job.data);
	config_fini(&job.config);
	return out;
}
