/* test_afpacket.c - the shares of queues against a plain twin, blocks as the kernel makes them.
 *
 * The filter runs in two interpreters that nobody here wrote: libpcap's, and the kernel's, on a
 * socket pair, which takes the same programs as a packet socket and needs no root.
 */
#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include <linux/if_ether.h>
#include <pcap/pcap.h>

#include "dataplane/afpacket_block.h"
#include "dataplane/afpacket_share.h"
#include "tests/dice.h"

static_assert(sizeof(struct bpf_insn) == sizeof(struct sock_filter), "one layout, two names");

/* ---- shares ---- */

enum { FRAME_MAX = 128, QUEUES_MAX = 7 };

struct frame {
	uint8_t data[FRAME_MAX];
	uint32_t len;
};

/* Slow and plain: what queue the contract names. */
static uint32_t word_at(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static unsigned slow_queue(const struct frame *f, unsigned n_queues, bool has_ethernet)
{
	uint32_t at = 0, folded = 0, first, n;
	unsigned version = 0;

	if (has_ethernet) {
		unsigned type, tags = 0;

		for (at = 14;; at += 4) {
			if (f->len < at)
				return 0;
			type = f->data[at - 2] * 256u + f->data[at - 1];
			if ((type != 0x8100 && type != 0x88a8 && type != 0x9100 &&
			     type != 0x9200) ||
			    tags++ == VLAN_TAGS_MAX)
				break;
		}
		version = type == 0x0800 ? 4 : type == 0x86dd ? 6 : 0;
	} else if (f->len > 0) {
		version = f->data[0] >> 4;
	}
	if (version != 4 && version != 6)
		return 0;
	first = version == 4 ? 12 : 8;
	n = version == 4 ? 8 : 32;
	if (f->len < at + first + n)
		return 0;
	for (uint32_t i = 0; i < n; i += 4)
		folded ^= word_at(f->data + at + first + i);
	return (folded * UINT32_C(0x9e3779b1) >> 16) % n_queues;
}

static void put(struct frame *f, const void *bytes, uint32_t n)
{
	memcpy(f->data + f->len, bytes, n);
	f->len += n;
}

static void put_random(struct dice *d, struct frame *f, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		f->data[f->len++] = (uint8_t)dice_next(d);
}

/* A frame with up to five tags, of IPv4, IPv6 or anything, sometimes cut. */
static struct frame random_frame(struct dice *d, bool has_ethernet)
{
	static const uint8_t tags[][2] = {{0x81, 0}, {0x88, 0xa8}, {0x91, 0}, {0x92, 0}};
	static const uint8_t types[][2] = {{8, 0}, {0x86, 0xdd}, {8, 6}};
	static const uint8_t versions[] = {0x45, 0x60, 0x16};
	struct frame f = {0};
	unsigned kind = dice_below(d, 3);

	if (has_ethernet) {
		put_random(d, &f, 12);
		for (unsigned n = dice_one_in(d, 2) ? dice_below(d, 6) : 0; n > 0; n--) {
			put(&f, tags[dice_below(d, 4)], 2);
			put_random(d, &f, 2);
		}
		put(&f, types[kind], 2);
	}
	put(&f, &versions[kind], 1);
	put_random(d, &f, 39 + dice_below(d, 40));
	if (dice_one_in(d, 3))
		f.len = 1 + dice_below(d, f.len);
	return f;
}

/* What the kernel makes of a frame on a socket with this program: bytes that come through. */
static uint32_t kernel_filter(const struct afpacket_share *share, const struct frame *f)
{
	struct sock_fprog program = {.len = share->n, .filter = (struct sock_filter *)share->code};
	uint8_t out[FRAME_MAX];
	ssize_t n;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
	assert_int_equal(
		setsockopt(pair[1], SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)), 0);
	assert_int_equal(send(pair[0], f->data, f->len, 0), f->len);
	n = recv(pair[1], out, sizeof(out), MSG_DONTWAIT);
	close(pair[0]);
	close(pair[1]);
	return n < 0 ? 0 : (uint32_t)n;
}

static void check_shares(const struct frame *f, unsigned n_queues, bool has_ethernet)
{
	struct afpacket_share share;
	unsigned wanted = slow_queue(f, n_queues, has_ethernet);

	for (unsigned q = 0; q < n_queues; q++) {
		uint32_t taken;

		afpacket_share_filter(&share, q, n_queues, has_ethernet);
		taken = bpf_filter((const struct bpf_insn *)share.code, f->data, f->len, f->len);
		assert_int_equal(taken, q == wanted ? AFPACKET_SNAP_BYTES : 0);
		assert_int_equal(kernel_filter(&share, f), q == wanted ? f->len : 0);
	}
}

