/* report.h - the ledger of a capture and the report that goes beside its PCAP.
 *
 * received = not_matched + lost + in_flight + in_file + overwritten, for each (capture, port).
 * Flow:    workers' slot counters (shared.h) + store counts (store.h) -> struct ledger -> JSON
 * Threads: any; no globals.
 * Units:   packets; times in ns since 1970.
 * Source:  docs/semantics.md "Accounting".  Proof: tests/test_report.c
 */
#ifndef GATECAP_CONTROL_REPORT_H
#define GATECAP_CONTROL_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "control/store.h"
#include "dataplane/shared.h"
#include "filters/error.h"

/* Why a packet that was wanted is in no file. */
#define LOST_LIST(X)                                                                     \
	X(NIC, "nic")		  /* the device had no room for it */                    \
	X(RING_FULL, "ring_full") /* the worker's ring had none: control was too slow */ \
	X(DISK, "disk")		  /* the store could not be written */

enum lost_cause {
#define X(name, text) LOST_##name,
	LOST_LIST(X)
#undef X
		LOST_COUNT,
};

struct ledger {
	uint64_t received, not_matched, in_flight, in_file, overwritten;
	uint64_t lost[LOST_COUNT];
};

/* What a ledger of one port is made of. */
struct ledger_input {
	uint64_t received, recorded, ring_full, held; // of the workers, summed
	uint64_t lost_nic;
	uint64_t in_file, overwritten, lost_disk; // of the store
};

struct ledger ledger_make(const struct ledger_input *input);
void ledger_add(struct ledger *sum, const struct ledger *more);
bool ledger_balances(const struct ledger *ledger);
uint64_t ledger_lost(const struct ledger *ledger);

/* A stretch of time of which nobody knows what was missed. */
struct gap {
	uint64_t from_ns, to_ns; // wall clock; to 0: not over yet
	const char *cause;	 // of GAP_LIST
};

/* Why nobody knows. */
#define GAP_DATAPLANE_DOWN "dataplane_down" /* its rings went with it */
#define GAP_CONTROL_DOWN   "control_down" /* rings were emptied, and what was in them is not there */
#define GAP_REBOOT	   "reboot"	  /* the capture ended with the machine */

enum { GAPS_MAX = 32 };

struct report_port {
	const char *name;
	struct ledger ledger;
};

struct report {
	const char *gateway;	      // NULL: not shown (replay shows it too)
	const char *connection;	      // NULL: gateway-wide
	const char *filter_data_json; // normalised, or NULL
	struct report_port ports[PORTS_MAX];
	unsigned n_ports;
	uint64_t classes[CLASS_COUNT]; // of received
	bool has_filter; // inner packets were asked for: `esp` says why some are missing
	uint64_t esp[ESP_COUNTS];
	uint64_t first_ns, last_ns; // of the records in the file, wall clock, if there are any
	uint64_t lost_first_ns, lost_last_ns; // wall clock; 0: nothing lost
	uint64_t file_bytes;
	const struct gap *gaps; // any: the books are not exact
	unsigned n_gaps;
	const struct faults *warnings; // or NULL
	const struct faults *notes;    // or NULL
};

struct cJSON;

/* The sum over the ports. */
struct ledger report_total(const struct report *report);

/* {"received":..,"not_matched":..,"recorded":..,"in_file":..,"overwritten":..,"in_flight":..,"lost":{}} */
struct cJSON *ledger_json(const struct ledger *ledger);

/* What became of the ESP packets that were looked into: {"decrypted":..,"without_key":..,...} */
struct cJSON *esp_json(const uint64_t counts[ESP_COUNTS]);

/* The whole report; keys in docs/formats.md.  NULL when memory is short. */
struct cJSON *report_json(const struct report *report);

/* "2026-11-24T05:00:00.000000000Z" into buf. */
enum { TIME_TEXT_BYTES = 40 };
const char *time_text(uint64_t wall_ns, char buf[TIME_TEXT_BYTES]);

/* [{"pointer","message"}...] and ["sentence"...]; an empty array for NULL. */
struct cJSON *faults_json(const struct faults *faults);
struct cJSON *sentences_json(const struct faults *faults);

#endif
