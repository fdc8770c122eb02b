/* dp_client.c - connect, map, send sets, hear of them.
 *
 * Any message that is not exactly what dp_proto.h says closes the connection; the next try begins
 * afresh.  Nothing here waits: the socket is non-blocking and read by the event loop.
 */
#include "control/dp_client.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "filters/log.h"
#include "dataplane/dp_proto.h"

enum { N_FDS = 2 };

struct dp_client {
	struct event_base *base;
	struct event *readable, *retry;
	struct dp_events events;
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	int fd;
	bool was_refused_busy; // said once, not four times a second
	bool is_alive, is_absent;
	struct shared_header *shared;
	uint64_t shared_bytes; // without the rings' data
	struct ring_tail *tails;
	uint64_t tails_bytes;
	uint8_t *rings[WORKERS_MAX];
	uint64_t generation, sa_generation;
};

static void on_readable(evutil_socket_t fd, short what, void *ctx);
static void on_retry(evutil_socket_t fd, short what, void *ctx);

static void unmap_all(struct dp_client *c)
{
	for (unsigned i = 0; i < WORKERS_MAX; i++) {
		if (c->rings[i] != NULL)
			ring_unmap(c->rings[i], c->shared->ring_bytes);
		c->rings[i] = NULL;
	}
	if (c->shared != NULL)
		(void)munmap(c->shared, c->shared_bytes);
	if (c->tails != NULL)
		(void)munmap(c->tails, c->tails_bytes);
	c->shared = NULL;
	c->tails = NULL;
}

static void try_later(struct dp_client *c)
{
	const struct timeval later = {.tv_usec = DP_RETRY_MS * 1000};

	(void)event_add(c->retry, &later);
}

/* Its death closes its end of the socket, whatever we have read of it. */
static bool has_peer(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	return fd >= 0 && poll(&p, 1, 0) == 0;
}

static void disconnect(struct dp_client *c)
{
	if (c->readable != NULL)
		event_free(c->readable);
	c->readable = NULL;
	c->is_alive = has_peer(c->fd);
	if (c->fd >= 0)
		(void)close(c->fd);
	c->fd = -1;
	if (c->shared != NULL)
		c->events.down(c->events.ctx);
	unmap_all(c);
	try_later(c);
}

/* `n` blocks of `each` bytes from `offset` on, whole pages that end at `end` or before. */
static bool blocks_fit(uint64_t offset, uint64_t n, uint64_t each, uint64_t end)
{
	return offset <= end && each <= (end - offset) / n && offset % SHARED_PAGE_BYTES == 0 &&
	       each % SHARED_PAGE_BYTES == 0;
}

/* Are sizes and offsets of the header possible for a memfd of so many bytes? */
static bool header_fits(const struct shared_header *h, uint64_t bytes, uint64_t tails_bytes)
{
	return h->magic == SHARED_MAGIC && h->version == SHARED_VERSION && h->n_workers >= 1 &&
	       h->n_workers <= WORKERS_MAX && h->n_ports <= PORTS_MAX && h->total_bytes == bytes &&
	       h->worker_bytes >= sizeof(struct worker_shared) &&
	       h->ring_bytes >= SHARED_PAGE_BYTES && (h->ring_bytes & (h->ring_bytes - 1)) == 0 &&
	       h->workers_offset >= sizeof(*h) &&
	       blocks_fit(h->workers_offset, h->n_workers, h->worker_bytes, h->rings_offset) &&
	       blocks_fit(h->rings_offset, h->n_workers, h->ring_bytes, bytes) &&
	       tails_bytes >= h->n_workers * sizeof(struct ring_tail);
}

