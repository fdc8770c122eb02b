/* record.c - the one copy.
 *
 * How: a record is a 24-byte header and the frame cut to the longest snap that its captures want.
 * Counting: a burst's captures are added up in one 64-bit word, eight bits a slot, and spread to the shared counters once.
 */
#include "dataplane/stage.h"

#include <stddef.h>
#include <string.h>

#include "dataplane/record.h"

enum { PREFETCH_BYTES = 2048 }; // 5 % more packets than without, 2 % more than with 512

static_assert(RECORD_MAX < 256, "lanes of eight bits count a burst");
static_assert(CAPTURES_MAX == 5, "lanes_of has 32 rows of five");
static_assert((int)PKT_LATE == (int)RECORD_LATE && PKT_LATE == 1 &&
		      offsetof(struct record, captures) == 16 &&
		      offsetof(struct record, port) == 17 && offsetof(struct record, flags) == 18 &&
		      offsetof(struct record, class_) == 19 &&
		      offsetof(struct record, caplen) == 12 &&
		      offsetof(struct record, generation) == 14,
	      "a record's words are put together from a packet's");

#define LANE(captures, slot) ((uint64_t)((captures) >> (slot)&1) << (8 * (slot)))
#define LANES(c)	     (LANE(c, 0) | LANE(c, 1) | LANE(c, 2) | LANE(c, 3) | LANE(c, 4))
#define LANES_4(c)	     LANES(c), LANES((c) + 1), LANES((c) + 2), LANES((c) + 3)

/* Of each set of captures: a one in the byte of each slot. */
static const uint64_t lanes_of[1 << CAPTURES_MAX] = {
	LANES_4(0),  LANES_4(4),  LANES_4(8),  LANES_4(12),
	LANES_4(16), LANES_4(20), LANES_4(24), LANES_4(28),
};

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

static inline void store_word(uint8_t *at, uint64_t word)
{
	memcpy(at, &word, sizeof(word));
}

/* Word by word and in place: a struct put together on the stack and copied from there waits for its narrow
 * stores, 20 cycles a packet.
 */
static inline void write_record(uint8_t *at, uint64_t generation_word, const struct pkt *p,
				uint32_t caplen)
{
	store_word(at, p->time_ns);
	store_word(at + 8, p->wire_len | (uint64_t)caplen << 32 | generation_word);
	store_word(at + 16, p->fate);
	// The ring is longer than the caches: ask for the lines of the 20 records ahead now.
	__builtin_prefetch(at + PREFETCH_BYTES, 1);
	__builtin_prefetch(at + PREFETCH_BYTES + CACHE_LINE_BYTES, 1);
	record_copy(at + sizeof(struct record), p->data, caplen);
}

/* The ring is full up to `head`, as far as we knew: are there n bytes after all? */
static __attribute__((noinline)) bool look_for_room(struct ring_writer *ring, uint64_t head,
						    uint64_t n)
{
	ring->head = head;
	return ring_reload_tail(ring, n);
}

void record_burst(struct recorder *r, const struct pkt *p, unsigned n, struct tally *tally)
{
	const uint64_t generation_word = (uint64_t)r->generation << 48, mask = r->ring.mask;
	uint8_t *data = r->ring.data;
	uint64_t head = r->ring.head, limit = r->ring.tail + r->ring.size, lanes = 0;
	unsigned n_lost = 0, n_late = 0;

	for (unsigned i = 0; i < n; i++) {
		uint32_t snap = r->snap_bytes[p[i].wanted];
		uint32_t caplen = p[i].len < snap ? p[i].len : snap;
		uint64_t next = head + record_bytes(caplen);

		if (__builtin_expect((int64_t)(limit - next) < 0, 0)) {
			if (!look_for_room(&r->ring, head, next - head)) {
				count_lost(r, &p[i]);
				n_lost++;
				continue;
			}
			limit = r->ring.tail + r->ring.size;
		}
		write_record(data + (head & mask), generation_word, &p[i], caplen);
		head = next;
		lanes += lanes_of[p[i].wanted];
		n_late += p[i].flags;
	}
	r->ring.head = head;
	r->ring.n_late += n_late;
	if (n > n_lost)
		count_recorded(r, lanes, p[0].port);
	tally->verdicts[VERDICT_RECORDED] += n - n_lost;
	tally->verdicts[VERDICT_RING_FULL] += n_lost;
}
