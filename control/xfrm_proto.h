/* xfrm_proto.h - messages on xfrm.sock from gatecap-xfrm to gatecapd.
 *
 * SOCK_SEQPACKET: one message a packet, fixed structs, host byte order (one machine).  Every message
 * begins with struct xfrm_header; a message of another size, magic or version closes the connection.
 * gatecapd listens and never answers.
 *
 *   HELLO                  first
 *   BEGIN LISTED... END    all SAs; what was known before is void at END
 *   PUT                    this one is new, or is as it says now
 *   GONE                   the SA of this SPI and destination is no more
 *   FLUSH                  none is any more
 *
 * PUT, GONE and FLUSH come at any time; between BEGIN and END they hold at once and, in their order, for
 * the list, too, whatever it says of the same SA.  A second BEGIN drops the list before it.
 * Peer check: gatecapd takes root for gatecap-xfrm; gatecap-xfrm gives keys to --control-uid or root alone.
 * Secrets: LISTED and PUT_ONE hold keys.  Both ends wipe their copies.
 */
#ifndef GATECAP_CONTROL_XFRM_PROTO_H
#define GATECAP_CONTROL_XFRM_PROTO_H

#include <assert.h>
#include <stdint.h>

#include "control/sa_list.h"

#define XFRM_MAGIC UINT32_C(0x67637866) /* "gcxf" */

enum { XFRM_VERSION = 1 };

enum xfrm_type {
	XFRM_HELLO = 1,
	XFRM_BEGIN,
	XFRM_LISTED,
	XFRM_END,
	XFRM_PUT_ONE,
	XFRM_GONE,
	XFRM_FLUSH,
};

struct xfrm_header {
	uint32_t magic;
	uint16_t version;
	uint16_t type; // enum xfrm_type
};

/* Also XFRM_BEGIN, XFRM_FLUSH. */
struct xfrm_hello {
	struct xfrm_header h;
};

/* XFRM_LISTED, XFRM_PUT_ONE, and XFRM_GONE, of whose item only SPI and destination count. */
struct xfrm_sa {
	struct xfrm_header h;
	uint32_t fault; // enum xfrm_fault
	struct sa_item item;
};

struct xfrm_end {
	struct xfrm_header h;
	uint32_t n_foreign;   // SAs of AH and IPComp
	uint32_t n_malformed; // messages of the kernel that could not be read, since the start
};

static_assert(sizeof(struct xfrm_header) == 8 && sizeof(struct xfrm_end) == 16, "wire format");
static_assert(sizeof(struct xfrm_sa) == sizeof(struct xfrm_header) + 4 + sizeof(struct sa_item),
	      "no padding between them");

#endif
