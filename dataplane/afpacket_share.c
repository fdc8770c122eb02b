/* afpacket_share.c - put the program together: find the addresses, fold them, hash, answer.
 *
 * The kernel's own PACKET_FANOUT_HASH was refused: it takes ports, which only the first fragment
 * has, so it would tear packets apart; with FLAG_DEFRAG it puts them together, and then they are
 * not as received.
 *
 * A fanout group with our program asks once a frame.  It has two limits: before Linux 6.13 nobody
 * can join while the interface is down, and where a frame's data begins depends on link and
 * direction.  The fall-back is a filter for each socket, which asks each queue for each frame: that
 * costs the kernel 9 % more a frame with two queues, 30 to 40 % with four and eight, twice as much
 * with 16 (veth, 64 bytes, medians of three).
 *
 * A fanout program sees a received frame from behind its EtherType on and a sent one from its
 * addresses on; the type of the packet tells them apart.  (Offsets from the link header,
 * SKF_LL_OFF, would do without, but cannot read what a driver left in pages.)
 *
 * Words of the addresses are folded with XOR, which does not know which came first; the golden
 * ratio then spreads neighbours.  Pairs with the same XOR share a queue, which only costs balance.
 *
 * Every load is behind a comparison with the length: a load past the end would end a filter with
 * "no" in all queues, and the frame would be nobody's.
 */
#include "dataplane/afpacket_share.h"

#include <assert.h>
#include <linux/if_packet.h>
#include <stdint.h>

enum {
	ETHERNET_BYTES = 14,
	TYPE_AT = 12,
	TAG_BYTES = 4,
	TAG_TYPE_AT = 2,
	IPV4_SRC_AT = 12,
	IPV4_DST_AT = 16,
	IPV4_ADDRESSES_END = 20,
	IPV6_ADDRESSES_AT = 8,
	IPV6_ADDRESS_WORDS = 8, // of both
	IPV6_ADDRESSES_END = 40,
	HASH_SHIFT = 16,
};

#define GOLDEN_RATIO UINT32_C(0x9e3779b1)

/* Scratch memory of the program. */
enum { CELL_FOLDED, CELL_AT, CELL_TYPE };

/* Where jumps go: the next instruction, or a place that is known only at the end. */
enum label {
	NEXT,
	LABEL_FRAME,
	LABEL_TAGS,
	LABEL_TAG,
	LABEL_TYPE = LABEL_TAG + VLAN_TAGS_MAX,
	LABEL_IPV4,
	LABEL_IPV6,
	LABEL_OTHER,
	LABEL_HASH,
	LABEL_TAKE,
	LABEL_LEAVE,
	LABEL_COUNT,
};

struct build {
	struct afpacket_share *out;
	uint8_t places[LABEL_COUNT];
};

static void add(struct build *b, uint16_t code, uint32_t k)
{
	assert(b->out->n < AFPACKET_SHARE_MAX);
	b->out->code[b->out->n++] = (struct sock_filter)BPF_STMT(code, k);
}

/* jt and jf hold labels until they are resolved. */
static void add_jump(struct build *b, uint16_t code, uint32_t k, unsigned yes, unsigned no)
{
	assert(b->out->n < AFPACKET_SHARE_MAX);
	b->out->code[b->out->n++] =
		(struct sock_filter)BPF_JUMP(BPF_JMP | BPF_K | code, k, (uint8_t)yes, (uint8_t)no);
}

static void go_to(struct build *b, unsigned label)
{
	add_jump(b, BPF_JGE, 0, label, label); // always true, and resolved like any other
}

static void place(struct build *b, unsigned label)
{
	b->places[label] = (uint8_t)b->out->n;
}

static void resolve(struct build *b)
{
	for (unsigned i = 0; i < b->out->n; i++) {
		struct sock_filter *f = &b->out->code[i];

		if (BPF_CLASS(f->code) != BPF_JMP)
			continue;
		if (f->jt != NEXT)
			f->jt = (uint8_t)(b->places[f->jt] - i - 1);
		if (f->jf != NEXT)
			f->jf = (uint8_t)(b->places[f->jf] - i - 1);
	}
}

/* On, if the frame has n bytes behind X; else it is nobody's. */
static void check_length(struct build *b, uint32_t n)
{
	add(b, BPF_LD | BPF_W | BPF_LEN, 0);
	add(b, BPF_ALU | BPF_SUB | BPF_X, 0);
	add_jump(b, BPF_JGE, n, NEXT, LABEL_OTHER);
}

/* A = EtherType, X = where what it names begins: of a frame as a fanout program sees it. */
static void start_fanout(struct build *b)
{
	add(b, BPF_LDX | BPF_IMM, 0);
	add(b, BPF_LD | BPF_B | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE));
	add_jump(b, BPF_JEQ, PACKET_OUTGOING, LABEL_FRAME, NEXT);
	add(b, BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PROTOCOL));
	go_to(b, LABEL_TAGS);
}

/* The same of a whole frame; X is 0 before. */
static void start_frame(struct build *b)
{
	place(b, LABEL_FRAME);
	check_length(b, ETHERNET_BYTES);
	add(b, BPF_LDX | BPF_IMM, ETHERNET_BYTES);
	add(b, BPF_LD | BPF_H | BPF_ABS, TYPE_AT);
}

