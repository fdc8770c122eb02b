/* afpacket_block.c - walk a block; make each frame what it was on the wire.
 *
 * The kernel leaves a frame's checksum unfinished when hardware would have finished it
 * (TP_STATUS_CSUMNOTREADY); it is left so: nobody ever saw another one.
 *
 * The kernel's stamps are of the wall clock.  Their age at one moment is what carries over to our
 * timeline: if somebody sets the clock while a block waits, its frames alone are off, and never
 * before what was given out already nor after now.
 */
#include "dataplane/afpacket_block.h"

#include <assert.h>
#include <linux/if_ether.h>
#include <string.h>

enum {
	ADDRESSES_BYTES = 12,
	HEADER_BYTES = 14,
	TAG_BYTES = 4,
	TYPE_LEAST = 0x0600, // below are lengths and Linux's pseudo protocols
	TYPE_NOBODYS = 0xffff,
	ADDRESS_AT = sizeof(struct tpacket3_hdr), // of struct sockaddr_ll
	COOKED_ROOM_BYTES = 16,			  // the kernel's own, in front of an IP packet
};

static_assert(ADDRESS_AT % TPACKET_ALIGNMENT == 0, "nothing lies between");
static_assert((int)AFPACKET_RESERVE_BYTES >= TAG_BYTES, "a tag goes in front of a frame");
static_assert((int)AFPACKET_RESERVE_BYTES + COOKED_ROOM_BYTES >= HEADER_BYTES + TAG_BYTES,
	      "a header and a tag go in front of an IP packet");

struct afpacket_block afpacket_block_open(struct tpacket_block_desc *desc, bool has_ethernet)
{
	const struct tpacket_hdr_v1 *head = &desc->hdr.bh1;

	return (struct afpacket_block){
		.next = (struct tpacket3_hdr *)((uint8_t *)desc + head->offset_to_first_pkt),
		.n_left = head->num_pkts,
		.has_ethernet = has_ethernet,
	};
}

static void put_be16(uint8_t *at, uint16_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static uint8_t *put_header(const struct tpacket3_hdr *h, uint8_t *data)
{
	const struct sockaddr_ll *from = (const void *)((const uint8_t *)h + ADDRESS_AT);
	uint16_t type = __builtin_bswap16(from->sll_protocol);

	data -= HEADER_BYTES;
	memset(data, 0, ADDRESSES_BYTES);
	put_be16(data + ADDRESSES_BYTES, type < TYPE_LEAST ? TYPE_NOBODYS : type);
	return data;
}

static uint8_t *put_tag(const struct tpacket3_hdr *h, uint8_t *data)
{
	bool has_tpid = h->tp_status & TP_STATUS_VLAN_TPID_VALID;

	data -= TAG_BYTES;
	memmove(data, data + TAG_BYTES, ADDRESSES_BYTES);
	put_be16(data + ADDRESSES_BYTES, has_tpid ? h->hv1.tp_vlan_tpid : ETH_P_8021Q);
	put_be16(data + ADDRESSES_BYTES + 2, (uint16_t)h->hv1.tp_vlan_tci);
	return data;
}

static void restore(const struct tpacket3_hdr *h, bool has_ethernet, struct pkt *p)
{
	uint8_t *data = (uint8_t *)h + h->tp_mac;
	uint32_t more = 0;

	if (!has_ethernet) {
		data = put_header(h, data);
		more = HEADER_BYTES;
	}
	if (__builtin_expect(h->tp_status & TP_STATUS_VLAN_VALID, 0) &&
	    h->tp_snaplen + more >= ADDRESSES_BYTES) {
		data = put_tag(h, data);
		more += TAG_BYTES;
	}
	p->data = data;
	p->len = h->tp_snaplen + more;
	p->wire_len = h->tp_len + more;
}

static uint64_t time_of(const struct tpacket3_hdr *h, const struct afpacket_times *times)
{
	uint64_t stamp_ns = h->tp_sec * UINT64_C(1000000000) + h->tp_nsec;
	uint64_t age_ns = stamp_ns < times->wall_ns ? times->wall_ns - stamp_ns : 0;

	return age_ns < times->now_ns ? times->now_ns - age_ns : 0;
}

unsigned afpacket_block_read(struct afpacket_block *block, struct pkt *p, unsigned max,
			     const struct afpacket_times *times)
{
	unsigned n = block->n_left < max ? block->n_left : max;
	uint64_t first_ns = times->first_ns;

	for (unsigned i = 0; i < n; i++) {
		struct tpacket3_hdr *h = block->next;
		uint64_t time_ns = time_of(h, times);

		block->next = (struct tpacket3_hdr *)((uint8_t *)h + h->tp_next_offset);
		__builtin_prefetch(block->next);
		restore(h, block->has_ethernet, &p[i]);
		p[i].time_ns = time_ns < first_ns ? first_ns : time_ns;
		first_ns = p[i].time_ns + 1;
	}
	block->n_left -= n;
	return n;
}
