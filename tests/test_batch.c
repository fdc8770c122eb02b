/* test_batch.c - the fast ways into a store beside the plain one, byte for byte.
 *
 * store_append_batch() has its slow twin in store_append(), the mapping of a file in pwrite(), and the batches
 * of the merger in a sort of everything that was pushed, which is dealt record by record.  Twins get the same;
 * then their files, their counts and, of durable ones, their indexes must be the same.
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
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "control/merge.h"
#include "control/store_internal.h"
#include "tests/dice.h"
#include "tests/ring_pair.h"

enum { TWINS = 2, BATCH_MAX = 200, FRAME_MAX = 3000, RECORD_BYTES = 16, FAST = 0, PLAIN = 1 };

struct rig {
	struct dice d;
	char dir[64];
	struct store_settings settings;
	struct store *stores[TWINS];
	uint64_t now_ns;
};

static const char *const names[TWINS] = {"fast", "plain"};

static void rig_open(struct rig *rig, struct dice d, const char *tmp, bool is_durable, bool reserve)
{
	static const uint32_t snaps[] = {200, 200, 2500, SNAP_BYTES_MAX};
	uint32_t snap = 1 + dice_below(&d, snaps[dice_below(&d, 4)]);

	*rig = (struct rig){.d = d, .now_ns = 1};
	(void)snprintf(rig->dir, sizeof(rig->dir), "%s/test_batch.XXXXXX", tmp);
	assert_non_null(mkdtemp(rig->dir));
	rig->settings = (struct store_settings){
		.dir_fd = open(rig->dir, O_RDONLY | O_DIRECTORY),
		.file_bytes_max =
			3000 + snap + dice_below(&rig->d, 1 << (10 + dice_below(&rig->d, 11))),
		.snap_bytes = snap,
		.reserve = reserve,
		.is_durable = is_durable};
	for (unsigned i = 0; i < TWINS; i++) {
		struct error err = {0};

		rig->settings.name = names[i];
		rig->stores[i] = store_open(&rig->settings, &err);
		if (rig->stores[i] == NULL)
			fail_msg("%s", err.text);
	}
}

static void rig_close(struct rig *rig)
{
	for (unsigned i = 0; i < TWINS; i++)
		store_close(rig->stores[i]);
	(void)close(rig->settings.dir_fd);
	assert_int_equal(rmdir(rig->dir), 0);
}

/* All of a file; the caller frees. */
static uint8_t *load(int fd, size_t *bytes)
{
	struct stat st;
	uint8_t *all;

	assert_int_equal(fstat(fd, &st), 0);
	*bytes = (size_t)st.st_size;
	all = malloc(*bytes + 1);
	assert_non_null(all);
	assert_int_equal(pread(fd, all, *bytes, 0), st.st_size);
	return all;
}

static void check_same_file(int a, int b)
{
	size_t n, m;
	uint8_t *x = load(a, &n), *y = load(b, &m);

	assert_int_equal(n, m);
	assert_memory_equal(x, y, n);
	free(x);
	free(y);
}

static void check_same(struct store *a, struct store *b)
{
	struct store_counts x, y;

	store_lock(a);
	store_flush(a);
	store_unlock(a);
	store_lock(b);
	store_flush(b);
	store_unlock(b);
	assert_int_equal(store_count(a, &x), 0);
	assert_int_equal(store_count(b, &y), 0);
	assert_memory_equal(&x, &y, sizeof(x));
	assert_int_equal(store_disk_error(a), store_disk_error(b));
	check_same_file(a->fd, b->fd);
	if (a->index_fd >= 0)
		check_same_file(a->index_fd, b->index_fd);
}

/* Records one behind the other, as in a ring. */
struct records {
	const struct record *at[BATCH_MAX];
	unsigned n;
	uint64_t mem[BATCH_MAX * (FRAME_MAX + 32) / 8];
};

