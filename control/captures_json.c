/* captures_json.c - what the routes show of the captures and of the dataplane. */
#include <cJSON.h>

#include "control/captures_internal.h"

static uint64_t load(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

struct cJSON *captures_one_json(struct captures *m, const struct capture *capture)
{
	struct capture *c = (struct capture *)(uintptr_t)capture; // the books are read afresh
	struct store_counts counts = c->final;
	uint64_t sent = c->upload_id > 0 ? upload_progress(m->uploader, c->upload_id) : 0;

	if (c->state == CAPTURE_SUCCEEDED)
		sent = c->upload_bytes;
	// The store first: what is in it is covered by the books that are read after it.
	if (!c->has_final && c->store != NULL)
		(void)store_count(c->store, &counts);
	captures_read_tally(m, c);
	return capture_json(c, &counts, sent);
}

struct cJSON *captures_list_json(struct captures *m)
{
	cJSON *list = cJSON_CreateArray();

	for (struct capture *c = m->list; c != NULL; c = c->next)
		(void)cJSON_AddItemToArray(list, captures_one_json(m, c));
	return list;
}

static cJSON *gateway_json(const struct config *config)
{
	cJSON *gateway = cJSON_CreateObject(), *list;

	(void)cJSON_AddStringToObject(gateway, "name", config->gateway.name);
	(void)cJSON_AddStringToObject(gateway, "vpn_type",
				      config->gateway.vpn_type == VPN_POLICY_BASED ? "PolicyBased"
										   : "RouteBased");
	list = cJSON_AddArrayToObject(gateway, "connections");
	for (unsigned i = 0; i < config->n_connections; i++) {
		const struct connection *connection = &config->connections[i];
		cJSON *one = cJSON_CreateObject();

		(void)cJSON_AddStringToObject(one, "name", connection->name);
		(void)cJSON_AddStringToObject(
			one, "type", connection->type == CONNECTION_OPENVPN ? "OpenVPN" : "IPsec");
		(void)cJSON_AddItemToArray(list, one);
	}
	return gateway;
}

static cJSON *port_json(const struct port_shared *port)
{
	cJSON *json = cJSON_CreateObject();

	(void)cJSON_AddStringToObject(json, "name", port->name);
	(void)cJSON_AddStringToObject(json, "role", port->role == ROLE_INNER ? "inner" : "outer");
	(void)cJSON_AddStringToObject(json, "source", port->source);
	return json;
}

struct cJSON *captures_status_json(struct captures *m)
{
	const struct shared_header *shared = m->is_up ? dp_client_shared(m->dp) : NULL;
	cJSON *json = cJSON_CreateObject(), *dataplane, *ports;

	(void)cJSON_AddStringToObject(json, "version", GATECAP_VERSION);
	(void)cJSON_AddItemToObject(json, "gateway", gateway_json(m->config));
	dataplane = cJSON_AddObjectToObject(json, "dataplane");
	(void)cJSON_AddBoolToObject(dataplane, "connected", m->is_up);
	(void)cJSON_AddNumberToObject(dataplane, "workers", shared != NULL ? shared->n_workers : 0);
	ports = cJSON_AddArrayToObject(dataplane, "ports");
	for (unsigned i = 0; shared != NULL && i < shared->n_ports; i++)
		(void)cJSON_AddItemToArray(ports, port_json(&shared->ports[i]));
	(void)cJSON_AddItemToObject(json, "esp", sa_keeper_status_json(m->sas));
	(void)cJSON_AddItemToObject(json, "captures", captures_list_json(m));
	return json;
}

static void add_count(cJSON *to, const char *key, uint64_t value)
{
	(void)cJSON_AddNumberToObject(to, key, (double)value);
}

static cJSON *port_stats_json(const struct captures *m, unsigned port)
{
	const struct shared_header *shared = dp_client_shared(m->dp);
	cJSON *json = port_json(&shared->ports[port]), *to;
	uint64_t received = 0, classes[CLASS_COUNT] = {0};

	for (unsigned i = 0; i < shared->n_workers; i++) {
		const struct worker_shared *w = dp_client_worker(m->dp, i);

		received += load(&w->received[port]);
		for (unsigned k = 0; k < CLASS_COUNT; k++)
			classes[k] += load(&w->classes[port][k]);
	}
	add_count(json, "received", received);
	add_count(json, "lost_nic", load(&shared->ports[port].lost_nic));
	(void)cJSON_AddBoolToObject(json, "done", load(&shared->ports[port].done) != 0);
	to = cJSON_AddObjectToObject(json, "classes");
	add_count(to, "esp", classes[CLASS_ESP]);
	add_count(to, "ike", classes[CLASS_IKE]);
	add_count(to, "ovpn", classes[CLASS_OVPN]);
	add_count(to, "inner", classes[CLASS_INNER]);
	add_count(to, "other", classes[CLASS_OTHER]);
	return json;
}

static cJSON *worker_stats_json(const struct captures *m, unsigned i,
				const struct ring_reader *ring)
{
	const struct worker_shared *w = dp_client_worker(m->dp, i);
	cJSON *json = cJSON_CreateObject(), *verdicts;

	add_count(json, "ring_bytes", ring->size);
	add_count(json, "ring_used_bytes", load(&w->ring.head) - load(&ring->tail_shared->tail));
	verdicts = cJSON_AddObjectToObject(json, "verdicts");
	for (unsigned v = 0; v < VERDICT_COUNT; v++)
		add_count(verdicts, verdict_name((enum verdict)v), load(&w->verdicts[v]));
	add_count(verdicts, "held", load(&w->n_held));
	return json;
}

struct cJSON *captures_stats_json(struct captures *m)
{
	cJSON *json = cJSON_CreateObject(), *ports, *workers;
	struct ring_reader rings[WORKERS_MAX];
	char text[TIME_TEXT_BYTES];

	(void)cJSON_AddStringToObject(json, "time", time_text(wall_now_ns(), text));
	ports = cJSON_AddArrayToObject(json, "ports");
	workers = cJSON_AddArrayToObject(json, "workers");
	if (m->is_up) {
		unsigned n = dp_client_rings(m->dp, rings);

		for (unsigned i = 0; i < dp_client_shared(m->dp)->n_ports; i++)
			(void)cJSON_AddItemToArray(ports, port_stats_json(m, i));
		for (unsigned i = 0; i < n; i++)
			(void)cJSON_AddItemToArray(workers, worker_stats_json(m, i, &rings[i]));
	}
	(void)cJSON_AddItemToObject(json, "captures", captures_list_json(m));
	return json;
}
