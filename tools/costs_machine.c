/* costs_machine.c - what memory and file system of this machine can do: the floor under the stages.
 *
 * Copying is done as record.c does it, with plain stores, so that each line that is written is read before;
 * glibc would take other stores for long copies.  A latency is that of loads of which each has to wait for
 * the one before, in a random circle through all lines.  The buffers lie in huge pages.
 */
#include "tools/costs_jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <rte_cycles.h>
#include <rte_launch.h>
#include <rte_malloc.h>

#include "control/store.h"
#include "dataplane/record.h"

enum {
	LINE_BYTES = 64,
	BUFFER_BYTES = 64 << 20,
	FILE_BYTES = 100 << 20,
	CHASE_LOADS = 1 << 20,
	SLICES = 10,
};

typedef uint32_t v8u __attribute__((vector_size(32)));

static const uint32_t sizes[] = {16 << 10, 256 << 10, 4 << 20, 2 * BUFFER_BYTES};
static const char *const size_names[] = {"16 KiB", "256 KiB", "4 MiB", "128 MiB"};

enum { N_SIZES = sizeof(sizes) / sizeof(*sizes) };

/* Passes over `bytes` of memory, on one core. */
struct passes {
	void (*pass)(uint8_t *mem, uint32_t bytes);
	uint8_t *mem;
	uint32_t bytes;
	double seconds, gb_per_second;
};

/* Half of it is the source, half the target; gives what was copied, not what was moved. */
static void copy(uint8_t *mem, uint32_t bytes)
{
	record_copy(mem + bytes / 2, mem, bytes / 2);
}

static void read_all(uint8_t *mem, uint32_t bytes)
{
	v8u sum[4] = {{0}};

	for (uint32_t at = 0; at < bytes; at += sizeof(sum))
		for (unsigned i = 0; i < 4; i++) {
			v8u word;

			memcpy(&word, mem + at + i * sizeof(word), sizeof(word));
			sum[i] += word;
		}
	__asm__ volatile("" : : "x"(sum[0] + sum[1] + sum[2] + sum[3]));
}

static void write_all(uint8_t *mem, uint32_t bytes)
{
	const v8u word = {1};

	for (uint32_t at = 0; at < bytes; at += sizeof(word)) {
		memcpy(mem + at, &word, sizeof(word));
		__asm__ volatile("" ::: "memory"); // else it becomes a memset() of other stores
	}
}

/* Past the cache, as a store that is mapped is written. */
static void stream_all(uint8_t *mem, uint32_t bytes)
{
	const __m256i word = _mm256_set1_epi32(1);

	for (uint32_t at = 0; at < bytes; at += sizeof(word))
		_mm256_stream_si256((__m256i *)(mem + at), word);
	_mm_sfence();
}

/* GB/s of the fastest tenth: what the machine can do, not what it had time for. */
static int run_passes(void *arg)
{
	struct passes *p = arg;
	double hz = (double)rte_get_tsc_hz();

	p->gb_per_second = 0;
	for (unsigned i = 0; i < SLICES && !bench_is_interrupted; i++) {
		uint64_t start = rte_rdtsc(), now, n = 0;
		uint64_t end = start + (uint64_t)(p->seconds / SLICES * hz);
		double rate;

		do {
			p->pass(p->mem, p->bytes);
			n += p->pass == copy ? p->bytes / 2 : p->bytes;
			now = rte_rdtsc();
		} while (now < end);
		rate = (double)n / (double)(now - start) * hz / 1e9;
		p->gb_per_second = rate > p->gb_per_second ? rate : p->gb_per_second;
	}
	return 0;
}

/* A circle through all lines, in random order (Sattolo's shuffle). */
static void link_lines(uint8_t *mem, uint32_t n_lines)
{
	uint32_t *order = malloc(n_lines * sizeof(*order));
	uint64_t dice = 1;

	if (order == NULL)
		abort();
	for (uint32_t i = 0; i < n_lines; i++)
		order[i] = i;
	for (uint32_t i = n_lines - 1; i > 0; i--) {
		uint32_t k, kept = order[i];

		dice = dice * UINT64_C(6364136223846793005) + 1442695040888963407U;
		k = (uint32_t)((dice >> 33) % i);
		order[i] = order[k];
		order[k] = kept;
	}
	for (uint32_t i = 0; i < n_lines; i++) {
		void *next = mem + (size_t)order[(i + 1) % n_lines] * LINE_BYTES;

		memcpy(mem + (size_t)order[i] * LINE_BYTES, &next, sizeof(next));
	}
	free(order);
}

struct chase {
	uint8_t *mem;
	double ns; // a load
};

