/* afpacket_block.h - read the frames out of a block of a packet socket's ring (TPACKET_V3).
 *
 * Flow:    the kernel fills a block and hands it over -> afpacket_block_read() -> struct pkt
 * Threads: the queue's worker.
 * Memory:  frames are lent where the kernel put them: they are good as long as the block is not
 *          handed back.  Reading writes into the block, in front of a frame, where
 *          AFPACKET_RESERVE_BYTES are reserved; so a block is read once.
 * Frame:   as received.  The kernel takes the outer VLAN tag off and tells of it beside the frame:
 *          it is put back, with its own TPID.  An interface without Ethernet gets a header with
 *          addresses 0 and the protocol as EtherType (what has none: 0xffff, which is nobody's).
 * Lengths: len is what the kernel kept, wire_len what it saw; both with what was put back.
 * Time:    the kernel's own stamp of each frame, brought to the dataplane's timeline by its age;
 *          never after `now`, and rising by at least 1 ns from frame to frame, from first_ns on.
 * Proof:   tests/test_afpacket.c
 */
#ifndef GATECAP_DATAPLANE_AFPACKET_BLOCK_H
#define GATECAP_DATAPLANE_AFPACKET_BLOCK_H

#include <linux/if_packet.h>
#include <stdbool.h>
#include <stdint.h>

#include "dataplane/packet.h"

enum { AFPACKET_RESERVE_BYTES = 16 };

/* What is left of a block. */
struct afpacket_block {
	struct tpacket3_hdr *next;
	uint32_t n_left;
	bool has_ethernet; // frames, not IP packets
};

/* One moment on both clocks, and the first time that may be given out. */
struct afpacket_times {
	uint64_t wall_ns; // CLOCK_REALTIME, which the kernel stamps with
	uint64_t now_ns;  // the timeline
	uint64_t first_ns;
};

/* Start to read a block that the kernel has handed over. */
struct afpacket_block afpacket_block_open(struct tpacket_block_desc *desc, bool has_ethernet);

/* Fill the first block of up to max packets; gives how many, 0 at the end of the block. */
unsigned afpacket_block_read(struct afpacket_block *block, struct pkt *p, unsigned max,
			     const struct afpacket_times *times);

#endif
