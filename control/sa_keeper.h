/* sa_keeper.h - the appliance's SAs: where they come from, and the dataplane that is told.
 *
 * Flow:    file (watched), gatecap-xfrm, HTTP API -> sa_registry -> sa_set -> dp_client_set_sas()
 * Threads: the event loop.
 * Memory:  keys are where sa_registry.h says; a block that was sent is wiped at once.
 * Rule:    one set is on its way to the dataplane at a time; what changes meanwhile goes with the next one.
 *          What the dataplane refuses is sent again after a second.
 * Restart: the dataplane keeps its keys while gatecapd is away.  A gatecapd that starts tells it of others only
 *          when all sources that are configured have been read: the file, and the kernel's first dump, for
 *          which it waits KERNEL_WAIT_MS at the most.  One that has no source but the API sends nothing until
 *          the first SA is added or deleted.
 * Bad file: it is refused as a whole, said once, shown in the status; the keys in force stay.
 * Proof:   tests/test_live_esp.py
 */
#ifndef GATECAP_CONTROL_SA_KEEPER_H
#define GATECAP_CONTROL_SA_KEEPER_H

#include "control/config.h"
#include "control/dp_client.h"
#include "control/resolve.h"
#include "control/sa_registry.h"

struct cJSON;
struct event_base;
struct sa_keeper;

/* Gives NULL when memory is short.  Nothing is read before sa_keeper_configure(). */
struct sa_keeper *sa_keeper_open(struct event_base *base);
void sa_keeper_close(struct sa_keeper *keeper); // NULL: nothing

/* Both are borrowed until the next call.  A file that is another one than before is read at once. */
void sa_keeper_configure(struct sa_keeper *keeper, const struct config *config,
			 const struct resolver *resolver);

/* The addresses of a peer are other ones. */
void sa_keeper_touch(struct sa_keeper *keeper);

/* Read the file again, changed or not. */
void sa_keeper_reload(struct sa_keeper *keeper);

/* ---- For the sources ---- */

struct sa_registry *sa_keeper_registry(struct sa_keeper *keeper);

/* Something was put into the registry or taken out of it: the dataplane is told soon. */
void sa_keeper_changed(struct sa_keeper *keeper);

/* The kernel's SAs are known for the first time since gatecap-xfrm came. */
void sa_keeper_kernel_is_read(struct sa_keeper *keeper);

/* What the kernel's source says of itself: members are added to `to`, an object.  NULL: nobody listens. */
void sa_keeper_set_kernel(struct sa_keeper *keeper, void (*status)(void *ctx, struct cJSON *to),
			  void *ctx);

/* ---- For the owner of the dataplane's client ---- */

void sa_keeper_up(struct sa_keeper *keeper, struct dp_client *dp);
void sa_keeper_down(struct sa_keeper *keeper);
void sa_keeper_applied(struct sa_keeper *keeper, uint64_t generation);
void sa_keeper_refused(struct sa_keeper *keeper, uint64_t generation, const char *why);

/* ---- What is shown: never a key ---- */

/* The member "esp" of the status. */
struct cJSON *sa_keeper_status_json(struct sa_keeper *keeper);

/* {"sas":[...]}: docs/http-api.md. */
struct cJSON *sa_keeper_list_json(struct sa_keeper *keeper);

#endif
