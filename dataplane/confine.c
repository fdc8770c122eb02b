/* confine.c - capabilities by libcap, system calls by libseccomp.
 *
 * Capabilities belong to threads, and EAL starts threads of its own: so all that no port needs goes
 * before EAL comes up, and the rest, thread by thread, after.
 *
 * Three answers to a system call: allowed, if the loop makes it; the process is killed, if only an
 * intruder would make it (another program, another file, another connection); EPERM for all others,
 * since a library that asks for something harmless must not end a capture.
 * The list of the allowed was read off strace for each kind of port.
 */
#include "dataplane/confine.h"
#include "filters/syscall_rules.h"

#include <errno.h>
#include <linux/netlink.h>
#include <seccomp.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const cap_value_t loop_caps[] = {CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF, CAP_IPC_LOCK};

/* Reading capture files of any owner, and a socket in control's folder. */
static const cap_value_t open_caps[] = {CAP_DAC_OVERRIDE, CAP_CHOWN};

/* Physical addresses and registers of NICs. */
static const cap_value_t pci_caps[] = {CAP_SYS_ADMIN, CAP_SYS_RAWIO, CAP_SYS_NICE};

/* Raise in `wanted` those of the list that the process has. */
static int keep(cap_t wanted, cap_t had, const cap_value_t *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		cap_flag_value_t has = CAP_CLEAR;

		if (cap_get_flag(had, list[i], CAP_PERMITTED, &has) != 0 || has == CAP_CLEAR)
			continue;
		if (cap_set_flag(wanted, CAP_PERMITTED, 1, &list[i], CAP_SET) != 0 ||
		    cap_set_flag(wanted, CAP_EFFECTIVE, 1, &list[i], CAP_SET) != 0)
			return -1;
	}
	return 0;
}

static int set_caps(bool is_opening, bool has_pci, struct error *err)
{
	cap_t had = cap_get_proc();
	cap_t wanted = cap_init();
	int rc = -1;

	if (had != NULL && wanted != NULL)
		rc = keep(wanted, had, loop_caps, COUNT(loop_caps));
	if (rc == 0 && is_opening)
		rc = keep(wanted, had, open_caps, COUNT(open_caps));
	if (rc == 0 && is_opening && has_pci)
		rc = keep(wanted, had, pci_caps, COUNT(pci_caps));
	if (rc == 0)
		rc = cap_set_proc(wanted);
	rc = rc == 0 ? 0 : -errno;
	cap_free(had);
	cap_free(wanted);
	if (rc != 0)
		error_set(err, "Capabilities cannot be given up: %s.", strerror(-rc));
	return rc;
}

static bool has_kind(const struct args *args, enum source_kind kind)
{
	for (unsigned i = 0; i < args->n_ports; i++)
		if (args->ports[i].kind == kind)
			return true;
	return false;
}

/* What no program started from here could get back; this process starts none.  Refused when this is
 * not root: then it had little.
 */
static void empty_bounding_set(void)
{
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
}

int confine_early(const struct args *args, struct error *err)
{
	const struct rlimit none = {0, 0};

	if (setrlimit(RLIMIT_CORE, &none) != 0) {
		error_set(err, "Core files cannot be switched off: %s.", strerror(errno));
		return -errno;
	}
	empty_bounding_set();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
		error_set(err, "The process cannot renounce new privileges: %s.", strerror(errno));
		return -errno;
	}
	return set_caps(true, has_kind(args, SOURCE_PCI), err);
}

int confine_thread(struct error *err)
{
	return set_caps(false, false, err);
}

/* Made by the loop, the control socket, malloc, the log, and on the way out. */
static const int allowed[] = {
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(close),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendmsg),
	SCMP_SYS(recvfrom),
	SCMP_SYS(sendto),
	SCMP_SYS(accept4),
	SCMP_SYS(getsockopt),
	SCMP_SYS(fcntl),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(pread64),
	SCMP_SYS(lseek),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(mlock2), // keys: locked_memory.c
	SCMP_SYS(brk),
	SCMP_SYS(futex),
	SCMP_SYS(sched_yield),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(tgkill),
	SCMP_SYS(unlink),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(getrandom),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(timerfd_settime),
};

