/* api.c - from HTTP to captures and back.
 *
 * An operation may take longer than a client stays: what waits is a small struct of ours, and the
 * request in it becomes NULL when the client goes.  The operation itself always runs to its end.
 */
#include "control/api.h"

#include <cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/api_sas.h"
#include "control/captures.h"
#include "control/http.h"

static void reply_refused(struct http_req *req, const struct refusal *refusal)
{
	cJSON *details =
		refusal->details.n > 0 ? http_details(&refusal->details, refusal->code) : NULL;

	http_reply_error(req, refusal->status, refusal->code, refusal->message.text,
			 refusal->target, details);
}

static void reply_bad_body(struct http_req *req, const char *target, const char *sentence)
{
	http_reply_error(req, 400, "InvalidRequestContent", sentence, target, NULL);
}

/* The connection's name of ".../connections/NAME...", NULL for ".../gateway...". */
static const char *scope_of(const struct http_req *req)
{
	return http_name(req, 0);
}

/* ---- waiting for an operation ---- */

struct waiting {
	struct http_req *req; // NULL: the client is gone
	struct captures *captures;
	int status; // of the answer when it went well
};

static void client_gone(void *ctx)
{
	((struct waiting *)ctx)->req = NULL;
}

static void operation_done(void *ctx, const struct capture *capture, const struct refusal *refusal)
{
	struct waiting *w = ctx;

	if (w->req != NULL && refusal != NULL)
		reply_refused(w->req, refusal);
	else if (w->req != NULL)
		http_reply_json(w->req, w->status, captures_one_json(w->captures, capture));
	free(w);
}

/* Gives NULL when memory is short: then the request has been replied to. */
static struct waiting *wait_for(struct http_req *req, struct captures *captures, int status)
{
	struct waiting *w = malloc(sizeof(*w));

	if (w == NULL) {
		http_reply_error(req, 503, "OutOfMemory", "gatecapd is out of memory: try again.",
				 NULL, NULL);
		return NULL;
	}
	*w = (struct waiting){.req = req, .captures = captures, .status = status};
	http_req_later(req, client_gone, w);
	return w;
}

/* ---- bodies ---- */

/* A string member, NULL if it is not there; false when it is something else: replied to. */
static bool take_string(struct http_req *req, const cJSON *body, const char *key, const char **out)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(body, key);
	char pointer[64], sentence[128];

	*out = NULL;
	if (item == NULL || cJSON_IsNull(item))
		return true;
	if (cJSON_IsString(item)) {
		*out = item->valuestring;
		return true;
	}
	(void)snprintf(pointer, sizeof(pointer), "/%s", key);
	(void)snprintf(sentence, sizeof(sentence), "%s must be a string.", key);
	reply_bad_body(req, pointer, sentence);
	return false;
}

/* filter_data as text: an object is printed, a string taken as it is.  Gives (malloc) or NULL. */
static char *filter_text(const cJSON *body)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(body, "filter_data");

	if (item == NULL || cJSON_IsNull(item))
		return strdup("");
	return cJSON_IsString(item) ? strdup(item->valuestring) : cJSON_PrintUnformatted(item);
}

/* ---- routes ---- */

static void get_status(struct http_req *req, void *ctx)
{
	http_reply_json(req, 200, captures_status_json(ctx));
}

static void get_captures(struct http_req *req, void *ctx)
{
	cJSON *json = cJSON_CreateObject();

	(void)cJSON_AddItemToObject(json, "captures", captures_list_json(ctx));
	http_reply_json(req, 200, json);
}

static void get_stats(struct http_req *req, void *ctx)
{
	http_reply_json(req, 200, captures_stats_json(ctx));
}

static void post_captures(struct http_req *req, void *ctx)
{
	cJSON *body = http_body_json(req);
	struct start_request request = {0};
	struct waiting *w;
	char *text = NULL;

	if (body == NULL)
		return;
	if (take_string(req, body, "connection", &request.connection) &&
	    take_string(req, body, "sas_url", &request.sas_url) &&
	    (w = wait_for(req, ctx, 201)) != NULL) {
		const struct answer answer = {operation_done, w};

		text = filter_text(body);
		request.filter_data = text != NULL ? text : "";
		request.filter_data_len = strlen(request.filter_data);
		captures_start(ctx, &request, &answer);
	}
	free(text);
	cJSON_Delete(body);
}

static void get_capture(struct http_req *req, void *ctx)
{
	struct refusal refusal = {0};
	struct capture *capture = captures_find(ctx, scope_of(req), &refusal);

	if (capture == NULL)
		reply_refused(req, &refusal);
	else
		http_reply_json(req, 200, captures_one_json(ctx, capture));
}

