/* fuzz_esp.c - any bytes as frames with ESP in them, decrypted by NULL: so the fuzzer writes what is inside, too.
 *
 * Input:   packets, each behind 3 bytes: length (2), how much of it was cut off (1, in units of 8 bytes).
 * SAs:     every SPI below 16 to any address, in every mode, with ICVs of 0, 12 and 16 bytes.
 * Asserts: what comes out lies in the frame or in the stage's memory, is not longer than it says, is in order of
 *          time, and is parsed as what it is said to be; every packet has one verdict.
 * Run:     fuzz_esp -max_len=4000 tests/corpus/esp
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "control/set_build.h"
#include "dataplane/classify.h"
#include "dataplane/esp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SPIS = 16, HEAD_BYTES = 3, CUT_UNIT = 8 };

static struct matcher *matcher;
static struct sa_table *sas;
static struct esp_stage *stage;
static struct fragment_table *fragments;
static struct classifier *classifier;
static struct worker_shared *shared;
static uint32_t snaps[CAPTURES_MAX];

static uint64_t no_hold(void *ctx, const struct pkt *p)
{
	(void)ctx, (void)p;
	return 0;
}

static void compile_matcher(void)
{
	static const char *const texts[] = {
		"{}", "{\"Filters\":[{}]}",
		"{\"MaxPacketBufferSize\":65535,\"Filters\":[{\"TcpFlags\":2}]}",
		"{\"Filters\":[{\"Protocol\":[17],\"SourcePort\":[53]}]}"};
	struct filter_data_rules rules = {.filters_max = 1};
	struct filter_data data[CAPTURES_MAX];
	struct set_source_capture captures[CAPTURES_MAX];
	struct config config;
	struct set_source source = {
		.config = &config, .captures = captures, .n_captures = 4, .generation = 1};
	struct faults faults = {0}, warnings = {0};
	struct filter_set set;
	size_t bytes;
	void *mem;

	if (config_defaults(&config) != 0)
		abort();
	for (unsigned i = 0; i < 4; i++) {
		if (filter_data_parse(texts[i], strlen(texts[i]), &rules, &data[i], &faults,
				      &warnings) != 0)
			abort();
		captures[i] = (struct set_source_capture){.slot = i,
							  .is_new = true,
							  .connection = SET_GATEWAY_WIDE,
							  .data = &data[i]};
		snaps[i] = data[i].snap_bytes;
	}
	mem = set_build(&source, &bytes);
	if (mem == NULL || filter_set_check(mem, bytes, &set, NULL) != 0)
		abort();
	matcher = matcher_open(&set, NULL);
	for (unsigned i = 0; i < 4; i++)
		filter_data_fini(&data[i]);
	faults_fini(&warnings);
	config_fini(&config);
	free(mem);
}

static void compile_sas(void)
{
	static const uint8_t icvs[] = {0, 12, 16, 12};
	static struct {
		struct sa_set_header header;
		struct sa_record records[SPIS];
	} mem = {.header = {.magic = SA_SET_MAGIC,
			    .version = SA_SET_VERSION,
			    .generation = 1,
			    .n_sas = SPIS,
			    .total_bytes = sizeof(mem),
			    .flags = SA_SET_VERIFY_ICV}};
	struct sa_set set;

	for (uint32_t i = 0; i < SPIS; i++)
		mem.records[i] = (struct sa_record){
			.spi = i,
			.spi_mask = UINT32_MAX,
			.slot = i,
			.cipher = ESP_NULL,
			.auth = icvs[i % 4] == 0 ? ESP_AUTH_NONE : ESP_AUTH_UNCHECKED,
			.icv_bytes = icvs[i % 4],
			.mode = (uint8_t)(i / 4 % 3),
			.flags = i & 8 ? SA_ESN : 0,
		};
	if (sa_set_check(&mem, sizeof(mem), &set, NULL) != 0)
		abort();
	sas = sa_table_open(&set, NULL);
}

static void open_all(void)
{
	struct classify_hooks hooks = {.hold_wanted = no_hold};

	compile_matcher();
	compile_sas();
	stage = esp_open(ESP_OPENSSL);
	fragments = fragment_open();
	classifier = classifier_open(&hooks);
	shared = aligned_alloc(SHARED_PAGE_BYTES, sizeof(*shared));
	if (matcher == NULL || sas == NULL || stage == NULL || fragments == NULL ||
	    classifier == NULL || shared == NULL)
		abort();
	memset(shared, 0, sizeof(*shared));
}

/* The packets of an input, each in memory of its own, so that a byte too many is seen. */
static unsigned cut_up(const uint8_t *data, size_t size, struct pkt *p)
{
	static uint64_t now_ns;
	unsigned n = 0;

	while (n < BURST_MAX && size > HEAD_BYTES) {
		uint32_t len = (uint32_t)(data[0] << 8 | data[1]), cut = data[2] * CUT_UNIT;
		uint8_t *copy;

		data += HEAD_BYTES;
		size -= HEAD_BYTES;
		if (len == 0 || len > size)
			len = (uint32_t)size;
		if (cut >= len)
			cut = 0;
		copy = malloc(len - cut);
		if (copy == NULL)
			abort();
		memcpy(copy, data, len - cut);
		p[n++] = (struct pkt){
			.data = copy, .len = len - cut, .wire_len = len, .time_ns = ++now_ns};
		data += len;
		size -= len;
	}
	return n;
}

static void check(const struct pkt *out, unsigned n)
{
	struct headers h;
	uint64_t sum = 0;

	for (unsigned i = 0; i < n; i++) {
		assert(out[i].wanted != 0 && out[i].len <= out[i].wire_len);
		assert(i == 0 || out[i - 1].time_ns <= out[i].time_ns);
		for (uint32_t k = 0; k < out[i].len; k++)
			sum += out[i].data[k];
		if (out[i].class_ != CLASS_INNER)
			continue;
		(void)headers_parse(out[i].data, out[i].len, &h);
		assert(h.family == 4 || h.family == 6);
		assert(h.ip_end <= out[i].len);
	}
	// Read, whatever it was.
	__asm__ volatile("" : : "r"(sum));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pkt p[BURST_MAX], *out;
	const uint8_t *copies[BURST_MAX];
	uint64_t n_class[CLASS_COUNT] = {0};
	struct tally tally = {0};
	struct esp_found found;
	struct esp_context c;
	unsigned n, n_copies, n_out;

	if (stage == NULL)
		open_all();
	n_copies = n = cut_up(data, size, p);
	for (unsigned i = 0; i < n; i++)
		copies[i] = p[i].data;
	if (n > 0) {
		n = classify_outer_burst(classifier, p, n, &tally, n_class);
		c = (struct esp_context){.matcher = matcher,
					 .sas = sas,
					 .fragments = fragments,
					 .shared = shared,
					 .tally = &tally};
		memcpy(c.snap_bytes, snaps, sizeof(snaps));
		n_out = esp_burst(stage, &c, p, n, &out, &found);
		assert(n_out <= RECORD_MAX);
		check(out, n_out);
		assert(tally_total(&tally) + n_out == n_copies + found.n);
		classifier_flush(classifier);
	}
	for (unsigned i = 0; i < n_copies; i++)
		free((void *)(uintptr_t)copies[i]);
	return 0;
}
