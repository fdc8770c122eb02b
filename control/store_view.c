/* store_view.c - reading a store as a PCAP: trimmed to MaxFileSize, front to back, torn never.
 *
 * A view is a copy of the index and a file descriptor.  Of a finished store the descriptor is the data
 * file's own; of a running one it is an unlinked copy, made without holding the lock: a segment that the
 * writer lapped while it was read may be torn, and is dropped with all that is older.
 * Trimming: whole segments by their sizes, the rest of it record by record in one segment, so that the
 * PCAP is as long as it may be and not a byte longer.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/store_internal.h"

struct store_view {
	struct store_settings settings;
	uint32_t segment_bytes;
	struct segment_index index;
	int fd;
	bool owns_fd;
	uint32_t trim_bytes; // left out at the front of the first live segment
	struct store_counts counts;

	/* Reading. */
	bool header_read;
	uint32_t next_segment; // to be loaded
	uint8_t *buf;	       // one segment, already in PCAP form
	uint32_t buf_at, buf_end;
};

/* Load a segment's bytes as they are stored. */
static int load(const struct store_view *v, const struct segment *segment, uint8_t *to)
{
	return store_read_at(v->fd, to, segment->used_bytes,
			     segment_offset(v->segment_bytes, segment));
}

/* Is a record of `left` bytes possible?  The file may have been damaged by others. */
static bool fits(uint32_t left, const struct stored *stored)
{
	return left >= sizeof(*stored) && stored->caplen <= left - sizeof(*stored);
}

static struct stored stored_at(const uint8_t *at)
{
	struct stored stored;

	memcpy(&stored, at, sizeof(stored));
	return stored;
}

static void drop_oldest(struct store_view *v)
{
	struct segment *oldest = segment_at(&v->index, 0);

	for (unsigned port = 0; port < PORTS_MAX; port++)
		v->counts.overwritten[port] += oldest->records[port];
	v->index.live_bytes -= oldest->used_bytes;
	v->index.first = (v->index.first + 1) % v->index.n_places;
	v->index.n_live--;
}

/* Leave out whole segments, then records, until the PCAP fits into MaxFileSize. */
static int trim(struct store_view *v)
{
	uint64_t room = v->settings.file_bytes_max - PCAP_HEADER_BYTES;
	struct segment *oldest = segment_at(&v->index, 0);
	int rc = 0;

	while (v->index.n_live > 1 && v->index.live_bytes - oldest->used_bytes >= room) {
		drop_oldest(v);
		oldest = segment_at(&v->index, 0);
	}
	if (v->index.live_bytes <= room)
		return 0;
	rc = load(v, oldest, v->buf);
	while (rc == 0 && v->index.live_bytes - v->trim_bytes > room) {
		struct stored stored = stored_at(v->buf + v->trim_bytes);

		if (!fits(oldest->used_bytes - v->trim_bytes, &stored))
			return -EIO;
		v->trim_bytes += (uint32_t)sizeof(stored) + stored.caplen;
		oldest->records[stored.port % PORTS_MAX]--;
		v->counts.overwritten[stored.port % PORTS_MAX]++;
	}
	if (rc == 0 && v->trim_bytes < oldest->used_bytes)
		oldest->first_ns = stored_at(v->buf + v->trim_bytes).time_ns;
	return rc;
}

static void count(struct store_view *v)
{
	struct store_counts *c = &v->counts;

	for (uint32_t i = 0; i < v->index.n_live; i++) {
		const struct segment *segment = segment_at(&v->index, i);
		bool is_empty = segment->used_bytes == (i == 0 ? v->trim_bytes : 0);

		for (unsigned port = 0; port < PORTS_MAX; port++)
			c->in_file[port] += segment->records[port];
		if (is_empty)
			continue;
		if (c->first_ns == 0)
			c->first_ns = segment->first_ns;
		c->last_ns = segment->last_ns;
	}
	c->file_bytes = PCAP_HEADER_BYTES + v->index.live_bytes - v->trim_bytes;
}

