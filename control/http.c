/* http.c - connections and dispatch on libevent's evhttp.
 *
 * evhttp 2.1.12 parses; what it lacks is here:
 * - It shows a connection only once a whole request is there, and its time-outs are per read, so a
 *   client that drips bytes is invisible for ever.  The bufferevent factory (bevcb) is the one hook
 *   at accept.  It runs before evhttp has its connection object, so an event of no delay "adopts"
 *   it: by then the object is the argument of the bufferevent's callbacks, and close callback,
 *   deadline and read limit can be set.  The extra reference keeps the bufferevent until then.
 * - It answers what it refuses by itself in HTML.  A callback on the output buffer notices bytes
 *   that no handler wrote; before they are sent they are replaced.
 * - While a handler works it does not read, so it would not see the client go.  conn_watch() turns
 *   reading on with a read callback of ours (with its own, evhttp ends the process: "illegal
 *   connection state").
 * - Lines of a chunked body have no limit: the read watermark bounds what is held.
 * Refused: a parser of our own; it would be shorter than these hooks are odd, but TLS, keep-alive,
 * pipelining and chunked bodies come proven here.
 */
#include "control/http.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <event2/listener.h>

#include "control/http_internal.h"

#include <event2/http_struct.h> // after http.h; for the version alone

enum { EVICT_AFTER_MS = 1000, ACCEPT_AGAIN_MS = 1000, HTTP_GOES_ON = 100 };

static uint64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void arm(struct event *event, unsigned ms)
{
	struct timeval delay = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};

	(void)event_add(event, &delay);
}

void conn_arm(struct conn *conn, unsigned ms)
{
	arm(conn->deadline, ms);
}

/* Accepting, while there is room. */

static void server_pause(struct http_server *server, bool is_paused)
{
	struct listener *l;

	if (server->is_paused == is_paused)
		return;
	server->is_paused = is_paused;
	SLIST_FOREACH(l, &server->listeners, link)
	{
		if (is_paused)
			(void)evconnlistener_disable(l->accepting);
		else
			(void)evconnlistener_enable(l->accepting);
	}
}

/* The table is full: close the connection that has been sending its request for longest, when that
 * is long enough for an honest client.  Those at work are never closed; accepting waits for them.
 */
static void server_make_room(evutil_socket_t fd, short what, void *arg)
{
	struct http_server *server = arg;
	struct conn *oldest = TAILQ_FIRST(&server->reading);
	uint64_t age_ms;

	(void)fd;
	(void)what;
	if (server->n_conns < server->settings.connections_max || oldest == NULL)
		return;
	age_ms = now_ms() - oldest->since_ms;
	if (age_ms < EVICT_AFTER_MS || oldest->evcon == NULL)
		arm(server->room, age_ms < EVICT_AFTER_MS ? EVICT_AFTER_MS - (unsigned)age_ms : 1);
	else
		evhttp_connection_free(oldest->evcon);
}

/* Out of descriptors: without a pause the listener would spin on the same error. */
static void server_accept_failed(struct evconnlistener *accepting, void *arg)
{
	struct http_server *server = arg;

	(void)accepting;
	server_pause(server, true);
	arm(server->accept_again, ACCEPT_AGAIN_MS);
}

static void server_accept_again(evutil_socket_t fd, short what, void *arg)
{
	struct http_server *server = arg;

	(void)fd;
	(void)what;
	if (server->n_conns < server->settings.connections_max)
		server_pause(server, false);
}

/* A connection's life. */

static void conn_reading(struct conn *conn)
{
	struct http_server *server = conn->server;

	conn->state = CONN_READING;
	conn->since_ms = now_ms();
	TAILQ_INSERT_TAIL(&server->reading, conn, link);
	conn_arm(conn, server->settings.request_ms);
	if (server->is_paused)
		arm(server->room, EVICT_AFTER_MS);
}

void conn_replying(struct conn *conn)
{
	conn->state = CONN_REPLYING;
	conn_arm(conn, conn->server->settings.reply_ms);
}

