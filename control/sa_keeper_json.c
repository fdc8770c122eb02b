/* sa_keeper_json.c - what is shown of SAs: all but their keys. */
#include <cJSON.h>

#include "control/capture.h"
#include "control/sa_json.h"
#include "control/sa_keeper_internal.h"

static void add_number(cJSON *to, const char *key, uint64_t value)
{
	(void)cJSON_AddNumberToObject(to, key, (double)value);
}

static void add_text_or_null(cJSON *to, const char *key, const char *text)
{
	if (text != NULL && text[0] != '\0')
		(void)cJSON_AddStringToObject(to, key, text);
	else
		(void)cJSON_AddNullToObject(to, key);
}

static void add_time(cJSON *to, const char *key, uint64_t wall_ns)
{
	char text[TIME_TEXT_BYTES];

	add_text_or_null(to, key, wall_ns != 0 ? time_text(wall_ns, text) : NULL);
}

/* ---- The list ---- */

/* What all workers saw of the SA, if its slot is its own by now. */
static void add_counters(cJSON *to, const struct sa_keeper *k, const struct sa_item *item)
{
	const struct shared_header *shared = k->dp != NULL ? dp_client_shared(k->dp) : NULL;
	bool is_counted = shared != NULL && sa_registry_is_counted(k->registry, item);
	uint64_t packets = 0, last_ns = 0;

	for (uint32_t i = 0; is_counted && i < shared->n_workers; i++) {
		const struct sa_counters *c = &dp_client_worker(k->dp, i)->sas[item->record.slot];
		uint64_t seen_ns = atomic_load_explicit(&c->last_ns, memory_order_relaxed);

		packets += atomic_load_explicit(&c->packets, memory_order_relaxed);
		if (seen_ns > last_ns)
			last_ns = seen_ns;
	}
	add_number(to, "packets", packets);
	add_time(to, "last_seen", last_ns != 0 ? last_ns + (uint64_t)shared->wall_offset_ns : 0);
}

static cJSON *item_json(const struct sa_keeper *k, const struct sa_item *item,
			enum sa_origin origin)
{
	const struct sa_record *record = &item->record;
	bool has_connection = record->connection_kind != SA_CONNECTION_NONE &&
			      record->connection < k->config->n_connections;
	cJSON *json = sa_json_write(item, origin);

	// Not the one that was asked for, but the one that it has.
	cJSON_DeleteItemFromObjectCaseSensitive(json, "connection");
	add_text_or_null(json, "connection",
			 has_connection ? k->config->connections[record->connection].name : NULL);
	add_counters(json, k, item);
	return json;
}

static void resolve(struct sa_keeper *k)
{
	unsigned n_peers;
	const struct resolved_peer *peers = resolver_peers(k->resolver, &n_peers);

	(void)sa_registry_resolve(k->registry, k->config, peers, n_peers);
}

struct cJSON *sa_keeper_list_json(struct sa_keeper *k)
{
	cJSON *json = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(json, "sas");
	enum sa_origin origin = SA_FROM_FILE;
	const struct sa_item *item;

	resolve(k);
	for (uint32_t i = 0; (item = sa_registry_at(k->registry, i, &origin)) != NULL; i++)
		(void)cJSON_AddItemToArray(list, item_json(k, item, origin));
	return json;
}

/* ---- The status ---- */

static void add_file(cJSON *to, const struct sa_keeper *k)
{
	cJSON *file;

	if (k->path == NULL) {
		(void)cJSON_AddNullToObject(to, "file");
		return;
	}
	file = cJSON_AddObjectToObject(to, "file");
	(void)cJSON_AddStringToObject(file, "path", k->path);
	add_number(file, "sas", sa_registry_n_of(k->registry, SA_FROM_FILE));
	add_time(file, "loaded_at", k->loaded_ns);
	add_text_or_null(file, "fault", k->file_fault.text);
}

static void add_kernel(cJSON *to, const struct sa_keeper *k)
{
	cJSON *kernel;

	if (!k->config->esp.kernel) {
		(void)cJSON_AddNullToObject(to, "kernel");
		return;
	}
	kernel = cJSON_AddObjectToObject(to, "kernel");
	add_number(kernel, "sas", sa_registry_n_of(k->registry, SA_FROM_KERNEL));
	if (k->kernel_status != NULL)
		k->kernel_status(k->kernel_ctx, kernel);
}

struct cJSON *sa_keeper_status_json(struct sa_keeper *k)
{
	cJSON *json = cJSON_CreateObject(), *api;

	resolve(k);
	add_number(json, "sas", sa_registry_n(k->registry));
	(void)cJSON_AddBoolToObject(json, "in_force",
				    k->dp != NULL && k->is_in_force && !k->is_wanted);
	add_text_or_null(json, "fault", k->refused.text);
	(void)cJSON_AddBoolToObject(json, "verify_icv", k->config->esp.verify_icv);
	add_file(json, k);
	add_kernel(json, k);
	api = cJSON_AddObjectToObject(json, "api");
	add_number(api, "sas", sa_registry_n_of(k->registry, SA_FROM_API));
	add_time(api, "since", k->since_ns);
	(void)cJSON_AddItemToObject(json, "warnings",
				    sentences_json(sa_registry_warnings(k->registry)));
	return json;
}
