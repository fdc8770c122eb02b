/* config.h - the appliance's configuration file, parsed and checked.
 *
 * Flow:    FILE (JSON) -> json_scan -> cJSON -> struct config
 * Threads: any; no globals.
 * Memory:  config_parse() fills, config_fini() frees.
 * Strict:  an unknown key is a fault that names the nearest known key; every fault of the document
 *          comes in one reply, each with its JSON pointer.
 * Keys:    docs/configuration.md (each key of this struct, its default, its range).
 * Proof:   tests/test_config.c (a wrong type in every field), tests/fuzz_config.c
 */
#ifndef GATECAP_CONTROL_CONFIG_H
#define GATECAP_CONTROL_CONFIG_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "filters/error.h"
#include "filters/filter_data.h"
#include "filters/limits.h"

enum { ENDPOINTS_MAX = 16, PEER_ADDRESSES_MAX = 64, SOURCE_TEXT_MAX = 512, PATH_TEXT_MAX = 100 };

enum vpn_type { VPN_ROUTE_BASED, VPN_POLICY_BASED };
enum connection_type { CONNECTION_IPSEC, CONNECTION_OPENVPN };
enum port_role { ROLE_OUTER, ROLE_INNER };
enum port_pace { PACE_PACED, PACE_FAST };
enum idle_mode { IDLE_POLL, IDLE_SLEEP };
enum timestamps { TIMESTAMPS_MICRO, TIMESTAMPS_NANO };

/* An OpenVPN endpoint of this gateway.  No address (family 0): on any address. */
struct endpoint {
	struct subnet address; // host address, or family 0
	uint16_t port;	       // host order
	uint8_t protocol;      // 6 or 17
	bool shared;	       // TCP only: HTTPS lives on it too
};

struct peer {
	bool any;
	struct subnet *addresses; // bare addresses or subnets
	unsigned n_addresses;
	char **names; // re-resolved by gatecapd
	unsigned n_names;
	uint16_t *udp_ports; // host order; none: any port
	unsigned n_udp_ports;
};

struct connection {
	char name[NAME_MAX_BYTES];
	enum connection_type type;
	struct peer peer;
	struct subnet *remote_subnets;
	unsigned n_remote_subnets;
	uint32_t if_id, mark, reqid; // 0: not set; tie kernel SAs to the connection
};

struct port_config {
	char name[NAME_MAX_BYTES];
	char source[SOURCE_TEXT_MAX]; // pcap:FILE, af_packet:IF, af_xdp:IF, or an EAL device
	enum port_role role;
	unsigned n_queues;   // 1 .. workers
	enum port_pace pace; // pcap: only
	unsigned loops;	     // pcap: only; times the file is played, 0 = for ever; default 1
};

struct config {
	struct {
		char name[NAME_MAX_BYTES]; // default "gw"
		enum vpn_type vpn_type;
		struct subnet *public_addresses;
		unsigned n_public_addresses;
		struct endpoint
			endpoints[ENDPOINTS_MAX]; // default UDP 1194, TCP 1194, TCP 443 shared
		unsigned n_endpoints;
	} gateway;
	struct connection *connections;
	unsigned n_connections;
	struct port_config ports[PORTS_MAX];
	unsigned n_ports;
	struct {
		char socket[PATH_TEXT_MAX]; // /run/gatecap/dp.sock
		unsigned n_workers;	    // default 1
		int cores[WORKERS_MAX];	    // one a worker, -1: not pinned
		uint64_t ring_bytes; // power of two, 1 MiB - 4 GiB, default 64 MiB, one a worker
		bool hugepages;	     // default false
		unsigned memory_mb;  // EAL memory, default 256
		enum idle_mode idle; // default "poll"
		char **eal_args;     // passed on as they are
		unsigned n_eal_args;
	} dataplane;
	struct {
		char socket[PATH_TEXT_MAX];    // /run/gatecap/gatecap.sock
		char state_dir[PATH_TEXT_MAX]; // /var/lib/gatecap
		char user[NAME_MAX_BYTES];  // "gatecap": whom gatecapd becomes when started as root
		char group[NAME_MAX_BYTES]; // "gatecap": who may use the socket
		unsigned n_writers; // threads that write stores, 1-5; 0: see config_writers()
	} control;
	struct {
		char *sa_file; // keys in Wireshark's esp_sa format, or NULL: none
		bool kernel;   // take the kernel's SAs from gatecap-xfrm; default false
		char kernel_socket
			[PATH_TEXT_MAX]; // where gatecap-xfrm comes to: /run/gatecap/xfrm.sock
		bool verify_icv;	 // default false
	} esp;
	struct {
		unsigned running_max;		  // 1-5, default 5
		unsigned filters_per_capture_max; // max_filters_per_capture, 1-3, default 1
		unsigned retention_days;	  // default 7
		enum timestamps timestamps;	  // default micro
		unsigned sync_ms; // how often stores are made to survive a power loss; 0: never
	} captures;
	struct {
		char **allowed_hosts; // host names or ".suffix"; default the Azure blob suffixes
		unsigned n_allowed_hosts;
		bool allow_http_loopback;      // plain http to 127.0.0.0/8 or [::1]: tests only
		char *ca_file;		       // PEM, or NULL: the system's
		char *proxy;		       // URL, or NULL: none
		uint64_t block_bytes;	       // default 8 MiB
		char *prefix;		       // put before blob names, default ""
		char instance[NAME_MAX_BYTES]; // default "0"
	} upload;
};

/* All defaults: one gateway named gw, no ports, no connections. */
int config_defaults(struct config *out);

/* Parse and check `len` bytes.  Returns 0 and fills *out (to be freed), or -EINVAL with faults and
 * *out untouched.
 */
int config_parse(const char *text, size_t len, struct config *out, struct faults *faults);

/* The same from a file; -errno and a fault that names the file when it cannot be read. */
int config_load(const char *path, struct config *out, struct faults *faults);

void config_fini(struct config *config);

/* Threads that write stores: what control.writers says, or else one for each of `cpus` that the workers
 * leave, one at the least and one a capture at the most.  NULL: the CPUs that this process may run on.
 */
unsigned config_writers(const struct config *config, const cpu_set_t *cpus);

#endif
