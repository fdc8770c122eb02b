/* bench_source.h - the ports that the bench measures with.
 *
 * Standard source: a net_ring port whose prebuilt mbufs come back through the port's own tx: nothing is
 * copied, as a NIC's DMA makes no copy.  docs/performance.md
 * More flows than frames: a frame that comes back gets the addresses and ports of the next flow, in
 * place, by the worker: as many buffers as a port has, and any number of flows.  The floor with the same
 * flows pays for that, too.
 * Threads: made by the main thread, used by the one worker.
 */
#ifndef GATECAP_TOOLS_BENCH_SOURCE_H
#define GATECAP_TOOLS_BENCH_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "dataplane/packet.h"
#include "dataplane/rx.h"
#include "tools/bench_frame.h"

struct bench_source {
	struct rx_queue queue;
	struct rx_time time;
	struct clock clock;
	uint16_t device;
	bool puts_back; // net_ring: frames go back through tx; else they are freed
	struct bench_mix mix;
	bool is_readdressed;	      // frames that come back become others
	uint32_t flow, flow_distance; // of the last one; from each to the next
};

/* A net_ring port holding n frames.  0, or -1 and a line on stderr. */
int bench_source_ring(struct bench_source *source, uint32_t n, const struct bench_mix *mix);

/* The port that EAL made of a --vdev. */
int bench_source_device(struct bench_source *source, uint16_t device);

static inline unsigned bench_source_rx(struct bench_source *source, struct pkt *p, unsigned n)
{
	return rx_burst(&source->queue, p, n);
}

/* Give back what the last bench_source_rx() lent, the way the source wants it. */
void bench_source_return(struct bench_source *source);

struct rte_mbuf;

/* Send frames on that came as mbufs. */
void bench_source_send(struct bench_source *source, struct rte_mbuf **mbufs, unsigned n);

#endif
