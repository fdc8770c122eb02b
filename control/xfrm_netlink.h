/* xfrm_netlink.h - what the kernel says of its SAs on NETLINK_XFRM, message by message.
 *
 * Flow:    xfrm_main.c receives a datagram -> xfrm_read() -> struct xfrm_message -> xfrm_proto.h
 * Threads: any; no globals, no system calls.
 * Memory:  borrows the datagram, which is 4-byte aligned.  item holds keys: whoever has a struct
 *          xfrm_message wipes it, as the datagram.
 * Trust:   none: a datagram may be cut anywhere and say anything.  What an item says is checked against
 *          filters/esp_algorithm.h; what is not ours to read is ESP_UNSUPPORTED and has no key.
 * Source:  linux/xfrm.h, net/xfrm/xfrm_user.c of Linux 6.1.
 * Proof:   tests/test_xfrm_netlink.c (recorded messages, cut anywhere), tests/fuzz_xfrm_netlink.c
 */
#ifndef GATECAP_CONTROL_XFRM_NETLINK_H
#define GATECAP_CONTROL_XFRM_NETLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "control/sa_list.h"

enum xfrm_kind {
	XFRM_IGNORED,	// of no matter: a soft expiry, a type that nobody asked for
	XFRM_PUT,	// `item` is there, or is as it says now
	XFRM_REMOVED,	// the SA of item's SPI and destination is gone, deleted or expired
	XFRM_FLUSHED,	// all ESP SAs are gone
	XFRM_MIGRATED,	// some SAs have other addresses, the message does not name them: dump again
	XFRM_FOREIGN,	// an SA of another protocol: AH, IPComp
	XFRM_LARVAL,	// an SA without keys yet: an SPI that is reserved
	XFRM_DUMP_END,	// `error`: 0, or why the dump is not whole
	XFRM_REFUSED,	// `error`: the kernel's answer to a request
	XFRM_MALFORMED, // cut, or not what linux/xfrm.h says; the rest of the datagram is not read
};

/* Why the item of an XFRM_PUT has no keys. */
enum xfrm_fault {
	XFRM_FINE,
	XFRM_KEYS_HIDDEN, // they are all zero: the kernel does not give them (lockdown)
	XFRM_UNSUPPORTED, // an algorithm, a key's length or a mode that gatecap does not know
};

struct xfrm_message {
	enum xfrm_kind kind;
	enum xfrm_fault fault;
	bool is_dump;	     // a part of the answer to a dump
	bool is_interrupted; // the kernel says that SAs changed while it dumped
	int error;	     // -errno of the kernel
	struct sa_item item;
};

struct xfrm_reader {
	const void *at;
	int left;
};

static inline struct xfrm_reader xfrm_reader_over(const void *datagram, size_t bytes)
{
	return (struct xfrm_reader){datagram, (int)bytes};
}

/* The next message; false: there is none any more. */
bool xfrm_read(struct xfrm_reader *reader, struct xfrm_message *out);

#endif
