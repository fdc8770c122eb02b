/* store.h - one capture's bounded circular store, which outlives the process that fills it.
 *
 * Flow:    merge.c -> store_append_batch() -> segments of a preallocated file -> struct store_view -> PCAP
 *                  -> store_commit() -> index of the segments -> store_resume() after a crash
 * Threads: store_append(_batch), store_flush, store_commit: its writer's (merge.h).  Everything else: any
 *          thread.  The writer holds the lock for a step, others for moments: never for the length of a copy.
 * Memory:  one staging buffer (STORE_STAGE_BYTES) and about 220 bytes a segment; the data is in the file.
 * Files:   NAME.data and NAME.index, created O_EXCL and unlinked by the last close unless kept;
 *          preallocated, so that they cannot run out of room later.
 * Crash:   what a commit covers is there again after store_resume(), once and in order: a segment that
 *          the last commit names is never written over before the next commit.  After a power loss the
 *          same holds for what store_sync() covered and was not overwritten since: it gives segments
 *          checksums, and one that does not agree is left out.
 * Memory files: on tmpfs the data is written through a mapping (store_map.c), else by pwrite().
 * Disk:    records that cannot be written are counted (lost_disk), whole; the next commit tries again.
 * Layout:  segments of min(1 MiB, MaxFileSize / 16, but at least one record); records do not straddle.
 *          A record is struct stored and its bytes; struct stored is as long as a PCAP record header,
 *          so that sizes in the store are sizes in the PCAP.  docs/formats.md
 * Bound:   the PCAP never exceeds MaxFileSize; once wrapped it is larger than MaxFileSize minus one
 *          record: segments are evicted whole, the rest is trimmed by record in the view.
 * Proof:   tests/test_store.c, tests/test_store_crash.c, tests/test_power_loss.c, tests/test_batch.c
 */
#ifndef GATECAP_CONTROL_STORE_H
#define GATECAP_CONTROL_STORE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "control/config.h"
#include "dataplane/record.h"
#include "filters/error.h"
#include "filters/limits.h"

enum {
	STORE_STAGE_BYTES = 128 << 10,
	STORE_COMMIT_BYTES = 4 << 20, // appended between two commits at the most, one record more
	PCAP_HEADER_BYTES = 24,
};

/* On disk, host byte order. */
struct stored {
	uint64_t
		time_ns; // the dataplane's timeline; wall clock = time_ns + store_settings.wall_offset_ns
	uint32_t wire_len;
	uint16_t caplen;
	uint8_t port;
	uint8_t reserved;
};
static_assert(sizeof(struct stored) == 16, "as long as a PCAP record header");

struct store_settings {
	int dir_fd;	  // of the state folder, borrowed during store_open()
	const char *name; // NAME.data and NAME.index in it; without is_durable the whole name
	uint64_t file_bytes_max; // MaxFileSize in bytes, PCAP header included
	uint32_t snap_bytes;
	int64_t wall_offset_ns;
	enum timestamps timestamps;
	bool reserve;	 // take the disk room now (captures); false: as it is needed (replay)
	bool is_durable; // with an index: commits, and store_resume(); false: replay
};

/* Up to where the rings are in the store.  Of ring i: the records before cursors[i] that are not late,
 * and of the late ones those of a time <= dealt_ns.
 */
struct store_mark {
	uint64_t epoch; // whose rings: the dataplane's boot_id; 0: no commit with records yet
	uint64_t dealt_ns;
	uint32_t n_rings, reserved;
	uint64_t cursors[WORKERS_MAX];
};

/* What a crash left. */
struct store_recovery {
	struct store_mark mark;	      // of the newest commit
	uint64_t vanished[PORTS_MAX]; // records of that commit whose segments are damaged
	uint64_t vanished_first_ns, vanished_last_ns; // timeline; 0: none
};

struct store;

/* Records by port.  in_file + overwritten + lost_disk = appended. */
struct store_counts {
	uint64_t in_file[PORTS_MAX], overwritten[PORTS_MAX], lost_disk[PORTS_MAX];
	uint64_t file_bytes;		      // what an export would have now
	uint64_t first_ns, last_ns;	      // of the records in the file; 0: none
	uint64_t lost_first_ns, lost_last_ns; // of lost_disk
};

/* Bytes of disk that such a store takes; for checks in advance. */
uint64_t store_disk_bytes(uint64_t file_bytes_max, uint32_t snap_bytes);

/* Gives a store, or NULL and a sentence: no room, no such folder, a file of that name. */
struct store *store_open(const struct store_settings *settings, struct error *err);

/* One more user: each must call store_close(). */
void store_hold(struct store *store);

/* The last close deletes the files, unless store_keep() was called. */
void store_close(struct store *store);
void store_keep(struct store *store);

/* Open what a crash, or a kept close, has left under settings->name (the other settings are read from
 * the index, but for dir_fd).  was_power_lost: nothing is believed without its checksum, and the store
 * is only to be read (store_view_final) from then on.  Gives NULL and a sentence when there is no
 * such store, or none of its commits is whole; then nothing was changed.
 */
struct store *store_resume(const struct store_settings *settings, bool was_power_lost,
			   struct store_recovery *recovery, struct error *err);

/* Delete the files of a store that nobody has open: those of NAME, if NAME.index is ours. */
void store_remove(int dir_fd, const char *name);

void store_lock(struct store *store);
void store_unlock(struct store *store);

/* The same for the writer's thread, which takes it again and again: lets those who wait go first. */
void store_lock_for_append(struct store *store);

/* Take one record, cut to this store's snap length.  Times do not decrease.  Under store_lock(). */
void store_append(struct store *store, const struct record *record, const uint8_t *frame);

/* The same for n records in one go, the frame of each right behind it. */
void store_append_batch(struct store *store, const struct record *const *records, unsigned n);

/* Write what is staged.  Under store_lock(). */
void store_flush(struct store *store);

/* Flush, and make all appended so far survive this process.  Under store_lock().  0, or -errno: then
 * what was there before the commit survives.
 */
int store_commit(struct store *store, const struct store_mark *mark);

/* Make the last commit survive a power loss.  Any thread, without the lock; may take long: the segments
 * that are new since the last sync are read.
 */
int store_sync(struct store *store);

/* errno of the last write that failed, 0 once one has worked again.  Any thread. */
int store_disk_error(const struct store *store);

/* What an export would hold now.  Takes the lock itself; reads at most two segments from disk. */
int store_count(struct store *store, struct store_counts *counts);

/* A consistent sight of the store, read as a PCAP from front to back. */
struct store_view;

/* Of a store that nobody appends to any more: reads the file itself.  Borrows the store. */
struct store_view *store_view_final(struct store *store, struct error *err);

/* Of a running one: copies the segments to an unlinked file in the same folder first, and drops from
 * the front what was lapped meanwhile.
 */
struct store_view *store_view_snapshot(struct store *store, struct error *err);

uint64_t store_view_bytes(const struct store_view *view); // length of the PCAP
const struct store_counts *store_view_counts(const struct store_view *view);

/* The next len bytes.  0, or -errno. */
int store_view_read(struct store_view *view, void *buf, size_t len);

/* Start again at the front. */
void store_view_rewind(struct store_view *view);
void store_view_close(struct store_view *view);

#endif
