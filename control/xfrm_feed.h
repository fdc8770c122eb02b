/* xfrm_feed.h - gatecapd's end of xfrm.sock: the kernel's SAs, as gatecap-xfrm tells them.
 *
 * Flow:    gatecap-xfrm -> xfrm_proto.h -> here -> struct xfrm_sink -> sa_registry.c (SA_FROM_KERNEL)
 * Threads: the event loop.
 * Memory:  a list that is being told lies in sa_list.h memory until it is whole; one message at a time on
 *          the stack, wiped.
 * Trust:   root alone is let in (SO_PEERCRED); every field of an SA is checked all the same, so that what
 *          goes on can be in a set.
 * When it is gone: the SAs that it told stay in force, since keys do not become wrong by silence; status
 *          says since when nothing new is heard.  Back, it tells all of them anew.
 * Proof:   tests/test_xfrm_feed.c, tests/test_live_xfrm.py
 */
#ifndef GATECAP_CONTROL_XFRM_FEED_H
#define GATECAP_CONTROL_XFRM_FEED_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "control/sa_list.h"
#include "filters/error.h"

struct event_base;
struct xfrm_feed;

/* Where SAs go.  put and replace may refuse with a sentence, which is logged. */
struct xfrm_sink {
	void *ctx;
	int (*replace)(void *ctx, struct sa_list *list, struct error *err); // takes the list
	int (*put)(void *ctx, const struct sa_item *item, struct error *err);
	int (*remove)(void *ctx, const struct sa_item *like); // -ENOENT is fine
};

struct xfrm_feed_status {
	bool is_connected;
	bool is_complete;	// since it is connected a whole list has come
	int64_t since_s;	// of is_connected, wall clock
	uint32_t n_sas;		// in the last whole list
	uint32_t n_hidden;	// of them: the kernel hides their keys
	uint32_t n_unsupported; // of them: algorithms and modes that gatecap does not know
	uint32_t n_foreign;	// SAs of AH and IPComp, in no list
	uint32_t n_malformed;	// messages of the kernel that gatecap-xfrm could not read
};

/* Listen at path, for user and group of this process.  uid: whose process may connect, 0 in gatecapd.
 * NULL and a sentence.
 */
struct xfrm_feed *xfrm_feed_open(struct event_base *base, const char *path, uid_t uid,
				 const struct xfrm_sink *sink, struct error *err);
void xfrm_feed_close(struct xfrm_feed *feed);

void xfrm_feed_status(const struct xfrm_feed *feed, struct xfrm_feed_status *out);

#endif
