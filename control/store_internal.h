/* store_internal.h - what store.c (writing) and store_view.c (reading) share.  Nobody else. */
#ifndef GATECAP_CONTROL_STORE_INTERNAL_H
#define GATECAP_CONTROL_STORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "control/store.h"

/* One live segment.  `place` is where it lies in the file: place * segment_bytes. */
struct segment {
	uint64_t sequence; // of its first use; ascending without gaps among the live ones
	uint64_t first_ns, last_ns;
	uint32_t place, used_bytes;
	uint32_t records[PORTS_MAX];
};

/* Segments oldest first, in a ring: index (first + i) % n_places. */
struct segment_index {
	struct segment *ring;
	uint32_t n_places;
	uint32_t first, n_live; // the newest live one is being filled
	uint64_t live_bytes;	// sum of used_bytes
};

struct store {
	_Atomic unsigned n_users;
	pthread_mutex_t lock;
	_Atomic unsigned n_waiting;	// for the lock, the merge thread not counted
	struct store_settings settings; // name and dir_fd are not kept
	int dir_fd, fd;
	char *name;
	uint32_t segment_bytes;
	struct segment_index index;
	uint64_t evicted[PORTS_MAX], lost_disk[PORTS_MAX];
	uint64_t lost_first_ns, lost_last_ns;

	/* Appended but not written: the tail of the newest segment. */
	uint32_t staged_bytes;
	uint32_t staged_records[PORTS_MAX];
	uint64_t staged_first_ns;
	uint64_t written_last_ns; // last_ns of the newest segment without what is staged
	uint8_t *stage;
};

/* pwrite() until all n bytes are written.  0, or -errno. */
int store_write_at(int fd, const uint8_t *from, size_t n, off_t at);

static inline struct segment *segment_at(const struct segment_index *index, uint32_t i)
{
	return &index->ring[(index->first + i) % index->n_places];
}

#endif
