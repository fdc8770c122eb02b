/* matcher.h - one pass of table lookups that answers for all captures at once.
 *
 * A filter is an AND over dimensions: source, destination, source port, destination port, protocol,
 * TCP flags, connection scope.  Each dimension is a set, and one lookup in its table gives a mask with
 * one bit for each (capture, filter, direction): 5 x 3 x 2 = 30 bits.  The AND of the masks is the
 * verdict.  It is folded to captures only after the AND: folding before would let the source of one
 * filter meet the destination of another.  Cost does not grow with the lists or the captures.
 *
 * Bit:     (slot * FILTERS_PER_CAPTURE_MAX + filter) * FILTER_DIRECTIONS + direction
 *          direction 0: as written, 1: source and destination swapped.
 * Threads: immutable once opened; any number of readers.
 * Memory:  matcher_open() allocates, matcher_close() frees.  Borrows nothing.
 * Source:  docs/semantics.md "filterData", "Direction", "What is recorded".
 * Proof:   tests/test_matcher.c against the linear list of tests/slow_matcher.c
 */
#ifndef GATECAP_FILTERS_MATCHER_H
#define GATECAP_FILTERS_MATCHER_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "filters/filter_set.h"
#include "filters/lanes.h"
#include "filters/limits.h"
#include "filters/sa_set.h"

struct matcher;

/* What the matcher looks at; addresses in network order, ports in host order. */
struct match_key {
	const uint8_t *src, *dst; // 4 or 16 bytes
	uint8_t family;		  // 4 or 6
	uint8_t protocol;
	uint8_t tcp_flags;
	bool has_ports, has_tcp_flags;
	uint16_t sport, dport;
};

/* The same of eight plain packets: IPv4, whole, with TCP, UDP or a protocol without ports.  Addresses and
 * ports are words as they lie in the frame, the first byte lowest.
 */
struct match_lanes {
	v8 src, dst;
	v8 ports; // both, if it has any
	v8 kind;  // < MATCH_KINDS, see below
};

/* One number for protocol and TCP flags, so that both are one lookup. */
enum match_kind {
	MATCH_KIND_TCP = 0,	   // + its flags
	MATCH_KIND_PORTS = 256,	   // + its protocol, not TCP
	MATCH_KIND_NO_PORTS = 512, // + its protocol
	MATCH_KINDS = 768,
};

/* Compile a checked set.  Gives a matcher, or NULL and a sentence (memory). */
struct matcher *matcher_open(const struct filter_set *set, struct error *err);
void matcher_close(struct matcher *matcher);

uint64_t matcher_generation(const struct matcher *matcher);

/* Bits of the running slots, of those that start with this generation, and the longest snap of the
 * slots in `captures`.
 */
uint8_t matcher_slots(const struct matcher *matcher);
uint8_t matcher_new_slots(const struct matcher *matcher);
uint32_t matcher_snap_bytes(const struct matcher *matcher, uint8_t captures);

/* Is there a capture whose filters look inside ESP? */
bool matcher_looks_inside(const struct matcher *matcher);

/* The OpenVPN endpoints of the set; valid as long as the matcher. */
const struct set_endpoint *matcher_endpoints(const struct matcher *matcher, uint32_t *n);

/* Verdict mask of an inner packet: every dimension, scope included. */
uint32_t match_inner(const struct matcher *matcher, const struct match_key *key);

/* match_inner() of eight plain packets. */
v8 match_plain(const struct matcher *matcher, const struct match_lanes *lanes);

/* The same for a later fragment whose first was not seen: filters without ports and flags only. */
uint32_t match_inner_no_first(const struct matcher *matcher, const struct match_key *key);

/* Folding a mask to captures: when the first bit of each slot says whether any of its six is set, a
 * multiplication brings bit 6k to 20 + k: the factor has bits 20 - 5k, and no two products meet there.
 */
enum {
	MATCH_FOLD_FIRST = 0x1041041,
	MATCH_FOLD_GATHER = 0x108421,
	MATCH_FOLD_SHIFT = 20,
	MATCH_FOLD_CAPTURES = 31,
};

static_assert(FILTERS_PER_CAPTURE_MAX * FILTER_DIRECTIONS == 6 && CAPTURES_MAX == 5,
	      "it gathers 5 x 6 bits");

/* Captures (bit a slot) of a verdict mask. */
uint8_t match_fold(uint32_t verdict);

/* Captures that want an outer packet of tracing class TRACE_ESP, TRACE_IKE or TRACE_OVPN whose inside
 * is not known (no key): rules 1, 2 and 5.  Ports in host order, 0 when not UDP.
 */
uint8_t match_outer(const struct matcher *matcher, unsigned trace, const struct match_key *key);

/* What an SA says of the connection of its packets: fields of struct sa_record. */
struct match_sa {
	uint32_t connection;
	uint8_t connection_kind, flags;
};

/* An outer ESP packet; sa is NULL when there is none for it.  Keys are those of the outer packet. */

/* Captures whose filters are about what such a packet carries: they look inside, or miss what is inside. */
uint8_t match_looks_inside(const struct matcher *matcher, const struct match_key *key,
			   const struct match_sa *sa);

/* Captures that want it whatever is inside (rule 2). */
uint8_t match_esp(const struct matcher *matcher, const struct match_key *key,
		  const struct match_sa *sa);

/* Captures that want it when it cannot be read (rules 2 and 5). */
uint8_t match_esp_unread(const struct matcher *matcher, const struct match_key *key,
			 const struct match_sa *sa);

/* Verdict mask of a packet that was decrypted: every dimension, scope by the SA. */
uint32_t match_decrypted(const struct matcher *matcher, const struct match_key *key,
			 const struct match_sa *sa);
uint32_t match_decrypted_no_first(const struct matcher *matcher, const struct match_key *key,
				  const struct match_sa *sa);

/* Of a verdict mask: captures that want the outer packet as well (rule 4). */
uint8_t match_fold_outer(const struct matcher *matcher, uint32_t verdict);

#endif
