/* config_keys.c - every key of the configuration: its type, its range, where it goes.
 *
 * Sections have offset 0: the offsets of their keys are from struct config itself.  Lists of
 * structs and keys with rules of their own have readers here; the rest is in config_read.c.
 */
#include <assert.h>
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "control/config.h"
#include "control/config_read.h"
#include "filters/json_place.h"

enum {
	REMOTE_SUBNETS_MAX = 10000, // of one connection
	PUBLIC_ADDRESSES_MAX = 64,
	ALLOWED_HOSTS_MAX = 64,
	EAL_ARGS_MAX = 64,
	CORE_MAX = 1023,
	MEMORY_MB_MIN = 64,
	MEMORY_MB_MAX = 1 << 20,
	RETENTION_DAYS_MAX = 3650,
	SYNC_MS_MAX = 60000,
	BLOCK_BYTES_MIN = 64 << 10,
	BLOCK_BYTES_MAX = 100 << 20, // one buffer an upload
	PROTOCOL_TCP = 6,
	PROTOCOL_UDP = 17,
	OVPN_PORT = 1194,
};

static const int64_t ring_bytes_min = INT64_C(1) << 20, ring_bytes_max = INT64_C(4) << 30;

static_assert((uint64_t)FILE_MB_MAX * FILE_MB_BYTES / BLOCK_BYTES_MIN < 50000,
	      "Azure takes 50,000 blocks a blob");

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define FIELD(type, member) \
	.offset = offsetof(struct type, member), .size = sizeof(((struct type *)0)->member)
#define LIST(type, member, n_member) \
	FIELD(type, member), .n_offset = offsetof(struct type, n_member)

/* ---- Gateway ---- */

static const char *const vpn_types[] = {"RouteBased", "PolicyBased", NULL};
static const char *const transports[] = {"udp", "tcp", NULL};

/* An endpoint as it is read: the protocol is a word there. */
struct endpoint_read {
	struct endpoint endpoint;
	unsigned transport; // index into transports
};

static const struct config_key endpoint_keys[] = {
	{"address", config_read_host, FIELD(endpoint_read, endpoint.address)},
	{"protocol", config_read_word, FIELD(endpoint_read, transport), .words = transports},
	{"port", config_read_integer, FIELD(endpoint_read, endpoint.port), .min = 1, .max = 65535},
	{"shared", config_read_boolean, FIELD(endpoint_read, endpoint.shared)},
};

static bool same_endpoint(const struct endpoint *a, const struct endpoint *b)
{
	return a->port == b->port && a->protocol == b->protocol &&
	       a->address.family == b->address.family &&
	       memcmp(a->address.addr, b->address.addr, sizeof(a->address.addr)) == 0;
}

static void read_endpoint(struct faults *faults, const struct json_place *place,
			  const struct cJSON *value, struct config *config)
{
	static const struct config_key object = {.keys = endpoint_keys,
						 .n_keys = COUNT(endpoint_keys)};
	const struct json_place shared = {.parent = place, .key = "shared"};
	struct endpoint_read read = {.endpoint = {.port = OVPN_PORT}};
	struct endpoint *new = &read.endpoint;
	unsigned n_before = json_fault_count(faults);

	config_read_object(faults, place, value, &object, &read);
	new->protocol = read.transport == 0 ? PROTOCOL_UDP : PROTOCOL_TCP;
	if (json_fault_count(faults) != n_before)
		return;
	if (new->shared &&new->protocol != PROTOCOL_TCP)
		json_fault(faults, &shared, NULL,
			   "only a tcp endpoint can be shared with HTTPS; set \"protocol\": "
			   "\"tcp\" or leave \"shared\" out");
	for (unsigned i = 0; i < config->gateway.n_endpoints; i++)
		if (same_endpoint(&config->gateway.endpoints[i], new))
			json_fault(faults, place, NULL,
				   "has the address, protocol and port of an earlier endpoint");
	config->gateway.endpoints[config->gateway.n_endpoints++] = *new;
}

