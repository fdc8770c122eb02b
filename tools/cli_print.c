/* cli_print.c - answers for people: numbers, sizes, tables, progress. */
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "tools/cli.h"

enum { PROGRESS_EVERY_MS = 200 };

void print_clean(FILE *out, const char *text)
{
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;
		// also U+0080 - U+009F, which some terminals obey
		bool is_c1 = c == 0xC2 && (unsigned char)text[1] >= 0x80 &&
			     (unsigned char)text[1] < 0xA0;

		if (is_c1)
			text++;
		(void)fputc(is_c1 || c < 0x20 || c == 0x7F ? '?' : c, out);
	}
}

const char *shell_word(const char *text, char *buf, size_t size)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				    "-_.,:/@%+=";
	size_t n = 0;

	if (*text != '\0' && text[strspn(text, plain)] == '\0')
		return text;
	buf[n++] = '\'';
	for (; *text != '\0' && n + 6 < size; text++) {
		if (*text == '\'')
			n = (size_t)(stpcpy(buf + n, "'\\''") - buf);
		else
			buf[n++] = *text;
	}
	buf[n++] = '\'';
	buf[n] = '\0';
	return buf;
}

void print_json_line(const struct cJSON *json)
{
	char *text = cJSON_PrintUnformatted(json);

	if (text != NULL)
		(void)puts(text);
	cJSON_free(text);
	(void)fflush(stdout);
}

const char *json_text(const struct cJSON *object, const char *key, const char *otherwise)
{
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));

	return text != NULL ? text : otherwise;
}

