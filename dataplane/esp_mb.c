/* esp_mb.c - AES in bursts, 3DES and ChaCha20 through the job queue.
 *
 * AES-CTR and AES-CBC have a burst of their own (imb_submit_cipher_burst), which takes 100 to 109 cycles
 * for 112 and 16 bytes where the job queue takes 168.  It wants one mode, direction and key length a call:
 * so jobs wait in six batches.
 */
#include "dataplane/esp_mb.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH_MAX = 32, BATCHES = 6 }; // CTR and CBC of 128, 192, 256 bits; 32 jobs: 7 KB

struct batch {
	unsigned n;
	IMB_JOB jobs[BATCH_MAX];
	alignas(16) uint8_t counters[BATCH_MAX][AES_BLOCK_BYTES];
};

struct esp_mb {
	IMB_MGR *mgr;
	struct batch batches[BATCHES];
};

struct esp_mb *esp_mb_open(void)
{
	struct esp_mb *mb = aligned_alloc(64, (sizeof(*mb) + 63) & ~(size_t)63);
	IMB_ARCH arch = IMB_ARCH_NONE;

	if (mb == NULL)
		return NULL;
	memset(mb, 0, sizeof(*mb));
	mb->mgr = alloc_mb_mgr(0);
	if (mb->mgr != NULL)
		init_mb_mgr_auto(mb->mgr, &arch);
	if (mb->mgr == NULL || imb_get_errno(mb->mgr) != 0 || arch < IMB_ARCH_SSE) {
		esp_mb_close(mb);
		return NULL;
	}
	return mb;
}

void esp_mb_close(struct esp_mb *mb)
{
	if (mb == NULL)
		return;
	if (mb->mgr != NULL)
		free_mb_mgr(mb->mgr);
	free(mb);
}

bool esp_mb_takes(const struct esp_job *job)
{
	return job->key->way != ESP_WAY_CHACHA20 || job->offset == 0;
}

static IMB_CIPHER_MODE mode_of(unsigned batch)
{
	return batch < 3 ? IMB_CIPHER_CNTR : IMB_CIPHER_CBC;
}

static void submit_batch(struct esp_mb *mb, unsigned i)
{
	struct batch *batch = &mb->batches[i];
	uint32_t n;

	if (batch->n == 0)
		return;
	n = IMB_SUBMIT_CIPHER_BURST_NOCHECK(mb->mgr, batch->jobs, batch->n, mode_of(i),
					    IMB_DIR_DECRYPT, (IMB_KEY_SIZE_BYTES)(16 + i % 3 * 8));
	assert(n == batch->n);
	(void)n;
	batch->n = 0;
}

static void add_aes(struct esp_mb *mb, const struct esp_job *job)
{
	const struct esp_key *key = job->key;
	unsigned i = (key->way == ESP_WAY_AES_CBC ? 3U : 0U) + (key->n_rounds - 10U) / 2;
	struct batch *batch = &mb->batches[i];
	IMB_JOB *to = &batch->jobs[batch->n];

	to->cipher_mode = mode_of(i);
	to->cipher_direction = IMB_DIR_DECRYPT;
	to->hash_alg = IMB_AUTH_NULL;
	to->enc_keys = to->dec_keys = key->hot.aes;
	to->key_len_in_bytes = 16 + i % 3 * 8;
	to->dst = job->out;
	to->cipher_start_src_offset_in_bytes = 0;
	to->msg_len_to_cipher_in_bytes = job->len;
	to->iv_len_in_bytes = AES_BLOCK_BYTES;
	if (key->way == ESP_WAY_AES_CBC) {
		to->iv = job->iv + job->offset; // the block in front
		to->src = job->iv + AES_BLOCK_BYTES + job->offset;
	} else {
		esp_counter_block(key, job->iv, job->offset / AES_BLOCK_BYTES,
				  batch->counters[batch->n]);
		to->iv = batch->counters[batch->n];
		to->src = job->iv + 8 + job->offset;
	}
	if (++batch->n == BATCH_MAX)
		submit_batch(mb, i);
}

static void submit_other(struct esp_mb *mb, const struct esp_job *job)
{
	const struct esp_key *key = job->key;
	bool is_des = key->way == ESP_WAY_3DES;
	IMB_JOB *to = IMB_GET_NEXT_JOB(mb->mgr);
	uint8_t nonce[12];

	to->cipher_mode = is_des ? IMB_CIPHER_DES3 : IMB_CIPHER_CHACHA20;
	to->cipher_direction = IMB_DIR_DECRYPT;
	to->chain_order = IMB_ORDER_HASH_CIPHER;
	to->hash_alg = IMB_AUTH_NULL;
	to->src = job->iv + 8 + job->offset;
	to->dst = job->out;
	to->cipher_start_src_offset_in_bytes = 0;
	to->msg_len_to_cipher_in_bytes = job->len;
	if (is_des) {
		to->enc_keys = to->dec_keys = key->hot.des.schedules;
		to->key_len_in_bytes = 24;
		to->iv = job->iv + job->offset;
		to->iv_len_in_bytes = DES_BLOCK_BYTES;
	} else {
		(void)esp_aead_nonce(key, job->iv, nonce);
		to->enc_keys = to->dec_keys = key->hot.chacha20;
		to->key_len_in_bytes = 32;
		to->iv = nonce;
		to->iv_len_in_bytes = sizeof(nonce);
	}
	to = IMB_SUBMIT_JOB_NOCHECK(mb->mgr);
	while (to == NULL || to->status == IMB_STATUS_BEING_PROCESSED) // the nonce is on this stack
		to = IMB_FLUSH_JOB(mb->mgr);
	assert(to->status == IMB_STATUS_COMPLETED);
}

void esp_mb_submit(struct esp_mb *mb, const struct esp_job *job)
{
	if (job->len == 0)
		return;
	switch ((enum esp_way)job->key->way) {
	case ESP_WAY_COPY:
		memcpy(job->out,
		       job->iv + esp_ciphers[job->key->cold->cipher].iv_bytes + job->offset,
		       job->len);
		break;
	case ESP_WAY_AES_CBC:
	case ESP_WAY_AES_CTR:
		add_aes(mb, job);
		break;
	case ESP_WAY_3DES:
	case ESP_WAY_CHACHA20:
		submit_other(mb, job);
		break;
	}
}

void esp_mb_flush(struct esp_mb *mb)
{
	for (unsigned i = 0; i < BATCHES; i++)
		submit_batch(mb, i);
}
