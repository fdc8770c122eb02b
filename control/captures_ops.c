/* captures_ops.c - start, stop and abort.
 *
 * Everything that can be known is checked before anything is changed, so that a refusal leaves all as
 * it was.  A SAS URL is tried on the storage first; meanwhile the capture is untouched.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/captures_internal.h"
#include "control/secret.h"
#include "filters/log.h"

enum { SECONDS_RECOMMENDED = 600 };

/* ---- start ---- */

/* A SAS URL is being tried. */
struct pending {
	struct captures *m;
	struct capture *capture; // of a start: not in the list yet
	struct answer answer;	 // of a start
	char *sas_url;		 // of a stop: replaces the one of before if the storage takes it
	struct faults warnings;	 // of a stop
};

static void pending_free(struct pending *pending)
{
	if (pending == NULL)
		return;
	secret_free(pending->sas_url);
	faults_fini(&pending->warnings);
	free(pending);
}

static void refuse_limit(const struct captures *m, struct refusal *refusal)
{
	char names[512] = "", scope[NAME_MAX_BYTES + 16];
	size_t used = 0;

	for (const struct capture *c = m->list; c != NULL; c = c->next) {
		if (!capture_is_running(c))
			continue;
		const char *text = capture_scope_text(c, scope);

		if (used + strlen(text) + 3 < sizeof(names)) {
			if (used > 0)
				used = (size_t)(stpcpy(names + used, ", ") - names);
			used = (size_t)(stpcpy(names + used, text) - names);
		}
	}
	refusal_set(
		refusal, 409, "PacketCaptureLimitReached",
		"%u captures are running already, as many as may run at once: %s. Stop one first.",
		m->config->captures.running_max, names);
}

/* What runs goes on when gatecapd is back; nothing is begun before. */
bool captures_refuse_at_end(const struct captures *m, struct refusal *refusal)
{
	if (m->is_ending)
		refusal_set(
			refusal, 503, "ShuttingDown",
			"gatecapd is ending; what runs goes on when it is started again. Try again when "
			"it is back.");
	return m->is_ending;
}

/* May a capture start on this scope now? */
static int check_scope(const struct captures *m, const char *connection, struct refusal *refusal)
{
	const struct capture *holder = captures_holder(m, connection);
	char scope[NAME_MAX_BYTES + 16];
	unsigned n = 0;

	if (captures_refuse_at_end(m, refusal))
		return -ECANCELED;
	if (m->config->gateway.vpn_type == VPN_POLICY_BASED) {
		refusal_set(refusal, 409, "PolicyBasedGatewayNotSupported",
			    "Gateway %s is policy-based: captures need a route-based gateway.",
			    m->config->gateway.name);
		return -EINVAL;
	}
	if (connection != NULL && captures_connection_index(m, connection) == UINT32_MAX) {
		refusal_set(refusal, 404, "ResourceNotFound",
			    "There is no connection named %s on gateway %s.", connection,
			    m->config->gateway.name);
		return -ENOENT;
	}
	if (holder != NULL) {
		const char *text = capture_scope_text(holder, scope);
		bool held = !capture_is_running(holder);

		refusal_set(
			refusal, 409, "PacketCaptureAlreadyRunning",
			held ? "The capture %s on %s is %s and holds data: stop it with a working "
			       "target, or give the data up with abort."
			     : "The capture %s on %s is %s: stop it first.",
			holder->id, text, capture_state_name(holder->state));
		return -EBUSY;
	}
	for (const struct capture *c = m->list; c != NULL; c = c->next)
		n += capture_is_running(c);
	if (n >= m->config->captures.running_max) {
		refuse_limit(m, refusal);
		return -EBUSY;
	}
	if (!m->is_up) {
		refusal_set(refusal, 503, "DataplaneUnavailable",
			    "gatecap-dataplane is not connected on %s: is it running?",
			    m->config->dataplane.socket);
		return -EAGAIN;
	}
	return 0;
}

