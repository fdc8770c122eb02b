/* xdp_program.h - our XDP program: its bytes for the DPDK driver, and its traces on interfaces.
 *
 * Threads: the main thread.
 * Needs:   CAP_NET_ADMIN and CAP_BPF.
 * Source:  dataplane/xdp_redirect.bpf.c, compiled at build time and embedded.
 * Proof:   tests/test_dataplane.py (a killed run leaves the program, the next one removes it)
 */
#ifndef GATECAP_DATAPLANE_XDP_PROGRAM_H
#define GATECAP_DATAPLANE_XDP_PROGRAM_H

#include "filters/error.h"

/* Gives a descriptor of a memfd with the object file, or -errno and a sentence. */
int xdp_program_memfd(struct error *err);

/* Remove our program from an interface: 1 removed, 0 there was none (or it is not ours), -errno with
 * a sentence.  Anybody else's program stays.
 */
int xdp_program_detach(const char *interface, struct error *err);

#endif
