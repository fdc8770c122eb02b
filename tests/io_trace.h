/* io_trace.h - every write and sync of a run, and the files that a crash in the middle of it may leave.
 *
 * How:     the test is linked with -Wl,--wrap for pwrite64, fdatasync, fstatfs64 (tests/meson.build); between
 *          io_trace_start() and io_trace_stop() what they are asked is remembered, and done.
 * Threads: one.
 * Model:   a process that dies leaves all its writes, the last one perhaps in part.  A power loss leaves
 *          of each file what was synced, and of each block written since the old or the new, as it likes.
 * Faults:  io_trace_fail: the next calls fail with an errno, or write less than they are asked.
 */
#ifndef GATECAP_TESTS_IO_TRACE_H
#define GATECAP_TESTS_IO_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/dice.h"

enum { IO_FILES_MAX = 2, IO_BLOCK_BYTES = 4096 };

struct io_op {
	unsigned file; // index of io_trace_start()'s inodes
	bool is_sync;
	off_t at;
	size_t n;
	uint8_t *bytes; // of a write
};

struct io_trace {
	uint64_t inodes[IO_FILES_MAX];
	struct io_op *ops;
	size_t n_ops, n_allocated;
};

/* Of the files with these inodes. */
void io_trace_start(struct io_trace *trace, const uint64_t inodes[IO_FILES_MAX]);
void io_trace_stop(void);
void io_trace_fini(struct io_trace *trace);

/* What file `file`, `base` of `bytes` when the trace began, holds when the process dies in op n: the ops before it,
 * and the first part_bytes of its own.
 */
void io_trace_after_death(const struct io_trace *trace, unsigned file, size_t n, size_t part_bytes,
			  const uint8_t *base, uint8_t *image, size_t bytes);

/* What it may hold when the power is lost after n ops. */
void io_trace_after_power_loss(const struct io_trace *trace, unsigned file, size_t n,
			       struct dice *dice, const uint8_t *base, uint8_t *image,
			       size_t bytes);

enum io_fault { IO_SHORT, IO_ERRNO };

/* Of all writes and syncs to any file but 1 in `one_in` fail so; 0: none. */
void io_trace_fail(enum io_fault fault, int errno_, unsigned one_in, struct dice *dice);

#endif
