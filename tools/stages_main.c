/* stages_main.c - gatecap-stages: a fixed input through worker, merger and stores, for callgrind.
 *
 * Nothing is measured here and nothing depends on a time: the same instructions run every time.
 * tools/check.d/instructions.py runs each case and counts them, between the first line of stages_run() and
 * its last.  What is printed are the numbers to divide by.
 * Cases:  a worker's (frames, its burst, the captures), or rings of several workers for the merger.  Each
 *         is long enough for a few commits and for the circular file to come round.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "control/config.h"
#include "dataplane/worker.h"
#include "tools/bench_rings.h"
#include "tools/pipeline.h"
#include "tools/stages_frame.h"

enum {
	N_FRAMES = 4096,
	N_PACKETS = 48 * 1024,
	RING_BYTES = 16 << 20,
	FILE_MB = 3,
	STEP_PACKETS = 4096, // between two steps of the merger
};

enum input { INPUT_STANDARD, INPUT_SLOW, INPUT_OUTER };

struct stages_case {
	const char *name;
	enum input input;
	unsigned burst, n_captures;
	uint32_t frame_bytes, list_length; // of the standard input; 0 bytes: IMIX
	enum bench_filter filter;
	bool has_connections;
	unsigned n_rings; // not 0: only the merger and a store, behind so many workers
};

static const struct stages_case cases[] = {
	{"capture_64", .burst = 64, .n_captures = 1, .frame_bytes = BENCH_FRAME_64},
	{"capture_64_by_32", .burst = 32, .n_captures = 1, .frame_bytes = BENCH_FRAME_64},
	{"capture_64_by_8", .burst = 8, .n_captures = 1, .frame_bytes = BENCH_FRAME_64},
	{"capture_64_by_6", .burst = 6, .n_captures = 1, .frame_bytes = BENCH_FRAME_64},
	{"capture_imix", .burst = 64, .n_captures = 1},
	{"capture_1400", .burst = 64, .n_captures = 1, .frame_bytes = 1400},
	{"five_captures", .burst = 64, .n_captures = 5, .frame_bytes = BENCH_FRAME_64},
	{"connections", .burst = 64, .n_captures = 1, .frame_bytes = 60, .has_connections = true},
	{"reject_64", .burst = 64, .n_captures = 1, .frame_bytes = 60, .filter = FILTER_REJECT},
	{"idle", .burst = 64, .n_captures = 0, .frame_bytes = BENCH_FRAME_64},
	{"lists", .burst = 64, .n_captures = 1, .frame_bytes = 60, .list_length = BENCH_LIST_MAX,
	 .filter = FILTER_LISTS},
	{"slow", INPUT_SLOW, .burst = 64, .n_captures = 1},
	{"outer", INPUT_OUTER, .burst = 64, .n_captures = 1},
	{"outer_by_8", INPUT_OUTER, .burst = 8, .n_captures = 1},
	{"rings_1", .burst = 64, .n_captures = 1, .frame_bytes = 60, .n_rings = 1},
	{"rings_4", .burst = 64, .n_captures = 1, .frame_bytes = 60, .n_rings = 4},
	{"rings_4_by_1", .burst = 1, .n_captures = 1, .frame_bytes = 60, .n_rings = 4},
};

struct stages {
	const struct stages_case *c;
	struct bench_options options;
	char dir[64];
	struct config config;
	struct filter_data data[CAPTURES_MAX];
	struct pipeline pipeline;
	struct bench_rings rings;
	uint8_t frames[N_FRAMES][BENCH_FRAME_BYTES_MAX];
	uint32_t lens[N_FRAMES];
	uint64_t n_packets, n_records, n_commits; // what the run came to
};

int __real_fstatfs64(int fd, struct statfs *fs);
int __wrap_fstatfs64(int fd, struct statfs *fs);

/* No file system is in memory, so that the store writes in the same way wherever the folder lies. */
int __wrap_fstatfs64(int fd, struct statfs *fs)
{
	int rc = __real_fstatfs64(fd, fs);

	fs->f_type = 0;
	return rc;
}

