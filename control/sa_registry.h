/* sa_registry.h - all SAs of the appliance: from the file, the kernel and the API, on their way to the dataplane.
 *
 * Flow:    sources -> sa_registry_* -> sa_registry_build() -> dp_client_set_sas()
 * Threads: the event loop.
 * Memory:  keys live in sa_list.h memory and in the block that sa_registry_build() gives, nowhere else.
 * Order:   file, then API, then kernel: what a person wrote down goes first.
 * Slots:   an SA keeps its slot, and so its counters, as long as SPI, destination and origin stay the same.
 *          SA_NEW goes with each set until one that has it was applied.
 * Connection: the explicit one, else if_id, mark, reqid, else by inner remote subnet (of its selector here, of
 *          each packet in the dataplane), else the sole connection with the peer's address (sa_resolve.h).
 * Proof:   tests/test_sa_registry.c, tests/test_live_esp.py
 */
#ifndef GATECAP_CONTROL_SA_REGISTRY_H
#define GATECAP_CONTROL_SA_REGISTRY_H

#include <stddef.h>

#include "control/config.h"
#include "control/sa_list.h"
#include "control/set_build.h"

struct sa_registry;

struct sa_registry *sa_registry_open(void);
void sa_registry_close(struct sa_registry *registry);

/* All of one origin are these now.  Takes the list (it is empty afterwards, also after a refusal).  0, or -E2BIG
 * and a sentence when there would be more than SA_MAX in all or more than SA_WILDCARDS_MAX with wildcards, or
 * -ENOMEM and a sentence; then nothing changed.
 */
int sa_registry_replace(struct sa_registry *registry, enum sa_origin origin, struct sa_list *list,
			struct error *err);

/* Add or replace each (sa_item_is_same_sa) of a list, all or none; otherwise as sa_registry_replace().
 * -EEXIST and a sentence: the list has the same SA twice.
 */
int sa_registry_put_all(struct sa_registry *registry, enum sa_origin origin, struct sa_list *list,
			struct error *err);

/* Add or replace one. */
int sa_registry_put(struct sa_registry *registry, enum sa_origin origin, const struct sa_item *item,
		    struct error *err);

/* -ENOENT: there is none. */
int sa_registry_remove(struct sa_registry *registry, enum sa_origin origin,
		       const struct sa_item *like);

/* Has anything changed since sa_registry_build()?  Also after sa_registry_touch(). */
bool sa_registry_is_changed(const struct sa_registry *registry);

/* The configuration or the addresses of a peer are other ones. */
void sa_registry_touch(struct sa_registry *registry);

/* Tell each SA its connection: record.connection and connection_kind.  Nothing to do if nothing has changed
 * since.  -ENOMEM: they stay as they were.
 */
int sa_registry_resolve(struct sa_registry *registry, const struct config *config,
			const struct resolved_peer *resolved, unsigned n_resolved);

/* What sa_set_check() accepts, in locked memory: secret_free().  NULL when memory is short.
 * resolved: addresses of the peers that have names (resolve.h).
 */
void *sa_registry_build(struct sa_registry *registry, const struct config *config,
			const struct resolved_peer *resolved, unsigned n_resolved,
			uint64_t generation, size_t *bytes);

/* The set that was built last is in force. */
void sa_registry_applied(struct sa_registry *registry);

/* Are the counters of this SA's slot its own: was a set with it applied? */
bool sa_registry_is_counted(const struct sa_registry *registry, const struct sa_item *item);

/* Look at all, in the order of the set.  NULL at the end.  Valid until the next change. */
const struct sa_item *sa_registry_at(const struct sa_registry *registry, uint32_t i,
				     enum sa_origin *origin);
uint32_t sa_registry_n(const struct sa_registry *registry);
uint32_t sa_registry_n_of(const struct sa_registry *registry, enum sa_origin origin);

/* Names of connections that SAs ask for and that the configuration does not have, a sentence each. */
const struct faults *sa_registry_warnings(const struct sa_registry *registry);

#endif
