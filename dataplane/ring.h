/* ring.h - carry captured records from one worker to the merger.
 *
 * Flow:     record.c -> ring -> control/merge.c
 * Threads:  struct ring_writer: the owning worker only.  struct ring_reader: the merger only.
 * Memory:   borrows `data` and both lines for life; never allocates, never frees.
 *           `data` is mapped twice in a row (ring_map), so that no record is ever split.
 * Units:    head and tail are free-running byte counts; offset = count & mask.
 * Publish:  the head once a burst, the tail once a merged batch.
 * Watermark: the time before which this worker will add nothing; published after the head that
 *           covers it, so whoever reads the watermark first and the head second misses nothing.
 * When full: ring_reserve says no and changes nothing; the caller counts it.
 * Trust:    the tail is written by the control process and is hostile: a tail that claims more free
 *           room than the ring has is taken as "full".
 * Proof:    tests/test_ring.c (two-thread stress, wrap at 2^64, lying tail)
 */
#ifndef GATECAP_DATAPLANE_RING_H
#define GATECAP_DATAPLANE_RING_H

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CACHE_LINE_BYTES = 64 };

/* Written by the worker, read by the merger. */
struct ring_head {
	alignas(2 * CACHE_LINE_BYTES) _Atomic uint64_t head; // bytes ever pushed
	_Atomic uint64_t watermark_ns;
	_Atomic uint64_t n_late; // records with RECORD_LATE ever pushed: none new, no look-ahead
};

/* Written by the merger, read by the worker: the only page that control may write. */
struct ring_tail {
	alignas(2 * CACHE_LINE_BYTES) _Atomic uint64_t tail; // bytes ever taken
	_Atomic uint64_t
		n_late; // late records among them, for the next merger; never read by the worker
};

static_assert(sizeof(struct ring_head) == 2 * CACHE_LINE_BYTES, "in shared memory");
static_assert(sizeof(struct ring_tail) == 2 * CACHE_LINE_BYTES, "in shared memory");

struct ring_writer {
	uint8_t *data;
	uint64_t size, mask; // size is a power of two
	uint64_t head;	     // private: ahead of shared->head within a burst
	uint64_t tail;	     // last tail seen
	uint64_t n_late;
	struct ring_head *shared;
	const struct ring_tail *tail_shared;
};

struct ring_reader {
	const uint8_t *data;
	uint64_t size, mask;
	uint64_t tail;	 // private: ahead of the published tail within a batch
	uint64_t n_late; // late records before it
	const struct ring_head *shared;
	struct ring_tail *tail_shared;
};

/* Map `size` bytes of fd from `offset` twice in a row.  prot as mmap.  Gives the address or NULL. */
uint8_t *ring_map(int fd, uint64_t offset, uint64_t size, int prot);
void ring_unmap(const uint8_t *data, uint64_t size);

/* Start (or go on) where the shared lines are. */
void ring_writer_init(struct ring_writer *ring, uint8_t *data, uint64_t size,
		      struct ring_head *shared, const struct ring_tail *tail_shared);
void ring_reader_init(struct ring_reader *ring, const uint8_t *data, uint64_t size,
		      const struct ring_head *shared, struct ring_tail *tail_shared);

/* Re-read the tail; true if n bytes fit now.  Kept out of line: the fast path rarely comes here. */
bool ring_reload_tail(struct ring_writer *ring, uint64_t n);

/* Room for n bytes (n <= size, a multiple of 8) at the head, or NULL: full. */
static inline uint8_t *ring_reserve(struct ring_writer *ring, uint64_t n)
{
	if (__builtin_expect(ring->head + n - ring->tail > ring->size, 0) &&
	    !ring_reload_tail(ring, n))
		return NULL;
	return ring->data + (ring->head & ring->mask);
}

/* Is more than half of it waiting for the merger?  Reads the tail: not for every packet. */
bool ring_is_half_full(struct ring_writer *ring);

static inline void ring_advance(struct ring_writer *ring, uint64_t n)
{
	ring->head += n;
}

/* Make all that was advanced over visible, then the watermark. */
static inline void ring_publish(struct ring_writer *ring, uint64_t watermark_ns)
{
	atomic_store_explicit(&ring->shared->n_late, ring->n_late, memory_order_relaxed);
	// P1 pairs with C1 in ring_available(): bytes and n_late are in place before head says so.
	atomic_store_explicit(&ring->shared->head, ring->head, memory_order_release);
	// P2 pairs with C2 in ring_watermark(): the head that covers it is visible before it is.
	atomic_store_explicit(&ring->shared->watermark_ns, watermark_ns, memory_order_release);
}

/* C2: read this before ring_available(). */
static inline uint64_t ring_watermark(const struct ring_reader *ring)
{
	return atomic_load_explicit(&ring->shared->watermark_ns, memory_order_acquire);
}

/* C1: how many bytes may be read from the private tail on. */
static inline uint64_t ring_available(const struct ring_reader *ring)
{
	return atomic_load_explicit(&ring->shared->head, memory_order_acquire) - ring->tail;
}

/* Give the bytes before `tail`, n_late late records among them, back to the worker. */
static inline void ring_release_to(struct ring_reader *ring, uint64_t tail, uint64_t n_late)
{
	// P3 pairs with C3 in ring_reload_tail(): our reads are done before the room is reused.
	atomic_store_explicit(&ring->tail_shared->tail, tail, memory_order_release);
	// Second: a count that is too small after a crash between the two only costs a few looks.
	atomic_store_explicit(&ring->tail_shared->n_late, n_late, memory_order_relaxed);
}

/* Give the bytes before the private tail back to the worker. */
static inline void ring_release(struct ring_reader *ring)
{
	ring_release_to(ring, ring->tail, ring->n_late);
}

#endif
