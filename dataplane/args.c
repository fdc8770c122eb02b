/* args.c - getopt_long for the options, one small key=value reader for --port.
 *
 * rte_kvargs was refused: it needs EAL's libraries in a file that must be testable without them, and
 * it reads a comma in a file name as the end of the value.  Here source= is the last key and takes
 * the rest of the string.
 */
#include "dataplane/args.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum option_id {
	OPTION_SOCKET = 256,
	OPTION_CONTROL_UID,
	OPTION_WORKERS,
	OPTION_CORES,
	OPTION_RING_BYTES,
	OPTION_HUGEPAGES,
	OPTION_NO_HUGE,
	OPTION_MEMORY_MB,
	OPTION_IDLE,
	OPTION_PORT,
	OPTION_EAL,
	OPTION_HELP,
	OPTION_VERSION,
};

static const struct option options[] = {
	{"socket", required_argument, NULL, OPTION_SOCKET},
	{"control-uid", required_argument, NULL, OPTION_CONTROL_UID},
	{"workers", required_argument, NULL, OPTION_WORKERS},
	{"cores", required_argument, NULL, OPTION_CORES},
	{"ring-bytes", required_argument, NULL, OPTION_RING_BYTES},
	{"hugepages", no_argument, NULL, OPTION_HUGEPAGES},
	{"no-huge", no_argument, NULL, OPTION_NO_HUGE},
	{"memory-mb", required_argument, NULL, OPTION_MEMORY_MB},
	{"idle", required_argument, NULL, OPTION_IDLE},
	{"port", required_argument, NULL, OPTION_PORT},
	{"eal", required_argument, NULL, OPTION_EAL},
	{"help", no_argument, NULL, OPTION_HELP},
	{"version", no_argument, NULL, OPTION_VERSION},
	{NULL, 0, NULL, 0},
};

static const char help_text[] =
	"Usage: gatecap-dataplane [OPTION]... --port KEY=VALUE,...,source=SOURCE...\n"
	"Takes packets from capture ports, records what the control process asks for into shared rings.\n"
	"\n"
	"  --socket PATH        where control connects (default /run/gatecap/dp.sock)\n"
	"  --control-uid UID    user that may connect, beside root (default: root alone)\n"
	"  --workers N          poll-mode workers, 1-64 (default 1)\n"
	"  --cores LIST         one core a worker, as 2,3 (default: not pinned)\n"
	"  --ring-bytes N       ring of each worker: a power of two, 1 MiB - 4 GiB (default 64 MiB)\n"
	"  --hugepages          packet memory in hugepages;  --no-huge: in plain pages (default)\n"
	"  --memory-mb N        packet memory in MiB (default 256)\n"
	"  --idle poll|sleep    a worker without packets spins, or sleeps up to 0.4 ms (default poll)\n"
	"  --eal ARG            handed to DPDK as it is; may be repeated\n"
	"  --help, --version\n"
	"\n"
	"  --port KEY=VALUE,...,source=SOURCE     one capture port; may be repeated\n"
	"      name=NAME                 as it appears in reports (required)\n"
	"      role=outer|inner          tunnel side or plaintext side (default outer)\n"
	"      queues=N                  polled by workers 1 to N (default 1)\n"
	"      pace=paced|fast           pcap: at the file's pace, or as fast as possible\n"
	"      loops=N                   pcap: times the file is played, 0 = for ever (default 1)\n"
	"      start=capture|boot        pcap: when the first capture starts (default), or at once\n"
	"      source=pcap:FILE | af_packet:INTERFACE | af_xdp:INTERFACE | PCI address | EAL vdev\n"
	"                                last key: takes the rest of the string\n"
	"\n"
	"Example:\n"
	"  gatecap-dataplane --socket /run/gatecap/dp.sock --control-uid 990 --workers 2 --cores 2,3 \\\n"
	"      --port name=wan,role=outer,queues=2,source=af_packet:eth0\n"
	"\n"
	"Exit status: 0 after SIGTERM or SIGINT, 1 when something failed, 2 for a wrong command line.\n";

const char *args_help(void)
{
	return help_text;
}

/* A decimal number within [min, max]; nothing else before or behind it. */
static int parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	unsigned long long value;
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL; // strtoull would take blanks and a sign
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0 || *end != '\0' || value < min || value > max)
		return -EINVAL;
	*out = value;
	return 0;
}

static int parse_unsigned(const char *option, const char *text, unsigned min, unsigned max,
			  unsigned *out, struct error *err)
{
	uint64_t value;

	if (parse_number(text, min, max, &value) != 0) {
		error_set(err, "%s: \"%s\" is not a whole number from %u to %u.", option, text, min,
			  max);
		return -EINVAL;
	}
	*out = (unsigned)value;
	return 0;
}

