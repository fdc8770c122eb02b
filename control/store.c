/* store.c - filling the circular store.
 *
 * A record is copied into a staging buffer that stays in the cache and is written when it is full, or
 * when there is nothing else to do; so the page cache sees few, large writes.  (Writing through a
 * mapping was a quarter slower on the prototype: page faults; an iovec a record: slower than the copy.)
 * When a segment is full the next place is taken; when no place is free the oldest segment goes, whole.
 * There are enough places that what stays always fills MaxFileSize, and besides, in a durable store, as
 * many as are written between two commits, so that no segment that the last commit names is written over:
 * see live_places_for() and spare_places_for().
 * Disk: what could not be written is lost, whole, and so is what comes before the next commit, which
 * tries again: a disk that is full is asked a hundred times a second, not once for every 128 KiB.
 */
#include "control/store.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "control/store_internal.h"
#include "dataplane/costs.h"

static_assert(offsetof(struct stored, wire_len) == 8 && offsetof(struct stored, caplen) == 12 &&
		      offsetof(struct stored, port) == 14 &&
		      __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	      "store_append() writes it as two words");
static_assert(STORE_STAGE_BYTES >= SNAP_BYTES_MAX + (int)sizeof(struct stored), "a record fits");

enum { SEGMENT_BYTES_MAX = 1 << 20, SEGMENTS_MIN = 16 };

static uint32_t record_max(uint32_t snap_bytes)
{
	return snap_bytes + (uint32_t)sizeof(struct stored);
}

static uint32_t segment_bytes_for(uint64_t file_bytes_max, uint32_t snap_bytes)
{
	uint64_t bytes = file_bytes_max / SEGMENTS_MIN;

	if (bytes > SEGMENT_BYTES_MAX)
		bytes = SEGMENT_BYTES_MAX;
	return bytes > record_max(snap_bytes) ? (uint32_t)bytes : record_max(snap_bytes);
}

/* Full segments may end short by one record; two in a row hold more than one segment. */
static uint32_t filled_bytes(uint32_t segment_bytes, uint32_t snap_bytes)
{
	uint32_t filled = segment_bytes - record_max(snap_bytes) + 1;

	return filled < segment_bytes / 2 ? segment_bytes / 2 : filled;
}

/* All but the newest must fill MaxFileSize, and one place is spare. */
static uint32_t live_places_for(uint64_t file_bytes_max, uint32_t snap_bytes)
{
	uint32_t filled = filled_bytes(segment_bytes_for(file_bytes_max, snap_bytes), snap_bytes);

	return (uint32_t)((file_bytes_max + filled - 1) / filled) + 3;
}

/* What is appended between two commits, begun segments and one record too many included. */
static uint32_t spare_places_for(uint64_t file_bytes_max, uint32_t snap_bytes)
{
	uint32_t filled = filled_bytes(segment_bytes_for(file_bytes_max, snap_bytes), snap_bytes);

	return (STORE_COMMIT_BYTES + record_max(SNAP_BYTES_MAX)) / filled + 2;
}

uint64_t store_disk_bytes(uint64_t file_bytes_max, uint32_t snap_bytes)
{
	uint32_t n_places = live_places_for(file_bytes_max, snap_bytes) +
			    spare_places_for(file_bytes_max, snap_bytes);

	return (uint64_t)n_places * segment_bytes_for(file_bytes_max, snap_bytes) +
	       index_file_bytes(n_places);
}

/* Is there room for so many bytes?  Said before anything is made. */
static int check_room(const struct store *s, uint64_t bytes, struct error *err)
{
	struct statvfs vfs;

	if (!s->settings.reserve || fstatvfs(s->dir_fd, &vfs) != 0 ||
	    (uint64_t)vfs.f_bavail * vfs.f_frsize >= bytes)
		return 0;
	error_set(err,
		  "The state folder has %llu MB free and this capture needs %llu MB: free some "
		  "space, or choose a smaller MaxFileSize.",
		  (unsigned long long)((uint64_t)vfs.f_bavail * vfs.f_frsize / FILE_MB_BYTES),
		  (unsigned long long)(bytes / FILE_MB_BYTES + 1));
	return -ENOSPC;
}

