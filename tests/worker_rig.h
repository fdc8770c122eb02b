/* worker_rig.h - one worker on a ring of its own, fed frame by frame and told of captures.
 *
 * Usage:  rig_open(); publish_one(), or publish() of what is in rig->captures; send(), take(); rig_close().
 * Time:   rig->now_ns, 1 us on with each frame.
 */
#ifndef GATECAP_TESTS_WORKER_RIG_H
#define GATECAP_TESTS_WORKER_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka wants the above first
#include <cmocka.h>

#include "control/set_build.h"
#include "dataplane/worker.h"
#include "filters/matcher.h"
#include "tests/ring_pair.h"
#include "tests/simple_frame.h"

enum { RING = 1 << 20, MATCHERS_MAX = 4096, SYN = 2, ACK = 16, PSH = 8, GATEWAY = 0x0a000001 };

/* An OpenVPN client's session reset, as it stands in TCP; and the start of a TLS handshake. */
static const uint8_t ovpn_reset[] = {0, 14, 7 << 3, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0};
static const uint8_t tls_hello[] = {0x16, 3, 1, 0, 4, 1, 0, 0, 0};

struct rig {
	struct ring_pair pair;
	struct worker *worker;
	struct config config;
	struct filter_data data[CAPTURES_MAX];
	struct set_source_capture captures[CAPTURES_MAX];
	struct set_source source;
	struct matcher *matchers[MATCHERS_MAX];
	unsigned n_matchers;
	uint64_t now_ns;
};

static inline void rig_open(struct rig *rig)
{
	memset(rig, 0, sizeof(*rig));
	ring_pair_open(&rig->pair, RING, 0);
	rig->worker = worker_open(rig->pair.shared, &rig->pair.writer);
	assert_non_null(rig->worker);
	rig->config.gateway.endpoints[0] = (struct endpoint){.port = 1194, .protocol = 17};
	rig->config.gateway.endpoints[1] =
		(struct endpoint){.port = 443, .protocol = 6, .shared = true};
	rig->config.gateway.n_endpoints = 2;
	rig->source = (struct set_source){.config = &rig->config, .captures = rig->captures};
	rig->now_ns = 1000000000;
}

static inline void rig_close(struct rig *rig)
{
	worker_close(rig->worker);
	for (unsigned i = 0; i < rig->n_matchers; i++)
		matcher_close(rig->matchers[i]);
	ring_pair_close(&rig->pair);
}

/* Hand the captures in rig->source to the worker as a new generation. */
static inline void publish(struct rig *rig)
{
	struct filter_set set;
	size_t bytes;
	void *mem;

	rig->source.generation++;
	mem = set_build(&rig->source, &bytes);
	assert_non_null(mem);
	assert_int_equal(filter_set_check(mem, bytes, &set, NULL), 0);
	assert_true(rig->n_matchers < MATCHERS_MAX);
	rig->matchers[rig->n_matchers] = matcher_open(&set, NULL);
	assert_non_null(rig->matchers[rig->n_matchers]);
	free(mem);
	worker_publish(rig->worker, rig->matchers[rig->n_matchers++]);
}

/* A gateway-wide capture of everything outer in `slot`, alone. */
static inline void publish_one(struct rig *rig, unsigned slot, bool is_new, uint32_t snap)
{
	rig->data[0] = (struct filter_data){.tracing_flags = TRACE_DEFAULT, .snap_bytes = snap};
	rig->captures[0] = (struct set_source_capture){.slot = slot,
						       .is_new = is_new,
						       .connection = SET_GATEWAY_WIDE,
						       .data = &rig->data[0]};
	rig->source.n_captures = 1;
	publish(rig);
}

static inline void publish_none(struct rig *rig)
{
	rig->source.n_captures = 0;
	publish(rig);
}

static inline void send(struct rig *rig, const struct simple_frame *f, unsigned port, bool inner)
{
	uint8_t buf[FRAME_BYTES_MAX];
	struct pkt p = {.data = buf, .len = frame_write(f, buf), .time_ns = rig->now_ns};

	p.wire_len = p.len;
	worker_burst(rig->worker, &p, 1, port, inner);
	rig->now_ns += 1000;
}

/* Take the next record; false when there is none. */
static inline bool take(struct rig *rig, struct record *record, uint8_t *frame)
{
	struct ring_reader *r = &rig->pair.reader;

	if (ring_available(r) == 0)
		return false;
	memcpy(record, r->data + (r->tail & r->mask), sizeof(*record));
	if (frame != NULL)
		memcpy(frame, r->data + (r->tail & r->mask) + sizeof(*record), record->caplen);
	r->tail += record_bytes(record->caplen);
	ring_release(r);
	return true;
}

static inline void send_segment(struct rig *rig, uint8_t flags, const uint8_t *payload, uint32_t n)
{
	const struct simple_frame f = {.src = 0x0a000002,
				       .dst = GATEWAY,
				       .protocol = 6,
				       .sport = 40000,
				       .dport = 443,
				       .tcp_flags = flags,
				       .payload = payload,
				       .n_payload = n};

	send(rig, &f, 0, false);
}

static inline void send_esp(struct rig *rig)
{
	const struct simple_frame f = {
		.src = 0x0a000003, .dst = GATEWAY, .protocol = 50, .n_payload = 100};

	send(rig, &f, 0, false);
}

#endif
