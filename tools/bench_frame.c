/* bench_frame.c - see bench_frame.h.
 *
 * Everything follows from i by arithmetic, so that frames need no table and a run can be repeated.  The
 * list mix takes its choices from a hash: a pattern would be learnt by the branch predictor.
 */
#include "tools/bench_frame.h"

#include <string.h>

enum {
	IP = 14,
	TCP = 34,
	LIST_STRIDE = 4096, // addresses from subnet to subnet; the longest takes half of it
	LIST_HALF = 512,    // a power of two: one subnet covers so many strides
	LIST_SRC = 10 << 24,
	LIST_DST = 10 << 24 | 128 << 16,
	EPHEMERAL_PORT = 40000,
	N_EPHEMERAL_PORTS = 20000,
};

enum outside { OUTSIDE_SRC, OUTSIDE_DST, OUTSIDE_PORT, OUTSIDE_COUNT };

static void put_be16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void put_be32(uint8_t *at, uint32_t value)
{
	put_be16(at, value >> 16);
	put_be16(at + 2, value);
}

static uint32_t ip_checksum(const uint8_t *header)
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < 20; i += 2)
		sum += (uint32_t)header[i] << 8 | header[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16)) & 0xffff;
}

/* The finalizer of splitmix64. */
static uint64_t hash(uint64_t x)
{
	x = (x + 1) * UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static struct bench_subnet list_subnet(uint32_t base, uint32_t i)
{
	return (struct bench_subnet){base + i * LIST_STRIDE, (uint8_t)(21 + i % 8)};
}

struct bench_subnet bench_list_src(uint32_t i)
{
	return list_subnet(LIST_SRC, i);
}

struct bench_subnet bench_list_dst(uint32_t i)
{
	return list_subnet(LIST_DST, i);
}

uint16_t bench_list_port(uint32_t i)
{
	return (uint16_t)(2000 + 17 * i);
}

struct bench_subnet bench_list_half(void)
{
	return (struct bench_subnet){LIST_SRC, 11}; // LIST_HALF * LIST_STRIDE is 2^21
}

bool bench_flow_is_listed(const struct bench_mix *mix, uint32_t flow)
{
	return mix->list_length > 0 && ((flow ^ hash(flow >> 1)) & 1) == 0;
}

/* An address in the subnet, or the first behind it. */
static uint32_t address_of(struct bench_subnet subnet, uint32_t dice, bool is_outside)
{
	uint32_t n = UINT32_C(1) << (32 - subnet.prefix_len);

	return subnet.address + (is_outside ? n : dice % n);
}

/* The source tells listed from other packets if the list is long enough: see bench_list_half(). */
static uint32_t list_src_index(uint32_t n, uint32_t dice, bool is_listed)
{
	if (n <= LIST_HALF)
		return dice % n;
	return is_listed ? dice % LIST_HALF : LIST_HALF + dice % (n - LIST_HALF);
}

static struct bench_flow list_flow(const struct bench_mix *mix, uint32_t flow)
{
	uint64_t dice = hash(flow), hosts = hash(~dice);
	uint32_t n = mix->list_length;
	bool is_listed = bench_flow_is_listed(mix, flow);
	enum outside outside = is_listed ? OUTSIDE_COUNT : dice % OUTSIDE_COUNT;
	uint32_t src = list_src_index(n, (uint32_t)(dice >> 8) & 0xffff, is_listed);
	uint32_t dst = (uint32_t)(dice >> 24 & 0xffff) % n;
	uint32_t port = (uint32_t)(dice >> 40 & 0xffff) % n;
	struct bench_flow out = {
		.src = address_of(bench_list_src(src), (uint32_t)hosts, outside == OUTSIDE_SRC),
		.dst = address_of(bench_list_dst(dst), (uint32_t)(hosts >> 32),
				  outside == OUTSIDE_DST),
		.sport = (uint16_t)(EPHEMERAL_PORT + flow % N_EPHEMERAL_PORTS),
		.dport = (uint16_t)(bench_list_port(port) + (outside == OUTSIDE_PORT)),
	};

	if (dice >> 63 == 0)
		return out;
	return (struct bench_flow){out.dst, out.src, out.dport, out.sport};
}

struct bench_flow bench_flow(const struct bench_mix *mix, uint32_t flow)
{
	if (mix->list_length > 0)
		return list_flow(mix, flow);
	// From 65,536 flows on the third byte of the destination tells them apart.
	return (struct bench_flow){
		.src = 10U << 24 | 1 << 16 | (flow & 0xffff),
		.dst = 10U << 24 | 2 << 16 | (((flow >> 4) + 31 * (flow >> 16)) & 0xff) << 8 |
		       (flow * 7 & 0xff),
		.sport = (uint16_t)(1024 + flow),
		.dport = (uint16_t)(2048 + flow * 13 % 50000),
	};
}

void bench_frame_set_flow(uint8_t *frame, const struct bench_mix *mix, uint32_t flow)
{
	struct bench_flow f = bench_flow(mix, flow);

	put_be32(frame + IP + 12, f.src);
	put_be32(frame + IP + 16, f.dst);
	put_be16(frame + TCP, f.sport);
	put_be16(frame + TCP + 2, f.dport);
}

void bench_ip_set_length(uint8_t *ip, uint32_t bytes)
{
	put_be16(ip + 2, bytes);
	put_be16(ip + 10, 0);
	put_be16(ip + 10, ip_checksum(ip));
}

uint32_t bench_frame(uint8_t frame[BENCH_FRAME_BYTES_MAX], uint32_t i, const struct bench_mix *mix)
{
	static const uint32_t imix[12] = {60, 570, 60, 60, 570, 60, 1514, 60, 570, 60, 60, 570};
	static const uint8_t macs[12] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};
	uint32_t len = mix->frame_bytes > 0 ? mix->frame_bytes : imix[i % 12];
	uint8_t *ip = frame + IP, *tcp = frame + TCP;

	memset(frame, 0, len);
	memcpy(frame, macs, sizeof(macs));
	put_be16(frame + 12, 0x0800);
	ip[0] = 0x45;
	put_be16(ip + 4, i);
	ip[8] = 64;
	ip[9] = 6;
	bench_frame_set_flow(frame, mix, i % mix->n_flows);
	bench_ip_set_length(ip, len - IP);
	tcp[12] = 0x50;
	tcp[13] = 0x10; // ACK
	return len;
}
