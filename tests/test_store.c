/* test_store.c - the store beside a list of everything that was appended.
 *
 * The oracle: a finished PCAP holds the longest run of newest records that fits into MaxFileSize, to the
 * byte, and libpcap reads it.  Running out of disk is made with RLIMIT_FSIZE, which needs no rights.
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
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "control/store.h"
#include "tests/dice.h"

enum { MB = FILE_MB_BYTES, BASE_NS = 1700000000, RECORD = 16 };

/* What was appended; its frame follows from its number. */
struct item {
	uint64_t time_ns;
	uint32_t number, caplen, wire_len; // caplen as the store keeps it
	uint8_t port;
	bool is_lost;
};

struct rig {
	struct dice d;
	struct store_settings settings;
	char dir[64];
	struct store *store;
	struct item *items;
	uint32_t n_items, n_allocated;
	uint64_t now_ns;
	uint8_t frame[SNAP_BYTES_MAX];
};

static void rig_open(struct rig *rig, const char *name, uint64_t bytes_max, uint32_t snap)
{
	struct error err = {0};

	memset(rig, 0, sizeof(*rig));
	rig->d = dice_open(name);
	(void)snprintf(rig->dir, sizeof(rig->dir), "%s/test_store.XXXXXX", P_tmpdir);
	assert_non_null(mkdtemp(rig->dir));
	rig->settings = (struct store_settings){.dir_fd = open(rig->dir, O_RDONLY | O_DIRECTORY),
						.name = "data",
						.file_bytes_max = bytes_max,
						.snap_bytes = snap,
						.timestamps = TIMESTAMPS_NANO};
	assert_true(rig->settings.dir_fd >= 0);
	rig->store = store_open(&rig->settings, &err);
	if (rig->store == NULL)
		fail_msg("%s", err.text);
	rig->now_ns = BASE_NS * UINT64_C(1000000000);
}

static void rig_close(struct rig *rig)
{
	store_close(rig->store);
	(void)close(rig->settings.dir_fd);
	assert_int_equal(rmdir(rig->dir), 0); // store_close() left nothing behind
	free(rig->items);
}

static uint8_t fill_of(uint32_t number, uint32_t at)
{
	return (uint8_t)(number * 31 + at + (number >> 8));
}

/* Append one record of `caplen` bytes before the store cuts it. */
static void append(struct rig *rig, uint32_t caplen)
{
	struct record r = {.time_ns = rig->now_ns, .caplen = (uint16_t)caplen, .captures = 1};
	uint32_t snap = rig->settings.snap_bytes;

	if (rig->n_items == rig->n_allocated) {
		rig->n_allocated = rig->n_allocated > 0 ? 2 * rig->n_allocated : 1024;
		rig->items = reallocarray(rig->items, rig->n_allocated, sizeof(*rig->items));
		assert_non_null(rig->items);
	}
	r.wire_len = caplen + dice_below(&rig->d, 3);
	r.port = (uint8_t)dice_below(&rig->d, PORTS_MAX);
	for (uint32_t i = 0; i < caplen && i < snap; i++)
		rig->frame[i] = fill_of(rig->n_items, i);
	rig->items[rig->n_items] = (struct item){
		r.time_ns, rig->n_items, caplen < snap ? caplen : snap, r.wire_len, r.port, false};
	rig->n_items++;
	store_append(rig->store, &r, rig->frame);
	rig->now_ns += dice_below(&rig->d, 2000);
}

static void append_locked(struct rig *rig, uint32_t caplen)
{
	store_lock(rig->store);
	append(rig, caplen);
	store_unlock(rig->store);
}

static void commit_locked(struct rig *rig)
{
	const struct store_mark mark = {.epoch = 1, .dealt_ns = rig->now_ns};

	store_lock(rig->store);
	assert_int_equal(store_commit(rig->store, &mark), 0);
	store_unlock(rig->store);
}

