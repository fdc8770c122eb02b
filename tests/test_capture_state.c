/* test_capture_state.c - a capture as text and back, and what becomes of texts that are something else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/capture_state.h"
#include "control/secret.h"
#include "tests/dice.h"

enum { ROUNDS = 200, SUFFIX = CAPTURE_STATE_SUFFIX_BYTES };

/* A number of any length: small ones, those beyond a double, the largest. */
static uint64_t any_number(struct dice *d)
{
	return dice_one_in(d, 8) ? UINT64_MAX : dice_next(d) >> dice_below(d, 64);
}

static char *any_text(struct dice *d)
{
	static const char *const texts[] = {"", "a", "\"\\\n\t\x1b", "Straße 1% ?",
					    "x\xf0\x9f\x98\x80y"};

	return dice_one_in(d, 6) ? NULL : strdup(texts[dice_below(d, 5)]);
}

static void any_tally(struct dice *d, struct worker_tally *t)
{
	for (unsigned i = 0; i < PORTS_MAX; i++)
		t->ports[i] = (struct port_tally){any_number(d), any_number(d), any_number(d),
						  any_number(d)};
	for (unsigned i = 0; i < CLASS_COUNT; i++)
		t->classes[i] = any_number(d);
	for (unsigned i = 0; i < ESP_COUNTS; i++)
		t->esp[i] = any_number(d);
	t->lost_first_ns = any_number(d);
	t->lost_last_ns = any_number(d);
}

static void any_filter(struct dice *d, struct capture *c)
{
	static const char *const texts[] = {
		"", "{}", "{\"TracingFlags\":3,\"MaxFileSize\":500,\"MaxPacketBufferSize\":65535}",
		"{\"Filters\":[{\"SourceSubnets\":[\"10.1.0.0/16\",\"2001:db8::/32\"],\"TcpFlags\":18}]}",
		"{\"Filters\":[{\"SourcePort\":[0]},{\"CaptureSingleDirectionTrafficOnly\":true}]}"};
	const struct filter_data_rules rules = {.filters_max = FILTERS_PER_CAPTURE_MAX};
	const char *text = texts[dice_below(d, 5)];
	struct faults faults = {0};

	assert_int_equal(
		filter_data_parse(text, strlen(text), &rules, &c->data, &faults, &c->warnings), 0);
	c->filter_json = filter_data_json(&c->data);
}

static void any_final(struct dice *d, struct store_counts *f)
{
	for (unsigned i = 0; i < PORTS_MAX; i++) {
		f->in_file[i] = any_number(d);
		f->overwritten[i] = any_number(d);
		f->lost_disk[i] = any_number(d);
	}
	f->file_bytes = any_number(d);
	f->first_ns = any_number(d);
	f->last_ns = any_number(d);
	f->lost_first_ns = any_number(d);
	f->lost_last_ns = any_number(d);
}

static void any_way_out(struct dice *d, struct capture *c)
{
	static const char *const causes[] = {GAP_DATAPLANE_DOWN, GAP_CONTROL_DOWN, GAP_REBOOT};

	c->n_gaps = dice_below(d, GAPS_MAX + 1);
	for (unsigned i = 0; i < c->n_gaps; i++)
		c->gaps[i] = (struct gap){any_number(d), any_number(d), causes[dice_below(d, 3)]};
	for (unsigned n = dice_below(d, 5); n > 0; n--)
		faults_add(&c->notes, "", "Note %u: \"quoted\", 100%%.", n);
	c->blob_name = any_text(d);
	c->blob_url = any_text(d);
	c->redacted_url = any_text(d);
	c->upload_bytes = any_number(d);
	if (dice_one_in(d, 2))
		(void)strcpy(c->md5, "0123456789abcdef0123456789abcdef");
	if (dice_one_in(d, 2))
		error_set(&c->error, "It %s.", "failed: \"x\"");
}

/* Any capture that can be: those that run have a slot, the others have none. */
static struct capture *any_capture(struct dice *d)
{
	struct capture *c = capture_new(dice_one_in(d, 3) ? NULL : "site \"a\"");

