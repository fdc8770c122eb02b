/* esp_cipher.c - who does a job: ESP_FAST takes the fastest of what is there.
 *
 * Cycles (2.0 GHz TSC, EPYC 7001: AVX2, SHA instructions, no AVX-512), ipsec-mb / the one that is taken:
 *  AES, 112 + 16 bytes                143 (CTR-128), 172 (CBC-128) / esp_aes.c 82, 66
 *  3DES, 112 + 16 bytes               1,800,000: its tables are read whole, against timing / OpenSSL
 *  HMAC-SHA256, 1400 bytes            13,500 in bursts, 90,000 alone / OpenSSL 3,000 with SHA instructions
 *  HMAC-SHA1, 1400 bytes              2,500 in bursts, 42,000 alone / OpenSSL 3,000
 *  HMAC-SHA384, -SHA512, 1400 bytes   16,000 in bursts, 63,000 alone / OpenSSL 16,500
 *  AES-GCM, 1360 bytes, with ICV      1,050 / ipsec-mb; OpenSSL 2,400
 *  HMAC-MD5, AES-XCBC, AES-CCM        1,300, 600, 1,000 in bursts / ipsec-mb; OpenSSL 14,000, none, 5,600
 */
#include "dataplane/esp_cipher.h"

#include <assert.h>
#include <stdlib.h>

#include "dataplane/esp_aes.h"
#include "dataplane/esp_evp.h"
#include "dataplane/esp_mb.h"

enum { KEYS_AHEAD = 4 }; // jobs: two packets

struct esp_engine {
	bool is_fast;	     // ESP_FAST
	struct esp_evp *evp; // always: ipsec-mb does not take every job
	struct esp_mb *mb;   // NULL: ESP_OPENSSL
};

struct esp_engine *esp_engine_open(enum esp_engine_kind kind)
{
	struct esp_engine *engine = calloc(1, sizeof(*engine));

	if (engine == NULL)
		return NULL;
	engine->is_fast = kind == ESP_FAST;
	engine->evp = esp_evp_open();
	if (kind != ESP_OPENSSL)
		engine->mb = esp_mb_open(); // says no where there are no AES instructions
	if (engine->evp == NULL || (kind != ESP_OPENSSL && engine->mb == NULL)) {
		esp_engine_close(engine);
		return NULL;
	}
	return engine;
}

void esp_engine_close(struct esp_engine *engine)
{
	if (engine == NULL)
		return;
	esp_evp_close(engine->evp);
	esp_mb_close(engine->mb);
	free(engine);
}

static void decrypt(struct esp_engine *engine, const struct esp_job *job)
{
	bool is_aes = job->key->way == ESP_WAY_AES_CTR || job->key->way == ESP_WAY_AES_CBC;
	bool is_slow_in_mb = engine->is_fast && job->key->way == ESP_WAY_3DES;

	if (is_aes && engine->is_fast)
		esp_aes_decrypt(job);
	else if (engine->mb != NULL && esp_mb_takes(job) && !is_slow_in_mb)
		esp_mb_submit(engine->mb, job);
	else
		esp_evp_decrypt(engine->evp, job);
}

/* Four lines, of which AES-128 has three. */
static void prefetch_key(const struct esp_key *key)
{
	for (unsigned line = 0; line < 4; line++)
		__builtin_prefetch((const uint8_t *)key + (size_t)line * 64);
}

void esp_decrypt_burst(struct esp_engine *engine, const struct esp_job *jobs, unsigned n)
{
	assert(n <= ESP_JOBS_MAX);
	for (unsigned i = 0; i < n && i < KEYS_AHEAD; i++)
		prefetch_key(jobs[i].key);
	for (unsigned i = 0; i < n; i++) {
		if (i + KEYS_AHEAD < n)
			prefetch_key(jobs[i + KEYS_AHEAD].key);
		decrypt(engine, &jobs[i]);
	}
	if (engine->mb != NULL)
		esp_mb_flush(engine->mb);
}

/* Is there an ICV that somebody knows how to check? */
static bool is_checkable(const struct esp_icv_job *job)
{
	const struct esp_cold *cold = job->key->cold;

	return cold->has_icv && job->len <= ESP_PACKET_MAX &&
	       (esp_is_aead(cold->cipher) || cold->auth > ESP_AUTH_UNCHECKED);
}

/* HMACs of SHA, where this processor has SHA instructions that ipsec-mb's lanes do not use. */
static bool is_better_by_evp(const struct esp_engine *engine, const struct esp_icv_job *job)
{
	const struct esp_cold *cold = job->key->cold;

	return engine->is_fast && !esp_is_aead(cold->cipher) && cold->auth > ESP_AUTH_HMAC_MD5_96 &&
	       cold->auth < ESP_AUTH_AES_XCBC_96 && esp_mb_sha_is_slow(engine->mb);
}

void esp_check_icv_burst(struct esp_engine *engine, const struct esp_icv_job *jobs, unsigned n,
			 enum esp_icv *out)
{
	assert(n <= BURST_MAX);
	for (unsigned i = 0; i < n; i++) {
		if (!is_checkable(&jobs[i]))
			out[i] = ESP_ICV_UNCHECKED;
		else if (engine->mb != NULL && esp_mb_checks(&jobs[i]) &&
			 !is_better_by_evp(engine, &jobs[i]))
			esp_mb_check_submit(engine->mb, &jobs[i], &out[i]);
		else
			out[i] = esp_evp_check(engine->evp, &jobs[i]);
	}
	if (engine->mb != NULL)
		esp_mb_check_flush(engine->mb);
}

enum esp_icv esp_check_icv(struct esp_engine *engine, const struct esp_key *key, const uint8_t *esp,
			   uint32_t len, bool has_esn, uint32_t seq_high)
{
	const struct esp_icv_job job = {
		.key = key, .esp = esp, .len = len, .seq_high = seq_high, .has_esn = has_esn};
	enum esp_icv out;

	esp_check_icv_burst(engine, &job, 1, &out);
	return out;
}
