/* test_store_crash.c - what a store is after a crash at any moment.
 *
 * A run appends, commits and syncs at random, and io_trace.h remembers each write.  From every image of the
 * files that a crash may leave the store is opened again, and its PCAP is read by libpcap:
 *   the process died    exactly what the last commit covers, as if the run had ended there
 *   the power was lost  whole records in order, none twice, and all that the last sync covered but what was
 *                       written over since
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka wants the above first
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/store_internal.h"
#include "tests/io_trace.h"
#include "tests/store_items.h"

enum { ITEMS_MAX = 60000, FILE_BYTES = 300000, RANGE = 1400, DATA = 0, INDEX = 1 };

struct rig {
	struct dice d;
	char dir[64];
	struct store_settings settings;
	struct store *store;
	uint32_t n_items;
	uint64_t uncommitted;
	struct io_trace trace;
	uint8_t *base[IO_FILES_MAX], *image[IO_FILES_MAX];
	size_t bytes[IO_FILES_MAX];
	/* After op i: items covered by the last whole commit, and by the last whole sync. */
	uint32_t *committed, *synced;
	size_t *synced_op; // the data's fdatasync of that sync
};

static const char *const names[IO_FILES_MAX] = {"capture.data", "capture.index"};

static void load_bases(struct rig *rig, uint64_t inodes[IO_FILES_MAX])
{
	for (unsigned file = 0; file < IO_FILES_MAX; file++) {
		int fd = openat(rig->settings.dir_fd, names[file], O_RDONLY);
		struct stat st;

		assert_int_equal(fstat(fd, &st), 0);
		inodes[file] = st.st_ino;
		rig->bytes[file] = (size_t)st.st_size;
		rig->base[file] = malloc(rig->bytes[file]);
		rig->image[file] = malloc(rig->bytes[file]);
		assert_int_equal(pread(fd, rig->base[file], rig->bytes[file], 0), st.st_size);
		(void)close(fd);
	}
}

static void rig_open(struct rig *rig, const char *name)
{
	uint64_t inodes[IO_FILES_MAX];
	struct error err = {0};

	memset(rig, 0, sizeof(*rig));
	rig->d = dice_open(name);
	(void)snprintf(rig->dir, sizeof(rig->dir), "%s/test_store_crash.XXXXXX", P_tmpdir);
	assert_non_null(mkdtemp(rig->dir));
	rig->settings = (struct store_settings){.dir_fd = open(rig->dir, O_RDONLY | O_DIRECTORY),
						.name = "capture",
						.file_bytes_max = FILE_BYTES,
						.snap_bytes = ITEM_SNAP,
						.timestamps = TIMESTAMPS_NANO,
						.reserve = true,
						.is_durable = true};
	rig->store = store_open(&rig->settings, &err);
	if (rig->store == NULL)
		fail_msg("%s", err.text);
	load_bases(rig, inodes);
	io_trace_start(&rig->trace, inodes);
}

static void rig_close(struct rig *rig)
{
	io_trace_stop();
	store_close(rig->store);
	(void)close(rig->settings.dir_fd);
	assert_int_equal(rmdir(rig->dir), 0); // nothing is left behind
	io_trace_fini(&rig->trace);
	for (unsigned file = 0; file < IO_FILES_MAX; file++) {
		free(rig->base[file]);
		free(rig->image[file]);
	}
	free(rig->committed);
	free(rig->synced);
	free(rig->synced_op);
}

static void append(struct rig *rig, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++, rig->n_items++) {
		item_append(rig->store, rig->n_items, RANGE);
		rig->uncommitted += record_bytes(item_caplen(rig->n_items, RANGE));
	}
}

static struct store_mark mark_of(const struct rig *rig)
{
	return (struct store_mark){.epoch = 5,
				   .dealt_ns = ITEM_BASE_NS + 10 * (uint64_t)rig->n_items,
				   .n_rings = 1,
				   .cursors = {rig->n_items}};
}

static int commit(struct rig *rig)
{
	const struct store_mark mark = mark_of(rig);

	rig->uncommitted = 0;
	return store_commit(rig->store, &mark);
}

