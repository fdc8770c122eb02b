/* captures_internal.h - what the files captures*.c share.  Nobody else.
 *
 *   captures.c        the list, scopes, opening and closing
 *   captures_set.c    filter sets on their way to the dataplane, and the dataplane coming and going
 *   captures_files.c  what the state folder says of each capture
 *   captures_restore.c  what is found there at the start
 *   captures_ops.c    start, stop, abort
 *   captures_sas.c    SAS URLs: checked, tried
 *   captures_out.c    uploads, downloads, snapshots, shutdown
 *   captures_json.c   what is shown
 */
#ifndef GATECAP_CONTROL_CAPTURES_INTERNAL_H
#define GATECAP_CONTROL_CAPTURES_INTERNAL_H

#include "control/captures.h"
#include "control/dp_client.h"
#include "control/merge.h"
#include "control/merge_thread.h"
#include "control/resolve.h"
#include "control/sa_keeper.h"
#include "control/sas.h"
#include "control/upload.h"

struct event;

enum { CAPTURE_ID_BYTES = sizeof(((struct capture *)NULL)->id), FILE_NAME_BYTES = 64 };

struct captures {
	struct event_base *base;
	struct config *config;
	struct uploader *uploader;
	struct resolver *resolver;
	struct sa_keeper *sas; // of ESP: keys, and the dataplane that is told of them
	struct event *tick;    // looks for ends that the merger has passed
	int state_dir_fd;
	char run[RUN_TEXT_BYTES]; // random, new after a reboot
	uint64_t save_due_ns;	  // CLOCK_MONOTONIC
	struct capture *list;

	/* The dataplane. */
	struct dp_client *dp;
	bool is_up;
	struct merger *merger;
	struct merge_thread *merge_thread;
	struct capture *slots[CAPTURES_MAX]; // taken until the rings have drained past the end
	uint64_t generation;		     // of the last set sent
	bool is_set_pending;		     // sent, not answered
	bool is_set_wanted;		     // something changed since
	uint64_t set_retry_ns;		     // CLOCK_MONOTONIC: not before
	bool is_closing;		     // we go, not the dataplane

	struct snapshot *snapshots; // that wait for the merger

	/* Shutdown. */
	bool is_ending; // nothing new is begun
	void (*shutdown_done)(void *ctx);
	void *shutdown_ctx;
	uint64_t shutdown_late_ns; // CLOCK_MONOTONIC: wait for nobody after that
};

/* captures.c */
uint32_t captures_connection_index(const struct captures *m, const char *name); // or UINT32_MAX
struct capture *captures_holder(const struct captures *m, const char *connection);
void captures_forget_finished(struct captures *m, const char *connection);
void refusal_set(struct refusal *refusal, int status, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void answer_ok(struct answer *answer, const struct capture *capture);
void answer_refused(struct answer *answer, struct refusal *refusal); // frees the refusal's details

uint64_t captures_clock_ns(void); // CLOCK_MONOTONIC

/* captures_files.c */
const char *captures_file_name(const char *id, const char *ending, char out[FILE_NAME_BYTES]);
int captures_save(struct captures *m, struct capture *c); // 0, or -errno: said once, tried again
void captures_save_finished(struct captures *m, struct capture *c);
void captures_save_often(struct captures *m); // once a second
void captures_unlink(struct captures *m, const struct capture *c);
int captures_save_sas(struct captures *m, const struct capture *c);
void captures_load_sas(struct captures *m, struct capture *c); // into sas_url; NULL: there is none
void captures_drop_sas(struct captures *m, const struct capture *c);
void captures_wipe_file(int dir_fd, const char *name); // overwritten, then unlinked
int captures_read_run(struct captures *m, struct error *err);

/* Gives (free) a regular file's bytes and a zero byte behind, or NULL and a phrase. */
char *captures_read_file(int dir_fd, const char *name, size_t bytes_max, size_t *n,
			 struct error *err);

/* captures_restore.c */
void captures_restore(struct captures *m);
void captures_attach(struct captures *m); // the dataplane is there, and nothing is merged yet
void capture_lose_dataplane(struct captures *m,
			    struct capture *c); // restored, and its rings are gone
void capture_settle_cut(struct capture *c);	// at the end, of one that outlived a gatecapd

/* captures_set.c */
int captures_connect(struct captures *m, struct error *err);
void captures_want_set(struct captures *m);
void captures_read_tally(struct captures *m, struct capture *c);
void captures_check_ends(struct captures *m);

/* captures_ops.c */
void capture_started(struct captures *m, struct capture *c);
void capture_start_failed(struct captures *m, struct capture *c, const char *why);
void capture_stopping(struct captures *m, struct capture *c, enum capture_aim aim);
bool captures_refuse_at_end(const struct captures *m, struct refusal *refusal);
void capture_start_refused(struct captures *m, struct capture *c, struct refusal *refusal);

/* captures_sas.c */
int captures_parse_sas(const struct captures *m, const char *url, struct sas *sas,
		       struct faults *warnings, struct refusal *refusal);

/* Try the SAS with a block that is never committed; done() in the event loop. */
int captures_probe(struct captures *m, const struct sas *sas, const char *blob_name,
		   void (*done)(void *ctx, const struct upload_result *result), void *ctx);
void sentence_set(struct error *out, const char *text); // with a period if it has none
void refusal_from_storage(struct refusal *refusal, const struct upload_result *result);

/* captures_out.c */
void capture_ended(struct captures *m, struct capture *c); // all records are in the store
void capture_sync(struct captures *m, const struct capture *c);
void capture_drop_data(struct captures *m, struct capture *c);
void captures_check_snapshots(struct captures *m);
void captures_drop_snapshots(struct captures *m); // those that still wait are refused
void captures_shutdown_step(struct captures *m);

#endif
