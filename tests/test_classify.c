/* test_classify.c - the table of semantics row by row, the bursts, and the slow twin. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "dataplane/classify.h"
#include "tests/build_packet.h"
#include "tests/slow_classify.h"

/* UDP 1194 on any address; TCP 1194 and UDP 443 on the gateway's own only; a collision with NAT-T. */
static const struct ovpn_endpoint endpoints[] = {
	{.port = 1194, .protocol = 17},
	{.port = 1194, .protocol = 6, .family = 4, .address = {192, 0, 2, 254}},
	{.port = 1194, .protocol = 6, .family = 6, .address = {0x20, 1, 0xd, 0xb8, [15] = 0xfe}},
	{.port = 443, .protocol = 17, .family = 4, .address = {192, 0, 2, 254}},
	{.port = 4500, .protocol = 17, .family = 4, .address = {192, 0, 2, 77}},
};

enum { N_ENDPOINTS = sizeof(endpoints) / sizeof(endpoints[0]) };

struct fixture {
	struct classifier *classifier;
	struct tally tally;
	uint64_t n_class[CLASS_COUNT];
};

static int open_fixture(void **state)
{
	static struct fixture f;

	f = (struct fixture){.classifier = classifier_open(NULL)};
	classifier_set_endpoints(f.classifier, endpoints, N_ENDPOINTS);
	*state = &f;
	return f.classifier == NULL;
}

static int close_fixture(void **state)
{
	struct fixture *f = *state;

	classifier_close(f->classifier);
	return 0;
}

/* The class of one frame; its verdict if it was settled, else VERDICT_COUNT. */
static int class_of(struct fixture *f, const uint8_t *data, uint32_t len, uint64_t time_ns,
		    int *verdict)
{
	struct pkt p = {
		.data = guard_copy(data, len), .len = len, .wire_len = len, .time_ns = time_ns};
	struct tally tally = {0};
	unsigned n_on = classify_outer_burst(f->classifier, &p, 1, &tally, f->n_class);

	assert_int_equal(tally_total(&tally) + n_on, 1);
	assert_int_equal(n_on, p.class_ != CLASS_OTHER);
	*verdict = VERDICT_COUNT;
	for (int i = 0; i < VERDICT_COUNT; i++) {
		if (tally.verdicts[i])
			*verdict = i;
	}
	return p.class_;
}

enum ip { V4, V6 };

static struct build transport(enum ip ip, uint8_t protocol, uint16_t sport, uint16_t dport,
			      const char *payload, uint32_t len)
{
	struct build b = {0};

	put_ether(&b, ip == V4 ? 0x0800 : 0x86dd);
	if (ip == V4)
		put_ipv4(&b, protocol, 1, 0);
	else
		put_ipv6(&b, protocol);
	if (protocol == 17)
		put_udp(&b, sport, dport);
	else if (protocol == 6)
		put_tcp(&b, sport, dport, 0x18);
	put_bytes(&b, payload, len);
	fix_lengths(&b);
	return b;
}

struct row {
	unsigned nr;
	uint8_t protocol;
	uint16_t sport, dport;
	const char *payload;
	uint32_t len;
	uint8_t class_;
};

