/* test_worker.c - the books of a worker over random traffic, and what lives longer than a burst:
 * held segments and fragments.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka wants the above first
#include <cmocka.h>

#include "tests/dice.h"
#include "tests/worker_rig.h"

static void held_segments_are_recorded_with_their_own_times_once_the_flow_is_openvpn(void **state)
{
	struct rig rig;
	struct record r;
	uint64_t syn_ns;

	(void)state;
	rig_open(&rig);
	publish_one(&rig, 0, true, 120);
	syn_ns = rig.now_ns;
	send_segment(&rig, SYN, NULL, 0);
	assert_int_equal(rig.pair.shared->n_held, 1);
	assert_int_equal(rig.pair.shared->slots[0][0].held, 1);
	assert_false(take(&rig, &r, NULL));
	// The watermark stays behind what is held.
	assert_true(ring_watermark(&rig.pair.reader) <= syn_ns);
	worker_idle(rig.worker, rig.now_ns + 500000);
	assert_true(ring_watermark(&rig.pair.reader) <= syn_ns);
	send_segment(&rig, ACK | PSH, ovpn_reset, sizeof(ovpn_reset));
	assert_true(take(&rig, &r, NULL));
	assert_int_equal(r.time_ns, syn_ns);
	assert_int_equal(r.flags, RECORD_LATE);
	assert_int_equal(r.captures, 1);
	assert_int_equal(r.caplen, FRAME_L4 + 20);
	assert_int_equal(r.class_, CLASS_OVPN);
	assert_true(take(&rig, &r, NULL));
	assert_int_equal(r.flags, 0);
	assert_int_equal(r.caplen, FRAME_L4 + 20 + sizeof(ovpn_reset));
	assert_false(take(&rig, &r, NULL));
	assert_int_equal(rig.pair.shared->n_held, 0);
	assert_int_equal(rig.pair.shared->slots[0][0].received, 2);
	assert_int_equal(rig.pair.shared->slots[0][0].recorded, 2);
	assert_int_equal(rig.pair.shared->slots[0][0].held, 0);
	assert_int_equal(rig.pair.shared->slot_classes[0][CLASS_OVPN], 2);
	assert_int_equal(ring_watermark(&rig.pair.reader), rig.now_ns - 1000);
	rig_close(&rig);
}

static void held_segments_of_https_are_forgotten(void **state)
{
	struct rig rig;
	struct record r;

	(void)state;
	rig_open(&rig);
	publish_one(&rig, 0, true, 120);
	send_segment(&rig, SYN, NULL, 0);
	send_segment(&rig, ACK | PSH, tls_hello, sizeof(tls_hello));
	assert_false(take(&rig, &r, NULL));
	assert_int_equal(rig.pair.shared->n_held, 0);
	assert_int_equal(rig.pair.shared->slots[0][0].received, 2);
	assert_int_equal(rig.pair.shared->slots[0][0].recorded, 0);
	assert_int_equal(rig.pair.shared->slots[0][0].held, 0);
	assert_int_equal(rig.pair.shared->slot_classes[0][CLASS_OTHER], 2);
	rig_close(&rig);
}

/* The capture stops while a segment is held: it still gets the segment, cut as it asked. */
static void held_segment_keeps_the_captures_and_snap_of_its_own_generation(void **state)
{
	static const uint32_t snaps[] = {120, 40, 1};
	struct record r;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		uint8_t frame[FRAME_BYTES_MAX];
		uint32_t whole = FRAME_L4 + 20;
		struct rig rig;

		rig_open(&rig);
		publish_one(&rig, 2, true, snaps[i]);
		send_segment(&rig, SYN, NULL, 0);
		publish_none(&rig);
		worker_idle(rig.worker, rig.now_ns);
		assert_int_equal(worker_generation(rig.worker), 2);
		assert_int_equal(rig.pair.shared->slots[2][0].held, 1);
		send_segment(&rig, ACK | PSH, ovpn_reset, sizeof(ovpn_reset));
		assert_int_equal(rig.pair.shared->slots[2][0].held, 0);
		assert_true(take(&rig, &r, frame));
		assert_int_equal(r.captures, 1 << 2);
		assert_int_equal(r.generation, 1);
		assert_int_equal(r.caplen, whole < snaps[i] ? whole : snaps[i]);
		assert_int_equal(r.wire_len, whole);
		assert_int_equal(frame[0], 2);
		assert_false(take(&rig, &r, NULL)); // the payload came after the stop
		assert_int_equal(rig.pair.shared->slots[2][0].recorded, 1);
		assert_int_equal(rig.pair.shared->slots[2][0].received, 1);
		rig_close(&rig);
	}
}