static uint8_t *read_all(struct store_view *view)
{
	uint64_t n = store_view_bytes(view);
	uint8_t *pcap = malloc(n), more;

	assert_non_null(pcap);
	assert_int_equal(store_view_read(view, pcap, n), 0);
	assert_int_equal(store_view_read(view, &more, 1), -ENODATA); // as long as it said
	return pcap;
}

static void check_record(const struct pcap_pkthdr *h, const uint8_t *bytes, const struct item *item)
{
	assert_int_equal(h->caplen, item->caplen);
	assert_int_equal(h->len, item->wire_len);
	assert_int_equal((uint64_t)h->ts.tv_sec * 1000000000 + (uint64_t)h->ts.tv_usec,
			 item->time_ns);
	for (uint32_t i = 0; i < item->caplen; i++)
		if (bytes[i] != fill_of(item->number, i))
			fail_msg("record %u is torn at byte %u", item->number, i);
}

/* libpcap reads items[from .. to) in this order, lost ones left out, and nothing else. */
static void check_pcap(const struct rig *rig, const uint8_t *pcap, uint64_t n, uint32_t from,
		       uint32_t to)
{
	char why[PCAP_ERRBUF_SIZE];
	FILE *f = fmemopen((void *)(uintptr_t)pcap, n, "rb");
	pcap_t *p = pcap_fopen_offline_with_tstamp_precision(f, PCAP_TSTAMP_PRECISION_NANO, why);
	struct pcap_pkthdr *h;
	const uint8_t *bytes;

	if (p == NULL)
		fail_msg("%s", why);
	assert_int_equal(pcap_datalink(p), DLT_EN10MB);
	assert_int_equal(pcap_snapshot(p), rig->settings.snap_bytes);
	for (uint32_t i = from; i < to; i++) {
		if (rig->items[i].is_lost)
			continue;
		assert_int_equal(pcap_next_ex(p, &h, &bytes), 1);
		check_record(h, bytes, &rig->items[i]);
	}
	assert_int_equal(pcap_next_ex(p, &h, &bytes), PCAP_ERROR_BREAK);
	pcap_close(p);
}

/* The first item of the longest run of newest ones that fits. */
static uint32_t first_that_fits(const struct rig *rig, uint32_t to, uint64_t *bytes)
{
	uint32_t from = to;

	*bytes = PCAP_HEADER_BYTES;
	while (from > 0) {
		const struct item *item = &rig->items[from - 1];
		uint64_t more = item->is_lost ? 0 : RECORD + item->caplen;

		if (*bytes + more > rig->settings.file_bytes_max)
			break;
		*bytes += more;
		from--;
	}
	return from;
}

static void check_counts(const struct rig *rig, const struct store_counts *c, uint32_t from,
			 uint32_t to)
{
	uint64_t appended[PORTS_MAX] = {0}, in_file[PORTS_MAX] = {0}, lost[PORTS_MAX] = {0};
	uint64_t first = 0, last = 0, lost_first = 0, lost_last = 0;

	for (uint32_t i = 0; i < to; i++) {
		const struct item *item = &rig->items[i];

		appended[item->port]++;
		lost[item->port] += item->is_lost;
		if (item->is_lost) {
			lost_first = lost_first ? lost_first : item->time_ns;
			lost_last = item->time_ns;
		} else if (i >= from) {
			in_file[item->port]++;
			first = first ? first : item->time_ns;
			last = item->time_ns;
		}
	}
	for (unsigned port = 0; port < PORTS_MAX; port++) {
		assert_int_equal(c->in_file[port], in_file[port]);
		assert_int_equal(c->lost_disk[port], lost[port]);
		assert_int_equal(c->in_file[port] + c->overwritten[port] + c->lost_disk[port],
				 appended[port]);
	}
	assert_int_equal(c->first_ns, first);
	assert_int_equal(c->last_ns, last);
	assert_int_equal(c->lost_first_ns, lost_first);
	assert_int_equal(c->lost_last_ns, lost_last);
}

