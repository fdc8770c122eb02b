/* bench_main.c - gatecap-bench: one measurement, one line of JSON.  Driven by tools/bench.
 *
 * Placement: the worker on core 1, the merge-and-store thread on core 0, beside the main thread, which
 * sleeps.  Source, rings and the state folder are what the product uses.
 *
 * Without loss: the source is paced by the TSC.  First the closed loop says what is possible at all;
 * then the highest rate at which nothing is lost is searched by halving, and run for the whole time.
 */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_pdump.h>

#include "control/merge_thread.h"
#include "control/set_build.h"
#include "control/store.h"
#include "dataplane/worker.h"
#include "filters/matcher.h"
#include "tools/bench_source.h"

enum {
	RING_BYTES = 64 << 20,
	WORKER_LCORE = 1,
	SEARCH_STEPS = 7,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
};

enum kind { KIND_FLOOR, KIND_CAPTURE, KIND_REJECT, KIND_PRIMARY };

struct options {
	const char *name, *dir;
	enum kind kind;
	bool is_imix, is_device, is_huge, is_paced;
	double seconds;
	unsigned file_mb;
	uint32_t n_frames;
};

/* What the worker thread does and has found. */
struct run {
	struct bench_source source;
	struct worker *worker; // NULL: receive and give back only
	double offered_pps;    // 0: closed loop
	double seconds;
	uint64_t n_pkts, busy_cycles, cycles;
};

struct bench {
	struct options o;
	struct run run;
	struct filter_data data;
	struct config config;
	struct matcher *matcher;
	struct worker_shared *shared;
	struct ring_tail *tail;
	uint8_t *ring_data;
	struct merger *merger;
	struct merge_thread *merge_thread;
	struct store *store;
};

struct figures {
	double mpps, cycles_per_packet, busy_cycles_per_packet;
	uint64_t lost, recorded, wraps;
};

static _Atomic bool is_interrupted;

/* Poll the source for run->seconds; runs on the worker's core. */
static int poll_source(void *arg)
{
	struct run *run = arg;
	uint64_t hz = rte_get_tsc_hz(), start = rte_rdtsc(), now = start;
	uint64_t end = start + (uint64_t)(run->seconds * (double)hz);
	double pkts_per_cycle = run->offered_pps / (double)hz;
	struct pkt p[BURST_MAX];

	run->n_pkts = run->busy_cycles = 0;
	for (unsigned pass = 0; now < end && !is_interrupted; pass++) {
		uint64_t due = UINT64_MAX, before = now;
		unsigned n;

		if (run->offered_pps > 0)
			due = (uint64_t)((double)(now - start) * pkts_per_cycle) - run->n_pkts;
		n = due >= BURST_MAX ? bench_source_rx(&run->source, p, BURST_MAX) : 0;
		if (n > 0) {
			if (run->worker != NULL)
				worker_burst(run->worker, p, n, 0, true);
			bench_source_return(&run->source, p, n);
			run->n_pkts += n;
		}
		if (run->worker != NULL && (n == 0 || pass % 64 == 0))
			worker_idle(run->worker, run->source.time.issued_ns);
		now = rte_rdtsc();
		if (n > 0)
			run->busy_cycles += now - before;
	}
	run->cycles = now - start;
	return 0;
}

/* rte_eal_wait_lcore() spins, on the writer's core: sleep until it would return at once. */
static void run_on_worker(struct run *run)
{
	const struct timespec ms = {.tv_nsec = 1000000};

	if (rte_eal_remote_launch(poll_source, run, WORKER_LCORE) != 0)
		return;
	while (rte_eal_get_lcore_state(WORKER_LCORE) == RUNNING)
		(void)nanosleep(&ms, NULL);
	(void)rte_eal_wait_lcore(WORKER_LCORE);
}

/* ---- the product around the source ---- */

static int parse_filter(struct bench *b)
{
	static const char capture[] =
		"{\"Filters\":[{\"SourceSubnets\":[\"10.1.0.0/16\"],\"DestinationSubnets\":"
		"[\"10.2.0.0/16\"],\"Protocol\":[6]}]}";
	static const char reject[] =
		"{\"Filters\":[{\"SourceSubnets\":[\"10.1.0.0/16\"],\"DestinationSubnets\":"
		"[\"10.2.0.0/16\"],\"Protocol\":[6],\"TcpFlags\":2}]}";
	const char *text = b->o.kind == KIND_REJECT ? reject : capture;
	const struct filter_data_rules rules = {.filters_max = 1};
	struct faults faults = {0}, warnings = {0};
	int rc = filter_data_parse(text, strlen(text), &rules, &b->data, &faults, &warnings);

	faults_fini(&faults);
	faults_fini(&warnings);
	return rc;
}

