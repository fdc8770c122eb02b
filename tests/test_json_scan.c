/* test_json_scan.c - RFC 8259 and nothing else, and the place of what is not.
 *
 * Truth table: one row a rule.  Then documents cut at every byte, and duplicate keys against a
 * plain double loop.
 */
#include <setjmp.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
// cmocka wants the above first
#include <cmocka.h>

#include <cjson/cJSON.h>

#include "filters/json_scan.h"
#include "filters/limits.h"

enum { LEN_MAX = 1 << 20 };

struct row {
	unsigned number;
	const char *text;
	size_t len;		    // 0: strlen
	const char *pointer, *what; // NULL: accepted
};

/* Scan a copy of exactly len bytes, so that the sanitizer sees any read beyond them. */
static int scan_exact(const char *text, size_t len, struct faults *faults)
{
	char *copy = malloc(len > 0 ? len : 1);
	int rc;

	assert_non_null(copy);
	memcpy(copy, text, len);
	rc = json_scan(copy, len, LEN_MAX, faults);
	free(copy);
	return rc;
}

static const struct row rows[] = {
	/* Accepted. */
	{1, "{}", 0, NULL, NULL},
	{2, " \t\r\n[ ] \n", 0, NULL, NULL},
	{3, "{\"a\":[1,-2,0,-0,0.5,1e3,1E+3,1.25e-2],\"b\":null,\"c\":true,\"d\":false}", 0, NULL,
	 NULL},
	{4, "\"text\"", 0, NULL, NULL},
	{5, "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\"", 0, NULL, NULL},
	{6, "\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf \x7f\"", 0, NULL, NULL},
	{7, "{\"a\":{\"a\":{\"a\":1}},\"A\":2,\"\":3}", 0, NULL, NULL},
	{8, "[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]", 0, NULL, NULL}, // 16 deep
	{9, "[1.7976931348623157e308]", 0, NULL, NULL},
	{10, "[0e-999,0.000e5]", 0, NULL, NULL},
	/* Structure. */
	{20, "", 0, "", "line 1, column 1: the document is empty"},
	{21, " \n ", 0, "", "line 2, column 2: the document is empty"},
	{22, "{", 0, "", "column 2: expected a key"},
	{23, "[", 0, "/0", "ends where a value"},
	{24, "[1", 0, "/0", "ends inside"},
	{25, "[1,]", 0, "/1", "line 1, column 4: expected a value"},
	{26, "{\"a\":1,}", 0, "", "behind the comma"},
	{27, "{\"a\" 1}", 0, "/a", "expected a colon"},
	{28, "{\"a\":1 \"b\":2}", 0, "/a", "column 8: expected a comma or }"},
	{29, "[1 2]", 0, "/0", "expected a comma or ]"},
	{30, "{} {}", 0, "", "column 4: the document ends before this"},
	{31, "{}x", 0, "", "ends before this"},
	{32, "{}\0", 3, "", "ends before this"},
	{33, "{a:1}", 0, "", "expected a key in double quotes, or }"},
	{34, "{'a':1}", 0, "", "expected a key in double quotes"},
	{35, "[1}", 0, "/0", "expected a comma or ]"},
	{36, "{\"a\":1]", 0, "/a", "expected a comma or }"},
	{37, "]", 0, "", "expected a value"},
	{38, "// no\n{}", 0, "", "expected a value"},
	{39, "[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]", 0, "/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0",
	 "more than 16 deep"},
	{40, "{\"a\":[0,{\"b\":tru}]}", 0, "/a/1/b", "expected a value"},
	{41, "[True]", 0, "/0", "expected a value"},
	{42, "[NaN]", 0, "/0", "expected a value"},
	{43, "[Infinity]", 0, "/0", "expected a value"},
	{44, "[nul", 0, "/0", "expected a value"},
	{45, "{\"a\"", 0, "/a", "expected a colon"},
	{46, "{,}", 0, "", "expected a key"},
	{47, "[,]", 0, "/0", "expected a value"},
	{48, "\f{}", 0, "", "expected a value"},
	/* Numbers. */
	{60, "[01]", 0, "/0", "starts with 0 only if"},
	{61, "[-01]", 0, "/0", "starts with 0 only if"},
	{62, "[+1]", 0, "/0", "expected a value"},
	{63, "[.5]", 0, "/0", "expected a value"},
	{64, "[1.]", 0, "/0", "digits behind its point"},
	{65, "[1e]", 0, "/0", "digits in its exponent"},
	{66, "[1e+]", 0, "/0", "digits in its exponent"},
	{67, "[-]", 0, "/0", "a minus without a number"},
	{68, "[1e309]", 0, "/0", "too large"},
	{69, "[-1e309]", 0, "/0", "too large"},
	{70, "[1e-400]", 0, "/0", "too close to 0"},
	{71, "[0x10]", 0, "/0", "expected a comma"},
	{72, "[1111111111111111111111111111111111111111111111111111111111111111]", 0, "/0",
	 "more than 63 characters"},
	{73, "-", 0, "", "a minus without a number"},
	{74, "[- 1]", 0, "/0", "a minus without a number"},
	{75, "[1 e5]", 0, "/0", "expected a comma"},
	/* Strings. */
	{80, "\"abc", 0, "", "line 1, column 1: the string that starts here has no end"},
	{81, "[\"a\nb\"]", 0, "/0", "control character"},
	{82, "[\"\\x\"]", 0, "/0", "unknown escape"},
	{83, "[\"\\u12\"]", 0, "/0", "four hexadecimal"},
	{84, "[\"\\u12g4\"]", 0, "/0", "four hexadecimal"},
	{85, "[\"\\u0000\"]", 0, "/0", "\\u0000 is not accepted"},
	{86, "[\"\\ud800\"]", 0, "/0", "a high surrogate without"},
	{87, "[\"\\ud800\\u0041\"]", 0, "/0", "a high surrogate without"},
	{88, "[\"\\udc00\"]", 0, "/0", "a low surrogate without"},
	{89, "[\"\\ud800\\ud800\\udc00\"]", 0, "/0", "a high surrogate without"},
	{90, "[\"a\0b\"]", 7, "/0", "control character"},
	{91, "\"\\", 0, "", "ends inside a string"},
	{92, "[\"\\\0\"]", 6, "/0", "unknown escape"},
	/* UTF-8. */
	{100, "[\"\xff\"]", 0, "/0", "not valid UTF-8"},
	{101, "[\"\x80\"]", 0, "/0", "not valid UTF-8"},
	{102, "[\"\xc0\xaf\"]", 0, "/0", "not valid UTF-8"},
	{103, "[\"\xc1\xbf\"]", 0, "/0", "not valid UTF-8"},
	{104, "[\"\xe0\x80\xaf\"]", 0, "/0", "not valid UTF-8"},
	{105, "[\"\xed\xa0\x80\"]", 0, "/0", "not valid UTF-8"},
	{106, "[\"\xf0\x80\x80\x80\"]", 0, "/0", "not valid UTF-8"},
	{107, "[\"\xf4\x90\x80\x80\"]", 0, "/0", "not valid UTF-8"},
	{108, "[\"\xf5\x80\x80\x80\"]", 0, "/0", "not valid UTF-8"},
	{109, "[\"\xe2\x82\"]", 0, "/0", "not valid UTF-8"},
	{110, "[\"\xc3", 0, "/0", "not valid UTF-8"},
	{111, "{\"\xff\":1}", 0, "", "not valid UTF-8"},
	{112, "\xef\xbb\xbf{}", 0, "", "byte order mark"},
	{113, "\xff\xfe{\0}\0", 6, "", "UTF-16"},
	{114, "[\"\xc3\xa9\xc3\xa9\",x]", 0, "/1", "line 1, column 7:"}, // characters, not bytes
	/* Duplicate keys: decoded, at the second one, per object. */
	{120, "{\"a\":1,\"a\":2}", 0, "/a", "column 8: this key is in its object twice"},
	{121, "{\"a\":1,\"\\u0061\":2}", 0, "/a", "twice"},
	{122, "{\"\xc3\xa9\":1,\"\\u00E9\":2}", 0, "/\xc3\xa9", "twice"},
	{123, "{\"\xf0\x9f\x98\x80\":1,\"\\ud83d\\ude00\":2}", 0, "/\xf0\x9f\x98\x80", "twice"},
	{124, "{\"x\":[{\"b\":1,\"a\":1,\"b\":2}]}", 0, "/x/0/b", "twice"},
	{125, "{\"a/b\":1,\"a~\":{\"k\":1,\"k\":1}}", 0, "/a~0/k", "twice"},
	{126, "{\"a/b\":1,\"a\\/b\":1}", 0, "/a~1b", "twice"},
	{127, "{\"\":1,\"\":1}", 0, "/", "twice"},
	{128, "{\"z\":1,\"b\":1,\"z\":1,\"b\":1}", 0, "/z", "column 14"},
	{129, "{\"a\":{\"a\":1},\"b\":{\"a\":1,\"c\":2},\"a\":1}", 0, "/a", "twice"},
	{130, "{\"\\u001b[2J\":x}", 0, "/\\u001b[2J", "expected a value"}, // no raw escape shown
};

