/* bench_main.c - gatecap-bench: one measurement, one line of JSON.  Driven by tools/bench.
 *
 * Placement: the worker on core 1, the merge-and-store thread on core 0, beside the main thread, which
 * sleeps.  Source, rings and the state folder are what the product uses.
 *
 * Without loss: the source is paced by the TSC.  First the closed loop says what is possible at all;
 * then the highest rate at which nothing is lost is searched by halving, and run for the whole time.
 */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_pdump.h>

#include "control/merge_thread.h"
#include "dataplane/worker.h"
#include "tools/bench_source.h"
#include "tools/pipeline.h"

enum {
	RING_BYTES = 64 << 20,
	WORKER_LCORE = 1,
	SEARCH_STEPS = 7,
	TRIES = 3,
	SYNC_MS = 1000, // as captures.sync_ms has it
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
};

enum kind { KIND_FLOOR, KIND_CAPTURE, KIND_REJECT, KIND_PRIMARY, KIND_FRAMES };

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
	struct pipeline pipeline;
	struct merge_thread *merge_thread;
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
			bench_source_return(&run->source);
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

/* Everything for one trial, with counters at zero. */
static int open_capture(struct bench *b)
{
	const struct pipeline_settings settings = {.config = &b->config,
						   .data = &b->data,
						   .connection = SET_GATEWAY_WIDE,
						   .dir = b->o.dir,
						   .name = "bench.data",
						   .ring_bytes = RING_BYTES,
						   .has_huge_pages = b->o.is_huge,
						   .reserve = true};
	struct error err = {0};

	if (pipeline_open(&b->pipeline, &settings, &err) != 0) {
		(void)fprintf(stderr, "%s\n", err.text);
		return -1;
	}
	memset(b->pipeline.ring_data, 0, RING_BYTES); // page faults now, not while it is measured
	b->run.worker = b->pipeline.worker;
	b->merge_thread = merge_thread_start(b->pipeline.merger, SYNC_MS);
	return b->merge_thread != NULL ? 0 : -1;
}

static void close_capture(struct bench *b)
{
	merge_thread_stop(b->merge_thread);
	pipeline_close(&b->pipeline);
	b->run.worker = NULL;
}

static void drain(struct bench *b)
{
	const struct timespec ms = {.tv_nsec = 1000000};

	worker_finish(b->run.worker);
	while (merge_waiting_bytes(b->pipeline.merger) > 0)
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
		.mpps = (double)b->run.n_pkts / (double)b->run.cycles * (double)rte_get_tsc_hz() /
			1e6,
		.cycles_per_packet = (double)b->run.cycles / (double)b->run.n_pkts,
		.busy_cycles_per_packet = (double)b->run.busy_cycles / (double)b->run.n_pkts,
	};
	if (b->o.kind == KIND_FLOOR)
		return 0;
	drain(b);
	if (store_count(b->pipeline.store, &counts) != 0)
		return -1;
	out->lost = b->pipeline.shared->slots[0][0].ring_full + counts.lost_disk[0];
	out->recorded = counts.in_file[0] + counts.overwritten[0];
	out->wraps = out->recorded / (counts.in_file[0] > 0 ? counts.in_file[0] : 1);
	close_capture(b);
	return 0;
}

/* Does the rate hold without loss?  A machine that does other things, too, gets TRIES chances: a writer
 * that was not run for 40 ms says nothing about the product.
 */
static bool holds(struct bench *b, double rate, double seconds, struct figures *out)
{
	for (unsigned i = 0; i < TRIES && !is_interrupted; i++)
		if (trial(b, rate, seconds, out) == 0 && out->lost == 0 &&
		    out->mpps * 1e6 > rate * 0.99)
			return true;
	return false;
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

		if (holds(b, rate, probe_seconds, &f))
			low = rate;
		else
			high = rate;
	}
	while (low > 0 && !holds(b, low, b->o.seconds, out) && !is_interrupted)
		low *= 0.97;
	return 0;
}

