/* syscalls.h - the system calls that gatecapd keeps.
 *
 * Why:     it parses JSON, HTTP and the storage's answers; whoever takes it over that way shall find a
 *          process that can serve, write its files and upload, and nothing else: no other program, no
 *          other process' memory, no kernel interface that gatecapd itself has no use for.
 * Threads: once, after the privileges are gone and before the first byte from outside is read; holds
 *          for all threads there are and will be.
 * What is left: docs/security.md
 * Proof:   tests/test_privilege.py
 */
#ifndef GATECAP_CONTROL_SYSCALLS_H
#define GATECAP_CONTROL_SYSCALLS_H

#include "filters/error.h"

/* 0, or -errno and a sentence. */
int syscalls_limit(struct error *err);

#endif
