/* test_matcher.c - the tables beside the rules read one after another, and the traps by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka wants the above first
#include <arpa/inet.h>
#include <cmocka.h>

#include "control/set_build.h"
#include "filters/matcher.h"
#include "tests/dice.h"
#include "tests/random_set.h"
#include "tests/slow_matcher.h"

enum { SETS = 220, PACKETS_A_SET = 250, FIN = 1, SYN = 2, RST = 4, ACK = 16, TCP = 6, UDP = 17 };

/* set_build -> filter_set_check -> matcher_open, as the two processes do it. */
static struct matcher *compile(const struct set_source *source)
{
	struct filter_set set;
	struct error err = {0};
	struct matcher *m;
	size_t bytes;
	void *mem = set_build(source, &bytes);

	assert_non_null(mem);
	if (filter_set_check(mem, bytes, &set, &err) != 0)
		fail_msg("%s", err.text);
	m = matcher_open(&set, &err);
	assert_non_null(m);
	memset(mem, 0xee, bytes); // "Borrows nothing"
	free(mem);
	return m;
}

/* As inner.c makes it of a frame; false: this key is of no plain packet. */
static bool put_lane(struct match_lanes *lanes, unsigned i, const struct match_key *key)
{
	uint16_t ports[2] = {htons(key->sport), htons(key->dport)};

	if (key->family != 4 || (key->protocol == TCP && !(key->has_ports && key->has_tcp_flags)))
		return false;
	memcpy((uint8_t *)&lanes->src + 4 * i, key->src, 4);
	memcpy((uint8_t *)&lanes->dst + 4 * i, key->dst, 4);
	memcpy((uint8_t *)&lanes->ports + 4 * i, ports, 4);
	lanes->kind[i] = key->protocol;
	if (key->protocol == TCP)
		lanes->kind[i] = MATCH_KIND_TCP + key->tcp_flags;
	else
		lanes->kind[i] += key->has_ports ? MATCH_KIND_PORTS : MATCH_KIND_NO_PORTS;
	return true;
}

/* Eight keys at a time, as they come. */
static void compare_lanes(const struct matcher *m, const struct random_set *set, struct dice *d)
{
	struct random_key keys[LANES];
	struct match_lanes lanes;
	v8 masks;

	for (unsigned i = 0; i < LANES;) {
		random_key_throw(set, d, &keys[i]);
		i += put_lane(&lanes, i, &keys[i].key);
	}
	masks = match_plain(m, &lanes);
	for (unsigned i = 0; i < LANES; i++)
		assert_int_equal((uint32_t)masks[i], slow_inner(&set->source, &keys[i].key));
}

static void compare_one(const struct matcher *m, const struct set_source *source,
			const struct match_key *key)
{
	static const unsigned traces[] = {TRACE_ESP, TRACE_IKE, TRACE_OVPN};

	assert_int_equal(match_inner(m, key), slow_inner(source, key));
	assert_int_equal(match_inner_no_first(m, key), slow_inner_no_first(source, key));
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(match_outer(m, traces[i], key),
				 slow_outer(source, traces[i], key));
}

static void random_sets_match_as_the_rules_say(void **state)
{
	struct dice d = dice_open("random_sets_match_as_the_rules_say");
	struct random_set *set = random_set_open();
	unsigned n_inner = 0, n_outer = 0, n = 0;

	(void)state;
	for (unsigned i = 0; i < SETS; i++) {
		struct matcher *m;

		random_set_throw(set, &d);
		m = compile(&set->source);
		for (unsigned j = 0; j < PACKETS_A_SET; j++, n++) {
			struct random_key k;

			random_key_throw(set, &d, &k);
			compare_one(m, &set->source, &k.key);
			n_inner += match_inner(m, &k.key) != 0;
			n_outer += match_outer(m, TRACE_IKE, &k.key) != 0;
		}
		for (unsigned j = 0; j < PACKETS_A_SET / LANES; j++)
			compare_lanes(m, set, &d);
		matcher_close(m);
	}
	random_set_close(set);
	// A test in which nothing matches, or all does, would prove nothing.
	assert_in_range(n_inner, n / 50, n / 2);
	assert_in_range(n_outer, n / 20, n - n / 20);
}

