/* supervisor.c - gatecap-supervisor: start the dataplane, the control process and, when it is wanted, the
 * reader of the kernel's SAs; restart what dies.
 *
 * It parses nothing: the command lines are what `gatecapd --print-dataplane-args` and `--print-xfrm-args`
 * print, one argument a line, run as user gatecap since it reads JSON; no arguments, no gatecap-xfrm.  It holds root for as long as it lives
 * and therefore does as little as it can.
 * systemd can take its place with a unit for each process.
 *
 * Stop: the dataplane first, so that control sees its end and takes what is still in the rings; then
 * control; then who tells it of the kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "filters/log.h"

enum {
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	DELAY_MIN_MS = 100,
	DELAY_MAX_MS = 5000,
	GOOD_LIFE_MS = 10000, // after that a death starts at DELAY_MIN_MS again
	PRINT_MAX_MS = 10000, // for --print-dataplane-args
	STOP_MAX_MS = 30000,  // for each process, then SIGKILL
	ARGUMENTS_MAX = 256,
	ARGUMENTS_BYTES = 64 << 10,
};

static const char help_text[] =
	"Usage: gatecap-supervisor --config FILE [--bin-dir DIR]\n"
	"Runs gatecap-dataplane, gatecapd and, with esp.kernel true, gatecap-xfrm; restarts what dies.\n"
	"\n"
	"  --config FILE   configuration, handed to gatecapd\n"
	"  --bin-dir DIR   where the programs are (default: beside this one)\n"
	"  --help, --version\n"
	"\n"
	"SIGTERM and SIGINT stop all in order, SIGHUP goes to gatecapd.\n"
	"Exit status: 0 after a clean end, 1 when something failed, 2 for a wrong command line.\n"
	"\n"
	"Example: gatecap-supervisor --config /etc/gatecap/gatecap.json\n";

struct child {
	const char *name;
	const char *arguments; // gatecapd's option that prints them; NULL: the configuration alone
	bool is_wanted;
	pid_t pid; // 0: not running
	unsigned delay_ms;
	uint64_t started_ms, due_ms;
};

struct supervisor {
	const char *config;
	char bin_dir[PATH_MAX];
	int signal_fd;
	struct child dataplane, control, xfrm;
};

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- starting ---- */

/* In the child: default signals, and an end with the parent. */
static void become_child(pid_t parent)
{
	sigset_t none;

	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
	if (getppid() != parent)
		_exit(EXIT_FAILED); // it went before the line above
}

__attribute__((noreturn)) static void exec_program(const struct supervisor *s, const char *name,
						   char **argv)
{
	char path[PATH_MAX + NAME_MAX];

	(void)snprintf(path, sizeof(path), "%s/%s", s->bin_dir, name);
	argv[0] = path;
	execv(path, argv);
	log_error("%s cannot be started: %s; is --bin-dir right?", path, strerror(errno));
	_exit(EXIT_FAILED);
}

/* Become user gatecap, if this is root and there is such a user. */
static void drop_to_user(void)
{
	const struct passwd *user = geteuid() == 0 ? getpwnam("gatecap") : NULL;

	if (user == NULL)
		return;
	if (initgroups(user->pw_name, user->pw_gid) != 0 || setgid(user->pw_gid) != 0 ||
	    setuid(user->pw_uid) != 0) {
		log_error("The process cannot become user gatecap: %s.", strerror(errno));
		_exit(EXIT_FAILED);
	}
}

static pid_t fork_printer(const struct supervisor *s, const char *option, int out)
{
	pid_t parent = getpid();
	pid_t pid = fork();
	char *argv[] = {NULL, "--config", (char *)(uintptr_t)s->config, (char *)(uintptr_t)option,
			NULL};

	if (pid != 0)
		return pid;
	(void)dup2(out, STDOUT_FILENO);
	drop_to_user();
	become_child(parent); // after the change of user, which would clear it
	exec_program(s, "gatecapd", argv);
}

/* All that comes before the end of file, NUL-terminated; false: too much, or too slow. */
static bool read_all(int fd, char text[static ARGUMENTS_BYTES])
{
	uint64_t deadline_ms = now_ms() + PRINT_MAX_MS;
	size_t used = 0;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		uint64_t now = now_ms();
		ssize_t n;

		if (now >= deadline_ms || poll(&p, 1, (int)(deadline_ms - now)) <= 0)
			return false;
		n = read(fd, text + used, ARGUMENTS_BYTES - 1 - used);
		if (n < 0 || used + (size_t)n == ARGUMENTS_BYTES - 1)
			return false;
		used += (size_t)n;
		text[used] = '\0';
		if (n == 0)
			return true;
	}
}