static const struct row rows[] = {
	/* IP protocol 50; the SPI is not looked at */
	{1, 50, 0, 0, "\0\0\0\1\0\0\0\1xxxxxxxx", 16, CLASS_ESP},
	{2, 50, 0, 0, "", 0, CLASS_ESP},
	{3, 51, 0, 0, "\x32\1\0\0\0\0\0\1\0\0\0\1xxxxxxxx", 20, CLASS_ESP},
	{4, 51, 0, 0, "\x11\1\0\0\0\0\0\1\0\0\0\1\x01\xf4\x01\xf4\0\x08\0\0", 20, CLASS_IKE},
	/* UDP 4500, RFC 3948 */
	{10, 17, 4500, 4500, "\1\2\3\4\5", 5, CLASS_ESP},
	{11, 17, 40000, 4500, "\0\0\0\1\0\0\0\1", 8, CLASS_ESP},
	{12, 17, 4500, 40000, "\xff\0\0\0\0", 5, CLASS_ESP},
	{13, 17, 4500, 4500, "\0\0\0\0IKE", 7, CLASS_IKE},
	{14, 17, 40000, 4500, "\0\0\0\0IKE", 7, CLASS_IKE},
	{15, 17, 4500, 40000, "\0\0\0\0", 4, CLASS_IKE},
	{16, 17, 4500, 4500, "\xff", 1, CLASS_IKE},
	{17, 17, 4500, 4500, "\xfe", 1, CLASS_OTHER},
	{18, 17, 4500, 4500, "\0", 1, CLASS_OTHER},
	{19, 17, 4500, 4500, "", 0, CLASS_OTHER},
	{20, 17, 4500, 4500, "\xff\xff", 2, CLASS_OTHER},
	{21, 17, 4500, 4500, "\0\0\0", 3, CLASS_OTHER},
	{22, 17, 4500, 4500, "\1\2\3\4", 4, CLASS_OTHER},
	/* UDP 500 */
	{30, 17, 500, 500, "xxxx", 4, CLASS_IKE},
	{31, 17, 40000, 500, "", 0, CLASS_IKE},
	{32, 17, 500, 40000, "xxxx", 4, CLASS_IKE},
	{33, 17, 501, 499, "xxxx", 4, CLASS_OTHER},
	{34, 6, 500, 500, "xxxx", 4, CLASS_OTHER},
	/* TCP 4500, RFC 9329 */
	{40, 6, 40000, 4500, "", 0, CLASS_IKE},
	{41, 6, 40000, 4500, "IKETCP", 6, CLASS_IKE},
	{42, 6, 40000, 4500, "IKETCP\0\x20\0\0\0\0IKE", 15, CLASS_IKE},
	{43, 6, 4500, 40000, "\0\x20\0\0\0\0IKE", 9, CLASS_IKE},
	{44, 6, 4500, 40000, "\0\x20\1\0\0\0ESP", 9, CLASS_ESP},
	{45, 6, 40000, 4500, "\0\x20\0\0\0\1ESP", 9, CLASS_ESP},
	{46, 6, 40000, 4500, "\0\3\xff", 3, CLASS_IKE},
	{47, 6, 40000, 4500, "IKETC", 5, CLASS_ESP},
	{48, 6, 40000, 4500, "\0\x20\0\0\0", 5, CLASS_ESP},
	/* OpenVPN endpoints: no opcode is asked for */
	{50, 17, 40000, 1194, "anything", 8, CLASS_OVPN},
	{51, 17, 1194, 40000, "", 0, CLASS_OVPN},
	{52, 17, 1194, 1194, "x", 1, CLASS_OVPN},
	{53, 17, 4500, 1194, "\0\0\0\0IKE", 7, CLASS_OVPN}, // the endpoint goes first
	{54, 17, 1194, 500, "xxxx", 4, CLASS_OVPN},
	{55, 6, 40000, 1194, "", 0, CLASS_OVPN},    // to the gateway
	{56, 6, 1194, 40000, "xx", 2, CLASS_OTHER}, // from someone else's 1194
	{57, 6, 40000, 443, "xx", 2, CLASS_OTHER},  // the endpoint on 443 is UDP
	{58, 136, 40000, 1194, "\x9c\x40\x04\xaa\0\0\0\0", 8, CLASS_OTHER},
	/* everything else */
	{60, 17, 40000, 53, "xxxx", 4, CLASS_OTHER},
	{61, 6, 40000, 80, "GET /", 5, CLASS_OTHER},
	{62, 1, 0, 0, "\x08\0\0\0\0\0\0\0", 8, CLASS_OTHER},
	{63, 47, 0, 0, "\0\0\x08\0", 4, CLASS_OTHER},
	{64, 132, 0, 0, "\x11\x94\x11\x94\0\0\0\0\0\0\0\0", 12, CLASS_OTHER},
};

static void each_row_of_the_table_holds_in_both_families(void **state)
{
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *r = &rows[i];

		for (enum ip ip = V4; ip <= V6; ip++) {
			struct build b =
				transport(ip, r->protocol, r->sport, r->dport, r->payload, r->len);
			int verdict, class_ = class_of(*state, b.bytes, b.len, 0, &verdict);

			if (class_ != r->class_)
				fail_msg("row %u, IPv%d: class %d, not %d", r->nr, ip == V4 ? 4 : 6,
					 class_, r->class_);
			assert_int_equal(verdict,
					 class_ == CLASS_OTHER ? VERDICT_OTHER : VERDICT_COUNT);
			put_zeros(&b, 20); // padding changes nothing
			class_ = class_of(*state, b.bytes, b.len, 0, &verdict);
			if (class_ != r->class_)
				fail_msg("row %u, padded: class %d, not %d", r->nr, class_,
					 r->class_);
		}
	}
}

