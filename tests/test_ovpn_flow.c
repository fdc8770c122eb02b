/* test_ovpn_flow.c - OpenVPN or HTTPS: the decision, what is held, and the table's bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "dataplane/ovpn_flow.h"
#include "tests/build_packet.h"

enum { FIN = 1, SYN = 2, RST = 4, ACK = 16, PSH_ACK = 24, EVENTS_MAX = 20000 };

#define SECOND UINT64_C(1000000000)

/* A client's reset, a server's, a data packet; TLS; and neither. */
#define RESET	     "\0\x0e\x38xxxxxxxxxxxxx"
#define RESET_BYTES  16
#define SERVER	     "\0\x1a\x40xxxxxxxxxxxxxxxxxxxxxxxxx"
#define SERVER_BYTES 28
#define DATA	     "\0\x14\x48\0\0\0xxxxxxxxxxxxxxxx"
#define DATA_BYTES   22
#define TLS	     "\x16\3\1\0\x40\1xxxxxxxxxx"
#define TLS_BYTES    16
#define NEITHER	     "GET / HTTP/1.1\r\n"

struct event {
	uint64_t ticket;
	int released;
	enum verdict why;
};

struct fixture {
	struct ovpn_flows *flows;
	uint64_t next_ticket; // what hold_wanted() answers; 0: not wanted, else counts up
	struct event events[EVENTS_MAX];
	unsigned n_events;
	uint64_t n_class[CLASS_COUNT];
	struct held_segment last;
	uint8_t last_bytes[HELD_BYTES_MAX];
};

static uint64_t hold_wanted(void *ctx, const struct pkt *pkt)
{
	struct fixture *f = ctx;

	assert_int_equal(pkt->class_, CLASS_OVPN);
	return f->next_ticket == 0 ? 0 : f->next_ticket++;
}

static void note(struct fixture *f, const struct held_segment *segment, int released,
		 enum verdict why)
{
	assert_true(f->n_events < EVENTS_MAX);
	f->events[f->n_events++] = (struct event){segment->ticket, released, why};
	f->n_class[released ? CLASS_OVPN : CLASS_OTHER]++;
	f->last = *segment;
	memcpy(f->last_bytes, segment->data, segment->len);
}

static void release(void *ctx, const struct held_segment *segment)
{
	note(ctx, segment, 1, VERDICT_COUNT);
}

static void drop(void *ctx, const struct held_segment *segment, enum verdict why)
{
	note(ctx, segment, 0, why);
}

static int open_fixture(void **state)
{
	static struct fixture f;

	memset(&f, 0, sizeof(f));
	f.next_ticket = 1;
	f.flows = ovpn_flows_open(&(struct classify_hooks){hold_wanted, release, drop, &f});
	*state = &f;
	return f.flows == NULL;
}

static int close_fixture(void **state)
{
	struct fixture *f = *state;

	ovpn_flows_close(f->flows);
	return 0;
}

struct segment {
	uint16_t client; // port, or the last two bytes of an address
	int to_client;
	uint8_t tcp_flags;
	const char *payload;
	uint32_t len;
	uint64_t time_ns;
};

static struct build frame_of(const struct segment *s)
{
	struct build b = {0};

	put_ether(&b, 0x0800);
	put_ipv4(&b, 6, 1, 0);
	if (s->to_client) {
		put_tcp(&b, 443, s->client, s->tcp_flags);
		swap_addresses(&b);
	} else {
		put_tcp(&b, s->client, 443, s->tcp_flags);
	}
	put_bytes(&b, s->payload, s->len);
	fix_lengths(&b);
	return b;
}

static enum ovpn_answer send(struct fixture *f, struct segment s)
{
	struct build b = frame_of(&s);
	struct pkt p = {.data = guard_copy(b.bytes, b.len),
			.len = b.len,
			.wire_len = b.len + 5,
			.time_ns = s.time_ns,
			.port = 3};
	enum ovpn_answer answer;

	assert_int_equal(headers_parse(p.data, p.len, &p.h), 0);
	answer = ovpn_flow_segment(f->flows, &p);
	assert_int_equal(p.class_, CLASS_OTHER);
	return answer;
}

