/* esp_sa_file.h - keys from a file in the format of Wireshark's esp_sa.
 *
 * One file serves both: lines of eight quoted fields, comments with #, as Wireshark writes them into a
 * profile folder; its wildcards; a few algorithms more, and comments that are directives of ours.
 * Whole:   one wrong line refuses the file, with line and column; the keys in force stay.
 * Threads: any; no globals.
 * Memory:  the text is the caller's, who wipes it; keys go into the list only.
 * Secrets: no sentence shows a byte of a key, only how long it is.
 * Source:  docs/esp-sa-file.md.  Proof: tests/test_esp_sa_file.c, tests/fuzz_esp_sa_file.c, tests/oracle_esp_sa.py
 */
#ifndef GATECAP_CONTROL_ESP_SA_FILE_H
#define GATECAP_CONTROL_ESP_SA_FILE_H

#include <stddef.h>

#include "control/sa_list.h"
#include "filters/error.h"

enum { ESP_SA_FILE_BYTES_MAX = 16 << 20 }; // SA_MAX lines of about a kilobyte

/* Append the SAs of `len` bytes of text to *list (empty before).  0, or -EINVAL and a sentence with line and
 * column, both from 1, the column in bytes; *list is empty then.  name: of the file, for the sentence.
 */
int esp_sa_parse(const char *text, size_t len, const char *name, struct sa_list *list,
		 struct error *err);

/* The same from a file, which is read into locked memory and wiped.  -errno when it cannot be read,
 * -EFBIG when it is longer than ESP_SA_FILE_BYTES_MAX (not read then).
 */
int esp_sa_load(const char *path, struct sa_list *list, struct error *err);

#endif
