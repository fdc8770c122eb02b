/* bench_source.h - the ports that the bench measures with.
 *
 * Standard source: a net_ring port whose prebuilt mbufs come back through the port's own tx: nothing is
 * copied, as a NIC's DMA makes no copy.  docs/performance.md
 * Threads: made by the main thread, used by the one worker.
 */
#ifndef GATECAP_TOOLS_BENCH_SOURCE_H
#define GATECAP_TOOLS_BENCH_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "dataplane/packet.h"
#include "dataplane/rx.h"

struct bench_source {
	struct rx_queue queue;
	struct rx_time time;
	struct clock clock;
	uint16_t device;
	bool puts_back; // net_ring: frames go back through tx; else they are freed
};

enum { BENCH_FLOWS = 4096, BENCH_FRAME_64 = 60, BENCH_FRAME_BYTES_MAX = 1514 };

/* Frame i of the mix (all 60 bytes, or IMIX: 7 x 60, 4 x 570, 1 x 1514): Ethernet, IPv4, TCP with ACK;
 * BENCH_FLOWS distinct five-tuples, 10.1.x.y to 10.2.x.y.  Gives its length without FCS.
 */
uint32_t bench_frame(uint8_t frame[BENCH_FRAME_BYTES_MAX], uint32_t i, bool is_imix);

/* A net_ring port holding n frames.  0, or -1 and a line on stderr. */
int bench_source_ring(struct bench_source *source, uint32_t n, bool is_imix);

/* The port that EAL made of a --vdev. */
int bench_source_device(struct bench_source *source, uint16_t device);

static inline unsigned bench_source_rx(struct bench_source *source, struct pkt *p, unsigned n)
{
	return rx_burst(&source->queue, p, n);
}

/* Give n frames back, the way the source wants it. */
void bench_source_return(struct bench_source *source);

#endif
