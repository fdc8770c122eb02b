/* test_capture_file.c - files of every link type and byte order, built here, whole and cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "dataplane/capture_file.h"

enum { NANO = 1, SWAPPED = 2, FILE_MAX = 4096 };

struct bytes {
	uint8_t data[FILE_MAX];
	size_t len;
	int swapped;
};

static void add(struct bytes *b, const void *data, size_t len)
{
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

static void add32(struct bytes *b, uint32_t value)
{
	value = b->swapped ? __builtin_bswap32(value) : value;
	add(b, &value, 4);
}

static void add16(struct bytes *b, uint16_t value)
{
	value = b->swapped ? __builtin_bswap16(value) : value;
	add(b, &value, 2);
}

static struct bytes classic(uint32_t link_type, int how)
{
	struct bytes b = {.swapped = (how & SWAPPED) != 0};

	add32(&b, how & NANO ? 0xa1b23c4d : 0xa1b2c3d4);
	add16(&b, 2);
	add16(&b, 4);
	add32(&b, 0);
	add32(&b, 0);
	add32(&b, 262144);
	add32(&b, link_type);
	return b;
}

static void add_record(struct bytes *b, uint32_t fraction, uint32_t wire_len, const void *data,
		       uint32_t len)
{
	add32(b, 1700000000);
	add32(b, fraction);
	add32(b, len);
	add32(b, wire_len);
	add(b, data, len);
}

/* The file on disk; its name is in a static buffer, and gone after the test's unlink. */
static const char *on_disk(const struct bytes *b, size_t len)
{
	static char path[] = "capture_file_XXXXXX";
	int fd;

	memcpy(path + sizeof(path) - 7, "XXXXXX", 6);
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, b->data, len), len);
	close(fd);
	return path;
}

static struct capture_file *open_bytes(const struct bytes *b, size_t len, struct error *err)
{
	const char *path = on_disk(b, len);
	struct capture_file *file = capture_file_open(path, err);

	unlink(path);
	return file;
}

static struct file_frame only_frame(const struct bytes *b, uint8_t *copy)
{
	struct error err = {0};
	struct capture_file *file = open_bytes(b, b->len, &err);
	struct file_frame frame, none;

	assert_non_null(file);
	assert_int_equal(capture_file_read(file, &frame, &err), 1);
	for (unsigned i = 0; i < CAPTURE_FILE_PAD_BYTES; i++)
		assert_int_equal(frame.data[frame.len + i], 0);
	memcpy(copy, frame.data, frame.len);
	assert_int_equal(capture_file_read(file, &none, &err), 0);
	assert_int_equal(capture_file_read(file, &none, &err), 0);
	capture_file_close(file);
	assert_string_equal(err.text, "");
	frame.data = copy;
	return frame;
}

static void times_are_exact_for_both_magics_and_byte_orders(void **state)
{
	uint8_t copy[FILE_MAX];

	(void)state;
	for (int how = 0; how < 4; how++) {
		struct bytes b = classic(1, how);
		struct file_frame frame;

		add_record(&b, 123456, 60, "0123456789abcdef", 16);
		frame = only_frame(&b, copy);
		assert_true(frame.time_ns ==
			    1700000000000000000 + (how & NANO ? 123456 : 123456000));
		assert_int_equal(frame.len, 16);
		assert_int_equal(frame.wire_len, 60);
		assert_memory_equal(frame.data, "0123456789abcdef", 16);
	}
}

