/* http_reply.c - what a handler reads of a request, and the replies.
 *
 * Content-Length is always set here: evhttp leaves it out for HEAD and CONNECT, and would send a
 * stream chunked, so that a client could not tell a cut file from a whole one.
 * Streams are pulled: the next chunk is read when the last one has left the output buffer, so a
 * slow client costs one chunk of memory however long the file is.
 */
#include "control/http.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "control/http_internal.h"
#include "filters/json_scan.h"

const char *http_phrase(int status)
{
	static const struct {
		int status;
		const char *phrase;
	} phrases[] = {
		{200, "OK"},
		{201, "Created"},
		{202, "Accepted"},
		{204, "No Content"},
		{304, "Not Modified"},
		{400, "Bad Request"},
		{401, "Unauthorized"},
		{403, "Forbidden"},
		{404, "Not Found"},
		{405, "Method Not Allowed"},
		{409, "Conflict"},
		{412, "Precondition Failed"},
		{413, "Content Too Large"},
		{417, "Expectation Failed"},
		{429, "Too Many Requests"},
		{500, "Internal Server Error"},
		{501, "Not Implemented"},
		{502, "Bad Gateway"},
		{503, "Service Unavailable"},
		{505, "HTTP Version Not Supported"},
		{507, "Insufficient Storage"},
	};

	for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++)
		if (phrases[i].status == status)
			return phrases[i].phrase;
	return "Status";
}

const char *http_path(const struct http_req *req)
{
	return req->path;
}

const char *http_query(const struct http_req *req)
{
	return req->query != NULL ? req->query : "";
}

const char *http_name(const struct http_req *req, unsigned i)
{
	return i < req->match.n_names ? req->match.names[i] : NULL;
}

const char *http_header(const struct http_req *req, const char *name)
{
	return evhttp_find_header(evhttp_request_get_input_headers(req->ev), name);
}

const char *http_body(const struct http_req *req, size_t *len)
{
	struct evbuffer *body = evhttp_request_get_input_buffer(req->ev);

	*len = evbuffer_get_length(body);
	return *len == 0 ? "" : (const char *)evbuffer_pullup(body, -1);
}

struct cJSON *http_details(const struct faults *faults, const char *code)
{
	cJSON *list = cJSON_CreateArray();

	for (unsigned i = 0; i < faults->n; i++) {
		cJSON *entry = cJSON_CreateObject();

		(void)cJSON_AddStringToObject(entry, "code", code);
		(void)cJSON_AddStringToObject(entry, "message", faults->list[i].text);
		(void)cJSON_AddStringToObject(entry, "target", faults->list[i].pointer);
		(void)cJSON_AddItemToArray(list, entry);
	}
	return list;
}

struct cJSON *http_error_json(const char *code, const char *message, const char *target,
			      struct cJSON *details)
{
	cJSON *json = cJSON_CreateObject();
	cJSON *error = cJSON_AddObjectToObject(json, "error");

	(void)cJSON_AddStringToObject(error, "code", code);
	(void)cJSON_AddStringToObject(error, "message", message);
	if (target != NULL)
		(void)cJSON_AddStringToObject(error, "target", target);
	if (details != NULL && !cJSON_AddItemToObject(error, "details", details))
		cJSON_Delete(details);
	return json;
}

/* Parse the bytes; NULL with faults, also for a document that is not an object. */
static cJSON *body_object(const char *text, size_t len, struct faults *faults)
{
	cJSON *json;

	if (strspn(text, " \t\r\n") == len)
		return cJSON_CreateObject();
	json = json_parse(text, len, HTTP_BODY_BYTES_MAX, faults);
	if (json != NULL && !cJSON_IsObject(json)) {
		faults_add(faults, "", "the body is a JSON object");
		cJSON_Delete(json);
		return NULL;
	}
	return json;
}

struct cJSON *http_body_json(struct http_req *req)
{
	struct faults faults = {0};
	char *text = NULL;
	cJSON *json = NULL;
	size_t len;
	const char *body = http_body(req, &len);

	if (body != NULL)
		text = malloc(len + 1); // NUL-terminated for strspn
	if (text != NULL) {
		memcpy(text, body, len);
		text[len] = '\0';
		json = body_object(text, len, &faults);
		explicit_bzero(text, len); // a SAS URL may be in it
		free(text);
	}
	if (json == NULL)
		http_reply_error(req, 400, "InvalidRequestContent",
				 "The body of the request is not a JSON object that can be read.",
				 NULL, http_details(&faults, "InvalidRequestContent"));
	faults_fini(&faults);
	return json;
}

