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
#include <pcap/pcap.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/store_internal.h"
#include "tests/io_trace.h"

enum { ITEMS_MAX = 60000, FILE_BYTES = 300000, SNAP = 1500, RECORD = 16, DATA = 0, INDEX = 1 };
enum { BASE_NS = 1000000 };

/* Item n: time BASE_NS + 10 n; its frame begins with n. */
static uint32_t caplen_of(uint32_t n)
{
	return 8 + (n * 2654435761U >> 16) % 1400;
}

static void fill(uint8_t *frame, uint32_t n)
{
	for (uint32_t i = 0; i < caplen_of(n); i++)
		frame[i] = (uint8_t)(n * 31 + i * 7);
	memcpy(frame, &n, sizeof(n));
}

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
						.snap_bytes = SNAP,
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
	uint8_t frame[SNAP];

	for (uint32_t i = 0; i < n; i++, rig->n_items++) {
		struct record r = {.time_ns = BASE_NS + 10 * (uint64_t)rig->n_items,
				   .wire_len = 2000,
				   .caplen = (uint16_t)caplen_of(rig->n_items),
				   .captures = 1,
				   .port = (uint8_t)(rig->n_items % 3)};

		fill(frame, rig->n_items);
		store_append(rig->store, &r, frame);
		rig->uncommitted += record_bytes(r.caplen);
	}
}

static struct store_mark mark_of(const struct rig *rig)
{
	return (struct store_mark){.epoch = 5,
				   .dealt_ns = BASE_NS + 10 * (uint64_t)rig->n_items,
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
		if (dice_one_in(&rig->d, 10)) {
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

struct found {
	uint32_t *list;
	uint32_t n;
	uint64_t bytes; // of the PCAP
};

/* What libpcap reads: whole records, in order. */
static struct found read_store(struct store *store)
{
	struct found found = {.list = calloc(ITEMS_MAX, sizeof(uint32_t))};
	struct error err = {0};
	struct store_view *view = store_view_final(store, &err);
	char why[PCAP_ERRBUF_SIZE];
	struct pcap_pkthdr *h;
	const uint8_t *bytes;
	uint8_t frame[SNAP], *pcap;
	uint64_t in_file = 0;
	pcap_t *p;
	int rc;

	if (view == NULL)
		fail_msg("%s", err.text);
	found.bytes = store_view_bytes(view);
	assert_true(found.bytes <= FILE_BYTES);
	pcap = malloc(found.bytes);
	assert_int_equal(store_view_read(view, pcap, found.bytes), 0);
	p = pcap_fopen_offline_with_tstamp_precision(fmemopen(pcap, found.bytes, "rb"),
						     PCAP_TSTAMP_PRECISION_NANO, why);
	assert_non_null(p);
	while ((rc = pcap_next_ex(p, &h, &bytes)) == 1) {
		uint32_t n;

		assert_true(h->caplen >= 8);
		memcpy(&n, bytes, sizeof(n));
		assert_int_equal(h->caplen, caplen_of(n));
		assert_int_equal(h->ts.tv_usec, BASE_NS + 10 * n);
		fill(frame, n);
		assert_memory_equal(bytes, frame, h->caplen);
		assert_true(found.n == 0 || found.list[found.n - 1] < n); // in order, none twice
		found.list[found.n++] = n;
	}
	assert_int_equal(rc, PCAP_ERROR_BREAK);
	for (unsigned port = 0; port < PORTS_MAX; port++)
		in_file += store_view_counts(view)->in_file[port];
	assert_int_equal(in_file, found.n);
	pcap_close(p);
	store_view_close(view);
	free(pcap);
	return found;
}

/* The first of items [0, n) that a file which holds the newest of them begins with. */
static uint32_t first_that_fits(uint32_t n)
{
	uint64_t bytes = PCAP_HEADER_BYTES;

	while (n > 0 && bytes + RECORD + caplen_of(n - 1) <= FILE_BYTES)
		bytes += RECORD + caplen_of(--n);
	return n;
}

static void check_holds_exactly(struct store *store, uint32_t n)
{
	struct found found = read_store(store);
	uint32_t from = first_that_fits(n);

	assert_int_equal(found.n, n - from);
	for (uint32_t i = 0; i < found.n; i++)
		assert_int_equal(found.list[i], from + i);
	free(found.list);
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

static void process_that_dies_leaves_what_its_last_commit_covers(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, "process_that_dies_leaves_what_its_last_commit_covers");
	run(&rig, 20000);
	io_trace_stop();
	assert_true(rig.trace.n_ops > 50);
	for (unsigned i = 0; i < 60; i++) {
		size_t op = dice_below(&rig.d, (uint32_t)rig.trace.n_ops);
		size_t n = rig.trace.ops[op].n;

		// Every other time in the write of an index: the torn slot.
		while (i % 2 == 0 && rig.trace.ops[op].file != INDEX)
			op = dice_below(&rig.d, (uint32_t)rig.trace.n_ops);
		death_at(&rig, op, n > 0 ? dice_below(&rig.d, (uint32_t)n + 1) : 0);
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

static bool has(const struct found *found, uint32_t n)
{
	uint32_t low = 0, high = found->n;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (found->list[middle] == n)
			return true;
		if (found->list[middle] < n)
			low = middle + 1;
		else
			high = middle;
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
		if (is_over || has(found, n))
			continue;
		// Trimmed: what is there is all newer, and one more would not have fitted.
		assert_true(found->n > 0 && found->list[0] > n);
		assert_true(bytes + RECORD + SNAP > FILE_BYTES);
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
		found = read_store(store);
		check_keeps_promise(rig, &found, op);
		*n_recovered += found.n > 0;
		free(found.list);
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
	for (unsigned i = 0; i < 80; i++)
		power_loss_at(&rig, dice_below(&rig.d, (uint32_t)rig.trace.n_ops + 1),
			      &n_recovered);
	assert_true(n_recovered > 40);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(process_that_dies_leaves_what_its_last_commit_covers),
		cmocka_unit_test(power_loss_leaves_whole_records_and_all_that_was_synced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
