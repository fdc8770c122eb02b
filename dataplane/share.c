/* share.c - two memfds, mapped, filled in, sealed.
 *
 * All pages are touched here: a worker must not take a page fault, and memory that is not there must
 * be found now, with a sentence, not at the first full ring.
 * Plain pages, also with --hugepages: mapping a ring twice in a row at any address rules hugetlb out.
 */
#include "dataplane/share.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static int64_t wall_offset_ns(void)
{
	struct timespec wall, monotonic;

	clock_gettime(CLOCK_MONOTONIC, &monotonic);
	clock_gettime(CLOCK_REALTIME, &wall);
	return (wall.tv_sec - monotonic.tv_sec) * INT64_C(1000000000) + wall.tv_nsec -
	       monotonic.tv_nsec;
}

static uint64_t round_to_pages(uint64_t n, uint64_t page)
{
	return (n + page - 1) / page * page;
}

/* Gives a memfd of that size, or -1 with errno. */
static int create_memfd(const char *name, uint64_t bytes)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -1;
	if (ftruncate(fd, (off_t)bytes) == 0)
		return fd;
	close(fd);
	return -1;
}

static void fill_ports(struct shared_header *header, const struct args *args)
{
	header->n_ports = args->n_ports;
	for (unsigned i = 0; i < args->n_ports; i++) {
		struct port_shared *port = &header->ports[i];

		memcpy(port->name, args->ports[i].name, sizeof(port->name));
		memcpy(port->source, args->ports[i].source, sizeof(port->source) - 1);
		port->role = args->ports[i].is_inner;
		port->n_queues = args->ports[i].n_queues;
	}
}

static int map_rings(struct share *share, const struct shared_header *layout)
{
	for (unsigned i = 0; i < layout->n_workers; i++) {
		uint8_t *ring =
			ring_map(share->shared_fd, layout->rings_offset + i * layout->ring_bytes,
				 layout->ring_bytes, PROT_READ | PROT_WRITE);

		if (ring == NULL)
			return -errno;
		share->rings[i] = ring;
		if (madvise(ring, 2 * layout->ring_bytes, MADV_POPULATE_WRITE) != 0)
			return -errno;
	}
	return 0;
}

static int map_shared(struct share *share, const struct shared_header *layout)
{
	void *mem;

	share->shared_bytes = layout->total_bytes;
	share->shared_fd = create_memfd("gatecap-shared", layout->total_bytes);
	if (share->shared_fd < 0)
		return -errno;
	mem = mmap(NULL, layout->rings_offset, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
		   share->shared_fd, 0);
	if (mem == MAP_FAILED)
		return -errno;
	share->header = mem;
	*share->header = *layout;
	return map_rings(share, layout);
}

static int map_tails(struct share *share, unsigned n_workers)
{
	void *mem;

	share->tails_bytes =
		round_to_pages(n_workers * sizeof(struct ring_tail), SHARED_PAGE_BYTES);
	share->tails_fd = create_memfd("gatecap-tails", share->tails_bytes);
	if (share->tails_fd < 0)
		return -errno;
	mem = mmap(NULL, share->tails_bytes, PROT_READ, MAP_SHARED, share->tails_fd, 0);
	if (mem == MAP_FAILED)
		return -errno;
	share->tails = mem;
	return 0;
}

static int seal(const struct share *share)
{
	if (fcntl(share->shared_fd, F_ADD_SEALS,
		  F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0)
		return -errno;
	if (fcntl(share->tails_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
		return -errno;
	return 0;
}

static int open_all(struct share *share, const struct args *args)
{
	struct shared_header layout = {.wall_offset_ns = wall_offset_ns()};
	int rc;

	shared_layout(&layout, args->n_workers, args->ring_bytes, 0);
	if (getrandom(&layout.boot_id, sizeof(layout.boot_id), 0) != sizeof(layout.boot_id))
		return -errno;
	fill_ports(&layout, args);
	rc = map_shared(share, &layout);
	if (rc == 0)
		rc = map_tails(share, args->n_workers);
	if (rc == 0)
		rc = seal(share);
	return rc;
}

int share_open(struct share *share, const struct args *args, struct error *err)
{
	int rc;

	*share = (struct share){.shared_fd = -1, .tails_fd = -1};
	rc = open_all(share, args);
	if (rc == 0)
		return 0;
	error_set(err,
		  "The shared rings (%u times %llu bytes) cannot be made: %s; lower --ring-bytes.",
		  args->n_workers, (unsigned long long)args->ring_bytes, strerror(-rc));
	share_close(share);
	return rc;
}

void share_close(struct share *share)
{
	for (unsigned i = 0; i < WORKERS_MAX; i++)
		if (share->rings[i] != NULL)
			ring_unmap(share->rings[i], share->header->ring_bytes);
	if (share->header != NULL)
		munmap(share->header, share->header->rings_offset);
	if (share->tails != NULL)
		munmap((void *)(uintptr_t)share->tails, share->tails_bytes);
	if (share->shared_fd >= 0)
		close(share->shared_fd);
	if (share->tails_fd >= 0)
		close(share->tails_fd);
	*share = (struct share){.shared_fd = -1, .tails_fd = -1};
}

struct worker_shared *share_worker(const struct share *share, unsigned worker)
{
	uint8_t *base = (uint8_t *)share->header + share->header->workers_offset;

	return (struct worker_shared *)(base + worker * share->header->worker_bytes);
}

void share_ring(const struct share *share, unsigned worker, struct ring_writer *ring)
{
	ring_writer_init(ring, share->rings[worker], share->header->ring_bytes,
			 &share_worker(share, worker)->ring, &share->tails[worker]);
}
