/* audit.h - a worker's second set of books, which must agree with the shared ones after every burst.
 *
 * Flow:    worker.c tells it what comes, what is held and what is let go; audit_after() asserts.
 * Threads: the owning worker.
 * Cost:    nothing without -Daudit=true: the struct is empty and every function, too.
 * Rules:   of each (slot, port): received >= recorded + ring_full + held, and `held` is what was held for
 *          it and not let go, also between bursts.  A burst of n packets settles at most n for a slot, on
 *          its own port and nowhere else, each at most once.  Of each slot: the sum of its classes and
 *          of what is held = what it received.
 * Proof:   tests/test_ledger.c, tests/test_worker.c (built with asserts; broken on purpose, they fail)
 */
#ifndef GATECAP_DATAPLANE_AUDIT_H
#define GATECAP_DATAPLANE_AUDIT_H

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "dataplane/shared.h"
#include "dataplane/verdict.h"

#ifdef GATECAP_AUDIT

struct audit_slot {
	uint64_t n_received;	    // on all ports since the slot's owner started
	uint64_t n_held;	    // of these: still without a class
	uint64_t wanted[PORTS_MAX]; // of those, by port: this slot wants them if they are OpenVPN
};

struct audit {
	struct audit_slot slots[CAPTURES_MAX];
};

/* Where the books stood before a burst. */
struct audit_mark {
	uint64_t recorded[CAPTURES_MAX], ring_full[CAPTURES_MAX], wanted[CAPTURES_MAX];
	uint64_t n_recorded, n_ring_full; // verdicts
};

static inline uint64_t audit_load(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static inline void audit_start(struct audit *a, unsigned slot)
{
	memset(&a->slots[slot], 0, sizeof(a->slots[slot]));
}

/* Both books agree on what is held. */
static inline void audit_held(const struct audit *a, const struct worker_shared *shared)
{
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		for (unsigned port = 0; port < PORTS_MAX; port++)
			assert(audit_load(&shared->slots[slot][port].held) ==
			       a->slots[slot].wanted[port]);
}

/* Call when the segment is in `held`. */
static inline void audit_hold(struct audit *a, const struct worker_shared *shared, uint8_t running,
			      uint8_t wanted, unsigned port)
{
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		a->slots[slot].n_held += running >> slot & 1;
		a->slots[slot].wanted[port] += wanted >> slot & 1;
	}
	audit_held(a, shared);
}

/* Call when the segment is out of `held`, and before it is recorded or dropped. */
static inline void audit_let_go(struct audit *a, const struct worker_shared *shared,
				uint8_t running, uint8_t wanted, unsigned port)
{
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		assert(a->slots[slot].n_held >= (running >> slot & 1));
		assert(a->slots[slot].wanted[port] >= (wanted >> slot & 1));
		a->slots[slot].n_held -= running >> slot & 1;
		a->slots[slot].wanted[port] -= wanted >> slot & 1;
	}
	audit_held(a, shared);
}

/* What a slot received on a port covers what became of it. */
static inline void audit_check(const struct worker_shared *shared, uint8_t slots, unsigned port)
{
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		const struct slot_counters *c = &shared->slots[slot][port];

		assert(!(slots >> slot & 1) ||
		       audit_load(&c->received) >= audit_load(&c->recorded) +
							   audit_load(&c->ring_full) +
							   audit_load(&c->held));
	}
}

static inline struct audit_mark audit_before(const struct audit *a,
					     const struct worker_shared *shared,
					     const struct tally *tally, unsigned port)
{
	struct audit_mark mark = {.n_recorded = tally->verdicts[VERDICT_RECORDED],
				  .n_ring_full = tally->verdicts[VERDICT_RING_FULL]};

	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		mark.recorded[slot] = audit_load(&shared->slots[slot][port].recorded);
		mark.ring_full[slot] = audit_load(&shared->slots[slot][port].ring_full);
		mark.wanted[slot] = a->slots[slot].wanted[port];
	}
	return mark;
}

/* `n` packets came for the slots on the port, and n_inner[slot] that were inside them. */
static inline void audit_after(struct audit *a, const struct audit_mark *mark,
			       const struct worker_shared *shared, const struct tally *tally,
			       uint8_t slots, unsigned port, unsigned n,
			       const uint32_t n_inner[CAPTURES_MAX])
{
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		const struct slot_counters *c = &shared->slots[slot][port];
		uint64_t recorded = audit_load(&c->recorded) - mark->recorded[slot];
		uint64_t ring_full = audit_load(&c->ring_full) - mark->ring_full[slot];
		unsigned n_came = slots >> slot & 1 ? n + n_inner[slot] : 0;
		uint64_t n_class = 0;

		a->slots[slot].n_received += n_came;
		assert(recorded + ring_full + a->slots[slot].wanted[port] <=
		       mark->wanted[slot] + n_came);
		assert(recorded <= tally->verdicts[VERDICT_RECORDED] - mark->n_recorded);
		assert(ring_full <= tally->verdicts[VERDICT_RING_FULL] - mark->n_ring_full);
		for (unsigned i = 0; i < CLASS_COUNT; i++)
			n_class += audit_load(&shared->slot_classes[slot][i]);
		assert(n_class + a->slots[slot].n_held == a->slots[slot].n_received);
	}
	audit_held(a, shared);
	audit_check(shared, slots, port);
}

#else

struct audit {
};
struct audit_mark {
};

static inline void audit_start(struct audit *a, unsigned slot)
{
	(void)a, (void)slot;
}

static inline void audit_hold(struct audit *a, const struct worker_shared *shared, uint8_t running,
			      uint8_t wanted, unsigned port)
{
	(void)a, (void)shared, (void)running, (void)wanted, (void)port;
}

static inline void audit_let_go(struct audit *a, const struct worker_shared *shared,
				uint8_t running, uint8_t wanted, unsigned port)
{
	(void)a, (void)shared, (void)running, (void)wanted, (void)port;
}

static inline void audit_check(const struct worker_shared *shared, uint8_t slots, unsigned port)
{
	(void)shared, (void)slots, (void)port;
}

static inline struct audit_mark audit_before(const struct audit *a,
					     const struct worker_shared *shared,
					     const struct tally *tally, unsigned port)
{
	(void)a, (void)shared, (void)tally, (void)port;
	return (struct audit_mark){};
}

static inline void audit_after(struct audit *a, const struct audit_mark *mark,
			       const struct worker_shared *shared, const struct tally *tally,
			       uint8_t slots, unsigned port, unsigned n,
			       const uint32_t n_inner[CAPTURES_MAX])
{
	(void)a, (void)mark, (void)shared, (void)tally, (void)slots, (void)port, (void)n,
		(void)n_inner;
}

#endif
#endif
