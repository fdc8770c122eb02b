/* gatecapd.c - the control daemon's main: arguments, configuration, event loop, signals.
 *
 * Only this file exits.  SIGTERM and SIGINT end it cleanly: what runs goes on when it is started again.
 * SIGHUP reads gateway, connections and keys again.
 */
#include <cjson/cJSON.h>
#include <event2/event.h>
#include <event2/thread.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/api.h"
#include "control/captures.h"
#include "control/check_config.h"
#include "control/config.h"
#include "control/http.h"
#include "filters/log.h"
#include "control/loop_post.h"
#include "control/privilege.h"
#include "control/sa_keeper.h"
#include "control/secret.h"
#include "control/syscalls.h"
#include "control/xfrm_source.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };
enum action { ACTION_RUN, ACTION_CHECK, ACTION_DATAPLANE_ARGS, ACTION_XFRM_ARGS, ACTION_DONE };

struct daemon {
	const char *config_path;
	struct event_base *base;
	struct captures *captures;
	struct http_server *http;
	struct xfrm_source *kernel; // NULL: esp.kernel is false
	bool is_ending;
};

static const char usage[] =
	"Usage: gatecapd --config FILE [--check-config | --print-dataplane-args | --print-xfrm-args]\n"
	"The control daemon of gatecap: captures, stores, uploads, the HTTP API on a unix socket.\n"
	"\n"
	"  --config FILE           the configuration (JSON), see docs/configuration.md\n"
	"  --check-config          check it, print the memory, cores and disk it will take, and end\n"
	"  --print-dataplane-args  print the arguments of gatecap-dataplane, one a line, and end\n"
	"  --print-xfrm-args       the same of gatecap-xfrm; none if esp.kernel is false\n"
	"  --help, --version\n"
	"\n"
	"Signals: SIGTERM ends cleanly, SIGHUP reads gateway, connections and SAs again.\n"
	"Example: gatecapd --config /etc/gatecap/gatecap.json --check-config\n";

static int parse_args(int argc, char **argv, const char **config, enum action *action)
{
	static const struct option longs[] = {
		{"config", required_argument, NULL, 'c'},
		{"check-config", no_argument, NULL, 'k'},
		{"print-dataplane-args", no_argument, NULL, 'a'},
		{"print-xfrm-args", no_argument, NULL, 'x'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'c':
			*config = optarg;
			break;
		case 'k':
			*action = ACTION_CHECK;
			break;
		case 'a':
			*action = ACTION_DATAPLANE_ARGS;
			break;
		case 'x':
			*action = ACTION_XFRM_ARGS;
			break;
		case 'h':
			(void)fputs(usage, stdout);
			*action = ACTION_DONE;
			return 0;
		case 'v':
			(void)puts("gatecapd " GATECAP_VERSION);
			*action = ACTION_DONE;
			return 0;
		default:
			(void)fputs("See gatecapd --help.\n", stderr);
			return EXIT_USAGE;
		}
	}
	if (*config == NULL || optind != argc) {
		(void)fputs("gatecapd needs --config FILE and nothing else; see gatecapd --help.\n",
			    stderr);
		return EXIT_USAGE;
	}
	return 0;
}

/* Gives (malloc) the configuration of the file, or NULL and every fault is in the log. */
static struct config *load(const char *path)
{
	struct config *config = calloc(1, sizeof(*config));
	struct faults faults = {0};

	if (config != NULL && config_load(path, config, &faults) != 0) {
		for (unsigned i = 0; i < faults.n; i++)
			log_error("%s: %s%s%s", path, faults.list[i].pointer,
				  *faults.list[i].pointer != '\0' ? ": " : "", faults.list[i].text);
		if (faults.n_omitted > 0)
			log_error("%s: and %u more faults.", path, faults.n_omitted);
		free(config);
		config = NULL;
	}
	faults_fini(&faults);
	if (config != NULL && config->n_ports == 0) {
		log_error("%s: /ports: none: a gateway needs a port at least, for example "
			  "{\"name\":\"wan\",\"source\":\"af_packet:eth0\",\"role\":\"outer\"}.",
			  path);
		config_fini(config);
		free(config);
		config = NULL;
	}
	return config;
}

static void shutdown_done(void *ctx)
{
	(void)event_base_loopbreak(((struct daemon *)ctx)->base);
}

static void on_term(evutil_socket_t signal, short what, void *ctx)
{
	struct daemon *d = ctx;

	(void)signal;
	(void)what;
	if (d->is_ending)
		return;
	d->is_ending = true;
	log_info("gatecapd ends; what runs goes on when it is started again.");
	captures_shutdown(d->captures, shutdown_done, d);
}

