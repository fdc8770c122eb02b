/* upload_job.c - read, hash, send, list; and again what deserves it.
 *
 * Several blocks are in flight because hashing and the storage's answer take as long as the wire: with
 * one, each waits for the other.  Reading and hashing go on in slices, so that five jobs and the
 * sockets share the thread.
 * The blob's own MD5 is kept along the way: a second pass over the capture would be a second read.
 */
#include "control/upload_job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "control/block_list.h"
#include "control/secret.h"

enum {
	SLICE_BYTES = 512 * 1024,
	MD5_BYTES = 16,
	HEADER_BYTES = 256,
	PROBE_TRIES_MAX = 3,
};

/* -------------------------------------------------------------------------------- life, end -- */

static bool copy_strings(struct upload_job *job, const struct sas *sas)
{
	bool ok = true;

	job->sas = (struct sas){.base = strdup(sas->base),
				.host = strdup(sas->host),
				.query = secret_dup(sas->query),
				.expires = sas->expires};
	for (unsigned i = 0; i < job->n_blobs; i++) {
		job->names[i] = strdup(job->blobs[i].name);
		job->types[i] = strdup(job->blobs[i].content_type);
		ok = ok && job->names[i] != NULL && job->types[i] != NULL;
	}
	return ok && job->sas.base != NULL && job->sas.host != NULL && job->sas.query != NULL;
}

static bool open_slot(struct upload_job *job, struct slot *slot)
{
	slot->job = job;
	return request_init(&slot->request, job->settings) == 0;
}

struct upload_job *job_open(const struct upload_settings *settings, const struct sas *sas,
			    const struct upload_blob *blobs, unsigned n_blobs)
{
	struct upload_job *job = calloc(1, sizeof(*job));
	bool ok;

	if (job == NULL)
		return NULL;
	job->settings = settings;
	job->n_blobs = n_blobs;
	memcpy(job->blobs, blobs, n_blobs * sizeof(*blobs));
	ok = copy_strings(job, sas) && open_slot(job, &job->list);
	for (unsigned i = 0; i < UPLOAD_BLOCKS_IN_FLIGHT; i++)
		ok = ok && open_slot(job, &job->slots[i]);
	job->blob_md5 = EVP_MD_CTX_new();
	job->block_md5 = EVP_MD_CTX_new();
	if (ok && job->blob_md5 != NULL && job->block_md5 != NULL)
		return job;
	job_close(job);
	return NULL;
}

static void close_slot(struct slot *slot)
{
	request_fini(&slot->request);
	free(slot->buf);
}

void job_close(struct upload_job *job)
{
	if (job == NULL)
		return;
	for (unsigned i = 0; i < UPLOAD_BLOCKS_IN_FLIGHT; i++)
		close_slot(&job->slots[i]);
	close_slot(&job->list);
	EVP_MD_CTX_free(job->blob_md5);
	EVP_MD_CTX_free(job->block_md5);
	sas_fini(&job->sas);
	for (unsigned i = 0; i < job->n_blobs; i++) {
		free(job->names[i]);
		free(job->types[i]);
	}
	free(job);
}

static void stop_slot(struct slot *slot, CURLM *multi)
{
	if (slot->state == SLOT_SENDING)
		(void)curl_multi_remove_handle(multi, slot->request.easy);
	slot->state = SLOT_IDLE;
}

static void end(struct upload_job *job, CURLM *multi)
{
	for (unsigned i = 0; i < UPLOAD_BLOCKS_IN_FLIGHT; i++)
		stop_slot(&job->slots[i], multi);
	stop_slot(&job->list, multi);
	job->over = true;
}

static void fail(struct upload_job *job, CURLM *multi, const char *why)
{
	error_set(&job->result.err, "Sending %.150s to %.150s failed: %s", job->names[job->blob],
		  job->sas.base, why);
	end(job, multi);
}

/* -------------------------------------------------------------------------------- filling -- */

static bool begin_blob(struct upload_job *job)
{
	const struct upload_blob *blob = &job->blobs[job->blob];

	job->n_given_out = 0;
	job->n_blocks = job->n_acked = 0;
	job->block_bytes =
		block_bytes_for(blob->n_bytes, job->settings->block_bytes, UPLOAD_BLOCKS_MAX);
	return getrandom(&job->nonce, sizeof(job->nonce), 0) == (ssize_t)sizeof(job->nonce) &&
	       EVP_DigestInit_ex(job->blob_md5, EVP_md5(), NULL) == 1;
}

/* Take on the next block of the blob. */
static bool begin_block(struct upload_job *job, struct slot *slot)
{
	uint64_t left = job->blobs[job->blob].n_bytes - job->n_given_out;

	slot->len = left < job->block_bytes ? left : job->block_bytes;
	slot->n_filled = 0;
	slot->n_tries = 0;
	if (slot->n_buf < slot->len) {
		free(slot->buf);
		slot->buf = malloc(slot->len);
		slot->n_buf = slot->buf != NULL ? slot->len : 0;
	}
	if (slot->buf == NULL || EVP_DigestInit_ex(job->block_md5, EVP_md5(), NULL) != 1)
		return false;
	slot->index = job->n_blocks++;
	job->n_given_out += slot->len;
	slot->state = SLOT_FILLING;
	return true;
}

