/* api_sas.c - SAs that come from a vendor's own IKE daemon, and the list of all.
 *
 * All or nothing: a body with one fault adds none of its SAs, so that the daemon need not find out which.
 * What is added here lives in memory only, as the keys of an IKE daemon do.
 */
#include "control/api_sas.h"

#include <cJSON.h>
#include <errno.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

#include "control/captures.h"
#include "control/http.h"
#include "control/sa_json.h"
#include "control/sa_keeper.h"
#include "filters/json_place.h"

#define BAD_BODY "InvalidRequestContent"

void api_get_sas(struct http_req *req, void *ctx)
{
	http_reply_json(req, 200, sa_keeper_list_json(captures_sa_keeper(ctx)));
}

static void reply_faults(struct http_req *req, const struct faults *faults)
{
	unsigned n = faults->n + faults->n_omitted;
	struct error message;

	error_set(&message, "The SAs have %u fault%s: see the details; none was added.", n,
		  n == 1 ? "" : "s");
	http_reply_error(req, 400, BAD_BODY, message.text,
			 faults->n > 0 ? faults->list[0].pointer : NULL,
			 http_details(faults, BAD_BODY));
}

/* ---- Adding ---- */

static void read_one(const cJSON *value, const struct json_place *place, struct sa_list *list,
		     struct faults *faults)
{
	int rc = sa_list_grow(list, 1); // straight into locked memory

	if (rc == -E2BIG)
		json_fault(faults, place, NULL, "is one too many; there is room for %d", SA_MAX);
	else if (rc != 0)
		json_fault(faults, place, NULL, "out of memory for the SA");
	else if (sa_json_read(value, place, SA_JSON_WHOLE, &list->items[list->n], faults) == 0)
		list->n++;
}

/* {"sas":[...]}, or one SA. */
static void read_body(const cJSON *body, struct sa_list *list, struct faults *faults)
{
	const cJSON *sas = cJSON_GetObjectItemCaseSensitive(body, "sas"), *item;
	const struct json_place place = {.key = "sas"};
	struct json_place at = {.parent = &place};

	if (sas == NULL) {
		read_one(body, NULL, list, faults);
		return;
	}
	if (!cJSON_IsArray(sas))
		json_fault(faults, &place, NULL, "must be an array of SAs");
	if (cJSON_GetArraySize(body) != 1)
		json_fault(faults, NULL, NULL, "beside \"sas\" there must be nothing else");
	cJSON_ArrayForEach(item, sas)
	{
		if (cJSON_IsArray(sas))
			read_one(item, &at, list, faults);
		at.index++;
	}
}

static bool has_connection(const struct config *config, const char *name)
{
	for (unsigned i = 0; i < config->n_connections; i++)
		if (config->connections[i].type == CONNECTION_IPSEC &&
		    strcmp(config->connections[i].name, name) == 0)
			return true;
	return false;
}

/* An SA may come before its connection is configured: it is taken, and said. */
static void warn_of_names(const cJSON *body, const struct sa_list *list,
			  const struct config *config, struct faults *warnings)
{
	bool is_list = cJSON_HasObjectItem(body, "sas");
	char pointer[64];

	for (uint32_t i = 0; i < list->n; i++) {
		const char *name = list->items[i].connection;

		if (name[0] == '\0' || has_connection(config, name))
			continue;
		(void)snprintf(pointer, sizeof(pointer), "/sas/%u/connection", i);
		faults_add(warnings, is_list ? pointer : "/connection",
			   "There is no IPsec connection \"%s\": the SA belongs to none.", name);
	}
}

static void reply_refused(struct http_req *req, int rc, const struct error *err)
{
	if (rc == -EEXIST)
		http_reply_error(req, 400, BAD_BODY, err->text, "/sas", NULL);
	else if (rc == -E2BIG)
		http_reply_error(req, 409, "SaLimitReached", err->text, NULL, NULL);
	else
		http_reply_error(req, 503, "OutOfMemory", err->text, NULL, NULL);
}

static void add_all(struct http_req *req, struct captures *captures, const cJSON *body,
		    struct sa_list *list)
{
	struct sa_keeper *keeper = captures_sa_keeper(captures);
	struct faults warnings = {0};
	struct error err = {0};
	uint32_t n = list->n;
	cJSON *json;
	int rc;

	warn_of_names(body, list, captures_config(captures), &warnings);
	rc = sa_registry_put_all(sa_keeper_registry(keeper), SA_FROM_API, list, &err);
	if (rc != 0) {
		reply_refused(req, rc, &err);
	} else {
		sa_keeper_changed(keeper);
		json = cJSON_CreateObject();
		(void)cJSON_AddNumberToObject(json, "added", n);
		(void)cJSON_AddItemToObject(json, "warnings", faults_json(&warnings));
		http_reply_json(req, 201, json);
	}
	faults_fini(&warnings);
}

void api_post_sas(struct http_req *req, void *ctx)
{
	cJSON *body = http_body_json(req);
	struct sa_list list = {0};
	struct faults faults = {0};

	if (body == NULL)
		return;
	read_body(body, &list, &faults);
	if (json_fault_count(&faults) != 0)
		reply_faults(req, &faults);
	else
		add_all(req, ctx, body, &list);
	sa_list_fini(&list);
	faults_fini(&faults);
	sa_json_wipe(body);
	cJSON_Delete(body);
}

