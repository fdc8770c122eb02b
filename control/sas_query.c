/* sas_query.c - the rules of a SAS token that can be known without asking the storage.
 *
 * The parameters are found by one pass that stores pointers, never copies: the query is a secret, and
 * what is not copied need not be wiped.  Only short values (letters, times) are decoded, to the stack.
 * The signature cannot be checked: only the storage has the key.  That its length looks cut is a
 * warning and not a refusal, so that an emulator with another scheme still works.
 */
#include "control/sas_query.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "filters/hex.h"

enum {
	VALUE_BYTES_MAX = 64,
	SIGNATURE_CHARS = 44, // base64 of an HMAC-SHA256
	SOON_SECONDS = 3600,
};

#define HOW_TO                                                                                   \
	"generate a SAS for the container with write permission (in the portal: the container, " \
	"Generate SAS, permissions Create and Write, then copy the Blob SAS URL)"

enum param_id { SV, SR, SS, SRT, SP, SE, ST, SI, SIG, SPR, SIP, SKE, N_PARAMS };

static const char *const param_names[N_PARAMS] = {
	"sv", "sr", "ss", "srt", "sp", "se", "st", "si", "sig", "spr", "sip", "ske",
};

/* They belong to one request; with them in the URL ours would be sent twice. */
static const char *const request_params[] = {
	"comp", "restype", "blockid", "snapshot", "versionid", "timeout",
};

struct param {
	const char *raw; // NULL: not given; not NUL-terminated
	size_t len;
};

struct token {
	struct param params[N_PARAMS];
	const struct sas_query_context *context;
};

int sas_refuse(struct error *err, const char *fmt, ...)
{
	va_list args;

	if (err != NULL) {
		va_start(args, fmt);
		(void)vsnprintf(err->text, sizeof(err->text), fmt, args);
		va_end(args);
	}
	return -EINVAL;
}

int sas_percent_byte(const char *percent)
{
	int high = hex_value(percent[1]);
	int low = high < 0 ? -1 : hex_value(percent[2]);

	return low < 0 ? -1 : high * 16 + low;
}

/* Decode into out[VALUE_BYTES_MAX].  False: not given, too long, or not well encoded. */
static bool value_get(const struct param *param, char *out)
{
	size_t n = 0;

	for (size_t i = 0; param->raw != NULL && i < param->len; i++) {
		int byte = (unsigned char)param->raw[i];

		if (byte == '%') {
			byte = i + 2 < param->len ? sas_percent_byte(param->raw + i) : -1;
			i += 2;
		}
		if (byte <= ' ' || byte > '~' || n == VALUE_BYTES_MAX - 1)
			return false;
		out[n++] = (char)byte;
	}
	out[n] = '\0';
	return n > 0;
}

/* A value of some letters may be shown; anything else may be a misplaced signature. */
static const char *letters_or(const char *value, const char *otherwise)
{
	size_t len = strlen(value);

	if (len == 0 || len > 12 || strspn(value, "abcdefghijklmnopqrstuvwxyz") != len)
		return otherwise;
	return value;
}

static bool name_is(const char *name, size_t len, const char *expected)
{
	return len == strlen(expected) && strncasecmp(name, expected, len) == 0;
}

static int take_param(struct token *token, const char *text, size_t len, struct error *err)
{
	const char *equals = memchr(text, '=', len);
	size_t name_len = equals != NULL ? (size_t)(equals - text) : len;

	for (size_t i = 0; i < sizeof(request_params) / sizeof(request_params[0]); i++) {
		if (name_is(text, name_len, request_params[i]))
			return sas_refuse(
				err,
				"The SAS URL has the query parameter %s, which belongs to "
				"one request and not to a SAS: remove it",
				request_params[i]);
	}
	for (unsigned i = 0; i < N_PARAMS; i++) {
		if (!name_is(text, name_len, param_names[i]))
			continue;
		if (token->params[i].raw != NULL)
			return sas_refuse(err,
					  "The SAS URL has the query parameter %s twice: copy the "
					  "URL again, in one piece",
					  param_names[i]);
		token->params[i].raw = equals != NULL ? equals + 1 : text + len;
		token->params[i].len = equals != NULL ? len - name_len - 1 : 0;
	}
	return 0;
}