/* SYN, SYN ACK, ACK of one client. */
static void shake_hands(struct fixture *f, uint16_t client)
{
	assert_int_equal(send(f, (struct segment){client, 0, SYN}), OVPN_HELD);
	assert_int_equal(send(f, (struct segment){client, 1, SYN | ACK}), OVPN_HELD);
	assert_int_equal(send(f, (struct segment){client, 0, ACK}), OVPN_HELD);
}

/* So many were released, and so many dropped, since this was asked last. */
static void decided(struct fixture *f, uint64_t n_ovpn, uint64_t n_other)
{
	assert_int_equal(f->n_class[CLASS_OVPN], n_ovpn);
	assert_int_equal(f->n_class[CLASS_OTHER], n_other);
	memset(f->n_class, 0, sizeof(f->n_class));
}

static void openvpn_flow_is_released_from_its_syn_on(void **state)
{
	struct fixture *f = *state;

	shake_hands(f, 40000);
	assert_int_equal(f->n_events, 0);
	assert_int_equal(send(f, (struct segment){40000, 0, PSH_ACK, RESET, RESET_BYTES}),
			 OVPN_YES);
	assert_int_equal(f->n_events, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(f->events[i].ticket, i + 1);
		assert_true(f->events[i].released);
	}
	decided(f, 3, 0);
	assert_int_equal(send(f, (struct segment){40000, 1, ACK}), OVPN_YES);
	assert_int_equal(send(f, (struct segment){40000, 1, PSH_ACK, TLS, TLS_BYTES}), OVPN_YES);
	assert_int_equal(send(f, (struct segment){40000, 0, FIN | ACK}), OVPN_YES);
	assert_int_equal(send(f, (struct segment){40000, 1, RST}), OVPN_YES);
	decided(f, 0, 0);
}

static void https_flow_is_dropped_from_its_syn_on(void **state)
{
	struct fixture *f = *state;

	shake_hands(f, 40000);
	assert_int_equal(send(f, (struct segment){40000, 0, PSH_ACK, TLS, TLS_BYTES}), OVPN_NO);
	assert_int_equal(f->n_events, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(f->events[i].ticket, i + 1);
		assert_false(f->events[i].released);
		assert_int_equal(f->events[i].why, VERDICT_OTHER);
	}
	decided(f, 0, 3);
	assert_int_equal(send(f, (struct segment){40000, 1, PSH_ACK, RESET, RESET_BYTES}), OVPN_NO);
	assert_int_equal(send(f, (struct segment){40000, 1, ACK}), OVPN_NO);
}

static void held_copy_says_what_the_segment_was(void **state)
{
	struct fixture *f = *state;
	struct segment s = {40000, 0, SYN, .time_ns = 123};
	struct build b = frame_of(&s);

	assert_int_equal(send(f, s), OVPN_HELD);
	assert_int_equal(ovpn_flows_oldest_held_ns(f->flows), 123);
	ovpn_flows_flush(f->flows);
	assert_int_equal(f->last.len, b.len);
	assert_int_equal(f->last.wire_len, b.len + 5);
	assert_int_equal(f->last.time_ns, 123);
	assert_int_equal(f->last.port, 3);
	assert_memory_equal(f->last_bytes, b.bytes, b.len);
	assert_true(ovpn_flows_oldest_held_ns(f->flows) == UINT64_MAX);
}

