/* share.h - make the memory that control processes get to see (layout: shared.h).
 *
 * Threads: the main thread, before the workers start.
 * Memory:  share_open() maps both memfds for the life of the process; share_close() unmaps.
 * Seals:   put on after everything of ours is mapped: SHRINK|GROW|FUTURE_WRITE|SEAL on the shared one,
 *          so that nobody but this process can ever write it; SHRINK|GROW|SEAL on the tails.
 *          So neither can fault (SIGBUS) under whoever maps it.
 * Proof:   tests/test_dataplane.py
 */
#ifndef GATECAP_DATAPLANE_SHARE_H
#define GATECAP_DATAPLANE_SHARE_H

#include "dataplane/args.h"
#include "dataplane/ring.h"
#include "dataplane/shared.h"
#include "filters/error.h"

struct share {
	int shared_fd, tails_fd;
	uint64_t shared_bytes, tails_bytes;
	struct shared_header *header;
	const struct ring_tail *tails;
	uint8_t *rings[WORKERS_MAX];
};

/* Returns 0, or -errno and a sentence. */
int share_open(struct share *share, const struct args *args, struct error *err);
void share_close(struct share *share);

struct worker_shared *share_worker(const struct share *share, unsigned worker);
void share_ring(const struct share *share, unsigned worker, struct ring_writer *ring);

#endif
