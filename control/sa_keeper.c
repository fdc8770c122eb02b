/* sa_keeper.c - from the sources to the dataplane, one set after the other.
 *
 * A change is sent SEND_DELAY_MS after it came: a gateway that rekeys changes hundreds of SAs in a row.
 * The same timer waits for the second after a refusal.
 */
#include "control/sa_keeper.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "control/capture.h"
#include "control/esp_sa_file.h"
#include "control/file_watch.h"
#include "control/sa_keeper_internal.h"
#include "control/secret.h"
#include "filters/log.h"

enum { SEND_DELAY_MS = 20, RETRY_MS = 1000, KERNEL_WAIT_MS = 5000 };

static struct timeval ms(unsigned n)
{
	return (struct timeval){.tv_sec = n / 1000, .tv_usec = n % 1000 * 1000};
}

static void send_after(struct sa_keeper *k, unsigned delay_ms)
{
	const struct timeval delay = ms(delay_ms);

	if (!event_pending(k->send, EV_TIMEOUT, NULL))
		(void)event_add(k->send, &delay);
}

/* ---- The dataplane ---- */

static void out_of_memory(struct sa_keeper *k)
{
	log_error("The set of SAs could not be built: out of memory; trying again.");
	send_after(k, RETRY_MS);
}

static void send_set(struct sa_keeper *k)
{
	const struct resolved_peer *peers;
	unsigned n_peers;
	size_t bytes;
	void *set;
	int rc;

	if (k->dp == NULL || k->is_pending || !k->is_wanted || k->is_kernel_awaited ||
	    k->config == NULL)
		return;
	peers = resolver_peers(k->resolver, &n_peers);
	set = sa_registry_build(k->registry, k->config, peers, n_peers, k->generation + 1, &bytes);
	if (set == NULL) {
		out_of_memory(k);
		return;
	}
	k->generation++;
	k->is_in_force = false;
	k->is_pending = true;
	k->is_wanted = false;
	rc = dp_client_set_sas(k->dp, set, bytes, k->generation);
	secret_free(set);
	if (rc != 0) // the connection is closed: down() comes, and everything is told again
		log_error("The dataplane could not be told of SAs: %s.", strerror(-rc));
}

static void on_send(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	send_set(ctx);
}

void sa_keeper_changed(struct sa_keeper *k)
{
	if (!sa_registry_is_changed(k->registry))
		return;
	k->has_anything = k->is_wanted = true;
	send_after(k, SEND_DELAY_MS);
}

void sa_keeper_touch(struct sa_keeper *k)
{
	sa_registry_touch(k->registry);
	if (k->has_anything) // else the dataplane's may be more than ours
		sa_keeper_changed(k);
}

void sa_keeper_up(struct sa_keeper *k, struct dp_client *dp)
{
	uint64_t boot_id = dp_client_shared(dp)->boot_id;

	k->dp = dp;
	k->is_pending = false;
	// A set that was on its way when the connection ended may be in force or not.
	if (k->boot_id != boot_id || dp_client_sa_generation(dp) != k->generation ||
	    !k->is_in_force)
		k->is_wanted = k->has_anything;
	k->boot_id = boot_id;
	if (dp_client_sa_generation(dp) > k->generation)
		k->generation = dp_client_sa_generation(dp);
	if (k->is_wanted)
		send_after(k, 0);
}

void sa_keeper_down(struct sa_keeper *k)
{
	k->dp = NULL;
	k->is_pending = false;
}

void sa_keeper_applied(struct sa_keeper *k, uint64_t generation)
{
	if (generation != k->generation)
		return;
	k->is_pending = false;
	k->is_in_force = true;
	if (k->refused.text[0] != '\0')
		log_info("The dataplane takes the SAs again.");
	k->refused.text[0] = '\0';
	sa_registry_applied(k->registry);
	if (k->is_wanted)
		send_after(k, 0);
}

void sa_keeper_refused(struct sa_keeper *k, uint64_t generation, const char *why)
{
	if (generation != k->generation)
		return;
	k->is_pending = false;
	k->is_wanted = true;
	if (strcmp(k->refused.text, why) != 0)
		log_error("The dataplane refused the SAs, those from before stay in force: %s",
			  why);
	error_set(&k->refused, "%s", why);
	send_after(k, RETRY_MS);
}

/* ---- The file ---- */

/* A fault is said once; the file may be looked at again and again. */
static void file_failed(struct sa_keeper *k, int rc, struct error *err)
{
	const char *user = k->config->control.user, *group = k->config->control.group;
	struct error fault = *err;

	if (rc == -EACCES)
		error_set(
			&fault,
			"The file of SAs %s cannot be read by user %s, whom gatecapd runs as: let "
			"the file and the folders above it be read by that user or by group %s, "
			"and by nobody else.",
			k->path, user, group);
	if (strcmp(fault.text, k->file_fault.text) != 0)
		log_error("%s%s", fault.text,
			  k->loaded_ns != 0 ? " The keys from before stay in force." : "");
	k->file_fault = fault;
}