static bool end_block(struct upload_job *job, struct slot *slot)
{
	uint8_t digest[MD5_BYTES];

	if (EVP_DigestFinal_ex(job->block_md5, digest, NULL) != 1)
		return false;
	(void)EVP_EncodeBlock((unsigned char *)slot->md5, digest, sizeof(digest));
	slot->state = SLOT_READY;
	return true;
}

/* Read and hash one slice. */
static void fill(struct upload_job *job, struct slot *slot, CURLM *multi)
{
	const struct upload_blob *blob = &job->blobs[job->blob];
	uint64_t left = slot->len - slot->n_filled;
	size_t n = left < SLICE_BYTES ? (size_t)left : SLICE_BYTES;
	uint8_t *at = slot->buf + slot->n_filled;
	int rc = blob->read(blob->ctx, at, n);
	char why[200];

	if (rc != 0) {
		(void)snprintf(why, sizeof(why), "its data cannot be read here (%s)",
			       strerror(-rc));
		fail(job, multi, why);
		return;
	}
	slot->n_filled += n;
	if (EVP_DigestUpdate(job->block_md5, at, n) != 1 ||
	    EVP_DigestUpdate(job->blob_md5, at, n) != 1 ||
	    (slot->n_filled == slot->len && !end_block(job, slot)))
		fail(job, multi, "OpenSSL gives no MD5 (is it in FIPS mode?)");
}

/* One block at a time is filled, so that the bytes are read in order. */
static struct slot *slot_to_fill(struct upload_job *job, CURLM *multi)
{
	struct slot *idle = NULL;

	for (unsigned i = 0; i < UPLOAD_BLOCKS_IN_FLIGHT; i++) {
		if (job->slots[i].state == SLOT_FILLING)
			return &job->slots[i];
		if (job->slots[i].state == SLOT_IDLE)
			idle = &job->slots[i];
	}
	if (idle == NULL || job->n_given_out == job->blobs[job->blob].n_bytes)
		return NULL;
	if (begin_block(job, idle))
		return idle;
	fail(job, multi, "no memory is left for a block: lower upload.block_bytes");
	return NULL;
}

/* -------------------------------------------------------------------------------- sending -- */

struct text {
	char s[HEADER_BYTES];
};

static void parts_of(const struct slot *slot, struct request_parts *parts, struct text *extra,
		     struct text *md5, struct text *type)
{
	const struct upload_job *job = slot->job;
	bool list = slot == &job->list;

	*parts = (struct request_parts){.sas = &job->sas,
					.blob_name = job->names[job->blob],
					.extra = extra->s,
					.body = slot->buf,
					.n_body = slot->len};
	if (list) {
		(void)snprintf(extra->s, sizeof(extra->s), "comp=blocklist");
		(void)snprintf(md5->s, sizeof(md5->s), "x-ms-blob-content-md5: %s", slot->md5);
		(void)snprintf(type->s, sizeof(type->s), "x-ms-blob-content-type: %s",
			       job->types[job->blob]);
		parts->headers[2] = "Content-Type: application/xml";
	} else {
		(void)snprintf(extra->s, sizeof(extra->s), "comp=block&blockid=%s",
			       block_id(job->nonce, slot->index).text);
		(void)snprintf(md5->s, sizeof(md5->s), "Content-MD5: %s", slot->md5);
		(void)snprintf(type->s, sizeof(type->s), "Content-Type: application/octet-stream");
	}
	parts->headers[0] = md5->s;
	parts->headers[1] = type->s;
}

static void send_slot(struct slot *slot, CURLM *multi)
{
	struct request_parts parts;
	struct text extra, md5, type;

	parts_of(slot, &parts, &extra, &md5, &type);
	slot->n_tries++;
	if (request_start(&slot->request, &parts, multi, slot) == 0)
		slot->state = SLOT_SENDING;
	else
		fail(slot->job, multi, "no memory is left for a request");
}

/* All blocks are there: name them. */
static bool begin_list(struct upload_job *job)
{
	struct slot *list = &job->list;
	uint8_t digest[MD5_BYTES];

	if (EVP_DigestFinal_ex(job->blob_md5, digest, NULL) != 1)
		return false;
	free(list->buf);
	list->buf = (uint8_t *)block_list_xml(job->nonce, job->n_blocks);
	if (list->buf == NULL)
		return false;
	list->len = strlen((const char *)list->buf);
	list->n_tries = 0;
	list->state = SLOT_READY;
	(void)EVP_EncodeBlock((unsigned char *)list->md5, digest, sizeof(digest));
	for (unsigned i = 0; i < sizeof(digest); i++)
		(void)snprintf(job->result.md5[job->blob] + 2 * i, 3, "%02x", digest[i]);
	return true;
}

