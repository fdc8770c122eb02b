/* captures_out.c - how a capture's data leaves: upload, download or snapshot; and the end of gatecapd.
 *
 * A view of the finished store gives the PCAP's bytes in order; the same bytes whether they go to the
 * storage, to the CLI or to a file.  Data is deleted only when someone has said that it arrived whole.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "control/captures_internal.h"
#include "control/secret.h"
#include "filters/log.h"
#include "control/loop_post.h"

enum { SHUTDOWN_NS_MAX = 2000000000 }; // then whoever is not answered is refused

void capture_drop_data(struct captures *m, struct capture *c)
{
	store_view_close(c->view);
	c->view = NULL;
	store_close(c->store);
	c->store = NULL;
	captures_drop_sas(m, c);
	secret_free(c->sas_url);
	c->sas_url = NULL;
}

/* Written down before the data goes, if that is what follows. */
static void set_state(struct captures *m, struct capture *c, enum capture_state state)
{
	char scope[NAME_MAX_BYTES + 16];

	c->state = state;
	if (capture_holds_scope(c))
		(void)captures_save(m, c);
	else
		captures_save_finished(m, c);
	if (c->error.text[0] != '\0')
		log_warning("Capture %s on %s: %s: %s", c->id, capture_scope_text(c, scope),
			    capture_state_name(state), c->error.text);
	else
		log_info("Capture %s on %s: %s.", c->id, capture_scope_text(c, scope),
			 capture_state_name(state));
}

/* Close the books and open the bytes.  Once for each try. */
static int open_view(struct captures *m, struct capture *c)
{
	store_view_close(c->view);
	free(c->report);
	c->report = NULL;
	c->report_read = 0;
	c->view = store_view_final(c->store, &c->error);
	if (c->view == NULL)
		return -EIO;
	c->final = *store_view_counts(c->view);
	c->has_final = true;
	c->report = capture_report(c, m->config, &c->final);
	return c->report != NULL ? 0 : -ENOMEM;
}

/* ---- upload ---- */

static int read_view(void *ctx, void *buf, size_t len)
{
	return store_view_read(((struct capture *)ctx)->view, buf, len);
}

static int read_report(void *ctx, void *buf, size_t len)
{
	struct capture *c = ctx;

	memcpy(buf, c->report + c->report_read, len);
	c->report_read += len;
	return 0;
}

struct upload_end {
	struct captures *m;
	struct capture *capture;
	struct upload_result result;
};

static void finish_aborted(struct captures *m, struct capture *c)
{
	error_set(&c->error, "Aborted on request: the data was deleted.");
	set_state(m, c, CAPTURE_FAILED);
	capture_drop_data(m, c);
	answer_ok(&c->stopping, c);
}

static void upload_ended(void *ctx)
{
	struct upload_end *end = ctx;
	struct captures *m = end->m;
	struct capture *c = end->capture;

	c->upload_id = 0;
	if (c->aim == AIM_ABORT) {
		finish_aborted(m, c);
	} else if (end->result.ok) {
		(void)snprintf(c->md5, sizeof(c->md5), "%s", end->result.md5[0]);
		c->error.text[0] = '\0';
		set_state(m, c, CAPTURE_SUCCEEDED);
		capture_drop_data(m, c);
	} else if (
		!m->is_ending) { // else it was cut off by us, and is begun again at the next start
		sentence_set(&c->error, end->result.err.text);
		set_state(m, c, CAPTURE_UPLOAD_FAILED);
	}
	free(end);
}

static void in_upload_thread(void *ctx, const struct upload_result *result)
{
	struct upload_end *end = ctx;

	end->result = *result;
	if (loop_post(end->m->base, upload_ended, end) != 0)
		abort(); // the capture would hang in Uploading: better to end and be restarted
}

/* Names and URLs of the two blobs; the report's name goes to *report_name. */
static int name_blobs(struct captures *m, struct capture *c, const struct sas *sas,
		      char **report_name)
{
	free(c->blob_name);
	free(c->blob_url);
	free(c->redacted_url);
	c->blob_url = NULL;
	c->blob_name = capture_blob_name(c, m->config, ".pcap");
	*report_name = capture_blob_name(c, m->config, ".json");
	c->redacted_url = sas_redacted(c->sas_url);
	if (c->blob_name == NULL || *report_name == NULL || c->redacted_url == NULL ||
	    asprintf(&c->blob_url, "%s/%s", sas->base, c->blob_name) < 0)
		return -ENOMEM;
	return 0;
}

static int start_upload(struct captures *m, struct capture *c, const struct sas *sas)
{
	struct upload_end *end = calloc(1, sizeof(*end));
	char *report_name = NULL;
	int rc = -ENOMEM;

	if (end != NULL && name_blobs(m, c, sas, &report_name) == 0) {
		const struct upload_blob blobs[] = {
			{c->blob_name, "application/vnd.tcpdump.pcap", store_view_bytes(c->view),
			 read_view, c},
			{report_name, "application/json", strlen(c->report), read_report, c},
		};

		*end = (struct upload_end){.m = m, .capture = c};
		c->upload_bytes = blobs[0].n_bytes + blobs[1].n_bytes;
		rc = upload_start(m->uploader, sas, blobs, 2, in_upload_thread, end);
	}
	free(report_name);
	if (rc < 0) {
		free(end);
		return rc;
	}
	c->upload_id = rc;
	return 0;
}

