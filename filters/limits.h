/* limits.h - every limit that more than one part of gatecap has to agree on.
 *
 * Source: docs/semantics.md (user-facing limits), docs/formats.md (sizes in shared memory).
 * A limit that only one file knows stays in that file.
 */
#ifndef GATECAP_FILTERS_LIMITS_H
#define GATECAP_FILTERS_LIMITS_H

enum gatecap_limits {
	CAPTURES_MAX = 5,	     // running at once, one slot each
	FILTERS_PER_CAPTURE_MAX = 3, // what max_filters_per_capture may be set to
	FILTER_DIRECTIONS = 2,	     // as written, and swapped
	MATCH_BITS = CAPTURES_MAX * FILTERS_PER_CAPTURE_MAX * FILTER_DIRECTIONS,
	PORTS_MAX = 16,	  // capture ports of one gateway
	WORKERS_MAX = 64, // poll-mode workers, one ring each
	CONNECTIONS_MAX = 10000,
	SA_MAX = 16384, // SAs with keys; each has a slot of counters
	BURST_MAX = 64, // packets a worker handles in one pass
	VLAN_TAGS_MAX = 4,
	NAME_MAX_BYTES = 80, // gateway, connection, port names, NUL included

	SNAP_BYTES_DEFAULT = 120,
	SNAP_BYTES_MAX = 65535,
	FILE_MB_DEFAULT = 100,
	FILE_MB_MAX = 500,
	FILE_MB_BYTES = 1000000, // one MB of MaxFileSize
	FILTER_DATA_BYTES_MAX = 1 << 20,
	JSON_DEPTH_MAX = 16,
};

_Static_assert(MATCH_BITS <= 31, "verdicts are 32-bit masks, the top bit tags trie nodes");

#endif
