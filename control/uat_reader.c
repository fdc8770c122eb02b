/* uat_reader.c - one pass, one byte of look-ahead.
 *
 * Wireshark's scanner is a lex grammar; its rules are met here by hand since they are few, and since flex
 * copies what it reads, keys too, into buffers that nobody wipes.  A quote behind a backslash never ends
 * a field, not even behind two: so Wireshark has it, which therefore writes \x5c.
 */
#include "control/uat_reader.h"

#include <stdbool.h>
#include <string.h>

#include "filters/hex.h"

void uat_reader_init(struct uat_reader *reader, const char *text, size_t len)
{
	*reader = (struct uat_reader){.text = text, .len = len, .line = 1, .next_line = 1};
}

static int peek(const struct uat_reader *r)
{
	return r->at < r->len ? (unsigned char)r->text[r->at] : -1;
}

static bool is_blank(int c)
{
	return c == ' ' || c == '\t';
}

static void skip_blanks(struct uat_reader *r)
{
	while (is_blank(peek(r)))
		r->at++;
}

/* At the end of a line: at LF, CR LF, or the end of the text, with or without a CR. */
static bool is_line_end(const struct uat_reader *r)
{
	int c = peek(r);

	if (c == '\r')
		return r->at + 1 == r->len || r->text[r->at + 1] == '\n';
	return c == '\n' || c < 0;
}

static void end_line(struct uat_reader *r)
{
	const char *end = memchr(r->text + r->at, '\n', r->len - r->at);

	r->at = end != NULL ? (size_t)(end - r->text) + 1 : r->len;
	r->next_line_start = r->at;
	r->next_line++;
}

static uint32_t column_of(const struct uat_reader *r)
{
	return (uint32_t)(r->at - r->line_start) + 1;
}

static bool fails(struct uat_reader *r, const char *why)
{
	r->why = why;
	r->column = column_of(r);
	return false;
}

static bool put_byte(struct uat_reader *r, struct uat_field *field, uint32_t column, char byte)
{
	if (field->n == UAT_FIELD_BYTES_MAX) {
		r->why = "the field is longer than any that means something (520 bytes)";
		r->column = field->column;
		return false;
	}
	if (byte == '\0') {
		r->why =
			"the field holds a NUL byte, where Wireshark would cut it off; give binary "
			"keys in hexadecimal, 0x00...";
		r->column = column;
		return false;
	}
	field->columns[field->n] = column;
	field->text[field->n++] = byte;
	return true;
}

/* One to three octal digits. */
static char take_octal(struct uat_reader *r)
{
	unsigned value = 0;

	for (unsigned i = 0; i < 3 && peek(r) >= '0' && peek(r) <= '7'; i++)
		value = value * 8 + (unsigned)(r->text[r->at++] - '0');
	return (char)(value > 255 ? 255 : value);
}

/* What stands behind a backslash. */
static char take_escaped(struct uat_reader *r)
{
	static const char names[] = "abefnrtv", bytes[] = "\a\b\033\f\n\r\t\v";
	char c = r->text[r->at];
	const char *name = c != '\0' ? strchr(names, c) : NULL;

	if (c >= '0' && c <= '7')
		return take_octal(r);
	r->at++;
	if (name != NULL)
		return bytes[name - names];
	if (c == 'x' && r->len - r->at >= 2 && hex_value(r->text[r->at]) >= 0 &&
	    hex_value(r->text[r->at + 1]) >= 0) {
		c = (char)(hex_value(r->text[r->at]) << 4 | hex_value(r->text[r->at + 1]));
		r->at += 2;
	}
	return c;
}

static bool take_quoted(struct uat_reader *r, struct uat_field *field)
{
	bool is_escaped = false; // the byte before was a backslash, whatever stood before that

	for (r->at++; !is_line_end(r); is_escaped = r->text[r->at - 1] == '\\') {
		uint32_t column = column_of(r);
		char c = r->text[r->at];

		if (c == '"' && !is_escaped) {
			field->columns[field->n] = column;
			r->at++;
			return true;
		}
		r->at++;
		if (c == '\\' && !is_line_end(r))
			c = take_escaped(r);
		if (!put_byte(r, field, column, c))
			return false;
	}
	r->why = "the field begins with a quote and does not end with one on its line";
	r->column = field->column;
	return false;
}

static bool is_alphanumeric(int c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool take_pairs(struct uat_reader *r, struct uat_field *field)
{
	while (is_alphanumeric(peek(r))) {
		uint32_t column = column_of(r);
		int high = hex_value(r->text[r->at]);
		int low = r->at + 1 < r->len ? hex_value(r->text[r->at + 1]) : -1;

		if (high < 0 || low < 0)
			return fails(r,
				     "without quotes a field is pairs of hexadecimal digits, one "
				     "pair a byte of its text; put the field into quotes");
		r->at += 2;
		if (!put_byte(r, field, column, (char)(high << 4 | low)))
			return false;
	}
	field->columns[field->n] = column_of(r);
	return true;
}

static bool take_field(struct uat_reader *r, struct uat_field *field)
{
	bool is_sound = true;

	skip_blanks(r);
	field->n = 0;
	field->column = field->columns[0] = column_of(r);
	if (peek(r) == '"')
		is_sound = take_quoted(r, field);
	else if (is_alphanumeric(peek(r)))
		is_sound = take_pairs(r, field);
	if (!is_sound)
		return false;
	field->text[field->n] = '\0';
	skip_blanks(r);
	if (peek(r) != ',' && !is_line_end(r))
		return fails(r, "a comma or the end of the line is expected here; fields are in "
				"quotes, with commas between, and comments have lines of their "
				"own");
	return true;
}

static bool take_record(struct uat_reader *r, struct uat_record *record)
{
	record->n = 0;
	for (;;) {
		if (record->n == UAT_FIELDS_MAX)
			return fails(r, "the line has more than ten fields");
		if (!take_field(r, &record->fields[record->n]))
			return false;
		record->n++;
		if (peek(r) != ',')
			break;
		r->at++;
	}
	end_line(r);
	return true;
}

static enum uat_line take_comment(struct uat_reader *r)
{
	r->at++;
	r->comment = r->text + r->at;
	r->comment_column = column_of(r);
	end_line(r);
	r->comment_len = (size_t)(r->text + r->at - r->comment);
	while (r->comment_len > 0 &&
	       (r->comment[r->comment_len - 1] == '\n' || r->comment[r->comment_len - 1] == '\r'))
		r->comment_len--;
	return UAT_COMMENT;
}

enum uat_line uat_next(struct uat_reader *reader, struct uat_record *record)
{
	for (;;) {
		reader->line = reader->next_line;
		reader->line_start = reader->next_line_start;
		skip_blanks(reader);
		if (peek(reader) < 0)
			return UAT_END;
		if (peek(reader) == '#')
			return take_comment(reader);
		if (!is_line_end(reader))
			return take_record(reader, record) ? UAT_RECORD : UAT_FAULT;
		end_line(reader);
	}
}