static void conn_release(struct conn *conn)
{
	struct http_server *server = conn->server;

	if (conn->state == CONN_READING)
		TAILQ_REMOVE(&server->reading, conn, link);
	(void)event_del(conn->adopt);
	(void)event_del(conn->deadline);
	(void)event_del(conn->own_page);
	conn->state = CONN_FREE;
	conn->bev = NULL;
	conn->evcon = NULL;
	TAILQ_INSERT_TAIL(&server->free, conn, link);
	server->n_conns--;
	server_pause(server, false);
}

static void conn_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct conn *conn = arg;

	(void)fd;
	(void)what;
	if (conn->evcon != NULL)
		evhttp_connection_free(conn->evcon); // conn_closed() does the rest
}

/* evhttp is about to free the connection.  It has let go of a request that was not yet replied to
 * when the client hung up (that one is ours to free), and frees all others itself.
 */
static void conn_closed(struct evhttp_connection *evcon, void *arg)
{
	struct conn *conn = arg;
	struct http_req *req = conn->req;

	(void)evcon;
	conn->req = NULL;
	if (req != NULL) {
		if (evhttp_request_get_connection(req->ev) == NULL)
			evhttp_request_free(req->ev);
		http_req_free(req, false);
	}
	conn_release(conn);
}

/* Bytes are in the output buffer: if no handler wrote them, evhttp did. */
static void conn_output(struct evbuffer *output, const struct evbuffer_cb_info *info, void *arg)
{
	struct conn *conn = arg;

	(void)output;
	if (info->n_added > 0 && conn->req == NULL && conn->state == CONN_READING)
		event_active(conn->own_page, EV_TIMEOUT, 0);
}

static void own_page_text(struct evbuffer *out, int status)
{
	const char *message = "The request is not valid HTTP/1.1.";
	struct cJSON *json;
	char *text;

	if (status == HTTP_ENTITYTOOLARGE)
		message = "The headers or the body of the request are too large.";
	json = http_error_json("InvalidRequestContent", message, NULL, NULL);
	text = cJSON_PrintUnformatted(json);
	(void)evbuffer_add_printf(out,
				  "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n"
				  "Connection: close\r\nContent-Length: %zu\r\n\r\n%s",
				  status, http_phrase(status), text ? strlen(text) : 0,
				  text ? text : "");
	cJSON_free(text);
	cJSON_Delete(json);
}

/* Replace the page that evhttp wrote, which is still whole here: nothing is sent in between. */
static void conn_own_page(evutil_socket_t fd, short what, void *arg)
{
	struct conn *conn = arg;
	struct evbuffer *out = bufferevent_get_output(conn->bev);
	char line[sizeof("HTTP/1.1 413 ")] = "";
	int status = 0;

	(void)fd;
	(void)what;
	(void)evbuffer_copyout(out, line, sizeof(line) - 1);
	if (sscanf(line, "HTTP/%*d.%*d %d", &status) != 1 || status == HTTP_GOES_ON)
		return;
	conn->state = CONN_REPLYING; // the deadline of the reading stays armed
	TAILQ_REMOVE(&conn->server->reading, conn, link);
	(void)evbuffer_unfreeze(out, 1);
	(void)evbuffer_drain(out, evbuffer_get_length(out));
	own_page_text(out, status);
	(void)evbuffer_freeze(out, 1);
}

/* evhttp has its object by now: it is what it gave the bufferevent's callbacks as argument. */
static void conn_adopt(evutil_socket_t fd, short what, void *arg)
{
	struct conn *conn = arg;
	struct bufferevent *bev = conn->bev;
	void *evcon = NULL;

	(void)fd;
	(void)what;
	bufferevent_getcb(bev, NULL, NULL, NULL, &evcon);
	if (evcon == NULL) { // evhttp gave it up at once
		conn_release(conn);
		(void)bufferevent_decref(bev);
		return;
	}
	(void)bufferevent_decref(bev);
	conn->evcon = evcon;
	evhttp_connection_set_closecb(conn->evcon, conn_closed, conn);
	bufferevent_setwatermark(bev, EV_READ, 0,
				 conn->server->settings.body_bytes_max + HTTP_HEADERS_BYTES_MAX);
	(void)evbuffer_add_cb(bufferevent_get_output(bev), conn_output, conn);
	if (conn->must_close)
		evhttp_connection_free(conn->evcon);
}