static void begin_upload(struct captures *m, struct capture *c)
{
	struct refusal refusal = {0};
	struct faults ignored = {0}; // said when the URL was tried
	struct sas sas;

	if (c->sas_url == NULL) {
		error_set(&c->error, "The SAS URL is not known any more: stop again with one.");
	} else if (captures_parse_sas(m, c->sas_url, &sas, &ignored, &refusal) != 0) {
		c->error = refusal.message; // it was good a moment ago: it has expired
	} else {
		if (start_upload(m, c, &sas) != 0)
			error_set(&c->error, "The upload could not start: out of memory.");
		sas_fini(&sas);
	}
	faults_fini(&ignored);
	set_state(m, c, c->upload_id > 0 ? CAPTURE_UPLOADING : CAPTURE_UPLOAD_FAILED);
}

struct sync {
	struct captures *m;
	struct store *store; // held
};

static void sync_store(void *ctx)
{
	(void)store_sync(((struct sync *)ctx)->store); // what fails is told when it is read
}

static void store_synced(void *ctx)
{
	store_close(((struct sync *)ctx)->store);
	free(ctx);
}

/* The last record is in: from now on the data shall survive a power loss, too. */
void capture_sync(struct captures *m, const struct capture *c)
{
	struct sync *sync;

	if (m->config->captures.sync_ms == 0 || c->aim == AIM_ABORT)
		return;
	sync = malloc(sizeof(*sync));
	if (sync == NULL)
		return;
	*sync = (struct sync){m, c->store};
	store_hold(sync->store);
	if (loop_work(m->base, sync_store, store_synced, sync) != 0)
		store_synced(sync);
}

void capture_ended(struct captures *m, struct capture *c)
{
	c->error.text[0] = '\0';
	if (c->aim == AIM_ABORT) {
		finish_aborted(m, c);
		return;
	}
	if (open_view(m, c) != 0) {
		if (c->error.text[0] == '\0')
			error_set(&c->error, "The report could not be written: out of memory.");
		set_state(m, c, CAPTURE_UPLOAD_FAILED);
	} else if (c->aim == AIM_UPLOAD) {
		begin_upload(m, c);
	} else {
		set_state(m, c, CAPTURE_UPLOADING);
	}
}

/* ---- download ---- */

struct capture *captures_download(struct captures *m, const char *connection,
				  struct refusal *refusal)
{
	struct capture *c = captures_find(m, connection, refusal);

	if (c == NULL)
		return NULL;
	if (c->state != CAPTURE_UPLOADING || c->aim != AIM_DOWNLOAD || c->is_streaming) {
		refusal_set(refusal, 409, "PacketCaptureNotRunning",
			    "The capture %s is %s: stop it for download first.", c->id,
			    c->is_streaming ? "being downloaded" : capture_state_name(c->state));
		return NULL;
	}
	EVP_MD_CTX_free(c->digest);
	c->digest = EVP_MD_CTX_new();
	if (c->digest == NULL || EVP_DigestInit_ex(c->digest, EVP_md5(), NULL) != 1) {
		refusal_set(refusal, 503, "OutOfMemory", "gatecapd is out of memory: try again.");
		return NULL;
	}
	store_view_rewind(c->view);
	c->md5[0] = '\0';
	c->is_streaming = true;
	return c;
}

int captures_download_read(void *capture, void *buf, size_t len)
{
	struct capture *c = capture;
	int rc = c->aim == AIM_ABORT ? -ECANCELED : store_view_read(c->view, buf, len);

	if (rc == 0 && EVP_DigestUpdate(c->digest, buf, len) != 1)
		rc = -EIO;
	return rc;
}

