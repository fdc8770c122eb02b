/* confine_probe.c - what happens to a system call in a process that is confined as ours are.
 *
 * Usage:  confine_probe KIND CALL [ARGUMENT]...
 * KIND:   pcap, af_packet, af_xdp, device: the dataplane with such a port; gatecapd; free: not at all
 * CALL:   a name that libseccomp knows; the arguments are numbers, or @text for a pointer to it
 * Output: "ok" or "errno N"; killed by SIGSYS it says nothing.
 * gatecapd's user and folders are those of the environment: GATECAP_TEST_STATE is the state folder.
 * Driven by tests/test_privilege.py; the confining code is that of the programs, linked in.
 */
#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/config.h"
#include "control/privilege.h"
#include "control/syscalls.h"
#include "dataplane/args.h"
#include "dataplane/confine.h"

enum { ARGUMENTS_MAX = 6, EXIT_BROKEN = 3 };

static int confine_dataplane(const char *source, struct error *err)
{
	char port[64];
	char *argv[] = {"probe", "--port", port, NULL};
	static struct args args;
	int rc;

	(void)snprintf(port, sizeof(port), "name=a,source=%s", source);
	rc = args_parse(3, argv, &args, err);
	if (rc == 0)
		rc = confine_early(&args, err);
	if (rc == 0)
		rc = confine_thread(err);
	return rc != 0 ? rc : confine_syscalls(&args, err);
}

static int confine_gatecapd(struct error *err)
{
	const char *folder = getenv("GATECAP_TEST_STATE");
	static struct config config;
	int rc = config_defaults(&config);

	if (rc != 0 || folder == NULL)
		return -EINVAL;
	(void)snprintf(config.control.state_dir, sizeof(config.control.state_dir), "%s", folder);
	(void)snprintf(config.control.socket, sizeof(config.control.socket), "%s/socket", folder);
	rc = privilege_drop(&config, err);
	return rc != 0 ? rc : syscalls_limit(err);
}

static int confine(const char *kind, struct error *err)
{
	static const char *const sources[][2] = {{"pcap", "pcap:/dev/null"},
						 {"af_packet", "af_packet:lo"},
						 {"af_xdp", "af_xdp:lo"},
						 {"device", "net_ring0"}};

	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++)
		if (strcmp(kind, sources[i][0]) == 0)
			return confine_dataplane(sources[i][1], err);
	if (strcmp(kind, "gatecapd") == 0)
		return confine_gatecapd(err);
	return strcmp(kind, "free") == 0 ? 0 : -EINVAL;
}

static long argument_of(char *text)
{
	return *text == '@' ? (long)(text + 1) : (long)strtoul(text, NULL, 0);
}

int main(int argc, char **argv)
{
	long a[ARGUMENTS_MAX] = {0};
	struct error err = {0};
	char line[32];
	int call, n;
	long rc;

	if (argc < 3 || argc > 3 + ARGUMENTS_MAX)
		return EXIT_BROKEN;
	call = seccomp_syscall_resolve_name(argv[2]);
	for (int i = 3; i < argc; i++)
		a[i - 3] = argument_of(argv[i]);
	if (call < 0 || confine(argv[1], &err) != 0) {
		(void)fprintf(stderr, "%s: %s\n", argv[2], err.text);
		return EXIT_BROKEN;
	}
	rc = syscall(call, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (rc < 0)
		n = snprintf(line, sizeof(line), "errno %d\n", errno);
	else
		n = snprintf(line, sizeof(line), "ok\n");
	if (write(STDOUT_FILENO, line, (size_t)n) != n)
		return EXIT_BROKEN;
	_exit(0);
}