static void endpoint_with_an_address_matches_either_side_of_that_address_only(void **state)
{
	static const struct {
		uint16_t sport, dport;
		int swapped, class_;
	} cases[] = {
		{40000, 443, 0, CLASS_OVPN},
		{443, 40000, 1, CLASS_OVPN},
		{40000, 443, 1, CLASS_OTHER},
		{443, 40000, 0, CLASS_OTHER},
	};

	for (unsigned i = 0; i < 4; i++) {
		struct build b = transport(V4, 17, cases[i].sport, cases[i].dport, "xx", 2);
		int verdict;

		if (cases[i].swapped)
			swap_addresses(&b);
		assert_int_equal(class_of(*state, b.bytes, b.len, 0, &verdict), cases[i].class_);
		b = transport(V6, 17, cases[i].sport, cases[i].dport, "xx", 2);
		assert_int_equal(class_of(*state, b.bytes, b.len, 0, &verdict), CLASS_OTHER);
	}
}

static void endpoints_are_replaced_whole(void **state)
{
	struct fixture *f = *state;
	struct build b = transport(V4, 17, 40000, 1194, "xx", 2);
	int verdict;

	classifier_set_endpoints(f->classifier, endpoints + 3, 1);
	assert_int_equal(class_of(f, b.bytes, b.len, 0, &verdict), CLASS_OTHER);
	classifier_set_endpoints(f->classifier, NULL, 0);
	b = transport(V4, 17, 40000, 443, "xx", 2);
	assert_int_equal(class_of(f, b.bytes, b.len, 0, &verdict), CLASS_OTHER);
}

static void what_is_not_ip_is_other_and_what_is_cut_is_malformed(void **state)
{
	struct build b = {0};
	int verdict;

	put_ether(&b, 0x8864);
	put_zeros(&b, 46);
	assert_int_equal(class_of(*state, b.bytes, b.len, 0, &verdict), CLASS_OTHER);
	assert_int_equal(verdict, VERDICT_OTHER);
	b = transport(V4, 17, 500, 500, "x", 1);
	for (uint32_t len = 0; len < 42; len++) {
		assert_int_equal(class_of(*state, b.bytes, len, 0, &verdict), CLASS_OTHER);
		assert_int_equal(verdict, VERDICT_MALFORMED);
	}
}

static void frame_that_a_file_holds_in_part_keeps_its_class(void **state)
{
	struct build b = transport(V4, 17, 4500, 4500, "\1\2\3\4\5\6\7\x08", 8);
	int verdict;

	assert_int_equal(class_of(*state, b.bytes, b.len - 4, 0, &verdict), CLASS_ESP);
	assert_int_equal(class_of(*state, b.bytes, b.len - 5, 0, &verdict), CLASS_OTHER);
	b = transport(V4, 17, 4500, 4500, "\xff\2", 2);
	assert_int_equal(class_of(*state, b.bytes, b.len - 1, 0, &verdict), CLASS_OTHER);
}

/* A fragment of the packet with this id: `at` in units of 8 bytes. */
static struct build fragment(enum ip ip, uint8_t protocol, uint16_t dport, uint16_t id, uint16_t at)
{
	struct build b = {0};

	put_ether(&b, ip == V4 ? 0x0800 : 0x86dd);
	if (ip == V4) {
		put_ipv4(&b, protocol, id, (uint16_t)(0x2000 | at));
	} else {
		put_ipv6(&b, 44);
		put_fragment(&b, protocol, (uint16_t)(at << 3 | 1), id);
	}
	if (at == 0 && protocol == 17)
		put_udp(&b, 40000, dport);
	put_bytes(&b, "\1\2\3\4\5\6\7\x08", 8);
	fix_lengths(&b);
	return b;
}

