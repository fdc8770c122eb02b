/* test_filter_data.c - docs/semantics.md "filterData" as a numbered truth table.
 *
 * A row is a document, what it normalises to (or its faults), and its warnings.  Then the verbatim
 * examples of Azure's pages, and documents with each byte deleted and flipped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// cmocka wants the above first
#include <cmocka.h>

#include "filters/filter_data.h"

static const struct filter_data_rules one_filter = {.filters_max = 1};
static const struct filter_data_rules three_filters = {.filters_max = 3};
static const struct filter_data_rules vwan = {.filters_max = 1,
					      .single_direction_by_default = true};

/* The four top-level properties and the seven of a filter, so that nothing is missing. */
#define TOP(flags, snap, mb, filters)                                                      \
	"{\"TracingFlags\":" flags ",\"MaxPacketBufferSize\":" snap ",\"MaxFileSize\":" mb \
	",\"Filters\":[" filters "]}"
#define FILTER(src, dst, sport, dport, protocol, flags, single)                                \
	"{\"SourceSubnets\":[" src "],\"DestinationSubnets\":[" dst "],\"SourcePort\":[" sport \
	"],\"DestinationPort\":[" dport "],\"Protocol\":[" protocol "],\"TcpFlags\":" flags    \
	",\"CaptureSingleDirectionTrafficOnly\":" single "}"
#define ANY_FILTER FILTER("", "", "", "", "", "0", "false")
#define IN_FILTER(more)                                                                            \
	"{\"SourceSubnets\":[],\"DestinationSubnets\":[],\"SourcePort\":[],\"DestinationPort\":[]" \
	","                                                                                        \
	"\"Protocol\":[],\"TcpFlags\":0,\"CaptureSingleDirectionTrafficOnly\":false," more "}"
#define DEFAULTS TOP("11", "120", "100", "")

#define MISSING_FILTERS_ONLY                                                             \
	"/TracingFlags: missing; the default 11 captures ESP, IKE and OVPN\n"            \
	"/MaxPacketBufferSize: missing; the default 120 bytes of each packet are kept\n" \
	"/MaxFileSize: missing; the default is 100 MB\n"
#define MISSING_TOP \
	MISSING_FILTERS_ONLY "/Filters: missing; the default [] records outer packets only\n"
#define UNFILTERED                                                                               \
	"/TracingFlags: filters test inner packets: with bit 8 set, all outer OVPN packets are " \
	"recorded, whatever they carry\n"

struct row {
	unsigned number;
	const char *text;
	const char *normal; // NULL: refused
	const char *reply;  // all faults, or all warnings when accepted
};

#define SUM "it is the sum of 1 (ESP), 2 (IKE) and 8 (OVPN)\n"
#define ADDRESS                                                                                 \
	"must be an IPv4 or IPv6 address, or one with a prefix length, such as 10.1.0.0/24 or " \
	"2001:db8::/32\n"
#define SUBNETS(list)	  TOP("3", "120", "100", FILTER(list, "", "", "", "", "0", "false"))
#define WITH_FLAGS(flags) TOP(flags, "120", "100", "")
#define WITH_TCP(flags)	  TOP("3", "120", "100", FILTER("", "", "", "", "", flags, "false"))