/* Note for the ops since the last note what is covered after them. */
static void note(struct rig *rig, uint32_t committed, uint32_t synced, size_t synced_op)
{
	static size_t noted;
	size_t n = rig->trace.n_ops;

	if (rig->committed == NULL) {
		noted = 0;
		rig->committed = calloc(100000, sizeof(*rig->committed));
		rig->synced = calloc(100000, sizeof(*rig->synced));
		rig->synced_op = calloc(100000, sizeof(*rig->synced_op));
	}
	assert_true(n < 100000);
	for (; noted < n; noted++) {
		bool is_last = noted + 1 == n;
		uint32_t before = noted > 0 ? rig->committed[noted - 1] : 0;

		// The last op of a commit is the write of its slot, the last one of a sync the index's.
		rig->committed[noted] = is_last ? committed : before;
		rig->synced[noted] = is_last ? synced : noted > 0 ? rig->synced[noted - 1] : 0;
		rig->synced_op[noted] = is_last	    ? synced_op
					: noted > 0 ? rig->synced_op[noted - 1]
						    : 0;
	}
}

/* A run: about `n` records, commits and syncs in between. */
static void run(struct rig *rig, uint32_t n)
{
	uint32_t committed = 0, synced = 0;
	size_t synced_op = 0;

	while (rig->n_items < n) {
		append(rig, 1 + dice_below(&rig->d, 400));
		note(rig, committed, synced, synced_op);
		if (rig->uncommitted > STORE_COMMIT_BYTES - 700000 || dice_one_in(&rig->d, 6)) {
			assert_int_equal(commit(rig), 0);
			committed = rig->n_items;
			note(rig, committed, synced, synced_op);
		}
		// Seldom: most of what was synced is written over before the next one.
		if (dice_one_in(&rig->d, 35) || rig->n_items - synced > 9000) {
			size_t first = rig->trace.n_ops; // its fdatasync of the data

			assert_int_equal(store_sync(rig->store), 0);
			synced = committed;
			synced_op = first;
			note(rig, committed, synced, synced_op);
		}
	}
}

/* ---- opening an image ---- */

static struct store *resume_image(struct rig *rig, bool was_power_lost,
				  struct store_recovery *recovery, struct error *err)
{
	struct store_settings settings = rig->settings;
	struct store *store;

	settings.dir_fd = openat(rig->settings.dir_fd, "after", O_RDONLY | O_DIRECTORY);
	if (settings.dir_fd < 0) {
		assert_int_equal(mkdirat(rig->settings.dir_fd, "after", 0700), 0);
		settings.dir_fd = openat(rig->settings.dir_fd, "after", O_RDONLY | O_DIRECTORY);
	}
	for (unsigned file = 0; file < IO_FILES_MAX; file++) {
		int fd = openat(settings.dir_fd, names[file], O_WRONLY | O_CREAT | O_TRUNC, 0600);

		assert_int_equal(write(fd, rig->image[file], rig->bytes[file]), rig->bytes[file]);
		(void)close(fd);
	}
	store = store_resume(&settings, was_power_lost, recovery, err);
	(void)close(settings.dir_fd);
	return store;
}

/* Its last close takes the files along. */
static void close_image(struct rig *rig, struct store *store)
{
	if (store != NULL)
		store_close(store);
	for (unsigned file = 0; store == NULL && file < IO_FILES_MAX; file++) {
		char path[64];

		(void)snprintf(path, sizeof(path), "after/%s", names[file]);
		assert_int_equal(unlinkat(rig->settings.dir_fd, path, 0), 0);
	}
	assert_int_equal(unlinkat(rig->settings.dir_fd, "after", AT_REMOVEDIR), 0);
}

/* The first of items [0, n) that a file which holds the newest of them begins with. */
static uint32_t first_that_fits(uint32_t n)
{
	uint64_t bytes = PCAP_HEADER_BYTES;

	while (n > 0 && bytes + ITEM_RECORD + item_caplen(n - 1, RANGE) <= FILE_BYTES)
		bytes += ITEM_RECORD + item_caplen(--n, RANGE);
	return n;
}

static void check_holds_exactly(struct store *store, uint32_t n)
{
	struct found found = items_read(store, FILE_BYTES, RANGE);
	uint32_t from = first_that_fits(n);

	assert_int_equal(found.n, n - from);
	for (uint32_t i = 0; i < found.n; i++)
		assert_int_equal(found.list[i], from + i);
	found_fini(&found);
}

/* ---- the process died ---- */

