/* rx.c - set up DPDK devices and turn their mbufs into struct pkt; the only stage with DPDK headers.
 *
 * One packet pool a queue: its worker is the only one that takes from it and gives back, so the
 * pool's per-core cache is always hot and no pool is ever shared between cores.
 * Losses of a device: imissed and rx_nombuf.
 * Promiscuous mode of an AF_XDP interface is a membership of a socket of ours, not the interface's
 * flag: the kernel takes it back when the process ends, however it ends.
 */
#include "dataplane/rx.h"

#include <assert.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_prefetch.h>

#include "filters/log.h"
#include "dataplane/afpacket_source.h"
#include "dataplane/eal_args.h"
#include "dataplane/pcap_source.h"
#include "dataplane/xdp_program.h"

enum {
	RX_DESCRIPTORS = 2048,
	TX_DESCRIPTORS = 512,
	POOL_MBUFS =
		8191, // descriptors twice (AF_XDP's fill ring), bursts and cache; 2^n - 1 packs best
	POOL_CACHE = 256,
	RSS_KEY_BYTES_MAX = 64,
};

struct rx_port {
	const struct args_port *args;
	struct pcap_source *pcap;	  // or NULL
	struct afpacket_source *afpacket; // or NULL
	bool is_device_started;
	uint16_t device;
	int interface;	 // of AF_XDP, 0: none
	unsigned xdp_id; // of our program on the interface, 0: none
	int promiscuous_fd;
	struct rte_mempool *pools[WORKERS_MAX];
};

struct rx {
	unsigned n_ports;
	struct rx_port ports[PORTS_MAX];
};

/* ---- opening ---- */

static int open_pcap(struct rx_port *port, struct error *err)
{
	const struct pcap_source_options options = {
		.path = port->args->target,
		.n_queues = port->args->n_queues,
		.loops = port->args->loops,
		.is_fast = port->args->is_fast,
	};

	port->pcap = pcap_source_open(&options, err);
	if (port->pcap == NULL)
		return -EINVAL;
	log_info("Port \"%s\": %llu frames of %s are loaded.", port->args->name,
		 (unsigned long long)pcap_source_frames(port->pcap), port->args->target);
	return 0;
}

static int open_afpacket(struct rx_port *port, struct error *err)
{
	const struct args_port *args = port->args;
	int rc;

	port->afpacket = afpacket_source_open(args->target, args->n_queues, err);
	if (port->afpacket == NULL)
		return -EINVAL;
	rc = afpacket_source_promiscuous(port->afpacket);
	if (rc != 0)
		log_warning("Port \"%s\": %s cannot be made promiscuous (%s); frames for other "
			    "addresses are not seen.",
			    args->name, args->target, strerror(-rc));
	if (!afpacket_source_is_up(port->afpacket))
		log_warning("Port \"%s\": %s is down; its frames are captured as soon as it is up.",
			    args->name, args->target);
	log_info("Port \"%s\": %s is open with %u queue%s.", args->name, args->source,
		 args->n_queues, args->n_queues == 1 ? "" : "s");
	return 0;
}

/* 0x6d5a repeated: with this Toeplitz key a hash is the same for both directions. */
static void configure_rss(const struct rx_port *port, const struct rte_eth_dev_info *info,
			  uint8_t key[static RSS_KEY_BYTES_MAX], struct rte_eth_conf *conf)
{
	const uint64_t addresses = RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_FRAG_IPV4 |
				   RTE_ETH_RSS_NONFRAG_IPV4_OTHER | RTE_ETH_RSS_IPV6 |
				   RTE_ETH_RSS_FRAG_IPV6 | RTE_ETH_RSS_NONFRAG_IPV6_OTHER;

	if (port->args->n_queues == 1 || port->args->kind == SOURCE_AF_XDP)
		return;
	conf->rx_adv_conf.rss_conf.rss_hf = addresses & info->flow_type_rss_offloads;
	if (conf->rx_adv_conf.rss_conf.rss_hf == 0) {
		log_warning(
			"Port \"%s\": the device cannot spread frames by their addresses; it chooses "
			"queues its own way, and fragments may miss their first.",
			port->args->name);
		return;
	}
	conf->rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
	if (info->hash_key_size == 0 || info->hash_key_size > RSS_KEY_BYTES_MAX) {
		log_warning(
			"Port \"%s\": the device takes no hash key; the two directions of a flow may "
			"reach different workers.",
			port->args->name);
		return;
	}
	for (unsigned i = 0; i < info->hash_key_size; i++)
		key[i] = i % 2 == 0 ? 0x6d : 0x5a;
	conf->rx_adv_conf.rss_conf.rss_key = key;
	conf->rx_adv_conf.rss_conf.rss_key_len = info->hash_key_size;
}