/* Numbers of the link types are those of the file format, not libpcap's. */
static void each_link_type_becomes_ethernet(void **state)
{
	static const struct {
		unsigned nr;
		uint32_t link_type;
		const char *frame;
		uint32_t len, header_bytes;
		uint16_t type;
	} rows[] = {
		{1, 101, "\x45xxx", 4, 0, 0x0800},
		{2, 101, "\x60xxx", 4, 0, 0x86dd},
		{3, 101, "\x10xxx", 4, 0, 0xffff},
		{4, 228, "\x45xxx", 4, 0, 0x0800},
		{5, 229, "\x60xxx", 4, 0, 0x86dd},
		{10, 113, "\0\0\0\1\0\6xxxxxxxx\x08\0\x45xxx", 20, 16, 0x0800},
		{11, 113, "\0\0\0\1\0\6xxxxxxxx\x86\xdd\x60xxx", 20, 16, 0x86dd},
		{12, 113, "\0\0\0\1\0\6xxxxxxxx\x81\0\0\1\x08\0", 20, 16, 0x8100},
		{13, 113, "\0\0\0\1\0\6xxxxxxxx\0\4xxxx", 20, 16, 0xffff},
		{20, 276, "\x08\0\0\0\0\0\0\1\0\1\0\6xxxxxxxx\x45xxx", 24, 20, 0x0800},
		{21, 276, "\x86\xdd\0\0\0\0\0\1\0\1\0\6xxxxxxxx\x60xxx", 24, 20, 0x86dd},
		{30, 0, "\2\0\0\0\x45xxx", 8, 4, 0x0800},
		{31, 0, "\0\0\0\2\x45xxx", 8, 4, 0x0800},
		{32, 0, "\x1e\0\0\0\x60xxx", 8, 4, 0x86dd},
		{33, 0, "\0\0\0\x18\x60xxx", 8, 4, 0x86dd},
		{34, 0, "\x0a\0\0\0\x60xxx", 8, 4, 0x86dd},
		{35, 0, "\x1c\0\0\0\x60xxx", 8, 4, 0x86dd},
		{36, 0, "\7\0\0\0xxxx", 8, 4, 0xffff},
		{37, 0, "\2\0\0\2\x45xxx", 8, 4, 0xffff},
		{38, 108, "\0\0\0\2\x45xxx", 8, 4, 0x0800},
		{40, 9, "\xff\3\0\x21\x45xxx", 8, 4, 0x0800},
		{41, 9, "\0\x57\x60xxx", 6, 2, 0x86dd},
		{42, 9, "\x21\x45xxx", 5, 1, 0x0800},
		{43, 50, "\xff\3\0\x21\x45xxx", 8, 4, 0x0800},
		{44, 9, "\xff\3\xc0\x21xxxx", 8, 4, 0xffff},
	};
	uint8_t copy[FILE_MAX];

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct bytes b = classic(rows[i].link_type, 0);
		uint32_t kept = rows[i].len - rows[i].header_bytes;
		struct file_frame frame;

		add_record(&b, 0, rows[i].len + 100, rows[i].frame, rows[i].len);
		frame = only_frame(&b, copy);
		if (frame.len != 14 + kept || frame.wire_len != 14 + kept + 100 ||
		    frame.data[12] != rows[i].type >> 8 || frame.data[13] != (rows[i].type & 0xff))
			fail_msg("row %u: %u of %u bytes, EtherType %02x%02x", rows[i].nr,
				 frame.len, frame.wire_len, frame.data[12], frame.data[13]);
		assert_memory_equal(frame.data, "\2\0\0\0\0\2\2\0\0\0\0\1", 12);
		assert_memory_equal(frame.data + 14, rows[i].frame + rows[i].header_bytes, kept);
	}
}

static void frame_shorter_than_its_link_header_is_nobodys(void **state)
{
	static const uint32_t link_types[] = {0, 9, 101, 108, 113, 276};
	uint8_t copy[FILE_MAX];

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		for (uint32_t len = 0; len < 4; len++) {
			struct bytes b = classic(link_types[i], 0);
			struct file_frame frame;

			add_record(&b, 0, len, "\0\0\0", len);
			frame = only_frame(&b, copy);
			assert_true(frame.len >= 14 && frame.len <= 14 + len);
			assert_true(frame.wire_len >= frame.len);
			assert_int_equal(frame.data[12] << 8 | frame.data[13], 0xffff);
		}
	}
}

static void original_length_under_the_captured_one_is_raised(void **state)
{
	struct bytes b = classic(1, 0);
	uint8_t copy[FILE_MAX];

	(void)state;
	add_record(&b, 0, 3, "0123456789abcdef", 16);
	assert_int_equal(only_frame(&b, copy).wire_len, 16);
}

static void original_length_does_not_overflow(void **state)
{
	struct bytes b = classic(101, 0);
	uint8_t copy[FILE_MAX];

	(void)state;
	add_record(&b, 0, UINT32_MAX, "\x45xxx", 4);
	assert_true(only_frame(&b, copy).wire_len == UINT32_MAX);
}

static void link_type_without_ip_is_refused_by_name(void **state)
{
	struct bytes b = classic(105, 0);
	struct error err = {0};

	(void)state;
	assert_null(open_bytes(&b, b.len, &err));
	assert_non_null(strstr(err.text, "IEEE802_11 (105)"));
}

