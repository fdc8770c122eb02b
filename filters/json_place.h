/* json_place.h - where in a JSON document something is, and typed reads that say what is wrong.
 *
 * Flow:    cJSON tree -> filter_data.c, control/config.c -> struct faults
 * Threads: any; no globals.
 * Memory:  a place is a chain of structs on the caller's stack; it borrows its keys.
 * Shown:   pointers are RFC 6901, control characters as \u00XX, a key cut at 64 bytes; values are
 *          quoted, escaped and cut likewise, so that a hostile document cannot write to a terminal.
 * Proof:   tests/test_json_scan.c, tests/test_filter_data.c
 */
#ifndef GATECAP_FILTERS_JSON_PLACE_H
#define GATECAP_FILTERS_JSON_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "filters/error.h"

struct cJSON;

/* One step into a document.  NULL is the document itself. */
struct json_place {
	const struct json_place *parent;
	const char *key; // of an object's member; NULL: `index` of an array's item
	unsigned index;
};

/* Append a fault or warning: "VALUE: SENTENCE", or the sentence alone when value is NULL. */
void json_fault(struct faults *faults, const struct json_place *place, const struct cJSON *value,
		const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Everything in `faults`, listed or not. */
unsigned json_fault_count(const struct faults *faults);

/* True and *out if value is an integer (11.0 is one) within min..max.  Both within +-2^53. */
bool json_is_integer(const struct cJSON *value, int64_t min, int64_t max, int64_t *out);

/* The same; else a fault that names the range. */
bool json_integer(struct faults *faults, const struct json_place *place, const struct cJSON *value,
		  int64_t min, int64_t max, int64_t *out);

/* True and *out if value is true or false; else a fault. */
bool json_boolean(struct faults *faults, const struct json_place *place, const struct cJSON *value,
		  bool *out);

/* The one of `n` known names that takes the fewest edits, case apart; of equals the first. */
const char *json_nearest(const char *name, const char *const *known, unsigned n);

#endif
