/* bench_source.c - see bench_source.h. */
#include "tools/bench_source.h"

#include <stdio.h>
#include <string.h>

#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "tools/bench_esp.h"

enum {
	POOL_CACHE = 256,
	DESCRIPTORS = 1024,
	DEVICE_MBUFS = 16383,
	FLOW_DISTANCE =
		611953, // a prime: from flow to flow all over the tables, each of them once a round
};

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

/* The n frames of the mix, each in an mbuf in the ring. */
static int fill_ring(struct rte_ring *ring, struct rte_mempool *pool, uint32_t n,
		     const struct bench_mix *mix)
{
	for (uint32_t i = 0; i < n; i++) {
		struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
		uint8_t frame[BENCH_ESP_FRAME_BYTES_MAX];
		uint32_t len = bench_any_frame(frame, i, mix);

		if (m == NULL || rte_pktmbuf_append(m, (uint16_t)len) == NULL)
			return -1;
		memcpy(rte_pktmbuf_mtod(m, uint8_t *), frame, len);
		if (rte_ring_enqueue(ring, m) != 0)
			return -1;
	}
	return 0;
}

int bench_source_ring(struct bench_source *source, uint32_t n, const struct bench_mix *mix)
{
	uint32_t room = mix->frame_bytes + RTE_PKTMBUF_HEADROOM;
	struct rte_mempool *pool = rte_pktmbuf_pool_create(
		"bench", n + 2 * POOL_CACHE, POOL_CACHE, 0,
		(uint16_t)(room > RTE_MBUF_DEFAULT_BUF_SIZE ? room : RTE_MBUF_DEFAULT_BUF_SIZE), 0);
	struct rte_ring *ring = rte_ring_create("bench", 2 * n, 0, RING_F_SP_ENQ | RING_F_SC_DEQ);
	int device = ring != NULL ? rte_eth_from_ring(ring) : -1;

	if (pool == NULL || device < 0) {
		(void)fprintf(stderr,
			      "The bench port cannot be made: too little memory for EAL?\n");
		return -1;
	}
	source->device = (uint16_t)device;
	source->puts_back = true;
	source->mix = *mix;
	source->is_readdressed = mix->n_flows > n && mix->esp == BENCH_ESP_NONE; // sealed
	source->flow_distance = FLOW_DISTANCE % mix->n_flows;
	if (start_device(source->device, pool) != 0 || fill_ring(ring, pool, n, mix) != 0)
		return -1;
	start_clock(source);
	return 0;
}

int bench_source_device(struct bench_source *source, uint16_t device)
{
	struct rte_mempool *pool = rte_pktmbuf_pool_create("bench", DEVICE_MBUFS, POOL_CACHE, 0,
							   RTE_MBUF_DEFAULT_BUF_SIZE, 0);

	source->device = device;
	source->puts_back = false;
	if (pool == NULL || start_device(device, pool) != 0)
		return -1;
	start_clock(source);
	return 0;
}

void bench_source_send(struct bench_source *source, struct rte_mbuf **mbufs, unsigned n)
{
	if (rte_eth_tx_burst(source->device, 0, mbufs, (uint16_t)n) != n)
		(void)fprintf(stderr, "The bench port lost frames of its own.\n");
}

static void set_flows(struct bench_source *source, struct rte_mbuf **mbufs, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		source->flow += source->flow_distance;
		if (source->flow >= source->mix.n_flows)
			source->flow -= source->mix.n_flows;
		bench_frame_set_flow(rte_pktmbuf_mtod(mbufs[i], uint8_t *), &source->mix,
				     source->flow);
	}
}

void bench_source_return(struct bench_source *source)
{
	struct rx_queue *q = &source->queue;

	if (!source->puts_back) {
		rx_free(q);
		return;
	}
	if (source->is_readdressed)
		set_flows(source, q->lent, q->n_lent);
	bench_source_send(source, q->lent, q->n_lent);
}