static void file_that_is_not_there_or_no_capture_is_refused_in_a_sentence(void **state)
{
	struct bytes b = {.data = "hello, this is no capture file at all", .len = 37};
	struct error err = {0};

	(void)state;
	assert_null(capture_file_open("no/such/file.pcap", &err));
	assert_string_equal(err.text,
			    "Cannot open the capture file \"no/such/file.pcap\": No such file or "
			    "directory. It has to be a pcap or pcapng file that this user may "
			    "read, and not compressed.");
	err.text[0] = '\0';
	assert_null(open_bytes(&b, b.len, &err));
	assert_non_null(strstr(err.text, "unknown file format"));
	err.text[0] = '\0';
	assert_null(capture_file_open(".", &err));
	assert_true(strlen(err.text) > 0);
	capture_file_close(NULL);
}

/* Whole frames in front of the cut, then an error, unless the cut is between frames. */
static void cut_anywhere_gives_whole_frames_then_an_error(const struct bytes *b, const size_t *ends,
							  unsigned n_ends)
{
	for (size_t len = 0; len <= b->len; len++) {
		struct error err = {0};
		struct capture_file *file = open_bytes(b, len, &err);
		struct file_frame frame;
		unsigned n = 0, n_whole = 0, between = len == ends[0];
		int rc;

		for (unsigned i = 1; i < n_ends; i++) {
			n_whole += ends[i] <= len;
			between |= ends[i] == len;
		}
		if (file == NULL) {
			assert_true(len < ends[0]);
			assert_true(strlen(err.text) > 0);
			continue;
		}
		while ((rc = capture_file_read(file, &frame, &err)) == 1)
			n++;
		assert_int_equal(n, n_whole);
		assert_int_equal(rc, between ? 0 : -1);
		assert_int_equal(strlen(err.text) > 0, rc < 0);
		assert_int_equal(capture_file_read(file, &frame, &err), rc);
		capture_file_close(file);
	}
}

static void classic_file_cut_at_every_byte(void **state)
{
	struct bytes b = classic(1, 0);
	size_t ends[4] = {b.len};

	(void)state;
	for (unsigned i = 1; i < 4; i++) {
		add_record(&b, i, 60, "0123456789abcdef", 16);
		ends[i] = b.len;
	}
	cut_anywhere_gives_whole_frames_then_an_error(&b, ends, 4);
}

/* One block of pcapng; the body is padded to 32 bits. */
static void add_block(struct bytes *b, uint32_t type, const struct bytes *body)
{
	uint32_t padded = ((uint32_t)body->len + 3) & ~3u;

	add32(b, type);
	add32(b, padded + 12);
	add(b, body->data, padded);
	add32(b, padded + 12);
}

/* if_tsresol: 6 microseconds, 9 nanoseconds, 0x80 | n binary. */
static void add_interface(struct bytes *b, uint16_t link_type, uint8_t resolution)
{
	struct bytes body = {.swapped = b->swapped};

	add16(&body, link_type);
	add16(&body, 0);
	add32(&body, 262144);
	add16(&body, 9);
	add16(&body, 1);
	add(&body, (uint8_t[]){resolution, 0, 0, 0}, 4);
	add32(&body, 0);
	add_block(b, 1, &body);
}

static void add_packet(struct bytes *b, uint32_t interface, uint64_t ticks, const void *data,
		       uint32_t len)
{
	struct bytes body = {.swapped = b->swapped};

	add32(&body, interface);
	add32(&body, (uint32_t)(ticks >> 32));
	add32(&body, (uint32_t)ticks);
	add32(&body, len);
	add32(&body, len + 7);
	add(&body, data, len);
	add_block(b, 6, &body);
}

static struct bytes next_generation(int how)
{
	struct bytes b = {.swapped = (how & SWAPPED) != 0}, body = {.swapped = b.swapped};

	add32(&body, 0x1a2b3c4d);
	add16(&body, 1);
	add16(&body, 0);
	add32(&body, UINT32_MAX);
	add32(&body, UINT32_MAX);
	add_block(&b, 0x0a0d0d0a, &body);
	return b;
}

