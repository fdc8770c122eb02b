/* inner.c - what an inner port brings: class and match, eight packets at a time.
 *
 * Nearly all of it is plain: IPv4 without options, TCP, UDP, ICMP or ESP, not a fragment, its headers
 * whole and true as far as the matcher looks at them (where the packet ends it does not).  The headers
 * of eight frames are turned from rows into columns; each condition, and each field that the matcher
 * wants, is then one vector operation for all of them.  What fails a condition is left to the cursor of
 * headers.c, which begins anew: so the fast path is right or steps aside.
 *
 * Number: a third of the instructions that classify and match took of each packet alone, 168 (callgrind, bursts
 * of 64, one filter with subnets and a protocol; today's are in tools/check.d/instructions.txt).
 * Refused: an end at the first dimension that says no (mixed traffic mispredicts it, and the rest is
 * cheaper than a wrong guess).
 */
#include "dataplane/stage.h"

#include <assert.h>

#include "dataplane/classify.h"
#include "dataplane/headers_fast.h"

enum {
	PROTO_ICMP = 1,
	L3 = ETHER_BYTES,
	L4 = L3 + IPV4_BYTES_MIN,
	READABLE_MIN = L4 + TCP_BYTES_MIN, // a frame on the wire has 60
	TCP_OFFSET_MIN = TCP_BYTES_MIN << 2,
};

#define MASK_OTHER (UINT32_C(1) << 31) /* in place of a verdict mask: of no class */
static_assert(CAPTURES_MAX * FILTERS_PER_CAPTURE_MAX * FILTER_DIRECTIONS < 31,
	      "a mask leaves it free");

typedef int32_t v4 __attribute__((vector_size(16)));

static_assert(BURST_MAX == 64, "a burst is a word of bits");
static_assert(CLASS_OTHER == 0, "what fates_of() leaves it at");
static_assert(L3 + 12 + 16 <= READABLE_MIN, "what columns() reads of the addresses");

/* Four words of each of eight frames: one vector a word. */
static inline void columns(const uint8_t *const data[LANES], unsigned offset, v8 word[4])
{
	v8 row[4], low[2], high[2];

	for (unsigned i = 0; i < 4; i++) {
		v4 a, b;

		memcpy(&a, data[i] + offset, sizeof(a));
		memcpy(&b, data[i + 4] + offset, sizeof(b));
		row[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
	}
	for (unsigned i = 0; i < 2; i++) {
		v8 a = row[2 * i], b = row[2 * i + 1];

		low[i] = __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13);
		high[i] = __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
	}
	word[0] = __builtin_shufflevector(low[0], low[1], 0, 1, 8, 9, 4, 5, 12, 13);
	word[1] = __builtin_shufflevector(low[0], low[1], 2, 3, 10, 11, 6, 7, 14, 15);
	word[2] = __builtin_shufflevector(high[0], high[1], 0, 1, 8, 9, 4, 5, 12, 13);
	word[3] = __builtin_shufflevector(high[0], high[1], 2, 3, 10, 11, 6, 7, 14, 15);
}

/* One word of each of eight frames. */
static inline v8 column(const uint8_t *const data[LANES], unsigned offset)
{
	int32_t word[LANES];

	for (unsigned i = 0; i < LANES; i++)
		word[i] = (int32_t)load_raw32(data[i] + offset);
	return V8_OF(word);
}

/* The first two bytes of each word, in host order. */
static inline v8 be16_of(v8 words)
{
	return (words & 0xff) << 8 | (words >> 8 & 0xff);
}

/* The matcher's keys of eight frames of READABLE_MIN bytes at least.  Gives a bit for each that is plain;
 * what the keys of the others say means nothing.
 */