static void post_stop(struct http_req *req, void *ctx)
{
	cJSON *body = http_body_json(req);
	const cJSON *download;
	const char *sas_url;
	struct waiting *w;

	if (body == NULL)
		return;
	download = cJSON_GetObjectItemCaseSensitive(body, "download");
	if (download != NULL && !cJSON_IsBool(download)) {
		reply_bad_body(req, "/download", "download must be true or false.");
	} else if (take_string(req, body, "sas_url", &sas_url)) {
		if (sas_url != NULL && cJSON_IsTrue(download)) {
			reply_bad_body(req, "/download", "Give sas_url or download, not both.");
		} else if ((w = wait_for(req, ctx, 202)) != NULL) {
			const struct answer answer = {operation_done, w};

			captures_stop(ctx, scope_of(req), sas_url, cJSON_IsTrue(download), &answer);
		}
	}
	cJSON_Delete(body);
}

static void post_abort(struct http_req *req, void *ctx)
{
	struct waiting *w = wait_for(req, ctx, 200);

	if (w != NULL) {
		const struct answer answer = {operation_done, w};

		captures_abort(ctx, scope_of(req), &answer);
	}
}

static void stream_done(void *ctx, bool ok)
{
	(void)ok;
	snapshot_close(ctx);
}

static void snapshot_done(void *ctx, struct snapshot *snapshot, const struct refusal *refusal)
{
	struct waiting *w = ctx;

	if (w->req == NULL) {
		snapshot_close(snapshot);
	} else if (snapshot == NULL) {
		reply_refused(w->req, refusal);
	} else {
		const struct http_stream stream = {.content_type = "application/vnd.tcpdump.pcap",
						   .n_bytes = snapshot_bytes(snapshot),
						   .read = snapshot_read,
						   .done = stream_done,
						   .ctx = snapshot};

		http_reply_stream(w->req, 200, &stream);
	}
	free(w);
}

static void get_snapshot(struct http_req *req, void *ctx)
{
	struct waiting *w = wait_for(req, ctx, 200);

	if (w != NULL)
		captures_snapshot(ctx, scope_of(req), snapshot_done, w);
}

struct download {
	struct captures *captures;
	struct capture *capture;
};

static int read_download(void *ctx, void *buf, size_t len)
{
	return captures_download_read(((struct download *)ctx)->capture, buf, len);
}

static void download_done(void *ctx, bool ok)
{
	struct download *download = ctx;

	captures_download_done(download->captures, download->capture, ok);
	free(download);
}

static void get_pcap(struct http_req *req, void *ctx)
{
	struct refusal refusal = {0};
	struct download *download = malloc(sizeof(*download));
	struct capture *capture =
		download != NULL ? captures_download(ctx, scope_of(req), &refusal) : NULL;
	struct http_stream stream = {.content_type = "application/vnd.tcpdump.pcap",
				     .read = read_download,
				     .done = download_done,
				     .ctx = download};

	if (download == NULL) {
		http_reply_error(req, 503, "OutOfMemory", "gatecapd is out of memory: try again.",
				 NULL, NULL);
	} else if (capture == NULL) {
		free(download);
		reply_refused(req, &refusal);
	} else {
		*download = (struct download){ctx, capture};
		stream.n_bytes = store_view_bytes(capture->view);
		http_reply_stream(req, 200, &stream);
	}
}

static void post_finish(struct http_req *req, void *ctx)
{
	cJSON *body = http_body_json(req);
	struct refusal refusal = {0};
	const char *md5;

	if (body == NULL)
		return;
	if (take_string(req, body, "md5", &md5)) {
		if (md5 == NULL)
			reply_bad_body(req, "/md5",
				       "md5 is needed: the digest of what was received.");
		else if (captures_finish(ctx, scope_of(req), md5, &refusal) != 0)
			reply_refused(req, &refusal);
		else
			get_capture(req, ctx);
	}
	cJSON_Delete(body);
}

static void get_report(struct http_req *req, void *ctx)
{
	struct refusal refusal = {0};
	struct capture *capture = captures_find(ctx, scope_of(req), &refusal);
	struct store_counts counts = {0};
	char *live = NULL;
	const char *text;

	if (capture == NULL) {
		reply_refused(req, &refusal);
		return;
	}
	text = capture->report;
	if (text == NULL) {
		// The store first: what is in it is covered by the books that are read after it.
		if (capture->has_final)
			counts = capture->final;
		else if (capture->store != NULL)
			(void)store_count(capture->store, &counts);
		cJSON_Delete(captures_one_json(ctx, capture)); // reads the books afresh
		text = live = capture_report(capture, captures_config(ctx), &counts);
	}
	http_reply_text(req, 200, "application/json", text, strlen(text));
	cJSON_free(live);
}

