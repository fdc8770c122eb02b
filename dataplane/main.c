/* main.c - gatecap-dataplane: bring everything up in order, tick, take it down in reverse.
 *
 * Order: arguments, fewer capabilities, EAL, ports, shared memory, workers' memory, socket, threads,
 * and last the system-call filter, when nothing is left to open.
 * The main thread ticks a hundred times a second: control's messages, signals, the watch over the
 * workers; once a second the clock and the losses of the ports.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <rte_alarm.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>

#include "filters/log.h"
#include "dataplane/args.h"
#include "dataplane/clock.h"
#include "dataplane/confine.h"
#include "dataplane/dp_server.h"
#include "dataplane/eal_args.h"
#include "dataplane/loop.h"
#include "dataplane/rx.h"
#include "dataplane/share.h"
#include "dataplane/xdp_program.h"

enum {
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	TICK_MS = 10,
	TICKS_A_SECOND = 1000 / TICK_MS,
	STOP_TICKS_MAX = 2 * TICKS_A_SECOND,
	INTERRUPT_MS = 2 * TICK_MS, // the longest that a descriptor from control may hold us up
};

struct dataplane {
	struct args args;
	struct clock clock;
	struct share share;
	struct rx *rx;
	struct loop *loop;
	struct dp_server *server;
	int signal_fd;
	uint64_t last_tick_ms;
	unsigned n_ticks;
	unsigned n_launched;
	_Atomic unsigned n_confined; // threads that have given up their capabilities
};

/* Our XDP program in *fd (-1: not needed), and away with what a killed run left of it. */
static int prepare_xdp(const struct args *args, int *fd, struct error *err)
{
	for (unsigned i = 0; i < args->n_ports; i++) {
		const struct args_port *port = &args->ports[i];
		int rc;

		if (port->kind != SOURCE_AF_XDP)
			continue;
		rc = xdp_program_remove_left_over(port->target, err);
		if (rc < 0)
			return rc;
		if (rc == 1)
			log_info(
				"Port \"%s\": the XDP program of a run that was killed is removed from %s.",
				port->name, port->target);
		if (*fd < 0)
			*fd = xdp_program_memfd(err);
		if (*fd < 0)
			return *fd;
	}
	return 0;
}

static int start_eal(const struct args *args, int xdp_fd, struct error *err)
{
	struct eal_args eal;
	char *argv[EAL_ARGS_MAX + 1]; // EAL moves pointers about in its argv
	cpu_set_t cpus;
	int rc;

	CPU_ZERO(&cpus);
	(void)sched_getaffinity(0, sizeof(cpus), &cpus);
	rc = eal_args_build(&eal, args, &cpus, xdp_fd, err);
	if (rc != 0)
		return rc;
	memcpy(argv, eal.argv, sizeof(argv));
	rc = rte_eal_init(eal.argc, argv);
	(void)rmdir(rte_eal_get_runtime_dir()); // made even if nothing is put in
	// The strings stay: EAL keeps pointers into them.
	if (rc >= 0)
		return 0;
	error_set(err,
		  "DPDK cannot start: %s; its own words are in the lines above.  Is --memory-mb %u "
		  "there, are the cores and devices right?",
		  rte_strerror(rte_errno), args->memory_mb);
	return -EIO;
}

/* Messages of EAL belong with ours, and nothing of this process belongs on stdout. */
static void join_output(void)
{
	(void)dup2(STDERR_FILENO, STDOUT_FILENO);
}

/* Signals come as messages of the main thread's poll; no worker is ever interrupted. */
static int open_signals(struct error *err)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGALRM); // the main thread's alone: interrupt_main()
	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
		goto failed;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL) == 0) {
		fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
		if (fd >= 0)
			return fd;
	}
failed:
	error_set(err, "Signals cannot be set up: %s.", strerror(errno));
	return -EIO;
}

static void on_alarm(int signal)
{
	(void)signal;
}

/* From now on a signal ends whatever the main thread waits for in the kernel.  A control process can
 * make it wait: closing the last descriptor of a TCP socket with SO_LINGER, which came with a message,
 * takes as long as the linger time says; a full pipe at stderr, as long as nobody reads it.
 */
