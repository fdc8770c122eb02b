/* fuzz_store.c - an index and a data file of any bytes, opened both ways, read to the end, filled on.
 *
 * Input: the header's fields, then the slots, then the data; checksums are put right, or nothing would
 * come through.  The files lie in a folder of the run's own.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "control/store_internal.h"

enum { PLACES = 4, SEGMENT = 512, SNAP = 100, SLOT_INPUT = 900, DATA_BYTES = PLACES * SEGMENT };

static int dir_fd = -1;
static char dir[64];

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void remove_dir(void)
{
	(void)unlinkat(dir_fd, "f.data", 0);
	(void)unlinkat(dir_fd, "f.index", 0);
	(void)rmdir(dir);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	(void)snprintf(dir, sizeof(dir), "%s/fuzz_store.XXXXXX", P_tmpdir);
	if (mkdtemp(dir) == NULL || (dir_fd = open(dir, O_RDONLY | O_DIRECTORY)) < 0)
		abort();
	(void)atexit(remove_dir);
	return 0;
}

/* Up to n bytes of what is left of the input. */
static void take(const uint8_t **data, size_t *size, void *to, size_t n)
{
	if (n > *size)
		n = *size;
	memcpy(to, *data, n);
	*data += n;
	*size -= n;
}

static void write_file(const char *name, const uint8_t *bytes, size_t n)
{
	int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || write(fd, bytes, n) != (ssize_t)n)
		abort();
	(void)close(fd);
}

/* Mostly the geometry that the slots are laid out for: the first byte of the input says. */
static void write_index(const uint8_t **data, size_t *size)
{
	static uint8_t file[INDEX_BLOCK_BYTES * (1 + INDEX_SLOTS)];
	struct index_header h = {.segment_bytes = SEGMENT,
				 .n_places = PLACES,
				 .n_live_max = 2,
				 .snap_bytes = SNAP,
				 .timestamps = TIMESTAMPS_NANO,
				 .file_bytes_max = 1000};
	uint8_t has_own = 0;

	take(data, size, &has_own, 1);
	if (has_own % 4 == 0)
		take(data, size, &h, sizeof(h));
	memcpy(h.magic, INDEX_MAGIC, sizeof(h.magic));
	h.version = INDEX_VERSION;
	h.checksum = XXH3_64bits(h.magic, sizeof(h) - sizeof(h.checksum));
	memset(file, 0, sizeof(file));
	memcpy(file, &h, sizeof(h));
	for (unsigned slot = 0; slot < INDEX_SLOTS; slot++) {
		uint8_t *at = file + INDEX_BLOCK_BYTES * (1 + slot);
		struct index_commit c;
		size_t bytes;

		take(data, size, at, SLOT_INPUT + PLACES * sizeof(struct index_segment));
		memcpy(&c, at, sizeof(c));
		bytes = sizeof(c) + c.n_live % (PLACES + 1) * sizeof(struct index_segment);
		c.checksum = XXH3_64bits(at + sizeof(c.checksum), bytes - sizeof(c.checksum));
		memcpy(at, &c.checksum, sizeof(c.checksum));
	}
	write_file("f.index", file, sizeof(file));
}

/* The checksums of the segments, of the data that is there now. */
static void mend_segments(const uint8_t *data)
{
	static uint8_t slot[INDEX_BLOCK_BYTES];
	int fd = openat(dir_fd, "f.index", O_RDWR);

	for (unsigned k = 0; k < INDEX_SLOTS; k++) {
		off_t offset = INDEX_BLOCK_BYTES * (1 + (off_t)k);
		struct index_commit c;
		uint32_t n;

		if (pread(fd, slot, sizeof(slot), offset) != sizeof(slot))
			abort();
		memcpy(&c, slot, sizeof(c));
		n = c.n_live <= PLACES ? c.n_live : 0;
		for (uint32_t i = 0; i < n; i++) {
			uint8_t *at = slot + sizeof(c) + i * sizeof(struct index_segment);
			struct index_segment s;
			uint64_t place = (c.first_sequence + i) % PLACES;

			memcpy(&s, at, sizeof(s));
			if (s.used_bytes <= SEGMENT)
				s.checksum = XXH3_64bits(data + place * SEGMENT, s.used_bytes);
			memcpy(at, &s, sizeof(s));
		}
		c.checksum = XXH3_64bits(slot + sizeof(c.checksum),
					 sizeof(c) + n * sizeof(struct index_segment) -
						 sizeof(c.checksum));
		memcpy(slot, &c.checksum, sizeof(c.checksum));
		if (pwrite(fd, slot, sizeof(slot), offset) != sizeof(slot))
			abort();
	}
	(void)close(fd);
}

static void append_some(struct store *store)
{
	const struct store_mark mark = {0};
	uint8_t frame[SNAP] = {0};

	for (unsigned i = 0; i < 40; i++) {
		struct record r = {.time_ns = UINT64_MAX, .wire_len = SNAP, .caplen = SNAP};

		store_append(store, &r, frame);
		if (i % 7 == 0)
			(void)store_commit(store, &mark);
	}
}

static void open_and_read(bool was_power_lost)
{
	const struct store_settings settings = {.dir_fd = dir_fd, .name = "f", .is_durable = true};
	struct store_recovery recovery;
	struct error err = {0};
	struct store *store = store_resume(&settings, was_power_lost, &recovery, &err);
	struct store_view *view;
	struct store_counts counts;
	uint8_t buf[700];

	if (store == NULL)
		return;
	(void)store_count(store, &counts);
	view = store_view_final(store, &err);
	while (view != NULL && store_view_read(view, buf, sizeof(buf)) == 0)
		;
	store_view_close(view);
	if (!was_power_lost)
		append_some(store);
	store_keep(store);
	store_close(store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t bytes[DATA_BYTES];

	memset(bytes, 0, sizeof(bytes));
	write_index(&data, &size);
	take(&data, &size, bytes, sizeof(bytes));
	write_file("f.data", bytes, sizeof(bytes));
	mend_segments(bytes);
	open_and_read(true);
	open_and_read(false);
	return 0;
}
