/* xfrm_confine.h - what gatecap-xfrm gives up before it reads its first message.
 *
 * Threads: there is one.
 * When:    after the netlink socket is bound, before anything is read from it.
 * What is left: docs/security.md.
 * Proof:   tests/test_live_xfrm.py
 */
#ifndef GATECAP_CONTROL_XFRM_CONFINE_H
#define GATECAP_CONTROL_XFRM_CONFINE_H

#include <sys/types.h>

#include "filters/error.h"

/* Lock what memory there is and will be, become group `gid`, keep CAP_NET_ADMIN alone, for good; no dumps;
 * only the system calls of the loop.  0, or -errno and a sentence.
 */
int xfrm_confine(gid_t gid, struct error *err);

#endif