static int configure_device(struct rx_port *port, const struct rte_eth_dev_info *info,
			    struct error *err)
{
	const uint16_t n_rx = (uint16_t)port->args->n_queues;
	/* Drivers that pair queues (AF_XDP) want as many for sending; nothing is ever sent. */
	const uint16_t n_tx = n_rx < info->max_tx_queues ? n_rx : info->max_tx_queues;
	uint16_t rx_descriptors = RX_DESCRIPTORS, tx_descriptors = TX_DESCRIPTORS;
	struct rte_eth_conf conf = {0};
	uint8_t key[RSS_KEY_BYTES_MAX];
	int rc;

	if (n_rx > info->max_rx_queues) {
		error_set(err, "Port \"%s\": %u queues are asked for and %s has %u; lower queues.",
			  port->args->name, n_rx, port->args->source, info->max_rx_queues);
		return -EINVAL;
	}
	configure_rss(port, info, key, &conf);
	conf.rxmode.offloads = info->rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER;
	rc = rte_eth_dev_configure(port->device, n_rx, n_tx, &conf);
	if (rc == 0)
		rc = rte_eth_dev_adjust_nb_rx_tx_desc(port->device, &rx_descriptors,
						      &tx_descriptors);
	for (uint16_t q = 0; rc == 0 && q < n_tx; q++)
		rc = rte_eth_tx_queue_setup(port->device, q, tx_descriptors,
					    (unsigned)rte_eth_dev_socket_id(port->device), NULL);
	for (uint16_t q = 0; rc == 0 && q < n_rx; q++)
		rc = rte_eth_rx_queue_setup(port->device, q, rx_descriptors,
					    (unsigned)rte_eth_dev_socket_id(port->device), NULL,
					    port->pools[q]);
	if (rc == 0)
		rc = rte_eth_dev_start(port->device);
	if (rc != 0)
		error_set(err,
			  "Port \"%s\": %s cannot be set up: %s; the driver's own words are in the "
			  "lines above.",
			  port->args->name, port->args->source, strerror(-rc));
	port->is_device_started = rc == 0;
	return rc;
}

static int create_pools(struct rx_port *port, unsigned index, struct error *err)
{
	for (unsigned q = 0; q < port->args->n_queues; q++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "gatecap_%u_%u", index, q);
		port->pools[q] = rte_pktmbuf_pool_create(name, POOL_MBUFS, POOL_CACHE, 0,
							 RTE_MBUF_DEFAULT_BUF_SIZE,
							 rte_eth_dev_socket_id(port->device));
		if (port->pools[q] != NULL)
			continue;
		error_set(
			err,
			"Port \"%s\": no memory for %d packet buffers of queue %u (%s); each queue "
			"takes about 20 MiB, so raise --memory-mb.",
			port->args->name, POOL_MBUFS, q, rte_strerror(rte_errno));
		return -ENOMEM;
	}
	return 0;
}

/* See every frame of an AF_XDP interface, for as long as the process lives. */
static void join_promiscuous(struct rx_port *port)
{
	struct packet_mreq request = {
		.mr_ifindex = port->interface,
		.mr_type = PACKET_MR_PROMISC,
	};

	port->promiscuous_fd =
		socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0); // protocol 0: gets nothing
	if (port->promiscuous_fd < 0 ||
	    setsockopt(port->promiscuous_fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &request,
		       sizeof(request)) != 0)
		log_warning("Port \"%s\": %s cannot be made promiscuous (%s); frames for other "
			    "addresses are not seen.",
			    port->args->name, port->args->target, strerror(errno));
}

/* AF_XDP gets the frames of the queues it polls; the kernel keeps those of the others to itself. */
static void check_channels(const struct rx_port *port)
{
	struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
	struct ifreq request = {.ifr_data = (void *)&channels};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	memcpy(request.ifr_name, port->args->target, strnlen(port->args->target, IFNAMSIZ - 1));
	if (fd >= 0 && ioctl(fd, SIOCETHTOOL, &request) == 0 &&
	    channels.combined_count + channels.rx_count > port->args->n_queues)
		log_warning(
			"Port \"%s\": %s has %u queues and %u are polled; frames that arrive on the others "
			"are not captured.  Raise queues= and workers, or give the interface fewer with "
			"ethtool -L.",
			port->args->name, port->args->target,
			channels.combined_count + channels.rx_count, port->args->n_queues);
	if (fd >= 0)
		close(fd);
}