/* Outer packets, ESP too, are what a capture without a filter is about. */
static const char outer_filter[] = "{\"Filters\":[]}";

static const char slow_filter[] =
	"{\"Filters\":[{\"SourceSubnets\":[\"10.1.0.0/16\",\"2001:db8:1::/48\"],"
	"\"DestinationSubnets\":[\"10.2.0.0/16\",\"2001:db8:2::/48\"],\"Protocol\":[6,17]}]}";

/* The second is in scope and has what the standard mix comes from. */
static const char connections[] =
	"{\"connections\":[{\"name\":\"a\",\"type\":\"IPsec\",\"peer\":{\"addresses\":[\"198.51.100.7\"]},"
	"\"remote_subnets\":[\"10.9.0.0/16\"]},{\"name\":\"b\",\"type\":\"IPsec\",\"peer\":"
	"{\"addresses\":[\"198.51.100.8\"]},\"remote_subnets\":[\"10.1.0.0/16\",\"10.7.3.0/24\"]}]}";

static int parse_filter(const char *text, struct filter_data *out)
{
	const struct filter_data_rules rules = {.filters_max = 1};
	struct faults faults = {0}, warnings = {0};
	int rc = filter_data_parse(text, strlen(text), &rules, out, &faults, &warnings);

	faults_fini(&faults);
	faults_fini(&warnings);
	return rc;
}

static int open_config(struct stages *s)
{
	struct faults faults = {0};
	int rc;

	if (!s->c->has_connections)
		return config_defaults(&s->config);
	rc = config_parse(connections, strlen(connections), &s->config, &faults);
	faults_fini(&faults);
	return rc;
}

static int open_filters(struct stages *s)
{
	int rc = 0;

	for (unsigned slot = 0; slot < s->c->n_captures && rc == 0; slot++) {
		if (s->c->input == INPUT_STANDARD)
			rc = bench_filter_data(&s->options, slot, &s->data[slot]);
		else
			rc = parse_filter(s->c->input == INPUT_OUTER ? outer_filter : slow_filter,
					  &s->data[slot]);
		s->data[slot].file_mb = FILE_MB;
	}
	return rc;
}

static int open_pipeline(struct stages *s)
{
	const struct pipeline_settings settings = {
		.config = &s->config,
		.data = s->data,
		.n_captures = s->c->n_captures,
		.connection = s->c->has_connections ? 1 : SET_GATEWAY_WIDE,
		.dir = s->dir,
		.name = "stages",
		.ring_bytes = RING_BYTES,
		.reserve = true};
	struct error err = {0};

	if (open_config(s) != 0 || open_filters(s) != 0) {
		(void)fprintf(stderr, "The filters of %s are not right.\n", s->c->name);
		return -EINVAL;
	}
	if (pipeline_open(&s->pipeline, &settings, &err) == 0)
		return 0;
	(void)fprintf(stderr, "The stages cannot be set up: %s\n", err.text);
	return -EIO;
}

static int open_stages(struct stages *s, const struct stages_case *c)
{
	s->c = c;
	s->options = (struct bench_options){
		.mix = {.frame_bytes = c->frame_bytes,
			.n_flows = N_FRAMES,
			.list_length = c->list_length},
		.dir = s->dir,
		.n_frames = N_FRAMES,
		.file_mb = FILE_MB,
		.filter = c->filter,
		.n_captures = c->n_captures,
	};
	if (c->n_rings > 0)
		return bench_rings_open(&s->rings, &s->options, c->n_rings, RING_BYTES);
	return open_pipeline(s);
}

static void close_stages(struct stages *s)
{
	if (s->c->n_rings > 0)
		bench_rings_close(&s->rings);
	else
		pipeline_close(&s->pipeline);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		filter_data_fini(&s->data[slot]);
	config_fini(&s->config);
}

