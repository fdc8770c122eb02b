/* afpacket_source.c - open the sockets, and take turns with the kernel on their blocks.
 *
 * DPDK's net_af_packet was refused: its fanout group puts IPv4 fragments together, its fixed slots
 * cut what is longer, and it reports the cut length as the original.  Slots for 64 KiB (TPACKET_V2)
 * were refused, too: 4,096 of them take 256 MiB; a block takes frames of any length, one behind the
 * other.
 *
 * A block is shown when it is full or after a time-out, which on kernels before 6.18 is counted in
 * ticks: up to 8 ms with HZ=250.  So the time of the burst would be wrong by as much; the kernel's
 * own stamps are not.
 *
 * Sockets take nothing until all are bound and know their share: none is seen twice.  Being
 * promiscuous is a membership of the first socket: the kernel takes it back when the process ends,
 * however it ends.
 */
#include "dataplane/afpacket_source.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "dataplane/afpacket_block.h"
#include "dataplane/afpacket_share.h"

static_assert(AFPACKET_BLOCK_BYTES >= 2 * AFPACKET_SNAP_BYTES, "a block holds the longest frame");

struct queue {
	/* Written at open. */
	alignas(128) uint8_t *ring;
	int fd;
	/* The worker's. */
	unsigned block;	 // that is read, or comes next
	bool is_reading; // the block is ours
	struct afpacket_block left;
};

struct afpacket_source {
	const char *name; // of the interface, borrowed for the time of open
	int interface;
	bool has_ethernet, is_up;
	int promiscuous;
	uint64_t n_lost; // the main thread's: the kernel starts at zero with each look
	unsigned n_queues;
	struct queue queues[];
};

static_assert(sizeof(struct queue) % 128 == 0 &&
		      offsetof(struct afpacket_source, queues) % 128 == 0,
	      "each queue's lines are one worker's");

#define NO_FILTER "the kernel does not take the filter of a queue"

/* ---- opening ---- */

static int refuse(const struct afpacket_source *source, const char *what, struct error *err)
{
	int rc = -errno;

	if (rc == -EPERM)
		error_set(err,
			  "Interface %s cannot be captured: packet sockets need the capability "
			  "CAP_NET_RAW; start as root or give it to the service.",
			  source->name);
	else if (rc == -ENODEV)
		error_set(err, "There is no interface %s here; ip link shows those that there are.",
			  source->name);
	else
		error_set(err, "Interface %s cannot be captured: %s: %s.", source->name, what,
			  strerror(-rc));
	return rc;
}

static int ask(int fd, unsigned long what, const char *name, struct ifreq *request)
{
	memset(request, 0, sizeof(*request));
	memcpy(request->ifr_name, name, strnlen(name, IFNAMSIZ - 1));
	return ioctl(fd, what, request);
}

static int find_interface(struct afpacket_source *source, struct error *err)
{
	struct ifreq request;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0); // protocol 0: gets nothing
	int rc = 0;

	if (fd < 0)
		return refuse(source, "there is no packet socket", err);
	if (ask(fd, SIOCGIFINDEX, source->name, &request) == 0) {
		source->interface = request.ifr_ifindex;
		if (ask(fd, SIOCGIFFLAGS, source->name, &request) == 0)
			source->is_up = request.ifr_flags & IFF_UP;
		if (ask(fd, SIOCGIFHWADDR, source->name, &request) == 0)
			source->has_ethernet = request.ifr_hwaddr.sa_family == ARPHRD_ETHER ||
					       request.ifr_hwaddr.sa_family == ARPHRD_LOOPBACK;
	} else {
		rc = refuse(source, "it is not found", err);
	}
	close(fd);
	return rc;
}

static int set(int fd, int level, int option, const void *value, size_t size)
{
	return setsockopt(fd, level, option, value, (socklen_t)size);
}