static void capture_that_starts_later_never_sees_what_was_held_before(void **state)
{
	struct rig rig;
	struct record r;

	(void)state;
	rig_open(&rig);
	publish_one(&rig, 0, true, 120);
	send_segment(&rig, SYN, NULL, 0);
	// Slot 0 goes on, slot 1 starts.
	rig.captures[0].is_new = false;
	rig.captures[1] = rig.captures[0];
	rig.captures[1].slot = 1;
	rig.captures[1].is_new = true;
	rig.source.n_captures = 2;
	publish(&rig);
	send_segment(&rig, ACK | PSH, ovpn_reset, sizeof(ovpn_reset));
	assert_true(take(&rig, &r, NULL));
	assert_int_equal(r.captures, 1);
	assert_true(take(&rig, &r, NULL));
	assert_int_equal(r.captures, 3);
	assert_int_equal(rig.pair.shared->slots[0][0].received, 2);
	assert_int_equal(rig.pair.shared->slots[0][0].recorded, 2);
	assert_int_equal(rig.pair.shared->slots[1][0].received, 1);
	assert_int_equal(rig.pair.shared->slots[1][0].recorded, 1);
	rig_close(&rig);
}

/* As a control process does that was killed and started anew: it does not know what is held. */
static void owner_of_a_slot_owes_nothing_for_what_was_held_before_it(void **state)
{
	struct worker_shared *shared;
	struct rig rig;
	struct record r;

	(void)state;
	rig_open(&rig);
	shared = rig.pair.shared;
	publish_one(&rig, 0, true, 120);
	rig.captures[1] = rig.captures[0];
	rig.captures[1].slot = 1;
	rig.source.n_captures = 2;
	publish(&rig); // slots 0 and 1 start
	send_segment(&rig, SYN, NULL, 0);
	assert_true(shared->slots[0][0].held == 1 && shared->slots[1][0].held == 1);
	rig.captures[0].is_new = true; // slot 0 has another owner, slot 1 goes on
	rig.captures[1].is_new = false;
	publish(&rig);
	worker_idle(rig.worker, rig.now_ns);
	assert_true(shared->slots[0][0].held == 0 && shared->slots[1][0].held == 1);
	send_segment(&rig, ACK | PSH, ovpn_reset, sizeof(ovpn_reset));
	assert_true(shared->slots[0][0].held == 0 && shared->slots[1][0].held == 0);
	assert_true(take(&rig, &r, NULL));
	assert_int_equal(r.flags, RECORD_LATE);
	assert_int_equal(r.captures, 2);
	assert_int_equal(r.generation, 2);
	assert_true(take(&rig, &r, NULL));
	assert_int_equal(r.captures, 3);
	assert_int_equal(shared->slots[0][0].received, 1);
	assert_int_equal(shared->slots[0][0].recorded, 1);
	assert_int_equal(shared->slot_classes[0][CLASS_OVPN], 1);
	assert_int_equal(shared->slots[1][0].received, 2);
	assert_int_equal(shared->slots[1][0].recorded, 2);
	assert_int_equal(shared->slot_classes[1][CLASS_OVPN], 2);
	rig_close(&rig);
}

