/* afpacket_source.h - the frames of a kernel interface, both ways, by packet sockets of our own.
 *
 * Flow:    kernel -> ring of blocks in shared memory (TPACKET_V3) -> afpacket_source_burst() ->
 *          worker -> afpacket_source_free() -> kernel
 * Threads: open, lost, went_down, close: the main thread.  burst, free: queue i's own worker.
 * Memory:  each queue has a ring of AFPACKET_RING_BYTES, allocated by the kernel at open and mapped
 *          here; nothing else, and nothing later.  A burst lends frames of one block; they are the
 *          worker's until free, which comes before the next burst of that queue, and hands the
 *          block back when its last frame was among them.
 * System calls: none in burst and free; the kernel says in shared memory that a block is full, or
 *          that AFPACKET_RETIRE_MS are over.
 * Queues:  one socket each; both directions and all fragments of a pair of IP addresses meet in one
 *          (afpacket_share.h).
 * Frames:  as received and as sent (afpacket_block.h); up to AFPACKET_SNAP_BYTES of each, and its
 *          original length.  A frame that the loopback interface carries is seen twice: sent,
 *          received.
 * Time:    the kernel's stamp, as far as it is not before first_ns.  A frame may be AFPACKET_LAG_NS
 *          old before it is shown: who promises times to others has to stay that far behind the
 *          clock.
 * Interface: may be down, at open or later; frames come when it is up.  One that is removed is gone
 *          for good, also when another gets its name.
 * Proof:   tests/test_dataplane.py
 */
#ifndef GATECAP_DATAPLANE_AFPACKET_SOURCE_H
#define GATECAP_DATAPLANE_AFPACKET_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "dataplane/clock.h"
#include "dataplane/packet.h"
#include "filters/error.h"

enum {
	AFPACKET_BLOCK_BYTES = 1 << 18, // holds the longest frame three times
	AFPACKET_BLOCKS = 64,
	AFPACKET_RING_BYTES = AFPACKET_BLOCK_BYTES * AFPACKET_BLOCKS,
	AFPACKET_RETIRE_MS = 1,
	AFPACKET_LAG_NS = 10 * 1000 * 1000, // 1 ms is up to two ticks of a kernel with HZ=250
};

struct afpacket_source;

/* Gives a source that the kernel fills already, or NULL and a sentence. */
struct afpacket_source *afpacket_source_open(const char *interface, unsigned n_queues,
					     struct error *err);
void afpacket_source_close(struct afpacket_source *source);

/* As found at open: the interface is up; it could be made promiscuous (0, or -errno). */
bool afpacket_source_is_up(const struct afpacket_source *source);
int afpacket_source_promiscuous(const struct afpacket_source *source);

/* Frames that the kernel had no room for, ever. */
uint64_t afpacket_source_lost(struct afpacket_source *source);

/* True once for each time that the interface goes down or is removed. */
bool afpacket_source_went_down(struct afpacket_source *source);

/* Fill the first block of up to max packets.  Times rise from first_ns on. */
unsigned afpacket_source_burst(struct afpacket_source *source, unsigned queue, struct pkt *p,
			       unsigned max, const struct clock *clock, uint64_t first_ns);

/* Give the last burst of the queue back. */
void afpacket_source_free(struct afpacket_source *source, unsigned queue);

#endif
