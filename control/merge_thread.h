/* merge_thread.h - the thread that merges and stores.
 *
 * Threads: merge_thread_* are the event loop's.
 * Commits: every 10 ms at the latest, and when the merger says that one is due.
 * Idle:    it sleeps 200 us when the rings had nothing.
 */
#ifndef GATECAP_CONTROL_MERGE_THREAD_H
#define GATECAP_CONTROL_MERGE_THREAD_H

#include "control/merge.h"

struct merge_thread;

/* Gives a running thread that merges with `merger` (borrowed until stopped), or NULL.  sync_ms: how often
 * a second thread makes the stores survive a power loss; 0: never.
 */
struct merge_thread *merge_thread_start(struct merger *merger, unsigned sync_ms);

/* Ends the threads after their step; what was merged is committed then. */
void merge_thread_stop(struct merge_thread *thread);

#endif
