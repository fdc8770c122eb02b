/* test_report.c - the ledger's arithmetic and the report's JSON. */
#include <cJSON.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/report.h"

static const struct ledger_input busy = {.received = 1000,
					 .recorded = 700,
					 .ring_full = 40,
					 .held = 7,
					 .lost_nic = 25,
					 .in_file = 300,
					 .overwritten = 350,
					 .lost_disk = 20};

static void every_ledger_that_is_made_balances(void **state)
{
	uint64_t seed = 1;

	(void)state;
	for (unsigned i = 0; i < 10000; i++) {
		struct ledger_input in = {0};
		struct ledger ledger;
		uint64_t rest;

		seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
		rest = in.received = seed >> 40;
		in.recorded = rest / (1 + (seed >> 8) % 7);
		rest -= in.recorded;
		in.ring_full = rest / (1 + (seed >> 16) % 5);
		rest -= in.ring_full;
		in.held = rest / (1 + (seed >> 20) % 4);
		in.lost_nic = (seed >> 24) % 1000;
		rest = in.recorded;
		in.in_file = rest / (1 + (seed >> 32) % 3);
		rest -= in.in_file;
		in.overwritten = rest / (1 + (seed >> 12) % 3);
		rest -= in.overwritten;
		in.lost_disk = rest / 2;
		ledger = ledger_make(&in);
		assert_true(ledger_balances(&ledger));
		assert_int_equal(ledger.in_flight, in.held + rest - in.lost_disk);
		assert_int_equal(ledger.not_matched,
				 in.received - in.recorded - in.ring_full - in.held);
		assert_int_equal(ledger.received, in.received + in.lost_nic);
	}
}

static void ledger_that_misses_a_packet_does_not_balance(void **state)
{
	struct ledger ledger = ledger_make(&busy);

	(void)state;
	assert_true(ledger_balances(&ledger));
	ledger.in_file--;
	assert_false(ledger_balances(&ledger));
}

static void sum_of_ports_balances_like_its_ports(void **state)
{
	struct ledger one = ledger_make(&busy), sum = {0};

	(void)state;
	ledger_add(&sum, &one);
	ledger_add(&sum, &one);
	assert_true(ledger_balances(&sum));
	assert_int_equal(sum.received, 2 * one.received);
	assert_int_equal(ledger_lost(&sum), 2 * (40 + 25 + 20));
}

static uint64_t number(const cJSON *json, const char *key)
{
	// Raw numbers are re-read from the printed text: what a reader of the file sees.
	return (uint64_t)cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(json, key));
}

/* Print and parse again, as a reader of the uploaded report does. */
static cJSON *as_read(const struct report *report)
{
	cJSON *made = report_json(report), *read;
	char *text = cJSON_Print(made);

	read = cJSON_Parse(text);
	assert_non_null(read);
	cJSON_free(text);
	cJSON_Delete(made);
	return read;
}

static void report_has_the_keys_that_its_readers_look_for(void **state)
{
	static const char *const keys[] = {"received",	  "not_matched", "recorded", "in_file",
					   "overwritten", "in_flight",	 "lost",     "classes",
					   "first_time",  "last_time",	 "exact",    "gaps",
					   "ports",	  "warnings",	 "notes",    "file_bytes"};
	struct report report = {.n_ports = 1,
				.ports = {{.name = "wan", .ledger = ledger_make(&busy)}}};
	cJSON *json = as_read(&report);

	(void)state;
	for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		assert_true(cJSON_HasObjectItem(json, keys[i]));
	assert_int_equal(number(json, "received"), 1025);
	assert_int_equal(number(json, "recorded"), 650);
	assert_int_equal(number(json, "not_matched"), 1000 - 700 - 40 - 7);
	assert_int_equal(number(json, "in_flight"), 700 - 670 + 7);
	assert_int_equal(number(cJSON_GetObjectItem(json, "lost"), "ring_full"), 40);
	assert_true(cJSON_IsTrue(cJSON_GetObjectItem(json, "exact")));
	cJSON_Delete(json);
}

static void esp_counts_are_there_with_a_filter_and_each_has_its_name(void **state)
{
	static const char *const names[] = {"decrypted", "without_key", "unsupported",
					    "bad_icv",	 "malformed",	"fragment",
					    "dummy",	 "tcp_partial", "unchecked"};
	struct report report = {.n_ports = 1, .ports = {{.name = "wan"}}};
	cJSON *json = as_read(&report), *esp;

	(void)state;
	assert_false(cJSON_HasObjectItem(json, "esp"));
	cJSON_Delete(json);
	report.has_filter = true;
	for (unsigned i = 0; i < ESP_COUNTS; i++)
		report.esp[i] = 10 + i;
	json = as_read(&report);
	esp = cJSON_GetObjectItem(json, "esp");
	assert_int_equal(cJSON_GetArraySize(esp), 9);
	for (unsigned i = 0; i < 9; i++)
		assert_int_equal(number(esp, names[i]), 10 + i);
	cJSON_Delete(json);
}

static void counters_above_2_to_the_53_keep_every_digit(void **state)
{
	struct ledger ledger = {.received = UINT64_MAX};
	cJSON *json = ledger_json(&ledger);
	char *text = cJSON_PrintUnformatted(json);

	(void)state;
	assert_non_null(strstr(text, "18446744073709551615"));
	cJSON_free(text);
	cJSON_Delete(json);
}

static void times_are_null_without_records_and_1970_is_a_time(void **state)
{
	struct report report = {.n_ports = 1, .ports = {{.name = "wan"}}};
	cJSON *json = as_read(&report);

	(void)state;
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(json, "first_time")));
	cJSON_Delete(json);
	report.ports[0].ledger.in_file = 1;
	json = as_read(&report);
	assert_string_equal(cJSON_GetObjectItem(json, "first_time")->valuestring,
			    "1970-01-01T00:00:00.000000000Z");
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(json, "lost_first_time")));
	cJSON_Delete(json);
}

static void gap_makes_the_report_inexact_and_has_no_count(void **state)
{
	const struct gap gap = {1000000000, 0, "dataplane_down"};
	struct report report = {.gaps = &gap, .n_gaps = 1};
	cJSON *json = as_read(&report);
	const cJSON *shown = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "gaps"), 0);

	(void)state;
	assert_true(cJSON_IsFalse(cJSON_GetObjectItem(json, "exact")));
	assert_string_equal(cJSON_GetObjectItem(shown, "from")->valuestring,
			    "1970-01-01T00:00:01.000000000Z");
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(shown, "to")));
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(shown, "count")));
	cJSON_Delete(json);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_ledger_that_is_made_balances),
		cmocka_unit_test(ledger_that_misses_a_packet_does_not_balance),
		cmocka_unit_test(sum_of_ports_balances_like_its_ports),
		cmocka_unit_test(report_has_the_keys_that_its_readers_look_for),
		cmocka_unit_test(esp_counts_are_there_with_a_filter_and_each_has_its_name),
		cmocka_unit_test(counters_above_2_to_the_53_keep_every_digit),
		cmocka_unit_test(times_are_null_without_records_and_1970_is_a_time),
		cmocka_unit_test(gap_makes_the_report_inexact_and_has_no_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
