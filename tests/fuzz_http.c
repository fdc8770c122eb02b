/* fuzz_http.c - any bytes as what a client sends: whole requests, through libevent and all of http.c.
 *
 * Input:  bytes for one connection after another.  0xff begins a new connection, 0xfe lets the server
 *         read what there is before more comes, 0xfd hangs up.
 * Routes: one for each way to reply; "later" is replied to when the next request for it comes, or never.
 * Checks: an answer is HTTP; when all clients are gone, so are all connections, requests and streams.
 */
#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cjson/cJSON.h>
#include <event2/event.h>

#include "control/http.h"
#include "tests/fuzz_insist.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	NEW_CONNECTION = 0xff,
	PAUSE = 0xfe,
	HANG_UP = 0xfd,
	CONNECTIONS_MAX = 12, // more are only slow
	PIECES_MAX = 40,      // of one connection
	ANSWER_BYTES = 1 << 16,
	STREAM_BYTES = 300000, // more than a chunk
};

static struct world {
	struct event_base *base;
	struct http_server *server;
	struct sockaddr_un address;
	struct http_req *later;
	unsigned n_streams;
} world;

/* ---- handlers ---- */

static void echo(struct http_req *req, void *ctx)
{
	struct cJSON *json = http_body_json(req);

	(void)ctx;
	if (json != NULL)
		http_reply_json(req, 201, json);
}

static void show(struct http_req *req, void *ctx)
{
	size_t len;
	const char *name = http_name(req, 0), *header = http_header(req, "X-Any");
	const char *body = http_body(req, &len);
	char text[2 * HTTP_SEGMENT_BYTES];
	int n = snprintf(text, sizeof(text), "%s %zu", name, strlen(http_query(req)));

	(void)ctx;
	insist(name != NULL && http_path(req)[0] == '/', "a route has its names");
	insist(header == NULL || strlen(header) < HTTP_HEADERS_BYTES_MAX, "headers are bounded");
	insist(body != NULL && len <= HTTP_BODY_BYTES_MAX, "bodies are bounded");
	http_reply_header(req, "X-Name", name);
	http_reply_text(req, 200, "text/plain", text, (size_t)n);
}

static void later_gone(void *ctx)
{
	insist(ctx == world.later, "the one that waits");
	world.later = NULL;
}

static void later(struct http_req *req, void *ctx)
{
	struct http_req *before = world.later;

	(void)ctx;
	world.later = req;
	http_req_later(req, later_gone, req);
	if (before != NULL)
		http_reply_empty(before, 204);
}

static void nothing(struct http_req *req, void *ctx)
{
	(void)req;
	(void)ctx; // the server says 500
}

static int read_stream(void *ctx, void *buf, size_t len)
{
	(void)ctx;
	memset(buf, 's', len);
	return 0;
}

static int read_broken(void *ctx, void *buf, size_t len)
{
	(void)ctx;
	(void)buf;
	(void)len;
	return -EIO;
}

static void stream_done(void *ctx, bool ok)
{
	(void)ctx;
	(void)ok;
	world.n_streams--;
}

static void stream(struct http_req *req, void *ctx)
{
	struct http_stream s = {.content_type = "application/octet-stream",
				.n_bytes = STREAM_BYTES,
				.read = *http_query(req) == 'b' ? read_broken : read_stream,
				.done = stream_done};

	(void)ctx;
	world.n_streams++;
	http_reply_stream(req, 200, &s);
}

static const struct http_route routes[] = {
	{"POST", "/echo", echo},     {"GET", "/show/*", show},	   {"PUT", "/show/*", show},
	{"GET", "/later", later},    {"GET", "/nothing", nothing}, {"GET", "/stream", stream},
	{"HEAD", "/stream", stream},
};

/* ---- clients ---- */

static void run(void)
{
	for (unsigned i = 0; i < 4; i++)
		(void)event_base_loop(world.base, EVLOOP_NONBLOCK);
}

static void make_world(void)
{
	struct http_settings settings = {.routes = routes,
					 .n_routes = sizeof(routes) / sizeof(routes[0]),
					 .connections_max = 4};
	struct error err = {0};
	int fd;

	if (world.base != NULL)
		return;
	world.base = event_base_new();
	world.server = http_server_open(world.base, &settings, &err);
	insist(world.server != NULL, err.text);
	/* No name: the kernel gives an abstract one. */
	world.address.sun_family = AF_UNIX;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	insist(fd >= 0 && bind(fd, (struct sockaddr *)&world.address, sizeof(sa_family_t)) == 0 &&
		       listen(fd, 8) == 0,
	       "a socket");
	socklen_t len = sizeof(world.address);
	insist(getsockname(fd, (struct sockaddr *)&world.address, &len) == 0, "its name");
	insist(http_listen_fd(world.server, fd, NULL, NULL, &err) == 0, err.text);
}

static int connect_client(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 6);

	insist(fd >= 0 && connect(fd, (struct sockaddr *)&world.address, len) == 0, "it accepts");
	return fd;
}

/* Read the answers that are there. */
static void read_answers(int fd, bool *is_first)
{
	static char text[ANSWER_BYTES];
	ssize_t n;

	while ((n = recv(fd, text, sizeof(text), 0)) > 0) {
		if (*is_first && n >= 5)
			insist(memcmp(text, "HTTP/", 5) == 0, "answers are HTTP");
		*is_first = false;
		run();
	}
}

/* One connection; gives where the next begins. */
static size_t talk(const uint8_t *data, size_t size)
{
	int fd = connect_client();
	bool is_first = true;
	size_t at = 0;

	run();
	for (unsigned pieces = 0; at < size && data[at] != NEW_CONNECTION && data[at] != HANG_UP;) {
		size_t n = 0;

		if (pieces++ == PIECES_MAX)
			break;
		while (at + n < size && data[at + n] < HANG_UP)
			n++;
		if (n > 0 && send(fd, data + at, n, MSG_NOSIGNAL) < 0)
			break;
		run();
		read_answers(fd, &is_first);
		at += n;
		if (at < size && data[at] == PAUSE)
			at++;
	}
	if (at < size && data[at] != HANG_UP)
		(void)shutdown(fd, SHUT_WR);
	run();
	read_answers(fd, &is_first);
	(void)close(fd);
	run();
	return at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t at = 0;
	int n_open;

	make_world();
	run();
	n_open = open_descriptors();
	for (unsigned i = 0; i < CONNECTIONS_MAX && (i == 0 || at < size); i++) {
		at += talk(data + at, size - at);
		while (at < size && data[at] >= HANG_UP)
			at++;
	}
	for (unsigned i = 0; i < 20 && http_n_connections(world.server) > 0; i++)
		run();
	insist(http_n_connections(world.server) == 0, "connections go with their clients");
	insist(world.later == NULL && world.n_streams == 0, "and so does what they asked for");
	insist(open_descriptors() == n_open, "no descriptor is left open");
	return 0;
}
