/* upload_http.c - the options of a request, and the answer as it comes in.
 *
 * HTTP/1.1 only: the storage speaks nothing else, and one connection a block keeps the blocks apart.
 * No total time-out: a slow line is not a fault.  A connection that moves less than a trickle for
 * stall_seconds is one, and so is an answer that does not come.
 * "Expect: 100-continue" is off: it costs a round trip a block, and the first 403 costs one block.
 * Names are checked when they are connected to, not before: a name may resolve differently twice.
 */
#include "control/upload_http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <unistd.h>

#include <openssl/crypto.h>

enum {
	CONNECT_SECONDS = 15,
	TRICKLE_BYTES_PER_SECOND = 100,
	SEND_BUFFER_BYTES = 512 * 1024, // a block of 8 MiB in few calls
	RETRY_AFTER_SECONDS_MAX = 300,
	HEADER_LINE_MAX = 256,
};

#define STORAGE_VERSION "x-ms-version: 2021-12-02"

int request_init(struct request *r, const struct upload_settings *settings)
{
	*r = (struct request){.settings = settings, .answer.date = -1};
	r->easy = curl_easy_init();
	r->answer.text = malloc(ANSWER_BYTES_MAX + 1);
	if (r->easy != NULL && r->answer.text != NULL)
		return 0;
	request_fini(r);
	return -ENOMEM;
}

void request_fini(struct request *r)
{
	curl_easy_cleanup(r->easy);
	curl_slist_free_all(r->headers);
	free(r->answer.text);
	*r = (struct request){0};
}

/* -------------------------------------------------------------------------------- callbacks -- */

static size_t give_body(char *out, size_t size, size_t n, void *ctx)
{
	struct request *r = ctx;
	size_t left = r->n_body - r->n_taken;
	size_t len = size * n < left ? size * n : left;

	memcpy(out, r->body + r->n_taken, len);
	r->n_taken += len;
	return len;
}

/* libcurl sends a body again by itself when a kept connection turns out to be dead. */
static int rewind_body(void *ctx, curl_off_t offset, int origin)
{
	struct request *r = ctx;

	if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > r->n_body)
		return CURL_SEEKFUNC_FAIL;
	r->n_taken = (size_t)offset;
	return CURL_SEEKFUNC_OK;
}

static size_t take_answer(char *text, size_t size, size_t n, void *ctx)
{
	struct answer *a = &((struct request *)ctx)->answer;
	size_t len = size * n;

	if (len > ANSWER_BYTES_MAX - a->n_text) {
		a->too_long = true;
		return 0; // ends the transfer
	}
	memcpy(a->text + a->n_text, text, len);
	a->n_text += len;
	return len;
}

static bool header_value(const char *line, const char *name, char *out, size_t size)
{
	size_t len = strlen(name);

	if (strncasecmp(line, name, len) != 0 || line[len] != ':')
		return false;
	line += len + 1;
	line += strspn(line, " \t");
	(void)snprintf(out, size, "%.*s", (int)strcspn(line, "\r\n"), line);
	return true;
}

static size_t take_header(char *text, size_t size, size_t n, void *ctx)
{
	struct answer *a = &((struct request *)ctx)->answer;
	char line[HEADER_LINE_MAX], value[HEADER_LINE_MAX];
	size_t len = size * n;

	(void)snprintf(line, sizeof(line), "%.*s", (int)len, text);
	if (strncmp(line, "HTTP/", 5) == 0) { // a new answer: forget a 100 before it
		a->code[0] = a->request_id[0] = '\0';
		a->date = -1;
	}
	(void)header_value(line, "x-ms-error-code", a->code, sizeof(a->code));
	(void)header_value(line, "x-ms-request-id", a->request_id, sizeof(a->request_id));
	if (header_value(line, "Date", value, sizeof(value)))
		a->date = curl_getdate(value, NULL);
	return len;
}

/* The uploader's last gate: whatever the name resolved to, this is where the bytes would go.
 * Private addresses pass: a private endpoint of the storage has one.
 */
static curl_socket_t open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct request *r = ctx;
	enum address_class class = address_classify(&address->addr);
	bool fine = class == ADDRESS_PUBLIC || class == ADDRESS_PRIVATE ||
		    (class == ADDRESS_LOOPBACK && r->settings->allow_http_loopback);

	(void)purpose;
	if (!fine && !r->any_address && r->settings->proxy == NULL) {
		r->refused = class;
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* ------------------------------------------------------------------------------------- start -- */

static bool header_add(struct request *r, const char *line)
{
	struct curl_slist *grown = curl_slist_append(r->headers, line);

	if (grown != NULL)
		r->headers = grown;
	return grown != NULL;
}

static bool headers_build(struct request *r, const struct request_parts *parts)
{
	uint8_t b[16];
	char id[80];
	bool ok = getrandom(b, sizeof(b), 0) == (ssize_t)sizeof(b);

	(void)snprintf(id, sizeof(id),
		       "x-ms-client-request-id: %02x%02x%02x%02x-%02x%02x-4%01x%02x-8%01x%02x-"
		       "%02x%02x%02x%02x%02x%02x",
		       b[0], b[1], b[2], b[3], b[4], b[5], b[6] & 15, b[7], b[8] & 15, b[9], b[10],
		       b[11], b[12], b[13], b[14], b[15]);
	curl_slist_free_all(r->headers);
	r->headers = NULL;
	ok = ok && header_add(r, STORAGE_VERSION) && header_add(r, id) && header_add(r, "Expect:");
	for (unsigned i = 0; i < REQUEST_HEADERS_MAX && parts->headers[i] != NULL; i++)
		ok = ok && header_add(r, parts->headers[i]);
	return ok;
}

static bool secure(struct request *r)
{
	const struct upload_settings *s = r->settings;
	CURL *e = r->easy;
	CURLcode rc = CURLE_OK;

	rc |= curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR,
			       s->allow_http_loopback ? "https,http" : "https");
	rc |= curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	rc |= curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	rc |= curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 1L);
	rc |= curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 2L);
	if (s->ca_file != NULL) {
		rc |= curl_easy_setopt(e, CURLOPT_CAINFO, s->ca_file);
		rc |= curl_easy_setopt(e, CURLOPT_CAPATH, NULL);
	}
	/* "" and not NULL: NULL would let https_proxy and no_proxy of the environment decide. */
	rc |= curl_easy_setopt(e, CURLOPT_PROXY, s->proxy != NULL ? s->proxy : "");
	rc |= curl_easy_setopt(e, CURLOPT_NOPROXY, "");
	rc |= curl_easy_setopt(e, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	rc |= curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	rc |= curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, r);
	return rc == CURLE_OK;
}

