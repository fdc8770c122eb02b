/* json_place.c - JSON pointers, values as a fault shows them, typed reads, nearest names.
 *
 * Places are rendered only when something is wrong, so reading a sound document costs no text.
 */
#include "filters/json_place.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "filters/limits.h"

enum {
	SHOWN_BYTES_MAX = 64,	     // of a key or a string, before escapes
	NAME_BYTES_MAX = 40,	     // of a name that is compared with the known ones
	PLACES_MAX = JSON_DEPTH_MAX, // json_scan lets nothing deeper through
};

/* Print `text`, cut at a whole character, so that it cannot steer a terminal. */
static void print_escaped(FILE *out, const char *text, bool as_pointer)
{
	size_t len = strlen(text), n = len < SHOWN_BYTES_MAX ? len : SHOWN_BYTES_MAX;

	while (n > 0 && n < len && ((unsigned char)text[n] & 0xc0) == 0x80)
		n--;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c < 0x20 || c == 0x7f)
			(void)fprintf(out, "\\u%04x", c);
		else if (c == 0xc2 && (unsigned char)text[i + 1] < 0xa0) // C1 controls
			(void)fprintf(out, "\\u%04x", (unsigned char)text[++i]);
		else if (as_pointer && (c == '~' || c == '/'))
			(void)fputs(c == '~' ? "~0" : "~1", out);
		else if (!as_pointer && (c == '"' || c == '\\'))
			(void)fprintf(out, "\\%c", c);
		else
			(void)fputc(c, out);
	}
	if (n < len)
		(void)fputs("...", out);
}

static void print_pointer(FILE *out, const struct json_place *place)
{
	const struct json_place *path[PLACES_MAX];
	unsigned n = 0;

	for (; place != NULL && n < PLACES_MAX; place = place->parent)
		path[n++] = place;
	while (n-- > 0) {
		(void)fputc('/', out);
		if (path[n]->key != NULL)
			print_escaped(out, path[n]->key, true);
		else
			(void)fprintf(out, "%u", path[n]->index);
	}
}

static void print_number(FILE *out, double value)
{
	char text[32];

	(void)snprintf(text, sizeof(text), "%.15g", value);
	if (strtod(text, NULL) != value)
		(void)snprintf(text, sizeof(text), "%.17g", value);
	(void)fputs(text, out);
}

static void print_value(FILE *out, const struct cJSON *value)
{
	if (cJSON_IsString(value)) {
		(void)fputc('"', out);
		print_escaped(out, value->valuestring, false);
		(void)fputc('"', out);
	} else if (cJSON_IsNumber(value)) {
		print_number(out, value->valuedouble);
	} else if (cJSON_IsBool(value)) {
		(void)fputs(cJSON_IsTrue(value) ? "true" : "false", out);
	} else {
		(void)fputs(cJSON_IsArray(value)    ? "an array"
			    : cJSON_IsObject(value) ? "an object"
						    : "null",
			    out);
	}
	(void)fputs(": ", out);
}

/* Close a memory stream.  True if *text holds all that was printed: when memory is short, glibc's
 * fclose() may succeed and leave no text.
 */
static bool close_text(FILE *out, char *const *text)
{
	bool is_whole = ferror(out) == 0;

	return fclose(out) == 0 && is_whole && *text != NULL;
}

/* Gives the pointer of a place, or NULL when memory is short. */
static char *pointer_text(const struct json_place *place)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (out == NULL)
		return NULL;
	print_pointer(out, place);
	if (close_text(out, &text))
		return text;
	free(text);
	return NULL;
}

void json_fault(struct faults *faults, const struct json_place *place, const struct cJSON *value,
		const char *fmt, ...)
{
	char *pointer = NULL, *text = NULL;
	bool is_whole = false;
	size_t len;
	FILE *out;
	va_list args;

	if (faults->n >= FAULTS_LISTED_MAX) { // nobody will read it: do not render it
		faults->n_omitted++;
		return;
	}
	pointer = pointer_text(place);
	out = open_memstream(&text, &len);
	if (out != NULL) {
		if (value != NULL)
			print_value(out, value);
		va_start(args, fmt);
		(void)vfprintf(out, fmt, args);
		va_end(args);
		is_whole = close_text(out, &text);
	}
	if (pointer != NULL && is_whole)
		faults_add(faults, pointer, "%s", text);
	else
		faults->n_omitted++;
	free(pointer);
	free(text);
}

unsigned json_fault_count(const struct faults *faults)
{
	return faults->n + faults->n_omitted;
}

bool json_is_integer(const struct cJSON *value, int64_t min, int64_t max, int64_t *out)
{
	double number = value->valuedouble;

	if (!cJSON_IsNumber(value) || number < (double)min || number > (double)max ||
	    number != (double)(int64_t)number)
		return false;
	*out = (int64_t)number;
	return true;
}

bool json_integer(struct faults *faults, const struct json_place *place, const struct cJSON *value,
		  int64_t min, int64_t max, int64_t *out)
{
	if (json_is_integer(value, min, max, out))
		return true;
	json_fault(faults, place, value, "must be an integer, %" PRId64 " to %" PRId64, min, max);
	return false;
}

bool json_boolean(struct faults *faults, const struct json_place *place, const struct cJSON *value,
		  bool *out)
{
	if (!cJSON_IsBool(value)) {
		json_fault(faults, place, value, "must be true or false");
		return false;
	}
	*out = cJSON_IsTrue(value);
	return true;
}

/* Edits (insert, delete, replace) from a to b, case apart. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[NAME_BYTES_MAX + 1];
	size_t n_a = strnlen(a, NAME_BYTES_MAX), n_b = strnlen(b, NAME_BYTES_MAX);

	for (unsigned j = 0; j <= n_b; j++)
		row[j] = j;
	for (unsigned i = 1; i <= n_a; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (unsigned j = 1; j <= n_b; j++) {
			unsigned cost = diagonal + (tolower((unsigned char)a[i - 1]) !=
						    tolower((unsigned char)b[j - 1]));

			diagonal = row[j];
			if (diagonal + 1 < cost)
				cost = diagonal + 1;
			if (row[j - 1] + 1 < cost)
				cost = row[j - 1] + 1;
			row[j] = cost;
		}
	}
	return row[n_b];
}

const char *json_nearest(const char *name, const char *const *known, unsigned n)
{
	const char *best = known[0];
	unsigned best_distance = ~0u;

	for (unsigned i = 0; i < n; i++) {
		unsigned d = distance(name, known[i]);

		if (d < best_distance) {
			best_distance = d;
			best = known[i];
		}
	}
	return best;
}
