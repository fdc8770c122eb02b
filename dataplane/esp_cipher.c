/* esp_cipher.c - which engine a job goes to. */
#include "dataplane/esp_cipher.h"

#include <assert.h>
#include <stdlib.h>

#include "dataplane/esp_evp.h"
#include "dataplane/esp_mb.h"

struct esp_engine {
	struct esp_evp *evp; // always: ipsec-mb does not take every job
	struct esp_mb *mb;   // NULL: ESP_OPENSSL
};

struct esp_engine *esp_engine_open(enum esp_engine_kind kind)
{
	struct esp_engine *engine = calloc(1, sizeof(*engine));

	if (engine == NULL)
		return NULL;
	engine->evp = esp_evp_open();
	if (kind == ESP_IPSEC_MB)
		engine->mb = esp_mb_open();
	if (engine->evp == NULL || (kind == ESP_IPSEC_MB && engine->mb == NULL)) {
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

void esp_decrypt_burst(struct esp_engine *engine, const struct esp_job *jobs, unsigned n)
{
	assert(n <= ESP_JOBS_MAX);
	for (unsigned i = 0; i < n; i++) {
		if (engine->mb != NULL && esp_mb_takes(&jobs[i]))
			esp_mb_submit(engine->mb, &jobs[i]);
		else
			esp_evp_decrypt(engine->evp, &jobs[i]);
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