/* Everything at once: a finished view against the list. */
static void check_final(const struct rig *rig)
{
	struct error err = {0};
	struct store_view *view = store_view_final(rig->store, &err);
	struct store_counts counts;
	uint64_t bytes;
	uint32_t from = first_that_fits(rig, rig->n_items, &bytes);
	uint8_t *pcap;

	if (view == NULL)
		fail_msg("%s", err.text);
	assert_int_equal(store_view_bytes(view), bytes);
	assert_true(bytes <= rig->settings.file_bytes_max);
	pcap = read_all(view);
	check_pcap(rig, pcap, bytes, from, rig->n_items);
	check_counts(rig, store_view_counts(view), from, rig->n_items);
	assert_int_equal(store_count(rig->store, &counts), 0);
	assert_memory_equal(&counts, store_view_counts(view), sizeof(counts));
	free(pcap);
	store_view_close(view);
}

/* Record sizes: of one kind, or mixed in several ways. */
static uint32_t throw_size(struct dice *d, unsigned mix, uint32_t snap)
{
	switch (mix) {
	case 0:
		return snap; // always the longest
	case 1:
		return dice_below(d, snap + 1);
	case 2:
		return dice_one_in(d, 40) ? snap : dice_below(d, snap / 20 + 2); // few long ones
	case 3:
		return dice_below(d, 2) ? snap
					: snap / 2 + 1; // two kinds that leave the most unused
	case 4:
		return dice_below(d, 3); // also empty records
	default:
		return dice_below(d, SNAP_BYTES_MAX); // longer than the snap length, mostly
	}
}

static void file_is_the_longest_run_of_newest_records_that_fits(void **state)
{
	static const uint32_t snaps[] = {1, 60, 120, 1500, 9000, 32767, 65535};

	(void)state;
	for (unsigned s = 0; s < sizeof(snaps) / sizeof(snaps[0]); s++)
		for (unsigned mix = 0; mix < 6; mix++) {
			uint64_t appended = 0, checked = 0;
			struct rig rig;

			if (mix == 4 && snaps[s] > 60)
				continue; // the same as with 60
			rig_open(&rig, "file_is_the_longest_run_of_newest_records_that_fits", MB,
				 snaps[s]);
			while (appended < 2 * MB + MB / 2) {
				uint32_t size = throw_size(&rig.d, mix, snaps[s]);

				append_locked(&rig, size);
				appended += RECORD + (size < snaps[s] ? size : snaps[s]);
				if (appended - checked > MB / 2) {
					check_final(&rig);
					checked = appended;
				}
			}
			check_final(&rig);
			rig_close(&rig);
		}
}

static void larger_files_keep_their_bound_too(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, "larger_files_keep_their_bound_too", 17 * (uint64_t)MB, 1500);
	for (unsigned i = 0; i < 60000; i++)
		append_locked(&rig, throw_size(&rig.d, 3, 1500));
	check_final(&rig);
	rig_close(&rig);
}

static void empty_store_is_a_header(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, "empty_store_is_a_header", MB, 120);
	check_final(&rig);
	append_locked(&rig, 0);
	check_final(&rig);
	rig_close(&rig);
}

static void view_reads_the_same_in_any_pieces_and_again(void **state)
{
	struct error err = {0};
	struct store_view *view;
	uint8_t *whole, *pieces;
	uint64_t n;
	struct rig rig;

	(void)state;
	rig_open(&rig, "view_reads_the_same_in_any_pieces_and_again", MB, 1500);
	for (unsigned i = 0; i < 3000; i++)
		append_locked(&rig, dice_below(&rig.d, 1600));
	view = store_view_final(rig.store, &err);
	assert_non_null(view);
	n = store_view_bytes(view);
	whole = read_all(view);
	pieces = malloc(n);
	for (unsigned round = 0; round < 2; round++) {
		store_view_rewind(view);
		memset(pieces, 0, n);
		for (uint64_t at = 0; at < n;) {
			uint64_t len = dice_below(&rig.d, round == 0 ? 50 : 200000);

			len = len < n - at ? len : n - at;
			assert_int_equal(store_view_read(view, pieces + at, len), 0);
			at += len;
		}
		assert_memory_equal(pieces, whole, n);
	}
	free(whole);
	free(pieces);
	store_view_close(view);
	rig_close(&rig);
}

