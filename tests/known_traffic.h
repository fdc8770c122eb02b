/* known_traffic.h - packets that can be told from their place in time, and who must get them.
 *
 * Every packet has an index; its time, its bytes and its class follow from the index and a few fields that
 * are written before it goes.  So a record in a store leads back to the packet, by its time alone.
 * Who wants it is asked of tests/slow_matcher.h, one capture at a time.
 * Threads: none here; `generation` is written by the packet's worker after the burst, the rest before.
 */
#ifndef GATECAP_TESTS_KNOWN_TRAFFIC_H
#define GATECAP_TESTS_KNOWN_TRAFFIC_H

#include <stdbool.h>
#include <stdint.h>

#include "control/set_build.h"
#include "dataplane/packet.h"
#include "tests/dice.h"
#include "tests/simple_frame.h"

/* Ports: two outer ones and an inner one.  On SHARED, OpenVPN and HTTPS share TCP 443, and what is held
 * may be recorded or let go; of the others it is known exactly what is wanted.
 */
enum { PORT_PLAIN, PORT_SHARED, PORT_INNER, KNOWN_PORTS };

struct sent {
	uint64_t generation; // of the set that judged it; 0: no packet has this index
	uint32_t src, dst;   // host order
	uint16_t sport, dport;
	uint8_t protocol, tcp_flags, n_payload, port;
	uint8_t class_;	   // enum pkt_class
	bool is_undecided; // of a flow on the shared endpoint: OVPN or OTHER
	bool is_hello, is_reset;
};

/* One capture, as a user would write it. */
struct known_capture {
	struct filter_data data;
	struct set_source_capture entry; // points to data
	struct subnet src[2];
	uint16_t dport[2];
};

/* A gateway with two connections, UDP 1194 and the shared TCP 443. */
void known_config(struct config *config);

/* A random scope and filter for the slot. */
void known_capture_throw(struct dice *d, struct known_capture *c, unsigned slot);

void known_packet_throw(struct dice *d, struct sent *sent, unsigned port);

/* The frame of packet `index`; gives its length. */
uint32_t known_frame(uint32_t index, const struct sent *sent, uint8_t frame[FRAME_BYTES_MAX]);

/* Must the capture get it?  Of one that is undecided: if it turns out to be OpenVPN. */
bool known_is_wanted(const struct config *config, const struct known_capture *c,
		     const struct sent *sent);

#endif
