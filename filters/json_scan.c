/* json_scan.c - one pass over the bytes, an explicit stack, the first fault wins.
 *
 * How it works: a small machine knows what may come next (a value, a key, a comma); containers live
 * on a stack of JSON_DEPTH_MAX frames, so that no input can exhaust the thread's stack.  The keys
 * of the open objects lie on one growing array; when an object closes, its slice is sorted by
 * decoded text and neighbours are compared.
 * Refused: a hash set for the keys (an attacker aims at one bucket; sorting is n log n for all),
 * and a search of the earlier keys (1 MiB holds 170,000 of them).
 * Numbers: at most NUMBER_BYTES_MAX long, because cJSON copies a number into 64 bytes and takes
 * what lies behind for the next token.
 */
#include "filters/json_scan.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "filters/json_place.h"
#include "filters/limits.h"
#include "filters/hex.h"

enum { NUMBER_BYTES_MAX = 63, KEY_SHOWN_BYTES = 256 };

enum expect {
	EXPECT_VALUE,
	EXPECT_FIRST_ITEM, // or ]
	EXPECT_FIRST_KEY,  // or }
	EXPECT_KEY,
	EXPECT_AFTER, // a comma, the end of the container, or the end of the text
};

/* A string in the text: what lies between its quotes, escapes as written. */
struct span {
	const char *start;
	size_t len;
};

struct frame {
	bool is_object;
	unsigned index;	  // of the current item of an array
	struct span key;  // of the current member of an object
	bool has_key;	  // false while a key is expected
	size_t first_key; // where the keys of this object start in scan.keys
};

struct scan {
	const char *text, *at, *end;
	struct faults *faults;
	enum expect expect;
	unsigned depth;
	struct frame frames[JSON_DEPTH_MAX];
	struct span *keys;
	size_t n_keys, keys_room;
};

/* One code point of a string that was already checked.  Returns -1 at the end of the span. */
static int32_t next_char(struct span *s);

/* ---- Faults ---- */

/* Decode a checked span into `out`, cut at a whole character. */
static void decode(struct span s, char *out, size_t room)
{
	size_t n = 0;
	int32_t c;

	while (n + 5 <= room && (c = next_char(&s)) >= 0) {
		if (c < 0x80) {
			out[n++] = (char)c;
		} else if (c < 0x800) {
			out[n++] = (char)(0xc0 | c >> 6);
			out[n++] = (char)(0x80 | (c & 0x3f));
		} else if (c < 0x10000) {
			out[n++] = (char)(0xe0 | c >> 12);
			out[n++] = (char)(0x80 | (c >> 6 & 0x3f));
			out[n++] = (char)(0x80 | (c & 0x3f));
		} else {
			out[n++] = (char)(0xf0 | c >> 18);
			out[n++] = (char)(0x80 | (c >> 12 & 0x3f));
			out[n++] = (char)(0x80 | (c >> 6 & 0x3f));
			out[n++] = (char)(0x80 | (c & 0x3f));
		}
	}
	out[n] = '\0';
}

/* Line and column of a byte, both from 1; columns count characters, not bytes. */
static void locate(const struct scan *s, const char *at, unsigned *line, unsigned *column)
{
	*line = 1;
	*column = 1;
	for (const char *p = s->text; p < at; p++) {
		if (*p == '\n') {
			++*line;
			*column = 1;
		} else if (((unsigned char)*p & 0xc0) != 0x80) {
			++*column;
		}
	}
}

/* Report `why` at byte `at`.  Always returns -1, so that callers can return it. */
static int fault(const struct scan *s, const char *at, const char *why)
{
	struct json_place places[JSON_DEPTH_MAX];
	char names[JSON_DEPTH_MAX][KEY_SHOWN_BYTES];
	const struct json_place *place = NULL;
	unsigned line, column;

	for (unsigned i = 0; i < s->depth; i++) {
		const struct frame *f = &s->frames[i];

		if (f->is_object && !f->has_key)
			break;
		places[i] = (struct json_place){.parent = place, .index = f->index};
		if (f->is_object) {
			decode(f->key, names[i], sizeof(names[i]));
			places[i].key = names[i];
		}
		place = &places[i];
	}
	locate(s, at, &line, &column);
	json_fault(s->faults, place, NULL, "line %u, column %u: %s", line, column, why);
	return -1;
}

/* ---- Characters ---- */

/* The four hex digits at p, or -1. */
static int32_t hex4(const char *p, const char *end)
{
	int32_t value = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		int digit = hex_value(p[i]);

		if (digit < 0)
			return -1;
		value = value << 4 | digit;
	}
	return value;
}

