/* resolve.h - the names of connections' peers, looked up again and again.
 *
 * Threads: the event loop; the look-ups block in a thread of their own.
 * Often:   every RESOLVE_SECONDS; an answer that fails keeps the addresses known before.
 */
#ifndef GATECAP_CONTROL_RESOLVE_H
#define GATECAP_CONTROL_RESOLVE_H

#include "control/config.h"
#include "control/set_build.h"

enum { RESOLVE_SECONDS = 60 };

struct event_base;
struct resolver;

/* changed() is called when the addresses are other ones.  Gives NULL when memory is short. */
struct resolver *resolver_open(struct event_base *base, const struct config *config,
			       void (*changed)(void *ctx), void *ctx);
void resolver_close(struct resolver *resolver);

/* The addresses now; valid until the loop runs again. */
const struct resolved_peer *resolver_peers(const struct resolver *resolver, unsigned *n);

#endif