/* Create the file and reserve its room. */
static int create_file(struct store *s, uint64_t bytes, struct error *err)
{
	int rc;

	s->fd = openat(s->dir_fd, s->data_name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
		       0600);
	if (s->fd < 0) {
		rc = -errno;
		error_set(err, "The data file %s could not be made in the state folder: %s.",
			  s->data_name, strerror(errno));
		return rc;
	}
	rc = s->settings.reserve ? posix_fallocate(s->fd, 0, (off_t)bytes) : 0;
	if (rc != 0) {
		error_set(
			err,
			"%llu MB could not be reserved in the state folder: %s; free some space, or "
			"choose a smaller MaxFileSize.",
			(unsigned long long)(bytes / FILE_MB_BYTES + 1), strerror(rc));
		return -rc;
	}
	return 0;
}

static void start_segment(struct store *s, uint64_t sequence)
{
	struct segment *segment = segment_at(&s->index, s->index.n_live++);

	*segment = (struct segment){.sequence = sequence,
				    .place = (uint32_t)(sequence % s->index.n_places)};
}

static char *file_name(const struct store_settings *settings, const char *ending)
{
	char *name = NULL;

	if (asprintf(&name, "%s%s", settings->name, settings->is_durable ? ending : "") < 0)
		return NULL;
	return name;
}

struct store *store_new(const struct store_settings *settings, uint32_t segment_bytes,
			uint32_t n_places, uint32_t n_live_max)
{
	struct store *s = calloc(1, sizeof(*s));
	bool ok;

	if (s == NULL)
		return NULL;
	s->fd = s->index_fd = -1;
	atomic_init(&s->n_users, 1);
	(void)pthread_mutex_init(&s->lock, NULL);
	(void)pthread_mutex_init(&s->sync_lock, NULL);
	s->settings = *settings;
	s->settings.name = NULL;
	s->segment_bytes = segment_bytes;
	s->n_live_max = n_live_max;
	s->sync_slot = INDEX_SLOTS_COMMIT;
	s->index.n_places = n_places;
	s->index.ring = calloc(n_places, sizeof(*s->index.ring));
	s->stage = aligned_alloc(64, STORE_STAGE_BYTES);
	s->data_name = file_name(settings, ".data");
	s->dir_fd = dup(settings->dir_fd);
	ok = s->index.ring != NULL && s->stage != NULL && s->data_name != NULL && s->dir_fd >= 0;
	if (ok && settings->is_durable) {
		s->slot_bytes = index_slot_bytes(n_places);
		s->index_name = file_name(settings, ".index");
		s->image = malloc(s->slot_bytes);
		s->summed = calloc(n_places, sizeof(*s->summed));
		ok = s->index_name != NULL && s->image != NULL && s->summed != NULL;
	}
	if (ok)
		return s;
	store_close(s);
	return NULL;
}

struct store *store_open(const struct store_settings *settings, struct error *err)
{
	uint32_t n_live = live_places_for(settings->file_bytes_max, settings->snap_bytes);
	uint32_t n_places = n_live;
	struct store *s;

	if (settings->is_durable)
		n_places += spare_places_for(settings->file_bytes_max, settings->snap_bytes);
	s = store_new(settings, segment_bytes_for(settings->file_bytes_max, settings->snap_bytes),
		      n_places, n_live);
	if (s == NULL) {
		error_set(err, "The capture could not start: out of memory, or of descriptors.");
		return NULL;
	}
	start_segment(s, 0);
	if (check_room(s, store_disk_bytes(settings->file_bytes_max, settings->snap_bytes), err) !=
		    0 ||
	    (settings->is_durable && index_create(s, err) != 0) ||
	    create_file(s, (uint64_t)n_places * s->segment_bytes, err) != 0) {
		store_close(s);
		return NULL;
	}
	return s;
}