static inline unsigned lanes_parse(const uint8_t *const data[LANES], struct match_lanes *lanes)
{
	v8 ip[4], flow[4]; // from the EtherType on; from the source address on
	v8 tcp = column(data, L4 + 12), protocol, total, least, wrong;
	v8 is_tcp, is_udp, is_portless;

	columns(data, 12, ip);
	columns(data, L3 + 12, flow);
	protocol = ip[2] >> 24 & 0xff;
	is_tcp = protocol == PROTO_TCP;
	is_udp = protocol == PROTO_UDP;
	is_portless = (protocol == PROTO_ESP) | (protocol == PROTO_ICMP);
	total = be16_of(ip[1]);
	least = IPV4_BYTES_MIN + ((is_tcp & TCP_BYTES_MIN) | (is_udp & UDP_BYTES));

	wrong = ((ip[0] & 0xffffff) != 0x450008); // EtherType, version, header length
	wrong |= (ip[2] & 0xff3f) != 0;		  // a fragment
	wrong |= total < least;
	wrong |= is_tcp & ((tcp & 0xff) < TCP_OFFSET_MIN);
	lanes->src = flow[0];
	lanes->dst = flow[1];
	lanes->ports = flow[2];
	lanes->kind = (is_tcp & (tcp >> 8 & 0xff)) | (is_udp & (MATCH_KIND_PORTS + PROTO_UDP)) |
		      (is_portless & (protocol + MATCH_KIND_NO_PORTS));
	return v8_bits((is_tcp | is_udp | is_portless) & ~wrong);
}

/* Frames that are too short to be plain, or to be read: others are put in their place. */
static __attribute__((noinline)) void replace_short(const uint8_t *data[LANES], unsigned is_short)
{
	static const uint8_t nothing[READABLE_MIN]; // not plain

	for (; is_short != 0; is_short &= is_short - 1)
		data[__builtin_ctz(is_short)] = nothing;
}

/* lanes_parse() of eight packets. */
static inline unsigned lanes_of(const struct pkt p[LANES], struct match_lanes *lanes)
{
	const uint8_t *data[LANES];
	int32_t lens[LANES];
	unsigned is_short;

	for (unsigned i = 0; i < LANES; i++) {
		data[i] = p[i].data;
		lens[i] = (int32_t)p[i].len;
	}
	is_short = v8_bits(V8_OF(lens) < READABLE_MIN);
	if (__builtin_expect(is_short != 0, 0))
		replace_short(data, is_short);
	return lanes_parse(data, lanes);
}

/* The last of a burst: spare lanes repeat the last packet. */
static __attribute__((noinline)) unsigned lanes_of_some(const struct pkt *p, unsigned n,
							struct match_lanes *lanes)
{
	struct pkt some[LANES];

	for (unsigned i = 0; i < LANES; i++) {
		some[i].data = p[i < n ? i : n - 1].data;
		some[i].len = p[i < n ? i : n - 1].len;
	}
	return lanes_of(some, lanes) & ((1U << n) - 1);
}

/* A fragment: the first leaves its verdict in the table, later ones take it from there.  A verdict of
 * an older generation means other captures: it is not taken.
 */
static uint32_t match_fragment(const struct inner_stage *s, const struct pkt *p)
{
	uint64_t generation = matcher_generation(s->matcher) << 32, value;
	struct match_key key = match_key_of(&p->h);
	uint32_t mask;

	if (p->h.flags & PKT_FRAGMENT_FIRST) {
		mask = match_inner(s->matcher, &key);
		fragment_put(s->fragments, &p->h, 0, p->time_ns, generation | mask);
		return mask;
	}
	if (fragment_get(s->fragments, &p->h, 0, p->time_ns, &value) &&
	    (value & ~(uint64_t)UINT32_MAX) == generation)
		return (uint32_t)value;
	return match_inner_no_first(s->matcher, &key);
}

/* Verdict mask of a packet that is not plain.  A header that is cut behind the IP header is for the matcher
 * to judge: tcp_flags are then absent.
 */