	c->state = (enum capture_state)dice_below(d, CAPTURE_STATES);
	c->aim = (enum capture_aim)dice_below(d, AIM_ABORT + 1);
	if (c->aim == AIM_NONE && (c->state == CAPTURE_STOPPING || c->state == CAPTURE_UPLOADING))
		c->aim = AIM_DOWNLOAD; // what leaves goes somewhere
	c->slot = capture_is_running(c) ? (int)dice_below(d, CAPTURES_MAX) : -1;
	any_filter(d, c);
	(void)strcpy(c->run, "0123 abc");
	c->n_saves = any_number(d);
	c->saved_ns = any_number(d);
	c->epoch = any_number(d);
	c->first_generation = any_number(d);
	c->end_ns = any_number(d);
	c->cut_from_ns = any_number(d);
	c->cut_to_ns = any_number(d);
	c->wall_offset_ns = (int64_t)any_number(d) * (dice_one_in(d, 2) ? -1 : 1);
	c->started_ns = any_number(d);
	c->stopped_ns = any_number(d);
	c->n_ports = dice_below(d, PORTS_MAX + 1);
	for (unsigned i = 0; i < c->n_ports; i++)
		(void)snprintf(c->port_names[i], NAME_MAX_BYTES, "port %u", i);
	for (unsigned i = 0; i < PORTS_MAX; i++)
		c->nic_base[i] = any_number(d);
	any_tally(d, &c->base);
	any_tally(d, &c->last);
	c->has_final = dice_one_in(d, 2);
	any_final(d, &c->final);
	any_way_out(d, c);
	return c;
}

static void same_faults(const struct faults *a, const struct faults *b)
{
	assert_int_equal(a->n, b->n);
	for (unsigned i = 0; i < a->n; i++) {
		assert_string_equal(a->list[i].pointer, b->list[i].pointer);
		assert_string_equal(a->list[i].text, b->list[i].text);
	}
}

static void same_text(const char *a, const char *b)
{
	assert_int_equal(a == NULL, b == NULL);
	if (a != NULL)
		assert_string_equal(a, b);
}

static void same_capture(const struct capture *a, const struct capture *b)
{
	assert_string_equal(a->id, b->id);
	same_text(a->connection, b->connection);
	assert_string_equal(a->run, b->run);
	assert_string_equal(a->filter_json, b->filter_json);
	assert_int_equal(a->state, b->state);
	assert_int_equal(a->aim, b->aim);
	assert_int_equal(a->slot, b->slot);
	assert_true(a->n_saves == b->n_saves && a->saved_ns == b->saved_ns);
	assert_true(a->epoch == b->epoch && a->first_generation == b->first_generation);
	assert_true(a->end_ns == b->end_ns && a->wall_offset_ns == b->wall_offset_ns);
	assert_true(a->cut_from_ns == b->cut_from_ns && a->cut_to_ns == b->cut_to_ns);
	assert_true(a->started_ns == b->started_ns && a->stopped_ns == b->stopped_ns);
	assert_int_equal(a->n_ports, b->n_ports);
	assert_memory_equal(a->port_names, b->port_names, sizeof(a->port_names));
	assert_memory_equal(a->nic_base, b->nic_base, sizeof(a->nic_base));
	assert_memory_equal(&a->base, &b->base, sizeof(a->base));
	assert_memory_equal(&a->last, &b->last, sizeof(a->last));
	assert_memory_equal(&b->saved, &b->last, sizeof(b->last));
	assert_int_equal(a->has_final, b->has_final);
	assert_memory_equal(&a->final, &b->final, sizeof(a->final));
	assert_int_equal(a->n_gaps, b->n_gaps);
	for (unsigned i = 0; i < a->n_gaps; i++) {
		assert_true(a->gaps[i].from_ns == b->gaps[i].from_ns);
		assert_true(a->gaps[i].to_ns == b->gaps[i].to_ns);
		assert_string_equal(a->gaps[i].cause, b->gaps[i].cause);
	}
	same_faults(&a->warnings, &b->warnings);
	same_faults(&a->notes, &b->notes);
	same_text(a->blob_name, b->blob_name);
	same_text(a->blob_url, b->blob_url);
	same_text(a->redacted_url, b->redacted_url);
	assert_true(a->upload_bytes == b->upload_bytes);
	assert_string_equal(a->md5, b->md5);
	assert_string_equal(a->error.text, b->error.text);
}

