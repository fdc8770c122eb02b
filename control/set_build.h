/* set_build.h - put configuration and running captures into the one block that the dataplane takes.
 *
 * Flow:    struct config + struct filter_data of each capture -> filter_set.h block -> sealed memfd
 * Threads: any.  Memory: gives a malloc'ed block.
 * Proof:   tests/test_matcher.c (what is built passes filter_set_check and matches as written)
 */
#ifndef GATECAP_CONTROL_SET_BUILD_H
#define GATECAP_CONTROL_SET_BUILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "control/config.h"
#include "filters/filter_set.h"

struct set_source_capture {
	unsigned slot;
	bool is_new;	     // starts with this generation
	uint32_t connection; // index in config, or SET_GATEWAY_WIDE
	const struct filter_data *data;
};

/* An address that a peer's name gave. */
struct resolved_peer {
	uint32_t connection; // index in config
	struct subnet address;
};

struct set_source {
	const struct config *config;
	const struct set_source_capture *captures;
	unsigned n_captures;
	const struct resolved_peer *resolved;
	unsigned n_resolved;
	uint64_t generation;
};

/* Gives a block of *bytes that filter_set_check() accepts; NULL when memory is short. */
void *set_build(const struct set_source *source, size_t *bytes);

#endif
