/* stage.h - the stages beside and behind classify.
 *
 * Flow:    outer ports: classify -> match, or esp (esp.h) -> record; inner ports: inner -> record.  worker.c alone
 *          knows the order.
 * Threads: the owning worker.
 */
#ifndef GATECAP_DATAPLANE_STAGE_H
#define GATECAP_DATAPLANE_STAGE_H

#include <stdint.h>

#include "dataplane/fragment.h"
#include "dataplane/packet.h"
#include "dataplane/ring.h"
#include "dataplane/shared.h"
#include "dataplane/verdict.h"
#include "filters/matcher.h"

/* What the matcher looks at; valid as long as the headers. */
static inline struct match_key match_key_of(const struct headers *h)
{
	return (struct match_key){
		.src = h->src,
		.dst = h->dst,
		.family = h->family,
		.protocol = h->protocol,
		.tcp_flags = h->tcp_flags,
		.has_ports = h->flags & PKT_HAS_PORTS,
		.has_tcp_flags = h->flags & PKT_HAS_TCP_FLAGS,
		.sport = h->sport,
		.dport = h->dport,
	};
}

/* Set `wanted` of each outer packet; each has a class.  Survivors (wanted by some capture) to the front;
 * the rest gets verdict NOT_MATCHED.
 */
unsigned match_outer_burst(const struct matcher *matcher, struct pkt *p, unsigned n,
			   struct tally *tally);

/* What inner_burst() needs, all borrowed. */
struct inner_stage {
	const struct matcher *matcher;
	struct fragment_table *fragments; // later ones inherit the verdict of their first
	struct tally *tally;
	uint64_t *n_class; // counted by class
	uint8_t port;	   // that the frames come from
};

/* Class, port and `wanted` of n <= BURST_MAX frames of an inner port: every IP packet is INNER, the rest is
 * OTHER or MALFORMED.  Survivors to the front, in order; the rest gets its verdicts.
 * Proof: tests/test_inner.c against headers_parse() and match_inner().
 */
unsigned inner_burst(const struct inner_stage *stage, struct pkt *p, unsigned n);

enum { RECORD_MAX = 3 * BURST_MAX }; // a burst, and what was inside it

struct recorder {
	struct ring_writer ring;
	struct worker_shared *shared;
	uint32_t snap_bytes[1 << CAPTURES_MAX]; // longest snap of each set of captures
	uint16_t generation;
};

/* Copy n <= RECORD_MAX packets of one port into the ring, or count them lost.  Publishes nothing. */
void record_burst(struct recorder *recorder, const struct pkt *p, unsigned n, struct tally *tally);

/* The counters of a capture slot on a port: only their worker writes them, so no locked add. */
static inline void counter_add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/* The same for what became of packets that were counted as received, or held, before.  B1 pairs with B2 in
 * slot_counters_read(): who sees these sees `received` cover them, and `held` without them.
 */
static inline void counter_settle(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_release);
}

#endif
