/* bench_esp.h - ESP packets of the bench, and the SAs that open them.
 *
 * Frame i: Ethernet, IPv4, ESP in tunnel mode, in it frame i of the standard mix without its Ethernet header, as
 * long as there is room.  SA i % n_sas; each has a destination and an SPI of its own.
 * Units:   frame lengths without the FCS; the mix's frame_bytes is that of the outer frame.
 * Sealed:  by tests/esp_seal.c, which has nothing of dataplane/ in it.
 */
#ifndef GATECAP_TOOLS_BENCH_ESP_H
#define GATECAP_TOOLS_BENCH_ESP_H

#include "dataplane/sa_table.h"
#include "tools/bench_frame.h"

enum { BENCH_ESP_FRAME_BYTES_MIN = 160, BENCH_ESP_FRAME_BYTES_MAX = 9014 };

/* Frame i of a mix with ESP; gives its length. */
uint32_t bench_esp_frame(uint8_t frame[BENCH_ESP_FRAME_BYTES_MAX], uint32_t i,
			 const struct bench_mix *mix);

/* The keys; sa_table_close() frees.  NULL and a line on stderr: memory is short. */
struct sa_table *bench_esp_sas(const struct bench_mix *mix, bool verify_icv);

/* "AES-GCM-128" and the like, for conditions. */
const char *bench_esp_text(const struct bench_mix *mix);

/* Frame i of any mix. */
static inline uint32_t bench_any_frame(uint8_t frame[BENCH_ESP_FRAME_BYTES_MAX], uint32_t i,
				       const struct bench_mix *mix)
{
	return mix->esp != BENCH_ESP_NONE ? bench_esp_frame(frame, i, mix)
					  : bench_frame(frame, i, mix);
}

#endif