static int open_matcher(struct bench *b)
{
	const struct set_source_capture capture = {
		.is_new = true, .connection = SET_GATEWAY_WIDE, .data = &b->data};
	struct set_source source = {
		.config = &b->config, .captures = &capture, .n_captures = 1, .generation = 1};
	struct filter_set set;
	struct error err;
	size_t bytes;
	void *mem;

	if (config_defaults(&b->config) != 0 || parse_filter(b) != 0)
		return -1;
	mem = set_build(&source, &bytes);
	if (mem != NULL && filter_set_check(mem, bytes, &set, &err) == 0)
		b->matcher = matcher_open(&set, &err);
	free(mem);
	return b->matcher != NULL ? 0 : -1;
}

static int open_ring(struct bench *b, struct ring_writer *writer, struct ring_reader *reader)
{
	int fd = memfd_create("gatecap-bench", MFD_CLOEXEC | (b->o.is_huge ? MFD_HUGETLB : 0));

	b->shared = aligned_alloc(SHARED_PAGE_BYTES, 16 * SHARED_PAGE_BYTES);
	b->tail = aligned_alloc(sizeof(*b->tail), sizeof(*b->tail));
	if (fd < 0 || ftruncate(fd, RING_BYTES) != 0 || b->shared == NULL || b->tail == NULL)
		return -1;
	memset(b->shared, 0, 16 * SHARED_PAGE_BYTES);
	memset(b->tail, 0, sizeof(*b->tail));
	b->ring_data = ring_map(fd, 0, RING_BYTES, PROT_READ | PROT_WRITE);
	(void)close(fd);
	if (b->ring_data == NULL)
		return -1;
	memset(b->ring_data, 0, RING_BYTES);
	ring_writer_init(writer, b->ring_data, RING_BYTES, &b->shared->ring, b->tail);
	ring_reader_init(reader, b->ring_data, RING_BYTES, &b->shared->ring, b->tail);
	return 0;
}

