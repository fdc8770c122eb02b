/* store_recover.c - opening a store that a crash, or a clean end, has left.
 *
 * After the death of a process the files are as it left them: the newest whole commit says what is there,
 * and nothing that it names was written over (store.c).  After a power loss the disk has some of the
 * writes and not others: both syncs' slots are heard, and a segment is believed if its bytes have the
 * checksum that one of them gives.  A newer commit may have evicted what a sync names and the disk still
 * has: it is taken, for it is whole and in order, and the book of evicted records is corrected.
 * Nothing is written here: a recovery that is cut short can be repeated.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "control/store_internal.h"

enum { PLACES_MAX = 1 << 16 };

/* What the slots hold; a commit whose checksum or numbers do not agree is NULL. */
struct slots {
	uint8_t *bytes; // all four
	const struct index_commit *commits[INDEX_SLOTS];
};

static const struct index_segment *segments_of(const struct index_commit *c)
{
	return (const struct index_segment *)(c + 1);
}

static bool is_plausible(const struct store *s, const struct index_commit *c)
{
	if (c->number == 0 || c->n_live == 0 || c->n_live > s->index.n_places ||
	    c->mark.n_rings > WORKERS_MAX ||
	    sizeof(*c) + c->n_live * sizeof(struct index_segment) > s->slot_bytes ||
	    c->first_sequence > UINT64_MAX - c->n_live)
		return false;
	return XXH3_64bits(&c->number, sizeof(*c) + c->n_live * sizeof(struct index_segment) -
					       sizeof(c->checksum)) == c->checksum;
}

static bool has_plausible_segments(const struct store *s, const struct index_commit *c)
{
	for (uint32_t i = 0; i < c->n_live; i++)
		if (segments_of(c)[i].used_bytes > s->segment_bytes)
			return false;
	return true;
}

/* 0 or -errno; slots->bytes is the caller's to free. */
static int read_slots(const struct store *s, struct slots *slots)
{
	uint64_t bytes = INDEX_SLOTS * (uint64_t)s->slot_bytes;
	int rc;

	slots->bytes = malloc(bytes);
	if (slots->bytes == NULL)
		return -ENOMEM;
	rc = store_read_at(s->index_fd, slots->bytes, bytes, INDEX_BLOCK_BYTES);
	for (unsigned i = 0; rc == 0 && i < INDEX_SLOTS; i++) {
		const void *at = slots->bytes + (uint64_t)i * s->slot_bytes;

		if (is_plausible(s, at) && has_plausible_segments(s, at))
			slots->commits[i] = at;
	}
	return rc;
}

static const struct index_commit *newest_of(const struct slots *slots)
{
	const struct index_commit *newest = NULL;

	for (unsigned i = 0; i < INDEX_SLOTS; i++)
		if (slots->commits[i] != NULL &&
		    (newest == NULL || slots->commits[i]->number > newest->number))
			newest = slots->commits[i];
	return newest;
}

static struct segment segment_of(const struct store *s, const struct index_commit *c, uint32_t i)
{
	const struct index_segment *from = &segments_of(c)[i];
	struct segment segment = {.sequence = c->first_sequence + i,
				  .first_ns = from->first_ns,
				  .last_ns = from->last_ns,
				  .used_bytes = from->used_bytes};

	segment.place = (uint32_t)(segment.sequence % s->index.n_places);
	memcpy(segment.records, from->records, sizeof(segment.records));
	return segment;
}

static void take_books(struct store *s, const struct index_commit *c)
{
	memcpy(s->evicted, c->evicted, sizeof(s->evicted));
	memcpy(s->lost_disk, c->lost_disk, sizeof(s->lost_disk));
	s->lost_first_ns = c->lost_first_ns;
	s->lost_last_ns = c->lost_last_ns;
	s->n_commits = c->number;
}

/* ---- the process died ---- */

/* Go on where the newest commit stood. */
static void resume_newest(struct store *s, const struct slots *slots)
{
	const struct index_commit *c = newest_of(slots);

	take_books(s, c);
	for (uint32_t i = 0; i < c->n_live; i++) {
		s->index.ring[i] = segment_of(s, c, i);
		s->index.live_bytes += s->index.ring[i].used_bytes;
	}
	s->index.n_live = c->n_live;
	s->committed_first = c->first_sequence;
	// The slot that is not the newest's: that one has to stay whole until the next commit is.
	s->commit_slot = slots->commits[0] == c ? 1 : 0;
	s->written_last_ns = segment_at(&s->index, s->index.n_live - 1)->last_ns;
	s->image_bytes = (uint32_t)(sizeof(*c) + c->n_live * sizeof(struct index_segment));
	memcpy(s->image, c, s->image_bytes);
}

/* ---- the power was lost ---- */