static int parse_filter(const struct captures *m, const struct start_request *request,
			struct capture *c, struct refusal *refusal)
{
	const struct filter_data_rules rules = {
		.filters_max = m->config->captures.filters_per_capture_max};

	if (filter_data_parse(request->filter_data, request->filter_data_len, &rules, &c->data,
			      &refusal->details, &c->warnings) != 0) {
		refusal_set(refusal, 400, "InvalidPacketCaptureFilter",
			    "The filter data has %u fault%s: see the details.",
			    refusal->details.n + refusal->details.n_omitted,
			    refusal->details.n + refusal->details.n_omitted == 1 ? "" : "s");
		refusal->target = refusal->details.n > 0 ? refusal->details.list[0].pointer : NULL;
		return -EINVAL;
	}
	c->filter_json = filter_data_json(&c->data);
	return 0;
}

static bool same_address(const struct subnet *a, const struct subnet *b)
{
	return a->family == b->family && a->prefix_len == b->prefix_len &&
	       memcmp(a->addr, b->addr, sizeof(a->addr)) == 0;
}

static bool share_peer(const struct peer *a, const struct peer *b)
{
	if (a->any || b->any)
		return true;
	for (unsigned i = 0; i < a->n_addresses; i++)
		for (unsigned j = 0; j < b->n_addresses; j++)
			if (same_address(&a->addresses[i], &b->addresses[j]))
				return true;
	return false;
}

/* Outer packets go to every connection with their peer: say so where there are several. */
static void warn_shared_peer(const struct captures *m, struct capture *c)
{
	uint32_t own =
		c->connection != NULL ? captures_connection_index(m, c->connection) : UINT32_MAX;

	for (uint32_t i = 0; own != UINT32_MAX && i < m->config->n_connections; i++) {
		const struct connection *other = &m->config->connections[i];

		if (i == own || !share_peer(&m->config->connections[own].peer, &other->peer))
			continue;
		faults_add(&c->warnings, "",
			   "connection %s has the same peer: its outer packets are recorded, too",
			   other->name);
	}
}

static int open_store(struct captures *m, struct capture *c, struct refusal *refusal)
{
	const struct store_settings settings = {
		.dir_fd = m->state_dir_fd,
		.name = c->id,
		.file_bytes_max = (uint64_t)c->data.file_mb * FILE_MB_BYTES,
		.snap_bytes = c->data.snap_bytes,
		.wall_offset_ns = dp_client_shared(m->dp)->wall_offset_ns,
		.timestamps = m->config->captures.timestamps,
		.reserve = true,
		.is_durable = true,
	};
	struct error err = {0};

	c->wall_offset_ns = settings.wall_offset_ns;
	c->store = store_open(&settings, &err);
	if (c->store != NULL)
		return 0;
	refusal_set(refusal, 507, "InsufficientStorage", "%s", err.text);
	return -ENOSPC;
}

/* Before the capture itself is written down (captures_set.c): without its SAS URL that would have lost
 * its target.
 */
static int keep_sas_url(struct captures *m, const struct capture *c, struct refusal *refusal)
{
	int rc = c->sas_url != NULL ? captures_save_sas(m, c) : 0;

	if (rc != 0) {
		captures_drop_sas(m, c);
		refusal_set(refusal, 507, "InsufficientStorage",
			    "The SAS URL cannot be written to %s: %s.",
			    m->config->control.state_dir, strerror(-rc));
	}
	return rc;
}

static int free_slot(const struct captures *m)
{
	for (int slot = 0; slot < CAPTURES_MAX; slot++)
		if (m->slots[slot] == NULL)
			return slot;
	return -1;
}

/* All checks are passed: take a slot and tell the dataplane.  Takes the capture. */
static void start_now(struct captures *m, struct capture *c, struct answer *answer)
{
	struct refusal refusal = {0};
	int slot = free_slot(m);

	if (slot < 0)
		refusal_set(
			&refusal, 503, "PacketCaptureLimitReached",
			"A capture that was stopped just now is still being emptied: try again in a "
			"second.");
	c->slot = slot;
	warn_shared_peer(m, c);
	if (slot < 0 || check_scope(m, c->connection, &refusal) != 0 ||
	    open_store(m, c, &refusal) != 0 || keep_sas_url(m, c, &refusal) != 0) {
		capture_free(c);
		answer_refused(answer, &refusal);
		return;
	}
	captures_forget_finished(m, c->connection);
	c->starting = *answer;
	c->next = m->list;
	m->list = c;
	m->slots[slot] = c;
	captures_want_set(m);
}