static void check_goes_on(struct rig *rig, struct store *store, uint32_t n)
{
	struct rig on = {.d = rig->d, .store = store, .n_items = n};

	for (unsigned i = 0; i < 5; i++) {
		append(&on, 1 + dice_below(&on.d, 600));
		if (dice_one_in(&on.d, 2))
			assert_int_equal(commit(&on), 0);
	}
	check_holds_exactly(store, on.n_items);
}

/* The one who resumed dies, too, in the write of its first commit. */
static struct store *die_in_first_commit(struct rig *rig, struct store *store, uint32_t n)
{
	struct rig on = {.d = rig->d, .store = store, .n_items = n};
	struct store_settings settings = rig->settings;
	struct store_recovery recovery;
	struct error err = {0};

	append(&on, 10);
	store_flush(store);
	io_trace_fail(IO_SHORT, 0, 1, &on.d);
	assert_int_equal(commit(&on), -EIO);
	io_trace_fail(IO_SHORT, 0, 0, NULL);
	store_keep(store);
	store_close(store);
	settings.dir_fd = openat(rig->settings.dir_fd, "after", O_RDONLY | O_DIRECTORY);
	store = store_resume(&settings, false, &recovery, &err);
	if (store == NULL)
		fail_msg("%s", err.text);
	(void)close(settings.dir_fd);
	check_holds_exactly(store, n);
	return store;
}

/* Is a write whole in the images?  What is missing may be zeros over zeros. */
static bool is_in(const struct io_op *op, uint8_t *const image[IO_FILES_MAX])
{
	return op->is_sync || memcmp(image[op->file] + op->at, op->bytes, op->n) == 0;
}

static void death_at(struct rig *rig, size_t op, size_t part)
{
	uint32_t n = op > 0 ? rig->committed[op - 1] : 0;
	struct store_recovery recovery;
	struct error err = {0};
	struct store *store;

	for (unsigned file = 0; file < IO_FILES_MAX; file++)
		io_trace_after_death(&rig->trace, file, op, part, rig->base[file], rig->image[file],
				     rig->bytes[file]);
	if (op < rig->trace.n_ops && is_in(&rig->trace.ops[op], rig->image))
		n = rig->committed[op];
	store = resume_image(rig, false, &recovery, &err);
	if (store == NULL)
		fail_msg("after op %zu and %zu bytes: %s", op, part, err.text);
	check_holds_exactly(store, n);
	if (n > 0) {
		assert_int_equal(recovery.mark.epoch, 5);
		assert_int_equal(recovery.mark.cursors[0], n);
	}
	if (dice_one_in(&rig->d, 2))
		store = die_in_first_commit(rig, store, n);
	if (dice_one_in(&rig->d, 4))
		check_goes_on(rig, store, n);
	close_image(rig, store);
}

/* GATECAP_EVERY=1: from every op, not from some. */
static bool is_thorough(void)
{
	return getenv("GATECAP_EVERY") != NULL;
}

/* How much of an op is done. */
static size_t torn_at(struct rig *rig, size_t op)
{
	size_t n = op < rig->trace.n_ops ? rig->trace.ops[op].n : 0;

	return n > 0 ? dice_below(&rig->d, (uint32_t)n + 1) : 0;
}

static void process_that_dies_leaves_what_its_last_commit_covers(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, "process_that_dies_leaves_what_its_last_commit_covers");
	run(&rig, 20000);
	io_trace_stop();
	assert_true(rig.trace.n_ops > 50);
	for (size_t op = 0; is_thorough() && op <= rig.trace.n_ops; op++)
		for (unsigned i = 0; i < 4; i++)
			death_at(&rig, op, torn_at(&rig, op));
	for (unsigned i = 0; i < 60; i++) {
		size_t op = dice_below(&rig.d, (uint32_t)rig.trace.n_ops);

		// Every other time in the write of an index: the torn slot.
		while (i % 2 == 0 && rig.trace.ops[op].file != INDEX)
			op = dice_below(&rig.d, (uint32_t)rig.trace.n_ops);
		death_at(&rig, op, torn_at(&rig, op));
	}
	death_at(&rig, 0, 0);
	death_at(&rig, rig.trace.n_ops, 0);
	rig_close(&rig);
}

/* ---- the power was lost ---- */

/* Where the data file has item n, as the trace wrote it last before op `end`: its segment; -1: nowhere. */
struct places {
	int64_t *segment_of; // of each item
};

static uint32_t segment_bytes(const struct rig *rig)
{
	struct index_header h;

	memcpy(&h, rig->base[INDEX], sizeof(h));
	return h.segment_bytes;
}

