/* bench_rings.c - see bench_rings.h.
 *
 * Pushing is a copy of a prepared record: less than a worker does for one, so that the writer behind the
 * ring is what is measured.
 */
#include "tools/bench_rings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FIRST_NS = 1000000, EPOCH = 1 };

static void *zeros(size_t size)
{
	void *mem = aligned_alloc(2 * CACHE_LINE_BYTES, size);

	return mem != NULL ? memset(mem, 0, size) : NULL;
}

static uint8_t *map_ring(uint64_t bytes, bool is_huge)
{
	int fd = memfd_create("gatecap-ring", MFD_CLOEXEC | (is_huge ? MFD_HUGETLB : 0));
	uint8_t *data = NULL;

	if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0)
		data = ring_map(fd, 0, bytes, PROT_READ | PROT_WRITE);
	if (fd >= 0)
		(void)close(fd);
	if (data != NULL)
		memset(data, 0, bytes); // page faults now, not while it is measured
	return data;
}

static int open_merger(struct bench_rings *r, const struct bench_options *o)
{
	unsigned n_writers = o->n_writers > 0 ? o->n_writers : 1;
	struct ring_reader readers[BENCH_RINGS_MAX];

	for (unsigned i = 0; i < r->n; i++) {
		r->data[i] = map_ring(r->ring_bytes, o->is_huge);
		if (r->data[i] == NULL)
			return -1;
		ring_writer_init(&r->writers[i], r->data[i], r->ring_bytes, &r->heads[i],
				 &r->tails[i]);
		ring_reader_init(&readers[i], r->data[i], r->ring_bytes, &r->heads[i],
				 &r->tails[i]);
	}
	r->merger = merge_open_writers(readers, r->n, EPOCH, n_writers);
	return r->merger != NULL ? 0 : -1;
}

static void make_templates(struct bench_rings *r, const struct bench_options *o)
{
	for (uint32_t i = 0; i < r->n_templates; i++) {
		struct bench_template *t = &r->templates[i];
		uint8_t frame[BENCH_FRAME_BYTES_MAX];
		uint32_t len = bench_frame(frame, i, &o->mix);

		t->record = (struct record){
			.wire_len = len,
			.caplen = (uint16_t)(len < SNAP_BYTES_DEFAULT ? len : SNAP_BYTES_DEFAULT),
			.generation = 1,
			.captures = (uint8_t)(o->is_spread ? 1U << i % o->n_captures
							   : (1U << o->n_captures) - 1),
		};
		memcpy(t->frame, frame, t->record.caplen);
	}
}

static int open_stores(struct bench_rings *r, const struct bench_options *o)
{
	int dir_fd = open(o->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct error err = {0};

	if (dir_fd < 0) {
		(void)fprintf(stderr, "The folder %s cannot be opened: %s.\n", o->dir,
			      strerror(errno));
		return -1;
	}
	for (unsigned i = 0; i < o->n_captures; i++) {
		char name[NAME_MAX_BYTES];
		const struct store_settings settings = {
			.dir_fd = dir_fd,
			.name = name,
			.file_bytes_max = (uint64_t)o->file_mb * FILE_MB_BYTES,
			.snap_bytes = SNAP_BYTES_DEFAULT,
			.reserve = true,
			.is_durable = true,
		};

		(void)snprintf(name, sizeof(name), "bench.%u", i);
		r->stores[i] = store_open(&settings, &err);
		if (r->stores[i] == NULL)
			break;
		r->n_stores++;
		merge_set_store(r->merger, i, r->stores[i], 1);
	}
	(void)close(dir_fd);
	if (r->n_stores == o->n_captures)
		return 0;
	(void)fprintf(stderr, "%s\n", err.text);
	return -1;
}

int bench_rings_open(struct bench_rings *r, const struct bench_options *o, unsigned n,
		     uint64_t ring_bytes)
{
	*r = (struct bench_rings){
		.n = n,
		.ring_bytes = ring_bytes,
		.heads = zeros(n * sizeof(*r->heads)),
		.tails = zeros(n * sizeof(*r->tails)),
		.templates = calloc(o->n_frames, sizeof(*r->templates)),
		.n_templates = o->n_frames,
		.time_ns = FIRST_NS,
	};
	if (r->heads == NULL || r->tails == NULL || r->templates == NULL ||
	    open_merger(r, o) != 0) {
		(void)fprintf(stderr, "The rings cannot be made: out of memory%s.\n",
			      o->is_huge ? ", or of huge pages" : "");
		return -1;
	}
	make_templates(r, o);
	return open_stores(r, o);
}

void bench_rings_close(struct bench_rings *r)
{
	merge_close(r->merger);
	for (unsigned i = 0; i < r->n_stores; i++)
		store_close(r->stores[i]);
	for (unsigned i = 0; i < r->n; i++)
		ring_unmap(r->data[i], r->ring_bytes);
	free(r->templates);
	free(r->heads);
	free(r->tails);
}

unsigned bench_rings_push(struct bench_rings *r, unsigned ring, unsigned n)
{
	struct ring_writer *writer = &r->writers[ring];

	for (unsigned i = 0; i < n; i++) {
		const struct bench_template *t = &r->templates[r->next_template];
		uint64_t bytes = record_bytes(t->record.caplen);
		struct record *record = (struct record *)ring_reserve(writer, bytes);

		if (record == NULL)
			return i;
		memcpy(record, &t->record, sizeof(*record));
		record->time_ns = r->time_ns++;
		record_copy((uint8_t *)(record + 1), t->frame, t->record.caplen);
		ring_advance(writer, bytes);
		r->next_template = r->next_template + 1 < r->n_templates ? r->next_template + 1 : 0;
	}
	return n;
}

uint64_t bench_rings_stored(const struct bench_rings *r, uint64_t *lost)
{
	uint64_t stored = 0;

	*lost = 0;
	for (unsigned i = 0; i < r->n_stores; i++) {
		struct store_counts counts = {0};

		(void)store_count(r->stores[i], &counts);
		stored += counts.in_file[0] + counts.overwritten[0];
		*lost += counts.lost_disk[0];
	}
	return stored;
}
