/* bench_esp.c - see bench_esp.h. */
#include "tools/bench_esp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/esp_seal.h"

enum {
	ETHER = 14,
	IP = 20,
	SPI_FIRST = 0x10000000,
	DST_NET = 198 << 8 | 18, // 198.18.0.0/16, for benchmarks (RFC 2544)
	IPIP = 4,
	ESP = 50,
	HMAC_KEY_BYTES = 32,
};

const char *bench_esp_text(const struct bench_mix *mix)
{
	return mix->esp == BENCH_ESP_GCM ? "AES-GCM-128" : "AES-CBC-128 with HMAC-SHA-256-128";
}

/* tools/bench.d/lines.py writes the same keys down for tshark. */
static void make_record(struct sa_record *r, uint32_t i, const struct bench_mix *mix)
{
	bool is_gcm = mix->esp == BENCH_ESP_GCM;

	*r = (struct sa_record){
		.spi = SPI_FIRST + i,
		.spi_mask = UINT32_MAX,
		.slot = i,
		.mode = SA_MODE_TUNNEL,
		.cipher = is_gcm ? ESP_AES_GCM : ESP_AES_CBC,
		.auth = is_gcm ? ESP_AUTH_NONE : ESP_AUTH_HMAC_SHA256_128,
		.icv_bytes = 16,
		.enc_key_bytes = is_gcm ? 20 : 16,
		.auth_key_bytes = is_gcm ? 0 : HMAC_KEY_BYTES,
		.dst = {.value = {DST_NET >> 8, DST_NET & 0xff, (uint8_t)(i >> 8), (uint8_t)i},
			.mask = {255, 255, 255, 255},
			.family = 4},
	};
	for (unsigned k = 0; k < r->enc_key_bytes; k++)
		r->enc_key[k] = (uint8_t)(i + k);
	for (unsigned k = 0; k < r->auth_key_bytes; k++)
		r->auth_key[k] = (uint8_t)(i + 3 * k);
}

/* Inner packet, padding and trailer, as many bytes as fit a frame of the mix's length; gives their number. */
static uint32_t make_payload(uint8_t *payload, uint32_t i, const struct bench_mix *mix,
			     const struct sa_record *r)
{
	const struct esp_cipher_info *cipher = &esp_ciphers[r->cipher];
	uint32_t room =
		mix->frame_bytes - ETHER - IP - ESP_HEADER_BYTES - cipher->iv_bytes - r->icv_bytes;
	uint32_t block = cipher->block_bytes > 4 ? cipher->block_bytes : 4;
	uint32_t bytes = room / block * block, inner = bytes - ESP_TRAILER_BYTES;
	struct bench_mix short_mix = *mix;
	uint8_t frame[BENCH_FRAME_BYTES_MAX];

	// Headers of a frame that exists; the rest of a longer one is zeros.
	short_mix.frame_bytes =
		inner + ETHER < BENCH_FRAME_BYTES_MAX ? inner + ETHER : BENCH_FRAME_BYTES_MAX;
	memset(payload, 0, bytes);
	(void)bench_frame(frame, i, &short_mix);
	memcpy(payload, frame + ETHER, short_mix.frame_bytes - ETHER);
	bench_ip_set_length(payload, inner);
	payload[bytes - 1] = IPIP;
	return bytes;
}

uint32_t bench_esp_frame(uint8_t frame[BENCH_ESP_FRAME_BYTES_MAX], uint32_t i,
			 const struct bench_mix *mix)
{
	struct sa_record r;
	uint8_t payload[BENCH_ESP_FRAME_BYTES_MAX], iv[16];
	struct esp_clear clear = {.seq = i + 1, .iv = iv, .payload = payload};
	uint32_t len;

	make_record(&r, i % mix->n_sas, mix);
	for (unsigned k = 0; k < sizeof(iv); k++)
		iv[k] = (uint8_t)((i + 1) * (2 * k + 1) >> (k & 7));
	clear.spi = r.spi;
	clear.len = make_payload(payload, i, mix, &r);
	memset(frame, 0, ETHER + IP);
	memcpy(frame, "\2\0\0\0\0\2\2\0\0\0\0\1\x08", 13);
	len = ETHER + IP + (uint32_t)esp_seal(&r, &clear, frame + ETHER + IP);
	frame[ETHER] = 0x45;
	frame[ETHER + 8] = 64;
	frame[ETHER + 9] = ESP;
	memcpy(frame + ETHER + 12, "\xc0\x00\x02\x01", 4);
	memcpy(frame + ETHER + 16, r.dst.value, 4);
	bench_ip_set_length(frame + ETHER, len - ETHER);
	return len;
}

struct sa_table *bench_esp_sas(const struct bench_mix *mix, bool verify_icv)
{
	size_t bytes = sizeof(struct sa_set_header) + mix->n_sas * sizeof(struct sa_record);
	struct sa_set_header *header = calloc(1, bytes);
	struct sa_record *records = (struct sa_record *)(void *)(header + 1);
	struct error err = {.text = "The SAs of the bench cannot be made: out of memory."};
	struct sa_table *table = NULL;
	struct sa_set set;

	if (header != NULL) {
		*header = (struct sa_set_header){.magic = SA_SET_MAGIC,
						 .version = SA_SET_VERSION,
						 .generation = 1,
						 .total_bytes = (uint32_t)bytes,
						 .n_sas = mix->n_sas,
						 .flags = verify_icv ? SA_SET_VERIFY_ICV : 0};
		for (uint32_t i = 0; i < mix->n_sas; i++)
			make_record(&records[i], i, mix);
		if (sa_set_check(header, bytes, &set, &err) == 0)
			table = sa_table_open(&set, &err);
	}
	if (table == NULL)
		(void)fprintf(stderr, "%s\n", err.text);
	free(header);
	return table;
}
