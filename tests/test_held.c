/* test_held.c - what is counted as held, for whom, and what a reader in another thread sees of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka wants the above first
#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>

#include "tests/worker_rig.h"

enum { RST = 4, FLOWS = 200000 };

/* One that asks for ESP alone will never get it: for that one it is not matched as soon as it comes. */
static void held_segment_counts_for_the_captures_that_want_it(void **state)
{
	struct worker_shared *shared;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	shared = rig.pair.shared;
	publish_one(&rig, 0, true, 120);
	rig.data[1] = (struct filter_data){.tracing_flags = TRACE_ESP, .snap_bytes = 120};
	rig.captures[1] = rig.captures[0];
	rig.captures[1].slot = 1;
	rig.captures[1].data = &rig.data[1];
	rig.source.n_captures = 2;
	publish(&rig);
	send_segment(&rig, SYN, NULL, 0);
	send_segment(&rig, ACK, NULL, 0);
	assert_int_equal(shared->n_held, 2);
	assert_int_equal(shared->slots[0][0].held, 2);
	assert_int_equal(shared->slots[1][0].held, 0);
	send_segment(&rig, ACK | PSH, ovpn_reset, sizeof(ovpn_reset));
	assert_int_equal(shared->slots[0][0].held, 0);
	assert_int_equal(shared->slots[0][0].recorded, 3);
	assert_int_equal(shared->slots[1][0].held, 0);
	assert_int_equal(shared->slots[1][0].recorded, 0);
	rig_close(&rig);
}

static void held_segments_that_the_flow_table_drops_are_held_no_more(void **state)
{
	struct simple_frame f = {
		.src = 0x0a000002, .dst = GATEWAY, .protocol = 6, .dport = 443, .tcp_flags = SYN};
	const struct slot_counters *c;
	struct rig rig;
	uint64_t n_held;

	(void)state;
	rig_open(&rig);
	c = &rig.pair.shared->slots[0][0];
	publish_one(&rig, 0, true, 120);
	for (unsigned i = 0; i < 5000; i++) { // more than it holds, of as many flows
		f.sport = (uint16_t)(10000 + i);
		send(&rig, &f, 0, false);
		assert_int_equal(c->held, rig.pair.shared->n_held);
	}
	assert_true(c->held > 4000 && c->held < 5000);
	n_held = c->held;
	f.tcp_flags = RST;
	send(&rig, &f, 0, false);
	assert_int_equal(c->held, n_held - 1);
	worker_idle(rig.worker, rig.now_ns + 3000000000);
	assert_int_equal(c->held, 0);
	assert_int_equal(c->received, 5001);
	rig_close(&rig);
}

/* ---- one worker, and someone who looks at its books as fast as he can ---- */

struct watched {
	struct rig rig;
	_Atomic bool is_over;
};

/* Flow after flow: its SYN is held, and recorded once the first payload has come, by another port. */
static void *send_flows(void *ctx)
{
	struct watched *watched = ctx;
	struct rig *rig = &watched->rig;
	struct simple_frame syn = {
		.src = 0x0a000002, .dst = GATEWAY, .protocol = 6, .dport = 443, .tcp_flags = SYN};
	struct simple_frame answer = {.src = GATEWAY,
				      .dst = 0x0a000002,
				      .protocol = 6,
				      .sport = 443,
				      .tcp_flags = ACK | PSH,
				      .payload = ovpn_reset,
				      .n_payload = sizeof(ovpn_reset)};

	for (uint32_t i = 0; i < FLOWS; i++) {
		syn.sport = answer.dport = (uint16_t)i;
		send(rig, &syn, 0, false);
		send(rig, &answer, 1, false);
		rig->pair.reader.tail += ring_available(&rig->pair.reader);
		ring_release(&rig->pair.reader);
	}
	atomic_store(&watched->is_over, true);
	return NULL;
}

/* The packets of the SYNs' port stay the same number while one is held, let go and recorded: whoever counted
 * it twice would count more than there are.
 */
static void no_segment_is_seen_held_and_recorded(void **state)
{
	struct watched *watched = calloc(1, sizeof(*watched));
	const struct slot_counters *counters;
	uint64_t n_held = 0, n_looks = 0;
	struct slot_seen seen;
	pthread_t thread;

	(void)state;
	assert_non_null(watched);
	rig_open(&watched->rig);
	counters = &watched->rig.pair.shared->slots[0][0];
	publish_one(&watched->rig, 0, true, 120);
	worker_idle(watched->rig.worker, watched->rig.now_ns);
	assert_int_equal(pthread_create(&thread, NULL, send_flows, watched), 0);
	while (!atomic_load(&watched->is_over)) {
		seen = slot_counters_read(counters);
		assert_true(seen.received >= seen.recorded + seen.ring_full + seen.held);
		n_held += seen.held > 0;
		n_looks++;
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	seen = slot_counters_read(counters);
	assert_true(n_looks > 100 && n_held > 0);
	assert_int_equal(seen.received, FLOWS);
	assert_int_equal(seen.recorded, seen.received);
	assert_int_equal(seen.held, 0);
	rig_close(&watched->rig);
	free(watched);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(held_segment_counts_for_the_captures_that_want_it),
		cmocka_unit_test(held_segments_that_the_flow_table_drops_are_held_no_more),
		cmocka_unit_test(no_segment_is_seen_held_and_recorded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