/* Ask gatecapd for a child's arguments: lines in `text`, pointed to by argv[1..]. */
static bool ask_arguments(const struct supervisor *s, const struct child *child,
			  char text[static ARGUMENTS_BYTES], char *argv[static ARGUMENTS_MAX])
{
	int fds[2], status = -1;
	unsigned n = 1;
	bool is_read;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) != 0)
		return false;
	pid = fork_printer(s, child->arguments, fds[1]);
	close(fds[1]);
	is_read = pid > 0 && read_all(fds[0], text);
	close(fds[0]);
	if (pid > 0 && !is_read)
		(void)kill(pid, SIGKILL);
	if (pid <= 0 || waitpid(pid, &status, 0) != pid || status != 0 || !is_read) {
		log_error("gatecapd %s gave no arguments for %s; its own words are in the lines "
			  "above.",
			  child->arguments, child->name);
		return false;
	}
	for (char *save, *line = strtok_r(text, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save)) {
		if (n == ARGUMENTS_MAX - 1) {
			log_error("gatecapd %s gave more than %d arguments.", child->arguments,
				  ARGUMENTS_MAX - 2);
			return false;
		}
		argv[n++] = line;
	}
	argv[n] = NULL;
	return true;
}

static void start(const struct supervisor *s, struct child *child, char **argv)
{
	pid_t parent = getpid();
	pid_t pid = fork();

	if (pid == 0) {
		become_child(parent);
		exec_program(s, child->name, argv);
	}
	child->started_ms = now_ms();
	if (pid > 0) {
		child->pid = pid;
		log_info("%s is started (pid %d).", child->name, (int)pid);
		return;
	}
	log_error("%s cannot be started: %s.", child->name, strerror(errno));
	child->due_ms = child->started_ms + DELAY_MAX_MS;
}

static void postpone(struct child *child)
{
	child->due_ms = now_ms() + child->delay_ms;
	child->delay_ms = child->delay_ms * 2 < DELAY_MAX_MS ? child->delay_ms * 2 : DELAY_MAX_MS;
}

/* One that has arguments of its own.  None of them: it is not wanted. */
static bool start_with_arguments(struct supervisor *s, struct child *child)
{
	static char text[ARGUMENTS_BYTES];
	char *argv[ARGUMENTS_MAX];

	if (!ask_arguments(s, child, text, argv)) {
		postpone(child);
		return false;
	}
	child->is_wanted = argv[1] != NULL;
	if (child->is_wanted)
		start(s, child, argv);
	return true;
}

static void start_control(struct supervisor *s)
{
	char *argv[] = {NULL, "--config", (char *)(uintptr_t)s->config, NULL};

	start(s, &s->control, argv);
}

/* ---- watching ---- */

static void describe_death(const struct child *child, int status)
{
	if (WIFSIGNALED(status))
		log_warning("%s (pid %d) was ended by signal %d (%s).", child->name,
			    (int)child->pid, WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		log_warning("%s (pid %d) ended with status %d.", child->name, (int)child->pid,
			    WEXITSTATUS(status));
}

static void bury(struct child *child, int status, bool is_stopping)
{
	if (!is_stopping)
		describe_death(child, status);
	if (now_ms() - child->started_ms >= GOOD_LIFE_MS)
		child->delay_ms = DELAY_MIN_MS;
	child->pid = 0;
	postpone(child);
}

static void reap(struct supervisor *s, bool is_stopping)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == s->dataplane.pid)
			bury(&s->dataplane, status, is_stopping);
		else if (pid == s->control.pid)
			bury(&s->control, status, is_stopping);
		else if (pid == s->xfrm.pid)
			bury(&s->xfrm, status, is_stopping);
	}
}

static bool is_due(const struct child *child)
{
	return child->is_wanted && child->pid == 0 && now_ms() >= child->due_ms;
}

/* Start what is due; gives the time until something is, in ms, or -1. */
static int start_due(struct supervisor *s)
{
	const struct child *const children[] = {&s->dataplane, &s->control, &s->xfrm};
	int wait_ms = -1;

	if (is_due(&s->dataplane))
		(void)start_with_arguments(s, &s->dataplane);
	if (is_due(&s->control))
		start_control(s);
	if (is_due(&s->xfrm))
		(void)start_with_arguments(s, &s->xfrm);
	for (unsigned i = 0; i < sizeof(children) / sizeof(children[0]); i++) {
		uint64_t now = now_ms();
		int left_ms;

		if (!children[i]->is_wanted || children[i]->pid != 0)
			continue;
		left_ms = children[i]->due_ms > now ? (int)(children[i]->due_ms - now) : 0;
		if (wait_ms < 0 || left_ms < wait_ms)
			wait_ms = left_ms;
	}
	return wait_ms;
}

