/* afpacket_share.h - programs for the kernel: which queue of an interface a frame belongs to.
 *
 * Flow:    afpacket_share_fanout() -> PACKET_FANOUT_DATA of the group of all queues; or
 *          afpacket_share_filter() -> SO_ATTACH_FILTER of each queue, which then takes its share.
 * Memory:  the program is the caller's; setsockopt() copies it.
 * Share:   a hash of the two IP addresses, the same in both directions and for all fragments of a
 *          packet; up to VLAN_TAGS_MAX tags are looked behind.  What is not IP, or is cut before
 *          its addresses end: queue 0.  Of n filters exactly one says yes to a frame.
 * Snap:    a frame that a filter takes is cut to AFPACKET_SNAP_BYTES; its original length stays.
 * Proof:   tests/test_afpacket.c (against a plain twin, in two interpreters), test_dataplane.py
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

/* Gives the queue; for Ethernet only. */
void afpacket_share_fanout(struct afpacket_share *out, unsigned n_queues);

/* Takes what belongs to `queue`; of one queue: all.  has_ethernet: the socket shows frames, not IP
 * packets.
 */
void afpacket_share_filter(struct afpacket_share *out, unsigned queue, unsigned n_queues,
			   bool has_ethernet);

/* Takes nothing. */
void afpacket_share_nothing(struct afpacket_share *out);

#endif
