/* loop.h - the workers' threads: poll, settle, give back, for ever.
 *
 * Flow:    rx_burst -> worker_burst -> rx_free, for each queue that is this worker's
 * Threads: loop_run() is the body of a worker's thread; everything else is the main thread's.
 * Queues:  worker i polls queue i of every port that has one.
 * Idle:    poll: spins.  sleep: after 64 passes without a packet sleeps 50 us, doubled up to 400 us,
 *          so that the watermark is never older than 1 ms.  A worker without any queue always sleeps.
 * Watch:   each worker counts its rounds in its shared block; loop_watch() says which one stands still.
 * Memory:  loop_open() allocates, loop_close() frees, after every thread has ended.
 */
#ifndef GATECAP_DATAPLANE_LOOP_H
#define GATECAP_DATAPLANE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "dataplane/args.h"
#include "dataplane/clock.h"
#include "dataplane/rx.h"
#include "dataplane/sa_table.h"
#include "dataplane/share.h"
#include "filters/error.h"
#include "filters/matcher.h"

enum {
	LOOP_SILENT_MS = 1000, // said in the log
	LOOP_DEAD_MS = 2000,   // ends the process; also the deadline for taking over a set
};

struct loop;

/* Gives *out, or -ENOMEM and a sentence.  Borrows everything for life. */
int loop_open(struct loop **out, const struct args *args, const struct share *share,
	      const struct rx *rx, const struct clock *clock, struct error *err);
void loop_close(struct loop *loop);

/* Run worker `index` in this thread until loop_stop(); then decide what is held and publish. */
void loop_run(struct loop *loop, unsigned index);

void loop_stop(struct loop *loop);

/* True when every worker's thread has left loop_run(). */
bool loop_is_stopped(const struct loop *loop);

/* Hand a matcher to all workers and wait until each uses it.  0: nobody touches an earlier one any
 * more.  -ETIMEDOUT: a worker did not come within LOOP_DEAD_MS; neither matcher may be freed.
 */
int loop_publish(struct loop *loop, const struct matcher *matcher);

/* The same for SAs. */
int loop_publish_sas(struct loop *loop, const struct sa_table *sas);

/* Call every tick_ms or so.  0, or -EDEADLK and a sentence: a worker stands still and cannot be
 * restarted without harm, so the process has to end.
 */
int loop_watch(struct loop *loop, unsigned tick_ms, struct error *err);

#endif
