/* afpacket_share.h - the socket filter by which each queue of an interface takes its share of frames.
 *
 * Flow:    afpacket_share_build() -> SO_ATTACH_FILTER of queue i of n -> the kernel asks it for each frame
 * Memory:  the program is the caller's; SO_ATTACH_FILTER copies it.
 * Share:   a hash of the two IP addresses, the same in both directions and for all fragments of a
 *          packet; up to VLAN_TAGS_MAX tags are looked behind.  What is not IP, or is cut before its
 *          addresses end: queue 0.  For any frame exactly one of the n programs says yes.
 * Snap:    a frame that is taken is cut to AFPACKET_SNAP_BYTES; its original length stays.
 * Proof:   tests/test_afpacket.c (against a plain twin, in libpcap's interpreter), test_dataplane.py
 */
#ifndef GATECAP_DATAPLANE_AFPACKET_SHARE_H
#define GATECAP_DATAPLANE_AFPACKET_SHARE_H

#include <linux/filter.h>
#include <stdbool.h>

#include "filters/limits.h"

enum {
	AFPACKET_SHARE_MAX = 160, // instructions; jumps reach 255
	AFPACKET_SNAP_BYTES = SNAP_BYTES_MAX,
};

struct afpacket_share {
	struct sock_filter code[AFPACKET_SHARE_MAX];
	unsigned short n;
};

/* The program of queue `queue` of n_queues.  has_ethernet: the socket shows frames, not IP packets. */
void afpacket_share_build(struct afpacket_share *out, unsigned queue, unsigned n_queues,
			  bool has_ethernet);

#endif