static int parse_text(const char *option, const char *text, char *out, size_t size,
		      struct error *err)
{
	size_t n = strlen(text);

	if (n == 0 || n >= size) {
		error_set(err, "%s: \"%.200s\" has %zu bytes; give 1 to %zu.", option, text, n,
			  size - 1);
		return -EINVAL;
	}
	memcpy(out, text, n + 1);
	return 0;
}

/* One of two words. */
static int parse_choice(const char *option, const char *text, const char *no, const char *yes,
			bool *out, struct error *err)
{
	bool is_yes = strcmp(text, yes) == 0;

	if (!is_yes && strcmp(text, no) != 0) {
		error_set(err, "%s: \"%.200s\" is neither \"%s\" nor \"%s\".", option, text, no,
			  yes);
		return -EINVAL;
	}
	*out = is_yes;
	return 0;
}

static int parse_ring_bytes(const char *text, struct args *out, struct error *err)
{
	uint64_t value;

	if (parse_number(text, ARGS_RING_BYTES_MIN, ARGS_RING_BYTES_MAX, &value) != 0 ||
	    (value & (value - 1)) != 0) {
		error_set(err,
			  "--ring-bytes: \"%s\" is not a power of two from %d (1 MiB) to %llu "
			  "(4 GiB).",
			  text, ARGS_RING_BYTES_MIN, (unsigned long long)ARGS_RING_BYTES_MAX);
		return -EINVAL;
	}
	out->ring_bytes = value;
	return 0;
}

/* "2,3": the cores in the order of the workers.  Gives how many. */
static int parse_cores(const char *text, struct args *out, struct error *err)
{
	unsigned n = 0;
	const char *p = text;

	for (;;) {
		unsigned long core;
		char *end;

		core = isdigit((unsigned char)*p) ? strtoul(p, &end, 10) : ULONG_MAX;
		if (core > ARGS_CORE_MAX || n == WORKERS_MAX || (*end != ',' && *end != '\0')) {
			error_set(err,
				  "--cores: \"%.200s\" is not a list of at most %d core numbers "
				  "such as 2,3.",
				  text, WORKERS_MAX);
			return -EINVAL;
		}
		out->cores[n++] = (int)core;
		if (*end == '\0')
			return (int)n;
		p = end + 1;
	}
}

static bool is_hex(const char *p, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (!isxdigit((unsigned char)p[i]))
			return false;
	return true;
}

/* bus:device.function, with or without the domain, and device arguments behind a comma. */
static bool is_pci_address(const char *p)
{
	if (is_hex(p, 4) && p[4] == ':')
		p += 5;
	return is_hex(p, 2) && p[2] == ':' && is_hex(p + 3, 2) && p[5] == '.' && p[6] >= '0' &&
	       p[6] <= '7' && (p[7] == '\0' || p[7] == ',');
}

/* An interface's name: it goes into a vdev string, where a comma would start another key. */
static int check_interface(const char *name, struct error *err)
{
	size_t n = strlen(name);

	if (n > 0 && n < 16 && strpbrk(name, ",/= []") == NULL)
		return 0;
	error_set(err,
		  "--port: source=: \"%.200s\" is no name of a network interface (1 to 15 bytes).",
		  name);
	return -EINVAL;
}

static int parse_source(const char *text, struct args_port *port, struct error *err)
{
	static const struct {
		const char *prefix;
		enum source_kind kind;
	} prefixes[] = {
		{"pcap:", SOURCE_PCAP},
		{"af_packet:", SOURCE_AF_PACKET},
		{"af_xdp:", SOURCE_AF_XDP},
	};

	if (parse_text("--port: source=", text, port->source, sizeof(port->source), err) != 0)
		return -EINVAL;
	for (unsigned i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		size_t n = strlen(prefixes[i].prefix);

		if (strncmp(text, prefixes[i].prefix, n) != 0)
			continue;
		port->kind = prefixes[i].kind;
		port->target = port->source + n;
		if (port->kind != SOURCE_PCAP)
			return check_interface(port->target, err);
		if (*port->target != '\0')
			return 0;
		error_set(err, "--port: source=pcap: names no file; give pcap:FILE.");
		return -EINVAL;
	}
	port->target = port->source;
	port->kind = is_pci_address(text) ? SOURCE_PCI : SOURCE_VDEV;
	if (port->kind == SOURCE_PCI || strncmp(text, "net_", 4) == 0 ||
	    strncmp(text, "eth_", 4) == 0)
		return 0;
	error_set(err,
		  "--port: source=: \"%.200s\" is no source; give pcap:FILE, af_packet:INTERFACE, "
		  "af_xdp:INTERFACE, a PCI address such as 0000:03:00.0 or an EAL device such as "
		  "net_ring0.",
		  text);
	return -EINVAL;
}