/* Copy index and books.  Under the store's lock, nothing staged. */
static struct store_view *copy_of(struct store *s)
{
	struct store_view *v = malloc(sizeof(*v));
	size_t ring_bytes = s->index.n_places * sizeof(*s->index.ring);

	if (v == NULL)
		return NULL;
	*v = (struct store_view){.settings = s->settings,
				 .segment_bytes = s->segment_bytes,
				 .index = s->index,
				 .fd = s->fd};
	v->index.ring = malloc(ring_bytes);
	// A damaged record's header may be looked at where there is none any more.
	v->buf = malloc(s->segment_bytes + sizeof(struct stored));
	if (v->index.ring == NULL || v->buf == NULL) {
		store_view_close(v);
		return NULL;
	}
	memcpy(v->index.ring, s->index.ring, ring_bytes);
	memcpy(v->counts.overwritten, s->evicted, sizeof(s->evicted));
	memcpy(v->counts.lost_disk, s->lost_disk, sizeof(s->lost_disk));
	v->counts.lost_first_ns = s->lost_first_ns;
	v->counts.lost_last_ns = s->lost_last_ns;
	return v;
}

static struct store_view *finish(struct store_view *v, struct error *err)
{
	int rc = v != NULL ? trim(v) : -ENOMEM;

	if (rc != 0) {
		error_set(err, "The capture's data could not be read: %s.", strerror(-rc));
		store_view_close(v);
		return NULL;
	}
	count(v);
	return v;
}

struct store_view *store_view_final(struct store *s, struct error *err)
{
	struct store_view *v;

	store_lock(s);
	store_flush(s);
	v = copy_of(s);
	store_unlock(s);
	return finish(v, err);
}

int store_count(struct store *s, struct store_counts *counts)
{
	struct store_view *v;
	int rc;

	store_lock(s);
	store_flush(s);
	v = copy_of(s);
	// Under the lock: the oldest segment must not be lapped while it is looked at.
	rc = v != NULL ? trim(v) : -ENOMEM;
	store_unlock(s);
	if (rc == 0) {
		count(v);
		*counts = v->counts;
	}
	store_view_close(v);
	return rc;
}

