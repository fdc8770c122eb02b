/* config.c - the configuration as a whole: defaults, what keys must agree on, freeing.
 *
 * How it works: config_defaults() fills the struct, the tables of config_keys.c read what the
 * document gives over it, then the cross-checks look at the whole.  A cross-check is silent where
 * one of its keys was already refused: the default that stands in for it would only confuse.
 */
#include "control/config.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/config_read.h"
#include "filters/json_place.h"
#include "filters/json_scan.h"

enum {
	CONFIG_BYTES_MAX = 16 << 20, // 10,000 connections with their subnets take some 3 MB
	READ_BYTES = 64 << 10,	     // of a file, at a time
	RING_BYTES_DEFAULT = 64 << 20,
	MEMORY_MB_DEFAULT = 256,
	RETENTION_DAYS_DEFAULT = 7,
	SYNC_MS_DEFAULT = 1000,
	BLOCK_BYTES_DEFAULT = 8 << 20,
	OVPN_PORT = 1194,
	HTTPS_PORT = 443,
	PROTOCOL_TCP = 6,
	PROTOCOL_UDP = 17,
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- What keys must agree on ---- */

struct named {
	const char *name;
	unsigned index;
};

static int named_order(const void *a, const void *b)
{
	const struct named *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order != 0 ? order : (x->index > y->index) - (x->index < y->index);
}

/* Sorts names; each but the first of a group of equal ones is a fault.  "" was refused before. */
static void check_names(struct faults *faults, const char *list, struct named *names, unsigned n)
{
	const struct json_place top = {.key = list};

	qsort(names, n, sizeof(*names), named_order);
	for (unsigned i = 1; i < n; i++) {
		const struct json_place item = {.parent = &top, .index = names[i].index};
		const struct json_place at = {.parent = &item, .key = "name"};

		if (names[i].name[0] != '\0' && strcmp(names[i].name, names[i - 1].name) == 0)
			json_fault(faults, &at, NULL,
				   "\"%s\" is the name of item %u already; names must differ",
				   names[i].name, names[i - 1].index);
	}
}

static void check_duplicate_names(struct faults *faults, const struct config *config)
{
	unsigned n_max = config->n_connections > PORTS_MAX ? config->n_connections : PORTS_MAX;
	struct named *names = calloc(n_max, sizeof(*names));

	if (names == NULL) {
		json_fault(faults, NULL, NULL, "out of memory while names are compared");
		return;
	}
	for (unsigned i = 0; i < config->n_connections; i++)
		names[i] = (struct named){config->connections[i].name, i};
	check_names(faults, "connections", names, config->n_connections);
	for (unsigned i = 0; i < config->n_ports; i++)
		names[i] = (struct named){config->ports[i].name, i};
	check_names(faults, "ports", names, config->n_ports);
	free(names);
}

/* Workers as the document says; 0 when it says something that was refused. */
static unsigned known_workers(const struct config *config, const struct cJSON *dataplane)
{
	const struct cJSON *workers = cJSON_GetObjectItemCaseSensitive(dataplane, "workers");
	int64_t n;

	if (workers != NULL && !json_is_integer(workers, 1, WORKERS_MAX, &n))
		return 0;
	return config->dataplane.n_workers;
}

static void check_workers(struct faults *faults, const struct config *config,
			  const struct cJSON *root)
{
	const struct cJSON *dataplane = cJSON_GetObjectItemCaseSensitive(root, "dataplane");
	const struct cJSON *cores = cJSON_GetObjectItemCaseSensitive(dataplane, "cores");
	const struct json_place section = {.key = "dataplane"}, ports = {.key = "ports"};
	const struct json_place cores_at = {.parent = &section, .key = "cores"};
	unsigned n = known_workers(config, dataplane);

	if (n == 0)
		return;
	if (cJSON_IsArray(cores) && cJSON_GetArraySize(cores) > 0 &&
	    cJSON_GetArraySize(cores) != (int)n)
		json_fault(faults, &cores_at, NULL,
			   "has %d items and \"workers\" is %u; give one core a worker (-1: not "
			   "pinned)",
			   cJSON_GetArraySize(cores), n);
	for (unsigned i = 0; i < config->n_ports; i++) {
		const struct json_place item = {.parent = &ports, .index = i};
		const struct json_place at = {.parent = &item, .key = "queues"};

		if (config->ports[i].n_queues > n)
			json_fault(faults, &at, NULL,
				   "is %u and \"workers\" is %u; a queue needs a worker of its own",
				   config->ports[i].n_queues, n);
	}
}

static void check_sockets(struct faults *faults, const struct config *config)
{
	const struct json_place section = {.key = "control"}, esp = {.key = "esp"};
	const struct json_place at = {.parent = &section, .key = "socket"};
	const struct json_place kernel_at = {.parent = &esp, .key = "kernel_socket"};
	const char *kernel = config->esp.kernel_socket;

	if (strcmp(config->control.socket, config->dataplane.socket) == 0)
		json_fault(faults, &at, NULL,
			   "\"%s\" is the dataplane's socket too; the two must differ",
			   config->control.socket);
	if (strcmp(kernel, config->dataplane.socket) == 0 ||
	    strcmp(kernel, config->control.socket) == 0)
		json_fault(faults, &kernel_at, NULL,
			   "\"%s\" is the socket of dataplane or control, too; the three must "
			   "differ",
			   kernel);
}

/* ---- Whole documents ---- */

static int default_hosts(struct config *config)
{
	static const char *const hosts[] = {
		".blob.core.windows.net",
		".blob.core.usgovcloudapi.net",
		".blob.core.chinacloudapi.cn",
		".blob.storage.azure.net",
	};
	char **list = calloc(COUNT(hosts), sizeof(*list));

	config->upload.allowed_hosts = list;
	if (list == NULL)
		return -ENOMEM;
	for (; config->upload.n_allowed_hosts < COUNT(hosts); config->upload.n_allowed_hosts++) {
		unsigned i = config->upload.n_allowed_hosts;

		list[i] = strdup(hosts[i]);
		if (list[i] == NULL)
			return -ENOMEM;
	}
	return 0;
}

int config_defaults(struct config *out)
{
	struct config c = {
		.gateway = {.name = "gw",
			    .endpoints = {{.port = OVPN_PORT, .protocol = PROTOCOL_UDP},
					  {.port = OVPN_PORT, .protocol = PROTOCOL_TCP},
					  {.port = HTTPS_PORT,
					   .protocol = PROTOCOL_TCP,
					   .shared = true}},
			    .n_endpoints = 3},
		.dataplane = {.socket = "/run/gatecap/dp.sock",
			      .n_workers = 1,
			      .ring_bytes = RING_BYTES_DEFAULT,
			      .memory_mb = MEMORY_MB_DEFAULT},
		.control = {.socket = "/run/gatecap/gatecap.sock",
			    .state_dir = "/var/lib/gatecap",
			    .user = "gatecap",
			    .group = "gatecap"},
		.esp = {.kernel_socket = "/run/gatecap/xfrm.sock"},
		.captures = {.running_max = CAPTURES_MAX,
			     .filters_per_capture_max = 1,
			     .retention_days = RETENTION_DAYS_DEFAULT,
			     .sync_ms = SYNC_MS_DEFAULT},
		.upload = {.block_bytes = BLOCK_BYTES_DEFAULT, .instance = "0"},
	};

	for (unsigned i = 0; i < WORKERS_MAX; i++)
		c.dataplane.cores[i] = -1;
	c.upload.prefix = strdup("");
	if (c.upload.prefix == NULL || default_hosts(&c) != 0) {
		config_fini(&c);
		return -ENOMEM;
	}
	*out = c;
	return 0;
}

int config_parse(const char *text, size_t len, struct config *out, struct faults *faults)
{
	unsigned n_before = json_fault_count(faults);
	struct cJSON *root = json_parse(text, len, CONFIG_BYTES_MAX, faults);
	struct config config;

	if (root == NULL)
		return -EINVAL;
	if (config_defaults(&config) != 0) {
		json_fault(faults, NULL, NULL, "out of memory for the configuration");
		cJSON_Delete(root);
		return -EINVAL;
	}
	config_read_object(faults, NULL, root, &config_document, &config);
	check_duplicate_names(faults, &config);
	check_workers(faults, &config, root);
	check_sockets(faults, &config);
	cJSON_Delete(root);
	if (json_fault_count(faults) != n_before) {
		config_fini(&config);
		return -EINVAL;
	}
	*out = config;
	return 0;
}

/* Read to the end, or one byte past what config_parse() accepts.  Gives *text. */
static int read_whole(int fd, char **text, size_t *len)
{
	size_t room = 0;
	char *grown;
	ssize_t n;

	*text = NULL;
	*len = 0;
	for (;;) {
		if (room - *len < READ_BYTES) {
			room = room == 0 ? 2 * READ_BYTES : 2 * room;
			grown = realloc(*text, room);
			if (grown == NULL)
				return -ENOMEM;
			*text = grown;
		}
		n = read(fd, *text + *len, READ_BYTES);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		*len += (size_t)n;
		if (n == 0 || *len > CONFIG_BYTES_MAX)
			return 0;
	}
}

int config_load(const char *path, struct config *out, struct faults *faults)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char *text = NULL;
	size_t len = 0;
	int rc = fd < 0 ? -errno : read_whole(fd, &text, &len);

	if (fd >= 0)
		(void)close(fd);
	if (rc != 0)
		json_fault(faults, NULL, NULL,
			   "the configuration file %s cannot be read: %s; check the path and its "
			   "permissions",
			   path, strerror(-rc));
	else
		rc = config_parse(text, len, out, faults);
	free(text);
	return rc;
}

/* ---- Freeing ---- */

static void free_strings(char **list, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		free(list[i]);
	free(list);
}

static void connection_fini(struct connection *connection)
{
	free(connection->peer.addresses);
	free_strings(connection->peer.names, connection->peer.n_names);
	free(connection->peer.udp_ports);
	free(connection->remote_subnets);
}

void config_fini(struct config *config)
{
	free(config->gateway.public_addresses);
	for (unsigned i = 0; i < config->n_connections; i++)
		connection_fini(&config->connections[i]);
	free(config->connections);
	free_strings(config->dataplane.eal_args, config->dataplane.n_eal_args);
	free_strings(config->upload.allowed_hosts, config->upload.n_allowed_hosts);
	free(config->esp.sa_file);
	free(config->upload.ca_file);
	free(config->upload.proxy);
	free(config->upload.prefix);
	*config = (struct config){0};
}
