/* sas_query.h - the token of a SAS URL: may it write, here and now?
 *
 * Flow:    sas.c has split the URL and judged its host and path -> sas_query_check() on the query.
 * Threads: any.  Memory: borrows the query, allocates nothing.
 * Secrets: the query.  Values come into a sentence only where they are plainly not a signature:
 *          single letters (sp, sr, ss, srt) and times, which are printed anew from what was parsed.
 * Proof:   tests/test_sas.c, tests/fuzz_sas.c
 */
#ifndef GATECAP_CONTROL_SAS_QUERY_H
#define GATECAP_CONTROL_SAS_QUERY_H

#include <stdbool.h>
#include <time.h>

#include "filters/error.h"

struct sas_query_context {
	bool plain_http;  // the URL is http://
	bool has_subpath; // the path goes on below the container
	time_t now;
};

/* Write the sentence and give -EINVAL. */
int sas_refuse(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The value of two hex digits after a '%', or -1. */
int sas_percent_byte(const char *percent);

/* 0 and *expires (0: unknown), or -EINVAL and a sentence.  `query` has no '?'. */
int sas_query_check(const char *query, const struct sas_query_context *context, time_t *expires,
		    struct error *err, struct faults *warnings);

#endif
