/* esp_directive.h - what a comment of an esp_sa file says of the next SA.
 *
 *     # gatecap: connection="Paris 1" mode=tunnel esn=yes
 *
 * A comment, since Wireshark, which reads the same file, skips it; and a line of its own, since Wireshark
 * refuses a comment behind an SA.
 * Threads: any.
 * Proof:   tests/test_esp_sa_file.c
 */
#ifndef GATECAP_CONTROL_ESP_DIRECTIVE_H
#define GATECAP_CONTROL_ESP_DIRECTIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "filters/limits.h"

struct esp_directive {
	char connection[NAME_MAX_BYTES]; // "": not named
	uint8_t mode;			 // enum sa_mode
	bool has_connection, has_mode, has_esn, is_esn;
};

enum { ESP_DIRECTIVE_FAULT_MAX = 256 };

/* How many bytes of a comment (without its #) are "gatecap:" and blanks; 0: it is a comment like any other. */
size_t esp_directive_prefix(const char *comment, size_t len);

/* Read the `len` bytes behind the prefix and add them to *out.  0, or -EINVAL, a sentence, and in *at the
 * offset of what is wrong.
 */
int esp_directive_parse(const char *text, size_t len, struct esp_directive *out,
			char fault[ESP_DIRECTIVE_FAULT_MAX], size_t *at);

/* Is it UTF-8 without control characters? */
bool esp_is_printable(const char *text, size_t len);

#endif
