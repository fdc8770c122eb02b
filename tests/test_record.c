/* test_record.c - the one copy: every length, nothing beyond, everybody counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka wants the above first
#include <cmocka.h>

#include "dataplane/stage.h"
#include "tests/dice.h"
#include "tests/ring_pair.h"

enum { SIZE = 1 << 20, PAGE = 4096, LEN_MAX = 300 };

struct bench {
	struct ring_pair pair;
	struct recorder recorder;
	struct tally tally;
	uint8_t *page_end; // nothing can be read from here on
};

static void bench_open(struct bench *b, uint64_t size)
{
	uint8_t *pages =
		mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(pages != MAP_FAILED);
	assert_int_equal(mprotect(pages + PAGE, PAGE, PROT_NONE), 0);
	memset(b, 0, sizeof(*b));
	b->page_end = pages + PAGE;
	ring_pair_open(&b->pair, size, 0);
	b->recorder.ring = b->pair.writer;
	b->recorder.shared = b->pair.shared;
	b->recorder.generation = 7;
}

static void bench_close(struct bench *b)
{
	(void)munmap(b->page_end - PAGE, 2 * PAGE);
	ring_pair_close(&b->pair);
}

static void set_snap(struct bench *b, uint32_t snap)
{
	for (unsigned i = 0; i < 1 << CAPTURES_MAX; i++)
		b->recorder.snap_bytes[i] = snap;
}

/* The next record in the ring; the tail moves behind it and is given back. */
static struct record take(struct bench *b, uint8_t frame[SNAP_BYTES_MAX])
{
	struct ring_reader *r = &b->pair.reader;
	struct record record;

	ring_publish(&b->recorder.ring, 0);
	assert_true(ring_available(r) >= sizeof(record));
	memcpy(&record, r->data + (r->tail & r->mask), sizeof(record));
	memcpy(frame, r->data + (r->tail & r->mask) + sizeof(record), record.caplen);
	r->tail += record_bytes(record.caplen);
	ring_release(r);
	return record;
}

static void record_of_len(struct bench *b, uint32_t len, uint32_t snap)
{
	static uint8_t frame[SNAP_BYTES_MAX];
	uint32_t caplen = len < snap ? len : snap;
	// Only caplen bytes are readable: one byte more would fault.
	struct pkt p = {.data = b->page_end - caplen,
			.len = len,
			.wire_len = len + 5,
			.time_ns = 1000 + len,
			.class_ = CLASS_IKE,
			.port = 3,
			.wanted = 1};
	struct record r;

	for (uint32_t i = 0; i < caplen; i++)
		b->page_end[(int)i - (int)caplen] = (uint8_t)(i + len);
	set_snap(b, snap);
	record_burst(&b->recorder, &p, 1, &b->tally);
	r = take(b, frame);
	assert_int_equal(r.caplen, caplen);
	assert_int_equal(r.wire_len, len + 5);
	assert_int_equal(r.time_ns, 1000 + len);
	assert_int_equal(r.generation, 7);
	assert_int_equal(r.captures, 1);
	assert_int_equal(r.port, 3);
	assert_int_equal(r.flags, 0);
	assert_int_equal(r.class_, CLASS_IKE);
	assert_int_equal(r.reserved, 0);
	for (uint32_t i = 0; i < caplen; i++)
		assert_int_equal(frame[i], (uint8_t)(i + len));
}

static void every_length_and_snap_is_cut_exactly_and_read_no_further(void **state)
{
	static const uint32_t snaps[] = {1,  2,	 14, 31,  32,  33,  60,	 63,
					 64, 65, 96, 119, 120, 121, 300, 65535};
	struct bench b;

	(void)state;
	bench_open(&b, SIZE);
	for (unsigned s = 0; s < sizeof(snaps) / sizeof(snaps[0]); s++)
		for (uint32_t len = 0; len <= LEN_MAX; len++)
			record_of_len(&b, len, snaps[s]);
	assert_int_equal(b.tally.verdicts[VERDICT_RECORDED],
			 sizeof(snaps) / sizeof(snaps[0]) * (LEN_MAX + 1));
	assert_int_equal(b.pair.shared->slots[0][3].recorded, b.tally.verdicts[VERDICT_RECORDED]);
	bench_close(&b);
}

