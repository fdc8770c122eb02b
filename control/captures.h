/* captures.h - all captures of the gateway: who may start, what the dataplane is told, how each ends.
 *
 * Flow:    api.c -> captures_* -> filter set -> dataplane; merge threads -> stores -> upload
 * Threads: the event loop.  Work that takes long (snapshots, uploads) runs elsewhere and comes back
 *          through loop_post().
 * Rule:    one filter set is on its way to the dataplane at a time; what changes meanwhile goes with the
 *          next one.
 * Crash:   each step is written to the state folder before it is taken (captures_files.c).
 * Stop:    the set without the capture is applied at a time T that the dataplane tells; when the merger
 *          has passed T, every record is in the store and the books are closed.
 */
#ifndef GATECAP_CONTROL_CAPTURES_H
#define GATECAP_CONTROL_CAPTURES_H

#include "control/capture.h"
#include "control/config.h"

struct captures;
struct cJSON;
struct event_base;
struct sa_keeper;

/* `config` is borrowed until captures_reload() gives another.  Gives NULL and a sentence. */
struct captures *captures_open(struct event_base *base, struct config *config, struct error *err);
void captures_close(struct captures *captures);

struct start_request {
	const char *connection; // NULL: gateway-wide
	const char *filter_data;
	size_t filter_data_len;
	const char *sas_url; // or NULL
};

void captures_start(struct captures *captures, const struct start_request *request,
		    const struct answer *answer);

/* sas_url NULL and not download: the URL given at start.  Answers when the stop is under way. */
void captures_stop(struct captures *captures, const char *connection, const char *sas_url,
		   bool download, const struct answer *answer);

/* Answers when the data is gone. */
void captures_abort(struct captures *captures, const char *connection, const struct answer *answer);

/* The capture of a scope (the one that holds it, else the last finished), or NULL and a refusal. */
struct capture *captures_find(struct captures *captures, const char *connection,
			      struct refusal *refusal);

/* A consistent copy of what was recorded up to now, read from front to back.  The capture may be gone
 * before it is.
 */
struct snapshot;

/* done() in the event loop, with a snapshot that is the receiver's to close, or with a refusal. */
void captures_snapshot(struct captures *captures, const char *connection,
		       void (*done)(void *ctx, struct snapshot *snapshot,
				    const struct refusal *refusal),
		       void *ctx);
uint64_t snapshot_bytes(const struct snapshot *snapshot);
int snapshot_read(void *snapshot, void *buf, size_t len); // for http_reply_stream()
void snapshot_close(struct snapshot *snapshot);		  // NULL: nothing

/* The data of a capture stopped for download.  read/done are for http_reply_stream(). */
int captures_download_read(void *capture, void *buf, size_t len);
struct capture *captures_download(struct captures *captures, const char *connection,
				  struct refusal *refusal);
void captures_download_done(struct captures *captures, struct capture *capture, bool ok);
int captures_finish(struct captures *captures, const char *connection, const char *md5,
		    struct refusal *refusal);

/* Try a SAS URL: parse, then one block that is never committed. */
void captures_check_sas(struct captures *captures, const char *sas_url,
			void (*done)(void *ctx, const char *redacted, const struct faults *warnings,
				     const struct refusal *refusal),
			void *ctx);

/* JSON for the routes. */
struct cJSON *captures_list_json(struct captures *captures);
struct cJSON *captures_status_json(struct captures *captures);
struct cJSON *captures_stats_json(struct captures *captures);
struct cJSON *captures_one_json(struct captures *captures, const struct capture *capture);
const struct config *captures_config(const struct captures *captures);

/* The SAs of ESP; the captures' dataplane is told of them. */
struct sa_keeper *captures_sa_keeper(const struct captures *captures);

/* Take a new configuration's gateway and connections.  Takes `config` (malloc'ed) if 0; -EBUSY and a
 * sentence when a connection with a capture is missing from it.
 */
int captures_reload(struct captures *captures, struct config *config, struct error *err);

/* End soon: cut off what is under way, then call done().  captures_close() leaves everything in the state
 * folder, and captures_open() takes it up again.
 */
void captures_shutdown(struct captures *captures, void (*done)(void *ctx), void *ctx);

#endif
