/* test_http_route.c - the route matcher beside a truth table, UTF-8 beside a slow twin. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "control/http_route.h"

static void handler(struct http_req *req, void *ctx)
{
	(void)req;
	(void)ctx;
}

static const struct http_route routes[] = {
	{"GET", "/v1/captures", handler},
	{"POST", "/v1/captures", handler},
	{"GET", "/v1/captures/gateway", handler},
	{"GET", "/v1/captures/connections/*", handler},
	{"POST", "/v1/captures/connections/*/stop", handler},
	{"GET", "/*/*/x", handler},
};
enum { N_ROUTES = sizeof(routes) / sizeof(routes[0]) };

struct row {
	const char *method, *path;
	enum http_match match;
	unsigned index;
	const char *allow, *name;
};

static void each_path_finds_its_route(void **state)
{
	static const struct row rows[] = {
		{"GET", "/v1/captures", HTTP_MATCH_ROUTE, 0, "", NULL},
		{"POST", "/v1/captures", HTTP_MATCH_ROUTE, 1, "", NULL},
		{"PUT", "/v1/captures", HTTP_MATCH_METHOD, 0, "GET, POST", NULL},
		{"GET", "/v1/captures/", HTTP_MATCH_NOTHING, 0, "", NULL},
		{"GET", "/v1/captures/connections/a", HTTP_MATCH_ROUTE, 3, "", "a"},
		{"GET", "/v1/captures/connections/a%20b", HTTP_MATCH_ROUTE, 3, "", "a b"},
		{"GET", "/v1/captures/connections/%c3%a9", HTTP_MATCH_ROUTE, 3, "", "\xc3\xa9"},
		{"GET", "/v1/captures/connections/%2a", HTTP_MATCH_ROUTE, 3, "", "*"},
		{"GET", "/v1/captures/connections/", HTTP_MATCH_NOTHING, 0, "", NULL},
		{"GET", "/v1/captures/connections/a/stop", HTTP_MATCH_METHOD, 0, "POST", NULL},
		{"POST", "/v1/captures/connections/a/stop", HTTP_MATCH_ROUTE, 4, "", "a"},
		{"POST", "/v1/captures/connections/a/b/stop", HTTP_MATCH_NOTHING, 0, "", NULL},
		{"POST", "/v1/captures/connections/a%2Fb/stop", HTTP_MATCH_MALFORMED, 0, "", NULL},
		{"GET", "/v1/captures/../x", HTTP_MATCH_MALFORMED, 0, "", NULL},
		{"GET", "/v1/%63aptures", HTTP_MATCH_ROUTE, 0, "", NULL},
		{"GET", "", HTTP_MATCH_MALFORMED, 0, "", NULL},
		{"GET", "*", HTTP_MATCH_MALFORMED, 0, "", NULL},
		{"GET", "/", HTTP_MATCH_NOTHING, 0, "", NULL},
		{"", "/v1/captures/gateway", HTTP_MATCH_METHOD, 0, "GET", NULL},
	};
	struct http_match_out out;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		enum http_match match =
			http_route_find(routes, N_ROUTES, rows[i].method, rows[i].path, &out);

		if (match != rows[i].match)
			fail_msg("row %zu %s %s: %d, not %d", i, rows[i].method, rows[i].path,
				 (int)match, (int)rows[i].match);
		assert_string_equal(out.allow,
				    rows[i].match == HTTP_MATCH_METHOD ? rows[i].allow : out.allow);
		if (match == HTTP_MATCH_ROUTE)
			assert_int_equal(out.index, rows[i].index);
		if (rows[i].name != NULL)
			assert_string_equal(out.names[0], rows[i].name);
	}
}

static void names_come_in_order(void **state)
{
	struct http_match_out out;

	(void)state;
	assert_int_equal(http_route_find(routes, N_ROUTES, "GET", "/one/two/x", &out),
			 HTTP_MATCH_ROUTE);
	assert_int_equal(out.index, 5);
	assert_int_equal(out.n_names, 2);
	assert_string_equal(out.names[0], "one");
	assert_string_equal(out.names[1], "two");
}

