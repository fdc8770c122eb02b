/* gatecap.c - the command line: one table of sub-commands.
 *
 * A new command is one row.  Everything a command needs comes from its own file; this one only
 * finds it.
 */
#include <stdio.h>
#include <string.h>

#include "tools/cli.h"
#include "tools/replay.h"

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
};

static const struct command commands[] = {
	{"start", cmd_start, "start a capture, gateway-wide or on one connection"},
	{"stop", cmd_stop, "stop a capture and upload it or write it to a file"},
	{"abort", cmd_abort, "end a capture and delete its data"},
	{"list", cmd_list, "list captures"},
	{"show", cmd_show, "show one capture in full"},
	{"snapshot", cmd_snapshot, "copy what a running capture holds now"},
	{"stats", cmd_stats, "show counters of ports, workers and captures"},
	{"check-filter", cmd_check_filter, "check a filterData document"},
	{"check-sas", cmd_check_sas, "check a SAS URL with a probe that leaves nothing"},
	{"sa", cmd_sa, "add, delete, list the SAs of ESP whose keys are known"},
	{"replay", replay_main, "record from a capture file, without a daemon"},
};

enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void usage(FILE *out)
{
	(void)fprintf(out, "Usage: gatecap COMMAND [options]\n\nCommands:\n");
	for (unsigned i = 0; i < N_COMMANDS; i++)
		(void)fprintf(out, "  %-13s %s\n", commands[i].name, commands[i].summary);
	(void)fprintf(
		out, "\nOptions of all commands that ask gatecapd:\n"
		     "  --socket PATH  its socket (default " CLI_SOCKET_DEFAULT ")\n"
		     "  --json         machine-readable output, one document a line\n"
		     "  --help         what the command does, with an example\n"
		     "\nExit codes: 0 done, 1 refused or failed (stderr says why), 2 wrong usage.\n"
		     "\nExample: gatecap start --connection site-b && sleep 600 && "
		     "gatecap stop --connection site-b --output site-b.pcap\n");
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";

	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
		usage(stdout);
		return CLI_DONE;
	}
	if (strcmp(name, "--version") == 0) {
		(void)puts("gatecap " GATECAP_VERSION);
		return CLI_DONE;
	}
	for (unsigned i = 0; i < N_COMMANDS; i++)
		if (strcmp(name, commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	if (*name == '\0')
		usage(stderr);
	else
		(void)fprintf(
			stderr,
			"gatecap: there is no command \"%s\"; \"gatecap --help\" lists them.\n",
			name);
	return CLI_USAGE;
}
