/* filter_set.h - all that decides what is recorded, as fixed records in one block of memory.
 *
 * Flow:    gatecapd builds it (filter_set_build) -> sealed memfd -> the dataplane checks it
 *          (filter_set_check) and compiles it itself (filters/matcher.h).
 * Trust:   the dataplane trusts nothing in it: filter_set_check() proves every index, count, size,
 *          range and family before anything else reads it, on a private copy of the bytes.
 * Layout:  struct set_header, then the arrays in the order of its counts, without gaps; each element
 *          is 4-byte aligned.  Host byte order, addresses in network order.
 * Proof:   tests/test_filter_set.c (each byte flipped), tests/fuzz_filter_set.c
 */
#ifndef GATECAP_FILTERS_FILTER_SET_H
#define GATECAP_FILTERS_FILTER_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "filters/error.h"
#include "filters/filter_data.h"
#include "filters/limits.h"

#define SET_MAGIC UINT32_C(0x67637331) /* "gcs1" */

enum {
	SET_VERSION = 1,
	SET_GATEWAY_WIDE = UINT32_MAX >> 1, // set_capture.connection: the whole gateway
	SET_ENDPOINTS_MAX = 16,
	SET_PEER_PORTS_MAX = 64,     // of one peer: each is looked at for each packet
	SET_PORTS_MAX = 4 * 1 << 20, // in all
};

struct set_header {
	uint32_t magic, version;
	uint64_t generation;
	uint32_t total_bytes;
	uint32_t n_captures, n_filters, n_connections, n_peers, n_remotes, n_endpoints;
	uint32_t n_subnets, n_ports;
};

struct set_subnet {
	uint8_t addr[16];
	uint8_t prefix_len, family; // 4 or 6
	uint8_t reserved[2];
};

/* A slice of the subnets or ports array. */
struct set_slice {
	uint32_t first, n;
};

struct set_capture {
	uint32_t slot;	     // 0 .. CAPTURES_MAX - 1, each at most once
	uint32_t is_new;     // 1: the slot starts with this generation, its counters at zero
	uint32_t connection; // index, or SET_GATEWAY_WIDE
	uint32_t tracing_flags;
	uint32_t snap_bytes;
	struct set_slice filters; // of the filters array
};

struct set_filter {
	struct set_slice src, dst;	     // subnets
	struct set_slice src_port, dst_port; // ports
	uint32_t protocols[8];		     // bitmap of 256
	uint32_t any_protocol;		     // 1: the bitmap is not looked at
	uint8_t tcp_flags, single_direction;
	uint8_t reserved[2];
};

struct set_connection {
	uint32_t type; // 0 IPsec, 1 OpenVPN
};

/* One address of one connection's peer; family 0: any address. */
struct set_peer {
	uint32_t connection;
	struct set_subnet address;
	struct set_slice udp_ports; // empty: any
};

struct set_remote {
	uint32_t connection;
	struct set_subnet subnet;
};

struct set_endpoint {
	struct set_subnet address; // family 0: any address
	uint16_t port;
	uint8_t protocol, shared;
};

/* Pointers into a checked (or built) set. */
struct filter_set {
	const struct set_header *header;
	const struct set_capture *captures;
	const struct set_filter *filters;
	const struct set_connection *connections;
	const struct set_peer *peers;
	const struct set_remote *remotes;
	const struct set_endpoint *endpoints;
	const struct set_subnet *subnets;
	const uint16_t *ports; // host order
};

/* Check `bytes` at `mem` (8-byte aligned) and point *out into it.  mem is borrowed for as long as *out.
 * Returns 0, or -EINVAL and a sentence, *out untouched.
 */
int filter_set_check(const void *mem, size_t bytes, struct filter_set *out, struct error *err);

#endif
