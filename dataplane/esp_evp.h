/* esp_evp.h - the OpenSSL engine of esp_cipher.h: one job after the other, keys set for each.
 *
 * Threads: one owner.  Memory: all contexts are made by esp_evp_open(); nothing afterwards
 *          but the two digest states of an HMAC, which OpenSSL 3.0 makes anew for each packet.
 * Files:   none is read: OpenSSL's configuration is not wanted, and confine.c would end the process.
 * Proof:   tests/test_esp_cipher.c
 */
#ifndef GATECAP_DATAPLANE_ESP_EVP_H
#define GATECAP_DATAPLANE_ESP_EVP_H

#include "dataplane/esp_key.h"

struct esp_evp;

struct esp_evp *esp_evp_open(void);
void esp_evp_close(struct esp_evp *evp); // NULL: nothing

void esp_evp_decrypt(struct esp_evp *evp, const struct esp_job *job);

/* AES-XCBC is not known: ESP_ICV_UNCHECKED. */
enum esp_icv esp_evp_check(struct esp_evp *evp, const struct esp_icv_job *job);

#endif