static uint32_t word(const uint8_t *pcap, unsigned at)
{
	uint32_t w;

	memcpy(&w, pcap + at, 4);
	return w;
}

static void micro_and_nano_show_the_wall_clock(void **state)
{
	(void)state;
	for (unsigned nano = 0; nano < 2; nano++) {
		struct store_settings settings;
		struct error err = {0};
		struct store_view *view;
		uint8_t *pcap;
		struct rig rig;

		rig_open(&rig, "micro_and_nano_show_the_wall_clock", MB, 120);
		settings = rig.settings;
		settings.name = "other";
		settings.timestamps = nano ? TIMESTAMPS_NANO : TIMESTAMPS_MICRO;
		settings.wall_offset_ns = 1600000000000000000 - 999;
		store_close(rig.store);
		rig.store = store_open(&settings, &err);
		assert_non_null(rig.store);
		rig.now_ns = 7123456789 + 999;
		append_locked(&rig, 64);
		view = store_view_final(rig.store, &err);
		assert_non_null(view);
		pcap = read_all(view);
		assert_int_equal(word(pcap, 0), nano ? 0xa1b23c4d : 0xa1b2c3d4);
		assert_int_equal(word(pcap, 4), 2 | 4 << 16);
		assert_int_equal(word(pcap, 16), 120);
		assert_int_equal(word(pcap, 20), 1); // Ethernet
		assert_int_equal(word(pcap, 24), 1600000007);
		assert_int_equal(word(pcap, 28), nano ? 123456789 : 123456);
		free(pcap);
		store_view_close(view);
		rig_close(&rig);
	}
}

/* Snapshots. */

static void snapshot_of_a_quiet_store_is_what_the_final_view_would_be(void **state)
{
	struct error err = {0};
	struct store_view *final, *snapshot;
	uint8_t *a, *b;
	struct rig rig;

	(void)state;
	rig_open(&rig, "snapshot_of_a_quiet_store_is_what_the_final_view_would_be", MB, 300);
	for (unsigned i = 0; i < 9000; i++)
		append_locked(&rig, dice_below(&rig.d, 320));
	snapshot = store_view_snapshot(rig.store, &err);
	final = store_view_final(rig.store, &err);
	assert_non_null(snapshot);
	assert_non_null(final);
	assert_int_equal(store_view_bytes(snapshot), store_view_bytes(final));
	assert_memory_equal(store_view_counts(snapshot), store_view_counts(final),
			    sizeof(struct store_counts));
	a = read_all(snapshot);
	b = read_all(final);
	assert_memory_equal(a, b, store_view_bytes(final));
	free(a);
	free(b);
	store_view_close(snapshot);
	store_view_close(final);
	rig_close(&rig);
}

/* A snapshot stays what it was, however much comes afterwards. */
static void snapshot_does_not_change_behind_its_reader(void **state)
{
	struct error err = {0};
	struct store_view *view;
	uint32_t n, from;
	uint64_t bytes;
	uint8_t *pcap;
	struct rig rig;

	(void)state;
	rig_open(&rig, "snapshot_does_not_change_behind_its_reader", MB, 300);
	for (unsigned i = 0; i < 5000; i++)
		append_locked(&rig, dice_below(&rig.d, 320));
	view = store_view_snapshot(rig.store, &err);
	assert_non_null(view);
	n = rig.n_items;
	for (unsigned i = 0; i < 20000; i++)
		append_locked(&rig, dice_below(&rig.d, 320));
	from = first_that_fits(&rig, n, &bytes);
	assert_int_equal(store_view_bytes(view), bytes);
	pcap = read_all(view);
	check_pcap(&rig, pcap, bytes, from, n);
	free(pcap);
	store_view_close(view);
	rig_close(&rig);
}

struct appender {
	struct rig *rig;
	_Atomic bool stop;
	uint32_t batch;
};

enum { NUMBERED_BYTES = 64 };

