/* xfrm_source.c - the joint between gatecap-xfrm's feed and the keeper of all SAs, and its words in the
 * status.
 *
 * A dump that brings nothing new changes the registry all the same; once a minute that is no matter.
 */
#include "control/xfrm_source.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <time.h>

#include "control/sa_keeper.h"
#include "control/xfrm_feed.h"

enum { TIME_TEXT = 32 };

struct xfrm_source {
	struct sa_keeper *keeper;
	struct xfrm_feed *feed;
};

static int replace(void *ctx, struct sa_list *list, struct error *err)
{
	struct sa_keeper *keeper = ((struct xfrm_source *)ctx)->keeper;
	int rc = sa_registry_replace(sa_keeper_registry(keeper), SA_FROM_KERNEL, list, err);

	sa_keeper_kernel_is_read(keeper); // refused, too: there is nothing more to wait for
	return rc;
}

static int put(void *ctx, const struct sa_item *item, struct error *err)
{
	struct sa_keeper *keeper = ((struct xfrm_source *)ctx)->keeper;
	int rc = sa_registry_put(sa_keeper_registry(keeper), SA_FROM_KERNEL, item, err);

	if (rc == 0)
		sa_keeper_changed(keeper);
	return rc;
}

static int drop(void *ctx, const struct sa_item *like)
{
	struct sa_keeper *keeper = ((struct xfrm_source *)ctx)->keeper;
	int rc = sa_registry_remove(sa_keeper_registry(keeper), SA_FROM_KERNEL, like);

	if (rc == 0)
		sa_keeper_changed(keeper);
	return rc;
}

static void add_status(void *ctx, struct cJSON *to)
{
	struct xfrm_feed_status s;
	char since[TIME_TEXT] = "";
	struct tm utc;
	time_t seconds;

	xfrm_feed_status(((struct xfrm_source *)ctx)->feed, &s);
	seconds = (time_t)s.since_s;
	if (gmtime_r(&seconds, &utc) != NULL)
		(void)strftime(since, sizeof(since), "%Y-%m-%dT%H:%M:%SZ", &utc);
	(void)cJSON_AddBoolToObject(to, "connected", s.is_connected);
	(void)cJSON_AddStringToObject(to, "since", since);
	(void)cJSON_AddBoolToObject(to, "complete", s.is_complete);
	(void)cJSON_AddNumberToObject(to, "keys_hidden", s.n_hidden);
	(void)cJSON_AddNumberToObject(to, "unsupported", s.n_unsupported);
	(void)cJSON_AddNumberToObject(to, "other_protocols", s.n_foreign);
	(void)cJSON_AddNumberToObject(to, "malformed", s.n_malformed);
}

struct xfrm_source *xfrm_source_open(struct event_base *base, const char *path,
				     struct sa_keeper *keeper, struct error *err)
{
	struct xfrm_source *source = calloc(1, sizeof(*source));
	const struct xfrm_sink sink = {source, replace, put, drop};

	if (source == NULL) {
		error_set(err, "Memory is short for the kernel's SAs.");
		return NULL;
	}
	source->keeper = keeper;
	source->feed = xfrm_feed_open(base, path, 0, &sink, err);
	if (source->feed == NULL) {
		free(source);
		return NULL;
	}
	sa_keeper_set_kernel(keeper, add_status, source);
	return source;
}

void xfrm_source_close(struct xfrm_source *source)
{
	if (source == NULL)
		return;
	sa_keeper_set_kernel(source->keeper, NULL, NULL);
	xfrm_feed_close(source->feed);
	free(source);
}