static void held_segment_whose_captures_are_all_gone_is_not_recorded(void **state)
{
	struct worker_shared *shared;
	struct rig rig;
	struct record r;

	(void)state;
	rig_open(&rig);
	shared = rig.pair.shared;
	publish_one(&rig, 0, true, 120);
	send_segment(&rig, SYN, NULL, 0);
	send_segment(&rig, SYN, NULL, 0);
	publish_one(&rig, 0, true, 120);
	send_segment(&rig, ACK | PSH, ovpn_reset, sizeof(ovpn_reset));
	assert_true(take(&rig, &r, NULL));
	assert_int_equal(r.flags, 0);
	assert_int_equal(r.generation, 2);
	assert_false(take(&rig, &r, NULL));
	assert_int_equal(shared->n_held, 0);
	assert_int_equal(shared->verdicts[VERDICT_NOT_MATCHED], 2);
	assert_int_equal(shared->slots[0][0].received, 1);
	assert_int_equal(shared->slots[0][0].recorded, 1);
	assert_int_equal(shared->slot_classes[0][CLASS_OVPN], 1);
	assert_int_equal(shared->classes[0][CLASS_OVPN], 3); // the port's own books go on
	rig_close(&rig);
}

/* The SYN comes in by port 0, the answer by port 1, and the capture stops before the flow is decided. */
static void class_of_a_held_segment_is_counted_where_it_came_from(void **state)
{
	struct simple_frame f = {.src = GATEWAY,
				 .dst = 0x0a000002,
				 .protocol = 6,
				 .sport = 443,
				 .dport = 40000,
				 .tcp_flags = ACK | PSH,
				 .payload = ovpn_reset,
				 .n_payload = sizeof(ovpn_reset)};
	struct worker_shared *shared;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	shared = rig.pair.shared;
	publish_one(&rig, 3, true, 120);
	send_segment(&rig, SYN, NULL, 0);
	assert_true(shared->slots[3][0].held == 1 && shared->slots[3][1].held == 0);
	publish_none(&rig);
	send(&rig, &f, 1, false);
	assert_true(shared->slots[3][0].held == 0 && shared->slots[3][1].held == 0);
	assert_int_equal(shared->classes[0][CLASS_OVPN], 1);
	assert_int_equal(shared->classes[1][CLASS_OVPN], 1);
	assert_int_equal(shared->slot_classes[3][CLASS_OVPN], 1);
	assert_int_equal(shared->slots[3][0].received, 1);
	assert_int_equal(shared->slots[3][1].received, 0);
	// By age, without a burst: the capture's books are closed all the same.
	publish_one(&rig, 3, true, 120);
	f.sport = 443;
	f.dport = 40001;
	f.tcp_flags = SYN | ACK;
	f.n_payload = 0;
	send(&rig, &f, 1, false);
	assert_true(shared->slots[3][0].held == 0 && shared->slots[3][1].held == 1);
	worker_idle(rig.worker, rig.now_ns + 3000000000);
	assert_true(shared->slots[3][0].held == 0 && shared->slots[3][1].held == 0);
	assert_int_equal(shared->slots[3][1].received, 1);
	assert_int_equal(shared->slot_classes[3][CLASS_OTHER], 1);
	rig_close(&rig);
}

static void finish_decides_what_is_held_and_opens_the_watermark(void **state)
{
	struct rig rig;
	struct record r;

	(void)state;
	rig_open(&rig);
	publish_one(&rig, 0, true, 120);
	send_segment(&rig, SYN, NULL, 0);
	worker_finish(rig.worker);
	assert_int_equal(rig.pair.shared->slots[0][0].held, 0);
	assert_false(take(&rig, &r, NULL));
	assert_int_equal(rig.pair.shared->n_held, 0);
	assert_int_equal(ring_watermark(&rig.pair.reader), UINT64_MAX);
	assert_int_equal(rig.pair.shared->slot_classes[0][CLASS_OTHER], 1);
	rig_close(&rig);
}

static void held_segments_go_before_the_ring_is_full_of_what_waits_for_them(void **state)
{
	struct rig rig;
	uint64_t syn_ns;
	unsigned n = 0;

	(void)state;
	rig_open(&rig);
	publish_one(&rig, 0, true, 120);
	syn_ns = rig.now_ns;
	send_segment(&rig, SYN, NULL, 0);
	// Nothing is taken from the ring: a merger could not, either.
	while (rig.pair.shared->n_held == 1 && n++ < 1000000)
		send_esp(&rig);
	assert_int_equal(rig.pair.shared->n_held, 0);
	assert_true(ring_watermark(&rig.pair.reader) > syn_ns);
	assert_int_equal(rig.pair.shared->slots[0][0].held, 0);
	assert_int_equal(rig.pair.shared->slots[0][0].ring_full, 0);
	assert_int_equal(rig.pair.shared->verdicts[VERDICT_OVPN_UNDECIDED], 1);
	rig_close(&rig);
}

