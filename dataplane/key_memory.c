/* key_memory.c - chunks of 256 KiB, each cut from front to back, each with a count of what lives in it.
 *
 * A chunk lies on a multiple of its size, so the head of the chunk of any address is found by a mask.
 * 256 KiB are 1,000 AES keys: large enough that the padding is nothing, small enough for a limit of locked
 * memory of 8 MiB.
 * Refused: free lists (a set is replaced whole), huge pages (10,000 keys are 640 pages, which the second
 * TLB holds; 2 MiB for one key would be locked).
 */
#include "dataplane/key_memory.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

enum { CHUNK_BYTES = 256 << 10, LINE_BYTES = 64 };

struct chunk {
	size_t used; // this head included
	unsigned n_live;
	enum key_memory_pool pool;
	bool is_locked;
};

static_assert(sizeof(struct chunk) <= LINE_BYTES, "keys begin on the second line");

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct chunk *open_chunks[KEY_MEMORY_POOLS]; // where the next key goes, one a pool
static unsigned n_chunks, n_unlocked;

static size_t whole_lines(size_t bytes)
{
	return (bytes + LINE_BYTES - 1) & ~(size_t)(LINE_BYTES - 1);
}

static struct chunk *chunk_of(void *mem)
{
	return (struct chunk *)((uint8_t *)mem - (uintptr_t)mem % CHUNK_BYTES);
}

static struct chunk *open_chunk(enum key_memory_pool pool)
{
	uint8_t *base = mmap(NULL, 2 * CHUNK_BYTES, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t front;
	struct chunk *chunk;

	if (base == MAP_FAILED)
		return NULL;
	front = CHUNK_BYTES - (uintptr_t)base % CHUNK_BYTES;
	(void)munmap(base, front);
	if (front < CHUNK_BYTES)
		(void)munmap(base + front + CHUNK_BYTES, CHUNK_BYTES - front);
	chunk = (struct chunk *)(base + front);
	(void)madvise(chunk, CHUNK_BYTES, MADV_DONTDUMP);
	(void)madvise(chunk, CHUNK_BYTES, MADV_DONTFORK);
	*chunk = (struct chunk){.used = LINE_BYTES,
				.pool = pool,
				// mlock2, for the sanitizers make nothing of mlock
				.is_locked = mlock2(chunk, CHUNK_BYTES, 0) == 0};
	n_chunks++;
	n_unlocked += !chunk->is_locked;
	return chunk;
}

static void close_chunk(struct chunk *chunk)
{
	if (open_chunks[chunk->pool] == chunk)
		open_chunks[chunk->pool] = NULL;
	n_chunks--;
	n_unlocked -= !chunk->is_locked;
	(void)munmap(chunk, CHUNK_BYTES);
}

void *key_memory_alloc(enum key_memory_pool pool, size_t bytes)
{
	struct chunk *chunk;
	void *mem = NULL;

	assert(bytes > 0 && bytes <= KEY_MEMORY_ALLOC_MAX);
	(void)pthread_mutex_lock(&lock);
	chunk = open_chunks[pool];
	if (chunk == NULL || chunk->used + whole_lines(bytes) > CHUNK_BYTES)
		chunk = open_chunk(pool);
	if (chunk != NULL) {
		open_chunks[pool] = chunk;
		mem = (uint8_t *)chunk + chunk->used;
		chunk->used += whole_lines(bytes);
		chunk->n_live++;
	}
	(void)pthread_mutex_unlock(&lock);
	return mem;
}

void key_memory_free(void *mem, size_t bytes)
{
	struct chunk *chunk;

	if (mem == NULL)
		return;
	explicit_bzero(mem, bytes);
	(void)pthread_mutex_lock(&lock);
	chunk = chunk_of(mem);
	if (--chunk->n_live == 0)
		close_chunk(chunk);
	(void)pthread_mutex_unlock(&lock);
}

unsigned key_memory_chunks(void)
{
	unsigned n;

	(void)pthread_mutex_lock(&lock);
	n = n_chunks;
	(void)pthread_mutex_unlock(&lock);
	return n;
}

unsigned key_memory_unlocked(void)
{
	unsigned n;

	(void)pthread_mutex_lock(&lock);
	n = n_unlocked;
	(void)pthread_mutex_unlock(&lock);
	return n;
}