void http_req_later(struct http_req *req, void (*gone)(void *ctx), void *ctx)
{
	assert(!req->replied && !req->is_later);
	req->is_later = true;
	req->gone = gone;
	req->gone_ctx = ctx;
}

/* The last of a request, when its reply is out or its client is gone. */
void http_req_free(struct http_req *req, bool reply_is_out)
{
	if (req->is_stream)
		req->stream.done(req->stream.ctx, reply_is_out);
	else if (!req->replied && req->is_later && req->gone != NULL)
		req->gone(req->gone_ctx);
	if (req->chunk != NULL)
		evbuffer_free(req->chunk);
	free(req);
}

void http_reply_header(struct http_req *req, const char *name, const char *value)
{
	(void)evhttp_add_header(evhttp_request_get_output_headers(req->ev), name, value);
}

static void reply_length(struct http_req *req, uint64_t n_bytes)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%" PRIu64, n_bytes);
	http_reply_header(req, "Content-Length", text);
}

/* The one place where a reply that is whole leaves. */
static void reply_send(struct http_req *req, int status, const void *data, size_t len)
{
	bool has_body = evhttp_request_get_command(req->ev) != EVHTTP_REQ_HEAD;
	struct evbuffer *body = evbuffer_new();

	assert(!req->replied);
	req->replied = true;
	if (status != 204 && status != 304)
		reply_length(req, len);
	if (body != NULL && has_body)
		(void)evbuffer_add(body, data, len);
	conn_replying(req->conn);
	evhttp_send_reply(req->ev, status, http_phrase(status), body);
	if (body != NULL)
		evbuffer_free(body);
}

void http_reply_empty(struct http_req *req, int status)
{
	reply_send(req, status, "", 0);
}

void http_reply_text(struct http_req *req, int status, const char *content_type, const void *data,
		     size_t len)
{
	http_reply_header(req, "Content-Type", content_type);
	reply_send(req, status, data, len);
}

void http_reply_json(struct http_req *req, int status, struct cJSON *json)
{
	static const char no_memory[] = "{\"error\":{\"code\":\"InternalError\",\"message\":"
					"\"There is no memory for the answer.\"}}";
	char *text = cJSON_PrintUnformatted(json);

	cJSON_Delete(json);
	http_reply_header(req, "Cache-Control", "no-store");
	if (text == NULL)
		http_reply_text(req, 500, "application/json", no_memory, sizeof(no_memory) - 1);
	else
		http_reply_text(req, status, "application/json", text, strlen(text));
	cJSON_free(text);
}

void http_reply_error(struct http_req *req, int status, const char *code, const char *message,
		      const char *target, struct cJSON *details)
{
	http_reply_json(req, status, http_error_json(code, message, target, details));
}

/* Read the next chunk into the evbuffer itself: no copy. */
static int chunk_fill(struct http_req *req, size_t len)
{
	struct evbuffer_iovec vec;
	int rc;

	if (evbuffer_reserve_space(req->chunk, (ev_ssize_t)len, &vec, 1) != 1)
		return -ENOMEM;
	rc = req->stream.read(req->stream.ctx, vec.iov_base, len);
	if (rc != 0)
		return rc;
	vec.iov_len = len;
	return evbuffer_commit_space(req->chunk, &vec, 1) == 0 ? 0 : -ENOMEM;
}

/* The last chunk has left: send the next one, or end.  Either may free the request. */
static void stream_next(struct evhttp_connection *evcon, void *arg)
{
	struct http_req *req = arg;
	size_t len = req->left_bytes < HTTP_STREAM_CHUNK_BYTES ? (size_t)req->left_bytes
							       : HTTP_STREAM_CHUNK_BYTES;

	if (len == 0) {
		evhttp_send_reply_end(req->ev);
		return;
	}
	if (chunk_fill(req, len) != 0) {
		evhttp_connection_free(
			evcon); // a short body is seen as an error, a wrong one is not
		return;
	}
	req->left_bytes -= len;
	conn_replying(req->conn); // a new deadline for each chunk
	evhttp_send_reply_chunk_with_cb(req->ev, req->chunk, stream_next, req);
}

void http_reply_stream(struct http_req *req, int status, const struct http_stream *stream)
{
	bool has_body = evhttp_request_get_command(req->ev) != EVHTTP_REQ_HEAD;

	assert(!req->replied);
	req->replied = true;
	req->is_stream = true;
	req->stream = *stream;
	req->left_bytes = has_body ? stream->n_bytes : 0;
	http_reply_header(req, "Content-Type", stream->content_type);
	reply_length(req, stream->n_bytes);
	req->chunk = evbuffer_new();
	conn_replying(req->conn);
	evhttp_send_reply_start(req->ev, status, http_phrase(status));
	stream_next(req->conn->evcon, req);
}