static int split(struct token *token, const char *query, struct error *err)
{
	for (const char *c = strchr(query, '%'); c != NULL; c = strchr(c + 1, '%')) {
		if (sas_percent_byte(c) <= 0)
			return sas_refuse(
				err, "The SAS URL's query has a %% that encodes nothing: it was "
				     "cut or altered; copy the URL again, in one piece");
	}
	while (*query != '\0') {
		size_t len = strcspn(query, "&");
		int rc = take_param(token, query, len, err);

		if (rc != 0)
			return rc;
		query += len;
		query += *query == '&';
	}
	return 0;
}

/* ------------------------------------------------------------------------------------- times -- */

static bool digits(const char **at, unsigned n, int *out)
{
	*out = 0;
	for (unsigned i = 0; i < n; i++) {
		char c = *(*at)++;

		if (c < '0' || c > '9')
			return false;
		*out = *out * 10 + (c - '0');
	}
	return true;
}

/* "Z" or "+hh:mm" at the end; seconds east of UTC. */
static bool zone(const char *at, int *offset)
{
	int hours, minutes, sign = *at == '-' ? -1 : 1;

	*offset = 0;
	if (strcmp(at, "Z") == 0)
		return true;
	if (*at != '+' && *at != '-')
		return false;
	at++;
	if (!digits(&at, 2, &hours) || *at++ != ':' || !digits(&at, 2, &minutes) || *at != '\0')
		return false;
	*offset = sign * (hours * 3600 + minutes * 60);
	return hours <= 14 && minutes < 60;
}

/* hh:mm[:ss[.f...]] and the zone, after the T. */
static bool clock_time(const char *at, struct tm *tm, int *offset)
{
	if (!digits(&at, 2, &tm->tm_hour) || *at++ != ':' || !digits(&at, 2, &tm->tm_min))
		return false;
	if (*at == ':') {
		at++;
		if (!digits(&at, 2, &tm->tm_sec))
			return false;
		if (*at == '.')
			at += 1 + strspn(at + 1, "0123456789");
	}
	return tm->tm_hour < 24 && tm->tm_min < 60 && tm->tm_sec < 61 && zone(at, offset);
}

/* The forms of ISO 8601 that a SAS may use; a bare date is midnight UTC. */
static bool time_parse(const char *text, time_t *out)
{
	struct tm tm = {0};
	struct tm back;
	int offset = 0;
	const char *at = text;

	if (!digits(&at, 4, &tm.tm_year) || *at++ != '-' || !digits(&at, 2, &tm.tm_mon) ||
	    *at++ != '-' || !digits(&at, 2, &tm.tm_mday))
		return false;
	if (*at != '\0' && (*at != 'T' || !clock_time(at + 1, &tm, &offset)))
		return false;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	back = tm;
	*out = timegm(&back) - offset;
	if (*out <= 0)
		*out = 1;					       // 0 means "not given"
	return back.tm_mon == tm.tm_mon && back.tm_mday == tm.tm_mday; // no 31st of February
}

struct text {
	char s[40];
};

static struct text time_text(time_t t)
{
	struct text out;
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL ||
	    strftime(out.s, sizeof(out.s), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		(void)snprintf(out.s, sizeof(out.s), "%lld", (long long)t);
	return out;
}

static struct text span_text(time_t seconds)
{
	struct text out;