/* Each write of data holds whole records: note the segment of each item written before `end`. */
static int64_t *find_places(const struct rig *rig, size_t end)
{
	int64_t *segment_of = malloc(ITEMS_MAX * sizeof(*segment_of));

	memset(segment_of, 0xff, ITEMS_MAX * sizeof(*segment_of));
	for (size_t i = 0; i < end; i++) {
		const struct io_op *op = &rig->trace.ops[i];

		for (size_t at = 0; op->file == DATA && at < op->n;) {
			struct stored stored;
			uint32_t n;

			memcpy(&stored, op->bytes + at, sizeof(stored));
			memcpy(&n, op->bytes + at + sizeof(stored), sizeof(n));
			segment_of[n] = ((int64_t)op->at + (int64_t)at) / segment_bytes(rig);
			at += sizeof(stored) + stored.caplen;
		}
	}
	return segment_of;
}

/* Was anything written to this segment between two ops? */
static bool is_written_over(const struct rig *rig, int64_t segment, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++) {
		const struct io_op *op = &rig->trace.ops[i];

		if (op->file == DATA && !op->is_sync &&
		    (int64_t)op->at / segment_bytes(rig) == segment)
			return true;
	}
	return false;
}

/* All that was synced, and whose segment nobody touched since, is there; unless it was trimmed. */
static void check_keeps_promise(const struct rig *rig, const struct found *found, size_t op)
{
	uint32_t synced = op > 0 ? rig->synced[op - 1] : 0;
	size_t synced_op = op > 0 ? rig->synced_op[op - 1] : 0;
	int64_t *segment_of = find_places(rig, synced_op);
	uint64_t bytes = found->bytes;
	int64_t last = -1;
	bool is_over = false;

	for (uint32_t n = synced; n-- > first_that_fits(synced);) {
		if (segment_of[n] != last)
			is_over = is_written_over(rig, segment_of[n], synced_op, op);
		last = segment_of[n];
		if (is_over || found_has(found, n))
			continue;
		// Trimmed: what is there is all newer, and one more would not have fitted.
		assert_true(found->n > 0 && found->list[0] > n);
		assert_true(bytes + ITEM_RECORD + ITEM_SNAP > FILE_BYTES);
	}
	free(segment_of);
}

static void power_loss_at(struct rig *rig, size_t op, unsigned *n_recovered)
{
	struct store_recovery recovery;
	struct error err = {0};
	struct store *store;
	struct found found;

	for (unsigned file = 0; file < IO_FILES_MAX; file++)
		io_trace_after_power_loss(&rig->trace, file, op, &rig->d, rig->base[file],
					  rig->image[file], rig->bytes[file]);
	store = resume_image(rig, true, &recovery, &err);
	if (store == NULL) {
		// Only while no sync has come to its end.
		assert_true(op == 0 || rig->synced_op[op - 1] == 0);
	} else {
		found = items_read(store, FILE_BYTES, RANGE);
		check_keeps_promise(rig, &found, op);
		*n_recovered += found.n > 0;
		found_fini(&found);
	}
	close_image(rig, store);
}

static void power_loss_leaves_whole_records_and_all_that_was_synced(void **state)
{
	unsigned n_recovered = 0;
	struct rig rig;

	(void)state;
	rig_open(&rig, "power_loss_leaves_whole_records_and_all_that_was_synced");
	run(&rig, 20000);
	io_trace_stop();
	for (size_t op = 0; is_thorough() && op <= rig.trace.n_ops; op++)
		for (unsigned i = 0; i < 10; i++)
			power_loss_at(&rig, op, &n_recovered);
	for (unsigned i = 0; i < 120; i++)
		power_loss_at(&rig, dice_below(&rig.d, (uint32_t)rig.trace.n_ops + 1),
			      &n_recovered);
	assert_true(n_recovered > 10);
	rig_close(&rig);
}

/* ---- a disk that refuses ---- */

static void check_books(const struct rig *rig)
{
	struct store_counts c;
	uint64_t sum = 0;

	assert_int_equal(store_count(rig->store, &c), 0);
	for (unsigned port = 0; port < PORTS_MAX; port++)
		sum += c.in_file[port] + c.overwritten[port] + c.lost_disk[port];
	assert_int_equal(sum, rig->n_items);
}

