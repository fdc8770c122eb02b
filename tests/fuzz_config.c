/* fuzz_config.c - any bytes as a configuration: an answer, and what is accepted is in range. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds, const char *what)
{
	if (holds)
		return;
	(void)fprintf(stderr, "does not hold: %s\n", what);
	abort();
}

static void check_ranges(const struct config *c)
{
	check(c->gateway.name[0] != '\0' && strchr(c->gateway.name, '/') == NULL, "gateway name");
	check(c->gateway.n_endpoints <= ENDPOINTS_MAX, "endpoints");
	check(c->n_connections <= CONNECTIONS_MAX, "connections");
	for (unsigned i = 0; i < c->n_connections; i++) {
		const struct peer *peer = &c->connections[i].peer;

		check(c->connections[i].name[0] != '\0', "connections have names");
		check(peer->any || peer->n_addresses + peer->n_names > 0, "peers name somebody");
	}
	check(c->n_ports <= PORTS_MAX, "ports");
	for (unsigned i = 0; i < c->n_ports; i++) {
		check(c->ports[i].name[0] != '\0' && c->ports[i].source[0] != '\0', "ports named");
		check(c->ports[i].n_queues >= 1 && c->ports[i].n_queues <= c->dataplane.n_workers,
		      "queues have workers");
	}
	check(c->dataplane.n_workers >= 1 && c->dataplane.n_workers <= WORKERS_MAX, "workers");
	check(c->dataplane.ring_bytes >= 1 << 20 &&
		      (c->dataplane.ring_bytes & (c->dataplane.ring_bytes - 1)) == 0,
	      "ring is a power of two");
	check(c->captures.running_max <= CAPTURES_MAX, "captures");
	check(c->captures.filters_per_capture_max <= FILTERS_PER_CAPTURE_MAX, "filters");
	check(c->upload.prefix != NULL, "prefix");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct faults faults = {0};
	struct config config;
	char *text;

	if (config_parse((const char *)data, size, &config, &faults) == 0) {
		check(faults.n + faults.n_omitted == 0, "accepted means no fault");
		check_ranges(&config);
		config_fini(&config);
	} else {
		check(faults.n > 0, "refused means a fault");
	}
	text = faults_text(&faults);
	check(text != NULL && strchr(text, 27) == NULL, "no escape reaches the terminal");
	free(text);
	faults_fini(&faults);
	return 0;
}