static void slots_and_snaps_come_through(void **state)
{
	struct dice d = dice_open("slots_and_snaps_come_through");
	struct random_set *set = random_set_open();

	(void)state;
	for (unsigned i = 0; i < SETS; i++) {
		uint8_t slots = 0, new_slots = 0;
		uint32_t snaps[CAPTURES_MAX] = {0}, n_endpoints;
		const struct set_endpoint *endpoints;
		struct matcher *m;

		random_set_throw(set, &d);
		m = compile(&set->source);
		for (unsigned k = 0; k < set->source.n_captures; k++) {
			const struct set_source_capture *c = &set->captures[k];

			slots |= (uint8_t)(1U << c->slot);
			new_slots |= (uint8_t)(c->is_new << c->slot);
			snaps[c->slot] = c->data->snap_bytes;
		}
		assert_int_equal(matcher_generation(m), set->source.generation);
		assert_int_equal(matcher_slots(m), slots);
		assert_int_equal(matcher_new_slots(m), new_slots);
		for (unsigned captures = 0; captures < 1 << CAPTURES_MAX; captures++) {
			uint32_t longest = 0;

			for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
				if ((captures >> slot & 1) && snaps[slot] > longest)
					longest = snaps[slot];
			assert_int_equal(matcher_snap_bytes(m, (uint8_t)captures), longest);
		}
		endpoints = matcher_endpoints(m, &n_endpoints);
		assert_int_equal(n_endpoints, set->config.gateway.n_endpoints);
		for (unsigned k = 0; k < n_endpoints; k++) {
			assert_int_equal(endpoints[k].port, set->config.gateway.endpoints[k].port);
			assert_int_equal(endpoints[k].shared,
					 set->config.gateway.endpoints[k].shared);
		}
		matcher_close(m);
	}
	random_set_close(set);
}

static void folding_keeps_each_bit_in_its_slot(void **state)
{
	struct dice d = dice_open("folding_keeps_each_bit_in_its_slot");

	(void)state;
	for (unsigned i = 0; i < MATCH_BITS; i++)
		for (unsigned j = 0; j < MATCH_BITS; j++) {
			uint32_t verdict = UINT32_C(1) << i | UINT32_C(1) << j;

			assert_int_equal(match_fold(verdict), slow_fold(verdict));
		}
	for (unsigned i = 0; i < 100000; i++) {
		uint32_t verdict =
			(uint32_t)(dice_next(&d) & dice_next(&d)) & ((1U << MATCH_BITS) - 1);

		assert_int_equal(match_fold(verdict), slow_fold(verdict));
	}
	assert_int_equal(match_fold(0), 0);
}

/* Named cases: one gateway-wide capture, its filters as JSON; packets as text. */

struct one {
	struct config config;
	struct filter_data data;
	struct set_source_capture capture;
	struct set_source source;
	struct matcher *m;
};

static void one_open(struct one *one, const char *json)
{
	struct filter_data_rules rules = {.filters_max = FILTERS_PER_CAPTURE_MAX};
	struct faults faults = {0}, warnings = {0};

	memset(one, 0, sizeof(*one));
	if (filter_data_parse(json, strlen(json), &rules, &one->data, &faults, &warnings) != 0)
		fail_msg("%s", faults_text(&faults));
	faults_fini(&warnings);
	one->capture =
		(struct set_source_capture){.connection = SET_GATEWAY_WIDE, .data = &one->data};
	one->source = (struct set_source){.config = &one->config,
					  .captures = &one->capture,
					  .n_captures = 1,
					  .generation = 1};
	one->m = compile(&one->source);
}

static void one_close(struct one *one)
{
	matcher_close(one->m);
	filter_data_fini(&one->data);
}

struct packet {
	const char *src, *dst;
	unsigned protocol, sport, dport;
	int flags; // -1: no TCP header, or a cut one
};

static struct match_key key_of(const struct packet *p, uint8_t addrs[2][16])
{
	bool v6 = strchr(p->src, ':') != NULL;
	struct match_key key = {.src = addrs[0],
				.dst = addrs[1],
				.family = v6 ? 6 : 4,
				.protocol = (uint8_t)p->protocol,
				.has_ports = p->protocol == TCP || p->protocol == UDP,
				.has_tcp_flags = p->flags >= 0,
				.tcp_flags = (uint8_t)(p->flags >= 0 ? p->flags : 0),
				.sport = (uint16_t)p->sport,
				.dport = (uint16_t)p->dport};

	assert_int_equal(inet_pton(v6 ? AF_INET6 : AF_INET, p->src, addrs[0]), 1);
	assert_int_equal(inet_pton(v6 ? AF_INET6 : AF_INET, p->dst, addrs[1]), 1);
	return key;
}