	if (seconds < 120)
		(void)snprintf(out.s, sizeof(out.s), "%lld s", (long long)seconds);
	else if (seconds < 2 * 3600)
		(void)snprintf(out.s, sizeof(out.s), "%lld minutes", (long long)seconds / 60);
	else if (seconds < 2 * 86400)
		(void)snprintf(out.s, sizeof(out.s), "%lld hours", (long long)seconds / 3600);
	else
		(void)snprintf(out.s, sizeof(out.s), "%lld days", (long long)seconds / 86400);
	return out;
}

/* *out = 0 when the parameter is not given. */
static int time_of(const struct token *token, enum param_id id, time_t *out, struct error *err)
{
	char value[VALUE_BYTES_MAX];

	*out = 0;
	if (token->params[id].raw == NULL)
		return 0;
	if (!value_get(&token->params[id], value) || !time_parse(value, out))
		return sas_refuse(
			err,
			"The SAS URL's %s is not a time (expected such as "
			"2026-01-31T18:00:00Z): copy the URL again, in one piece, or " HOW_TO,
			param_names[id]);
	return 0;
}

static int check_end(const struct token *token, enum param_id id, const char *what, time_t *end,
		     struct error *err)
{
	time_t now = token->context->now;
	int rc = time_of(token, id, end, err);

