/* worker.h - one poll-mode worker: the order of the stages, and nothing else.
 *
 * Flow:    rx -> worker_burst(classify -> esp -> match -> record) -> ring
 * Threads: everything here belongs to the worker's own thread, but worker_publish(), which is the
 *          publisher's (one at a time).
 * Memory:  worker_open() allocates all; no allocation afterwards.
 * Used by: dataplane/main.c (live) and tools/replay.c (one worker in the caller's thread).
 */
#ifndef GATECAP_DATAPLANE_WORKER_H
#define GATECAP_DATAPLANE_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "dataplane/packet.h"
#include "dataplane/ring.h"
#include "dataplane/shared.h"
#include "filters/filter_set.h"

struct worker;
struct matcher;
struct sa_table;

/* `shared` and `ring` are borrowed for life.  Gives a worker or NULL when memory is short. */
struct worker *worker_open(struct worker_shared *shared, const struct ring_writer *ring);
void worker_close(struct worker *worker);

/* Bytes that one worker allocates, ring not counted. */
size_t worker_bytes(void);

/* Settle one burst of frames from one port: every one gets exactly one verdict, or is held.
 * n <= BURST_MAX; times do not decrease from packet to packet nor from burst to burst.  The frames are
 * not used after the call; the array is in another order then, but complete (the caller frees each).
 * Publishes ring head and watermark.
 */
void worker_burst(struct worker *worker, struct pkt *p, unsigned n, unsigned port, bool inner);

/* Before the first burst: some port is an inner one, and inner packets are recorded from there, not from ESP. */
void worker_has_inner_port(struct worker *worker);

/* Between bursts, also when there is no traffic: take over a published matcher, age tables, publish
 * the watermark `now_ns` (the worker will add nothing earlier).
 */
void worker_idle(struct worker *worker, uint64_t now_ns);

/* End of all input: decide what is held as OTHER, publish watermark UINT64_MAX. */
void worker_finish(struct worker *worker);

/* Hand a new matcher (borrowed until worker_generation() has passed a later one) to the worker. */
void worker_publish(struct worker *worker, const struct matcher *matcher);

/* The generation of the matcher that the worker uses now; the publisher polls it. */
uint64_t worker_generation(const struct worker *worker);

/* The same for SAs; NULL (as at first): no keys. */
void worker_publish_sas(struct worker *worker, const struct sa_table *sas);
uint64_t worker_sa_generation(const struct worker *worker);

#endif