struct expect {
	unsigned number;
	struct packet packet;
	bool wanted;
};

static void expect_all(const char *json, const struct expect *rows, size_t n)
{
	struct one one;

	one_open(&one, json);
	for (size_t i = 0; i < n; i++) {
		uint8_t addrs[2][16] = {0};
		struct match_key key = key_of(&rows[i].packet, addrs);
		bool wanted = match_fold(match_inner(one.m, &key)) != 0;

		if (wanted != rows[i].wanted)
			fail_msg("row %u of %s: %swanted", rows[i].number, json,
				 wanted ? "" : "not ");
		assert_int_equal(match_inner(one.m, &key), slow_inner(&one.source, &key));
	}
	one_close(&one);
}

#define EXPECT(json, ...)                                               \
	do {                                                            \
		static const struct expect rows[] = {__VA_ARGS__};      \
		expect_all(json, rows, sizeof(rows) / sizeof(rows[0])); \
	} while (0)

static void source_of_one_filter_never_meets_destination_of_another(void **state)
{
	(void)state;
	EXPECT("{\"Filters\":[{\"SourceSubnets\":[\"10.1.0.0/16\"],\"DestinationSubnets\":[\"10.2.0.0/16\"],"
	       "\"CaptureSingleDirectionTrafficOnly\":true},{\"SourceSubnets\":[\"10.3.0.0/16\"],"
	       "\"DestinationSubnets\":[\"10.4.0.0/16\"],\"CaptureSingleDirectionTrafficOnly\":true}]}",
	       {1, {"10.1.0.1", "10.2.0.1", UDP, 1, 2, -1}, true},
	       {2, {"10.3.0.1", "10.4.0.1", UDP, 1, 2, -1}, true},
	       {3, {"10.1.0.1", "10.4.0.1", UDP, 1, 2, -1}, false},
	       {4, {"10.3.0.1", "10.2.0.1", UDP, 1, 2, -1}, false});
}

static void one_direction_never_meets_the_other(void **state)
{
	(void)state;
	EXPECT("{\"Filters\":[{\"SourceSubnets\":[\"10.1.0.0/16\"],\"DestinationSubnets\":[\"10.2.0.0/16\"],"
	       "\"SourcePort\":[1000],\"DestinationPort\":[80]}]}",
	       {1, {"10.1.0.1", "10.2.0.1", TCP, 1000, 80, ACK}, true},
	       {2, {"10.2.0.1", "10.1.0.1", TCP, 80, 1000, ACK}, true},
	       {3, {"10.1.0.1", "10.2.0.1", TCP, 80, 1000, ACK}, false},
	       {4, {"10.2.0.1", "10.1.0.1", TCP, 1000, 80, ACK}, false},
	       {5, {"10.1.0.1", "10.1.0.2", TCP, 1000, 80, ACK}, false});
	EXPECT("{\"Filters\":[{\"SourceSubnets\":[\"10.1.0.0/16\"],\"DestinationSubnets\":[\"10.2.0.0/16\"],"
	       "\"CaptureSingleDirectionTrafficOnly\":true}]}",
	       {6, {"10.1.0.1", "10.2.0.1", TCP, 1000, 80, ACK}, true},
	       {7, {"10.2.0.1", "10.1.0.1", TCP, 80, 1000, ACK}, false});
}

static void a_v4_list_takes_no_v6_packet_and_the_other_way_round(void **state)
{
	(void)state;
	EXPECT("{\"Filters\":[{\"SourceSubnets\":[\"0.0.0.0/0\"]}]}",
	       {1, {"10.1.0.1", "10.2.0.1", UDP, 1, 2, -1}, true},
	       {2, {"2001:db8::1", "2001:db8::2", UDP, 1, 2, -1}, false});
	EXPECT("{\"Filters\":[{\"SourceSubnets\":[\"::/0\"]}]}",
	       {3, {"10.1.0.1", "10.2.0.1", UDP, 1, 2, -1}, false},
	       {4, {"2001:db8::1", "2001:db8::2", UDP, 1, 2, -1}, true});
	EXPECT("{\"Filters\":[{\"SourceSubnets\":[\"10.1.0.0/16\"],"
	       "\"DestinationSubnets\":[\"2001:db8::/32\"]}]}",
	       {5, {"10.1.0.1", "10.1.0.2", UDP, 1, 2, -1}, false},
	       {6, {"2001:db8::1", "2001:db8::2", UDP, 1, 2, -1}, false});
	EXPECT("{\"Filters\":[{\"SourceSubnets\":[\"10.1.0.0/16\",\"2001:db8::/32\"]}]}",
	       {7, {"10.1.0.1", "10.2.0.2", UDP, 1, 2, -1}, true},
	       {8, {"2001:db8::1", "2002::2", UDP, 1, 2, -1}, true},
	       {9, {"2002::1", "2002::2", UDP, 1, 2, -1}, false});
}

