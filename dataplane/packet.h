/* packet.h - one packet on its way through a worker.
 *
 * Flow:    rx.c or capture_file.c fills the first block, classify.c or inner.c the second.
 * Threads: owned by one worker for the length of a burst.
 * Memory:  borrows `data`; nothing is copied before record.c.
 * Units:   lengths in bytes; addresses stay in the frame, network order; ports in host order.
 */
#ifndef GATECAP_DATAPLANE_PACKET_H
#define GATECAP_DATAPLANE_PACKET_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "filters/limits.h"

enum pkt_class { CLASS_OTHER, CLASS_ESP, CLASS_IKE, CLASS_OVPN, CLASS_INNER, CLASS_COUNT };

enum pkt_flags {
	PKT_HAS_PORTS = 1,	// sport and dport are from the packet
	PKT_HAS_TCP_FLAGS = 2,	// tcp_flags is from a whole TCP header
	PKT_FRAGMENT_FIRST = 4, // offset 0, more to come
	PKT_FRAGMENT_LATER = 8, // offset > 0: no ports of its own
};

/* Released from the OpenVPN flow table: earlier than its neighbours. */
enum { PKT_LATE = 1 };

/* Where port and class lie in a packet's fate. */
enum fate_shift { FATE_PORT = 8, FATE_CLASS = 24 };

/* What the headers say.  Filled by headers_parse(); valid if family != 0. */
struct headers {
	const uint8_t *src, *dst; // in the frame: 4 or 16 bytes
	uint32_t fragment_id;	  // IPv4 id or IPv6 fragment id, host order
	uint16_t l3_offset;	  // of the IP header, from the start of the frame
	uint16_t l4_offset;	  // of the transport header (behind IPv6 extension headers)
	uint16_t sport, dport;	  // host order, if PKT_HAS_PORTS
	uint8_t family;		  // 4, 6, or 0: not IP
	uint8_t protocol;	  // of the transport header; behind AH: what AH protects
	uint8_t tcp_flags;	  // if PKT_HAS_TCP_FLAGS
	uint8_t flags;		  // of enum pkt_flags
	uint32_t ip_end; // where the IP packet ends in the frame, by its own length, cut to len
};

struct pkt {
	/* From the source. */
	const uint8_t *data; // an Ethernet frame
	uint32_t len;	     // bytes readable at data
	uint32_t wire_len;   // original length, >= len
	uint64_t time_ns;    // the timeline of the source's clock; never decreasing within a worker

	/* From the worker, classify.c and the stage that matches. */
	union {
		struct {
			uint8_t wanted; // one bit a capture slot
			uint8_t port;	// index of the capture port
			uint8_t flags;	// PKT_LATE
			uint8_t class_; // enum pkt_class
		};
		uint32_t fate; // the four at once, `wanted` lowest: as struct record has them
	};
	struct headers h; // of outer packets, and of inner ones that are not plain (inner.c)
};

/* Bring the n packets at at[0] < at[1] < ... to the front, in order; what was there is gone. */
static inline void pkt_gather(struct pkt *p, const uint8_t *at, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (at[i] != i)
			memcpy(&p[i], &p[at[i]], sizeof(p[i]));
}

#endif