double json_number(const struct cJSON *object, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

	return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

void print_warnings(const struct cJSON *list)
{
	const cJSON *entry;

	cJSON_ArrayForEach(entry, list)
	{
		const char *pointer = json_text(entry, "pointer", "");

		(void)fputs("warning: ", stderr);
		print_clean(stderr, pointer);
		(void)fputs(*pointer != '\0' ? ": " : "", stderr);
		print_clean(stderr, json_text(entry, "message", ""));
		(void)fputc('\n', stderr);
	}
}

const char *size_text(double n_bytes, char *buf)
{
	static const char *const units[] = {"kB", "MB", "GB", "TB", "PB"};
	unsigned unit = 0;

	if (n_bytes < 1000) {
		(void)snprintf(buf, SIZE_TEXT_BYTES, "%.0f B", n_bytes);
		return buf;
	}
	for (n_bytes /= 1000; n_bytes >= 999.95 && unit < 4; unit++)
		n_bytes /= 1000;
	(void)snprintf(buf, SIZE_TEXT_BYTES, "%.1f %s", n_bytes, units[unit]);
	return buf;
}

const char *number_text(double number, char *buf)
{
	char plain[SIZE_TEXT_BYTES];
	size_t len, n = 0;

	// doubles hold whole numbers up to 2^53 exactly; beyond that the commas would lie
	(void)snprintf(plain, sizeof(plain), "%.0f", number < 1e16 ? number : 1e16);
	len = strlen(plain);
	for (size_t i = 0; i < len; i++) {
		if (i > 0 && (len - i) % 3 == 0 && isdigit((unsigned char)plain[i - 1]))
			buf[n++] = ',';
		buf[n++] = plain[i];
	}
	buf[n] = '\0';
	return buf;
}

double capture_lost(const struct cJSON *capture)
{
	const cJSON *counters = cJSON_GetObjectItemCaseSensitive(capture, "counters");
	const cJSON *cause;
	double sum = 0;

	cJSON_ArrayForEach(cause, cJSON_GetObjectItemCaseSensitive(counters, "lost"))
	{
		sum += cJSON_IsNumber(cause) ? cause->valuedouble : 0;
	}
	return sum;
}

void capture_scope(const struct cJSON *capture, char *buf, size_t size)
{
	const char *name = json_text(capture, "connection", NULL);

	if (name == NULL)
		(void)snprintf(buf, size, "gateway");
	else
		(void)snprintf(buf, size, "connection %s", name);
}

static void print_field(const char *name, const char *value)
{
	(void)printf("  %-15s ", name);
	print_clean(stdout, value);
	(void)putchar('\n');
}

static void print_count(const struct cJSON *counters, const char *key, const char *name)
{
	char text[SIZE_TEXT_BYTES];

	print_field(name, number_text(json_number(counters, key), text));
}

void print_settings(const struct cJSON *capture)
{
	const cJSON *setting;

	cJSON_ArrayForEach(setting, cJSON_GetObjectItemCaseSensitive(capture, "filter_data"))
	{
		char *value = cJSON_PrintUnformatted(setting);

		(void)fputs("  ", stdout);
		print_clean(stdout, setting->string);
		(void)fputs(": ", stdout);
		print_clean(stdout, value != NULL ? value : "");
		(void)putchar('\n');
		cJSON_free(value);
	}
}

static void print_counters(const struct cJSON *capture)
{
	const cJSON *counters = cJSON_GetObjectItemCaseSensitive(capture, "counters");
	const cJSON *cause;
	char text[SIZE_TEXT_BYTES];

	print_count(counters, "received", "received");
	print_count(counters, "not_matched", "not matched");
	print_count(counters, "recorded", "recorded");
	print_count(counters, "in_file", "in file");
	print_count(counters, "overwritten", "overwritten");
	print_count(counters, "in_flight", "in flight");
	print_field("lost", number_text(capture_lost(capture), text));
	cJSON_ArrayForEach(cause, cJSON_GetObjectItemCaseSensitive(counters, "lost"))
	{
		if (cJSON_IsNumber(cause) && cause->valuedouble > 0) {
			(void)fputs("    ", stdout);
			print_clean(stdout, cause->string);
			(void)printf(": %s\n", number_text(cause->valuedouble, text));
		}
	}
}

/* What became of the ESP packets that the filter had looked into: nothing to say without one. */
static void print_esp(const struct cJSON *capture)
{
	const cJSON *esp = cJSON_GetObjectItemCaseSensitive(capture, "esp"), *count;
	char text[SIZE_TEXT_BYTES];

	if (!cJSON_IsObject(esp))
		return;
	print_count(esp, "decrypted", "ESP decrypted");
	cJSON_ArrayForEach(count, esp)
	{
		if (!cJSON_IsNumber(count) || count->valuedouble <= 0 ||
		    strcmp(count->string, "decrypted") == 0)
			continue;
		(void)fputs("    ", stdout);
		print_clean(stdout, count->string);
		(void)printf(": %s\n", number_text(count->valuedouble, text));
	}
}

static void print_if(const struct cJSON *object, const char *key, const char *name)
{
	const char *value = json_text(object, key, NULL);

	if (value != NULL)
		print_field(name, value);
}

void print_capture(const struct cJSON *capture)
{
	const cJSON *upload = cJSON_GetObjectItemCaseSensitive(capture, "upload");
	const cJSON *note;
	char scope[160], size[SIZE_TEXT_BYTES], size_max[SIZE_TEXT_BYTES], text[80];

	capture_scope(capture, scope, sizeof(scope));
	(void)fputs("Capture of ", stdout);
	print_clean(stdout, scope);
	(void)putchar('\n');
	print_if(capture, "id", "id");
	print_if(capture, "state", "state");
	print_if(capture, "started", "started");
	print_if(capture, "stopped", "stopped");
	(void)snprintf(text, sizeof(text), "%s of %s",
		       size_text(json_number(capture, "file_bytes"), size),
		       size_text(json_number(capture, "file_bytes_max"), size_max));
	print_field("file size", text);
	print_counters(capture);
	print_esp(capture);
	print_settings(capture);
	if (cJSON_IsObject(upload)) {
		print_if(upload, "url", "upload to");
		(void)snprintf(text, sizeof(text), "%s of %s",
			       size_text(json_number(upload, "bytes_sent"), size),
			       size_text(json_number(upload, "bytes_total"), size_max));
		print_field("sent", text);
	}
	print_if(capture, "blob_url", "blob");
	print_if(capture, "md5", "MD5");
	print_if(capture, "error", "error");
	cJSON_ArrayForEach(note, cJSON_GetObjectItemCaseSensitive(capture, "notes"))
	{
		print_field("note", cJSON_IsString(note) ? note->valuestring : "");
	}
}

uint64_t cli_now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void progress_start(struct progress *p)
{
	*p = (struct progress){.is_on = isatty(STDERR_FILENO) == 1, .first_ms = cli_now_ms()};
}

void progress_show(struct progress *p, const char *stage, uint64_t done, uint64_t total)
{
	char sent[SIZE_TEXT_BYTES], all[SIZE_TEXT_BYTES], rate[SIZE_TEXT_BYTES];
	uint64_t now_ms = cli_now_ms();
	double seconds = (double)(now_ms - p->first_ms) / 1000;

	if (!p->is_on || (p->is_shown && done < total && now_ms - p->last_ms < PROGRESS_EVERY_MS))
		return;
	if (!p->is_shown)
		p->first_bytes = done;
	p->is_shown = true;
	p->last_ms = now_ms;
	(void)fputs("\r\033[K", stderr);
	print_clean(stderr, stage);
	if (total > 0)
		(void)fprintf(stderr, "  %s of %s  %.0f %%  %s/s", size_text((double)done, sent),
			      size_text((double)total, all), 100.0 * (double)done / (double)total,
			      size_text(seconds > 0 ? (double)(done - p->first_bytes) / seconds : 0,
					rate));
	(void)fflush(stderr);
}

void progress_end(struct progress *p)
{
	if (p->is_shown)
		(void)fputs("\r\033[K", stderr);
	p->is_shown = false;
}
