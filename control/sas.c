/* sas.c - take a SAS URL apart, and let nothing through that would surprise the storage or us.
 *
 * Strict on purpose: what curl, a proxy and the storage could read differently (userinfo, dot
 * segments, encoded slashes, numeric hosts such as 0x7f.1) is refused rather than interpreted.
 * The query is never decoded and encoded again: that would change %2B in the signature.
 * Refused: libcurl's URL API, which normalises (and so hides) exactly the oddities looked for here.
 */
#include "control/sas.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "control/address.h"
#include "control/sas_query.h"
#include "control/secret.h"

enum {
	HOST_BYTES_MAX = 256,
	LABEL_CHARS_MAX = 63,
	CONTAINER_CHARS_MIN = 3,
	CONTAINER_CHARS_MAX = 63,
	HTTPS_PORT = 443,
	HTTP_PORT = 80,
};

#define COPY_AGAIN "copy the Blob SAS URL of the container again, in one piece"

/* The URL's pieces, pointing into it. */
struct pieces {
	bool http;
	const char *authority;
	size_t authority_len;
	const char *path; // begins with '/', or is empty
	size_t path_len;  // without trailing slashes
	const char *query;
	char host[HOST_BYTES_MAX]; // lower case; IPv6 in brackets
	unsigned port;
	bool literal;
	struct sockaddr_storage address; // when literal
	bool loopback_granted;		 // a loopback literal under allow_http_loopback
};

static int check_characters(const char *url, struct error *err)
{
	size_t len = strnlen(url, SAS_URL_BYTES_MAX + 1);

	if (len > SAS_URL_BYTES_MAX)
		return sas_refuse(err, "The SAS URL is longer than %d characters: " COPY_AGAIN,
				  SAS_URL_BYTES_MAX);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)url[i];

		if (c <= ' ' || c > '~')
			return sas_refuse(err, "The SAS URL has a %s at character %zu: " COPY_AGAIN,
					  c == ' '   ? "space"
					  : c < ' '  ? "line break or control character"
					  : c == 127 ? "control character"
						     : "character outside ASCII",
					  i + 1);
	}
	if (strchr(url, '#') != NULL)
		return sas_refuse(err,
				  "The SAS URL has a fragment (a # and what follows it), which "
				  "no SAS has: remove it, or " COPY_AGAIN);
	return 0;
}

static int split(const char *url, struct pieces *p, struct error *err)
{
	const char *rest;

	if (strncasecmp(url, "https://", 8) == 0)
		rest = url + 8;
	else if (strncasecmp(url, "http://", 7) == 0)
		rest = url + 7;
	else
		return sas_refuse(err, "The SAS URL does not start with https://: " COPY_AGAIN);
	p->http = rest == url + 7;
	p->authority = rest;
	p->authority_len = strcspn(rest, "/?");
	p->path = rest + p->authority_len;
	p->path_len = strcspn(p->path, "?");
	p->query = p->path + p->path_len;
	if (memchr(p->authority, '@', p->authority_len) != NULL)
		return sas_refuse(err,
				  "The SAS URL has a user name or password before its host (an "
				  "@), which no SAS has: " COPY_AGAIN);
	if (p->query[0] == '\0' || p->query[1] == '\0')
		return sas_refuse(err,
				  "The URL has no SAS token (nothing follows a ?): copy the Blob "
				  "SAS URL, not the container's plain URL");
	p->query++;
	while (p->path_len > 0 && p->path[p->path_len - 1] == '/')
		p->path_len--;
	return 0;
}

/* ------------------------------------------------------------------------------------- host -- */

static int port_parse(struct pieces *p, const char *text, size_t len, struct error *err)
{
	unsigned port = 0;

	for (size_t i = 0; i < len && port <= 65535; i++) {
		if (text[i] < '0' || text[i] > '9')
			port = 65536;
		else
			port = port * 10 + (unsigned)(text[i] - '0');
	}
	if (len == 0 || port == 0 || port > 65535)
		return sas_refuse(
			err, "The SAS URL's port is not a number from 1 to 65535: " COPY_AGAIN);
	p->port = port;
	return 0;
}

