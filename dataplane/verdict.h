/* verdict.h - the one list of what may become of a packet.
 *
 * Every packet that a worker receives leaves with exactly one verdict; tally_total() must equal the
 * packets received, and worker.c asserts it after each burst.
 */
#ifndef GATECAP_DATAPLANE_VERDICT_H
#define GATECAP_DATAPLANE_VERDICT_H

#include <stdint.h>

#define VERDICT_LIST(X)                                                            \
	X(RECORDED, "recorded")	      /* in the ring, for at least one capture */  \
	X(RING_FULL, "ring_full")     /* wanted, but the ring had no room */       \
	X(NOT_MATCHED, "not_matched") /* of a known class, wanted by no capture */ \
	X(OTHER, "other")	      /* of no class: never recorded */            \
	X(MALFORMED, "malformed")     /* a header is cut or lies: class OTHER */   \
	X(FRAGMENT_NO_FIRST, "fragment_without_first") /* class OTHER */           \
	X(OVPN_UNDECIDED, "ovpn_undecided") /* shared endpoint, 8 segments told nothing: OTHER */

enum verdict {
#define X(name, text) VERDICT_##name,
	VERDICT_LIST(X)
#undef X
		VERDICT_COUNT,
};

/* Counters of one worker.  Writer: that worker only. */
struct tally {
	uint64_t verdicts[VERDICT_COUNT];
	uint64_t n_held; // packets held by the OpenVPN flow table, without a verdict yet
};

/* The name of a verdict as reports spell it. */
const char *verdict_name(enum verdict verdict);

/* Packets with a verdict, plus those held. */
uint64_t tally_total(const struct tally *tally);

#endif