/* Serve the signals that have come; true: the end is asked for. */
static bool take_signals(struct supervisor *s)
{
	struct signalfd_siginfo info;
	bool is_stopping = false;

	while (read(s->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
			is_stopping = true;
		else if (info.ssi_signo == SIGHUP && s->control.pid != 0)
			(void)kill(s->control.pid, SIGHUP);
	}
	return is_stopping;
}

static void watch(struct supervisor *s)
{
	for (;;) {
		struct pollfd p = {.fd = s->signal_fd, .events = POLLIN};
		int wait_ms = start_due(s);

		(void)poll(&p, 1, wait_ms);
		if (take_signals(s))
			return;
		reap(s, false);
	}
}

/* Returns false if it had to be killed. */
static bool stop(struct supervisor *s, struct child *child)
{
	uint64_t deadline_ms = now_ms() + STOP_MAX_MS;

	if (child->pid != 0)
		(void)kill(child->pid, SIGTERM);
	while (child->pid != 0) {
		struct pollfd p = {.fd = s->signal_fd, .events = POLLIN};

		if (now_ms() >= deadline_ms) {
			log_error("%s (pid %d) does not end and is killed.", child->name,
				  (int)child->pid);
			(void)kill(child->pid, SIGKILL);
			(void)waitpid(child->pid, NULL, 0);
			child->pid = 0;
			return false;
		}
		(void)poll(&p, 1, 100);
		(void)take_signals(s);
		reap(s, true);
	}
	return true;
}

/* ---- command line ---- */

static bool find_bin_dir(struct supervisor *s, const char *given)
{
	ssize_t n;
	char *slash;

	if (given != NULL)
		return (size_t)snprintf(s->bin_dir, sizeof(s->bin_dir), "%s", given) <
		       sizeof(s->bin_dir);
	n = readlink("/proc/self/exe", s->bin_dir, sizeof(s->bin_dir) - 1);
	if (n <= 0)
		return false;
	s->bin_dir[n] = '\0';
	slash = strrchr(s->bin_dir, '/');
	if (slash != NULL)
		*slash = '\0';
	return slash != NULL;
}

static int parse(int argc, char **argv, struct supervisor *s)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"bin-dir", required_argument, NULL, 'b'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0},
	};
	const char *bin_dir = NULL;
	int id;

	opterr = 0;
	while ((id = getopt_long(argc, argv, "+:", options, NULL)) != -1) {
		if (id == 'h' || id == 'v') {
			(void)fputs(id == 'h' ? help_text
					      : "gatecap-supervisor " GATECAP_VERSION "\n",
				    stdout);
			exit(EXIT_OK);
		}
		if (id == ':' || id == '?') {
			log_error("%.200s: %s; see --help.", argv[optind - 1],
				  id == ':' ? "the value is missing" : "there is no such option");
			return -EINVAL;
		}
		*(id == 'c' ? &s->config : &bin_dir) = optarg;
	}
	if (optind < argc || s->config == NULL) {
		log_error(
			"--config FILE is missing, or something stands behind the options; see --help.");
		return -EINVAL;
	}
	if (!find_bin_dir(s, bin_dir)) {
		log_error("The folder of the programs is not known; give --bin-dir DIR.");
		return -EINVAL;
	}
	return 0;
}

static bool open_signals(struct supervisor *s)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD};
	sigset_t set;

	sigemptyset(&set);
	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		// What is ignored never reaches a signalfd, and nohup ignores SIGHUP for all below it.
		if (signal(signals[i], SIG_DFL) == SIG_ERR)
			return false;
		sigaddset(&set, signals[i]);
	}
	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
		return false;
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->signal_fd >= 0;
}

int main(int argc, char **argv)
{
	static struct supervisor s = {
		.dataplane = {.name = "gatecap-dataplane",
			      .arguments = "--print-dataplane-args",
			      .is_wanted = true,
			      .delay_ms = DELAY_MIN_MS},
		.control = {.name = "gatecapd", .is_wanted = true, .delay_ms = DELAY_MIN_MS},
		.xfrm = {.name = "gatecap-xfrm",
			 .arguments = "--print-xfrm-args",
			 .delay_ms = DELAY_MIN_MS},
	};
	bool is_clean;

	log_open("gatecap-supervisor");
	if (parse(argc, argv, &s) != 0)
		return EXIT_USAGE;
	if (!open_signals(&s)) {
		log_error("Signals cannot be set up: %s.", strerror(errno));
		return EXIT_FAILED;
	}
	// A wrong configuration is told at once, not for ever.
	if (!start_with_arguments(&s, &s.dataplane))
		return EXIT_FAILED;
	start_control(&s);
	s.xfrm.is_wanted = !start_with_arguments(&s, &s.xfrm) || s.xfrm.is_wanted;
	watch(&s);
	is_clean = stop(&s, &s.dataplane);
	is_clean &= stop(&s, &s.control);
	is_clean &= stop(&s, &s.xfrm);
	log_info("Stopped.");
	return is_clean ? EXIT_OK : EXIT_FAILED;
}
