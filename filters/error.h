/* error.h - sentences for the user: what is wrong, where, why, what to do.
 *
 * struct error: one sentence, for functions that stop at the first fault.
 * struct faults: a list, for documents whose faults are all reported in one reply.
 * Threads: none of its own; each object has one owner.
 * Memory:  struct error is plain memory.  struct faults owns its list: faults_fini() frees it.
 * Secrets: callers never put a SAS query, key or token in; sas.h has the redaction.
 */
#ifndef GATECAP_FILTERS_ERROR_H
#define GATECAP_FILTERS_ERROR_H

#include <stddef.h>

enum { ERROR_TEXT_MAX = 1024, FAULTS_LISTED_MAX = 200 };

struct error {
	char text[ERROR_TEXT_MAX]; // one sentence, NUL-terminated; empty when nothing is wrong
};

/* Write the sentence.  Truncates at ERROR_TEXT_MAX.  A NULL err is allowed and does nothing. */
void error_set(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

struct fault {
	char *pointer; // RFC 6901 JSON pointer, "" for the whole document
	char *text;    // value and what would be right: "10.1.0.0/33": prefix length is 0-32
};

struct faults {
	struct fault *list;
	unsigned n;	    // listed, at most FAULTS_LISTED_MAX
	unsigned n_omitted; // found beyond that
};

/* Append one fault.  Copies both strings.  On memory exhaustion counts it in n_omitted. */
void faults_add(struct faults *faults, const char *pointer, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Gives a malloc'ed text, one "pointer: text" line a fault; "" when there is none. */
char *faults_text(const struct faults *faults);

void faults_fini(struct faults *faults);

#endif