/* Records that carry their number, as fast as they go: the store is lapped while it is copied. */
static void *append_forever(void *ctx)
{
	struct appender *a = ctx;
	uint8_t frame[1024];
	uint64_t n = 0;

	while (!a->stop) {
		store_lock_for_append(a->rig->store);
		for (uint32_t i = 0; i < a->batch; i++, n++) {
			struct record r = {.time_ns = 1000 + n,
					   .wire_len = 2000,
					   .caplen = (uint16_t)(NUMBERED_BYTES + n % 900),
					   .port = (uint8_t)(n % 3)};

			for (unsigned at = 0; at < r.caplen - 8U; at += 8)
				memcpy(frame + at, &n, 8);
			store_append(a->rig->store, &r, frame);
		}
		store_unlock(a->rig->store);
	}
	return NULL;
}

/* Consecutive numbers, whole frames; gives how many. */
static uint64_t check_numbered(const uint8_t *pcap, uint64_t n_bytes, uint64_t *last)
{
	char why[PCAP_ERRBUF_SIZE];
	FILE *f = fmemopen((void *)(uintptr_t)pcap, n_bytes, "rb");
	pcap_t *p = pcap_fopen_offline_with_tstamp_precision(f, PCAP_TSTAMP_PRECISION_NANO, why);
	uint64_t n = 0, expected = 0;
	struct pcap_pkthdr *h;
	const uint8_t *bytes;
	int rc;

	assert_non_null(p);
	while ((rc = pcap_next_ex(p, &h, &bytes)) == 1) {
		uint64_t number =
			(uint64_t)h->ts.tv_sec * 1000000000 + (uint64_t)h->ts.tv_usec - 1000;

		if (n++ > 0)
			assert_int_equal(number, expected);
		expected = number + 1;
		assert_int_equal(h->caplen, NUMBERED_BYTES + number % 900);
		for (unsigned at = 0; at < h->caplen - 8; at += 8)
			assert_memory_equal(bytes + at, &number, 8);
	}
	assert_int_equal(rc, PCAP_ERROR_BREAK);
	pcap_close(p);
	*last = expected;
	return n;
}

static void snapshots_are_whole_while_another_thread_appends(void **state)
{
	struct appender a = {0};
	pthread_t thread;
	struct rig rig;

	(void)state;
	for (unsigned mode = 0; mode < 2; mode++) {
		rig_open(&rig, "snapshots_are_whole_while_another_thread_appends", MB, 2000);
		a = (struct appender){.rig = &rig, .batch = mode == 0 ? 4 : 20000};
		assert_int_equal(pthread_create(&thread, NULL, append_forever, &a), 0);
		for (unsigned i = 0; i < (mode == 0 ? 60U : 15U); i++) {
			struct error err = {0};
			struct store_view *view = store_view_snapshot(rig.store, &err);
			const struct store_counts *c;
			uint64_t in_file = 0, overwritten = 0, last, n;
			uint8_t *pcap;

			if (view == NULL)
				fail_msg("%s", err.text);
			c = store_view_counts(view);
			for (unsigned port = 0; port < PORTS_MAX; port++) {
				in_file += c->in_file[port];
				overwritten += c->overwritten[port];
				assert_int_equal(c->lost_disk[port], 0);
			}
			assert_true(store_view_bytes(view) <= MB);
			pcap = read_all(view);
			n = check_numbered(pcap, store_view_bytes(view), &last);
			assert_int_equal(n, in_file);
			if (n > 0) // numbers count from 0: the books and the file agree
				assert_int_equal(in_file + overwritten, last);
			free(pcap);
			store_view_close(view);
		}
		a.stop = true;
		assert_int_equal(pthread_join(thread, NULL), 0);
		rig_close(&rig);
	}
}

/* Disk trouble. */