/* Everything for one trial, with counters at zero. */
static int open_capture(struct bench *b)
{
	struct store_settings settings = {.name = "bench.data",
					  .file_bytes_max = (uint64_t)b->o.file_mb * FILE_MB_BYTES,
					  .snap_bytes = b->data.snap_bytes,
					  .reserve = true};
	struct ring_writer writer;
	struct ring_reader reader;
	struct error err = {0};

	settings.dir_fd = open(b->o.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (settings.dir_fd >= 0) {
		b->store = store_open(&settings, &err);
		(void)close(settings.dir_fd);
	}
	if (b->store == NULL) {
		(void)fprintf(stderr, "No store in %s: %s\n", b->o.dir, err.text);
		return -1;
	}
	if (open_ring(b, &writer, &reader) != 0)
		return -1;
	b->run.worker = worker_open(b->shared, &writer);
	b->merger = merge_open(&reader, 1);
	if (b->run.worker == NULL || b->merger == NULL)
		return -1;
	worker_publish(b->run.worker, b->matcher);
	merge_set_store(b->merger, 0, b->store, 1);
	b->merge_thread = merge_thread_start(b->merger);
	return b->merge_thread != NULL ? 0 : -1;
}

static void close_capture(struct bench *b)
{
	merge_thread_stop(b->merge_thread);
	merge_close(b->merger);
	worker_close(b->run.worker);
	store_close(b->store);
	ring_unmap(b->ring_data, RING_BYTES);
	free(b->shared);
	free(b->tail);
	b->run.worker = NULL;
}

static void drain(struct bench *b)
{
	const struct timespec ms = {.tv_nsec = 1000000};

	worker_finish(b->run.worker);
	while (merge_waiting_bytes(b->merger) > 0)
		(void)nanosleep(&ms, NULL);
}

/* One trial at a rate (0: closed loop). */
static int trial(struct bench *b, double offered_pps, double seconds, struct figures *out)
{
	struct store_counts counts = {0};

	b->run.offered_pps = offered_pps;
	b->run.seconds = seconds;
	if (b->o.kind != KIND_FLOOR && open_capture(b) != 0)
		return -1;
	run_on_worker(&b->run);
	*out = (struct figures){
		.mpps = (double)b->run.n_pkts / (double)b->run.cycles * (double)rte_get_tsc_hz() / 1e6,
		.cycles_per_packet = (double)b->run.cycles / (double)b->run.n_pkts,
		.busy_cycles_per_packet = (double)b->run.busy_cycles / (double)b->run.n_pkts,
	};
	if (b->o.kind == KIND_FLOOR)
		return 0;
	drain(b);
	if (store_count(b->store, &counts) != 0)
		return -1;
	out->lost = b->shared->slots[0][0].ring_full + counts.lost_disk[0];
	out->recorded = counts.in_file[0] + counts.overwritten[0];
	out->wraps = out->recorded / (counts.in_file[0] > 0 ? counts.in_file[0] : 1);
	close_capture(b);
	return 0;
}

/* The highest rate without loss; *out is of the last, long run at it. */
static int search(struct bench *b, struct figures *out)
{
	double low = 0, high, probe_seconds = b->o.seconds < 4 ? b->o.seconds / 4 : 1;
	struct figures f;

	if (trial(b, 0, probe_seconds, &f) != 0)
		return -1;
	high = f.mpps * 1e6 * 1.02;
	for (unsigned step = 0; step < SEARCH_STEPS && !is_interrupted; step++) {
		double rate = (low + high) / 2;

		if (trial(b, rate, probe_seconds, &f) != 0)
			return -1;
		if (f.lost == 0 && f.mpps * 1e6 > rate * 0.99)
			low = rate;
		else
			high = rate;
	}
	for (unsigned again = 0; again < 6 && !is_interrupted; again++) {
		if (trial(b, low, b->o.seconds, out) != 0)
			return -1;
		if (out->lost == 0)
			return 0;
		low *= 0.97;
	}
	return 0;
}

static void print(const struct bench *b, const struct figures *f)
{
	(void)printf("{\"name\":\"%s\",\"mpps\":%.2f,\"cycles_per_packet\":%.1f,\"lost\":%" PRIu64
		     ",\"conditions\":{\"worker_core\":1,\"writer_core\":0,\"source\":\"%s\","
		     "\"frames\":\"%s\",\"five_tuples\":%d,\"working_set\":%u,\"loop\":\"%s\","
		     "\"burst\":%d,\"seconds\":%.1f,\"hugepages\":%s",
		     b->o.name, f->mpps, b->o.is_paced ? f->busy_cycles_per_packet : f->cycles_per_packet,
		     f->lost, b->o.is_device ? "net_pcap infinite_rx" : "net_ring",
		     b->o.is_imix ? "IMIX 7x60 4x570 1x1514" : "60 bytes (64 with FCS)", BENCH_FLOWS,
		     b->o.n_frames, b->o.is_paced ? "paced, without loss" : "closed", BURST_MAX,
		     b->o.seconds, b->o.is_huge ? "true" : "false");
	if (b->o.kind == KIND_CAPTURE || b->o.kind == KIND_REJECT)
		(void)printf(",\"captures\":1,\"snap_bytes\":%u,\"match\":\"%s\",\"recorded\":%" PRIu64
			     ",\"file_mb\":%u,\"wraps\":%" PRIu64,
			     b->data.snap_bytes, b->o.kind == KIND_REJECT ? "none" : "all", f->recorded,
			     b->o.file_mb, f->wraps);
	(void)printf("}}\n");
}

/* ---- dpdk-dumpcap's primary ---- */

static void on_signal(int signal)
{
	(void)signal;
	is_interrupted = true;
}

/* Receive and free, with packet dumping offered, until a signal comes. */
static int serve_dumpcap(struct bench *b)
{
	if (rte_pdump_init() != 0)
		return -1;
	b->run.seconds = 3600;
	(void)printf("ready\n");
	(void)fflush(stdout);
	run_on_worker(&b->run);
	(void)rte_pdump_uninit();
	(void)printf("%.2f\n", (double)b->run.n_pkts / (double)b->run.cycles *
				       (double)rte_get_tsc_hz() / 1e6);
	return 0;
}

/* ---- main ---- */

static const char usage[] =
	"Usage: gatecap-bench [EAL OPTION]... -- --kind floor|capture|reject|primary [OPTION]...\n"
	"One measurement, printed as one line of JSON; tools/bench runs them all.\n"
	"  --name NAME      in the output\n"
	"  --imix           frames of 60, 570 and 1514 bytes instead of 60\n"
	"  --device         measure on EAL's first port instead of the standard source\n"
	"  --closed         as fast as it goes, losses counted, instead of the highest rate without\n"
	"  --seconds S      of the last run (10)\n"
	"  --dir DIR        for the circular file (/dev/shm)\n"
	"  --file-mb N      MaxFileSize (100)\n"
	"  --frames N       prebuilt frames of the standard source, a power of two (4096)\n"
	"  --huge           the ring in huge pages\n"
	"Example: gatecap-bench --lcores 0@0,1@1 --no-huge -m 512 --no-pci -- --kind capture\n";

static int parse_kind(const char *text, enum kind *kind)
{
	static const char *const names[] = {"floor", "capture", "reject", "primary"};

	for (unsigned i = 0; i < 4; i++) {
		if (strcmp(text, names[i]) == 0) {
			*kind = (enum kind)i;
			return 0;
		}
	}
	return -1;
}

static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{"kind", required_argument, NULL, 'k'},	  {"name", required_argument, NULL, 'n'},
		{"imix", no_argument, NULL, 'i'},	  {"device", no_argument, NULL, 'd'},
		{"closed", no_argument, NULL, 'c'},	  {"seconds", required_argument, NULL, 's'},
		{"dir", required_argument, NULL, 'D'},	  {"file-mb", required_argument, NULL, 'f'},
		{"frames", required_argument, NULL, 'w'}, {"huge", no_argument, NULL, 'H'},
		{0},
	};
	bool has_kind = false;
	int c;

	*o = (struct options){.dir = "/dev/shm", .seconds = 10, .file_mb = 100, .n_frames = 4096,
			      .name = "bench", .is_paced = true};
	optind = 1;
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'k':
			has_kind = parse_kind(optarg, &o->kind) == 0;
			break;
		case 'n':
			o->name = optarg;
			break;
		case 'i':
			o->is_imix = true;
			break;
		case 'd':
			o->is_device = true;
			break;
		case 'c':
			o->is_paced = false;
			break;
		case 's':
			o->seconds = atof(optarg);
			break;
		case 'D':
			o->dir = optarg;
			break;
		case 'f':
			o->file_mb = (unsigned)atoi(optarg);
			break;
		case 'w':
			o->n_frames = (uint32_t)atoi(optarg);
			break;
		case 'H':
			o->is_huge = true;
			break;
		default:
			return -1;
		}
	}
	return has_kind && o->seconds > 0 && o->file_mb >= 1 && o->n_frames >= 64 &&
			       (o->n_frames & (o->n_frames - 1)) == 0
		       ? 0
		       : -1;
}

