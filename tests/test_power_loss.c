/* test_power_loss.c - a store from every image that a power loss may leave of a short run.
 *
 * Two runs commit every few records and sync every few commits, so that little is unsynced at any moment
 * (disk_model.h).  After each of their steps the power is lost, and a store is recovered from every image
 * that the disk may hold then: of a young store by sectors, sizes included; of one that is full and evicts
 * by pages.  Where a moment has very many images some are taken at random.  Each PCAP is read by libpcap: whole records, in order, none twice, none that was
 * not recorded before, and all that the last sync covers but what was written over since; and the books
 * account for every record of the newest commit that is whole.
 * GATECAP_IMAGES=FOLDER: some images of each moment, and PCAPs of all shapes go there for other tools,
 * NUMBER-RECORDS.pcap: test_pcap_tools.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka wants the above first
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "control/store_internal.h"
#include "tests/disk_model.h"
#include "tests/store_items.h"

enum { FILE_BYTES = 300000, ITEMS_MAX = 16384, SYNCS_MAX = 64, SHAPES_MAX = 4096 };
enum {
	EXPORTED_OF_ONE_CRASH = 8,
	LAPPED_CRASHES = 16,
	DATA = 1,
	INDEX = 0 /* as store_open() makes them */
};

/* A sync that came to its end. */
struct sync_note {
	size_t first_op, end_op; // of its operations
	uint32_t n_items;	 // that it covers
};

/* Of one moment: which items were recorded, and which of them the disk owes. */
struct promise {
	uint32_t n_written;
	bool is_owed[ITEMS_MAX];
	bool has_synced;
};

struct rig {
	struct dice d;
	char dir[64];
	int after_fd;
	struct store_settings settings;
	struct store *store;
	uint32_t range; // of frame lengths
	uint32_t n_items, n_committed;
	bool is_commit[ITEMS_MAX]; // of so many items
	struct disk_trace trace;
	struct sync_note syncs[SYNCS_MAX];
	unsigned n_syncs;
	struct promise promise; // of the crash that is tried
	struct disk_trial trial;
	unsigned n_recovered, n_exported;
};

static bool is_exporting(void)
{
	return getenv("GATECAP_IMAGES") != NULL;
}

static void rig_open(struct rig *rig, const char *name, uint32_t range)
{
	struct error err = {0};

	memset(rig, 0, sizeof(*rig));
	rig->d = dice_open(name);
	rig->range = range;
	rig->is_commit[0] = true; // store_open()'s own
	(void)snprintf(rig->dir, sizeof(rig->dir), "%s/test_power_loss.XXXXXX", disk_scratch());
	assert_non_null(mkdtemp(rig->dir));
	rig->settings = (struct store_settings){.dir_fd = open(rig->dir, O_RDONLY | O_DIRECTORY),
						.name = "capture",
						.file_bytes_max = FILE_BYTES,
						.snap_bytes = ITEM_SNAP,
						.timestamps = TIMESTAMPS_NANO,
						.reserve = true,
						.is_durable = true};
	disk_trace_start(&rig->trace, rig->settings.dir_fd);
	rig->store = store_open(&rig->settings, &err);
	if (rig->store == NULL)
		fail_msg("%s", err.text);
	assert_int_equal(fsync(rig->settings.dir_fd), 0); // as that of ID.capture does
}

static void recover(void *ctx, size_t n);

/* The run is over: a folder for the images. */
static void rig_stop(struct rig *rig)
{
	disk_trace_stop();
	store_close(rig->store);
	assert_int_equal(mkdirat(rig->settings.dir_fd, "after", 0700), 0);
	rig->after_fd = openat(rig->settings.dir_fd, "after", O_RDONLY | O_DIRECTORY);
	assert_true(rig->after_fd >= 0);
	rig->trial = (struct disk_trial){.trace = &rig->trace,
					 .dice = &rig->d,
					 .folder_fd = rig->after_fd,
					 .all_max = is_exporting() ? 0 : 520,
					 .n_some = 16,
					 .look = recover,
					 .ctx = rig};
}

static void rig_close(struct rig *rig)
{
	disk_trial_print(&rig->trial);
	disk_empty(rig->after_fd);
	(void)close(rig->after_fd);
	assert_int_equal(unlinkat(rig->settings.dir_fd, "after", AT_REMOVEDIR), 0);
	(void)close(rig->settings.dir_fd);
	assert_int_equal(rmdir(rig->dir), 0); // nothing is left behind
	disk_trace_fini(&rig->trace);
}

static void append(struct rig *rig, uint32_t n)
{
	for (; n > 0; n--)
		item_append(rig->store, rig->n_items++, rig->range);
	assert_true(rig->n_items < ITEMS_MAX);
}

static void commit(struct rig *rig)
{
	const struct store_mark mark = {.epoch = 5, .n_rings = 1, .cursors = {rig->n_items}};

	assert_int_equal(store_commit(rig->store, &mark), 0);
	rig->n_committed = rig->n_items;
	rig->is_commit[rig->n_items] = true;
}

