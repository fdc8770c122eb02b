/* http_route.c - split, decode, compare.
 *
 * The path is cut at its raw '/' first and each segment decoded after that, so an encoded slash
 * can never make a segment more.  A linear walk over the table: some twenty routes, cold code.
 */
#include "control/http_route.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "filters/hex.h"

struct segments {
	unsigned n;
	char text[HTTP_SEGMENTS_MAX][HTTP_SEGMENT_BYTES];
};

/* How many bytes follow the lead byte, and the smallest code point that needs them; -1: no lead. */
static int utf8_tail(uint8_t lead, uint32_t *code, uint32_t *least)
{
	if (lead >= 0xC2 && lead <= 0xDF) {
		*code = lead & 0x1F;
		*least = 0x80;
		return 1;
	}
	if ((lead & 0xF0) == 0xE0) {
		*code = lead & 0x0F;
		*least = 0x800;
		return 2;
	}
	if (lead >= 0xF0 && lead <= 0xF4) {
		*code = lead & 0x07;
		*least = 0x10000;
		return 3;
	}
	return -1;
}

bool http_text_is_utf8(const char *text, size_t len)
{
	for (size_t i = 0; i < len;) {
		uint8_t lead = (uint8_t)text[i++];
		uint32_t code = 0, least = 0;
		int n_tail;

		if (lead < 0x80)
			continue;
		n_tail = utf8_tail(lead, &code, &least);
		if (n_tail < 0 || len - i < (size_t)n_tail)
			return false;
		for (int k = 0; k < n_tail; k++, i++) {
			if (((uint8_t)text[i] & 0xC0) != 0x80)
				return false;
			code = code << 6 | ((uint8_t)text[i] & 0x3F);
		}
		if (code < least || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
			return false;
	}
	return true;
}

static int refuse(const char **why, const char *phrase)
{
	*why = phrase;
	return -EINVAL;
}

int http_segment_decode(const char *text, size_t len, char *out, const char **why)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned c = (uint8_t)text[i];

		if (c == '%') {
			int high = len - i > 2 ? hex_value(text[i + 1]) : -1;
			int low = len - i > 2 ? hex_value(text[i + 2]) : -1;

			if (high < 0 || low < 0)
				return refuse(why, "a '%' is not followed by two hex digits");
			c = (unsigned)(high << 4 | low);
			i += 2;
			if (c == '/')
				return refuse(why, "a name contains an encoded '/'");
		}
		if (c < 0x20 || c == 0x7F)
			return refuse(why, "a name contains a control character");
		if (n == HTTP_SEGMENT_BYTES - 1)
			return refuse(why, "a name is longer than 255 bytes");
		out[n++] = (char)c;
	}
	out[n] = '\0';
	if (!http_text_is_utf8(out, n))
		return refuse(why, "a name is not UTF-8");
	if (strcmp(out, ".") == 0 || strcmp(out, "..") == 0)
		return refuse(why, "a name is \".\" or \"..\"");
	return 0;
}

static int segments_split(const char *path, struct segments *out, const char **why)
{
	out->n = 0;
	if (*path != '/')
		return refuse(why, "the path does not begin with '/'");
	while (*path == '/') {
		size_t len = strcspn(++path, "/");

		if (out->n == HTTP_SEGMENTS_MAX)
			return refuse(why, "the path has more than 24 segments");
		if (http_segment_decode(path, len, out->text[out->n], why) != 0)
			return -EINVAL;
		out->n++;
		path += len;
	}
	return 0;
}

/* True if the segments are what the pattern wants; the names go to `out`. */
static bool pattern_matches(const char *pattern, const struct segments *path,
			    struct http_match_out *out)
{
	unsigned i = 0;

	out->n_names = 0;
	for (; *pattern == '/'; i++) {
		size_t len = strcspn(++pattern, "/");
		const char *text = i < path->n ? path->text[i] : NULL;

		if (text == NULL)
			return false;
		if (len == 1 && *pattern == '*') {
			if (*text == '\0' || out->n_names == HTTP_NAMES_MAX)
				return false;
			memcpy(out->names[out->n_names++], text, strlen(text) + 1);
		} else if (strlen(text) != len || memcmp(text, pattern, len) != 0) {
			return false;
		}
		pattern += len;
	}
	return i == path->n;
}

/* Append a method to "GET, POST" unless it is there. */
static void allow_add(char *allow, const char *method)
{
	size_t used = strlen(allow);

	if (strstr(allow, method) == NULL)
		(void)snprintf(allow + used, HTTP_ALLOW_BYTES - used, "%s%s", used ? ", " : "",
			       method);
}

enum http_match http_route_find(const struct http_route *routes, unsigned n_routes,
				const char *method, const char *path, struct http_match_out *out)
{
	struct segments segments;

	out->allow[0] = '\0';
	out->why = "";
	out->n_names = 0;
	if (segments_split(path, &segments, &out->why) != 0)
		return HTTP_MATCH_MALFORMED;
	for (unsigned i = 0; i < n_routes; i++) {
		if (!pattern_matches(routes[i].pattern, &segments, out))
			continue;
		if (strcmp(routes[i].method, method) == 0) {
			out->index = i;
			return HTTP_MATCH_ROUTE;
		}
		allow_add(out->allow, routes[i].method);
	}
	out->n_names = 0;
	return out->allow[0] != '\0' ? HTTP_MATCH_METHOD : HTTP_MATCH_NOTHING;
}