static int attach(const struct queue *queue, struct afpacket_share *share)
{
	const struct sock_fprog program = {.len = share->n, .filter = share->code};

	return set(queue->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

static int open_queue(struct afpacket_source *source, unsigned index, struct error *err)
{
	const int version = TPACKET_V3, reserve = AFPACKET_RESERVE_BYTES;
	// The frame size bounds nothing in this version: a frame takes what it needs.
	const struct tpacket_req3 ring = {
		.tp_block_size = AFPACKET_BLOCK_BYTES,
		.tp_block_nr = AFPACKET_BLOCKS,
		.tp_frame_size = AFPACKET_BLOCK_BYTES,
		.tp_frame_nr = AFPACKET_BLOCKS,
		.tp_retire_blk_tov = AFPACKET_RETIRE_MS,
	};
	struct queue *queue = &source->queues[index];
	struct afpacket_share share;
	void *memory;

	// Without Ethernet the kernel takes any link header off and says what follows.
	queue->fd =
		socket(AF_PACKET, SOCK_CLOEXEC | (source->has_ethernet ? SOCK_RAW : SOCK_DGRAM), 0);
	if (queue->fd < 0)
		return refuse(source, "there is no packet socket", err);
	afpacket_share_nothing(&share);
	if (attach(queue, &share) != 0)
		return refuse(source, NO_FILTER, err);
	if (set(queue->fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) != 0 ||
	    set(queue->fd, SOL_PACKET, PACKET_RESERVE, &reserve, sizeof(reserve)) != 0 ||
	    set(queue->fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof(ring)) != 0)
		return refuse(source, "the kernel has no ring of 16 MiB for a queue", err);
	memory = mmap(NULL, AFPACKET_RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
		      queue->fd, 0);
	if (memory == MAP_FAILED)
		return refuse(source, "its ring cannot be mapped", err);
	queue->ring = memory;
	return 0;
}

static int bind_queue(struct afpacket_source *source, unsigned index, struct error *err)
{
	const struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = source->interface,
	};

	if (bind(source->queues[index].fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
		return refuse(source, "a socket cannot be bound to it", err);
	return 0;
}

/* Make one group of all queues.  Returns 0, or -errno: of the first queue, nothing has happened. */
static int join_fanout(const struct afpacket_source *source, unsigned *n_joined)
{
	uint32_t group = (PACKET_FANOUT_CBPF | PACKET_FANOUT_FLAG_UNIQUEID) << 16;
	socklen_t size = sizeof(group);
	struct afpacket_share share;
	struct sock_fprog program = {.filter = share.code};

	for (*n_joined = 0; *n_joined < source->n_queues; ++*n_joined) {
		int fd = source->queues[*n_joined].fd;

		if (set(fd, SOL_PACKET, PACKET_FANOUT, &group, sizeof(group)) != 0)
			return -errno;
		if (*n_joined > 0)
			continue;
		// The kernel chose a number: the others join under it.
		if (getsockopt(fd, SOL_PACKET, PACKET_FANOUT, &group, &size) != 0)
			return -errno;
	}
	afpacket_share_fanout(&share, source->n_queues);
	program.len = share.n;
	if (set(source->queues[0].fd, SOL_PACKET, PACKET_FANOUT_DATA, &program, sizeof(program)) !=
	    0)
		return -errno;
	return 0;
}

/* Let the frames in, each into its queue. */
static int open_gates(const struct afpacket_source *source, struct error *err)
{
	unsigned n_joined = 0;
	bool is_group =
		source->n_queues > 1 && source->has_ethernet && join_fanout(source, &n_joined) == 0;

	if (!is_group && n_joined > 0)
		return refuse(source, "its queues cannot be made one group", err);
	for (unsigned i = 0; i < source->n_queues; i++) {
		struct afpacket_share share;

		if (is_group)
			afpacket_share_filter(&share, 0, 1, true);
		else
			afpacket_share_filter(&share, i, source->n_queues, source->has_ethernet);
		if (attach(&source->queues[i], &share) != 0)
			return refuse(source, NO_FILTER, err);
	}
	return 0;
}

static void join_promiscuous(struct afpacket_source *source)
{
	const struct packet_mreq request = {
		.mr_ifindex = source->interface,
		.mr_type = PACKET_MR_PROMISC,
	};

	if (set(source->queues[0].fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &request,
		sizeof(request)) != 0)
		source->promiscuous = -errno;
}

static struct afpacket_source *source_new(const char *interface, unsigned n_queues)
{
	size_t size = sizeof(struct afpacket_source) + n_queues * sizeof(struct queue);
	struct afpacket_source *source = aligned_alloc(alignof(struct queue), size);

	if (source == NULL)
		return NULL;
	memset(source, 0, size);
	source->name = interface;
	source->n_queues = n_queues;
	for (unsigned i = 0; i < n_queues; i++)
		source->queues[i].fd = -1;
	return source;
}

struct afpacket_source *afpacket_source_open(const char *interface, unsigned n_queues,
					     struct error *err)
{
	struct afpacket_source *source = source_new(interface, n_queues);
	int rc;

	if (source == NULL) {
		error_set(err, "Memory is short for the sockets of interface %s.", interface);
		return NULL;
	}
	rc = find_interface(source, err);
	for (unsigned i = 0; i < n_queues && rc == 0; i++)
		rc = open_queue(source, i, err);
	for (unsigned i = 0; i < n_queues && rc == 0; i++)
		rc = bind_queue(source, i, err);
	if (rc == 0)
		rc = open_gates(source, err);
	if (rc != 0) {
		afpacket_source_close(source);
		return NULL;
	}
	join_promiscuous(source);
	if (!source->is_up)
		(void)afpacket_source_went_down(source); // that is known
	source->name = NULL;
	return source;
}

void afpacket_source_close(struct afpacket_source *source)
{
	if (source == NULL)
		return;
	for (unsigned i = 0; i < source->n_queues; i++) {
		if (source->queues[i].ring != NULL)
			munmap(source->queues[i].ring, AFPACKET_RING_BYTES);
		if (source->queues[i].fd >= 0)
			close(source->queues[i].fd);
	}
	free(source);
}

/* ---- the main thread, while the workers run ---- */

bool afpacket_source_is_up(const struct afpacket_source *source)
{
	return source->is_up;
}

int afpacket_source_promiscuous(const struct afpacket_source *source)
{
	return source->promiscuous;
}

uint64_t afpacket_source_lost(struct afpacket_source *source)
{
	for (unsigned i = 0; i < source->n_queues; i++) {
		struct tpacket_stats_v3 stats = {0};
		socklen_t size = sizeof(stats);

		if (getsockopt(source->queues[i].fd, SOL_PACKET, PACKET_STATISTICS, &stats,
			       &size) == 0)
			source->n_lost += stats.tp_drops;
	}
	return source->n_lost;
}

bool afpacket_source_went_down(struct afpacket_source *source)
{
	int fault = 0;
	socklen_t size = sizeof(fault);

	// Reading it clears it.
	return getsockopt(source->queues[0].fd, SOL_SOCKET, SO_ERROR, &fault, &size) == 0 &&
	       fault != 0;
}

/* ---- the workers ---- */

static struct tpacket_block_desc *current_block(const struct queue *queue)
{
	return (void *)(queue->ring + (size_t)queue->block * AFPACKET_BLOCK_BYTES);
}

static void hand_back(struct queue *queue)
{
	// A2 pairs with the kernel's look for a free block: our reads are done before it writes.
	__atomic_store_n(&current_block(queue)->hdr.bh1.block_status, TP_STATUS_KERNEL,
			 __ATOMIC_RELEASE);
	queue->is_reading = false;
	queue->block = (queue->block + 1) % AFPACKET_BLOCKS;
}

/* True if the kernel has a block for us. */
static bool take_block(struct queue *queue, bool has_ethernet)
{
	struct tpacket_block_desc *desc = current_block(queue);

	// A1 pairs with the kernel's barrier before it sets the status: the frames are in place.
	if (!(__atomic_load_n(&desc->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
		return false;
	queue->left = afpacket_block_open(desc, has_ethernet);
	queue->is_reading = true;
	return true;
}

unsigned afpacket_source_burst(struct afpacket_source *source, unsigned index, struct pkt *p,
			       unsigned max, const struct clock *clock, uint64_t first_ns)
{
	struct queue *queue = &source->queues[index];
	struct afpacket_times times = {.first_ns = first_ns};
	struct timespec wall;
	unsigned n;

	if (!queue->is_reading && !take_block(queue, source->has_ethernet))
		return 0;
	(void)clock_gettime(CLOCK_REALTIME, &wall); // from the vDSO: no system call
	times.wall_ns = (uint64_t)wall.tv_sec * 1000000000 + (uint64_t)wall.tv_nsec;
	times.now_ns = clock_now_ns(clock);
	n = afpacket_block_read(&queue->left, p, max, &times);
	if (n == 0)
		hand_back(queue); // it timed out empty
	return n;
}

void afpacket_source_free(struct afpacket_source *source, unsigned index)
{
	struct queue *queue = &source->queues[index];

	assert(queue->is_reading);
	if (queue->left.n_left == 0)
		hand_back(queue);
}