static bool pace(struct request *r)
{
	CURL *e = r->easy;
	CURLcode rc = CURLE_OK;

	rc |= curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	rc |= curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
	rc |= curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, (long)TRICKLE_BYTES_PER_SECOND);
	rc |= curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, (long)r->settings->stall_seconds);
	rc |= curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, (long)SEND_BUFFER_BYTES);
	rc |= curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
	rc |= curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	rc |= curl_easy_setopt(e, CURLOPT_USERAGENT, "gatecap/" GATECAP_VERSION);
	rc |= curl_easy_setopt(e, CURLOPT_ERRORBUFFER, r->curl_error);
	return rc == CURLE_OK;
}

static bool body_and_answer(struct request *r, const struct request_parts *parts, void *owner)
{
	char *url = sas_blob_url(parts->sas, parts->blob_name, parts->extra);
	CURL *e = r->easy;
	CURLcode rc = CURLE_OK;

	if (url == NULL)
		return false;
	rc |= curl_easy_setopt(e, CURLOPT_URL, url); // copied by libcurl
	OPENSSL_cleanse(url, strlen(url));
	free(url);
	rc |= curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
	rc |= curl_easy_setopt(e, CURLOPT_HTTPHEADER, r->headers);
	rc |= curl_easy_setopt(e, CURLOPT_UPLOAD, 1L);
	rc |= curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE, (curl_off_t)parts->n_body);
	rc |= curl_easy_setopt(e, CURLOPT_READFUNCTION, give_body);
	rc |= curl_easy_setopt(e, CURLOPT_READDATA, r);
	rc |= curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, rewind_body);
	rc |= curl_easy_setopt(e, CURLOPT_SEEKDATA, r);
	rc |= curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, take_answer);
	rc |= curl_easy_setopt(e, CURLOPT_WRITEDATA, r);
	rc |= curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, take_header);
	rc |= curl_easy_setopt(e, CURLOPT_HEADERDATA, r);
	rc |= curl_easy_setopt(e, CURLOPT_PRIVATE, owner);
	return rc == CURLE_OK;
}

int request_start(struct request *r, const struct request_parts *parts, CURLM *multi, void *owner)
{
	struct sockaddr_storage literal;
	char *text = r->answer.text;

	curl_easy_reset(r->easy); // keeps the connections, drops the options
	r->answer = (struct answer){.text = text, .date = -1};
	r->body = parts->body;
	r->n_body = parts->n_body;
	r->n_taken = 0;
	r->any_address = address_parse(parts->sas->host, &literal);
	r->refused = ADDRESS_PUBLIC;
	r->curl_error[0] = '\0';
	if (!headers_build(r, parts) || !secure(r) || !pace(r) || !body_and_answer(r, parts, owner))
		return -ENOMEM;
	return curl_multi_add_handle(multi, r->easy) == CURLM_OK ? 0 : -ENOMEM;
}

/* ------------------------------------------------------------------------------------- judge -- */

static bool transient(CURLcode rc)
{
	switch (rc) {
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_CONNECT:
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_PARTIAL_FILE:
	case CURLE_WRITE_ERROR: // an answer over ANSWER_BYTES_MAX
	case CURLE_OPERATION_TIMEDOUT:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_FAIL_REWIND:
	case CURLE_PROXY:
		return true;
	default:
		return false;
	}
}

enum verdict_of_request request_judge(const struct request *r, CURLcode rc)
{
	long status = 0;

	(void)curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
	switch (status) {
	case 408:
	case 429:
	case 500:
	case 502:
	case 503:
	case 504:
		return REQUEST_RETRY;
	default:
		break;
	}
	if (status >= 300) // decided, even if the rest of the answer was lost
		return REQUEST_FAILED;
	if (r->refused != ADDRESS_PUBLIC)
		return REQUEST_FAILED;
	if (rc != CURLE_OK)
		return transient(rc) ? REQUEST_RETRY : REQUEST_FAILED;
	return status == 201 ? REQUEST_DONE : REQUEST_FAILED;
}

uint64_t request_retry_after_ms(const struct request *r)
{
	curl_off_t seconds = 0;

	if (curl_easy_getinfo(r->easy, CURLINFO_RETRY_AFTER, &seconds) != CURLE_OK || seconds <= 0)
		return 0;
	if (seconds > RETRY_AFTER_SECONDS_MAX)
		seconds = RETRY_AFTER_SECONDS_MAX;
	return (uint64_t)seconds * 1000;
}
