/* slow_classify.h - what a frame is, by a reader too plain to be wrong.
 *
 * The slow twin of headers.c and classify.c: written from semantics and RFCs with byte offsets and one
 * function that refuses to read past the end; no fast path, no cursor, no tables.  Fragments are
 * remembered in a list.  It leaves shared endpoints (flows) to tests/test_ovpn_flow.c.
 */
#ifndef GATECAP_TESTS_SLOW_CLASSIFY_H
#define GATECAP_TESTS_SLOW_CLASSIFY_H

#include <stdint.h>

#include "dataplane/classify.h"

enum { SLOW_FRAGMENTS_MAX = 4096 };

struct slow_packet {
	int broken; // a header is cut or lies
	int family, protocol, ip_protocol;
	int sport, dport; // -1: none
	int tcp_flags;	  // -1: none
	int first, later; // fragment
	uint32_t id;
	uint32_t l3, l4, end;
	uint32_t src, dst; // offsets
};

struct slow_fragment {
	uint8_t key[48];
	uint64_t time_ns;
	int class_;
};

struct slow_classifier {
	const struct ovpn_endpoint *endpoints;
	unsigned n_endpoints;
	struct slow_fragment fragments[SLOW_FRAGMENTS_MAX];
	unsigned n_fragments; // newest last; full: the test is too long
};

void slow_parse(const uint8_t *data, uint32_t len, struct slow_packet *p);

/* The class; *verdict is VERDICT_COUNT if the packet goes on. */
int slow_outer_class(struct slow_classifier *s, const uint8_t *data, uint32_t len, uint64_t time_ns,
		     int *verdict);

#endif
