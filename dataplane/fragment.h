/* fragment.h - what the first fragment of an IP packet said, for the later ones.
 *
 * Flow:    classify.c keeps a class (outer), match.c a mask (inner); each has a table of its own.
 * Threads: one owner a table.
 * Memory:  fragment_open() allocates everything, see fragment_bytes(); nothing afterwards.
 * Key:     family, source, destination, id, for IPv4 the protocol of the IP header (RFC 791; RFC 8200
 *          leaves it out for IPv6, where later fragments may name another next header), and
 *          `extra_key` (an SA for inner fragments, 0 else).
 * Age:     30 s on the packets' timeline from fragment_put(): the time a host waits for the rest.
 * When full: the oldest of the four entries that could hold the new one goes.
 * Proof:   tests/test_fragment.c
 */
#ifndef GATECAP_DATAPLANE_FRAGMENT_H
#define GATECAP_DATAPLANE_FRAGMENT_H

#include <stddef.h>
#include <stdint.h>

#include "dataplane/packet.h"

enum { FRAGMENT_ENTRIES = 16384, FRAGMENT_WAYS = 4 };

#define FRAGMENT_AGE_NS 30000000000u

struct fragment_table;

/* Gives an empty table, or NULL when memory or the system's randomness is short. */
struct fragment_table *fragment_open(void);
void fragment_close(struct fragment_table *table);

/* Bytes that one table takes. */
size_t fragment_bytes(void);

/* Remember `value` for the packet of *h; h->family is 4 or 6, and h->src points into its IP header.
 * A value that is there already is replaced.
 */
void fragment_put(struct fragment_table *table, const struct headers *h, uint64_t extra_key,
		  uint64_t time_ns, uint64_t value);

/* True and *value if it was put within the last 30 s; else false and *value untouched. */
bool fragment_get(const struct fragment_table *table, const struct headers *h, uint64_t extra_key,
		  uint64_t time_ns, uint64_t *value);

#endif
