/* bench_print.c - one result as one line of JSON. */
#include "tools/bench.h"
#include "tools/bench_esp.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

static double rounded(double value, double steps)
{
	return round(value * steps) / steps;
}

static void add_frames(struct cJSON *c, const struct bench_mix *mix)
{
	char text[64] = "IMIX 7x60 4x570 1x1514";

	if (mix->frame_bytes > 0)
		(void)snprintf(text, sizeof(text), "%u bytes (%u with FCS)", mix->frame_bytes,
			       mix->frame_bytes + 4);
	(void)cJSON_AddStringToObject(c, "frames", text);
	(void)cJSON_AddNumberToObject(c, "five_tuples", mix->n_flows);
	if (mix->list_length > 0)
		(void)cJSON_AddNumberToObject(c, "list_length", mix->list_length);
}

struct cJSON *bench_conditions(const struct bench_options *o)
{
	struct cJSON *c = cJSON_CreateObject();

	(void)cJSON_AddNumberToObject(c, "worker_core", 1);
	(void)cJSON_AddNumberToObject(c, "writer_core", 0);
	add_frames(c, &o->mix);
	(void)cJSON_AddNumberToObject(c, "burst", o->burst);
	(void)cJSON_AddNumberToObject(c, "seconds", o->seconds);
	(void)cJSON_AddBoolToObject(c, "hugepages", o->is_huge);
	return c;
}

struct cJSON *bench_source_conditions(const struct bench_options *o)
{
	struct cJSON *c = bench_conditions(o);

	(void)cJSON_AddStringToObject(c, "source",
				      o->is_device ? "net_pcap infinite_rx" : "net_ring");
	(void)cJSON_AddNumberToObject(c, "working_set", o->n_frames);
	(void)cJSON_AddStringToObject(c, "loop", o->is_paced ? "paced, without loss" : "closed");
	if (o->mix.esp != BENCH_ESP_NONE) {
		(void)cJSON_AddStringToObject(c, "esp", bench_esp_text(&o->mix));
		(void)cJSON_AddNumberToObject(c, "sas", o->mix.n_sas);
		(void)cJSON_AddBoolToObject(c, "verify_icv", o->verifies_icv);
	}
	if (o->mix.n_flows > o->n_frames)
		(void)cJSON_AddStringToObject(c, "flows_by", "new addresses as frames come back");
	return c;
}

void bench_add(struct cJSON *c, const char *name, double value)
{
	(void)cJSON_AddNumberToObject(c, name, rounded(value, 1000));
}

void bench_print(const struct bench_options *o, const struct bench_result *result,
		 struct cJSON *conditions)
{
	struct cJSON *json = cJSON_CreateObject();
	const char *cycles =
		strcmp(result->unit, "mrps") == 0 ? "cycles_per_record" : "cycles_per_packet";
	char *text;

	(void)cJSON_AddStringToObject(json, "name", o->name);
	(void)cJSON_AddNumberToObject(json, result->unit, rounded(result->rate, 100));
	if (result->cycles > 0)
		(void)cJSON_AddNumberToObject(json, cycles, rounded(result->cycles, 10));
	else
		(void)cJSON_AddNullToObject(json, cycles);
	(void)cJSON_AddNumberToObject(json, "lost", (double)result->lost);
	(void)cJSON_AddItemToObject(json, "conditions", conditions);
	text = cJSON_PrintUnformatted(json);
	if (text != NULL)
		(void)puts(text);
	(void)fflush(stdout);
	cJSON_free(text);
	cJSON_Delete(json);
}