enum port_key {
	KEY_NAME,
	KEY_ROLE,
	KEY_QUEUES,
	KEY_PACE,
	KEY_LOOPS,
	KEY_START,
	KEY_SOURCE,
	KEY_COUNT
};

static const char *const key_names[KEY_COUNT] = {"name",  "role",  "queues", "pace",
						 "loops", "start", "source"};

static int parse_port_value(enum port_key key, const char *value, struct args_port *port,
			    struct error *err)
{
	switch (key) {
	case KEY_NAME:
		return parse_text("--port: name=", value, port->name, sizeof(port->name), err);
	case KEY_ROLE:
		return parse_choice("--port: role=", value, "outer", "inner", &port->is_inner, err);
	case KEY_QUEUES:
		return parse_unsigned("--port: queues=", value, 1, WORKERS_MAX, &port->n_queues,
				      err);
	case KEY_PACE:
		return parse_choice("--port: pace=", value, "paced", "fast", &port->is_fast, err);
	case KEY_LOOPS:
		return parse_unsigned("--port: loops=", value, 0, UINT_MAX, &port->loops, err);
	case KEY_START:
		return parse_choice("--port: start=", value, "capture", "boot",
				    &port->is_played_at_boot, err);
	case KEY_SOURCE:
		return parse_source(value, port, err);
	case KEY_COUNT:
		break;
	}
	return -EINVAL;
}

static enum port_key find_key(const char *text, size_t n)
{
	for (unsigned i = 0; i < KEY_COUNT; i++)
		if (strlen(key_names[i]) == n && memcmp(key_names[i], text, n) == 0)
			return (enum port_key)i;
	return KEY_COUNT;
}

/* Split "key=value,..." in `copy`, whose bytes are overwritten. */
static int parse_port_keys(char *copy, struct args_port *port, unsigned *seen, struct error *err)
{
	char *p = copy;

	while (p != NULL) {
		size_t n = strcspn(p, "=,");
		enum port_key key = find_key(p, n);
		char *value = p + n + 1;

		if (p[n] != '=' || key == KEY_COUNT) {
			error_set(
				err,
				"--port: \"%.*s\" is none of name=, role=, queues=, pace=, loops=, "
				"start=, and source= at the end.",
				(int)(n < 200 ? n : 200), p);
			return -EINVAL;
		}
		if (*seen & (1u << key)) {
			error_set(err, "--port: %s= is given twice.", key_names[key]);
			return -EINVAL;
		}
		*seen |= 1u << key;
		p = key == KEY_SOURCE ? NULL : strchr(value, ',');
		if (p != NULL)
			*p++ = '\0';
		if (parse_port_value(key, value, port, err) != 0)
			return -EINVAL;
	}
	return 0;
}

static int check_port(const struct args *args, const struct args_port *port, unsigned seen,
		      struct error *err)
{
	unsigned pcap_only = seen & (1u << KEY_PACE | 1u << KEY_LOOPS | 1u << KEY_START);

	if (!(seen & 1u << KEY_NAME) || !(seen & 1u << KEY_SOURCE)) {
		error_set(err,
			  "--port: %s= is missing; each port has a name= and, last, a source=.",
			  seen & 1u << KEY_NAME ? "source" : "name");
		return -EINVAL;
	}
	if (port->kind != SOURCE_PCAP && pcap_only != 0) {
		error_set(err, "--port: \"%s\": pace=, loops= and start= are for pcap:FILE only.",
			  port->name);
		return -EINVAL;
	}
	for (unsigned i = 0; i < args->n_ports; i++) {
		if (strcmp(args->ports[i].name, port->name) == 0) {
			error_set(err,
				  "--port: two ports are named \"%s\"; give each its own name.",
				  port->name);
			return -EINVAL;
		}
		if (port->kind != SOURCE_PCAP && strcmp(args->ports[i].source, port->source) == 0) {
			error_set(err, "--port: \"%s\" and \"%s\" both take from %s; one port can.",
				  args->ports[i].name, port->name, port->source);
			return -EINVAL;
		}
	}
	return 0;
}

static int parse_port(const char *text, struct args *out, struct error *err)
{
	struct args_port *port = &out->ports[out->n_ports];
	unsigned seen = 0;
	char *copy;
	int rc;

	if (out->n_ports == PORTS_MAX) {
		error_set(err, "--port: more than %d ports; one appliance has at most that many.",
			  PORTS_MAX);
		return -EINVAL;
	}
	copy = strdup(text);
	if (copy == NULL) {
		error_set(err, "--port: memory is short.");
		return -ENOMEM;
	}
	*port = (struct args_port){.n_queues = 1, .loops = 1};
	rc = parse_port_keys(copy, port, &seen, err);
	if (rc == 0)
		rc = check_port(out, port, seen, err);
	free(copy);
	if (rc == 0)
		out->n_ports++;
	return rc;
}

