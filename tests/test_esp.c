/* test_esp.c - what the stage makes of ESP packets, each rule with one of its own.
 *
 * The SAs encrypt with NULL, so that the bytes of a test are those on the wire; that each cipher gives the same
 * is shown by test_esp_cipher.c, and with real traffic by oracle_esp.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
// cmocka wants the above first
#include <cmocka.h>

#include "control/set_build.h"
#include "dataplane/classify.h"
#include "dataplane/esp.h"
#include "tests/build_esp.h"
#include "tests/dice.h"

enum { SPI = 0x1001, SPI_OTHER = 0x1002, SPI_UNKNOWN = 0x666, PORT = 3 };

/* One stage with its surroundings. */
struct rig {
	struct config config;
	struct connection connections[2];
	struct filter_data data[CAPTURES_MAX];
	uint32_t scope[CAPTURES_MAX];
	unsigned n_captures;
	struct matcher *matcher;
	struct sa_record records[4];
	unsigned n_records;
	uint32_t set_flags;
	struct sa_table *sas;
	struct worker_shared *shared;
	struct tally tally;
	struct esp_stage *stage;
	struct fragment_table *fragments;
	struct classifier *classifier;
	bool has_inner_port;
	/* A burst and what came out. */
	struct pkt in[BURST_MAX], *out;
	unsigned n_in, n_out;
	uint8_t *copies[BURST_MAX]; // of the frames
	unsigned n_copies;
	struct esp_found found;
	uint64_t now_ns;
};

static struct rig rig;

static struct filter_data *add_capture(const char *json)
{
	struct filter_data_rules rules = {.filters_max = FILTERS_PER_CAPTURE_MAX};
	struct faults faults = {0}, warnings = {0};
	struct filter_data *data = &rig.data[rig.n_captures];

	if (filter_data_parse(json, strlen(json), &rules, data, &faults, &warnings) != 0)
		fail_msg("%s", faults_text(&faults));
	faults_fini(&warnings);
	rig.scope[rig.n_captures++] = SET_GATEWAY_WIDE;
	return data;
}

static struct sa_record *add_sa(uint32_t spi)
{
	struct sa_record *record = &rig.records[rig.n_records];

	*record = (struct sa_record){.spi = spi,
				     .spi_mask = UINT32_MAX,
				     .slot = rig.n_records++,
				     .cipher = ESP_NULL,
				     .auth = ESP_AUTH_UNCHECKED,
				     .icv_bytes = BUILD_ICV};
	record->dst = (struct sa_address){
		.value = {192, 0, 2, 254}, .mask = {255, 255, 255, 255}, .family = 4};
	return record;
}

static void compile_matcher(void)
{
	struct set_source_capture captures[CAPTURES_MAX];
	struct set_source source = {.config = &rig.config,
				    .captures = captures,
				    .n_captures = rig.n_captures,
				    .generation = 1};
	struct filter_set set;
	struct error err = {0};
	size_t bytes;
	void *mem;

	for (unsigned i = 0; i < rig.n_captures; i++)
		captures[i] = (struct set_source_capture){.slot = i,
							  .is_new = true,
							  .connection = rig.scope[i],
							  .data = &rig.data[i]};
	mem = set_build(&source, &bytes);
	if (filter_set_check(mem, bytes, &set, &err) != 0)
		fail_msg("%s", err.text);
	rig.matcher = matcher_open(&set, &err);
	assert_non_null(rig.matcher);
	free(mem);
}

static void compile_sas(void)
{
	struct {
		struct sa_set_header header;
		struct sa_record records[4];
	} mem = {.header = {.magic = SA_SET_MAGIC,
			    .version = SA_SET_VERSION,
			    .generation = 1,
			    .n_sas = rig.n_records,
			    .flags = rig.set_flags}};
	size_t bytes = sizeof(mem.header) + rig.n_records * sizeof(mem.records[0]);
	struct sa_set set;
	struct error err = {0};

	if (rig.n_records == 0)
		return;
	mem.header.total_bytes = (uint32_t)bytes;
	memcpy(mem.records, rig.records, sizeof(mem.records));
	if (sa_set_check(&mem, bytes, &set, &err) != 0)
		fail_msg("%s", err.text);
	rig.sas = sa_table_open(&set, &err);
	if (rig.sas == NULL)
		fail_msg("%s", err.text);
}