/* Gives the ms until the slot wants to be looked at again. */
static uint64_t step_slot(struct slot *slot, CURLM *multi, uint64_t now_ms)
{
	if (slot->state == SLOT_WAITING && slot->not_before_ms > now_ms)
		return slot->not_before_ms - now_ms;
	if (slot->state == SLOT_WAITING || slot->state == SLOT_READY)
		send_slot(slot, multi);
	return UINT64_MAX;
}

static bool all_acked(const struct upload_job *job)
{
	return job->n_given_out == job->blobs[job->blob].n_bytes && job->n_acked == job->n_blocks;
}

/* Read ahead, or name the blocks once all are there. */
static bool step_blob(struct upload_job *job, CURLM *multi)
{
	struct slot *slot = slot_to_fill(job, multi);

	if (slot != NULL) {
		fill(job, slot, multi);
		return true;
	}
	if (job->over || job->list.state != SLOT_IDLE || !all_acked(job))
		return false;
	if (!begin_list(job))
		fail(job, multi, "no memory is left for the list of blocks");
	return true;
}

uint64_t job_step(struct upload_job *job, CURLM *multi, uint64_t now_ms)
{
	uint64_t wait = UINT64_MAX, w;

	if (job->over)
		return 0;
	if (atomic_load_explicit(&job->cancelled, memory_order_relaxed)) {
		fail(job, multi, "it was cancelled");
		return 0;
	}
	if (job->n_blocks == 0 && job->n_given_out == 0 && job->list.state == SLOT_IDLE &&
	    !begin_blob(job)) {
		fail(job, multi, "OpenSSL gives no MD5 (is it in FIPS mode?)");
		return 0;
	}
	for (unsigned i = 0; i < UPLOAD_BLOCKS_IN_FLIGHT && !job->over; i++) {
		w = step_slot(&job->slots[i], multi, now_ms);
		wait = w < wait ? w : wait;
	}
	if (!job->over) {
		w = step_slot(&job->list, multi, now_ms);
		wait = w < wait ? w : wait;
	}
	if (!job->over && step_blob(job, multi))
		return 0;
	return job->over ? 0 : wait;
}

/* -------------------------------------------------------------------------------- answers -- */

/* first * 2^(n-1), at most max, of which a random half is taken off: uploads that failed together
 * do not come back together.
 */
static uint64_t backoff_ms(const struct upload_settings *s, unsigned n_tries)
{
	uint64_t ms = s->backoff_first_ms;
	uint32_t random = 0;

	for (unsigned i = 1; i < n_tries && ms < s->backoff_max_ms; i++)
		ms *= 2;
	if (ms > s->backoff_max_ms)
		ms = s->backoff_max_ms;
	(void)getrandom(&random, sizeof(random), 0);
	return ms / 2 + random % (ms / 2 + 1);
}

/* Someone waits for a probe: a storage that is down is told of after seconds, not after half a minute. */
static unsigned tries_max(const struct upload_job *job)
{
	unsigned n = job->settings->tries_max;

	return job->probe && n > PROBE_TRIES_MAX ? PROBE_TRIES_MAX : n;
}

static void wait_and_retry(struct slot *slot, uint64_t now_ms)
{
	uint64_t asked = request_retry_after_ms(&slot->request);
	uint64_t ms = backoff_ms(slot->job->settings, slot->n_tries);

	slot->not_before_ms = now_ms + (asked > ms ? asked : ms);
	slot->state = SLOT_WAITING;
}

static void block_acked(struct slot *slot, CURLM *multi)
{
	struct upload_job *job = slot->job;

	job->n_acked++;
	atomic_fetch_add_explicit(&job->n_acked_bytes, slot->len, memory_order_relaxed);
	if (!job->probe)
		return;
	job->result.ok = true;
	job->result.http_status = 201;
	end(job, multi);
}

static void blob_committed(struct upload_job *job, CURLM *multi)
{
	job->n_given_out = 0;
	job->n_blocks = 0;
	if (++job->blob < job->n_blobs)
		return;
	job->result.ok = true;
	job->result.http_status = 201;
	end(job, multi);
}

static void give_up(struct slot *slot, CURLM *multi, CURLcode rc)
{
	struct request_parts parts;
	struct text extra, md5, type;

	parts_of(slot, &parts, &extra, &md5, &type);
	request_explain(&slot->request, rc, &parts, slot->n_tries, &slot->job->result);
	end(slot->job, multi);
}

void job_answer(struct slot *slot, CURLM *multi, CURLcode rc, uint64_t now_ms)
{
	struct upload_job *job = slot->job;
	enum verdict_of_request verdict = request_judge(&slot->request, rc);

	(void)curl_multi_remove_handle(multi, slot->request.easy);
	slot->state = SLOT_IDLE;
	if (verdict == REQUEST_DONE && slot == &job->list)
		blob_committed(job, multi);
	else if (verdict == REQUEST_DONE)
		block_acked(slot, multi);
	else if (verdict == REQUEST_RETRY && slot->n_tries < tries_max(job))
		wait_and_retry(slot, now_ms);
	else
		give_up(slot, multi, rc);
}