/* The data is on disk before an index says so. */
static void check_order_of_sync(const struct rig *rig, size_t first)
{
	const struct disk_op *ops = rig->trace.ops + first;

	assert_int_equal(rig->trace.n_ops - first, 3);
	assert_true(ops[0].kind == DISK_SYNC && ops[0].file == DATA);
	assert_true(ops[1].kind == DISK_WRITE && ops[1].file == INDEX);
	assert_true(ops[2].kind == DISK_SYNC && ops[2].file == INDEX);
}

static void sync_all(struct rig *rig)
{
	size_t first = rig->trace.n_ops;

	assert_int_equal(store_sync(rig->store), 0);
	check_order_of_sync(rig, first);
	assert_true(rig->n_syncs < SYNCS_MAX);
	rig->syncs[rig->n_syncs++] = (struct sync_note){first, rig->trace.n_ops, rig->n_committed};
}

/* ---- what must be there ---- */

struct place {
	uint32_t segment, end; // of the item's bytes in its segment
};

/* Where each item lies; gives the number of items. */
static uint32_t find_places(const struct rig *rig, uint32_t segment_bytes, size_t end_op,
			    struct place places[ITEMS_MAX])
{
	uint32_t n_items = 0;

	for (size_t i = 0; i < end_op; i++) {
		const struct disk_op *op = &rig->trace.ops[i];

		for (size_t at = 0; op->kind == DISK_WRITE && op->file == DATA && at < op->n;) {
			struct stored stored;
			uint32_t n;

			memcpy(&stored, op->bytes + at, sizeof(stored));
			memcpy(&n, op->bytes + at + sizeof(stored), sizeof(n));
			at += sizeof(stored) + stored.caplen;
			assert_true(n < ITEMS_MAX);
			places[n].segment = (uint32_t)((op->at + at - 1) / segment_bytes);
			places[n].end = (uint32_t)(op->at + at -
						   (uint64_t)places[n].segment * segment_bytes);
			if (n >= n_items)
				n_items = n + 1;
		}
	}
	return n_items;
}

/* Was one of a segment's first `used` bytes written between two operations? */
static bool is_written_over(const struct rig *rig, uint64_t from_byte, uint32_t used, size_t from,
			    size_t to)
{
	for (size_t i = from; i < to; i++) {
		const struct disk_op *op = &rig->trace.ops[i];

		if (op->kind == DISK_WRITE && op->file == DATA && op->at < from_byte + used &&
		    op->at + op->n > from_byte)
			return true;
	}
	return false;
}

static void owe(const struct rig *rig, size_t op, struct promise *promise)
{
	static struct place places[ITEMS_MAX];
	uint32_t segment_bytes = FILE_BYTES / 16;
	const struct sync_note *sync = NULL;

	*promise = (struct promise){.n_written = find_places(rig, segment_bytes, op, places)};
	for (unsigned i = 0; i < rig->n_syncs && rig->syncs[i].end_op <= op; i++)
		sync = &rig->syncs[i];
	promise->has_synced = sync != NULL;
	if (sync == NULL)
		return;
	for (uint32_t n = 0, last = 0; n < sync->n_items; n = last + 1) {
		uint64_t from = (uint64_t)places[n].segment * segment_bytes;

		// All of the segment that the sync covers, or nothing.
		for (last = n;
		     last + 1 < sync->n_items && places[last + 1].segment == places[n].segment;)
			last++;
		for (uint32_t i = n; i <= last; i++)
			promise->is_owed[i] =
				!is_written_over(rig, from, places[last].end, sync->end_op, op);
	}
}

static void check_promise(const struct promise *promise, const struct found *found, uint32_t range)
{
	assert_true(found->n == 0 || found->list[found->n - 1] < promise->n_written);
	for (uint32_t n = 0; n < promise->n_written; n++) {
		if (!promise->is_owed[n] || found_has(found, n))
			continue;
		// Trimmed: what is there is all newer, and one more might not have fitted.
		assert_true(found->n > 0 && found->list[0] > n);
		assert_true(found->bytes + ITEM_RECORD + ITEM_BYTES_MIN + range > FILE_BYTES);
	}
}

/* ---- PCAPs for other tools ---- */

struct shapes {
	uint64_t sums[SHAPES_MAX];
	unsigned n;
};

static void export(const struct found *found, unsigned *n_exported)
{
	static struct shapes shapes;
	const char *folder = getenv("GATECAP_IMAGES");
	uint64_t sum = XXH3_64bits(found->pcap, found->bytes);
	char path[4096];
	FILE *file;

	if (folder == NULL || *n_exported == EXPORTED_OF_ONE_CRASH || shapes.n == SHAPES_MAX)
		return;
	for (unsigned i = 0; i < shapes.n; i++)
		if (shapes.sums[i] == sum)
			return;
	(void)snprintf(path, sizeof(path), "%s/%05u-%u.pcap", folder, shapes.n, found->n);
	shapes.sums[shapes.n++] = sum;
	(*n_exported)++;
	file = fopen(path, "wbe");
	assert_non_null(file);
	assert_int_equal(fwrite(found->pcap, 1, found->bytes, file), found->bytes);
	assert_int_equal(fclose(file), 0);
}

/* ---- images ---- */