static int follow(void *arg)
{
	struct chase *c = arg;
	void **at = (void **)c->mem;

	for (unsigned i = 0; i <= SLICES; i++) { // the first one warms
		uint64_t start = rte_rdtsc();
		double ns;

		for (unsigned k = 0; k < CHASE_LOADS; k++)
			at = *at;
		__asm__ volatile("" : : "r"(at));
		ns = (double)(rte_rdtsc() - start) / (double)rte_get_tsc_hz() * 1e9 / CHASE_LOADS;
		if (i > 0 && (i == 1 || ns < c->ns))
			c->ns = ns;
	}
	return 0;
}

/* Both cores at once: GB/s of the two together. */
static double copy_on_two(uint8_t *mem, double seconds)
{
	struct passes one = {copy, mem, BUFFER_BYTES, seconds, 0};
	struct passes two = {copy, mem + BUFFER_BYTES, BUFFER_BYTES, seconds, 0};

	if (rte_eal_remote_launch(run_passes, &one, BENCH_WORKER_LCORE) != 0)
		return 0;
	(void)run_passes(&two);
	(void)rte_eal_wait_lcore(BENCH_WORKER_LCORE);
	return one.gb_per_second + two.gb_per_second;
}

/* As the store writes where it is not mapped: STORE_STAGE_BYTES at a time, round a file of MaxFileSize 100.  GB/s, or 0. */
static double write_file(const char *dir, double seconds)
{
	static uint8_t stage[STORE_STAGE_BYTES];
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	uint64_t hz = rte_get_tsc_hz(), start, now, n = 0;

	if (fd < 0 || posix_fallocate(fd, 0, FILE_BYTES) != 0) {
		(void)fprintf(stderr, "No file can be made in %s: %s.\n", dir, strerror(errno));
		if (fd >= 0)
			(void)close(fd);
		return 0;
	}
	memset(stage, 1, sizeof(stage));
	start = rte_rdtsc();
	do {
		if (pwrite(fd, stage, sizeof(stage), (off_t)(n % FILE_BYTES)) < 0)
			break;
		n += sizeof(stage);
		now = rte_rdtsc();
	} while ((double)(now - start) < seconds * (double)hz && !bench_is_interrupted);
	(void)close(fd);
	return (double)n / ((double)(rte_rdtsc() - start) / (double)hz) / 1e9;
}

static void add_rates(struct cJSON *to, uint8_t *mem, double seconds)
{
	static const struct {
		const char *name;
		void (*pass)(uint8_t *mem, uint32_t bytes);
	} kinds[] = {
		{"copy", copy}, {"read", read_all}, {"write", write_all}, {"stream", stream_all}};

	for (unsigned k = 0; k < sizeof(kinds) / sizeof(*kinds); k++) {
		struct cJSON *rates = cJSON_AddObjectToObject(to, kinds[k].name);

		for (unsigned i = 0; i < N_SIZES; i++) {
			struct passes p = {kinds[k].pass, mem, sizes[i], seconds, 0};

			bench_on_worker(run_passes, &p);
			(void)cJSON_AddNumberToObject(rates, size_names[i], p.gb_per_second);
		}
	}
}

static void add_latencies(struct cJSON *to, uint8_t *mem)
{
	for (unsigned i = 0; i < N_SIZES; i++) {
		struct chase c = {.mem = mem};

		link_lines(mem, sizes[i] / LINE_BYTES);
		bench_on_worker(follow, &c);
		(void)cJSON_AddNumberToObject(to, size_names[i], c.ns);
	}
}

struct cJSON *costs_machine(const struct costs_options *o)
{
	uint8_t *mem = rte_zmalloc(NULL, 2 * BUFFER_BYTES, 1 << 21);
	struct cJSON *out;

	if (mem == NULL) {
		(void)fprintf(stderr, "EAL has no %u MiB for the buffers.\n",
			      2 * BUFFER_BYTES >> 20);
		return NULL;
	}
	out = cJSON_CreateObject();
	add_rates(cJSON_AddObjectToObject(out, "gb_per_second"), mem, o->bench.seconds);
	add_latencies(cJSON_AddObjectToObject(out, "latency_ns"), mem);
	(void)cJSON_AddNumberToObject(out, "copy_on_two_gb_per_second",
				      copy_on_two(mem, o->bench.seconds));
	(void)cJSON_AddNumberToObject(out, "file_gb_per_second",
				      write_file(o->bench.dir, o->bench.seconds));
	(void)cJSON_AddNumberToObject(out, "ghz", (double)rte_get_tsc_hz() / 1e9);
	(void)cJSON_AddNumberToObject(out, "border_cycles", costs_border_cycles());
	rte_free(mem);
	return out;
}
