/* bench_memory.c - what one core moves from and to memory: the floor under everything that is longer than
 * a cache.
 *
 * The buffers are 64 times as long as a usual last-level cache's share.  Copied bytes are counted once; the
 * memory sees them at least twice.
 */
#include "tools/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cjson/cJSON.h>

enum { BUFFER_BYTES = 256 << 20, HUGE_PAGE_BYTES = 2 << 20 };

struct buffers {
	uint8_t *from, *to;
	double seconds; // for each of the three
	double copy, read, write;
	uint64_t sum; // of what was read, so that it is read
};

static void copy(struct buffers *b)
{
	memcpy(b->to, b->from, BUFFER_BYTES);
}

static void read_all(struct buffers *b)
{
	const uint64_t *words = (const uint64_t *)b->from;
	uint64_t sum = 0;

	for (size_t i = 0; i < BUFFER_BYTES / sizeof(*words); i++)
		sum += words[i];
	b->sum += sum;
}

static void write_all(struct buffers *b)
{
	memset(b->to, (int)b->sum & 0x7f, BUFFER_BYTES);
}

/* GB/s of passes over the buffers. */
static double rate_of(struct buffers *b, void (*pass)(struct buffers *))
{
	double start = bench_now(), seconds;
	unsigned n = 0;

	do {
		pass(b);
		n++;
		seconds = bench_now() - start;
	} while (seconds < b->seconds && !bench_is_interrupted);
	return n * (double)BUFFER_BYTES / seconds / 1e9;
}

static int measure(void *arg)
{
	struct buffers *b = arg;

	b->copy = rate_of(b, copy);
	b->read = rate_of(b, read_all);
	b->write = rate_of(b, write_all);
	return 0;
}

static uint8_t *buffer(void)
{
	uint8_t *mem = aligned_alloc(HUGE_PAGE_BYTES, BUFFER_BYTES);

	if (mem == NULL)
		return NULL;
	(void)madvise(mem, BUFFER_BYTES, MADV_HUGEPAGE);
	return memset(mem, 1, BUFFER_BYTES);
}

int bench_memory(const struct bench_options *o)
{
	struct buffers b = {.from = buffer(), .to = buffer(), .seconds = o->seconds / 3};
	struct bench_result result = {.unit = "gb_per_second"};
	struct cJSON *c;

	if (b.from == NULL || b.to == NULL) {
		(void)fprintf(stderr, "The buffers cannot be made: out of memory.\n");
		free(b.from);
		free(b.to);
		return -1;
	}
	bench_on_worker(measure, &b);
	result.rate = b.copy;
	c = cJSON_CreateObject();
	(void)cJSON_AddNumberToObject(c, "worker_core", 1);
	(void)cJSON_AddStringToObject(c, "source", "memcpy");
	(void)cJSON_AddNumberToObject(c, "buffer_mb", BUFFER_BYTES >> 20);
	bench_add(c, "read_gb_per_second", b.read);
	bench_add(c, "write_gb_per_second", b.write);
	(void)cJSON_AddStringToObject(c, "loop", "closed");
	(void)cJSON_AddNumberToObject(c, "seconds", o->seconds);
	bench_print(o, &result, c);
	free(b.from);
	free(b.to);
	return 0;
}
