/* ring_pair.h - a ring with both its ends, as two processes would have them.
 *
 * Memory: ring_pair_open() maps and allocates; `start` is where both counts begin (wrap at 2^64).
 */
#ifndef GATECAP_TESTS_RING_PAIR_H
#define GATECAP_TESTS_RING_PAIR_H

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dataplane/record.h"
#include "dataplane/shared.h"

struct ring_pair {
	struct worker_shared *shared;
	struct ring_tail *tail;
	uint8_t *data;
	uint64_t size;
	struct ring_writer writer;
	struct ring_reader reader;
};

static inline void ring_pair_open(struct ring_pair *p, uint64_t size, uint64_t start)
{
	int fd = memfd_create("ring_pair", MFD_CLOEXEC);

	p->size = size;
	p->shared = aligned_alloc(SHARED_PAGE_BYTES, (sizeof(*p->shared) + SHARED_PAGE_BYTES - 1) /
							     SHARED_PAGE_BYTES * SHARED_PAGE_BYTES);
	p->tail = aligned_alloc(sizeof(*p->tail), sizeof(*p->tail));
	if (fd < 0 || ftruncate(fd, (off_t)size) != 0 || p->shared == NULL || p->tail == NULL)
		abort();
	p->data = ring_map(fd, 0, size, PROT_READ | PROT_WRITE);
	(void)close(fd);
	if (p->data == NULL)
		abort();
	memset(p->shared, 0, sizeof(*p->shared));
	memset(p->tail, 0, sizeof(*p->tail));
	atomic_store(&p->shared->ring.head, start);
	atomic_store(&p->tail->tail, start);
	ring_writer_init(&p->writer, p->data, size, &p->shared->ring, p->tail);
	ring_reader_init(&p->reader, p->data, size, &p->shared->ring, p->tail);
}

static inline void ring_pair_close(struct ring_pair *p)
{
	ring_unmap(p->data, p->size);
	free(p->shared);
	free(p->tail);
}

/* Push one record by hand, its frame filled with `fill`.  False when full. */
static inline bool ring_pair_push(struct ring_pair *p, const struct record *record, uint8_t fill)
{
	uint64_t bytes = record_bytes(record->caplen);
	uint8_t *at = ring_reserve(&p->writer, bytes);

	if (at == NULL)
		return false;
	memcpy(at, record, sizeof(*record));
	memset(at + sizeof(*record), fill, record->caplen);
	ring_advance(&p->writer, bytes);
	p->writer.n_late += record->flags & RECORD_LATE;
	return true;
}

#endif
