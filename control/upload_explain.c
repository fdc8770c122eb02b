/* upload_explain.c - why a request failed, in one sentence with the way out.
 *
 * The other side's words are quoted, since they are what its owner will search for, but never
 * trusted: bounded, made printable, and withheld when they repeat the signature.  The XML is searched,
 * not parsed: two elements of a bounded text need no parser that could be attacked.
 */
#include "control/upload_http.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>

#include "control/sas_query.h"

enum {
	QUOTE_BYTES = 300,
	SHOWN_NAME_CHARS = 150,
	SECRET_PROBE_CHARS = 8, // of the signature: fewer would hit by chance
	SKEW_SECONDS = 300,	// the storage itself tolerates about this much
};

struct hint {
	const char *code; // or NULL: by status
	long status;
	const char *text;
};

static const struct hint hints[] = {
	{"AuthorizationPermissionMismatch", 0,
	 "generate a SAS URL with write permission; for a user delegation SAS the user also needs the "
	 "role Storage Blob Data Contributor"},
	{"AuthorizationProtocolMismatch", 0, "use https://, as the SAS demands"},
	{"AuthorizationSourceIPMismatch", 0,
	 "the SAS is for other client addresses: generate one that admits this gateway's"},
	{"AuthorizationServiceMismatch", 0, "generate a SAS for the blob service"},
	{"AuthorizationResourceTypeMismatch", 0, "generate an account SAS for objects (srt=co)"},
	{"AuthorizationFailure", 0,
	 "the SAS is wrong, expired or for another container, or the storage's firewall does not admit "
	 "this gateway: generate a new SAS URL, and check the firewall"},
	{"ContainerNotFound", 0, "create the container, or copy the URL of one that exists"},
	{"ContainerBeingDeleted", 0, "use another container, or try again when it is gone"},
	{"AccountIsDisabled", 0, "enable the storage account, or use another"},
	{NULL, 403,
	 "the SAS may be expired, not yet valid, cut or altered, or its key replaced: generate a new "
	 "SAS URL for the container with write permission"},
	{NULL, 404, "check the container's name in the SAS URL"},
	{NULL, 409, "the blob or container is in a state that refuses it: use another container"},
	{NULL, 412, "the blob or container is leased or protected: use another container"},
};

static const char *hint_for(const char *code, long status)
{
	for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++) {
		if (hints[i].code != NULL ? strcmp(hints[i].code, code) == 0
					  : hints[i].status == status)
			return hints[i].text;
	}
	if (status == 429 || status >= 500)
		return "the storage is busy or out of order: try again later";
	return "check the SAS URL and the storage account's settings";
}

/* ------------------------------------------------------------------ words of the other side -- */

