/* record.c - the one copy.
 *
 * How: a record is a 24-byte header and the frame cut to the longest snap that its captures want.
 * Counting: a burst's captures are added up in one 64-bit word, eight bits a slot (a burst has at most
 * 64 packets), and spread to the shared counters once.
 */
#include "dataplane/stage.h"

#include <string.h>

#include "dataplane/record.h"

enum { PREFETCH_BYTES = 2048 }; // 5 % more packets than without, 2 % more than with 512

static_assert(BURST_MAX < 256, "lanes of eight bits count a burst");
static_assert(CAPTURES_MAX <= 8, "a word has eight lanes");

/* Bit i of captures becomes a one in byte i. */
static inline uint64_t lanes_of(uint8_t captures)
{
	uint64_t spread = captures * UINT64_C(0x0101010101010101) & UINT64_C(0x8040201008040201);

	return (spread + UINT64_C(0x7f7f7f7f7f7f7f7f)) >> 7 & UINT64_C(0x0101010101010101);
}

static void count_recorded(struct recorder *r, uint64_t lanes, unsigned port)
{
	for (unsigned slot = 0; lanes != 0; slot++, lanes >>= 8)
		if (lanes & 0xff)
			counter_settle(&r->shared->slots[slot][port].recorded, lanes & 0xff);
}

/* A late packet may be lost after a younger one. */
static void count_lost(struct recorder *r, const struct pkt *p)
{
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		struct slot_counters *c = &r->shared->slots[slot][p->port];
		uint64_t first_ns, last_ns;

		if (!(p->wanted >> slot & 1))
			continue;
		counter_settle(&c->ring_full, 1);
		first_ns = atomic_load_explicit(&c->lost_first_ns, memory_order_relaxed);
		last_ns = atomic_load_explicit(&c->lost_last_ns, memory_order_relaxed);
		if (first_ns == 0 || p->time_ns < first_ns)
			atomic_store_explicit(&c->lost_first_ns, p->time_ns, memory_order_relaxed);
		if (p->time_ns > last_ns)
			atomic_store_explicit(&c->lost_last_ns, p->time_ns, memory_order_relaxed);
	}
}

static inline bool push(struct recorder *r, const struct pkt *p)
{
	uint32_t snap = r->snap_bytes[p->wanted];
	uint32_t caplen = p->len < snap ? p->len : snap;
	uint64_t bytes = record_bytes(caplen);
	struct record *record = (struct record *)ring_reserve(&r->ring, bytes);

	if (__builtin_expect(record == NULL, 0))
		return false;
	// In place, field by field: a struct put together on the stack and copied from there waits
	// for its narrow stores, 20 cycles a packet.
	record->time_ns = p->time_ns;
	record->wire_len = p->wire_len;
	record->caplen = (uint16_t)caplen;
	record->generation = r->generation;
	record->captures = p->wanted;
	record->port = p->port;
	record->flags = p->flags & PKT_LATE ? RECORD_LATE : 0;
	record->class_ = p->class_;
	record->reserved = 0;
	// The ring is longer than the caches: ask for the lines of the 20 records ahead now.
	__builtin_prefetch((uint8_t *)record + PREFETCH_BYTES, 1);
	__builtin_prefetch((uint8_t *)record + PREFETCH_BYTES + CACHE_LINE_BYTES, 1);
	record_copy((uint8_t *)(record + 1), p->data, caplen);
	ring_advance(&r->ring, bytes);
	r->ring.n_late += (p->flags & PKT_LATE) != 0;
	return true;
}

void record_burst(struct recorder *r, const struct pkt *p, unsigned n, struct tally *tally)
{
	uint64_t lanes = 0;
	unsigned n_recorded = 0;

	for (unsigned i = 0; i < n; i++) {
		if (push(r, &p[i])) {
			lanes += lanes_of(p[i].wanted);
			n_recorded++;
		} else {
			count_lost(r, &p[i]);
		}
	}
	if (n_recorded > 0)
		count_recorded(r, lanes, p[0].port);
	tally->verdicts[VERDICT_RECORDED] += n_recorded;
	tally->verdicts[VERDICT_RING_FULL] += n - n_recorded;
}
