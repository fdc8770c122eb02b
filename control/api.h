/* api.h - the routes of docs/http-api.md over captures.h.
 *
 * Threads: the event loop.
 */
#ifndef GATECAP_CONTROL_API_H
#define GATECAP_CONTROL_API_H

#include "control/http_route.h"

/* The table for http_server_open(); the handlers' ctx is a struct captures. */
const struct http_route *api_routes(unsigned *n);

#endif