/* ---- Deleting ---- */

/* Which SAs: those of the API that are named. */
struct wanted {
	struct sa_item like;
	bool has_dst, has_src;
};

static bool same_address(const struct sa_address *a, const struct sa_address *b)
{
	bool is_any = memcmp(a->mask, b->mask, sizeof(a->mask)) == 0 && a->mask[0] == 0;

	// "*" has no family in JSON, and one in a file.
	return (a->family == b->family || is_any) &&
	       memcmp(a->value, b->value, sizeof(a->value)) == 0 &&
	       memcmp(a->mask, b->mask, sizeof(a->mask)) == 0;
}

static bool is_wanted(const struct wanted *w, const struct sa_item *item)
{
	const struct sa_record *a = &w->like.record, *b = &item->record;

	return a->spi == b->spi && a->spi_mask == b->spi_mask &&
	       (!w->has_dst || same_address(&a->dst, &b->dst)) &&
	       (!w->has_src || same_address(&a->src, &b->src));
}

/* How many were taken out; *elsewhere: where one is that is not ours to take. */
static unsigned delete_wanted(struct sa_registry *registry, const struct wanted *w,
			      const char **elsewhere)
{
	const struct sa_item *item;
	enum sa_origin origin = SA_FROM_API;
	unsigned n = 0;

	for (uint32_t i = 0; (item = sa_registry_at(registry, i, &origin)) != NULL;) {
		if (!is_wanted(w, item)) {
			i++;
		} else if (origin != SA_FROM_API) {
			*elsewhere = sa_origin_name(origin);
			i++;
		} else {
			(void)sa_registry_remove(registry, SA_FROM_API, item);
			n++;
			i = 0; // the last one may have taken its place, or one of before
		}
	}
	return n;
}

static void delete_and_reply(struct http_req *req, struct captures *captures,
			     const struct wanted *w)
{
	struct sa_keeper *keeper = captures_sa_keeper(captures);
	const char *elsewhere = NULL;
	unsigned n = delete_wanted(sa_keeper_registry(keeper), w, &elsewhere);
	struct error message;
	cJSON *json;

	if (n > 0) {
		sa_keeper_changed(keeper);
		json = cJSON_CreateObject();
		(void)cJSON_AddNumberToObject(json, "deleted", n);
		http_reply_json(req, 200, json);
		return;
	}
	if (elsewhere != NULL)
		error_set(&message,
			  "The SA with SPI 0x%08x comes from the %s and can only be taken out "
			  "there: what is deleted here was added here.",
			  w->like.record.spi, elsewhere);
	else
		error_set(&message,
			  "There is no SA with SPI 0x%08x%s: GET /gatecap/v1/sas lists them.",
			  w->like.record.spi, w->has_dst ? " and that destination" : "");
	http_reply_error(req, 404, "ResourceNotFound", message.text, NULL, NULL);
}

/* The name of an SA is read as one in JSON is.  dst and src may be NULL. */
static void delete_named(struct http_req *req, void *ctx, const char *spi, const char *dst,
			 const char *src)
{
	struct wanted w = {.has_dst = dst != NULL, .has_src = src != NULL};
	cJSON *name = cJSON_CreateObject();
	struct faults faults = {0};

	(void)cJSON_AddStringToObject(name, "spi", spi);
	(void)cJSON_AddStringToObject(name, "dst", dst != NULL ? dst : "*");
	(void)cJSON_AddStringToObject(name, "src", src != NULL ? src : "*");
	if (sa_json_read(name, NULL, SA_JSON_NAME, &w.like, &faults) != 0)
		http_reply_error(req, 400, BAD_BODY, "The SA's name cannot be read.",
				 faults.n > 0 ? faults.list[0].pointer : NULL,
				 http_details(&faults, BAD_BODY));
	else
		delete_and_reply(req, ctx, &w);
	faults_fini(&faults);
	cJSON_Delete(name);
}

void api_delete_sas(struct http_req *req, void *ctx)
{
	static const char *const known[] = {"spi", "dst", "src"};
	struct evkeyvalq query = {0};
	const char *values[3] = {NULL};
	bool is_known = evhttp_parse_query_str(http_query(req), &query) == 0;
	const struct evkeyval *pair;

	TAILQ_FOREACH(pair, &query, next)
	{
		unsigned i = 0;

		while (i < 3 && strcmp(pair->key, known[i]) != 0)
			i++;
		if (i == 3 || values[i] != NULL)
			is_known = false;
		else
			values[i] = pair->value;
	}
	if (!is_known || values[0] == NULL)
		http_reply_error(req, 400, BAD_BODY,
				 "The query must name one SA: ?spi=0xc0ffee01&dst=192.0.2.1, where "
				 "dst may be left out and src may be added.",
				 NULL, NULL);
	else
		delete_named(req, ctx, values[0], values[1], values[2]);
	evhttp_clear_headers(&query);
}

void api_delete_sa(struct http_req *req, void *ctx)
{
	delete_named(req, ctx, http_name(req, 0), http_name(req, 1), NULL);
}
