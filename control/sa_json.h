/* sa_json.h - one SA as JSON: with its keys on the way in (HTTP API, `gatecap sa add`), never on the way out.
 *
 * In:      {"spi": "0xc0ffee01", "src": "*", "dst": "192.0.2.1", "encryption": "aes-gcm",
 *          "encryption_key": "00112233...", "icv_bytes": 16, "authentication": "hmac-sha256-128",
 *          "authentication_key": "...", "mode": "tunnel", "esn": true, "connection": "paris"}
 *          spi, dst, encryption and what this needs of keys are required.  spi and addresses with the
 *          wildcards of sa_address.h; dst "*" is any of either family.  Names: short ones
 *          (esp_algorithm.h) or Wireshark's (esp_names.h).  Keys in hexadecimal, 0x or not; the salt of
 *          AES-GCM, -GMAC, -CCM, -CTR and ChaCha20-Poly1305 behind the key.
 * Threads: any; no globals.
 * Secrets: faults show no byte of a key.  The draft is locked and wiped, and so are the strings of the tree
 *          before it is given back; item is the caller's to wipe.
 * Proof:   tests/test_sa_json.c
 */
#ifndef GATECAP_CONTROL_SA_JSON_H
#define GATECAP_CONTROL_SA_JSON_H

#include <stddef.h>

#include "control/sa_list.h"
#include "filters/error.h"

struct cJSON;
struct json_place;

enum { SA_JSON_BYTES_MAX = 8192 };

enum sa_json_extent {
	SA_JSON_WHOLE, // an SA
	SA_JSON_NAME,  // what names one: spi, dst and perhaps src
};

/* Read a document, or an object of one (place: where it stands; NULL: it is the document).  0 and *item,
 * or -EINVAL, faults with JSON pointers, and *item untouched.
 */
int sa_json_parse(const char *text, size_t len, enum sa_json_extent extent, struct sa_item *item,
		  struct faults *faults);
int sa_json_read(const struct cJSON *value, const struct json_place *place,
		 enum sa_json_extent extent, struct sa_item *item, struct faults *faults);

/* Wipe every string of a tree that may hold keys; then cJSON_Delete() it. */
void sa_json_wipe(struct cJSON *tree);

/* Gives an object without keys: spi, src, dst, algorithm, icv_bytes, mode, esn, connection (or null), origin,
 * and as far as they are there line, if_id, mark, reqid and remote.  NULL when memory is short.
 */
struct cJSON *sa_json_write(const struct sa_item *item, enum sa_origin origin);

const char *sa_origin_name(enum sa_origin origin); // "file", "kernel", "api"

#endif
