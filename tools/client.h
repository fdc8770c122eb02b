/* client.h - ask gatecapd over its unix socket.
 *
 * Flow:    cli_*.c -> client -> docs/http-api.md
 * Threads: one.
 * Memory:  client_open() gives; answers are filled and must be ended with answer_fini().
 * Errors:  0 means that the daemon answered, whatever its status; -errno comes with a sentence that
 *          says what to do (not running, no permission, answer not understood).
 * Secrets: the text of a body is wiped after it is sent; the caller wipes its tree.
 * Proof:   tests/test_cli.py
 */
#ifndef GATECAP_TOOLS_CLIENT_H
#define GATECAP_TOOLS_CLIENT_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "filters/error.h"

struct cJSON;
struct client;

struct answer {
	long status;
	struct cJSON *json; // NULL: a stream went to its sink
};

/* Where the bytes of a stream go. */
struct sink {
	int (*write)(void *ctx, const void *data, size_t len); // 0 or -errno: the stream ends
	void (*progress)(void *ctx, uint64_t got, uint64_t total);
	void *ctx;
};

/* Set by a signal handler: a call or stream under way ends with -EINTR. */
extern volatile sig_atomic_t client_interrupted;

/* 0 if something accepts connections on the socket, or -errno with a sentence. */
int client_probe(const char *socket_path, struct error *err);

/* Gives a client, or NULL with a sentence if nothing answers on the socket. */
struct client *client_open(const char *socket_path, struct error *err);
void client_close(struct client *client);

/* Send a request; body (borrows) may be NULL. */
int client_call(struct client *client, const char *method, const char *path,
		const struct cJSON *body, struct answer *out, struct error *err);

/* GET a file into the sink.  An answer other than 200 goes to out->json and not to the sink; 0 with
 * status 200 means that all bytes of Content-Length went there.
 */
int client_stream(struct client *client, const char *path, const struct sink *sink,
		  struct answer *out, struct error *err);

/* Gives "/gatecap/v1/captures/SCOPE" + suffix; connection NULL: the gateway-wide one. */
char *client_scope_path(struct client *client, const char *connection, const char *suffix);

/* True for 2xx. */
bool answer_is_ok(const struct answer *answer);
void answer_fini(struct answer *answer);

#endif