static void decode_entities(char *text)
{
	static const struct {
		const char *name;
		char c;
	} entities[] = {
		{"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}, {"&amp;", '&'}};
	char *out = text;

	while (*text != '\0') {
		size_t len = 1;
		char c = *text;

		for (size_t i = 0; c == '&' && i < sizeof(entities) / sizeof(entities[0]); i++) {
			len = strlen(entities[i].name);
			if (strncmp(text, entities[i].name, len) == 0) {
				c = entities[i].c;
				break;
			}
			len = 1;
		}
		*out++ = c;
		text += len;
	}
	*out = '\0';
}

/* White space to single blanks, the rest printable ASCII. */
static void tidy(char *text)
{
	char *out = text;

	for (const char *in = text; *in != '\0'; in++) {
		char c = *in;

		if (c == ' ' || c == '\n' || c == '\r' || c == '\t') {
			if (out != text && out[-1] != ' ')
				*out++ = ' ';
		} else {
			*out++ = c < ' ' || c > '~' ? '?' : c;
		}
	}
	while (out != text && out[-1] == ' ')
		out--;
	*out = '\0';
}

/* The text between <name> and </name> of the NUL-terminated answer, cut to fit; "" if there is none. */
static void element(const char *xml, const char *name, char *out, size_t size)
{
	char tag[32];
	const char *start, *end;

	out[0] = '\0';
	(void)snprintf(tag, sizeof(tag), "<%s>", name);
	start = strstr(xml, tag);
	if (start == NULL)
		return;
	start += strlen(tag);
	(void)snprintf(tag, sizeof(tag), "</%s>", name);
	end = strstr(start, tag);
	if (end == NULL)
		return;
	(void)snprintf(out, size, "%.*s", (int)(end - start), start);
	decode_entities(out);
	tidy(out);
}

/* The first bytes of the signature, percent-decoded or as they are. */
static void signature_start(const char *query, bool decode, char out[SECRET_PROBE_CHARS + 1])
{
	const char *sig = strstr(query, "sig=");
	size_t n = 0;

	for (sig = sig != NULL ? sig + 4 : "";
	     *sig != '\0' && *sig != '&' && n < SECRET_PROBE_CHARS; sig++) {
		int byte = *sig;

		if (decode && byte == '%' && sas_percent_byte(sig) > 0) {
			byte = sas_percent_byte(sig);
			sig += 2;
		}
		out[n++] = (char)byte;
	}
	out[n] = '\0';
}

/* Does `text` repeat the signature, in either form, or anything that looks like one? */
static bool repeats_secret(const char *text, const char *query)
{
	bool found = strcasestr(text, "sig=") != NULL || strcasestr(text, "sig%3d") != NULL;

	for (int decode = 0; decode < 2 && !found; decode++) {
		char start[SECRET_PROBE_CHARS + 1];

		signature_start(query, decode != 0, start);
		found = strlen(start) == SECRET_PROBE_CHARS && strstr(text, start) != NULL;
		OPENSSL_cleanse(start, sizeof(start));
	}
	return found;
}

static void withhold(char *text, size_t size, const char *query)
{
	if (repeats_secret(text, query))
		(void)snprintf(text, size, "its text repeats the SAS and is withheld");
}

/* ------------------------------------------------------------------------------- sentences -- */

struct words {
	char code[64];
	char message[QUOTE_BYTES];
	char request_id[64];
};

/* The storage appends "RequestId:... Time:..." to its message: keep the id, once. */
static void cut_request_id(struct words *w)
{
	char *at = strstr(w->message, "RequestId:");

	if (at == NULL)
		return;
	if (w->request_id[0] == '\0')
		(void)snprintf(w->request_id, sizeof(w->request_id), "%.*s",
			       (int)strcspn(at + 10, " "), at + 10);
	*at = '\0';
	tidy(w->message);
}

static void gather(const struct request *r, const struct sas *sas, struct words *w)
{
	const struct answer *a = &r->answer;

	a->text[a->n_text] = '\0';
	(void)snprintf(w->code, sizeof(w->code), "%s", a->code);
	(void)snprintf(w->request_id, sizeof(w->request_id), "%s", a->request_id);
	if (w->code[0] == '\0')
		element(a->text, "Code", w->code, sizeof(w->code));
	element(a->text, "Message", w->message, sizeof(w->message));
	cut_request_id(w);
	tidy(w->code);
	tidy(w->request_id);
	withhold(w->code, sizeof(w->code), sas->query);
	withhold(w->request_id, sizeof(w->request_id), sas->query);
	withhold(w->message, sizeof(w->message), sas->query);
}

static void skew_text(const struct answer *a, char *out, size_t size)
{
	time_t ahead = a->date - time(NULL);

	out[0] = '\0';
	if (a->date == -1 || (ahead <= SKEW_SECONDS && ahead >= -SKEW_SECONDS))
		return;
	(void)snprintf(
		out, size,
		"; this machine's clock is %lld minutes %s the storage's, which alone makes a "
		"SAS invalid: set the clock",
		(long long)(ahead < 0 ? -ahead : ahead) / 60, ahead < 0 ? "ahead of" : "behind");
}

static void explain_status(const struct request *r, long status, const struct words *w, char *out,
			   size_t size)
{
	char quote[QUOTE_BYTES + 100] = "";
	char skew[200] = "";

	if (status < 300) {
		(void)snprintf(
			out, size,
			"the server answered %ld where a blob storage answers 201: check the "
			"URL's host, and whether a proxy answers in its place",
			status);
		return;
	}
	if (status < 400) {
		(void)snprintf(
			out, size,
			"the server answered %ld, a redirect, which is not followed since it "
			"would carry the SAS elsewhere: check the URL's host",
			status);
		return;
	}
	if (w->message[0] != '\0' || w->request_id[0] != '\0')
		(void)snprintf(quote, sizeof(quote), " (%s%s%s%s)", w->message,
			       w->message[0] != '\0' && w->request_id[0] != '\0' ? " " : "",
			       w->request_id[0] != '\0' ? "RequestId:" : "", w->request_id);
	if (status == 403)
		skew_text(&r->answer, skew, sizeof(skew));
	(void)snprintf(out, size, "the storage answered %ld%s%s%s: %s%s", status,
		       w->code[0] != '\0' ? " " : "", w->code, quote, hint_for(w->code, status),
		       skew);
}

static void explain_transport(const struct request *r, CURLcode rc, const struct sas *sas,
			      char *out, size_t size)
{
	char detail[CURL_ERROR_SIZE];

	(void)snprintf(detail, sizeof(detail), "%s",
		       r->curl_error[0] != '\0' ? r->curl_error : curl_easy_strerror(rc));
	tidy(detail);
	withhold(detail, sizeof(detail), sas->query);
	if (r->refused != ADDRESS_PUBLIC)
		(void)snprintf(
			out, size,
			"the host's name resolves to %s, where captures are not sent: check the "
			"URL's host and the name service",
			address_class_name(r->refused));
	else if (r->answer.too_long)
		(void)snprintf(
			out, size,
			"the server sent an answer of more than %d bytes, as no blob storage "
			"does: check the URL's host",
			ANSWER_BYTES_MAX);
	else if (rc == CURLE_PEER_FAILED_VERIFICATION)
		(void)snprintf(
			out, size,
			"the server's certificate is not trusted (%s): check the URL's host, or "
			"set upload.ca_file to the certificate of its issuer",
			detail);
	else if (rc == CURLE_SSL_CACERT_BADFILE)
		(void)snprintf(out, size,
			       "the certificates to trust cannot be read (%s): check "
			       "upload.ca_file",
			       detail);
	else if (rc == CURLE_OPERATION_TIMEDOUT)
		(void)snprintf(out, size,
			       "the storage did not go on in time (%s): check the network and "
			       "upload.proxy",
			       detail);
	else
		(void)snprintf(
			out, size,
			"the connection failed (%s): check the network, the firewall, the name "
			"service and upload.proxy",
			detail);
}

void request_explain(const struct request *r, CURLcode rc, const struct request_parts *parts,
		     unsigned n_tries, struct upload_result *out)
{
	struct words words = {0};
	char cause[ERROR_TEXT_MAX] = "";
	char tries[32] = "";
	long status = 0;

	(void)curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
	gather(r, parts->sas, &words);
	/* A 201 whose answer was cut is a fault of the connection. */
	if (status >= 300 || (status > 0 && rc == CURLE_OK))
		explain_status(r, status, &words, cause, sizeof(cause));
	else
		explain_transport(r, rc, parts->sas, cause, sizeof(cause));
	if (n_tries > 1)
		(void)snprintf(tries, sizeof(tries), " after %u tries", n_tries);
	error_set(&out->err, "Sending %.*s to %.*s failed%s: %s", SHOWN_NAME_CHARS,
		  parts->blob_name, SHOWN_NAME_CHARS, parts->sas->base, tries, cause);
	(void)snprintf(out->storage_code, sizeof(out->storage_code), "%s", words.code);
	out->http_status = (int)status;
}
