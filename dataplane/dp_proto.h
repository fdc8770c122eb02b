/* dp_proto.h - messages on dp.sock between gatecapd and gatecap-dataplane.
 *
 * SOCK_SEQPACKET: one message a packet, fixed structs, host byte order (one machine).  Every message
 * begins with struct dp_header; a message of another size, magic or version closes the connection.
 *
 *   control                         dataplane
 *   HELLO                     ->
 *                             <-    WELCOME + 2 descriptors (shared, tails: shared.h)
 *   SET + 1 descriptor        ->          (a write-sealed memfd with a filter_set.h)
 *                             <-    APPLIED (every worker has passed to it) or REFUSED (nothing changed)
 *   SAS + 1 descriptor        ->          (the same with an sa_set.h; it holds keys)
 *                             <-    SAS_APPLIED or SAS_REFUSED
 *
 * One control process at a time: a second HELLO from elsewhere gets BUSY while the first is connected.
 * Peer check: SO_PEERCRED uid is root's or the one given with --control-uid.
 */
#ifndef GATECAP_DATAPLANE_DP_PROTO_H
#define GATECAP_DATAPLANE_DP_PROTO_H

#include <assert.h>
#include <stdint.h>

#define DP_MAGIC UINT32_C(0x67637064) /* "gcpd" */

enum { DP_VERSION = 2, DP_TEXT_MAX = 256, DP_SET_BYTES_MAX = 64 << 20 };

enum dp_type {
	DP_HELLO = 1,
	DP_WELCOME,
	DP_BUSY,
	DP_SET,
	DP_APPLIED,
	DP_REFUSED,
	DP_SAS,
	DP_SAS_APPLIED,
	DP_SAS_REFUSED,
};

struct dp_header {
	uint32_t magic;
	uint16_t version;
	uint16_t type; // enum dp_type
};

struct dp_hello {
	struct dp_header h;
};

struct dp_welcome {
	struct dp_header h;
	uint64_t boot_id;
	uint64_t shared_bytes, tails_bytes;
	uint64_t generation;	// of the set in use; 0: none yet
	uint64_t sa_generation; // of the SA set in use; 0: none yet
};

struct dp_busy {
	struct dp_header h;
	uint32_t pid; // of the control process that is connected
	uint32_t reserved;
};

/* Also DP_SAS: generations of SA sets are counted on their own. */
struct dp_set {
	struct dp_header h;
	uint64_t generation; // greater than the one in use
	uint64_t bytes;	     // of the memfd
};

/* Also DP_SAS_APPLIED. */
struct dp_applied {
	struct dp_header h;
	uint64_t generation;
	uint64_t time_ns; // every record that follows is of this generation: timeline of shared.h
};

/* Also DP_SAS_REFUSED. */
struct dp_refused {
	struct dp_header h;
	uint64_t generation;
	char text[DP_TEXT_MAX]; // a sentence, NUL-terminated
};

static_assert(sizeof(struct dp_welcome) == 48 && sizeof(struct dp_applied) == 24, "wire format");

#endif
