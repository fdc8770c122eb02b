/* xdp_redirect.bpf.c - hand every frame of a queue to the AF_XDP socket of that queue.
 *
 * Why ours: libxdp's default program needs root and a BPF file system; this one needs the four
 * capabilities of the dataplane, and its name tells a left-over of a killed run from anybody else's.
 * The DPDK driver finds the map by the name xsks_map and puts its sockets in.
 * A queue without a socket (the port polls fewer queues than the NIC has) goes on to the kernel.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64); /* WORKERS_MAX */
	__type(key, __u32);
	__type(value, __u32);
} xsks_map SEC(".maps");

SEC("xdp") int gatecap_xdp(struct xdp_md *ctx)
{
	return (int)bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);
}

char program_license[] SEC("license") = "Dual BSD/GPL";
