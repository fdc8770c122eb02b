/* captures.c - the list of captures, and who holds which scope. */
#include "control/captures.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "control/captures_internal.h"
#include "filters/log.h"

enum { TICK_MS = 5, SAVE_NS = 1000000000 };

void refusal_set(struct refusal *refusal, int status, const char *code, const char *fmt, ...)
{
	va_list args;

	refusal->status = status;
	refusal->code = code;
	va_start(args, fmt);
	(void)vsnprintf(refusal->message.text, sizeof(refusal->message.text), fmt, args);
	va_end(args);
}

void answer_ok(struct answer *answer, const struct capture *capture)
{
	struct answer once = *answer;

	*answer = (struct answer){0};
	if (once.done != NULL)
		once.done(once.ctx, capture, NULL);
}

void answer_refused(struct answer *answer, struct refusal *refusal)
{
	struct answer once = *answer;

	*answer = (struct answer){0};
	if (once.done != NULL)
		once.done(once.ctx, NULL, refusal);
	faults_fini(&refusal->details);
}

uint32_t captures_connection_index(const struct captures *m, const char *name)
{
	for (unsigned i = 0; i < m->config->n_connections; i++)
		if (strcmp(m->config->connections[i].name, name) == 0)
			return i;
	return UINT32_MAX;
}

static bool same_scope(const struct capture *c, const char *connection)
{
	if (c->connection == NULL || connection == NULL)
		return c->connection == NULL && connection == NULL;
	return strcmp(c->connection, connection) == 0;
}

struct capture *captures_holder(const struct captures *m, const char *connection)
{
	for (struct capture *c = m->list; c != NULL; c = c->next)
		if (same_scope(c, connection) && capture_holds_scope(c))
			return c;
	return NULL;
}

uint64_t captures_clock_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void remove_capture(struct captures *m, struct capture *capture)
{
	for (struct capture **at = &m->list; *at != NULL; at = &(*at)->next) {
		if (*at == capture) {
			*at = capture->next;
			captures_unlink(m, capture);
			capture_free(capture);
			return;
		}
	}
}

void captures_forget_finished(struct captures *m, const char *connection)
{
	struct capture *next;

	for (struct capture *c = m->list; c != NULL; c = next) {
		next = c->next;
		if (same_scope(c, connection) && !capture_holds_scope(c))
			remove_capture(m, c);
	}
}

struct capture *captures_find(struct captures *m, const char *connection, struct refusal *refusal)
{
	struct capture *c = captures_holder(m, connection);

	if (c != NULL)
		return c;
	for (c = m->list; c != NULL; c = c->next)
		if (same_scope(c, connection))
			return c;
	if (connection != NULL && captures_connection_index(m, connection) == UINT32_MAX)
		refusal_set(refusal, 404, "ResourceNotFound",
			    "There is no connection named %s on gateway %s.", connection,
			    m->config->gateway.name);
	else
		refusal_set(refusal, 404, "ResourceNotFound",
			    "There is no capture on %s%s: start one first.",
			    connection != NULL ? "connection " : "the gateway",
			    connection != NULL ? connection : "");
	return NULL;
}

/* Holds data that waits for somebody. */
static bool is_kept(const struct capture *c)
{
	return c->state == CAPTURE_UPLOAD_FAILED || c->state == CAPTURE_RECOVERED ||
	       (c->state == CAPTURE_UPLOADING && c->aim == AIM_DOWNLOAD && !c->is_streaming);
}

/* Data that nobody fetched is not kept for ever.  The clock may have been set back since the stop. */
static void drop_expired(struct captures *m)
{
	uint64_t keep_ns = (uint64_t)m->config->captures.retention_days * 86400 * 1000000000;
	uint64_t now_ns = wall_now_ns();
	struct capture *next;
	char scope[NAME_MAX_BYTES + 16];

	for (struct capture *c = m->list; c != NULL; c = next) {
		next = c->next;
		if (!is_kept(c) || c->is_probing || now_ns < c->stopped_ns + keep_ns)
			continue;
		log_warning(
			"The data of the capture on %s is deleted: it was not fetched for %u days.",
			capture_scope_text(c, scope), m->config->captures.retention_days);
		remove_capture(m, c);
	}
}

/* Said when it begins and when it is over. */
static void check_disks(const struct captures *m)
{
	char scope[NAME_MAX_BYTES + 16];

	for (struct capture *c = m->list; c != NULL; c = c->next) {
		int error = c->store != NULL && c->slot >= 0 ? store_disk_error(c->store) : 0;

		if ((error != 0) == (c->disk_error != 0))
			continue;
		c->disk_error = error;
		if (error != 0)
			log_error(
				"The disk refuses the data of the capture on %s: %s; it loses records until "
				"that works again.",
				capture_scope_text(c, scope), strerror(error));
		else
			log_info("The disk takes the data of the capture on %s again.",
				 capture_scope_text(c, scope));
	}
}

static void on_tick(evutil_socket_t fd, short what, void *ctx)
{
	struct captures *m = ctx;

	(void)fd;
	(void)what;
	captures_check_ends(m);
	captures_check_snapshots(m);
	check_disks(m);
	drop_expired(m);
	if (captures_clock_ns() >= m->save_due_ns) {
		captures_save_often(m);
		m->save_due_ns = captures_clock_ns() + SAVE_NS;
	}
	if (m->shutdown_done != NULL)
		captures_shutdown_step(m);
}

