/* captures_sas.c - is a SAS URL of any use?  Asked before a capture is started for it or stopped into it.
 *
 * The storage's answer comes in the upload thread; it is copied and posted to the event loop.
 */
#include <cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "control/captures_internal.h"
#include "control/loop_post.h"

struct probe {
	struct event_base *base;
	struct upload_result result;
	void (*done)(void *ctx, const struct upload_result *result);
	void *ctx;
};

/* The period of a sentence that may go on elsewhere. */
static const char *period(const char *text)
{
	size_t len = strlen(text);

	return len > 0 && text[len - 1] == '.' ? "" : ".";
}

void sentence_set(struct error *out, const char *text)
{
	error_set(out, "%s%s", text, period(text));
}

int captures_parse_sas(const struct captures *m, const char *url, struct sas *sas,
		       struct faults *warnings, struct refusal *refusal)
{
	const struct sas_rules rules = {
		.allowed_hosts = (const char *const *)m->config->upload.allowed_hosts,
		.n_allowed_hosts = m->config->upload.n_allowed_hosts,
		.allow_http_loopback = m->config->upload.allow_http_loopback,
		.now = time(NULL),
	};
	struct error err = {0};

	if (sas_parse(url, &rules, sas, &err, warnings) == 0)
		return 0;
	refusal_set(refusal, 400, "InvalidSasUrl", "%s%s", err.text, period(err.text));
	refusal->target = "/sas_url";
	return -EINVAL;
}

void refusal_from_storage(struct refusal *refusal, const struct upload_result *result)
{
	refusal_set(refusal, 502, "StorageUploadFailed", "%s%s", result->err.text,
		    period(result->err.text));
	if (result->storage_code[0] != '\0')
		faults_add(&refusal->details, "/sas_url", "%s (HTTP %d)", result->storage_code,
			   result->http_status);
}

static void in_loop(void *ctx)
{
	struct probe *probe = ctx;

	probe->done(probe->ctx, &probe->result);
	free(probe);
}

static void in_upload_thread(void *ctx, const struct upload_result *result)
{
	struct probe *probe = ctx;

	probe->result = *result;
	if (loop_post(probe->base, in_loop, probe) != 0)
		abort(); // a client would wait for ever: better to end and be restarted
}

int captures_probe(struct captures *m, const struct sas *sas, const char *blob_name,
		   void (*done)(void *ctx, const struct upload_result *result), void *ctx)
{
	struct probe *probe = calloc(1, sizeof(*probe));
	int rc;

	if (probe == NULL)
		return -ENOMEM;
	*probe = (struct probe){.base = m->base, .done = done, .ctx = ctx};
	rc = upload_probe(m->uploader, sas, blob_name, in_upload_thread, probe);
	if (rc < 0) {
		free(probe);
		return rc;
	}
	return 0;
}

struct check {
	void (*done)(void *ctx, const char *redacted, const struct faults *warnings,
		     const struct refusal *refusal);
	void *ctx;
	char *redacted;
	struct faults warnings;
};

static void check_ends(struct check *check, struct refusal *refusal)
{
	check->done(check->ctx, check->redacted, &check->warnings,
		    refusal->code != NULL ? refusal : NULL);
	faults_fini(&refusal->details);
	faults_fini(&check->warnings);
	free(check->redacted);
	free(check);
}

static void check_probed(void *ctx, const struct upload_result *result)
{
	struct refusal refusal = {0};

	if (!result->ok)
		refusal_from_storage(&refusal, result);
	check_ends(ctx, &refusal);
}

void captures_check_sas(struct captures *m, const char *sas_url,
			void (*done)(void *ctx, const char *redacted, const struct faults *warnings,
				     const struct refusal *refusal),
			void *ctx)
{
	struct check *check = calloc(1, sizeof(*check));
	struct refusal refusal = {0};
	struct sas sas;

	if (check == NULL) {
		refusal_set(&refusal, 503, "OutOfMemory", "gatecapd is out of memory: try again.");
		done(ctx, NULL, NULL, &refusal);
		return;
	}
	*check = (struct check){.done = done, .ctx = ctx, .redacted = sas_redacted(sas_url)};
	if (captures_parse_sas(m, sas_url, &sas, &check->warnings, &refusal) != 0) {
		check_ends(check, &refusal);
		return;
	}
	if (captures_probe(m, &sas, "gatecap-check", check_probed, check) != 0) {
		refusal_set(&refusal, 503, "OutOfMemory", "gatecapd is out of memory: try again.");
		check_ends(check, &refusal);
	}
	sas_fini(&sas);
}
