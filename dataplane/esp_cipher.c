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