static void on_peers_changed(void *ctx)
{
	struct captures *m = ctx;

	log_info("The addresses of a peer have changed; the dataplane is told.");
	captures_want_set(m);
	sa_keeper_touch(m->sas);
}

static int open_uploader(struct captures *m, struct error *err)
{
	const struct upload_settings settings = {
		.ca_file = m->config->upload.ca_file,
		.proxy = m->config->upload.proxy,
		.block_bytes = m->config->upload.block_bytes,
		.tries_max = 6,
		.backoff_first_ms = 1000,
		.backoff_max_ms = 30000,
		.allow_http_loopback = m->config->upload.allow_http_loopback,
	};

	m->uploader = uploader_open(&settings, err);
	return m->uploader != NULL ? 0 : -ENOMEM;
}

struct captures *captures_open(struct event_base *base, struct config *config, struct error *err)
{
	struct captures *m = calloc(1, sizeof(*m));
	const struct timeval often = {.tv_usec = TICK_MS * 1000};

	if (m == NULL) {
		error_set(err, "gatecapd could not start: out of memory.");
		return NULL;
	}
	m->base = base;
	m->config = config;
	m->state_dir_fd = open(config->control.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (m->state_dir_fd < 0) {
		error_set(err, "The state folder %s cannot be opened: %s.",
			  config->control.state_dir, strerror(errno));
		goto failed;
	}
	if (flock(m->state_dir_fd, LOCK_EX | LOCK_NB) != 0) { // for as long as we live
		error_set(err, "The state folder %s is in use by another gatecapd: end that first.",
			  config->control.state_dir);
		goto failed;
	}
	m->resolver = resolver_open(base, config, on_peers_changed, m);
	m->sas = sa_keeper_open(base);
	m->tick = event_new(base, -1, EV_PERSIST, on_tick, m);
	if (m->resolver == NULL || m->sas == NULL || m->tick == NULL ||
	    event_add(m->tick, &often) != 0) {
		error_set(err, "gatecapd could not start: out of memory.");
		goto failed;
	}
	if (open_uploader(m, err) != 0 || captures_read_run(m, err) != 0)
		goto failed;
	captures_restore(m);
	sa_keeper_configure(m->sas, config, m->resolver);
	if (captures_connect(m, err) == 0)
		return m;
failed:
	captures_close(m);
	return NULL;
}

/* What goes on when gatecapd is started again stays in the state folder. */
static void leave_capture(struct captures *m, struct capture *c)
{
	struct refusal refusal = {0};

	(void)captures_refuse_at_end(m, &refusal);
	answer_refused(&c->stopping, &refusal);
	if (c->starting.done != NULL) { // it is told that nothing was started
		answer_refused(&c->starting, &refusal);
		remove_capture(m, c);
		return;
	}
	if (c->store != NULL) {
		store_keep(c->store);
		// Before a reboot that was planned.  What a power loss has left is only read.
		if (strcmp(c->run, m->run) == 0)
			(void)store_sync(c->store);
		(void)captures_save(m, c);
	}
	m->list = c->next;
	capture_free(c);
}

void captures_close(struct captures *m)
{
	if (m == NULL)
		return;
	m->is_closing = m->is_ending = true;
	uploader_close(m->uploader);
	dp_client_close(m->dp); // stops the merge threads through down()
	sa_keeper_close(m->sas);
	resolver_close(m->resolver);
	if (m->tick != NULL)
		event_free(m->tick);
	captures_drop_snapshots(m);
	while (m->list != NULL)
		leave_capture(m, m->list);
	if (m->state_dir_fd >= 0)
		(void)close(m->state_dir_fd);
	free(m);
}

const struct config *captures_config(const struct captures *m)
{
	return m->config;
}

struct sa_keeper *captures_sa_keeper(const struct captures *m)
{
	return m->sas;
}

int captures_reload(struct captures *m, struct config *config, struct error *err)
{
	for (struct capture *c = m->list; c != NULL; c = c->next) {
		bool found = c->connection == NULL || !capture_is_running(c);

		for (unsigned i = 0; !found && i < config->n_connections; i++)
			found = strcmp(config->connections[i].name, c->connection) == 0;
		if (!found) {
			error_set(err,
				  "Connection %s has a running capture and is missing from the new "
				  "configuration: the old one stays; stop the capture first.",
				  c->connection);
			return -EBUSY;
		}
	}
	struct resolver *resolver = resolver_open(m->base, config, on_peers_changed, m),
			*old_resolver = m->resolver;

	if (resolver == NULL) {
		error_set(err, "The new configuration was not taken: out of memory.");
		return -ENOMEM;
	}
	m->resolver = resolver;
	// What needs a restart keeps its old value: ports, dataplane, control, the kernel's SAs.
	for (unsigned i = 0; i < PORTS_MAX; i++)
		config->ports[i] = m->config->ports[i];
	config->n_ports = m->config->n_ports;
	config->control = m->config->control;
	memcpy(config->dataplane.socket, m->config->dataplane.socket,
	       sizeof(config->dataplane.socket));
	config->esp.kernel = m->config->esp.kernel;
	memcpy(config->esp.kernel_socket, m->config->esp.kernel_socket,
	       sizeof(config->esp.kernel_socket));
	sa_keeper_configure(m->sas, config, resolver);
	resolver_close(old_resolver);
	config_fini(m->config);
	free(m->config);
	m->config = config;
	captures_want_set(m);
	return 0;
}