static void start_probed(void *ctx, const struct upload_result *result)
{
	struct pending *pending = ctx;
	struct refusal refusal = {0};

	if (result->ok) {
		start_now(pending->m, pending->capture, &pending->answer);
	} else {
		refusal_from_storage(&refusal, result);
		capture_free(pending->capture);
		answer_refused(&pending->answer, &refusal);
	}
	pending_free(pending);
}

/* Start once the storage has taken a block.  Takes the capture. */
static void start_with_sas(struct captures *m, struct capture *c, const char *sas_url,
			   struct answer *answer)
{
	struct pending *pending = calloc(1, sizeof(*pending));
	char *blob_name = capture_blob_name(c, m->config, ".pcap");
	struct refusal refusal = {0};
	struct sas sas;

	c->sas_url = secret_dup(sas_url);
	if (pending != NULL)
		*pending = (struct pending){.m = m, .capture = c, .answer = *answer};
	if (pending == NULL || blob_name == NULL || c->sas_url == NULL) {
		refusal_set(&refusal, 503, "OutOfMemory", "gatecapd is out of memory: try again.");
	} else if (captures_parse_sas(m, sas_url, &sas, &c->warnings, &refusal) == 0) {
		if (captures_probe(m, &sas, blob_name, start_probed, pending) != 0)
			refusal_set(&refusal, 503, "OutOfMemory",
				    "gatecapd is out of memory: try again.");
		sas_fini(&sas);
	}
	free(blob_name);
	if (refusal.code == NULL)
		return;
	capture_free(c);
	pending_free(pending);
	answer_refused(answer, &refusal);
}

/* Of this run, with the ports of now. */
static struct capture *new_capture(const struct captures *m, const char *connection)
{
	struct capture *c = capture_new(connection);

	if (c == NULL)
		return NULL;
	memcpy(c->run, m->run, sizeof(c->run));
	c->n_ports = m->config->n_ports;
	for (unsigned i = 0; i < c->n_ports; i++)
		memcpy(c->port_names[i], m->config->ports[i].name, sizeof(c->port_names[i]));
	return c;
}

void captures_start(struct captures *m, const struct start_request *request,
		    const struct answer *answer)
{
	struct answer waiting = *answer;
	struct refusal refusal = {0};
	struct capture *c = NULL;

	if (check_scope(m, request->connection, &refusal) == 0) {
		c = new_capture(m, request->connection);
		if (c == NULL)
			refusal_set(&refusal, 503, "OutOfMemory",
				    "gatecapd is out of memory: try again.");
		else if (parse_filter(m, request, c, &refusal) == 0) {
			if (request->sas_url != NULL)
				start_with_sas(m, c, request->sas_url, &waiting);
			else
				start_now(m, c, &waiting);
			return;
		}
	}
	capture_free(c);
	answer_refused(&waiting, &refusal);
}

void capture_started(struct captures *m, struct capture *c)
{
	char scope[NAME_MAX_BYTES + 16];

	if (capture_has_open_gap(c))
		c->gaps[c->n_gaps - 1].to_ns = wall_now_ns();
	if (c->state != CAPTURE_STARTING) {
		(void)captures_save(m, c);
		return;
	}
	c->state = CAPTURE_RUNNING;
	(void)captures_save(m, c);
	log_info("Capture %s on %s is running.", c->id, capture_scope_text(c, scope));
	answer_ok(&c->starting, c);
}

void capture_start_refused(struct captures *m, struct capture *c, struct refusal *refusal)
{
	c->slot = -1;
	c->state = CAPTURE_FAILED;
	c->error = refusal->message;
	captures_save_finished(m, c);
	capture_drop_data(m, c);
	answer_refused(&c->starting, refusal);
}