static void print(const struct bench *b, const struct figures *f)
{
	(void)printf("{\"name\":\"%s\",\"mpps\":%.2f,\"cycles_per_packet\":%.1f,\"lost\":%" PRIu64
		     ",\"conditions\":{\"worker_core\":1,\"writer_core\":0,\"source\":\"%s\","
		     "\"frames\":\"%s\",\"five_tuples\":%d,\"working_set\":%u,\"loop\":\"%s\","
		     "\"burst\":%d,\"seconds\":%.1f,\"hugepages\":%s",
		     b->o.name, f->mpps,
		     b->o.is_paced ? f->busy_cycles_per_packet : f->cycles_per_packet, f->lost,
		     b->o.is_device ? "net_pcap infinite_rx" : "net_ring",
		     b->o.is_imix ? "IMIX 7x60 4x570 1x1514" : "60 bytes (64 with FCS)",
		     BENCH_FLOWS, b->o.n_frames, b->o.is_paced ? "paced, without loss" : "closed",
		     BURST_MAX, b->o.seconds, b->o.is_huge ? "true" : "false");
	if (b->o.kind == KIND_CAPTURE || b->o.kind == KIND_REJECT)
		(void)printf(
			",\"captures\":1,\"snap_bytes\":%u,\"match\":\"%s\",\"recorded\":%" PRIu64
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

/* Write the frames of the standard source as a PCAP, for net_pcap. */
static int write_frames(const struct options *o)
{
	const uint32_t header[6] = {0xa1b2c3d4, 4 << 16 | 2, 0, 0, 65535, 1};
	FILE *out = fopen(o->dir, "we");
	bool ok = out != NULL && fwrite(header, sizeof(header), 1, out) == 1;

	for (uint32_t i = 0; ok && i < o->n_frames; i++) {
		uint8_t frame[BENCH_FRAME_BYTES_MAX];
		uint32_t len = bench_frame(frame, i, o->is_imix);
		const uint32_t record[4] = {0, i, len, len};

		ok = fwrite(record, sizeof(record), 1, out) == 1 && fwrite(frame, len, 1, out) == 1;
	}
	if (out != NULL && fclose(out) != 0)
		ok = false;
	return ok ? 0 : -1;
}

/* ---- main ---- */

static const char usage[] =
	"Usage: gatecap-bench [EAL OPTION]... -- --kind floor|capture|reject|primary|frames [OPTION]...\n"
	"One measurement, printed as one line of JSON; tools/bench runs them all.\n"
	"  --name NAME      in the output\n"
	"  --imix           frames of 60, 570 and 1514 bytes instead of 60\n"
	"  --device         measure on EAL's first port instead of the standard source\n"
	"  --closed         as fast as it goes, losses counted, instead of the highest rate without\n"
	"  --seconds S      of the last run (10)\n"
	"  --dir DIR        for the circular file (/dev/shm); frames: the PCAP to write\n"
	"  --file-mb N      MaxFileSize (100)\n"
	"  --frames N       prebuilt frames of the standard source, a power of two (4096)\n"
	"  --huge           the ring in huge pages\n"
	"Example: gatecap-bench --lcores 0@0,1@1 --no-huge -m 512 --no-pci -- --kind capture\n";

static int parse_kind(const char *text, enum kind *kind)
{
	static const char *const names[] = {"floor", "capture", "reject", "primary", "frames"};

	for (unsigned i = 0; i <= KIND_FRAMES; i++) {
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
		{"kind", required_argument, NULL, 'k'},
		{"name", required_argument, NULL, 'n'},
		{"imix", no_argument, NULL, 'i'},
		{"device", no_argument, NULL, 'd'},
		{"closed", no_argument, NULL, 'c'},
		{"seconds", required_argument, NULL, 's'},
		{"dir", required_argument, NULL, 'D'},
		{"file-mb", required_argument, NULL, 'f'},
		{"frames", required_argument, NULL, 'w'},
		{"huge", no_argument, NULL, 'H'},
		{0},
	};
	bool has_kind = false;
	int c;

	*o = (struct options){.dir = "/dev/shm",
			      .seconds = 10,
			      .file_mb = 100,
			      .n_frames = 4096,
			      .name = "bench",
			      .is_paced = true};
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
	bool has_source;

	if (b->o.kind == KIND_FRAMES)
		return write_frames(&b->o);
	has_source = b->o.is_device
			     ? rte_eth_dev_count_avail() > 0 &&
				       bench_source_device(&b->run.source, 0) == 0
			     : bench_source_ring(&b->run.source, b->o.n_frames, b->o.is_imix) == 0;

	if (!has_source)
		return -1;
	if (b->o.kind == KIND_PRIMARY)
		return serve_dumpcap(b);
	if (b->o.kind == KIND_FLOOR || b->o.kind == KIND_REJECT)
		b->o.is_paced = false; // nothing can be lost
	if (b->o.kind != KIND_FLOOR && (config_defaults(&b->config) != 0 || parse_filter(b) != 0))
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
	filter_data_fini(&b.data);
	config_fini(&b.config);
	(void)rte_eal_cleanup();
	return rc;
}
