/* esp_aes.h - AES-CTR and AES-CBC of short pieces, on this processor's AES instructions.
 *
 * Threads: any.  Memory: none.  Reads and writes exactly what the job names (and CBC's block in front).
 * Proof:   tests/test_esp_cipher.c, tests/fuzz_esp_cipher.c
 */
#ifndef GATECAP_DATAPLANE_ESP_AES_H
#define GATECAP_DATAPLANE_ESP_AES_H

#include "dataplane/esp_key.h"

/* A job whose key is of ESP_WAY_AES_CTR or ESP_WAY_AES_CBC. */
void esp_aes_decrypt(const struct esp_job *job);

#endif