void store_hold(struct store *s)
{
	atomic_fetch_add_explicit(&s->n_users, 1, memory_order_relaxed);
}

void store_keep(struct store *s)
{
	atomic_store_explicit(&s->is_kept, true, memory_order_relaxed);
}

/* The descriptor says that the file is ours to delete: it is open only if we made or resumed it. */
static void close_file(const struct store *s, int fd, const char *name)
{
	if (fd < 0)
		return;
	(void)close(fd);
	if (!s->is_kept)
		(void)unlinkat(s->dir_fd, name, 0);
}

void store_close(struct store *s)
{
	// acq_rel: whoever frees sees all that the others did.
	if (s == NULL || atomic_fetch_sub_explicit(&s->n_users, 1, memory_order_acq_rel) > 1)
		return;
	// The index last: store_remove() finds the data of a close that a crash cut short by it.
	close_file(s, s->fd, s->data_name);
	close_file(s, s->index_fd, s->index_name);
	if (s->dir_fd >= 0)
		(void)close(s->dir_fd);
	(void)pthread_mutex_destroy(&s->lock);
	(void)pthread_mutex_destroy(&s->sync_lock);
	free(s->summed);
	free(s->image);
	free(s->index_name);
	free(s->index.ring);
	free(s->stage);
	free(s->data_name);
	free(s);
}

void store_lock(struct store *s)
{
	atomic_fetch_add_explicit(&s->n_waiting, 1, memory_order_relaxed);
	(void)pthread_mutex_lock(&s->lock);
	atomic_fetch_sub_explicit(&s->n_waiting, 1, memory_order_relaxed);
}

void store_lock_for_append(struct store *s)
{
	// A mutex is not fair: without this, whoever asks for a count would starve under load.  No limit:
	// a waiter may need long to wake on a busy machine, and holds the lock only shortly then.
	while (atomic_load_explicit(&s->n_waiting, memory_order_relaxed) > 0)
		(void)sched_yield();
	(void)pthread_mutex_lock(&s->lock);
}

void store_unlock(struct store *s)
{
	(void)pthread_mutex_unlock(&s->lock);
}

/* From record time a to b, records of a port were lost. */
static void note_loss(struct store *s, uint64_t first_ns, uint64_t last_ns)
{
	if (s->lost_first_ns == 0)
		s->lost_first_ns = first_ns;
	s->lost_last_ns = last_ns;
}

/* Take the staged records out of the books again: they could not be written. */
static void lose_staged(struct store *s, struct segment *segment)
{
	for (unsigned port = 0; port < PORTS_MAX; port++) {
		segment->records[port] -= s->staged_records[port];
		s->lost_disk[port] += s->staged_records[port];
	}
	segment->used_bytes -= s->staged_bytes;
	s->index.live_bytes -= s->staged_bytes;
	note_loss(s, s->staged_first_ns, segment->last_ns);
	segment->last_ns = s->written_last_ns;
}

int store_write_at(int fd, const uint8_t *from, size_t n, off_t at)
{
	while (n > 0) {
		ssize_t done = pwrite(fd, from, n, at);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? -errno : -EIO;
		from += done;
		at += done;
		n -= (size_t)done;
	}
	return 0;
}

int store_read_at(int fd, uint8_t *to, size_t n, off_t at)
{
	while (n > 0) {
		ssize_t done = pread(fd, to, n, at);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? -errno : -EIO;
		to += done;
		at += done;
		n -= (size_t)done;
	}
	return 0;
}

