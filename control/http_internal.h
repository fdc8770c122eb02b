/* http_internal.h - what http.c (connections) and http_reply.c (replies) share; nobody else.
 *
 * Life of a connection: FREE -> READING -> HANDLING -> REPLYING -> READING ... -> FREE.
 * Memory: connections are a fixed pool, so that accepting cannot fail half-way; a request is one
 *         allocation of its connection, freed when its reply is out or its client is gone.
 */
#ifndef GATECAP_CONTROL_HTTP_INTERNAL_H
#define GATECAP_CONTROL_HTTP_INTERNAL_H

#include <sys/queue.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>

#include "control/http.h"

enum conn_state { CONN_FREE, CONN_READING, CONN_HANDLING, CONN_REPLYING };

struct conn {
	struct http_server *server;
	enum conn_state state;
	bool must_close; // its bufferevent could not be made: never serve it
	struct bufferevent *bev;
	struct evhttp_connection *evcon; // NULL until adopted
	struct http_req *req;		 // NULL while reading
	uint64_t n_requests;
	uint64_t since_ms; // when it began to read
	struct event *adopt;
	struct event *deadline;
	struct event *own_page; // evhttp answered by itself: make it JSON
	TAILQ_ENTRY(conn) link; // free, or all reading ones, oldest first
};

TAILQ_HEAD(conn_list, conn);

struct http_req {
	struct conn *conn;
	struct evhttp_request *ev;
	const char *path, *query;
	struct http_match_out match;
	bool replied;
	bool is_later;
	void (*gone)(void *ctx);
	void *gone_ctx;
	bool is_stream;
	struct http_stream stream;
	uint64_t left_bytes; // of the stream
	struct evbuffer *chunk;
};

struct listener {
	struct http_server *server;
	struct evhttp *evhttp;
	struct evconnlistener *accepting;
	struct bufferevent *(*make)(struct event_base *base, void *ctx);
	void *make_ctx;
	SLIST_ENTRY(listener) link;
};

struct http_server {
	struct event_base *base;
	struct http_settings settings;
	struct conn *conns; // connections_max
	unsigned n_conns;   // not free
	struct conn_list free, reading;
	SLIST_HEAD(, listener) listeners;
	struct event *room; // the table is full: close who reads longest
	struct event *accept_again;
	bool is_paused;
	char *socket_path;
	uint64_t socket_dev, socket_ino;
};

/* http.c */
void conn_arm(struct conn *conn, unsigned ms);
void conn_replying(struct conn *conn);

/* http_reply.c */
const char *http_phrase(int status);
struct cJSON *http_error_json(const char *code, const char *message, const char *target,
			      struct cJSON *details);
void http_req_free(struct http_req *req, bool reply_is_out);

/* http_socket.c: bound and listening, non-blocking; -errno with a sentence. */
int http_socket_open(const char *path, const char *group, struct error *err);

#endif