static void later_fragments_inherit_the_class_of_the_first(void **state)
{
	static const struct {
		uint8_t protocol;
		uint16_t dport;
		uint8_t class_;
	} cases[] = {
		{17, 4500, CLASS_ESP}, {17, 500, CLASS_IKE}, {17, 1194, CLASS_OVPN},
		{17, 53, CLASS_OTHER}, {50, 0, CLASS_ESP},
	};

	for (unsigned i = 0; i < 5; i++) {
		for (enum ip ip = V4; ip <= V6; ip++) {
			for (uint16_t at = 0; at < 3; at++) {
				struct build b = fragment(ip, cases[i].protocol, cases[i].dport,
							  (uint16_t)(100 + i), at);
				int verdict;

				assert_int_equal(class_of(*state, b.bytes, b.len, 5, &verdict),
						 cases[i].class_);
				assert_int_equal(verdict, cases[i].class_ == CLASS_OTHER
								  ? VERDICT_OTHER
								  : VERDICT_COUNT);
			}
		}
	}
}

static void later_fragment_without_a_first_is_esp_by_protocol_or_counted(void **state)
{
	for (enum ip ip = V4; ip <= V6; ip++) {
		struct build b = fragment(ip, 50, 0, 7, 1);
		int verdict;

		assert_int_equal(class_of(*state, b.bytes, b.len, 0, &verdict), CLASS_ESP);
		b = fragment(ip, 17, 4500, 8, 1);
		assert_int_equal(class_of(*state, b.bytes, b.len, 0, &verdict), CLASS_OTHER);
		assert_int_equal(verdict, VERDICT_FRAGMENT_NO_FIRST);
	}
}

static void first_fragment_is_forgotten_after_30_seconds(void **state)
{
	struct build first = fragment(V4, 17, 4500, 9, 0), later = fragment(V4, 17, 4500, 9, 1);
	int verdict;

	assert_int_equal(class_of(*state, first.bytes, first.len, 1000, &verdict), CLASS_ESP);
	assert_int_equal(class_of(*state, later.bytes, later.len, 30000001000, &verdict),
			 CLASS_ESP);
	assert_int_equal(class_of(*state, later.bytes, later.len, 30000001001, &verdict),
			 CLASS_OTHER);
	assert_int_equal(verdict, VERDICT_FRAGMENT_NO_FIRST);
}

static void first_fragment_with_a_cut_header_makes_the_later_ones_other(void **state)
{
	struct build first = {0}, later = fragment(V4, 6, 0, 10, 1);
	int verdict;

	put_ether(&first, 0x0800);
	put_ipv4(&first, 6, 10, 0x2000);
	put_zeros(&first, 8);
	fix_lengths(&first);
	assert_int_equal(class_of(*state, first.bytes, first.len, 0, &verdict), CLASS_OTHER);
	assert_int_equal(verdict, VERDICT_MALFORMED);
	assert_int_equal(class_of(*state, later.bytes, later.len, 0, &verdict), CLASS_OTHER);
	assert_int_equal(verdict, VERDICT_OTHER);
}

/* Behind AH the IP header of later fragments still says 51. */
static void fragments_of_esp_behind_ah_are_esp(void **state)
{
	for (enum ip ip = V4; ip <= V6; ip++) {
		struct build b = {0}, later = fragment(ip, 51, 0, 11, 3);
		int verdict;

		put_ether(&b, ip == V4 ? 0x0800 : 0x86dd);
		if (ip == V4) {
			put_ipv4(&b, 51, 11, 0x2000);
		} else {
			put_ipv6(&b, 44);
			put_fragment(&b, 51, 1, 11);
		}
		put_ah(&b, 50);
		put_zeros(&b, 16);
		fix_lengths(&b);
		assert_int_equal(class_of(*state, b.bytes, b.len, 0, &verdict), CLASS_ESP);
		assert_int_equal(class_of(*state, later.bytes, later.len, 0, &verdict), CLASS_ESP);
	}
}