static const struct row rows[] = {
	/* Nothing, and nearly nothing. */
	{1, "", DEFAULTS, ""},
	{2, " \t\r\n", DEFAULTS, ""},
	{3, "{}", DEFAULTS, MISSING_TOP},
	{4, DEFAULTS, DEFAULTS, ""},
	{5, "[]", NULL, "an array: must be an object, such as {\"TracingFlags\": 11}\n"},
	{6, "null", NULL, "null: must be an object, such as {\"TracingFlags\": 11}\n"},
	{7, "11", NULL, "11: must be an object, such as {\"TracingFlags\": 11}\n"},
	{8, "\"x\"", NULL, "\"x\": must be an object, such as {\"TracingFlags\": 11}\n"},
	{9, "\" {\\\"TracingFlags\\\":11}\"", NULL,
	 "the document is a string that holds an object: it was encoded twice; give the object "
	 "itself, without the quotes around it\n"},
	/* TracingFlags. */
	{20, WITH_FLAGS("1"), WITH_FLAGS("1"), ""},
	{21, WITH_FLAGS("2"), WITH_FLAGS("2"), ""},
	{22, WITH_FLAGS("8"), WITH_FLAGS("8"), ""},
	{23, WITH_FLAGS("9"), WITH_FLAGS("9"), ""},
	{24, WITH_FLAGS("15"), WITH_FLAGS("11"),
	 "/TracingFlags: 15: bit 4 is documented nowhere and ignored\n"},
	{25, WITH_FLAGS("5"), WITH_FLAGS("1"),
	 "/TracingFlags: 5: bit 4 is documented nowhere and ignored\n"},
	{26, WITH_FLAGS("4"), NULL,
	 "/TracingFlags: 4: bit 4 is ignored and no other is set, so this would capture "
	 "nothing; " SUM},
	{27, WITH_FLAGS("0"), NULL, "/TracingFlags: 0: would capture nothing; " SUM},
	{28, WITH_FLAGS("16"), NULL, "/TracingFlags: 16: bit 16 is not known; " SUM},
	{29, WITH_FLAGS("59"), NULL, "/TracingFlags: 59: bits 16, 32 are not known; " SUM},
	{30, WITH_FLAGS("4294967295"), NULL,
	 "/TracingFlags: 4294967295: bits 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, "
	 "16384, "
	 "32768, 65536, 131072, 262144, 524288, 1048576, 2097152, 4194304, 8388608, 16777216, "
	 "33554432, 67108864, 134217728, 268435456, 536870912, 1073741824, 2147483648 are not "
	 "known; " SUM},
	{31, WITH_FLAGS("-1"), NULL, "/TracingFlags: -1: must be a positive integer; " SUM},
	{32, WITH_FLAGS("1e300"), NULL, "/TracingFlags: 1e+300: must be a positive integer; " SUM},
	{33, WITH_FLAGS("11.0"), WITH_FLAGS("11"), ""},
	{34, WITH_FLAGS("1.1e1"), WITH_FLAGS("11"), ""},
	{35, WITH_FLAGS("11.5"), NULL, "/TracingFlags: 11.5: must be a positive integer; " SUM},
	{36, WITH_FLAGS("\"11\""), NULL, "/TracingFlags: \"11\": must be a positive integer; " SUM},
	{37, WITH_FLAGS("null"), NULL, "/TracingFlags: null: must be a positive integer; " SUM},
	{38, WITH_FLAGS("true"), NULL, "/TracingFlags: true: must be a positive integer; " SUM},
	{39, WITH_FLAGS("[11]"), NULL, "/TracingFlags: an array: must be a positive integer; " SUM},
	/* Sizes. */
	{50, TOP("11", "1", "1", ""), TOP("11", "1", "1", ""), ""},
	{51, TOP("11", "65535", "500", ""), TOP("11", "65535", "500", ""), ""},
	{52, TOP("11", "0", "0", ""), NULL,
	 "/MaxPacketBufferSize: 0: must be an integer, 1 to 65535\n"
	 "/MaxFileSize: 0: must be an integer, 1 to 500\n"},
	{53, TOP("11", "65536", "501", ""), NULL,
	 "/MaxPacketBufferSize: 65536: must be an integer, 1 to 65535\n"
	 "/MaxFileSize: 501: must be an integer, 1 to 500\n"},
	{54, TOP("11", "-1", "-1", ""), NULL,
	 "/MaxPacketBufferSize: -1: must be an integer, 1 to 65535\n"
	 "/MaxFileSize: -1: must be an integer, 1 to 500\n"},
	{55, TOP("11", "120.5", "\"100\"", ""), NULL,
	 "/MaxPacketBufferSize: 120.5: must be an integer, 1 to 65535\n"
	 "/MaxFileSize: \"100\": must be an integer, 1 to 500\n"},
	/* Filters. */
	{60, TOP("3", "120", "100", ANY_FILTER), TOP("3", "120", "100", ANY_FILTER), ""},
	{61, TOP("11", "120", "100", ANY_FILTER), TOP("11", "120", "100", ANY_FILTER), UNFILTERED},
	{62, TOP("3", "120", "100", "{}"), TOP("3", "120", "100", ANY_FILTER),
	 "/Filters/0/SourceSubnets: missing; the default [] matches any source\n"
	 "/Filters/0/DestinationSubnets: missing; the default [] matches any destination\n"
	 "/Filters/0/SourcePort: missing; the default [] matches any source port\n"
	 "/Filters/0/DestinationPort: missing; the default [] matches any destination port\n"
	 "/Filters/0/Protocol: missing; the default [] matches any protocol\n"
	 "/Filters/0/TcpFlags: missing; the default 0 tests no flag\n"
	 "/Filters/0/CaptureSingleDirectionTrafficOnly: missing; the default false records both "
	 "directions, inner and outer\n"},
	{63, TOP("3", "120", "100", ANY_FILTER "," ANY_FILTER), NULL,
	 "/Filters: 2 filters; this appliance allows 1 (its setting "
	 "captures.max_filters_per_capture)\n"},
	{64, "{\"Filters\":{}}", NULL, "/Filters: an object: must be an array of filters\n"},
	{65, "{\"Filters\":null}", NULL, "/Filters: null: must be an array of filters\n"},
	{66, "{\"Filters\":[null]}", NULL,
	 "/Filters/0: null: must be an object; {} matches any packet\n"},
	/* Subnets. */
	{80, SUBNETS("\"10.1.0.0/24\",\"10.1.0.4\",\"0.0.0.0/0\""),
	 SUBNETS("\"10.1.0.0/24\",\"10.1.0.4/32\",\"0.0.0.0/0\""), ""},
	{81, SUBNETS("\"2001:DB8::/32\",\"::1\",\"::/0\",\"::ffff:10.0.0.1\""),
	 SUBNETS("\"2001:db8::/32\",\"::1/128\",\"::/0\",\"::ffff:10.0.0.1/128\""), ""},
	{82, SUBNETS("\"10.1.0.5/24\",\"2001:db8:8000::1/33\""),
	 SUBNETS("\"10.1.0.0/24\",\"2001:db8:8000::/33\""),
	 "/Filters/0/SourceSubnets/0: \"10.1.0.5/24\": host bits are set; 10.1.0.0/24 is used\n"
	 "/Filters/0/SourceSubnets/1: \"2001:db8:8000::1/33\": host bits are set; "
	 "2001:db8:8000::/33 is used\n"},
	{83, SUBNETS("\"10.0.0.0/8\",\"10.1.0.0/16\",\"10.1.0.0/33\""), NULL,
	 "/Filters/0/SourceSubnets/2: \"10.1.0.0/33\": prefix length is 0-32\n"},
	{84, SUBNETS("\"::/129\""), NULL,
	 "/Filters/0/SourceSubnets/0: \"::/129\": prefix length is 0-128\n"},
	{85,
	 SUBNETS("\"10.0.0.0/\",\"10.0.0.0/08\",\"10.0.0.0/-1\",\"10.0.0.0/ 8\",\"10.0.0.0/8/8\","
		 "\"10.0.0.0/255.0.0.0\",\"10.0.0.0/4294967304\""),
	 NULL,
	 "/Filters/0/SourceSubnets/0: \"10.0.0.0/\": prefix length is 0-32\n"
	 "/Filters/0/SourceSubnets/1: \"10.0.0.0/08\": prefix length is 0-32\n"
	 "/Filters/0/SourceSubnets/2: \"10.0.0.0/-1\": prefix length is 0-32\n"
	 "/Filters/0/SourceSubnets/3: \"10.0.0.0/ 8\": prefix length is 0-32\n"
	 "/Filters/0/SourceSubnets/4: \"10.0.0.0/8/8\": prefix length is 0-32\n"
	 "/Filters/0/SourceSubnets/5: \"10.0.0.0/255.0.0.0\": prefix length is 0-32\n"
	 "/Filters/0/SourceSubnets/6: \"10.0.0.0/4294967304\": prefix length is 0-32\n"},
	{86, SUBNETS("\"\",\"10.1\",\"010.1.0.0\",\" 10.1.0.0\",\"fe80::1%eth0\",\"host\",\"*\""),
	 NULL,
	 "/Filters/0/SourceSubnets/0: \"\": " ADDRESS
	 "/Filters/0/SourceSubnets/1: \"10.1\": " ADDRESS
	 "/Filters/0/SourceSubnets/2: \"010.1.0.0\": " ADDRESS
	 "/Filters/0/SourceSubnets/3: \" 10.1.0.0\": " ADDRESS
	 "/Filters/0/SourceSubnets/4: \"fe80::1%eth0\": " ADDRESS
	 "/Filters/0/SourceSubnets/5: \"host\": " ADDRESS
	 "/Filters/0/SourceSubnets/6: \"*\": " ADDRESS},
	{87, SUBNETS("10,null"), NULL,
	 "/Filters/0/SourceSubnets/0: 10: must be a string, such as \"10.1.0.0/24\"\n"
	 "/Filters/0/SourceSubnets/1: null: must be a string, such as \"10.1.0.0/24\"\n"},
	{88, "{\"Filters\":[{\"DestinationSubnets\":\"10.1.0.0/24\"}]}", NULL,
	 "/Filters/0/DestinationSubnets: \"10.1.0.0/24\": must be an array, such as "
	 "[\"10.1.0.0/24\"]\n"},
	{89, SUBNETS("\"10.1.0.0/24\",\"10.1.0.0/24\""), SUBNETS("\"10.1.0.0/24\",\"10.1.0.0/24\""),
	 ""}, // duplicates are fine
	{90, SUBNETS("\"1\\u001b[2J\\\"\""), NULL,
	 "/Filters/0/SourceSubnets/0: \"1\\u001b[2J\\\"\": " ADDRESS}, // nothing raw is shown
	/* Ports and protocols. */
	{100, TOP("3", "120", "100", FILTER("", "", "0,65535", "443.0", "0,255", "0", "true")),
	 TOP("3", "120", "100", FILTER("", "", "0,65535", "443", "0,255", "0", "true")), ""},
	{101,
	 TOP("3", "120", "100", FILTER("", "", "-1,65536", "\"443\"", "256,-1,6.5", "0", "true")),
	 NULL,
	 "/Filters/0/SourcePort/0: -1: must be an integer, 0 to 65535\n"
	 "/Filters/0/SourcePort/1: 65536: must be an integer, 0 to 65535\n"
	 "/Filters/0/DestinationPort/0: \"443\": must be an integer, 0 to 65535\n"
	 "/Filters/0/Protocol/0: 256: must be an integer, 0 to 255\n"
	 "/Filters/0/Protocol/1: -1: must be an integer, 0 to 255\n"
	 "/Filters/0/Protocol/2: 6.5: must be an integer, 0 to 255\n"},
	{102, "{\"Filters\":[{\"SourcePort\":443,\"DestinationPort\":null,\"Protocol\":6}]}", NULL,
	 "/Filters/0/SourcePort: 443: must be an array, such as [443]\n"
	 "/Filters/0/DestinationPort: null: must be an array, such as [443]\n"
	 "/Filters/0/Protocol: 6: must be an array, such as [6]\n"},
	/* TcpFlags. */
	{110, WITH_TCP("255"), WITH_TCP("255"), ""},
	{111, WITH_TCP("-1"), WITH_TCP("0"), ""},
	{112, WITH_TCP("-1.0"), WITH_TCP("0"), ""},
	{113, WITH_TCP("9"), WITH_TCP("9"), ""},
	{114, WITH_TCP("256"), NULL, "/Filters/0/TcpFlags: 256: must be an integer, -1 to 255\n"},
	{115, WITH_TCP("-2"), NULL, "/Filters/0/TcpFlags: -2: must be an integer, -1 to 255\n"},
	{116, WITH_TCP("[16]"), NULL,
	 "/Filters/0/TcpFlags: an array: must be an integer, -1 to 255\n"},
	{117, WITH_TCP("0.5"), NULL, "/Filters/0/TcpFlags: 0.5: must be an integer, -1 to 255\n"},
	/* CaptureSingleDirectionTrafficOnly. */
	{120, TOP("3", "120", "100", FILTER("", "", "", "", "", "0", "true")),
	 TOP("3", "120", "100", FILTER("", "", "", "", "", "0", "true")), ""},
	{121, TOP("3", "120", "100", FILTER("", "", "", "", "", "0", "1")), NULL,
	 "/Filters/0/CaptureSingleDirectionTrafficOnly: 1: must be true or false\n"},
	{122, TOP("3", "120", "100", FILTER("", "", "", "", "", "0", "\"true\"")), NULL,
	 "/Filters/0/CaptureSingleDirectionTrafficOnly: \"true\": must be true or false\n"},
	/* Properties that Azure does not document, and ones that nobody knows. */
	{130,
	 TOP("3", "120", "100", IN_FILTER("\"IpSubnetValueAsAny\":true,\"PortValueAsAny\":true")),
	 TOP("3", "120", "100", ANY_FILTER), ""},
	{131,
	 TOP("3", "120", "100",
	     "{\"SourceSubnets\":[],\"DestinationSubnets\":[\"10.0.0.1\"],\"SourcePort\":[1],"
	     "\"DestinationPort\":[],\"Protocol\":[],\"TcpFlags\":-1,"
	     "\"CaptureSingleDirectionTrafficOnly\":true,\"IpSubnetValueAsAny\":true,"
	     "\"PortValueAsAny\":true}"),
	 TOP("3", "120", "100", FILTER("", "\"10.0.0.1/32\"", "1", "", "", "0", "true")),
	 "/Filters/0/IpSubnetValueAsAny: ignored; the lists of this filter decide\n"
	 "/Filters/0/PortValueAsAny: ignored; the lists of this filter decide\n"},
	{132,
	 TOP("3", "120", "100",
	     "{\"SourceSubnets\":[\"10.0.0.1\"],\"DestinationSubnets\":[],\"SourcePort\":[],"
	     "\"DestinationPort\":[1],\"Protocol\":[],\"TcpFlags\":-1,"
	     "\"CaptureSingleDirectionTrafficOnly\":true,\"IpSubnetValueAsAny\":false,"
	     "\"PortValueAsAny\":false}"),
	 TOP("3", "120", "100", FILTER("\"10.0.0.1/32\"", "", "", "1", "", "0", "true")), ""},
	{133, TOP("3", "120", "100", IN_FILTER("\"PortValueAsAny\":\"yes\"")),
	 TOP("3", "120", "100", ANY_FILTER),
	 "/Filters/0/PortValueAsAny: \"yes\": ignored; it is true or false in Azure's examples\n"},
	{134,
	 "{\"tracingflags\":99,\"MaxPacketBufferSize\":120,\"MaxFileSize\":100,\"Filters\":[]}",
	 DEFAULTS,
	 "/tracingflags: unknown property, ignored; the nearest known one is TracingFlags\n"
	 "/TracingFlags: missing; the default 11 captures ESP, IKE and OVPN\n"},
	{135,
	 TOP("3", "120", "100", IN_FILTER("\"SourcePorts\":[1],\"a/b~TcpFlags\":{\"Deep\":[1]}")),
	 TOP("3", "120", "100", ANY_FILTER),
	 "/Filters/0/SourcePorts: unknown property, ignored; the nearest known one is SourcePort\n"
	 "/Filters/0/a~1b~0TcpFlags: unknown property, ignored; the nearest known one is "
	 "TcpFlags\n"},
	/* All faults in one reply, in the document's order; the scan's fault comes alone. */
	{140,
	 "{\"TracingFlags\":0,\"MaxFileSize\":900,\"Filters\":[{\"Protocol\":[300],\"TcpFlags\":"
	 "999},"
	 "{\"SourceSubnets\":[\"x\"]}]}",
	 NULL,
	 "/TracingFlags: 0: would capture nothing; " SUM
	 "/MaxFileSize: 900: must be an integer, 1 to 500\n"
	 "/Filters: 2 filters; this appliance allows 1 (its setting "
	 "captures.max_filters_per_capture)\n"
	 "/Filters/0/Protocol/0: 300: must be an integer, 0 to 255\n"
	 "/Filters/0/TcpFlags: 999: must be an integer, -1 to 255\n"
	 "/Filters/1/SourceSubnets/0: \"x\": " ADDRESS},
	{141, "{\"TracingFlags\":0,\"TracingFlags\":1}", NULL,
	 "/TracingFlags: line 1, column 19: this key is in its object twice; keep one of them\n"},
	{142, "{\"TracingFlags\":011}", NULL,
	 "/TracingFlags: line 1, column 17: a number starts with 0 only if it is 0 or 0.x\n"},
	{143, "{} {}", NULL,
	 "line 1, column 4: the document ends before this; remove what follows\n"},
};

