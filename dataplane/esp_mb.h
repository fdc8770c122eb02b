/* esp_mb.h - the ipsec-mb engine of esp_cipher.h: jobs of one algorithm and key length go in together.
 *
 * Threads: one owner.  Memory: esp_mb_open() allocates; nothing afterwards.
 * Proof:   tests/test_esp_cipher.c
 */
#ifndef GATECAP_DATAPLANE_ESP_MB_H
#define GATECAP_DATAPLANE_ESP_MB_H

#include "dataplane/esp_key.h"

struct esp_mb;

struct esp_mb *esp_mb_open(void); // NULL: no memory, or no AES in this processor
void esp_mb_close(struct esp_mb *mb);

/* Can it read this piece?  ChaCha20 only from the payload's first byte. */
bool esp_mb_takes(const struct esp_job *job);

/* Jobs are read until esp_mb_flush(); their bytes are there after it. */
void esp_mb_submit(struct esp_mb *mb, const struct esp_job *job);
void esp_mb_flush(struct esp_mb *mb);

#endif
