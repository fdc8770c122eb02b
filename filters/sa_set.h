/* sa_set.h - all security associations (SAs) that gatecap has keys for, as fixed records in one block.
 *
 * Flow:    gatecapd builds it (control/sa_registry.h) -> sealed memfd -> the dataplane checks it
 *          (sa_set_check) and compiles it itself (dataplane/sa_table.h).
 * Trust:   as filter_set.h: the dataplane proves every count, size, range and algorithm on a private copy.
 * Secrets: the block holds keys.  Whoever copies it wipes the copy (explicit_bzero) before it is given
 *          back, and locks it while it is there; no sentence, log line or core file shows a byte of it.
 * Layout:  struct sa_set_header, then n_sas records.  Host byte order, addresses in network order.
 * Order:   of two records that fit a packet the first in the set is taken, those with a whole SPI and
 *          destination before those with wildcards.
 * Proof:   tests/test_sa_set.c (each byte flipped), tests/fuzz_sa_set.c
 */
#ifndef GATECAP_FILTERS_SA_SET_H
#define GATECAP_FILTERS_SA_SET_H

#include <stddef.h>
#include <stdint.h>

#include "filters/error.h"
#include "filters/esp_algorithm.h"
#include "filters/limits.h"

#define SA_SET_MAGIC UINT32_C(0x67637361) /* "gcsa" */

enum {
	SA_SET_VERSION = 1,
	SA_WILDCARDS_MAX =
		64,	   // records whose SPI or destination is not whole: looked at one by one
	SA_SPI_WHOLE = -1, // spi_mask of a whole SPI, as uint32_t
};

/* What an SA's address has to be: (address & mask) == value, of one family.  family 0: any address of any
 * family, value and mask zero.  Bits of value outside mask are zero.
 */
struct sa_address {
	uint8_t value[16], mask[16]; // IPv4: the first 4 bytes, the rest zero
	uint8_t family;		     // 4, 6 or 0
	uint8_t reserved[3];
};

enum sa_mode { SA_MODE_ANY, SA_MODE_TUNNEL, SA_MODE_TRANSPORT }; // ANY: as the next header says

/* How the SA's connection is known. */
enum sa_connection {
	SA_CONNECTION_NONE, // by the inner packet's remote subnet, else none
	SA_CONNECTION_PEER, // by the inner packet's remote subnet, else `connection`: the sole one of the peer
	SA_CONNECTION_FIXED, // `connection`: named explicitly, or by if_id, mark, reqid
};

enum sa_flags {
	SA_NEW = 1, // the slot's counters begin at zero with this set
	SA_ESN = 2, // extended sequence numbers (RFC 4303, 2.2.1): the high half is in the ICV
};

struct sa_record {
	uint32_t spi, spi_mask; // host order; spi & ~spi_mask is 0
	struct sa_address src, dst;
	uint32_t slot; // of its counters in shared memory: < SA_MAX, each at most once
	uint32_t connection;
	uint32_t esn_high;	 // what the kernel says of the high half; 0: nothing
	uint8_t connection_kind; // enum sa_connection
	uint8_t mode;		 // enum sa_mode
	uint8_t cipher, auth;	 // enum esp_cipher, enum esp_auth; auth NONE for an AEAD
	uint8_t icv_bytes;
	uint8_t enc_key_bytes; // salt included
	uint8_t auth_key_bytes;
	uint8_t flags; // of enum sa_flags
	uint8_t enc_key[ESP_ENC_KEY_MAX];
	uint8_t auth_key[ESP_AUTH_KEY_MAX];
};

enum sa_set_flags { SA_SET_VERIFY_ICV = 1 };

struct sa_set_header {
	uint32_t magic, version;
	uint64_t generation; // of SA sets; nothing to do with those of filter sets
	uint32_t total_bytes;
	uint32_t n_sas; // at most SA_MAX
	uint32_t flags; // of enum sa_set_flags
	uint32_t reserved;
};

/* Pointers into a checked (or built) set. */
struct sa_set {
	const struct sa_set_header *header;
	const struct sa_record *sas;
};

/* Is every byte of mask set, for the family? */
static inline int sa_address_is_whole(const struct sa_address *a)
{
	unsigned n = a->family == 4 ? 4 : a->family == 6 ? 16 : 0;

	for (unsigned i = 0; i < n; i++)
		if (a->mask[i] != 0xff)
			return 0;
	return n > 0;
}

/* One that is found by looking, not by hashing. */
static inline int sa_record_is_wildcard(const struct sa_record *r)
{
	return r->spi_mask != (uint32_t)SA_SPI_WHOLE || !sa_address_is_whole(&r->dst);
}

/* Check `bytes` at `mem` (8-byte aligned) and point *out into it.  mem is borrowed for as long as *out.
 * Returns 0, or -EINVAL and a sentence (which names the record by its place, SPI and what is wrong, never
 * a key), *out untouched.
 */
int sa_set_check(const void *mem, size_t bytes, struct sa_set *out, struct error *err);

#endif