static void a_list_on_one_side_leaves_the_other_free(void **state)
{
	(void)state;
	EXPECT("{\"Filters\":[{\"DestinationSubnets\":[\"10.2.0.0/16\"],"
	       "\"CaptureSingleDirectionTrafficOnly\":true}]}",
	       {1, {"192.0.2.1", "10.2.0.1", UDP, 1, 2, -1}, true},
	       {2, {"10.2.0.1", "192.0.2.1", UDP, 1, 2, -1}, false});
	EXPECT("{\"Filters\":[{\"DestinationSubnets\":[\"10.2.0.0/16\"]}]}",
	       {3, {"192.0.2.1", "10.2.0.1", UDP, 1, 2, -1}, true},
	       {4, {"10.2.0.1", "192.0.2.1", UDP, 1, 2, -1}, true},
	       {5, {"192.0.2.1", "192.0.2.1", UDP, 1, 2, -1}, false});
	EXPECT("{\"Filters\":[{\"DestinationPort\":[53],\"CaptureSingleDirectionTrafficOnly\":true}]}",
	       {6, {"192.0.2.1", "10.2.0.1", UDP, 9, 53, -1}, true},
	       {7, {"192.0.2.1", "10.2.0.1", UDP, 53, 9, -1}, false},
	       {8, {"2001:db8::1", "::1", UDP, 9, 53, -1}, true});
}

static void the_example_of_the_reference_works(void **state)
{
	(void)state;
	EXPECT("{\"TracingFlags\": 11,\"MaxPacketBufferSize\": 120,\"MaxFileSize\": 200,\"Filters\": "
	       "[{\"SourceSubnets\": [\"10.1.0.0/24\"],\"DestinationSubnets\": [\"10.1.1.0/24\"],"
	       "\"SourcePort\": [500],\"DestinationPort\": [4500],\"Protocol\": [6],\"TcpFlags\": 16,"
	       "\"CaptureSingleDirectionTrafficOnly\": true}]}",
	       {1, {"10.1.0.0", "10.1.1.255", TCP, 500, 4500, ACK}, true},
	       {2, {"10.1.0.255", "10.1.1.0", TCP, 500, 4500, ACK | SYN}, true},
	       {3, {"10.1.0.5", "10.1.1.5", TCP, 500, 4500, SYN}, false},
	       {4, {"10.1.0.5", "10.1.1.5", UDP, 500, 4500, -1}, false},
	       {5, {"10.1.0.5", "10.1.1.5", TCP, 4500, 500, ACK}, false},
	       {6, {"10.1.1.5", "10.1.0.5", TCP, 4500, 500, ACK}, false},
	       {7, {"10.1.2.5", "10.1.1.5", TCP, 500, 4500, ACK}, false},
	       {8, {"10.1.0.5", "10.1.2.0", TCP, 500, 4500, ACK}, false},
	       {9, {"10.1.0.5", "10.1.1.5", TCP, 501, 4500, ACK}, false});
}

static void tcp_flags_want_one_of_them_on_a_whole_tcp_header(void **state)
{
	(void)state;
	EXPECT("{\"Filters\":[{\"TcpFlags\":6}]}", // SYN or RST
	       {1, {"10.1.0.1", "10.1.0.2", TCP, 1, 2, SYN}, true},
	       {2, {"10.1.0.1", "10.1.0.2", TCP, 1, 2, RST | ACK}, true},
	       {3, {"10.1.0.1", "10.1.0.2", TCP, 1, 2, FIN | ACK}, false},
	       {4, {"10.1.0.1", "10.1.0.2", TCP, 1, 2, 0}, false},
	       {5, {"10.1.0.1", "10.1.0.2", TCP, 1, 2, -1}, false}, // cut
	       {6, {"10.1.0.1", "10.1.0.2", UDP, 1, 2, -1}, false},
	       {7, {"10.1.0.1", "10.1.0.2", 1, 0, 0, -1}, false},
	       {8, {"2001:db8::1", "2001:db8::2", TCP, 1, 2, SYN}, true});
	EXPECT("{\"Filters\":[{\"TcpFlags\":-1}]}",
	       {9, {"10.1.0.1", "10.1.0.2", UDP, 1, 2, -1}, true},
	       {10, {"10.1.0.1", "10.1.0.2", TCP, 1, 2, -1}, true});
}