/* Bytes of the UTF-8 character at p, or 0 when it is none (RFC 3629: no overlong form, no
 * surrogate, nothing above U+10FFFF).
 */
static unsigned utf8_len(const char *p, const char *end)
{
	const unsigned char *u = (const unsigned char *)p;
	unsigned char low = 0x80, high = 0xbf; // bounds of the second byte
	unsigned len;

	if (u[0] < 0x80)
		return 1;
	if (u[0] < 0xc2 || u[0] > 0xf4)
		return 0;
	len = u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
	if (end - p < (ptrdiff_t)len)
		return 0;
	if (u[0] == 0xe0)
		low = 0xa0;
	if (u[0] == 0xed)
		high = 0x9f;
	if (u[0] == 0xf0)
		low = 0x90;
	if (u[0] == 0xf4)
		high = 0x8f;
	if (u[1] < low || u[1] > high)
		return 0;
	for (unsigned i = 2; i < len; i++)
		if ((u[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

static int32_t utf8_value(const char *p, unsigned len)
{
	const unsigned char *u = (const unsigned char *)p;
	int32_t value = len == 1 ? u[0] : u[0] & (0x7f >> len);

	for (unsigned i = 1; i < len; i++)
		value = value << 6 | (u[i] & 0x3f);
	return value;
}

static int32_t next_char(struct span *s)
{
	static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
	const char *p = s->start, *end = s->start + s->len;
	unsigned used;
	int32_t c;

	if (s->len == 0)
		return -1;
	if (*p != '\\') {
		used = utf8_len(p, end);
		c = utf8_value(p, used);
	} else if (p[1] != 'u') {
		used = 2;
		c = values[strchr(names, p[1]) - names];
	} else {
		used = 6;
		c = hex4(p + 2, end);
		if (c >= 0xd800 && c <= 0xdbff) {
			used = 12;
			c = 0x10000 + ((c - 0xd800) << 10) + (hex4(p + 8, end) - 0xdc00);
		}
	}
	s->start += used;
	s->len -= used;
	return c;
}

/* Order of two checked strings by their decoded text. */
static int span_compare(struct span a, struct span b)
{
	for (;;) {
		int32_t x = next_char(&a), y = next_char(&b);

		if (x != y)
			return x < y ? -1 : 1;
		if (x < 0)
			return 0;
	}
}

/* By text, then by place: of two equal keys the later one is the duplicate. */
static int key_order(const void *a, const void *b)
{
	const struct span *x = a, *y = b;
	int order = span_compare(*x, *y);

	return order != 0 ? order : (x->start > y->start) - (x->start < y->start);
}

/* ---- Tokens ---- */

static void skip_blank(struct scan *s)
{
	while (s->at < s->end &&
	       (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
		s->at++;
}

static bool have(const struct scan *s, char c)
{
	return s->at < s->end && *s->at == c;
}

/* The escape \uXXXX at s->at. */
static int scan_unicode_escape(struct scan *s)
{
	int32_t value = hex4(s->at + 2, s->end), low;

	if (value < 0)
		return fault(s, s->at, "\\u needs four hexadecimal digits");
	if (value == 0)
		return fault(s, s->at, "\\u0000 is not accepted: no name or address holds a NUL");
	if (value >= 0xdc00 && value <= 0xdfff)
		return fault(s, s->at, "a low surrogate without a high one before it");
	if (value >= 0xd800 && value <= 0xdbff) {
		low = s->end - s->at >= 12 && s->at[6] == '\\' && s->at[7] == 'u'
			      ? hex4(s->at + 8, s->end)
			      : -1;
		if (low < 0xdc00 || low > 0xdfff)
			return fault(s, s->at, "a high surrogate without a low one behind it");
		s->at += 6;
	}
	s->at += 6;
	return 0;
}

static int scan_escape(struct scan *s)
{
	if (s->end - s->at < 2)
		return fault(s, s->at, "the text ends inside a string");
	if (s->at[1] == 'u')
		return scan_unicode_escape(s);
	if (s->at[1] == '\0' || strchr("\"\\/bfnrt", s->at[1]) == NULL)
		return fault(s, s->at,
			     "an unknown escape; \\\" \\\\ \\/ \\b \\f \\n \\r \\t and \\uXXXX "
			     "exist");
	s->at += 2;
	return 0;
}

/* The string whose opening quote is at s->at. */
static int scan_string(struct scan *s, struct span *out)
{
	const char *open = s->at++;

	for (;;) {
		unsigned len;

		if (s->at == s->end)
			return fault(s, open, "the string that starts here has no end");
		if (*s->at == '"')
			break;
		if (*s->at == '\\') {
			if (scan_escape(s) != 0)
				return -1;
			continue;
		}
		if ((unsigned char)*s->at < 0x20)
			return fault(s, s->at,
				     "a control character in a string; write it as an escape");
		len = utf8_len(s->at, s->end);
		if (len == 0)
			return fault(s, s->at, "not valid UTF-8; save the document as UTF-8");
		s->at += len;
	}
	*out = (struct span){open + 1, (size_t)(s->at - open - 1)};
	s->at++;
	return 0;
}

/* Skip digits.  Returns how many there were. */
static size_t skip_digits(struct scan *s)
{
	const char *start = s->at;

	while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
		s->at++;
	return (size_t)(s->at - start);
}

/* The number's value must fit a double: neither infinite nor a non-zero that becomes 0. */
static int check_number(struct scan *s, const char *start)
{
	char copy[NUMBER_BYTES_MAX + 1];
	size_t len = (size_t)(s->at - start), n_mantissa;
	double value;

	if (len > NUMBER_BYTES_MAX)
		return fault(s, start, "a number of more than 63 characters");
	memcpy(copy, start, len);
	copy[len] = '\0';
	value = strtod(copy, NULL);
	if (!isfinite(value))
		return fault(s, start, "the number is too large");
	n_mantissa = strcspn(copy, "eE");
	if (value == 0.0 && strcspn(copy, "123456789") < n_mantissa)
		return fault(s, start, "the number is too close to 0 to be told from it");
	return 0;
}

static int scan_number(struct scan *s)
{
	const char *start = s->at;

	if (have(s, '-'))
		s->at++;
	if (have(s, '0')) {
		s->at++;
		if (s->at < s->end && *s->at >= '0' && *s->at <= '9')
			return fault(s, start, "a number starts with 0 only if it is 0 or 0.x");
	} else if (skip_digits(s) == 0) {
		return fault(s, start, "a minus without a number");
	}
	if (have(s, '.')) {
		s->at++;
		if (skip_digits(s) == 0)
			return fault(s, start, "a number needs digits behind its point");
	}
	if (have(s, 'e') || have(s, 'E')) {
		s->at++;
		if (have(s, '+') || have(s, '-'))
			s->at++;
		if (skip_digits(s) == 0)
			return fault(s, start, "a number needs digits in its exponent");
	}
	return check_number(s, start);
}

static int scan_literal(struct scan *s)
{
	static const char *const words[] = {"true", "false", "null"};

	for (unsigned i = 0; i < 3; i++) {
		size_t len = strlen(words[i]);

		if ((size_t)(s->end - s->at) >= len && memcmp(s->at, words[i], len) == 0) {
			s->at += len;
			return 0;
		}
	}
	return fault(s, s->at,
		     "expected a value: an object, an array, a string in double quotes, a number, "
		     "true, false or null");
}

/* ---- Containers ---- */

static int open_container(struct scan *s)
{
	bool is_object = *s->at == '{';

	if (s->depth == JSON_DEPTH_MAX)
		return fault(s, s->at, "the document is nested more than 16 deep");
	s->frames[s->depth++] = (struct frame){.is_object = is_object, .first_key = s->n_keys};
	s->expect = is_object ? EXPECT_FIRST_KEY : EXPECT_FIRST_ITEM;
	s->at++;
	return 0;
}

/* The object on top is whole: no two of its keys may decode to the same text. */
static int check_keys(struct scan *s)
{
	struct frame *top = &s->frames[s->depth - 1];
	struct span *keys, *found = NULL;
	size_t n = s->n_keys - top->first_key;

	if (n < 2)
		return 0;
	keys = s->keys + top->first_key;
	qsort(keys, n, sizeof(*keys), key_order);
	for (size_t i = 1; i < n; i++)
		if (span_compare(keys[i - 1], keys[i]) == 0 &&
		    (found == NULL || keys[i].start < found->start))
			found = &keys[i];
	if (found == NULL)
		return 0;
	top->key = *found;
	top->has_key = true;
	return fault(s, found->start - 1, "this key is in its object twice; keep one of them");
}

static int close_container(struct scan *s)
{
	struct frame *top = &s->frames[s->depth - 1];

	if (top->is_object && check_keys(s) != 0)
		return -1;
	s->n_keys = top->first_key;
	s->depth--;
	s->expect = EXPECT_AFTER;
	s->at++;
	return 0;
}

static int push_key(struct scan *s, struct span key)
{
	if (s->n_keys == s->keys_room) {
		size_t room = s->keys_room == 0 ? 64 : 2 * s->keys_room;
		struct span *grown = realloc(s->keys, room * sizeof(*grown));

		if (grown == NULL)
			return fault(s, s->at, "out of memory while the keys are compared");
		s->keys = grown;
		s->keys_room = room;
	}
	s->keys[s->n_keys++] = key;
	return 0;
}

static int scan_key(struct scan *s)
{
	struct frame *top = &s->frames[s->depth - 1];
	struct span key;

	if (!have(s, '"'))
		return fault(s, s->at,
			     s->expect == EXPECT_KEY
				     ? "expected a key in double quotes behind the comma"
				     : "expected a key in double quotes, or }");
	if (scan_string(s, &key) != 0)
		return -1;
	top->key = key;
	top->has_key = true;
	if (push_key(s, key) != 0)
		return -1;
	skip_blank(s);
	if (!have(s, ':'))
		return fault(s, s->at, "expected a colon behind the key");
	s->at++;
	s->expect = EXPECT_VALUE;
	return 0;
}

static int scan_value(struct scan *s)
{
	struct span ignored;

	if (s->at == s->end)
		return fault(s, s->at, "the text ends where a value is expected");
	s->expect = EXPECT_AFTER;
	switch (*s->at) {
	case '{':
	case '[':
		return open_container(s);
	case '"':
		return scan_string(s, &ignored);
	case '-':
	case '0' ... '9':
		return scan_number(s);
	default:
		return scan_literal(s);
	}
}

/* Behind a value inside a container: a comma or the container's end. */
static int scan_after(struct scan *s)
{
	struct frame *top = &s->frames[s->depth - 1];

	if (have(s, top->is_object ? '}' : ']'))
		return close_container(s);
	if (!have(s, ','))
		return fault(s, s->at,
			     s->at == s->end  ? "the text ends inside an object or array"
			     : top->is_object ? "expected a comma or }"
					      : "expected a comma or ]");
	s->at++;
	top->index++;
	top->has_key = false;
	s->expect = top->is_object ? EXPECT_KEY : EXPECT_VALUE;
	return 0;
}

/* One token.  Returns -1 on a fault. */
static int scan_step(struct scan *s)
{
	switch (s->expect) {
	case EXPECT_FIRST_ITEM:
		if (have(s, ']'))
			return close_container(s);
		return scan_value(s);
	case EXPECT_FIRST_KEY:
		if (have(s, '}'))
			return close_container(s);
		return scan_key(s);
	case EXPECT_KEY:
		return scan_key(s);
	case EXPECT_AFTER:
		return scan_after(s);
	case EXPECT_VALUE:
		break;
	}
	return scan_value(s);
}

/* ---- Documents ---- */

/* What editors and shells save instead of UTF-8. */
static int check_encoding(const struct scan *s)
{
	size_t len = (size_t)(s->end - s->text);

	if (len >= 3 && memcmp(s->text, "\xef\xbb\xbf", 3) == 0)
		return fault(s, s->text,
			     "the document starts with a byte order mark (EF BB BF); save it as "
			     "UTF-8 without one");
	if (len >= 2 &&
	    (memcmp(s->text, "\xff\xfe", 2) == 0 || memcmp(s->text, "\xfe\xff", 2) == 0))
		return fault(s, s->text, "the document is UTF-16; save it as UTF-8");
	return 0;
}

static int scan_document(struct scan *s)
{
	if (check_encoding(s) != 0)
		return -1;
	skip_blank(s);
	if (s->at == s->end)
		return fault(s, s->at, "the document is empty; the smallest one is {}");
	do {
		if (scan_step(s) != 0)
			return -1;
		skip_blank(s);
	} while (s->depth > 0 || s->expect != EXPECT_AFTER);
	if (s->at != s->end)
		return fault(s, s->at, "the document ends before this; remove what follows");
	return 0;
}

int json_scan(const char *text, size_t len, size_t len_max, struct faults *faults)
{
	struct scan s = {.faults = faults};
	int rc;

	if (len > len_max) {
		json_fault(faults, NULL, NULL,
			   "the document has %zu bytes; at most %zu are accepted", len, len_max);
		return -EINVAL;
	}
	s.text = s.at = len > 0 ? text : "";
	s.end = s.text + len;
	rc = scan_document(&s);
	free(s.keys);
	return rc == 0 ? 0 : -EINVAL;
}

struct cJSON *json_parse(const char *text, size_t len, size_t len_max, struct faults *faults)
{
	struct cJSON *root;

	if (json_scan(text, len, len_max, faults) != 0)
		return NULL;
	root = cJSON_ParseWithLength(text, len);
	if (root == NULL)
		json_fault(faults, NULL, NULL, "out of memory while the document is read");
	return root;
}