static void burst_moves_survivors_to_the_front_in_order(void **state)
{
	struct fixture *f = *state;
	struct build on = transport(V4, 50, 0, 0, "xxxxxxxxxxxxxxxxxxxxxxxx", 24);
	struct build off = transport(V4, 17, 1, 2, "xxxxxxxxxxxxxxxxxxxxxxxx", 24);

	for (uint64_t pattern = 0; pattern < 4096; pattern++) {
		struct tally tally = {0};
		struct pkt p[12];
		unsigned n_on;

		for (unsigned i = 0; i < 12; i++) {
			struct build *b = pattern >> i & 1 ? &on : &off;

			p[i] = (struct pkt){.data = b->bytes, .len = b->len, .wire_len = i};
		}
		n_on = classify_outer_burst(f->classifier, p, 12, &tally, f->n_class);
		assert_int_equal(n_on, __builtin_popcountll(pattern));
		for (unsigned i = 0; i < n_on; i++) {
			assert_int_equal(p[i].class_, CLASS_ESP);
			assert_true(pattern >> p[i].wire_len & 1);
			assert_true(i == 0 || p[i - 1].wire_len < p[i].wire_len);
		}
		assert_int_equal(tally_total(&tally), 12 - n_on);
	}
	assert_int_equal(f->n_class[CLASS_ESP] + f->n_class[CLASS_OTHER], 4096 * 12);
}

static void empty_burst_changes_nothing(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(classify_outer_burst(f->classifier, NULL, 0, &f->tally, f->n_class), 0);
	assert_int_equal(tally_total(&f->tally), 0);
	assert_true(classifier_oldest_held_ns(f->classifier) == UINT64_MAX);
}

/* TCP 443, shared. */
static const struct ovpn_endpoint shared = {.port = 443, .protocol = 6, .shared = 1};

struct hooked {
	struct tally tally;
	uint64_t n_class[CLASS_COUNT];
	unsigned n_released, n_dropped;
};

static uint64_t want_it(void *ctx, const struct pkt *pkt)
{
	(void)ctx;
	return pkt->time_ns + 1;
}

static void release_it(void *ctx, const struct held_segment *segment)
{
	struct hooked *hooked = ctx;

	assert_int_equal(segment->ticket, segment->time_ns + 1);
	hooked->n_released++;
	hooked->n_class[CLASS_OVPN]++;
	hooked->tally.n_held--;
	hooked->tally.verdicts[VERDICT_RECORDED]++;
}

static void drop_it(void *ctx, const struct held_segment *segment, enum verdict why)
{
	struct hooked *hooked = ctx;

	(void)segment;
	hooked->n_dropped++;
	hooked->n_class[CLASS_OTHER]++;
	hooked->tally.n_held--;
	hooked->tally.verdicts[why]++;
}

static unsigned burst_of(struct classifier *c, struct build *frames, unsigned n,
			 struct tally *tally, uint64_t *n_class)
{
	struct pkt p[8] = {0};

	for (unsigned i = 0; i < n; i++)
		p[i] = (struct pkt){.data = frames[i].bytes,
				    .len = frames[i].len,
				    .wire_len = frames[i].len,
				    .time_ns = i};
	return classify_outer_burst(c, p, n, tally, n_class);
}

static void shared_endpoint_holds_then_counts_each_segment_once(void **state)
{
	struct hooked hooked = {0};
	uint64_t n_class[CLASS_COUNT] = {0};
	struct classifier *c =
		classifier_open(&(struct classify_hooks){want_it, release_it, drop_it, &hooked});
	struct build frames[4];

	(void)state;
	assert_non_null(c);
	classifier_set_endpoints(c, &shared, 1);
	frames[0] = transport(V4, 6, 40000, 443, "", 0);
	frames[1] = transport(V6, 6, 40000, 443, "", 0);
	assert_int_equal(burst_of(c, frames, 2, &hooked.tally, n_class), 0);
	assert_int_equal(hooked.tally.n_held, 2);
	assert_int_equal(n_class[CLASS_OTHER] + n_class[CLASS_OVPN], 0);
	assert_int_equal(classifier_oldest_held_ns(c), 0);
	frames[2] = transport(V4, 6, 40000, 443, "\0\x0e\x38xxxxxxxxxxxxx", 16);
	assert_int_equal(burst_of(c, frames + 2, 1, &hooked.tally, n_class), 1);
	assert_int_equal(hooked.n_released, 1);
	assert_int_equal(n_class[CLASS_OVPN], 1);
	assert_int_equal(hooked.n_class[CLASS_OVPN], 1);
	classifier_age(c, 1000000001);
	assert_int_equal(hooked.n_dropped, 0);
	classifier_age(c, 1000000002);
	assert_int_equal(hooked.n_dropped, 1);
	assert_int_equal(hooked.n_class[CLASS_OTHER], 1);
	assert_int_equal(tally_total(&hooked.tally), 2); // and one that went on
	frames[3] = transport(V6, 6, 40001, 443, "", 0);
	assert_int_equal(burst_of(c, frames + 3, 1, &hooked.tally, n_class), 0);
	classifier_flush(c);
	assert_int_equal(hooked.n_dropped, 2);
	assert_int_equal(hooked.tally.n_held, 0);
	classifier_close(c);
}