/* Parse exactly the bytes given.  Gives the normalised text, or NULL; and the reply. */
static char *parse(const char *text, size_t len, const struct filter_data_rules *rules,
		   char **reply)
{
	struct filter_data data, untouched;
	struct faults faults = {0}, warnings = {0};
	char *copy = malloc(len > 0 ? len : 1), *normal = NULL;

	assert_non_null(copy);
	memcpy(copy, text, len);
	memset(&data, 0x5a, sizeof(data));
	untouched = data;
	if (filter_data_parse(copy, len, rules, &data, &faults, &warnings) == 0) {
		assert_int_equal(faults.n + faults.n_omitted, 0);
		normal = filter_data_json(&data);
		assert_non_null(normal);
		*reply = faults_text(&warnings);
		filter_data_fini(&data);
	} else {
		assert_true(faults.n > 0);
		assert_memory_equal(&data, &untouched, sizeof(data));
		*reply = faults_text(&faults);
	}
	faults_fini(&faults);
	faults_fini(&warnings);
	free(copy);
	return normal;
}

static void expect(unsigned number, const char *text, const struct filter_data_rules *rules,
		   const char *normal, const char *reply)
{
	char *got_reply, *got = parse(text, strlen(text), rules, &got_reply);

	if ((got == NULL) != (normal == NULL) || (got != NULL && strcmp(got, normal) != 0))
		fail_msg("row %u: became %s; %s", number, got != NULL ? got : "(refused)",
			 got_reply);
	if (strcmp(got_reply, reply) != 0)
		fail_msg("row %u: said %s", number, got_reply);
	free(got);
	free(got_reply);
}

