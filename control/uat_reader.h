/* uat_reader.h - the lines of a table file of Wireshark's (a "UAT"), taken apart into fields.
 *
 * Grammar: lines that are blank, a comment (#, after blanks too) or a record: fields with commas between,
 *          blanks around them.  A field is quoted, or pairs of hexadecimal digits without quotes, or
 *          empty.  In quotes \" \\ \n \t \a \b \e \f \r \v, \x22, \042 stand for one byte.  LF or CR LF.
 * Refused: a quoted field that does not end on its line, though Wireshark reads on.
 * Threads: any; no globals.
 * Memory:  the reader borrows the text; a record holds copies of keys: its owner keeps it in a secret.
 * Units:   lines and columns from 1, columns in bytes.
 * Proof:   tests/test_esp_sa_file.c, tests/fuzz_esp_sa_file.c
 */
#ifndef GATECAP_CONTROL_UAT_READER_H
#define GATECAP_CONTROL_UAT_READER_H

#include <stddef.h>
#include <stdint.h>

enum {
	UAT_FIELDS_MAX = 10,
	UAT_FIELD_BYTES_MAX = 520, // the longest key in hexadecimal is 258
};

enum uat_line { UAT_END, UAT_RECORD, UAT_COMMENT, UAT_FAULT };

struct uat_field {
	char text[UAT_FIELD_BYTES_MAX + 1]; // unescaped, then NUL
	uint32_t n;
	uint32_t column;			   // where the field begins
	uint32_t columns[UAT_FIELD_BYTES_MAX + 1]; // of each byte, and of the end
};

struct uat_record {
	struct uat_field fields[UAT_FIELDS_MAX];
	unsigned n;
};

struct uat_reader {
	const char *text;
	size_t len, at, line_start;
	uint32_t line; // of what uat_next() gave
	size_t next_line_start;
	uint32_t next_line;
	/* UAT_COMMENT: what stands behind the #, without the end of the line. */
	const char *comment;
	size_t comment_len;
	uint32_t comment_column;
	/* UAT_FAULT: a clause, and where. */
	const char *why;
	uint32_t column;
};

void uat_reader_init(struct uat_reader *reader, const char *text, size_t len);

/* The next line that is not blank. */
enum uat_line uat_next(struct uat_reader *reader, struct uat_record *record);

#endif
