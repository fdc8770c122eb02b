/* store.c - opening and closing the circular store.
 *
 * There are enough places that what stays always fills MaxFileSize, and besides, in a durable store, as
 * many as are written between two commits, so that no segment that the last commit names is written over:
 * see live_places_for() and spare_places_for().
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

void store_start_segment(struct store *s, uint64_t sequence)
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
	s->stage_bytes = STORE_STAGE_BYTES;
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
	store_start_segment(s, 0);
	if (check_room(s, store_disk_bytes(settings->file_bytes_max, settings->snap_bytes), err) !=
		    0 ||
	    (settings->is_durable && index_create(s, err) != 0) ||
	    create_file(s, (uint64_t)n_places * s->segment_bytes, err) != 0) {
		store_close(s);
		return NULL;
	}
	store_map(s);
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
	store_unmap(s);
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