static int parse_uid(const char *text, struct args *out, struct error *err)
{
	uint64_t value;

	if (parse_number(text, 0, UINT32_MAX - 1, &value) != 0) {
		error_set(err,
			  "--control-uid: \"%s\" is no user number; see the third field of "
			  "getent passwd.",
			  text);
		return -EINVAL;
	}
	out->control_uid = (uid_t)value;
	return 0;
}

static int parse_eal(const char *text, struct args *out, struct error *err)
{
	if (out->n_eal == ARGS_EAL_MAX) {
		error_set(err, "--eal: more than %d arguments.", ARGS_EAL_MAX);
		return -EINVAL;
	}
	out->eal[out->n_eal++] = text;
	return 0;
}

/* `argument` is the word that getopt looked at last. */
static int parse_option(int id, const char *argument, struct args *out, int *n_cores,
			struct error *err)
{
	switch (id) {
	case OPTION_SOCKET:
		return parse_text("--socket", optarg, out->socket, sizeof(out->socket), err);
	case OPTION_CONTROL_UID:
		return parse_uid(optarg, out, err);
	case OPTION_WORKERS:
		return parse_unsigned("--workers", optarg, 1, WORKERS_MAX, &out->n_workers, err);
	case OPTION_CORES:
		*n_cores = parse_cores(optarg, out, err);
		return *n_cores < 0 ? *n_cores : 0;
	case OPTION_RING_BYTES:
		return parse_ring_bytes(optarg, out, err);
	case OPTION_HUGEPAGES:
	case OPTION_NO_HUGE:
		out->has_hugepages = id == OPTION_HUGEPAGES;
		return 0;
	case OPTION_MEMORY_MB:
		return parse_unsigned("--memory-mb", optarg, 16, ARGS_MEMORY_MB_MAX,
				      &out->memory_mb, err);
	case OPTION_IDLE:
		return parse_choice("--idle", optarg, "poll", "sleep", &out->is_sleeping, err);
	case OPTION_PORT:
		return parse_port(optarg, out, err);
	case OPTION_EAL:
		return parse_eal(optarg, out, err);
	case ':':
		error_set(err, "%.200s: the value is missing; see --help.", argument);
		return -EINVAL;
	default:
		error_set(err, "%.200s: there is no such option; see --help.", argument);
		return -EINVAL;
	}
}

/* What only the whole command line can tell. */
static int check_whole(const struct args *args, int n_cores, struct error *err)
{
	if (n_cores > 0 && (unsigned)n_cores != args->n_workers) {
		error_set(err, "--cores: %d cores for %u workers; give one core a worker.", n_cores,
			  args->n_workers);
		return -EINVAL;
	}
	if (args->n_ports == 0) {
		error_set(err, "--port: no port is given, so there is nothing to capture from; see "
			       "--help.");
		return -EINVAL;
	}
	for (unsigned i = 0; i < args->n_ports; i++) {
		if (args->ports[i].n_queues > args->n_workers) {
			error_set(
				err,
				"--port: \"%s\": %u queues for %u workers; each queue needs a worker "
				"of its own.",
				args->ports[i].name, args->ports[i].n_queues, args->n_workers);
			return -EINVAL;
		}
	}
	return 0;
}

static void set_defaults(struct args *args)
{
	*args = (struct args){
		.socket = "/run/gatecap/dp.sock",
		.n_workers = 1,
		.ring_bytes = ARGS_RING_BYTES_DEFAULT,
		.memory_mb = ARGS_MEMORY_MB_DEFAULT,
	};
	for (unsigned i = 0; i < WORKERS_MAX; i++)
		args->cores[i] = ARGS_CORE_ANY;
}

int args_parse(int argc, char **argv, struct args *out, struct error *err)
{
	int n_cores = 0;
	int id, rc;

	set_defaults(out);
	optind = 0; // start anew: a test parses many command lines
	opterr = 0;
	while ((id = getopt_long(argc, argv, "+:", options, NULL)) != -1) {
		if (id == OPTION_HELP)
			return ARGS_HELP;
		if (id == OPTION_VERSION)
			return ARGS_VERSION;
		rc = parse_option(id, argv[optind - 1], out, &n_cores, err);
		if (rc != 0)
			return -EINVAL;
	}
	if (optind < argc) {
		error_set(err, "\"%.200s\" is not an option; see --help.", argv[optind]);
		return -EINVAL;
	}
	return check_whole(out, n_cores, err);
}
