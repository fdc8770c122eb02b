/* esp_mb.c - AES in bursts, 3DES and ChaCha20 through the job queue.
 *
 * AES-CTR and AES-CBC have a burst of their own (imb_submit_cipher_burst), which takes 100 to 109 cycles
 * for 112 and 16 bytes where the job queue takes 168.  It wants one mode, direction and key length a call:
 * so jobs wait in six batches.
 */
#include "dataplane/esp_mb.h"

#include <stdlib.h>
#include <string.h>

enum {
	BATCH_MAX = 32, // jobs: 7 KB
	BATCHES = 6,	// CTR and CBC of 128, 192, 256 bits
	TAG_BYTES = 64,
	SCRATCH_BYTES = 2 * ESP_PACKET_MAX,
};

struct batch {
	unsigned n;
	IMB_JOB jobs[BATCH_MAX];
	alignas(16) uint8_t counters[BATCH_MAX][AES_BLOCK_BYTES];
};

/* One ICV on its way. */
struct check {
	const struct esp_icv_job *job;
	enum esp_icv *out;
	uint8_t nonce[12], aad[ESP_AAD_MAX];
	alignas(16) uint8_t tag[TAG_BYTES];
};

struct esp_mb {
	IMB_MGR *mgr;
	struct batch batches[BATCHES];
	unsigned n_checks;
	struct check checks[BURST_MAX];
	size_t n_scratch;		// used
	uint8_t scratch[SCRATCH_BYTES]; // what AEADs decrypt while they check, copies with ESN
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

/* ---- ICVs ---- */

bool esp_mb_checks(const struct esp_icv_job *job)
{
	const struct esp_cold *cold = job->key->cold;

	return cold->cipher != ESP_AES_CCM || cold->key_bytes != IMB_KEY_192_BYTES;
}

/* There is room: esp_mb_check_submit() saw to it. */
static uint8_t *take_scratch(struct esp_mb *mb, size_t bytes)
{
	uint8_t *mem = mb->scratch + mb->n_scratch;

	mb->n_scratch += bytes;
	assert(mb->n_scratch <= SCRATCH_BYTES);
	return mem;
}

static IMB_JOB *next_check(struct esp_mb *mb, struct check *check)
{
	IMB_JOB *to = IMB_GET_NEXT_JOB(mb->mgr);

	to->cipher_mode = IMB_CIPHER_NULL;
	to->cipher_direction = IMB_DIR_DECRYPT;
	to->chain_order = IMB_ORDER_HASH_CIPHER;
	to->cipher_start_src_offset_in_bytes = 0;
	to->hash_start_src_offset_in_bytes = 0;
	to->auth_tag_output = check->tag;
	return to;
}

/* Nonce, AAD and ciphertext, for those that decrypt while they check. */
static void submit_aead(struct esp_mb *mb, struct check *check)
{
	const struct esp_icv_job *job = check->job;
	const struct esp_cold *cold = job->key->cold;
	const uint8_t *iv = job->esp + ESP_HEADER_BYTES;
	uint32_t len = job->len - ESP_HEADER_BYTES - 8 - job->key->icv_bytes;
	uint8_t *unused = take_scratch(mb, len);
	IMB_JOB *to = next_check(mb, check);
	size_t n_aad = esp_aad(job, check->aad);

	to->iv_len_in_bytes = esp_aead_nonce(job->key, iv, check->nonce);
	to->iv = check->nonce;
	to->key_len_in_bytes = cold->key_bytes;
	to->src = iv + 8;
	to->dst = unused;
	to->msg_len_to_cipher_in_bytes = to->msg_len_to_hash_in_bytes = len;
	to->auth_tag_output_len_in_bytes = job->key->icv_bytes;
	if (cold->cipher == ESP_AES_GCM) {
		to->cipher_mode = IMB_CIPHER_GCM;
		to->hash_alg = IMB_AUTH_AES_GMAC;
		to->enc_keys = to->dec_keys = &cold->icv.mb.gcm;
		to->u.GCM.aad = check->aad;
		to->u.GCM.aad_len_in_bytes = n_aad;
	} else if (cold->cipher == ESP_AES_CCM) {
		to->cipher_mode = IMB_CIPHER_CCM;
		to->hash_alg = IMB_AUTH_AES_CCM;
		to->chain_order = IMB_ORDER_CIPHER_HASH; // it hashes the plaintext
		to->enc_keys = to->dec_keys = job->key->hot.aes;
		to->u.CCM.aad = check->aad;
		to->u.CCM.aad_len_in_bytes = n_aad;
	} else {
		to->cipher_mode = IMB_CIPHER_CHACHA20_POLY1305;
		to->hash_alg = IMB_AUTH_CHACHA20_POLY1305;
		to->enc_keys = to->dec_keys = job->key->hot.chacha20;
		to->u.CHACHA20_POLY1305.aad = check->aad;
		to->u.CHACHA20_POLY1305.aad_len_in_bytes = n_aad;
	}
	(void)IMB_SUBMIT_JOB_NOCHECK(mb->mgr);
}

/* The bytes that GMAC and HMACs run over: the packet itself or, with ESN, a copy with the high half in it. */
static const uint8_t *authentic_bytes(struct esp_mb *mb, const struct esp_icv_job *job,
				      bool is_gmac, uint32_t *len)
{
	uint32_t n = job->len - job->key->icv_bytes, n_front = is_gmac ? 4 : n;
	uint8_t *copy;

	*len = n;
	if (!job->has_esn)
		return job->esp;
	*len = n + 4;
	copy = take_scratch(mb, *len);
	memcpy(copy, job->esp, n_front);
	esp_put_be32(copy + n_front, job->seq_high);
	memcpy(copy + n_front + 4, job->esp + n_front, n - n_front);
	return copy;
}

static IMB_HASH_ALG gmac_of(const struct esp_cold *cold)
{
	return cold->key_bytes == IMB_KEY_128_BYTES   ? IMB_AUTH_AES_GMAC_128
	       : cold->key_bytes == IMB_KEY_192_BYTES ? IMB_AUTH_AES_GMAC_192
						      : IMB_AUTH_AES_GMAC_256;
}

/* Hash and length of its whole tag: ipsec-mb cuts some to the length of RFCs that are not ours. */
static IMB_HASH_ALG hash_of(enum esp_auth auth, uint64_t *tag_bytes)
{
	switch (auth) {
	case ESP_AUTH_HMAC_MD5_96:
		*tag_bytes = 16;
		return IMB_AUTH_MD5;
	case ESP_AUTH_HMAC_SHA1_96:
		*tag_bytes = 20;
		return IMB_AUTH_HMAC_SHA_1;
	case ESP_AUTH_HMAC_SHA384_192:
		*tag_bytes = 48;
		return IMB_AUTH_HMAC_SHA_384;
	case ESP_AUTH_HMAC_SHA512_256:
		*tag_bytes = 64;
		return IMB_AUTH_HMAC_SHA_512;
	case ESP_AUTH_AES_XCBC_96:
		*tag_bytes = 16;
		return IMB_AUTH_AES_XCBC;
	default:
		*tag_bytes = 32;
		return IMB_AUTH_HMAC_SHA_256;
	}
}

static void submit_hash(struct esp_mb *mb, struct check *check)
{
	const struct esp_icv_job *job = check->job;
	const struct esp_cold *cold = job->key->cold;
	bool is_gmac = cold->cipher == ESP_AES_GMAC;
	uint32_t len;
	const uint8_t *src = authentic_bytes(mb, job, is_gmac, &len);
	IMB_JOB *to = next_check(mb, check);

	to->src = src;
	to->dst = mb->scratch; // nothing is written
	to->msg_len_to_cipher_in_bytes = 0;
	to->msg_len_to_hash_in_bytes = len;
	if (is_gmac) {
		(void)esp_aead_nonce(job->key, job->esp + ESP_HEADER_BYTES, check->nonce);
		to->hash_alg = gmac_of(cold);
		to->auth_tag_output_len_in_bytes = job->key->icv_bytes;
		to->u.GMAC._key = &cold->icv.mb.gcm;
		to->u.GMAC._iv = check->nonce;
		to->u.GMAC.iv_len_in_bytes = sizeof(check->nonce);
	} else {
		to->hash_alg = hash_of(cold->auth, &to->auth_tag_output_len_in_bytes);
		if (cold->auth == ESP_AUTH_AES_XCBC_96) {
			to->u.XCBC._k1_expanded = cold->icv.mb.xcbc.k1;
			to->u.XCBC._k2 = cold->icv.mb.xcbc.k2;
			to->u.XCBC._k3 = cold->icv.mb.xcbc.k3;
		} else {
			to->u.HMAC._hashed_auth_key_xor_ipad = cold->icv.mb.hmac.inner;
			to->u.HMAC._hashed_auth_key_xor_opad = cold->icv.mb.hmac.outer;
		}
	}
	(void)IMB_SUBMIT_JOB_NOCHECK(mb->mgr);
}

void esp_mb_check_submit(struct esp_mb *mb, const struct esp_icv_job *job, enum esp_icv *out)
{
	enum esp_cipher cipher = job->key->cold->cipher;
	bool is_aead = esp_is_aead(cipher) && cipher != ESP_AES_GMAC;
	struct check *check;

	if (mb->n_checks == BURST_MAX || mb->n_scratch + job->len + 4 > SCRATCH_BYTES)
		esp_mb_check_flush(mb);
	check = &mb->checks[mb->n_checks++];
	check->job = job;
	check->out = out;
	if (is_aead)
		submit_aead(mb, check);
	else
		submit_hash(mb, check);
}

void esp_mb_check_flush(struct esp_mb *mb)
{
	while (IMB_FLUSH_JOB(mb->mgr) != NULL)
		;
	for (unsigned i = 0; i < mb->n_checks; i++) {
		const struct check *check = &mb->checks[i];
		uint8_t n = check->job->key->icv_bytes;
		const uint8_t *icv = check->job->esp + check->job->len - n;

		*check->out = memcmp(check->tag, icv, n) == 0 ? ESP_ICV_OK : ESP_ICV_BAD;
	}
	mb->n_checks = 0;
	mb->n_scratch = 0;
}