/* A segment that a sync names. */
struct candidate {
	struct segment segment; // first: see by_sequence()
	uint64_t checksum;
};

/* Of struct segment, and of struct candidate, which begins with one. */
static int by_sequence(const void *a, const void *b)
{
	uint64_t x = ((const struct segment *)a)->sequence,
		 y = ((const struct segment *)b)->sequence;

	return (x > y) - (x < y);
}

/* Of one sequence the fuller one first: it holds the other. */
static int by_sequence_and_size(const void *a, const void *b)
{
	uint32_t x = ((const struct segment *)a)->used_bytes,
		 y = ((const struct segment *)b)->used_bytes;
	int order = by_sequence(a, b);

	return order != 0 ? order : (x < y) - (x > y);
}

/* All segments of which a checksum is known.  Gives (malloc) the list, or NULL. */
static struct candidate *gather(const struct store *s, const struct slots *slots, size_t *n)
{
	struct candidate *all =
		calloc((size_t)INDEX_SLOTS * s->index.n_places, sizeof(struct candidate));

	*n = 0;
	for (unsigned slot = 0; all != NULL && slot < INDEX_SLOTS; slot++) {
		const struct index_commit *c = slots->commits[slot];

		for (uint32_t i = 0; c != NULL && i < c->n_live; i++)
			if (segments_of(c)[i].checksum != 0)
				all[(*n)++] = (struct candidate){segment_of(s, c, i),
								 segments_of(c)[i].checksum};
	}
	if (all != NULL)
		qsort(all, *n, sizeof(*all), by_sequence_and_size);
	return all;
}

static bool is_whole(const struct store *s, const struct candidate *candidate, uint8_t *buf)
{
	const struct segment *segment = &candidate->segment;

	return store_read_at(s->fd, buf, segment->used_bytes,
			     segment_offset(s->segment_bytes, segment)) == 0 &&
	       XXH3_64bits(buf, segment->used_bytes) == candidate->checksum;
}

static void keep(struct store *s, const struct segment *segment)
{
	if (s->index.n_live == s->index.n_places)
		return; // more whole segments than places: the checksums lie
	s->index.ring[s->index.n_live++] = *segment;
	s->index.live_bytes += segment->used_bytes;
}

/* A segment of an older commit than the newest is back: it was counted as evicted. */
static void uncount_evicted(struct store *s, const struct segment *segment)
{
	for (unsigned port = 0; port < PORTS_MAX; port++)
		s->evicted[port] -= segment->records[port] < s->evicted[port]
					    ? segment->records[port]
					    : s->evicted[port];
}

static void count_vanished(const struct store *s, const struct index_commit *newest,
			   struct store_recovery *recovery)
{
	for (uint32_t i = 0; i < newest->n_live; i++) {
		const struct segment named = segment_of(s, newest, i);
		const struct segment *kept =
			bsearch(&named, s->index.ring, s->index.n_live, sizeof(named), by_sequence);

		if (named.used_bytes == 0 || (kept != NULL && kept->used_bytes >= named.used_bytes))
			continue;
		for (unsigned port = 0; port < PORTS_MAX; port++)
			recovery->vanished[port] +=
				named.records[port] - (kept != NULL ? kept->records[port] : 0);
		if (recovery->vanished_first_ns == 0)
			recovery->vanished_first_ns = kept != NULL ? kept->last_ns : named.first_ns;
		recovery->vanished_last_ns = named.last_ns;
	}
}

/* Keep what is whole, of all slots. */
static int recover_whole(struct store *s, const struct slots *slots, uint8_t *buf,
			 struct store_recovery *recovery)
{
	const struct index_commit *newest = newest_of(slots);
	size_t n;
	struct candidate *all = gather(s, slots, &n);
	uint64_t kept = UINT64_MAX; // sequence kept last

	if (all == NULL)
		return -ENOMEM;
	take_books(s, newest);
	for (size_t i = 0; i < n; i++) {
		const struct segment *segment = &all[i].segment;

		if (segment->sequence == kept || segment->used_bytes == 0 ||
		    !is_whole(s, &all[i], buf))
			continue;
		kept = segment->sequence;
		keep(s, segment);
		if (kept < newest->first_sequence)
			uncount_evicted(s, segment);
	}
	count_vanished(s, newest, recovery);
	if (s->index.n_live == 0) // a store always has a segment
		s->index.ring[s->index.n_live++] = (struct segment){0};
	free(all);
	return 0;
}

/* ---- opening ---- */

static int open_file(int dir_fd, const char *name, uint64_t *bytes)
{
	// O_NONBLOCK: a FIFO of that name would have us wait.
	int fd = openat(dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		(void)close(fd);
		return -EINVAL;
	}
	*bytes = (uint64_t)st.st_size;
	return fd;
}

