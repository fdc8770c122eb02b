/* ledger_check.c - the slow twin walks all packets of the capture's time beside its file.
 *
 * What was held on the shared port may have been recorded or let go: there the bounds are as wide as that;
 * everywhere else they are one number.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka wants the above first
#include <cmocka.h>

#include "tests/ledger_check.h"

uint64_t ledger_time_of(uint32_t index)
{
	return UINT64_C(5000000000) + (uint64_t)index * STEP_NS;
}

uint32_t ledger_index_of(uint64_t time_ns)
{
	return (uint32_t)((time_ns - ledger_time_of(0)) / STEP_NS);
}

static uint64_t load(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* The store first, `counts`: what is in it is covered by the books that are read after it. */
void ledger_read_books(const struct ledger_log *log, const struct capture *c,
		       const struct store_counts *counts, struct books *b)
{
	memset(b, 0, sizeof(*b));
	for (unsigned port = 0; port < KNOWN_PORTS; port++) {
		struct ledger_input *in = &b->ports[port];

		in->in_file = counts->in_file[port];
		in->overwritten = counts->overwritten[port];
		in->lost_disk = counts->lost_disk[port];
		for (unsigned i = 0; i < WORKERS; i++) {
			const struct slot_counters *s = &log->shared[i]->slots[c->slot][port];
			uint64_t first_ns = load(&s->lost_first_ns),
				 last_ns = load(&s->lost_last_ns);
			struct slot_seen seen = slot_counters_read(s);

			in->received += seen.received;
			in->recorded += seen.recorded;
			in->ring_full += seen.ring_full;
			in->held += seen.held;
			if (first_ns != 0 &&
			    (b->lost_first_ns[port] == 0 || first_ns < b->lost_first_ns[port]))
				b->lost_first_ns[port] = first_ns;
			if (last_ns > b->lost_last_ns[port])
				b->lost_last_ns[port] = last_ns;
		}
	}
	for (unsigned i = 0; i < WORKERS; i++)
		for (unsigned k = 0; k < CLASS_COUNT; k++)
			b->classes[k] += load(&log->shared[i]->slot_classes[c->slot][k]);
}

struct stored_record ledger_record_at(const struct capture *c, const uint8_t *at)
{
	uint32_t header[4];
	struct stored_record r;
	uint64_t wall_ns;

	memcpy(header, at, sizeof(header));
	wall_ns = header[0] * UINT64_C(1000000000) + header[1];
	r = (struct stored_record){ledger_index_of(wall_ns - c->wall_ns), header[2], header[3],
				   at + PCAP_RECORD};
	if (ledger_time_of(r.index) != wall_ns - c->wall_ns)
		r.index = UINT32_MAX; // of no packet
	return r;
}

/* Is it the packet that its time names, and one that the capture wants? */
bool ledger_is_known(const struct ledger_log *log, const struct capture *c,
		     const struct stored_record *r)
{
	uint8_t frame[FRAME_BYTES_MAX];
	uint32_t snap = c->known.data.snap_bytes, len;
	const struct sent *sent;

	if (r->index >= atomic_load(&log->clock))
		return false;
	sent = &log->sent[r->index];
	len = known_frame(r->index, sent, frame);
	return r->wire_len == len && r->caplen == (len < snap ? len : snap) &&
	       memcmp(r->frame, frame, r->caplen) == 0 &&
	       known_is_wanted(&log->config, &c->known, sent);
}

uint8_t *ledger_read_view(struct store_view *view)
{
	uint64_t n = store_view_bytes(view);
	uint8_t *bytes = malloc(n);

	if (bytes != NULL && store_view_read(view, bytes, n) != 0) {
		free(bytes);
		bytes = NULL;
	}
	return bytes;
}

/* ---- what must have come to pass ---- */

struct expected {
	uint64_t received[KNOWN_PORTS], matched[KNOWN_PORTS], undecided[KNOWN_PORTS];
	uint64_t stored[KNOWN_PORTS], missing[KNOWN_PORTS];
	uint32_t first_missing[KNOWN_PORTS], last_missing[KNOWN_PORTS];
	uint64_t classes[CLASS_COUNT];
};

static bool is_of(const struct capture *c, const struct sent *sent)
{
	return sent->generation >= c->first_generation && sent->generation < c->end_generation;
}

