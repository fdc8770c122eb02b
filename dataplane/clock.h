/* clock.h - the dataplane's timeline: CLOCK_MONOTONIC in ns, read from the TSC.
 *
 * Why:     a burst needs one time; clock_gettime() costs about 25 ns, the TSC about 10.
 * Threads: clock_open(), clock_anchor(): the main thread.  clock_now_ns(): any thread.
 * Memory:  struct clock is the caller's; parameters in use are never edited: each anchor fills the
 *          next of CLOCK_SLOTS slots and publishes its address.  A slot is used again after
 *          CLOCK_SLOTS anchors, one a second; a worker silent for 2 s ends the process (loop.h), so
 *          no reader can still be inside an old slot.
 * Time:    follows CLOCK_MONOTONIC by rate, not by steps back: what is ahead is slowed down, what is
 *          behind is sped up, and only what is more than 1 ms behind (a paused machine) is set forward.
 * Order:   one thread that reads twice never sees time go back by more than the slewing of the moment
 *          between (< 1 ns a us); whoever needs it exact keeps the largest value, as rx.h does.
 * Proof:   tests/test_clock.c
 */
#ifndef GATECAP_DATAPLANE_CLOCK_H
#define GATECAP_DATAPLANE_CLOCK_H

#include <stdatomic.h>
#include <stdint.h>
#include <x86intrin.h>

enum { CLOCK_SLOTS = 16 };

/* ns = ns0 + (tsc - tsc0) * mult / 2^32 */
struct clock_params {
	uint64_t tsc0, ns0;
	uint64_t mult;
};

struct clock {
	const struct clock_params *_Atomic params; // in use
	struct clock_params slots[CLOCK_SLOTS];
	unsigned next;	  // slot to fill
	uint64_t rate;	  // ns a tick, times 2^32: measured
	uint64_t tsc, ns; // of the first measurement: the rate gets better with time
};

/* Time at a TSC value; before tsc0 it is ns0, never less. */
static inline uint64_t clock_scale(const struct clock_params *params, uint64_t tsc)
{
	uint64_t delta = tsc - params->tsc0;

	if (__builtin_expect((int64_t)delta < 0, 0))
		return params->ns0; // a core's TSC a few ticks behind the anchor's
	return params->ns0 + (uint64_t)(((unsigned __int128)delta * params->mult) >> 32);
}

static inline uint64_t clock_now_ns(const struct clock *clock)
{
	// K2 pairs with K1 in clock_anchor(): the slot is filled before its address is seen.
	const struct clock_params *params =
		atomic_load_explicit(&clock->params, memory_order_acquire);

	return clock_scale(params, __rdtsc());
}

/* Measure the rate (takes 20 ms) and start the timeline. */
void clock_open(struct clock *clock);

/* Follow CLOCK_MONOTONIC; about once a second. */
void clock_anchor(struct clock *clock);

/* The arithmetic of clock_anchor(): the parameters that follow `old` at `tsc`, when CLOCK_MONOTONIC
 * says mono_ns and one tick is rate / 2^32 ns.
 */
struct clock_params clock_follow(const struct clock_params *old, uint64_t tsc, uint64_t mono_ns,
				 uint64_t rate);

#endif
