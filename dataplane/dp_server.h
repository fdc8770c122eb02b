/* dp_server.h - the control socket: who may connect, and what a message may make happen.
 *
 * Protocol: dp_proto.h.
 * Threads: the main thread only.
 * Trust:   every peer is hostile until SO_PEERCRED says root or --control-uid, and its messages are
 *          hostile after that: a wrong one closes the connection, a set that does not hold is REFUSED.
 *          A set is copied to private memory before it is looked at; one of SAs to locked memory, which
 *          is wiped when the keys are expanded.
 * Blocking: nothing waits for a peer; a SET or SAS waits for the workers, at most LOOP_DEAD_MS.  What a
 *          descriptor that came with a message does when it is closed is bounded by main.c.
 * Control gone: the filters stay in force, the rings fill and then drop (counted).  The next control
 *          process gets the same descriptors.
 * Memory:  dp_server_open() allocates, dp_server_close() frees and removes the socket.
 * Proof:   tests/test_dataplane.py, tests/test_hostile_control.py, tests/fuzz_dp_server.c
 */
#ifndef GATECAP_DATAPLANE_DP_SERVER_H
#define GATECAP_DATAPLANE_DP_SERVER_H

#include <poll.h>

#include "dataplane/args.h"
#include "dataplane/clock.h"
#include "dataplane/loop.h"
#include "dataplane/rx.h"
#include "dataplane/share.h"
#include "filters/error.h"

enum {
	DP_CLIENTS_MAX = 8, // one more takes the place of the one that was silent for longest
	DP_POLL_MAX = DP_CLIENTS_MAX + 1,
};

struct dp_server;

struct dp_server_parts {
	const struct args *args;
	const struct share *share;
	const struct clock *clock;
	struct loop *loop;
	struct rx *rx;
};

/* Listen.  Gives *out, or -errno and a sentence.  Borrows the parts for life. */
int dp_server_open(struct dp_server **out, const struct dp_server_parts *parts, struct error *err);

/* After the workers have stopped: frees the matcher and the SAs in use. */
void dp_server_close(struct dp_server *server);

/* Fill in what to wait for; returns how many. */
unsigned dp_server_poll(const struct dp_server *server, struct pollfd fds[static DP_POLL_MAX]);

/* Serve what poll() reported.  0, or -errno and a sentence: the process has to end. */
int dp_server_serve(struct dp_server *server, const struct pollfd *fds, unsigned n,
		    struct error *err);

#endif