static void held_segments_are_let_go_after_their_second(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	publish_one(&rig, 0, true, 120);
	send_segment(&rig, SYN, NULL, 0);
	worker_idle(rig.worker, rig.now_ns + 3000000000);
	assert_int_equal(ring_watermark(&rig.pair.reader), rig.now_ns + 3000000000);
	assert_int_equal(rig.pair.shared->n_held, 0);
	assert_int_equal(rig.pair.shared->verdicts[VERDICT_OVPN_UNDECIDED], 1);
	rig_close(&rig);
}

static void nothing_is_recorded_before_the_first_set_and_after_the_last_stop(void **state)
{
	const struct simple_frame esp = {.src = 1, .dst = 2, .protocol = 50, .n_payload = 40};
	struct rig rig;
	struct record r;

	(void)state;
	rig_open(&rig);
	send(&rig, &esp, 0, false);
	assert_false(take(&rig, &r, NULL));
	publish_one(&rig, 4, true, 60);
	send(&rig, &esp, 0, false);
	assert_true(take(&rig, &r, NULL));
	assert_int_equal(r.captures, 1 << 4);
	assert_int_equal(r.caplen, 60);
	publish_none(&rig);
	send(&rig, &esp, 0, false);
	assert_false(take(&rig, &r, NULL));
	assert_int_equal(rig.pair.shared->received[0], 3);
	assert_int_equal(rig.pair.shared->slots[4][0].received, 1);
	assert_int_equal(rig.pair.shared->verdicts[VERDICT_NOT_MATCHED], 2);
	rig_close(&rig);
}

static void new_slot_starts_at_zero_and_a_kept_one_goes_on(void **state)
{
	const struct simple_frame esp = {.src = 1, .dst = 2, .protocol = 50, .n_payload = 40};
	struct rig rig;

	(void)state;
	rig_open(&rig);
	publish_one(&rig, 1, true, 60);
	send(&rig, &esp, 3, false);
	publish_one(&rig, 1, false, 60);
	send(&rig, &esp, 3, false);
	assert_int_equal(rig.pair.shared->slots[1][3].received, 2);
	assert_int_equal(rig.pair.shared->slots[1][3].recorded, 2);
	publish_one(&rig, 1, true, 60);
	send(&rig, &esp, 3, false);
	assert_int_equal(rig.pair.shared->slots[1][3].received, 1);
	assert_int_equal(rig.pair.shared->slots[1][3].recorded, 1);
	assert_int_equal(rig.pair.shared->slot_classes[1][CLASS_ESP], 1);
	rig_close(&rig);
}

/* Inner fragments. */

static void publish_port_filter(struct rig *rig, uint16_t *port, bool is_new)
{
	rig->data[0] = (struct filter_data){
		.tracing_flags = TRACE_DEFAULT, .snap_bytes = 120, .n_filters = 1};
	rig->data[0].filters[0] = (struct filter){.dst_port = port, .n_dst_port = 1};
	rig->captures[0] = (struct set_source_capture){
		.is_new = is_new, .connection = SET_GATEWAY_WIDE, .data = &rig->data[0]};
	rig->source.n_captures = 1;
	publish(rig);
}

static bool fragment_is_recorded(struct rig *rig, uint16_t id, uint16_t fragment, uint16_t dport)
{
	const struct simple_frame f = {.src = 0x0a010001,
				       .dst = 0x0a020001,
				       .protocol = 17,
				       .sport = 9,
				       .dport = dport,
				       .id = id,
				       .fragment = fragment,
				       .n_payload = 16};
	struct record r;

	send(rig, &f, 1, true);
	return take(rig, &r, NULL);
}

