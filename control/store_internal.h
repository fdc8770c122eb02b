/* store_internal.h - what the files store*.c share.  Nobody else.
 *
 *   store.c           opening, closing
 *   store_append.c    filling
 *   store_map.c       the data file as memory
 *   store_index.c     the index on disk: commits and syncs
 *   store_recover.c   opening what a crash has left
 *   store_view.c      reading
 */
#ifndef GATECAP_CONTROL_STORE_INTERNAL_H
#define GATECAP_CONTROL_STORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "control/store.h"

/* One live segment.  `place` is where it lies in the file: place * segment_bytes. */
struct segment {
	uint64_t
		sequence; // of its first use; ascending without gaps among those of a running store
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

/* The index file: struct index_header in a block of its own, then four slots of slot_bytes.  Commits
 * take the first two in turn, syncs the other two, so that a write that a crash tears leaves one whole.
 */
#define INDEX_MAGIC "gcindex" /* with its zero byte: eight */
enum { INDEX_VERSION = 1, INDEX_BLOCK_BYTES = 4096, INDEX_SLOTS = 4, INDEX_SLOTS_COMMIT = 2 };

struct index_header {
	uint64_t checksum; // XXH3 of what follows
	char magic[8];
	uint32_t version, segment_bytes;
	uint32_t n_places, n_live_max;
	uint32_t snap_bytes, timestamps;
	uint64_t file_bytes_max;
	int64_t wall_offset_ns;
};

/* A slot: this, then n_live struct index_segment, oldest first. */
struct index_commit {
	uint64_t checksum; // XXH3 of what follows, the segments included
	uint64_t number;   // of the commit, ascending from 1
	uint64_t first_sequence;
	uint32_t n_live, reserved;
	uint64_t evicted[PORTS_MAX], lost_disk[PORTS_MAX];
	uint64_t lost_first_ns, lost_last_ns;
	struct store_mark mark;
};

struct index_segment {
	uint64_t first_ns, last_ns;
	uint64_t checksum; // XXH3 of its used bytes; 0: not known, as in a commit
	uint32_t used_bytes, reserved;
	uint32_t records[PORTS_MAX];
};

static_assert(sizeof(struct index_header) == 56 && sizeof(struct index_header) <= INDEX_BLOCK_BYTES,
	      "on disk");
static_assert(sizeof(struct index_commit) == 840, "on disk");
static_assert(sizeof(struct index_segment) == 96, "on disk");

/* A segment whose bytes were read and summed. */
struct summed {
	uint64_t sequence, checksum;
	uint32_t used_bytes; // 0: none
};

struct store {
	_Atomic unsigned n_users;
	_Atomic bool is_kept;
	pthread_mutex_t lock;
	pthread_mutex_t sync_lock;  // held for the length of a sync: they take their slots in turn
	_Atomic unsigned n_waiting; // for the lock, the writer's thread not counted
	struct store_settings settings; // name and dir_fd are not kept
	int dir_fd, fd;
	char *data_name;
	uint32_t segment_bytes, n_live_max;
	struct segment_index index;
	uint64_t evicted[PORTS_MAX], lost_disk[PORTS_MAX];
	uint64_t lost_first_ns, lost_last_ns;

	/* The data file, when it lies in memory; NULL: it is written by pwrite(). */
	uint8_t *map;
	size_t map_bytes;

	/* Appended but not written: the tail of the newest segment. */
	uint32_t stage_bytes; // written when there are so many; a longer record alone
	uint32_t staged_bytes;
	uint32_t staged_records[PORTS_MAX];
	uint64_t staged_first_ns;
	uint64_t written_last_ns; // last_ns of the newest segment without what is staged
	uint8_t *stage;

	/* The index file; without is_durable: none of it. */
	int index_fd;
	char *index_name;
	uint64_t n_commits; // numbers given
	unsigned commit_slot, sync_slot;
	uint64_t committed_first; // sequences from this on are not written over
	uint8_t *image;		  // of the last commit, image_bytes of slot_bytes
	uint32_t image_bytes, slot_bytes;
	bool is_suspended; // the disk refused: records are lost until the next commit
	_Atomic int disk_error, sync_error;
	struct summed *summed; // by place; under sync_lock
};

static_assert(offsetof(struct store, index) - offsetof(struct store, n_waiting) >= 64,
	      "who waits for the lock writes no line that each append writes");

/* pwrite() until all n bytes are written.  0, or -errno. */
int store_write_at(int fd, const uint8_t *from, size_t n, off_t at);

/* pread() until all n bytes are read.  0, or -errno; -EIO behind the end. */
int store_read_at(int fd, uint8_t *to, size_t n, off_t at);

/* Map the data file, if that is safe and of use; then it is written by store_write_mapped(). */
void store_map(struct store *store);
void store_unmap(struct store *store);

/* 0, or -EIO: behind the end. */
int store_write_mapped(struct store *store, const uint8_t *from, size_t n, off_t at);

/* Begin the next segment, in the place that its sequence says. */
void store_start_segment(struct store *store, uint64_t sequence);

/* Bytes of a slot, and of the whole index file. */
uint32_t index_slot_bytes(uint32_t n_places);
uint64_t index_file_bytes(uint32_t n_places);

/* Create the index file, with a first commit of the empty store.  0, or -errno and a sentence. */
int index_create(struct store *store, struct error *err);

/* Memory for a store of segment_bytes and n_places; files and settings are the caller's to add. */
struct store *store_new(const struct store_settings *settings, uint32_t segment_bytes,
			uint32_t n_places, uint32_t n_live_max);

static inline struct segment *segment_at(const struct segment_index *index, uint32_t i)
{
	return &index->ring[(index->first + i) % index->n_places];
}

static inline off_t segment_offset(uint32_t segment_bytes, const struct segment *segment)
{
	return (off_t)((uint64_t)segment->place * segment_bytes);
}

#endif