static void read_endpoints(struct faults *faults, const struct json_place *place,
			   const struct cJSON *value, const struct config_key *key, void *object)
{
	struct config *config = object;
	struct json_place at = {.parent = place};
	const struct cJSON *item;

	if (!config_is_list(faults, place, value, key->max))
		return;
	config->gateway.n_endpoints = 0;
	cJSON_ArrayForEach(item, value)
	{
		read_endpoint(faults, &at, item, config);
		at.index++;
	}
}

static const struct config_key gateway_keys[] = {
	{"name", config_read_text, FIELD(config, gateway.name), .check = config_check_name},
	{"vpn_type", config_read_word, FIELD(config, gateway.vpn_type), .words = vpn_types},
	{"public_addresses", config_read_hosts,
	 LIST(config, gateway.public_addresses, gateway.n_public_addresses),
	 .max = PUBLIC_ADDRESSES_MAX},
	{"openvpn_endpoints", read_endpoints, .max = ENDPOINTS_MAX},
};

/* ---- Connections ---- */

static const char *const connection_types[] = {"IPsec", "OpenVPN", NULL};

static const struct config_key peer_keys[] = {
	{"addresses", config_read_subnets, LIST(connection, peer.addresses, peer.n_addresses),
	 .max = PEER_ADDRESSES_MAX},
	{"names", config_read_strings, LIST(connection, peer.names, peer.n_names),
	 .max = PEER_ADDRESSES_MAX, .check = config_check_dns_name},
	{"udp_ports", config_read_u16s, .offset = offsetof(struct connection, peer.udp_ports),
	 .n_offset = offsetof(struct connection, peer.n_udp_ports), .size = PEER_ADDRESSES_MAX,
	 .min = 1, .max = 65535},
};

static void read_peer(struct faults *faults, const struct json_place *place,
		      const struct cJSON *value, const struct config_key *key, void *object)
{
	struct connection *connection = object;
	unsigned n_before = json_fault_count(faults);

	if (cJSON_IsString(value) && strcmp(value->valuestring, "any") == 0) {
		connection->peer.any = true;
		return;
	}
	if (!cJSON_IsObject(value)) {
		json_fault(faults, place, value,
			   "must be \"any\" or an object with \"addresses\" or \"names\"");
		return;
	}
	config_read_object(faults, place, value, key, object);
	if (json_fault_count(faults) == n_before && connection->peer.n_addresses == 0 &&
	    connection->peer.n_names == 0)
		json_fault(faults, place, NULL,
			   "names nobody; give \"addresses\" or \"names\", or write \"any\" "
			   "instead of the object");
}

static const struct config_key connection_keys[] = {
	{"name", config_read_text, FIELD(connection, name), .check = config_check_name,
	 .required = "captures are started by this name"},
	{"type", config_read_word, FIELD(connection, type), .words = connection_types,
	 .required = "it is \"IPsec\" or \"OpenVPN\""},
	{"peer", read_peer, .keys = peer_keys, .n_keys = COUNT(peer_keys),
	 .required = "it is \"any\" or an object with \"addresses\" or \"names\""},
	{"remote_subnets", config_read_subnets, LIST(connection, remote_subnets, n_remote_subnets),
	 .max = REMOTE_SUBNETS_MAX},
	{"if_id", config_read_integer, FIELD(connection, if_id), .max = UINT32_MAX},
	{"mark", config_read_integer, FIELD(connection, mark), .max = UINT32_MAX},
	{"reqid", config_read_integer, FIELD(connection, reqid), .max = UINT32_MAX},
};

static void read_connections(struct faults *faults, const struct json_place *place,
			     const struct cJSON *value, const struct config_key *key, void *object)
{
	static const struct config_key row = {.keys = connection_keys,
					      .n_keys = COUNT(connection_keys)};
	struct config *config = object;
	struct json_place at = {.parent = place};
	const struct cJSON *item;
	size_t n;

	if (!config_is_list(faults, place, value, key->max))
		return;
	n = (size_t)cJSON_GetArraySize(value);
	if (n == 0)
		return;
	config->connections = calloc(n, sizeof(*config->connections));
	if (config->connections == NULL) {
		json_fault(faults, place, NULL, "out of memory for %zu connections", n);
		return;
	}
	cJSON_ArrayForEach(item, value)
	{
		config_read_object(faults, &at, item, &row,
				   &config->connections[config->n_connections++]);
		at.index++;
	}
}

