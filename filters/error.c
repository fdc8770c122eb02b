/* error.c - formatted sentences, and lists of them.
 *
 * Why a list of its own: a filter document is answered with every fault at once, so that a user
 * does not learn of them one upload at a time.
 */
#include "filters/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void error_set(struct error *err, const char *fmt, ...)
{
	va_list args;

	if (err == NULL)
		return;
	va_start(args, fmt);
	(void)vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
}

void faults_add(struct faults *faults, const char *pointer, const char *fmt, ...)
{
	struct fault *grown = NULL;
	struct fault fault = {0};
	va_list args;
	int n;

	va_start(args, fmt);
	n = vasprintf(&fault.text, fmt, args);
	va_end(args);
	if (n < 0)
		fault.text = NULL;
	fault.pointer = strdup(pointer);
	if (faults->n < FAULTS_LISTED_MAX)
		grown = realloc(faults->list, (faults->n + 1) * sizeof(*grown));
	if (grown != NULL)
		faults->list = grown;
	if (grown == NULL || fault.text == NULL || fault.pointer == NULL) {
		free(fault.text);
		free(fault.pointer);
		faults->n_omitted++;
		return;
	}
	grown[faults->n++] = fault;
}

char *faults_text(const struct faults *faults)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	if (out == NULL)
		return NULL;
	for (unsigned i = 0; i < faults->n; i++) {
		const struct fault *f = &faults->list[i];

		(void)fprintf(out, "%s%s%s\n", f->pointer, *f->pointer ? ": " : "", f->text);
	}
	if (faults->n_omitted > 0)
		(void)fprintf(out, "and %u more\n", faults->n_omitted);
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

void faults_fini(struct faults *faults)
{
	for (unsigned i = 0; i < faults->n; i++) {
		free(faults->list[i].pointer);
		free(faults->list[i].text);
	}
	free(faults->list);
	*faults = (struct faults){0};
}
