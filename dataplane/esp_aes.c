/* esp_aes.c - eight blocks at a time in registers, the rounds unrolled; nothing else.
 *
 * The library is faster than this on whole packets.  We read 112 bytes and the block of the trailer, and
 * there its interface is what costs: a job of 200 bytes for each piece, a call, a mode.  Cycles a packet
 * (2.0 GHz TSC, EPYC 7001, 112 + 16 bytes, bursts of 32, one key), ipsec-mb in cipher bursts / here:
 * AES-128-CTR 99 / 54, AES-128-CBC 107 / 48, AES-256-CTR 115 / 78, AES-256-CBC 120 / 68;
 * with 10,000 keys AES-128-CTR 200 / 91.
 * The trailer's single block costs its throughput, not its latency: the next piece does not wait for it.
 * No table, no branch on a secret: AES instructions only.
 */
#include "dataplane/esp_aes.h"

#include <immintrin.h>
#include <string.h>

enum { WIDTH = 8 }; // blocks: 8 hide the latency of 4 cycles on two units

/* x86-64-v3, what all else is built for, has no AES: esp_engine_open() asks the processor first. */
#define INLINE	 static inline __attribute__((always_inline, target("aes")))
#define FUNCTION static __attribute__((noinline, target("aes")))

/* All of n <= WIDTH blocks through one round; n and the loops are constants once inlined. */
INLINE void encrypt_blocks(const struct esp_key *key, __m128i *b, unsigned n, unsigned n_rounds)
{
	const __m128i *round_keys = (const __m128i *)key->hot.aes;

#pragma GCC unroll 8
	for (unsigned i = 0; i < n; i++)
		b[i] = _mm_xor_si128(b[i], round_keys[0]);
#pragma GCC unroll 14
	for (unsigned r = 1; r < n_rounds; r++)
#pragma GCC unroll 8
		for (unsigned i = 0; i < n; i++)
			b[i] = _mm_aesenc_si128(b[i], round_keys[r]);
#pragma GCC unroll 8
	for (unsigned i = 0; i < n; i++)
		b[i] = _mm_aesenclast_si128(b[i], round_keys[n_rounds]);
}

INLINE void decrypt_blocks(const struct esp_key *key, __m128i *b, unsigned n, unsigned n_rounds)
{
	const __m128i *round_keys = (const __m128i *)key->hot.aes;

#pragma GCC unroll 8
	for (unsigned i = 0; i < n; i++)
		b[i] = _mm_xor_si128(b[i], round_keys[0]);
#pragma GCC unroll 14
	for (unsigned r = 1; r < n_rounds; r++)
#pragma GCC unroll 8
		for (unsigned i = 0; i < n; i++)
			b[i] = _mm_aesdec_si128(b[i], round_keys[r]);
#pragma GCC unroll 8
	for (unsigned i = 0; i < n; i++)
		b[i] = _mm_aesdeclast_si128(b[i], round_keys[n_rounds]);
}

INLINE __m128i load(const uint8_t *p)
{
	return _mm_loadu_si128((const __m128i *)p);
}

INLINE void store(uint8_t *p, __m128i v)
{
	_mm_storeu_si128((__m128i *)p, v);
}

/* Key stream of n blocks; `head` is a counter block whose counter is zero. */
INLINE void key_stream(const struct esp_key *key, __m128i head, uint32_t counter, __m128i *b,
		       unsigned n, unsigned n_rounds)
{
#pragma GCC unroll 8
	for (unsigned i = 0; i < n; i++)
		b[i] = _mm_insert_epi32(head, (int)__builtin_bswap32(counter + i), 3);
	encrypt_blocks(key, b, n, n_rounds);
}

INLINE void ctr_blocks(const struct esp_key *key, __m128i head, uint32_t counter, const uint8_t *in,
		       uint8_t *out, unsigned n, unsigned n_rounds)
{
	__m128i b[WIDTH];

	key_stream(key, head, counter, b, n, n_rounds);
#pragma GCC unroll 8
	for (unsigned i = 0; i < n; i++)
		store(out + i * AES_BLOCK_BYTES,
		      _mm_xor_si128(b[i], load(in + i * AES_BLOCK_BYTES)));
}

INLINE void cbc_blocks(const struct esp_key *key, const uint8_t *in, uint8_t *out, unsigned n,
		       unsigned n_rounds)
{
	__m128i b[WIDTH];

#pragma GCC unroll 8
	for (unsigned i = 0; i < n; i++)
		b[i] = load(in + i * AES_BLOCK_BYTES);
	decrypt_blocks(key, b, n, n_rounds);
#pragma GCC unroll 8
	for (unsigned i = 0; i < n; i++) // what was xor'ed in: the ciphertext of the block before
		store(out + i * AES_BLOCK_BYTES,
		      _mm_xor_si128(b[i], load(in + i * AES_BLOCK_BYTES - AES_BLOCK_BYTES)));
}

/* Less than a block, through a block of our own. */
INLINE void ctr_rest(const struct esp_key *key, __m128i head, uint32_t counter, const uint8_t *in,
		     uint8_t *out, uint32_t len, unsigned n_rounds)
{
	alignas(16) uint8_t block[AES_BLOCK_BYTES] = {0};

	memcpy(block, in, len);
	ctr_blocks(key, head, counter, block, block, 1, n_rounds);
	memcpy(out, block, len);
}