static void pcapng_times_are_exact_in_every_resolution(void **state)
{
	static const struct {
		uint8_t resolution;
		uint64_t ticks, time_ns;
	} rows[] = {
		{6, 1700000000123456, 1700000000123456000},
		{9, 1700000000123456789, 1700000000123456789},
		{3, 1700000000123, 1700000000123000000},
		{0x80 | 10, UINT64_C(1700000000) * 1024 + 512, 1700000000500000000},
	};
	uint8_t copy[FILE_MAX];

	(void)state;
	for (int how = 0; how <= SWAPPED; how += SWAPPED) {
		for (unsigned i = 0; i < 4; i++) {
			struct bytes b = next_generation(how);
			struct file_frame frame;

			add_interface(&b, 1, rows[i].resolution);
			add_packet(&b, 0, rows[i].ticks, "0123456789abcdef", 16);
			frame = only_frame(&b, copy);
			assert_true(frame.time_ns == rows[i].time_ns);
			assert_int_equal(frame.wire_len, 23);
		}
	}
}

static void pcapng_cut_at_every_byte(void **state)
{
	struct bytes b = next_generation(0);
	size_t ends[4];

	(void)state;
	add_interface(&b, 1, 9);
	ends[0] = b.len;
	for (unsigned i = 1; i < 4; i++) {
		add_packet(&b, 0, i, "0123456789abcde", 15);
		ends[i] = b.len;
	}
	cut_anywhere_gives_whole_frames_then_an_error(&b, ends, 4);
}

static void pcapng_of_two_link_types_says_why_it_stops(void **state)
{
	struct bytes b = next_generation(0);
	struct error err = {0};
	struct capture_file *file;
	struct file_frame frame;

	(void)state;
	add_interface(&b, 1, 9);
	add_packet(&b, 0, 1, "0123456789abcde", 15);
	add_interface(&b, 101, 9);
	add_packet(&b, 1, 1, "0123456789abcde", 15);
	file = open_bytes(&b, b.len, &err);
	assert_non_null(file);
	assert_int_equal(capture_file_read(file, &frame, &err), 1);
	assert_int_equal(capture_file_read(file, &frame, &err), -1);
	assert_non_null(strstr(err.text,
			       "beyond frame 1: an interface has a type 101 different from the "
			       "type of the first interface"));
	capture_file_close(file);
}

static void record_that_claims_too_much_is_an_error(void **state)
{
	struct bytes b = classic(1, 0);
	struct error err = {0};
	struct capture_file *file;
	struct file_frame frame;

	(void)state;
	add32(&b, 1);
	add32(&b, 1);
	add32(&b, UINT32_MAX);
	add32(&b, UINT32_MAX);
	file = open_bytes(&b, b.len, &err);
	assert_non_null(file);
	assert_int_equal(capture_file_read(file, &frame, &err), -1);
	assert_non_null(strstr(err.text, "No frame of the capture file"));
	capture_file_close(file);
}

static void standard_input_is_read_by_its_dash(void **state)
{
	struct bytes b = classic(1, 0);
	struct error err = {0};
	struct capture_file *file;
	struct file_frame frame;
	const char *path;

	(void)state;
	add_record(&b, 0, 16, "0123456789abcdef", 16);
	path = on_disk(&b, b.len);
	assert_non_null(freopen(path, "rb", stdin));
	unlink(path);
	file = capture_file_open("-", &err);
	assert_non_null(file);
	assert_int_equal(capture_file_read(file, &frame, &err), 1);
	assert_int_equal(frame.len, 16);
	capture_file_close(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(times_are_exact_for_both_magics_and_byte_orders),
		cmocka_unit_test(each_link_type_becomes_ethernet),
		cmocka_unit_test(frame_shorter_than_its_link_header_is_nobodys),
		cmocka_unit_test(original_length_under_the_captured_one_is_raised),
		cmocka_unit_test(original_length_does_not_overflow),
		cmocka_unit_test(link_type_without_ip_is_refused_by_name),
		cmocka_unit_test(file_that_is_not_there_or_no_capture_is_refused_in_a_sentence),
		cmocka_unit_test(classic_file_cut_at_every_byte),
		cmocka_unit_test(pcapng_times_are_exact_in_every_resolution),
		cmocka_unit_test(pcapng_cut_at_every_byte),
		cmocka_unit_test(pcapng_of_two_link_types_says_why_it_stops),
		cmocka_unit_test(record_that_claims_too_much_is_an_error),
		cmocka_unit_test(standard_input_is_read_by_its_dash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
