/* text_file.h - small files read and written whole. */
#ifndef GATECAP_TOOLS_TEXT_FILE_H
#define GATECAP_TOOLS_TEXT_FILE_H

#include <stddef.h>

#include "filters/error.h"

/* Gives (malloc) the contents, NUL-terminated, or NULL and a sentence.  "-" is standard input.  A file
 * longer than len_max is refused.
 */
char *text_file_read(const char *path, size_t len_max, size_t *len, struct error *err);

/* Write text and a newline.  0, or -errno and a sentence. */
int text_file_write(const char *path, const char *text, struct error *err);

#endif