static void each_rule_holds_and_each_fault_names_its_place(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *r = &rows[i];
		size_t len = r->len != 0 ? r->len : strlen(r->text);
		struct faults faults = {0};
		int rc = scan_exact(r->text, len, &faults);

		if (r->what == NULL && (rc != 0 || faults.n != 0))
			fail_msg("row %u: refused: %s", r->number, faults.list[0].text);
		if (r->what != NULL &&
		    (rc == 0 || faults.n != 1 || strcmp(faults.list[0].pointer, r->pointer) != 0 ||
		     strstr(faults.list[0].text, r->what) == NULL))
			fail_msg("row %u: got %d, %u faults, \"%s\": %s", r->number, rc, faults.n,
				 faults.n > 0 ? faults.list[0].pointer : "",
				 faults.n > 0 ? faults.list[0].text : "");
		faults_fini(&faults);
	}
}

static void what_is_accepted_is_what_cjson_then_parses(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *r = &rows[i];
		struct faults faults = {0};
		struct cJSON *root = json_parse(r->text, r->len != 0 ? r->len : strlen(r->text),
						LEN_MAX, &faults);

		assert_int_equal(root != NULL, r->what == NULL);
		assert_int_equal(faults.n, r->what != NULL);
		cJSON_Delete(root);
		faults_fini(&faults);
	}
}

