/* stages_main.c - gatecap-stages: a fixed input through worker, merger and store, for callgrind.
 *
 * Nothing is measured here and nothing depends on a time: the same instructions run every time.
 * tools/check.d/instructions.py counts them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/config.h"
#include "dataplane/worker.h"
#include "tools/bench_source.h"
#include "tools/pipeline.h"

enum { N_FRAMES = 512, RING_BYTES = 1 << 22, FILE_MB = 1 };

struct input {
	uint8_t frames[N_FRAMES][BENCH_FRAME_BYTES_MAX];
	uint32_t lens[N_FRAMES];
};

static int open_pipeline(struct pipeline *p, struct config *config, struct filter_data *data,
			 const char *filters)
{
	const struct filter_data_rules rules = {.filters_max = FILTERS_PER_CAPTURE_MAX};
	const struct pipeline_settings settings = {.config = config,
						   .data = data,
						   .connection = SET_GATEWAY_WIDE,
						   .dir = "/tmp",
						   .name = "stages.data",
						   .ring_bytes = RING_BYTES,
						   .reserve = true};
	struct faults faults = {0}, warnings = {0};
	struct error err = {0};
	int rc = filter_data_parse(filters, strlen(filters), &rules, data, &faults, &warnings);

	faults_fini(&faults);
	faults_fini(&warnings);
	if (rc == 0)
		rc = config_defaults(config);
	if (rc == 0)
		rc = pipeline_open(p, &settings, &err);
	if (rc != 0)
		(void)fprintf(stderr, "The stages cannot be set up: %s\n", err.text);
	return rc;
}

static __attribute__((noinline)) void run(struct pipeline *pipeline, const struct input *input,
					  unsigned n_bursts, unsigned burst)
{
	struct pkt p[BURST_MAX];
	uint64_t time_ns = 1;

	memset(p, 0, sizeof(p));
	for (unsigned b = 0; b < n_bursts; b++) {
		for (unsigned i = 0; i < burst; i++, time_ns++) {
			unsigned k = (unsigned)(time_ns % N_FRAMES);

			p[i].data = input->frames[k];
			p[i].len = p[i].wire_len = input->lens[k];
			p[i].time_ns = time_ns;
		}
		worker_burst(pipeline->worker, p, burst, 0, true);
		if (b % 64 == 63)
			(void)merge_step(pipeline->merger, UINT64_MAX);
	}
}

int main(int argc, char **argv)
{
	static struct input input;
	struct pipeline pipeline;
	struct config config = {0};
	struct filter_data data = {0};

	if (argc < 3 || open_pipeline(&pipeline, &config, &data, argv[1]) != 0)
		return 2;
	for (unsigned i = 0; i < N_FRAMES; i++)
		input.lens[i] = bench_frame(input.frames[i], i, argc > 3);
	run(&pipeline, &input, 512, (unsigned)atoi(argv[2]));
	pipeline_close(&pipeline);
	filter_data_fini(&data);
	config_fini(&config);
	return 0;
}
