/* http.h - the HTTP server of gatecapd: sockets, routes, replies.
 *
 * Flow:     socket -> evhttp -> http_route_find() -> handler -> http_reply_*()
 * Threads:  the thread that runs the event_base, for every call and every callback.
 * Replies:  a handler replies exactly once.  One that cannot yet calls http_req_later() before it
 *           returns and replies when it can; if the client goes away first, gone() is called once
 *           and the request must not be touched again.  A handler that does neither answers 500.
 * Memory:   a request belongs to the server until it is replied to; strings from the getters live
 *           as long.  A reply ends the request: do not touch it afterwards.
 * Limits:   headers 16 KiB, body body_bytes_max (413), connections_max at once: one more closes the
 *           connection that has been sending its request for longest, or waits if all are at work.
 * Deadlines: request_ms from accept (or from the end of the last answer) until a whole request is
 *           there, however the bytes drip; reply_ms for a reply, or for each 256 KiB of a stream.
 * Signals:  http_server_open() ignores SIGPIPE for the process.
 * Errors:   JSON as docs/http-api.md has it, for what evhttp refuses by itself, too.
 * Proof:    tests/test_http.py against tests/http_demo.c
 */
#ifndef GATECAP_CONTROL_HTTP_H
#define GATECAP_CONTROL_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "control/http_route.h"
#include "filters/error.h"

enum {
	HTTP_BODY_BYTES_MAX = 2 << 20,
	HTTP_HEADERS_BYTES_MAX = 16 << 10,
	HTTP_STREAM_CHUNK_BYTES = 256 << 10,
	HTTP_CONNECTIONS_MAX = 64,
	HTTP_REQUEST_MS = 30000,
	HTTP_REPLY_MS = 30000,
};

struct bufferevent;
struct cJSON;
struct event_base;
struct http_server;

struct http_settings {
	const struct http_route *routes; // borrows for life
	unsigned n_routes;
	void *ctx; // for the handlers
	// 0: the defaults above
	unsigned connections_max;
	size_t body_bytes_max;
	unsigned request_ms;
	unsigned reply_ms;
};

/* Gives a server that listens nowhere yet, or NULL with a sentence. */
struct http_server *http_server_open(struct event_base *base, const struct http_settings *settings,
				     struct error *err);

/* Listen on a unix socket, mode 0660, owned by `group` (NULL or "": the group is left alone).
 * A socket file that is there is removed only if nobody answers on it.
 * Returns 0, or -errno with a sentence.
 */
int http_listen_unix(struct http_server *server, const char *path, const char *group,
		     struct error *err);

/* Listen on a socket that is bound and listening already; takes fd.  `make` gives the bufferevent
 * of a new connection (TLS: bufferevent_openssl_socket_new with fd -1); NULL: plain.  If make gives
 * NULL the connection is closed, never served in the clear.
 * Returns 0, or -errno with a sentence.
 */
int http_listen_fd(struct http_server *server, int fd,
		   struct bufferevent *(*make)(struct event_base *base, void *ctx), void *make_ctx,
		   struct error *err);

/* Close all sockets; requests that wait get gone().  Removes the socket file if still ours. */
void http_server_close(struct http_server *server);

unsigned http_n_connections(const struct http_server *server);

/* What came in.  http_name(req, i) is what the i-th "*" of the pattern took, decoded. */
const char *http_method(const struct http_req *req);
const char *http_path(const struct http_req *req);  // still encoded, without query
const char *http_query(const struct http_req *req); // after '?', still encoded; "" if none
const char *http_name(const struct http_req *req, unsigned i);	       // NULL: no such "*"
const char *http_header(const struct http_req *req, const char *name); // NULL: not there
const char *http_body(const struct http_req *req, size_t *len);

/* Parse the body as one JSON object; an empty body is {}.
 * Gives the tree (cJSON_Delete), or NULL and the request has been replied to with 400.
 */
struct cJSON *http_body_json(struct http_req *req);

/* The reply comes later.  `gone` is called at most once, and only instead of a reply. */
void http_req_later(struct http_req *req, void (*gone)(void *ctx), void *ctx);

/* Add a header to the reply that follows.  Values with line breaks are refused by evhttp. */
void http_reply_header(struct http_req *req, const char *name, const char *value);

void http_reply_empty(struct http_req *req, int status);
void http_reply_text(struct http_req *req, int status, const char *content_type, const void *data,
		     size_t len);

/* Takes the tree. */
void http_reply_json(struct http_req *req, int status, struct cJSON *json);

/* {"error":{"code","message","target"?,"details"?}}.  target and details may be NULL.
 * Takes details, an array.
 */
void http_reply_error(struct http_req *req, int status, const char *code, const char *message,
		      const char *target, struct cJSON *details);

/* Gives the array for `details`, one {"code","message","target"} a fault; NULL if memory is out. */
struct cJSON *http_details(const struct faults *faults, const char *code);

/* Send n_bytes from `read` with Content-Length, a chunk at a time, the next one when the client has
 * taken the last.  read fills exactly len bytes and returns 0, or -errno: the connection is then
 * cut, so that the client sees a short body and not a wrong one (the same contract as
 * struct upload_blob).  done is called exactly once, ok if all bytes went to the kernel.
 */
struct http_stream {
	const char *content_type;
	uint64_t n_bytes;
	int (*read)(void *ctx, void *buf, size_t len);
	void (*done)(void *ctx, bool ok);
	void *ctx;
};

void http_reply_stream(struct http_req *req, int status, const struct http_stream *stream);

#endif