static int interrupt_main(struct error *err)
{
	const struct sigaction action = {.sa_handler = on_alarm}; // no SA_RESTART
	const struct itimerval often = {.it_interval = {.tv_usec = INTERRUPT_MS * 1000},
					.it_value = {.tv_usec = INTERRUPT_MS * 1000}};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	if (sigaction(SIGALRM, &action, NULL) == 0 &&
	    pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0 &&
	    setitimer(ITIMER_REAL, &often, NULL) == 0)
		return 0;
	error_set(err, "Signals cannot be set up: %s.", strerror(errno));
	return -EIO;
}

static void confine_this_thread(void *arg)
{
	struct dataplane *dp = arg;
	struct error err = {0};

	if (confine_thread(&err) != 0)
		log_error("%s",
			  err.text); // it keeps what it has; the system-call filter still holds
	atomic_fetch_add_explicit(&dp->n_confined, 1, memory_order_release);
}

static int run_worker(void *arg)
{
	struct dataplane *dp = arg;

	confine_this_thread(dp);
	loop_run(dp->loop, rte_lcore_id() - 1);
	return 0;
}

static void wait_a_tick(void)
{
	struct timespec wait = {.tv_nsec = TICK_MS * 1000000L};

	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, &wait) == EINTR)
		;
}

/* Start the threads and wait until each has given up its capabilities: the system-call filter that
 * comes next would not let it any more.  EAL's own thread does so in an alarm, which runs there.
 */
static int launch(struct dataplane *dp, struct error *err)
{
	for (unsigned i = 0; i < dp->args.n_workers; i++) {
		if (rte_eal_remote_launch(run_worker, dp, i + 1) != 0) {
			error_set(err, "Worker %u cannot be started: EAL has no thread for it.", i);
			return -EIO;
		}
		dp->n_launched++;
	}
	if (rte_eal_alarm_set(1, confine_this_thread, dp) != 0) {
		error_set(err, "EAL has no alarms, so its thread cannot give up its capabilities.");
		return -EIO;
	}
	for (unsigned i = 0; i < STOP_TICKS_MAX; i++) {
		if (atomic_load_explicit(&dp->n_confined, memory_order_acquire) ==
		    dp->n_launched + 1)
			return 0;
		wait_a_tick();
	}
	error_set(err, "The workers do not start; are their cores there and free?");
	return -ETIMEDOUT;
}

/* EAL, ports and memory: what takes privileges. */
static int open_ports(struct dataplane *dp, struct error *err)
{
	int xdp_fd = -1;
	int rc;

	dp->signal_fd = open_signals(err); // before EAL: its threads inherit the mask
	rc = dp->signal_fd < 0 ? dp->signal_fd : prepare_xdp(&dp->args, &xdp_fd, err);
	if (rc == 0)
		rc = confine_early(&dp->args, err);
	if (rc == 0)
		rc = start_eal(&dp->args, xdp_fd, err);
	if (rc == 0)
		rc = rx_open(&dp->args, &dp->rx, err);
	if (rc == 0)
		rc = share_open(&dp->share, &dp->args, err);
	return rc;
}

static int open_all(struct dataplane *dp, struct error *err)
{
	struct dp_server_parts parts = {
		.args = &dp->args, .share = &dp->share, .clock = &dp->clock};
	int rc = open_ports(dp, err);

	if (rc != 0)
		return rc;
	clock_open(&dp->clock);
	rc = loop_open(&dp->loop, &dp->args, &dp->share, dp->rx, &dp->clock, err);
	if (rc != 0)
		return rc;
	parts.loop = dp->loop;
	parts.rx = dp->rx;
	rc = dp_server_open(&dp->server, &parts, err);
	if (rc == 0)
		rc = launch(dp, err);
	if (rc == 0)
		rc = interrupt_main(err);
	if (rc == 0)
		rc = confine_thread(err);
	if (rc == 0)
		rc = confine_syscalls(&dp->args, err);
	if (rc == 0)
		rx_play(dp->rx, false, clock_now_ns(&dp->clock) + 1);
	return rc;
}

