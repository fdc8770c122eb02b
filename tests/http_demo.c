/* http_demo.c - a small server on control/http.h, for tests/test_http.py to attack.
 *
 * Usage: http_demo SOCKET [CONNECTIONS_MAX REQUEST_MS REPLY_MS [GROUP [PORT_FILE]]]
 * With PORT_FILE it listens on a loopback TCP port, too, whose number goes there; every other
 * connection on it fails to get its bufferevent, as TLS can.
 * Routes show each way to reply; GET /stats says what the server knows of its own connections, so
 * that a test can see that a client that is gone is gone.  Ends on SIGTERM, or at end of stdin, so
 * that it never outlives its test.
 */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "control/http.h"

static struct {
	struct event_base *base;
	struct http_server *server;
	unsigned n_gone;
	unsigned n_streams_ok;
	unsigned n_streams_cut;
	uint64_t n_bytes_read;
} demo;

static void get_hello(struct http_req *req, void *ctx)
{
	cJSON *json = cJSON_CreateObject();

	(void)ctx;
	(void)cJSON_AddStringToObject(json, "name", http_name(req, 0));
	(void)cJSON_AddStringToObject(json, "query", http_query(req));
	http_reply_json(req, 200, json);
}

static void post_echo(struct http_req *req, void *ctx)
{
	cJSON *json = http_body_json(req);

	(void)ctx;
	if (json != NULL)
		http_reply_json(req, 201, json);
}

static void post_empty(struct http_req *req, void *ctx)
{
	(void)ctx;
	http_reply_header(req, "Retry-After", "1");
	http_reply_empty(req, 202);
}

static void get_stats(struct http_req *req, void *ctx)
{
	cJSON *json = cJSON_CreateObject();

	(void)ctx;
	(void)cJSON_AddNumberToObject(json, "connections", http_n_connections(demo.server));
	(void)cJSON_AddNumberToObject(json, "gone", demo.n_gone);
	(void)cJSON_AddNumberToObject(json, "streams_ok", demo.n_streams_ok);
	(void)cJSON_AddNumberToObject(json, "streams_cut", demo.n_streams_cut);
	(void)cJSON_AddNumberToObject(json, "bytes_read", (double)demo.n_bytes_read);
	http_reply_json(req, 200, json);
}

/* A reply that comes later. */
struct wait {
	struct http_req *req;
	struct event *timer;
};

static void wait_free(struct wait *wait)
{
	event_free(wait->timer);
	free(wait);
}

static void wait_gone(void *ctx)
{
	demo.n_gone++;
	wait_free(ctx);
}

static void wait_over(evutil_socket_t fd, short what, void *ctx)
{
	struct wait *wait = ctx;

	(void)fd;
	(void)what;
	http_reply_json(wait->req, 200, cJSON_CreateString("waited"));
	wait_free(wait);
}

static void get_wait(struct http_req *req, void *ctx)
{
	struct wait *wait = calloc(1, sizeof(*wait));
	unsigned ms = (unsigned)strtoul(http_name(req, 0), NULL, 10);
	struct timeval delay = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	(void)ctx;
	if (wait == NULL)
		abort();
	wait->req = req;
	wait->timer = event_new(demo.base, -1, 0, wait_over, wait);
	(void)event_add(wait->timer, &delay);
	http_req_later(req, wait_gone, wait);
}

static void get_nothing(struct http_req *req, void *ctx)
{
	(void)req;
	(void)ctx; // no reply: the server has to say 500
}

/* A stream of bytes that say their own offset, so that a test sees what is missing. */
struct source {
	uint64_t offset;
	uint64_t fail_at;
};

static int source_read(void *ctx, void *buf, size_t len)
{
	struct source *source = ctx;
	unsigned char *bytes = buf;

	if (source->offset + len > source->fail_at)
		return -EIO;
	for (size_t i = 0; i < len; i++)
		bytes[i] = (unsigned char)((source->offset + i) * 2654435761U >> 24);
	source->offset += len;
	demo.n_bytes_read += len;
	return 0;
}

