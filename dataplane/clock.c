/* clock.c - measure the TSC against CLOCK_MONOTONIC and follow it without going back.
 *
 * rte_get_tsc_hz() was refused: it is a frequency at start, without an offset and without what NTP
 * does to CLOCK_MONOTONIC later; after a day of 20 ppm that is 1.7 s.
 */
#include "dataplane/clock.h"

#include <time.h>

enum {
	CALIBRATE_NS = 20 * 1000 * 1000,
	STEP_NS = 1000 * 1000, // further behind than this: set forward at once
	SLEW_SHIFT = 11,       // at most 1/2048, 488 ppm, faster or slower than measured
	SECOND_NS = 1000 * 1000 * 1000,
};

static uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

/* Both clocks at one moment: of several tries the one with the least time between the TSC reads. */
static void read_pair(uint64_t *tsc, uint64_t *ns)
{
	uint64_t best = UINT64_MAX;

	*tsc = *ns = 0;
	for (unsigned i = 0; i < 8; i++) {
		uint64_t before = __rdtsc();
		uint64_t now = monotonic_ns();
		uint64_t span = __rdtsc() - before;

		if (span < best) {
			best = span;
			*tsc = before + span / 2;
			*ns = now;
		}
	}
}

static uint64_t measure_rate(const struct clock *clock, uint64_t tsc, uint64_t ns)
{
	return (uint64_t)(((unsigned __int128)(ns - clock->ns) << 32) / (tsc - clock->tsc));
}

static void publish(struct clock *clock, struct clock_params params)
{
	struct clock_params *slot = &clock->slots[clock->next];

	clock->next = (clock->next + 1) % CLOCK_SLOTS;
	*slot = params;
	// K1 pairs with K2 in clock_now_ns().
	atomic_store_explicit(&clock->params, slot, memory_order_release);
}

void clock_open(struct clock *clock)
{
	const struct timespec wait = {.tv_nsec = CALIBRATE_NS};
	uint64_t tsc, ns;

	clock->next = 0;
	read_pair(&clock->tsc, &clock->ns);
	do {
		nanosleep(&wait, NULL); // a signal may cut it short
		read_pair(&tsc, &ns);
	} while (ns - clock->ns < CALIBRATE_NS / 2);
	clock->rate = measure_rate(clock, tsc, ns);
	publish(clock, (struct clock_params){.tsc0 = tsc, .ns0 = ns, .mult = clock->rate});
}

struct clock_params clock_follow(const struct clock_params *old, uint64_t tsc, uint64_t mono_ns,
				 uint64_t rate)
{
	uint64_t ours = clock_scale(old, tsc);
	int64_t behind = (int64_t)(mono_ns - ours);
	uint64_t slew_max = rate >> SLEW_SHIFT;
	uint64_t distance = (uint64_t)(behind < 0 ? -behind : behind);
	uint64_t slew;

	if (behind > STEP_NS)
		return (struct clock_params){.tsc0 = tsc, .ns0 = mono_ns, .mult = rate};
	// Make up for the distance within the second to come, if the limit allows.
	slew = (uint64_t)((unsigned __int128)rate * distance / SECOND_NS);
	if (slew > slew_max)
		slew = slew_max;
	return (struct clock_params){
		.tsc0 = tsc, .ns0 = ours, .mult = behind < 0 ? rate - slew : rate + slew};
}

void clock_anchor(struct clock *clock)
{
	const struct clock_params *old = atomic_load_explicit(&clock->params, memory_order_relaxed);
	uint64_t tsc, ns, rate;

	read_pair(&tsc, &ns);
	rate = measure_rate(clock, tsc, ns);
	/* A pause of the machine stops one clock and not the other: measure anew from here. */
	if (rate > clock->rate + (clock->rate >> 12) || rate < clock->rate - (clock->rate >> 12)) {
		clock->tsc = tsc;
		clock->ns = ns;
		publish(clock, clock_follow(old, tsc, ns, clock->rate));
		return;
	}
	clock->rate = rate;
	publish(clock, clock_follow(old, tsc, ns, rate));
}
