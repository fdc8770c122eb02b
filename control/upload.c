/* upload.c - one thread, one libcurl multi handle, a list of jobs.
 *
 * Why one thread: five uploads are five sockets that mostly wait, and hashing must not stall the API.
 * It sleeps in curl_multi_poll() until a socket, a retry or curl_multi_wakeup() calls it.
 * libcurl is given an allocator that wipes what it frees: it copies the URL, and the URL is a secret.
 */
#include "control/upload.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>
#include <openssl/crypto.h>

#include "control/secret.h"
#include "control/upload_job.h"

enum {
	IDLE_MS = 60000, // wakeups come at once; this only bounds a lost one
	BLOCK_BYTES_DEFAULT = 8 * 1024 * 1024,
	BLOCK_BYTES_MAX = 1024 * 1024 * 1024,
	TRIES_DEFAULT = 6,
	BACKOFF_FIRST_MS_DEFAULT = 1000,
	BACKOFF_MAX_MS_DEFAULT = 30000,
	STALL_SECONDS_DEFAULT = 30,
	PROBE_BYTES = 16,
};

struct uploader {
	struct upload_settings settings; // strings are our copies
	CURLM *multi;			 // the upload thread's, but for wakeups
	pthread_t thread;
	pthread_mutex_t lock;	     // the fields below
	struct upload_job *incoming; // newest first
	struct upload_job *active;   // links change under the lock, in the upload thread only
	int last_id;
	bool closing;
};

static CURLcode global_result;

static void global_init(void)
{
	global_result = curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc, wiping_free,
					     wiping_realloc, strdup, calloc);
}

/* ----------------------------------------------------------------------------------- thread -- */

static uint64_t now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Take over what is new.  Gives whether the uploader is closing. */
static bool take_in(struct uploader *u)
{
	bool closing;

	(void)pthread_mutex_lock(&u->lock);
	while (u->incoming != NULL) {
		struct upload_job *job = u->incoming;

		u->incoming = job->next;
		job->next = u->active;
		u->active = job;
	}
	closing = u->closing;
	(void)pthread_mutex_unlock(&u->lock);
	return closing;
}

/* Unlink first: after done() the caller may count on the id being gone. */
static void retire(struct uploader *u, struct upload_job **link)
{
	struct upload_job *job = *link;

	(void)pthread_mutex_lock(&u->lock);
	*link = job->next;
	(void)pthread_mutex_unlock(&u->lock);
	job->done(job->ctx, &job->result);
	job_close(job);
}

/* Gives the ms until some job wants to be looked at. */
static uint64_t step_all(struct uploader *u, bool closing)
{
	uint64_t wait = IDLE_MS;
	struct upload_job **link = &u->active;

	while (*link != NULL) {
		struct upload_job *job = *link;
		uint64_t w;

		if (closing)
			atomic_store_explicit(&job->cancelled, true, memory_order_relaxed);
		w = job_step(job, u->multi, now_ms());
		if (job->over) {
			retire(u, link);
			continue;
		}
		wait = w < wait ? w : wait;
		link = &job->next;
	}
	return wait;
}

/* Gives whether any transfer ended. */
static bool answer_all(struct uploader *u)
{
	bool any = false;
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(u->multi, &left)) != NULL) {
		struct slot *slot = NULL;
		CURLcode rc = msg->data.result;

		if (msg->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&slot);
		job_answer(slot, u->multi, rc, now_ms());
		any = true;
	}
	return any;
}

static void *upload_thread(void *ctx)
{
	struct uploader *u = ctx;

	for (;;) {
		bool closing = take_in(u);
		uint64_t wait = step_all(u, closing);
		int n_running;

		if (closing && u->active == NULL)
			return NULL;
		(void)curl_multi_perform(u->multi, &n_running);
		if (answer_all(u) || wait == 0)
			continue;
		(void)curl_multi_poll(u->multi, NULL, 0, (int)wait, NULL);
	}
}

/* Signals are the event loop's; SIGPIPE of a TLS write must not end the process. */
static int start_thread(struct uploader *u)
{
	sigset_t all, old;
	int rc;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&u->thread, NULL, upload_thread, u);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

/* ------------------------------------------------------------------------------ open, close -- */

static bool copy_settings(struct uploader *u, const struct upload_settings *from)
{
	struct upload_settings *s = &u->settings;

	*s = *from;
	s->ca_file = from->ca_file != NULL ? strdup(from->ca_file) : NULL;
	s->proxy = from->proxy != NULL && from->proxy[0] != '\0' ? strdup(from->proxy) : NULL;
	if (s->block_bytes == 0)
		s->block_bytes = BLOCK_BYTES_DEFAULT;
	if (s->tries_max == 0)
		s->tries_max = TRIES_DEFAULT;
	if (s->backoff_first_ms == 0)
		s->backoff_first_ms = BACKOFF_FIRST_MS_DEFAULT;
	if (s->backoff_max_ms == 0)
		s->backoff_max_ms = BACKOFF_MAX_MS_DEFAULT;
	if (s->stall_seconds == 0)
		s->stall_seconds = STALL_SECONDS_DEFAULT;
	return (from->ca_file == NULL) == (s->ca_file == NULL) &&
	       (s->proxy != NULL || from->proxy == NULL || from->proxy[0] == '\0');
}

