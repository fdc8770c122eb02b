/* esp_frame.h - where ESP lies in a frame, what its decrypted bytes say, and the frame that is made of them.
 *
 * Pure functions over bytes; esp.c has the order.
 * Trust:   every length field is hostile, and so is everything decrypted: a wrong key gives random bytes.
 * Units:   bytes.
 * Source:  RFC 4303 2 (layout, padding, dummy packets), 3.3.2 (transport mode); RFC 3948; RFC 9329;
 *          docs/semantics.md "The PCAP file".
 * Proof:   tests/test_esp_frame.c, tests/fuzz_esp.c
 */
#ifndef GATECAP_DATAPLANE_ESP_FRAME_H
#define GATECAP_DATAPLANE_ESP_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "dataplane/packet.h"
#include "dataplane/sa_table.h"

enum {
	ESP_HEAD_BYTES =
		192, // in front of what is decrypted: link header and, transport mode, IP header
	ESP_MESSAGES_MAX = 16, // of one TCP segment
};

/* One ESP packet, as far as the frame has it. */
struct esp_frame {
	const uint8_t *esp; // its SPI
	uint32_t readable;  // bytes from there on: at least ESP_HEADER_BYTES
	uint32_t
		whole; // from there to the end of the ICV, >= readable; 0: not known (a first fragment)
};

/* In IP or UDP.  p is of class ESP and no later fragment.  False: it is cut before the sequence number. */
bool esp_locate(const struct pkt *p, struct esp_frame *out);

/* The ESP messages that begin in a TCP segment, from its first byte on: at most ESP_MESSAGES_MAX.  *fits: the
 * last one ends where the segment does, so the segment is no continuation of something else.
 */
unsigned esp_locate_tcp(const struct pkt *p, struct esp_frame out[static ESP_MESSAGES_MAX],
			bool *fits);

/* Decrypted pieces of one payload (what is between IV and ICV). */
struct esp_plain {
	const uint8_t *prefix; // its first bytes
	uint32_t prefix_bytes;
	const uint8_t *tail; // its last bytes, trailer included; NULL: not there
	uint32_t tail_bytes;
	uint32_t payload_bytes; // of the whole payload; 0: not known
};

enum esp_form { ESP_NOT_PLAUSIBLE, ESP_TUNNEL, ESP_TRANSPORT, ESP_DUMMY };

/* What is inside. */
struct esp_inside {
	enum esp_form form;
	uint8_t next_header;
	uint32_t bytes; // of the inner IP packet, or of the transport header and what it carries
};

/* Is it what the SA's peer sent, and not what a wrong key makes of it? */
struct esp_inside esp_look(enum sa_mode mode, const struct esp_plain *plain);

/* Write in front of `at` (ESP_HEAD_BYTES are there) what belongs before the decrypted bytes: the link header of
 * frame p and, for ESP_TRANSPORT, its IP header with protocol, length and checksum of what is inside.  Gives how
 * many bytes, 0: the IP header is too long.
 */
uint32_t esp_head(const struct pkt *p, const struct esp_inside *inside, uint8_t *at);

#endif
