/* test_pcap_source.c - files made here, played on a clock that the test moves by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "dataplane/pcap_source.h"

enum { FRAME_BYTES = 54, FRAMES = 200, EPOCH_S = 1700000000 };

#define START UINT64_C(1000000000000)

static char path[64];
static struct error err;

/* Frame i: ESP between hosts a and b, its number in the last bytes. */
static void make_frame(uint8_t frame[static FRAME_BYTES], uint8_t a, uint8_t b, uint32_t i)
{
	const uint8_t head[] = {2,  0, 0, 0, 0, 2,  2,	0, 0, 0,   0, 1, 8, 0,	 0x45, 0, 0,
				40, 0, 0, 0, 0, 64, 50, 0, 0, 192, 0, 2, a, 192, 0,    2, b};

	memset(frame, 0, FRAME_BYTES);
	memcpy(frame, head, sizeof(head));
	memcpy(frame + FRAME_BYTES - 4, &i, 4);
}

static FILE *create_file(void)
{
	const uint32_t head[] = {0xa1b23c4d, 4 << 16 | 2, 0, 0, 262144, 1};
	FILE *file;
	int fd;

	strcpy(path, "/tmp/gatecap-pcap-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	file = fdopen(fd, "wb");
	assert_non_null(file);
	assert_int_equal(fwrite(head, sizeof(head), 1, file), 1);
	return file;
}

static void add_frame(FILE *file, uint64_t offset_ns, uint8_t a, uint8_t b, uint32_t i)
{
	const uint32_t head[] = {(uint32_t)(EPOCH_S + offset_ns / 1000000000),
				 (uint32_t)(offset_ns % 1000000000), FRAME_BYTES, FRAME_BYTES + i};
	uint8_t frame[FRAME_BYTES];

	make_frame(frame, a, b, i);
	assert_int_equal(fwrite(head, sizeof(head), 1, file), 1);
	assert_int_equal(fwrite(frame, sizeof(frame), 1, file), 1);
}

static struct pcap_source *open_file(FILE *file, unsigned n_queues, unsigned loops, bool is_fast)
{
	const struct pcap_source_options options = {path, n_queues, loops, is_fast};
	struct pcap_source *source;

	assert_int_equal(fclose(file), 0);
	source = pcap_source_open(&options, &err);
	(void)unlink(path);
	return source;
}

static uint32_t number_of(const struct pkt *p)
{
	uint32_t i;

	memcpy(&i, p->data + p->len - 4, 4);
	return i;
}

static void nothing_comes_before_the_start_nor_before_it_is_due(void **state)
{
	FILE *file = create_file();
	struct pcap_source *source;
	struct pkt p[BURST_MAX];

	(void)state;
	add_frame(file, 0, 1, 2, 0);
	add_frame(file, 500, 1, 2, 1);
	add_frame(file, 501, 1, 2, 2);
	source = open_file(file, 1, 1, false);
	assert_non_null(source);
	assert_int_equal(pcap_source_frames(source), 3);
	assert_int_equal(pcap_source_burst(source, 0, p, BURST_MAX, START * 2, 0), 0);
	assert_false(pcap_source_is_started(source) || pcap_source_is_done(source));
	pcap_source_start(source, START);
	assert_int_equal(pcap_source_burst(source, 0, p, BURST_MAX, START - 1, 0), 0);
	assert_int_equal(pcap_source_burst(source, 0, p, BURST_MAX, START + 499, 0), 1);
	assert_int_equal(p[0].time_ns, START);
	assert_int_equal(pcap_source_burst(source, 0, p, BURST_MAX, START + 600, START), 2);
	assert_int_equal(p[0].time_ns, START + 500);
	assert_int_equal(p[1].time_ns, START + 501);
	assert_int_equal(p[1].len, FRAME_BYTES);
	assert_int_equal(p[1].wire_len, FRAME_BYTES + 2);
	assert_false(pcap_source_is_done(source)); // the worker has not come back yet
	assert_int_equal(pcap_source_burst(source, 0, p, BURST_MAX, START + 601, START), 0);
	assert_true(pcap_source_is_done(source));
	pcap_source_close(source);
}

static void times_that_go_back_are_held_and_promised_times_are_kept(void **state)
{
	static const uint64_t offsets[] = {1000, 3000, 2000, 0, 4000};
	static const uint64_t wanted[] = {0, 2000, 2000, 2000, 3000};
	FILE *file = create_file();
	struct pcap_source *source;
	struct pkt p[BURST_MAX];

	(void)state;
	for (uint32_t i = 0; i < 5; i++)
		add_frame(file, offsets[i], 1, 2, i);
	source = open_file(file, 1, 2, false);
	pcap_source_start(source, START);
	assert_int_equal(pcap_source_burst(source, 0, p, 5, START + 3000, 0), 5);
	for (uint32_t i = 0; i < 5; i++) {
		assert_int_equal(p[i].time_ns, START + wanted[i]);
		assert_int_equal(number_of(&p[i]), i);
	}
	// The second loop, by a worker that has promised to be at START + 5000.
	assert_int_equal(pcap_source_burst(source, 0, p, 5, START + 90000, START + 5000), 5);
	assert_int_equal(p[0].time_ns, START + 5000);
	assert_int_equal(p[4].time_ns, START + 3000 + 1000 + 3000); // one gap of at least 1 us
	pcap_source_close(source);
}

static void loops_end_after_their_number_and_zero_never_does(void **state)
{
	(void)state;
	for (unsigned loops = 0; loops < 4; loops++) {
		FILE *file = create_file();
		struct pcap_source *source;
		struct pkt p[BURST_MAX];
		uint64_t last_ns = 0;
		unsigned n = 0;

		add_frame(file, 0, 1, 2, 0);
		source = open_file(file, 1, loops, loops % 2);
		pcap_source_start(source, START);
		for (unsigned i = 0; i < 100; i++) {
			uint64_t now_ns = START + 10000 * i;
			unsigned got = pcap_source_burst(source, 0, p, 1, now_ns, last_ns);

			n += got;
			assert_true(got == 0 ||
				    (p[0].time_ns >= last_ns && p[0].time_ns <= now_ns));
			last_ns = got > 0 ? p[0].time_ns : last_ns;
		}
		assert_int_equal(n, loops == 0 ? 100 : loops);
		assert_int_equal(pcap_source_is_done(source), loops != 0);
		pcap_source_close(source);
	}
}

static void fast_gives_all_at_the_time_of_the_burst(void **state)
{
	FILE *file = create_file();
	struct pcap_source *source;
	struct pkt p[BURST_MAX];

	(void)state;
	for (uint32_t i = 0; i < 10; i++)
		add_frame(file, UINT64_C(1000000000) * i, 1, 2, i);
	source = open_file(file, 1, 1, true);
	pcap_source_start(source, START);
	assert_int_equal(pcap_source_burst(source, 0, p, 8, START, START - 5), 8);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(p[i].time_ns, START + i);
	assert_int_equal(pcap_source_burst(source, 0, p, 8, START, START + 8), 2);
	assert_int_equal(p[0].time_ns, START + 8);
	assert_int_equal(p[1].time_ns, START + 9);
	pcap_source_close(source);
}

static void both_directions_and_all_frames_meet_on_one_queue(void **state)
{
	enum { QUEUES = 3, HOSTS = 6 };
	unsigned seed = (unsigned)time(NULL);
	int queue_of[HOSTS][HOSTS];
	unsigned n_seen = 0, n_used = 0;
	FILE *file = create_file();
	struct pcap_source *source;

	(void)state;
	print_message("seed %u\n", seed);
	srandom(seed);
	memset(queue_of, -1, sizeof(queue_of));
	for (uint32_t i = 0; i < FRAMES; i++)
		add_frame(file, i, (uint8_t)(random() % HOSTS), (uint8_t)(random() % HOSTS), i);
	source = open_file(file, QUEUES, 1, true);
	pcap_source_start(source, START);
	for (int q = 0; q < QUEUES; q++) {
		struct pkt p[BURST_MAX];
		uint32_t last = 0;
		unsigned n, n_queue = 0;

		while ((n = pcap_source_burst(source, (unsigned)q, p, BURST_MAX, START, START)) >
		       0) {
			for (unsigned i = 0; i < n; i++, n_queue++) {
				uint8_t a = p[i].data[29], b = p[i].data[33];

				assert_true(n_queue == 0 || number_of(&p[i]) > last);
				last = number_of(&p[i]);
				assert_true(queue_of[a][b] == -1 || queue_of[a][b] == q);
				queue_of[a][b] = queue_of[b][a] = q;
			}
		}
		n_seen += n_queue;
		n_used += n_queue > 0;
		assert_int_equal(pcap_source_is_done(source), q == QUEUES - 1);
	}
	assert_int_equal(n_seen, FRAMES);
	assert_true(n_used > 1);
	pcap_source_close(source);
}

static void files_that_cannot_be_played_give_a_sentence(void **state)
{
	const struct pcap_source_options missing = {"/nonexistent/x.pcap", 1, 1, false};
	FILE *file = create_file();

	(void)state;
	assert_null(pcap_source_open(&missing, &err));
	assert_non_null(strstr(err.text, "/nonexistent/x.pcap"));
	assert_null(open_file(file, 1, 1, false)); // a header and no frame
	assert_non_null(strstr(err.text, "no frame"));
	file = create_file();
	add_frame(file, 0, 1, 2, 0);
	assert_int_equal(fflush(file), 0);
	assert_int_equal(ftruncate(fileno(file), 24 + 16 + FRAME_BYTES - 1), 0);
	assert_null(open_file(file, 1, 1, false)); // cut in the middle of its frame
	assert_true(err.text[0] != '\0');
	pcap_source_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_comes_before_the_start_nor_before_it_is_due),
		cmocka_unit_test(times_that_go_back_are_held_and_promised_times_are_kept),
		cmocka_unit_test(loops_end_after_their_number_and_zero_never_does),
		cmocka_unit_test(fast_gives_all_at_the_time_of_the_burst),
		cmocka_unit_test(both_directions_and_all_frames_meet_on_one_queue),
		cmocka_unit_test(files_that_cannot_be_played_give_a_sentence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