static void later_inner_fragments_inherit_the_verdict_of_their_first(void **state)
{
	struct rig rig;
	uint16_t port = 53;

	(void)state;
	rig_open(&rig);
	publish_port_filter(&rig, &port, true);
	assert_true(fragment_is_recorded(&rig, 1, 0x2000, 53)); // first, more to come
	assert_true(fragment_is_recorded(&rig, 1, 0x2003, 0));
	assert_true(fragment_is_recorded(&rig, 1, 0x0006, 0)); // last
	assert_false(fragment_is_recorded(&rig, 2, 0x2000, 54));
	assert_false(fragment_is_recorded(&rig, 2, 0x0003, 0));
	assert_false(fragment_is_recorded(&rig, 3, 0x0003, 0)); // first never seen
	rig_close(&rig);
}

static void fragments_of_a_stale_generation_inherit_nothing(void **state)
{
	struct rig rig;
	uint16_t dns = 53, web = 80;

	(void)state;
	rig_open(&rig);
	publish_port_filter(&rig, &dns, true);
	assert_true(fragment_is_recorded(&rig, 1, 0x2000, 53));
	publish_port_filter(&rig, &web, true); // the slot means another capture now
	assert_false(fragment_is_recorded(&rig, 1, 0x0003, 0));
	rig_close(&rig);
}

static void fragment_without_its_first_passes_filters_that_need_no_header(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	rig.data[0] = (struct filter_data){
		.tracing_flags = TRACE_DEFAULT, .snap_bytes = 120, .n_filters = 1};
	rig.captures[0] = (struct set_source_capture){
		.is_new = true, .connection = SET_GATEWAY_WIDE, .data = &rig.data[0]};
	rig.source.n_captures = 1;
	publish(&rig);
	assert_true(fragment_is_recorded(&rig, 1, 0x0003, 0));
	rig_close(&rig);
}

/* Random traffic, captures starting and stopping between bursts. */

struct books {
	uint64_t received[CAPTURES_MAX][PORTS_MAX], recorded[CAPTURES_MAX][PORTS_MAX];
	uint64_t lost[CAPTURES_MAX][PORTS_MAX];
	uint8_t running;
	uint64_t n_received;
	uint64_t n_unseen; // of these: on an inner port while no capture ran
};

static void throw_frame(struct dice *d, struct simple_frame *f)
{
	static const uint16_t ports[] = {500, 4500, 1194, 443, 443, 443, 53, 80};

	*f = (struct simple_frame){.src = GATEWAY + dice_below(d, 4),
				   .dst = GATEWAY + dice_below(d, 4),
				   .sport = (uint16_t)(40000 + dice_below(d, 30)),
				   .dport = ports[dice_below(d, 8)],
				   .tcp_flags = ACK,
				   .n_payload = dice_one_in(d, 3) ? 0 : dice_below(d, 60),
				   .id = (uint16_t)dice_below(d, 20)};
	f->protocol = f->dport == 443 || f->dport == 80 ? 6 : dice_one_in(d, 3) ? 50 : 17;
	if (f->dport == 443 && dice_one_in(d, 2)) {
		f->payload = dice_one_in(d, 2) ? ovpn_reset : tls_hello;
		f->n_payload = f->payload == ovpn_reset ? sizeof(ovpn_reset) : sizeof(tls_hello);
	} else if (f->dport == 443 && dice_one_in(d, 2)) {
		f->tcp_flags = SYN;
		f->n_payload = 0;
	}
	if (dice_one_in(d, 8))
		f->fragment = (uint16_t)(0x2000 * dice_below(d, 2) + dice_below(d, 3));
}

