/* xfrm_source.h - the kernel's SAs as one of the sources of the appliance's.
 *
 * Flow:    xfrm_feed.c -> here -> sa_registry.c (SA_FROM_KERNEL), sa_keeper.c is told of each change
 * Threads: the event loop.
 * Memory:  borrows the keeper, which has to outlive it.
 * When:    before the system calls are limited, since it listens.
 * Proof:   tests/test_live_xfrm.py
 */
#ifndef GATECAP_CONTROL_XFRM_SOURCE_H
#define GATECAP_CONTROL_XFRM_SOURCE_H

#include "filters/error.h"

struct event_base;
struct sa_keeper;
struct xfrm_source;

/* Listen at path for gatecap-xfrm.  NULL and a sentence. */
struct xfrm_source *xfrm_source_open(struct event_base *base, const char *path,
				     struct sa_keeper *keeper, struct error *err);
void xfrm_source_close(struct xfrm_source *source); // NULL: nothing

#endif
