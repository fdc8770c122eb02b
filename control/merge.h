/* merge.h - the workers' rings, brought into one order of time and dealt to the captures' stores.
 *
 * Flow:    ring (one a worker) -> each writer's step -> store_append_batch() of each of its captures
 * Writers: one, or up to WRITERS_MAX on as many cores.  Each reads all rings for itself and fills the
 *          stores that were given to it; a new store goes to the one with the fewest, and one without a
 *          store sleeps.  A ring's tail is what all who are awake have committed.
 * Threads: merge_writer_step() and _commit(): that writer's thread.  merge_step() and merge_commit(),
 *          which do it for all in turn: whoever is the only one.  merge_set_store(): any; when it returns
 *          the store that was there before is committed and not touched again.  merge_time_ns(): any.
 * Order:   by time; of one time: late ones as they were found, then by ring; within a ring as pushed.
 * Delay:   a record waits until every ring's watermark has passed its time: as long as the slowest
 *          worker's loop, about a millisecond, 10 ms with an af_packet: port; 1 s at the most while an
 *          OpenVPN flow is undecided.
 * Trust:   a record whose length or captures cannot be closes its ring: the rest of the ring is lost,
 *          counted in merge_corrupt().
 * Proof:   tests/test_merge.c (random rings against a sort), tests/test_merge_writers.c (several writers
 *          against one), tests/test_batch.c (with stores)
 */
#ifndef GATECAP_CONTROL_MERGE_H
#define GATECAP_CONTROL_MERGE_H

#include <stdbool.h>
#include <stdint.h>

#include "control/store.h"
#include "dataplane/ring.h"

enum { WRITERS_MAX = CAPTURES_MAX }; // more would have nothing to do

struct merger;

/* Gives a merger of n rings (copied), or NULL when memory is short.  epoch: whose rings, for the commits;
 * the dataplane's boot_id.  merge_open(): with one writer.
 */
struct merger *merge_open(const struct ring_reader *rings, unsigned n, uint64_t epoch);
struct merger *merge_open_writers(const struct ring_reader *rings, unsigned n, uint64_t epoch,
				  unsigned n_writers);
void merge_close(struct merger *merger);

/* Records for the capture slot go to `store` (borrowed) from now on; NULL: they are dropped.  Records
 * of generations before first_generation are of an earlier owner of the slot: dropped, too.
 */
void merge_set_store(struct merger *merger, unsigned slot, struct store *store,
		     uint64_t first_generation);

/* The same for a store that was filled from these rings before, before the first merge_step(): what its
 * mark covers is not dealt again.  False: the rings have been emptied past the mark, or are others, so
 * records are missing.
 */
bool merge_resume_store(struct merger *merger, unsigned slot, struct store *store,
			uint64_t first_generation, const struct store_mark *mark);

/* Merge what may be merged now, at most about `records_max` and about STORE_COMMIT_BYTES since the writer's
 * last commit.  Gives the number of records; 0: nothing, or a commit is due, or it sleeps.
 */
uint64_t merge_writer_step(struct merger *merger, unsigned writer, uint64_t records_max);

/* Commit the writer's stores, then give what all have committed back to the workers: in this order, so
 * that what a crash takes from the stores is in the rings still.
 */
void merge_writer_commit(struct merger *merger, unsigned writer);

/* Bytes merged since the last commit; and: a step does nothing before the next one.  Its thread. */
uint64_t merge_writer_uncommitted_bytes(const struct merger *merger, unsigned writer);
bool merge_writer_commit_is_due(const struct merger *merger, unsigned writer);

/* Wait while the writer sleeps and *is_stopping is false; whoever sets that calls merge_end_waits(). */
void merge_writer_wait(struct merger *merger, unsigned writer, const _Atomic bool *is_stopping);
void merge_end_waits(struct merger *merger);

/* The same for all writers, one after the other; records and bytes count once for each. */
uint64_t merge_step(struct merger *merger, uint64_t records_max);
void merge_commit(struct merger *merger);
uint64_t merge_uncommitted_bytes(const struct merger *merger);
bool merge_commit_is_due(const struct merger *merger); // of any
unsigned merge_n_writers(const struct merger *merger);

/* One more user for each store there is now, into out[CAPTURES_MAX]; gives their number.  Any thread. */
unsigned merge_hold_stores(struct merger *merger, struct store **out);

/* Everything before this time has been merged, by every writer that has a store.  0 again for a moment when
 * one wakes.
 */
uint64_t merge_time_ns(const struct merger *merger);

/* The workers are gone: merge to the rings' heads, whatever the watermarks say. */
void merge_ignore_watermarks(struct merger *merger);

/* Bytes that lie in the rings.  Reads beside the released tails: sleep between two calls. */
uint64_t merge_waiting_bytes(const struct merger *merger);

/* Rings given up because of impossible records. */
uint64_t merge_corrupt(const struct merger *merger);

#endif
