/* costs.h - cycles of each stage: the TSC is read where one ends, once a burst or batch.
 *
 * Flow:    worker.c and the store say which stage has just ended; what passed since the last border is its.
 *          tools/costs_run.c begins, says the rest and adds up.
 * Threads: each has numbers of its own.
 * Cost:    nothing without -Dcosts=true: every function is empty.  With it some 40 cycles a border, part
 *          of which hides behind the work; tools/costs says how many.
 * Blur:    rdtsc waits for nobody, so a few instructions count with their neighbours; a fence would take
 *          away the overlap of the stages that is to be seen.
 */
#ifndef GATECAP_DATAPLANE_COSTS_H
#define GATECAP_DATAPLANE_COSTS_H

enum cost {
	COST_RX,
	COST_INNER, // class and match of inner packets
	COST_CLASSIFY,
	COST_MATCH, // of outer ones
	COST_RECORD,
	COST_BOOKS,
	COST_RETURN, // of the buffers
	COST_MERGE,
	COST_STORE,
	COST_WRITE, // into the file
	COST_COMMIT,
	COST_COUNT,
};

#ifdef GATECAP_COSTS

#include <stdint.h>
#include <x86intrin.h>

/* Half a millisecond in one stage, for one burst or batch: somebody else had the core meanwhile. */
#define COSTS_STALL 1000000u

struct costs {
	uint64_t border; // when the last stage ended
	uint64_t cycles[COST_COUNT];
	uint64_t n_stalls; // left out
};

extern _Thread_local struct costs costs_here;

/* What passed until now is nobody's. */
static inline void costs_begin(void)
{
	costs_here.border = __rdtsc();
}

/* What passed since the last border was this stage's. */
static inline void costs_end(enum cost stage)
{
	uint64_t now = __rdtsc(), cycles = now - costs_here.border;

	if (__builtin_expect(cycles < COSTS_STALL, 1))
		costs_here.cycles[stage] += cycles;
	else
		costs_here.n_stalls++;
	costs_here.border = now;
}

#else

static inline void costs_end(enum cost stage)
{
	(void)stage;
}

#endif
#endif
