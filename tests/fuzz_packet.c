/* fuzz_packet.c - any bytes as a few packets through parser, tables and both roles.
 *
 * Input:   packets, each behind 4 bytes: role (bit 0: inner port), time since the one before in 10 ms
 *          (2 bytes), length (0: to the end).  Several packets of one input meet the
 *          same tables, so fragments find their first and flows are decided.
 * Asserts: what headers_parse() says lies within the frame; both fast and slow path agree; every
 *          packet has one verdict and one class; every held segment is released or dropped, once.
 * Run:     fuzz_packet -max_len=2000 tests/corpus/packet
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "control/set_build.h"
#include "dataplane/classify.h"
#include "dataplane/headers_fast.h"
#include "dataplane/stage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PACKETS_MAX = 32, HEAD_BYTES = 4 };

struct run {
	struct tally tally;
	uint64_t n_class[CLASS_COUNT];
	uint64_t n_hold_asked, n_let_go, n_in, n_survivors;
};

static uint64_t hold_wanted(void *ctx, const struct pkt *pkt)
{
	struct run *run = ctx;

	assert(pkt->class_ == CLASS_OVPN && pkt->h.flags & PKT_HAS_TCP_FLAGS);
	return run->n_hold_asked++ % 8; // every eighth is not wanted
}

static void release(void *ctx, const struct held_segment *segment)
{
	struct run *run = ctx;

	assert(segment->ticket != 0 && segment->len <= HELD_BYTES_MAX);
	run->tally.n_held--;
	run->tally.verdicts[VERDICT_RECORDED]++;
	run->n_class[CLASS_OVPN]++;
}

static void drop(void *ctx, const struct held_segment *segment, enum verdict why)
{
	struct run *run = ctx;

	assert(segment->ticket != 0 && why < VERDICT_COUNT);
	run->tally.n_held--;
	run->tally.verdicts[why]++;
	run->n_class[CLASS_OTHER]++;
}

static int same(const struct headers *a, const struct headers *b)
{
	return a->src == b->src && a->dst == b->dst && a->fragment_id == b->fragment_id &&
	       a->l3_offset == b->l3_offset && a->l4_offset == b->l4_offset &&
	       a->sport == b->sport && a->dport == b->dport && a->family == b->family &&
	       a->protocol == b->protocol && a->tcp_flags == b->tcp_flags && a->flags == b->flags &&
	       a->ip_end == b->ip_end;
}

static void check_headers(const uint8_t *data, uint32_t len)
{
	struct headers h, slow;
	int rc = headers_parse(data, len, &h), slow_rc = headers_slow(data, len, &slow);
	uint32_t address_bytes = h.family == 4 ? 4 : 16;

	assert(rc == slow_rc && same(&h, &slow));
	if (h.family == 0)
		return;
	assert(h.family == 4 || h.family == 6);
	assert(h.src >= data && h.dst == h.src + address_bytes &&
	       h.dst + address_bytes <= data + len);
	assert(h.l3_offset < h.l4_offset && h.l4_offset <= h.ip_end && h.ip_end <= len);
	assert((h.flags & PKT_HAS_PORTS) == 0 || h.l4_offset + 4u <= h.ip_end);
	assert((h.flags & PKT_HAS_TCP_FLAGS) == 0 || h.l4_offset + 20u <= h.ip_end);
	assert((h.flags & PKT_FRAGMENT_LATER) == 0 || (h.flags & ~PKT_FRAGMENT_LATER) == 0);
}

/* Copies, each allocated to its byte, so that a read beyond one is seen. */
static unsigned packets_of(const uint8_t *data, size_t size, struct pkt *p, uint8_t *roles,
			   uint8_t **copies)
{
	uint64_t time_ns = 0;
	unsigned n = 0;

	while (size > HEAD_BYTES && n < PACKETS_MAX) {
		size_t len =
			data[3] != 0 && data[3] < size - HEAD_BYTES ? data[3] : size - HEAD_BYTES;
		uint8_t *copy = malloc(len);

		if (copy == NULL)
			abort();
		memcpy(copy, data + HEAD_BYTES, len);
		time_ns += load_be16(data + 1) * UINT64_C(10000000);
		roles[n] = data[0] & 1;
		p[n++] = (struct pkt){.data = copy,
				      .len = (uint32_t)len,
				      .wire_len = (uint32_t)len,
				      .time_ns = time_ns};
		copies[n - 1] = copy;
		data += HEAD_BYTES + len;
		size -= HEAD_BYTES + len;
	}
	return n;
}

static void balance(const struct run *run)
{
	uint64_t n_classes = 0;

	for (unsigned i = 0; i < CLASS_COUNT; i++)
		n_classes += run->n_class[i];
	assert(tally_total(&run->tally) + run->n_survivors == run->n_in);
	assert(run->tally.n_held + n_classes == run->n_in);
}

