/* api_sas.h - the routes /gatecap/v1/sas of docs/http-api.md.
 *
 * Threads: the event loop.  ctx is a struct captures.
 * Secrets: a body with keys is wiped before its handler returns; no answer has a byte of one.
 */
#ifndef GATECAP_CONTROL_API_SAS_H
#define GATECAP_CONTROL_API_SAS_H

struct http_req;

void api_get_sas(struct http_req *req, void *ctx);
void api_post_sas(struct http_req *req, void *ctx);
void api_delete_sas(struct http_req *req, void *ctx); // ?spi=..&dst=..&src=..
void api_delete_sa(struct http_req *req, void *ctx);  // .../SPI/DST

#endif
