/* bench_dumpcap.c - dpdk-dumpcap's side of the comparison: its primary, and the frames that it captures.
 *
 * The primary must not be testpmd: Debian's mempool plug-in order differs and dpdk-dumpcap captures
 * nothing then.
 */
#include "tools/bench.h"
#include "tools/bench_esp.h"

#include <stdio.h>

#include <rte_ethdev.h>
#include <rte_pdump.h>

#include "tools/bench_loop.h"

enum { PRIMARY_SECONDS = 3600 };

/* Receive and free, with packet dumping offered, until a signal comes; then the rate in Mpps. */
int bench_primary(const struct bench_options *o)
{
	static struct bench_loop loop;

	loop = (struct bench_loop){
		.pass = bench_pass_floor, .burst = o->burst, .seconds = PRIMARY_SECONDS};
	if (rte_eth_dev_count_avail() == 0 || bench_source_device(&loop.source, 0) != 0 ||
	    rte_pdump_init() != 0)
		return -1;
	(void)printf("ready\n");
	(void)fflush(stdout);
	bench_on_worker(bench_loop, &loop);
	(void)rte_pdump_uninit();
	(void)printf("%.2f\n", bench_loop_mpps(&loop));
	return 0;
}

/* Write the frames of the standard source as a PCAP, for net_pcap. */
int bench_frames(const struct bench_options *o)
{
	const uint32_t header[6] = {0xa1b2c3d4, 4 << 16 | 2, 0, 0, 65535, 1};
	FILE *out = fopen(o->dir, "we");
	bool ok = out != NULL && fwrite(header, sizeof(header), 1, out) == 1;

	for (uint32_t i = 0; ok && i < o->n_frames; i++) {
		uint8_t frame[BENCH_ESP_FRAME_BYTES_MAX];
		uint32_t len = bench_any_frame(frame, i, &o->mix);
		const uint32_t record[4] = {0, i, len, len};

		ok = fwrite(record, sizeof(record), 1, out) == 1 && fwrite(frame, len, 1, out) == 1;
	}
	if (out != NULL && fclose(out) != 0)
		ok = false;
	return ok ? 0 : -1;
}
