/* syscalls.c - a list of what gatecapd and its libraries do, by libseccomp.
 *
 * Three answers, as in dataplane/confine.c: allowed; the process is killed, if only an intruder would
 * make the call; EPERM for all others, since a library that asks for something harmless must not end
 * a capture.
 * The list of the allowed was read off strace over the live tests, and completed by kind: who may
 * write a file may also rename, sync or lock it.  Which files, and to whom it connects, is not for
 * this filter, which sees no paths: the user gatecap owns its state folder and little else.
 * Memory that can be run is refused, so that no code can be brought in; a name service that is a
 * plug-in (nss-resolve, nss-mdns) cannot be loaded either, and glibc goes on with files and DNS.
 * Threads are clone() with CLONE_THREAD; clone3() keeps its flags where a filter cannot see them, and
 * glibc takes ENOSYS for an answer.
 */
#include "control/syscalls.h"
#include "filters/syscall_rules.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <termios.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const int reads_and_writes[] = {
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(readv),
	SCMP_SYS(writev),
	SCMP_SYS(pread64),
	SCMP_SYS(pwrite64),
	SCMP_SYS(preadv),
	SCMP_SYS(pwritev),
	SCMP_SYS(preadv2),
	SCMP_SYS(pwritev2),
	SCMP_SYS(lseek),
	SCMP_SYS(close),
	SCMP_SYS(close_range),
	SCMP_SYS(dup),
	SCMP_SYS(dup3),
	SCMP_SYS(fcntl),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(select),
	SCMP_SYS(pselect6),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_pwait2),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(pipe2),
	SCMP_SYS(copy_file_range),
	SCMP_SYS(sendfile),
	SCMP_SYS(memfd_create),
	SCMP_SYS(eventfd2),
	SCMP_SYS(epoll_create1),
	SCMP_SYS(splice),
	SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_settime),
	SCMP_SYS(inotify_init1),
	SCMP_SYS(inotify_add_watch),
	SCMP_SYS(inotify_rm_watch),
};

static const int files[] = {
	SCMP_SYS(open),	     SCMP_SYS(openat),		SCMP_SYS(stat),	      SCMP_SYS(lstat),
	SCMP_SYS(fstat),     SCMP_SYS(newfstatat),	SCMP_SYS(statx),      SCMP_SYS(statfs),
	SCMP_SYS(fstatfs),   SCMP_SYS(access),		SCMP_SYS(faccessat),  SCMP_SYS(faccessat2),
	SCMP_SYS(readlink),  SCMP_SYS(readlinkat),	SCMP_SYS(getdents64), SCMP_SYS(getcwd),
	SCMP_SYS(ftruncate), SCMP_SYS(fallocate),	SCMP_SYS(fsync),      SCMP_SYS(fdatasync),
	SCMP_SYS(syncfs),    SCMP_SYS(sync_file_range), SCMP_SYS(fadvise64),  SCMP_SYS(flock),
	SCMP_SYS(rename),    SCMP_SYS(renameat),	SCMP_SYS(renameat2),  SCMP_SYS(link),
	SCMP_SYS(linkat),    SCMP_SYS(unlink),		SCMP_SYS(unlinkat),   SCMP_SYS(mkdir),
	SCMP_SYS(mkdirat),   SCMP_SYS(rmdir),		SCMP_SYS(fchmod),     SCMP_SYS(utimensat),
	SCMP_SYS(umask),
};

static const int sockets[] = {
	SCMP_SYS(connect),    SCMP_SYS(accept4),    SCMP_SYS(getsockname), SCMP_SYS(getpeername),
	SCMP_SYS(getsockopt), SCMP_SYS(setsockopt), SCMP_SYS(sendto),	   SCMP_SYS(sendmsg),
	SCMP_SYS(sendmmsg),   SCMP_SYS(recvfrom),   SCMP_SYS(recvmsg),	   SCMP_SYS(recvmmsg),
	SCMP_SYS(shutdown),   SCMP_SYS(bind), // of the resolver's netlink socket
};

static const int memory_and_threads[] = {
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(brk),
	SCMP_SYS(mlock),
	SCMP_SYS(mlock2),
	SCMP_SYS(munlock),
	SCMP_SYS(mincore),
	SCMP_SYS(msync),
	SCMP_SYS(futex),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(sched_yield),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(sched_setaffinity),
	SCMP_SYS(sched_getparam),
	SCMP_SYS(sched_getscheduler),
	SCMP_SYS(getcpu),
	SCMP_SYS(membarrier),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigtimedwait),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(tgkill),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_getres),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(time),
	SCMP_SYS(getrandom),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(getppid),
	SCMP_SYS(getuid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getegid),
	SCMP_SYS(getgroups),
	SCMP_SYS(getresuid),
	SCMP_SYS(getresgid),
	SCMP_SYS(uname),
	SCMP_SYS(sysinfo),
	SCMP_SYS(getrusage),
	SCMP_SYS(times),
	SCMP_SYS(getrlimit),
};

