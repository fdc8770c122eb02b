/* esp_cipher.c - which engine a job goes to. */
#include "dataplane/esp_cipher.h"

#include <assert.h>
#include <stdlib.h>

#include "dataplane/esp_aes.h"
#include "dataplane/esp_evp.h"
#include "dataplane/esp_mb.h"

enum { KEYS_AHEAD = 4 }; // jobs: two packets

struct esp_engine {
	bool has_aes;	     // ESP_FAST
	struct esp_evp *evp; // always: ipsec-mb does not take every job
	struct esp_mb *mb;   // NULL: ESP_OPENSSL
};

struct esp_engine *esp_engine_open(enum esp_engine_kind kind)
{
	struct esp_engine *engine = calloc(1, sizeof(*engine));

	if (engine == NULL)
		return NULL;
	engine->has_aes = kind == ESP_FAST;
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

	if (is_aes && engine->has_aes)
		esp_aes_decrypt(job);
	else if (engine->mb != NULL && esp_mb_takes(job))
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

void esp_check_icv_burst(struct esp_engine *engine, const struct esp_icv_job *jobs, unsigned n,
			 enum esp_icv *out)
{
	assert(n <= BURST_MAX);
	for (unsigned i = 0; i < n; i++) {
		if (!is_checkable(&jobs[i]))
			out[i] = ESP_ICV_UNCHECKED;
		else if (engine->mb != NULL && esp_mb_checks(&jobs[i]))
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