static void every_tcp_flag_is_told_from_the_others(void **state)
{
	(void)state;
	for (unsigned flag = 1; flag < 256; flag <<= 1) {
		char json[64];
		struct one one;

		(void)snprintf(json, sizeof(json), "{\"Filters\":[{\"TcpFlags\":%u}]}", flag);
		one_open(&one, json);
		for (unsigned flags = 0; flags < 256; flags++) {
			struct packet p = {"10.0.0.1", "10.0.0.2", TCP, 1, 2, (int)flags};
			uint8_t addrs[2][16];
			struct match_key key = key_of(&p, addrs);

			assert_int_equal(match_inner(one.m, &key) != 0, (flags & flag) != 0);
		}
		one_close(&one);
	}
}

static void protocol_0_is_a_protocol_and_not_any(void **state)
{
	(void)state;
	EXPECT("{\"Filters\":[{\"Protocol\":[0]}]}",
	       {1, {"10.1.0.1", "10.1.0.2", 0, 0, 0, -1}, true},
	       {2, {"10.1.0.1", "10.1.0.2", TCP, 1, 2, ACK}, false});
	EXPECT("{\"Filters\":[{\"Protocol\":[255,6]}]}",
	       {3, {"10.1.0.1", "10.1.0.2", 255, 0, 0, -1}, true},
	       {4, {"10.1.0.1", "10.1.0.2", TCP, 1, 2, ACK}, true},
	       {5, {"10.1.0.1", "10.1.0.2", 0, 0, 0, -1}, false});
}

static void ports_0_and_65535_are_ports(void **state)
{
	(void)state;
	EXPECT("{\"Filters\":[{\"SourcePort\":[0],\"DestinationPort\":[65535]}]}",
	       {1, {"10.1.0.1", "10.1.0.2", UDP, 0, 65535, -1}, true},
	       {2, {"10.1.0.1", "10.1.0.2", UDP, 65535, 0, -1}, true},
	       {3, {"10.1.0.1", "10.1.0.2", UDP, 0, 0, -1}, false},
	       {4, {"10.1.0.1", "10.1.0.2", UDP, 1, 65535, -1}, false},
	       {5, {"10.1.0.1", "10.1.0.2", UDP, 0, 65534, -1}, false},
	       {6, {"10.1.0.1", "10.1.0.2", 1, 0, 0, -1}, false}); // ICMP has none
}

