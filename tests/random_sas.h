/* random_sas.h - SA sets for tests: any that sa_set_check() accepts, and packets that fit half of them.
 *
 * Flow:    random_sas_throw() -> sa_set_check() -> random_sas_packet()
 * Memory:  random_sas_open() allocates the largest block, random_sas_close() frees it.
 */
#ifndef GATECAP_TESTS_RANDOM_SAS_H
#define GATECAP_TESTS_RANDOM_SAS_H

#include "filters/sa_set.h"
#include "tests/dice.h"

/* How alike the SAs are: few SPIs and addresses make many that differ by one field alone. */
struct random_sas_kind {
	uint32_t n, n_wildcards;
	uint32_t n_spis, n_addresses; // to choose from; 0: any
};

struct random_sas {
	struct sa_set_header *header;
	struct sa_record *sas; // behind it
	size_t bytes;	       // of the set in hand
	struct random_sas_kind kind;
};

/* What decides the look-up of a packet. */
struct sa_packet {
	uint32_t spi;
	uint8_t family;
	uint8_t src[16], dst[16];
};

void random_sas_open(struct random_sas *set);
void random_sas_close(struct random_sas *set);
void random_sas_throw(struct random_sas *set, struct dice *d, const struct random_sas_kind *kind);
void random_sas_packet(const struct random_sas *set, struct dice *d, struct sa_packet *out);

#endif
