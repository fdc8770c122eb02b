/* sa_table.h - the SA of an ESP packet: by SPI and destination, at any number of SAs one look-up.
 *
 * A keyed hash of (SPI, destination) for SAs whose both are whole; behind it at most SA_WILDCARDS_MAX
 * others, one by one, in the order of the set.  Where a record names a source the packet must come from it.
 * Limit:   64 SAs of one SPI and destination (they differ by source); a set with more is refused.
 * Threads: immutable once opened; any number of workers.
 * Memory:  sa_table_open() allocates, expanded keys included, in locked pages that are left out of core
 *          dumps where the limit of locked memory allows; sa_table_close() wipes and frees.
 * Published like the matcher: whole, between two bursts (worker.h).
 * Proof:   tests/test_sa_table.c against a linear list
 */
#ifndef GATECAP_DATAPLANE_SA_TABLE_H
#define GATECAP_DATAPLANE_SA_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dataplane/esp_cipher.h"
#include "filters/sa_set.h"

/* What a worker needs of an SA. */
struct sa {
	const struct esp_key *key; // NULL: ESP_UNSUPPORTED
	uint32_t slot;
	uint32_t connection;
	uint8_t connection_kind; // enum sa_connection
	uint8_t mode;		 // enum sa_mode
	uint8_t flags;		 // of enum sa_flags
	uint8_t iv_bytes, icv_bytes, block_bytes;
	uint32_t esn_high;
};

struct sa_table;

/* Compile a checked set.  Gives a table, or NULL and a sentence (memory, an algorithm that the libraries
 * of this machine refuse).
 */
struct sa_table *sa_table_open(const struct sa_set *set, struct error *err);
void sa_table_close(struct sa_table *table); // NULL: nothing

uint64_t sa_table_generation(const struct sa_table *table);
bool sa_table_verifies_icv(const struct sa_table *table);
uint32_t sa_table_n(const struct sa_table *table);

size_t sa_table_bytes(const struct sa_table *table); // without the keys

/* Slots whose counters begin at zero with this set, *n of them. */
const uint32_t *sa_table_new_slots(const struct sa_table *table, uint32_t *n);

/* spi in host order; addresses in network order, 4 or 16 bytes, as the family (4 or 6) has it.
 * NULL: there is none.
 */
const struct sa *sa_table_find(const struct sa_table *table, uint32_t spi, uint8_t family,
			       const uint8_t *src, const uint8_t *dst);

/* A hint for a burst: where sa_table_find() of these will look first. */
void sa_table_prefetch(const struct sa_table *table, uint32_t spi, uint8_t family,
		       const uint8_t *dst);

#endif
