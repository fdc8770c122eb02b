/* filter_data_json.c - the document back from the struct, for status answers and journals.
 *
 * Written straight to a stream: all values are numbers and addresses, so nothing needs escaping,
 * and a tree of cJSON nodes could fail in a hundred places instead of one.
 */
#include <stdio.h>
#include <stdlib.h>

#include "filters/filter_data.h"

static void print_subnets(FILE *out, const char *name, const struct subnet *list, unsigned n)
{
	char text[SUBNET_TEXT_MAX];

	(void)fprintf(out, "\"%s\":[", name);
	for (unsigned i = 0; i < n; i++)
		(void)fprintf(out, "%s\"%s\"", i > 0 ? "," : "", subnet_text(&list[i], text));
	(void)fputs("],", out);
}

static void print_ports(FILE *out, const char *name, const uint16_t *list, unsigned n)
{
	(void)fprintf(out, "\"%s\":[", name);
	for (unsigned i = 0; i < n; i++)
		(void)fprintf(out, "%s%u", i > 0 ? "," : "", list[i]);
	(void)fputs("],", out);
}

static void print_filter(FILE *out, const struct filter *filter)
{
	(void)fputc('{', out);
	print_subnets(out, "SourceSubnets", filter->src, filter->n_src);
	print_subnets(out, "DestinationSubnets", filter->dst, filter->n_dst);
	print_ports(out, "SourcePort", filter->src_port, filter->n_src_port);
	print_ports(out, "DestinationPort", filter->dst_port, filter->n_dst_port);
	(void)fputs("\"Protocol\":[", out);
	for (unsigned i = 0; i < filter->n_protocol; i++)
		(void)fprintf(out, "%s%u", i > 0 ? "," : "", filter->protocol[i]);
	(void)fprintf(out, "],\"TcpFlags\":%u,\"CaptureSingleDirectionTrafficOnly\":%s}",
		      filter->tcp_flags, filter->single_direction ? "true" : "false");
}

char *filter_data_json(const struct filter_data *data)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	int failed;

	if (out == NULL)
		return NULL;
	(void)fprintf(out,
		      "{\"TracingFlags\":%u,\"MaxPacketBufferSize\":%u,\"MaxFileSize\":%u,"
		      "\"Filters\":[",
		      data->tracing_flags, data->snap_bytes, data->file_mb);
	for (unsigned i = 0; i < data->n_filters; i++) {
		if (i > 0)
			(void)fputc(',', out);
		print_filter(out, &data->filters[i]);
	}
	(void)fputs("]}", out);
	failed = ferror(out);
	if (fclose(out) != 0 || failed) { // when memory is short, it may also leave NULL
		free(text);
		return NULL;
	}
	return text;
}
