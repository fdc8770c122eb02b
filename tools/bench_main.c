/* bench_main.c - gatecap-bench: one measurement, one line of JSON.  Driven by tools/bench.
 *
 * Options and dispatch; each job has a file of its own.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>

#include "tools/bench.h"
#include "tools/bench_esp.h"
#include "tools/bench_rings.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };

static const char usage[] =
	"Usage: gatecap-bench [EAL OPTION]... -- --kind KIND [OPTION]...\n"
	"One measurement, printed as one line of JSON; tools/bench runs them all.\n"
	"Kinds:\n"
	"  floor            receive and give back, nothing else\n"
	"  inline           receive, rewrite the headers as a router does, send\n"
	"  inline-idle      the same with a worker in front that has no capture\n"
	"  capture          a worker with --captures captures; 0: idle\n"
	"  overload         three times the rate without loss; the books must balance\n"
	"  writer           merger and stores behind a worker that is faster\n"
	"  merge            merger and stores, rings filled beforehand\n"
	"  match, acl, cbpf our matcher, rte_acl, libpcap: look-up only, in growing lists\n"
	"  sa-find, sad     our SA table, rte_ipsec_sad: look-up only, 1 and 10,000 SAs\n"
	"  memory           what one core copies, reads, writes\n"
	"  primary, frames  for dpdk-dumpcap: its primary; the frames as a PCAP\n"
	"Packets:\n"
	"  --imix           frames of 60, 570 and 1514 bytes instead of 60\n"
	"  --frame-bytes N  frames of N bytes, without FCS (60)\n"
	"  --frames N       prebuilt frames of the standard source, a power of two (4096)\n"
	"  --flows N        distinct five-tuples, 1 to 1000000 (4096); more than frames: frames that\n"
	"                   come back get new addresses\n"
	"  --lists N        packets for lists of N subnets and ports, 1 to 1000, half just outside\n"
	"  --esp NAME       gcm or cbc: they lie in ESP (frames of 160 to 9014 bytes)\n"
	"  --sas N          SAs of the ESP packets, 1 to 16384 (1)\n"
	"  --burst N        packets a pass, 1 to 64 (64)\n"
	"  --device         EAL's first port instead of the standard source\n"
	"What is done with them:\n"
	"  --captures N     0 to 5 (1)\n"
	"  --filter NAME    all, reject, one-rule or lists (all)\n"
	"  --verify-icv     of the ESP packets, each\n"
	"  --closed         as fast as it goes, losses counted, instead of the highest rate without\n"
	"  --drop           merged, but stored nowhere: what the worker costs\n"
	"  --spread         writer, merge: each record to one capture in turn instead of to all\n"
	"  --rings N        merge: 1, 2, 4 or 8 (1)\n"
	"  --writers N      merge: threads that write the stores, 1 or 2, on cores 0 and 1 (1)\n"
	"  --peak-mpps R    overload: the rate without loss, instead of finding it\n"
	"  --limit-seconds S for one build of match, acl or cbpf (60)\n"
	"  --dir DIR        for the circular files (/dev/shm); frames: the PCAP to write\n"
	"  --file-mb N      MaxFileSize (100)\n"
	"  --huge           the rings in huge pages\n"
	"  --seconds S      of the last run (10)\n"
	"  --name NAME      in the output\n"
	"Example: gatecap-bench --lcores 0@0,1@1 --no-huge -m 512 --no-pci -- --kind capture\n";

static const struct kind {
	const char *name;
	int (*job)(const struct bench_options *o);
} kinds[] = {
	{"floor", bench_floor},
	{"inline", bench_inline},
	{"inline-idle", bench_inline_idle},
	{"capture", bench_capture},
	{"overload", bench_overload},
	{"writer", bench_writer},
	{"merge", bench_merge},
	{"match", bench_match},
	{"acl", bench_acl},
	{"cbpf", bench_cbpf},
	{"sa-find", bench_sa_find},
	{"sad", bench_sad},
	{"memory", bench_memory},
	{"primary", bench_primary},
	{"frames", bench_frames},
};

static const char *const filters[] = {
	[FILTER_ALL] = "all",
	[FILTER_REJECT] = "reject",
	[FILTER_ONE_RULE] = "one-rule",
	[FILTER_LISTS] = "lists",
};

enum {
	N_KINDS = sizeof(kinds) / sizeof(kinds[0]),
	N_FILTERS = sizeof(filters) / sizeof(filters[0])
};

/* The rest of the names is numbers, each with its limits. */
static bool read_number(const char *text, double min, double max, double *value)
{
	char *end;

	errno = 0;
	*value = strtod(text, &end);
	return errno == 0 && *text != '\0' && *end == '\0' && *value >= min && *value <= max;
}