/* One capture starts or stops; a slot that stops must drain first, as control waits for it. */
static void throw_captures(struct rig *rig, struct dice *d, struct books *books)
{
	unsigned slot = dice_below(d, CAPTURES_MAX);
	uint8_t bit = (uint8_t)(1U << slot);
	unsigned n = 0;

	books->running ^= bit;
	if (books->running & bit) {
		// The contract of slots: used again only when nothing of the old generation is left.
		rig->now_ns += 2000000000;
		worker_idle(rig->worker, rig->now_ns);
		memset(books->received[slot], 0, sizeof(books->received[slot]));
		memset(books->recorded[slot], 0, sizeof(books->recorded[slot]));
		memset(books->lost[slot], 0, sizeof(books->lost[slot]));
		rig->data[slot] = (struct filter_data){.tracing_flags = 1 + dice_below(d, 11),
						       .snap_bytes = 20 + dice_below(d, 100),
						       .n_filters = dice_below(d, 2)};
		rig->data[slot].filters[0].tcp_flags = dice_one_in(d, 2) ? SYN : 0;
	}
	for (unsigned i = 0; i < CAPTURES_MAX; i++)
		if (books->running >> i & 1)
			rig->captures[n++] =
				(struct set_source_capture){.slot = i,
							    .is_new = i == slot,
							    .connection = SET_GATEWAY_WIDE,
							    .data = &rig->data[i]};
	rig->source.n_captures = n;
	publish(rig);
}

static void throw_burst(struct rig *rig, struct dice *d, struct books *books)
{
	static uint8_t bufs[BURST_MAX][FRAME_BYTES_MAX];
	struct pkt p[BURST_MAX];
	unsigned n = 1 + dice_below(d, BURST_MAX), port = dice_below(d, 3);

	for (unsigned i = 0; i < n; i++) {
		struct simple_frame f;

		throw_frame(d, &f);
		p[i] = (struct pkt){
			.data = bufs[i], .len = frame_write(&f, bufs[i]), .time_ns = rig->now_ns};
		if (dice_one_in(d, 20))
			p[i].len = dice_below(d, p[i].len + 1); // cut
		p[i].wire_len = p[i].len + dice_below(d, 3);
		rig->now_ns += dice_below(d, 2) ? 0 : dice_below(d, 100000);
	}
	worker_burst(rig->worker, p, n, port, port == 2);
	books->n_received += n;
	books->n_unseen += port == 2 && books->running == 0 ? n : 0;
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if (books->running >> slot & 1)
			books->received[slot][port] += n;
}

/* Count what came out; with `is_slow` half of it is left, so that the ring fills up. */
static void drain(struct rig *rig, struct dice *d, struct books *books, bool is_slow)
{
	uint64_t watermark = ring_watermark(&rig->pair.reader);
	struct record r;

	while ((!is_slow || dice_one_in(d, 2)) && take(rig, &r, NULL)) {
		assert_true(r.captures != 0 && r.captures < 1 << CAPTURES_MAX);
		assert_true(r.caplen <= r.wire_len && r.caplen > 0);
		assert_int_not_equal(r.class_, CLASS_OTHER);
		assert_true(is_slow || r.time_ns <= watermark || watermark == UINT64_MAX ||
			    rig->pair.shared->n_held > 0);
		for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
			books->recorded[slot][r.port] += r.captures >> slot & 1;
	}
}

static void check_books(const struct rig *rig, const struct books *books, bool is_drained)
{
	const struct worker_shared *s = rig->pair.shared;
	uint64_t total = s->n_held, received = 0, classes = s->n_held, held[CAPTURES_MAX] = {0};
	uint64_t n_held = 0;

	for (unsigned i = 0; i < VERDICT_COUNT; i++)
		total += s->verdicts[i];
	for (unsigned port = 0; port < PORTS_MAX; port++) {
		received += s->received[port];
		for (unsigned c = 0; c < CLASS_COUNT; c++)
			classes += s->classes[port][c];
	}
	assert_int_equal(received, books->n_received);
	assert_int_equal(total, books->n_received);
	assert_int_equal(classes + books->n_unseen,
			 books->n_received); // what is held will have one
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		for (unsigned port = 0; port < PORTS_MAX; port++) {
			const struct slot_counters *c = &s->slots[slot][port];

			assert_int_equal(c->received, books->received[slot][port]);
			assert_true(c->recorded + c->ring_full + c->held <= c->received);
			held[slot] += c->held;
			if (is_drained)
				assert_int_equal(c->recorded, books->recorded[slot][port]);
			assert_true((c->ring_full == 0) == (c->lost_first_ns == 0));
			assert_true(c->lost_first_ns <= c->lost_last_ns);
		}
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		assert_true(held[slot] <= s->n_held);
		n_held += held[slot];
	}
	assert_true(n_held >= s->n_held); // nothing is held that nobody wants
}

