/* bench_source.c - see bench_source.h. */
#include "tools/bench_source.h"

#include <stdio.h>
#include <string.h>

#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

enum { POOL_CACHE = 256, DESCRIPTORS = 1024 };

static void put_be16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static uint32_t ip_checksum(const uint8_t *header)
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < 20; i += 2)
		sum += (uint32_t)header[i] << 8 | header[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16)) & 0xffff;
}

uint32_t bench_frame(uint8_t frame[BENCH_FRAME_BYTES_MAX], uint32_t i, bool is_imix)
{
	static const uint32_t imix[12] = {60, 570, 60, 60, 570, 60, 1514, 60, 570, 60, 60, 570};
	static const uint8_t macs[12] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};
	uint32_t len = is_imix ? imix[i % 12] : BENCH_FRAME_64, flow = i % BENCH_FLOWS;
	uint8_t *ip = frame + 14, *tcp = frame + 34;

	memset(frame, 0, len);
	memcpy(frame, macs, sizeof(macs));
	put_be16(frame + 12, 0x0800);
	ip[0] = 0x45;
	put_be16(ip + 2, len - 14);
	put_be16(ip + 4, i);
	ip[8] = 64;
	ip[9] = 6;
	memcpy(ip + 12, (const uint8_t[]){10, 1, (uint8_t)(flow >> 8), (uint8_t)flow}, 4);
	memcpy(ip + 16, (const uint8_t[]){10, 2, (uint8_t)(flow >> 4), (uint8_t)(flow * 7)}, 4);
	put_be16(ip + 10, ip_checksum(ip));
	put_be16(tcp, 1024 + flow);
	put_be16(tcp + 2, 2048 + flow * 13 % 50000);
	tcp[12] = 0x50;
	tcp[13] = 0x10; // ACK
	return len;
}

static int start_device(uint16_t device, struct rte_mempool *pool)
{
	const struct rte_eth_conf conf = {0};

	if (rte_eth_dev_configure(device, 1, 1, &conf) != 0 ||
	    rte_eth_tx_queue_setup(device, 0, DESCRIPTORS, 0, NULL) != 0 ||
	    rte_eth_rx_queue_setup(device, 0, DESCRIPTORS, 0, NULL, pool) != 0 ||
	    rte_eth_dev_start(device) != 0) {
		(void)fprintf(stderr, "The bench port %u cannot be started.\n", device);
		return -1;
	}
	return 0;
}

static void start_clock(struct bench_source *source)
{
	clock_open(&source->clock);
	source->time = (struct rx_time){.clock = &source->clock};
	rx_queue_init_device(&source->queue, source->device, 0, &source->time);
}

int bench_source_ring(struct bench_source *source, uint32_t n, bool is_imix)
{
	struct rte_mempool *pool = rte_pktmbuf_pool_create("bench", 2 * n - 1, POOL_CACHE, 0,
							   RTE_MBUF_DEFAULT_BUF_SIZE, 0);
	struct rte_ring *ring = rte_ring_create("bench", 2 * n, 0, RING_F_SP_ENQ | RING_F_SC_DEQ);
	int device = ring != NULL ? rte_eth_from_ring(ring) : -1;

	if (pool == NULL || device < 0) {
		(void)fprintf(stderr,
			      "The bench port cannot be made: too little memory for EAL?\n");
		return -1;
	}
	source->device = (uint16_t)device;
	source->puts_back = true;
	if (start_device(source->device, pool) != 0)
		return -1;
	for (uint32_t i = 0; i < n; i++) {
		struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
		uint8_t frame[BENCH_FRAME_BYTES_MAX];
		uint32_t len = bench_frame(frame, i, is_imix);

		if (m == NULL || rte_pktmbuf_append(m, (uint16_t)len) == NULL)
			return -1;
		memcpy(rte_pktmbuf_mtod(m, uint8_t *), frame, len);
		if (rte_ring_enqueue(ring, m) != 0)
			return -1;
	}
	start_clock(source);
	return 0;
}

int bench_source_device(struct bench_source *source, uint16_t device)
{
	struct rte_mempool *pool = rte_pktmbuf_pool_create("bench", 16383, POOL_CACHE, 0,
							   RTE_MBUF_DEFAULT_BUF_SIZE, 0);

	source->device = device;
	source->puts_back = false;
	if (pool == NULL || start_device(device, pool) != 0)
		return -1;
	start_clock(source);
	return 0;
}

void bench_source_return(struct bench_source *source)
{
	struct rx_queue *q = &source->queue;

	if (!source->puts_back)
		rx_free(q);
	else if (rte_eth_tx_burst(source->device, 0, q->lent, q->n_lent) != q->n_lent)
		(void)fprintf(stderr, "The bench port lost frames of its own.\n");
}
