/* http_route.h - which handler a request is for, and the names in its path.
 *
 * Flow:     http.c -> http_route_find() -> handler
 * Patterns: segments between '/', each a literal or "*", which takes any one non-empty segment.
 * Path:     as it came, still percent-encoded, without query or fragment.
 * Strict:   segments are decoded before they are compared; refused are broken escapes, %00, %2F,
 *           control characters, invalid UTF-8, "." and "..": a name may end up in a file name.
 * Threads:  any.  Memory: fills what the caller gives, keeps nothing.
 * Proof:    tests/test_http_route.c, tests/fuzz_http_route.c
 */
#ifndef GATECAP_CONTROL_HTTP_ROUTE_H
#define GATECAP_CONTROL_HTTP_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

enum {
	HTTP_NAMES_MAX = 6,	  // "*" in one pattern
	HTTP_SEGMENTS_MAX = 24,	  // of a path
	HTTP_SEGMENT_BYTES = 256, // decoded, NUL included
	HTTP_ALLOW_BYTES = 64,	  // "GET, POST, ..."
};

struct http_req;

struct http_route {
	const char *method;  // "GET"
	const char *pattern; // "/gatecap/v1/captures/connections/*/stop"
	void (*handler)(struct http_req *req, void *ctx);
};

enum http_match {
	HTTP_MATCH_ROUTE,     // out->index and out->names are set
	HTTP_MATCH_NOTHING,   // 404
	HTTP_MATCH_METHOD,    // 405, out->allow names the methods the path has
	HTTP_MATCH_MALFORMED, // 400, out->why is a phrase
};

struct http_match_out {
	unsigned index; // of the route
	unsigned n_names;
	char names[HTTP_NAMES_MAX][HTTP_SEGMENT_BYTES]; // what the "*" took, decoded
	char allow[HTTP_ALLOW_BYTES];
	const char *why;
};

/* Find the route of a request.  A route with more than HTTP_NAMES_MAX "*" never matches. */
enum http_match http_route_find(const struct http_route *routes, unsigned n_routes,
				const char *method, const char *path, struct http_match_out *out);

/* Decode the `len` bytes of one segment into out (HTTP_SEGMENT_BYTES).
 * Returns 0, or -EINVAL with a phrase in *why.
 */
int http_segment_decode(const char *text, size_t len, char *out, const char **why);

/* True if the bytes are UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF. */
bool http_text_is_utf8(const char *text, size_t len);

#endif