static void load_file(struct sa_keeper *k)
{
	struct sa_list list = {0};
	struct error err = {0};
	uint32_t n;
	int rc;

	if (k->watch == NULL)
		return;
	file_watch_note(k->watch); // before it is read: what happens meanwhile is a change
	rc = esp_sa_load(k->path, &list, &err);
	n = list.n;
	if (rc == 0)
		rc = sa_registry_replace(k->registry, SA_FROM_FILE, &list, &err);
	sa_list_fini(&list);
	if (rc != 0) {
		file_failed(k, rc, &err);
		return;
	}
	log_info("%s: %u SA%s read.", k->path, n, n == 1 ? " was" : "s were");
	k->file_fault.text[0] = '\0';
	k->loaded_ns = wall_now_ns();
	k->has_anything = true;
	sa_keeper_changed(k);
}

static void on_file_changed(void *ctx)
{
	load_file(ctx);
}

void sa_keeper_reload(struct sa_keeper *k)
{
	load_file(k);
}

static void forget_file(struct sa_keeper *k)
{
	struct sa_list none = {0};

	file_watch_close(k->watch);
	free(k->path);
	k->watch = NULL;
	k->path = NULL;
	k->loaded_ns = 0;
	k->file_fault.text[0] = '\0';
	(void)sa_registry_replace(k->registry, SA_FROM_FILE, &none, NULL);
	sa_keeper_changed(k);
}

/* Another file, or none, is configured. */
static void take_path(struct sa_keeper *k, const char *path)
{
	bool is_same = path != NULL && k->path != NULL && strcmp(path, k->path) == 0;

	if (is_same || (path == NULL && k->path == NULL))
		return;
	if (k->path != NULL)
		forget_file(k);
	if (path == NULL)
		return;
	k->path = strdup(path);
	k->watch = k->path != NULL
			   ? file_watch_open(k->base, path, FILE_WATCH_POLL_MS, on_file_changed, k)
			   : NULL;
	if (k->watch == NULL) {
		free(k->path);
		k->path = NULL;
		log_error("The file of SAs %s cannot be watched: out of memory.", path);
		return;
	}
	load_file(k);
}

/* ---- The kernel ---- */

static void on_kernel_late(evutil_socket_t fd, short what, void *ctx)
{
	struct sa_keeper *k = ctx;

	(void)fd;
	(void)what;
	if (k->is_kernel_awaited)
		log_warning("gatecap-xfrm has not told the kernel's SAs within %u s: those of "
			    "file and API go to the dataplane without them.",
			    KERNEL_WAIT_MS / 1000);
	k->is_kernel_awaited = false;
	send_set(k);
}

void sa_keeper_kernel_is_read(struct sa_keeper *k)
{
	k->is_kernel_awaited = false;
	k->has_anything = true;
	sa_keeper_changed(k);
}

void sa_keeper_set_kernel(struct sa_keeper *k, void (*status)(void *ctx, struct cJSON *to),
			  void *ctx)
{
	k->kernel_status = status;
	k->kernel_ctx = ctx;
}

/* ---- The whole ---- */

struct sa_registry *sa_keeper_registry(struct sa_keeper *k)
{
	return k->registry;
}

void sa_keeper_configure(struct sa_keeper *k, const struct config *config,
			 const struct resolver *resolver)
{
	bool is_first = k->config == NULL;
	const struct timeval late = ms(KERNEL_WAIT_MS);

	k->config = config;
	k->resolver = resolver;
	if (is_first && config->esp.kernel) {
		k->is_kernel_awaited = true;
		(void)event_add(k->kernel_late, &late);
	}
	take_path(k, config->esp.sa_file);
	sa_keeper_touch(k);
}

struct sa_keeper *sa_keeper_open(struct event_base *base)
{
	struct sa_keeper *k = calloc(1, sizeof(*k));

	if (k == NULL)
		return NULL;
	k->base = base;
	k->since_ns = wall_now_ns();
	k->registry = sa_registry_open();
	k->send = event_new(base, -1, 0, on_send, k);
	k->kernel_late = event_new(base, -1, 0, on_kernel_late, k);
	if (k->registry == NULL || k->send == NULL || k->kernel_late == NULL) {
		sa_keeper_close(k);
		return NULL;
	}
	return k;
}

void sa_keeper_close(struct sa_keeper *k)
{
	if (k == NULL)
		return;
	file_watch_close(k->watch);
	if (k->send != NULL)
		event_free(k->send);
	if (k->kernel_late != NULL)
		event_free(k->kernel_late);
	sa_registry_close(k->registry);
	free(k->path);
	free(k);
}
