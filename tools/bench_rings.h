/* bench_rings.h - rings, a merger and stores without a worker: for what the writer alone can do.
 *
 * Records are those that a worker would push: frames of the mix, cut to SNAP_BYTES_DEFAULT, with times that
 * rise by 1 ns from record to record, over all rings.
 * Threads: bench_rings_push() of one ring at a time; the merger is its own thread's.
 * Memory:  bench_rings_open() allocates all, bench_rings_close() frees.
 */
#ifndef GATECAP_TOOLS_BENCH_RINGS_H
#define GATECAP_TOOLS_BENCH_RINGS_H

#include "control/merge.h"
#include "control/store.h"
#include "dataplane/record.h"
#include "dataplane/ring.h"
#include "tools/bench.h"

enum { BENCH_RINGS_MAX = 8 };

/* A frame of the mix, as it is pushed. */
struct bench_template {
	struct record record;
	uint8_t frame[SNAP_BYTES_DEFAULT];
};

struct bench_rings {
	unsigned n, n_stores;
	uint64_t ring_bytes;
	struct ring_head *heads;
	struct ring_tail *tails;
	uint8_t *data[BENCH_RINGS_MAX];
	struct ring_writer writers[BENCH_RINGS_MAX];
	struct merger *merger;
	struct store *stores[CAPTURES_MAX];
	struct bench_template *templates;
	uint32_t n_templates, next_template;
	uint64_t time_ns; // of the next record
};

/* n rings of so many bytes, and stores for o->n_captures captures, each of which gets every record, or, with
 * o->is_spread, its share.  0, or -1 and a line on stderr; close it in both cases.
 */
int bench_rings_open(struct bench_rings *rings, const struct bench_options *o, unsigned n,
		     uint64_t ring_bytes);
void bench_rings_close(struct bench_rings *rings);

/* Push the next records into a ring, publishing nothing; gives how many there was room for. */
unsigned bench_rings_push(struct bench_rings *rings, unsigned ring, unsigned n);

/* Records that are in the stores now, all together, and those that could not be written. */
uint64_t bench_rings_stored(const struct bench_rings *rings, uint64_t *lost);

#endif
