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

/* Remove what a killed run left on an interface: 1 removed, 0 there was none (or it is not ours),
 * -errno with a sentence.  Anybody else's program stays.  Takes CAP_SYS_ADMIN as well when there is a
 * program (the kernel gives its name to nobody else).
 */
int xdp_program_remove_left_over(const char *interface, struct error *err);

/* The id of the program on the interface of that index, 0: none. */
unsigned xdp_program_id(int interface);

/* Remove the program of that id, if it is still there; 0 or -errno. */
int xdp_program_detach(int interface, unsigned id);

#endif
