/* privilege.h - from root to the user that gatecapd runs as.
 *
 * Threads: before any other thread is started.
 * Next:    syscalls.h, once everything is open.
 * Proof:   tests/test_privilege.py
 */
#ifndef GATECAP_CONTROL_PRIVILEGE_H
#define GATECAP_CONTROL_PRIVILEGE_H

#include <sys/types.h>

#include "control/config.h"
#include "filters/error.h"

/* The uid that gatecapd has or will have.  0, or -errno and a sentence. */
int privilege_uid(const struct config *config, uid_t *uid, struct error *err);

/* Make the state folder and the sockets' folder; when root: give them to control.user and become that
 * user.  No capabilities, also none to be had again; no core files; no new privileges.  0, or -errno and a sentence.
 */
int privilege_drop(const struct config *config, struct error *err);

#endif
