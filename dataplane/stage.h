/* stage.h - the stages behind classify: match and record.
 *
 * Flow:    classify -> match -> record.  worker.c alone knows the order.
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

/* Set `wanted` of each packet.  Survivors (wanted by some capture) to the front, the rest behind them
 * with verdict NOT_MATCHED.  Inner fragments inherit the verdict of their first through `fragments`.
 */
unsigned match_burst(const struct matcher *matcher, struct fragment_table *fragments, struct pkt *p,
		     unsigned n, struct tally *tally);

struct recorder {
	struct ring_writer ring;
	struct worker_shared *shared;
	uint32_t snap_bytes[1 << CAPTURES_MAX]; // longest snap of each set of captures
	uint16_t generation;
};

/* Copy n packets of one port into the ring, or count them lost.  Publishes nothing. */
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
