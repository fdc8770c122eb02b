/* upload_cli.c - the real uploader behind a command line, for tests/test_upload.py.
 *
 * Reads the SAS URL from a file (never from argv), sends files, prints one JSON object:
 * {"parse":"ok"|SENTENCE,"warnings":[...],"redacted":URL,"results":[{...}]}.  Exit 0: all is well.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "control/sas.h"
#include "control/upload.h"

enum { JOBS_MAX = 8, HOSTS_MAX = 8, URL_TEXT_MAX = 16384 };

struct file {
	int fd;
	uint64_t fail_after; // bytes; reads beyond give EIO
	uint64_t n_read;
};

struct run {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned n_done;
	unsigned n_calls[JOBS_MAX];
	struct upload_result results[JOBS_MAX];
};

struct finish {
	struct run *run;
	unsigned job;
};

struct options {
	struct upload_settings settings;
	const char *url_file, *name;
	const char *paths[UPLOAD_BLOBS_MAX];
	unsigned n_paths;
	const char *hosts[HOSTS_MAX];
	unsigned n_hosts;
	unsigned n_jobs;
	uint64_t cancel_after, fail_after;
	bool probe, close_early;
};

static int read_file(void *ctx, void *buf, size_t len)
{
	struct file *f = ctx;
	size_t got = 0;

	if (f->n_read + len > f->fail_after)
		return -EIO;
	while (got < len) {
		ssize_t n = read(f->fd, (char *)buf + got, len - got);

		if (n <= 0)
			return n < 0 ? -errno : -ENODATA;
		got += (size_t)n;
	}
	f->n_read += len;
	return 0;
}

static void done(void *ctx, const struct upload_result *result)
{
	struct finish *f = ctx;

	(void)pthread_mutex_lock(&f->run->lock);
	f->run->results[f->job] = *result;
	f->run->n_calls[f->job]++;
	f->run->n_done++;
	(void)pthread_cond_signal(&f->run->changed);
	(void)pthread_mutex_unlock(&f->run->lock);
}

static int start(struct uploader *u, const struct options *o, const struct sas *sas,
		 struct finish *f, struct file *files)
{
	static const char *const types[] = {"application/vnd.tcpdump.pcap", "application/json"};
	struct upload_blob blobs[UPLOAD_BLOBS_MAX] = {0};
	char names[UPLOAD_BLOBS_MAX][256];

	for (unsigned i = 0; i < UPLOAD_BLOBS_MAX; i++)
		(void)snprintf(names[i], sizeof(names[i]), o->n_jobs > 1 ? "%s-%u%s" : "%s%.0u%s",
			       o->name, f->job, i == 0 ? "" : ".json");
	if (o->probe)
		return upload_probe(u, sas, names[0], done, f);
	for (unsigned i = 0; i < o->n_paths; i++) {
		struct stat st;

		files[i] = (struct file){.fd = open(o->paths[i], O_RDONLY | O_CLOEXEC),
					 .fail_after = o->fail_after};
		if (files[i].fd < 0 || fstat(files[i].fd, &st) != 0)
			return -errno;
		blobs[i] = (struct upload_blob){.name = names[i],
						.content_type = types[i],
						.n_bytes = (uint64_t)st.st_size,
						.read = read_file,
						.ctx = &files[i]};
	}
	return upload_start(u, sas, blobs, o->n_paths, done, f);
}

/* Wait for all; cancel job 1 once it has got far enough. */
static void wait_for(struct uploader *u, const struct options *o, struct run *run, const int *ids)
{
	(void)pthread_mutex_lock(&run->lock);
	while (run->n_done < o->n_jobs && !o->close_early) {
		struct timespec until;

		(void)clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += 2000000;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		(void)pthread_cond_timedwait(&run->changed, &run->lock, &until);
		if (o->cancel_after > 0 && upload_progress(u, ids[0]) >= o->cancel_after)
			upload_cancel(u, ids[0]);
	}
	(void)pthread_mutex_unlock(&run->lock);
}

static bool report(cJSON *out, const struct run *run, unsigned n_jobs)
{
	cJSON *list = cJSON_AddArrayToObject(out, "results");
	bool ok = true;

	for (unsigned i = 0; i < n_jobs; i++) {
		const struct upload_result *r = &run->results[i];
		cJSON *item = cJSON_CreateObject();

		(void)cJSON_AddBoolToObject(item, "ok", r->ok);
		(void)cJSON_AddNumberToObject(item, "done_calls", run->n_calls[i]);
		(void)cJSON_AddStringToObject(item, "error", r->err.text);
		(void)cJSON_AddStringToObject(item, "code", r->storage_code);
		(void)cJSON_AddNumberToObject(item, "status", r->http_status);
		(void)cJSON_AddStringToObject(item, "md5", r->md5[0]);
		(void)cJSON_AddStringToObject(item, "md5_report", r->md5[1]);
		(void)cJSON_AddItemToArray(list, item);
		ok = ok && r->ok;
	}
	return ok;
}

