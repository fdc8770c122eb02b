/* merge_internal.h - what merge.c and merge_writers.c share.  Nobody else.
 *
 *   merge.c          one writer: order, dealing, one step
 *   merge_writers.c  all of them: who fills which store, commits, tails
 *
 * Locks: change_lock, then a writer's lock, then a store's, then tails_lock; each may be left out.
 */
#ifndef GATECAP_CONTROL_MERGE_INTERNAL_H
#define GATECAP_CONTROL_MERGE_INTERNAL_H

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>

#include "control/merge.h"

struct source {
	struct ring_reader ring;
	uint64_t end;	  // head as last read
	uint64_t resumed; // records before this may be in a store already
	uint64_t scanned; // late records before this are in the list
	uint64_t n_late;  // found so far, those before the first tail included
	bool is_closed;	  // gave an impossible record
};

struct late {
	const struct source *source;
	uint64_t at;	      // in its ring
	struct record record; // its frame follows
	uint8_t frame[];
};

/* A place in a ring, and the late records before it. */
struct ring_cut {
	uint64_t cursor, n_late;
};

/* Reads all rings with cursors of its own and fills some of the stores.  Its thread's, under `lock`;
 * whoever changes what it has to do takes the lock, too.
 */
struct merge_writer {
	struct source sources[WORKERS_MAX];
	unsigned n, number; // rings; its own, from 0
	struct merger *merger;
	pthread_mutex_t lock;	    // held for a step
	pthread_cond_t awoken;	    // it was given something to do
	_Atomic unsigned n_waiting; // for the lock, the writer's thread not counted
	struct store
		*stores[CAPTURES_MAX]; // NULL: not its, or nobody's; changed under change_lock, too
	uint16_t first_generation[CAPTURES_MAX];
	struct store_mark resumed[CAPTURES_MAX]; // what each store had already
	struct store_mark mark;			 // what was dealt; the cursors are the sources'
	uint64_t uncommitted_bytes, commit_bytes;
	struct late **late; // by time, oldest first
	unsigned n_late, n_late_allocated;
	_Atomic uint64_t merged_ns;
	struct ring_cut committed[WORKERS_MAX]; // its stores have all before it; under tails_lock
};

static_assert(offsetof(struct merge_writer, mark) - offsetof(struct merge_writer, n_waiting) >=
		      2 * CACHE_LINE_BYTES,
	      "who waits for the stores writes far from what the writer counts");

struct merger {
	struct ring_reader rings[WORKERS_MAX]; // their tails: what was released, under tails_lock
	unsigned n_rings, n_writers;
	struct merge_writer *writers[WRITERS_MAX]; // each on lines of its own
	pthread_mutex_t change_lock;		   // who fills which store
	pthread_mutex_t tails_lock;		   // what was committed, and released
	_Atomic unsigned awake;			   // a bit a writer; changed under all three locks
	_Atomic uint64_t closed;		   // a bit a ring that gave an impossible record
	_Atomic bool ignore_watermarks;
};

static_assert(WORKERS_MAX <= 64, "a bit a ring");

static inline bool merge_is_awake(const struct merge_writer *w)
{
	return atomic_load_explicit(&w->merger->awake, memory_order_relaxed) >> w->number & 1;
}

/* The lock for a step: whoever waits for it goes first.  The stores are locked, too. */
void merge_lock_stores(struct merge_writer *w);
void merge_unlock_stores(struct merge_writer *w);

/* Up to where ring i is dealt, and how many late records lie before that. */
struct ring_cut merge_cut_of(const struct merge_writer *w, unsigned i);

/* Begin where the rings' tails are now, whatever was read before.  Under both locks. */
void merge_begin_at_tails(struct merge_writer *w);

#endif
