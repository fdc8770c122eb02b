/* dp_client.h - gatecapd's end of dp.sock.
 *
 * Flow:    connect -> HELLO -> WELCOME -> up(); then SET -> applied() or refused(), one at a time
 * Threads: the event loop.
 * Memory:  maps the dataplane's memory read-only and the tails read-write while it is up; the mappings
 *          stay valid until down() has returned.
 * Trust:   the dataplane is trusted to be ours (it owns the socket's folder) and to leave its memory as
 *          long as it was; messages, sizes and offsets are checked all the same.
 * Proof:   tests/fuzz_dp_client.c, tests/test_live.py
 * Again:   tries to connect every DP_RETRY_MS.
 */
#ifndef GATECAP_CONTROL_DP_CLIENT_H
#define GATECAP_CONTROL_DP_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "dataplane/ring.h"
#include "dataplane/shared.h"
#include "filters/error.h"

enum { DP_RETRY_MS = 250 };

struct event_base;
struct dp_client;

struct dp_events {
	void (*up)(void *ctx);
	void (*down)(void *ctx); // after up(); reads the mappings a last time
	void (*applied)(void *ctx, uint64_t generation, uint64_t time_ns);
	void (*refused)(void *ctx, uint64_t generation, const char *why);
	void (*sas_applied)(void *ctx, uint64_t generation);		      // may be NULL
	void (*sas_refused)(void *ctx, uint64_t generation, const char *why); // may be NULL
	void *ctx;
};

struct dp_client *dp_client_open(struct event_base *base, const char *path,
				 const struct dp_events *events);
void dp_client_close(struct dp_client *client);

/* Within down(): is it only the connection that ended? */
bool dp_client_is_alive(const struct dp_client *client);

/* Not connected, and nobody listened at the last try: the dataplane of before is gone. */
bool dp_client_is_absent(const struct dp_client *client);

/* The dataplane's memory, or NULL when it is not connected. */
const struct shared_header *dp_client_shared(const struct dp_client *client);
const struct worker_shared *dp_client_worker(const struct dp_client *client, unsigned i);

/* The generation in force when the dataplane said WELCOME: ours must be greater. */
uint64_t dp_client_generation(const struct dp_client *client);

/* Readers of all rings, one a worker, into out[WORKERS_MAX]; gives their number. */
unsigned dp_client_rings(const struct dp_client *client, struct ring_reader *out);

/* Send a filter set (set_build.h).  0 or -errno: then down() follows. */
int dp_client_set(struct dp_client *client, const void *set, size_t bytes, uint64_t generation);

/* The same for SAs (sa_set.h), beside and independent of filter sets: one at a time of each. */
uint64_t dp_client_sa_generation(const struct dp_client *client);
int dp_client_set_sas(struct dp_client *client, const void *set, size_t bytes, uint64_t generation);

#endif
