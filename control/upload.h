/* upload.h - send a capture's files to a container SAS URL as block blobs.
 *
 * Flow:    upload_start() from the event loop -> one upload thread (libcurl multi, MD5) -> done()
 * Threads: one thread of its own serves all uploads.  done() is called in that thread; it must only
 *          hand the result over.  upload_start/upload_cancel/upload_progress: any thread.
 * Memory:  a job copies its strings (wiped at the end) and takes nothing; at most
 *          UPLOAD_BLOCKS_IN_FLIGHT buffers of block_bytes a job (fewer for a small blob): while some are
 *          on the wire the next one is read and hashed.
 * Wire:    Put Block with Content-MD5, Put Block List with <Latest>, x-ms-version, exact
 *          Content-Length, no Authorization, no redirects, TLS >= 1.2 verified, no proxy unless set.
 *          Retries: 500, 502, 503, 504, 408, 429, stalls and transport errors, exponential back-off
 *          with jitter, Retry-After honoured; never another 4xx.
 * Gate:    a name that resolves to a loopback, link-local or metadata address is not connected to
 *          (address.h), whatever sas_parse() could know.  With a proxy that is the proxy's duty.
 * Source:  docs/azure.md
 * Proof:   tests/peers (Azurite, fault proxy), tests/test_upload.py
 */
#ifndef GATECAP_CONTROL_UPLOAD_H
#define GATECAP_CONTROL_UPLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "control/sas.h"
#include "filters/error.h"

enum {
	UPLOAD_BLOBS_MAX = 2,	     // of one job: the PCAP and its report
	UPLOAD_BLOCKS_IN_FLIGHT = 3, // of one job; what memory it takes: above
	UPLOAD_BLOCKS_MAX = 50000, // of one blob, the storage's limit; blocks grow to stay below it
};

struct uploader;

/* 0 where a default is named takes it. */
struct upload_settings {
	const char *ca_file;	   // PEM, or NULL: the system's
	const char *proxy;	   // or NULL: none
	uint64_t block_bytes;	   // default 8 MiB, at most 1 GiB
	unsigned tries_max;	   // of one request, default 6
	unsigned backoff_first_ms; // doubled each time, default 1000
	unsigned backoff_max_ms;   // default 30000
	bool allow_http_loopback;
	unsigned stall_seconds; // a connection this long without progress is given up; default 30
};

/* One blob: its bytes are produced on demand, strictly in order, each byte once (the uploader keeps
 * the current block for retries).
 */
struct upload_blob {
	const char *name;	  // with '/' between segments
	const char *content_type; // application/vnd.tcpdump.pcap, application/json
	uint64_t n_bytes;	  // known beforehand; 0 is allowed
	/* Fill buf with exactly len bytes, the next ones.  0, or -errno: the upload fails with that.
	 * Called in the upload thread with at most 512 KiB at a time, so that jobs share it fairly.
	 */
	int (*read)(void *ctx, void *buf, size_t len);
	void *ctx;
};

struct upload_result {
	bool ok;
	struct error err;      // when not ok: sentence with the storage's own code and message
	char storage_code[64]; // x-ms-error-code, or ""
	int http_status;       // 0: no answer
	char md5[2][33];       // lower-case hex of each blob sent
};

/* Gives an uploader with its thread running, or NULL with a sentence. */
struct uploader *uploader_open(const struct upload_settings *settings, struct error *err);

/* Cancels what is under way (each done() still comes), joins the thread.  Not from within done(). */
void uploader_close(struct uploader *uploader);

/* Send up to two blobs one after another (PCAP, then report).  Copies the URL and names.
 * `done` is called exactly once, in the upload thread.  Gives an id > 0 or -errno (-EINVAL: no blob,
 * or more than UPLOAD_BLOBS_MAX; -ENOMEM), and then done() is not called.
 */
int upload_start(struct uploader *uploader, const struct sas *sas, const struct upload_blob *blobs,
		 unsigned n_blobs, void (*done)(void *ctx, const struct upload_result *result),
		 void *ctx);

void upload_cancel(struct uploader *uploader, int id); // done() comes with ok = false

/* Bytes the storage has acknowledged so far, of both blobs; 0 once the job is over. */
uint64_t upload_progress(struct uploader *uploader, int id);

/* The cheap probe: one Put Block (16 bytes) that is never committed.  Asynchronous as upload_start. */
int upload_probe(struct uploader *uploader, const struct sas *sas, const char *blob_name,
		 void (*done)(void *ctx, const struct upload_result *result), void *ctx);

#endif
