/* sa_list.h - SAs as their sources give them: a record, and what ties it to a connection.
 *
 * Flow:    esp_sa_file.c, sa_json.c, xfrm_feed.c -> struct sa_list -> sa_registry.c -> sa_set.h
 * Threads: none of its own; each list has one owner.
 * Memory:  pages that are locked and left out of core dumps; grown by copying, wiping what was there;
 *          sa_list_fini() wipes and frees.
 * Proof:   tests/test_sa_list.c
 */
#ifndef GATECAP_CONTROL_SA_LIST_H
#define GATECAP_CONTROL_SA_LIST_H

#include <stdbool.h>
#include <stdint.h>

#include "filters/filter_set.h"
#include "filters/sa_set.h"

enum sa_origin { SA_FROM_FILE, SA_FROM_KERNEL, SA_FROM_API, SA_ORIGINS };

enum { ALGORITHM_TEXT_MAX = 64 };

struct sa_item {
	/* slot, connection, connection_kind and SA_NEW are the registry's to fill; cipher
	 * ESP_UNSUPPORTED: no keys.
	 */
	struct sa_record record;
	char connection[NAME_MAX_BYTES];    // named explicitly; "": not
	uint32_t if_id, mark, reqid;	    // of the kernel's; 0: none
	struct set_subnet remote;	    // of the SA's selector, family 0: none
	char algorithm[ALGORITHM_TEXT_MAX]; // as its source names it, for people; no key in it
	uint32_t line;			    // of a file; 0: none
	bool is_inbound;		    // of the kernel's, as far as it says
};

struct sa_list {
	struct sa_item *items;
	uint32_t n, n_allocated;
};

/* Room for n_more at the end; 0 or -ENOMEM.  At most SA_MAX in all: then -E2BIG. */
int sa_list_grow(struct sa_list *list, uint32_t n_more);

/* Append a copy.  0, -ENOMEM or -E2BIG. */
int sa_list_add(struct sa_list *list, const struct sa_item *item);
void sa_list_remove(struct sa_list *list, uint32_t at); // order is kept
void sa_list_fini(struct sa_list *list);

/* The same SPI, destination and (as far as both name one) source. */
bool sa_item_is_same_sa(const struct sa_item *a, const struct sa_item *b);

#endif
