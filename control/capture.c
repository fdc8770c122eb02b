/* capture.c - a capture's own facts: states, books, names, JSON. */
#include "control/capture.h"

#include <cJSON.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "control/config.h"
#include "control/secret.h"

uint64_t wall_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

struct capture *capture_new(const char *connection)
{
	struct capture *c = calloc(1, sizeof(*c));
	char text[TIME_TEXT_BYTES];
	static unsigned serial;

	if (c == NULL)
		return NULL;
	c->slot = -1;
	c->started_ns = wall_now_ns();
	(void)time_text(c->started_ns, text);
	(void)snprintf(c->id, sizeof(c->id), "%.23sZ-%u", text, ++serial);
	for (char *at = c->id; *at != '\0'; at++)
		if (*at == ':')
			*at = '.'; // the id is a file name, also beside those that a killed gatecapd left
	if (connection != NULL) {
		c->connection = strdup(connection);
		if (c->connection == NULL) {
			free(c);
			return NULL;
		}
	}
	return c;
}

void capture_free(struct capture *c)
{
	if (c == NULL)
		return;
	store_view_close(c->view);
	store_close(c->store);
	EVP_MD_CTX_free(c->digest);
	secret_free(c->sas_url);
	free(c->connection);
	free(c->filter_json);
	free(c->report);
	free(c->blob_name);
	free(c->blob_url);
	free(c->redacted_url);
	filter_data_fini(&c->data);
	faults_fini(&c->warnings);
	faults_fini(&c->notes);
	free(c);
}

const char *capture_state_name(enum capture_state state)
{
	static const char *const names[] = {
		[CAPTURE_STARTING] = "Starting",   [CAPTURE_RUNNING] = "Running",
		[CAPTURE_STOPPING] = "Stopping",   [CAPTURE_UPLOADING] = "Uploading",
		[CAPTURE_SUCCEEDED] = "Succeeded", [CAPTURE_UPLOAD_FAILED] = "UploadFailed",
		[CAPTURE_FAILED] = "Failed",	   [CAPTURE_RECOVERED] = "Recovered",
	};

	return names[state];
}

bool capture_is_running(const struct capture *c)
{
	return c->state == CAPTURE_STARTING || c->state == CAPTURE_RUNNING ||
	       c->state == CAPTURE_STOPPING;
}

bool capture_holds_scope(const struct capture *c)
{
	return c->state != CAPTURE_SUCCEEDED && c->state != CAPTURE_FAILED;
}

const char *capture_scope_text(const struct capture *c, char buf[NAME_MAX_BYTES + 16])
{
	if (c->connection == NULL)
		return "the gateway";
	(void)snprintf(buf, NAME_MAX_BYTES + 16, "connection %s", c->connection);
	return buf;
}

/* The dataplane's books are not read yet (again): they hold what has come out of its rings at least. */
static void assume_stored(struct ledger_input *in)
{
	uint64_t stored = in->in_file + in->overwritten + in->lost_disk;

	if (in->recorded < stored)
		in->recorded = stored;
	if (in->received < in->recorded + in->ring_full)
		in->received = in->recorded + in->ring_full;
}

struct ledger capture_ledger(const struct capture *c, unsigned port,
			     const struct store_counts *counts)
{
	const struct port_tally *base = &c->base.ports[port], *last = &c->last.ports[port];
	struct ledger_input input = {
		.received = base->received + last->received,
		.recorded = base->recorded + last->recorded,
		.ring_full = base->ring_full + last->ring_full,
		.held = last->held,
		.lost_nic = base->lost_nic + last->lost_nic,
		.in_file = counts->in_file[port],
		.overwritten = counts->overwritten[port],
		.lost_disk = counts->lost_disk[port],
	};

	if (c->is_waiting || c->state == CAPTURE_STARTING)
		assume_stored(&input);
	return ledger_make(&input);
}

bool capture_has_open_gap(const struct capture *c)
{
	return c->n_gaps > 0 && c->gaps[c->n_gaps - 1].to_ns == 0;
}