void capture_start_failed(struct captures *m, struct capture *c, const char *why)
{
	struct refusal refusal = {0};

	refusal_set(&refusal, 503, "DataplaneUnavailable", "The dataplane refused the capture: %s",
		    why);
	capture_start_refused(m, c, &refusal);
}

/* ---- stop ---- */

/* Leave the filter set; capture_ended() goes on when the last record is in. */
void capture_stopping(struct captures *m, struct capture *c, enum capture_aim aim)
{
	uint64_t now_ns = wall_now_ns();
	uint64_t seconds = now_ns > c->started_ns ? (now_ns - c->started_ns) / 1000000000 : 0;
	char scope[NAME_MAX_BYTES + 16];

	c->aim = aim;
	c->state = CAPTURE_STOPPING;
	c->stopped_ns = now_ns;
	if (capture_has_open_gap(c))
		c->gaps[c->n_gaps - 1].to_ns = now_ns;
	if (seconds < SECONDS_RECOMMENDED)
		faults_add(
			&c->notes, "",
			"The capture ran for %llu s; at least %d s are recommended, for shorter ones may "
			"miss packets of slow components on the path.",
			(unsigned long long)seconds, SECONDS_RECOMMENDED);
	(void)captures_save(m, c);
	log_info("Capture %s on %s is stopping.", c->id, capture_scope_text(c, scope));
	captures_want_set(m);
}

/* Data that is kept already goes on its way at once. */
static void stop_now(struct captures *m, struct capture *c, enum capture_aim aim)
{
	c->aim = aim;
	if (capture_is_running(c))
		capture_stopping(m, c, aim);
	else
		capture_ended(m, c);
}

/* The storage takes this URL: it is the capture's from now on, and its warnings are said, each once. */
static void take_sas_url(struct captures *m, struct capture *c, struct pending *pending)
{
	char *old = c->sas_url;
	int rc;

	c->sas_url = pending->sas_url;
	pending->sas_url = old;
	rc = captures_save_sas(m, c);
	if (rc != 0)
		log_warning(
			"Capture %s: its SAS URL cannot be written to %s: %s.  It is uploaded all "
			"the same, but not after a crash.",
			c->id, m->config->control.state_dir, strerror(-rc));
	for (unsigned i = 0; i < pending->warnings.n; i++) {
		const struct fault *warning = &pending->warnings.list[i];
		bool is_known = false;

		for (unsigned j = 0; j < c->warnings.n; j++)
			is_known |= strcmp(c->warnings.list[j].text, warning->text) == 0;
		if (!is_known)
			faults_add(&c->warnings, warning->pointer, "%s", warning->text);
	}
}

static void stop_probed(void *ctx, const struct upload_result *result)
{
	struct pending *pending = ctx;
	struct capture *c = pending->capture;
	struct refusal refusal = {0};

	c->is_probing = false;
	if (captures_refuse_at_end(pending->m, &refusal)) {
		answer_refused(&c->stopping, &refusal);
	} else if (result->ok) {
		take_sas_url(pending->m, c, pending);
		stop_now(pending->m, c, AIM_UPLOAD);
		answer_ok(&c->stopping, c);
	} else {
		refusal_from_storage(&refusal, result);
		answer_refused(&c->stopping, &refusal);
	}
	pending_free(pending);
}

/* What may be stopped: a running capture, or one that holds data. */
static struct capture *stoppable(struct captures *m, const char *connection,
				 struct refusal *refusal)
{
	struct capture *c = captures_holder(m, connection);
	bool is_waiting = c != NULL && c->state == CAPTURE_UPLOADING && c->aim == AIM_DOWNLOAD;

