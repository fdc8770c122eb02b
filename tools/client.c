/* client.c - libcurl on a unix socket.
 *
 * One easy handle for all requests of a command, so that `stop` polls on one connection.  A plain
 * connect() comes first: it has the errno that tells "not running" from "not allowed", which
 * libcurl's "could not connect" does not.  No proxy, no redirect, no configuration file.
 */
#include "tools/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <curl/curl.h>

enum {
	ANSWER_BYTES_MAX = 64 << 20, // of JSON: thousands of connections fit many times
	CALL_SECONDS_MAX = 300,	     // start and check-sas wait for the storage
	STALL_SECONDS_MAX = 60,
};

struct client {
	CURL *curl;
	struct curl_slist *headers;
	char *socket_path;
	char curl_error[CURL_ERROR_SIZE];
};

/* One request under way. */
struct transfer {
	struct client *client;
	const struct sink *sink; // NULL: JSON only
	FILE *text;
	size_t n_text_bytes;
	int sink_rc;
};

volatile sig_atomic_t client_interrupted;

int client_probe(const char *socket_path, struct error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, rc = 0;

	if (*socket_path == '\0' || strlen(socket_path) >= sizeof(address.sun_path)) {
		error_set(err, "The path of the socket must have 1 to %zu bytes.",
			  sizeof(address.sun_path) - 1);
		return -ENAMETOOLONG;
	}
	memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		rc = -errno;
	if (fd >= 0)
		(void)close(fd);
	if (rc == -EACCES || rc == -EPERM)
		error_set(err,
			  "You may not use the socket %s: join the group gatecap (sudo usermod -aG "
			  "gatecap $USER, then log in again) or use sudo.",
			  socket_path);
	else if (rc != 0)
		error_set(
			err,
			"gatecapd is not running: nothing answers on %s (%s). Start it with "
			"\"sudo systemctl start gatecapd\", or name its socket with --socket PATH.",
			socket_path, strerror(-rc));
	return rc;
}

struct client *client_open(const char *socket_path, struct error *err)
{
	struct client *client;

	if (client_probe(socket_path, err) != 0)
		return NULL;
	client = calloc(1, sizeof(*client));
	if (client == NULL)
		goto fail;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
		client->curl = curl_easy_init();
	client->socket_path = strdup(socket_path);
	client->headers = curl_slist_append(NULL, "Content-Type: application/json");
	if (client->headers != NULL) // no second round trip before a large body
		(void)curl_slist_append(client->headers, "Expect:");
	if (client->curl != NULL && client->socket_path != NULL && client->headers != NULL)
		return client;
fail:
	error_set(err, "There is no memory to ask gatecapd.");
	client_close(client);
	return NULL;
}

void client_close(struct client *client)
{
	if (client == NULL)
		return;
	curl_easy_cleanup(client->curl);
	curl_slist_free_all(client->headers);
	free(client->socket_path);
	free(client);
	curl_global_cleanup();
}

static size_t on_data(char *data, size_t one, size_t len, void *ctx)
{
	struct transfer *t = ctx;
	long status = 0;

	(void)one;
	(void)curl_easy_getinfo(t->client->curl, CURLINFO_RESPONSE_CODE, &status);
	if (t->sink != NULL && status == 200) {
		t->sink_rc = t->sink->write(t->sink->ctx, data, len);
		return t->sink_rc == 0 ? len : 0;
	}
	t->n_text_bytes += len;
	if (t->n_text_bytes > ANSWER_BYTES_MAX)
		return 0;
	return fwrite(data, 1, len, t->text);
}

static int on_progress(void *ctx, curl_off_t total, curl_off_t got, curl_off_t up_total,
		       curl_off_t up)
{
	struct transfer *t = ctx;

	(void)up_total;
	(void)up;
	if (t->sink != NULL && t->sink->progress != NULL && total > 0)
		t->sink->progress(t->sink->ctx, (uint64_t)got, (uint64_t)total);
	return client_interrupted != 0;
}

static void curl_prepare(struct client *client, struct transfer *t, const char *url)
{
	CURL *curl = client->curl;

	curl_easy_reset(curl); // keeps the connection
	client->curl_error[0] = '\0';
	(void)curl_easy_setopt(curl, CURLOPT_URL, url);
	(void)curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, client->socket_path);
	(void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
	(void)curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
	(void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, client->headers);
	(void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, client->curl_error);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, t);
	(void)curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
	(void)curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
	(void)curl_easy_setopt(curl, CURLOPT_XFERINFODATA, t);
	if (t->sink != NULL) {
		(void)curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 256L << 10);
		(void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
		(void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)STALL_SECONDS_MAX);
	} else {
		(void)curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)CALL_SECONDS_MAX);
	}
}