/* ---- Ports ---- */

static const char *const port_roles[] = {"outer", "inner", NULL};
static const char *const port_paces[] = {"paced", "fast", NULL};

static const struct config_key port_keys[] = {
	{"name", config_read_text, FIELD(port_config, name), .check = config_check_name,
	 .required = "counters are shown under this name"},
	{"source", config_read_text, FIELD(port_config, source), .check = config_check_source,
	 .required = "it is pcap:FILE, af_packet:INTERFACE, af_xdp:INTERFACE or an EAL device"},
	{"role", config_read_word, FIELD(port_config, role), .words = port_roles,
	 .required = "it is \"outer\" (encrypted side) or \"inner\" (plaintext side)"},
	{"queues", config_read_integer, FIELD(port_config, n_queues), .min = 1, .max = WORKERS_MAX},
	{"pace", config_read_word, FIELD(port_config, pace), .words = port_paces},
	{"loops", config_read_integer, FIELD(port_config, loops), .max = UINT32_MAX},
};

/* Keys that mean something for a file only. */
static void refuse_pcap_keys(struct faults *faults, const struct json_place *place,
			     const struct cJSON *value, const char *source)
{
	static const char *const names[] = {"pace", "loops"};

	if (source[0] == '\0' || strncmp(source, "pcap:", 5) == 0)
		return;
	for (unsigned i = 0; i < COUNT(names); i++) {
		const struct json_place at = {.parent = place, .key = names[i]};

		if (cJSON_GetObjectItemCaseSensitive(value, names[i]) != NULL)
			json_fault(faults, &at, NULL,
				   "is for pcap: sources only; leave it out of this port");
	}
}

static void read_ports(struct faults *faults, const struct json_place *place,
		       const struct cJSON *value, const struct config_key *key, void *object)
{
	static const struct config_key row = {.keys = port_keys, .n_keys = COUNT(port_keys)};
	struct config *config = object;
	struct json_place at = {.parent = place};
	const struct cJSON *item;

	if (!config_is_list(faults, place, value, key->max))
		return;
	cJSON_ArrayForEach(item, value)
	{
		struct port_config *port = &config->ports[config->n_ports++];

		*port = (struct port_config){.n_queues = 1, .loops = 1};
		config_read_object(faults, &at, item, &row, port);
		refuse_pcap_keys(faults, &at, item, port->source);
		at.index++;
	}
}

/* ---- Dataplane ---- */

static const char *const idle_modes[] = {"poll", "sleep", NULL};

static void read_cores(struct faults *faults, const struct json_place *place,
		       const struct cJSON *value, const struct config_key *key, void *object)
{
	struct config *config = object;
	struct json_place at = {.parent = place};
	const struct cJSON *item;
	int64_t core;

	if (!config_is_list(faults, place, value, key->max))
		return;
	cJSON_ArrayForEach(item, value)
	{
		if (json_integer(faults, &at, item, -1, CORE_MAX, &core)) {
			for (unsigned i = 0; core >= 0 && i < at.index; i++)
				if (config->dataplane.cores[i] == core)
					json_fault(faults, &at, item,
						   "this core has a worker already");
			config->dataplane.cores[at.index] = (int)core;
		}
		at.index++;
	}
}

static void read_ring_bytes(struct faults *faults, const struct json_place *place,
			    const struct cJSON *value, const struct config_key *key, void *object)
{
	struct config *config = object;
	int64_t bytes;

	(void)key;
	if (!json_integer(faults, place, value, ring_bytes_min, ring_bytes_max, &bytes))
		return;
	if ((bytes & (bytes - 1)) != 0)
		json_fault(faults, place, value,
			   "must be a power of two, such as 67108864 (64 MiB)");
	else
		config->dataplane.ring_bytes = (uint64_t)bytes;
}