static void throw_records(struct rig *rig, struct records *r)
{
	uint8_t *at = (uint8_t *)r->mem;
	unsigned longest = dice_one_in(&rig->d, 5) ? FRAME_MAX : 150;
	bool is_uniform = dice_one_in(&rig->d, 3);

	r->n = dice_below(&rig->d, BATCH_MAX + 1);
	if (dice_one_in(&rig->d, 4)) { // some are longer than a mapped file's stage
		longest = SNAP_BYTES_MAX;
		r->n %= BATCH_MAX * FRAME_MAX / SNAP_BYTES_MAX;
	}
	for (unsigned i = 0; i < r->n; i++) {
		uint32_t caplen = is_uniform ? 60 : dice_below(&rig->d, longest);
		struct record record = {
			.time_ns = rig->now_ns,
			.wire_len = caplen + dice_below(&rig->d, 9),
			.caplen = (uint16_t)caplen,
			.captures = 1,
			.port = (uint8_t)(is_uniform ? 3 : dice_below(&rig->d, PORTS_MAX))};

		memcpy(at, &record, sizeof(record));
		for (uint32_t k = 0; k < caplen; k++)
			at[sizeof(record) + k] = (uint8_t)(rig->now_ns * 31 + k);
		r->at[i] = (const struct record *)at;
		at += record_bytes(caplen);
		rig->now_ns += dice_below(&rig->d, 3);
	}
}

/* Not more than the stage holds at once, or one long record. */
static void check_stage(const struct store *s)
{
	uint32_t n = 0;

	for (unsigned port = 0; port < PORTS_MAX; port++)
		n += s->staged_records[port];
	assert_true(s->staged_bytes <= s->stage_bytes || n == 1);
}

static void append_to_both(struct rig *rig, const struct records *r)
{
	store_lock(rig->stores[FAST]);
	store_append_batch(rig->stores[FAST], r->at, r->n);
	store_unlock(rig->stores[FAST]);
	store_lock(rig->stores[PLAIN]);
	for (unsigned i = 0; i < r->n; i++)
		store_append(rig->stores[PLAIN], r->at[i], (const uint8_t *)(r->at[i] + 1));
	store_unlock(rig->stores[PLAIN]);
	check_stage(rig->stores[FAST]);
	check_stage(rig->stores[PLAIN]);
}

static void commit_both(struct rig *rig)
{
	const struct store_mark mark = {.epoch = 1, .dealt_ns = rig->now_ns};
	int rc[TWINS];

	for (unsigned i = 0; i < TWINS; i++) {
		store_lock(rig->stores[i]);
		rc[i] = store_commit(rig->stores[i], &mark);
		store_unlock(rig->stores[i]);
	}
	assert_int_equal(rc[FAST], rc[PLAIN]);
}

/* Files of more than `bytes` are refused; 0: not any more. */
static void limit_file_size(uint64_t bytes)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = bytes > 0 ? bytes : limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static uint64_t n_lost(struct store *store)
{
	struct store_counts counts;
	uint64_t n = 0;

	assert_int_equal(store_count(store, &counts), 0);
	for (unsigned port = 0; port < PORTS_MAX; port++)
		n += counts.lost_disk[port];
	return n;
}

/* Segments of any size, a disk that refuses at times, commits that come too seldom. */
static void a_batch_is_what_its_records_are_one_by_one(void **state)
{
	struct dice d = dice_open("a_batch_is_what_its_records_are_one_by_one");
	static struct records records;
	uint64_t lost = 0;

	(void)state;
	(void)signal(SIGXFSZ, SIG_IGN);
	for (unsigned round = 0; round < 30; round++) {
		unsigned commit_in = 1 + dice_below(&d, 30);
		bool has_faults = dice_one_in(&d, 2);
		struct rig rig;

		rig_open(&rig, (struct dice){dice_next(&d)}, P_tmpdir, round % 2 == 0, false);
		for (unsigned i = 0; i < 60; i++) {
			throw_records(&rig, &records);
			if (has_faults && dice_one_in(&rig.d, 4))
				limit_file_size(1 + dice_below(&rig.d, 300000));
			append_to_both(&rig, &records);
			if (dice_one_in(&rig.d, commit_in))
				commit_both(&rig);
			limit_file_size(0);
			if (dice_one_in(&rig.d, 20))
				check_same(rig.stores[FAST], rig.stores[PLAIN]);
		}
		check_same(rig.stores[FAST], rig.stores[PLAIN]);
		lost += n_lost(rig.stores[FAST]);
		rig_close(&rig);
	}
	assert_true(lost > 300);
}

