/* args.h - the command line of gatecap-dataplane, which is all its configuration.
 *
 * Flow:    gatecapd --print-dataplane-args -> supervisor -> argv -> struct args
 * Memory:  struct args is plain memory; it borrows argv's strings for --eal and nothing else.
 * Strict:  an unknown option, key or value is a fault that names what would be right.  No JSON, no
 *          files: this process parses nothing that comes from outside but this.
 * Manual:  docs/dataplane.md
 * Proof:   tests/test_args.c
 */
#ifndef GATECAP_DATAPLANE_ARGS_H
#define GATECAP_DATAPLANE_ARGS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "filters/error.h"
#include "filters/limits.h"

enum {
	ARGS_SOURCE_BYTES = 512,
	ARGS_EAL_MAX = 64,
	ARGS_SOCKET_BYTES = 100, // sun_path is 108
	ARGS_RING_BYTES_DEFAULT = 64 << 20,
	ARGS_RING_BYTES_MIN = 1 << 20,
	ARGS_MEMORY_MB_DEFAULT = 256,
	ARGS_MEMORY_MB_MAX = 1 << 20,
	ARGS_CORE_MAX = 1023,
	ARGS_CORE_ANY = -1, // not pinned
};

#define ARGS_RING_BYTES_MAX (UINT64_C(4) << 30)

/* What args_parse() found to do. */
enum { ARGS_RUN = 0, ARGS_HELP = 1, ARGS_VERSION = 2 };

enum source_kind { SOURCE_PCAP, SOURCE_AF_PACKET, SOURCE_AF_XDP, SOURCE_PCI, SOURCE_VDEV };

struct args_port {
	char name[NAME_MAX_BYTES];
	char source[ARGS_SOURCE_BYTES]; // as given
	const char *target;		// in source: file, interface, or the EAL device
	enum source_kind kind;
	unsigned n_queues;
	unsigned loops; // pcap: times played, 0 = for ever
	bool is_inner;
	bool is_fast;		// pcap: as fast as the worker takes it, not paced
	bool is_played_at_boot; // pcap: at once, not when the first capture starts
};

struct args {
	char socket[ARGS_SOCKET_BYTES];
	uid_t control_uid; // may connect, beside root
	unsigned n_workers;
	int cores[WORKERS_MAX]; // ARGS_CORE_ANY: not pinned
	uint64_t ring_bytes;
	unsigned memory_mb;
	bool has_hugepages;
	bool is_sleeping; // --idle sleep
	struct args_port ports[PORTS_MAX];
	unsigned n_ports;
	const char *eal[ARGS_EAL_MAX];
	unsigned n_eal;
};

/* Gives ARGS_RUN with *out filled, ARGS_HELP, ARGS_VERSION, or -EINVAL and a sentence. */
int args_parse(int argc, char **argv, struct args *out, struct error *err);

/* The text of --help. */
const char *args_help(void);

#endif
