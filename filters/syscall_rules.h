/* syscall_rules.h - what the system-call filters of both processes share.
 *
 * The lists are each process' own: dataplane/confine.c, control/syscalls.c.
 */
#ifndef GATECAP_FILTERS_SYSCALL_RULES_H
#define GATECAP_FILTERS_SYSCALL_RULES_H

#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>

/* The same answer to n system calls, whatever their arguments.  0 or -errno. */
static inline int syscall_rules_add(scmp_filter_ctx ctx, uint32_t action, const int *calls,
				    size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int rc = seccomp_rule_add(ctx, action, calls[i], 0);

		if (rc != 0)
			return rc;
	}
	return 0;
}

#endif