static void shapes_are_told_apart(void **state)
{
	static const struct {
		unsigned nr;
		const char *payload;
		uint32_t len;
		enum ovpn_answer answer;
	} rows[] = {
		{1, RESET, RESET_BYTES, OVPN_YES},
		{2, SERVER, SERVER_BYTES, OVPN_YES},
		{3, "\0\x0e\x08", 3, OVPN_YES},	      // version 1; the rest comes later
		{4, "\1\x50\x50", 3, OVPN_YES},	      // tls-crypt-v2, 336 bytes
		{5, "\1\x4f\x50", 3, OVPN_UNDECIDED}, // 335
		{6, "\4\x02\x50", 3, OVPN_UNDECIDED}, // 1026
		{7, "\0\x0d\x38", 3, OVPN_UNDECIDED}, // 13
		{8, "\1\0\x38", 3, OVPN_UNDECIDED},   // 256
		{9, "\0\x0e\x39", 3, OVPN_UNDECIDED}, // a reset has key 0
		{10, "\0\x0e", 2, OVPN_UNDECIDED},
		{11, DATA, DATA_BYTES, OVPN_YES},
		{12, DATA, DATA_BYTES - 1, OVPN_UNDECIDED},
		{13, "\0\x0e\x4fxxxxxxxxxxxxx\0\x0e\x28xxxxxxxxxxxxx", 32, OVPN_YES},
		{14, "\0\x0e\x4fxxxxxxxxxxxxx\0\x0e\x28xxxxxxxxxxxxxx", 33, OVPN_UNDECIDED},
		{15, "\0\x0e\x07xxxxxxxxxxxxx", 16, OVPN_UNDECIDED}, // opcode 0
		{16, "\0\x0e\x5fxxxxxxxxxxxxx", 16, OVPN_YES},	     // opcode 11
		{17, "\0\x0e\x60xxxxxxxxxxxxx", 16, OVPN_UNDECIDED}, // opcode 12
		{18, "\0\x0d\x48xxxxxxxxxxxx", 15, OVPN_UNDECIDED},
		{20, TLS, TLS_BYTES, OVPN_NO},
		{21, "\x17\3\3\x40\0", 5, OVPN_NO},
		{22, "\x17\3\3\x48\0", 5, OVPN_NO},
		{23, "\x17\3\3\x48\1", 5, OVPN_UNDECIDED},
		{24, "\x17\3\3\0\0", 5, OVPN_UNDECIDED},
		{25, "\x13\3\3\0\1", 5, OVPN_UNDECIDED},
		{26, "\x18\3\3\0\1", 5, OVPN_UNDECIDED},
		{27, "\x14\3\0\0\1", 5, OVPN_NO},
		{28, "\x15\3\5\0\1", 5, OVPN_UNDECIDED},
		{29, "\x16\2\0\0\1", 5, OVPN_UNDECIDED},
		{30, "\x16\3\1\0", 4, OVPN_UNDECIDED},
		{31, NEITHER, 16, OVPN_UNDECIDED},
		{32, "x", 1, OVPN_UNDECIDED},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const uint8_t *payload = guard_copy(rows[i].payload, rows[i].len);

		if (ovpn_payload_shape(payload, rows[i].len, true) != rows[i].answer)
			fail_msg("row %u is not %d", rows[i].nr, rows[i].answer);
	}
}

static void head_of_a_reset_is_not_enough_in_the_middle(void **state)
{
	(void)state;
	assert_int_equal(ovpn_payload_shape(guard_copy("\0\x0e\x38", 3), 3, false), OVPN_UNDECIDED);
	assert_int_equal(ovpn_payload_shape(guard_copy(RESET, RESET_BYTES), RESET_BYTES, false),
			 OVPN_YES);
}

static void head_of_a_reset_decides_a_flow_whose_syn_was_seen(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(send(f, (struct segment){1, 1, SYN | ACK}), OVPN_HELD);
	assert_int_equal(send(f, (struct segment){1, 0, ACK, RESET, 10}), OVPN_YES);
	assert_int_equal(send(f, (struct segment){2, 0, ACK, RESET, 10}), OVPN_UNDECIDED);
}

static void random_bytes_are_hardly_ever_taken_for_openvpn(void **state)
{
	uint64_t seed = random_seed("random_bytes"), payload[64];
	unsigned n_taken = 0;

	(void)state;
	for (unsigned i = 0; i < 100000; i++) {
		for (unsigned j = 0; j < 64; j++)
			payload[j] = random_next(&seed);
		n_taken += ovpn_payload_shape((const uint8_t *)payload, sizeof(payload), false) ==
			   OVPN_YES;
	}
	assert_in_range(n_taken, 0, 10); // 0.6 are expected; more than 10 once in 10^9 runs
}

static void flow_met_in_the_middle_is_decided_by_the_first_shape_of_either_side(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(send(f, (struct segment){1, 0, ACK, NEITHER, 16}), OVPN_UNDECIDED);
	assert_int_equal(send(f, (struct segment){1, 1, ACK}), OVPN_HELD);
	assert_int_equal(send(f, (struct segment){1, 1, ACK, DATA, DATA_BYTES}), OVPN_YES);
	assert_int_equal(send(f, (struct segment){1, 0, ACK, NEITHER, 16}), OVPN_YES);
	decided(f, 1, 0);
	assert_int_equal(send(f, (struct segment){2, 0, ACK, NEITHER, 16}), OVPN_UNDECIDED);
	assert_int_equal(send(f, (struct segment){2, 1, ACK, TLS, TLS_BYTES}), OVPN_NO);
	assert_int_equal(send(f, (struct segment){2, 0, ACK, DATA, DATA_BYTES}), OVPN_NO);
}

