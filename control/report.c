/* report.c - the books of a capture, closed.
 *
 * not_matched is what is left when everything that is known is taken off: it is never counted on its
 * own in the hot path.  in_flight likewise: held by a worker, or recorded by one and not yet in a store.
 */
#include "control/report.h"

#include <cJSON.h>
#include <stdio.h>
#include <time.h>

struct ledger ledger_make(const struct ledger_input *in)
{
	uint64_t stored = in->in_file + in->overwritten + in->lost_disk;

	return (struct ledger){
		.received = in->received + in->lost_nic,
		.not_matched = in->received - in->recorded - in->ring_full - in->held,
		// The two sides are read at different moments: never below zero.
		.in_flight = in->held + (in->recorded > stored ? in->recorded - stored : 0),
		.in_file = in->in_file,
		.overwritten = in->overwritten,
		.lost = {[LOST_NIC] = in->lost_nic,
			 [LOST_RING_FULL] = in->ring_full,
			 [LOST_DISK] = in->lost_disk},
	};
}

void ledger_add(struct ledger *sum, const struct ledger *more)
{
	sum->received += more->received;
	sum->not_matched += more->not_matched;
	sum->in_flight += more->in_flight;
	sum->in_file += more->in_file;
	sum->overwritten += more->overwritten;
	for (unsigned i = 0; i < LOST_COUNT; i++)
		sum->lost[i] += more->lost[i];
}

uint64_t ledger_lost(const struct ledger *ledger)
{
	uint64_t lost = 0;

	for (unsigned i = 0; i < LOST_COUNT; i++)
		lost += ledger->lost[i];
	return lost;
}

bool ledger_balances(const struct ledger *l)
{
	return l->received ==
	       l->not_matched + ledger_lost(l) + l->in_flight + l->in_file + l->overwritten;
}

struct ledger report_total(const struct report *report)
{
	struct ledger total = {0};

	for (unsigned i = 0; i < report->n_ports; i++)
		ledger_add(&total, &report->ports[i].ledger);
	return total;
}

const char *time_text(uint64_t wall_ns, char buf[TIME_TEXT_BYTES])
{
	time_t seconds = (time_t)(wall_ns / 1000000000);
	struct tm tm;
	size_t n;

	buf[0] = '\0';
	if (gmtime_r(&seconds, &tm) == NULL)
		return buf;
	n = strftime(buf, TIME_TEXT_BYTES, "%Y-%m-%dT%H:%M:%S", &tm);
	(void)snprintf(buf + n, TIME_TEXT_BYTES - n, ".%09uZ", (unsigned)(wall_ns % 1000000000));
	return buf;
}

static void add_number(cJSON *to, const char *key, uint64_t value)
{
	char text[24];

	// cJSON's doubles would round counters above 2^53.
	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	(void)cJSON_AddRawToObject(to, key, text);
}

static void add_time(cJSON *to, const char *key, uint64_t wall_ns, bool is_known)
{
	char text[TIME_TEXT_BYTES];

	if (is_known)
		(void)cJSON_AddStringToObject(to, key, time_text(wall_ns, text));
	else
		(void)cJSON_AddNullToObject(to, key);
}

static void add_ledger(cJSON *to, const struct ledger *l)
{
	static const char *const names[LOST_COUNT] = {
#define X(name, text) [LOST_##name] = text,
		LOST_LIST(X)
#undef X
	};
	cJSON *lost;

	add_number(to, "received", l->received);
	add_number(to, "not_matched", l->not_matched);
	add_number(to, "recorded", l->in_file + l->overwritten);
	add_number(to, "in_file", l->in_file);
	add_number(to, "overwritten", l->overwritten);
	add_number(to, "in_flight", l->in_flight);
	lost = cJSON_AddObjectToObject(to, "lost");
	for (unsigned i = 0; i < LOST_COUNT; i++)
		add_number(lost, names[i], l->lost[i]);
}

struct cJSON *ledger_json(const struct ledger *ledger)
{
	cJSON *json = cJSON_CreateObject();

	add_ledger(json, ledger);
	return json;
}

struct cJSON *esp_json(const uint64_t counts[ESP_COUNTS])
{
	cJSON *json = cJSON_CreateObject();