static const struct config_key dataplane_keys[] = {
	{"socket", config_read_text, FIELD(config, dataplane.socket)},
	{"workers", config_read_integer, FIELD(config, dataplane.n_workers), .min = 1,
	 .max = WORKERS_MAX},
	{"cores", read_cores, .max = WORKERS_MAX},
	{"ring_bytes", read_ring_bytes},
	{"hugepages", config_read_boolean, FIELD(config, dataplane.hugepages)},
	{"memory_mb", config_read_integer, FIELD(config, dataplane.memory_mb), .min = MEMORY_MB_MIN,
	 .max = MEMORY_MB_MAX},
	{"idle", config_read_word, FIELD(config, dataplane.idle), .words = idle_modes},
	{"eal_args", config_read_strings, LIST(config, dataplane.eal_args, dataplane.n_eal_args),
	 .max = EAL_ARGS_MAX},
};

/* ---- Control, ESP, captures, upload ---- */

static const char *const timestamp_words[] = {"micro", "nano", NULL};

static const struct config_key control_keys[] = {
	{"socket", config_read_text, FIELD(config, control.socket)},
	{"state_dir", config_read_text, FIELD(config, control.state_dir)},
	{"user", config_read_text, FIELD(config, control.user), .check = config_check_name},
	{"group", config_read_text, FIELD(config, control.group), .check = config_check_name},
};

static const struct config_key esp_keys[] = {
	{"sa_file", config_read_string, FIELD(config, esp.sa_file), .check = config_check_file},
	{"kernel", config_read_boolean, FIELD(config, esp.kernel)},
	{"kernel_socket", config_read_text, FIELD(config, esp.kernel_socket)},
	{"verify_icv", config_read_boolean, FIELD(config, esp.verify_icv)},
};

static const struct config_key captures_keys[] = {
	{"max_running", config_read_integer, FIELD(config, captures.running_max), .min = 1,
	 .max = CAPTURES_MAX},
	{"max_filters_per_capture", config_read_integer,
	 FIELD(config, captures.filters_per_capture_max), .min = 1, .max = FILTERS_PER_CAPTURE_MAX},
	{"retention_days", config_read_integer, FIELD(config, captures.retention_days), .min = 1,
	 .max = RETENTION_DAYS_MAX},
	{"timestamps", config_read_word, FIELD(config, captures.timestamps),
	 .words = timestamp_words},
	{"sync_ms", config_read_integer, FIELD(config, captures.sync_ms), .max = SYNC_MS_MAX},
};

static const struct config_key upload_keys[] = {
	{"allowed_hosts", config_read_strings,
	 LIST(config, upload.allowed_hosts, upload.n_allowed_hosts), .max = ALLOWED_HOSTS_MAX,
	 .check = config_check_allowed_host},
	{"allow_http_loopback", config_read_boolean, FIELD(config, upload.allow_http_loopback)},
	{"ca_file", config_read_string, FIELD(config, upload.ca_file)},
	{"proxy", config_read_string, FIELD(config, upload.proxy), .check = config_check_proxy,
	 .is_secret = true},
	{"block_bytes", config_read_integer, FIELD(config, upload.block_bytes),
	 .min = BLOCK_BYTES_MIN, .max = BLOCK_BYTES_MAX},
	{"prefix", config_read_string, FIELD(config, upload.prefix), .check = config_check_prefix},
	{"instance", config_read_text, FIELD(config, upload.instance), .check = config_check_name},
};

#define SECTION(table) .keys = table, .n_keys = COUNT(table)

static const struct config_key sections[] = {
	{"gateway", config_read_object, SECTION(gateway_keys)},
	{"connections", read_connections, .max = CONNECTIONS_MAX},
	{"ports", read_ports, .max = PORTS_MAX},
	{"dataplane", config_read_object, SECTION(dataplane_keys)},
	{"control", config_read_object, SECTION(control_keys)},
	{"esp", config_read_object, SECTION(esp_keys)},
	{"captures", config_read_object, SECTION(captures_keys)},
	{"upload", config_read_object, SECTION(upload_keys)},
};

const struct config_key config_document = {SECTION(sections)};