/* Called by evhttp for each connection it accepts. */
static struct bufferevent *listener_bufferevent(struct event_base *base, void *arg)
{
	struct listener *l = arg;
	struct http_server *server = l->server;
	struct conn *conn = TAILQ_FIRST(&server->free);
	struct bufferevent *bev = l->make != NULL ? l->make(base, l->make_ctx) : NULL;

	assert(conn != NULL); // accepting stops at the last free one
	conn->must_close = l->make != NULL && bev == NULL;
	if (bev == NULL)
		bev = bufferevent_socket_new(base, -1, 0);
	if (bev == NULL)
		return NULL;
	TAILQ_REMOVE(&server->free, conn, link);
	server->n_conns++;
	conn->bev = bev;
	conn->n_requests = 0;
	conn_reading(conn);
	bufferevent_incref(bev);
	event_active(conn->adopt, EV_TIMEOUT, 0);
	if (server->n_conns == server->settings.connections_max) {
		server_pause(server, true);
		event_active(server->room, EV_TIMEOUT, 0);
	}
	return bev;
}

/* Requests. */

static const char *method_name(enum evhttp_cmd_type type)
{
	switch (type) {
	case EVHTTP_REQ_GET:
		return "GET";
	case EVHTTP_REQ_POST:
		return "POST";
	case EVHTTP_REQ_HEAD:
		return "HEAD";
	case EVHTTP_REQ_PUT:
		return "PUT";
	case EVHTTP_REQ_DELETE:
		return "DELETE";
	case EVHTTP_REQ_OPTIONS:
		return "OPTIONS";
	case EVHTTP_REQ_TRACE:
		return "TRACE";
	case EVHTTP_REQ_CONNECT:
		return "CONNECT";
	case EVHTTP_REQ_PATCH:
		return "PATCH";
	default:
		return "";
	}
}

const char *http_method(const struct http_req *req)
{
	return method_name(evhttp_request_get_command(req->ev));
}

/* A client that has filled the read buffer behind a request that is still worked on is not waited
 * for: with the buffer full, nobody could see it go.
 */
static void conn_babble(struct bufferevent *bev, void *evcon)
{
	size_t limit = 0;

	(void)bufferevent_getwatermark(bev, EV_READ, NULL, &limit);
	if (evbuffer_get_length(bufferevent_get_input(bev)) >= limit)
		evhttp_connection_free(evcon);
}

/* See the client go while a handler works: read, and leave what comes for the next request. */
static void conn_watch(struct conn *conn)
{
	bufferevent_data_cb on_read, on_write;
	bufferevent_event_cb on_event;
	void *evcon;

	bufferevent_getcb(conn->bev, &on_read, &on_write, &on_event, &evcon);
	bufferevent_setcb(conn->bev, conn_babble, on_write, on_event, evcon);
	(void)bufferevent_enable(conn->bev, EV_READ);
}

static void req_done(struct evhttp_request *ev, void *arg)
{
	struct http_req *req = arg;
	struct conn *conn = req->conn;

	(void)ev; // evhttp frees it
	conn->req = NULL;
	http_req_free(req, true);
	conn_reading(conn);
}

static void req_dispatch(struct http_req *req)
{
	const struct http_settings *settings = &req->conn->server->settings;
	bool is_version_known = req->ev->major == 1 && (req->ev->minor == 0 || req->ev->minor == 1);
	char text[256];

	if (!is_version_known) { // evhttp takes HTTP/-7.3 and would answer in kind
		req->ev->major = 1;
		req->ev->minor = 1;
		http_reply_error(req, 505, "InvalidRequestContent",
				 "Only HTTP/1.0 and HTTP/1.1 are spoken here.", NULL, NULL);
		return;
	}
	if (*http_method(req) == '\0') {
		http_reply_error(req, 501, "HttpMethodNotSupported",
				 "The method of the request is not known here.", NULL, NULL);
		return;
	}
	switch (http_route_find(settings->routes, settings->n_routes, http_method(req), req->path,
				&req->match)) {
	case HTTP_MATCH_ROUTE:
		settings->routes[req->match.index].handler(req, settings->ctx);
		break;
	case HTTP_MATCH_METHOD:
		(void)snprintf(text, sizeof(text), "This path takes %s, not %s.", req->match.allow,
			       http_method(req));
		http_reply_header(req, "Allow", req->match.allow);
		http_reply_error(req, 405, "HttpMethodNotSupported", text, NULL, NULL);
		break;
	case HTTP_MATCH_MALFORMED:
		(void)snprintf(text, sizeof(text), "The path is not valid: %s.", req->match.why);
		http_reply_error(req, 400, "InvalidRequestContent", text, NULL, NULL);
		break;
	case HTTP_MATCH_NOTHING:
		http_reply_error(req, 404, "ResourceNotFound", "There is no such path.", NULL,
				 NULL);
		break;
	}
}