	if (c == NULL) {
		if (captures_find(m, connection, refusal) != NULL || refusal->code == NULL ||
		    connection == NULL || captures_connection_index(m, connection) != UINT32_MAX)
			refusal_set(refusal, 409, "PacketCaptureNotRunning",
				    "No capture is running on %s%s.",
				    connection != NULL ? "connection " : "the gateway",
				    connection != NULL ? connection : "");
		return NULL;
	}
	if (c->is_probing || c->is_streaming || c->state == CAPTURE_STARTING ||
	    c->state == CAPTURE_STOPPING || (c->state == CAPTURE_UPLOADING && !is_waiting)) {
		refusal_set(refusal, 409, "AnotherOperationInProgress",
			    "The capture %s is %s: wait until that is done.", c->id,
			    c->is_probing     ? "trying its SAS URL"
			    : c->is_streaming ? "being downloaded"
					      : capture_state_name(c->state));
		return NULL;
	}
	return captures_refuse_at_end(m, refusal) ? NULL : c;
}

static void stop_with_sas(struct captures *m, struct capture *c, const char *sas_url,
			  struct answer *answer)
{
	struct pending *pending = calloc(1, sizeof(*pending));
	char *blob_name = capture_blob_name(c, m->config, ".pcap");
	struct refusal refusal = {0};
	struct sas sas;

	if (pending != NULL)
		*pending = (struct pending){.m = m, .capture = c, .sas_url = secret_dup(sas_url)};
	if (pending == NULL || blob_name == NULL || pending->sas_url == NULL) {
		refusal_set(&refusal, 503, "OutOfMemory", "gatecapd is out of memory: try again.");
	} else if (captures_parse_sas(m, sas_url, &sas, &pending->warnings, &refusal) == 0) {
		if (captures_probe(m, &sas, blob_name, stop_probed, pending) != 0)
			refusal_set(&refusal, 503, "OutOfMemory",
				    "gatecapd is out of memory: try again.");
		sas_fini(&sas);
	}
	free(blob_name);
	if (refusal.code != NULL) {
		pending_free(pending);
		answer_refused(answer, &refusal);
		return;
	}
	c->is_probing = true;
	c->stopping = *answer;
}

void captures_stop(struct captures *m, const char *connection, const char *sas_url, bool download,
		   const struct answer *answer)
{
	struct answer waiting = *answer;
	struct refusal refusal = {0};
	struct capture *c = stoppable(m, connection, &refusal);

	if (c != NULL && !download && sas_url == NULL && c->sas_url == NULL) {
		refusal_set(&refusal, 400, "InvalidSasUrl",
			    "A SAS URL is needed to stop the capture: start was given none.");
		c = NULL;
	}
	if (c == NULL) {
		answer_refused(&waiting, &refusal);
	} else if (download) {
		stop_now(m, c, AIM_DOWNLOAD);
		answer_ok(&waiting, c);
	} else {
		stop_with_sas(m, c, sas_url != NULL ? sas_url : c->sas_url, &waiting);
	}
}

/* ---- abort ---- */

void captures_abort(struct captures *m, const char *connection, const struct answer *answer)
{
	struct answer waiting = *answer;
	struct refusal refusal = {0};
	struct capture *c = captures_holder(m, connection);

	// One that starts for nobody may be: its client went with a gatecapd of before.
	if (c == NULL || c->is_probing || c->starting.done != NULL || c->stopping.done != NULL) {
		if (c == NULL)
			(void)stoppable(m, connection, &refusal);
		else
			refusal_set(&refusal, 409, "AnotherOperationInProgress",
				    "The capture %s is busy with another operation: try again.",
				    c->id);
		answer_refused(&waiting, &refusal);
		return;
	}
	c->stopping = waiting;
	if (c->state == CAPTURE_STOPPING) {
		c->aim = AIM_ABORT; // capture_ended() comes
		(void)captures_save(m, c);
	} else if (c->state == CAPTURE_UPLOADING && c->upload_id > 0) {
		c->aim = AIM_ABORT;
		(void)captures_save(m, c);
		upload_cancel(m->uploader, c->upload_id); // its done() comes
	} else if (c->is_streaming) {
		c->aim = AIM_ABORT; // the next read is refused, captures_download_done() comes
	} else {
		stop_now(m, c, AIM_ABORT);
	}
}
