/* stages_frame.h - frames that leave the usual path: for the stages and the cost table.
 *
 * Frame i is the same in every run.  Lengths are without the FCS.
 * Slow:   inner packets that are not plain, in turn: IPv6 with TCP, a VLAN tag, the first fragment of a
 *         UDP packet, its second.  All from 10.1/16 or 2001:db8:1::/48 to 10.2/16 or 2001:db8:2::/48.
 * Outer:  in turn: ESP three times, ESP behind NAT (UDP 4500), IKE (UDP 500), OpenVPN (UDP 1194), OpenVPN
 *         and HTTPS on the TCP port that they share (443).
 */
#ifndef GATECAP_TOOLS_STAGES_FRAME_H
#define GATECAP_TOOLS_STAGES_FRAME_H

#include <stdint.h>

enum {
	STAGES_SLOW_BYTES = 98, // fragments are multiples of eight
	STAGES_OUTER_BYTES = 128,
	STAGES_OUTER_KINDS = 8,
	STAGES_OUTER_OTHER = 1, // of so many frames: HTTPS
};

void stages_frame_slow(uint8_t frame[STAGES_SLOW_BYTES], uint32_t i);
void stages_frame_outer(uint8_t frame[STAGES_OUTER_BYTES], uint32_t i);

#endif
