/* fuzz_dp_server.c - dp.sock's server against any peers: any messages, descriptors, order of ends.
 *
 * The server is the real one, on a real socket; the workers and ports behind it are a few lines here.
 * Input:  steps, a byte each and what it takes: connect, hang up, say HELLO, send a set of filters or of SAs, send
 *         any bytes, send several descriptors, shut down one way, read what has come.
 * Checks: no step ends the process; what is answered is of the protocol; afterwards a good control
 *         process is served, and no descriptor is left open.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "dataplane/dp_proto.h"
#include "dataplane/dp_server.h"
#include "dataplane/dp_socket.h"
#include "dataplane/sa_table.h"
#include "filters/filter_set.h"
#include "tests/fuzz_log.h"
#include "tests/fuzz_insist.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PEERS_MAX = 11, STEPS_MAX = 200, SET_BYTES_MAX = 2000, ALL_SEALS = 15 };

static struct world {
	struct args args;
	struct share share;
	struct shared_header header;
	struct clock clock;
	struct dp_server *server;
	const struct matcher *published;
	const struct sa_table *published_sas;
	int peers[PEERS_MAX];
} world;

/* ---- what is behind the server ---- */

int loop_publish(struct loop *loop, const struct matcher *matcher)
{
	(void)loop;
	world.published = matcher;
	return 0;
}

int loop_publish_sas(struct loop *loop, const struct sa_table *sas)
{
	(void)loop;
	world.published_sas = sas;
	return 0;
}

void rx_play(struct rx *rx, bool is_capture_running, uint64_t start_ns)
{
	(void)rx;
	(void)is_capture_running;
	(void)start_ns;
}

void rx_read_ports(struct rx *rx, struct port_shared *ports)
{
	(void)rx;
	(void)ports;
}

/* ---- one server ---- */

static void make_world(void)
{
	static struct clock_params params = {.mult = UINT64_C(1) << 32};

	if (world.share.header != NULL)
		return;
	(void)snprintf(world.args.socket, sizeof(world.args.socket), "/tmp/fuzz-dp-%d.sock",
		       (int)getpid());
	world.args.control_uid = geteuid();
	world.share.shared_fd = memfd_create("shared", MFD_CLOEXEC);
	world.share.tails_fd = memfd_create("tails", MFD_CLOEXEC);
	world.share.shared_bytes = world.share.tails_bytes = SHARED_PAGE_BYTES;
	world.share.header = &world.header;
	world.header.boot_id = 7;
	atomic_init(&world.clock.params, &params);
}

static void open_server(void)
{
	const struct dp_server_parts parts = {
		.args = &world.args, .share = &world.share, .clock = &world.clock};
	struct error err = {0};

	make_world();
	for (unsigned i = 0; i < PEERS_MAX; i++)
		world.peers[i] = -1;
	insist(dp_server_open(&world.server, &parts, &err) == 0, err.text);
}

/* Serve until there is nothing to do. */
static void serve(void)
{
	struct pollfd fds[DP_POLL_MAX];
	struct error err = {0};

	for (unsigned i = 0; i < 1000; i++) {
		unsigned n = dp_server_poll(world.server, fds);

		if (poll(fds, n, 0) <= 0)
			return;
		insist(dp_server_serve(world.server, fds, n, &err) == 0,
		       "no peer ends the process");
	}
	insist(false, "it comes to rest");
}

/* ---- peers ---- */

static int connect_peer(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	memcpy(address.sun_path, world.args.socket, sizeof(world.args.socket));
	insist(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0,
	       "anyone may connect");
	return fd;
}

union answer {
	struct dp_header h;
	struct dp_welcome welcome;
	struct dp_refused refused;
};

