/* xfrm_confine.c - one capability, some twenty system calls.
 *
 * CAP_NET_ADMIN has to stay: the kernel asks for it at every dump, not only when the socket is opened.
 * The user stays root, by which gatecapd knows this process; without capabilities root is a user who owns
 * many files, and the filter opens none.
 * The group is gatecapd's, since its socket is 0660 and CAP_DAC_OVERRIDE is gone.
 * A change of the group clears the signal that a supervisor's death sends: it is set again.
 */
#include "control/xfrm_confine.h"

#include <errno.h>
#include <grp.h>
#include <linux/netlink.h>
#include <seccomp.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/secret.h"
#include "filters/log.h"
#include "filters/syscall_rules.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { LOCKED_BYTES = 16 << 20 };

/* The datagrams lie in static memory, and so on pages that must not reach swap. */
static void lock_memory(void)
{
	const struct rlimit limit = {LOCKED_BYTES, LOCKED_BYTES};

	(void)setrlimit(RLIMIT_MEMLOCK, &limit); // what is there may do
	if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
		log_warning(
			"The memory of gatecap-xfrm cannot be locked: %s; keys that pass through it "
			"could reach swap.  CAP_IPC_LOCK or a greater limit (ulimit -l) prevents it.",
			strerror(errno));
}

static int become_group(gid_t gid)
{
	int death_signal = 0;

	(void)prctl(PR_GET_PDEATHSIG, &death_signal);
	if (geteuid() == 0 && (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0))
		return -errno;
	(void)prctl(PR_SET_PDEATHSIG, death_signal);
	return 0;
}

static int keep_net_admin(void)
{
	static const cap_value_t kept = CAP_NET_ADMIN;
	cap_t caps = cap_init();
	int rc = -ENOMEM;

	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0); // refused where there is little to drop
	if (caps != NULL && cap_set_flag(caps, CAP_PERMITTED, 1, &kept, CAP_SET) == 0 &&
	    cap_set_flag(caps, CAP_EFFECTIVE, 1, &kept, CAP_SET) == 0)
		rc = cap_set_proc(caps) == 0 ? 0 : -errno;
	cap_free(caps);
	return rc;
}

/* Made by the loop, the log, and on the way out. */
static const int allowed[] = {
	SCMP_SYS(poll),	     SCMP_SYS(ppoll),	       SCMP_SYS(recvfrom),
	SCMP_SYS(recvmsg),   SCMP_SYS(sendto),	       SCMP_SYS(sendmsg),
	SCMP_SYS(connect),   SCMP_SYS(getsockopt),     SCMP_SYS(setsockopt),
	SCMP_SYS(close),     SCMP_SYS(write),	       SCMP_SYS(clock_gettime),
	SCMP_SYS(brk),	     SCMP_SYS(munmap),	       SCMP_SYS(futex),
	SCMP_SYS(fstat),     SCMP_SYS(newfstatat),     SCMP_SYS(restart_syscall),
	SCMP_SYS(getpid),    SCMP_SYS(gettid),	       SCMP_SYS(tgkill),
	SCMP_SYS(exit),	     SCMP_SYS(exit_group),     SCMP_SYS(rt_sigreturn),
	SCMP_SYS(getrandom), SCMP_SYS(rt_sigprocmask),
};

/* Only an intruder would. */
static const int deadly[] = {
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(fork),
	SCMP_SYS(vfork),
	SCMP_SYS(clone),
	SCMP_SYS(clone3),
	SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(open),
	SCMP_SYS(openat),
	SCMP_SYS(openat2),
	SCMP_SYS(creat),
	SCMP_SYS(open_by_handle_at),
	SCMP_SYS(listen),
	SCMP_SYS(bind),
	SCMP_SYS(mount),
	SCMP_SYS(umount2),
	SCMP_SYS(pivot_root),
	SCMP_SYS(chroot),
	SCMP_SYS(setns),
	SCMP_SYS(unshare),
	SCMP_SYS(init_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(kexec_load),
	SCMP_SYS(bpf),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(userfaultfd),
	SCMP_SYS(keyctl),
	SCMP_SYS(chmod),
	SCMP_SYS(chown),
	SCMP_SYS(unlink),
	SCMP_SYS(unlinkat),
	SCMP_SYS(rename),
	SCMP_SYS(renameat2),
	SCMP_SYS(link),
	SCMP_SYS(linkat),
	SCMP_SYS(symlink),
	SCMP_SYS(symlinkat),
	SCMP_SYS(ioctl),
	SCMP_SYS(kill),
};

/* To gatecapd alone: a connection that broke is made anew.  The netlink socket is there already. */
static int add_socket_rules(scmp_filter_ctx ctx)
{
	int rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
				  SCMP_A0(SCMP_CMP_EQ, AF_UNIX));

	return rc != 0 ? rc
		       : seccomp_rule_add(ctx, SCMP_ACT_KILL_PROCESS, SCMP_SYS(socket), 1,
					  SCMP_A0(SCMP_CMP_NE, AF_UNIX));
}

/* Memory, but never memory that can be run. */
static int add_memory_rules(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp no_exec = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);

	return seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, &no_exec);
}

static int limit_syscalls(void)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int rc = ctx == NULL ? -ENOMEM : 0;

	if (rc == 0)
		rc = syscall_rules_add(ctx, SCMP_ACT_ALLOW, allowed, COUNT(allowed));
	if (rc == 0)
		rc = syscall_rules_add(ctx, SCMP_ACT_KILL_PROCESS, deadly, COUNT(deadly));
	if (rc == 0)
		rc = add_socket_rules(ctx);
	if (rc == 0)
		rc = add_memory_rules(ctx);
	if (rc == 0)
		rc = seccomp_load(ctx);
	if (ctx != NULL)
		seccomp_release(ctx);
	return rc;
}

int xfrm_confine(gid_t gid, struct error *err)
{
	int rc;

	lock_memory();
	rc = become_group(gid);
	if (rc == 0)
		rc = keep_net_admin();
	if (rc == 0)
		rc = secret_no_dumps(); // behind the change of the group, which sets it, too
	if (rc == 0)
		rc = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? 0 : -errno;
	if (rc == 0)
		rc = limit_syscalls();
	if (rc != 0)
		error_set(
			err,
			"gatecap-xfrm could not give up its privileges: %s; it does not go on with "
			"more than it needs.",
			strerror(-rc));
	return rc;
}
