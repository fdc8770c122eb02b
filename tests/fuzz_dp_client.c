/* fuzz_dp_client.c - gatecapd's end of dp.sock against any dataplane.
 *
 * Input:  messages, each a byte and what it takes: a WELCOME whose memory has a header with some fields
 *         changed, APPLIED, REFUSED (of filters or SAs), BUSY, or any bytes with any number of descriptors.
 * Checks: what up() shows can be read and written from end to end; up and down alternate; nothing is
 *         told before WELCOME; no descriptor and no mapping is left.
 */
#include <errno.h>
#include <event2/event.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "control/dp_client.h"
#include "dataplane/dp_proto.h"
#include "dataplane/dp_socket.h"
#include "tests/fuzz_log.h"
#include "tests/fuzz_insist.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MESSAGES_MAX = 50, RING_BYTES = 8192, MEMORY_BYTES_MAX = 1 << 20 };

static struct world {
	struct event_base *base;
	int listener;
	char path[64];
	struct dp_client *client;
	bool is_up;
} world;

/* ---- what gatecapd would do ---- */

/* Touch all that was promised. */
static void walk_memory(void)
{
	const struct shared_header *h = dp_client_shared(world.client);
	struct ring_reader rings[WORKERS_MAX];
	unsigned n = dp_client_rings(world.client, rings);
	unsigned sum = 0;

	insist(n >= 1 && n <= WORKERS_MAX && h->n_ports <= PORTS_MAX, "counts are in range");
	for (unsigned i = 0; i < n; i++) {
		const struct worker_shared *w = dp_client_worker(world.client, i);

		sum += (unsigned)atomic_load(&w->heartbeat);
		sum += (unsigned)atomic_load(&w->sas[SA_MAX - 1].last_ns);
		sum += (unsigned)atomic_load(&w->slot_classes[CAPTURES_MAX - 1][CLASS_COUNT - 1]);
		sum += rings[i].data[0];
		sum += rings[i].data[2 * rings[i].size - 1];
		rings[i].tail = ring_available(&rings[i]) + sum;
		ring_release(&rings[i]);
	}
}

static void up(void *ctx)
{
	(void)ctx;
	insist(!world.is_up, "up after down");
	world.is_up = true;
	if (world.client != NULL)
		walk_memory();
}

static void down(void *ctx)
{
	(void)ctx;
	insist(world.is_up, "down after up");
	walk_memory();
	world.is_up = false;
}

static void applied(void *ctx, uint64_t generation, uint64_t time_ns)
{
	(void)ctx;
	(void)generation;
	(void)time_ns;
	insist(world.is_up, "nothing is applied before WELCOME");
}

static void refused(void *ctx, uint64_t generation, const char *why)
{
	(void)ctx;
	(void)generation;
	insist(world.is_up, "nothing is refused before WELCOME");
	insist(strlen(why) < DP_TEXT_MAX, "text ends");
}

static void sas_applied(void *ctx, uint64_t generation)
{
	applied(ctx, generation, 0);
}

/* ---- the dataplane ---- */

static void remove_socket(void)
{
	(void)unlink(world.path);
}

static void make_world(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (world.base != NULL)
		return;
	world.base = event_base_new();
	(void)snprintf(world.path, sizeof(world.path), "/tmp/fuzz-dp-client-%d.sock",
		       (int)getpid());
	memcpy(address.sun_path, world.path, sizeof(world.path));
	(void)unlink(world.path);
	world.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	insist(world.base != NULL && world.listener >= 0 &&
		       bind(world.listener, (struct sockaddr *)&address, sizeof(address)) == 0 &&
		       listen(world.listener, 8) == 0,
	       "a socket");
	(void)atexit(remove_socket);
}

static struct dp_header header_of(unsigned type)
{
	return (struct dp_header){DP_MAGIC, DP_VERSION, (uint16_t)type};
}

/* Change some of the 64-bit words at `mem`: a count, then for each where and what. */
static void change_words(struct bytes *b, void *mem, size_t bytes)
{
	for (unsigned n = bytes_u8(b) % 5; n > 0; n--) {
		size_t at = bytes_u8(b) % (bytes / 8) * 8;
		uint8_t how = bytes_u8(b);
		uint64_t word, value = bytes_u16(b);

		memcpy(&word, (uint8_t *)mem + at, 8);
		if (how & 1)
			word += (how & 2) ? value : -value;
		else
			word = value << how % 64;
		memcpy((uint8_t *)mem + at, &word, 8);
	}
}

static int make_memfd(const void *head, size_t head_bytes, uint64_t bytes)
{
	int fd = memfd_create("memory", MFD_CLOEXEC);

	if (bytes > MEMORY_BYTES_MAX)
		bytes = MEMORY_BYTES_MAX;
	insist(fd >= 0 && write(fd, head, head_bytes) == (ssize_t)head_bytes &&
		       ftruncate(fd, (off_t)bytes) == 0,
	       "memory");
	return fd;
}

