/* fuzz_afpacket.c - frames with any bytes, tags and lengths in a block as the kernel lays it out.
 *
 * Input:  options (bit 0: Ethernet; bits 1-3: packets asked for at a time), then frames, each: status
 *         bits, protocol or tag (2), tag control (2), age in ms (2), bytes of the frame, what was cut off.
 * Checks: each packet is, byte by byte, what a plain twin makes of the frame; the times rise; nothing
 *         but the room in front of a frame is written.
 */
#include <linux/if_ether.h>

#include "dataplane/afpacket_block.h"
#include "tests/fuzz_insist.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	FRAMES_MAX = 40,
	FRAME_BYTES_MAX = 255,
	EXPECTED_BYTES_MAX = FRAME_BYTES_MAX + 18,
	NOW_NS = 2000000000,
	FIRST_NS = 1500000000,
	WALL_SECONDS = 1700000000,
};

/* What a frame has to come out as. */
struct expected {
	uint8_t data[EXPECTED_BYTES_MAX];
	uint32_t len, wire_len;
};

struct input {
	struct bytes bytes;
	bool has_ethernet;
	unsigned batch;
};

static size_t align16(size_t n)
{
	return (n + TPACKET_ALIGNMENT - 1) & ~(size_t)(TPACKET_ALIGNMENT - 1);
}

static void put_be16(struct expected *e, uint16_t value)
{
	e->data[e->len++] = (uint8_t)(value >> 8);
	e->data[e->len++] = (uint8_t)value;
}

/* The slow twin of afpacket_block.c. */
static void expect(struct expected *e, const struct tpacket3_hdr *h, uint16_t protocol,
		   const uint8_t *frame, bool has_ethernet)
{
	uint8_t plain[EXPECTED_BYTES_MAX] = {0};
	size_t n = 0, rest = 0;

	*e = (struct expected){0};
	if (!has_ethernet) {
		uint16_t type = protocol < 0x600 ? 0xffff : protocol;

		plain[12] = (uint8_t)(type >> 8);
		plain[13] = (uint8_t)type;
		n = 14;
	}
	memcpy(plain + n, frame, h->tp_snaplen);
	n += h->tp_snaplen;
	if ((h->tp_status & TP_STATUS_VLAN_VALID) && n >= 12) {
		memcpy(e->data, plain, 12);
		e->len = 12;
		put_be16(e, h->tp_status & TP_STATUS_VLAN_TPID_VALID ? h->hv1.tp_vlan_tpid
								     : ETH_P_8021Q);
		put_be16(e, (uint16_t)h->hv1.tp_vlan_tci);
		rest = 12;
	}
	memcpy(e->data + e->len, plain + rest, n - rest);
	e->len += (uint32_t)(n - rest);
	e->wire_len = e->len + h->tp_len - h->tp_snaplen;
}

/* Lay the next frame out at `at`; gives its bytes in the block.  `at` NULL: only measure. */
static size_t lay_frame(struct input *in, uint8_t *at, struct expected *e)
{
	uint8_t status = bytes_u8(&in->bytes);
	uint16_t word = bytes_u16(&in->bytes), tci = bytes_u16(&in->bytes);
	uint16_t age_ms = bytes_u16(&in->bytes);
	uint8_t len = bytes_u8(&in->bytes), cut = bytes_u8(&in->bytes);
	const uint8_t *frame;
	size_t n = bytes_take(&in->bytes, len, &frame);
	size_t mac = align16(sizeof(struct tpacket3_hdr)) + align16(sizeof(struct sockaddr_ll)) +
		     AFPACKET_RESERVE_BYTES + (in->has_ethernet ? 0 : 16);
	size_t total = align16(mac + n);
	struct tpacket3_hdr *h = (struct tpacket3_hdr *)at;
	uint64_t stamp_ns = WALL_SECONDS * UINT64_C(1000000000) - age_ms * UINT64_C(1000000);

	if (at == NULL)
		return total;
	*h = (struct tpacket3_hdr){.tp_next_offset = (uint32_t)total,
				   .tp_sec = (uint32_t)(stamp_ns / 1000000000),
				   .tp_nsec = (uint32_t)(stamp_ns % 1000000000),
				   .tp_snaplen = (uint32_t)n,
				   .tp_len = (uint32_t)(n + cut),
				   .tp_mac = (uint16_t)mac};
	if (status & 1)
		h->tp_status |= TP_STATUS_VLAN_VALID;
	if (status & 2)
		h->tp_status |= TP_STATUS_VLAN_TPID_VALID;
	if (status & 4)
		h->tp_status |= TP_STATUS_CSUMNOTREADY;
	h->hv1.tp_vlan_tci = tci;
	h->hv1.tp_vlan_tpid = word;
	((struct sockaddr_ll *)(at + align16(sizeof(*h))))->sll_protocol = __builtin_bswap16(word);
	memcpy(at + mac, frame, n);
	expect(e, h, word, frame, in->has_ethernet);
	return total;
}

static void check_block(struct tpacket_block_desc *block, const struct input *in,
			const struct expected *expected, unsigned n)
{
	const struct afpacket_times times = {.wall_ns = WALL_SECONDS * UINT64_C(1000000000),
					     .now_ns = NOW_NS,
					     .first_ns = FIRST_NS};
	struct afpacket_block reader = afpacket_block_open(block, in->has_ethernet);
	struct afpacket_times next = times;
	struct pkt p[FRAMES_MAX];
	unsigned done = 0, got;

	while ((got = afpacket_block_read(&reader, p, in->batch, &next)) > 0) {
		for (unsigned i = 0; i < got; i++) {
			const struct expected *e = &expected[done + i];

			insist(p[i].len == e->len && p[i].wire_len == e->wire_len, "lengths");
			insist(memcmp(p[i].data, e->data, e->len) == 0, "bytes");
			insist(p[i].time_ns >= next.first_ns, "times rise");
			insist(p[i].time_ns <= NOW_NS || p[i].time_ns == next.first_ns,
			       "never after now");
			next.first_ns = p[i].time_ns + 1;
		}
		done += got;
	}
	insist(done == n, "every frame comes out");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct expected expected[FRAMES_MAX];
	struct input in = {.bytes = {data, size}}, again;
	size_t begin = align16(sizeof(struct tpacket_block_desc)), total = begin, at;
	struct tpacket_block_desc *block;
	uint8_t options = bytes_u8(&in.bytes);
	unsigned n = 0;

	in.has_ethernet = options & 1;
	in.batch = 1 + (options >> 1 & 7);
	again = in;
	while (again.bytes.left > 0 && n < FRAMES_MAX) {
		total += lay_frame(&again, NULL, NULL);
		n++;
	}
	block = calloc(1, total); // to the byte: what reads beyond is seen
	insist(block != NULL, "memory");
	block->hdr.bh1.num_pkts = n;
	block->hdr.bh1.offset_to_first_pkt = (uint32_t)begin;
	at = begin;
	for (unsigned i = 0; i < n; i++)
		at += lay_frame(&in, (uint8_t *)block + at, &expected[i]);
	check_block(block, &in, expected, n);
	free(block);
	return 0;
}
