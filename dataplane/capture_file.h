/* capture_file.h - read pcap and pcapng files of any common link type as Ethernet frames.
 *
 * Flow:    libpcap -> struct file_frame.  Used by the pcap: port (loaded whole) and by replay.
 * Link types: Ethernet as it is; raw IP, Linux cooked v1/v2, BSD null/loopback and PPP get a
 *          synthetic Ethernet header (dst 02:00:00:00:00:02, src 02:00:00:00:00:01, EtherType from
 *          the IP version or the protocol field); original length = 14 + what followed the header.
 *          Other link types are refused with a sentence that names the type.
 * Times:   nanoseconds since 1970, exact for both magics and pcapng resolutions.
 * Memory:  a frame's bytes are valid until the next read.
 * Trust:   a file cut anywhere gives its whole frames, then an error sentence; never a crash.
 */
#ifndef GATECAP_DATAPLANE_CAPTURE_FILE_H
#define GATECAP_DATAPLANE_CAPTURE_FILE_H

#include <stdint.h>

#include "filters/error.h"

enum { CAPTURE_FILE_PAD_BYTES = 64 }; // readable behind each frame

struct file_frame {
	const uint8_t *data;
	uint32_t len, wire_len;
	uint64_t time_ns;
};

struct capture_file;

/* Gives a reader or NULL with a sentence.  "-" is standard input. */
struct capture_file *capture_file_open(const char *path, struct error *err);
void capture_file_close(struct capture_file *file);

/* 1: *frame is filled; 0: end of file; -1: the file is broken from here on (err says where). */
int capture_file_read(struct capture_file *file, struct file_frame *frame, struct error *err);

#endif
