/* sas.h - a SAS URL: what is in it, what is wrong with it, how it may be shown.
 *
 * Source:  docs/azure.md (from the Azure contract): container SAS, directory SAS, account SAS with a
 *          container in the path, user delegation SAS; path-style hosts of emulators.
 * Threads: any.  Memory: sas_parse() fills, sas_fini() wipes and frees.
 * Secrets: the query is a secret.  sas_redacted() is the only form that may be logged or answered.
 * Proof:   tests/test_sas.c, tests/fuzz_sas.c
 */
#ifndef GATECAP_CONTROL_SAS_H
#define GATECAP_CONTROL_SAS_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "filters/error.h"

enum { SAS_URL_BYTES_MAX = 8192 };

struct sas_rules {
	const char *const *allowed_hosts; // exact names, or ".suffix"
	unsigned n_allowed_hosts;
	bool allow_http_loopback; // plain http, and any port, to 127.0.0.0/8 and [::1] only
	time_t now;
};

struct sas {
	char *base;	// scheme://host[:port]/path without a trailing slash
	char *host;	// without port
	char *query;	// byte for byte, without '?': of secret.h
	time_t expires; // from se, 0: unknown (stored access policy)
};

/* Check everything that can be known without asking the storage: scheme, host against the rules (no
 * link-local, metadata or private literal addresses unless allowed by name), container name (3-63
 * lower-case letters, digits, single hyphens; not $...; not missing), sr (c, d or account SAS with
 * srt containing o; sr=b refused), sp contains w, sig present, st/se in force, spr.
 * Returns 0 and fills *out, or -EINVAL and a sentence that names the part, why, and what to do.
 * Appends to `warnings` (pointer "/sasUrl") what may fail later: se less than an hour away, no se.
 */
int sas_parse(const char *url, const struct sas_rules *rules, struct sas *out, struct error *err,
	      struct faults *warnings);

/* Gives "https://host/container/...?<redacted>"; works on any text, even one sas_parse refuses. */
char *sas_redacted(const char *url);

/* Gives base + "/" + each segment of name percent-encoded + "?" + query + (extra ? "&" + extra : ""). */
char *sas_blob_url(const struct sas *sas, const char *blob_name, const char *extra);

void sas_fini(struct sas *sas); // wipes the query first

#endif
