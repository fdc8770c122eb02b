/* fuzz_storage_answer.c - whatever a storage answers to an upload: a judgement and a sentence.
 *
 * libcurl is replaced by a few lines that hand the input's bytes to our own callbacks.
 * Input:  status (2), libcurl's result, seconds of Retry-After (2), options, then header lines up to an
 *         empty one, then the body, in pieces whose length is the first byte of each.
 * Checks: the sentence is printable and names what went wrong; neither it nor the storage's code has
 *         the beginning of the signature in it, however the answer repeats it.
 */
#include <errno.h>
#include <stdarg.h>

#include "control/upload_http.h"
#include "tests/fuzz_insist.h"

#undef curl_easy_setopt
#undef curl_easy_getinfo

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What may never be shown: as it is in the URL, and decoded. */
#define SIGNATURE "Zm%2BvYmFyYmF6cXV4%3D"
#define SECRET	  "Zm%2BvYm"
#define DECODED	  "Zm+vYmFy"

typedef size_t (*callback)(char *text, size_t size, size_t n, void *ctx);
typedef int (*seek)(void *ctx, curl_off_t offset, int origin);

static struct fake {
	callback header, body, give;
	seek rewind;
	long status;
	curl_off_t retry_after;
} fake;

CURL *curl_easy_init(void)
{
	return &fake;
}

void curl_easy_cleanup(CURL *easy)
{
	(void)easy;
}

void curl_easy_reset(CURL *easy)
{
	(void)easy;
}

CURLcode curl_easy_setopt(CURL *easy, CURLoption option, ...)
{
	va_list args;

	(void)easy;
	va_start(args, option);
	if (option == CURLOPT_HEADERFUNCTION)
		fake.header = va_arg(args, callback);
	else if (option == CURLOPT_WRITEFUNCTION)
		fake.body = va_arg(args, callback);
	else if (option == CURLOPT_READFUNCTION)
		fake.give = va_arg(args, callback);
	else if (option == CURLOPT_SEEKFUNCTION)
		fake.rewind = va_arg(args, seek);
	va_end(args);
	return CURLE_OK;
}

CURLcode curl_easy_getinfo(CURL *easy, CURLINFO info, ...)
{
	va_list args;

	(void)easy;
	va_start(args, info);
	if (info == CURLINFO_RESPONSE_CODE)
		*va_arg(args, long *) = fake.status;
	else if (info == CURLINFO_RETRY_AFTER)
		*va_arg(args, curl_off_t *) = fake.retry_after;
	va_end(args);
	return CURLE_OK;
}

CURLMcode curl_multi_add_handle(CURLM *multi, CURL *easy)
{
	(void)multi;
	(void)easy;
	return CURLM_OK;
}

/* ---- the answer ---- */

/* Header lines, each in memory of its own length. */
static void hand_headers(struct bytes *b, struct request *r)
{
	while (b->left > 0) {
		const uint8_t *end = memchr(b->at, '\n', b->left);
		const uint8_t *line;
		size_t n = bytes_take(b, end != NULL ? (size_t)(end - b->at) + 1 : b->left, &line);
		char *copy = malloc(n);

		insist(copy != NULL, "memory");
		memcpy(copy, line, n);
		insist(fake.header(copy, 1, n, r) == n, "a header is no reason to end");
		free(copy);
		if (n <= 1)
			return;
	}
}

static void hand_body(struct bytes *b, struct request *r)
{
	while (b->left > 0) {
		const uint8_t *piece;
		size_t n = bytes_take(b, bytes_u8(b) * 16u, &piece), taken;
		char *copy = malloc(n + 1);

		insist(copy != NULL, "memory");
		memcpy(copy, piece, n);
		taken = fake.body(copy, 1, n, r);
		free(copy);
		insist(taken == n || r->answer.too_long, "what is not taken is too long");
		if (taken != n)
			return;
	}
}

static void take_body(struct request *r, const char *body, size_t n)
{
	char out[64];

	insist(fake.give(out, 1, 5, r) == (n < 5 ? n : 5), "the body is given");
	insist(memcmp(out, body, n < 5 ? n : 5) == 0, "as it is");
	insist(fake.rewind(r, 0, SEEK_SET) == CURL_SEEKFUNC_OK, "and again");
	insist(fake.rewind(r, (curl_off_t)n + 1, SEEK_SET) == CURL_SEEKFUNC_FAIL, "within bounds");
	insist(fake.give(out, 1, sizeof(out), r) == n, "whole");
}

/* ---- what is made of it ---- */

static void check_text(const char *text, const char *what)
{
	for (const char *c = text; *c != '\0'; c++)
		insist(*c >= ' ' && *c <= '~', what);
	insist(strstr(text, SECRET) == NULL && strstr(text, DECODED) == NULL, "no secret is shown");
	insist(strcasestr(text, "sig=") == NULL, "nor what looks like one");
}

static void check_result(const struct request *r, CURLcode rc, const struct request_parts *parts,
			 unsigned n_tries)
{
	struct upload_result result = {0};
	enum verdict_of_request verdict = request_judge(r, rc);

	insist(verdict != REQUEST_DONE || (fake.status == 201 && rc == CURLE_OK), "done is 201");
	insist(request_retry_after_ms(r) <= 300000, "waits are bounded");
	request_explain(r, rc, parts, n_tries, &result);
	insist(strncmp(result.err.text, "Sending ", 8) == 0, "a sentence");
	check_text(result.err.text, "the sentence is printable");
	check_text(result.storage_code, "the code is printable");
	insist(result.http_status == (int)fake.status, "the status is told");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct upload_settings settings = {.stall_seconds = 30,
							.allow_http_loopback = true};
	struct sas sas = {.base = "https://account.blob.core.windows.net/captures",
			  .host = "account.blob.core.windows.net",
			  .query = "sv=2022-11-02&sr=c&sp=cw&sig=" SIGNATURE};
	static const char body[] = "a block of bytes";
	const struct request_parts parts = {.sas = &sas,
					    .blob_name = "gw/site a/1.pcap",
					    .extra = "comp=block",
					    .headers = {"Content-MD5: x"},
					    .body = (const uint8_t *)body,
					    .n_body = sizeof(body) - 1};
	struct bytes b = {data, size};
	struct request r;
	CURLcode rc;
	uint8_t options;

	fake.status = bytes_u16(&b) % 1000;
	rc = (CURLcode)(bytes_u8(&b) % CURL_LAST);
	fake.retry_after = (int16_t)bytes_u16(&b);
	options = bytes_u8(&b);
	insist(request_init(&r, &settings) == 0, "memory");
	insist(request_start(&r, &parts, NULL, NULL) == 0, "memory");
	take_body(&r, body, sizeof(body) - 1);
	if (options & 1) {
		const uint8_t *text;
		size_t n = bytes_take(&b, CURL_ERROR_SIZE - 1, &text);

		memcpy(r.curl_error, text, n);
		r.curl_error[n] = '\0';
	}
	if (options & 2)
		r.refused = ADDRESS_LOOPBACK;
	hand_headers(&b, &r);
	hand_body(&b, &r);
	check_result(&r, rc, &parts, options >> 4);
	request_fini(&r);
	return 0;
}