void capture_add_gap(struct capture *c, uint64_t from_ns, uint64_t to_ns, const char *cause)
{
	struct gap *last = c->n_gaps > 0 ? &c->gaps[c->n_gaps - 1] : NULL;

	if (last != NULL && from_ns < last->to_ns)
		from_ns = last->to_ns;
	if (to_ns != 0 && to_ns < from_ns)
		to_ns = from_ns; // the wall clock was set back
	if (last != NULL && (last->to_ns == 0 || c->n_gaps == GAPS_MAX)) {
		last->to_ns = to_ns;
		last->cause = cause;
		return;
	}
	c->gaps[c->n_gaps++] = (struct gap){from_ns, to_ns, cause};
}

/* Into the base with what was counted last. */
static void close_tally(struct capture *c)
{
	for (unsigned port = 0; port < PORTS_MAX; port++) {
		struct port_tally *base = &c->base.ports[port], *last = &c->last.ports[port];

		last->received -= last->held; // nobody will ever say what became of them
		if (last->received < last->recorded + last->ring_full)
			last->received = last->recorded + last->ring_full;
		base->received += last->received;
		base->recorded += last->recorded;
		base->ring_full += last->ring_full;
		base->lost_nic += last->lost_nic;
	}
	for (unsigned k = 0; k < CLASS_COUNT; k++)
		c->base.classes[k] += c->last.classes[k];
	for (unsigned k = 0; k < ESP_COUNTS; k++)
		c->base.esp[k] += c->last.esp[k];
	if (c->base.lost_first_ns == 0)
		c->base.lost_first_ns = c->last.lost_first_ns;
	if (c->last.lost_last_ns != 0)
		c->base.lost_last_ns = c->last.lost_last_ns;
	c->last = (struct worker_tally){0};
}

void capture_settle(struct capture *c, const struct store_counts *counts)
{
	close_tally(c);
	for (unsigned port = 0; counts != NULL && port < PORTS_MAX; port++) {
		struct port_tally *base = &c->base.ports[port];
		uint64_t stored =
			counts->in_file[port] + counts->overwritten[port] + counts->lost_disk[port];

		// Modulo 2^64: up when the store knows of more than was read last, else down.
		base->received += stored - base->recorded;
		base->recorded = stored;
	}
}

static uint64_t to_wall(const struct capture *c, uint64_t time_ns)
{
	return time_ns == 0 ? 0 : time_ns + (uint64_t)c->wall_offset_ns;
}

static uint64_t first_of(uint64_t a, uint64_t b)
{
	if (a == 0 || b == 0)
		return a + b;
	return a < b ? a : b;
}