static int map_all(struct dp_client *c, const struct dp_welcome *welcome, const int fds[N_FDS])
{
	struct shared_header head;
	struct stat shared, tails;
	void *mapped;

	if (fstat(fds[0], &shared) != 0 || fstat(fds[1], &tails) != 0 ||
	    (uint64_t)shared.st_size != welcome->shared_bytes ||
	    (uint64_t)tails.st_size != welcome->tails_bytes ||
	    pread(fds[0], &head, sizeof(head), 0) != sizeof(head) ||
	    !header_fits(&head, welcome->shared_bytes, welcome->tails_bytes))
		return -EPROTO;
	mapped = mmap(NULL, head.rings_offset, PROT_READ, MAP_SHARED, fds[0], 0);
	if (mapped == MAP_FAILED)
		return -errno;
	c->shared = mapped;
	c->shared_bytes = head.rings_offset;
	mapped = mmap(NULL, welcome->tails_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
	if (mapped == MAP_FAILED)
		return -errno;
	c->tails = mapped;
	c->tails_bytes = welcome->tails_bytes;
	for (unsigned i = 0; i < head.n_workers; i++) {
		c->rings[i] = ring_map(fds[0], head.rings_offset + i * head.ring_bytes,
				       head.ring_bytes, PROT_READ);
		if (c->rings[i] == NULL)
			return -ENOMEM;
	}
	return 0;
}

static void on_welcome(struct dp_client *c, const struct dp_welcome *welcome, const int fds[N_FDS])
{
	int rc = map_all(c, welcome, fds);

	if (rc != 0) {
		log_error("The dataplane's memory could not be mapped: %s.", strerror(-rc));
		unmap_all(c);
		disconnect(c);
		return;
	}
	c->generation = welcome->generation;
	c->sa_generation = welcome->sa_generation;
	c->was_refused_busy = false;
	c->events.up(c->events.ctx);
}

static void on_busy(struct dp_client *c, const struct dp_busy *busy)
{
	if (!c->was_refused_busy)
		log_warning(
			"The dataplane at %s serves another gatecapd, process %u; trying again.",
			c->path, busy->pid);
	c->was_refused_busy = true;
	disconnect(c);
}

/* What became of a filter set or of SAs; false: it is no such message. */
static bool on_answer(struct dp_client *c, void *message, size_t bytes)
{
	const struct dp_header *h = message;
	const struct dp_events *e = &c->events;
	const struct dp_applied *applied = message;
	struct dp_refused *refused = message;

	if (bytes == sizeof(*applied) && h->type == DP_APPLIED) {
		e->applied(e->ctx, applied->generation, applied->time_ns);
	} else if (bytes == sizeof(*applied) && h->type == DP_SAS_APPLIED) {
		if (e->sas_applied != NULL)
			e->sas_applied(e->ctx, applied->generation);
	} else if (bytes == sizeof(*refused) &&
		   (h->type == DP_REFUSED || h->type == DP_SAS_REFUSED)) {
		refused->text[DP_TEXT_MAX - 1] = '\0';
		if (h->type == DP_REFUSED)
			e->refused(e->ctx, refused->generation, refused->text);
		else if (e->sas_refused != NULL)
			e->sas_refused(e->ctx, refused->generation, refused->text);
	} else {
		return false;
	}
	return true;
}

/* One whole message; false: it is not one. */
static bool dispatch(struct dp_client *c, void *message, size_t bytes, int n_fds,
		     const int fds[N_FDS])
{
	const struct dp_header *h = message;

	if (bytes < sizeof(*h) || h->magic != DP_MAGIC || h->version != DP_VERSION)
		return false;
	if (h->type == DP_WELCOME && bytes == sizeof(struct dp_welcome) && n_fds == N_FDS &&
	    c->shared == NULL) {
		on_welcome(c, message, fds);
	} else if (h->type == DP_BUSY && bytes == sizeof(struct dp_busy)) {
		on_busy(c, message);
	} else {
		// Before WELCOME nothing was asked for.
		return c->shared != NULL && on_answer(c, message, bytes);
	}
	return true;
}

/* Receive one message and its descriptors; gives its bytes, 0 at the end, -errno, -EMSGSIZE also when
 * more came than there is room for.
 */
static ssize_t receive(int fd, void *buf, size_t bytes, int fds[N_FDS], int *n_fds)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(N_FDS * sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = buf, .iov_len = bytes};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);

	*n_fds = 0;
	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c != NULL; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		*n_fds = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), (size_t)*n_fds * sizeof(int));
	}
	return msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ? -EMSGSIZE : n;
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct dp_client *c = ctx;
	union {
		struct dp_header h;
		struct dp_welcome welcome;
		struct dp_refused refused;
	} message;
	int fds[N_FDS], n_fds;
	ssize_t n = receive(fd, &message, sizeof(message), fds, &n_fds);
	bool ok;

	(void)what;
	if (n == -EAGAIN || n == -EINTR)
		return;
	ok = n > 0 && dispatch(c, &message, (size_t)n, n_fds, fds);
	for (int i = 0; i < n_fds; i++)
		(void)close(fds[i]);
	if (!ok && c->fd >= 0) {
		if (n > 0 || n == -EMSGSIZE)
			log_error("The dataplane at %s speaks another language: are gatecapd and "
				  "gatecap-dataplane of one version?",
				  c->path);
		disconnect(c);
	}
}

