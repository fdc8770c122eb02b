/* pipeline.h - one capture in one process: worker, ring, merger and store without daemon or EAL.
 *
 * Flow:    frames -> worker -> ring -> merger -> store, as between the two processes of the appliance
 * Used by: replay.c (one thread) and bench_main.c (worker and merger on a core each).
 * Memory:  pipeline_open() allocates all, pipeline_close() frees; configuration and filter data are
 *          borrowed for pipeline_open() only.
 */
#ifndef GATECAP_TOOLS_PIPELINE_H
#define GATECAP_TOOLS_PIPELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "control/config.h"
#include "control/merge.h"
#include "control/store.h"
#include "dataplane/shared.h"
#include "dataplane/worker.h"
#include "filters/filter_data.h"
#include "filters/matcher.h"

struct pipeline_settings {
	const struct config *config;
	const struct filter_data *data;
	uint32_t connection; // index in config, or SET_GATEWAY_WIDE
	const char *dir;     // where the store's data file is made
	const char *name;    // of that file
	uint64_t ring_bytes; // a power of two
	bool has_huge_pages; // for the ring
	bool reserve;	     // store_settings.reserve
};

struct pipeline {
	struct matcher *matcher;
	struct worker_shared *shared; // the capture has slot 0
	struct ring_tail *tail;
	uint8_t *ring_data;
	uint64_t ring_bytes;
	struct worker *worker;
	struct merger *merger;
	struct store *store;
};

/* 0, or -errno and a sentence; then there is nothing to close. */
int pipeline_open(struct pipeline *pipeline, const struct pipeline_settings *settings,
		  struct error *err);
void pipeline_close(struct pipeline *pipeline);

#endif
