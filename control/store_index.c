/* store_index.c - the store's index on disk.
 *
 * A commit is one image of the whole index, written with one pwrite into the older of two slots: 10 KB at
 * MaxFileSize 100, 50 KB at 500, a few hundred a second at full load.  (A log of changes would be smaller
 * and would need its own recovery, its own compaction and its own bugs.)  A slot that could not be
 * written is written again by the next commit; the other one stays as it is until one has succeeded.
 * A sync takes the image of the last commit, whose data is written by then, adds the checksums of the
 * segments, and writes it into a slot that no commit touches, between an fdatasync() of the data and one of
 * the index.  Summing is the sync's, which reads the segments again: as they were written it cost the writer
 * 20 %, and in a file that wraps many times a second most of it was for nothing.  What the writer laps
 * meanwhile gets a wrong sum, and is not believed after a power loss: rightly so.
 * XXH3, because it is as fast as the memory that it reads; it keeps out accidents, nobody else.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "control/store_internal.h"

uint32_t index_slot_bytes(uint32_t n_places)
{
	size_t bytes = sizeof(struct index_commit) + n_places * sizeof(struct index_segment);

	return (uint32_t)((bytes + INDEX_BLOCK_BYTES - 1) / INDEX_BLOCK_BYTES * INDEX_BLOCK_BYTES);
}

uint64_t index_file_bytes(uint32_t n_places)
{
	return INDEX_BLOCK_BYTES + INDEX_SLOTS * (uint64_t)index_slot_bytes(n_places);
}

static off_t slot_offset(const struct store *s, unsigned slot)
{
	return (off_t)(INDEX_BLOCK_BYTES + (uint64_t)slot * s->slot_bytes);
}

static int write_header(const struct store *s)
{
	struct index_header h = {.magic = INDEX_MAGIC,
				 .version = INDEX_VERSION,
				 .segment_bytes = s->segment_bytes,
				 .n_places = s->index.n_places,
				 .n_live_max = s->n_live_max,
				 .snap_bytes = s->settings.snap_bytes,
				 .timestamps = s->settings.timestamps,
				 .file_bytes_max = s->settings.file_bytes_max,
				 .wall_offset_ns = s->settings.wall_offset_ns};

	h.checksum = XXH3_64bits(h.magic, sizeof(h) - sizeof(h.checksum));
	return store_write_at(s->index_fd, (const uint8_t *)&h, sizeof(h), 0);
}

static void seal_image(uint8_t *image, uint32_t bytes)
{
	uint64_t checksum = XXH3_64bits(image + sizeof(checksum), bytes - sizeof(checksum));

	memcpy(image, &checksum, sizeof(checksum));
}

/* The whole index as bytes, into s->image. */
static void build_image(struct store *s, const struct store_mark *mark)
{
	struct index_commit c = {.number = ++s->n_commits,
				 .first_sequence = segment_at(&s->index, 0)->sequence,
				 .n_live = s->index.n_live,
				 .lost_first_ns = s->lost_first_ns,
				 .lost_last_ns = s->lost_last_ns,
				 .mark = *mark};
	uint8_t *at = s->image + sizeof(c);

	memcpy(c.evicted, s->evicted, sizeof(c.evicted));
	memcpy(c.lost_disk, s->lost_disk, sizeof(c.lost_disk));
	for (uint32_t i = 0; i < s->index.n_live; i++) {
		const struct segment *live = segment_at(&s->index, i);
		struct index_segment segment = {.first_ns = live->first_ns,
						.last_ns = live->last_ns,
						.used_bytes = live->used_bytes};

		memcpy(segment.records, live->records, sizeof(segment.records));
		memcpy(at, &segment, sizeof(segment));
		at += sizeof(segment);
	}
	s->image_bytes = (uint32_t)(at - s->image);
	memcpy(s->image, &c, sizeof(c));
	seal_image(s->image, s->image_bytes);
}

int store_commit(struct store *s, const struct store_mark *mark)
{
	int rc;

	if (s->index_fd < 0)
		return 0;
	store_flush(s);
	build_image(s, mark);
	rc = store_write_at(s->index_fd, s->image, s->image_bytes, slot_offset(s, s->commit_slot));
	if (rc != 0 || !s->is_suspended)
		atomic_store_explicit(&s->disk_error, -rc, memory_order_relaxed);
	if (rc != 0)
		return rc;
	s->commit_slot = (s->commit_slot + 1) % INDEX_SLOTS_COMMIT;
	s->committed_first = segment_at(&s->index, 0)->sequence;
	return 0;
}