/* A disk that refuses is not asked again before the next commit, not even when it would work. */
static void what_comes_between_a_refusal_and_a_commit_is_lost(void **state)
{
	struct dice d = dice_open("what_comes_between_a_refusal_and_a_commit_is_lost");
	static struct records records;
	uint64_t n = 0;
	struct rig rig;

	(void)state;
	(void)signal(SIGXFSZ, SIG_IGN);
	rig_open(&rig, d, P_tmpdir, true, false);
	commit_both(&rig);
	limit_file_size(1);
	while (!rig.stores[FAST]->is_suspended) {
		throw_records(&rig, &records);
		append_to_both(&rig, &records);
		n += records.n;
	}
	limit_file_size(0);
	throw_records(&rig, &records);
	append_to_both(&rig, &records);
	n += records.n;
	for (unsigned i = 0; i < TWINS; i++)
		assert_int_equal(n_lost(rig.stores[i]), n);
	commit_both(&rig);
	throw_records(&rig, &records);
	append_to_both(&rig, &records);
	check_same(rig.stores[FAST], rig.stores[PLAIN]);
	assert_int_equal(n_lost(rig.stores[FAST]), n);
	rig_close(&rig);
}

/* ---- files in memory ---- */

static const char memory_dir[] = "/dev/shm";