static uint64_t last_of(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static void fill_report(const struct capture *c, const struct config *config,
			const struct store_counts *counts, struct report *r)
{
	r->gateway = config->gateway.name;
	r->connection = c->connection;
	r->filter_data_json = c->filter_json;
	r->n_ports = c->n_ports;
	for (unsigned port = 0; port < c->n_ports; port++) {
		r->ports[port].name = c->port_names[port];
		r->ports[port].ledger = capture_ledger(c, port, counts);
	}
	for (unsigned i = 0; i < CLASS_COUNT; i++)
		r->classes[i] = c->base.classes[i] + c->last.classes[i];
	r->has_filter = c->data.n_filters > 0;
	for (unsigned i = 0; i < ESP_COUNTS; i++)
		r->esp[i] = c->base.esp[i] + c->last.esp[i];
	r->first_ns = to_wall(c, counts->first_ns);
	r->last_ns = to_wall(c, counts->last_ns);
	r->lost_first_ns =
		to_wall(c, first_of(first_of(c->base.lost_first_ns, c->last.lost_first_ns),
				    counts->lost_first_ns));
	r->lost_last_ns = to_wall(c, last_of(last_of(c->base.lost_last_ns, c->last.lost_last_ns),
					     counts->lost_last_ns));
	r->file_bytes = counts->file_bytes;
	r->gaps = c->gaps;
	r->n_gaps = c->n_gaps;
	r->warnings = &c->warnings;
	r->notes = &c->notes;
}

char *capture_report(const struct capture *c, const struct config *config,
		     const struct store_counts *counts)
{
	struct report report = {0};
	cJSON *json;
	char *text;

	fill_report(c, config, counts, &report);
	json = report_json(&report);
	text = cJSON_Print(json);
	cJSON_Delete(json);
	return text;
}

static void add_string_or_null(cJSON *to, const char *key, const char *text)
{
	if (text != NULL && *text != '\0')
		(void)cJSON_AddStringToObject(to, key, text);
	else
		(void)cJSON_AddNullToObject(to, key);
}

static void add_upload(cJSON *to, const struct capture *c, uint64_t bytes_sent)
{
	cJSON *upload;

	if (c->redacted_url == NULL) {
		(void)cJSON_AddNullToObject(to, "upload");
		return;
	}
	upload = cJSON_AddObjectToObject(to, "upload");
	(void)cJSON_AddStringToObject(upload, "url", c->redacted_url);
	(void)cJSON_AddNumberToObject(upload, "bytes_sent", (double)bytes_sent);
	(void)cJSON_AddNumberToObject(upload, "bytes_total", (double)c->upload_bytes);
}

/* null without a filter: nothing was looked into. */
static void add_esp(cJSON *to, const struct capture *c)
{
	uint64_t esp[ESP_COUNTS];

	for (unsigned i = 0; i < ESP_COUNTS; i++)
		esp[i] = c->base.esp[i] + c->last.esp[i];
	(void)cJSON_AddItemToObject(to, "esp",
				    c->data.n_filters > 0 ? esp_json(esp) : cJSON_CreateNull());
}

struct cJSON *capture_json(struct capture *c, const struct store_counts *counts,
			   uint64_t bytes_sent)
{
	struct ledger total = {0};
	char text[TIME_TEXT_BYTES];
	cJSON *json = cJSON_CreateObject();

	for (unsigned port = 0; port < c->n_ports; port++) {
		struct ledger ledger = capture_ledger(c, port, counts);

		ledger_add(&total, &ledger);
	}
	(void)cJSON_AddStringToObject(json, "id", c->id);
	(void)cJSON_AddStringToObject(json, "scope",
				      c->connection != NULL ? "connection" : "gateway");
	add_string_or_null(json, "connection", c->connection);
	(void)cJSON_AddStringToObject(json, "state", capture_state_name(c->state));
	add_string_or_null(json, "started", time_text(c->started_ns, text));
	add_string_or_null(json, "stopped",
			   c->stopped_ns != 0 ? time_text(c->stopped_ns, text) : NULL);
	(void)cJSON_AddRawToObject(json, "filter_data",
				   c->filter_json != NULL ? c->filter_json : "{}");
	(void)cJSON_AddItemToObject(json, "counters", ledger_json(&total));
	add_esp(json, c);
	(void)cJSON_AddNumberToObject(json, "file_bytes", (double)counts->file_bytes);
	(void)cJSON_AddNumberToObject(json, "file_bytes_max",
				      (double)((uint64_t)c->data.file_mb * FILE_MB_BYTES));
	add_upload(json, c, bytes_sent);
	add_string_or_null(json, "blob_url", c->state == CAPTURE_SUCCEEDED ? c->blob_url : NULL);
	add_string_or_null(json, "md5", c->md5);
	add_string_or_null(json, "error", c->error.text);
	(void)cJSON_AddItemToObject(json, "warnings", faults_json(&c->warnings));
	(void)cJSON_AddItemToObject(json, "notes", sentences_json(&c->notes));
	return json;
}

char *capture_blob_name(const struct capture *c, const struct config *config, const char *ending)
{
	time_t seconds = (time_t)(c->started_ns / 1000000000);
	const char *prefix = config->upload.prefix != NULL ? config->upload.prefix : "";
	char day[32], second[32], *name = NULL;
	struct tm tm;

	(void)gmtime_r(&seconds, &tm);
	(void)strftime(day, sizeof(day), "%Y/%m/%d", &tm);
	(void)strftime(second, sizeof(second), "%H%M%S", &tm);
	if (asprintf(&name, "%s%s%s/%s/%s/%s.%07uZ_%s%s", prefix, *prefix != '\0' ? "/" : "",
		     config->gateway.name, c->connection != NULL ? c->connection : "gateway", day,
		     second, (unsigned)(c->started_ns % 1000000000 / 100), config->upload.instance,
		     ending) < 0)
		return NULL;
	return name;
}