/* Why a request brought no answer, as a sentence. */
static int transfer_failed(const struct transfer *t, CURLcode code, struct error *err)
{
	const struct client *client = t->client;

	if (client_interrupted) {
		error_set(err, "Interrupted.");
		return -EINTR;
	}
	if (t->sink_rc != 0) {
		error_set(err, "The output cannot be written: %s.", strerror(-t->sink_rc));
		return t->sink_rc;
	}
	if (code == CURLE_PARTIAL_FILE) {
		error_set(err,
			  "gatecapd ended the transfer before all bytes were there; see its log "
			  "for the reason.");
		return -EIO;
	}
	error_set(
		err,
		"gatecapd on %s did not answer (%s); look at its log (journalctl -u gatecapd) and "
		"try again.",
		client->socket_path,
		client->curl_error[0] ? client->curl_error : curl_easy_strerror(code));
	return -EIO;
}

static int not_understood(const struct client *client, long status, struct error *err)
{
	error_set(
		err,
		"The answer of %s (HTTP status %ld) is not understood; is it gatecapd, and of this "
		"version (" GATECAP_VERSION ")?",
		client->socket_path, status);
	return -EPROTO;
}

/* Perform what curl_prepare() set up, and read the JSON if there is one. */
static int transfer_run(struct transfer *t, struct answer *out, struct error *err)
{
	struct client *client = t->client;
	char *text = NULL;
	size_t len = 0;
	CURLcode code;
	int rc = 0;

	t->text = open_memstream(&text, &len);
	if (t->text == NULL) {
		error_set(err, "There is no memory for the answer.");
		return -ENOMEM;
	}
	code = curl_easy_perform(client->curl);
	(void)curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &out->status);
	if (fclose(t->text) != 0 || code != CURLE_OK) {
		rc = transfer_failed(t, code, err);
	} else if (t->sink == NULL || out->status != 200) {
		out->json = cJSON_ParseWithLength(text, len);
		if (!cJSON_IsObject(out->json)) {
			answer_fini(out);
			rc = not_understood(client, out->status, err);
		}
	}
	free(text);
	return rc;
}

static char *url_of(const char *path)
{
	char *url = NULL;

	return asprintf(&url, "http://gatecapd%s", path) < 0 ? NULL : url;
}

int client_call(struct client *client, const char *method, const char *path,
		const struct cJSON *body, struct answer *out, struct error *err)
{
	struct transfer t = {.client = client};
	char *text = body != NULL ? cJSON_PrintUnformatted(body) : strdup("");
	char *url = url_of(path);
	int rc = -ENOMEM;

	*out = (struct answer){0};
	if (text == NULL || url == NULL) {
		error_set(err, "There is no memory for the request.");
	} else {
		curl_prepare(client, &t, url);
		if (strcmp(method, "GET") != 0) {
			(void)curl_easy_setopt(client->curl, CURLOPT_POST, 1L);
			(void)curl_easy_setopt(client->curl, CURLOPT_CUSTOMREQUEST, method);
			(void)curl_easy_setopt(client->curl, CURLOPT_POSTFIELDSIZE_LARGE,
					       (curl_off_t)strlen(text));
			(void)curl_easy_setopt(client->curl, CURLOPT_POSTFIELDS, text);
		}
		rc = transfer_run(&t, out, err);
	}
	if (text != NULL)
		explicit_bzero(text, strlen(text));
	free(text);
	free(url);
	return rc;
}

int client_stream(struct client *client, const char *path, const struct sink *sink,
		  struct answer *out, struct error *err)
{
	struct transfer t = {.client = client, .sink = sink};
	char *url = url_of(path);
	int rc;

	*out = (struct answer){0};
	if (url == NULL) {
		error_set(err, "There is no memory for the request.");
		return -ENOMEM;
	}
	curl_prepare(client, &t, url);
	rc = transfer_run(&t, out, err);
	free(url);
	return rc;
}

char *client_scope_path(struct client *client, const char *connection, const char *suffix)
{
	char *name = connection ? curl_easy_escape(client->curl, connection, 0) : NULL;
	char *path = NULL;
	int n;

	if (connection == NULL)
		n = asprintf(&path, "/gatecap/v1/captures/gateway%s", suffix);
	else
		n = name == NULL ? -1
				 : asprintf(&path, "/gatecap/v1/captures/connections/%s%s", name,
					    suffix);
	curl_free(name);
	return n < 0 ? NULL : path;
}

bool answer_is_ok(const struct answer *answer)
{
	return answer->status >= 200 && answer->status < 300;
}

void answer_fini(struct answer *answer)
{
	cJSON_Delete(answer->json);
	answer->json = NULL;
}