/* Only an intruder would. */
static const int deadly[] = {
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(ptrace),
	SCMP_SYS(connect),
	SCMP_SYS(listen),
	SCMP_SYS(creat),
	SCMP_SYS(open_by_handle_at),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(fork),
	SCMP_SYS(vfork),
	SCMP_SYS(rename),
	SCMP_SYS(renameat),
	SCMP_SYS(renameat2),
	SCMP_SYS(link),
	SCMP_SYS(linkat),
	SCMP_SYS(symlink),
	SCMP_SYS(symlinkat),
	SCMP_SYS(mount),
	SCMP_SYS(umount2),
	SCMP_SYS(pivot_root),
	SCMP_SYS(chroot),
	SCMP_SYS(setns),
	SCMP_SYS(unshare),
	SCMP_SYS(init_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(kexec_load),
	SCMP_SYS(chmod),
	SCMP_SYS(fchmod),
	SCMP_SYS(fchmodat),
	SCMP_SYS(chown),
	SCMP_SYS(fchown),
	SCMP_SYS(fchownat),
	SCMP_SYS(keyctl),
	SCMP_SYS(userfaultfd),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(openat2),
};

/* Files: never for writing.  Reading gets EPERM: nothing needs it any more. */
static int add_file_rules(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp write_only = SCMP_A2(SCMP_CMP_MASKED_EQ, 3, 1);
	const struct scmp_arg_cmp read_write = SCMP_A2(SCMP_CMP_MASKED_EQ, 3, 2);
	const struct scmp_arg_cmp old_write_only = SCMP_A1(SCMP_CMP_MASKED_EQ, 3, 1);
	const struct scmp_arg_cmp old_read_write = SCMP_A1(SCMP_CMP_MASKED_EQ, 3, 2);
	int rc = seccomp_rule_add_array(ctx, SCMP_ACT_KILL_PROCESS, SCMP_SYS(openat), 1,
					&write_only);

	if (rc == 0)
		rc = seccomp_rule_add_array(ctx, SCMP_ACT_KILL_PROCESS, SCMP_SYS(openat), 1,
					    &read_write);
	if (rc == 0)
		rc = seccomp_rule_add_array(ctx, SCMP_ACT_KILL_PROCESS, SCMP_SYS(open), 1,
					    &old_write_only);
	if (rc == 0)
		rc = seccomp_rule_add_array(ctx, SCMP_ACT_KILL_PROCESS, SCMP_SYS(open), 1,
					    &old_read_write);
	return rc;
}

/* Memory, but never memory that can be run. */
static int add_memory_rules(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp no_exec = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	int rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, &no_exec);

	if (rc == 0)
		rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, &no_exec);
	return rc;
}

/* The XDP program is taken off its interface on the way out: routing netlink, and bpf().  Libraries ask
 * for an AF_UNIX socket then, to learn an interface's name, and do without.  Any other new socket is
 * deadly; without an af_xdp: port every one is.
 */
static int add_socket_rules(scmp_filter_ctx ctx, bool has_xdp)
{
	static const int xdp_calls[] = {SCMP_SYS(bpf), SCMP_SYS(bind), SCMP_SYS(getsockname),
					SCMP_SYS(setsockopt)};
	const struct scmp_arg_cmp route[] = {SCMP_A0(SCMP_CMP_EQ, AF_NETLINK),
					     SCMP_A2(SCMP_CMP_EQ, NETLINK_ROUTE)};
	const struct scmp_arg_cmp above = SCMP_A0(SCMP_CMP_GT, AF_NETLINK);
	int rc;

	if (!has_xdp)
		return seccomp_rule_add(ctx, SCMP_ACT_KILL_PROCESS, SCMP_SYS(socket), 0);
	rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2, route);
	if (rc == 0)
		rc = seccomp_rule_add_array(ctx, SCMP_ACT_KILL_PROCESS, SCMP_SYS(socket), 1,
					    &above);
	for (int family = AF_UNIX + 1; rc == 0 && family < AF_NETLINK; family++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_KILL_PROCESS, SCMP_SYS(socket), 1,
				      SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)family));
	if (rc == 0)
		rc = syscall_rules_add(ctx, SCMP_ACT_ALLOW, xdp_calls, COUNT(xdp_calls));
	return rc;
}

/* Drivers of real NICs talk to their device through ioctl() and wait for its events. */
static int add_device_rules(scmp_filter_ctx ctx)
{
	static const int device_calls[] = {SCMP_SYS(ioctl), SCMP_SYS(pwrite64), SCMP_SYS(eventfd2)};

	return syscall_rules_add(ctx, SCMP_ACT_ALLOW, device_calls, COUNT(device_calls));
}

int confine_syscalls(const struct args *args, struct error *err)
{
	bool has_xdp = has_kind(args, SOURCE_AF_XDP);
	bool has_device = has_kind(args, SOURCE_PCI) || has_kind(args, SOURCE_VDEV);
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int rc = ctx == NULL ? -ENOMEM : seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);

	if (rc == 0)
		rc = syscall_rules_add(ctx, SCMP_ACT_ALLOW, allowed, COUNT(allowed));
	if (rc == 0)
		rc = syscall_rules_add(ctx, SCMP_ACT_KILL_PROCESS, deadly, COUNT(deadly));
	if (rc == 0)
		rc = add_file_rules(ctx);
	if (rc == 0)
		rc = add_memory_rules(ctx);
	if (rc == 0)
		rc = add_socket_rules(ctx, has_xdp);
	if (rc == 0 && has_device)
		rc = add_device_rules(ctx);
	if (rc == 0)
		rc = prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 ? 0 : -errno;
	if (rc == 0)
		rc = seccomp_load(ctx);
	if (ctx != NULL)
		seccomp_release(ctx);
	if (rc != 0)
		error_set(err, "System calls cannot be limited: %s.", strerror(-rc));
	return rc;
}