static void any_capture_comes_back_as_it_was(void **state)
{
	struct dice d = dice_open("test_capture_state");

	(void)state;
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct capture *c = any_capture(&d), *back;
		char *text = capture_state_text(c);
		struct error err = {0};

		assert_non_null(text);
		back = capture_state_parse(text, strlen(text), &err);
		assert_string_equal(err.text, "");
		assert_non_null(back);
		same_capture(c, back);
		free(text);
		capture_free(back);
		capture_free(c);
	}
}

/* Refused, with a phrase that ends in no period. */
static void refused(const char *text, size_t len)
{
	struct error err = {0};

	assert_null(capture_state_parse(text, len, &err));
	assert_true(err.text[0] != '\0' && err.text[strlen(err.text) - 1] != '.');
}

static char *some_text(struct capture **out)
{
	struct dice d = {.state = 7};
	struct capture *c = any_capture(&d);

	c->state = CAPTURE_STOPPING; // the one of which most is asked
	c->aim = AIM_UPLOAD;
	c->slot = 3;
	char *text = capture_state_text(c);

	if (out != NULL)
		*out = c;
	else
		capture_free(c);
	return text;
}

static void every_changed_byte_is_noticed(void **state)
{
	char *text = some_text(NULL);
	size_t len = strlen(text);

	(void)state;
	for (size_t i = 0; i < len; i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			text[i] = (char)(text[i] ^ 1 << bit);
			refused(text, len);
			text[i] = (char)(text[i] ^ 1 << bit);
		}
	}
	free(text);
}

static void every_cut_is_noticed(void **state)
{
	char *text = some_text(NULL);
	size_t len = strlen(text);

	(void)state;
	for (size_t n = 0; n < len; n++)
		refused(text, n);
	free(text);
}

static void what_follows_the_end_is_noticed(void **state)
{
	char *text = some_text(NULL);
	size_t len = strlen(text);
	char *more = calloc(1, len + 3);

	(void)state;
	memcpy(more, text, len);
	memcpy(more + len, "\n ", 2);
	refused(more, len + 1);
	refused(more, len + 2);
	free(more);
	free(text);
}

/* The object with its own checksum, `from` replaced by `to`; NULL: `from` is not in it. */
static char *altered(const char *text, const char *from, const char *to)
{
	size_t n = strlen(text) - SUFFIX;
	const char *at = strstr(text, from);
	char *out = malloc(strlen(text) + strlen(to) + 1);
	size_t head = at != NULL ? (size_t)(at - text) : 0;

	if (at == NULL || head >= n) {
		free(out);
		return NULL;
	}
	memcpy(out, text, head);
	memcpy(out + head, to, strlen(to));
	memcpy(out + head + strlen(to), at + strlen(from), n - head - strlen(from));
	n += strlen(to);
	n -= strlen(from);
	capture_state_suffix(out, n, out + n);
	return out;
}