static void each_frame_is_taken_by_the_one_queue_that_its_addresses_name(void **state)
{
	struct dice d = dice_open("test_afpacket");

	(void)state;
	for (unsigned i = 0; i < 700; i++) {
		bool has_ethernet = dice_below(&d, 3) > 0;
		struct frame f = random_frame(&d, has_ethernet);

		check_shares(&f, 1 + dice_below(&d, QUEUES_MAX), has_ethernet);
	}
}

/* The answer of the fanout program: what the kernel says beside the frame is written into it. */
static unsigned fanout_queue(const struct frame *f, unsigned n_queues, bool is_sent)
{
	uint32_t skip = is_sent ? 0 : 14;
	struct afpacket_share share;
	unsigned n_found = 0;

	afpacket_share_fanout(&share, n_queues);
	for (unsigned i = 0; i < share.n; i++) {
		struct sock_filter *op = &share.code[i];

		if (BPF_CLASS(op->code) != BPF_LD || op->k < (uint32_t)SKF_AD_OFF)
			continue;
		n_found++;
		if (op->k == (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE))
			op->k = is_sent ? PACKET_OUTGOING : PACKET_HOST;
		else if (op->k == (uint32_t)(SKF_AD_OFF + SKF_AD_PROTOCOL))
			op->k = f->data[12] * 256u + f->data[13];
		else
			fail_msg("what is 0x%x?", op->k);
		op->code = BPF_LD | BPF_IMM;
	}
	assert_int_equal(n_found, 2);
	return bpf_filter((const struct bpf_insn *)share.code, f->data + skip, f->len - skip,
			  f->len - skip);
}

static void fanout_names_the_same_queue_as_the_filters_sent_or_received(void **state)
{
	struct dice d = dice_open("test_afpacket");

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		struct frame f = random_frame(&d, true);
		unsigned n_queues = 2 + dice_below(&d, QUEUES_MAX);

		if (f.len < 14)
			continue; // no driver hands it up
		assert_int_equal(fanout_queue(&f, n_queues, true), slow_queue(&f, n_queues, true));
		assert_int_equal(fanout_queue(&f, n_queues, false), slow_queue(&f, n_queues, true));
	}
}

/* Frame of the address pair, to or fro, with anything that must not matter. */
static struct frame pair_frame(struct dice *d, const uint8_t *a, const uint8_t *b, uint32_t n)
{
	const uint8_t type[] = {n == 4 ? 0x08 : 0x86, n == 4 ? 0x00 : 0xdd};
	const uint8_t tag[] = {0x81, 0, 0, 7};
	bool is_back = dice_one_in(d, 2);
	struct frame f = {0};

	put_random(d, &f, 12);
	if (dice_one_in(d, 2))
		put(&f, tag, 4);
	put(&f, type, 2);
	put_random(d, &f, n == 4 ? 12 : 8); // fragment offset, protocol, flow label ...
	put(&f, is_back ? b : a, n);
	put(&f, is_back ? a : b, n);
	put_random(d, &f, dice_below(d, 30));
	return f;
}

static void directions_and_fragments_of_a_pair_share_a_queue_and_pairs_spread(void **state)
{
	enum { PAIRS = 4000, QUEUES = 4, FRAMES = 6 };
	struct dice d = dice_open("test_afpacket");
	unsigned n_pairs[QUEUES] = {0};

	(void)state;
	for (unsigned i = 0; i < PAIRS; i++) {
		uint32_t n = dice_one_in(&d, 2) ? 4 : 16;
		uint8_t a[16] = {10, 0, 0, 1}, b[16] = {10, 1, (uint8_t)(i >> 8), (uint8_t)i};
		unsigned queue = QUEUES;

		for (unsigned j = 0; j < FRAMES; j++) {
			struct frame f = pair_frame(&d, a, b, n);
			unsigned taken_by = QUEUES;

			for (unsigned q = 0; q < QUEUES; q++) {
				struct afpacket_share share;

				afpacket_share_filter(&share, q, QUEUES, true);
				if (bpf_filter((const struct bpf_insn *)share.code, f.data, f.len,
					       f.len) > 0)
					taken_by = q;
			}
			assert_true(taken_by < QUEUES);
			assert_true(queue == QUEUES || queue == taken_by);
			queue = taken_by;
		}
		n_pairs[queue]++;
	}
	for (unsigned q = 0; q < QUEUES; q++)
		assert_in_range(n_pairs[q], PAIRS / QUEUES / 2, PAIRS / QUEUES * 2);
}