/* An empty first fragment of a flow that nobody wants has no class yet; the later one must not get one. */
static void later_fragment_of_an_undecided_flow_is_other(void **state)
{
	struct fixture *f = *state;
	struct build first = transport(V4, 6, 40000, 443, "", 0), later = fragment(V4, 6, 0, 1, 5);
	int verdict;

	classifier_set_endpoints(f->classifier, &shared, 1);
	first.bytes[20] = 0x20;
	assert_int_equal(class_of(f, first.bytes, first.len, 0, &verdict), CLASS_OTHER);
	assert_int_equal(verdict, VERDICT_NOT_MATCHED);
	assert_int_equal(class_of(f, later.bytes, later.len, 0, &verdict), CLASS_OTHER);
	assert_int_equal(verdict, VERDICT_OTHER);
}

/* The slow twin. */

static void same_headers(const uint8_t *data, uint32_t len)
{
	struct slow_packet slow;
	struct headers h;
	int rc = headers_parse(data, len, &h);

	slow_parse(data, len, &slow);
	assert_int_equal(rc, slow.broken ? -1 : 0);
	assert_int_equal(h.family, slow.family);
	if (h.family == 0)
		return;
	assert_int_equal(h.protocol, slow.protocol);
	assert_int_equal(h.l3_offset, slow.l3);
	assert_int_equal(h.l4_offset, slow.l4);
	assert_int_equal(h.ip_end, slow.end);
	assert_int_equal(h.src - data, slow.src);
	assert_int_equal(h.dst - data, slow.dst);
	assert_int_equal(h.fragment_id, slow.id);
	assert_int_equal((h.flags & PKT_HAS_PORTS) != 0, slow.sport >= 0);
	assert_int_equal(h.sport, slow.sport < 0 ? 0 : slow.sport);
	assert_int_equal(h.dport, slow.dport < 0 ? 0 : slow.dport);
	assert_int_equal((h.flags & PKT_HAS_TCP_FLAGS) != 0, slow.tcp_flags >= 0);
	assert_int_equal(h.tcp_flags, slow.tcp_flags < 0 ? 0 : slow.tcp_flags);
	assert_int_equal((h.flags & PKT_FRAGMENT_FIRST) != 0, slow.first);
	assert_int_equal((h.flags & PKT_FRAGMENT_LATER) != 0, slow.later);
}

static uint16_t random_port(uint64_t *seed)
{
	static const uint16_t ports[] = {500, 4500, 1194, 443, 53, 40000, 501, 1195};

	return ports[random_next(seed) % 8];
}

static uint8_t random_protocol(uint64_t *seed)
{
	static const uint8_t protocols[] = {17,	 17,  17, 6, 6,	 50, 51, 1,
					    132, 136, 33, 0, 43, 44, 59, 60};

	return protocols[random_next(seed) >> 60];
}

/* A chain that often makes sense: what is promised next mostly comes. */
static struct build random_packet(uint64_t *seed)
{
	struct build b = {0};
	bool v6 = random_next(seed) >> 63;
	uint8_t protocol = random_protocol(seed);
	static const uint16_t fragments[] = {0, 0, 0, 0x4000, 0x2000, 0x2000, 1, 0x2001};

