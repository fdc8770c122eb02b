/* locked_memory.h - pages for keys: never in swap, never in a core dump or a child, wiped at the end.
 *
 * Threads: any; each block has one owner.
 * Memory:  locked_alloc() gives whole pages, locked_free() wipes and gives them back: for tables and sets,
 *          not for single keys.
 * No lock: where the limit of locked memory is used up the pages are given all the same, and
 *          locked_missing() counts them: a limit must not end a capture.
 * Beside:  control/secret.h, whose blocks are a secret each, between guard pages.
 * Proof:   tests/test_sa_table.c
 */
#ifndef GATECAP_DATAPLANE_LOCKED_MEMORY_H
#define GATECAP_DATAPLANE_LOCKED_MEMORY_H

#include <stddef.h>

/* At least `bytes` zero bytes, aligned to a page, or NULL. */
void *locked_alloc(size_t bytes);

/* The same `bytes`.  NULL: nothing. */
void locked_free(void *mem, size_t bytes);

/* Bytes that are given and could not be locked. */
size_t locked_missing(void);

#endif