static void longest_programs_fit(void **state)
{
	struct afpacket_share share;

	(void)state;
	afpacket_share_filter(&share, WORKERS_MAX - 1, WORKERS_MAX, true);
	assert_in_range(share.n, 1, AFPACKET_SHARE_MAX);
	afpacket_share_fanout(&share, WORKERS_MAX);
	assert_in_range(share.n, 1, AFPACKET_SHARE_MAX);
}

/* ---- blocks ---- */

enum {
	BLOCK_BYTES = 1 << 17,
	FRAMES_AT = 48,
	HEADERS_BYTES = sizeof(struct tpacket3_hdr) + sizeof(struct sockaddr_ll),
};

static union {
	alignas(TPACKET_ALIGNMENT) struct tpacket_block_desc desc;
	uint8_t bytes[BLOCK_BYTES];
} block;
static uint32_t used;

static void block_clear(void)
{
	memset(&block, 0xee, sizeof(block));
	used = FRAMES_AT;
	block.desc.hdr.bh1.num_pkts = 0;
	block.desc.hdr.bh1.offset_to_first_pkt = FRAMES_AT;
}

static uint32_t align(uint32_t n)
{
	return (n + TPACKET_ALIGNMENT - 1) / TPACKET_ALIGNMENT * TPACKET_ALIGNMENT;
}

/* As tpacket_rcv() lays a frame out; the IP header lands on 16 bytes. */
static struct tpacket3_hdr *block_add(const void *frame, uint32_t len, uint32_t mac_bytes)
{
	struct tpacket3_hdr *h = (void *)(block.bytes + used);
	struct sockaddr_ll *from = (void *)(h + 1);
	uint32_t room = mac_bytes < 16 ? 16 : mac_bytes;
	uint32_t net = align(HEADERS_BYTES + room) + AFPACKET_RESERVE_BYTES;
	uint32_t next = align(net + len);

	assert_true(used + next <= BLOCK_BYTES);
	*h = (struct tpacket3_hdr){
		.tp_next_offset = next,
		.tp_snaplen = len,
		.tp_len = len,
		.tp_mac = (uint16_t)(net - mac_bytes),
		.tp_net = (uint16_t)net,
	};
	*from = (struct sockaddr_ll){.sll_family = AF_PACKET};
	memcpy((uint8_t *)h + h->tp_mac, frame, len);
	used += next;
	block.desc.hdr.bh1.num_pkts++;
	return h;
}

static const struct afpacket_times any_time = {.wall_ns = 1, .now_ns = 1, .first_ns = 1};

/* Read the block's only frame and compare it. */
static void check_only(bool has_ethernet, const char *frame, uint32_t len, uint32_t wire_len)
{
	struct afpacket_block in = afpacket_block_open(&block.desc, has_ethernet);
	struct pkt p[2];

	assert_int_equal(afpacket_block_read(&in, p, 2, &any_time), 1);
	assert_int_equal(p[0].len, len);
	assert_int_equal(p[0].wire_len, wire_len);
	assert_memory_equal(p[0].data, frame, len);
	assert_int_equal(afpacket_block_read(&in, p, 2, &any_time), 0);
}

static void vlan_tag_goes_back_to_where_it_was(void **state)
{
	struct tpacket3_hdr *h;

	(void)state;
	block_clear();
	h = block_add("ddddddssssss\x08\x00IP", 16, 14);
	h->tp_status = TP_STATUS_USER | TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID;
	h->hv1.tp_vlan_tpid = ETH_P_8021Q;
	h->hv1.tp_vlan_tci = 0xe123;
	check_only(true, "ddddddssssss\x81\x00\xe1\x23\x08\x00IP", 20, 20);
}

static void outer_tag_of_two_keeps_its_tpid(void **state)
{
	struct tpacket3_hdr *h;

	(void)state;
	block_clear();
	h = block_add("ddddddssssss\x81\x00\x00\x02\x08\x00IP", 20, 18);
	h->tp_status = TP_STATUS_USER | TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID;
	h->hv1.tp_vlan_tpid = ETH_P_8021AD;
	h->hv1.tp_vlan_tci = 0x0001;
	check_only(true, "ddddddssssss\x88\xa8\x00\x01\x81\x00\x00\x02\x08\x00IP", 24, 24);
}

