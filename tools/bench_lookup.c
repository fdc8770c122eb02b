/* bench_lookup.c - see bench_lookup.h.
 *
 * A build can be stopped by nothing: when one takes too long, the main thread prints what there is and ends
 * the process under it.  One that is sure to take too long is not begun.
 */
#include "tools/bench_lookup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <rte_cycles.h>
#include <rte_launch.h>

enum {
	STEP_PARTS = 4, // of o->seconds: each length is measured for one
	GROWTH = 4,
};

struct steps {
	const struct bench_options *o;
	struct bench_lookup *lookup;
	struct bench_lookup_frame *frames;
	uint32_t n_frames, n_listed;
	uint32_t n; // list length in hand
	double build_seconds;
	double cycles, seconds; // of the last measurement; for each
	uint64_t n_pkts, n_cycles;
	bool is_right;
	int rc;
	uint32_t longest; // that was built
	const char *stopped_by;
	struct cJSON *list;
};

static void make_frames(struct steps *s)
{
	struct bench_mix mix = s->o->mix;

	mix.list_length = s->n;
	mix.frame_bytes = BENCH_FRAME_64;
	s->n_listed = 0;
	for (uint32_t i = 0; i < s->n_frames; i++) {
		uint8_t frame[BENCH_FRAME_BYTES_MAX];

		(void)bench_frame(frame, i, &mix);
		memcpy(s->frames[i].bytes, frame, BENCH_FRAME_64);
		s->n_listed += bench_flow_is_listed(&mix, i % mix.n_flows);
	}
}

static int build(void *arg)
{
	struct steps *s = arg;

	s->rc = s->lookup->build(s->lookup, s->n);
	return 0;
}

/* All frames once, to warm up and to see that the answers are right; then for a while. */
static int measure(void *arg)
{
	struct steps *s = arg;
	uint64_t start, end, now;
	uint32_t n_found = 0, at = 0, burst = s->o->burst;

	for (at = 0; at < s->n_frames; at += burst)
		n_found += s->lookup->burst(s->lookup, &s->frames[at], burst);
	s->is_right = n_found == s->n_listed;
	s->n_pkts = 0;
	start = now = rte_rdtsc();
	end = start + (uint64_t)(s->seconds * (double)rte_get_tsc_hz());
	for (at = 0; now < end && !bench_is_interrupted; now = rte_rdtsc()) {
		(void)s->lookup->burst(s->lookup, &s->frames[at], burst);
		at = at + burst < s->n_frames ? at + burst : 0;
		s->n_pkts += burst;
	}
	s->n_cycles = now - start;
	s->cycles = (double)s->n_cycles / (double)s->n_pkts;
	return 0;
}

static void print_steps(const struct steps *s)
{
	const struct bench_result result = {.unit = "mpps",
					    .rate = (double)rte_get_tsc_hz() / s->cycles / 1e6,
					    .cycles = s->cycles};
	struct cJSON *c = bench_conditions(s->o);

	(void)cJSON_DeleteItemFromObject(c, "list_length");
	(void)cJSON_AddStringToObject(c, "source", "frames in memory");
	(void)cJSON_AddStringToObject(c, "loop", "closed, look-up only");
	(void)cJSON_AddStringToObject(c, "engine", s->lookup->engine);
	(void)cJSON_AddStringToObject(c, "match", "half");
	(void)cJSON_AddNumberToObject(c, "working_set", s->n_frames);
	(void)cJSON_AddNumberToObject(c, "list_length", s->longest);
	(void)cJSON_AddNumberToObject(c, "list_length_wanted", s->o->mix.list_length);
	(void)cJSON_AddStringToObject(c, "stopped_by", s->stopped_by);
	(void)cJSON_AddNumberToObject(c, "limit_seconds", s->o->limit_seconds);
	(void)cJSON_AddItemToObject(c, "steps", s->list);
	bench_print(s->o, &result, c);
}

/* Did the build in hand end in time? */
static bool waited(const struct steps *s, double start)
{
	while (rte_eal_get_lcore_state(BENCH_WORKER_LCORE) == RUNNING) {
		if (bench_now() - start > s->o->limit_seconds || bench_is_interrupted)
			return false;
		bench_sleep();
	}
	(void)rte_eal_wait_lcore(BENCH_WORKER_LCORE);
	return true;
}

static void end_under_the_build(struct steps *s)
{
	s->stopped_by = "time";
	if (s->longest == 0)
		(void)fprintf(stderr, "%s: not even lists of %u were built in %.1f s.\n",
			      s->lookup->engine, s->n, s->o->limit_seconds);
	else
		print_steps(s);
	_exit(s->longest == 0);
}

static void keep_step(struct steps *s)
{
	const struct bench_lookup *l = s->lookup;
	struct cJSON *step = cJSON_CreateObject();

	s->longest = s->n;
	(void)cJSON_AddNumberToObject(step, "list_length", s->n);
	(void)cJSON_AddNumberToObject(step, l->size_name, l->size);
	if (l->bytes > 0)
		(void)cJSON_AddNumberToObject(step, "bytes", l->bytes);
	bench_add(step, "build_seconds", s->build_seconds);
	bench_add(step, "cycles_per_packet", s->cycles);
	(void)cJSON_AddItemToArray(s->list, step);
}

/* Build and measure lists of s->n.  False: it could not be built. */
static bool step(struct steps *s)
{
	double start = bench_now();

	make_frames(s);
	if (rte_eal_remote_launch(build, s, BENCH_WORKER_LCORE) != 0)
		return false;
	if (!waited(s, start))
		end_under_the_build(s);
	s->build_seconds = bench_now() - start;
	if (s->rc != 0) {
		s->stopped_by = s->lookup->why;
		return false;
	}
	bench_on_worker(measure, s);
	s->lookup->drop(s->lookup);
	if (s->is_right)
		keep_step(s);
	else
		(void)fprintf(stderr, "%s: with lists of %u it does not find what it should.\n",
			      s->lookup->engine, s->n);
	return s->is_right;
}

/* Lists of twice the length take rte_acl and libpcap six to twelve times as long. */
static bool would_take_too_long(const struct steps *s)
{
	return s->build_seconds * GROWTH > s->o->limit_seconds;
}

static void run(struct steps *s)
{
	uint32_t wanted = s->o->mix.list_length;

	for (s->n = 1; step(s) && s->n < wanted; s->n = 2 * s->n < wanted ? 2 * s->n : wanted) {
		if (would_take_too_long(s)) {
			s->stopped_by = "time, by what the last build took";
			return;
		}
	}
}

int bench_lookup(const struct bench_options *o, struct bench_lookup *lookup)
{
	struct steps s = {.o = o,
			  .lookup = lookup,
			  .n_frames = o->n_frames,
			  .seconds = o->seconds / STEP_PARTS,
			  .is_right = true,
			  .stopped_by = "nothing",
			  .list = cJSON_CreateArray()};

	s.frames = aligned_alloc(64, s.n_frames * sizeof(*s.frames));
	if (s.frames == NULL || s.list == NULL)
		return -1;
	run(&s);
	free(s.frames);
	if (!s.is_right)
		return -1;
	if (s.longest == 0) {
		(void)fprintf(stderr, "%s: nothing can be built: %s.\n", lookup->engine,
			      s.stopped_by);
		return -1;
	}
	print_steps(&s);
	return 0;
}
