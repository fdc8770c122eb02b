/* json_scan.h - refuse what cJSON lets through, and say where.
 *
 * cJSON accepts duplicate keys, trailing bytes, invalid UTF-8, numbers such as 01, and \u0000; this
 * scan accepts exactly RFC 8259, at most JSON_DEPTH_MAX deep and `len_max` long, so that cJSON only
 * ever sees a document that means one thing.  Also refused, though the grammar has them: keys that
 * are equal once decoded, \u0000, lone surrogates, numbers that a double cannot hold or of more
 * than 63 characters.
 * Threads: any.  Memory: keeps nothing.
 * Proof:   tests/test_json_scan.c, tests/fuzz_filter_data.c
 */
#ifndef GATECAP_FILTERS_JSON_SCAN_H
#define GATECAP_FILTERS_JSON_SCAN_H

#include <stddef.h>

#include "filters/error.h"

/* Returns 0, or -EINVAL with one fault (pointer of the innermost value; line and column in
 * characters, from 1; why).
 */
int json_scan(const char *text, size_t len, size_t len_max, struct faults *faults);

struct cJSON;

/* Scan, then parse.  Gives a cJSON tree (cJSON_Delete), or NULL with faults. */
struct cJSON *json_parse(const char *text, size_t len, size_t len_max, struct faults *faults);

#endif
