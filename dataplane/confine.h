/* confine.h - give up what this process does not need any more.
 *
 * Threads: confine_early() in the main thread before any other exists, so that all inherit it;
 *          confine_thread() in each thread there is, EAL's own included; confine_syscalls() once, for
 *          all threads (TSYNC).
 * What is left: docs/dataplane.md "Privileges", docs/security.md.
 * Proof:   tests/test_privilege.py
 */
#ifndef GATECAP_DATAPLANE_CONFINE_H
#define GATECAP_DATAPLANE_CONFINE_H

#include <stdbool.h>

#include "dataplane/args.h"
#include "filters/error.h"

/* Before EAL: keep what opening the ports, the files and the socket takes; no new privileges, no core
 * files, an empty bounding set.
 */
int confine_early(const struct args *args, struct error *err);

/* After init: keep NET_RAW, NET_ADMIN, BPF and IPC_LOCK, as far as they were there. */
int confine_thread(struct error *err);

/* Not dumpable (no ptrace by the same user), and only the system calls of the loop. */
int confine_syscalls(const struct args *args, struct error *err);

#endif