/* A frame into the burst; kept until the next clear(). */
static void add_frame(const struct build *b, uint32_t len)
{
	uint8_t *copy = malloc(b->len);

	memcpy(copy, b->bytes, b->len);
	rig.copies[rig.n_copies++] = copy;
	rig.in[rig.n_in++] =
		(struct pkt){.data = copy, .len = len, .wire_len = b->len, .time_ns = ++rig.now_ns};
}

static void clear(void)
{
	for (unsigned i = 0; i < rig.n_copies; i++)
		free(rig.copies[i]);
	memset(rig.in, 0, sizeof(rig.in));
	rig.n_in = rig.n_copies = 0;
}

static uint64_t no_hold(void *ctx, const struct pkt *p)
{
	(void)ctx, (void)p;
	return 0;
}

static void classify(void)
{
	uint64_t n_class[CLASS_COUNT] = {0};
	unsigned n = rig.n_in;

	for (unsigned i = 0; i < n; i++)
		rig.in[i].fate = PORT << FATE_PORT;
	rig.n_in = classify_outer_burst(rig.classifier, rig.in, n, &rig.tally, n_class);
}

static void burst_of(struct pkt *p, unsigned n)
{
	struct esp_context c = {.matcher = rig.matcher,
				.sas = rig.sas,
				.fragments = rig.fragments,
				.shared = rig.shared,
				.tally = &rig.tally,
				.has_inner_port = rig.has_inner_port};

	for (unsigned i = 0; i < rig.n_captures; i++)
		c.snap_bytes[i] = rig.data[i].snap_bytes;
	rig.n_out = esp_burst(rig.stage, &c, p, n, &rig.out, &rig.found);
}

static void run(void)
{
	if (rig.matcher == NULL) {
		compile_matcher();
		compile_sas();
	}
	classify();
	burst_of(rig.in, rig.n_in);
}

static uint64_t counted(unsigned slot, enum esp_count count)
{
	return atomic_load(&rig.shared->slot_esp[slot][count]);
}

static int open_rig(void **state)
{
	struct classify_hooks hooks = {.hold_wanted = no_hold};

	(void)state;
	rig = (struct rig){.now_ns = 1000};
	assert_int_equal(config_defaults(&rig.config), 0);
	rig.shared = aligned_alloc(SHARED_PAGE_BYTES, sizeof(*rig.shared));
	assert_non_null(rig.shared);
	memset(rig.shared, 0, sizeof(*rig.shared));
	rig.stage = esp_open(ESP_OPENSSL);
	rig.fragments = fragment_open();
	rig.classifier = classifier_open(&hooks);
	assert_non_null(rig.stage);
	return 0;
}

static int close_rig(void **state)
{
	(void)state;
	clear();
	rig.config.n_connections = 0;
	rig.config.connections = NULL;
	config_fini(&rig.config);
	matcher_close(rig.matcher);
	sa_table_close(rig.sas);
	esp_close(rig.stage);
	fragment_close(rig.fragments);
	classifier_close(rig.classifier);
	free(rig.shared);
	for (unsigned i = 0; i < rig.n_captures; i++)
		filter_data_fini(&rig.data[i]);
	return 0;
}

/* ---- frames ---- */

static void add_tunnelled(uint32_t spi, uint8_t flags, uint32_t n_data)
{
	struct build inner = inner_frame(flags, n_data), b = tunnel(spi, &inner);

	add_frame(&b, b.len);
}

/* ---- the rules ---- */

static void check_is_inner(const struct pkt *p, const struct build *inner, uint32_t snap)
{
	uint32_t len = p->len < snap ? p->len : snap;

	assert_int_equal(p->class_, CLASS_INNER);
	assert_int_equal(p->port, PORT);
	assert_int_equal(p->wire_len, inner->len);
	assert_true(p->len >= (inner->len < snap ? inner->len : snap));
	assert_true(p->len <= p->wire_len);
	assert_memory_equal(p->data, inner->bytes, len);
}

