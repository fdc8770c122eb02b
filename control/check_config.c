/* check_config.c - bounds, added up from the same constants that the code allocates by. */
#include "control/check_config.h"

#include <inttypes.h>
#include <pwd.h>
#include <unistd.h>
#include <string.h>
#include <sys/stat.h>

#include "control/store.h"
#include "control/upload.h"
#include "dataplane/afpacket_source.h"
#include "dataplane/worker.h"

static double mib(uint64_t bytes)
{
	return (double)bytes / (1 << 20);
}

static void print_row(FILE *out, const char *what, uint64_t bytes, const char *how)
{
	(void)fprintf(out, "  %-34s %10.1f MiB  %s\n", what, mib(bytes), how);
}

/* pcap: ports hold their file in memory. */
static uint64_t pcap_bytes(const struct config *config)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < config->n_ports; i++) {
		struct stat st;

		if (strncmp(config->ports[i].source, "pcap:", 5) == 0 &&
		    stat(config->ports[i].source + 5, &st) == 0)
			bytes += 2 * (uint64_t)st.st_size; // frames, padded, and their index
	}
	return bytes;
}

/* af_packet: ports have a ring of the kernel's a queue. */
static uint64_t packet_socket_bytes(const struct config *config)
{
	uint64_t n_queues = 0;

	for (unsigned i = 0; i < config->n_ports; i++)
		if (strncmp(config->ports[i].source, "af_packet:", 10) == 0)
			n_queues += config->ports[i].n_queues;
	return n_queues * AFPACKET_RING_BYTES;
}

static void print_memory(FILE *out, const struct config *config)
{
	uint64_t workers = config->dataplane.n_workers;
	uint64_t rings = workers * config->dataplane.ring_bytes;
	uint64_t tables = workers * worker_bytes();
	uint64_t eal = (uint64_t)config->dataplane.memory_mb << 20;
	uint64_t pcap = pcap_bytes(config);
	uint64_t sockets = packet_socket_bytes(config);
	uint64_t stores = (uint64_t)config->captures.running_max *
			  (STORE_STAGE_BYTES + (1 << 20)); // stage, one segment while it is read
	uint64_t uploads = (uint64_t)config->captures.running_max * UPLOAD_BLOCKS_IN_FLIGHT *
			   config->upload.block_bytes;

	(void)fprintf(out, "Memory\n");
	print_row(out, "dataplane: packet buffers (EAL)", eal, "dataplane.memory_mb");
	print_row(out, "dataplane: rings, shared", rings, "workers x dataplane.ring_bytes");
	print_row(out, "dataplane: flow and fragment tables", tables, "a worker's tables, each");
	print_row(out, "dataplane: pcap: ports", pcap, "twice the files, in memory");
	print_row(out, "dataplane: af_packet: ports", sockets, "the kernel's, 16 MiB a queue");
	print_row(out, "gatecapd: stores", stores, "captures.max_running x (stage + segment)");
	print_row(out, "gatecapd: uploads", uploads,
		  "max_running x blocks in flight x block_bytes");
	print_row(out, "in all, at the most",
		  eal + rings + tables + pcap + sockets + stores + uploads,
		  "without the programs themselves and the filter lists");
}

static void print_cores(FILE *out, const struct config *config)
{
	unsigned n_writers = config_writers(config, NULL);

	(void)fprintf(out, "Cores\n");
	for (unsigned i = 0; i < config->dataplane.n_workers; i++) {
		if (config->dataplane.cores[i] >= 0)
			(void)fprintf(out, "  worker %u: core %d, %s\n", i,
				      config->dataplane.cores[i],
				      config->dataplane.idle == IDLE_POLL ? "all of it"
									  : "asleep when idle");
		else
			(void)fprintf(out, "  worker %u: any core, %s\n", i,
				      config->dataplane.idle == IDLE_POLL ? "all of it"
									  : "asleep when idle");
	}
	(void)fprintf(
		out,
		"  gatecapd: %u writer%s, each up to a core's worth under load, any core (%s)\n",
		n_writers, n_writers == 1 ? "" : "s",
		config->control.n_writers > 0 ? "control.writers"
					      : "the CPUs that the workers leave");
}

void check_config_print(FILE *out, const struct config *config)
{
	(void)fprintf(out, "Gateway %s: %u connections, %u ports, %u workers\n",
		      config->gateway.name, config->n_connections, config->n_ports,
		      config->dataplane.n_workers);
	print_memory(out, config);
	print_cores(out, config);
	(void)fprintf(out, "Disk, in %s\n", config->control.state_dir);
	print_row(
		out, "captures at the largest MaxFileSize",
		config->captures.running_max *
			store_disk_bytes((uint64_t)FILE_MB_MAX * FILE_MB_BYTES, SNAP_BYTES_DEFAULT),
		"max_running x 500 MB, reserved at start");
}

static void print_port(FILE *out, const struct port_config *port)
{
	bool is_pcap = strncmp(port->source, "pcap:", 5) == 0;

	(void)fprintf(out, "--port\nname=%s,role=%s,queues=%u,", port->name,
		      port->role == ROLE_INNER ? "inner" : "outer", port->n_queues);
	if (is_pcap)
		(void)fprintf(out, "pace=%s,loops=%u,", port->pace == PACE_FAST ? "fast" : "paced",
			      port->loops);
	(void)fprintf(out, "source=%s\n", port->source);
}

void dataplane_args_print(FILE *out, const struct config *config, uid_t control_uid)
{
	(void)fprintf(out, "--socket\n%s\n--control-uid\n%u\n--workers\n%u\n",
		      config->dataplane.socket, (unsigned)control_uid, config->dataplane.n_workers);
	if (config->dataplane.cores[0] >= 0) {
		(void)fprintf(out, "--cores\n");
		for (unsigned i = 0; i < config->dataplane.n_workers; i++)
			(void)fprintf(out, "%s%d", i > 0 ? "," : "", config->dataplane.cores[i]);
		(void)fprintf(out, "\n");
	}
	(void)fprintf(out, "--ring-bytes\n%" PRIu64 "\n%s\n--memory-mb\n%u\n--idle\n%s\n",
		      config->dataplane.ring_bytes,
		      config->dataplane.hugepages ? "--hugepages" : "--no-huge",
		      config->dataplane.memory_mb,
		      config->dataplane.idle == IDLE_SLEEP ? "sleep" : "poll");
	for (unsigned i = 0; i < config->n_ports; i++)
		print_port(out, &config->ports[i]);
	for (unsigned i = 0; i < config->dataplane.n_eal_args; i++)
		(void)fprintf(out, "--eal\n%s\n", config->dataplane.eal_args[i]);
}

void xfrm_args_print(FILE *out, const struct config *config, uid_t control_uid)
{
	const struct passwd *user = getpwuid(control_uid);

	(void)fprintf(out, "--socket\n%s\n--control-uid\n%u\n--control-gid\n%u\n",
		      config->esp.kernel_socket, (unsigned)control_uid,
		      (unsigned)(user != NULL ? user->pw_gid : getegid()));
}