static uint64_t n_lost(const struct rig *rig)
{
	struct store_counts c;
	uint64_t lost = 0;

	assert_int_equal(store_count(rig->store, &c), 0);
	for (unsigned port = 0; port < PORTS_MAX; port++)
		lost += c.lost_disk[port];
	return lost;
}

static void refuse_at_random(struct rig *rig, enum io_fault fault, int errno_)
{
	io_trace_fail(fault, errno_, 1 + dice_below(&rig->d, 4), &rig->d);
	for (unsigned i = 0; i < 20; i++) {
		append(rig, 1 + dice_below(&rig->d, 300));
		if (dice_one_in(&rig->d, 2))
			(void)commit(rig);
	}
	io_trace_fail(fault, 0, 0, NULL);
}

static void disk_that_refuses_costs_whole_records_and_each_is_counted(void **state)
{
	static const int errnos[] = {ENOSPC, EIO};
	struct found found;
	struct rig rig;
	uint64_t lost;

	(void)state;
	rig_open(&rig, "disk_that_refuses_costs_whole_records_and_each_is_counted");
	io_trace_stop();
	for (unsigned i = 0; i < 12; i++) {
		refuse_at_random(&rig, i % 3 == 0 ? IO_SHORT : IO_ERRNO, errnos[i % 2]);
		check_books(&rig);
		// The next commit tries again, and from then on nothing is lost any more.
		assert_int_equal(commit(&rig), 0);
		assert_int_equal(store_disk_error(rig.store), 0);
		lost = n_lost(&rig);
		append(&rig, 300);
		check_books(&rig);
		assert_int_equal(n_lost(&rig), lost);
		found = items_read(rig.store, FILE_BYTES, RANGE);
		for (uint32_t n = rig.n_items; n-- > rig.n_items - 300;)
			assert_true(n < first_that_fits(rig.n_items) || found_has(&found, n));
		found_fini(&found);
	}
	assert_true(lost > 100);
	rig_close(&rig);
}

/* Commits fail, data does not: what the last good one names is not written over, however long. */
static void disk_that_takes_no_commit_keeps_the_last_one_whole(void **state)
{
	struct store_recovery recovery;
	struct found before, after;
	struct error err = {0};
	struct rig rig;

	(void)state;
	rig_open(&rig, "disk_that_takes_no_commit_keeps_the_last_one_whole");
	io_trace_stop();
	append(&rig, 1000);
	assert_int_equal(commit(&rig), 0);
	before = items_read(rig.store, FILE_BYTES, RANGE);
	append(&rig, 20000); // without a commit: three times round the file
	assert_true(n_lost(&rig) > 0);
	check_books(&rig);
	store_keep(rig.store);
	store_close(rig.store);
	rig.store = store_resume(&rig.settings, false, &recovery, &err);
	if (rig.store == NULL)
		fail_msg("%s", err.text);
	after = items_read(rig.store, FILE_BYTES, RANGE);
	assert_int_equal(after.n, before.n);
	assert_memory_equal(after.list, before.list, before.n * sizeof(*before.list));
	found_fini(&before);
	found_fini(&after);
	rig_close(&rig);
}

/* ---- damage ---- */

/* Some files may be refused, with a sentence; none may crash us, or show what was never recorded. */
static void open_damaged(const struct rig *rig, bool was_power_lost)
{
	struct store_recovery recovery;
	struct error err = {0};
	struct store *store = store_resume(&rig->settings, was_power_lost, &recovery, &err);
	struct store_view *view;
	uint8_t buf[4096];
	int rc = 0;

	if (store == NULL) {
		assert_non_null(strstr(err.text, "capture."));
		assert_non_null(strstr(err.text, "left alone"));
		return;
	}
	view = store_view_final(store, &err);
	while (view != NULL && rc == 0)
		rc = store_view_read(view, buf, sizeof(buf));
	store_view_close(view);
	store_keep(store);
	store_close(store);
}

static void flip(const struct rig *rig, const char *name, size_t at)
{
	int fd = openat(rig->settings.dir_fd, name, O_RDWR);
	uint8_t byte;

	assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
	byte ^= (uint8_t)(1 << at % 8);
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
	(void)close(fd);
}

