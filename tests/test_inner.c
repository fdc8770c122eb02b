/* test_inner.c - eight inner packets at a time beside one after the other.
 *
 * The twin parses each frame with headers_parse(), which test_classify.c holds against a parser of its
 * own, and judges it by the rules as they are written (slow_matcher.c).  Frames are built around random
 * keys, so that half of them lie in the lists, and then cut, tagged, broken up and damaged.  Each ends
 * at a page that faults.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka wants the above first
#include <cmocka.h>
#include <sys/mman.h>
#include <unistd.h>

#include "control/set_build.h"
#include "dataplane/classify.h"
#include "dataplane/stage.h"
#include "tests/build_packet.h"
#include "tests/dice.h"
#include "tests/random_set.h"
#include "tests/slow_matcher.h"

enum { SETS = 60, BURSTS_A_SET = 40, PAGE = 4096, PORT = 5 };

struct bench {
	uint8_t *pages; // BURST_MAX times one that can be read and one that cannot
	struct random_set *set;
	struct matcher *matcher;
	struct fragment_table *fragments, *twin_fragments;
	struct tally tally, twin_tally;
	uint64_t n_class[CLASS_COUNT], twin_class[CLASS_COUNT];
	uint64_t now_ns;
	unsigned n_wanted, n_unwanted,
		n_slow; // of all: a test in which nothing happens proves nothing
};

static void open_bench(struct bench *b)
{
	*b = (struct bench){.set = random_set_open(),
			    .fragments = fragment_open(),
			    .twin_fragments = fragment_open(),
			    .now_ns = 1};
	b->pages = mmap(NULL, (size_t)2 * PAGE * BURST_MAX, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(b->pages, MAP_FAILED);
	for (unsigned i = 0; i < BURST_MAX; i++)
		assert_int_equal(mprotect(b->pages + (size_t)(2 * i + 1) * PAGE, PAGE, PROT_NONE),
				 0);
	assert_non_null(b->fragments);
	assert_non_null(b->twin_fragments);
}

static void close_bench(struct bench *b)
{
	assert_int_equal(munmap(b->pages, (size_t)2 * PAGE * BURST_MAX), 0);
	fragment_close(b->fragments);
	fragment_close(b->twin_fragments);
	random_set_close(b->set);
}

static void compile(struct bench *b)
{
	struct filter_set set;
	struct error err = {0};
	size_t bytes;
	void *mem = set_build(&b->set->source, &bytes);

	assert_non_null(mem);
	assert_int_equal(filter_set_check(mem, bytes, &set, &err), 0);
	b->matcher = matcher_open(&set, &err);
	assert_non_null(b->matcher);
	free(mem);
}

static void put_transport(struct build *f, const struct match_key *key, struct dice *d)
{
	if (key->protocol == 6)
		put_tcp(f, key->sport, key->dport, key->tcp_flags);
	else if (key->has_ports)
		put_udp(f, key->sport, key->dport);
	put_zeros(f, dice_below(d, 40));
}

/* Around a key; one in `odds` is no plain packet. */
static struct build throw_frame(const struct bench *b, struct dice *d, uint32_t odds)
{
	static const uint16_t fragments[] = {0x2000, 0x2001, 1, 0x4000, 0x3fff};
	struct random_key k;
	struct build f = {0};

