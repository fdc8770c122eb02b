/* bench_loop.h - the worker's loop: poll a source for a while, closed or paced by the TSC.
 *
 * Threads: bench_loop() is made for bench_on_worker(); the rest of the struct is read when it is done.
 * Pass:    one burst from the source and back to it; what lies between makes the difference.
 */
#ifndef GATECAP_TOOLS_BENCH_LOOP_H
#define GATECAP_TOOLS_BENCH_LOOP_H

#include "tools/bench.h"
#include "tools/bench_source.h"

struct worker;

enum { BENCH_DESCRIPTORS = 1024 }; // how far a worker of the overload may stay behind the source

struct bench_loop {
	struct bench_source source;
	struct worker *worker;			   // NULL: no gatecap
	unsigned (*pass)(struct bench_loop *loop); // gives the packets received
	unsigned burst;
	double offered_pps; // 0: closed loop
	bool is_pressing;   // what is not fetched in time is lost at the port, as at a NIC
	double seconds;
	const _Atomic uint64_t *n_lost; // or NULL; the loop ends when it is not 0 any more
	uint64_t n_pkts, n_lost_port, busy_cycles, cycles;
};

/* arg: struct bench_loop. */
int bench_loop(void *arg);

/* Receive and give back. */
unsigned bench_pass_floor(struct bench_loop *loop);

/* Receive, settle the burst as an inner port's or an outer one's, give back. */
unsigned bench_pass_outer(struct bench_loop *loop);
unsigned bench_pass_worker(struct bench_loop *loop);

/* What a gateway does with each packet: new MAC addresses, TTL and checksum; without struct pkt. */
unsigned bench_pass_inline(struct bench_loop *loop);

/* The same, and the worker sees the burst first. */
unsigned bench_pass_inline_worker(struct bench_loop *loop);

/* Of a loop that is done. */
double bench_loop_mpps(const struct bench_loop *loop);

/* Cycles a packet; of a paced loop only the passes that had packets. */
double bench_loop_cycles(const struct bench_loop *loop);

#endif
