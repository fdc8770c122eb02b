/* upload_http.h - one request of an upload: how it is sent, what came back, what that means.
 *
 * Flow:    upload_job.c -> request_start() -> libcurl multi -> request_judge(), request_explain()
 * Threads: the upload thread only.
 * Memory:  a request owns its easy handle and headers; it borrows the body until it is done.
 * Secrets: the URL goes to libcurl only.  request_explain() withholds any text of the other side that
 *          repeats the signature.
 * Answer:  at most 64 KiB of it are read; its XML is not parsed but searched for two elements.
 * Proof:   tests/test_upload.py (fault proxy)
 */
#ifndef GATECAP_CONTROL_UPLOAD_HTTP_H
#define GATECAP_CONTROL_UPLOAD_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <curl/curl.h>

#include "control/address.h"
#include "control/sas.h"
#include "control/upload.h"

enum { ANSWER_BYTES_MAX = 64 * 1024, REQUEST_HEADERS_MAX = 4 };

struct answer {
	long status; // 0: none
	char code[64];
	char request_id[64];
	time_t date; // -1: not given
	char *text;
	size_t n_text;
	bool too_long;
};

struct request {
	CURL *easy;
	struct curl_slist *headers;
	const struct upload_settings *settings;
	const uint8_t *body;
	size_t n_body, n_taken;
	struct answer answer;
	bool any_address;	    // the host is a literal that sas_parse() let through
	enum address_class refused; // ADDRESS_PUBLIC: nothing was refused
	char curl_error[CURL_ERROR_SIZE];
};

struct request_parts {
	const struct sas *sas;
	const char *blob_name;
	const char *extra;			  // comp=...
	const char *headers[REQUEST_HEADERS_MAX]; // whole lines, NULL where unused
	const uint8_t *body;
	size_t n_body;
};

enum verdict_of_request { REQUEST_DONE, REQUEST_RETRY, REQUEST_FAILED };

/* Gives 0 or -ENOMEM.  A request may be started again once it is off the multi handle. */
int request_init(struct request *r, const struct upload_settings *settings);
void request_fini(struct request *r);

/* Fill the easy handle and hand it to `multi`.  `owner` comes back as CURLINFO_PRIVATE. */
int request_start(struct request *r, const struct request_parts *parts, CURLM *multi, void *owner);

enum verdict_of_request request_judge(const struct request *r, CURLcode rc);

/* What Retry-After asks for, in ms; 0: nothing. */
uint64_t request_retry_after_ms(const struct request *r);

/* Write the sentence, the storage's code and the status into *out. */
void request_explain(const struct request *r, CURLcode rc, const struct request_parts *parts,
		     unsigned n_tries, struct upload_result *out);

#endif
