/* test_headers.c - headers_parse(): each header, each prefix of it, and each way it may lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "dataplane/classify.h"
#include "tests/build_packet.h"

static int parse(const struct build *b, struct headers *h)
{
	return headers_parse(guard_copy(b->bytes, b->len), b->len, h);
}

static struct build udp4(void)
{
	struct build b = {0};

	put_ether(&b, 0x0800);
	put_ipv4(&b, 17, 0x1234, 0);
	put_udp(&b, 40000, 53);
	put_zeros(&b, 30);
	fix_lengths(&b);
	return b;
}

static struct build tcp4(uint8_t tcp_flags)
{
	struct build b = {0};

	put_ether(&b, 0x0800);
	put_ipv4(&b, 6, 1, 0);
	put_tcp(&b, 40000, 80, tcp_flags);
	put_zeros(&b, 6);
	fix_lengths(&b);
	return b;
}

static void plain_udp_gives_everything(void **state)
{
	struct build b = udp4();
	struct headers h;

	(void)state;
	assert_int_equal(parse(&b, &h), 0);
	assert_int_equal(h.family, 4);
	assert_int_equal(h.protocol, 17);
	assert_int_equal(h.l3_offset, 14);
	assert_int_equal(h.l4_offset, 34);
	assert_int_equal(h.sport, 40000);
	assert_int_equal(h.dport, 53);
	assert_int_equal(h.fragment_id, 0x1234);
	assert_int_equal(h.flags, PKT_HAS_PORTS);
	assert_int_equal(h.ip_end, b.len);
	assert_memory_equal(h.src, "\xc0\0\2\1", 4);
	assert_memory_equal(h.dst, "\xc0\0\2\xfe", 4);
}

static void tcp_flags_come_with_the_whole_fixed_header(void **state)
{
	(void)state;
	for (unsigned flags = 0; flags < 256; flags++) {
		struct build b = tcp4((uint8_t)flags);
		struct headers h;

		assert_int_equal(parse(&b, &h), 0);
		assert_int_equal(h.tcp_flags, flags);
		assert_int_equal(h.flags, PKT_HAS_PORTS | PKT_HAS_TCP_FLAGS);
	}
}

static void cut_tcp_header_gives_ports_but_no_flags(void **state)
{
	(void)state;
	for (uint32_t n = 4; n < 20; n++) {
		struct build b = tcp4(0xff);
		struct headers h;

		b.len = 34 + n;
		assert_int_equal(parse(&b, &h), -1);
		assert_int_equal(h.flags, PKT_HAS_PORTS);
		assert_int_equal(h.dport, 80);
		assert_int_equal(h.tcp_flags, 0);
	}
}

static void data_offset_under_five_gives_no_flags(void **state)
{
	(void)state;
	for (unsigned offset = 0; offset < 16; offset++) {
		struct build b = tcp4(0xff);
		struct headers h;

		b.bytes[34 + 12] = (uint8_t)(offset << 4 | 0xf);
		assert_int_equal(parse(&b, &h), offset < 5 ? -1 : 0);
		assert_int_equal((h.flags & PKT_HAS_TCP_FLAGS) != 0, offset >= 5);
	}
}

static void every_count_of_vlan_tags_up_to_four_is_crossed(void **state)
{
	static const uint16_t tpids[] = {0x8100, 0x88a8, 0x9100, 0x9200};

	(void)state;
	for (unsigned n = 0; n <= 5; n++) {
		struct build b = {0};
		struct headers h;

		put_ether(&b, 0x0800);
		for (unsigned i = 0; i < n; i++)
			put_vlan(&b, tpids[i % 4], 0x0800);
		put_ipv4(&b, 17, 1, 0);
		put_udp(&b, 7, 8);
		fix_lengths(&b);
		assert_int_equal(parse(&b, &h), 0);
		assert_int_equal(h.family, n <= 4 ? 4 : 0);
		if (n <= 4) {
			assert_int_equal(h.l3_offset, 14 + 4 * n);
			assert_int_equal(h.dport, 8);
		}
	}
}

static void other_ethertypes_are_whole_but_not_ip(void **state)
{
	static const uint16_t types[] = {0x8863, 0x8864, 0x8847, 0x8848, 0x0806, 0x0040, 0xffff};

	(void)state;
	for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct build b = udp4();
		struct headers h;

		b.bytes[12] = (uint8_t)(types[i] >> 8);
		b.bytes[13] = (uint8_t)types[i];
		assert_int_equal(parse(&b, &h), 0);
		assert_int_equal(h.family, 0);
	}
}

static void ethernet_padding_is_not_payload(void **state)
{
	struct build b = {0};
	struct headers h;

	(void)state;
	put_ether(&b, 0x0800);
	put_ipv4(&b, 17, 1, 0);
	put_udp(&b, 1, 2);
	fix_lengths(&b);
	put_zeros(&b, 60 - b.len);
	assert_int_equal(parse(&b, &h), 0);
	assert_int_equal(h.ip_end, 42);
}

static void total_length_zero_means_the_rest_of_the_frame(void **state)
{
	struct build b = udp4();
	struct headers h;

	(void)state;
	b.bytes[16] = b.bytes[17] = 0;
	assert_int_equal(parse(&b, &h), 0);
	assert_int_equal(h.ip_end, b.len);
	assert_int_equal(h.dport, 53);
}

static void total_length_beyond_the_frame_ends_with_it(void **state)
{
	struct build b = udp4();
	struct headers h;

	(void)state;
	b.bytes[16] = b.bytes[17] = 0xff;
	assert_int_equal(parse(&b, &h), 0);
	assert_int_equal(h.ip_end, b.len);
}

static void ipv4_header_that_lies_is_not_ip(void **state)
{
	(void)state;
	for (unsigned total = 1; total < 20; total++) {
		struct build b = udp4();
		struct headers h;

		b.bytes[16] = 0;
		b.bytes[17] = (uint8_t)total;
		assert_int_equal(parse(&b, &h), -1);
		assert_int_equal(h.family, 0);
	}
	for (unsigned first = 0; first < 256; first++) {
		struct build b = udp4();
		struct headers h;
		unsigned words = first & 15;

		b.bytes[14] = (uint8_t)first;
		(void)parse(&b, &h);
		assert_int_equal(h.family,
				 first >> 4 == 4 && words >= 5 && words * 4 <= b.len - 14 ? 4 : 0);
		if (h.family == 4)
			assert_int_equal(h.l4_offset, 14 + words * 4);
	}
}

static void ipv4_options_are_crossed(void **state)
{
	struct build b = {0};
	struct headers h;

	(void)state;
	put_ether(&b, 0x0800);
	put_ipv4(&b, 17, 1, 0);
	b.bytes[14] = 0x4f;
	put_zeros(&b, 40);
	put_udp(&b, 5, 6);
	fix_lengths(&b);
	assert_int_equal(parse(&b, &h), 0);
	assert_int_equal(h.l4_offset, 14 + 60);
	assert_int_equal(h.dport, 6);
}

static void ipv4_fragments_are_told_apart(void **state)
{
	static const struct {
		uint16_t field;
		uint8_t flags;
	} rows[] = {
		{0x0000, PKT_HAS_PORTS},
		{0x4000, PKT_HAS_PORTS},
		{0x8000, PKT_HAS_PORTS},
		{0x2000, PKT_HAS_PORTS | PKT_FRAGMENT_FIRST},
		{0x6000, PKT_HAS_PORTS | PKT_FRAGMENT_FIRST},
		{0x0001, PKT_FRAGMENT_LATER},
		{0x2001, PKT_FRAGMENT_LATER},
		{0x1fff, PKT_FRAGMENT_LATER},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct build b = udp4();
		struct headers h;

		b.bytes[20] = (uint8_t)(rows[i].field >> 8);
		b.bytes[21] = (uint8_t)rows[i].field;
		assert_int_equal(parse(&b, &h), 0);
		assert_int_equal(h.flags, rows[i].flags);
		assert_int_equal(h.protocol, 17);
	}
}

static void ipv6_extension_headers_are_crossed(void **state)
{
	struct build b = {0};
	struct headers h;

	(void)state;
	put_ether(&b, 0x86dd);
	put_ipv6(&b, 0);
	put_options(&b, 60, 1);
	put_options(&b, 43, 0);
	put_options(&b, 44, 2);
	put_fragment(&b, 51, 0, 0xabcdef01); // RFC 6946: whole
	put_ah(&b, 60);
	put_options(&b, 6, 0);
	put_tcp(&b, 1000, 2000, 0x12);
	fix_lengths(&b);
	assert_int_equal(parse(&b, &h), 0);
	assert_int_equal(h.family, 6);
	assert_int_equal(h.protocol, 6);
	assert_int_equal(h.l4_offset, 14 + 40 + 16 + 8 + 24 + 8 + 24 + 8);
	assert_int_equal(h.sport, 1000);
	assert_int_equal(h.tcp_flags, 0x12);
	assert_int_equal(h.fragment_id, 0xabcdef01);
	assert_int_equal(h.flags, PKT_HAS_PORTS | PKT_HAS_TCP_FLAGS);
}

static void ipv6_fragments_are_told_apart(void **state)
{
	(void)state;
	for (unsigned later = 0; later < 2; later++) {
		struct build b = {0};
		struct headers h;

		put_ether(&b, 0x86dd);
		put_ipv6(&b, 44);
		put_fragment(&b, 60, later ? 8 : 1, 77);
		put_options(&b, 17, 0);
		put_udp(&b, 500, 500);
		fix_lengths(&b);
		assert_int_equal(parse(&b, &h), 0);
		assert_int_equal(h.fragment_id, 77);
		assert_int_equal(h.protocol, later ? 60 : 17);
		assert_int_equal(h.flags,
				 later ? PKT_FRAGMENT_LATER : PKT_FRAGMENT_FIRST | PKT_HAS_PORTS);
	}
}

static void eight_extension_headers_are_crossed_and_nine_are_not(void **state)
{
	(void)state;
	for (unsigned n = 8; n <= 9; n++) {
		struct build b = {0};
		struct headers h;

		put_ether(&b, 0x86dd);
		put_ipv6(&b, 60);
		for (unsigned i = 1; i <= n; i++)
			put_options(&b, i == n ? 17 : 60, 0);
		put_udp(&b, 1, 2);
		fix_lengths(&b);
		assert_int_equal(parse(&b, &h), n == 8 ? 0 : -1);
		assert_int_equal(h.family, 6);
		assert_int_equal(h.protocol, n == 8 ? 17 : 60);
	}
}

static void second_fragment_header_lies(void **state)
{
	struct build b = {0};
	struct headers h;

	(void)state;
	put_ether(&b, 0x86dd);
	put_ipv6(&b, 44);
	put_fragment(&b, 44, 0, 1);
	put_fragment(&b, 17, 0, 2);
	put_udp(&b, 1, 2);
	fix_lengths(&b);
	assert_int_equal(parse(&b, &h), -1);
}

static void ipv6_payload_length_zero_means_the_rest_unless_nothing_follows(void **state)
{
	(void)state;
	for (unsigned none = 0; none < 2; none++) {
		struct build b = {0};
		struct headers h;

		put_ether(&b, 0x86dd);
		put_ipv6(&b, none ? 59 : 17);
		put_udp(&b, 1, 2);
		assert_int_equal(parse(&b, &h), 0);
		assert_int_equal(h.ip_end, none ? 54 : b.len);
	}
}

static void esp_behind_ah_is_esp(void **state)
{
	(void)state;
	for (unsigned v6 = 0; v6 < 2; v6++) {
		struct build b = {0};
		struct headers h;

		put_ether(&b, v6 ? 0x86dd : 0x0800);
		if (v6)
			put_ipv6(&b, 51);
		else
			put_ipv4(&b, 51, 1, 0);
		put_ah(&b, 50);
		put_zeros(&b, 40);
		fix_lengths(&b);
		assert_int_equal(parse(&b, &h), 0);
		assert_int_equal(h.protocol, 50);
		assert_int_equal(h.l4_offset, (v6 ? 54 : 34) + 24);
	}
}

static void ah_that_is_too_short_lies(void **state)
{
	struct build b = {0};
	struct headers h;

	(void)state;
	put_ether(&b, 0x0800);
	put_ipv4(&b, 51, 1, 0);
	put_ah(&b, 50);
	b.bytes[35] = 0;
	fix_lengths(&b);
	assert_int_equal(parse(&b, &h), -1);
	assert_int_equal(h.family, 4);
	assert_int_equal(h.protocol, 51);
}

static void all_five_transports_have_ports(void **state)
{
	static const struct {
		uint8_t protocol;
		uint32_t header_bytes;
	} rows[] = {{6, 20}, {17, 8}, {33, 12}, {132, 12}, {136, 8}};

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		for (uint32_t n = 0; n <= 20; n++) {
			struct build b = {0};
			struct headers h;

			put_ether(&b, 0x0800);
			put_ipv4(&b, rows[i].protocol, 1, 0);
			put_tcp(&b, 1111, 2222, 0);
			b.bytes[39] = 8; // a UDP length that does not lie
			b.len = 34 + n;
			fix_lengths(&b);
			assert_int_equal(parse(&b, &h), n >= rows[i].header_bytes ? 0 : -1);
			assert_int_equal((h.flags & PKT_HAS_PORTS) != 0, n >= 4);
			assert_int_equal(h.dport, n >= 4 ? 2222 : 0);
		}
	}
}

static void protocols_without_ports_have_none(void **state)
{
	(void)state;
	for (unsigned protocol = 0; protocol < 256; protocol++) {
		struct build b = udp4();
		struct headers h;

		if (protocol == 6 || protocol == 17 || protocol == 33 || protocol == 51 ||
		    protocol == 132 || protocol == 136)
			continue;
		b.bytes[23] = (uint8_t)protocol;
		assert_int_equal(parse(&b, &h), 0);
		assert_int_equal(h.protocol, protocol);
		assert_int_equal(h.flags, 0);
		assert_int_equal(h.sport | h.dport, 0);
	}
}

static void udp_length_of_one_to_seven_lies(void **state)
{
	(void)state;
	for (unsigned length = 0; length <= 9; length++) {
		struct build b = udp4();
		struct headers h;

		b.bytes[38] = 0;
		b.bytes[39] = (uint8_t)length;
		assert_int_equal(parse(&b, &h), length >= 1 && length <= 7 ? -1 : 0);
		assert_int_equal(h.dport, 53);
	}
}

/* Each prefix ends in front of a page that faults: a read beyond it kills the test. */
static void no_prefix_of_any_header_is_read_beyond(void **state)
{
	struct build b = {0};
	struct headers h;

	(void)state;
	put_ether(&b, 0x86dd);
	for (unsigned i = 0; i < 4; i++)
		put_vlan(&b, 0x8100, 0x86dd);
	put_ipv6(&b, 0);
	put_options(&b, 43, 1);
	put_options(&b, 44, 0);
	put_fragment(&b, 51, 1, 9);
	put_ah(&b, 6);
	put_tcp(&b, 1, 2, 0);
	fix_lengths(&b);
	for (uint32_t len = 0; len < b.len; len++) {
		struct build cut = b;

		cut.len = len;
		assert_int_equal(parse(&cut, &h), -1);
		assert_int_equal(h.family, len >= 30 + 40 ? 6 : 0);
	}
	assert_int_equal(parse(&b, &h), 0);
	b = udp4();
	for (uint32_t len = 0; len < 42; len++) {
		struct build cut = b;

		cut.len = len;
		assert_int_equal(parse(&cut, &h), -1);
		assert_int_equal(h.family, len >= 34 ? 4 : 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_udp_gives_everything),
		cmocka_unit_test(tcp_flags_come_with_the_whole_fixed_header),
		cmocka_unit_test(cut_tcp_header_gives_ports_but_no_flags),
		cmocka_unit_test(data_offset_under_five_gives_no_flags),
		cmocka_unit_test(every_count_of_vlan_tags_up_to_four_is_crossed),
		cmocka_unit_test(other_ethertypes_are_whole_but_not_ip),
		cmocka_unit_test(ethernet_padding_is_not_payload),
		cmocka_unit_test(total_length_zero_means_the_rest_of_the_frame),
		cmocka_unit_test(total_length_beyond_the_frame_ends_with_it),
		cmocka_unit_test(ipv4_header_that_lies_is_not_ip),
		cmocka_unit_test(ipv4_options_are_crossed),
		cmocka_unit_test(ipv4_fragments_are_told_apart),
		cmocka_unit_test(ipv6_extension_headers_are_crossed),
		cmocka_unit_test(ipv6_fragments_are_told_apart),
		cmocka_unit_test(eight_extension_headers_are_crossed_and_nine_are_not),
		cmocka_unit_test(second_fragment_header_lies),
		cmocka_unit_test(ipv6_payload_length_zero_means_the_rest_unless_nothing_follows),
		cmocka_unit_test(esp_behind_ah_is_esp),
		cmocka_unit_test(ah_that_is_too_short_lies),
		cmocka_unit_test(all_five_transports_have_ports),
		cmocka_unit_test(protocols_without_ports_have_none),
		cmocka_unit_test(udp_length_of_one_to_seven_lies),
		cmocka_unit_test(no_prefix_of_any_header_is_read_beyond),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
