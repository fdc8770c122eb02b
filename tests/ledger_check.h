/* ledger_check.h - a capture's books, and what they must be.
 *
 * Flow:    what the workers were given (struct ledger_log), the capture's bounds, its store, the counters
 *          in shared memory -> ledger_verify(), which asserts.
 * Threads: ledger_read_books(), _record_at(), _is_known(): any, of a capture whose set is in force.
 *          ledger_verify(): cmocka's own, when the merger has passed the capture's end.
 */
#ifndef GATECAP_TESTS_LEDGER_CHECK_H
#define GATECAP_TESTS_LEDGER_CHECK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "control/report.h"
#include "control/store.h"
#include "dataplane/shared.h"
#include "tests/known_traffic.h"

enum {
	WORKERS = 2,
	SENT_MAX = 1 << 20,
	STEP_NS = 500000, // from packet to packet: held segments see their second pass, too
	PCAP_RECORD = 16,
};

/* Every packet by its place in time. */
struct ledger_log {
	struct config config;
	struct sent *sent;	// SENT_MAX
	_Atomic uint32_t clock; // packets sent
	struct worker_shared *shared[WORKERS];
};

struct capture {
	struct known_capture known;
	unsigned slot;
	/* Places in time: nothing before is its; in force; nothing before is another's; its end. */
	uint32_t begun, applied, end_begun, end;
	uint64_t first_generation, end_generation;
	struct store *store;
	uint64_t wall_ns; // of time 0, in the file
};

/* What the workers and the store say. */
struct books {
	struct ledger_input ports[KNOWN_PORTS];
	uint64_t lost_first_ns[KNOWN_PORTS], lost_last_ns[KNOWN_PORTS];
	uint64_t classes[CLASS_COUNT];
};

/* A record of a PCAP that lies in memory, and the packet that it must be. */
struct stored_record {
	uint32_t index, caplen, wire_len;
	const uint8_t *frame;
};

struct ledger_sums {
	uint64_t n_verified, n_recorded, n_lost, n_overwritten;
};

uint64_t ledger_time_of(uint32_t index);
uint32_t ledger_index_of(uint64_t time_ns);

/* The counters now; `counts` were read before. */
void ledger_read_books(const struct ledger_log *log, const struct capture *c,
		       const struct store_counts *counts, struct books *b);

struct stored_record ledger_record_at(const struct capture *c, const uint8_t *at);

/* Is it the packet that its time names, and one that the capture wants? */
bool ledger_is_known(const struct ledger_log *log, const struct capture *c,
		     const struct stored_record *r);

/* The whole PCAP, to be freed, or NULL. */
uint8_t *ledger_read_view(struct store_view *view);

/* Everything that the capture will ever get is in its store: is it what it must be, to the packet? */
void ledger_verify(const struct ledger_log *log, const struct capture *c, struct ledger_sums *sums);

#endif