static void members_that_are_something_else_are_named(void **state)
{
	static const struct {
		const char *from, *to, *names;
	} rows[] = {
		{"\"gatecap_capture\":1", "\"gatecap_capture\":2", "version 2"},
		{"\"gatecap_capture\":1", "\"gatecap\":1", "not gatecap's"},
		{"\"id\":\"2", "\"id\":\"/2", "\"id\""},
		{"\"id\":\"2", "\"id\":\"..\\u002f2", "\"id\""},
		{"\"id\":\"2", "\"ID\":\"2", "\"id\""},
		{"\"saves\":\"", "\"saves\":\"0", "\"saves\""},
		{"\"saves\":\"", "\"saves\":\"-", "\"saves\""},
		{"\"saves\":\"", "\"saves\":\" ", "\"saves\""},
		{"\"saves\":\"", "\"saves\":[],\"x\":\"", "\"saves\""},
		{"\"epoch\":\"", "\"epoch\":\"99999999999999999999", "\"epoch\""},
		{"\"wall_offset_ns\":\"", "\"wall_offset_ns\":\"+", "\"wall_offset_ns\""},
		{"\"state\":\"", "\"state\":\"x", "\"state\""},
		{"\"aim\":\"", "\"aim\":\"x", "\"aim\""},
		{"\"aim\":\"upload\"", "\"aim\":\"none\"", "\"aim\""},
		{"\"slot\":", "\"slot\":-1,\"x\":", "\"slot\""},
		{"\"slot\":", "\"slot\":5,\"x\":", "\"slot\""},
		{"\"slot\":", "\"slot\":-2,\"x\":", "\"slot\""},
		{"\"slot\":", "\"slot\":0.5,\"x\":", "\"slot\""},
		{"\"slot\":", "\"slot\":\"0\",\"x\":", "\"slot\""},
		{"\"MaxFileSize\":", "\"MaxFileSize\":9", "\"filter_data\""},
		{"\"filter_data\":", "\"filter_data\":[],\"x\":", "\"filter_data\""},
		{"\"ports\":[", "\"ports\":[{},", "\"ports\""},
		{"\"ports\":", "\"ports\":{},\"x\":", "\"ports\""},
		{"\"nic_base\":\"", "\"nic_base\":\"x", "\"nic_base\""},
		{"\"classes\":[", "\"classes\":[\"1\",", "\"classes\""},
		{"\"esp\":[", "\"esp\":[\"1\",", "\"esp\""},
		{"\"esp\":", "\"esp\":null,\"x\":", "\"esp\""},
		{"\"is_known\":", "\"is_known\":0,\"x\":", "\"is_known\""},
		{"\"cause\":\"", "\"cause\":\"x", "\"cause\""},
		{"\"gaps\":", "\"gaps\":null,\"x\":", "\"gaps\""},
		{"\"notes\":", "\"notes\":\"\",\"x\":", "\"notes\""},
		{"\"warnings\":", "\"warnings\":[5],\"x\":", "\"pointer\""},
		{"\"md5\":\"", "\"md5\":\"0123456789abcdef0123456789abcdef0", "\"md5\""},
		{"\"error\":", "\"error\":null,\"x\":", "\"error\""},
		{"\"blob_name\":", "\"blob_name\":5,\"x\":", "\"blob_name\""},
	};
	char *text = some_text(NULL);

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *other = altered(text, rows[i].from, rows[i].to);
		struct error err = {0};

		if (other == NULL)
			fail_msg("row %u: nothing to alter", i);
		assert_null(capture_state_parse(other, strlen(other), &err));
		if (strstr(err.text, rows[i].names) == NULL)
			fail_msg("row %u: %s", i, err.text);
		free(other);
	}
	free(text);
}

/* The alteration itself is sound: with the same bytes it is the same text. */
static void a_text_that_is_sealed_again_is_read(void **state)
{
	struct capture *c, *back;
	char *text = some_text(&c);
	char *other = altered(text, "\"slot\":", "\"slot\":");
	struct error err = {0};

	(void)state;
	assert_string_equal(text, other);
	back = capture_state_parse(other, strlen(other), &err);
	assert_non_null(back);
	same_capture(c, back);
	capture_free(back);
	capture_free(c);
	free(other);
	free(text);
}

/* An upgrade loses no capture: a gatecapd that decrypted nothing wrote no "esp". */
static void a_text_from_before_esp_is_read_with_zeros(void **state)
{
	struct capture *c, *back;
	char *text = some_text(&c);
	char *once = altered(text, "\"esp\":", "\"x\":"),
	     *other = altered(once, "\"esp\":", "\"x\":");
	struct error err = {0};

	(void)state;
	back = capture_state_parse(other, strlen(other), &err);
	assert_string_equal(err.text, "");
	for (unsigned i = 0; i < ESP_COUNTS; i++)
		assert_true(back->base.esp[i] == 0 && back->last.esp[i] == 0);
	memset(c->base.esp, 0, sizeof(c->base.esp));
	memset(c->last.esp, 0, sizeof(c->last.esp));
	same_capture(c, back);
	capture_free(back);
	capture_free(c);
	free(other);
	free(once);
	free(text);
}

static void a_sentence_cut_within_a_character_is_written_so_that_it_can_be_read(void **state)
{
	static const struct {
		const char *given, *kept;
	} rows[] = {
		{"cut \xc3", "cut ?"},		{"\xe2\x82", "??"},
		{"\xff\xfe.", "??."},		{"\xc0\x80", "??"},
		{"\xed\xa0\x80", "???"},	{"\xf4\x90\x80\x80", "????"},
		{"ok \xc3\xa4", "ok \xc3\xa4"}, {"\xf0\x9f\x98", "???"},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct capture *c = capture_new(NULL), *back;
		struct error err = {0};
		char *text;

		c->state = CAPTURE_FAILED;
		error_set(&c->error, "%s", rows[i].given);
		text = capture_state_text(c);
		back = capture_state_parse(text, strlen(text), &err);
		assert_string_equal(err.text, "");
		assert_string_equal(back->error.text, rows[i].kept);
		free(text);
		capture_free(back);
		capture_free(c);
	}
}