static void the_truth_table_holds(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		expect(rows[i].number, rows[i].text, &one_filter, rows[i].normal, rows[i].reply);
}

static void a_normalised_document_is_its_own_normal_form(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].normal != NULL)
			expect(rows[i].number, rows[i].normal, &one_filter, rows[i].normal,
			       strstr(rows[i].reply, UNFILTERED) != NULL ? UNFILTERED : "");
}

static void no_text_at_all_means_all_defaults(void **state)
{
	struct filter_data data;
	struct faults faults = {0}, warnings = {0};

	(void)state;
	assert_int_equal(filter_data_parse(NULL, 0, &one_filter, &data, &faults, &warnings), 0);
	assert_int_equal(data.tracing_flags, TRACE_ESP | TRACE_IKE | TRACE_OVPN);
	assert_int_equal(data.snap_bytes, 120);
	assert_int_equal(data.file_mb, 100);
	assert_int_equal(data.n_filters, 0);
	assert_int_equal(warnings.n, 0);
	filter_data_fini(&data);
}

/* The page of the reference: its example, and the example of its schema (without an order). */
static void the_example_of_the_reference_is_read_as_written(void **state)
{
	static const char text[] =
		"{\n  \"TracingFlags\": 11,\n  \"MaxPacketBufferSize\": 120,\n  \"MaxFileSize\": "
		"200,\n  \"Filters\": [\n    {\n      \"SourceSubnets\": [\n        "
		"\"10.1.0.0/24\"\n      ],\n      \"DestinationSubnets\": [\n        "
		"\"10.1.1.0/24\"\n      ],\n      \"SourcePort\": [\n        500\n      ],\n      "
		"\"DestinationPort\": [\n        4500\n      ],\n      \"Protocol\": [\n        "
		"6\n      ],\n      \"TcpFlags\": 16,\n      "
		"\"CaptureSingleDirectionTrafficOnly\": true\n    }\n  ]\n}\n";

	(void)state;
	expect(1, text, &one_filter,
	       TOP("11", "120", "200",
		   FILTER("\"10.1.0.0/24\"", "\"10.1.1.0/24\"", "500", "4500", "6", "16", "true")),
	       UNFILTERED);
}

