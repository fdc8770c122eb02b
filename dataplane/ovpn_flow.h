/* ovpn_flow.h - tell OpenVPN from HTTPS on a TCP endpoint that both share.
 *
 * Flow:    classify.c hands every TCP segment of a shared endpoint to ovpn_flow_segment(); of one in
 *          fragments only the first, the others inherit its class.
 * Threads: one owner.
 * Memory:  ovpn_flows_open() allocates everything, see ovpn_flows_bytes(); nothing afterwards.
 * Decision, by the first payload that shows a shape; both directions are one flow:
 *          OpenVPN: length-prefixed packets of opcodes 1 to 11 that fill the segment exactly; in a
 *          flow whose SYN was seen, the head of a session reset is enough (opcode 1, 2, 7, 8, 10, with
 *          the lengths that OpenVPN's own port-share takes).  HTTPS: a TLS record header.
 *          8 payload segments of neither: given up.
 * Held:    segments without payload before the decision, at most HELD_SEGMENTS_MAX a flow, for
 *          OVPN_HOLD_NS, OVPN_HELD_MAX in all (the oldest goes).  A held segment is in tally.n_held
 *          until hooks->release or hooks->drop is called for it, in order of arrival: the hook takes
 *          it out of n_held, gives it its verdict and counts its class.  A segment that no capture
 *          wants is not held: its class is OTHER and its verdict NOT_MATCHED at once.
 * Not held, OTHER, verdict OVPN_UNDECIDED: payload that shows no shape, an empty segment beyond the
 *          fourth, every segment of a flow that was given up.
 * Age:     a flow is forgotten after 600 s of silence, 60 s once it saw FIN or RST.  A SYN without ACK
 *          on a decided flow is a new connection on old ports: it is decided again.
 * When full: of the four entries that could hold a new flow goes the first of: one too old, undecided,
 *          HTTPS, OpenVPN; the longest silent of these.
 * Proof:   tests/test_ovpn_flow.c
 */
#ifndef GATECAP_DATAPLANE_OVPN_FLOW_H
#define GATECAP_DATAPLANE_OVPN_FLOW_H

#include <stddef.h>
#include <stdint.h>

#include "dataplane/classify.h"

enum {
	OVPN_FLOWS_MAX = 65536,
	OVPN_FLOW_WAYS = 4,
	OVPN_HELD_MAX = 4096,
	OVPN_PAYLOADS_MAX = 8, // payload segments that may tell nothing
};

#define OVPN_HOLD_NS	1000000000u
#define OVPN_IDLE_NS	600000000000u
#define OVPN_CLOSING_NS 60000000000u

enum ovpn_answer {
	OVPN_YES,
	OVPN_NO,
	OVPN_UNDECIDED, // OTHER, with the verdict of that name
	OVPN_HELD,	// copied; the hooks will hear of it
	OVPN_UNWANTED,	// OTHER, with the verdict NOT_MATCHED
};

struct ovpn_flows;

/* Gives an empty table, or NULL when memory or the system's randomness is short.
 * hooks: copied; NULL: nobody ever wants a segment.
 */
struct ovpn_flows *ovpn_flows_open(const struct classify_hooks *hooks);
void ovpn_flows_close(struct ovpn_flows *flows);

/* Bytes that one table takes. */
size_t ovpn_flows_bytes(void);

/* One segment; pkt->h has PKT_HAS_TCP_FLAGS. */
enum ovpn_answer ovpn_flow_segment(struct ovpn_flows *flows, struct pkt *pkt);

/* Let go of what was held for OVPN_HOLD_NS. */
void ovpn_flows_age(struct ovpn_flows *flows, uint64_t now_ns);

/* Give up every undecided flow. */
void ovpn_flows_flush(struct ovpn_flows *flows);

/* The time of the oldest held segment, or UINT64_MAX. */
uint64_t ovpn_flows_oldest_held_ns(const struct ovpn_flows *flows);

/* What a payload says by itself: OVPN_YES, OVPN_NO (TLS) or OVPN_UNDECIDED.  For tests and the fuzzer. */
enum ovpn_answer ovpn_payload_shape(const uint8_t *payload, size_t len, bool from_start);

#endif