/* All that the newest whole commit covers is in the file, evicted, or said to have vanished. */
static void check_books(const struct rig *rig, struct store *store,
			const struct store_recovery *recovery)
{
	uint64_t n_committed = recovery->mark.cursors[0], sum = 0;
	struct store_counts counts;

	assert_true(n_committed < ITEMS_MAX && rig->is_commit[n_committed]);
	assert_int_equal(store_count(store, &counts), 0);
	for (unsigned port = 0; port < PORTS_MAX; port++) {
		sum += counts.in_file[port] + counts.overwritten[port] + recovery->vanished[port];
		assert_int_equal(counts.lost_disk[port], 0);
	}
	assert_int_equal(sum, n_committed);
}

/* One image. */
static void recover(void *ctx, size_t n)
{
	struct rig *rig = ctx;
	const struct promise *promise = &rig->promise;
	struct store_settings settings = rig->settings;
	struct store_recovery recovery;
	struct error err = {0};
	struct found found;
	struct store *store;

	settings.dir_fd = rig->after_fd;
	store = store_resume(&settings, true, &recovery, &err);
	if (store == NULL) {
		if (promise->has_synced)
			fail_msg("after step %zu: %s", n, err.text);
		assert_non_null(strstr(err.text, "left alone"));
		return;
	}
	found = items_read(store, FILE_BYTES, rig->range);
	check_promise(promise, &found, rig->range);
	check_books(rig, store, &recovery);
	rig->n_recovered += found.n > 0;
	export(&found, &rig->n_exported);
	found_fini(&found);
	store_close(store);
}

/* The power is lost after n steps. */
static void lose_power_after(struct rig *rig, size_t n, uint32_t unit_bytes)
{
	owe(rig, n, &rig->promise);
	rig->n_exported = 0;
	disk_trial_crash(&rig->trial, n, unit_bytes);
}

/* One moment in so many has had all its images tried, or this is not what it says it is. */
static void check_enough_are_whole(const struct rig *rig, unsigned one_in)
{
	assert_true(is_exporting() || one_in * rig->trial.n_whole >= rig->trial.n_crashes);
}

static void young_store_is_recovered_from_every_image(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, "young_store_is_recovered_from_every_image", 200);
	for (unsigned i = 0; i < 12; i++) {
		append(&rig, 1 + dice_below(&rig.d, 2));
		commit(&rig);
		if (i % 3 == 2)
			sync_all(&rig);
	}
	rig_stop(&rig);
	for (size_t n = 0; n <= rig.trace.n_ops; n++)
		lose_power_after(&rig, n, DISK_SECTOR_BYTES);
	assert_true(rig.n_recovered > 100);
	check_enough_are_whole(&rig, 2);
	rig_close(&rig);
}

/* Fill it until segments go. */
static size_t fill_up(struct rig *rig)
{
	for (unsigned i = 0; i < 9; i++) {
		append(rig, 60);
		commit(rig);
	}
	sync_all(rig);
	return rig->trace.n_ops;
}

static void full_store_is_recovered_from_every_image(void **state)
{
	struct rig rig;
	size_t n;

	(void)state;
	rig_open(&rig, "full_store_is_recovered_from_every_image", 1400);
	n = fill_up(&rig);
	for (unsigned i = 0; i < 12; i++) {
		append(&rig, i % 4 == 3 ? 40 : 2 + dice_below(&rig.d, 5));
		commit(&rig);
		if (i % 2 == 1)
			sync_all(&rig);
	}
	rig_stop(&rig);
	for (; n <= rig.trace.n_ops; n++) {
		lose_power_after(&rig, n, DISK_PAGE_BYTES);
		lose_power_after(&rig, n, DISK_SECTOR_BYTES); // more than can be tried: some
	}
	assert_true(rig.n_recovered > 100);
	check_enough_are_whole(&rig, 3);
	rig_close(&rig);
}

/* The writer has come round, and not all of that has reached the disk: any of the segments may be whole. */
static void lapped_store_keeps_what_was_synced_and_not_written_over(void **state)
{
	struct rig rig;
	size_t lapped;

	(void)state;
	rig_open(&rig, "lapped_store_keeps_what_was_synced_and_not_written_over", 1400);
	(void)fill_up(&rig);
	while (segment_at(&rig.store->index, 0)->sequence < rig.store->index.n_places - 20) {
		append(&rig, 50);
		commit(&rig);
	}
	lapped = rig.trace.n_ops;
	while (segment_at(&rig.store->index, 0)->sequence < rig.store->index.n_places + 5) {
		append(&rig, 5);
		commit(&rig);
	}
	rig_stop(&rig);
	for (unsigned i = 0; i < LAPPED_CRASHES; i++)
		lose_power_after(&rig,
				 lapped + dice_below(&rig.d, (uint32_t)(rig.trace.n_ops - lapped)),
				 DISK_PAGE_BYTES);
	assert_true(rig.n_recovered > 100);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(young_store_is_recovered_from_every_image),
		cmocka_unit_test(full_store_is_recovered_from_every_image),
		cmocka_unit_test(lapped_store_keeps_what_was_synced_and_not_written_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
