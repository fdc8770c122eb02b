/* locked_memory.c - a mapping each, whose last word says whether it is locked.
 *
 * mlock2() and not mlock(): the sanitizers make nothing of the latter.  The system-call filter knows it
 * (confine.c); munmap() unlocks.
 */
#include "dataplane/locked_memory.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE_BYTES = 4096 };

static atomic_size_t n_missing;

static size_t mapped_bytes(size_t bytes)
{
	return (bytes + sizeof(bool) + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

void *locked_alloc(size_t bytes)
{
	size_t n = mapped_bytes(bytes);
	uint8_t *mem;

	if (bytes > SIZE_MAX / 2)
		return NULL;
	mem = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		return NULL;
	(void)madvise(mem, n, MADV_DONTDUMP);
	(void)madvise(mem, n, MADV_DONTFORK);
	mem[n - 1] = mlock2(mem, n, 0) == 0;
	if (!mem[n - 1])
		(void)atomic_fetch_add_explicit(&n_missing, n, memory_order_relaxed);
	return mem;
}

void locked_free(void *mem, size_t bytes)
{
	size_t n = mapped_bytes(bytes);

	if (mem == NULL)
		return;
	if (!((uint8_t *)mem)[n - 1])
		(void)atomic_fetch_sub_explicit(&n_missing, n, memory_order_relaxed);
	explicit_bzero(mem, n);
	(void)munmap(mem, n);
}

size_t locked_missing(void)
{
	return atomic_load_explicit(&n_missing, memory_order_relaxed);
}
