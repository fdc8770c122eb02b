/* pcap_source.h - a capture file that is played as if it came from the wire.
 *
 * Flow:    capture_file.h -> memory -> pcap_source_burst() -> worker
 * Threads: open, start, is_done, close: the main thread.  burst: queue i's own worker, no other.
 * Memory:  the whole file is read at open into one block (at most PCAP_SOURCE_BYTES_MAX); bursts lend
 *          pointers into it, there is nothing to free.
 * Queues:  a frame goes to the queue that a symmetric hash of its IP addresses names, so that both
 *          directions of a flow and all fragments of a packet meet on one worker.  What is not IP: 0.
 * Time:    paced: frame i is due, and carries, start + (t_i - t_0), with times that go back in the
 *          file held at the latest before.  fast: due at once, the time is the burst's.
 *          Loop k starts one mean gap (at least 1 us) after the last frame of loop k - 1.
 * Ends:    is_done says yes only after the worker came back for more and found nothing, which is
 *          after it published what it recorded.
 * Proof:   tests/test_pcap_source.c
 */
#ifndef GATECAP_DATAPLANE_PCAP_SOURCE_H
#define GATECAP_DATAPLANE_PCAP_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "dataplane/packet.h"
#include "filters/error.h"

struct pcap_source;

#define PCAP_SOURCE_BYTES_MAX (UINT64_C(1) << 30)

struct pcap_source_options {
	const char *path;  // borrowed for the call; "-" is standard input
	unsigned n_queues; // 1 .. WORKERS_MAX
	unsigned loops;	   // 0 = for ever
	bool is_fast;
};

/* Gives a source that waits for its start, or NULL and a sentence. */
struct pcap_source *pcap_source_open(const struct pcap_source_options *options, struct error *err);
void pcap_source_close(struct pcap_source *source);

/* Play from this time on.  Once; put it a little ahead of the clock, so that every worker sees it
 * before its first frame is due.
 */
void pcap_source_start(struct pcap_source *source, uint64_t start_ns);

bool pcap_source_is_started(const struct pcap_source *source);

/* All queues are played to the end. */
bool pcap_source_is_done(const struct pcap_source *source);

/* Fill up to max packets that are due at now_ns.  Times: paced, their own; fast, now_ns and 1 ns more
 * for each packet after; in both at least first_ns.  They do not decrease.
 */
unsigned pcap_source_burst(struct pcap_source *source, unsigned queue, struct pkt *p, unsigned max,
			   uint64_t now_ns, uint64_t first_ns);

/* Frames of one loop, over all queues. */
uint64_t pcap_source_frames(const struct pcap_source *source);

#endif
