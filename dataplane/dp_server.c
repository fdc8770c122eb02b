/* dp_server.c - a listener, at most eight peers, one of which is the control process.
 *
 * Why peers may connect while a control process is there: a second one has to be told BUSY, with the
 * pid of the first, which is how an operator finds the one that was forgotten.
 * Peers that say nothing cannot keep others out: the ninth takes the place of the one that has been
 * silent for longest.  Who is there is served before anyone is let in, and one is let in at a time, so
 * nobody loses its place between connect() and its first message.
 * A signal interrupts what a descriptor from outside can make us wait for (main.c).
 */
#include "dataplane/dp_server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "filters/log.h"
#include "dataplane/dp_proto.h"
#include "dataplane/dp_socket.h"
#include "dataplane/locked_memory.h"
#include "dataplane/sa_table.h"
#include "filters/filter_set.h"
#include "filters/matcher.h"
#include "filters/sa_set.h"

enum {
	PLAY_AHEAD_NS = 2 * 1000 * 1000,
	SAS_BYTES_MAX = sizeof(struct sa_set_header) + SA_MAX * sizeof(struct sa_record),
};

struct client {
	int fd; // -1: free
	uint32_t pid;
	uint64_t number; // the how manieth that was let in
};

struct dp_server {
	struct dp_server_parts parts;
	int listener;
	struct client clients[DP_CLIENTS_MAX];
	uint64_t n_let_in;
	const struct client *control; // the one that said HELLO, or NULL
	struct matcher *matcher;      // in use
	uint64_t generation;
	struct sa_table *sas; // in use, or NULL
	uint64_t sa_generation;
};

int dp_server_open(struct dp_server **out, const struct dp_server_parts *parts, struct error *err)
{
	struct dp_server *server = calloc(1, sizeof(*server));

	if (server == NULL) {
		error_set(err, "Memory is short for the control socket.");
		return -ENOMEM;
	}
	server->parts = *parts;
	for (unsigned i = 0; i < DP_CLIENTS_MAX; i++)
		server->clients[i].fd = -1;
	server->listener = dp_socket_listen(parts->args->socket, parts->args->control_uid, err);
	if (server->listener < 0) {
		int rc = server->listener;

		free(server);
		return rc;
	}
	*out = server;
	return 0;
}

static void close_client(struct dp_server *server, struct client *client)
{
	if (server->control == client) {
		log_info("The control process (pid %u) has gone; what is captured stays as it is.",
			 client->pid);
		server->control = NULL;
	}
	close(client->fd);
	client->fd = -1;
}

void dp_server_close(struct dp_server *server)
{
	if (server == NULL)
		return;
	for (unsigned i = 0; i < DP_CLIENTS_MAX; i++)
		if (server->clients[i].fd >= 0)
			close(server->clients[i].fd);
	close(server->listener);
	(void)unlink(server->parts.args->socket);
	matcher_close(server->matcher);
	sa_table_close(server->sas);
	free(server);
}

unsigned dp_server_poll(const struct dp_server *server, struct pollfd fds[static DP_POLL_MAX])
{
	unsigned n = 0;

	for (unsigned i = 0; i < DP_CLIENTS_MAX; i++)
		if (server->clients[i].fd >= 0)
			fds[n++] = (struct pollfd){.fd = server->clients[i].fd, .events = POLLIN};
	fds[n++] = (struct pollfd){.fd = server->listener, .events = POLLIN}; // last: see above
	return n;
}

/* A free place, or that of the peer that has been here for longest without being the control process. */
static struct client *make_room(struct dp_server *server)
{
	struct client *oldest = NULL;

	for (unsigned i = 0; i < DP_CLIENTS_MAX; i++) {
		struct client *client = &server->clients[i];

		if (client->fd < 0)
			return client;
		if (client != server->control &&
		    (oldest == NULL || client->number < oldest->number))
			oldest = client;
	}
	close_client(server, oldest); // one of eight is the control process at the most
	return oldest;
}

static void accept_client(struct dp_server *server)
{
	int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (fd < 0)
		return; // it went away meanwhile
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 ||
	    (peer.uid != 0 && peer.uid != server->parts.args->control_uid)) {
		log_warning("A process of user %u was turned away from the control socket.",
			    peer.uid);
		close(fd);
		return;
	}
	*make_room(server) =
		(struct client){.fd = fd, .pid = (uint32_t)peer.pid, .number = ++server->n_let_in};
}

static struct dp_header header(enum dp_type type)
{
	return (struct dp_header){.magic = DP_MAGIC, .version = DP_VERSION, .type = (uint16_t)type};
}

/* ---- HELLO ---- */