/* Opening takes milliseconds (megabytes of tables), so one classifier serves many inputs.  Each input
 * begins when all entries of those before are too old to matter.
 */
struct forever {
	struct classifier *classifier;
	struct fragment_table *fragments;
	struct matcher *matcher;
	uint64_t epoch_ns;
};

/* One capture of SYNs from or to one subnet. */
static struct matcher *some_matcher(void)
{
	static struct subnet subnet = {.family = 4, .prefix_len = 24, .addr = {192, 0, 2}};
	static struct config config;
	static const struct filter_data data = {
		.tracing_flags = TRACE_DEFAULT,
		.snap_bytes = 120,
		.n_filters = 1,
		.filters = {{.src = &subnet, .n_src = 1, .tcp_flags = 2}}};
	const struct set_source_capture capture = {
		.is_new = true, .connection = SET_GATEWAY_WIDE, .data = &data};
	const struct set_source source = {
		.config = &config, .captures = &capture, .n_captures = 1, .generation = 1};
	struct filter_set set;
	size_t bytes;
	void *mem = set_build(&source, &bytes);
	struct matcher *matcher = NULL;

	if (mem != NULL && filter_set_check(mem, bytes, &set, NULL) == 0)
		matcher = matcher_open(&set, NULL);
	free(mem);
	if (matcher == NULL)
		abort();
	return matcher;
}

/* Runs of packets with the same role are one burst. */
static void bursts_run(const struct forever *forever, struct pkt *p, const uint8_t *roles,
		       unsigned n, struct run *run)
{
	struct classifier *c = forever->classifier;
	uint64_t latest_ns;

	for (unsigned from = 0, to; from < n; from = to) {
		for (to = from; to < n && roles[to] == roles[from]; to++)
			check_headers(p[to].data, p[to].len);
		latest_ns = p[to - 1].time_ns;
		if (roles[from]) {
			const struct inner_stage stage = {.matcher = forever->matcher,
							  .fragments = forever->fragments,
							  .tally = &run->tally,
							  .n_class = run->n_class};

			run->n_survivors += inner_burst(&stage, p + from, to - from);
		} else {
			run->n_survivors += classify_outer_burst(c, p + from, to - from,
								 &run->tally, run->n_class);
		}
		run->n_in += to - from;
		balance(run);
		classifier_age(c, latest_ns);
		balance(run);
	}
}

static void open_if_needed(struct forever *forever, struct run *run)
{
	static const struct ovpn_endpoint endpoints[] = {
		{.port = 1194, .protocol = 17},
		{.port = 443, .protocol = 6, .shared = 1},
		{.port = 1194, .protocol = 6, .family = 4, .address = {192, 0, 2, 254}},
	};

	if (forever->epoch_ns > UINT64_MAX / 2) {
		classifier_close(forever->classifier);
		fragment_close(forever->fragments);
		matcher_close(forever->matcher);
		*forever = (struct forever){0};
	}
	if (forever->classifier == NULL) {
		forever->matcher = some_matcher();
		forever->fragments = fragment_open();
		forever->classifier =
			classifier_open(&(struct classify_hooks){hold_wanted, release, drop, run});
		classifier_set_endpoints(forever->classifier, endpoints, 3);
	}
}

/* Everything is decided: each packet has one verdict and one class. */
static void finish(struct classifier *c, struct run *run)
{
	uint64_t n_classes = 0;

	if (run->n_hold_asked > 0) // else no flow has anything to say, and the walk is long
		classifier_flush(c);
	for (unsigned i = 0; i < CLASS_COUNT; i++)
		n_classes += run->n_class[i];
	assert(run->tally.n_held == 0 && classifier_oldest_held_ns(c) == UINT64_MAX);
	assert(tally_total(&run->tally) + run->n_survivors == run->n_in);
	assert(n_classes == run->n_in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct forever forever;
	static struct run run;
	struct pkt p[PACKETS_MAX];
	uint8_t roles[PACKETS_MAX];
	uint8_t *copies[PACKETS_MAX];
	unsigned n = packets_of(data, size, p, roles, copies);

	if (n == 0)
		return 0;
	open_if_needed(&forever, &run);
	run = (struct run){0};
	for (unsigned i = 0; i < n; i++)
		p[i].time_ns += forever.epoch_ns;
	forever.epoch_ns = p[n - 1].time_ns + UINT64_C(1000000000000);
	bursts_run(&forever, p, roles, n, &run);
	finish(forever.classifier, &run);
	for (unsigned i = 0; i < n; i++)
		free(copies[i]);
	return 0;
}