static void limit_file_size(uint64_t bytes)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = bytes;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void unlimit_file_size(void)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Each record is flushed by itself, so that what a failing disk takes is known one by one. */
static void what_the_disk_refuses_is_counted_and_the_rest_is_right(void **state)
{
	uint64_t lost = 0;
	struct rig rig;

	(void)state;
	(void)signal(SIGXFSZ, SIG_IGN);
	rig_open(&rig, "what_the_disk_refuses_is_counted_and_the_rest_is_right", MB, 1500);
	for (unsigned i = 0; i < 2000; i++) {
		bool fails = i >= 100 && i % 7 < 2;

		if (fails)
			limit_file_size(dice_below(&rig.d, 100)); // below all that is written now
		store_lock(rig.store);
		append(&rig, dice_below(&rig.d, 1500));
		store_flush(rig.store);
		store_unlock(rig.store);
		unlimit_file_size();
		rig.items[i].is_lost = fails;
		lost += fails;
		if (i % 97 == 0)
			check_final(&rig);
		if (i > 1990 || (fails && i % 13 == 0))
			check_final(&rig); // also with a loss as the last thing
	}
	check_final(&rig);
	assert_true(lost > 300);
	rig_close(&rig);
}

/* A whole stage of many records is lost at once, some of it written: "whole blocks or nothing". */
static void a_stage_that_is_half_written_is_lost_whole(void **state)
{
	struct rig rig;
	uint32_t lost_from;

	(void)state;
	(void)signal(SIGXFSZ, SIG_IGN);
	rig_open(&rig, "a_stage_that_is_half_written_is_lost_whole", 10 * (uint64_t)MB, 100);
	store_lock(rig.store);
	for (unsigned i = 0; i < 50; i++)
		append(&rig, 100);
	store_flush(rig.store);
	lost_from = rig.n_items;
	for (unsigned i = 0; i < 60; i++)
		append(&rig, 100);
	limit_file_size(50 * 116 + 1000); // 8 records and a half
	store_flush(rig.store);
	unlimit_file_size();
	for (uint32_t i = lost_from; i < rig.n_items; i++)
		rig.items[i].is_lost = true;
	store_unlock(rig.store);
	check_final(&rig);
	for (unsigned i = 0; i < 70; i++)
		append_locked(&rig, 90);
	check_final(&rig);
	rig_close(&rig);
}

/* Opening. */