static void write_staged(struct store *s)
{
	struct segment *segment = segment_at(&s->index, s->index.n_live - 1);
	off_t at =
		segment_offset(s->segment_bytes, segment) + segment->used_bytes - s->staged_bytes;
	int rc;

	costs_end(COST_STORE);
	rc = store_write_at(s->fd, s->stage, s->staged_bytes, at);
	costs_end(COST_WRITE);
	if (rc != 0) {
		lose_staged(s, segment);
		s->is_suspended = s->index_fd >= 0;
	}
	atomic_store_explicit(&s->disk_error, -rc, memory_order_relaxed);
	s->written_last_ns = segment->last_ns;
	s->staged_bytes = 0;
	memset(s->staged_records, 0, sizeof(s->staged_records));
}

void store_flush(struct store *s)
{
	s->is_suspended = false;
	if (s->staged_bytes > 0)
		write_staged(s);
}

/* The newest segment is full: go on in a free place, or in the oldest segment's.  False: the disk refused,
 * or that place is the last commit's, and no commit has succeeded since.
 */
static bool next_segment(struct store *s)
{
	struct segment_index *index = &s->index;
	uint64_t sequence = segment_at(index, index->n_live - 1)->sequence + 1;

	if (s->staged_bytes > 0)
		write_staged(s);
	if (s->is_suspended)
		return false;
	if (s->index_fd >= 0 && sequence >= s->committed_first + index->n_places)
		return false;
	if (index->n_live == s->n_live_max) {
		struct segment *oldest = segment_at(index, 0);

		for (unsigned port = 0; port < PORTS_MAX; port++)
			s->evicted[port] += oldest->records[port];
		index->live_bytes -= oldest->used_bytes;
		index->first = (index->first + 1) % index->n_places;
		index->n_live--;
	}
	start_segment(s, sequence);
	return true;
}

/* Is there room for so many bytes?  False: the record is lost, and counted. */
static bool make_room(struct store *s, const struct record *record, uint32_t bytes)
{
	const struct segment *segment = segment_at(&s->index, s->index.n_live - 1);

	if (!s->is_suspended && segment->used_bytes + bytes > s->segment_bytes)
		s->is_suspended = !next_segment(s);
	if (!s->is_suspended && s->staged_bytes + bytes > STORE_STAGE_BYTES)
		write_staged(s);
	if (!s->is_suspended)
		return true;
	s->lost_disk[record->port % PORTS_MAX]++;
	note_loss(s, record->time_ns, record->time_ns);
	return false;
}

void store_append(struct store *s, const struct record *record, const uint8_t *frame)
{
	uint32_t caplen =
		record->caplen < s->settings.snap_bytes ? record->caplen : s->settings.snap_bytes;
	uint32_t bytes = caplen + (uint32_t)sizeof(struct stored);
	struct segment *segment = segment_at(&s->index, s->index.n_live - 1);
	unsigned port = record->port % PORTS_MAX;
	const uint64_t header[2] = {record->time_ns, record->wire_len | (uint64_t)caplen << 32 |
							     (uint64_t)port << 48};
	uint8_t *at;

	if (__builtin_expect(segment->used_bytes + bytes > s->segment_bytes ||
				     s->staged_bytes + bytes > STORE_STAGE_BYTES || s->is_suspended,
			     0)) {
		if (!make_room(s, record, bytes))
			return;
		segment = segment_at(&s->index, s->index.n_live - 1);
	}
	if (s->staged_bytes == 0)
		s->staged_first_ns = record->time_ns;
	if (segment->used_bytes == 0)
		segment->first_ns = record->time_ns;
	// struct stored as two words: copied from its narrow fields it would wait for each of them.
	at = s->stage + s->staged_bytes;
	memcpy(at, header, sizeof(header));
	record_copy(at + sizeof(header), frame, caplen);
	s->staged_bytes += bytes;
	s->staged_records[port]++;
	segment->used_bytes += bytes;
	segment->records[port]++;
	segment->last_ns = record->time_ns;
	s->index.live_bytes += bytes;
}
