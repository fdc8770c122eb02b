/* sa_keeper_internal.h - what sa_keeper.c and sa_keeper_json.c share.  Nobody else. */
#ifndef GATECAP_CONTROL_SA_KEEPER_INTERNAL_H
#define GATECAP_CONTROL_SA_KEEPER_INTERNAL_H

#include "control/sa_keeper.h"

struct event;
struct file_watch;

struct sa_keeper {
	struct event_base *base;
	const struct config *config; // NULL: not configured yet
	const struct resolver *resolver;
	struct sa_registry *registry;
	uint64_t since_ns; // wall clock: SAs of the API from before are gone

	/* The file. */
	struct file_watch *watch; // NULL: none is configured
	char *path;
	uint64_t loaded_ns; // wall clock, 0: never
	struct error file_fault;

	/* The kernel. */
	bool is_kernel_awaited; // the first set waits for its first dump
	void (*kernel_status)(void *ctx, struct cJSON *to);
	void *kernel_ctx;

	/* The dataplane. */
	struct dp_client *dp; // NULL: not connected
	struct event *send, *kernel_late;
	uint64_t generation; // of the last set sent
	uint64_t boot_id;    // of the dataplane that has it
	bool is_pending;     // sent, not answered
	bool is_in_force;    // that set was applied
	bool is_wanted;	     // the dataplane has another one, or none
	bool has_anything;   // a source was read: an empty set is worth sending, too
	struct error refused;
};

#endif