/* False: the connection has to be closed. */
static bool serve_hello(struct dp_server *server, struct client *client)
{
	const struct share *share = server->parts.share;
	const int fds[2] = {share->shared_fd, share->tails_fd};
	struct dp_busy busy = {.h = header(DP_BUSY)};
	struct dp_welcome welcome = {
		.h = header(DP_WELCOME),
		.boot_id = share->header->boot_id,
		.shared_bytes = share->shared_bytes,
		.tails_bytes = share->tails_bytes,
		.generation = server->generation,
		.sa_generation = server->sa_generation,
	};

	if (server->control != NULL && server->control != client) {
		busy.pid = server->control->pid;
		(void)dp_socket_send(client->fd, &busy, sizeof(busy), NULL, 0);
		return false;
	}
	if (dp_socket_send(client->fd, &welcome, sizeof(welcome), fds, 2) != 0)
		return false;
	if (server->control == NULL)
		log_info("The control process (pid %u) is connected.", client->pid);
	server->control = client;
	return true;
}

/* ---- sets of both kinds ---- */

/* Is the set later than the one in use, and in a sealed memfd of its size?  Else a sentence. */
static bool may_come(const struct dp_set *set, int fd, uint64_t generation, uint64_t bytes_max,
		     struct error *err)
{
	const int wanted = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (set->generation <= generation) {
		error_set(err, "Generation %llu is not greater than %llu, which is in use.",
			  (unsigned long long)set->generation, (unsigned long long)generation);
		return false;
	}
	if (seals < 0 || (seals & wanted) != wanted) {
		error_set(err, "The set is not in a memfd sealed WRITE, SHRINK and GROW.");
		return false;
	}
	if (fstat(fd, &st) != 0 || set->bytes == 0 || set->bytes > bytes_max ||
	    (uint64_t)st.st_size != set->bytes) {
		error_set(err,
			  "The set says %llu bytes and its memfd has %lld; at most %llu are taken.",
			  (unsigned long long)set->bytes, (long long)st.st_size,
			  (unsigned long long)bytes_max);
		return false;
	}
	return true;
}

/* Copy a memfd to `mem` (NULL: memory was short).  False: a sentence. */
static bool read_set(int fd, uint8_t *mem, uint64_t bytes, struct error *err)
{
	if (mem == NULL) {
		error_set(err, "Memory is short for a set of %llu bytes.",
			  (unsigned long long)bytes);
		return false;
	}
	for (uint64_t n = 0; n < bytes;) {
		ssize_t got = pread(fd, mem + n, bytes - n, (off_t)n);

		if (got <= 0) {
			error_set(err, "The set cannot be read: %s.",
				  strerror(got < 0 ? errno : EIO));
			return false;
		}
		n += (uint64_t)got;
	}
	return true;
}

/* What its message says; else a sentence. */
static bool is_generation(const struct dp_set *set, uint64_t generation, struct error *err)
{
	if (generation == set->generation)
		return true;
	error_set(err, "The set says generation %llu and its message %llu.",
		  (unsigned long long)generation, (unsigned long long)set->generation);
	return false;
}

static bool refuse(struct client *client, const struct dp_set *set, const struct error *why)
{
	bool is_sas = set->h.type == DP_SAS;
	struct dp_refused refused = {.h = header(is_sas ? DP_SAS_REFUSED : DP_REFUSED),
				     .generation = set->generation};

	(void)snprintf(refused.text, sizeof(refused.text), "%.*s", DP_TEXT_MAX - 1, why->text);
	log_warning("%s %llu is refused: %s", is_sas ? "SA set" : "Set",
		    (unsigned long long)set->generation, why->text);
	return dp_socket_send(client->fd, &refused, sizeof(refused), NULL, 0) == 0;
}

/* A set that was published is not in use.  Gives -ETIMEDOUT and a sentence: the process has to end. */
static int timed_out(const struct dp_set *set, struct error *err)
{
	error_set(err,
		  "A worker did not take over %s %llu within %d ms; the process ends and has to be "
		  "started anew.",
		  set->h.type == DP_SAS ? "SA set" : "set", (unsigned long long)set->generation,
		  LOOP_DEAD_MS);
	return -ETIMEDOUT;
}

/* ---- SET ---- */

/* Check and compile.  Gives a matcher, or NULL and a sentence. */
static struct matcher *compile_set(const struct dp_server *server, const struct dp_set *set, int fd,
				   bool *has_captures, struct error *err)
{
	struct matcher *matcher = NULL;
	struct filter_set checked;
	void *mem;

	if (!may_come(set, fd, server->generation, DP_SET_BYTES_MAX, err))
		return NULL;
	mem = malloc(set->bytes);
	if (read_set(fd, mem, set->bytes, err) &&
	    filter_set_check(mem, set->bytes, &checked, err) == 0) {
		if (is_generation(set, checked.header->generation, err))
			matcher = matcher_open(&checked, err);
		*has_captures = checked.header->n_captures > 0;
	}
	free(mem);
	return matcher;
}