static void paths_with_too_many_segments_are_malformed(void **state)
{
	char path[2 * HTTP_SEGMENTS_MAX + 3] = "";
	struct http_match_out out;

	(void)state;
	for (unsigned i = 0; i < HTTP_SEGMENTS_MAX; i++)
		memcpy(path + 2 * i, "/a", 3);
	assert_int_equal(http_route_find(routes, N_ROUTES, "GET", path, &out), HTTP_MATCH_NOTHING);
	memcpy(path + 2 * HTTP_SEGMENTS_MAX, "/a", 3);
	assert_int_equal(http_route_find(routes, N_ROUTES, "GET", path, &out),
			 HTTP_MATCH_MALFORMED);
}

static void a_name_has_255_bytes_and_not_one_more(void **state)
{
	char text[3 * 256 + 1], out[HTTP_SEGMENT_BYTES];
	const char *why = "";

	(void)state;
	for (unsigned i = 0; i < 256; i++)
		memcpy(text + 3 * i, "%41", 4);
	assert_int_equal(http_segment_decode(text, 3 * 255, out, &why), 0);
	assert_int_equal(strlen(out), 255);
	assert_int_not_equal(http_segment_decode(text, 3 * 256, out, &why), 0);
	assert_string_not_equal(why, "");
}

/* UTF-8 by the table of the standard (Unicode 15, table 3-7): slower, and written another way. */
static bool utf8_slow(const uint8_t *s, size_t n)
{
	static const uint8_t table[][8] = {
		// first low, high, then low, high of each byte that follows
		{0x00, 0x7F},
		{0xC2, 0xDF, 0x80, 0xBF},
		{0xE0, 0xE0, 0xA0, 0xBF, 0x80, 0xBF},
		{0xE1, 0xEC, 0x80, 0xBF, 0x80, 0xBF},
		{0xED, 0xED, 0x80, 0x9F, 0x80, 0xBF},
		{0xEE, 0xEF, 0x80, 0xBF, 0x80, 0xBF},
		{0xF0, 0xF0, 0x90, 0xBF, 0x80, 0xBF, 0x80, 0xBF},
		{0xF1, 0xF3, 0x80, 0xBF, 0x80, 0xBF, 0x80, 0xBF},
		{0xF4, 0xF4, 0x80, 0x8F, 0x80, 0xBF, 0x80, 0xBF},
	};
	size_t i = 0;

	while (i < n) {
		size_t used = 0;

		for (size_t row = 0; row < 9 && used == 0; row++) {
			size_t k = 0;

			while (k < 4 && (k == 0 || table[row][2 * k + 1] != 0) && i + k < n &&
			       s[i + k] >= table[row][2 * k] && s[i + k] <= table[row][2 * k + 1])
				k++;
			if (k > 0 && (k == 4 || table[row][2 * k + 1] == 0))
				used = k;
		}
		if (used == 0)
			return false;
		i += used;
	}
	return true;
}

static void utf8_agrees_with_the_table_of_the_standard(void **state)
{
	unsigned seed = (unsigned)time(NULL);
	static const uint8_t edges[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF,
					0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE,
					0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF};
	unsigned n_valid = 0;

	(void)state;
	print_message("seed %u\n", seed);
	srandom(seed);
	for (unsigned round = 0; round < 500000; round++) {
		uint8_t bytes[6];
		size_t n = (size_t)random() % sizeof(bytes);

		for (size_t i = 0; i < n; i++)
			bytes[i] = edges[(size_t)random() % sizeof(edges)];
		if (http_text_is_utf8((const char *)bytes, n) != utf8_slow(bytes, n))
			fail_msg("%zu bytes %02x %02x %02x %02x", n, bytes[0], bytes[1], bytes[2],
				 bytes[3]);
		n_valid += utf8_slow(bytes, n);
	}
	assert_in_range(n_valid, 1000, 499000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_path_finds_its_route),
		cmocka_unit_test(names_come_in_order),
		cmocka_unit_test(paths_with_too_many_segments_are_malformed),
		cmocka_unit_test(a_name_has_255_bytes_and_not_one_more),
		cmocka_unit_test(utf8_agrees_with_the_table_of_the_standard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
