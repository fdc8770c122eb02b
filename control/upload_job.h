/* upload_job.h - one upload: its blobs, its blocks in flight, its end.
 *
 * Flow:    job_open() in any thread -> job_step(), job_answer() in the upload thread until
 *          job->over -> job_close()
 * Threads: `cancelled` and `n_acked_bytes` may be used by any; the rest is the upload thread's once
 *          the job has been handed over.
 * Memory:  job_open() copies the SAS and the names; job_close() wipes and frees.
 * States:  of a slot: idle -> filling (read, hashed) -> ready -> sending -> idle
 *                                                          ^-- waiting <--'  (retry)
 */
#ifndef GATECAP_CONTROL_UPLOAD_JOB_H
#define GATECAP_CONTROL_UPLOAD_JOB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <curl/curl.h>
#include <openssl/evp.h>

#include "control/sas.h"
#include "control/upload.h"
#include "control/upload_http.h"

enum { MD5_BASE64_CHARS = 24 };

enum slot_state { SLOT_IDLE, SLOT_FILLING, SLOT_READY, SLOT_SENDING, SLOT_WAITING };

struct upload_job;

/* One request that is being prepared, sent, or sent again. */
struct slot {
	struct upload_job *job;
	struct request request;
	enum slot_state state;
	uint8_t *buf;
	uint64_t n_buf;	   // allocated
	uint64_t len;	   // of this block
	uint64_t n_filled; // read and hashed so far
	uint32_t index;	   // of the block
	unsigned n_tries;
	uint64_t not_before_ms; // while waiting
	char md5[MD5_BASE64_CHARS + 1];
};

struct upload_job {
	struct upload_job *next;
	int id;
	bool over; // `result` is final, nothing is on the wire
	atomic_bool cancelled;
	_Atomic uint64_t n_acked_bytes;

	const struct upload_settings *settings;
	struct sas sas;
	struct upload_blob blobs[UPLOAD_BLOBS_MAX]; // names are our copies
	char *names[UPLOAD_BLOBS_MAX];
	char *types[UPLOAD_BLOBS_MAX];
	unsigned n_blobs;
	bool probe; // one block, no list
	void (*done)(void *ctx, const struct upload_result *result);
	void *ctx;

	unsigned blob;	      // the one under way
	uint64_t nonce;	      // of its block ids
	uint64_t block_bytes; // of its blocks
	uint64_t n_given_out; // its bytes that slots have taken on
	uint32_t n_blocks;    // slots taken on
	uint32_t n_acked;     // 201
	EVP_MD_CTX *blob_md5, *block_md5;
	struct slot slots[UPLOAD_BLOCKS_IN_FLIGHT];
	struct slot list; // Put Block List
	struct upload_result result;
};

/* Gives NULL when there is no memory. */
struct upload_job *job_open(const struct upload_settings *settings, const struct sas *sas,
			    const struct upload_blob *blobs, unsigned n_blobs);

/* Do what can be done now: start what is due, read and hash a slice.  Gives the ms after which there
 * is more to do by time alone: 0 at once, UINT64_MAX never (an answer will come).
 */
uint64_t job_step(struct upload_job *job, CURLM *multi, uint64_t now_ms);

/* The slot's transfer ended with rc; it is still on `multi`. */
void job_answer(struct slot *slot, CURLM *multi, CURLcode rc, uint64_t now_ms);

void job_close(struct upload_job *job);

#endif