static void send_welcome(int peer, struct bytes *b)
{
	uint8_t n_workers = 1 + bytes_u8(b) % 4;
	struct shared_header head = {.n_ports = 1};
	struct dp_welcome welcome = {.h = header_of(DP_WELCOME), .tails_bytes = SHARED_PAGE_BYTES};
	int fds[2];

	shared_layout(&head, n_workers, RING_BYTES, 0);
	welcome.shared_bytes = head.total_bytes;
	change_words(b, &head, offsetof(struct shared_header, ports));
	fds[0] = make_memfd(&head, sizeof(head),
			    bytes_u8(b) & 1 ? head.total_bytes : welcome.shared_bytes);
	if (bytes_u8(b) & 1) // agree with the memory
		welcome.shared_bytes = head.total_bytes;
	change_words(b, &welcome, sizeof(welcome));
	fds[1] = make_memfd("", 0, welcome.tails_bytes);
	(void)dp_socket_send(peer, &welcome, sizeof(welcome), fds, 2);
	(void)close(fds[0]);
	(void)close(fds[1]);
}

static void send_any(int peer, struct bytes *b)
{
	unsigned n_fds = bytes_u8(b) % (DP_SOCKET_FDS_MAX + 1);
	struct dp_header h = header_of(bytes_u8(b) % (DP_SAS_REFUSED + 2));
	uint8_t message[sizeof(h) + 2 * UINT8_MAX];
	int fds[DP_SOCKET_FDS_MAX];
	const uint8_t *bytes;
	size_t n = bytes_take(b, bytes_u8(b) * 2u, &bytes);

	memcpy(message, &h, sizeof(h));
	memcpy(message + sizeof(h), bytes, n);
	for (unsigned i = 0; i < n_fds; i++)
		fds[i] = make_memfd("x", 1, 4096);
	(void)dp_socket_send(peer, message, sizeof(h) + n, fds, n_fds);
	for (unsigned i = 0; i < n_fds; i++)
		(void)close(fds[i]);
}

static void send_one(int peer, struct bytes *b)
{
	struct dp_applied applied_ = {header_of(DP_APPLIED), 3, 4};
	struct dp_busy busy = {header_of(DP_BUSY), 1, 0};
	struct dp_refused refused_ = {.h = header_of(DP_REFUSED)};
	const uint8_t *bytes;
	uint8_t what = bytes_u8(b);

	if (what & 128) {
		applied_.h = header_of(DP_SAS_APPLIED);
		refused_.h = header_of(DP_SAS_REFUSED);
	}
	switch (what % 8) {
	case 0:
	case 1:
	case 2:
		send_welcome(peer, b);
		return;
	case 3:
		(void)dp_socket_send(peer, &applied_, sizeof(applied_), NULL, 0);
		return;
	case 4: { // a text that may not end
		size_t n = bytes_take(b, DP_TEXT_MAX, &bytes);

		memset(refused_.text, 'x', DP_TEXT_MAX);
		memcpy(refused_.text, bytes, n);
		(void)dp_socket_send(peer, &refused_, sizeof(refused_), NULL, 0);
		return;
	}
	case 5:
		(void)dp_socket_send(peer, &busy, sizeof(busy), NULL, 0);
		return;
	default:
		send_any(peer, b);
	}
}

static void run(void)
{
	for (unsigned i = 0; i < 3; i++)
		(void)event_base_loop(world.base, EVLOOP_NONBLOCK);
}

static int accept_client(void)
{
	struct dp_hello hello;
	int peer = accept4(world.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	insist(peer >= 0, "it connects");
	insist(recv(peer, &hello, sizeof(hello), 0) == sizeof(hello) && hello.h.type == DP_HELLO,
	       "it says HELLO");
	return peer;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct dp_events events = {
		.up = up,
		.down = down,
		.applied = applied,
		.refused = refused,
		.sas_applied = sas_applied,
		.sas_refused = size % 2 == 0 ? refused : NULL, // nobody need listen
	};
	struct bytes b = {data, size};
	int peer, n_open;

	make_world();
	n_open = open_descriptors();
	world.client = dp_client_open(world.base, world.path, &events);
	insist(world.client != NULL, "memory");
	run();
	peer = accept_client();
	for (unsigned i = 0; b.left > 0 && i < MESSAGES_MAX; i++) {
		send_one(peer, &b);
		run();
		if (world.is_up)
			insist(dp_client_set(world.client, "set", 3, 1) <= 0 &&
				       dp_client_set_sas(world.client, "sas", 3, 1) <= 0,
			       "sets may be sent");
	}
	dp_client_close(world.client);
	insist(!world.is_up, "down at the end");
	world.client = NULL;
	(void)close(peer);
	insist(open_descriptors() == n_open, "no descriptor is left open");
	return 0;
}
