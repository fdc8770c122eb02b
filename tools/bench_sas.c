/* bench_sas.c - the SA of a packet: our table, and rte_ipsec_sad, which DPDK has for it.
 *
 * The same SAs (IPv4, SPI and destination at random), the same packets in the same random order, in bursts; of
 * each SA that is found one word is read, as a worker would.  Each look-up has to find its SA.
 * rte_ipsec_sad gets its keys ready made and its rules by SPI and destination; it knows no sources beside those
 * and no wildcards.
 */
#include "tools/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <rte_cycles.h>
#include <rte_ipsec_sad.h>
#include <rte_lcore.h>
#include <rte_malloc.h>

#include "dataplane/sa_table.h"

enum { PACKETS = 1 << 16, STEPS = 2, KEY_BYTES = 20, ADDRESS_BYTES = 4 };

static const uint32_t steps[STEPS] = {1, 10000};

/* A packet: what is looked up. */
struct wanted {
	struct rte_ipsec_sadv4_key key; // spi in host order, for both: it is only a number here
	uint32_t slot;
};

struct sas {
	const struct bench_options *o;
	bool is_sad;
	uint32_t n;
	struct sa_set_header *header;
	struct sa_record *records; // behind it
	struct wanted *packets;
	uint64_t dice;

	// What is built.
	struct sa_table *table;
	struct rte_ipsec_sad *sad;
	struct sa *found_by_sad; // one each
	double seconds, bytes;

	// Measured.
	double cycles;
	bool is_right;
};

/* splitmix64 */
static uint64_t throw(struct sas * s)
{
	uint64_t z = s->dice += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static void make_sas(struct sas *s)
{
	size_t bytes = sizeof(*s->header) + s->n * sizeof(*s->records);

	*s->header = (struct sa_set_header){.magic = SA_SET_MAGIC,
					    .version = SA_SET_VERSION,
					    .generation = 1,
					    .total_bytes = (uint32_t)bytes,
					    .n_sas = s->n};
	for (uint32_t i = 0; i < s->n; i++) {
		uint32_t address = (uint32_t) throw(s);
		struct sa_record r = {.spi = (uint32_t) throw(s),
				      .spi_mask = UINT32_MAX,
				      .slot = i,
				      .cipher = ESP_AES_GCM,
				      .icv_bytes = 16,
				      .enc_key_bytes = KEY_BYTES};

		r.dst.family = 4;
		memcpy(r.dst.value, &address, ADDRESS_BYTES);
		memset(r.dst.mask, 0xff, ADDRESS_BYTES);
		memset(r.enc_key, (int)i, KEY_BYTES);
		s->records[i] = r;
	}
}

static void make_packets(struct sas *s)
{
	for (uint32_t i = 0; i < PACKETS; i++) {
		struct wanted *w = &s->packets[i];
		const struct sa_record *r;

		w->slot = (uint32_t) throw(s) % s->n;
		r = &s->records[w->slot];
		w->key = (struct rte_ipsec_sadv4_key){.spi = r->spi, .sip = (uint32_t) throw(s)};
		memcpy(&w->key.dip, r->dst.value, ADDRESS_BYTES);
	}
}

/* ---- ours ---- */

static int build_table(struct sas *s)
{
	struct error err = {0};
	struct sa_set set;
	double start = bench_now();

	if (sa_set_check(s->header, s->header->total_bytes, &set, &err) == 0)
		s->table = sa_table_open(&set, &err);
	s->seconds = bench_now() - start;
	if (s->table == NULL) {
		(void)fprintf(stderr, "%s\n", err.text);
		return -1;
	}
	s->bytes = (double)sa_table_bytes(s->table);
	return 0;
}

static inline uint32_t find_in_table(const struct sas *s, const struct wanted *w, uint32_t n)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sa_table_prefetch(s->table, w[i].key.spi, 4, (const uint8_t *)&w[i].key.dip);
	for (uint32_t i = 0; i < n; i++) {
		const struct sa *sa =
			sa_table_find(s->table, w[i].key.spi, 4, (const uint8_t *)&w[i].key.sip,
				      (const uint8_t *)&w[i].key.dip);

		sum += sa != NULL ? sa->slot ^ w[i].slot : 1;
	}
	return sum;
}

/* ---- rte_ipsec_sad ---- */

static double allocated(void)
{
	struct rte_malloc_socket_stats stats = {0};

	(void)rte_malloc_get_socket_stats((int)rte_socket_id(), &stats);
	return (double)stats.heap_allocsz_bytes;
}

static int build_sad(struct sas *s)
{
	const struct rte_ipsec_sad_conf conf = {.socket_id = SOCKET_ID_ANY,
						.max_sa = {[RTE_IPSEC_SAD_SPI_DIP] = s->n}};
	double start = bench_now(), before = allocated();
	int rc = 0;

	s->sad = rte_ipsec_sad_create("bench", &conf);
	if (s->sad == NULL) {
		(void)fputs("rte_ipsec_sad cannot be created: is -m large enough?\n", stderr);
		return -1;
	}
	for (uint32_t i = 0; i < s->n && rc == 0; i++) {
		union rte_ipsec_sad_key key = {.v4 = {.spi = s->records[i].spi}};

		memcpy(&key.v4.dip, s->records[i].dst.value, ADDRESS_BYTES);
		s->found_by_sad[i].slot = i;
		rc = rte_ipsec_sad_add(s->sad, &key, RTE_IPSEC_SAD_SPI_DIP, &s->found_by_sad[i]);
	}
	s->seconds = bench_now() - start;
	s->bytes = allocated() - before;
	if (rc != 0)
		(void)fprintf(stderr, "rte_ipsec_sad does not take %u SAs.\n", s->n);
	return rc;
}