static struct conn *conn_of(struct http_server *server, struct evhttp_request *ev)
{
	struct evhttp_connection *evcon = evhttp_request_get_connection(ev);

	for (unsigned i = 0; i < server->settings.connections_max; i++)
		if (server->conns[i].evcon == evcon)
			return &server->conns[i];
	return NULL;
}

/* evhttp has a whole request. */
static void listener_request(struct evhttp_request *ev, void *arg)
{
	struct listener *l = arg;
	struct conn *conn = conn_of(l->server, ev);
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(ev);
	struct http_req *req = calloc(1, sizeof(*req));
	uint64_t serial;

	if (conn == NULL || req == NULL) {
		free(req);
		evhttp_send_error(ev, HTTP_INTERNAL, NULL);
		return;
	}
	req->conn = conn;
	req->ev = ev;
	req->path = evhttp_uri_get_path(uri);
	req->query = evhttp_uri_get_query(uri);
	if (conn->state == CONN_READING)
		TAILQ_REMOVE(&l->server->reading, conn, link);
	(void)event_del(conn->deadline);
	conn->state = CONN_HANDLING;
	conn->req = req;
	serial = ++conn->n_requests;
	evhttp_request_set_on_complete_cb(ev, req_done, req);
	req_dispatch(req);
	if (conn->req == NULL || conn->n_requests != serial || conn->req->replied)
		return;
	if (conn->req->is_later)
		conn_watch(conn);
	else
		http_reply_error(conn->req, 500, "InternalError",
				 "gatecapd has no answer for this request; this is a fault in it.",
				 NULL, NULL);
}

/* The server. */

static int conn_init(struct conn *conn, struct http_server *server)
{
	conn->server = server;
	conn->adopt = event_new(server->base, -1, 0, conn_adopt, conn);
	conn->deadline = event_new(server->base, -1, 0, conn_deadline, conn);
	conn->own_page = event_new(server->base, -1, 0, conn_own_page, conn);
	TAILQ_INSERT_TAIL(&server->free, conn, link);
	return conn->adopt && conn->deadline && conn->own_page ? 0 : -ENOMEM;
}

static void settings_default(struct http_settings *settings)
{
	if (settings->connections_max == 0)
		settings->connections_max = HTTP_CONNECTIONS_MAX;
	if (settings->body_bytes_max == 0)
		settings->body_bytes_max = HTTP_BODY_BYTES_MAX;
	if (settings->request_ms == 0)
		settings->request_ms = HTTP_REQUEST_MS;
	if (settings->reply_ms == 0)
		settings->reply_ms = HTTP_REPLY_MS;
}

struct http_server *http_server_open(struct event_base *base, const struct http_settings *settings,
				     struct error *err)
{
	struct http_server *server = calloc(1, sizeof(*server));
	bool is_ok;

	if (server == NULL) {
		error_set(err, "There is no memory for the HTTP server.");
		return NULL;
	}
	server->base = base;
	server->settings = *settings;
	(void)signal(SIGPIPE, SIG_IGN); // a client that is gone is an error of its connection only
	settings_default(&server->settings);
	TAILQ_INIT(&server->free);
	TAILQ_INIT(&server->reading);
	SLIST_INIT(&server->listeners);
	server->room = event_new(base, -1, 0, server_make_room, server);
	server->accept_again = event_new(base, -1, 0, server_accept_again, server);
	server->conns = calloc(server->settings.connections_max, sizeof(*server->conns));
	is_ok = server->room != NULL && server->accept_again != NULL && server->conns != NULL;
	for (unsigned i = 0; is_ok && i < server->settings.connections_max; i++)
		is_ok = conn_init(&server->conns[i], server) == 0;
	if (!is_ok) {
		error_set(err, "There is no memory for the HTTP server.");
		http_server_close(server);
		return NULL;
	}
	return server;
}

