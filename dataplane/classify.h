/* classify.h - tell ESP, IKE, OVPN and INNER from everything else.
 *
 * Flow:    rx -> classify -> (esp) -> match -> record
 * Threads: one struct classifier a worker; no sharing.
 * Memory:  classifier_open() allocates all tables at once (bounded, see classifier_bytes());
 *          no allocation afterwards.  Tables are keyed with a random secret: an attacker cannot aim
 *          at one bucket.
 * Trust:   every length field is hostile; nothing reads at or beyond data + len.
 * Source:  docs/semantics.md "Classes (outer)"; RFC 3948, RFC 9329, RFC 4303, RFC 8200.
 * Decisions where these are silent: docs/classification.md.
 * Proof:   tests/test_classify.c, tests/fuzz_packet.c, tests/oracle_classify.py
 */
#ifndef GATECAP_DATAPLANE_CLASSIFY_H
#define GATECAP_DATAPLANE_CLASSIFY_H

#include <stddef.h>
#include <stdint.h>

#include "dataplane/packet.h"
#include "dataplane/verdict.h"

struct classifier;

enum { CLASSIFY_ENDPOINTS_MAX = 16 };

/* An OpenVPN endpoint; any_address or the one in address. */
struct ovpn_endpoint {
	uint8_t address[16]; // network order; 4 bytes used for family 4
	uint16_t port;	     // host order
	uint8_t family;	     // 4, 6, 0 = any address
	uint8_t protocol;    // 6 or 17
	uint8_t shared;	     // TCP: told from HTTPS by the first payload
};

/* A held segment: the flow table keeps a copy of its first bytes until the flow is decided.
 * `ticket` is what hold_wanted() said when it arrived.
 */
struct held_segment {
	const uint8_t *data; // copy, cut to HELD_BYTES_MAX
	uint32_t len, wire_len;
	uint64_t time_ns;
	uint64_t ticket; // opaque to classify
	uint8_t port;
};

enum { HELD_SEGMENTS_MAX = 4, HELD_BYTES_MAX = 256 };

/* What classify asks its worker.  Calls happen only for segments of undecided shared flows.
 * A held segment is in tally.n_held until release() or drop() is called for it, once: the hook takes it
 * out of n_held, gives it its verdict and counts its class (classifier_age() and _flush() have no books,
 * and whose books they are is known to the ticket alone).
 */
struct classify_hooks {
	/* What to remember of a segment that is held: which captures would want it if it is OVPN
	 * (pkt->class_ says so during the call).  0 means none: the segment is then OTHER and
	 * NOT_MATCHED at once, not copied; release() and drop() do not hear of it.
	 */
	uint64_t (*hold_wanted)(void *ctx, const struct pkt *pkt);
	/* The flow was decided OVPN: record this earlier segment now; its class is OVPN. */
	void (*release)(void *ctx, const struct held_segment *segment);
	/* The flow was decided OTHER, aged out, or pushed out: forget this segment; it is OTHER. */
	void (*drop)(void *ctx, const struct held_segment *segment, enum verdict why);
	void *ctx;
};

/* Gives a classifier without endpoints, or NULL when memory is short.
 * hooks: copied; NULL: no segment is ever wanted.
 */
struct classifier *classifier_open(const struct classify_hooks *hooks);
void classifier_close(struct classifier *classifier);

/* Bytes that one classifier takes, for --check-config. */
size_t classifier_bytes(void);

/* Replace the OpenVPN endpoints (borrowed, copied).  At a quiet point of the worker. */
void classifier_set_endpoints(struct classifier *classifier, const struct ovpn_endpoint *endpoints,
			      unsigned n);

/* Parse and classify a burst of frames from a port of role outer.  Survivors (ESP, IKE, OVPN) move
 * to the front, in order; the rest gets its verdict in `tally` here (held ones in n_held).
 * `n_class[CLASS_COUNT]` counts every packet by class, survivors included, held ones not.
 * Returns how many go on.
 * What lies behind them in p is nobody's: frames are given back by rx_free(), which has its own list.
 */
unsigned classify_outer_burst(struct classifier *classifier, struct pkt *p, unsigned n,
			      struct tally *tally, uint64_t *n_class);

/* Age the tables; call between bursts, `now_ns` on the packets' timeline.  Cheap when nothing is due. */
void classifier_age(struct classifier *classifier, uint64_t now_ns);

/* The earliest time of a segment still held, or UINT64_MAX: the worker's watermark stays behind it. */
uint64_t classifier_oldest_held_ns(const struct classifier *classifier);

/* Drop every held segment now (OVPN_UNDECIDED), as if its second were over.  The flows stay undecided. */
void classifier_drop_held(struct classifier *classifier);

/* Decide everything undecided as OTHER: at the end of a file. */
void classifier_flush(struct classifier *classifier);

/* Parse the headers of the Ethernet frame at data (len bytes) into *h.  h->family = 0: not IP or cut
 * before the end of the IP header.  Returns 0, or -1 when a header is cut or lies (h holds what was
 * readable before it: a cut TCP header still gives ports if they were there).
 */
int headers_parse(const uint8_t *data, uint32_t len, struct headers *h);

#endif