static void inner_packet_comes_directly_behind_its_outer_one(void **state)
{
	struct build inner = inner_frame(2, 30);

	(void)state;
	add_capture("{\"Filters\":[{}]}");
	add_sa(SPI);
	add_tunnelled(SPI, 2, 30);
	add_tunnelled(SPI, 16, 0);
	run();
	assert_int_equal(rig.n_out, 4);
	for (unsigned i = 0; i < 4; i += 2) {
		assert_int_equal(rig.out[i].class_, CLASS_ESP);
		assert_int_equal(rig.out[i + 1].class_, CLASS_INNER);
		assert_int_equal(rig.out[i].time_ns, rig.out[i + 1].time_ns);
	}
	check_is_inner(&rig.out[1], &inner, 120);
	assert_int_equal(rig.found.n, 2);
	assert_int_equal(rig.found.of_slot[0], 2);
	assert_int_equal(counted(0, ESP_COUNT_DECRYPTED), 2);
	assert_int_equal(atomic_load(&rig.shared->sas[0].packets), 2);
	assert_int_equal(atomic_load(&rig.shared->sas[0].last_ns), rig.now_ns);
}

static void single_direction_is_one_record_as_written(void **state)
{
	struct build inner = inner_frame(2, 0);

	(void)state;
	add_capture("{\"Filters\":[{\"SourceSubnets\":[\"10.1.0.0/16\"],"
		    "\"CaptureSingleDirectionTrafficOnly\":true}]}");
	add_sa(SPI);
	add_tunnelled(SPI, 2, 0);
	run();
	assert_int_equal(rig.n_out, 1);
	check_is_inner(&rig.out[0], &inner, 120);
}

static void what_does_not_match_is_in_neither_form(void **state)
{
	(void)state;
	add_capture("{\"Filters\":[{\"TcpFlags\":2}]}");
	add_sa(SPI);
	add_tunnelled(SPI, 16, 0);
	add_tunnelled(SPI, 18, 0);
	add_tunnelled(SPI, 4, 0);
	run();
	assert_int_equal(rig.n_out, 2); // the SYN, outer and inner
	assert_int_equal(rig.tally.verdicts[VERDICT_NOT_MATCHED], 4);
	assert_int_equal(rig.found.n, 3);
}

static void without_a_filter_nothing_is_decrypted(void **state)
{
	(void)state;
	add_capture("{}");
	add_sa(SPI);
	add_tunnelled(SPI, 2, 0);
	add_tunnelled(SPI_UNKNOWN, 2, 0);
	run();
	assert_int_equal(rig.n_out, 2);
	assert_int_equal(rig.found.n, 0);
	assert_int_equal(counted(0, ESP_COUNT_DECRYPTED), 0);
	assert_int_equal(counted(0, ESP_COUNT_WITHOUT_KEY), 0);
	assert_int_equal(rig.out[0].class_, CLASS_ESP);
}

