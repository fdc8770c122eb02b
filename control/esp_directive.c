/* esp_directive.c - words with a = between.
 *
 * Strict, though it stands in a comment: a directive that is misspelt and ignored would tie an SA to the
 * wrong connection, and nobody would be told.
 */
#include "control/esp_directive.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "control/sa_address.h"
#include "filters/json_place.h"
#include "filters/sa_set.h"

static const char prefix[] = "gatecap:";

struct words {
	const char *text;
	size_t len, at;
	char *fault;
};

static int fails(const struct words *w, const char *why, const char *what)
{
	(void)snprintf(w->fault, ESP_DIRECTIVE_FAULT_MAX, why, what);
	return -EINVAL;
}

/* A word as a sentence may show it: somebody may have put a key there. */
static const char *shown(const char *word)
{
	return sa_text_is_no_key(word) ? word : "...";
}

static size_t count_blanks(const char *text, size_t len)
{
	size_t n = 0;

	while (n < len && (text[n] == ' ' || text[n] == '\t'))
		n++;
	return n;
}

size_t esp_directive_prefix(const char *comment, size_t len)
{
	size_t n = count_blanks(comment, len);

	if (len - n < sizeof(prefix) - 1 || memcmp(comment + n, prefix, sizeof(prefix) - 1) != 0)
		return 0;
	n += sizeof(prefix) - 1;
	return n + count_blanks(comment + n, len - n);
}

/* How many bytes lead the character at p; 0: it is none (RFC 3629), or a control character. */
static size_t character_bytes(const unsigned char *p, size_t len)
{
	static const uint32_t least[] = {0, 0x20, 0xa0, 0x800, 0x10000};
	size_t n = p[0] < 0x80	     ? 1
		   : p[0] >> 5 == 6  ? 2
		   : p[0] >> 4 == 14 ? 3
		   : p[0] >> 3 == 30 ? 4
				     : 0;
	uint32_t value = n == 1 ? p[0] : n > 0 ? p[0] & (0xffu >> (n + 1)) : 0;

	if (n == 0 || n > len)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if (p[i] >> 6 != 2)
			return 0;
		value = value << 6 | (p[i] & 0x3f);
	}
	if (value < least[n] || value == 0x7f || value > 0x10ffff ||
	    (value >= 0xd800 && value < 0xe000))
		return 0;
	return n;
}

bool esp_is_printable(const char *text, size_t len)
{
	const unsigned char *p = (const unsigned char *)text, *end = p + len;
	size_t n = 1;

	for (; p < end && n > 0; p += n)
		n = character_bytes(p, (size_t)(end - p));
	return n > 0;
}

/* The next bytes up to a blank, a = or the end into word, which holds NAME_MAX_BYTES. */
static int take_word(struct words *w, const char *stops, char *word)
{
	bool is_quoted = w->at < w->len && w->text[w->at] == '"';
	size_t begin = w->at + is_quoted, end = begin;

	while (end < w->len &&
	       (is_quoted ? w->text[end] != '"'
			  : strchr(stops, w->text[end]) == NULL && w->text[end] != 0))
		end++;
	if (is_quoted && end == w->len)
		return fails(w, "the quoted value does not end on its line%s", "");
	if (end - begin >= NAME_MAX_BYTES)
		return fails(w, "the word is longer than 79 bytes%s", "");
	if (!esp_is_printable(w->text + begin, end - begin))
		return fails(w, "the word holds control characters, or bytes that are no UTF-8%s",
			     "");
	memcpy(word, w->text + begin, end - begin);
	word[end - begin] = '\0';
	w->at = end + is_quoted;
	return 0;
}

static int set_mode(const struct words *w, const char *value, struct esp_directive *out)
{
	static const char *const modes[] = {"any", "tunnel", "transport"};

	_Static_assert(SA_MODE_ANY == 0 && SA_MODE_TUNNEL == 1 && SA_MODE_TRANSPORT == 2, "order");
	for (uint8_t i = 0; i < 3; i++) {
		if (strcmp(value, modes[i]) == 0) {
			out->mode = i;
			out->has_mode = true;
			return 0;
		}
	}
	return fails(w, "the mode \"%s\" is none of tunnel, transport and any", shown(value));
}

static int set_esn(const struct words *w, const char *value, struct esp_directive *out)
{
	out->is_esn = strcmp(value, "yes") == 0;
	out->has_esn = out->is_esn || strcmp(value, "no") == 0;
	return out->has_esn ? 0 : fails(w, "esn is yes or no, not \"%s\"", shown(value));
}

static int set_connection(const struct words *w, const char *value, struct esp_directive *out)
{
	if (value[0] == '\0')
		return fails(w,
			     "the connection has no name; leave connection= out if there is "
			     "none%s",
			     "");
	memcpy(out->connection, value, strlen(value) + 1);
	out->has_connection = true;
	return 0;
}

static int set(const struct words *w, const char *key, const char *value, struct esp_directive *out)
{
	static const char *const keys[] = {"connection", "mode", "esn"};
	const bool is_set[] = {out->has_connection, out->has_mode, out->has_esn};
	static int (*const setters[])(const struct words *, const char *,
				      struct esp_directive *) = {set_connection, set_mode, set_esn};

	for (unsigned i = 0; i < 3; i++) {
		if (strcmp(key, keys[i]) != 0)
			continue;
		if (is_set[i])
			return fails(w, "%s is given twice for the next SA", key);
		return setters[i](w, value, out);
	}
	(void)snprintf(w->fault, ESP_DIRECTIVE_FAULT_MAX,
		       "the directive has no word \"%s\"; the nearest it has is \"%s\"", shown(key),
		       json_nearest(key, keys, 3));
	return -EINVAL;
}

int esp_directive_parse(const char *text, size_t len, struct esp_directive *out,
			char fault[ESP_DIRECTIVE_FAULT_MAX], size_t *at)
{
	struct words w = {.text = text, .len = len, .fault = fault};
	char key[NAME_MAX_BYTES], value[NAME_MAX_BYTES];
	int rc = 0;

	w.at = count_blanks(text, len);
	if (w.at == len)
		rc = fails(&w,
			   "the directive says nothing; write connection=NAME, "
			   "mode=tunnel|transport or esn=yes|no behind \"gatecap:\"%s",
			   "");
	while (rc == 0 && w.at < len) {
		*at = w.at;
		rc = take_word(&w, " \t=", key);
		if (rc == 0 && (w.at == len || text[w.at] != '='))
			rc = fails(&w,
				   "\"%s\" is not followed by = and a value; write "
				   "connection=NAME, mode=tunnel|transport or esn=yes|no",
				   shown(key));
		if (rc != 0)
			return rc;
		w.at++;
		rc = take_word(&w, " \t", value);
		if (rc == 0)
			rc = set(&w, key, value, out);
		if (rc == 0 && w.at < len && text[w.at] != ' ' && text[w.at] != '\t')
			rc = fails(&w, "a blank is expected behind the value of %s", key);
		w.at += count_blanks(text + w.at, len - w.at);
	}
	return rc;
}