	if (rc != 0 || *end == 0 || *end > now)
		return rc;
	return sas_refuse(
		err,
		"The SAS URL's %s (%s=%s) expired %s ago by this machine's clock (%s): " HOW_TO
		", or set the clock if it is wrong",
		what, param_names[id], time_text(*end).s, span_text(now - *end).s,
		time_text(now).s);
}

static int check_times(const struct token *token, time_t *expires, struct error *err)
{
	time_t now = token->context->now, start, key_end;
	int rc = time_of(token, ST, &start, err);

	if (rc == 0 && start > now)
		return sas_refuse(
			err,
			"The SAS URL's start time (st=%s) is %s ahead of this machine's "
			"clock (%s): generate a SAS that starts 15 minutes in the past, or "
			"set the clock if it is slow",
			time_text(start).s, span_text(start - now).s, time_text(now).s);
	if (rc == 0)
		rc = check_end(token, SE, "token", expires, err);
	if (rc == 0)
		rc = check_end(token, SKE, "user delegation key", &key_end, err);
	if (rc == 0 && key_end != 0 && (*expires == 0 || key_end < *expires))
		*expires = key_end;
	return rc;
}

/* --------------------------------------------------------------------------- what it opens -- */

static int check_account_sas(const struct token *token, struct error *err)
{
	char value[VALUE_BYTES_MAX];

	if (!value_get(&token->params[SS], value) || strchr(value, 'b') == NULL)
		return sas_refuse(
			err, "The SAS URL is an account SAS that does not open the blob service "
			     "(ss has no b): " HOW_TO);
	if (!value_get(&token->params[SRT], value) || strchr(value, 'o') == NULL)
		return sas_refuse(
			err, "The SAS URL is an account SAS that does not open objects (srt has "
			     "no o): generate it with the allowed resource types Container and "
			     "Object, or " HOW_TO);
	return 0;
}

static int check_resource(const struct token *token, struct error *err)
{
	char value[VALUE_BYTES_MAX];

	if (token->params[SR].raw == NULL && token->params[SS].raw != NULL)
		return check_account_sas(token, err);
	if (token->params[SR].raw == NULL)
		return sas_refuse(
			err, "The SAS URL's query has neither sr nor ss, so it is not a SAS of "
			     "the blob service: copy the URL again, in one piece (in a shell put "
			     "it in quotes: an & ends it), or " HOW_TO);
	if (!value_get(&token->params[SR], value))
		return sas_refuse(err, "The SAS URL's sr is empty or not readable: " HOW_TO);
	if (strcmp(value, "c") == 0)
		return 0;
	if (strcmp(value, "d") == 0 && token->context->has_subpath)
		return 0;
	if (strcmp(value, "d") == 0)
		return sas_refuse(err,
				  "The SAS URL opens one directory (sr=d) but its path names none "
				  "below the container: copy the directory's own URL");
	if (value[0] == 'b')
		return sas_refuse(
			err,
			"The SAS URL opens a single blob (sr=%s), which cannot hold a PCAP "
			"file and its report: " HOW_TO,
			letters_or(value, "b"));
	return sas_refuse(err,
			  "The SAS URL opens something other than a container (sr=%s): " HOW_TO,
			  letters_or(value, "?"));
}

static int check_permissions(const struct token *token, struct error *err)
{
	char value[VALUE_BYTES_MAX];

	if (token->params[SP].raw == NULL && token->params[SI].raw != NULL)
		return 0;
	if (!value_get(&token->params[SP], value))
		return sas_refuse(
			err, "The SAS URL grants nothing (its sp is missing or empty): " HOW_TO);
	if (strchr(value, 'w') == NULL)
		return sas_refuse(err, "The SAS URL does not grant write (sp=%s has no w): " HOW_TO,
				  letters_or(value, "..."));
	return 0;
}

static int check_protocol(const struct token *token, struct error *err)
{
	char value[VALUE_BYTES_MAX];

	if (!token->context->plain_http || !value_get(&token->params[SPR], value) ||
	    strcmp(value, "https") != 0)
		return 0;
	return sas_refuse(err, "The SAS URL starts with http:// but its token is for https only "
			       "(spr=https): use https://");
}

static int check_presence(const struct token *token, struct error *err)
{
	if (token->params[SIG].len == 0)
		return sas_refuse(
			err, "The SAS URL has no signature (sig): copy the URL again, in one piece "
			     "(in a shell put it in quotes: an & ends it), or " HOW_TO);
	if (token->params[SE].raw == NULL && token->params[SI].raw == NULL)
		return sas_refuse(err, "The SAS URL has no expiry (se) and no stored access policy "
				       "(si): copy the URL again, in one piece, or " HOW_TO);
	return 0;
}

/* ------------------------------------------------------------------------- what may yet fail -- */

/* The length of the value without copying it: the signature stays where it is. */
static size_t decoded_length(const struct param *param)
{
	size_t n = param->len;

	for (size_t i = 0; i < param->len; i++) {
		if (param->raw[i] == '%')
			n -= n > 2 ? 2 : 0;
	}
	return n;
}

static void warn_of_signature(const struct param *sig, struct faults *warnings)
{
	if (memchr(sig->raw, '+', sig->len) != NULL)
		faults_add(warnings, "/sasUrl",
			   "its signature has a bare +, which the storage may read as a space: it "
			   "should be %%2B");
	if (decoded_length(sig) != SIGNATURE_CHARS)
		faults_add(warnings, "/sasUrl",
			   "its signature is not %d characters long as a signature is: the URL may "
			   "have been cut",
			   SIGNATURE_CHARS);
}

static void warn_of_expiry(time_t expires, time_t now, struct faults *warnings)
{
	if (expires == 0)
		faults_add(warnings, "/sasUrl",
			   "its expiry is in a stored access policy (si): the upload fails if that "
			   "ends before the file is sent");
	else if (expires - now < SOON_SECONDS)
		faults_add(warnings, "/sasUrl",
			   "it expires in %s (%s): the upload fails if it takes longer",
			   span_text(expires - now).s, time_text(expires).s);
}

static void warn(const struct token *token, time_t expires, struct faults *warnings)
{
	warn_of_signature(&token->params[SIG], warnings);
	warn_of_expiry(expires, token->context->now, warnings);
	if (token->params[SP].raw == NULL)
		faults_add(warnings, "/sasUrl",
			   "its permissions are in a stored access policy (si), which must grant "
			   "write; only the storage can say whether it does");
	if (token->params[SIP].raw != NULL)
		faults_add(warnings, "/sasUrl",
			   "it is bound to client addresses (sip): this gateway's public address "
			   "must be among them");
	if (token->params[SV].raw == NULL)
		faults_add(
			warnings, "/sasUrl",
			"it names no storage version (sv), as a SAS does: the URL may have been cut");
}

int sas_query_check(const char *query, const struct sas_query_context *context, time_t *expires,
		    struct error *err, struct faults *warnings)
{
	struct token token = {.context = context};
	time_t end = 0;
	int rc = split(&token, query, err);

	if (rc == 0)
		rc = check_presence(&token, err);
	if (rc == 0)
		rc = check_resource(&token, err);
	if (rc == 0)
		rc = check_permissions(&token, err);
	if (rc == 0)
		rc = check_times(&token, &end, err);
	if (rc == 0)
		rc = check_protocol(&token, err);
	if (rc != 0)
		return rc;
	if (warnings != NULL)
		warn(&token, end, warnings);
	*expires = end;
	return 0;
}
