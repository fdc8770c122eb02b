/* key_memory.h - memory for the keys of thousands of SAs: locked, left out of core files, wiped.
 *
 * control/secret.h gives a secret pages of its own; 16,384 SAs would take 16,384 of them, and as many
 * entries of the TLB.  Here keys lie side by side in chunks.  A chunk goes back to the system when the last
 * key in it is freed, so nothing is used a second time: SA tables are opened whole and closed whole.
 * Threads: any; a lock, which no worker takes.
 * Memory:  key_memory_alloc() gives zero bytes, aligned to a cache line; key_memory_free() wipes them.
 * No lock: where the limit of locked memory (RLIMIT_MEMLOCK) is used up keys are given all the same, and
 *          key_memory_unlocked() counts chunks.
 * Calls:   mmap, munmap, madvise, mlock2 and nothing else: confine.c has to allow them.
 * Proof:   tests/test_key_memory.c
 */
#ifndef GATECAP_DATAPLANE_KEY_MEMORY_H
#define GATECAP_DATAPLANE_KEY_MEMORY_H

#include <stddef.h>

enum { KEY_MEMORY_ALLOC_MAX = 4096 };

/* What a packet touches lies apart from what it does not. */
enum key_memory_pool { KEY_MEMORY_HOT, KEY_MEMORY_COLD, KEY_MEMORY_POOLS };

/* 0 < bytes <= KEY_MEMORY_ALLOC_MAX.  NULL when memory is short. */
void *key_memory_alloc(enum key_memory_pool pool, size_t bytes);

/* The bytes that were asked for.  NULL: nothing. */
void key_memory_free(void *mem, size_t bytes);

/* Chunks alive, and those of them whose pages could not be locked. */
unsigned key_memory_chunks(void);
unsigned key_memory_unlocked(void);

#endif
