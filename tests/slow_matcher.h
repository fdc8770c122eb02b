/* slow_matcher.h - what the matcher must say, worked out from the document instead of the tables.
 *
 * Works on struct filter_data and struct config as the user wrote them, not on the compiled set: a
 * fault of set_build shows as a difference too.  One loop a rule of docs/semantics.md, nothing shared
 * with filters/matcher.c but the place of a bit.
 * Threads: any.  Memory: none.
 */
#ifndef GATECAP_TESTS_SLOW_MATCHER_H
#define GATECAP_TESTS_SLOW_MATCHER_H

#include <stdint.h>

#include "control/set_build.h"
#include "filters/matcher.h"

uint32_t slow_inner(const struct set_source *source, const struct match_key *key);
uint32_t slow_inner_no_first(const struct set_source *source, const struct match_key *key);
uint8_t slow_outer(const struct set_source *source, unsigned trace, const struct match_key *key);
uint8_t slow_fold(uint32_t verdict);

#endif