static void eight_segments_that_tell_nothing_end_the_search(void **state)
{
	struct fixture *f = *state;

	shake_hands(f, 1);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(f->n_events, 0);
		assert_int_equal(send(f, (struct segment){1, i % 2, ACK, NEITHER, 16}),
				 OVPN_UNDECIDED);
	}
	assert_int_equal(f->n_events, 3);
	assert_int_equal(f->events[0].why, VERDICT_OVPN_UNDECIDED);
	decided(f, 0, 3);
	assert_int_equal(send(f, (struct segment){1, 0, ACK, RESET, RESET_BYTES}), OVPN_UNDECIDED);
	assert_int_equal(send(f, (struct segment){1, 0, ACK}), OVPN_UNDECIDED);
}

static void seventh_silent_segment_still_leaves_the_eighth_to_decide(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < 7; i++)
		assert_int_equal(send(f, (struct segment){1, 0, ACK, NEITHER, 16}), OVPN_UNDECIDED);
	assert_int_equal(send(f, (struct segment){1, 0, ACK, RESET, RESET_BYTES}), OVPN_YES);
}

static void fifth_empty_segment_is_not_held(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(send(f, (struct segment){1, 0, SYN}), OVPN_HELD);
	assert_int_equal(send(f, (struct segment){1, 0, SYN}), OVPN_UNDECIDED);
	assert_int_equal(send(f, (struct segment){1, 0, ACK, RESET, RESET_BYTES}), OVPN_YES);
	assert_int_equal(f->n_events, 4);
}

static void segment_that_nobody_wants_is_never_heard_of_again(void **state)
{
	struct fixture *f = *state;

	f->next_ticket = 0;
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(send(f, (struct segment){1, 0, ACK}), OVPN_UNWANTED);
	assert_int_equal(send(f, (struct segment){2, 0, ACK}), OVPN_UNWANTED);
	assert_int_equal(send(f, (struct segment){1, 0, ACK, RESET, RESET_BYTES}), OVPN_YES);
	assert_int_equal(send(f, (struct segment){2, 0, ACK, TLS, TLS_BYTES}), OVPN_NO);
	assert_int_equal(f->n_events, 0);
	decided(f, 0, 0);
}

static void held_segment_is_let_go_after_one_second(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(send(f, (struct segment){1, 0, SYN, .time_ns = 10}), OVPN_HELD);
	assert_int_equal(send(f, (struct segment){1, 1, SYN | ACK, .time_ns = 20}), OVPN_HELD);
	ovpn_flows_age(f->flows, 10 + SECOND);
	assert_int_equal(f->n_events, 0);
	ovpn_flows_age(f->flows, 11 + SECOND);
	assert_int_equal(f->n_events, 1);
	assert_int_equal(f->events[0].ticket, 1);
	assert_int_equal(f->events[0].why, VERDICT_OVPN_UNDECIDED);
	assert_int_equal(ovpn_flows_oldest_held_ns(f->flows), 20);
	assert_int_equal(send(f, (struct segment){1, 0, ACK, RESET, RESET_BYTES, 12 + SECOND}),
			 OVPN_YES);
	assert_int_equal(f->n_events, 2);
	assert_true(f->events[1].released);
	decided(f, 1, 1);
}

static void reset_of_an_undecided_flow_drops_what_is_held(void **state)
{
	struct fixture *f = *state;

	shake_hands(f, 1);
	assert_int_equal(send(f, (struct segment){1, 1, RST | ACK}), OVPN_UNDECIDED);
	assert_int_equal(f->n_events, 3);
	assert_false(f->events[2].released);
}

static void new_syn_on_old_ports_is_decided_again(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(send(f, (struct segment){1, 0, ACK, TLS, TLS_BYTES}), OVPN_NO);
	assert_int_equal(send(f, (struct segment){1, 0, SYN}), OVPN_HELD);
	assert_int_equal(send(f, (struct segment){1, 1, SYN | ACK}), OVPN_HELD);
	assert_int_equal(send(f, (struct segment){1, 0, ACK, RESET, RESET_BYTES}), OVPN_YES);
	assert_int_equal(f->n_events, 2);
	assert_int_equal(send(f, (struct segment){1, 1, SYN | ACK}), OVPN_YES); // not a new one
	assert_int_equal(send(f, (struct segment){1, 0, SYN, TLS, TLS_BYTES}),
			 OVPN_NO); // fast open
}