/* Read one answer; gives its type, 0 when there is none.  Descriptors that come are closed. */
static unsigned read_answer(int fd, union answer *out)
{
	int fds[DP_SOCKET_FDS_MAX];
	unsigned n_fds;
	ssize_t n = dp_socket_receive(fd, out, sizeof(*out), fds, &n_fds);

	if (n <= 0)
		return 0;
	for (unsigned i = 0; i < n_fds; i++)
		(void)close(fds[i]);
	insist((size_t)n >= sizeof(out->h) && out->h.magic == DP_MAGIC &&
		       out->h.version == DP_VERSION,
	       "answers are of the protocol");
	insist(n_fds == (out->h.type == DP_WELCOME ? 2 : 0), "WELCOME alone brings descriptors");
	if (out->h.type == DP_REFUSED || out->h.type == DP_SAS_REFUSED)
		insist(memchr(out->refused.text, '\0', DP_TEXT_MAX) != NULL, "text ends");
	return out->h.type;
}

static struct dp_header header_of(enum dp_type type)
{
	return (struct dp_header){DP_MAGIC, DP_VERSION, (uint16_t)type};
}

/* A memfd, or what is none.  The bytes are the input's, under a header that is right if `kind` says so. */
static int make_descriptor(struct bytes *b, uint8_t kind, uint64_t generation, size_t *n)
{
	_Alignas(8) uint8_t set[SET_BYTES_MAX] = {0};
	struct set_header *h = (struct set_header *)set;
	struct sa_set_header *sas = (struct sa_set_header *)set;
	const uint8_t *bytes;
	int fd;

	*n = bytes_take(b, bytes_u8(b) * 4u, &bytes);
	memcpy(set, bytes, *n);
	if (kind & 16) {
		*n = *n < sizeof(*h) ? sizeof(*h) : *n;
		h->magic = SET_MAGIC;
		h->version = SET_VERSION;
		h->generation = generation;
		h->total_bytes = (uint32_t)*n;
	}
	if (kind & 64) {
		*n = *n < sizeof(*sas) ? sizeof(*sas) : *n;
		sas->magic = SA_SET_MAGIC;
		sas->version = SA_SET_VERSION;
		sas->generation = generation;
		sas->total_bytes = (uint32_t)*n;
	}
	if ((kind & 15) == 1)
		return open("/", O_RDONLY | O_CLOEXEC);
	if ((kind & 15) == 2)
		return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	fd = memfd_create("set", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	insist(fd >= 0 && write(fd, set, *n) == (ssize_t)*n, "memory");
	(void)fcntl(fd, F_ADD_SEALS, (kind & 15) < 8 ? ALL_SEALS : kind & ALL_SEALS);
	return fd;
}

static void send_set(int peer, struct bytes *b)
{
	uint8_t kind = bytes_u8(b);
	struct dp_set set = {.h = header_of(kind & 64 ? DP_SAS : DP_SET),
			     .generation = bytes_u16(b)};
	size_t n;
	int fd = make_descriptor(b, kind, set.generation, &n);

	set.bytes = kind & 32 ? bytes_u16(b) * UINT64_C(0x1000000000001) : n;
	(void)dp_socket_send(peer, &set, sizeof(set), &fd, 1);
	(void)close(fd);
}

/* Any bytes, with a header that is right if the first says so, and up to four descriptors. */
static void send_any(int peer, struct bytes *b)
{
	struct dp_header h = header_of(bytes_u8(b) % (DP_SAS_REFUSED + 2));
	uint8_t how = bytes_u8(b), message[300];
	unsigned n_fds = how % (DP_SOCKET_FDS_MAX + 1);
	int fds[DP_SOCKET_FDS_MAX];
	const uint8_t *bytes;
	size_t n = bytes_take(b, bytes_u8(b), &bytes), m;

	memcpy(message + sizeof(h), bytes, n);
	memcpy(message, &h, sizeof(h));
	for (unsigned i = 0; i < n_fds; i++)
		fds[i] = make_descriptor(b, bytes_u8(b), 1, &m);
	if (how & 128)
		(void)dp_socket_send(peer, message + sizeof(h), n, fds, n_fds);
	else
		(void)dp_socket_send(peer, message, sizeof(h) + n, fds, n_fds);
	for (unsigned i = 0; i < n_fds; i++)
		(void)close(fds[i]);
}

static void hang_up(int *peer)
{
	if (*peer >= 0)
		(void)close(*peer);
	*peer = -1;
}

static void step(struct bytes *b)
{
	const struct dp_hello hello = {header_of(DP_HELLO)};
	uint8_t what = bytes_u8(b);
	int *peer = &world.peers[(what >> 3) % PEERS_MAX];
	union answer answer;

	if (*peer < 0)
		*peer = connect_peer();
	switch (what % 8) {
	case 0:
		(void)dp_socket_send(*peer, &hello, sizeof(hello), NULL, 0);
		break;
	case 1:
	case 2:
		send_set(*peer, b);
		break;
	case 3:
	case 4:
		send_any(*peer, b);
		break;
	case 5:
		(void)shutdown(*peer, what >> 6 & 1 ? SHUT_RD : SHUT_WR);
		break;
	case 6:
		(void)read_answer(*peer, &answer);
		return; // not served in between: messages gather
	default:
		hang_up(peer);
	}
	if (bytes_u8(b) % 4 != 0)
		serve();
}

/* Send a set of either kind; gives what is answered. */
static unsigned send_good(int peer, const struct dp_set *set, const void *mem)
{
	int fd = memfd_create("set", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	union answer answer;

	insist(write(fd, mem, set->bytes) == (ssize_t)set->bytes, "memory");
	insist(fcntl(fd, F_ADD_SEALS, ALL_SEALS) == 0, "seals");
	insist(dp_socket_send(peer, set, sizeof(*set), &fd, 1) == 0, "it is sent");
	(void)close(fd);
	serve();
	return read_answer(peer, &answer);
}

/* Whoever comes afterwards and means well gets what it asks for. */
static void serve_a_good_one(void)
{
	const struct dp_hello hello = {header_of(DP_HELLO)};
	struct set_header empty = {
		.magic = SET_MAGIC, .version = SET_VERSION, .total_bytes = sizeof(empty)};
	struct sa_set_header no_sas = {
		.magic = SA_SET_MAGIC, .version = SA_SET_VERSION, .total_bytes = sizeof(no_sas)};
	struct dp_set set = {.h = header_of(DP_SET), .bytes = sizeof(empty)};
	struct dp_set sas = {.h = header_of(DP_SAS), .bytes = sizeof(no_sas)};
	int peer = connect_peer();
	union answer answer;

	insist(dp_socket_send(peer, &hello, sizeof(hello), NULL, 0) == 0, "HELLO is sent");
	serve();
	insist(read_answer(peer, &answer) == DP_WELCOME, "HELLO is answered");
	set.generation = empty.generation = answer.welcome.generation + 1;
	sas.generation = no_sas.generation = answer.welcome.sa_generation + 1;
	insist(send_good(peer, &set, &empty) == DP_APPLIED, "SET is applied");
	insist(matcher_generation(world.published) == set.generation, "and in use");
	insist(send_good(peer, &sas, &no_sas) == DP_SAS_APPLIED, "SAS is applied");
	insist(sa_table_generation(world.published_sas) == sas.generation, "and in use");
	(void)close(peer);
	serve();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes b = {data, size};
	int n_open;

	make_world();
	n_open = open_descriptors();
	open_server();
	for (unsigned i = 0; b.left > 0 && i < STEPS_MAX; i++)
		step(&b);
	for (unsigned i = 0; i < PEERS_MAX; i++)
		hang_up(&world.peers[i]);
	serve();
	serve_a_good_one();
	dp_server_close(world.server);
	insist(open_descriptors() == n_open, "no descriptor is left open");
	return 0;
}