static void free_parts(struct uploader *u)
{
	char *proxy = (char *)u->settings.proxy; // may hold a password

	if (proxy != NULL)
		OPENSSL_cleanse(proxy, strlen(proxy));
	free(proxy);
	free((char *)u->settings.ca_file);
	if (u->multi != NULL)
		(void)curl_multi_cleanup(u->multi);
	(void)pthread_mutex_destroy(&u->lock);
	free(u);
}

static bool settings_fine(const struct upload_settings *s, struct error *err)
{
	if (s->block_bytes > BLOCK_BYTES_MAX) {
		error_set(err, "upload.block_bytes is %llu: it may be %d at most",
			  (unsigned long long)s->block_bytes, BLOCK_BYTES_MAX);
		return false;
	}
	if (s->ca_file != NULL && access(s->ca_file, R_OK) != 0) {
		error_set(err,
			  "upload.ca_file %s cannot be read (%s): correct the path or its "
			  "permissions",
			  s->ca_file, strerror(errno));
		return false;
	}
	return true;
}

struct uploader *uploader_open(const struct upload_settings *settings, struct error *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct uploader *u;

	if (!settings_fine(settings, err))
		return NULL;
	(void)pthread_once(&once, global_init);
	u = calloc(1, sizeof(*u));
	if (u == NULL || global_result != CURLE_OK) {
		error_set(err, "The uploader cannot start: libcurl or memory is not available");
		free(u);
		return NULL;
	}
	(void)pthread_mutex_init(&u->lock, NULL);
	u->multi = curl_multi_init();
	if (copy_settings(u, settings) && u->multi != NULL && start_thread(u) == 0)
		return u;
	error_set(err, "The uploader cannot start: no memory or no thread is left");
	free_parts(u);
	return NULL;
}

void uploader_close(struct uploader *u)
{
	if (u == NULL)
		return;
	(void)pthread_mutex_lock(&u->lock);
	u->closing = true;
	(void)pthread_mutex_unlock(&u->lock);
	(void)curl_multi_wakeup(u->multi);
	(void)pthread_join(u->thread, NULL);
	assert(u->active == NULL && u->incoming == NULL);
	free_parts(u);
}

/* ------------------------------------------------------------------------------------- jobs -- */

static int hand_over(struct uploader *u, struct upload_job *job)
{
	int id;

	(void)pthread_mutex_lock(&u->lock);
	u->last_id = u->last_id == INT32_MAX ? 1 : u->last_id + 1;
	id = job->id = u->last_id;
	job->next = u->incoming;
	u->incoming = job;
	(void)pthread_mutex_unlock(&u->lock);
	(void)curl_multi_wakeup(u->multi);
	return id;
}

int upload_start(struct uploader *u, const struct sas *sas, const struct upload_blob *blobs,
		 unsigned n_blobs, void (*done)(void *ctx, const struct upload_result *result),
		 void *ctx)
{
	struct upload_job *job;

	if (n_blobs == 0 || n_blobs > UPLOAD_BLOBS_MAX)
		return -EINVAL;
	job = job_open(&u->settings, sas, blobs, n_blobs);
	if (job == NULL)
		return -ENOMEM;
	job->done = done;
	job->ctx = ctx;
	return hand_over(u, job);
}

static int read_probe(void *ctx, void *buf, size_t len)
{
	(void)ctx;
	memset(buf, 0, len);
	return 0;
}

int upload_probe(struct uploader *u, const struct sas *sas, const char *blob_name,
		 void (*done)(void *ctx, const struct upload_result *result), void *ctx)
{
	struct upload_blob blob = {.name = blob_name,
				   .content_type = "application/octet-stream",
				   .n_bytes = PROBE_BYTES,
				   .read = read_probe};
	struct upload_job *job = job_open(&u->settings, sas, &blob, 1);

	if (job == NULL)
		return -ENOMEM;
	job->probe = true;
	job->done = done;
	job->ctx = ctx;
	return hand_over(u, job);
}

/* Under the lock. */
static struct upload_job *find(struct uploader *u, int id)
{
	struct upload_job *lists[] = {u->incoming, u->active};

	for (unsigned i = 0; i < 2; i++) {
		for (struct upload_job *job = lists[i]; job != NULL; job = job->next) {
			if (job->id == id)
				return job;
		}
	}
	return NULL;
}

void upload_cancel(struct uploader *u, int id)
{
	struct upload_job *job;

	(void)pthread_mutex_lock(&u->lock);
	job = find(u, id);
	if (job != NULL)
		atomic_store_explicit(&job->cancelled, true, memory_order_relaxed);
	(void)pthread_mutex_unlock(&u->lock);
	(void)curl_multi_wakeup(u->multi);
}

uint64_t upload_progress(struct uploader *u, int id)
{
	struct upload_job *job;
	uint64_t n = 0;

	(void)pthread_mutex_lock(&u->lock);
	job = find(u, id);
	if (job != NULL)
		n = atomic_load_explicit(&job->n_acked_bytes, memory_order_relaxed);
	(void)pthread_mutex_unlock(&u->lock);
	return n;
}