static void index_damaged_at_any_byte_is_a_sentence_or_what_was_recorded(void **state)
{
	struct rig rig;
	size_t used;

	(void)state;
	rig_open(&rig, "index_damaged_at_any_byte_is_a_sentence_or_what_was_recorded");
	io_trace_stop();
	append(&rig, 100);
	assert_int_equal(commit(&rig), 0);
	append(&rig, 100);
	assert_int_equal(commit(&rig), 0);
	assert_int_equal(store_sync(rig.store), 0);
	used = rig.store->image_bytes;
	store_keep(rig.store);
	store_close(rig.store);
	for (size_t at = 0; at < sizeof(struct index_header) + INDEX_SLOTS * used; at++) {
		size_t slot_at = at - sizeof(struct index_header);
		size_t byte = at < sizeof(struct index_header)
				      ? at
				      : INDEX_BLOCK_BYTES + slot_at / used * index_slot_bytes(1) +
						slot_at % used;

		flip(&rig, names[INDEX], byte);
		open_damaged(&rig, at % 2 == 0);
		flip(&rig, names[INDEX], byte);
	}
	for (unsigned i = 0; i < 300; i++) { // and the data
		size_t byte = dice_below(&rig.d, 100000);

		flip(&rig, names[DATA], byte);
		open_damaged(&rig, i % 2 == 0);
		flip(&rig, names[DATA], byte);
	}
	rig.store =
		store_resume(&rig.settings, false, &(struct store_recovery){0}, &(struct error){0});
	assert_non_null(rig.store); // as it was
	check_holds_exactly(rig.store, 200);
	rig_close(&rig);
}

static void refuse_resume(const struct rig *rig, const char *why)
{
	struct store_recovery recovery;
	struct error err = {0};

	assert_null(store_resume(&rig->settings, false, &recovery, &err));
	if (strstr(err.text, why) == NULL)
		fail_msg("\"%s\" is not in: %s", why, err.text);
	store_remove(rig->settings.dir_fd, rig->settings.name);
}

static void foreign_files_are_a_sentence_and_stay(void **state)
{
	struct rig rig;
	struct stat st;
	int dir, fd;

	(void)state;
	rig_open(&rig, "foreign_files_are_a_sentence_and_stay");
	dir = rig.settings.dir_fd;
	rig.settings.name = "other";
	refuse_resume(&rig, strerror(ENOENT));
	assert_int_equal(mkdirat(dir, "other.index", 0700), 0);
	refuse_resume(&rig, strerror(EISDIR));
	assert_int_equal(unlinkat(dir, "other.index", AT_REMOVEDIR), 0);
	assert_int_equal(mkfifoat(dir, "other.index", 0600), 0);
	refuse_resume(&rig, "not a regular file");
	assert_int_equal(unlinkat(dir, "other.index", 0), 0);
	assert_int_equal(symlinkat("capture.index", dir, "other.index"), 0);
	refuse_resume(&rig, strerror(ELOOP));
	assert_int_equal(unlinkat(dir, "other.index", 0), 0);
	fd = openat(dir, "other.index", O_RDWR | O_CREAT, 0600);
	for (unsigned bytes = 0; bytes < 5000; bytes += 1000) {
		assert_int_equal(ftruncate(fd, bytes), 0);
		refuse_resume(&rig, bytes < 56 ? strerror(EIO) : "not gatecap's");
	}
	assert_int_equal(fstatat(dir, "other.index", &st, 0), 0);
	assert_int_equal(st.st_size, 4000); // store_remove() did not take it
	// Our index, and the data is gone.
	assert_int_equal(unlinkat(dir, "other.index", 0), 0);
	assert_int_equal(linkat(dir, "capture.index", dir, "other.index", 0), 0);
	{
		struct store_recovery recovery;
		struct error err = {0};

		assert_null(store_resume(&rig.settings, false, &recovery, &err));
		assert_non_null(strstr(err.text, "other.data"));
	}
	store_remove(dir, "other");
	assert_int_equal(fstatat(dir, "other.index", &st, 0), -1);
	(void)close(fd);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(process_that_dies_leaves_what_its_last_commit_covers),
		cmocka_unit_test(power_loss_leaves_whole_records_and_all_that_was_synced),
		cmocka_unit_test(disk_that_refuses_costs_whole_records_and_each_is_counted),
		cmocka_unit_test(disk_that_takes_no_commit_keeps_the_last_one_whole),
		cmocka_unit_test(index_damaged_at_any_byte_is_a_sentence_or_what_was_recorded),
		cmocka_unit_test(foreign_files_are_a_sentence_and_stay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