	random_key_throw(b->set, d, &k);
	put_ether(&f, k.key.family == 6 ? 0x86dd : 0x0800);
	if (dice_one_in(d, odds))
		put_vlan(&f, 0x8100, k.key.family == 6 ? 0x86dd : 0x0800);
	if (k.key.family == 6)
		put_ipv6(&f, k.key.protocol);
	else
		put_ipv4(&f, k.key.protocol, (uint16_t)dice_below(d, 4),
			 dice_one_in(d, odds) ? fragments[dice_below(d, 5)] : 0);
	memcpy(f.bytes + f.l3 + (k.key.family == 6 ? 8 : 12), k.src, k.key.family == 6 ? 16 : 4);
	memcpy(f.bytes + f.l3 + (k.key.family == 6 ? 24 : 16), k.dst, k.key.family == 6 ? 16 : 4);
	put_transport(&f, &k.key, d);
	fix_lengths(&f);
	if (f.len < 60)
		put_zeros(&f, dice_below(d, 60 - f.len + 1)); // padded as on a wire, or not quite
	if (dice_one_in(d, odds))
		f.bytes[12 + dice_below(d, f.len - 12 < 50 ? f.len - 12 : 50)] ^=
			(uint8_t)(1U << dice_below(d, 8));
	if (dice_one_in(d, odds) && k.key.family == 4 && k.key.protocol == 6)
		f.bytes[f.l3 + 20 + 12] = (uint8_t)dice_next(d); // a data offset that may lie
	if (dice_one_in(d, odds))
		f.len = dice_below(d, f.len + 1);
	return f;
}

/* What the verdict of one packet is, by the rules.  False: it is of no class. */
static bool twin_judges(struct bench *b, const struct pkt *p, uint8_t *wanted)
{
	struct headers h;
	int broken = headers_parse(p->data, p->len, &h);
	uint64_t value;
	struct match_key key;

	*wanted = 0;
	if (h.family == 0) {
		b->twin_tally.verdicts[broken ? VERDICT_MALFORMED : VERDICT_OTHER]++;
		return false;
	}
	key = match_key_of(&h);
	if (!(h.flags & PKT_FRAGMENT_LATER)) {
		value = slow_inner(&b->set->source, &key);
		if (h.flags & PKT_FRAGMENT_FIRST)
			fragment_put(b->twin_fragments, &h, b->set->source.generation, p->time_ns,
				     value);
	} else if (!fragment_get(b->twin_fragments, &h, b->set->source.generation, p->time_ns,
				 &value)) {
		value = slow_inner_no_first(&b->set->source, &key);
	}
	*wanted = slow_fold((uint32_t)value);
	return true;
}

static void fill(struct bench *b, struct dice *d, struct pkt *p, unsigned n, uint32_t odds)
{
	for (unsigned i = 0; i < n; i++) {
		struct build f = throw_frame(b, d, odds);
		uint8_t *at = b->pages + (size_t)(2 * i + 1) * PAGE - f.len;

		memcpy(at, f.bytes, f.len);
		p[i] = (struct pkt){
			.data = at, .len = f.len, .wire_len = f.len, .time_ns = b->now_ns++};
	}
}

static void burst_agrees(struct bench *b, struct dice *d, unsigned n, uint32_t odds)
{
	const struct inner_stage stage = {.matcher = b->matcher,
					  .fragments = b->fragments,
					  .tally = &b->tally,
					  .n_class = b->n_class,
					  .port = PORT};
	struct pkt p[BURST_MAX];
	uint8_t wanted[BURST_MAX];
	unsigned n_on, n_wanted = 0;
	uint64_t seen = 0;

	fill(b, d, p, n, odds);
	for (unsigned i = 0; i < n; i++) {
		b->twin_class[twin_judges(b, &p[i], &wanted[i]) ? CLASS_INNER : CLASS_OTHER]++;
		n_wanted += wanted[i] != 0;
	}
	n_on = inner_burst(&stage, p, n);
	assert_int_equal(n_on, n_wanted);
	for (unsigned i = 0; i < n_on; i++) {
		size_t was = (size_t)(p[i].data - b->pages) / PAGE / 2;

		seen |= UINT64_C(1) << was;
		assert_int_equal(p[i].wanted, wanted[was]);
		assert_int_equal(p[i].port, PORT);
		assert_int_equal(p[i].flags, 0);
		assert_int_equal(p[i].class_, CLASS_INNER);
		assert_true(i == 0 || p[i - 1].time_ns < p[i].time_ns);
	}
	assert_int_equal(__builtin_popcountll(seen), n_on);
	b->n_wanted += n_on;
	b->n_unwanted += n - n_on;
}