static void flow_is_forgotten_after_silence_sooner_once_it_closed(void **state)
{
	struct fixture *f = *state;
	uint64_t t = SECOND;

	assert_int_equal(send(f, (struct segment){1, 0, ACK, RESET, RESET_BYTES, t}), OVPN_YES);
	t += OVPN_IDLE_NS;
	assert_int_equal(send(f, (struct segment){1, 0, ACK, .time_ns = t}), OVPN_YES);
	assert_int_equal(send(f, (struct segment){1, 0, FIN | ACK, .time_ns = t}), OVPN_YES);
	t += OVPN_CLOSING_NS;
	assert_int_equal(send(f, (struct segment){1, 1, ACK, .time_ns = t}), OVPN_YES);
	t += OVPN_CLOSING_NS + 1;
	assert_int_equal(send(f, (struct segment){1, 1, ACK, .time_ns = t}), OVPN_HELD);
}

/* As many flows as it takes, four segments each (the first has three).  False if five met in one bucket, which has room for
 * four: the secret is random, so that happens once in 8,000 times.
 */
static bool fill_pool(struct fixture *f)
{
	for (unsigned i = 0; i < OVPN_HELD_MAX; i++) {
		struct segment syn = {(uint16_t)((i + 1) / HELD_SEGMENTS_MAX), 0, SYN,
				      .time_ns = i};

		assert_int_equal(send(f, syn), OVPN_HELD);
	}
	return f->n_events == 0;
}

static void full_pool_pushes_the_oldest_out(void **state)
{
	struct fixture *f = *state;

	for (unsigned tries = 1; !fill_pool(f); tries++) {
		assert_true(tries < 4);
		assert_int_equal(close_fixture(state), 0);
		assert_int_equal(open_fixture(state), 0);
	}
	/* The first flow has three: its fourth needs no room in the table, only in the pool. */
	assert_int_equal(send(f, (struct segment){0, 0, SYN, .time_ns = 9999}), OVPN_HELD);
	assert_int_equal(f->n_events, 1);
	assert_int_equal(f->events[0].ticket, 1);
	assert_int_equal(f->events[0].why, VERDICT_OVPN_UNDECIDED);
	assert_int_equal(ovpn_flows_oldest_held_ns(f->flows), 1);
	ovpn_flows_flush(f->flows);
	assert_int_equal(f->n_events, OVPN_HELD_MAX + 1);
	assert_true(ovpn_flows_oldest_held_ns(f->flows) == UINT64_MAX);
	decided(f, 0, OVPN_HELD_MAX + 1);
}

/* Flows from as many addresses as it takes to fill every bucket, each with a segment held.  Five of
 * the 200 OpenVPN flows meet in one bucket once in 10^7 runs.
 */
static void flood_of_syns_does_not_push_openvpn_out_and_balances(void **state)
{
	struct fixture *f = *state;
	uint64_t n_held = 0, n_gone, n_lost = 0;
	static struct build b;
	struct segment syn = {40000, 0, SYN};

	for (uint16_t i = 0; i < 200; i++)
		assert_int_equal(send(f, (struct segment){i, 0, ACK, RESET, RESET_BYTES}),
				 OVPN_YES);
	b = frame_of(&syn);
	for (uint32_t i = 0; i < 4 * OVPN_FLOWS_MAX; i++) {
		struct pkt p = {.data = b.bytes, .len = b.len, .wire_len = b.len, .time_ns = 1};

		memcpy(b.bytes + 26, &i, 4);
		(void)headers_parse(p.data, p.len, &p.h);
		n_held += ovpn_flow_segment(f->flows, &p) == OVPN_HELD;
		f->n_events = 0; // only counted through the classes
	}
	ovpn_flows_flush(f->flows);
	n_gone = f->n_class[CLASS_OTHER] + f->n_class[CLASS_OVPN];
	assert_int_equal(n_gone, n_held);
	assert_int_equal(n_held, 4 * OVPN_FLOWS_MAX);
	for (uint16_t i = 0; i < 200; i++)
		n_lost += send(f, (struct segment){i, 0, ACK, NEITHER, 16}) != OVPN_YES;
	assert_int_equal(n_lost, 0);
}

