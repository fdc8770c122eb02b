/* esp_cipher.h - decrypt pieces of ESP payloads, and check ICVs.
 *
 * Engines that give the same bytes.  ESP_FAST, which workers use: AES on the processor's instructions
 * (esp_aes.h), the rest by intel-ipsec-mb or OpenSSL, whichever is faster (the figures: esp_cipher.c).
 * ESP_IPSEC_MB: all that ipsec-mb can do by ipsec-mb, in bursts.  ESP_OPENSSL: EVP, one by one; always
 * there, and the slow twin of the tests.
 * A piece: counter modes and CBC can begin at any block, so that only what is looked at or recorded is
 * decrypted: the first bytes, and the block that ends the payload.
 * Threads: struct esp_key is immutable, for all workers; an engine has one owner.
 * Memory:  esp_key_open() and esp_engine_open() allocate, nothing afterwards but OpenSSL's two digest states
 *          for each HMAC, and its entry for each bad ICV of CCM.  Keys: wiped when closed (key_memory.h).
 * Trust:   reads exactly the bytes that a job names, and, for CBC, the block before them (the IV, or the
 *          ciphertext block in front of `offset`); writes exactly `len` bytes.
 * Source:  RFC 2451, 3602, 3686, 4106, 4309, 4543, 7634, 2403, 2404, 3566, 4868; RFC 4303 for ESN.
 * Proof:   tests/test_esp_cipher.c (all engines, published vectors), tests/fuzz_esp_cipher.c
 */
#ifndef GATECAP_DATAPLANE_ESP_CIPHER_H
#define GATECAP_DATAPLANE_ESP_CIPHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "filters/error.h"
#include "filters/limits.h"
#include "filters/sa_set.h"

struct esp_key;	   // the expanded keys of one SA
struct esp_engine; // what one worker decrypts with

enum esp_engine_kind { ESP_FAST, ESP_IPSEC_MB, ESP_OPENSSL, ESP_ENGINE_KINDS };

/* Keys for all engines, from a checked record.  NULL and a sentence that names SPI and algorithm when
 * memory is short or a library refuses.  verify: ICVs will be checked with it.
 */
struct esp_key *esp_key_open(const struct sa_record *record, bool verify, struct error *err);
void esp_key_close(struct esp_key *key); // wipes; NULL: nothing

/* NULL when memory is short or this CPU has not what the library needs. */
struct esp_engine *esp_engine_open(enum esp_engine_kind kind);
void esp_engine_close(struct esp_engine *engine);

enum { ESP_JOBS_MAX = 4 * BURST_MAX };

/* `len` bytes of the payload of one packet, from `offset`.  The payload begins behind the IV.  offset is a
 * multiple of 16 for every cipher (3DES: of 8), len of the cipher's block (block_bytes; of streams any);
 * offset + len is not beyond what is readable of the payload.
 */
struct esp_job {
	const struct esp_key *key;
	const uint8_t *iv; // in the packet, iv_bytes of them; the payload follows
	uint32_t offset, len;
	uint8_t *out; // len bytes, not within the packet
};

/* Decrypt n <= ESP_JOBS_MAX jobs.  Cannot fail: a wrong key gives wrong bytes. */
void esp_decrypt_burst(struct esp_engine *engine, const struct esp_job *jobs, unsigned n);

enum esp_icv { ESP_ICV_OK, ESP_ICV_BAD, ESP_ICV_UNCHECKED };

/* The ICV of a whole ESP packet: `esp` is its SPI, `len` ends behind the ICV and is at least header + IV +
 * ICV.  seq_high: the high half of an extended sequence number, if the SA has them.
 */
struct esp_icv_job {
	const struct esp_key *key;
	const uint8_t *esp;
	uint32_t len;
	uint32_t seq_high;
	bool has_esn;
};

enum { ESP_PACKET_MAX = 65536 }; // longer ones stay unchecked: no IP packet is

/* Check n <= BURST_MAX ICVs, results into out[n].  UNCHECKED: the SA has no ICV, or one that cannot be
 * checked (ESP_AUTH_UNCHECKED; AES-XCBC by OpenSSL; keys opened without verify).
 * Bursts: HMAC-MD5, AES-XCBC and AES-CCM are made side by side: alone each costs ten times as much.
 */
void esp_check_icv_burst(struct esp_engine *engine, const struct esp_icv_job *jobs, unsigned n,
			 enum esp_icv *out);

/* The same for one. */
enum esp_icv esp_check_icv(struct esp_engine *engine, const struct esp_key *key, const uint8_t *esp,
			   uint32_t len, bool has_esn, uint32_t seq_high);

#endif