static void tag_without_tpid_is_802_1q_and_tci_0_is_a_tag(void **state)
{
	struct tpacket3_hdr *h;

	(void)state;
	block_clear();
	h = block_add("ddddddssssss\x08\x00IP", 16, 14);
	h->tp_status = TP_STATUS_USER | TP_STATUS_VLAN_VALID;
	h->hv1.tp_vlan_tpid = 0x1234; // not said to be valid
	h->hv1.tp_vlan_tci = 0;
	check_only(true, "ddddddssssss\x81\x00\x00\x00\x08\x00IP", 20, 20);
}

static void frame_without_tag_is_left_alone(void **state)
{
	struct tpacket3_hdr *h;

	(void)state;
	block_clear();
	h = block_add("ddddddssssss\x08\x00IP", 16, 14);
	h->tp_status = TP_STATUS_USER | TP_STATUS_CSUMNOTREADY;
	h->hv1.tp_vlan_tci = 7; // not said to be valid
	check_only(true, "ddddddssssss\x08\x00IP", 16, 16);
}

static void cut_frame_keeps_its_original_length(void **state)
{
	struct tpacket3_hdr *h;

	(void)state;
	block_clear();
	h = block_add("ddddddssssss\x08\x00IP", 16, 14);
	h->tp_len = 250000;
	h->tp_status = TP_STATUS_USER | TP_STATUS_VLAN_VALID;
	h->hv1.tp_vlan_tci = 5;
	check_only(true, "ddddddssssss\x81\x00\x00\x05\x08\x00IP", 20, 250004);
}

static void frame_shorter_than_its_addresses_gets_no_tag(void **state)
{
	struct tpacket3_hdr *h;

	(void)state;
	block_clear();
	h = block_add("ddddddsssss", 11, 0);
	h->tp_status = TP_STATUS_USER | TP_STATUS_VLAN_VALID;
	check_only(true, "ddddddsssss", 11, 11);
}

static void packet_without_ethernet_gets_a_header(void **state)
{
	const char zeros[12] = {0};
	char wanted[64];
	struct tpacket3_hdr *h;

	(void)state;
	memcpy(wanted, zeros, 12);
	block_clear();
	h = block_add("IP", 2, 0);
	((struct sockaddr_ll *)(h + 1))->sll_protocol = __builtin_bswap16(ETH_P_IPV6);
	memcpy(wanted + 12, "\x86\xddIP", 4);
	check_only(false, wanted, 16, 16);

	block_clear();
	h = block_add("IP", 2, 0);
	((struct sockaddr_ll *)(h + 1))->sll_protocol = __builtin_bswap16(ETH_P_802_2);
	memcpy(wanted + 12, "\xff\xffIP", 4);
	check_only(false, wanted, 16, 16);

	block_clear();
	h = block_add("IP", 2, 0);
	((struct sockaddr_ll *)(h + 1))->sll_protocol = __builtin_bswap16(ETH_P_IP);
	h->tp_status = TP_STATUS_USER | TP_STATUS_VLAN_VALID;
	h->hv1.tp_vlan_tci = 9;
	memcpy(wanted + 12, "\x81\x00\x00\x09\x08\x00IP", 8);
	check_only(false, wanted, 20, 20);
}

/* Random frames, some tagged, read in pieces: none is harmed by its neighbour's tag. */
static void whole_block_comes_out_in_order_in_pieces_of_any_size(void **state)
{
	enum { FRAMES = 200, LEN_MAX = 200 };
	static uint8_t frames[FRAMES][LEN_MAX + 4];
	static uint32_t lens[FRAMES];
	struct dice d = dice_open("test_afpacket");
	struct afpacket_block in;
	struct pkt p[BURST_MAX];
	unsigned done = 0, n;

	(void)state;
	block_clear();
	for (unsigned i = 0; i < FRAMES; i++) {
		uint32_t len = 18 + dice_below(&d, LEN_MAX - 18), untagged = len;
		uint8_t bare[LEN_MAX];
		struct tpacket3_hdr *h;

		for (uint32_t j = 0; j < len; j++)
			frames[i][j] = (uint8_t)dice_next(&d);
		memcpy(bare, frames[i], len);
		if (dice_one_in(&d, 2)) {
			untagged -= 4;
			memcpy(bare + 12, frames[i] + 16, len - 16);
		}
		h = block_add(bare, untagged, 14 + 4 * dice_below(&d, 2));
		h->tp_status = TP_STATUS_USER;
		if (untagged < len) {
			h->tp_status |= TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID;
			h->hv1.tp_vlan_tpid = (uint16_t)(frames[i][12] << 8 | frames[i][13]);
			h->hv1.tp_vlan_tci = (uint32_t)frames[i][14] << 8 | frames[i][15];
		}
		lens[i] = len;
	}
	in = afpacket_block_open(&block.desc, true);
	while ((n = afpacket_block_read(&in, p, 1 + dice_below(&d, BURST_MAX), &any_time)) > 0)
		for (unsigned i = 0; i < n; i++, done++) {
			assert_int_equal(p[i].len, lens[done]);
			assert_memory_equal(p[i].data, frames[done], lens[done]);
		}
	assert_int_equal(done, FRAMES);
}

