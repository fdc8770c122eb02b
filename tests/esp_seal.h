/* esp_seal.h - make ESP packets as a gateway does: the other side of esp_cipher.h, for tests.
 *
 * With OpenSSL's own modes (its GCM, CCM and ChaCha20-Poly1305 build their counters themselves), and with
 * AES-XCBC written down from RFC 3566, so that nothing of dataplane/ is in it.
 * Memory: writes into the caller's buffer.
 */
#ifndef GATECAP_TESTS_ESP_SEAL_H
#define GATECAP_TESTS_ESP_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "filters/sa_set.h"

/* What is to be sealed. */
struct esp_clear {
	uint32_t spi, seq, seq_high; // host order
	bool has_esn;
	const uint8_t *iv;	// iv_bytes of the cipher
	const uint8_t *payload; // padding and trailer are the caller's; a multiple of the block
	size_t len;
};

/* Write SPI, sequence number, IV, ciphertext and ICV; gives their number of bytes. */
size_t esp_seal(const struct sa_record *sa, const struct esp_clear *clear, uint8_t *out);

#endif