static void the_fields_of_the_example_reach_the_struct(void **state)
{
	static const char text[] =
		TOP("11", "120", "200",
		    FILTER("\"10.1.0.0/24\",\"2001:db8::/32\"", "\"10.1.1.0/24\"", "500", "4500,1",
			   "6", "16", "true"));
	static const uint8_t v4[16] = {10, 1, 0, 0}, v6[16] = {0x20, 1, 0xd, 0xb8};
	struct faults faults = {0}, warnings = {0};
	struct filter_data data;
	const struct filter *f = &data.filters[0];

	(void)state;
	assert_int_equal(
		filter_data_parse(text, strlen(text), &one_filter, &data, &faults, &warnings), 0);
	assert_int_equal(data.n_filters, 1);
	assert_int_equal(data.file_mb, 200);
	assert_int_equal(f->n_src, 2);
	assert_int_equal(f->src[0].family, 4);
	assert_int_equal(f->src[0].prefix_len, 24);
	assert_memory_equal(f->src[0].addr, v4, 16);
	assert_int_equal(f->src[1].family, 6);
	assert_int_equal(f->src[1].prefix_len, 32);
	assert_memory_equal(f->src[1].addr, v6, 16);
	assert_int_equal(f->n_dst, 1);
	assert_int_equal(f->n_src_port, 1);
	assert_int_equal(f->src_port[0], 500);
	assert_int_equal(f->n_dst_port, 2);
	assert_int_equal(f->dst_port[0], 4500);
	assert_int_equal(f->n_protocol, 1);
	assert_int_equal(f->protocol[0], 6);
	assert_int_equal(f->tcp_flags, 16);
	assert_true(f->single_direction);
	assert_false(filter_tests_nothing(f));
	faults_fini(&warnings);
	filter_data_fini(&data);
}

