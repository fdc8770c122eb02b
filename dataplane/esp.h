/* esp.h - the stage that looks into ESP: for each packet of class ESP the captures that want it, and the
 * packet that is inside.
 *
 * Flow:    classify -> esp_burst() (in place of match_outer_burst()) -> record
 * Order:   an inner packet comes directly behind its outer packet and has its time.
 * How:     only what is looked at or recorded is decrypted: first the beginning and the trailer; what is wanted
 *          and longer is decrypted to its snap length in a second pass.  Nobody's filter: nothing.
 * Threads: one stage a worker.
 * Memory:  esp_open() allocates all (esp_bytes()); inner packets lie in it until the next burst.
 * Source:  docs/semantics.md "What is recorded" (rules 1 to 5), "Accounting"; docs/esp.md.
 * Proof:   tests/test_esp.c, tests/oracle_esp.py, tests/fuzz_esp.c
 */
#ifndef GATECAP_DATAPLANE_ESP_H
#define GATECAP_DATAPLANE_ESP_H

#include "dataplane/sa_table.h"
#include "dataplane/stage.h"

struct esp_stage;

/* NULL: memory is short, or this CPU has not what the engine needs. */
struct esp_stage *esp_open(enum esp_engine_kind kind);
void esp_close(struct esp_stage *stage); // NULL: nothing
size_t esp_bytes(void);

/* A slot of SAs has a new owner: what was learnt of its sequence numbers goes. */
void esp_forget(struct esp_stage *stage, uint32_t slot);

/* What a burst needs, all borrowed. */
struct esp_context {
	const struct matcher *matcher;
	const struct sa_table *sas; // or NULL: no keys
	struct fragment_table *fragments;
	struct worker_shared *shared; // of it: sas, slot_esp
	struct tally *tally;
	uint32_t snap_bytes[CAPTURES_MAX];
	bool has_inner_port; // inner packets are recorded from there, and only decide about outer ones here
};

/* Inner packets that a burst had: in all, and those that each slot's filters made us decrypt. */
struct esp_found {
	unsigned n;
	uint32_t of_slot[CAPTURES_MAX];
};

/* Set `wanted` of n <= BURST_MAX classified outer packets and of what is inside.  The wanted ones, in order, are
 * then at *out (p, or memory of the stage); gives their number.  The others get their verdicts.  One port.
 */
unsigned esp_burst(struct esp_stage *stage, const struct esp_context *context, struct pkt *p,
		   unsigned n, struct pkt **out, struct esp_found *found);

#endif