	put_ether(&b, v6 ? 0x86dd : 0x0800);
	for (uint64_t n = random_next(seed) % 12; n > 7; n--)
		put_vlan(&b, random_next(seed) >> 63 ? 0x8100 : 0x88a8, v6 ? 0x86dd : 0x0800);
	if (v6)
		put_ipv6(&b, protocol);
	else
		put_ipv4(&b, protocol, (uint16_t)(random_next(seed) % 16),
			 fragments[random_next(seed) >> 61]);
	for (unsigned i = 0; i < 12; i++) {
		uint8_t next = random_protocol(seed);

		if (protocol == 44)
			put_fragment(&b, next,
				     (uint16_t)(random_next(seed) % 3 << 3 | random_next(seed) % 2),
				     (uint32_t)(random_next(seed) % 16));
		else if (protocol == 51)
			put_ah(&b, next);
		else if (protocol == 0 || protocol == 43 || protocol == 60)
			put_options(&b, next, (uint8_t)(random_next(seed) % 3));
		else
			break;
		protocol = next;
	}
	if (protocol == 6)
		put_tcp(&b, random_port(seed), random_port(seed), (uint8_t)random_next(seed));
	else
		put_udp(&b, random_port(seed), random_port(seed));
	for (uint64_t n = random_next(seed) % 40; n > 0; n--)
		put_bytes(&b, (uint8_t[]){random_next(seed) & 1 ? 0 : (uint8_t)random_next(seed)},
			  1);
	if (protocol != 17)
		b.udp = 0;
	fix_lengths(&b);
	return b;
}

/* Half stay whole; the rest lose a tail, change bytes, or gain padding. */
static void mutate(struct build *b, uint64_t *seed)
{
	uint64_t how = random_next(seed) % 8;

	if (how == 0)
		b->len = (uint32_t)(random_next(seed) % (b->len + 1));
	if (how == 1 || how == 2) {
		for (uint64_t n = 0; n < how * 2; n++)
			b->bytes[random_next(seed) % b->len] = (uint8_t)random_next(seed);
	}
	if (how == 3)
		put_zeros(b, (uint32_t)(random_next(seed) % 30));
}

static void both_twins_agree_on_random_and_mutated_packets(void **state)
{
	static struct slow_classifier slow = {.endpoints = endpoints, .n_endpoints = N_ENDPOINTS};
	uint64_t seed = random_seed("both_twins_agree"), time_ns = 0;
	unsigned n_classes[CLASS_COUNT] = {0};

	slow.n_fragments = 0;
	for (unsigned i = 0; i < 150000; i++) {
		struct build b = random_packet(&seed);
		int verdict, slow_verdict, class_, slow_class;

		if (slow.n_fragments > SLOW_FRAGMENTS_MAX - 2) {
			slow.n_fragments = 0; // a minute later both have forgotten
			time_ns += 60000000000;
		}
		mutate(&b, &seed);
		time_ns += random_next(&seed) % 1000000000;
		same_headers(guard_copy(b.bytes, b.len), b.len);
		class_ = class_of(*state, b.bytes, b.len, time_ns, &verdict);
		slow_class = slow_outer_class(&slow, b.bytes, b.len, time_ns, &slow_verdict);
		if (class_ != slow_class || verdict != slow_verdict)
			fail_msg("packet %u: class %d, verdict %d; the twin says %d, %d", i, class_,
				 verdict, slow_class, slow_verdict);
		n_classes[class_]++;
	}
	assert_true(n_classes[CLASS_ESP] > 1000 && n_classes[CLASS_IKE] > 1000 &&
		    n_classes[CLASS_OVPN] > 1000 && n_classes[CLASS_OTHER] > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)
		T(each_row_of_the_table_holds_in_both_families),
		T(endpoint_with_an_address_matches_either_side_of_that_address_only),
		T(endpoints_are_replaced_whole),
		T(what_is_not_ip_is_other_and_what_is_cut_is_malformed),
		T(frame_that_a_file_holds_in_part_keeps_its_class),
		T(later_fragments_inherit_the_class_of_the_first),
		T(later_fragment_without_a_first_is_esp_by_protocol_or_counted),
		T(first_fragment_is_forgotten_after_30_seconds),
		T(first_fragment_with_a_cut_header_makes_the_later_ones_other),
		T(fragments_of_esp_behind_ah_are_esp),
		T(burst_moves_survivors_to_the_front_in_order),
		T(empty_burst_changes_nothing),
		T(shared_endpoint_holds_then_counts_each_segment_once),
		T(later_fragment_of_an_undecided_flow_is_other),
		T(both_twins_agree_on_random_and_mutated_packets),
#undef T
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
