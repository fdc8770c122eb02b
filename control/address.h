/* address.h - what kind of place an IP address is, for those that must not be led to the wrong one.
 *
 * Why:     a SAS URL is chosen by whoever stops a capture.  Neither a literal address nor a name that
 *          resolves to one may lead the uploader to a metadata service or to this machine.
 * Users:   sas.c (literals in the URL), upload_http.c (what a name resolved to, before connecting).
 * Threads: any; pure functions.
 * Proof:   tests/test_sas.c (numbered table of addresses)
 */
#ifndef GATECAP_CONTROL_ADDRESS_H
#define GATECAP_CONTROL_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

enum address_class {
	ADDRESS_PUBLIC,
	ADDRESS_PRIVATE,    // RFC 1918, shared (RFC 6598), unique local IPv6
	ADDRESS_LOOPBACK,   // 127.0.0.0/8, ::1
	ADDRESS_LINK_LOCAL, // 169.254.0.0/16, fe80::/10
	ADDRESS_METADATA,   // a cloud's instance or host service
	ADDRESS_UNUSABLE, // 0.0.0.0/8 (this host, on Linux), multicast, reserved, not an IP address
};

/* An IPv4 address inside an IPv6 one (mapped, compatible, NAT64, 6to4) is judged as IPv4. */
enum address_class address_classify(const struct sockaddr *address);

/* For sentences: "a loopback address". */
const char *address_class_name(enum address_class class);

/* Read a literal as a URL writes it: "10.0.0.4", "::1" or "[::1]".  False when it is not one. */
bool address_parse(const char *text, struct sockaddr_storage *out);

/* Same family and same address; ports do not count. */
bool address_equal(const struct sockaddr_storage *a, const struct sockaddr_storage *b);

#endif