/* 0, or -errno and a sentence: the process has to end.  *keep: whether the connection stays. */
static int serve_set(struct dp_server *server, struct client *client, const struct dp_set *set,
		     int fd, bool *keep, struct error *err)
{
	struct dp_applied applied = {.h = header(DP_APPLIED), .generation = set->generation};
	bool has_captures = false;
	struct error why = {0};
	struct matcher *matcher = compile_set(server, set, fd, &has_captures, &why);

	if (matcher == NULL) {
		*keep = refuse(client, set, &why);
		return 0;
	}
	if (loop_publish(server->parts.loop, matcher) != 0)
		return timed_out(set, err);
	matcher_close(server->matcher);
	server->matcher = matcher;
	server->generation = set->generation;
	rx_read_ports(server->parts.rx, server->parts.share->header->ports);
	applied.time_ns = clock_now_ns(server->parts.clock);
	rx_play(server->parts.rx, has_captures, applied.time_ns + PLAY_AHEAD_NS);
	*keep = dp_socket_send(client->fd, &applied, sizeof(applied), NULL, 0) == 0;
	return 0;
}

/* ---- SAS ---- */

/* Check and compile.  Gives a table, or NULL and a sentence. */
static struct sa_table *compile_sas(const struct dp_server *server, const struct dp_set *set,
				    int fd, struct error *err)
{
	struct sa_table *sas = NULL;
	struct sa_set checked;
	void *mem;

	if (!may_come(set, fd, server->sa_generation, SAS_BYTES_MAX, err))
		return NULL;
	mem = locked_alloc(set->bytes);
	if (read_set(fd, mem, set->bytes, err) &&
	    sa_set_check(mem, set->bytes, &checked, err) == 0 &&
	    is_generation(set, checked.header->generation, err))
		sas = sa_table_open(&checked, err);
	locked_free(mem, set->bytes);
	return sas;
}

/* As serve_set(). */
static int serve_sas(struct dp_server *server, struct client *client, const struct dp_set *set,
		     int fd, bool *keep, struct error *err)
{
	struct dp_applied applied = {.h = header(DP_SAS_APPLIED), .generation = set->generation};
	struct error why = {0};
	struct sa_table *sas = compile_sas(server, set, fd, &why);

	if (sas == NULL) {
		*keep = refuse(client, set, &why);
		return 0;
	}
	if (loop_publish_sas(server->parts.loop, sas) != 0)
		return timed_out(set, err);
	sa_table_close(server->sas);
	server->sas = sas;
	server->sa_generation = set->generation;
	if (locked_missing() > 0)
		log_warning("%zu bytes with keys of %u SAs could not be locked and may be swapped "
			    "out: the limit of locked memory (RLIMIT_MEMLOCK) is too low.",
			    locked_missing(), sa_table_n(sas));
	applied.time_ns = clock_now_ns(server->parts.clock);
	*keep = dp_socket_send(client->fd, &applied, sizeof(applied), NULL, 0) == 0;
	return 0;
}

/* ---- messages ---- */

union message {
	struct dp_header h;
	struct dp_hello hello;
	struct dp_set set;
};

/* `n` bytes and n_fds descriptors have come.  *keep: whether they are a message that may come now. */
static int serve_message(struct dp_server *server, struct client *client, const union message *m,
			 size_t n, const int *fds, unsigned n_fds, bool *keep, struct error *err)
{
	*keep = false;
	if (n < sizeof(m->h) || m->h.magic != DP_MAGIC || m->h.version != DP_VERSION)
		return 0;
	if (m->h.type == DP_HELLO && n == sizeof(m->hello) && n_fds == 0) {
		*keep = serve_hello(server, client);
		return 0;
	}
	if (m->h.type == DP_SET && n == sizeof(m->set) && n_fds == 1 && server->control == client)
		return serve_set(server, client, &m->set, fds[0], keep, err);
	if (m->h.type == DP_SAS && n == sizeof(m->set) && n_fds == 1 && server->control == client)
		return serve_sas(server, client, &m->set, fds[0], keep, err);
	return 0;
}

static int serve_client(struct dp_server *server, struct client *client, struct error *err)
{
	int fds[DP_SOCKET_FDS_MAX];
	unsigned n_fds = 0;
	union message m;
	ssize_t n = dp_socket_receive(client->fd, &m, sizeof(m), fds, &n_fds);
	bool keep = n == -EAGAIN;
	int rc = 0;

	if (n > 0) {
		rc = serve_message(server, client, &m, (size_t)n, fds, n_fds, &keep, err);
		if (!keep && rc == 0 && server->control == client)
			log_warning(
				"The control process (pid %u) sent a message that is none of the "
				"protocol, or did not take its answer.",
				client->pid);
	}
	for (unsigned i = 0; i < n_fds; i++)
		close(fds[i]);
	if (!keep)
		close_client(server, client);
	return rc;
}

int dp_server_serve(struct dp_server *server, const struct pollfd *fds, unsigned n,
		    struct error *err)
{
	int rc = 0;

	for (unsigned i = 0; i < n && rc == 0; i++) {
		if (fds[i].revents == 0)
			continue;
		if (fds[i].fd == server->listener) {
			accept_client(server);
			continue;
		}
		for (unsigned c = 0; c < DP_CLIENTS_MAX && rc == 0; c++) {
			if (server->clients[c].fd == fds[i].fd) {
				rc = serve_client(server, &server->clients[c], err);
				break;
			}
		}
	}
	return rc;
}