static void on_retry(evutil_socket_t fd, short what, void *ctx)
{
	struct dp_client *c = ctx;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct dp_hello hello = {{DP_MAGIC, DP_VERSION, DP_HELLO}};

	(void)fd;
	(void)what;
	memcpy(address.sun_path, c->path, sizeof(address.sun_path));
	c->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	c->is_absent = false;
	if (c->fd >= 0 && connect(c->fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		c->is_absent = errno == ECONNREFUSED || errno == ENOENT;
		disconnect(c);
		return;
	}
	if (c->fd < 0 || send(c->fd, &hello, sizeof(hello), MSG_NOSIGNAL) != sizeof(hello)) {
		disconnect(c);
		return;
	}
	c->readable = event_new(c->base, c->fd, EV_READ | EV_PERSIST, on_readable, c);
	if (c->readable == NULL || event_add(c->readable, NULL) != 0)
		disconnect(c);
}

struct dp_client *dp_client_open(struct event_base *base, const char *path,
				 const struct dp_events *events)
{
	struct dp_client *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->base = base;
	c->events = *events;
	c->fd = -1;
	(void)snprintf(c->path, sizeof(c->path), "%s", path);
	c->retry = event_new(base, -1, 0, on_retry, c);
	if (c->retry == NULL) {
		free(c);
		return NULL;
	}
	event_active(c->retry, 0, 0);
	return c;
}

void dp_client_close(struct dp_client *c)
{
	if (c == NULL)
		return;
	disconnect(c);
	event_free(c->retry);
	free(c);
}

bool dp_client_is_alive(const struct dp_client *c)
{
	return c->is_alive;
}

bool dp_client_is_absent(const struct dp_client *c)
{
	return c->is_absent;
}

const struct shared_header *dp_client_shared(const struct dp_client *c)
{
	return c->shared;
}

const struct worker_shared *dp_client_worker(const struct dp_client *c, unsigned i)
{
	return (const struct worker_shared *)((const uint8_t *)c->shared +
					      c->shared->workers_offset +
					      i * c->shared->worker_bytes);
}

uint64_t dp_client_generation(const struct dp_client *c)
{
	return c->generation;
}

uint64_t dp_client_sa_generation(const struct dp_client *c)
{
	return c->sa_generation;
}

unsigned dp_client_rings(const struct dp_client *c, struct ring_reader *out)
{
	for (unsigned i = 0; i < c->shared->n_workers; i++)
		ring_reader_init(&out[i], c->rings[i], c->shared->ring_bytes,
				 &dp_client_worker(c, i)->ring, &c->tails[i]);
	return c->shared->n_workers;
}

/* A memfd of the set that nobody can change any more, this process included.  Never mapped: keys are in it
 * and in the caller's memory, and nowhere else.
 */
static int seal_set(const void *set, size_t bytes)
{
	int fd = memfd_create("gatecap-set", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (write(fd, set, bytes) != (ssize_t)bytes ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0) {
		(void)close(fd);
		return -EIO;
	}
	return fd;
}

static int send_set(struct dp_client *c, enum dp_type type, const void *set, size_t bytes,
		    uint64_t generation)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct dp_set message = {
		.h = {DP_MAGIC, DP_VERSION, (uint16_t)type},
		.generation = generation,
		.bytes = bytes,
	};
	struct iovec iov = {.iov_base = &message, .iov_len = sizeof(message)};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	int fd = seal_set(set, bytes), rc = 0;

	if (fd < 0) {
		(void)shutdown(c->fd, SHUT_RDWR);
		return fd;
	}
	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	if (sendmsg(c->fd, &msg, MSG_NOSIGNAL) != sizeof(message)) {
		rc = -errno;
		(void)shutdown(c->fd, SHUT_RDWR); // read as the end by the loop: down() follows
	}
	(void)close(fd);
	return rc;
}

int dp_client_set(struct dp_client *c, const void *set, size_t bytes, uint64_t generation)
{
	return send_set(c, DP_SET, set, bytes, generation);
}

int dp_client_set_sas(struct dp_client *c, const void *set, size_t bytes, uint64_t generation)
{
	return send_set(c, DP_SAS, set, bytes, generation);
}
