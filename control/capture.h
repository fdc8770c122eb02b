/* capture.h - one capture from start to finish, as the control plane keeps it.
 *
 * Flow:    Starting -> Running -> Stopping -> Uploading -> Succeeded, or UploadFailed and again
 * Threads: the event loop; the store inside is shared with its writer's thread (store.h).
 * Memory:  capture_free() frees all, wipes the SAS URL, deletes the data unless it is kept (store.h).
 * Files:   capture_state.h.
 * Source:  docs/semantics.md "Start, stop"; the JSON is CAPTURE of docs/http-api.md.
 */
#ifndef GATECAP_CONTROL_CAPTURE_H
#define GATECAP_CONTROL_CAPTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "control/report.h"
#include "control/store.h"
#include "filters/filter_data.h"

enum capture_state {
	CAPTURE_STARTING,
	CAPTURE_RUNNING,
	CAPTURE_STOPPING,
	CAPTURE_UPLOADING,
	CAPTURE_SUCCEEDED,
	CAPTURE_UPLOAD_FAILED,
	CAPTURE_FAILED,
	CAPTURE_RECOVERED,
};

enum { CAPTURE_STATES = CAPTURE_RECOVERED + 1, RUN_TEXT_BYTES = 80 };

/* What becomes of the data once the last record is in. */
enum capture_aim { AIM_NONE, AIM_UPLOAD, AIM_DOWNLOAD, AIM_ABORT };

/* What the workers counted for the capture on one port. */
struct port_tally {
	uint64_t received, recorded, ring_full, lost_nic;
	uint64_t held; // of a dataplane that is there: never in the books of one that is gone
};

struct worker_tally {
	struct port_tally ports[PORTS_MAX];
	uint64_t classes[CLASS_COUNT];
	uint64_t esp[ESP_COUNTS];
	uint64_t lost_first_ns, lost_last_ns; // of ring_full, the dataplane's timeline
};

/* A refusal or failure on its way to a client. */
struct refusal {
	int status;	      // HTTP
	const char *code;     // of docs/http-api.md
	struct error message; // a sentence
	const char *target;   // JSON pointer, or NULL
	struct faults details;
};

struct capture;

/* Who waits for an operation: called exactly once, refusal is NULL when it went well. */
struct answer {
	void (*done)(void *ctx, const struct capture *capture, const struct refusal *refusal);
	void *ctx;
};

struct capture {
	struct capture *next;
	char id[48];
	char *connection; // name, NULL: gateway-wide
	enum capture_state state;
	enum capture_aim aim;
	int slot;	   // of the filter set, -1: none
	bool is_sent;	   // a set with this capture has gone to the dataplane
	bool is_left_out;  // stopping: a set without it has gone
	bool is_probing;   // a SAS URL is being tried: no second stop meanwhile
	bool is_streaming; // a download is under way

	struct filter_data data;
	char *filter_json;
	struct faults warnings, notes;

	/* Where its records come from. */
	char run[RUN_TEXT_BYTES];  // of the appliance, when it was recorded (captures_files.c)
	uint64_t epoch;		   // the dataplane whose slot counters apply, its boot_id; 0: none
	uint64_t first_generation; // of the slot in that dataplane
	struct store_mark mark;	   // of the store when it was resumed
	bool is_waiting; // restored, and not yet known whether that dataplane is still there
	uint64_t cut_from_ns, cut_to_ns; // wall clock: when gatecapd was away last; 0: never
	unsigned n_ports;
	char port_names[PORTS_MAX][NAME_MAX_BYTES];

	/* Its file in the state folder. */
	uint64_t n_saves, saved_ns; // how often, and when last (wall clock)
	uint64_t synced_ns;	    // CLOCK_MONOTONIC: when ID.capture was written last
	bool is_unsaved;	    // the last write failed, and that was said
	struct worker_tally saved;  // `last` as it was written
	int disk_error;		    // of the store, as it was said

	uint64_t started_ns, stopped_ns; // wall clock
	uint64_t end_ns;		 // timeline: no record is later; 0: not known yet
	int64_t wall_offset_ns;
	struct store *store;

	/* Books: of dataplanes that are gone, then of the one that is there. */
	struct worker_tally base, last;
	uint64_t nic_base[PORTS_MAX];
	struct gap gaps[GAPS_MAX];
	unsigned n_gaps;

	/* On the way out. */
	struct answer starting, stopping; // who waits, done == NULL: nobody
	char *sas_url;			  // a secret
	struct store_view *view;
	struct store_counts final;
	bool has_final;
	char *report;
	size_t report_read;
	void *digest; // EVP_MD_CTX of the download under way
	char *blob_name, *blob_url, *redacted_url;
	int upload_id;
	uint64_t upload_bytes;
	char md5[33];
	struct error error;
};

struct cJSON;
struct config;

/* Gives an empty capture, or NULL. */
struct capture *capture_new(const char *connection);
void capture_free(struct capture *capture);

const char *capture_state_name(enum capture_state state);

/* One of the five. */
bool capture_is_running(const struct capture *capture);

/* Running, on its way out, or holding data that was not delivered: its scope is taken. */
bool capture_holds_scope(const struct capture *capture);

/* "the gateway" or "connection NAME", for sentences. */
const char *capture_scope_text(const struct capture *capture, char buf[NAME_MAX_BYTES + 16]);

/* A stretch of which nobody knows what was missed; to_ns 0: it is not over yet.  One that is open already
 * goes on, and so does the last one when there is no room for another.  `cause` is borrowed for life.
 */
void capture_add_gap(struct capture *capture, uint64_t from_ns, uint64_t to_ns, const char *cause);
bool capture_has_open_gap(const struct capture *capture);

/* Close the books of a dataplane that is gone: what it counted and the store does not have has vanished,
 * and what it held; what the store has was counted.  counts NULL: the store cannot be read.
 */
void capture_settle(struct capture *capture, const struct store_counts *counts);

/* Books of one port, and the report.  Names are borrowed. */
struct ledger capture_ledger(const struct capture *capture, unsigned port,
			     const struct store_counts *counts);
char *capture_report(const struct capture *capture, const struct config *config,
		     const struct store_counts *counts);

/* CAPTURE of docs/http-api.md.  `counts` of the store were taken before the books were read. */
struct cJSON *capture_json(struct capture *capture, const struct store_counts *counts,
			   uint64_t bytes_sent);

/* <prefix>/<gateway>/<connection or "gateway">/<yyyy>/<mm>/<dd>/<HHMMSS.fffffff>Z_<instance><ending> */
char *capture_blob_name(const struct capture *capture, const struct config *config,
			const char *ending);

/* Nanoseconds since 1970, now. */
uint64_t wall_now_ns(void);

#endif
