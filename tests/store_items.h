/* store_items.h - records that say which they are, put into a store and read back by libpcap.
 *
 * Item n has the time ITEM_BASE_NS + 10 n, and a frame that begins with n; its length and its bytes follow
 * from n, so that whatever a store shows can be told from what was never recorded.
 * Threads: one.  Faults are cmocka's assertions.
 */
#ifndef GATECAP_TESTS_STORE_ITEMS_H
#define GATECAP_TESTS_STORE_ITEMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "control/store.h"

enum { ITEM_BASE_NS = 1000000, ITEM_SNAP = 1500, ITEM_RECORD = 16, ITEM_BYTES_MIN = 8 };

/* Of a frame: ITEM_BYTES_MIN and less than `range` more. */
uint32_t item_caplen(uint32_t n, uint32_t range);
void item_fill(uint8_t *frame, uint32_t n, uint32_t range);
void item_append(struct store *store, uint32_t n, uint32_t range);

struct found {
	uint32_t *list;
	uint32_t n;
	uint8_t *pcap;
	uint64_t bytes; // of the PCAP
};

/* What libpcap reads: whole records, in order, none twice, and as many as the store counts. */
struct found items_read(struct store *store, uint64_t file_bytes_max, uint32_t range);
void found_fini(struct found *found);
bool found_has(const struct found *found, uint32_t n);

#endif