/* ---- times ---- */

#define WALL UINT64_C(1700000000000000000)
#define NOW  UINT64_C(5000000000)

static void stamp(uint64_t wall_ns)
{
	struct tpacket3_hdr *h = block_add("ddddddssssss\x08\x00IP", 16, 14);

	h->tp_sec = (uint32_t)(wall_ns / 1000000000);
	h->tp_nsec = (uint32_t)(wall_ns % 1000000000);
}

static void check_times(uint64_t first_ns, unsigned n, const uint64_t *wanted)
{
	const struct afpacket_times times = {.wall_ns = WALL, .now_ns = NOW, .first_ns = first_ns};
	struct afpacket_block in = afpacket_block_open(&block.desc, true);
	struct pkt p[BURST_MAX];

	assert_int_equal(afpacket_block_read(&in, p, BURST_MAX, &times), n);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(p[i].time_ns, wanted[i]);
}

static void stamps_come_over_by_their_age(void **state)
{
	(void)state;
	block_clear();
	stamp(WALL - 3000000);
	stamp(WALL - 2999000);
	stamp(WALL);
	check_times(1, 3, (const uint64_t[]){NOW - 3000000, NOW - 2999000, NOW});
}

static void stamps_that_stand_or_go_back_are_put_1_ns_behind_the_last(void **state)
{
	(void)state;
	block_clear();
	stamp(WALL - 500);
	stamp(WALL - 500);
	stamp(WALL - 900);
	stamp(WALL - 400);
	check_times(1, 4, (const uint64_t[]){NOW - 500, NOW - 499, NOW - 498, NOW - 400});
}

static void stamps_before_the_promise_take_the_first_time_after_it(void **state)
{
	(void)state;
	block_clear();
	stamp(WALL - 5000);
	stamp(0); // the clock was set meanwhile
	stamp(WALL - 10);
	check_times(NOW - 100, 3, (const uint64_t[]){NOW - 100, NOW - 99, NOW - 10});
}

static void stamps_of_the_future_are_now(void **state)
{
	(void)state;
	block_clear();
	stamp(WALL + 3600 * UINT64_C(1000000000));
	stamp(WALL - 1);
	check_times(1, 2, (const uint64_t[]){NOW, NOW + 1});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_frame_is_taken_by_the_one_queue_that_its_addresses_name),
		cmocka_unit_test(fanout_names_the_same_queue_as_the_filters_sent_or_received),
		cmocka_unit_test(directions_and_fragments_of_a_pair_share_a_queue_and_pairs_spread),
		cmocka_unit_test(longest_programs_fit),
		cmocka_unit_test(vlan_tag_goes_back_to_where_it_was),
		cmocka_unit_test(outer_tag_of_two_keeps_its_tpid),
		cmocka_unit_test(tag_without_tpid_is_802_1q_and_tci_0_is_a_tag),
		cmocka_unit_test(frame_without_tag_is_left_alone),
		cmocka_unit_test(cut_frame_keeps_its_original_length),
		cmocka_unit_test(frame_shorter_than_its_addresses_gets_no_tag),
		cmocka_unit_test(packet_without_ethernet_gets_a_header),
		cmocka_unit_test(whole_block_comes_out_in_order_in_pieces_of_any_size),
		cmocka_unit_test(stamps_come_over_by_their_age),
		cmocka_unit_test(stamps_that_stand_or_go_back_are_put_1_ns_behind_the_last),
		cmocka_unit_test(stamps_before_the_promise_take_the_first_time_after_it),
		cmocka_unit_test(stamps_of_the_future_are_now),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
