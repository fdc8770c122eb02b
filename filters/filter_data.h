/* filter_data.h - the filterData document of a capture, parsed and checked.
 *
 * Flow:    JSON text -> json_scan (strict) -> cJSON -> struct filter_data -> filter_set.h
 * Threads: any; no globals.
 * Memory:  filter_data_parse() fills, filter_data_fini() frees the lists.
 * Units:   addresses in network byte order; ports and flags in host order; sizes as named.
 * Source:  docs/semantics.md "filterData" (defaults, refusals, warnings).
 * Proof:   tests/test_filter_data.c, tests/fuzz_filter_data.c
 */
#ifndef GATECAP_FILTERS_FILTER_DATA_H
#define GATECAP_FILTERS_FILTER_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "filters/error.h"
#include "filters/limits.h"

enum tracing_flags {
	TRACE_ESP = 1,
	TRACE_IKE = 2,
	TRACE_UNDOCUMENTED = 4, // seen in the wild (15): accepted, ignored, warned about
	TRACE_OVPN = 8,
	TRACE_DEFAULT = TRACE_ESP | TRACE_IKE | TRACE_OVPN,
};

/* An address range.  IPv4 uses the first 4 bytes of addr; host bits are zero. */
struct subnet {
	uint8_t addr[16]; // network byte order
	uint8_t prefix_len;
	uint8_t family; // 4 or 6
};

/* One element of Filters.  An empty list (n == 0) matches anything. */
struct filter {
	struct subnet *src, *dst;
	uint16_t *src_port, *dst_port; // host order
	uint8_t *protocol;
	unsigned n_src, n_dst, n_src_port, n_dst_port, n_protocol;
	uint8_t tcp_flags;     // 0: no flag test (0 and -1 in the document)
	bool single_direction; // CaptureSingleDirectionTrafficOnly
};

struct filter_data {
	unsigned tracing_flags; // of enum tracing_flags, TRACE_UNDOCUMENTED removed
	unsigned snap_bytes;	// MaxPacketBufferSize, 1-65535, link header included
	unsigned file_mb;	// MaxFileSize, 1-500
	unsigned n_filters;
	struct filter filters[FILTERS_PER_CAPTURE_MAX];
};

struct filter_data_rules {
	unsigned filters_max;		  // the appliance's max_filters_per_capture, 1-3
	bool single_direction_by_default; // true on the vWAN routes
	size_t len_max; // 0: FILTER_DATA_BYTES_MAX; normalised documents may be longer
};

/* Parse and check the `len` bytes at `text` (need not be NUL-terminated; NULL or blank = defaults).
 * All faults go to `faults`, all warnings to `warnings` (both borrowed, appended to).
 * Returns 0 and fills *out, or -EINVAL with *out untouched and at least one fault.
 */
int filter_data_parse(const char *text, size_t len, const struct filter_data_rules *rules,
		      struct filter_data *out, struct faults *faults, struct faults *warnings);

/* True if the filter tests nothing: all lists empty and no flag test. */
bool filter_tests_nothing(const struct filter *filter);

/* Parse "10.1.0.0/24", "10.1.0.1", "2001:db8::/32".  Host bits are masked off and *had_host_bits
 * says so.  Returns 0, or -EINVAL with the reason in `why` (a phrase: "prefix length is 0-32") and
 * *out untouched.  In subnet.c.
 */
int subnet_parse(const char *text, struct subnet *out, bool *had_host_bits, const char **why);

/* Print a subnet as "10.1.0.0/24".  Returns text. */
enum { SUBNET_TEXT_MAX = 50 };
char *subnet_text(const struct subnet *subnet, char text[SUBNET_TEXT_MAX]);

/* Gives the normalised document as compact JSON: every property, subnets masked and with their
 * prefix length.  It parses to the same struct.  NULL when memory is short.
 */
char *filter_data_json(const struct filter_data *data);

void filter_data_fini(struct filter_data *data);

#endif