static void books_balance_over_random_bursts_and_captures(void **state)
{
	struct dice d = dice_open("books_balance_over_random_bursts_and_captures");
	struct rig *rig = calloc(1, sizeof(*rig));
	struct books books = {0};
	uint64_t classes = 0;

	(void)state;
	assert_non_null(rig);
	rig_open(rig);
	for (unsigned i = 0; i < 3000; i++) {
		if (dice_one_in(&d, 25)) {
			drain(rig, &d, &books, false);
			throw_captures(rig, &d, &books);
		}
		throw_burst(rig, &d, &books);
		drain(rig, &d, &books, false);
		check_books(rig, &books, true);
	}
	worker_finish(rig->worker);
	drain(rig, &d, &books, false);
	check_books(rig, &books, true);
	assert_int_equal(rig->pair.shared->n_held, 0);
	for (unsigned port = 0; port < PORTS_MAX; port++)
		for (unsigned c = 0; c < CLASS_COUNT; c++)
			classes += rig->pair.shared->classes[port][c];
	// once all is decided each packet that was looked at has its class
	assert_int_equal(classes, books.n_received - books.n_unseen);
	assert_true(books.n_unseen > 0);
	assert_true(rig->pair.shared->verdicts[VERDICT_RECORDED] > books.n_received / 20);
	rig_close(rig);
	free(rig);
}

static void full_ring_leaves_the_books_balanced(void **state)
{
	struct dice d = dice_open("full_ring_leaves_the_books_balanced");
	struct rig *rig = calloc(1, sizeof(*rig));
	struct books books = {0};
	uint64_t lost;

	(void)state;
	assert_non_null(rig);
	rig_open(rig);
	for (unsigned slot = 0; slot < 2; slot++) {
		rig->data[slot] = (struct filter_data){.tracing_flags = TRACE_DEFAULT,
						       .snap_bytes = 90 + slot};
		rig->captures[slot] = (struct set_source_capture){.slot = slot,
								  .is_new = true,
								  .connection = SET_GATEWAY_WIDE,
								  .data = &rig->data[slot]};
	}
	rig->source.n_captures = 2;
	books.running = 3;
	publish(rig);
	for (unsigned i = 0; i < 2000; i++) {
		throw_burst(rig, &d, &books);
		drain(rig, &d, &books, true);
		check_books(rig, &books, false);
	}
	lost = rig->pair.shared->verdicts[VERDICT_RING_FULL];
	drain(rig, &d, &books, false);
	check_books(rig, &books, true);
	assert_true(lost > 1000);
	rig_close(rig);
	free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			held_segments_are_recorded_with_their_own_times_once_the_flow_is_openvpn),
		cmocka_unit_test(held_segments_of_https_are_forgotten),
		cmocka_unit_test(held_segment_keeps_the_captures_and_snap_of_its_own_generation),
		cmocka_unit_test(capture_that_starts_later_never_sees_what_was_held_before),
		cmocka_unit_test(owner_of_a_slot_owes_nothing_for_what_was_held_before_it),
		cmocka_unit_test(held_segment_whose_captures_are_all_gone_is_not_recorded),
		cmocka_unit_test(class_of_a_held_segment_is_counted_where_it_came_from),
		cmocka_unit_test(finish_decides_what_is_held_and_opens_the_watermark),
		cmocka_unit_test(held_segments_go_before_the_ring_is_full_of_what_waits_for_them),
		cmocka_unit_test(held_segments_are_let_go_after_their_second),
		cmocka_unit_test(nothing_is_recorded_before_the_first_set_and_after_the_last_stop),
		cmocka_unit_test(new_slot_starts_at_zero_and_a_kept_one_goes_on),
		cmocka_unit_test(later_inner_fragments_inherit_the_verdict_of_their_first),
		cmocka_unit_test(fragments_of_a_stale_generation_inherit_nothing),
		cmocka_unit_test(fragment_without_its_first_passes_filters_that_need_no_header),
		cmocka_unit_test(books_balance_over_random_bursts_and_captures),
		cmocka_unit_test(full_ring_leaves_the_books_balanced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