static void both_families_and_all_ports_are_flows_of_their_own(void **state)
{
	struct fixture *f = *state;
	struct build b = {0};
	struct pkt p;

	assert_int_equal(send(f, (struct segment){1, 0, ACK, RESET, RESET_BYTES}), OVPN_YES);
	assert_int_equal(send(f, (struct segment){2, 0, ACK, NEITHER, 16}), OVPN_UNDECIDED);
	put_ether(&b, 0x86dd);
	put_ipv6(&b, 6);
	put_tcp(&b, 1, 443, ACK);
	put_bytes(&b, NEITHER, 16);
	fix_lengths(&b);
	p = (struct pkt){.data = b.bytes, .len = b.len, .wire_len = b.len};
	assert_int_equal(headers_parse(p.data, p.len, &p.h), 0);
	assert_int_equal(ovpn_flow_segment(f->flows, &p), OVPN_UNDECIDED);
}

/* Same address on both sides: the ports alone say which end is which. */
static void flow_to_oneself_is_one_flow(void **state)
{
	struct fixture *f = *state;

	for (unsigned back = 0; back < 2; back++) {
		struct segment s = {40000, (int)back, ACK, back ? NEITHER : RESET, 16};
		struct build b = frame_of(&s);
		struct pkt p = {.data = b.bytes, .len = b.len, .wire_len = b.len};

		memcpy(b.bytes + 26, b.bytes + 30, 4);
		memcpy(b.bytes + 30, "\xc0\0\2\xfe", 4);
		memcpy(b.bytes + 26, "\xc0\0\2\xfe", 4);
		assert_int_equal(headers_parse(p.data, p.len, &p.h), 0);
		assert_int_equal(ovpn_flow_segment(f->flows, &p), OVPN_YES);
	}
}

static void options_of_tcp_are_not_payload(void **state)
{
	struct fixture *f = *state;
	struct segment s = {1, 0, ACK, "xxxxxxxxxxxxxxxxxxxx" RESET, 20 + RESET_BYTES};
	struct build b = frame_of(&s);
	struct pkt p = {.data = b.bytes, .len = b.len, .wire_len = b.len};

	b.bytes[34 + 12] = 10 << 4;
	assert_int_equal(headers_parse(p.data, p.len, &p.h), 0);
	assert_int_equal(ovpn_flow_segment(f->flows, &p), OVPN_YES);
	s.client = 2;
	b = frame_of(&s);
	b.bytes[34 + 12] = 15 << 4; // as long as the segment: nothing is left
	assert_int_equal(headers_parse(p.data, p.len, &p.h), 0);
	assert_int_equal(ovpn_flow_segment(f->flows, &p), OVPN_HELD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)
		T(openvpn_flow_is_released_from_its_syn_on),
		T(https_flow_is_dropped_from_its_syn_on),
		T(held_copy_says_what_the_segment_was),
		T(shapes_are_told_apart),
		T(head_of_a_reset_is_not_enough_in_the_middle),
		T(head_of_a_reset_decides_a_flow_whose_syn_was_seen),
		T(random_bytes_are_hardly_ever_taken_for_openvpn),
		T(flow_met_in_the_middle_is_decided_by_the_first_shape_of_either_side),
		T(eight_segments_that_tell_nothing_end_the_search),
		T(seventh_silent_segment_still_leaves_the_eighth_to_decide),
		T(fifth_empty_segment_is_not_held),
		T(segment_that_nobody_wants_is_never_heard_of_again),
		T(held_segment_is_let_go_after_one_second),
		T(reset_of_an_undecided_flow_drops_what_is_held),
		T(new_syn_on_old_ports_is_decided_again),
		T(flow_is_forgotten_after_silence_sooner_once_it_closed),
		T(full_pool_pushes_the_oldest_out),
		T(flood_of_syns_does_not_push_openvpn_out_and_balances),
		T(both_families_and_all_ports_are_flows_of_their_own),
		T(flow_to_oneself_is_one_flow),
		T(options_of_tcp_are_not_payload),
#undef T
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
