/* costs_jobs.h - gatecap-costs: what its files share.
 *
 * Flow:    costs_main.c reads the options and runs one job, which prints one line of JSON for tools/costs.
 * Threads: the worker on core 1; the writer, and the main thread, which sleeps, on core 0.
 */
#ifndef GATECAP_TOOLS_COSTS_JOBS_H
#define GATECAP_TOOLS_COSTS_JOBS_H

#include <stdbool.h>
#include <stdint.h>

#include "tools/bench.h"

struct cJSON;

struct costs_options {
	struct bench_options bench; // mix, burst, filter, captures, dir, seconds
	bool is_outer;		    // frames of stages_frame.h instead of the mix
	bool is_machine;	    // measure the machine instead of the stages
};

/* Cycles of each stage, of a worker and a writer that run at once.  NULL, or the result (the caller's). */
struct cJSON *costs_run(const struct costs_options *o);

/* Memory: bandwidth, latency; the file system under o->bench.dir. */
struct cJSON *costs_machine(const struct costs_options *o);

/* Cycles that the reading of a border takes itself. */
double costs_border_cycles(void);

#endif