	for (unsigned i = 0; i < ESP_COUNTS; i++)
		add_number(json, esp_count_name((enum esp_count)i), counts[i]);
	return json;
}

struct cJSON *faults_json(const struct faults *faults)
{
	cJSON *list = cJSON_CreateArray();

	for (unsigned i = 0; faults != NULL && i < faults->n; i++) {
		cJSON *one = cJSON_CreateObject();

		(void)cJSON_AddStringToObject(one, "pointer", faults->list[i].pointer);
		(void)cJSON_AddStringToObject(one, "message", faults->list[i].text);
		(void)cJSON_AddItemToArray(list, one);
	}
	return list;
}

struct cJSON *sentences_json(const struct faults *faults)
{
	cJSON *list = cJSON_CreateArray();

	for (unsigned i = 0; faults != NULL && i < faults->n; i++)
		(void)cJSON_AddItemToArray(list, cJSON_CreateString(faults->list[i].text));
	return list;
}

static void add_classes(cJSON *to, const uint64_t classes[CLASS_COUNT])
{
	cJSON *json = cJSON_AddObjectToObject(to, "classes");

	add_number(json, "esp", classes[CLASS_ESP]);
	add_number(json, "ike", classes[CLASS_IKE]);
	add_number(json, "ovpn", classes[CLASS_OVPN]);
	add_number(json, "inner", classes[CLASS_INNER]);
	add_number(json, "other", classes[CLASS_OTHER]);
}

static void add_ports(cJSON *to, const struct report *report)
{
	cJSON *list = cJSON_AddArrayToObject(to, "ports");

	for (unsigned i = 0; i < report->n_ports; i++) {
		cJSON *port = cJSON_CreateObject();

		(void)cJSON_AddStringToObject(port, "name", report->ports[i].name);
		add_ledger(port, &report->ports[i].ledger);
		(void)cJSON_AddItemToArray(list, port);
	}
}

static void add_gaps(cJSON *to, const struct report *report)
{
	cJSON *list = cJSON_AddArrayToObject(to, "gaps");

	for (unsigned i = 0; i < report->n_gaps; i++) {
		cJSON *gap = cJSON_CreateObject();

		add_time(gap, "from", report->gaps[i].from_ns, true);
		add_time(gap, "to", report->gaps[i].to_ns, report->gaps[i].to_ns != 0);
		(void)cJSON_AddStringToObject(gap, "cause", report->gaps[i].cause);
		(void)cJSON_AddNullToObject(gap, "count");
		(void)cJSON_AddItemToArray(list, gap);
	}
}

struct cJSON *report_json(const struct report *report)
{
	struct ledger total = report_total(report);
	cJSON *json = cJSON_CreateObject();

	(void)cJSON_AddStringToObject(json, "gatecap", GATECAP_VERSION);
	if (report->gateway != NULL)
		(void)cJSON_AddStringToObject(json, "gateway", report->gateway);
	if (report->connection != NULL)
		(void)cJSON_AddStringToObject(json, "connection", report->connection);
	if (report->filter_data_json != NULL)
		(void)cJSON_AddRawToObject(json, "filter_data", report->filter_data_json);
	add_ledger(json, &total);
	add_classes(json, report->classes);
	if (report->has_filter)
		(void)cJSON_AddItemToObject(json, "esp", esp_json(report->esp));
	// A recording may well begin at 0: files without times do.
	add_time(json, "first_time", report->first_ns, total.in_file > 0);
	add_time(json, "last_time", report->last_ns, total.in_file > 0);
	add_time(json, "lost_first_time", report->lost_first_ns, report->lost_first_ns != 0);
	add_time(json, "lost_last_time", report->lost_last_ns, report->lost_last_ns != 0);
	(void)cJSON_AddBoolToObject(json, "exact", report->n_gaps == 0);
	add_gaps(json, report);
	add_ports(json, report);
	add_number(json, "file_bytes", report->file_bytes);
	(void)cJSON_AddItemToObject(json, "warnings", faults_json(report->warnings));
	(void)cJSON_AddItemToObject(json, "notes", sentences_json(report->notes));
	return json;
}