/* 0, or -errno: not a header of ours. */
static int read_header(int fd, uint64_t bytes, struct index_header *h)
{
	int rc = store_read_at(fd, (uint8_t *)h, sizeof(*h), 0);

	if (rc != 0)
		return rc;
	if (memcmp(h->magic, INDEX_MAGIC, sizeof(h->magic)) != 0 || h->version != INDEX_VERSION ||
	    h->checksum != XXH3_64bits(h->magic, sizeof(*h) - sizeof(h->checksum)) ||
	    h->n_places == 0 || h->n_places > PLACES_MAX || h->n_live_max == 0 ||
	    h->n_live_max > h->n_places || h->snap_bytes == 0 || h->snap_bytes > SNAP_BYTES_MAX ||
	    h->segment_bytes < h->snap_bytes + sizeof(struct stored) ||
	    h->segment_bytes > 1 << 24 || h->timestamps > TIMESTAMPS_NANO ||
	    h->file_bytes_max < PCAP_HEADER_BYTES + h->snap_bytes + sizeof(struct stored) ||
	    bytes < index_file_bytes(h->n_places))
		return -EBADMSG;
	return 0;
}

static struct store *new_from(const struct store_settings *settings, const struct index_header *h)
{
	struct store_settings own = *settings;

	own.is_durable = true;
	own.file_bytes_max = h->file_bytes_max;
	own.snap_bytes = h->snap_bytes;
	own.wall_offset_ns = h->wall_offset_ns;
	own.timestamps = (enum timestamps)h->timestamps;
	return store_new(&own, h->segment_bytes, h->n_places, h->n_live_max);
}

static int restore(struct store *s, bool was_power_lost, struct store_recovery *recovery)
{
	struct slots slots = {0};
	uint8_t *buf = malloc(s->segment_bytes);
	int rc = buf == NULL ? -ENOMEM : read_slots(s, &slots);

	if (rc == 0 && newest_of(&slots) == NULL)
		rc = -EBADMSG;
	if (rc == 0) {
		*recovery = (struct store_recovery){.mark = newest_of(&slots)->mark};
		if (was_power_lost)
			rc = recover_whole(s, &slots, buf, recovery);
		else
			resume_newest(s, &slots);
	}
	free(slots.bytes);
	free(buf);
	return rc;
}

/* What -errno means here. */
static const char *why(int rc)
{
	return rc == -EBADMSG  ? "it is damaged, or not gatecap's"
	       : rc == -EINVAL ? "it is not a regular file"
			       : strerror(-rc);
}

struct store *store_resume(const struct store_settings *settings, bool was_power_lost,
			   struct store_recovery *recovery, struct error *err)
{
	char name[NAME_MAX_BYTES + 16];
	uint64_t index_bytes = 0, data_bytes = 0;
	struct index_header header;
	struct store *s = NULL;
	int index_fd, data_fd = -1, rc = 0;

	(void)snprintf(name, sizeof(name), "%s.index", settings->name);
	index_fd = rc = open_file(settings->dir_fd, name, &index_bytes);
	if (rc >= 0)
		rc = read_header(index_fd, index_bytes, &header);
	if (rc == 0 && (s = new_from(settings, &header)) == NULL)
		rc = -ENOMEM;
	if (rc == 0) {
		(void)snprintf(name, sizeof(name), "%s.data", settings->name);
		data_fd = rc = open_file(settings->dir_fd, name, &data_bytes);
	}
	if (rc >= 0) {
		s->index_fd = index_fd;
		s->fd = data_fd;
		rc = restore(s, was_power_lost, recovery);
		if (rc == 0) {
			store_map(s);
			return s;
		}
		store_keep(s);
		index_fd = data_fd = -1; // closed with the store
	}
	error_set(
		err,
		"The capture's file %s in the state folder cannot be used: %s; it was left alone.",
		name, why(rc));
	store_close(s);
	if (index_fd >= 0)
		(void)close(index_fd);
	if (data_fd >= 0)
		(void)close(data_fd);
	return NULL;
}

void store_remove(int dir_fd, const char *name)
{
	char file[NAME_MAX_BYTES + 16];
	struct index_header header;
	uint64_t bytes = 0;
	int fd;

	(void)snprintf(file, sizeof(file), "%s.index", name);
	fd = open_file(dir_fd, file, &bytes);
	if (fd < 0)
		return;
	if (read_header(fd, UINT64_MAX, &header) == 0) { // a power loss may have cut it short
		char data[NAME_MAX_BYTES + 16];

		(void)snprintf(data, sizeof(data), "%s.data", name);
		(void)unlinkat(dir_fd, data, 0);
		(void)unlinkat(dir_fd, file, 0);
	}
	(void)close(fd);
}