static void close_all(struct dataplane *dp)
{
	rx_close(dp->rx); // takes our XDP programs off
	dp_server_close(dp->server);
	loop_close(dp->loop);
	share_close(&dp->share);
}

/* True when a signal asks for the end. */
static bool is_asked_to_stop(const struct dataplane *dp)
{
	struct signalfd_siginfo info;

	return read(dp->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info);
}

static uint64_t monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* What is due every tick, however much control has to say in between.  A machine that paused did not
 * run the workers either, so no tick counts for more than one.
 */
static int tick(struct dataplane *dp, struct error *err)
{
	uint64_t now_ms = monotonic_ms();

	if (now_ms - dp->last_tick_ms < TICK_MS)
		return 0;
	dp->last_tick_ms = now_ms;
	dp->n_ticks++;
	if (dp->n_ticks % TICKS_A_SECOND == 0)
		clock_anchor(&dp->clock);
	if (dp->n_ticks % (TICKS_A_SECOND / 10) == 0)
		rx_read_ports(dp->rx, dp->share.header->ports);
	return loop_watch(dp->loop, TICK_MS, err);
}

/* Until a signal asks for the end, or something ends it. */
static int serve(struct dataplane *dp, struct error *err)
{
	int rc = 0;

	while (rc == 0) {
		struct pollfd fds[1 + DP_POLL_MAX];
		unsigned n = dp_server_poll(dp->server, fds + 1);

		fds[0] = (struct pollfd){.fd = dp->signal_fd, .events = POLLIN};
		if (poll(fds, n + 1, TICK_MS) > 0) {
			if (fds[0].revents != 0 && is_asked_to_stop(dp))
				return 0;
			rc = dp_server_serve(dp->server, fds + 1, n, err);
		}
		if (rc == 0)
			rc = tick(dp, err);
	}
	return rc;
}

/* Returns 0, or -ETIMEDOUT: a worker does not end, so nothing that it uses may be freed. */
static int stop_workers(struct dataplane *dp)
{
	if (dp->n_launched == 0)
		return 0;
	loop_stop(dp->loop);
	for (unsigned i = 0; i < STOP_TICKS_MAX; i++) {
		if (loop_is_stopped(dp->loop))
			return 0;
		wait_a_tick();
	}
	return -ETIMEDOUT;
}

static int run(struct dataplane *dp)
{
	struct error err = {0};
	int rc = open_all(dp, &err);

	if (rc == 0) {
		log_info("%u worker%s, %u port%s, control at %s.", dp->args.n_workers,
			 dp->args.n_workers == 1 ? "" : "s", dp->args.n_ports,
			 dp->args.n_ports == 1 ? "" : "s", dp->args.socket);
		rc = serve(dp, &err);
	}
	if (rc != 0)
		log_error("%s", err.text);
	if (stop_workers(dp) != 0) {
		log_error("A worker does not end; the process ends without waiting for it.");
		(void)unlink(dp->args.socket);
		return EXIT_FAILED;
	}
	if (dp->server != NULL)
		rx_read_ports(dp->rx, dp->share.header->ports);
	close_all(dp);
	log_info("Stopped.");
	return rc == 0 ? EXIT_OK : EXIT_FAILED;
}

int main(int argc, char **argv)
{
	static struct dataplane dp = {.share = {.shared_fd = -1, .tails_fd = -1}};
	struct error err = {0};
	int rc = args_parse(argc, argv, &dp.args, &err);

	log_open("gatecap-dataplane");
	if (rc == ARGS_HELP) {
		(void)fputs(args_help(), stdout);
		return EXIT_OK;
	}
	if (rc == ARGS_VERSION) {
		(void)puts("gatecap-dataplane " GATECAP_VERSION);
		return EXIT_OK;
	}
	if (rc < 0) {
		log_error("%s", err.text);
		return EXIT_USAGE;
	}
	join_output();
	/* rte_eal_cleanup() is left out: everything of EAL is memory and threads of this process. */
	_exit(run(&dp));
}