static int authority_parse(struct pieces *p, struct error *err)
{
	const char *text = p->authority;
	const char *end = text + p->authority_len;
	const char *host_end = text[0] == '[' ? memchr(text, ']', p->authority_len) : NULL;
	size_t len;

	if (text[0] == '[' && host_end == NULL)
		return sas_refuse(err, "The SAS URL's host is not readable: " COPY_AGAIN);
	if (host_end != NULL)
		host_end++;
	else
		host_end = memchr(text, ':', p->authority_len);
	if (host_end == NULL)
		host_end = end;
	len = (size_t)(host_end - text);
	if (len == 0)
		return sas_refuse(err, "The SAS URL has no host: " COPY_AGAIN);
	if (len >= HOST_BYTES_MAX)
		return sas_refuse(err, "The SAS URL's host name is too long: " COPY_AGAIN);
	for (size_t i = 0; i < len; i++)
		p->host[i] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] + 32 : text[i]);
	p->host[len] = '\0';
	p->port = p->http ? HTTP_PORT : HTTPS_PORT;
	if (host_end == end)
		return 0;
	if (*host_end != ':')
		return sas_refuse(err, "The SAS URL's host is not readable: " COPY_AGAIN);
	return port_parse(p, host_end + 1, (size_t)(end - host_end) - 1, err);
}

static bool host_name_valid(const char *host)
{
	while (*host != '\0') {
		size_t len = strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789-");

		if (len == 0 || len > LABEL_CHARS_MAX || host[0] == '-' || host[len - 1] == '-')
			return false;
		host += len;
		if (*host == '.' && host[1] != '\0')
			host++;
		else if (*host != '\0')
			return false;
	}
	return true;
}

/* A literal, or a name that nothing can mistake for one. */
static int host_parse(struct pieces *p, struct error *err)
{
	struct in_addr odd;

	if (strchr(p->host, ':') != NULL && p->host[0] != '[')
		return sas_refuse(err, "The SAS URL's host is not readable: " COPY_AGAIN);
	p->literal = address_parse(p->host, &p->address) &&
		     (p->host[0] == '[') == (p->address.ss_family == AF_INET6);
	if (p->literal)
		return 0;
	if (inet_aton(p->host, &odd) != 0)
		return sas_refuse(err,
				  "The SAS URL's host is an IP address in an unusual spelling: "
				  "use the storage account's host name, such as "
				  "account.blob.core.windows.net");
	if (!host_name_valid(p->host))
		return sas_refuse(err, "The SAS URL's host is not a valid host name: " COPY_AGAIN);
	return 0;
}

enum grant { NOT_ALLOWED, ALLOWED_BY_SUFFIX, ALLOWED_BY_NAME };

static enum grant allowed(const struct pieces *p, const struct sas_rules *rules)
{
	enum grant best = NOT_ALLOWED;
	size_t len = strlen(p->host);

	for (unsigned i = 0; i < rules->n_allowed_hosts; i++) {
		const char *entry = rules->allowed_hosts[i];
		size_t entry_len = strlen(entry);
		struct sockaddr_storage address;

		if (p->literal) {
			if (address_parse(entry, &address) && address_equal(&address, &p->address))
				return ALLOWED_BY_NAME;
		} else if (strcasecmp(entry, p->host) == 0) {
			return ALLOWED_BY_NAME;
		} else if (entry[0] == '.' && entry_len > 1 && len > entry_len &&
			   strcasecmp(p->host + len - entry_len, entry) == 0) {
			best = ALLOWED_BY_SUFFIX;
		}
	}
	return best;
}

static int check_host(struct pieces *p, const struct sas_rules *rules, struct error *err)
{
	enum grant grant = allowed(p, rules);
	enum address_class class = p->literal
					   ? address_classify((const struct sockaddr *)&p->address)
					   : ADDRESS_PUBLIC;

	p->loopback_granted = class == ADDRESS_LOOPBACK && rules->allow_http_loopback;
	if (p->http && !p->loopback_granted)
		return sas_refuse(err, "The SAS URL starts with http://, which would send the "
				       "capture and the token in the clear: use https://");
	if (p->loopback_granted)
		return 0;
	if (grant == NOT_ALLOWED && p->literal && class != ADDRESS_PUBLIC)
		return sas_refuse(
			err,
			"The SAS URL's host %s is %s, where captures are not sent: use the "
			"storage account's host name (such as account.blob.core.windows.net), "
			"or add this address to upload.allowed_hosts",
			p->host, address_class_name(class));
	if (grant == NOT_ALLOWED)
		return sas_refuse(
			err,
			"The SAS URL's host %s is not allowed by upload.allowed_hosts: use a "
			"container of Azure Blob Storage (account.blob.core.windows.net), or "
			"add the host to that setting",
			p->host);
	if (grant == ALLOWED_BY_SUFFIX && p->port != HTTPS_PORT)
		return sas_refuse(
			err,
			"The SAS URL's port %u is not the storage's port, 443: remove it, or "
			"add the host by its full name to upload.allowed_hosts",
			p->port);
	return 0;
}