static void listener_free(struct listener *l)
{
	if (l == NULL)
		return;
	if (l->evhttp != NULL)
		evhttp_free(l->evhttp); // closes the socket and all its connections
	free(l);
}

int http_listen_fd(struct http_server *server, int fd,
		   struct bufferevent *(*make)(struct event_base *base, void *ctx), void *make_ctx,
		   struct error *err)
{
	const ev_uint16_t all_methods = 0xFFFF; // we say which path takes which
	struct listener *l = calloc(1, sizeof(*l));

	if (l != NULL)
		l->evhttp = evhttp_new(server->base);
	if (l != NULL)
		l->accepting =
			evconnlistener_new(server->base, NULL, NULL,
					   LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_CLOSE_ON_FREE, 0, fd);
	if (l == NULL || l->accepting == NULL)
		(void)close(fd);
	if (l == NULL || l->evhttp == NULL || l->accepting == NULL ||
	    evhttp_bind_listener(l->evhttp, l->accepting) == NULL) {
		if (l != NULL && l->accepting != NULL)
			evconnlistener_free(l->accepting);
		listener_free(l);
		error_set(err, "There is no memory to listen for HTTP requests.");
		return -ENOMEM;
	}
	l->server = server;
	l->make = make;
	l->make_ctx = make_ctx;
	evconnlistener_set_error_cb(l->accepting, server_accept_failed);
	evhttp_set_allowed_methods(l->evhttp, all_methods);
	evhttp_set_max_headers_size(l->evhttp, HTTP_HEADERS_BYTES_MAX);
	evhttp_set_max_body_size(l->evhttp, (ev_ssize_t)server->settings.body_bytes_max);
	evhttp_set_bevcb(l->evhttp, listener_bufferevent, l);
	evhttp_set_gencb(l->evhttp, listener_request, l);
	SLIST_INSERT_HEAD(&server->listeners, l, link);
	return 0;
}

int http_listen_unix(struct http_server *server, const char *path, const char *group,
		     struct error *err)
{
	struct stat stat_buf;
	int fd = http_socket_open(path, group, err);

	if (fd < 0)
		return fd;
	if (stat(path, &stat_buf) == 0) {
		free(server->socket_path);
		server->socket_path = strdup(path);
		server->socket_dev = stat_buf.st_dev;
		server->socket_ino = stat_buf.st_ino;
	}
	return http_listen_fd(server, fd, NULL, NULL, err);
}

static void socket_file_remove(const struct http_server *server)
{
	struct stat now;

	if (server->socket_path != NULL && stat(server->socket_path, &now) == 0 &&
	    now.st_dev == server->socket_dev && now.st_ino == server->socket_ino)
		(void)unlink(server->socket_path);
}

static void event_gone(struct event *event)
{
	if (event != NULL)
		event_free(event);
}

void http_server_close(struct http_server *server)
{
	struct listener *l;

	if (server == NULL)
		return;
	socket_file_remove(server);
	server->is_paused = false;
	while ((l = SLIST_FIRST(&server->listeners)) != NULL) {
		SLIST_REMOVE_HEAD(&server->listeners, link);
		listener_free(l);
	}
	for (unsigned i = 0; server->conns != NULL && i < server->settings.connections_max; i++) {
		struct conn *conn = &server->conns[i];

		if (conn->bev != NULL && conn->evcon == NULL)
			(void)bufferevent_decref(conn->bev); // accepted, never adopted
		event_gone(conn->adopt);
		event_gone(conn->deadline);
		event_gone(conn->own_page);
	}
	event_gone(server->room);
	event_gone(server->accept_again);
	free(server->conns);
	free(server->socket_path);
	free(server);
}

unsigned http_n_connections(const struct http_server *server)
{
	return server->n_conns;
}
