/* fuzz_filter_data.c - any bytes as filterData: an answer, and a normal form that is stable.
 *
 * The first byte chooses the rules; the rest is the document.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "filters/filter_data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds, const char *what)
{
	if (holds)
		return;
	(void)fprintf(stderr, "does not hold: %s\n", what);
	abort();
}

static void check_ranges(const struct filter_data *data, const struct filter_data_rules *rules)
{
	check(data->tracing_flags != 0 && (data->tracing_flags & ~(unsigned)TRACE_DEFAULT) == 0,
	      "tracing flags are known");
	check(data->snap_bytes >= 1 && data->snap_bytes <= SNAP_BYTES_MAX, "snap length in range");
	check(data->file_mb >= 1 && data->file_mb <= FILE_MB_MAX, "file size in range");
	check(data->n_filters <= rules->filters_max, "no more filters than allowed");
	for (unsigned i = 0; i < data->n_filters; i++)
		for (unsigned j = 0; j < data->filters[i].n_src; j++) {
			const struct subnet *s = &data->filters[i].src[j];

			check(s->family == 4 ? s->prefix_len <= 32
					     : s->family == 6 && s->prefix_len <= 128,
			      "subnets are addresses");
		}
}

/* What was accepted must parse again to the same, and silently but for the OVPN warning. */
static void check_normal_form(const struct filter_data *data, const struct filter_data_rules *rules)
{
	char *text = filter_data_json(data), *again;
	struct faults faults = {0}, warnings = {0};
	struct filter_data copy;

	check(text != NULL, "memory suffices");
	if (strlen(text) > FILTER_DATA_BYTES_MAX) { // short names in, long names out
		free(text);
		return;
	}
	check(filter_data_parse(text, strlen(text), rules, &copy, &faults, &warnings) == 0,
	      "the normal form is accepted");
	check(warnings.n <= 1, "the normal form has nothing missing");
	again = filter_data_json(&copy);
	check(again != NULL && strcmp(text, again) == 0, "the normal form is stable");
	free(text);
	free(again);
	faults_fini(&warnings);
	filter_data_fini(&copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct filter_data_rules rules = {.filters_max = 1};
	struct faults faults = {0}, warnings = {0};
	struct filter_data out;
	char *text;

	if (size == 0)
		return 0;
	rules.filters_max = 1 + data[0] % FILTERS_PER_CAPTURE_MAX;
	rules.single_direction_by_default = data[0] & 64;
	if (filter_data_parse((const char *)data + 1, size - 1, &rules, &out, &faults, &warnings) ==
	    0) {
		check(faults.n + faults.n_omitted == 0, "accepted means no fault");
		check_ranges(&out, &rules);
		check_normal_form(&out, &rules);
		filter_data_fini(&out);
	} else {
		check(faults.n > 0, "refused means a fault");
	}
	text = faults_text(&faults);
	check(text != NULL && strchr(text, 27) == NULL, "no escape reaches the terminal");
	free(text);
	faults_fini(&faults);
	faults_fini(&warnings);
	return 0;
}