/* The last one to seven blocks: each number has its own unrolled code. */
INLINE void ctr_last(const struct esp_key *key, __m128i head, uint32_t counter, const uint8_t *in,
		     uint8_t *out, unsigned n, unsigned n_rounds)
{
	switch (n) {
	case 7:
		ctr_blocks(key, head, counter, in, out, 7, n_rounds);
		break;
	case 6:
		ctr_blocks(key, head, counter, in, out, 6, n_rounds);
		break;
	case 5:
		ctr_blocks(key, head, counter, in, out, 5, n_rounds);
		break;
	case 4:
		ctr_blocks(key, head, counter, in, out, 4, n_rounds);
		break;
	case 3:
		ctr_blocks(key, head, counter, in, out, 3, n_rounds);
		break;
	case 2:
		ctr_blocks(key, head, counter, in, out, 2, n_rounds);
		break;
	case 1:
		ctr_blocks(key, head, counter, in, out, 1, n_rounds);
		break;
	default:
		break;
	}
}

INLINE void cbc_last(const struct esp_key *key, const uint8_t *in, uint8_t *out, unsigned n,
		     unsigned n_rounds)
{
	switch (n) {
	case 7:
		cbc_blocks(key, in, out, 7, n_rounds);
		break;
	case 6:
		cbc_blocks(key, in, out, 6, n_rounds);
		break;
	case 5:
		cbc_blocks(key, in, out, 5, n_rounds);
		break;
	case 4:
		cbc_blocks(key, in, out, 4, n_rounds);
		break;
	case 3:
		cbc_blocks(key, in, out, 3, n_rounds);
		break;
	case 2:
		cbc_blocks(key, in, out, 2, n_rounds);
		break;
	case 1:
		cbc_blocks(key, in, out, 1, n_rounds);
		break;
	default:
		break;
	}
}

INLINE void ctr(const struct esp_job *job, unsigned n_rounds)
{
	const struct esp_key *key = job->key;
	const uint8_t *in = job->iv + 8 + job->offset;
	uint32_t counter = job->offset / AES_BLOCK_BYTES + key->first_counter;
	uint32_t left = job->len;
	uint8_t *out = job->out;
	uint32_t nonce;
	uint64_t iv;
	__m128i head;

	memcpy(&nonce, key->nonce, sizeof(nonce));
	memcpy(&iv, job->iv, sizeof(iv));
	head = _mm_set_epi64x((long long)(iv >> 32), (long long)(iv << 32 | nonce));
	for (; left >= WIDTH * AES_BLOCK_BYTES; left -= WIDTH * AES_BLOCK_BYTES) {
		ctr_blocks(key, head, counter, in, out, WIDTH, n_rounds);
		counter += WIDTH;
		in += WIDTH * AES_BLOCK_BYTES;
		out += WIDTH * AES_BLOCK_BYTES;
	}
	ctr_last(key, head, counter, in, out, left / AES_BLOCK_BYTES, n_rounds);
	if (left % AES_BLOCK_BYTES != 0) {
		uint32_t done = left - left % AES_BLOCK_BYTES;

		ctr_rest(key, head, counter + left / AES_BLOCK_BYTES, in + done, out + done,
			 left - done, n_rounds);
	}
}

INLINE void cbc(const struct esp_job *job, unsigned n_rounds)
{
	const uint8_t *in = job->iv + AES_BLOCK_BYTES + job->offset;
	uint32_t left = job->len;
	uint8_t *out = job->out;

	for (; left >= WIDTH * AES_BLOCK_BYTES; left -= WIDTH * AES_BLOCK_BYTES) {
		cbc_blocks(job->key, in, out, WIDTH, n_rounds);
		in += WIDTH * AES_BLOCK_BYTES;
		out += WIDTH * AES_BLOCK_BYTES;
	}
	cbc_last(job->key, in, out, left / AES_BLOCK_BYTES, n_rounds);
}

/* Six functions, so that the unrolled code of each is whole and the compiler keeps them apart. */
FUNCTION void ctr_128(const struct esp_job *job)
{
	ctr(job, 10);
}

FUNCTION void ctr_192(const struct esp_job *job)
{
	ctr(job, 12);
}

FUNCTION void ctr_256(const struct esp_job *job)
{
	ctr(job, 14);
}

FUNCTION void cbc_128(const struct esp_job *job)
{
	cbc(job, 10);
}

FUNCTION void cbc_192(const struct esp_job *job)
{
	cbc(job, 12);
}

FUNCTION void cbc_256(const struct esp_job *job)
{
	cbc(job, 14);
}

void esp_aes_decrypt(const struct esp_job *job)
{
	unsigned n_rounds = job->key->n_rounds;

	if (job->key->way == ESP_WAY_AES_CTR && n_rounds == 10)
		ctr_128(job);
	else if (job->key->way == ESP_WAY_AES_CTR && n_rounds == 14)
		ctr_256(job);
	else if (job->key->way == ESP_WAY_AES_CTR)
		ctr_192(job);
	else if (n_rounds == 10)
		cbc_128(job);
	else if (n_rounds == 14)
		cbc_256(job);
	else
		cbc_192(job);
}