static inline uint32_t find_in_sad(const struct sas *s, const struct wanted *w, uint32_t n)
{
	const union rte_ipsec_sad_key *keys[BURST_MAX];
	void *found[BURST_MAX];
	uint32_t sum = 0;

	for (uint32_t i = 0; i < n; i++)
		keys[i] = (const union rte_ipsec_sad_key *)&w[i].key;
	(void)rte_ipsec_sad_lookup(s->sad, keys, found, n);
	for (uint32_t i = 0; i < n; i++)
		sum += found[i] != NULL ? ((const struct sa *)found[i])->slot ^ w[i].slot : 1;
	return sum;
}

/* ---- both ---- */

static void drop(struct sas *s)
{
	sa_table_close(s->table);
	s->table = NULL;
	if (s->sad != NULL)
		rte_ipsec_sad_destroy(s->sad);
	s->sad = NULL;
}

static uint32_t find(const struct sas *s, uint32_t at)
{
	const struct wanted *w = &s->packets[at];

	return s->is_sad ? find_in_sad(s, w, s->o->burst) : find_in_table(s, w, s->o->burst);
}

/* All once, to see that each finds its SA; then for a while. */
static int measure(void *arg)
{
	struct sas *s = arg;
	uint32_t at, n_wrong = 0, last = PACKETS - s->o->burst;
	uint64_t start, end, now, n_found = 0;

	for (at = 0; at <= last; at += s->o->burst)
		n_wrong |= find(s, at);
	start = now = rte_rdtsc();
	end = start + (uint64_t)(s->o->seconds / STEPS * (double)rte_get_tsc_hz());
	for (at = 0; now < end && !bench_is_interrupted; now = rte_rdtsc()) {
		n_wrong |= find(s, at);
		n_found += s->o->burst;
		at = at + 2 * s->o->burst <= PACKETS ? at + s->o->burst : 0;
	}
	s->cycles = n_found > 0 ? (double)(now - start) / (double)n_found : 0;
	s->is_right = n_wrong == 0 && n_found > 0;
	return 0;
}

static struct cJSON *step_json(const struct sas *s)
{
	struct cJSON *step = cJSON_CreateObject();

	(void)cJSON_AddNumberToObject(step, "sas", s->n);
	bench_add(step, "cycles_per_packet", s->cycles);
	bench_add(step, "build_ms", s->seconds * 1e3);
	(void)cJSON_AddNumberToObject(step, "bytes", s->bytes);
	return step;
}

static int run_step(struct sas *s, uint32_t n, struct cJSON *list)
{
	int rc;

	s->n = n;
	make_sas(s);
	make_packets(s);
	rc = s->is_sad ? build_sad(s) : build_table(s);
	if (rc == 0) {
		bench_on_worker(measure, s);
		(void)cJSON_AddItemToArray(list, step_json(s));
		if (!s->is_right) {
			(void)fprintf(stderr, "Of %u SAs not each is found.\n", n);
			rc = -1;
		}
	}
	drop(s);
	return rc;
}

static void print_steps(const struct sas *s, struct cJSON *list)
{
	const struct bench_result result = {.unit = "mpps",
					    .rate = (double)rte_get_tsc_hz() / s->cycles / 1e6,
					    .cycles = s->cycles};
	struct cJSON *c = bench_conditions(s->o);

	cJSON_DeleteItemFromObject(c, "frames");
	cJSON_DeleteItemFromObject(c, "five_tuples");
	(void)cJSON_AddStringToObject(c, "source", "packets in memory");
	(void)cJSON_AddStringToObject(c, "loop", "closed, look-up only");
	(void)cJSON_AddStringToObject(c, "engine",
				      s->is_sad ? "rte_ipsec_sad" : "gatecap's SA table");
	(void)cJSON_AddStringToObject(c, "order", "random");
	(void)cJSON_AddNumberToObject(c, "working_set", PACKETS);
	(void)cJSON_AddNumberToObject(c, "sas", s->n);
	(void)cJSON_AddItemToObject(c, "steps", list);
	bench_print(s->o, &result, c);
}

static int bench_sas(const struct bench_options *o, bool is_sad)
{
	struct sas s = {.o = o, .is_sad = is_sad, .dice = 1};
	struct cJSON *list = cJSON_CreateArray();
	int rc = -1;

	s.header = malloc(sizeof(*s.header) + SA_MAX * sizeof(*s.records));
	s.packets = aligned_alloc(64, PACKETS * sizeof(*s.packets));
	s.found_by_sad = aligned_alloc(64, SA_MAX * sizeof(*s.found_by_sad));
	if (s.header != NULL && s.packets != NULL && s.found_by_sad != NULL && list != NULL) {
		s.records = (struct sa_record *)(s.header + 1);
		rc = 0;
		for (unsigned i = 0; i < STEPS && rc == 0; i++)
			rc = run_step(&s, steps[i], list);
	}
	if (rc == 0)
		print_steps(&s, list);
	else
		cJSON_Delete(list);
	free(s.header);
	free(s.packets);
	free(s.found_by_sad);
	return rc;
}

int bench_sa_find(const struct bench_options *o)
{
	return bench_sas(o, false);
}

int bench_sad(const struct bench_options *o)
{
	return bench_sas(o, true);
}