static void a_file_of_that_name_is_refused_and_stays(void **state)
{
	struct error err = {0};
	struct stat st;
	struct rig rig;
	int fd;

	(void)state;
	rig_open(&rig, "a_file_of_that_name_is_refused_and_stays", MB, 100);
	fd = openat(rig.settings.dir_fd, "taken", O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_int_equal(write(fd, "precious", 8), 8);
	(void)close(fd);
	rig.settings.name = "taken";
	assert_null(store_open(&rig.settings, &err));
	assert_non_null(strstr(err.text, "taken"));
	assert_non_null(strstr(err.text, strerror(EEXIST)));
	assert_int_equal(fstatat(rig.settings.dir_fd, "taken", &st, 0), 0);
	assert_int_equal(st.st_size, 8);
	assert_int_equal(symlinkat("elsewhere", rig.settings.dir_fd, "link"), 0);
	rig.settings.name = "link";
	assert_null(store_open(&rig.settings, &err));
	(void)unlinkat(rig.settings.dir_fd, "link", 0);
	(void)unlinkat(rig.settings.dir_fd, "taken", 0);
	rig_close(&rig);
}

static void no_room_is_said_before_anything_is_made(void **state)
{
	struct error err = {0};
	struct statvfs vfs;
	struct stat st;
	struct rig rig;

	(void)state;
	(void)signal(SIGXFSZ, SIG_IGN);
	rig_open(&rig, "no_room_is_said_before_anything_is_made", MB, 100);
	rig.settings.name = "large";
	rig.settings.reserve = true;
	assert_int_equal(fstatvfs(rig.settings.dir_fd, &vfs), 0);
	rig.settings.file_bytes_max = (uint64_t)vfs.f_bavail * vfs.f_frsize + 100 * (uint64_t)MB;
	assert_null(store_open(&rig.settings, &err));
	assert_non_null(strstr(err.text, "MB free and this capture needs"));
	assert_int_equal(fstatat(rig.settings.dir_fd, "large", &st, 0), -1);
	// Room that is there, and that the system does not give all the same.
	rig.settings.file_bytes_max = 10 * (uint64_t)MB;
	limit_file_size(MB);
	assert_null(store_open(&rig.settings, &err));
	unlimit_file_size();
	assert_non_null(strstr(err.text, "could not be reserved"));
	assert_int_equal(fstatat(rig.settings.dir_fd, "large", &st, 0), -1);
	rig_close(&rig);
}

/* Length of a file all of whose blocks are there. */
static uint64_t reserved_bytes(const struct rig *rig, const char *name)
{
	struct stat st;

	assert_int_equal(fstatat(rig->settings.dir_fd, name, &st, 0), 0);
	assert_true((uint64_t)st.st_blocks * 512 >= (uint64_t)st.st_size);
	assert_int_equal(st.st_mode & 0777, 0600);
	return (uint64_t)st.st_size;
}

static void reserved_file_is_as_large_as_was_announced(void **state)
{
	static const uint32_t snaps[] = {1, 120, 9000, 65535};
	struct rig rig;

	(void)state;
	rig_open(&rig, "reserved_file_is_as_large_as_was_announced", MB, 100);
	rig.settings.name = "reserved";
	rig.settings.reserve = rig.settings.is_durable = true;
	for (unsigned mb = 1; mb <= 9; mb += 4)
		for (unsigned s = 0; s < 4; s++) {
			struct error err = {0};
			struct store *store;
			struct stat st;
			uint64_t bytes;

			rig.settings.file_bytes_max = mb * (uint64_t)MB;
			rig.settings.snap_bytes = snaps[s];
			store = store_open(&rig.settings, &err);
			if (store == NULL)
				fail_msg("%s", err.text);
			bytes = reserved_bytes(&rig, "reserved.data") +
				reserved_bytes(&rig, "reserved.index");
			assert_int_equal(bytes, store_disk_bytes(mb * (uint64_t)MB, snaps[s]));
			store_close(store);
			assert_int_equal(fstatat(rig.settings.dir_fd, "reserved.data", &st, 0), -1);
			assert_int_equal(fstatat(rig.settings.dir_fd, "reserved.index", &st, 0),
					 -1);
		}
	rig_close(&rig);
}

/* A reserved store writes only where it reserved: it cannot run out of room later. */
static void reserved_file_never_grows(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, "reserved_file_never_grows", MB, 65535);
	store_close(rig.store);
	rig.settings.reserve = rig.settings.is_durable = true;
	rig.store = store_open(&rig.settings, NULL);
	assert_non_null(rig.store);
	for (unsigned i = 0; i < 400; i++) {
		append_locked(&rig, throw_size(&rig.d, 3, 65535));
		if (i % (STORE_COMMIT_BYTES / 65536) == 0)
			commit_locked(&rig);
	}
	check_final(&rig);
	assert_int_equal(reserved_bytes(&rig, "data.data") + reserved_bytes(&rig, "data.index"),
			 store_disk_bytes(MB, 65535));
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(file_is_the_longest_run_of_newest_records_that_fits),
		cmocka_unit_test(larger_files_keep_their_bound_too),
		cmocka_unit_test(empty_store_is_a_header),
		cmocka_unit_test(view_reads_the_same_in_any_pieces_and_again),
		cmocka_unit_test(micro_and_nano_show_the_wall_clock),
		cmocka_unit_test(snapshot_of_a_quiet_store_is_what_the_final_view_would_be),
		cmocka_unit_test(snapshot_does_not_change_behind_its_reader),
		cmocka_unit_test(snapshots_are_whole_while_another_thread_appends),
		cmocka_unit_test(what_the_disk_refuses_is_counted_and_the_rest_is_right),
		cmocka_unit_test(a_stage_that_is_half_written_is_lost_whole),
		cmocka_unit_test(a_file_of_that_name_is_refused_and_stays),
		cmocka_unit_test(no_room_is_said_before_anything_is_made),
		cmocka_unit_test(reserved_file_is_as_large_as_was_announced),
		cmocka_unit_test(reserved_file_never_grows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