/* ------------------------------------------------------------------------------------- path -- */

/* The emulators' hosts carry the account as the first segment, as the vendor's SDKs have it. */
static bool path_style(const struct pieces *p)
{
	return p->literal || strcmp(p->host, "localhost") == 0 ||
	       p->port != (p->http ? HTTP_PORT : HTTPS_PORT);
}

static bool dots_only(const char *text, size_t len)
{
	size_t n_dots = 0;

	for (size_t i = 0; i < len; n_dots++) {
		if (text[i] == '.')
			i++;
		else if (len - i >= 3 && strncasecmp(text + i, "%2e", 3) == 0)
			i += 3;
		else
			return false;
	}
	return n_dots == 1 || n_dots == 2;
}

static int check_segment(const char *text, size_t len, struct error *err)
{
	if (len == 0)
		return sas_refuse(err, "The SAS URL's path has an empty part (//): " COPY_AGAIN);
	if (dots_only(text, len))
		return sas_refuse(err, "The SAS URL's path has a part . or ..: " COPY_AGAIN);
	for (size_t i = 0; i < len; i++) {
		int byte = text[i] == '%' && len - i > 2 ? sas_percent_byte(text + i) : text[i];

		if (text[i] == '%' &&
		    (len - i < 3 || byte < ' ' || byte == 127 || byte == '/' || byte == '\\'))
			return sas_refuse(err, "The SAS URL's path has a %% that encodes nothing "
					       "a path may have: " COPY_AGAIN);
		if (strchr("\"<>\\^`{|}", text[i]) != NULL)
			return sas_refuse(err,
					  "The SAS URL's path has the character %c, which "
					  "cannot be there as it is: " COPY_AGAIN,
					  text[i]);
	}
	return 0;
}

static int check_container(const char *text, size_t len, struct error *err)
{
	int shown = len > CONTAINER_CHARS_MAX ? CONTAINER_CHARS_MAX : (int)len;
	bool valid = len >= CONTAINER_CHARS_MIN && len <= CONTAINER_CHARS_MAX;

	if (text[0] == '$' || (len > 2 && strncmp(text, "%24", 3) == 0))
		return sas_refuse(
			err,
			"The SAS URL names the container %.*s: containers that begin with $ "
			"belong to the storage service itself; create one for captures",
			shown, text);
	for (size_t i = 0; valid && i < len; i++) {
		bool hyphen = text[i] == '-';

		valid = hyphen || (text[i] >= 'a' && text[i] <= 'z') ||
			(text[i] >= '0' && text[i] <= '9');
		if (hyphen && (i == 0 || i == len - 1 || text[i - 1] == '-'))
			valid = false;
	}
	if (!valid)
		return sas_refuse(
			err,
			"The SAS URL names the container %.*s, which cannot be one (3 to 63 "
			"lower-case letters, digits and single hyphens): " COPY_AGAIN,
			shown, text);
	return 0;
}

static int check_account(const char *text, size_t len, struct error *err)
{
	for (size_t i = 0; i < len; i++) {
		if ((text[i] < 'a' || text[i] > 'z') && (text[i] < '0' || text[i] > '9') &&
		    text[i] != '-')
			return sas_refuse(
				err, "The SAS URL's first path part is not the name of a storage "
				     "account, as it must be on this host (lower-case letters, "
				     "digits, hyphens): " COPY_AGAIN);
	}
	return 0;
}

/* *has_subpath: something follows the container. */
static int check_path(const struct pieces *p, bool *has_subpath, struct error *err)
{
	unsigned container_at = path_style(p) ? 1 : 0, n = 0;
	const char *at = p->path, *end = p->path + p->path_len;

	while (at < end) {
		const char *text = at + 1; // behind the slash
		size_t len = 0;
		int rc;

		while (text + len < end && text[len] != '/')
			len++;
		rc = check_segment(text, len, err);
		if (rc == 0 && n < container_at)
			rc = check_account(text, len, err);
		if (rc == 0 && n == container_at)
			rc = check_container(text, len, err);
		if (rc != 0)
			return rc;
		at = text + len;
		n++;
	}
	if (n <= container_at)
		return sas_refuse(
			err,
			"The SAS URL names no container (its path is %s): it opens the whole "
			"account, or the account part was left out; copy the Blob SAS URL of "
			"a container, or put /CONTAINER before the ?",
			n == 0 ? "empty" : "the account alone");
	*has_subpath = n > container_at + 1;
	return 0;
}