static void make_frames(struct stages *s)
{
	for (uint32_t i = 0; i < N_FRAMES; i++) {
		if (s->c->input == INPUT_SLOW) {
			stages_frame_slow(s->frames[i], i);
			s->lens[i] = STAGES_SLOW_BYTES;
		} else if (s->c->input == INPUT_OUTER) {
			stages_frame_outer(s->frames[i], i);
			s->lens[i] = STAGES_OUTER_BYTES;
		} else {
			s->lens[i] = bench_frame(s->frames[i], i, &s->options.mix);
		}
	}
}

/* As merge_thread.c does it. */
static void merge(struct stages *s, struct merger *merger)
{
	uint64_t n;

	do {
		n = merge_step(merger, UINT64_MAX);
		s->n_records += n;
		if (merge_commit_is_due(merger)) {
			merge_commit(merger);
			s->n_commits++;
		}
	} while (n > 0);
}

static void run_worker(struct stages *s)
{
	struct worker *worker = s->pipeline.worker;
	uint64_t *n = &s->n_packets, n_merged = 0;
	struct pkt p[BURST_MAX];

	memset(p, 0, sizeof(p));
	while (*n < N_PACKETS) {
		for (unsigned i = 0; i < s->c->burst; i++, ++*n) {
			p[i].data = s->frames[*n % N_FRAMES];
			p[i].len = p[i].wire_len = s->lens[*n % N_FRAMES];
			p[i].time_ns = *n + 1;
		}
		worker_burst(worker, p, s->c->burst, 0, s->c->input != INPUT_OUTER);
		if (*n - n_merged >= STEP_PACKETS) {
			worker_idle(worker, *n);
			merge(s, s->pipeline.merger);
			n_merged = *n;
		}
	}
	worker_idle(worker, *n + 1);
	merge(s, s->pipeline.merger);
}

static void run_rings(struct stages *s)
{
	struct bench_rings *rings = &s->rings;

	for (unsigned n = 0; n < N_PACKETS; n += STEP_PACKETS) {
		for (unsigned k = 0; k < STEP_PACKETS; k += s->c->burst)
			(void)bench_rings_push(rings, k / s->c->burst % rings->n, s->c->burst);
		for (unsigned i = 0; i < rings->n; i++)
			ring_publish(&rings->writers[i], rings->time_ns);
		merge(s, rings->merger);
	}
}

/* Its name is what callgrind is told. */
__attribute__((noinline)) void stages_run(struct stages *s);

void stages_run(struct stages *s)
{
	if (s->c->n_rings > 0)
		run_rings(s);
	else
		run_worker(s);
}

static int run_case(const struct stages_case *c)
{
	static struct stages s;
	const char *parent = getenv("TMPDIR");
	int rc;

	(void)snprintf(s.dir, sizeof(s.dir), "%.40s/gatecap-stages-XXXXXX",
		       parent != NULL ? parent : "/tmp");
	if (mkdtemp(s.dir) == NULL) {
		(void)fprintf(stderr, "The folder %s cannot be made: %s.\n", s.dir,
			      strerror(errno));
		return -1;
	}
	rc = open_stages(&s, c);
	if (rc == 0) {
		make_frames(&s);
		stages_run(&s);
		(void)printf("{\"packets\": %llu, \"records\": %llu, \"commits\": %llu}\n",
			     (unsigned long long)s.n_packets, (unsigned long long)s.n_records,
			     (unsigned long long)s.n_commits);
	}
	close_stages(&s);
	if (rmdir(s.dir) != 0) {
		(void)fprintf(stderr, "The folder %s is not empty.\n", s.dir);
		rc = -1;
	}
	return rc;
}

int main(int argc, char **argv)
{
	const size_t n_cases = sizeof(cases) / sizeof(*cases);

	if (argc == 2 && strcmp(argv[1], "--list") == 0) {
		for (size_t i = 0; i < n_cases; i++)
			(void)puts(cases[i].name);
		return 0;
	}
	for (size_t i = 0; argc == 2 && i < n_cases; i++)
		if (strcmp(argv[1], cases[i].name) == 0)
			return run_case(&cases[i]) == 0 ? 0 : 1;
	(void)fprintf(stderr, "Usage: gatecap-stages CASE | --list\n");
	return 2;
}
