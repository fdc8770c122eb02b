/* bench_filter.c - the filters that are measured, as the documents that a user would write.
 *
 * all       five different filters, each of which matches every packet of the standard mix: one capture
 *           has the first.  With several, every packet goes to all of them.
 * reject    fails on the TCP flags only, so that every dimension is looked up
 * one-rule  one source subnet that holds the same packets of the list mix that the lists do
 * lists     source subnets, destination subnets and ports, both ways
 */
#include "tools/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const all[CAPTURES_MAX] = {
	"{\"Filters\":[{\"SourceSubnets\":[\"10.1.0.0/16\"],\"DestinationSubnets\":[\"10.2.0.0/16\"],"
	"\"Protocol\":[6]}]}",
	"{\"Filters\":[{\"SourceSubnets\":[\"10.1.0.0/17\",\"10.1.128.0/17\"],\"Protocol\":[6,17]}]}",
	"{\"Filters\":[{\"DestinationSubnets\":[\"10.2.0.0/16\",\"10.3.0.0/16\"],\"TcpFlags\":16}]}",
	"{\"Filters\":[{\"SourceSubnets\":[\"10.0.0.0/9\"],\"DestinationSubnets\":[\"10.0.0.0/9\"],"
	"\"Protocol\":[6],\"TcpFlags\":16}]}",
	"{\"Filters\":[{\"SourceSubnets\":[\"10.1.0.0/16\",\"192.168.0.0/16\"],"
	"\"DestinationSubnets\":[\"10.2.0.0/16\",\"172.16.0.0/12\"],"
	"\"CaptureSingleDirectionTrafficOnly\":true}]}",
};

static const char reject[] = "{\"Filters\":[{\"SourceSubnets\":[\"10.1.0.0/16\"],"
			     "\"DestinationSubnets\":[\"10.2.0.0/16\"],\"Protocol\":[6],"
			     "\"TcpFlags\":2}]}";

static void print_subnet(FILE *out, struct bench_subnet s, bool is_first)
{
	(void)fprintf(out, "%s\"%u.%u.%u.%u/%u\"", is_first ? "" : ",", s.address >> 24,
		      s.address >> 16 & 0xff, s.address >> 8 & 0xff, s.address & 0xff,
		      s.prefix_len);
}

static void print_lists(FILE *out, unsigned n)
{
	(void)fprintf(out, "{\"Filters\":[{\"SourceSubnets\":[");
	for (unsigned i = 0; i < n; i++)
		print_subnet(out, bench_list_src(i), i == 0);
	(void)fprintf(out, "],\"DestinationSubnets\":[");
	for (unsigned i = 0; i < n; i++)
		print_subnet(out, bench_list_dst(i), i == 0);
	(void)fprintf(out, "],\"DestinationPort\":[");
	for (unsigned i = 0; i < n; i++)
		(void)fprintf(out, "%s%u", i == 0 ? "" : ",", bench_list_port(i));
	(void)fprintf(out, "]}]}");
}

static void print_one_rule(FILE *out)
{
	(void)fprintf(out, "{\"Filters\":[{\"SourceSubnets\":[");
	print_subnet(out, bench_list_half(), true);
	(void)fprintf(out, "]}]}");
}

static int parse(const char *text, struct filter_data *out)
{
	const struct filter_data_rules rules = {.filters_max = 1};
	struct faults faults = {0}, warnings = {0};
	int rc = filter_data_parse(text, strlen(text), &rules, out, &faults, &warnings);

	faults_fini(&faults);
	faults_fini(&warnings);
	return rc == 0 ? 0 : -1;
}

int bench_filter_data(const struct bench_options *o, unsigned slot, struct filter_data *out)
{
	char *text = NULL;
	size_t bytes;
	FILE *stream = open_memstream(&text, &bytes);
	int rc = -1;

	if (stream == NULL)
		return -1;
	if (o->filter == FILTER_LISTS)
		print_lists(stream, o->mix.list_length);
	else if (o->filter == FILTER_ONE_RULE)
		print_one_rule(stream);
	else
		(void)fputs(o->filter == FILTER_REJECT ? reject : all[slot], stream);
	if (fclose(stream) == 0)
		rc = parse(text, out);
	free(text);
	if (rc == 0)
		out->file_mb = o->file_mb;
	return rc;
}

const char *bench_match_text(const struct bench_options *o)
{
	if (o->n_captures == 0 || o->filter == FILTER_REJECT)
		return "none";
	if (o->filter != FILTER_ALL)
		return "half";
	return o->n_captures == 1 ? "all" : "all, by each capture";
}
