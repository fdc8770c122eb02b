/* text_file.c - see text_file.h. */
#include "tools/text_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *text_file_read(const char *path, size_t len_max, size_t *len, struct error *err)
{
	FILE *in = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	char *text = malloc(len_max + 2);
	size_t n = 0;

	if (in == NULL || text == NULL) {
		error_set(err, "%s cannot be read: %s.", path, strerror(errno));
		goto failed;
	}
	n = fread(text, 1, len_max + 1, in);
	if (ferror(in)) {
		error_set(err, "%s cannot be read: %s.", path, strerror(errno));
		goto failed;
	}
	if (n > len_max) {
		error_set(err, "%s is longer than %zu bytes: too long for what it should hold.",
			  path, len_max);
		goto failed;
	}
	if (in != stdin)
		(void)fclose(in);
	text[n] = '\0';
	*len = n;
	return text;
failed:
	if (in != NULL && in != stdin)
		(void)fclose(in);
	free(text);
	return NULL;
}

int text_file_write(const char *path, const char *text, struct error *err)
{
	FILE *out = fopen(path, "we");
	int rc = out != NULL && fprintf(out, "%s\n", text) >= 0 ? 0 : -errno;

	if (out != NULL && fclose(out) != 0 && rc == 0)
		rc = -errno;
	if (rc != 0)
		error_set(err, "%s cannot be written: %s.", path, strerror(-rc));
	return rc;
}