/* Only an intruder would. */
static const int deadly[] = {
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(fork),
	SCMP_SYS(vfork),
	SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(pidfd_getfd),
	SCMP_SYS(kcmp),
	SCMP_SYS(mount),
	SCMP_SYS(umount2),
	SCMP_SYS(move_mount),
	SCMP_SYS(open_tree),
	SCMP_SYS(fsopen),
	SCMP_SYS(fsmount),
	SCMP_SYS(mount_setattr),
	SCMP_SYS(pivot_root),
	SCMP_SYS(chroot),
	SCMP_SYS(setns),
	SCMP_SYS(unshare),
	SCMP_SYS(init_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(delete_module),
	SCMP_SYS(kexec_load),
	SCMP_SYS(kexec_file_load),
	SCMP_SYS(reboot),
	SCMP_SYS(swapon),
	SCMP_SYS(swapoff),
	SCMP_SYS(bpf),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(userfaultfd),
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(keyctl),
	SCMP_SYS(add_key),
	SCMP_SYS(request_key),
	SCMP_SYS(open_by_handle_at),
	SCMP_SYS(name_to_handle_at),
	SCMP_SYS(openat2),
	SCMP_SYS(mknod),
	SCMP_SYS(mknodat),
	SCMP_SYS(iopl),
	SCMP_SYS(ioperm),
	SCMP_SYS(modify_ldt),
	SCMP_SYS(personality),
	SCMP_SYS(acct),
	SCMP_SYS(quotactl),
	SCMP_SYS(settimeofday),
	SCMP_SYS(clock_settime),
	SCMP_SYS(adjtimex),
	SCMP_SYS(sethostname),
	SCMP_SYS(fanotify_init),
	SCMP_SYS(listen),
	SCMP_SYS(symlink),
	SCMP_SYS(symlinkat),
};

static int add_lists(scmp_filter_ctx ctx)
{
	int rc = syscall_rules_add(ctx, SCMP_ACT_ALLOW, reads_and_writes, COUNT(reads_and_writes));

	if (rc == 0)
		rc = syscall_rules_add(ctx, SCMP_ACT_ALLOW, files, COUNT(files));
	if (rc == 0)
		rc = syscall_rules_add(ctx, SCMP_ACT_ALLOW, sockets, COUNT(sockets));
	if (rc == 0)
		rc = syscall_rules_add(ctx, SCMP_ACT_ALLOW, memory_and_threads,
				       COUNT(memory_and_threads));
	if (rc == 0)
		rc = syscall_rules_add(ctx, SCMP_ACT_KILL_PROCESS, deadly, COUNT(deadly));
	return rc;
}

/* To the dataplane and to clients, to the storage and to name servers, and the resolver's question
 * which of its addresses this machine would use.  Never the wire itself.
 */
static int add_socket_rules(scmp_filter_ctx ctx)
{
	static const int families[] = {AF_UNIX, AF_INET, AF_INET6};
	static const int deadly_families[] = {AF_PACKET, AF_KEY, AF_ALG, AF_VSOCK, AF_XDP};
	const struct scmp_arg_cmp route[] = {SCMP_A0(SCMP_CMP_EQ, AF_NETLINK),
					     SCMP_A2(SCMP_CMP_EQ, NETLINK_ROUTE)};
	int rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2, route);

	for (size_t i = 0; rc == 0 && i < COUNT(families); i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
				      SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i]));
	for (size_t i = 0; rc == 0 && i < COUNT(deadly_families); i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_KILL_PROCESS, SCMP_SYS(socket), 1,
				      SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)deadly_families[i]));
	if (rc == 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 1,
				      SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
	return rc;
}

/* Memory, but never memory that can be run; threads, but never processes. */
static int add_memory_and_thread_rules(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp no_exec = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	const struct scmp_arg_cmp thread = SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD);
	const struct scmp_arg_cmp process = SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0);
	int rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, &no_exec);

	if (rc == 0)
		rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, &no_exec);
	if (rc == 0)
		rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, &thread);
	if (rc == 0)
		rc = seccomp_rule_add_array(ctx, SCMP_ACT_KILL_PROCESS, SCMP_SYS(clone), 1,
					    &process);
	if (rc == 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	return rc;
}

/* Of calls with many faces, those that are harmless. */
static int add_selected(scmp_filter_ctx ctx)
{
	/* TIOCSTI would type into the terminal that gatecapd was started from. */
	static const unsigned long requests[] = {FIONREAD, FIONBIO, TCGETS, SIOCGIFINDEX,
						 SIOCGIFNAME};
	/* A dumpable process could be looked into: prctl() may name a thread and no more. */
	const struct scmp_arg_cmp name = SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME);
	const struct scmp_arg_cmp only_read = SCMP_A2(SCMP_CMP_EQ, 0);
	int rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, &name);

	if (rc == 0)
		rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1,
					    &only_read);
	if (rc == 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_KILL_PROCESS, SCMP_SYS(ioctl), 1,
				      SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, TIOCSTI));
	for (size_t i = 0; rc == 0 && i < COUNT(requests); i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				      SCMP_A1(SCMP_CMP_EQ, requests[i]));
	return rc;
}

int syscalls_limit(struct error *err)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int rc = ctx == NULL ? -ENOMEM : seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);

	if (rc == 0)
		rc = add_lists(ctx);
	if (rc == 0)
		rc = add_socket_rules(ctx);
	if (rc == 0)
		rc = add_memory_and_thread_rules(ctx);
	if (rc == 0)
		rc = add_selected(ctx);
	if (rc == 0)
		rc = seccomp_load(ctx);
	if (ctx != NULL)
		seccomp_release(ctx);
	if (rc != 0)
		error_set(err, "System calls cannot be limited: %s.", strerror(-rc));
	return rc;
}
