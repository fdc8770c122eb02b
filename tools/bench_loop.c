/* bench_loop.c - see bench_loop.h.
 *
 * The forwarding of bench_pass_inline() is as little as a router can do with a header: a real gateway
 * does more, and then a share of it is smaller.  TTLs wrap, since the same frames come again.
 */
#include "tools/bench_loop.h"

#include <string.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "dataplane/worker.h"

enum { IDLE_PASSES = 64, TTL = 22, CHECKSUM = 24 };

int bench_loop(void *arg)
{
	struct bench_loop *loop = arg;
	uint64_t hz = rte_get_tsc_hz(), start = rte_rdtsc(), now = start;
	uint64_t end = start + (uint64_t)(loop->seconds * (double)hz);
	double pkts_per_cycle = loop->offered_pps / (double)hz;

	loop->n_pkts = loop->n_lost_port = loop->busy_cycles = 0;
	for (unsigned pass = 0; now < end && !bench_is_interrupted; pass++) {
		uint64_t due = UINT64_MAX, before = now;
		unsigned n;

		if (loop->offered_pps > 0)
			due = (uint64_t)((double)(now - start) * pkts_per_cycle) - loop->n_pkts -
			      loop->n_lost_port;
		if (loop->is_pressing && due > BENCH_DESCRIPTORS)
			loop->n_lost_port += due - BENCH_DESCRIPTORS;
		n = due >= loop->burst ? loop->pass(loop) : 0;
		loop->n_pkts += n;
		if (loop->worker != NULL && (n == 0 || pass % IDLE_PASSES == 0))
			worker_idle(loop->worker, loop->source.time.issued_ns);
		now = rte_rdtsc();
		if (n > 0)
			loop->busy_cycles += now - before;
		if (loop->n_lost != NULL &&
		    atomic_load_explicit(loop->n_lost, memory_order_relaxed) > 0)
			break;
	}
	loop->cycles = now - start;
	return 0;
}

unsigned bench_pass_floor(struct bench_loop *loop)
{
	struct pkt p[BURST_MAX];
	unsigned n = bench_source_rx(&loop->source, p, loop->burst);

	if (n > 0)
		bench_source_return(&loop->source);
	return n;
}

static inline unsigned pass_worker(struct bench_loop *loop, bool is_inner)
{
	struct pkt p[BURST_MAX];
	unsigned n = bench_source_rx(&loop->source, p, loop->burst);

	if (n > 0) {
		worker_burst(loop->worker, p, n, 0, is_inner);
		bench_source_return(&loop->source);
	}
	return n;
}

unsigned bench_pass_worker(struct bench_loop *loop)
{
	return pass_worker(loop, true);
}

unsigned bench_pass_outer(struct bench_loop *loop)
{
	return pass_worker(loop, false);
}

static void forward(struct rte_mbuf **mbufs, unsigned n)
{
	static const uint8_t macs[12] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};

	for (unsigned i = 0; i < n; i++) {
		uint8_t *frame = rte_pktmbuf_mtod(mbufs[i], uint8_t *);
		uint16_t sum;

		memcpy(frame, macs, sizeof(macs));
		memcpy(&sum, frame + CHECKSUM, sizeof(sum));
		frame[TTL]--;
		sum = (uint16_t)(sum + 1 + (sum == UINT16_MAX)); // RFC 1141, in network order
		memcpy(frame + CHECKSUM, &sum, sizeof(sum));
	}
}

unsigned bench_pass_inline(struct bench_loop *loop)
{
	struct rte_mbuf *mbufs[BURST_MAX];
	unsigned n = rte_eth_rx_burst(loop->source.device, 0, mbufs, (uint16_t)loop->burst);

	if (n == 0)
		return 0;
	for (unsigned i = 0; i < n; i++)
		rte_prefetch0(rte_pktmbuf_mtod(mbufs[i], void *));
	forward(mbufs, n);
	bench_source_send(&loop->source, mbufs, n);
	return n;
}

unsigned bench_pass_inline_worker(struct bench_loop *loop)
{
	struct rte_mbuf **mbufs = loop->source.queue.lent;
	struct pkt p[BURST_MAX];
	unsigned n = bench_source_rx(&loop->source, p, loop->burst);

	if (n == 0)
		return 0;
	worker_burst(loop->worker, p, n, 0, true);
	forward(mbufs, n);
	bench_source_send(&loop->source, mbufs, n);
	return n;
}

double bench_loop_mpps(const struct bench_loop *loop)
{
	double seconds = (double)loop->cycles / (double)rte_get_tsc_hz();

	return seconds > 0 ? (double)loop->n_pkts / seconds / 1e6 : 0;
}

double bench_loop_cycles(const struct bench_loop *loop)
{
	uint64_t cycles = loop->offered_pps > 0 ? loop->busy_cycles : loop->cycles;

	return loop->n_pkts > 0 ? (double)cycles / (double)loop->n_pkts : 0;
}