static void prefix_lengths_0_32_and_128_mean_what_they_say(void **state)
{
	(void)state;
	EXPECT("{\"Filters\":[{\"SourceSubnets\":[\"10.1.0.1/32\"],"
	       "\"CaptureSingleDirectionTrafficOnly\":true}]}",
	       {1, {"10.1.0.1", "10.9.9.9", UDP, 1, 2, -1}, true},
	       {2, {"10.1.0.0", "10.9.9.9", UDP, 1, 2, -1}, false},
	       {3, {"10.1.0.2", "10.9.9.9", UDP, 1, 2, -1}, false});
	EXPECT("{\"Filters\":[{\"SourceSubnets\":[\"2001:db8::8000:1\"],"
	       "\"CaptureSingleDirectionTrafficOnly\":true}]}",
	       {4, {"2001:db8::8000:1", "::1", UDP, 1, 2, -1}, true},
	       {5, {"2001:db8::8000:0", "::1", UDP, 1, 2, -1}, false},
	       {6, {"2001:db8::1", "::1", UDP, 1, 2, -1}, false});
	EXPECT("{\"Filters\":[{\"SourceSubnets\":[\"0.0.0.0/0\",\"::/0\"]}]}",
	       {7, {"255.255.255.255", "0.0.0.0", 1, 0, 0, -1}, true},
	       {8, {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::", 58, 0, 0, -1}, true});
}

static void no_filter_records_no_inner_packet_and_an_empty_one_all(void **state)
{
	(void)state;
	EXPECT("{}", {1, {"10.1.0.1", "10.9.9.9", UDP, 1, 2, -1}, false});
	EXPECT("{\"Filters\":[]}", {2, {"10.1.0.1", "10.9.9.9", UDP, 1, 2, -1}, false});
	EXPECT("{\"Filters\":[{}]}", {3, {"10.1.0.1", "10.9.9.9", UDP, 1, 2, -1}, true},
	       {4, {"::1", "::2", 58, 0, 0, -1}, true});
	EXPECT("{\"TracingFlags\":2,\"Filters\":[{}]}", // rule 3: no bit that carries inner packets
	       {5, {"10.1.0.1", "10.9.9.9", UDP, 1, 2, -1}, false});
	EXPECT("{\"TracingFlags\":8,\"Filters\":[{}]}",
	       {6, {"10.1.0.1", "10.9.9.9", 1, 0, 0, -1}, true});
}

/* Scope: connections 0 (IPsec, 10.0.0.0/8) and 1 (OpenVPN, 10.1.0.0/16). */

static struct subnet subnet(const char *text)
{
	struct subnet s;
	const char *why;
	bool host_bits;

	assert_int_equal(subnet_parse(text, &s, &host_bits, &why), 0);
	return s;
}

static uint8_t scope_verdict(uint32_t connection, unsigned tracing_flags, const char *src,
			     const char *dst)
{
	struct subnet remotes[] = {subnet("10.0.0.0/8"), subnet("10.1.0.0/16")};
	struct connection connections[] = {
		{.type = CONNECTION_IPSEC, .remote_subnets = &remotes[0], .n_remote_subnets = 1},
		{.type = CONNECTION_OPENVPN, .remote_subnets = &remotes[1], .n_remote_subnets = 1}};
	struct config config = {.connections = connections, .n_connections = 2};
	struct filter_data data = {
		.tracing_flags = tracing_flags, .snap_bytes = 120, .n_filters = 1};
	struct set_source_capture capture = {.slot = 3, .connection = connection, .data = &data};
	struct set_source source = {
		.config = &config, .captures = &capture, .n_captures = 1, .generation = 9};
	struct packet p = {src, dst, UDP, 1, 2, -1};
	uint8_t addrs[2][16], verdict;
	struct match_key key = key_of(&p, addrs);
	struct matcher *m = compile(&source);

	assert_int_equal(match_inner(m, &key), slow_inner(&source, &key));
	verdict = match_fold(match_inner(m, &key));
	matcher_close(m);
	return verdict;
}

static void inner_scope_follows_the_longest_prefix(void **state)
{
	static const struct {
		unsigned number;
		uint32_t connection;
		unsigned flags;
		const char *src, *dst;
		bool wanted;
	} rows[] = {
		{1, 0, 11, "10.2.0.1", "192.0.2.1", true},
		{2, 0, 11, "192.0.2.1", "10.2.0.1", true},
		{3, 0, 11, "10.1.0.1", "192.0.2.1", false}, // the longer prefix has it
		{4, 1, 11, "10.1.0.1", "192.0.2.1", true},
		{5, 1, 11, "10.2.0.1", "192.0.2.1", false},
		{6, 0, 11, "10.1.0.1", "10.2.0.1", true}, // from one site to the other: both
		{7, 1, 11, "10.1.0.1", "10.2.0.1", true},
		{8, 0, 11, "192.0.2.1", "192.0.2.2", false}, // no connection
		{9, 1, 11, "192.0.2.1", "192.0.2.2", false},
		{10, SET_GATEWAY_WIDE, 11, "192.0.2.1", "192.0.2.2", true},
		{11, SET_GATEWAY_WIDE, 1, "192.0.2.1", "192.0.2.2", true},
		{12, SET_GATEWAY_WIDE, 8, "192.0.2.1", "192.0.2.2", true},
		{13, SET_GATEWAY_WIDE, 2, "192.0.2.1", "192.0.2.2", false},
		{14, SET_GATEWAY_WIDE, 1, "10.2.0.1", "192.0.2.2", true}, // the tunnel's bit
		{15, SET_GATEWAY_WIDE, 8, "10.2.0.1", "192.0.2.2", false},
		{16, SET_GATEWAY_WIDE, 8, "10.1.0.1", "192.0.2.2", true},
		{17, SET_GATEWAY_WIDE, 1, "10.1.0.1", "192.0.2.2", false},
		{18, SET_GATEWAY_WIDE, 1, "10.1.0.1", "10.2.0.1", true},
		{19, 1, 1, "10.1.0.1", "192.0.2.1", false},
		{20, 0, 8, "10.2.0.1", "192.0.2.1", false},
		{21, 1, 8, "10.1.0.1", "192.0.2.1", true},
		{22, 0, 11, "2001:db8::1", "2001:db8::2", false}, // v4 remotes say nothing of v6
		{23, SET_GATEWAY_WIDE, 11, "2001:db8::1", "2001:db8::2", true},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (scope_verdict(rows[i].connection, rows[i].flags, rows[i].src, rows[i].dst) !=
		    (rows[i].wanted ? 1 << 3 : 0))
			fail_msg("row %u", rows[i].number);
}

/* Rules 1, 2 and 5 of "What is recorded", for the outer packet; 3 and 4 are the inner's. */
static void outer_packets_follow_the_truth_table(void **state)
{
	static const char tests_nothing[] = "[{}]", minus_one[] = "[{\"TcpFlags\":-1}]",
			  single[] = "[{\"CaptureSingleDirectionTrafficOnly\":true}]",
			  tests[] = "[{\"Protocol\":[6]}]", none[] = "[]",
			  one_of_two[] = "[{\"Protocol\":[6]},{}]", flag[] = "[{\"TcpFlags\":2}]";
	static const struct {
		unsigned number, flags;
		const char *filters;
		bool esp, ike, ovpn;
	} rows[] = {
		{1, 11, none, true, true, true},
		{2, 1, none, true, false, false},
		{3, 2, none, false, true, false},
		{4, 8, none, false, false, true},
		{5, 3, none, true, true, false},
		{6, 9, none, true, false, true},
		{7, 10, none, false, true, true},
		{8, 11, tests_nothing, true, true, true}, // rule 5
		{9, 11, minus_one, true, true, true},
		{10, 11, single, true, true, true}, // the only form there is
		{11, 11, tests, false, true, true}, // rule 1: IKE and OVPN all the same
		{12, 11, flag, false, true, true},
		{13, 11, one_of_two, true, true, true},
		{14, 2, tests_nothing, false, true, false},
		{15, 10, one_of_two, false, true, true},
		{16, 1, tests, false, false, false},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct packet p = {"192.0.2.1", "192.0.2.2", 50, 0, 0, -1};
		uint8_t addrs[2][16];
		struct match_key key = key_of(&p, addrs);
		char json[128];
		struct one one;

		(void)snprintf(json, sizeof(json), "{\"TracingFlags\":%u,\"Filters\":%s}",
			       rows[i].flags, rows[i].filters);
		one_open(&one, json);
		if (match_outer(one.m, TRACE_ESP, &key) != rows[i].esp ||
		    match_outer(one.m, TRACE_IKE, &key) != rows[i].ike ||
		    match_outer(one.m, TRACE_OVPN, &key) != rows[i].ovpn)
			fail_msg("row %u", rows[i].number);
		one_close(&one);
	}
}

/* Peers: 0: 198.51.100.1; 1: the same address, UDP port 4501; 2: any; 3: resolved 2001:db8::9. */
static void outer_scope_follows_the_peer(void **state)
{
	struct subnet addresses[] = {subnet("198.51.100.1")};
	uint16_t ports[] = {4501};
	struct connection connections[] = {{.peer = {.addresses = addresses, .n_addresses = 1}},
					   {.peer = {.addresses = addresses,
						     .n_addresses = 1,
						     .udp_ports = ports,
						     .n_udp_ports = 1}},
					   {.peer = {.any = true}},
					   {.type = CONNECTION_OPENVPN}};
	struct config config = {.connections = connections, .n_connections = 4};
	struct resolved_peer resolved = {.connection = 3, .address = subnet("2001:db8::9")};
	struct filter_data data = {.tracing_flags = TRACE_DEFAULT, .snap_bytes = 120};
	struct set_source_capture captures[5];
	struct set_source source = {.config = &config,
				    .captures = captures,
				    .n_captures = 5,
				    .resolved = &resolved,
				    .n_resolved = 1,
				    .generation = 1};
	static const struct {
		unsigned number;
		struct packet p;
		uint8_t wanted; // bit 4: gateway-wide
	} rows[] = {
		{1, {"198.51.100.1", "192.0.2.1", UDP, 4500, 4500, -1}, 0x15},
		{2, {"192.0.2.1", "198.51.100.1", UDP, 4500, 4500, -1}, 0x15},
		{3, {"198.51.100.1", "192.0.2.1", UDP, 4501, 4500, -1}, 0x17},
		{4, {"192.0.2.1", "198.51.100.1", UDP, 4500, 4501, -1}, 0x17},
		{5,
		 {"192.0.2.1", "198.51.100.1", UDP, 4501, 4500, -1},
		 0x15}, // our port, not the peer's
		{6,
		 {"198.51.100.1", "192.0.2.1", 50, 0, 0, -1},
		 0x17}, // no ports: the address tells
		{7, {"198.51.100.2", "192.0.2.1", UDP, 4501, 4500, -1}, 0x14},
		{8, {"2001:db8::9", "2001:db8::1", UDP, 1194, 1, -1}, 0x1c},
		{9, {"2001:db8::1", "2001:db8::9", UDP, 1, 1194, -1}, 0x1c},
		{10, {"2001:db8::1", "2001:db8::8", UDP, 1, 1194, -1}, 0x14},
	};
	struct matcher *m;

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		captures[i] = (struct set_source_capture){
			.slot = i, .connection = i < 4 ? i : SET_GATEWAY_WIDE, .data = &data};
	m = compile(&source);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t addrs[2][16];
		struct match_key key = key_of(&rows[i].p, addrs);

		if (match_outer(m, TRACE_IKE, &key) != rows[i].wanted)
			fail_msg("row %u: %#x", rows[i].number, match_outer(m, TRACE_IKE, &key));
		assert_int_equal(slow_outer(&source, TRACE_IKE, &key), rows[i].wanted);
	}
	matcher_close(m);
}

/* A fragment whose first was not seen: filters without ports and flags only. */
static void fragment_without_its_first_passes_no_port_and_no_flag_test(void **state)
{
	static const struct {
		unsigned number;
		const char *filter;
		bool wanted;
	} rows[] = {
		{1, "{}", true},
		{2, "{\"Protocol\":[6]}", true},
		{3, "{\"Protocol\":[17]}", false},
		{4, "{\"SourceSubnets\":[\"10.0.0.1\"]}", true},
		{5, "{\"SourceSubnets\":[\"10.0.0.3\"]}", false},
		{6, "{\"SourcePort\":[0]}", false},
		{7, "{\"DestinationPort\":[0]}", false},
		{8, "{\"TcpFlags\":2}", false},
		{9, "{\"TcpFlags\":-1}", true},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct packet p = {"10.0.0.1", "10.0.0.2", TCP, 0, 0, -1};
		uint8_t addrs[2][16];
		struct match_key key = key_of(&p, addrs);
		char json[128];
		struct one one;

		key.has_ports = false;
		(void)snprintf(json, sizeof(json), "{\"Filters\":[%s]}", rows[i].filter);
		one_open(&one, json);
		if ((match_inner_no_first(one.m, &key) != 0) != rows[i].wanted)
			fail_msg("row %u", rows[i].number);
		one_close(&one);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_sets_match_as_the_rules_say),
		cmocka_unit_test(slots_and_snaps_come_through),
		cmocka_unit_test(folding_keeps_each_bit_in_its_slot),
		cmocka_unit_test(source_of_one_filter_never_meets_destination_of_another),
		cmocka_unit_test(one_direction_never_meets_the_other),
		cmocka_unit_test(a_v4_list_takes_no_v6_packet_and_the_other_way_round),
		cmocka_unit_test(a_list_on_one_side_leaves_the_other_free),
		cmocka_unit_test(the_example_of_the_reference_works),
		cmocka_unit_test(tcp_flags_want_one_of_them_on_a_whole_tcp_header),
		cmocka_unit_test(every_tcp_flag_is_told_from_the_others),
		cmocka_unit_test(protocol_0_is_a_protocol_and_not_any),
		cmocka_unit_test(ports_0_and_65535_are_ports),
		cmocka_unit_test(prefix_lengths_0_32_and_128_mean_what_they_say),
		cmocka_unit_test(no_filter_records_no_inner_packet_and_an_empty_one_all),
		cmocka_unit_test(inner_scope_follows_the_longest_prefix),
		cmocka_unit_test(outer_packets_follow_the_truth_table),
		cmocka_unit_test(outer_scope_follows_the_peer),
		cmocka_unit_test(fragment_without_its_first_passes_no_port_and_no_flag_test),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