/* One packet beside the next record of the file, which it is or is not. */
static void expect_packet(const struct ledger_log *log, const struct capture *c, uint32_t index,
			  bool is_stored, struct expected *e)
{
	const struct sent *sent = &log->sent[index];
	unsigned port = sent->port;

	e->received[port]++;
	e->classes[sent->class_]++;
	if (is_stored)
		e->stored[port]++;
	if (!known_is_wanted(&log->config, &c->known, sent))
		return;
	e->matched[port]++;
	e->undecided[port] += sent->is_undecided;
	if (is_stored)
		return;
	if (e->missing[port]++ == 0)
		e->first_missing[port] = index;
	e->last_missing[port] = index;
}

/* Walk the packets and the file together: each record must be one of them, in order, none twice. */
static void walk(const struct ledger_log *log, const struct capture *c, const uint8_t *bytes,
		 uint64_t n, struct expected *e)
{
	uint64_t at = PCAP_HEADER_BYTES;

	memset(e, 0, sizeof(*e));
	for (uint32_t i = c->begun; i < c->end; i++) {
		struct stored_record r = {.index = UINT32_MAX};

		// In force means in force: between the two answers no packet was judged by another set.
		if (i >= c->applied && i < c->end_begun && !is_of(c, &log->sent[i]))
			fail_msg("packet %u of generation %llu was judged by another set", i,
				 (unsigned long long)log->sent[i].generation);
		if (at < n)
			r = ledger_record_at(c, bytes + at);
		if (r.index == i) {
			at += PCAP_RECORD + r.caplen;
			if (!is_of(c, &log->sent[i]) || !ledger_is_known(log, c, &r))
				fail_msg("record %u is not the capture's", i);
		}
		if (is_of(c, &log->sent[i]))
			expect_packet(log, c, i, r.index == i, e);
	}
	assert_int_equal(at, n); // else: one twice, out of order, or of before or after
}

static void check_port(const struct expected *e, const struct books *b, unsigned port)
{
	const struct ledger_input *in = &b->ports[port];
	struct ledger ledger = ledger_make(in);
	uint64_t settled = in->recorded + in->ring_full;

	assert_int_equal(in->received, e->received[port]);
	assert_int_equal(in->recorded, in->in_file + in->overwritten);
	assert_int_equal(in->in_file, e->stored[port]);
	assert_int_equal(in->lost_disk, 0);
	assert_true(ledger_balances(&ledger));
	assert_int_equal(ledger.in_flight, 0);
	// What was held and let go is wanted by nobody in the end: known only of the plain ports.
	assert_in_range(settled, e->matched[port] - e->undecided[port], e->matched[port]);
	assert_in_range(ledger.not_matched, e->received[port] - e->matched[port],
			e->received[port] - e->matched[port] + e->undecided[port]);
	if (in->overwritten > 0)
		return;
	assert_in_range(e->missing[port], in->ring_full, in->ring_full + e->undecided[port]);
	assert_true((in->ring_full == 0) == (b->lost_first_ns[port] == 0));
	if (in->ring_full == 0 || e->undecided[port] > 0)
		return;
	assert_int_equal(b->lost_first_ns[port], ledger_time_of(e->first_missing[port]));
	assert_int_equal(b->lost_last_ns[port], ledger_time_of(e->last_missing[port]));
}

static void check_classes(const struct expected *e, const struct books *b)
{
	static const enum pkt_class exact[] = {CLASS_ESP, CLASS_IKE, CLASS_INNER};

	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(b->classes[exact[i]], e->classes[exact[i]]);
	assert_true(b->classes[CLASS_OVPN] >= e->classes[CLASS_OVPN]);
	assert_int_equal(b->classes[CLASS_OVPN] + b->classes[CLASS_OTHER],
			 e->classes[CLASS_OVPN] + e->classes[CLASS_OTHER]);
}

/* Everything that the capture will ever get is in its store. */
void ledger_verify(const struct ledger_log *log, const struct capture *c, struct ledger_sums *sums)
{
	struct error err = {0};
	struct store_view *view = store_view_final(c->store, &err);
	struct expected e;
	struct books b;
	uint8_t *bytes;

	assert_non_null(view);
	bytes = ledger_read_view(view);
	assert_non_null(bytes);
	ledger_read_books(log, c, store_view_counts(view), &b);
	walk(log, c, bytes, store_view_bytes(view), &e);
	for (unsigned port = 0; port < KNOWN_PORTS; port++) {
		check_port(&e, &b, port);
		sums->n_recorded += b.ports[port].recorded;
		sums->n_lost += b.ports[port].ring_full;
		sums->n_overwritten += b.ports[port].overwritten;
	}
	check_classes(&e, &b);
	sums->n_verified++;
	free(bytes);
	store_view_close(view);
}
