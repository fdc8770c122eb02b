/* sa_resolve.h - which connection an SA belongs to.
 *
 * Flow:    struct config + resolved peers -> sorted tables -> one answer an SA
 * Rule:    the connection that is named; else the sole one with its if_id, else mark, else reqid; else the one in
 *          whose remote subnets the SA's selector lies (longest prefix); else the sole one whose peer has the
 *          address that is not this gateway's.  Peers "any" have no address.  IPsec connections only.
 * Threads: any; immutable once opened.
 * Memory:  sa_resolver_open() gives; borrows the configuration's names for as long.
 * Proof:   tests/test_sa_registry.c
 */
#ifndef GATECAP_CONTROL_SA_RESOLVE_H
#define GATECAP_CONTROL_SA_RESOLVE_H

#include "control/config.h"
#include "control/sa_list.h"
#include "control/set_build.h"

struct sa_resolver;

struct sa_resolver *sa_resolver_open(const struct config *config,
				     const struct resolved_peer *resolved, unsigned n_resolved);
void sa_resolver_close(struct sa_resolver *resolver); // NULL: nothing

/* *connection is an index in the configuration, 0 with SA_CONNECTION_NONE. */
enum sa_connection sa_resolver_find(const struct sa_resolver *resolver, const struct sa_item *item,
				    uint32_t *connection);

/* SA_INBOUND, SA_OUTBOUND, or 0: not known.  By the gateway's own addresses, else by the kernel's word. */
uint8_t sa_resolver_direction(const struct sa_resolver *resolver, const struct sa_item *item);

/* Is there an IPsec connection of this name? */
bool sa_resolver_has_name(const struct sa_resolver *resolver, const char *name);

#endif