static int open_device(struct rx_port *port, unsigned index, struct error *err)
{
	char name[EAL_DEVICE_NAME_BYTES];
	struct rte_eth_dev_info info;
	int rc;

	if (port->args->kind == SOURCE_AF_XDP)
		port->interface = (int)if_nametoindex(port->args->target);
	eal_device_name(port->args, index, name);
	if (rte_eth_dev_get_port_by_name(name, &port->device) != 0 ||
	    rte_eth_dev_info_get(port->device, &info) != 0) {
		error_set(err,
			  "Port \"%s\": EAL has no device %s; is the name of %s right, and does a "
			  "driver hold it?",
			  port->args->name, name, port->args->source);
		return -ENODEV;
	}
	rc = create_pools(port, index, err);
	if (rc == 0)
		rc = configure_device(port, &info, err);
	if (port->args->kind == SOURCE_AF_XDP) // also after a failure: it may be there already
		port->xdp_id = xdp_program_id(port->interface);
	if (rc != 0)
		return rc;
	if (port->args->kind == SOURCE_AF_XDP)
		join_promiscuous(port);
	else if (rte_eth_promiscuous_enable(port->device) != 0)
		log_warning(
			"Port \"%s\": %s has no promiscuous mode; frames for other addresses may not "
			"be seen.",
			port->args->name, port->args->source);
	if (port->args->kind == SOURCE_AF_XDP)
		check_channels(port);
	log_info("Port \"%s\": %s is open with %u queue%s.", port->args->name, port->args->source,
		 port->args->n_queues, port->args->n_queues == 1 ? "" : "s");
	return 0;
}

int rx_open(const struct args *args, struct rx **out, struct error *err)
{
	struct rx *rx = calloc(1, sizeof(*rx));
	int rc = 0;

	if (rx == NULL) {
		error_set(err, "Memory is short for the ports.");
		return -ENOMEM;
	}
	for (unsigned i = 0; i < args->n_ports && rc == 0; i++) {
		struct rx_port *port = &rx->ports[rx->n_ports++];

		port->args = &args->ports[i];
		port->promiscuous_fd = -1;
		if (port->args->kind == SOURCE_PCAP)
			rc = open_pcap(port, err);
		else if (port->args->kind == SOURCE_AF_PACKET)
			rc = open_afpacket(port, err);
		else
			rc = open_device(port, i, err);
	}
	if (rc != 0) {
		rx_close(rx);
		return rc;
	}
	*out = rx;
	return 0;
}

static void close_device(struct rx_port *port)
{
	if (port->is_device_started) {
		(void)rte_eth_dev_stop(port->device);
		(void)rte_eth_dev_close(port->device);
	}
	for (unsigned q = 0; q < port->args->n_queues; q++)
		rte_mempool_free(port->pools[q]);
	if (port->promiscuous_fd >= 0)
		close(port->promiscuous_fd);
	// The driver removes the program when it closes; this is for the case that it could not.
	if (xdp_program_detach(port->interface, port->xdp_id) != 0)
		log_warning(
			"Port \"%s\": the XDP program stays on %s; take it off with ip link set dev %s "
			"xdp off.",
			port->args->name, port->args->target, port->args->target);
}

void rx_close(struct rx *rx)
{
	if (rx == NULL)
		return;
	for (unsigned i = 0; i < rx->n_ports; i++) {
		if (rx->ports[i].args->kind == SOURCE_PCAP)
			pcap_source_close(rx->ports[i].pcap);
		else if (rx->ports[i].args->kind == SOURCE_AF_PACKET)
			afpacket_source_close(rx->ports[i].afpacket);
		else
			close_device(&rx->ports[i]);
	}
	free(rx);
}

/* ---- the main thread, while the workers run ---- */

void rx_play(struct rx *rx, bool is_capture_running, uint64_t start_ns)
{
	for (unsigned i = 0; i < rx->n_ports; i++) {
		struct rx_port *port = &rx->ports[i];

		if (port->pcap == NULL || pcap_source_is_started(port->pcap))
			continue;
		if (port->args->is_played_at_boot || is_capture_running)
			pcap_source_start(port->pcap, start_ns);
	}
}