static void what_cannot_be_read_is_for_filters_that_test_nothing(void **state)
{
	(void)state;
	add_capture("{\"Filters\":[{}]}");
	add_capture("{\"Filters\":[{\"TcpFlags\":2}]}");
	add_sa(SPI)->cipher = ESP_UNSUPPORTED;
	rig.records[0].auth = ESP_AUTH_NONE;
	rig.records[0].icv_bytes = 0;
	add_sa(SPI_OTHER);
	add_tunnelled(SPI, 2, 0);
	add_tunnelled(SPI_UNKNOWN, 2, 0);
	add_tunnelled(SPI_OTHER, 2, 0);
	((uint8_t *)(uintptr_t)rig.in[2].data)[14 + 20 + 8] ^= 0x10; // no version of IP
	run();
	assert_int_equal(rig.n_out, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(rig.out[i].wanted, 1);
	for (unsigned slot = 0; slot < 2; slot++) {
		assert_int_equal(counted(slot, ESP_COUNT_UNSUPPORTED), 1);
		assert_int_equal(counted(slot, ESP_COUNT_WITHOUT_KEY), 1);
		assert_int_equal(counted(slot, ESP_COUNT_MALFORMED), 1);
	}
}

static void captures_of_one_burst_each_get_their_own(void **state)
{
	(void)state;
	add_capture("{}");
	add_capture("{\"TracingFlags\":2,\"Filters\":[{}]}"); // IKE only: no inner packets
	add_capture(
		"{\"TracingFlags\":8,\"Filters\":[{}]}"); // OpenVPN's tunnels, and those of no connection
	add_capture(
		"{\"Filters\":[{\"SourcePort\":[4000],\"CaptureSingleDirectionTrafficOnly\":true}]}");
	add_capture("{\"Filters\":[{\"SourcePort\":[80]}]}"); // swapped
	add_sa(SPI);
	add_tunnelled(SPI, 2, 0);
	run();
	assert_int_equal(rig.n_out, 2);
	assert_int_equal(rig.out[0].wanted, 1 | 16);
	assert_int_equal(rig.out[1].wanted, 4 | 8 | 16);
	assert_int_equal(rig.found.of_slot[0], 0);
	assert_int_equal(rig.found.of_slot[1], 0);
	assert_int_equal(rig.found.of_slot[2], 1);
}

static void an_inner_port_leaves_only_the_outer_packet(void **state)
{
	(void)state;
	rig.has_inner_port = true;
	add_capture("{\"Filters\":[{\"TcpFlags\":2}]}");
	add_sa(SPI);
	add_tunnelled(SPI, 2, 0);
	add_tunnelled(SPI, 16, 0);
	run();
	assert_int_equal(rig.n_out, 1);
	assert_int_equal(rig.out[0].class_, CLASS_ESP);
	assert_int_equal(rig.found.n, 2);
}

static void a_long_snap_has_all_of_the_inner_packet(void **state)
{
	struct build inner = inner_frame(24, 1300);

	(void)state;
	add_capture("{\"MaxPacketBufferSize\":65535,\"Filters\":[{\"Protocol\":[6]}]}");
	add_capture("{\"MaxPacketBufferSize\":100,\"Filters\":[{}]}");
	add_sa(SPI);
	add_tunnelled(SPI, 24, 1300);
	run();
	assert_int_equal(rig.n_out, 2);
	assert_int_equal(rig.out[1].len, inner.len);
	check_is_inner(&rig.out[1], &inner, 65535);
}

static void dummy_packets_are_counted_and_not_recorded(void **state)
{
	struct build b = {0};

	(void)state;
	add_capture("{\"Filters\":[{}]}");
	add_sa(SPI);
	put_ether(&b, 0x0800);
	put_ipv4(&b, ESP, 1, 0);
	put_spi(&b, SPI);
	put_zeros(&b, 40);
	put_trailer(&b, 2, NONE);
	fix_lengths(&b);
	add_frame(&b, b.len);
	run();
	assert_int_equal(rig.n_out, 0);
	assert_int_equal(counted(0, ESP_COUNT_DUMMY), 1);
}

static void transport_mode_keeps_the_ip_header_and_tells_the_truth_in_it(void **state)
{
	struct build inner = inner_frame(2, 50), b = {0}, expected = {0};

	(void)state;
	add_capture("{\"Filters\":[{\"Protocol\":[6]}]}");
	add_sa(SPI);
	put_ether(&b, 0x8100);
	put_be16(&b, 7);
	put_be16(&b, 0x0800);
	put_ipv4(&b, UDP, 9, 0x4000);
	put_udp(&b, 4500, 4500);
	put_spi(&b, SPI);
	put_bytes(&b, inner.bytes + 34, inner.len - 34);
	put_trailer(&b, 0, TCP);
	fix_lengths(&b);
	add_frame(&b, b.len);
	put_bytes(&expected, b.bytes, 18);
	put_ipv4(&expected, TCP, 9, 0x4000);
	put_bytes(&expected, inner.bytes + 34, inner.len - 34);
	fix_lengths(&expected);
	fix_checksum(expected.bytes + expected.l3);
	run();
	assert_int_equal(rig.n_out, 2);
	check_is_inner(&rig.out[1], &expected, 120);
}

static void transport_mode_over_ipv6_rewrites_what_the_last_header_names(void **state)
{
	struct build b = {0}, expected = {0};
	struct sa_record *record;

	(void)state;
	add_capture("{\"Filters\":[{\"Protocol\":[17]}]}");
	record = add_sa(SPI);
	record->dst = (struct sa_address){0};
	put_ether(&b, 0x86dd);
	put_ipv6(&b, 0);
	put_options(&b, ESP, 1);
	put_spi(&b, SPI);
	put_bytes(&b,
		  "\x0f\xa0\x00\x35\x00\x0c\x00\x00"
		  "data",
		  12);
	put_trailer(&b, 2, UDP);
	fix_lengths(&b);
	add_frame(&b, b.len);
	put_ether(&expected, 0x86dd);
	put_ipv6(&expected, 0);
	put_options(&expected, UDP, 1);
	put_bytes(&expected,
		  "\x0f\xa0\x00\x35\x00\x0c\x00\x00"
		  "data",
		  12);
	fix_lengths(&expected);
	run();
	assert_int_equal(rig.n_out, 2);
	check_is_inner(&rig.out[1], &expected, 120);
}

static void tfc_padding_is_no_part_of_the_inner_packet(void **state)
{
	struct build inner = inner_frame(2, 0), b = {0};

	(void)state;
	add_capture("{\"Filters\":[{}]}");
	add_sa(SPI);
	put_ether(&b, 0x0800);
	put_ipv4(&b, ESP, 1, 0);
	put_spi(&b, SPI);
	put_bytes(&b, inner.bytes + 14, inner.len - 14);
	put_zeros(&b, 300);
	put_trailer(&b, 2, IPIP);
	fix_lengths(&b);
	add_frame(&b, b.len);
	run();
	assert_int_equal(rig.n_out, 2);
	assert_int_equal(rig.out[1].wire_len, inner.len);
	assert_int_equal(rig.out[1].len, inner.len);
}

/* Two whole messages and the beginning of a third in one segment. */
static void each_message_of_a_tcp_segment_is_read(void **state)
{
	struct build inner = inner_frame(2, 0), longer = inner_frame(16, 1000), b = {0};

	(void)state;
	add_capture("{\"Filters\":[{}]}");
	add_sa(SPI);
	put_ether(&b, 0x0800);
	put_ipv4(&b, TCP, 1, 0);
	put_tcp(&b, 4500, 4500, 24);
	put_tcp_message(&b, SPI, &inner);
	put_tcp_message(&b, SPI, &inner);
	put_tcp_message(&b, SPI, &longer);
	b.len -= 700;
	fix_lengths(&b);
	add_frame(&b, b.len);
	run();
	assert_int_equal(rig.n_out, 4);
	check_is_inner(&rig.out[1], &inner, 120);
	check_is_inner(&rig.out[2], &inner, 120);
	check_is_inner(&rig.out[3], &longer, 120);
}

static void the_middle_of_a_tcp_message_is_counted(void **state)
{
	struct build b = {0};

	(void)state;
	add_capture("{\"Filters\":[{\"TcpFlags\":2}]}");
	add_sa(SPI);
	put_ether(&b, 0x0800);
	put_ipv4(&b, TCP, 1, 0);
	put_tcp(&b, 4500, 4500, 24);
	put_bytes(&b, "abcdefghijklmnopqrstuvwxyz", 26);
	fix_lengths(&b);
	add_frame(&b, b.len);
	run();
	assert_int_equal(rig.n_out, 0);
	assert_int_equal(counted(0, ESP_COUNT_TCP_PARTIAL), 1);
}

/* The first fragment of an outer packet has the beginning and no trailer; later ones have nothing. */
static void a_first_fragment_is_read_and_a_later_one_is_counted(void **state)
{
	struct build inner = inner_frame(2, 1000), b = tunnel(SPI, &inner);

	(void)state;
	add_capture("{\"Filters\":[{\"TcpFlags\":2}]}");
	add_sa(SPI);
	b.len = 14 + 20 + 800;
	b.bytes[14 + 6] = 0x20;
	fix_lengths(&b);
	add_frame(&b, b.len);
	b.bytes[14 + 6] = 0;
	b.bytes[14 + 7] = 100;
	add_frame(&b, b.len);
	run();
	assert_int_equal(rig.n_out, 2);
	check_is_inner(&rig.out[1], &inner, 120);
	assert_int_equal(counted(0, ESP_COUNT_FRAGMENT), 1);
}

static void a_cut_frame_is_read_as_far_as_it_goes(void **state)
{
	struct build inner = inner_frame(2, 1000), b = tunnel(SPI, &inner);

	(void)state;
	add_capture("{\"MaxPacketBufferSize\":65535,\"Filters\":[{\"TcpFlags\":2}]}");
	add_sa(SPI);
	add_frame(&b, 14 + 20 + 8 + 100);
	run();
	assert_int_equal(rig.n_out, 2);
	assert_int_equal(rig.out[1].wire_len, inner.len);
	assert_int_equal(rig.out[1].len, 14 + 100);
	assert_memory_equal(rig.out[1].data, inner.bytes, 114);
}

static void later_inner_fragments_follow_the_first(void **state)
{
	struct build first = inner_frame(2, 20), later, b;

	(void)state;
	add_capture("{\"Filters\":[{\"SourcePort\":[4000]}]}");
	add_sa(SPI);
	first.bytes[14 + 6] = 0x20;
	fix_checksum(first.bytes + 14);
	later = first;
	later.bytes[14 + 6] = 0;
	later.bytes[14 + 7] = 5;
	fix_checksum(later.bytes + 14);
	b = tunnel(SPI, &later);
	add_frame(&b, b.len);
	run(); // without its first
	assert_int_equal(rig.n_out, 0);
	clear();
	b = tunnel(SPI, &first);
	add_frame(&b, b.len);
	b = tunnel(SPI, &later);
	add_frame(&b, b.len);
	run();
	assert_int_equal(rig.n_out, 4);
	check_is_inner(&rig.out[3], &later, 120);
}

/* ---- scope ---- */

static void configure_connections(void)
{
	static struct subnet remote[2] = {{{10, 1}, 16, 4}, {{10, 2}, 16, 4}},
			     peer = {{192, 0, 2, 1}, 32, 4};

	for (unsigned i = 0; i < 2; i++) {
		rig.connections[i] =
			(struct connection){.type = CONNECTION_IPSEC,
					    .peer = {.addresses = &peer, .n_addresses = 1},
					    .remote_subnets = &remote[i],
					    .n_remote_subnets = 1};
		(void)snprintf(rig.connections[i].name, NAME_MAX_BYTES, "site%u", i);
	}
	rig.config.connections = rig.connections;
	rig.config.n_connections = 2;
}

static void the_sa_says_which_connection_it_is(void **state)
{
	static const struct {
		uint8_t kind, flags;
		uint32_t connection;
		uint8_t wanted; // of the captures on site0 and site1
	} cases[] = {
		{SA_CONNECTION_NONE, 0, 0, 1 | 2}, // 10.1 and 10.2: it may be either's
		{SA_CONNECTION_NONE, SA_INBOUND, 0, 1},	 {SA_CONNECTION_NONE, SA_OUTBOUND, 0, 2},
		{SA_CONNECTION_PEER, SA_INBOUND, 1, 1}, // the remote subnet goes first
		{SA_CONNECTION_FIXED, SA_INBOUND, 1, 2}, {SA_CONNECTION_FIXED, 0, 0, 1},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sa_record *record;

		configure_connections();
		add_capture("{\"Filters\":[{\"Protocol\":[6]}]}");
		add_capture("{\"Filters\":[{\"Protocol\":[6]}]}");
		rig.scope[0] = 0;
		rig.scope[1] = 1;
		record = add_sa(SPI);
		record->connection_kind = cases[i].kind;
		record->connection = cases[i].connection;
		record->flags = cases[i].flags;
		add_tunnelled(SPI, 2, 0);
		run();
		assert_int_equal(rig.n_out, 2);
		assert_int_equal(rig.out[0].wanted, cases[i].wanted);
		assert_int_equal(rig.out[1].wanted, cases[i].wanted);
		(void)close_rig(state);
		(void)open_rig(state);
	}
}

/* ---- bursts ---- */

static void throw_frame(struct dice *d)
{
	static const uint32_t spis[] = {SPI, SPI, SPI_OTHER, SPI_UNKNOWN};
	struct build inner = inner_frame((uint8_t)dice_next(d), dice_below(d, 300)),
		     b = tunnel(spis[dice_below(d, 4)], &inner);

	if (dice_one_in(d, 6))
		b.bytes[14 + 20 + 8 + dice_below(d, 20)] ^= 1;
	if (dice_one_in(d, 6)) {
		b = (struct build){0};
		put_ether(&b, 0x0800);
		put_ipv4(&b, TCP, 1, 0);
		put_tcp(&b, 4500, 4500, 24);
		for (unsigned i = dice_below(d, 4); i > 0; i--) // a burst holds 128 in all
			put_tcp_message(&b, spis[dice_below(d, 4)], &inner);
		fix_lengths(&b);
	} else if (dice_one_in(d, 8)) {
		b.bytes[14 + 9] = 47; // no ESP at all
	}
	add_frame(&b, dice_one_in(d, 5) ? 14 + dice_below(d, b.len - 13) : b.len);
}

static void bursts_are_judged_as_each_packet_alone(void **state)
{
	struct dice d = dice_open("test_esp");
	unsigned n_inner = 0;

	(void)state;
	add_capture("{\"Filters\":[{\"TcpFlags\":3}]}");
	add_capture("{\"MaxPacketBufferSize\":300,\"Filters\":[{}]}");
	add_capture("{}");
	add_sa(SPI);
	add_sa(SPI_OTHER)->mode = SA_MODE_TRANSPORT;
	for (unsigned round = 0; round < 300; round++) {
		struct pkt in[BURST_MAX], together[RECORD_MAX];
		uint8_t bytes[RECORD_MAX][320];
		unsigned n, at = 0;

		clear();
		for (unsigned i = 1 + dice_below(&d, BURST_MAX); i > 0; i--)
			throw_frame(&d);
		run();
		n = rig.n_out;
		memcpy(together, rig.out, n * sizeof(*together));
		for (unsigned i = 0; i < n; i++)
			memcpy(bytes[i], together[i].data,
			       together[i].len < 300 ? together[i].len : 300);
		memcpy(in, rig.in, sizeof(in));
		for (unsigned i = 0; i < rig.n_in; i++) {
			burst_of(&in[i], 1);
			for (unsigned k = 0; k < rig.n_out; k++, at++) {
				uint32_t len = rig.out[k].len < 300 ? rig.out[k].len : 300;

				assert_true(at < n);
				assert_int_equal(rig.out[k].fate, together[at].fate);
				assert_int_equal(rig.out[k].wire_len, together[at].wire_len);
				assert_int_equal(rig.out[k].time_ns, together[at].time_ns);
				assert_memory_equal(rig.out[k].data, bytes[at], len);
				n_inner += rig.out[k].class_ == CLASS_INNER;
			}
		}
		assert_int_equal(at, n);
	}
	assert_true(n_inner > 1000);
}

int main(void)
{
#define RULE(name) cmocka_unit_test_setup_teardown(name, open_rig, close_rig)
	const struct CMUnitTest tests[] = {
		RULE(inner_packet_comes_directly_behind_its_outer_one),
		RULE(single_direction_is_one_record_as_written),
		RULE(what_does_not_match_is_in_neither_form),
		RULE(without_a_filter_nothing_is_decrypted),
		RULE(what_cannot_be_read_is_for_filters_that_test_nothing),
		RULE(captures_of_one_burst_each_get_their_own),
		RULE(an_inner_port_leaves_only_the_outer_packet),
		RULE(a_long_snap_has_all_of_the_inner_packet),
		RULE(dummy_packets_are_counted_and_not_recorded),
		RULE(transport_mode_keeps_the_ip_header_and_tells_the_truth_in_it),
		RULE(transport_mode_over_ipv6_rewrites_what_the_last_header_names),
		RULE(tfc_padding_is_no_part_of_the_inner_packet),
		RULE(each_message_of_a_tcp_segment_is_read),
		RULE(the_middle_of_a_tcp_message_is_counted),
		RULE(a_first_fragment_is_read_and_a_later_one_is_counted),
		RULE(a_cut_frame_is_read_as_far_as_it_goes),
		RULE(later_inner_fragments_follow_the_first),
		RULE(the_sa_says_which_connection_it_is),
		RULE(bursts_are_judged_as_each_packet_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