/* An unlinked file beside the data. */
static int open_copy(const struct store *s)
{
	char name[64 + NAME_MAX_BYTES];
	int fd = openat(s->dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd;
	(void)snprintf(name, sizeof(name), ".%s.snapshot", s->data_name);
	fd = openat(s->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0)
		(void)unlinkat(s->dir_fd, name, 0);
	return fd;
}

/* Has the writer taken the place of this segment, or of one behind it? */
static bool is_lapped(struct store *s, const struct segment *segment)
{
	uint64_t oldest_live;

	store_lock(s);
	oldest_live = segment_at(&s->index, 0)->sequence;
	store_unlock(s);
	return segment->sequence < oldest_live;
}

/* Drop the first n; a view keeps one segment, be it empty. */
static void drop_front(struct store_view *v, uint32_t n)
{
	bool all = n == v->index.n_live;

	for (uint32_t i = 0; i < n; i++)
		drop_oldest(v);
	if (all)
		*segment_at(&v->index, v->index.n_live++) = (struct segment){0};
}

/* From the newest back, for the writer comes from the other end: what was read and not lapped by then is
 * whole, whatever happens to it later.
 */
static int copy_segments(struct store_view *v, struct store *s, int to)
{
	for (uint32_t i = v->index.n_live; i-- > 0;) {
		const struct segment *segment = segment_at(&v->index, i);
		int rc = load(v, segment, v->buf);

		if (rc == 0 && is_lapped(s, segment)) {
			drop_front(v, i + 1);
			return 0;
		}
		if (rc == 0)
			rc = store_write_at(to, v->buf, segment->used_bytes,
					    segment_offset(v->segment_bytes, segment));
		if (rc != 0)
			return rc;
	}
	return 0;
}

struct store_view *store_view_snapshot(struct store *s, struct error *err)
{
	struct store_view *v;
	int fd = open_copy(s), rc;

	if (fd < 0) {
		error_set(err, "The snapshot needs a temporary file in the state folder: %s.",
			  strerror(errno));
		return NULL;
	}
	store_lock(s);
	store_flush(s);
	v = copy_of(s);
	store_unlock(s);
	rc = v != NULL ? copy_segments(v, s, fd) : -ENOMEM;
	if (rc != 0) {
		error_set(
			err,
			"The snapshot could not be copied: %s; free some space in the state folder.",
			strerror(-rc));
		(void)close(fd);
		store_view_close(v);
		return NULL;
	}
	v->fd = fd;
	v->owns_fd = true;
	return finish(v, err);
}

uint64_t store_view_bytes(const struct store_view *v)
{
	return v->counts.file_bytes;
}

const struct store_counts *store_view_counts(const struct store_view *v)
{
	return &v->counts;
}

void store_view_rewind(struct store_view *v)
{
	v->header_read = false;
	v->next_segment = 0;
	v->buf_at = v->buf_end = 0;
}

void store_view_close(struct store_view *v)
{
	if (v == NULL)
		return;
	if (v->owns_fd)
		(void)close(v->fd);
	free(v->index.ring);
	free(v->buf);
	free(v);
}

/* The classic PCAP file header: Ethernet, micro- or nanoseconds. */
static void load_header(struct store_view *v)
{
	bool nano = v->settings.timestamps == TIMESTAMPS_NANO;
	struct {
		uint32_t magic;
		uint16_t major, minor;
		uint32_t zone, accuracy, snap, link;
	} header = {nano ? 0xa1b23c4d : 0xa1b2c3d4, 2, 4, 0, 0, v->settings.snap_bytes, 1};

	static_assert(sizeof(header) == PCAP_HEADER_BYTES, "the format's own size");
	memcpy(v->buf, &header, sizeof(header));
	v->buf_at = 0;
	v->buf_end = sizeof(header);
	v->header_read = true;
}

/* Put a PCAP record header over each struct stored: they are of one length. */
static int convert(struct store_view *v)
{
	uint64_t unit_ns = v->settings.timestamps == TIMESTAMPS_NANO ? 1 : 1000;

	for (uint32_t at = v->buf_at; at < v->buf_end;) {
		struct stored stored = stored_at(v->buf + at);
		uint64_t wall_ns = stored.time_ns + (uint64_t)v->settings.wall_offset_ns;
		uint32_t header[4] = {(uint32_t)(wall_ns / 1000000000),
				      (uint32_t)(wall_ns % 1000000000 / unit_ns), stored.caplen,
				      stored.wire_len};

		static_assert(sizeof(header) == sizeof(stored), "converted in place");
		if (!fits(v->buf_end - at, &stored))
			return -EIO;
		memcpy(v->buf + at, header, sizeof(header));
		at += (uint32_t)sizeof(header) + stored.caplen;
	}
	return 0;
}

/* Load the next segment; -ENODATA behind the last. */
static int load_next(struct store_view *v)
{
	const struct segment *segment;
	int rc;

	if (v->next_segment == v->index.n_live)
		return -ENODATA;
	segment = segment_at(&v->index, v->next_segment);
	rc = load(v, segment, v->buf);
	if (rc != 0)
		return rc;
	v->buf_at = v->next_segment == 0 ? v->trim_bytes : 0;
	v->buf_end = segment->used_bytes;
	v->next_segment++;
	return convert(v);
}

int store_view_read(struct store_view *v, void *buf, size_t len)
{
	uint8_t *to = buf;

	while (len > 0) {
		size_t n = v->buf_end - v->buf_at;
		int rc = 0;

		if (n == 0) {
			if (v->header_read)
				rc = load_next(v);
			else
				load_header(v);
			if (rc != 0)
				return rc;
			continue;
		}
		if (n > len)
			n = len;
		memcpy(to, v->buf + v->buf_at, n);
		v->buf_at += (uint32_t)n;
		to += n;
		len -= n;
	}
	return 0;
}