/* ------------------------------------------------------------------------------------ public -- */

static int give(const struct pieces *p, time_t expires, struct sas *out, struct error *err)
{
	struct sas sas = {.expires = expires};

	if (asprintf(&sas.base, "%s://%.*s%.*s", p->http ? "http" : "https", (int)p->authority_len,
		     p->authority, (int)p->path_len, p->path) < 0)
		sas.base = NULL;
	sas.host = strdup(p->host);
	sas.query = secret_dup(p->query);
	if (sas.base == NULL || sas.host == NULL || sas.query == NULL) {
		sas_fini(&sas);
		error_set(err, "No memory is left to keep the SAS URL: try again");
		return -ENOMEM;
	}
	*out = sas;
	return 0;
}

int sas_parse(const char *url, const struct sas_rules *rules, struct sas *out, struct error *err,
	      struct faults *warnings)
{
	struct pieces p = {0};
	struct sas_query_context context = {.now = rules->now};
	time_t expires;
	int rc = check_characters(url, err);

	if (rc == 0)
		rc = split(url, &p, err);
	if (rc == 0)
		rc = authority_parse(&p, err);
	if (rc == 0)
		rc = host_parse(&p, err);
	if (rc == 0)
		rc = check_host(&p, rules, err);
	if (rc == 0)
		rc = check_path(&p, &context.has_subpath, err);
	context.plain_http = p.http;
	if (rc == 0)
		rc = sas_query_check(p.query, &context, &expires, err, warnings);
	return rc != 0 ? rc : give(&p, expires, out, err);
}

/* How much of the text behind scheme:// is plainly not secret. */
static size_t showable(const char *text)
{
	static const char *const encoded[] = {"%3f", "%26", "%3d", "%23"};
	size_t len = strcspn(text, "?#&=");

	if (memchr(text, '@', strcspn(text, "/")) != NULL)
		return 0; // a password, or a query without a path: nothing is sure
	for (size_t i = 0; i < sizeof(encoded) / sizeof(encoded[0]); i++) {
		const char *hit = strcasestr(text, encoded[i]);

		if (hit != NULL && (size_t)(hit - text) < len)
			len = (size_t)(hit - text);
	}
	return len;
}

static size_t scheme_length(const char *url)
{
	if (strncasecmp(url, "https://", 8) == 0)
		return 8;
	return strncasecmp(url, "http://", 7) == 0 ? 7 : 0;
}

char *sas_redacted(const char *url)
{
	size_t scheme = scheme_length(url);
	size_t len = scheme > 0 ? scheme + showable(url + scheme) : 0;
	const char *mark = url[len] == '?' ? "?" : "";
	char *out;

	if (len > SAS_URL_BYTES_MAX)
		len = SAS_URL_BYTES_MAX;
	if (asprintf(&out, "%.*s%s%s", (int)len, url, mark, url[len] != '\0' ? "<redacted>" : "") <
	    0)
		return NULL;
	for (char *c = out; *c != '\0'; c++) {
		if (*c < ' ' || *c > '~')
			*c = '_';
	}
	return out;
}

char *sas_blob_url(const struct sas *sas, const char *blob_name, const char *extra)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				    "0123456789-._~/";
	size_t size = strlen(sas->base) + 3 * strlen(blob_name) + strlen(sas->query) +
		      (extra != NULL ? strlen(extra) : 0) + 4;
	char *url = malloc(size);
	char *at = url;

	if (url == NULL)
		return NULL;
	at = stpcpy(at, sas->base);
	*at++ = '/';
	for (const char *c = blob_name; *c != '\0'; c++) {
		if (strchr(plain, *c) != NULL)
			*at++ = *c;
		else
			at += snprintf(at, 4, "%%%02X", (unsigned char)*c);
	}
	*at++ = '?';
	at = stpcpy(at, sas->query);
	if (extra != NULL) {
		*at++ = '&';
		(void)stpcpy(at, extra);
	}
	return url;
}

void sas_fini(struct sas *sas)
{
	secret_free(sas->query);
	free(sas->base);
	free(sas->host);
	*sas = (struct sas){0};
}