static void the_sas_url_is_not_in_it(void **state)
{
	struct capture *c = capture_new("a");
	char *text;

	(void)state;
	c->sas_url = secret_dup("https://account.blob.core.windows.net/c?sig=SECRET");
	text = capture_state_text(c);
	assert_null(strstr(text, "SECRET"));
	free(text);
	capture_free(c);
}

/* A document at its limit grows when it is normalised ("::" becomes "::/128"). */
static void the_largest_filter_data_comes_back(void **state)
{
	static const char head[] = "{\"Filters\":[{\"SourceSubnets\":[\"::\"", more[] = ",\"::\"",
			  tail[] = "]}]}";
	const struct filter_data_rules rules = {.filters_max = 1};
	static char document[FILTER_DATA_BYTES_MAX];
	size_t n = strlen(head);
	struct capture *c = capture_new(NULL), *back;
	struct faults faults = {0};
	struct error err = {0};
	char *text;

	(void)state;
	memcpy(document, head, n);
	for (; n + sizeof(more) + sizeof(tail) < sizeof(document); n += strlen(more))
		memcpy(document + n, more, strlen(more));
	memcpy(document + n, tail, strlen(tail));
	n += strlen(tail);
	assert_int_equal(filter_data_parse(document, n, &rules, &c->data, &faults, &c->warnings),
			 0);
	c->filter_json = filter_data_json(&c->data);
	c->state = CAPTURE_FAILED;
	text = capture_state_text(c);
	assert_true(strlen(text) > FILTER_DATA_BYTES_MAX);
	back = capture_state_parse(text, strlen(text), &err);
	assert_string_equal(err.text, "");
	assert_int_equal(back->data.filters[0].n_src, c->data.filters[0].n_src);
	free(text);
	capture_free(back);
	capture_free(c);
}

static void ids_that_lead_elsewhere_are_none(void **state)
{
	static const char *const bad[] = {
		"",   ".", "..",  "../1", "1/2",
		"-1", "a", "1 2", "1\n",  "111111111111111111111111111111111111111111111111"};

	(void)state;
	assert_true(capture_id_is_sound("2026-03-04T05.06.07.123Z-1"));
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(capture_id_is_sound(bad[i]));
}

/* ---- books ---- */

static void settled_books_balance_whatever_was_known(void **state)
{
	struct dice d = dice_open("settle");

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		struct capture *c = capture_new(NULL);
		struct store_counts counts = {0};

		for (unsigned port = 0; port < PORTS_MAX; port++) {
			struct port_tally *t = &c->last.ports[port];
			struct ledger l;

			*t = (struct port_tally){dice_below(&d, 50), dice_below(&d, 50),
						 dice_below(&d, 9), dice_below(&d, 9), 0};
			t->held = dice_below(&d, (uint32_t)t->received + 1);
			c->base.ports[port].recorded = dice_below(&d, 50);
			c->base.ports[port].received =
				c->base.ports[port].recorded + dice_below(&d, 9);
			counts.in_file[port] = dice_below(&d, 90);
			counts.overwritten[port] = dice_below(&d, 9);
			counts.lost_disk[port] = dice_below(&d, 9);
			if (port + 1 < PORTS_MAX)
				continue;
			capture_settle(c, &counts);
			for (unsigned k = 0; k < PORTS_MAX; k++) {
				l = capture_ledger(c, k, &counts);
				assert_true(ledger_balances(&l));
				assert_int_equal(l.in_flight, 0);
				assert_true(l.not_matched < 60);
			}
		}
		capture_free(c);
	}
}