void captures_download_done(struct captures *m, struct capture *c, bool ok)
{
	unsigned char md5[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	c->is_streaming = false;
	if (c->aim == AIM_ABORT) {
		finish_aborted(m, c);
		return;
	}
	if (ok && EVP_DigestFinal_ex(c->digest, md5, &n) == 1) {
		for (unsigned i = 0; i < n && i < 16; i++)
			(void)snprintf(c->md5 + 2 * (size_t)i, 3, "%02x", md5[i]);
		(void)captures_save(m, c); // it can be finished by the next gatecapd, too
	} else if (!m->is_ending) {
		error_set(&c->error, "The download was cut off; the data is kept: stop again.");
		set_state(m, c, CAPTURE_UPLOAD_FAILED);
	}
}

int captures_finish(struct captures *m, const char *connection, const char *md5,
		    struct refusal *refusal)
{
	struct capture *c = captures_find(m, connection, refusal);

	if (c == NULL)
		return -ENOENT;
	if (c->state != CAPTURE_UPLOADING || c->aim != AIM_DOWNLOAD || c->is_streaming ||
	    c->md5[0] == '\0') {
		refusal_set(refusal, 409, "PacketCaptureNotRunning",
			    "The capture %s is %s: nothing was downloaded that could be finished.",
			    c->id, capture_state_name(c->state));
		return -EINVAL;
	}
	if (strcasecmp(md5, c->md5) != 0) {
		refusal_set(
			refusal, 409, "Md5Mismatch",
			"What arrived has MD5 %.32s and what was sent %s: the data is kept, download it "
			"again.",
			md5, c->md5);
		return -EINVAL;
	}
	set_state(m, c, CAPTURE_SUCCEEDED);
	capture_drop_data(m, c);
	return 0;
}

/* ---- snapshot ---- */

struct snapshot {
	struct snapshot *next;
	struct captures *m;
	struct store *store; // held
	uint64_t until_ns;   // everything before this shall be in it
	bool is_final;
	struct store_view *view;
	struct error err;
	void (*done)(void *ctx, struct snapshot *snapshot, const struct refusal *refusal);
	void *ctx;
};

uint64_t snapshot_bytes(const struct snapshot *s)
{
	return store_view_bytes(s->view);
}

int snapshot_read(void *snapshot, void *buf, size_t len)
{
	return store_view_read(((struct snapshot *)snapshot)->view, buf, len);
}

void snapshot_close(struct snapshot *s)
{
	if (s == NULL)
		return;
	store_view_close(s->view);
	store_close(s->store);
	free(s);
}

static void copy_snapshot(void *ctx)
{
	struct snapshot *s = ctx;

	s->view = s->is_final ? store_view_final(s->store, &s->err)
			      : store_view_snapshot(s->store, &s->err);
}

static void give_snapshot(void *ctx)
{
	struct snapshot *s = ctx;
	struct refusal refusal = {0};

	if (s->view != NULL) {
		s->done(s->ctx, s, NULL);
		return;
	}
	refusal_set(&refusal, 507, "InsufficientStorage", "%s", s->err.text);
	s->done(s->ctx, NULL, &refusal);
	snapshot_close(s);
}

void captures_check_snapshots(struct captures *m)
{
	struct snapshot **at = &m->snapshots;

	while (*at != NULL) {
		struct snapshot *s = *at;

		if (!s->is_final && m->is_up && merge_time_ns(m->merger) < s->until_ns) {
			at = &s->next;
			continue;
		}
		*at = s->next;
		if (loop_work(m->base, copy_snapshot, give_snapshot, s) != 0) {
			error_set(&s->err, "gatecapd is out of memory: try again.");
			give_snapshot(s);
		}
	}
}

void captures_drop_snapshots(struct captures *m)
{
	struct snapshot *s;

	while ((s = m->snapshots) != NULL) {
		m->snapshots = s->next;
		error_set(&s->err, "gatecapd is ending.");
		give_snapshot(s);
	}
}

void captures_snapshot(struct captures *m, const char *connection,
		       void (*done)(void *ctx, struct snapshot *snapshot,
				    const struct refusal *refusal),
		       void *ctx)
{
	struct refusal refusal = {0};
	struct capture *c = captures_find(m, connection, &refusal);
	struct snapshot *s = NULL;
	struct timespec now;

	if (c != NULL && c->store == NULL)
		refusal_set(&refusal, 409, "PacketCaptureNotRunning",
			    "The capture %s is %s and holds no data.", c->id,
			    capture_state_name(c->state));
	else if (c != NULL && (s = calloc(1, sizeof(*s))) == NULL)
		refusal_set(&refusal, 503, "OutOfMemory", "gatecapd is out of memory: try again.");
	if (s == NULL) {
		done(ctx, NULL, &refusal);
		return;
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	*s = (struct snapshot){.next = m->snapshots,
			       .m = m,
			       .store = c->store,
			       .until_ns =
				       (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec,
			       .is_final = c->slot < 0,
			       .done = done,
			       .ctx = ctx};
	store_hold(s->store);
	m->snapshots = s;
}

/* ---- shutdown ---- */

void captures_shutdown(struct captures *m, void (*done)(void *ctx), void *ctx)
{
	m->is_ending = true;
	m->shutdown_done = done;
	m->shutdown_ctx = ctx;
	m->shutdown_late_ns = captures_clock_ns() + SHUTDOWN_NS_MAX;
	for (struct capture *c = m->list; c != NULL; c = c->next)
		if (c->upload_id > 0)
			upload_cancel(m->uploader, c->upload_id);
}

/* An upload is being cut off, or a start is being answered. */
static bool is_busy(const struct captures *m, const struct capture *c)
{
	return c->upload_id > 0 || (c->starting.done != NULL && m->is_up);
}

void captures_shutdown_step(struct captures *m)
{
	for (const struct capture *c = m->list; c != NULL; c = c->next)
		if (is_busy(m, c) && captures_clock_ns() < m->shutdown_late_ns)
			return;
	m->shutdown_done(m->shutdown_ctx);
	m->shutdown_done = NULL;
}