static bool read_count(const char *text, uint32_t min, uint32_t max, uint32_t *value)
{
	double number;

	if (!read_number(text, min, max, &number))
		return false;
	*value = (uint32_t)number;
	return *value == number;
}

static const struct kind *kind_of(const char *text)
{
	for (unsigned i = 0; i < N_KINDS; i++)
		if (strcmp(text, kinds[i].name) == 0)
			return &kinds[i];
	return NULL;
}

static bool read_filter(const char *text, enum bench_filter *filter)
{
	for (unsigned i = 0; i < N_FILTERS; i++) {
		if (strcmp(text, filters[i]) == 0) {
			*filter = (enum bench_filter)i;
			return true;
		}
	}
	return false;
}

static const struct option longs[] = {
	{"kind", required_argument, NULL, 'k'},
	{"name", required_argument, NULL, 'n'},
	{"imix", no_argument, NULL, 'i'},
	{"frame-bytes", required_argument, NULL, 'b'},
	{"frames", required_argument, NULL, 'w'},
	{"flows", required_argument, NULL, 'F'},
	{"lists", required_argument, NULL, 'l'},
	{"burst", required_argument, NULL, 'B'},
	{"esp", required_argument, NULL, 'e'},
	{"sas", required_argument, NULL, 'a'},
	{"verify-icv", no_argument, NULL, 'v'},
	{"device", no_argument, NULL, 'd'},
	{"captures", required_argument, NULL, 'C'},
	{"filter", required_argument, NULL, 'f'},
	{"closed", no_argument, NULL, 'c'},
	{"drop", no_argument, NULL, 'x'},
	{"spread", no_argument, NULL, 'S'},
	{"rings", required_argument, NULL, 'r'},
	{"writers", required_argument, NULL, 'W'},
	{"peak-mpps", required_argument, NULL, 'p'},
	{"limit-seconds", required_argument, NULL, 'L'},
	{"dir", required_argument, NULL, 'D'},
	{"file-mb", required_argument, NULL, 'm'},
	{"huge", no_argument, NULL, 'H'},
	{"seconds", required_argument, NULL, 's'},
	{0},
};

/* An option that takes a number.  False: it is none of them, or the number cannot be. */
static bool read_numeric(int c, const char *text, struct bench_options *o)
{
	switch (c) {
	case 'b':
		return read_count(text, BENCH_FRAME_64, BENCH_ESP_FRAME_BYTES_MAX,
				  &o->mix.frame_bytes);
	case 'w':
		return read_count(text, BURST_MAX, 1 << 20, &o->n_frames) &&
		       (o->n_frames & (o->n_frames - 1)) == 0;
	case 'F':
		return read_count(text, 1, BENCH_FLOWS_MAX, &o->mix.n_flows);
	case 'l':
		return read_count(text, 1, BENCH_LIST_MAX, &o->mix.list_length);
	case 'a':
		return read_count(text, 1, SA_MAX, &o->mix.n_sas);
	case 'B':
		return read_count(text, 1, BURST_MAX, &o->burst);
	case 'C':
		return read_count(text, 0, CAPTURES_MAX, &o->n_captures);
	case 'r':
		return read_count(text, 1, BENCH_RINGS_MAX, &o->n_rings) &&
		       (o->n_rings & (o->n_rings - 1)) == 0;
	case 'W':
		return read_count(text, 1, BENCH_WRITERS_MAX, &o->n_writers);
	case 'p':
		return read_number(text, 0, 1e6, &o->peak_mpps);
	case 'L':
		return read_number(text, 0, 1e6, &o->limit_seconds);
	case 'm':
		return read_count(text, 1, FILE_MB_MAX, &o->file_mb);
	case 's':
		return read_number(text, 1e-3, 1e6, &o->seconds);
	default:
		return false;
	}
}

