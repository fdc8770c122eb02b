/* bench_frame.h - the packets that the bench measures with.
 *
 * Frame i of a mix is the same in every run: Ethernet, IPv4, TCP with ACK.  Lengths are without the FCS,
 * which no driver shows.
 * Standard mix: 10.1.x.y to 10.2.x.y, ports and addresses by flow.
 * List mix: packets for lists of list_length source subnets, destination subnets and ports.  Of each two
 *   flows one is in all three lists and the other just outside one of them: the first address behind a
 *   subnet, the port after a port.  In half of both, source and destination are swapped.
 * Units:    addresses and ports in host order.
 * Proof:    tests/test_bench.py (distinct five-tuples, half of the list mix outside)
 */
#ifndef GATECAP_TOOLS_BENCH_FRAME_H
#define GATECAP_TOOLS_BENCH_FRAME_H

#include <stdbool.h>
#include <stdint.h>

enum {
	BENCH_FRAME_64 = 60,
	BENCH_FRAME_BYTES_MAX = 1514,
	BENCH_LIST_MAX = 1000,
	BENCH_FLOWS_MAX = 1000000,
};

enum bench_esp { BENCH_ESP_NONE, BENCH_ESP_GCM, BENCH_ESP_CBC };

struct bench_mix {
	uint32_t frame_bytes; // 0: IMIX, 7 x 60, 4 x 570, 1 x 1514
	uint32_t n_flows;     // distinct five-tuples
	uint32_t list_length; // 0: the standard mix
	enum bench_esp esp;   // the frames lie in ESP: bench_esp.h
	uint32_t n_sas;	      // of them
};

struct bench_subnet {
	uint32_t address;
	uint8_t prefix_len;
};

struct bench_flow {
	uint32_t src, dst;
	uint16_t sport, dport;
};

/* Element i of the lists: subnets of 16 to 2048 addresses with room behind each, and every 17th port. */
struct bench_subnet bench_list_src(uint32_t i);
struct bench_subnet bench_list_dst(uint32_t i);
uint16_t bench_list_port(uint32_t i);

/* With lists of BENCH_LIST_MAX, this one source subnet holds exactly the packets that the lists do: their
 * sources are in the first half of the list, those of the others in the second.
 */
struct bench_subnet bench_list_half(void);

struct bench_flow bench_flow(const struct bench_mix *mix, uint32_t flow);
bool bench_flow_is_listed(const struct bench_mix *mix, uint32_t flow);

/* Frame i; gives its length. */
uint32_t bench_frame(uint8_t frame[BENCH_FRAME_BYTES_MAX], uint32_t i, const struct bench_mix *mix);

/* Length and checksum of an IPv4 header without options. */
void bench_ip_set_length(uint8_t *ip, uint32_t bytes);

/* Make a frame one of another flow, in place.  The IP checksum, which nobody looks at, stays. */
void bench_frame_set_flow(uint8_t *frame, const struct bench_mix *mix, uint32_t flow);

#endif
