/* ring.c - the slow sides of ring.h: mapping, starting, looking for room again.
 *
 * Why bytes and not slots: records are 24 bytes to 64 KiB; slots for the longest would waste the
 * cache that the short ones live in.
 * Why a double mapping: a record that wraps would need a second copy path in both processes; the
 * page tables do it for nothing (2 x size of address space, no memory).
 */
#include "dataplane/ring.h"

#include <assert.h>
#include <sys/mman.h>

uint8_t *ring_map(int fd, uint64_t offset, uint64_t size, int prot)
{
	uint8_t *base = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (base == MAP_FAILED)
		return NULL;
	for (unsigned half = 0; half < 2; half++) {
		void *want = base + half * size;

		if (mmap(want, size, prot, MAP_SHARED | MAP_FIXED, fd, (off_t)offset) != want) {
			(void)munmap(base, 2 * size);
			return NULL;
		}
	}
	return base;
}

void ring_unmap(const uint8_t *data, uint64_t size)
{
	if (data != NULL)
		(void)munmap((void *)(uintptr_t)data, 2 * size);
}

void ring_writer_init(struct ring_writer *ring, uint8_t *data, uint64_t size,
		      struct ring_head *shared, const struct ring_tail *tail_shared)
{
	assert(size > 0 && (size & (size - 1)) == 0);
	*ring = (struct ring_writer){
		.data = data,
		.size = size,
		.mask = size - 1,
		.head = atomic_load_explicit(&shared->head, memory_order_relaxed),
		.n_late = atomic_load_explicit(&shared->n_late, memory_order_relaxed),
		.shared = shared,
		.tail_shared = tail_shared,
	};
	ring->tail = ring->head - size; // full until a tail has been read
}

void ring_reader_init(struct ring_reader *ring, const uint8_t *data, uint64_t size,
		      const struct ring_head *shared, struct ring_tail *tail_shared)
{
	assert(size > 0 && (size & (size - 1)) == 0);
	*ring = (struct ring_reader){
		.data = data,
		.size = size,
		.mask = size - 1,
		.tail = atomic_load_explicit(&tail_shared->tail, memory_order_relaxed),
		.n_late = atomic_load_explicit(&tail_shared->n_late, memory_order_relaxed),
		.shared = shared,
		.tail_shared = tail_shared,
	};
}

bool ring_reload_tail(struct ring_writer *ring, uint64_t n)
{
	// C3 pairs with P3 in ring_release(): the reader is done with what lies before the tail.
	uint64_t tail = atomic_load_explicit(&ring->tail_shared->tail, memory_order_acquire);

	// A tail beyond the head, or further back than the ring is long, is a lie: no room.
	if (ring->head - tail > ring->size)
		return false;
	ring->tail = tail;
	return ring->head + n - tail <= ring->size;
}

bool ring_is_half_full(struct ring_writer *ring)
{
	return !ring_reload_tail(ring, ring->size / 2);
}