static void longest_frame_is_kept_whole(void **state)
{
	static uint8_t big[70000], frame[SNAP_BYTES_MAX];
	struct bench b;
	struct pkt p = {.data = big, .len = sizeof(big), .wire_len = sizeof(big), .wanted = 1};
	struct record r;

	(void)state;
	for (unsigned i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 31 >> 3);
	bench_open(&b, SIZE);
	set_snap(&b, SNAP_BYTES_MAX);
	record_burst(&b.recorder, &p, 1, &b.tally);
	r = take(&b, frame);
	assert_int_equal(r.caplen, SNAP_BYTES_MAX);
	assert_int_equal(r.wire_len, sizeof(big));
	assert_memory_equal(frame, big, SNAP_BYTES_MAX);
	bench_close(&b);
}

static void snap_follows_the_captures_that_want_it(void **state)
{
	static uint8_t data[200], frame[SNAP_BYTES_MAX];
	struct bench b;

	(void)state;
	bench_open(&b, SIZE);
	for (unsigned i = 0; i < 1 << CAPTURES_MAX; i++)
		b.recorder.snap_bytes[i] = 100 + i;
	for (unsigned wanted = 1; wanted < 1 << CAPTURES_MAX; wanted++) {
		struct pkt p = {
			.data = data, .len = 200, .wire_len = 200, .wanted = (uint8_t)wanted};

		record_burst(&b.recorder, &p, 1, &b.tally);
		assert_int_equal(take(&b, frame).caplen, 100 + wanted);
	}
	bench_close(&b);
}

static void each_capture_counts_its_own(void **state)
{
	struct dice d = dice_open("each_capture_counts_its_own");
	uint64_t want[CAPTURES_MAX][PORTS_MAX] = {0};
	uint8_t data[64] = {0};
	struct bench b;

	(void)state;
	bench_open(&b, SIZE);
	set_snap(&b, 60);
	for (unsigned burst = 0; burst < 2000; burst++) {
		struct pkt p[BURST_MAX];
		unsigned n = dice_below(&d, BURST_MAX + 1), port = dice_below(&d, PORTS_MAX);

		for (unsigned i = 0; i < n; i++) {
			p[i] = (struct pkt){.data = data, .len = 64, .wire_len = 64};
			p[i].port = (uint8_t)port;
			p[i].wanted = (uint8_t)(1 + dice_below(&d, 31));
			if (dice_one_in(&d, 3))
				p[i].wanted = 31; // all lanes to their limit of 64 at times
			for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
				want[slot][port] += p[i].wanted >> slot & 1;
		}
		record_burst(&b.recorder, p, n, &b.tally);
		b.pair.reader.tail = b.recorder.ring.head;
		ring_release(&b.pair.reader);
	}
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		for (unsigned port = 0; port < PORTS_MAX; port++) {
			assert_int_equal(b.pair.shared->slots[slot][port].recorded,
					 want[slot][port]);
			assert_int_equal(b.pair.shared->slots[slot][port].ring_full, 0);
		}
	bench_close(&b);
}

static void full_burst_of_all_captures_fits_the_lanes(void **state)
{
	struct pkt p[BURST_MAX];
	uint8_t data[64] = {0};
	struct bench b;

	(void)state;
	bench_open(&b, SIZE);
	set_snap(&b, 60);
	for (unsigned i = 0; i < BURST_MAX; i++)
		p[i] = (struct pkt){.data = data, .len = 64, .wire_len = 64, .wanted = 31};
	record_burst(&b.recorder, p, BURST_MAX, &b.tally);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		assert_int_equal(b.pair.shared->slots[slot][0].recorded, BURST_MAX);
	bench_close(&b);
}