/* A and X as above, behind all tags; goes where the EtherType says. */
static void skip_tags(struct build *b)
{
	static const uint32_t tags[] = {0x8100, 0x88a8, 0x9100, 0x9200};

	place(b, LABEL_TAGS);
	for (unsigned i = 0; i < VLAN_TAGS_MAX; i++) {
		for (unsigned t = 0; t < sizeof(tags) / sizeof(tags[0]); t++)
			add_jump(b, BPF_JEQ, tags[t], LABEL_TAG + i, NEXT);
		go_to(b, LABEL_TYPE);
		place(b, LABEL_TAG + i);
		check_length(b, TAG_BYTES);
		add(b, BPF_LD | BPF_H | BPF_IND, TAG_TYPE_AT);
		add(b, BPF_ST, CELL_TYPE);
		add(b, BPF_MISC | BPF_TXA, 0);
		add(b, BPF_ALU | BPF_ADD | BPF_K, TAG_BYTES);
		add(b, BPF_MISC | BPF_TAX, 0);
		add(b, BPF_LD | BPF_MEM, CELL_TYPE);
	}
	place(b, LABEL_TYPE);
	add_jump(b, BPF_JEQ, 0x0800, LABEL_IPV4, NEXT);
	add_jump(b, BPF_JEQ, 0x86dd, LABEL_IPV6, LABEL_OTHER);
}

/* Without Ethernet the packet says itself what it is. */
static void look_at_version(struct build *b)
{
	check_length(b, 1);
	add(b, BPF_LD | BPF_B | BPF_IND, 0);
	add(b, BPF_ALU | BPF_RSH | BPF_K, 4);
	add_jump(b, BPF_JEQ, 4, LABEL_IPV4, NEXT);
	add_jump(b, BPF_JEQ, 6, LABEL_IPV6, LABEL_OTHER);
}

/* A = the words at X + at, folded.  X is lost. */
static void fold(struct build *b, uint32_t at, unsigned n_words)
{
	add(b, BPF_STX, CELL_AT);
	add(b, BPF_LD | BPF_W | BPF_IND, at);
	for (unsigned i = 1; i < n_words; i++) {
		add(b, BPF_ST, CELL_FOLDED);
		add(b, BPF_LDX | BPF_MEM, CELL_AT);
		add(b, BPF_LD | BPF_W | BPF_IND, at + 4 * i);
		add(b, BPF_LDX | BPF_MEM, CELL_FOLDED);
		add(b, BPF_ALU | BPF_XOR | BPF_X, 0);
	}
}

static_assert(IPV4_DST_AT == IPV4_SRC_AT + 4, "two words in a row");

static void fold_addresses(struct build *b)
{
	place(b, LABEL_IPV4);
	check_length(b, IPV4_ADDRESSES_END);
	fold(b, IPV4_SRC_AT, 2);
	go_to(b, LABEL_HASH);
	place(b, LABEL_IPV6);
	check_length(b, IPV6_ADDRESSES_END);
	fold(b, IPV6_ADDRESSES_AT, IPV6_ADDRESS_WORDS);
	go_to(b, LABEL_HASH);
	place(b, LABEL_OTHER);
	add(b, BPF_LD | BPF_IMM, 0);
}

/* A = the queue. */
static void hash(struct build *b, unsigned n_queues)
{
	place(b, LABEL_HASH);
	add(b, BPF_ALU | BPF_MUL | BPF_K, GOLDEN_RATIO);
	add(b, BPF_ALU | BPF_RSH | BPF_K, HASH_SHIFT);
	add(b, BPF_ALU | BPF_MOD | BPF_K, n_queues);
}

void afpacket_share_fanout(struct afpacket_share *out, unsigned n_queues)
{
	struct build b = {.out = out};

	out->n = 0;
	start_fanout(&b);
	start_frame(&b);
	skip_tags(&b);
	fold_addresses(&b);
	hash(&b, n_queues);
	add(&b, BPF_RET | BPF_A, 0);
	resolve(&b);
}

void afpacket_share_filter(struct afpacket_share *out, unsigned queue, unsigned n_queues,
			   bool has_ethernet)
{
	struct build b = {.out = out};

	assert(queue < n_queues);
	out->n = 0;
	if (n_queues == 1) {
		add(&b, BPF_RET | BPF_K, AFPACKET_SNAP_BYTES);
		return;
	}
	add(&b, BPF_LDX | BPF_IMM, 0);
	if (has_ethernet) {
		start_frame(&b);
		skip_tags(&b);
	} else {
		look_at_version(&b);
	}
	fold_addresses(&b);
	hash(&b, n_queues);
	add_jump(&b, BPF_JEQ, queue, LABEL_TAKE, LABEL_LEAVE);
	place(&b, LABEL_TAKE);
	add(&b, BPF_RET | BPF_K, AFPACKET_SNAP_BYTES);
	place(&b, LABEL_LEAVE);
	add(&b, BPF_RET | BPF_K, 0);
	resolve(&b);
}

void afpacket_share_nothing(struct afpacket_share *out)
{
	struct build b = {.out = out};

	out->n = 0;
	add(&b, BPF_RET | BPF_K, 0);
}