static void on_hup(evutil_socket_t signal, short what, void *ctx)
{
	struct daemon *d = ctx;
	struct config *config = load(d->config_path);
	struct error err = {0};

	(void)signal;
	(void)what;
	if (config == NULL) {
		log_error("The configuration in force stays.");
	} else if (captures_reload(d->captures, config, &err) != 0) {
		log_error("%s", err.text);
		config_fini(config);
		free(config);
	} else {
		log_info("The configuration was read again: %u connections.",
			 config->n_connections);
	}
	sa_keeper_reload(captures_sa_keeper(d->captures));
}

static int open_http(struct daemon *d, const struct config *config, struct error *err)
{
	struct http_settings settings = {.ctx = d->captures};

	settings.routes = api_routes(&settings.n_routes);
	d->http = http_server_open(d->base, &settings, err);
	if (d->http == NULL)
		return -1;
	return http_listen_unix(d->http, config->control.socket, config->control.group, err);
}

/* What gatecap-xfrm tells; nothing when it is not asked for. */
static int open_kernel(struct daemon *d, const struct config *config, struct error *err)
{
	if (!config->esp.kernel)
		return 0;
	d->kernel = xfrm_source_open(d->base, config->esp.kernel_socket,
				     captures_sa_keeper(d->captures), err);
	return d->kernel != NULL ? 0 : -1;
}

/* Serve until a signal ends it.  Takes the configuration. */
static int serve(struct daemon *d, struct config *config, struct error *err)
{
	struct event *term = NULL, *interrupt = NULL, *hup = NULL;
	int rc = -1;

	d->captures = captures_open(d->base, config, err);
	if (d->captures == NULL) {
		config_fini(config);
		free(config);
		return -1;
	}
	term = evsignal_new(d->base, SIGTERM, on_term, d);
	interrupt = evsignal_new(d->base, SIGINT, on_term, d);
	hup = evsignal_new(d->base, SIGHUP, on_hup, d);
	if (open_kernel(d, config, err) == 0 && open_http(d, config, err) == 0 &&
	    syscalls_limit(err) == 0) {
		if (term != NULL && interrupt != NULL && hup != NULL &&
		    event_add(term, NULL) == 0 && event_add(interrupt, NULL) == 0 &&
		    event_add(hup, NULL) == 0) {
			log_info("gatecapd %s serves gateway %s on %s.", GATECAP_VERSION,
				 config->gateway.name, config->control.socket);
			rc = event_base_dispatch(d->base) < 0 ? -1 : 0;
		} else {
			error_set(err, "gatecapd could not start: out of memory.");
		}
	}
	config = (struct config *)(uintptr_t)captures_config(d->captures);
	http_server_close(d->http);
	xfrm_source_close(d->kernel);
	captures_close(d->captures);
	config_fini(config);
	free(config);
	if (term != NULL)
		event_free(term);
	if (interrupt != NULL)
		event_free(interrupt);
	if (hup != NULL)
		event_free(hup);
	return rc;
}

/* A SAS URL comes as a body and as a JSON string: what these two free is wiped. */
static void wipe_what_libraries_free(void)
{
	cJSON_Hooks hooks = {.malloc_fn = malloc, .free_fn = wiping_free};

	cJSON_InitHooks(&hooks);
	event_set_mem_functions(malloc, wiping_realloc, wiping_free);
}

static int run(const char *path, struct config *config)
{
	struct daemon d = {.config_path = path};
	struct error err = {0};
	int rc = -1;

	if (privilege_drop(config, &err) == 0) {
		(void)evthread_use_pthreads();
		d.base = event_base_new();
		if (d.base != NULL) {
			rc = serve(&d, config, &err);
			if (loop_jobs() == 0) // else it goes with the process
				event_base_free(d.base);
		} else {
			error_set(&err, "gatecapd could not start: no event loop.");
		}
	}
	if (rc != 0)
		log_error("%s", err.text);
	else
		log_info("gatecapd has ended.");
	if (loop_jobs() == 0)
		libevent_global_shutdown();
	return rc == 0 ? 0 : EXIT_FAILED;
}

int main(int argc, char **argv)
{
	enum action action = ACTION_RUN;
	const char *path = NULL;
	struct config *config;
	struct error err = {0};
	uid_t uid;
	int rc = parse_args(argc, argv, &path, &action);

	log_open("gatecapd");
	wipe_what_libraries_free();
	if (rc != 0 || action == ACTION_DONE)
		return rc;
	config = load(path);
	if (config == NULL)
		return EXIT_FAILED;
	if (action == ACTION_RUN)
		return run(path, config);
	if (action == ACTION_CHECK) {
		check_config_print(stdout, config);
	} else if (privilege_uid(config, &uid, &err) == 0) {
		if (action == ACTION_DATAPLANE_ARGS)
			dataplane_args_print(stdout, config, uid);
		else if (config->esp.kernel)
			xfrm_args_print(stdout, config, uid);
	} else {
		log_error("%s", err.text);
		rc = EXIT_FAILED;
	}
	config_fini(config);
	free(config);
	return rc;
}