static bool read_option(int c, const char *text, struct bench_options *o)
{
	switch (c) {
	case 'n':
		o->name = text;
		return true;
	case 'D':
		o->dir = text;
		return true;
	case 'i':
		o->mix.frame_bytes = 0;
		return true;
	case 'd':
		o->is_device = true;
		return true;
	case 'c':
		o->is_paced = false;
		return true;
	case 'x':
		o->is_dropped = true;
		return true;
	case 'S':
		o->is_spread = true;
		return true;
	case 'H':
		o->is_huge = true;
		return true;
	case 'v':
		o->verifies_icv = true;
		return true;
	case 'e':
		o->mix.esp = strcmp(text, "gcm") == 0 ? BENCH_ESP_GCM : BENCH_ESP_CBC;
		return o->mix.esp == BENCH_ESP_GCM || strcmp(text, "cbc") == 0;
	case 'f':
		return read_filter(text, &o->filter);
	default:
		return read_numeric(c, text, o);
	}
}

static bool has_possible_length(const struct bench_mix *mix)
{
	return mix->esp != BENCH_ESP_NONE ? mix->frame_bytes >= BENCH_ESP_FRAME_BYTES_MIN
					  : mix->frame_bytes <= BENCH_FRAME_BYTES_MAX;
}

/* Gives the kind, or NULL: usage. */
static const struct kind *parse_options(int argc, char **argv, struct bench_options *o)
{
	const struct kind *kind = NULL;
	int c;

	*o = (struct bench_options){
		.name = "bench",
		.dir = "/dev/shm",
		.mix = {.frame_bytes = BENCH_FRAME_64, .n_flows = 4096, .n_sas = 1},
		.n_frames = 4096,
		.burst = BURST_MAX,
		.is_paced = true,
		.seconds = 10,
		.file_mb = FILE_MB_DEFAULT,
		.n_captures = 1,
		.n_rings = 1,
		.n_writers = 1,
		.limit_seconds = 60};
	optind = 1;
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 'k')
			kind = kind_of(optarg);
		else if (!read_option(c, optarg, o))
			return NULL;
	}
	// These packets and these filters belong together.
	if (o->mix.list_length == 0 && (o->filter == FILTER_LISTS || o->filter == FILTER_ONE_RULE))
		o->mix.list_length = BENCH_LIST_MAX;
	return optind == argc && has_possible_length(&o->mix) ? kind : NULL;
}

static void on_signal(int signal)
{
	(void)signal;
	bench_is_interrupted = true;
}

int main(int argc, char **argv)
{
	int used = rte_eal_init(argc, argv), rc;
	struct bench_options o;
	const struct kind *kind;

	if (used < 0) {
		(void)fputs(usage, stderr);
		return EXIT_FAILED;
	}
	kind = parse_options(argc - used, argv + used, &o);
	if (kind == NULL) {
		(void)fputs(usage, stderr);
		(void)rte_eal_cleanup();
		return EXIT_USAGE;
	}
	(void)signal(SIGTERM, on_signal);
	(void)signal(SIGINT, on_signal);
	rc = kind->job(&o) == 0 ? 0 : EXIT_FAILED;
	(void)rte_eal_cleanup();
	return rc;
}
