/* costs_main.c - gatecap-costs: one measurement of the stages or of the machine.  Driven by tools/costs.
 *
 * It exists only in builds with -Dcosts=true.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <rte_eal.h>

#include "tools/costs_jobs.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, N_FRAMES = 4096 };

static void interrupt(int signal)
{
	(void)signal;
	bench_is_interrupted = true;
}

static int usage(void)
{
	(void)fprintf(
		stderr,
		"Usage: gatecap-costs EAL-OPTION... -- [--machine] [--outer] [--huge] [--reject]\n"
		"         [--frame-bytes N] [--flows N] [--burst N] [--seconds S] --dir DIR\n"
		"tools/costs runs it.  --huge: the ring in huge pages.  --frame-bytes 0: IMIX.\n");
	return EXIT_USAGE;
}

static int parse(int argc, char **argv, struct costs_options *o)
{
	static const struct option options[] = {
		{"machine", no_argument, NULL, 'm'},
		{"huge", no_argument, NULL, 'h'},
		{"outer", no_argument, NULL, 'o'},
		{"reject", no_argument, NULL, 'r'},
		{"frame-bytes", required_argument, NULL, 'b'},
		{"flows", required_argument, NULL, 'f'},
		{"burst", required_argument, NULL, 'n'},
		{"seconds", required_argument, NULL, 's'},
		{"dir", required_argument, NULL, 'd'},
		{NULL, 0, NULL, 0},
	};
	struct bench_options *b = &o->bench;
	int key;

	while ((key = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (key) {
		case 'm':
			o->is_machine = true;
			break;
		case 'h':
			b->is_huge = true;
			break;
		case 'o':
			o->is_outer = true;
			break;
		case 'r':
			b->filter = FILTER_REJECT;
			break;
		case 'b':
			b->mix.frame_bytes = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'f':
			b->mix.n_flows = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'n':
			b->burst = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 's':
			b->seconds = strtod(optarg, NULL);
			break;
		case 'd':
			b->dir = optarg;
			break;
		default:
			return -1;
		}
	}
	return b->dir == NULL || b->burst < 1 || b->burst > BURST_MAX || b->mix.n_flows < 1 ||
			       b->mix.n_flows > BENCH_FLOWS_MAX ||
			       b->mix.frame_bytes > BENCH_FRAME_BYTES_MAX || b->seconds <= 0
		       ? -1
		       : 0;
}

int main(int argc, char **argv)
{
	struct costs_options o = {.bench = {.mix = {.frame_bytes = BENCH_FRAME_64, .n_flows = 1000},
					    .n_frames = N_FRAMES,
					    .burst = BURST_MAX,
					    .n_captures = 1,
					    .file_mb = FILE_MB_DEFAULT,
					    .seconds = 2}};
	int n_eal = rte_eal_init(argc, argv);
	struct cJSON *result;
	char *text;

	if (n_eal < 0 || parse(argc - n_eal, argv + n_eal, &o) != 0)
		return usage();
	(void)signal(SIGTERM, interrupt);
	(void)signal(SIGINT, interrupt);
	result = o.is_machine ? costs_machine(&o) : costs_run(&o);
	if (result == NULL)
		return EXIT_FAILED;
	text = cJSON_PrintUnformatted(result);
	(void)puts(text);
	cJSON_free(text);
	cJSON_Delete(result);
	(void)rte_eal_cleanup();
	return 0;
}
