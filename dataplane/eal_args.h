/* eal_args.h - what EAL is told: cores, memory, devices.
 *
 * Flow:    struct args -> argv of rte_eal_init()
 * Memory:  the struct owns its strings: eal_args_fini() frees them, after EAL is done with them.
 * Devices: a vdev string for af_xdp:, the user's own string for the rest, PCI only when a port names a
 *          PCI device.  pcap: and af_packet: are no business of EAL.
 * Cores:   lcore 0 is the main thread's, lcore i + 1 worker i's.  A worker that is not pinned shares
 *          all cores of the process, so that one core can hold everything.
 * Proof:   tests/test_args.c
 */
#ifndef GATECAP_DATAPLANE_EAL_ARGS_H
#define GATECAP_DATAPLANE_EAL_ARGS_H

#include <sched.h>

#include "dataplane/args.h"
#include "filters/error.h"

enum { EAL_ARGS_MAX = 32 + ARGS_EAL_MAX + 2 * PORTS_MAX, EAL_DEVICE_NAME_BYTES = 64 };

struct eal_args {
	char *argv[EAL_ARGS_MAX + 1];
	int argc;
	bool is_short_of_memory;
};

/* `cpus`: what the process may run on.  `xdp_fd`: the XDP program for af_xdp: ports, or -1.
 * Returns 0, or -ENOMEM with a sentence.
 */
int eal_args_build(struct eal_args *out, const struct args *args, const cpu_set_t *cpus, int xdp_fd,
		   struct error *err);
void eal_args_fini(struct eal_args *eal);

/* The name by which EAL knows the device of port `index`; empty if it does not know it. */
void eal_device_name(const struct args_port *port, unsigned index,
		     char name[static EAL_DEVICE_NAME_BYTES]);

#endif