/* The checksum of a segment, read again unless it was read before.  0, or -errno. */
static int sum_segment(struct store *s, uint64_t sequence, struct index_segment *segment,
		       uint8_t *buf)
{
	uint32_t place = (uint32_t)(sequence % s->index.n_places);
	struct summed *summed = &s->summed[place];
	int rc;

	if (summed->sequence != sequence || summed->used_bytes != segment->used_bytes) {
		rc = store_read_at(s->fd, buf, segment->used_bytes,
				   (off_t)((uint64_t)place * s->segment_bytes));
		if (rc != 0)
			return rc;
		*summed = (struct summed){.sequence = sequence,
					  .checksum = XXH3_64bits(buf, segment->used_bytes),
					  .used_bytes = segment->used_bytes};
	}
	segment->checksum = summed->checksum;
	return 0;
}

static int sum_image(struct store *s, uint8_t *image, uint32_t bytes, uint8_t *buf)
{
	struct index_commit c;
	int rc = 0;

	memcpy(&c, image, sizeof(c));
	for (uint32_t i = 0; i < c.n_live && rc == 0; i++) {
		uint8_t *at = image + sizeof(c) + i * sizeof(struct index_segment);
		struct index_segment segment;

		memcpy(&segment, at, sizeof(segment));
		if (segment.used_bytes > 0)
			rc = sum_segment(s, c.first_sequence + i, &segment, buf);
		memcpy(at, &segment, sizeof(segment));
	}
	seal_image(image, bytes);
	return rc;
}

static int sync_image(struct store *s, uint8_t *image, uint8_t *buf)
{
	uint32_t bytes;
	int rc;

	store_lock(s);
	bytes = s->image_bytes;
	memcpy(image, s->image, bytes);
	store_unlock(s);
	rc = sum_image(s, image, bytes, buf);
	if (rc == 0 && fdatasync(s->fd) != 0)
		rc = -errno;
	if (rc == 0)
		rc = store_write_at(s->index_fd, image, bytes, slot_offset(s, s->sync_slot));
	if (rc == 0 && fdatasync(s->index_fd) != 0)
		rc = -errno;
	return rc;
}

int store_sync(struct store *s)
{
	uint8_t *image, *buf;
	int rc = -ENOMEM;

	if (s->index_fd < 0)
		return 0;
	image = malloc(s->slot_bytes);
	buf = malloc(s->segment_bytes);
	(void)pthread_mutex_lock(&s->sync_lock);
	if (image != NULL && buf != NULL)
		rc = sync_image(s, image, buf);
	if (rc == 0)
		s->sync_slot = s->sync_slot == INDEX_SLOTS_COMMIT ? INDEX_SLOTS_COMMIT + 1
								  : INDEX_SLOTS_COMMIT;
	(void)pthread_mutex_unlock(&s->sync_lock);
	atomic_store_explicit(&s->sync_error, -rc, memory_order_relaxed);
	free(image);
	free(buf);
	return rc;
}

int store_disk_error(const struct store *s)
{
	int error = atomic_load_explicit(&s->disk_error, memory_order_relaxed);

	return error != 0 ? error : atomic_load_explicit(&s->sync_error, memory_order_relaxed);
}

int index_create(struct store *s, struct error *err)
{
	const struct store_mark nothing = {0};
	int rc = 0;

	s->index_fd = openat(s->dir_fd, s->index_name,
			     O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->index_fd < 0)
		rc = -errno;
	else
		rc = -posix_fallocate(s->index_fd, 0, (off_t)index_file_bytes(s->index.n_places));
	if (rc == 0)
		rc = write_header(s);
	if (rc == 0)
		rc = store_commit(s, &nothing);
	// Before anybody says that there is a capture: without an index it would be lost with the power.
	if (rc == 0 && fdatasync(s->index_fd) != 0)
		rc = -errno;
	if (rc != 0)
		error_set(err, "The index file %s could not be made in the state folder: %s.",
			  s->index_name, strerror(-rc));
	return rc;
}