static double seconds(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool upload_all(const struct options *o, const struct sas *sas, cJSON *out)
{
	struct run run = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	struct finish finish[JOBS_MAX];
	struct file files[JOBS_MAX][UPLOAD_BLOBS_MAX] = {0};
	int ids[JOBS_MAX] = {0};
	struct error err = {0};
	double began = seconds();
	struct uploader *u = uploader_open(&o->settings, &err);

	if (u == NULL) {
		(void)cJSON_AddStringToObject(out, "open", err.text);
		return false;
	}
	for (unsigned i = 0; i < o->n_jobs; i++) {
		finish[i] = (struct finish){.run = &run, .job = i};
		ids[i] = start(u, o, sas, &finish[i], files[i]);
		if (ids[i] <= 0) {
			(void)fprintf(stderr, "upload_start: %s\n", strerror(-ids[i]));
			exit(2);
		}
	}
	wait_for(u, o, &run, ids);
	uploader_close(u);
	(void)cJSON_AddNumberToObject(out, "seconds", seconds() - began);
	return report(out, &run, o->n_jobs);
}

static void url_load(const char *path, char *url)
{
	FILE *in = fopen(path, "r");
	size_t n;

	if (in == NULL) {
		perror(path);
		exit(2);
	}
	n = fread(url, 1, URL_TEXT_MAX - 1, in);
	(void)fclose(in);
	url[n] = '\0';
	if (n > 0 && url[n - 1] == '\n')
		url[n - 1] = '\0';
}

static bool run(const struct options *o, cJSON *out)
{
	char url[URL_TEXT_MAX];
	struct sas_rules rules = {.allowed_hosts = o->hosts,
				  .n_allowed_hosts = o->n_hosts,
				  .allow_http_loopback = o->settings.allow_http_loopback,
				  .now = time(NULL)};
	struct sas sas = {0};
	struct error err = {0};
	struct faults warnings = {0};
	char *redacted;
	bool ok;

	url_load(o->url_file, url);
	redacted = sas_redacted(url);
	(void)cJSON_AddStringToObject(out, "redacted", redacted);
	free(redacted);
	ok = sas_parse(url, &rules, &sas, &err, &warnings) == 0;
	(void)cJSON_AddStringToObject(out, "parse", ok ? "ok" : err.text);
	for (unsigned i = 0; i < warnings.n; i++)
		(void)cJSON_AddStringToObject(out, "warning", warnings.list[i].text);
	ok = ok && upload_all(o, &sas, out);
	sas_fini(&sas);
	faults_fini(&warnings);
	return ok;
}

static const struct option longs[] = {
	{"url-file", 1, NULL, 'u'},
	{"name", 1, NULL, 'n'},
	{"file", 1, NULL, 'f'},
	{"ca-file", 1, NULL, 'c'},
	{"proxy", 1, NULL, 'p'},
	{"block-bytes", 1, NULL, 'b'},
	{"tries", 1, NULL, 't'},
	{"backoff-first-ms", 1, NULL, '1'},
	{"backoff-max-ms", 1, NULL, '2'},
	{"stall-seconds", 1, NULL, 's'},
	{"allow-http-loopback", 0, NULL, 'l'},
	{"allow-host", 1, NULL, 'h'},
	{"jobs", 1, NULL, 'j'},
	{"cancel-after", 1, NULL, 'x'},
	{"fail-after", 1, NULL, 'e'},
	{"probe", 0, NULL, 'P'},
	{"close-early", 0, NULL, 'C'},
	{0},
};

static void options_parse(int argc, char **argv, struct options *o)
{
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		unsigned number = optarg != NULL ? (unsigned)strtoul(optarg, NULL, 10) : 0;

		switch (c) {
		case 'u':
			o->url_file = optarg;
			break;
		case 'n':
			o->name = optarg;
			break;
		case 'f':
			if (o->n_paths < UPLOAD_BLOBS_MAX)
				o->paths[o->n_paths++] = optarg;
			break;
		case 'c':
			o->settings.ca_file = optarg;
			break;
		case 'p':
			o->settings.proxy = optarg;
			break;
		case 'b':
			o->settings.block_bytes = number;
			break;
		case 't':
			o->settings.tries_max = number;
			break;
		case '1':
			o->settings.backoff_first_ms = number;
			break;
		case '2':
			o->settings.backoff_max_ms = number;
			break;
		case 's':
			o->settings.stall_seconds = number;
			break;
		case 'l':
			o->settings.allow_http_loopback = true;
			break;
		case 'h':
			if (o->n_hosts < HOSTS_MAX)
				o->hosts[o->n_hosts++] = optarg;
			break;
		case 'j':
			o->n_jobs = number > JOBS_MAX ? JOBS_MAX : number;
			break;
		case 'x':
			o->cancel_after = number;
			break;
		case 'e':
			o->fail_after = number;
			break;
		case 'P':
			o->probe = true;
			break;
		case 'C':
			o->close_early = true;
			break;
		default:
			exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	struct options o = {.n_jobs = 1, .name = "blob", .fail_after = UINT64_MAX};
	cJSON *out = cJSON_CreateObject();
	char *text;
	bool ok;

	options_parse(argc, argv, &o);
	if (o.url_file == NULL || (o.n_paths == 0 && !o.probe)) {
		(void)fprintf(stderr,
			      "upload_cli --url-file F --file F [--file F] [--name N] ...\n");
		return 2;
	}
	ok = run(&o, out);
	text = cJSON_Print(out);
	(void)puts(text);
	cJSON_free(text);
	cJSON_Delete(out);
	return ok ? 0 : 1;
}
