/* bench.h - gatecap-bench: what its jobs share.
 *
 * Flow:    bench_main.c reads the options and runs one job; the job measures and prints one line of JSON.
 * Threads: jobs run on the main thread (core 0), which sleeps while something is measured on core 1.
 * Result:  {"name", one of "mpps" (million packets/s), "mrps" (million records/s) or "gb_per_second",
 *          "cycles_per_packet" (or "cycles_per_record", null if it has none), "lost", "conditions"}
 * Proof:   tests/test_bench.py (each job runs and prints that)
 */
#ifndef GATECAP_TOOLS_BENCH_H
#define GATECAP_TOOLS_BENCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "filters/filter_data.h"
#include "tools/bench_frame.h"

enum {
	BENCH_WORKER_LCORE = 1,
	BENCH_WRITERS_MAX = 2, // on the main thread's core and the worker's
	BENCH_RING_BYTES = 64 << 20,
	BENCH_SYNC_MS = 1000, // as captures.sync_ms has it
};

/* What the captures ask for: see bench_filter.c. */
enum bench_filter { FILTER_ALL, FILTER_REJECT, FILTER_ONE_RULE, FILTER_LISTS };

struct bench_options {
	const char *name; // in the result
	const char *dir;  // of the circular files; frames: the PCAP to write
	struct bench_mix mix;
	uint32_t n_frames; // of the standard source
	unsigned burst;
	bool is_device; // EAL's first port instead of the standard source
	bool is_huge;	// rings in huge pages
	bool is_paced;	// the highest rate without loss, instead of as fast as it goes
	double seconds; // of the last run
	unsigned file_mb;
	enum bench_filter filter;
	unsigned n_captures;
	bool verifies_icv;  // ESP
	bool is_dropped;    // merged, but stored nowhere
	bool is_spread;	    // writer, merge: each record to one capture in turn, instead of to all
	unsigned n_rings;   // merge
	unsigned n_writers; // merge: each on a core of its own; 0: one
	double peak_mpps;   // overload: the rate without loss; 0: to be found
	double limit_seconds; // acl, cbpf: for one build
};

/* The jobs: 0, or -1 and a line on stderr. */
int bench_floor(const struct bench_options *o);
int bench_inline(const struct bench_options *o);
int bench_inline_idle(const struct bench_options *o);
int bench_capture(const struct bench_options *o);
int bench_overload(const struct bench_options *o);
int bench_writer(const struct bench_options *o);
int bench_merge(const struct bench_options *o);
int bench_match(const struct bench_options *o);
int bench_acl(const struct bench_options *o);
int bench_cbpf(const struct bench_options *o);
int bench_sa_find(const struct bench_options *o);
int bench_sad(const struct bench_options *o);
int bench_memory(const struct bench_options *o);
int bench_primary(const struct bench_options *o);
int bench_frames(const struct bench_options *o);

/* SIGTERM or SIGINT came: finish. */
extern _Atomic bool bench_is_interrupted;

/* ---- bench_print.c ---- */

struct cJSON;

struct bench_result {
	const char *unit; // "mpps", "mrps", "gb_per_second"
	double rate;
	double cycles; // a packet or record; 0: none
	uint64_t lost;
};

/* What holds for every job; the job adds its own. */
struct cJSON *bench_conditions(const struct bench_options *o);

/* The same for jobs that receive packets. */
struct cJSON *bench_source_conditions(const struct bench_options *o);

/* A number of three decimals. */
void bench_add(struct cJSON *conditions, const char *name, double value);

/* Takes the conditions. */
void bench_print(const struct bench_options *o, const struct bench_result *result,
		 struct cJSON *conditions);

/* ---- bench_filter.c ---- */

/* The filter data of capture `slot`; filter_data_fini() frees.  0 or -1. */
int bench_filter_data(const struct bench_options *o, unsigned slot, struct filter_data *out);

/* How many of the packets they match, in words. */
const char *bench_match_text(const struct bench_options *o);

/* ---- bench_lcore.c ---- */

/* Sleep a millisecond: the main thread shares its core with the writer. */
void bench_sleep(void);

/* Run a function on the worker's core and sleep until it is done. */
void bench_on_worker(int (*function)(void *), void *arg);

/* Seconds of CLOCK_MONOTONIC. */
double bench_now(void);

#endif