static bool has_memory_dir(void)
{
	struct statfs fs;

	return statfs(memory_dir, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

static void write_by_pwrite(struct store *store)
{
	store_unmap(store);
	store->map = NULL;
	store->stage_bytes = STORE_STAGE_BYTES;
}

/* Kept, and opened again as after a crash. */
static void reopen_both(struct rig *rig)
{
	commit_both(rig);
	for (unsigned i = 0; i < TWINS; i++) {
		struct store_recovery recovery;
		struct error err = {0};

		store_keep(rig->stores[i]);
		store_close(rig->stores[i]);
		rig->settings.name = names[i];
		rig->stores[i] = store_resume(&rig->settings, false, &recovery, &err);
		if (rig->stores[i] == NULL)
			fail_msg("%s", err.text);
		assert_non_null(rig->stores[i]->map);
	}
	write_by_pwrite(rig->stores[PLAIN]);
}

static void a_mapped_file_is_what_pwrite_makes_of_it(void **state)
{
	struct dice d = dice_open("a_mapped_file_is_what_pwrite_makes_of_it");
	static struct records records;

	(void)state;
	if (!has_memory_dir())
		skip();
	for (unsigned round = 0; round < 30; round++) {
		struct rig rig;

		rig_open(&rig, (struct dice){dice_next(&d)}, memory_dir, true, true);
		assert_non_null(rig.stores[FAST]->map);
		write_by_pwrite(rig.stores[PLAIN]);
		for (unsigned i = 0; i < 40; i++) {
			throw_records(&rig, &records);
			append_to_both(&rig, &records);
			if (dice_one_in(&rig.d, 5)) // always before STORE_COMMIT_BYTES
				commit_both(&rig);
			if (dice_one_in(&rig.d, 15))
				check_same(rig.stores[FAST], rig.stores[PLAIN]);
			if (dice_one_in(&rig.d, 25))
				reopen_both(&rig);
		}
		check_same(rig.stores[FAST], rig.stores[PLAIN]);
		assert_int_equal(n_lost(rig.stores[FAST]), 0);
		rig_close(&rig);
	}
}

/* A page that is not there would be asked for in the middle of a store. */
static void only_a_file_that_is_all_in_memory_is_mapped(void **state)
{
	struct dice d = dice_open("only_a_file_that_is_all_in_memory_is_mapped");
	struct rig rig;

	(void)state;
	if (!has_memory_dir())
		skip();
	rig_open(&rig, d, memory_dir, true, false);
	assert_null(rig.stores[FAST]->map);
	rig_close(&rig);
	rig_open(&rig, d, memory_dir, true, true);
	assert_non_null(rig.stores[FAST]->map);
	write_by_pwrite(rig.stores[PLAIN]);
	assert_int_equal(fallocate(rig.stores[PLAIN]->fd,
				   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096),
			 0);
	store_map(rig.stores[PLAIN]);
	assert_null(rig.stores[PLAIN]->map);
	rig_close(&rig);
}

static void nothing_is_written_behind_the_end_of_a_mapping(void **state)
{
	struct dice d = dice_open("nothing_is_written_behind_the_end_of_a_mapping");
	const uint8_t bytes[64] = {0};
	struct rig rig;

	(void)state;
	if (!has_memory_dir())
		skip();
	rig_open(&rig, d, memory_dir, true, true);
	assert_int_equal(store_write_mapped(rig.stores[FAST], bytes, sizeof(bytes),
					    (off_t)(rig.stores[FAST]->map_bytes - 64)),
			 0);
	assert_int_equal(store_write_mapped(rig.stores[FAST], bytes, sizeof(bytes),
					    (off_t)(rig.stores[FAST]->map_bytes - 63)),
			 -EIO);
	assert_int_equal(store_write_mapped(rig.stores[FAST], bytes, sizeof(bytes), -1), -EIO);
	rig_close(&rig);
}

enum { NUMBERED_BYTES = 72, NUMBERED_BATCH = 64, SNAPSHOTS = 40 };

struct numbered {
	struct record record;
	uint64_t number[NUMBERED_BYTES / 8]; // nothing but it
};
static_assert(sizeof(struct numbered) == sizeof(struct record) + NUMBERED_BYTES, "as in a ring");

struct appender {
	struct store *store;
	_Atomic bool stop;
};

/* The store is lapped again and again, while it is copied. */
static void *append_numbered(void *ctx)
{
	struct appender *a = ctx;
	static struct numbered records[NUMBERED_BATCH];
	const struct record *at[NUMBERED_BATCH];
	const struct store_mark mark = {.epoch = 1};

	for (uint64_t n = 0; !a->stop;) {
		for (unsigned i = 0; i < NUMBERED_BATCH; i++, n++) {
			records[i].record = (struct record){.time_ns = 1 + n,
							    .wire_len = NUMBERED_BYTES,
							    .caplen = NUMBERED_BYTES};
			for (unsigned k = 0; k < NUMBERED_BYTES / 8; k++)
				records[i].number[k] = n;
			at[i] = &records[i].record;
		}
		store_lock_for_append(a->store);
		store_append_batch(a->store, at, NUMBERED_BATCH);
		if (n % (256 * NUMBERED_BATCH) == 0)
			(void)store_commit(a->store, &mark);
		store_unlock(a->store);
	}
	return NULL;
}

/* Every record of a PCAP is whole, and one more than the one before. */
static void check_numbered(const uint8_t *pcap, uint64_t bytes)
{
	uint64_t expected = 0, got;

	for (uint64_t at = PCAP_HEADER_BYTES; at < bytes; at += RECORD_BYTES + NUMBERED_BYTES) {
		const uint8_t *frame = pcap + at + RECORD_BYTES;

		for (unsigned k = 0; k < NUMBERED_BYTES; k += 8) {
			memcpy(&got, frame + k, sizeof(got));
			if (at == PCAP_HEADER_BYTES && k == 0)
				expected = got;
			assert_int_equal(got, expected);
		}
		expected++;
	}
}

static void snapshots_of_a_mapped_file_are_whole_while_it_is_filled(void **state)
{
	struct store_settings settings = {.name = "test_batch.filled",
					  .file_bytes_max = 1000000,
					  .snap_bytes = 120,
					  .reserve = true,
					  .is_durable = true};
	struct appender a = {0};
	struct error err = {0};
	pthread_t thread;
	uint64_t read = 0;

	(void)state;
	if (!has_memory_dir())
		skip();
	settings.dir_fd = open(memory_dir, O_RDONLY | O_DIRECTORY);
	a.store = store_open(&settings, &err);
	if (a.store == NULL)
		fail_msg("%s", err.text);
	assert_non_null(a.store->map);
	assert_int_equal(pthread_create(&thread, NULL, append_numbered, &a), 0);
	for (unsigned i = 0; i < SNAPSHOTS || read == 0; i++) {
		struct store_view *view = store_view_snapshot(a.store, &err);
		uint64_t bytes;
		uint8_t *pcap;

		assert_non_null(view);
		bytes = store_view_bytes(view);
		pcap = malloc(bytes);
		assert_non_null(pcap);
		assert_int_equal(store_view_read(view, pcap, bytes), 0);
		check_numbered(pcap, bytes);
		read += bytes - PCAP_HEADER_BYTES;
		free(pcap);
		store_view_close(view);
	}
	a.stop = true;
	assert_int_equal(pthread_join(thread, NULL), 0);
	store_close(a.store);
	(void)close(settings.dir_fd);
}

/* ---- rings ---- */

enum { RINGS_MAX = 3, RING = 1 << 20, PUSHED_MAX = 3 * 4000 };

struct pushed {
	struct record record; // its frame is filled with the low byte of wire_len
	uint32_t number;
	uint8_t ring;
};

/* The order that merge.h promises. */
static int by_promise(const void *a, const void *b)
{
	const struct pushed *x = a, *y = b;
	int late_x = x->record.flags & RECORD_LATE, late_y = y->record.flags & RECORD_LATE;

	if (x->record.time_ns != y->record.time_ns)
		return x->record.time_ns < y->record.time_ns ? -1 : 1;
	if (late_x != late_y)
		return late_x ? -1 : 1;
	if (x->ring != y->ring)
		return x->ring < y->ring ? -1 : 1;
	return x->number < y->number ? -1 : 1;
}

/* Fill a ring at random: runs that all captures want, mixtures, late ones, sets that change; in the end
 * an impossible record and some behind it, perhaps.
 */
static unsigned fill_ring(struct dice *d, struct ring_pair *p, uint8_t ring, struct pushed *pushed)
{
	uint64_t now_ns = 1000;
	uint16_t generation = (uint16_t)(65500 + dice_below(d, 30));
	unsigned n = dice_below(d, PUSHED_MAX / RINGS_MAX), n_good = n, left = 0;
	uint8_t captures = 1;

	if (dice_one_in(d, 4))
		n_good = dice_below(d, n + 1);
	for (unsigned i = 0; i < n; i++) {
		bool is_late = now_ns > 1500 && dice_one_in(d, 60);
		struct record r;

		if (left-- == 0) { // another kind of run
			left = dice_below(d, 150);
			captures = (uint8_t)(dice_one_in(d, 3) ? 0 : 1 + dice_below(d, 31));
		}
		if (dice_one_in(d, 90))
			generation++;
		r = (struct record){
			.time_ns = is_late ? now_ns - dice_below(d, 400) : now_ns,
			.wire_len = 5000 + dice_below(d, 1000),
			.caplen = (uint16_t)dice_below(d, dice_one_in(d, 50) ? 2000 : 120),
			.generation = generation,
			.captures = captures != 0 ? captures : (uint8_t)(1 + dice_below(d, 31)),
			.port = (uint8_t)dice_below(d, 3),
			.flags = is_late ? RECORD_LATE : 0};
		now_ns += dice_below(d, 4);
		if (i < n_good)
			pushed[i] = (struct pushed){r, i, ring};
		else if (i == n_good)
			r.captures = dice_one_in(d, 2) ? 0 : 1 << CAPTURES_MAX;
		assert_true(ring_pair_push(p, &r, (uint8_t)r.wire_len));
	}
	ring_publish(&p->writer, UINT64_MAX);
	return n_good;
}

static void merge_everything(struct dice *d, struct merger *m)
{
	uint64_t n = 1;

	while (n > 0) {
		n = merge_step(m, 1 + dice_below(d, 3000));
		if (merge_commit_is_due(m) || dice_one_in(d, 10)) {
			merge_commit(m);
			n = 1;
		}
	}
}

static void deal_one_by_one(struct rig rigs[CAPTURES_MAX], const uint16_t *first_generations,
			    struct pushed *pushed, unsigned n)
{
	qsort(pushed, n, sizeof(*pushed), by_promise);
	for (unsigned i = 0; i < n; i++) {
		const struct record *r = &pushed[i].record;
		uint8_t frame[FRAME_MAX];

		memset(frame, (uint8_t)r->wire_len, r->caplen);
		for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
			if (r->captures >> slot & 1 &&
			    (int16_t)(r->generation - first_generations[slot]) >= 0)
				store_append(rigs[slot].stores[PLAIN], r, frame);
	}
}

static void rings_fill_stores_as_their_sorted_records_do(void **state)
{
	struct dice d = dice_open("rings_fill_stores_as_their_sorted_records_do");
	static struct pushed pushed[PUSHED_MAX];

	(void)state;
	for (unsigned round = 0; round < 40; round++) {
		unsigned n_rings = 1 + round % RINGS_MAX, n = 0;
		struct ring_pair pairs[RINGS_MAX];
		struct ring_reader readers[RINGS_MAX];
		struct rig rigs[CAPTURES_MAX];
		uint16_t first[CAPTURES_MAX];
		struct merger *m;

		for (unsigned i = 0; i < n_rings; i++) {
			ring_pair_open(&pairs[i], RING, 0);
			n += fill_ring(&d, &pairs[i], (uint8_t)i, pushed + n);
			readers[i] = pairs[i].reader;
		}
		m = merge_open_writers(readers, n_rings, 1, 1 + dice_below(&d, WRITERS_MAX));
		assert_non_null(m);
		for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
			rig_open(&rigs[slot], (struct dice){dice_next(&d)}, P_tmpdir, false, false);
			first[slot] = (uint16_t)(65490 + dice_below(&d, 60));
			merge_set_store(m, slot, rigs[slot].stores[FAST], first[slot]);
		}
		merge_everything(&d, m);
		deal_one_by_one(rigs, first, pushed, n);
		for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
			check_same(rigs[slot].stores[FAST], rigs[slot].stores[PLAIN]);
		merge_close(m);
		for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
			rig_close(&rigs[slot]);
		for (unsigned i = 0; i < n_rings; i++)
			ring_pair_close(&pairs[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_batch_is_what_its_records_are_one_by_one),
		cmocka_unit_test(what_comes_between_a_refusal_and_a_commit_is_lost),
		cmocka_unit_test(a_mapped_file_is_what_pwrite_makes_of_it),
		cmocka_unit_test(only_a_file_that_is_all_in_memory_is_mapped),
		cmocka_unit_test(nothing_is_written_behind_the_end_of_a_mapping),
		cmocka_unit_test(snapshots_of_a_mapped_file_are_whole_while_it_is_filled),
		cmocka_unit_test(rings_fill_stores_as_their_sorted_records_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
