/* secret.h - memory for what must not leave this process: SAS URLs, later keys.
 *
 * A secret has pages of its own: locked, so that it never reaches swap; left out of core dumps and
 * of what a fork gets; between two pages that nobody may touch; wiped before it is given back.
 * Threads: any; each secret has one owner.
 * Memory:  secret_dup() and secret_alloc() give, secret_free() wipes and frees.  Whole pages, since
 *          locking knows nothing smaller: for some dozens of secrets, not for thousands.
 * No lock: where the limit of locked memory (RLIMIT_MEMLOCK) is used up the secret is given all the
 *          same, and secret_unlocked() counts it: a full limit must not end an upload.
 *          gatecapd raises the limit while it is root.
 * Process: secret_no_dumps() once, before the first secret: no core file, and nobody but root reads
 *          this process' memory or /proc files.
 * Libraries: libcurl, cJSON and libevent are handed the wiping allocator below, since a SAS URL passes
 *          through all three (upload.c, gatecapd.c).
 * Proof:   tests/test_secret.c, tests/test_privilege.py
 */
#ifndef GATECAP_CONTROL_SECRET_H
#define GATECAP_CONTROL_SECRET_H

#include <stddef.h>

/* `bytes` zero bytes, or NULL. */
void *secret_alloc(size_t bytes);

/* A copy of the text, or NULL; NULL gives NULL. */
char *secret_dup(const char *text);

/* Wipe and free.  NULL: nothing. */
void secret_free(void *secret);

/* Secrets alive whose pages could not be locked. */
unsigned secret_unlocked(void);

/* No core files, not dumpable.  0 or -errno. */
int secret_no_dumps(void);

/* realloc and free for memory of malloc that is wiped when it is given back or left behind. */
void *wiping_realloc(void *mem, size_t bytes);
void wiping_free(void *mem);

#endif