/* Room for `fits` records of 128 bytes; the rest of the burst is lost. */
static void lost_records_are_counted_for_each_capture_with_their_times(void **state)
{
	enum { RING = 4096, BYTES = 24 + 104, FITS = RING / BYTES, N = FITS + 10 };
	uint64_t lost[CAPTURES_MAX] = {0}, first[CAPTURES_MAX] = {0}, last[CAPTURES_MAX] = {0};
	struct pkt p[BURST_MAX];
	uint8_t data[104] = {0};
	struct bench b;

	(void)state;
	static_assert(N <= (int)BURST_MAX, "one burst");
	bench_open(&b, RING);
	set_snap(&b, 104);
	for (unsigned i = 0; i < N; i++) {
		p[i] = (struct pkt){.data = data,
				    .len = 104,
				    .wire_len = 104,
				    .time_ns = 5000 + i,
				    .port = 2,
				    .wanted = (uint8_t)(1 + i % 31)};
		for (unsigned slot = 0; i >= FITS && slot < CAPTURES_MAX; slot++)
			if (p[i].wanted >> slot & 1) {
				lost[slot]++;
				first[slot] = first[slot] ? first[slot] : 5000 + i;
				last[slot] = 5000 + i;
			}
	}
	record_burst(&b.recorder, p, N, &b.tally);
	assert_int_equal(b.tally.verdicts[VERDICT_RECORDED], FITS);
	assert_int_equal(b.tally.verdicts[VERDICT_RING_FULL], N - FITS);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		const struct slot_counters *c = &b.pair.shared->slots[slot][2];

		assert_int_equal(c->ring_full, lost[slot]);
		assert_int_equal(c->lost_first_ns, first[slot]);
		assert_int_equal(c->lost_last_ns, last[slot]);
	}
	// What was in the ring before is as it was.
	ring_publish(&b.recorder.ring, 0);
	assert_int_equal(ring_available(&b.pair.reader), FITS * BYTES);
	for (unsigned i = 0; i < FITS; i++) {
		struct record r;

		memcpy(&r, b.pair.data + i * BYTES, sizeof(r));
		assert_int_equal(r.time_ns, 5000 + i);
		assert_int_equal(r.captures, 1 + i % 31);
	}
	bench_close(&b);
}

/* A short record may still fit where a long one did not. */
static void shorter_record_fits_behind_a_lost_one(void **state)
{
	uint8_t data[2048] = {0};
	struct pkt p[3] = {{.data = data, .len = 2000, .wire_len = 2000, .wanted = 1},
			   {.data = data, .len = 2048, .wire_len = 2048, .wanted = 1},
			   {.data = data, .len = 8, .wire_len = 8, .wanted = 1}};
	struct bench b;

	(void)state;
	bench_open(&b, 4096);
	set_snap(&b, SNAP_BYTES_MAX);
	record_burst(&b.recorder, p, 3, &b.tally);
	assert_int_equal(b.tally.verdicts[VERDICT_RECORDED], 2);
	assert_int_equal(b.pair.shared->slots[0][0].ring_full, 1);
	bench_close(&b);
}

static void late_packets_are_marked_and_counted_in_the_ring(void **state)
{
	static uint8_t frame[SNAP_BYTES_MAX];
	uint8_t data[64] = {0};
	struct pkt p[2] = {
		{.data = data, .len = 64, .wire_len = 64, .wanted = 1, .flags = PKT_LATE},
		{.data = data, .len = 64, .wire_len = 64, .wanted = 1}};
	struct bench b;

	(void)state;
	bench_open(&b, SIZE);
	set_snap(&b, 60);
	record_burst(&b.recorder, p, 2, &b.tally);
	ring_publish(&b.recorder.ring, 9);
	assert_int_equal(b.pair.shared->ring.n_late, 1);
	assert_int_equal(take(&b, frame).flags, RECORD_LATE);
	assert_int_equal(take(&b, frame).flags, 0);
	bench_close(&b);
}

static void layout_blocks_do_not_overlap(void **state)
{
	(void)state;
	for (uint32_t n = 1; n <= WORKERS_MAX; n++)
		for (unsigned huge = 0; huge < 2; huge++) {
			struct shared_header h = {0};
			uint64_t page = huge ? 2 << 20 : SHARED_PAGE_BYTES;

			shared_layout(&h, n, 1 << 20, huge ? page : 0);
			assert_true(h.workers_offset >= sizeof(h));
			assert_true(h.worker_bytes >= sizeof(struct worker_shared));
			assert_true(h.rings_offset >= h.workers_offset + n * h.worker_bytes);
			assert_int_equal(h.workers_offset % SHARED_PAGE_BYTES, 0);
			assert_int_equal(h.rings_offset % page, 0);
			assert_int_equal(h.total_bytes, h.rings_offset + n * h.ring_bytes);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_length_and_snap_is_cut_exactly_and_read_no_further),
		cmocka_unit_test(longest_frame_is_kept_whole),
		cmocka_unit_test(snap_follows_the_captures_that_want_it),
		cmocka_unit_test(each_capture_counts_its_own),
		cmocka_unit_test(full_burst_of_all_captures_fits_the_lanes),
		cmocka_unit_test(lost_records_are_counted_for_each_capture_with_their_times),
		cmocka_unit_test(shorter_record_fits_behind_a_lost_one),
		cmocka_unit_test(late_packets_are_marked_and_counted_in_the_ring),
		cmocka_unit_test(layout_blocks_do_not_overlap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
