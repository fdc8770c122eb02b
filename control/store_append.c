/* store_append.c - filling the circular store.
 *
 * A record is copied into a staging buffer that stays in the cache and is written when it is full, or
 * when there is nothing else to do; so the file sees few, large writes: through pwrite(), or, when the file
 * lies in memory, into its mapping (store_map.c).  (An iovec a record: slower than the copy.)
 * When a segment is full the next place is taken; when no place is free the oldest segment goes, whole.
 * Two ways in.  store_append_batch() keeps the place in the stage and the counts in registers and enters
 * them into the books once for all that fits.  What does not fit as it is, the segment's
 * or the stage's last, and what a refusing disk loses, goes to store_append(), which is the plain way.
 * Disk: what could not be written is lost, whole, and so is what comes before the next commit, which
 * tries again: a disk that is full is asked a hundred times a second, not once for every 128 KiB.
 */
#include <stddef.h>
#include <string.h>

#include "control/store_internal.h"
#include "dataplane/costs.h"

static_assert(offsetof(struct stored, wire_len) == 8 && offsetof(struct stored, caplen) == 12 &&
		      offsetof(struct stored, port) == 14 &&
		      __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	      "put() writes it as two words");
static_assert(STORE_STAGE_BYTES >= SNAP_BYTES_MAX + (int)sizeof(struct stored), "a record fits");

enum { PREFETCH_BYTES = 6144 }; // in the ring, past the batch: without 68 cycles a record, with 59

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

static void write_staged(struct store *s)
{
	struct segment *segment = segment_at(&s->index, s->index.n_live - 1);
	off_t at =
		segment_offset(s->segment_bytes, segment) + segment->used_bytes - s->staged_bytes;
	int rc;

	costs_end(COST_STORE);
	rc = s->map != NULL ? store_write_mapped(s, s->stage, s->staged_bytes, at)
			    : store_write_at(s->fd, s->stage, s->staged_bytes, at);
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
	store_start_segment(s, sequence);
	return true;
}

/* Is there room for so many bytes?  False: the record is lost, and counted. */
static bool make_room(struct store *s, const struct record *record, uint32_t bytes)
{
	const struct segment *segment = segment_at(&s->index, s->index.n_live - 1);

	if (!s->is_suspended && segment->used_bytes + bytes > s->segment_bytes)
		s->is_suspended = !next_segment(s);
	// The buffer is longer than what is staged at once: any single record fits.
	if (!s->is_suspended && s->staged_bytes + bytes > s->stage_bytes && s->staged_bytes > 0)
		write_staged(s);
	if (!s->is_suspended)
		return true;
	s->lost_disk[record->port % PORTS_MAX]++;
	note_loss(s, record->time_ns, record->time_ns);
	return false;
}

/* struct stored, and the frame, at `at`; gives how many bytes. */
static inline uint32_t put(uint8_t *at, const struct record *record, const uint8_t *frame,
			   uint32_t caplen)
{
	// As two words: copied from its narrow fields it would wait for each of them.
	const uint64_t header[2] = {record->time_ns, record->wire_len | (uint64_t)caplen << 32 |
							     (uint64_t)(record->port % PORTS_MAX)
								     << 48};

	memcpy(at, header, sizeof(header));
	record_copy(at + sizeof(header), frame, caplen);
	return (uint32_t)sizeof(header) + caplen;
}

static inline uint32_t cut_len(const struct store *s, const struct record *record)
{
	uint32_t caplen = record->caplen;

	return caplen < s->settings.snap_bytes ? caplen : s->settings.snap_bytes;
}

/* Into the books: n bytes were staged, of records from the first to the last time. */
static inline void enter(struct store *s, uint32_t bytes, uint64_t first_ns, uint64_t last_ns)
{
	struct segment *segment = segment_at(&s->index, s->index.n_live - 1);

	if (s->staged_bytes == 0)
		s->staged_first_ns = first_ns;
	if (segment->used_bytes == 0)
		segment->first_ns = first_ns;
	segment->last_ns = last_ns;
	s->staged_bytes += bytes;
	segment->used_bytes += bytes;
	s->index.live_bytes += bytes;
}

/* Bytes that go into the segment and the stage as they are. */
static inline uint32_t free_bytes(const struct store *s)
{
	const struct segment *segment = segment_at(&s->index, s->index.n_live - 1);
	uint32_t in_segment = s->segment_bytes - segment->used_bytes;
	uint32_t in_stage = s->staged_bytes < s->stage_bytes ? s->stage_bytes - s->staged_bytes : 0;

	if (s->is_suspended)
		return 0;
	return in_segment < in_stage ? in_segment : in_stage;
}

void store_append(struct store *s, const struct record *record, const uint8_t *frame)
{
	uint32_t caplen = cut_len(s, record), bytes = caplen + (uint32_t)sizeof(struct stored);
	unsigned port = record->port % PORTS_MAX;

	if (bytes > free_bytes(s) && !make_room(s, record, bytes))
		return;
	(void)put(s->stage + s->staged_bytes, record, frame, caplen);
	enter(s, bytes, record->time_ns, record->time_ns);
	s->staged_records[port]++;
	segment_at(&s->index, s->index.n_live - 1)->records[port]++;
}

/* Take the records that fit as they are; gives how many. */
static unsigned append_fitting(struct store *s, const struct record *const *records, unsigned n)
{
	struct segment *segment = segment_at(&s->index, s->index.n_live - 1);
	uint8_t *stage = s->stage + s->staged_bytes;
	uint32_t room = free_bytes(s), used = 0;
	uint32_t counts[PORTS_MAX] = {0};
	unsigned done = 0;

	for (; done < n; done++) {
		const struct record *record = records[done];
		uint32_t caplen = cut_len(s, record);

		if (used + sizeof(struct stored) + caplen > room)
			break;
		__builtin_prefetch((const uint8_t *)record + PREFETCH_BYTES);
		used += put(stage + used, record, (const uint8_t *)(record + 1), caplen);
		counts[record->port % PORTS_MAX]++;
	}
	if (done == 0)
		return 0;
	enter(s, used, records[0]->time_ns, records[done - 1]->time_ns);
	for (unsigned port = 0; port < PORTS_MAX; port++) {
		s->staged_records[port] += counts[port];
		segment->records[port] += counts[port];
	}
	return done;
}

void store_append_batch(struct store *s, const struct record *const *records, unsigned n)
{
	for (unsigned done = 0; done < n; done++) {
		done += append_fitting(s, records + done, n - done);
		if (done < n) // that one does not
			store_append(s, records[done], (const uint8_t *)(records[done] + 1));
	}
}
