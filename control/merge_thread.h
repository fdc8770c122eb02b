/* merge_thread.h - the threads that merge and store: one for each writer of the merger.
 *
 * Threads: merge_thread_* are the event loop's.
 * Commits: each its own, every 10 ms at the latest, and when the merger says that one is due.
 * Idle:    it sleeps 200 us when the rings had nothing, and altogether while it has no store to fill.
 */
#ifndef GATECAP_CONTROL_MERGE_THREAD_H
#define GATECAP_CONTROL_MERGE_THREAD_H

#include "control/merge.h"

struct merge_thread;

/* Gives running threads that merge with `merger` (borrowed until stopped), or NULL.  sync_ms: how often
 * one more makes the stores survive a power loss; 0: never.
 */
struct merge_thread *merge_thread_start(struct merger *merger, unsigned sync_ms);

/* Ends the threads after their step; what was merged is committed then. */
void merge_thread_stop(struct merge_thread *thread);

#endif