/* Verbatim from Azure's PowerShell and vWAN pages. */
static void the_examples_of_azures_clients_are_accepted(void **state)
{
	static const struct {
		const char *text, *normal;
	} examples[] = {
		{"{\"TracingFlags\":11,\"MaxPacketBufferSize\":120,\"MaxFileSize\":500,\"Filters\":"
		 "[{"
		 "\"SourceSubnets\":[\"10.19.0.4/32\",\"10.20.0.4/"
		 "32\"],\"DestinationSubnets\":[\"10."
		 "20.0.4/32\",\"10.19.0.4/32\"],\"TcpFlags\":-1,\"Protocol\":[6],"
		 "\"CaptureSingleDirectionTrafficOnly\":true}]}",
		 TOP("11", "120", "500",
		     FILTER("\"10.19.0.4/32\",\"10.20.0.4/32\"",
			    "\"10.20.0.4/32\",\"10.19.0.4/32\"", "", "", "6", "0", "true"))},
		{"{\"TracingFlags\": 11,\"MaxPacketBufferSize\": 120,\"MaxFileSize\": "
		 "500,\"Filters\" "
		 ":[{\"CaptureSingleDirectionTrafficOnly\": false}]}",
		 TOP("11", "120", "500", ANY_FILTER)},
		{"{\"Filters\":[{\"DestinationSubnets\":[\"10.1.0.0/16\"]}]}",
		 TOP("11", "120", "100", FILTER("", "\"10.1.0.0/16\"", "", "", "", "0", "false"))},
		{"{\"TracingFlags\":11,\"Filters\":[{\"SourceSubnets\":[\"10.1.0.4/32\"],"
		 "\"IpSubnetValueAsAny\":true,\"TcpFlags\":-1,\"PortValueAsAny\":true}]}",
		 TOP("11", "120", "100", FILTER("\"10.1.0.4/32\"", "", "", "", "", "0", "false"))},
		{"{\"TracingFlags\":9,\"Filters\":[{\"TcpFlags\":9}]}",
		 TOP("9", "120", "100", FILTER("", "", "", "", "", "9", "false"))},
		{"{\"TracingFlags\":15,\"MaxPacketBufferSize\":1500}",
		 TOP("11", "1500", "100", "")},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
		char *reply, *normal = parse(examples[i].text, strlen(examples[i].text),
					     &one_filter, &reply);

		if (normal == NULL || strcmp(normal, examples[i].normal) != 0)
			fail_msg("example %zu: %s %s", i, normal != NULL ? normal : "", reply);
		free(normal);
		free(reply);
	}
}