static int measure(struct bench *b)
{
	struct figures f = {0};
	bool has_source = b->o.is_device
				  ? rte_eth_dev_count_avail() > 0 &&
					    bench_source_device(&b->run.source, 0) == 0
				  : bench_source_ring(&b->run.source, b->o.n_frames, b->o.is_imix) == 0;

	if (!has_source)
		return -1;
	if (b->o.kind == KIND_PRIMARY)
		return serve_dumpcap(b);
	if (b->o.kind == KIND_FLOOR || b->o.kind == KIND_REJECT)
		b->o.is_paced = false; // nothing can be lost
	if (b->o.kind != KIND_FLOOR && open_matcher(b) != 0)
		return -1;
	if ((b->o.is_paced ? search(b, &f) : trial(b, 0, b->o.seconds, &f)) != 0)
		return -1;
	print(b, &f);
	return 0;
}

int main(int argc, char **argv)
{
	static struct bench b;
	int used = rte_eal_init(argc, argv), rc = EXIT_FAILED;

	if (used < 0) {
		(void)fputs(usage, stderr);
		return EXIT_FAILED;
	}
	if (parse_options(argc - used, argv + used, &b.o) != 0) {
		(void)fputs(usage, stderr);
		rc = EXIT_USAGE;
	} else {
		(void)signal(SIGTERM, on_signal);
		(void)signal(SIGINT, on_signal);
		rc = measure(&b) == 0 ? 0 : EXIT_FAILED;
	}
	matcher_close(b.matcher);
	filter_data_fini(&b.data);
	config_fini(&b.config);
	(void)rte_eal_cleanup();
	return rc;
}