static void source_done(void *ctx, bool ok)
{
	if (ok)
		demo.n_streams_ok++;
	else
		demo.n_streams_cut++;
	free(ctx);
}

static void stream(struct http_req *req, uint64_t fail_at)
{
	struct source *source = calloc(1, sizeof(*source));
	struct http_stream s = {.content_type = "application/octet-stream",
				.n_bytes = strtoull(http_name(req, 0), NULL, 10),
				.read = source_read,
				.done = source_done,
				.ctx = source};

	if (source == NULL)
		abort();
	source->fail_at = fail_at;
	http_reply_stream(req, 200, &s);
}

static void get_stream(struct http_req *req, void *ctx)
{
	(void)ctx;
	stream(req, UINT64_MAX);
}

static void get_broken(struct http_req *req, void *ctx)
{
	(void)ctx;
	stream(req, 1000000);
}

static const struct http_route routes[] = {
	{"GET", "/hello/*", get_hello},	    {"POST", "/echo", post_echo},
	{"POST", "/empty", post_empty},	    {"GET", "/stats", get_stats},
	{"GET", "/wait/*", get_wait},	    {"GET", "/nothing", get_nothing},
	{"GET", "/stream/*", get_stream},   {"GET", "/broken/*", get_broken},
	{"POST", "/stream/*/x", post_echo}, {"PUT", "/hello/*", get_hello},
};

static struct bufferevent *make_every_other(struct event_base *base, void *ctx)
{
	static unsigned n;

	(void)ctx;
	return n++ % 2 == 0 ? NULL : bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
}

static int listen_tcp(const char *port_file, struct error *err)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	FILE *out = fopen(port_file, "we");

	if (out == NULL || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
	    listen(fd, 16) != 0 || getsockname(fd, (struct sockaddr *)&address, &len) != 0)
		abort();
	(void)fprintf(out, "%u\n", ntohs(address.sin_port));
	(void)fclose(out);
	return http_listen_fd(demo.server, fd, make_every_other, NULL, err);
}

static void stop(evutil_socket_t fd, short what, void *ctx)
{
	char byte;

	(void)ctx;
	if ((what & EV_SIGNAL) || read(fd, &byte, 1) <= 0)
		(void)event_base_loopbreak(demo.base);
}

int main(int argc, char **argv)
{
	struct http_settings settings = {.routes = routes,
					 .n_routes = sizeof(routes) / sizeof(routes[0])};
	struct error err = {{0}};
	struct event *on_term, *on_stdin;

	if (argc > 4) {
		settings.connections_max = (unsigned)strtoul(argv[2], NULL, 10);
		settings.request_ms = (unsigned)strtoul(argv[3], NULL, 10);
		settings.reply_ms = (unsigned)strtoul(argv[4], NULL, 10);
	}
	demo.base = event_base_new();
	demo.server = http_server_open(demo.base, &settings, &err);
	if (demo.server == NULL || argc < 2 ||
	    http_listen_unix(demo.server, argv[1], argc > 5 ? argv[5] : NULL, &err) != 0 ||
	    (argc > 6 && listen_tcp(argv[6], &err) != 0)) {
		(void)fprintf(stderr, "http_demo: %s\n", err.text);
		http_server_close(demo.server);
		event_base_free(demo.base);
		return 1;
	}
	on_term = evsignal_new(demo.base, SIGTERM, stop, NULL);
	on_stdin = event_new(demo.base, STDIN_FILENO, EV_READ | EV_PERSIST, stop, NULL);
	(void)event_add(on_term, NULL);
	(void)event_add(on_stdin, NULL);
	(void)puts("ready");
	(void)fflush(stdout);
	(void)event_base_dispatch(demo.base);
	http_server_close(demo.server);
	event_free(on_term);
	event_free(on_stdin);
	event_base_free(demo.base);
	libevent_global_shutdown();
	return 0;
}