static void the_vwan_routes_default_to_one_direction(void **state)
{
	char *reply, *normal = parse("{\"TracingFlags\":3,\"Filters\":[{}]}", 33, &vwan, &reply);

	(void)state;
	assert_non_null(strstr(normal, "\"CaptureSingleDirectionTrafficOnly\":true"));
	assert_non_null(strstr(reply, "the default true of the vWAN routes"));
	free(normal);
	free(reply);
}

static void three_filters_are_taken_where_the_setting_allows_them(void **state)
{
	(void)state;
	expect(1, TOP("3", "120", "100", ANY_FILTER "," ANY_FILTER "," ANY_FILTER), &three_filters,
	       TOP("3", "120", "100", ANY_FILTER "," ANY_FILTER "," ANY_FILTER), "");
	expect(2, TOP("3", "120", "100", ANY_FILTER "," ANY_FILTER "," ANY_FILTER "," ANY_FILTER),
	       &three_filters, NULL,
	       "/Filters: 4 filters; this appliance allows 3 (its setting "
	       "captures.max_filters_per_capture)\n");
}

static void a_filter_tests_nothing_only_if_every_part_is_empty(void **state)
{
	struct filter f = {.single_direction = true};
	unsigned *const counts[] = {&f.n_src, &f.n_dst, &f.n_src_port, &f.n_dst_port,
				    &f.n_protocol};

	(void)state;
	assert_true(filter_tests_nothing(&f));
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		*counts[i] = 1;
		assert_false(filter_tests_nothing(&f));
		*counts[i] = 0;
	}
	f.tcp_flags = 1;
	assert_false(filter_tests_nothing(&f));
}