/* Not matched would be a verdict, and there is none. */
static void what_a_dataplane_held_leaves_the_books_with_it(void **state)
{
	struct capture *c = capture_new(NULL);
	struct store_counts counts = {.in_file = {[2] = 4}};
	struct ledger l;

	(void)state;
	c->state = CAPTURE_RUNNING;
	c->base.ports[2].received = 20;
	c->last.ports[2] = (struct port_tally){.received = 10, .recorded = 4, .held = 3};
	c->base.esp[ESP_COUNT_MALFORMED] = 5;
	c->last.esp[ESP_COUNT_MALFORMED] = 2;
	l = capture_ledger(c, 2, &counts);
	assert_true(ledger_balances(&l) && l.received == 30);
	assert_true(l.not_matched == 23 && l.in_flight == 3);
	capture_settle(c, &counts);
	l = capture_ledger(c, 2, &counts);
	assert_true(ledger_balances(&l) && l.received == 27);
	assert_true(l.not_matched == 23 && l.in_flight == 0);
	assert_true(c->base.esp[ESP_COUNT_MALFORMED] == 7 && c->last.esp[ESP_COUNT_MALFORMED] == 0);
	capture_free(c);
}

static void what_is_held_is_not_written_down(void **state)
{
	struct dice d = dice_open("what_is_held_is_not_written_down");
	struct capture *c = any_capture(&d), *back;
	struct error err = {0};
	char *text;

	(void)state;
	c->last.ports[1] = (struct port_tally){.received = 10, .recorded = 4, .held = 3};
	text = capture_state_text(c);
	back = capture_state_parse(text, strlen(text), &err);
	assert_non_null(back);
	assert_int_equal(back->last.ports[1].received, 7);
	assert_int_equal(back->last.ports[1].recorded, 4);
	assert_int_equal(back->last.ports[1].held, 0);
	assert_int_equal(c->last.ports[1].held, 3);
	free(text);
	capture_free(back);
	capture_free(c);
}

static void gaps_follow_each_other_and_never_run_out(void **state)
{
	struct capture *c = capture_new(NULL);

	(void)state;
	assert_false(capture_has_open_gap(c));
	capture_add_gap(c, 10, 0, GAP_DATAPLANE_DOWN);
	assert_true(capture_has_open_gap(c));
	capture_add_gap(c, 12, 30, GAP_REBOOT); // the one that is open ends so
	assert_int_equal(c->n_gaps, 1);
	assert_true(c->gaps[0].from_ns == 10 && c->gaps[0].to_ns == 30);
	assert_string_equal(c->gaps[0].cause, GAP_REBOOT);
	capture_add_gap(c, 20, 40, GAP_CONTROL_DOWN); // not before the end of the last
	assert_true(c->n_gaps == 2 && c->gaps[1].from_ns == 30);
	capture_add_gap(c, 48, 45, GAP_CONTROL_DOWN); // a clock that was set back
	assert_true(c->n_gaps == 3 && c->gaps[2].to_ns == 48);
	for (uint64_t n = 0; n < 2 * GAPS_MAX; n++)
		capture_add_gap(c, 50 + 10 * n, 55 + 10 * n, GAP_DATAPLANE_DOWN);
	assert_int_equal(c->n_gaps, GAPS_MAX);
	assert_true(c->gaps[GAPS_MAX - 1].to_ns == 55 + 10 * (2 * GAPS_MAX - 1));
	capture_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_capture_comes_back_as_it_was),
		cmocka_unit_test(every_changed_byte_is_noticed),
		cmocka_unit_test(every_cut_is_noticed),
		cmocka_unit_test(what_follows_the_end_is_noticed),
		cmocka_unit_test(members_that_are_something_else_are_named),
		cmocka_unit_test(a_text_that_is_sealed_again_is_read),
		cmocka_unit_test(a_text_from_before_esp_is_read_with_zeros),
		cmocka_unit_test(
			a_sentence_cut_within_a_character_is_written_so_that_it_can_be_read),
		cmocka_unit_test(the_sas_url_is_not_in_it),
		cmocka_unit_test(the_largest_filter_data_comes_back),
		cmocka_unit_test(ids_that_lead_elsewhere_are_none),
		cmocka_unit_test(settled_books_balance_whatever_was_known),
		cmocka_unit_test(what_a_dataplane_held_leaves_the_books_with_it),
		cmocka_unit_test(what_is_held_is_not_written_down),
		cmocka_unit_test(gaps_follow_each_other_and_never_run_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