static uint32_t match_slow(const struct inner_stage *s, struct pkt *p, unsigned *n_other)
{
	int broken = headers_slow(p->data, p->len, &p->h);
	struct match_key key;

	if (p->h.family == 0) {
		s->tally->verdicts[broken ? VERDICT_MALFORMED : VERDICT_OTHER]++;
		++*n_other;
		return MASK_OTHER;
	}
	if (p->h.flags & (PKT_FRAGMENT_FIRST | PKT_FRAGMENT_LATER))
		return match_fragment(s, p);
	key = match_key_of(&p->h);
	return match_inner(s->matcher, &key);
}

/* Eight verdict masks become the packets' fates: match_fold(), port and class. */
static inline v8 fates_of(v8 masks, uint32_t port)
{
	v8u any = (v8u)masks, captures;

	any |= any >> 3;
	any |= any >> 1 | any >> 2;
	captures = (any & MATCH_FOLD_FIRST) * MATCH_FOLD_GATHER >> MATCH_FOLD_SHIFT &
		   MATCH_FOLD_CAPTURES;
	return (v8)captures | (int32_t)(port << FATE_PORT) |
	       ((masks >= 0) & CLASS_INNER << FATE_CLASS); // MASK_OTHER is the sign
}

/* Put in the masks of packets that are not plain, a bit each. */
static __attribute__((noinline)) v8 judge_slow(const struct inner_stage *s, struct pkt *p, v8 masks,
					       unsigned slow, unsigned *n_other)
{
	uint32_t mask[LANES];

	memcpy(mask, &masks, sizeof(mask));
	for (; slow != 0; slow &= slow - 1) {
		unsigned i = (unsigned)__builtin_ctz(slow);

		mask[i] = match_slow(s, &p[i], n_other);
	}
	return V8_OF((int32_t *)mask);
}

/* The fates of n <= LANES packets.  Gives a bit for each that is wanted. */
static inline unsigned judge(const struct inner_stage *s, struct pkt *p, unsigned n,
			     unsigned *n_other)
{
	struct match_lanes lanes;
	uint32_t fate[LANES];
	unsigned all = (1U << n) - 1;
	unsigned plain = n == LANES ? lanes_of(p, &lanes) : lanes_of_some(p, n, &lanes);
	v8 masks = match_plain(s->matcher, &lanes), fates;

	if (__builtin_expect(plain != all, 0))
		masks = judge_slow(s, p, masks, ~plain & all, n_other);
	fates = fates_of(masks, s->port);
	memcpy(fate, &fates, sizeof(fate));
	for (unsigned i = 0; i < n; i++)
		p[i].fate = fate[i];
	return v8_bits((fates & MATCH_FOLD_CAPTURES) != 0) & all;
}

/* The packets of `wanted`, a bit each, to the front. */
static __attribute__((noinline)) void gather(struct pkt *p, uint64_t wanted)
{
	uint8_t wanted_at[BURST_MAX];
	unsigned n = 0;

	for (; wanted != 0; wanted &= wanted - 1)
		wanted_at[n++] = (uint8_t)__builtin_ctzll(wanted);
	pkt_gather(p, wanted_at, n);
}

unsigned inner_burst(const struct inner_stage *s, struct pkt *p, unsigned n)
{
	unsigned n_other = 0, n_wanted;
	uint64_t wanted = 0;

	assert(n <= BURST_MAX);
	for (unsigned i = 0; i < n; i += LANES)
		wanted |= (uint64_t)judge(s, p + i, n - i < LANES ? n - i : LANES, &n_other) << i;
	n_wanted = (unsigned)__builtin_popcountll(wanted);
	if (n_wanted < n && n_wanted > 0)
		gather(p, wanted);
	s->n_class[CLASS_INNER] += n - n_other;
	s->n_class[CLASS_OTHER] += n_other;
	s->tally->verdicts[VERDICT_NOT_MATCHED] += n - n_other - n_wanted;
	return n_wanted;
}