static void a_document_longer_than_allowed_is_refused_unread(void **state)
{
	struct faults faults = {0};

	(void)state;
	assert_int_equal(json_scan("{}  ", 4, 4, &faults), 0);
	assert_true(json_scan("{}   ", 5, 4, &faults) < 0);
	assert_int_equal(faults.n, 1);
	assert_non_null(strstr(faults.list[0].text, "5 bytes; at most 4"));
	faults_fini(&faults);
}

static void line_and_column_count_from_one(void **state)
{
	struct faults faults = {0};

	(void)state;
	assert_true(scan_exact("{\n  \"a\": [\n    x\n", 16, &faults) < 0);
	assert_string_equal(faults.list[0].pointer, "/a/0");
	assert_non_null(strstr(faults.list[0].text, "line 3, column 5:"));
	faults_fini(&faults);
}

/* Every prefix of a document is refused: a container that is not closed is no value. */
static void a_document_cut_anywhere_is_refused(void **state)
{
	static const char text[] =
		"{\"k\\u00e9\\ud83d\\ude00y\":[1.5e+3,true,null,\"\xe2\x82\xac\"],"
		"\"n\":{\"m\":-0.25}}";

	(void)state;
	for (size_t len = 0; len < sizeof(text) - 1; len++) {
		struct faults faults = {0};

		if (scan_exact(text, len, &faults) == 0)
			fail_msg("the first %zu bytes were accepted", len);
		assert_int_equal(faults.n, 1);
		faults_fini(&faults);
	}
}

static void a_million_brackets_exhaust_nothing(void **state)
{
	struct faults faults = {0};
	char *text = malloc(LEN_MAX);

	(void)state;
	assert_non_null(text);
	memset(text, '[', LEN_MAX);
	assert_true(json_scan(text, LEN_MAX, LEN_MAX, &faults) < 0);
	assert_non_null(strstr(faults.list[0].text, "16 deep"));
	faults_fini(&faults);
	free(text);
}

/* One object of random short keys, some written as escapes; the twin compares all pairs. */
static void duplicates_are_found_as_a_double_loop_finds_them(void **state)
{
	unsigned seed = (unsigned)time(NULL), n_duplicate = 0;

	(void)state;
	print_message("seed %u\n", seed);
	srandom(seed);
	for (unsigned round = 0; round < 2000; round++) {
		char text[2048] = "{", keys[40][3];
		unsigned n = (unsigned)random() % 40;
		bool twice = false;
		struct faults faults = {0};

		for (unsigned i = 0; i < n; i++) {
			char first = (char)('a' + random() % 20),
			     second = (char)('a' + random() % 20);

			(void)snprintf(keys[i], sizeof(keys[i]), "%c%c", first, second);
			for (unsigned j = 0; j < i; j++)
				twice |= strcmp(keys[i], keys[j]) == 0;
			(void)snprintf(text + strlen(text), sizeof(text) - strlen(text),
				       random() % 2 ? "%s\"%c\\u%04x\":1" : "%s\"%c%c\":{\"aa\":2}",
				       i > 0 ? "," : "", first, second);
		}
		strcat(text, "}");
		if ((scan_exact(text, strlen(text), &faults) != 0) != twice)
			fail_msg("%s", text);
		n_duplicate += twice;
		faults_fini(&faults);
	}
	assert_true(n_duplicate > 100 && n_duplicate < 1900);
}

static void a_document_full_of_keys_is_compared_in_time(void **state)
{
	struct faults faults = {0};
	char *text = malloc(LEN_MAX);
	size_t len = 0;

	(void)state;
	assert_non_null(text);
	text[len++] = '{';
	for (unsigned i = 0; len + 32 < LEN_MAX; i++)
		len += (size_t)snprintf(text + len, 32, "\"%x\":0,", i);
	len += (size_t)snprintf(text + len, 32, "\"7f\":0}"); // 100,000 keys after the first
	assert_true(json_scan(text, len, LEN_MAX, &faults) < 0);
	assert_string_equal(faults.list[0].pointer, "/7f");
	faults_fini(&faults);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_rule_holds_and_each_fault_names_its_place),
		cmocka_unit_test(what_is_accepted_is_what_cjson_then_parses),
		cmocka_unit_test(a_document_longer_than_allowed_is_refused_unread),
		cmocka_unit_test(line_and_column_count_from_one),
		cmocka_unit_test(a_document_cut_anywhere_is_refused),
		cmocka_unit_test(a_million_brackets_exhaust_nothing),
		cmocka_unit_test(duplicates_are_found_as_a_double_loop_finds_them),
		cmocka_unit_test(a_document_full_of_keys_is_compared_in_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
