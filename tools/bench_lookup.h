/* bench_lookup.h - one way to look packets up in long lists, measured by itself, with lists of growing length.
 *
 * Lists of n source subnets x n destination subnets x n ports x both ways, n doubled up to o->mix.list_length
 * or until a build fails, or takes longer than o->limit_seconds.  Each way gets the same frames in bursts, half
 * of them just outside, and must find exactly the others.
 * Threads: build and burst run on the worker's core; the main thread watches the time.
 */
#ifndef GATECAP_TOOLS_BENCH_LOOKUP_H
#define GATECAP_TOOLS_BENCH_LOOKUP_H

#include <stdalign.h>

#include "tools/bench.h"

struct bench_lookup_frame {
	alignas(64) uint8_t bytes[64]; // BENCH_FRAME_64 of them
};

struct bench_lookup {
	const char *engine;
	/* Lists of length n.  0, or -1 and l->why. */
	int (*build)(struct bench_lookup *l, uint32_t n);
	void (*drop)(struct bench_lookup *l);
	/* How many of the n frames match. */
	uint32_t (*burst)(struct bench_lookup *l, const struct bench_lookup_frame *frames,
			  uint32_t n);
	void *built;

	// Of the last build.
	const char *size_name; // what the next one counts: "rules", "instructions"
	double size, bytes;    // bytes 0: not known
	const char *why;       // it cannot be built
};

/* Measure and print the longest.  0, or -1 and a line on stderr. */
int bench_lookup(const struct bench_options *o, struct bench_lookup *lookup);

#endif
