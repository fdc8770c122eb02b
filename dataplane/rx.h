/* rx.h - bursts of packets from any port: a DPDK device, a kernel interface, a played capture file.
 *
 * Flow:     NIC, AF_XDP, EAL vdev, packet socket, file -> rx_burst() -> worker_burst() -> rx_free()
 * Threads:  rx_open, rx_close, rx_play, rx_read_ports: the main thread.
 *           rx_burst, rx_free: the queue's worker, no other.
 * Memory:   rx_burst lends frames; each is the worker's until it comes back in rx_free, all of a
 *           burst at once and before the next burst of that queue.
 * Segments: of an mbuf of several segments only the first segment's bytes are readable (len); the
 *           whole length is wire_len.  Only if the first is shorter than RX_FIRST_SEGMENT_MIN they are
 *           moved together, as far as it has room.
 * Queues:   RSS by addresses only, with a symmetric key, where the device can; packet sockets take
 *           their share by a hash of the addresses, too.
 * Time:     of a device's burst: one clock read, and 1 ns more for each packet after.  Of a packet
 *           socket's frame: the kernel's stamp.  Never before a time that this worker has given out or
 *           promised (struct rx_time).
 * Bench:    rx_queue_init_device() on any port of EAL; no struct rx is needed.
 * Proof:    tests/test_dataplane.py
 */
#ifndef GATECAP_DATAPLANE_RX_H
#define GATECAP_DATAPLANE_RX_H

#include <stdbool.h>
#include <stdint.h>

#include "dataplane/args.h"
#include "dataplane/clock.h"
#include "dataplane/packet.h"
#include "dataplane/shared.h"
#include "filters/error.h"

enum { RX_FIRST_SEGMENT_MIN = 256 };

/* Time as one worker has given it out.  Writer: that worker only. */
struct rx_time {
	const struct clock *clock;
	uint64_t now_ns;    // of this pass: decides which played frames are due
	uint64_t issued_ns; // no packet may have an earlier time any more
	uint64_t lag_ns; // a promise stays this far behind the clock: frames come with older times
};

struct afpacket_source;
struct pcap_source;
struct rte_mbuf;
struct rx;

/* What a worker needs to poll one queue.  Plain memory of the caller. */
struct rx_queue {
	struct rx_time *time;
	struct pcap_source *pcap;	  // or NULL
	struct afpacket_source *afpacket; // or NULL; both NULL: a device
	uint16_t device, queue;		  // of EAL; queue also of the others
	uint8_t port;			  // index of the capture port
	bool is_inner;
	uint16_t n_lent; // by a device
	struct rte_mbuf *lent[BURST_MAX];
};

/* Open all ports of the command line; EAL is up.  Gives *out, or -errno and a sentence. */
int rx_open(const struct args *args, struct rx **out, struct error *err);

/* Stop and close all; removes our XDP programs. */
void rx_close(struct rx *rx);

/* Raises time->lag_ns to what the queue needs. */
void rx_queue_init(struct rx_queue *q, const struct rx *rx, unsigned port, unsigned queue,
		   struct rx_time *time);
void rx_queue_init_device(struct rx_queue *q, uint16_t device, uint16_t queue,
			  struct rx_time *time);

/* Start what waits: the ports with start=boot, or all. */
void rx_play(struct rx *rx, bool is_capture_running, uint64_t start_ns);

/* Read the devices' losses and which files are played out into the shared block. */
void rx_read_ports(struct rx *rx, struct port_shared *ports);

/* Fill the first block of up to max (<= BURST_MAX) packets. */
unsigned rx_burst(struct rx_queue *q, struct pkt *p, unsigned max);

/* Give back what the last rx_burst() lent. */
void rx_free(struct rx_queue *q);

#endif