static void books_agree(const struct bench *b)
{
	uint64_t n = b->n_wanted + b->n_unwanted;

	assert_memory_equal(b->n_class, b->twin_class, sizeof(b->n_class));
	assert_int_equal(b->tally.verdicts[VERDICT_OTHER], b->twin_tally.verdicts[VERDICT_OTHER]);
	assert_int_equal(b->tally.verdicts[VERDICT_MALFORMED],
			 b->twin_tally.verdicts[VERDICT_MALFORMED]);
	assert_int_equal(tally_total(&b->tally), n - b->n_wanted);
}

static void bursts_are_judged_as_each_packet_alone(void **state)
{
	struct dice d = dice_open("bursts_are_judged_as_each_packet_alone");
	struct bench b;

	(void)state;
	open_bench(&b);
	for (unsigned i = 0; i < SETS; i++) {
		random_set_throw(b.set, &d);
		b.set->source.generation = i + 1;
		compile(&b);
		for (unsigned k = 0; k < BURSTS_A_SET; k++)
			burst_agrees(&b, &d, 1 + dice_below(&d, BURST_MAX),
				     dice_one_in(&d, 2) ? 1000 : 6);
		matcher_close(b.matcher);
		books_agree(&b);
	}
	assert_in_range(b.n_wanted, b.n_unwanted / 20, b.n_unwanted);
	assert_true(b.tally.verdicts[VERDICT_MALFORMED] > 0 && b.tally.verdicts[VERDICT_OTHER] > 0);
	close_bench(&b);
}

static void every_ip_packet_is_inner(void **state)
{
	static const struct match_key udp = {.protocol = 17, .has_ports = true},
				      tcp = {.protocol = 6};
	struct dice d = dice_open("every_ip_packet_is_inner");
	struct inner_stage stage;
	struct bench b;
	struct build frames[4] = {{{0}}};
	struct pkt p[5] = {0};

	(void)state;
	open_bench(&b);
	random_set_throw(b.set, &d);
	compile(&b);
	stage = (struct inner_stage){.matcher = b.matcher, .tally = &b.tally, .n_class = b.n_class};
	put_ether(&frames[0], 0x0800);
	put_ipv4(&frames[0], 17, 1, 0);
	put_transport(&frames[0], &udp, &d);
	put_ether(&frames[1], 0x86dd);
	put_ipv6(&frames[1], 50);
	put_ether(&frames[2], 0x0800);
	put_ipv4(&frames[2], 6, 1, 0);
	put_transport(&frames[2], &tcp, &d);
	put_ether(&frames[3], 0x0806); // ARP
	put_zeros(&frames[3], 28);
	for (unsigned i = 0; i < 4; i++) {
		if (i < 3)
			fix_lengths(&frames[i]);
		p[i] = (struct pkt){.data = frames[i].bytes, .len = frames[i].len};
	}
	p[2].len = 14 + 20 + 13; // a cut TCP header
	p[4] = (struct pkt){.data = frames[0].bytes, .len = 30};
	assert_int_equal(inner_burst(&stage, p, 5) + b.tally.verdicts[VERDICT_NOT_MATCHED], 3);
	assert_int_equal(b.tally.verdicts[VERDICT_OTHER], 1);
	assert_int_equal(b.tally.verdicts[VERDICT_MALFORMED], 1);
	assert_int_equal(b.n_class[CLASS_INNER], 3);
	assert_int_equal(b.n_class[CLASS_OTHER], 2);
	matcher_close(b.matcher);
	close_bench(&b);
}

static void empty_burst_changes_nothing(void **state)
{
	struct tally tally = {0};
	uint64_t n_class[CLASS_COUNT] = {0};
	const struct inner_stage stage = {.tally = &tally, .n_class = n_class};

	(void)state;
	assert_int_equal(inner_burst(&stage, NULL, 0), 0);
	assert_int_equal(tally_total(&tally), 0);
	assert_int_equal(n_class[CLASS_INNER] + n_class[CLASS_OTHER], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bursts_are_judged_as_each_packet_alone),
		cmocka_unit_test(every_ip_packet_is_inner),
		cmocka_unit_test(empty_burst_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