static uint64_t device_losses(const struct rx_port *port)
{
	struct rte_eth_stats stats = {0};

	(void)rte_eth_stats_get(port->device, &stats);
	return stats.imissed + stats.rx_nombuf;
}

static uint64_t afpacket_losses(const struct rx_port *port)
{
	if (afpacket_source_went_down(port->afpacket))
		log_warning(
			"Port \"%s\": %s went down; its frames are captured when it is up again.  If it "
			"was removed, start anew when there is another.",
			port->args->name, port->args->target);
	return afpacket_source_lost(port->afpacket);
}

void rx_read_ports(struct rx *rx, struct port_shared *ports)
{
	for (unsigned i = 0; i < rx->n_ports; i++) {
		const struct rx_port *port = &rx->ports[i];

		if (port->pcap == NULL)
			atomic_store_explicit(&ports[i].lost_nic,
					      port->afpacket != NULL ? afpacket_losses(port)
								     : device_losses(port),
					      memory_order_relaxed);
		else if (pcap_source_is_done(port->pcap))
			// Release: whoever sees it sees what the workers recorded before.
			atomic_store_explicit(&ports[i].done, 1, memory_order_release);
	}
}

/* ---- the workers ---- */

void rx_queue_init(struct rx_queue *q, const struct rx *rx, unsigned port, unsigned queue,
		   struct rx_time *time)
{
	assert(port < rx->n_ports && queue < rx->ports[port].args->n_queues);
	*q = (struct rx_queue){
		.time = time,
		.pcap = rx->ports[port].pcap,
		.afpacket = rx->ports[port].afpacket,
		.device = rx->ports[port].device,
		.queue = (uint16_t)queue,
		.port = (uint8_t)port,
		.is_inner = rx->ports[port].args->is_inner,
	};
	if (q->afpacket != NULL)
		time->lag_ns = AFPACKET_LAG_NS;
}

void rx_queue_init_device(struct rx_queue *q, uint16_t device, uint16_t queue, struct rx_time *time)
{
	*q = (struct rx_queue){.time = time, .device = device, .queue = queue};
}

static void gather_segments(struct rte_mbuf *m)
{
	if (rte_pktmbuf_data_len(m) < RX_FIRST_SEGMENT_MIN)
		(void)rte_pktmbuf_linearize(m); // too long for the first one: stays as it is
}

static unsigned device_burst(struct rx_queue *q, struct pkt *p, unsigned max)
{
	struct rte_mbuf **mbufs = q->lent;
	unsigned n = rte_eth_rx_burst(q->device, q->queue, mbufs, (uint16_t)max);
	uint64_t now_ns;

	q->n_lent = (uint16_t)n;
	if (n == 0)
		return 0;
	now_ns = clock_now_ns(q->time->clock);
	if (now_ns <= q->time->issued_ns)
		now_ns = q->time->issued_ns + 1;
	for (unsigned i = 0; i < n; i++) {
		struct rte_mbuf *m = mbufs[i];

		if (__builtin_expect(m->nb_segs > 1, 0))
			gather_segments(m);
		p[i].data = rte_pktmbuf_mtod(m, const uint8_t *);
		rte_prefetch0(p[i].data);
		p[i].len = rte_pktmbuf_data_len(m);
		p[i].wire_len = rte_pktmbuf_pkt_len(m);
		p[i].time_ns = now_ns + i;
	}
	return n;
}

unsigned rx_burst(struct rx_queue *q, struct pkt *p, unsigned max)
{
	struct rx_time *time = q->time;
	unsigned n;

	assert(max <= BURST_MAX);
	if (q->pcap != NULL)
		n = pcap_source_burst(q->pcap, q->queue, p, max, time->now_ns, time->issued_ns);
	else if (q->afpacket != NULL)
		n = afpacket_source_burst(q->afpacket, q->queue, p, max, time->clock,
					  time->issued_ns + 1);
	else
		n = device_burst(q, p, max);
	if (n > 0)
		time->issued_ns = p[n - 1].time_ns;
	return n;
}

void rx_free(struct rx_queue *q)
{
	if (q->pcap != NULL)
		return; // lent from the file
	if (q->afpacket != NULL) {
		afpacket_source_free(q->afpacket, q->queue);
		return;
	}
	rte_pktmbuf_free_bulk(q->lent, q->n_lent);
}
