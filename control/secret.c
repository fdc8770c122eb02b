/* secret.c - one mapping a secret: guard page, head and secret, guard page.
 *
 * The head, in front of the secret, says how long the mapping is; a magic number that is wiped, too,
 * makes freeing twice, or freeing what is no secret, an end of the process and not a mystery.
 * Refused: memfd_secret(2), which not even root can read, but which kernels before 6.5 have switched
 * off; mlockall(), which would lock the stores' buffers, too; one arena for all, which needs a second
 * allocator to be right.
 * A system call for each secret is no matter: there are some a minute.  mlock2() and not mlock():
 * the sanitizers make nothing of the latter.
 */
#include "control/secret.h"

#include <assert.h>
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

enum { PAGE_BYTES = 4096, HEAD_BYTES = 32 };

#define SECRET_MAGIC UINT64_C(0x5ec2e75ec2e75ec2)

struct head {
	uint64_t magic;
	size_t n_pages; // without the guards
	bool is_locked;
};

static_assert(sizeof(struct head) <= HEAD_BYTES,
	      "the secret begins behind it, aligned as malloc's");

static atomic_uint n_unlocked;

void *secret_alloc(size_t bytes)
{
	size_t n_pages = (bytes + HEAD_BYTES + PAGE_BYTES - 1) / PAGE_BYTES;
	uint8_t *base, *mem;
	struct head *head;

	if (bytes > SIZE_MAX / 2)
		return NULL;
	base = mmap(NULL, (n_pages + 2) * PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0);
	if (base == MAP_FAILED)
		return NULL;
	mem = base + PAGE_BYTES;
	if (mprotect(mem, n_pages * PAGE_BYTES, PROT_READ | PROT_WRITE) != 0) {
		(void)munmap(base, (n_pages + 2) * PAGE_BYTES);
		return NULL;
	}
	(void)madvise(mem, n_pages * PAGE_BYTES, MADV_DONTDUMP);
	(void)madvise(mem, n_pages * PAGE_BYTES, MADV_DONTFORK);
	head = (struct head *)mem;
	*head = (struct head){.magic = SECRET_MAGIC,
			      .n_pages = n_pages,
			      .is_locked = mlock2(mem, n_pages * PAGE_BYTES, 0) == 0};
	if (!head->is_locked)
		(void)atomic_fetch_add_explicit(&n_unlocked, 1, memory_order_relaxed);
	return mem + HEAD_BYTES;
}

char *secret_dup(const char *text)
{
	size_t bytes = text != NULL ? strlen(text) + 1 : 0;
	char *copy = text != NULL ? secret_alloc(bytes) : NULL;

	if (copy != NULL)
		memcpy(copy, text, bytes);
	return copy;
}

void secret_free(void *secret)
{
	uint8_t *mem;
	struct head head;

	if (secret == NULL)
		return;
	mem = (uint8_t *)secret - HEAD_BYTES;
	memcpy(&head, mem, sizeof(head));
	if (head.magic != SECRET_MAGIC)
		abort();
	explicit_bzero(mem, head.n_pages * PAGE_BYTES);
	if (!head.is_locked)
		(void)atomic_fetch_sub_explicit(&n_unlocked, 1, memory_order_relaxed);
	(void)munmap(mem - PAGE_BYTES, (head.n_pages + 2) * PAGE_BYTES); // unlocks
}

unsigned secret_unlocked(void)
{
	return atomic_load_explicit(&n_unlocked, memory_order_relaxed);
}

int secret_no_dumps(void)
{
	const struct rlimit none = {0, 0};

	if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		return -errno;
	return 0;
}

void wiping_free(void *mem)
{
	if (mem == NULL)
		return;
	explicit_bzero(mem, malloc_usable_size(mem));
	free(mem);
}

void *wiping_realloc(void *mem, size_t bytes)
{
	size_t n_old = mem != NULL ? malloc_usable_size(mem) : 0;
	void *grown;

	if (n_old >= bytes && bytes > 0)
		return mem;
	grown = malloc(bytes);
	if (grown == NULL)
		return NULL;
	if (mem != NULL)
		memcpy(grown, mem, n_old < bytes ? n_old : bytes);
	wiping_free(mem);
	return grown;
}