static void post_check_filter(struct http_req *req, void *ctx)
{
	const struct filter_data_rules rules = {
		.filters_max = captures_config(ctx)->captures.filters_per_capture_max};
	cJSON *body = http_body_json(req), *json;
	struct faults faults = {0}, warnings = {0};
	struct filter_data data = {0};
	char *text, *normalised;

	if (body == NULL)
		return;
	text = filter_text(body);
	if (filter_data_parse(text != NULL ? text : "", text != NULL ? strlen(text) : 0, &rules,
			      &data, &faults, &warnings) != 0) {
		struct refusal refusal = {.status = 400,
					  .code = "InvalidPacketCaptureFilter",
					  .target = faults.n > 0 ? faults.list[0].pointer : NULL,
					  .details = faults};

		error_set(&refusal.message, "The filter data has %u fault%s: see the details.",
			  faults.n + faults.n_omitted, faults.n + faults.n_omitted == 1 ? "" : "s");
		reply_refused(req, &refusal);
	} else {
		normalised = filter_data_json(&data);
		json = cJSON_CreateObject();
		(void)cJSON_AddBoolToObject(json, "valid", true);
		(void)cJSON_AddRawToObject(json, "filter_data",
					   normalised != NULL ? normalised : "{}");
		(void)cJSON_AddItemToObject(json, "warnings", faults_json(&warnings));
		http_reply_json(req, 200, json);
		free(normalised);
	}
	filter_data_fini(&data);
	faults_fini(&faults);
	faults_fini(&warnings);
	free(text);
	cJSON_Delete(body);
}

static void sas_checked(void *ctx, const char *redacted, const struct faults *warnings,
			const struct refusal *refusal)
{
	struct waiting *w = ctx;

	if (w->req != NULL && refusal != NULL) {
		reply_refused(w->req, refusal);
	} else if (w->req != NULL) {
		cJSON *json = cJSON_CreateObject();

		(void)cJSON_AddBoolToObject(json, "ok", true);
		(void)cJSON_AddStringToObject(json, "url", redacted != NULL ? redacted : "");
		(void)cJSON_AddItemToObject(json, "warnings", faults_json(warnings));
		http_reply_json(w->req, 200, json);
	}
	free(w);
}

static void post_check_sas(struct http_req *req, void *ctx)
{
	cJSON *body = http_body_json(req);
	const char *sas_url;
	struct waiting *w;

	if (body == NULL)
		return;
	if (take_string(req, body, "sas_url", &sas_url)) {
		if (sas_url == NULL)
			reply_bad_body(req, "/sas_url", "sas_url is needed.");
		else if ((w = wait_for(req, ctx, 200)) != NULL)
			captures_check_sas(ctx, sas_url, sas_checked, w);
	}
	cJSON_Delete(body);
}

#define GATEWAY	   "/gatecap/v1/captures/gateway"
#define CONNECTION "/gatecap/v1/captures/connections/*"

static const struct http_route routes[] = {
	{"GET", "/gatecap/v1/status", get_status},
	{"GET", "/gatecap/v1/stats", get_stats},
	{"GET", "/gatecap/v1/captures", get_captures},
	{"POST", "/gatecap/v1/captures", post_captures},
	{"POST", "/gatecap/v1/check-filter", post_check_filter},
	{"POST", "/gatecap/v1/check-sas", post_check_sas},
	{"GET", "/gatecap/v1/sas", api_get_sas},
	{"POST", "/gatecap/v1/sas", api_post_sas},
	{"DELETE", "/gatecap/v1/sas", api_delete_sas},
	{"DELETE", "/gatecap/v1/sas/*/*", api_delete_sa},
	{"GET", GATEWAY, get_capture},
	{"GET", CONNECTION, get_capture},
	{"POST", GATEWAY "/stop", post_stop},
	{"POST", CONNECTION "/stop", post_stop},
	{"POST", GATEWAY "/abort", post_abort},
	{"POST", CONNECTION "/abort", post_abort},
	{"GET", GATEWAY "/snapshot", get_snapshot},
	{"GET", CONNECTION "/snapshot", get_snapshot},
	{"GET", GATEWAY "/pcap", get_pcap},
	{"GET", CONNECTION "/pcap", get_pcap},
	{"POST", GATEWAY "/finish", post_finish},
	{"POST", CONNECTION "/finish", post_finish},
	{"GET", GATEWAY "/report", get_report},
	{"GET", CONNECTION "/report", get_report},
};

const struct http_route *api_routes(unsigned *n)
{
	*n = sizeof(routes) / sizeof(routes[0]);
	return routes;
}