static void a_thousand_faults_are_counted_and_two_hundred_listed(void **state)
{
	struct faults faults = {0}, warnings = {0};
	struct filter_data data;
	char text[8192] = "{\"Filters\":[{\"SourcePort\":[-1";

	(void)state;
	for (unsigned i = 1; i < 1000; i++)
		strcat(text, ",-1");
	strcat(text, "]}]}");
	assert_true(filter_data_parse(text, strlen(text), &one_filter, &data, &faults, &warnings) <
		    0);
	assert_int_equal(faults.n, FAULTS_LISTED_MAX);
	assert_int_equal(faults.n_omitted, 1000 - FAULTS_LISTED_MAX);
	faults_fini(&faults);
	faults_fini(&warnings);
}

static void a_document_over_one_mebibyte_is_refused(void **state)
{
	char *text = malloc(FILTER_DATA_BYTES_MAX + 1), *reply;

	(void)state;
	assert_non_null(text);
	memset(text, ' ', FILTER_DATA_BYTES_MAX + 1);
	memcpy(text, "{}", 2);
	free(parse(text, FILTER_DATA_BYTES_MAX, &one_filter, &reply));
	assert_string_equal(reply, MISSING_TOP);
	free(reply);
	assert_null(parse(text, FILTER_DATA_BYTES_MAX + 1, &one_filter, &reply));
	assert_string_equal(reply,
			    "the document has 1048577 bytes; at most 1048576 are accepted\n");
	free(reply);
	free(text);
}

static const char rich[] = TOP(
	"11", "1.2e2", "200",
	IN_FILTER("\"IpSubnetValueAsAny\":true,\"k\\u00e9\\ud83d\\ude00\":[null,-0.5]") "," FILTER(
		"\"10.1.0.0/24\",\"2001:db8::1\"", "\"10.1.1.7/24\"", "500", "4500", "6", "-1",
		"true"));

/* What a hostile client can send by changing one byte: an answer, never a crash. */
static void a_byte_deleted_anywhere_gets_an_answer(void **state)
{
	char text[sizeof(rich)];

	(void)state;
	for (size_t i = 0; i < sizeof(rich) - 1; i++) {
		char *reply, *normal;

		memcpy(text, rich, i);
		memcpy(text + i, rich + i + 1, sizeof(rich) - i - 1);
		normal = parse(text, sizeof(rich) - 2, &three_filters, &reply);
		assert_true(normal != NULL || reply[0] != '\0');
		free(normal);
		free(reply);
	}
}

static void a_byte_changed_anywhere_gets_an_answer(void **state)
{
	char text[sizeof(rich)];

	(void)state;
	memcpy(text, rich, sizeof(rich));
	for (size_t i = 0; i < sizeof(rich) - 1; i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			char *reply, *normal;

			text[i] = (char)(rich[i] ^ (1 << bit));
			normal = parse(text, sizeof(rich) - 1, &three_filters, &reply);
			assert_true(normal != NULL || reply[0] != '\0');
			free(normal);
			free(reply);
		}
		text[i] = rich[i];
	}
}

static void a_document_cut_anywhere_is_refused(void **state)
{
	(void)state;
	for (size_t len = 1; len < sizeof(rich) - 1; len++) {
		char *reply;

		assert_null(parse(rich, len, &three_filters, &reply));
		free(reply);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_truth_table_holds),
		cmocka_unit_test(a_normalised_document_is_its_own_normal_form),
		cmocka_unit_test(no_text_at_all_means_all_defaults),
		cmocka_unit_test(the_example_of_the_reference_is_read_as_written),
		cmocka_unit_test(the_fields_of_the_example_reach_the_struct),
		cmocka_unit_test(the_examples_of_azures_clients_are_accepted),
		cmocka_unit_test(the_vwan_routes_default_to_one_direction),
		cmocka_unit_test(three_filters_are_taken_where_the_setting_allows_them),
		cmocka_unit_test(a_filter_tests_nothing_only_if_every_part_is_empty),
		cmocka_unit_test(a_thousand_faults_are_counted_and_two_hundred_listed),
		cmocka_unit_test(a_document_over_one_mebibyte_is_refused),
		cmocka_unit_test(a_byte_deleted_anywhere_gets_an_answer),
		cmocka_unit_test(a_byte_changed_anywhere_gets_an_answer),
		cmocka_unit_test(a_document_cut_anywhere_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
