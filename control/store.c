/* store.c - filling the circular store.
 *
 * A record is copied into a staging buffer that stays in the cache and is written when it is full, or
 * when there is nothing else to do; so the page cache sees few, large writes.  (Writing through a
 * mapping was a quarter slower on the prototype: page faults; an iovec a record: slower than the copy.)
 * When a segment is full the next place is taken; when no place is free the oldest segment goes, whole.
 * There are enough places that what stays always fills MaxFileSize: see places_for().
 */
#include "control/store.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "control/store_internal.h"

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

/* Full segments may end short by one record; two in a row hold more than one segment.  All but the
 * newest must fill MaxFileSize, and one place is spare.
 */
static uint32_t places_for(uint64_t file_bytes_max, uint32_t snap_bytes)
{
	uint32_t segment = segment_bytes_for(file_bytes_max, snap_bytes);
	uint32_t filled = segment - record_max(snap_bytes) + 1;

	if (filled < segment / 2)
		filled = segment / 2;
	return (uint32_t)((file_bytes_max + filled - 1) / filled) + 3;
}

uint64_t store_disk_bytes(uint64_t file_bytes_max, uint32_t snap_bytes)
{
	return (uint64_t)places_for(file_bytes_max, snap_bytes) *
	       segment_bytes_for(file_bytes_max, snap_bytes);
}

/* Create the file and reserve its room. */
static int create_file(struct store *s, uint64_t bytes, struct error *err)
{
	struct statvfs vfs;
	int rc;

	if (s->settings.reserve && fstatvfs(s->dir_fd, &vfs) == 0 &&
	    (uint64_t)vfs.f_bavail * vfs.f_frsize < bytes) {
		error_set(
			err,
			"The state folder has %llu MB free and this capture needs %llu MB: free some "
			"space, or choose a smaller MaxFileSize.",
			(unsigned long long)((uint64_t)vfs.f_bavail * vfs.f_frsize / FILE_MB_BYTES),
			(unsigned long long)(bytes / FILE_MB_BYTES + 1));
		return -ENOSPC;
	}
	s->fd = openat(s->dir_fd, s->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
		       0600);
	if (s->fd < 0) {
		rc = -errno;
		error_set(err, "The data file %s could not be made in the state folder: %s.",
			  s->name, strerror(errno));
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

static void start_segment(struct store *s, uint64_t sequence, uint32_t place)
{
	struct segment *segment = segment_at(&s->index, s->index.n_live++);

	*segment = (struct segment){.sequence = sequence, .place = place};
}

struct store *store_open(const struct store_settings *settings, struct error *err)
{
	struct store *s = calloc(1, sizeof(*s));

	if (s == NULL)
		goto no_memory;
	s->fd = s->dir_fd = -1;
	atomic_init(&s->n_users, 1);
	s->settings = *settings;
	s->settings.name = NULL;
	s->segment_bytes = segment_bytes_for(settings->file_bytes_max, settings->snap_bytes);
	s->index.n_places = places_for(settings->file_bytes_max, settings->snap_bytes);
	s->index.ring = calloc(s->index.n_places, sizeof(*s->index.ring));
	s->stage = aligned_alloc(64, STORE_STAGE_BYTES);
	s->name = strdup(settings->name);
	s->dir_fd = dup(settings->dir_fd);
	(void)pthread_mutex_init(&s->lock, NULL);
	if (s->index.ring == NULL || s->stage == NULL || s->name == NULL || s->dir_fd < 0)
		goto no_memory;
	if (create_file(s, (uint64_t)s->index.n_places * s->segment_bytes, err) != 0) {
		store_close(s);
		return NULL;
	}
	start_segment(s, 0, 0);
	return s;
no_memory:
	error_set(err, "The capture could not start: out of memory.");
	store_close(s);
	return NULL;
}

void store_hold(struct store *s)
{
	atomic_fetch_add_explicit(&s->n_users, 1, memory_order_relaxed);
}

void store_close(struct store *s)
{
	// acq_rel: whoever frees sees all that the others did.
	if (s == NULL || atomic_fetch_sub_explicit(&s->n_users, 1, memory_order_acq_rel) > 1)
		return;
	if (s->fd >= 0) {
		(void)close(s->fd);
		(void)unlinkat(s->dir_fd, s->name, 0);
	}
	if (s->dir_fd >= 0)
		(void)close(s->dir_fd);
	(void)pthread_mutex_destroy(&s->lock);
	free(s->index.ring);
	free(s->stage);
	free(s->name);
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

/* Take the staged records out of the books again: they could not be written. */
static void lose_staged(struct store *s, struct segment *segment)
{
	for (unsigned port = 0; port < PORTS_MAX; port++) {
		segment->records[port] -= s->staged_records[port];
		s->lost_disk[port] += s->staged_records[port];
	}
	segment->used_bytes -= s->staged_bytes;
	s->index.live_bytes -= s->staged_bytes;
	if (s->lost_first_ns == 0)
		s->lost_first_ns = s->staged_first_ns;
	s->lost_last_ns = segment->last_ns;
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

void store_flush(struct store *s)
{
	struct segment *segment = segment_at(&s->index, s->index.n_live - 1);
	off_t at = (off_t)((uint64_t)segment->place * s->segment_bytes + segment->used_bytes -
			   s->staged_bytes);

	if (s->staged_bytes == 0)
		return;
	if (store_write_at(s->fd, s->stage, s->staged_bytes, at) != 0)
		lose_staged(s, segment);
	s->written_last_ns = segment->last_ns;
	s->staged_bytes = 0;
	memset(s->staged_records, 0, sizeof(s->staged_records));
}

/* The newest segment is full: go on in a free place, or in the oldest segment's. */
static void next_segment(struct store *s)
{
	struct segment_index *index = &s->index;
	uint64_t sequence = segment_at(index, index->n_live - 1)->sequence + 1;
	uint32_t place = index->n_live;

	store_flush(s);
	if (index->n_live == index->n_places) {
		struct segment *oldest = segment_at(index, 0);

		place = oldest->place;
		for (unsigned port = 0; port < PORTS_MAX; port++)
			s->evicted[port] += oldest->records[port];
		index->live_bytes -= oldest->used_bytes;
		index->first = (index->first + 1) % index->n_places;
		index->n_live--;
	}
	start_segment(s, sequence, place);
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

	if (__builtin_expect(segment->used_bytes + bytes > s->segment_bytes, 0)) {
		next_segment(s);
		segment = segment_at(&s->index, s->index.n_live - 1);
	}
	if (__builtin_expect(s->staged_bytes + bytes > STORE_STAGE_BYTES, 0))
		store_flush(s);
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
