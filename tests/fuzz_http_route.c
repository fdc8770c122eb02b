/* fuzz_http_route.c - libFuzzer on the route matcher and the percent decoder.
 *
 * Build:  CC=clang meson setup build-fuzz && ninja -C build-fuzz tests/fuzz_http_route
 * Input:  method, newline, path.
 * Checks beside the sanitizers: a name that a handler gets is what the contract says it is, and it
 * survives being encoded and decoded again.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/http_route.h"

static void handler(struct http_req *req, void *ctx)
{
	(void)req;
	(void)ctx;
}

static const struct http_route routes[] = {
	{"GET", "/gatecap/v1/captures", handler},
	{"POST", "/gatecap/v1/captures", handler},
	{"GET", "/gatecap/v1/captures/gateway", handler},
	{"POST", "/gatecap/v1/captures/gateway/stop", handler},
	{"GET", "/gatecap/v1/captures/connections/*", handler},
	{"POST", "/gatecap/v1/captures/connections/*/stop", handler},
	{"GET", "/*", handler},
	{"GET", "/*/*/*/*/*/*", handler},
	{"GET", "/*/*/*/*/*/*/*", handler}, // one name too many: must never match
};

static void insist(bool is_true)
{
	if (!is_true)
		abort();
}

static void check_name(const char *name)
{
	char encoded[3 * HTTP_SEGMENT_BYTES] = "", again[HTTP_SEGMENT_BYTES];
	const char *why;

	insist(*name != '\0' && strlen(name) < HTTP_SEGMENT_BYTES);
	insist(strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
	insist(http_text_is_utf8(name, strlen(name)));
	for (size_t i = 0; name[i] != '\0'; i++)
		(void)snprintf(encoded + 3 * i, 4, "%%%02X", (uint8_t)name[i]);
	insist(http_segment_decode(encoded, strlen(encoded), again, &why) == 0);
	insist(strcmp(name, again) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct http_match_out out;
	char *path;

	insist(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	path = strchr(text, '\n');
	if (path != NULL) {
		*path++ = '\0';
		switch (http_route_find(routes, sizeof(routes) / sizeof(routes[0]), text, path,
					&out)) {
		case HTTP_MATCH_ROUTE:
			insist(out.index < 8 && strcmp(routes[out.index].method, text) == 0);
			for (unsigned i = 0; i < out.n_names; i++)
				check_name(out.names[i]);
			break;
		case HTTP_MATCH_METHOD:
			insist(*out.allow != '\0');
			break;
		case HTTP_MATCH_MALFORMED:
			insist(*out.why != '\0');
			break;
		case HTTP_MATCH_NOTHING:
			break;
		}
	}
	free(text);
	return 0;
}
