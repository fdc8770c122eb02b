/* pipeline.h - captures in one process: worker, ring, merger and stores without daemon or EAL.
 *
 * Flow:    frames -> worker -> ring -> merger -> stores, as between the two processes of the appliance
 * Used by: replay.c (one capture, one thread) and bench_capture.c (worker and merger on a core each).
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
	const struct filter_data *data; // one a capture; they get the slots 0, 1 ...
	unsigned n_captures;		// at most CAPTURES_MAX
	uint32_t connection;		// index in config, or SET_GATEWAY_WIDE
	const char *dir;  // where the stores' data files are made; NULL: none, records are dropped
	const char *name; // of the first capture's file; that of slot 1 is NAME.1
	uint64_t ring_bytes;	    // a power of two
	const struct sa_table *sas; // borrowed for life, or NULL: no keys
	bool has_inner_port;	    // inner packets come from there
	bool has_huge_pages;	    // for the ring
	bool reserve;		    // store_settings.reserve
};

struct pipeline {
	struct matcher *matcher;
	struct worker_shared *shared;
	struct ring_tail *tail;
	uint8_t *ring_data;
	uint64_t ring_bytes;
	struct worker *worker;
	struct merger *merger;
	struct store *stores[CAPTURES_MAX];
};

/* 0, or -errno and a sentence; then there is nothing to close. */
int pipeline_open(struct pipeline *pipeline, const struct pipeline_settings *settings,
		  struct error *err);
void pipeline_close(struct pipeline *pipeline);

/* The matcher alone (matcher_close() frees), or NULL and a sentence. */
struct matcher *pipeline_matcher(const struct pipeline_settings *settings, struct error *err);

#endif
