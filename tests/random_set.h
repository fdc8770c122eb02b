/* random_set.h - random configurations, captures and filters, and packets that lie half in their lists.
 *
 * Flow:    random_set_throw() -> set->source (for set_build and slow_matcher) -> random_key_throw()
 * Memory:  random_set_open() allocates one block; the lists point into it.
 */
#ifndef GATECAP_TESTS_RANDOM_SET_H
#define GATECAP_TESTS_RANDOM_SET_H

#include "control/set_build.h"
#include "filters/matcher.h"
#include "tests/dice.h"

enum {
	POOL_SUBNETS = 24,
	POOL_PORTS = 10,
	RANDOM_CONNECTIONS_MAX = 6,
	RANDOM_LIST_MAX = 8,
	RANDOM_RESOLVED_MAX = 4,
};

struct random_filter_lists {
	struct subnet src[RANDOM_LIST_MAX], dst[RANDOM_LIST_MAX];
	uint16_t sport[RANDOM_LIST_MAX], dport[RANDOM_LIST_MAX];
	uint8_t protocol[RANDOM_LIST_MAX];
};

struct random_connection_lists {
	struct subnet addresses[RANDOM_LIST_MAX], remotes[RANDOM_LIST_MAX];
	uint16_t udp_ports[RANDOM_LIST_MAX];
};

struct random_set {
	struct set_source source;
	struct config config;
	struct filter_data data[CAPTURES_MAX];
	struct set_source_capture captures[CAPTURES_MAX];
	struct resolved_peer resolved[RANDOM_RESOLVED_MAX];
	struct connection connections[RANDOM_CONNECTIONS_MAX];
	struct random_connection_lists connection_lists[RANDOM_CONNECTIONS_MAX];
	struct random_filter_lists filter_lists[CAPTURES_MAX][FILTERS_PER_CAPTURE_MAX];
	struct subnet subnets[POOL_SUBNETS]; // what all lists are drawn from
	uint16_t ports[POOL_PORTS];
};

/* A packet whose addresses are in it. */
struct random_key {
	uint8_t src[16], dst[16];
	struct match_key key;
};

struct random_set *random_set_open(void);
void random_set_close(struct random_set *set);
void random_set_throw(struct random_set *set, struct dice *d);
void random_key_throw(const struct random_set *set, struct dice *d, struct random_key *out);

#endif
