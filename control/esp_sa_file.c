/* esp_sa_file.c - records of a table file to SAs.
 *
 * The field that is wrong is named and, where it is not a key, shown; of a key nobody sees more than its
 * length.  Where Wireshark is lenient (an SPI "12abc" is 12, an address "10.1" fits nothing) the file is
 * refused: what somebody wrote there is not what would be done.  docs/esp-sa-file.md lists where the
 * two differ.
 */
#include "control/esp_sa_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/esp_directive.h"
#include "control/esp_names.h"
#include "control/sa_address.h"
#include "control/secret.h"
#include "control/uat_reader.h"
#include "filters/hex.h"
#include "filters/json_place.h"

enum column {
	PROTOCOL,
	SOURCE,
	DESTINATION,
	SPI,
	ENCRYPTION,
	ENCRYPTION_KEY,
	AUTHENTICATION,
	AUTHENTICATION_KEY,
	COLUMNS_LEAST,
	SEQUENCE = COLUMNS_LEAST, // Wireshark's "SN"
	ESN_HIGH,		  // "ESN High Bits"
};

_Static_assert(UAT_FIELDS_MAX == ESN_HIGH + 1, "a line has no more fields than there are columns");

enum { SHOWN_TEXT_MAX = 4 * 46 + 4, FAULT_TEXT_MAX = 800 };

_Static_assert((int)ESP_ALGORITHM_TEXT_MAX == (int)ALGORITHM_TEXT_MAX, "one text");

struct parse {
	const char *name;
	struct uat_reader reader;
	struct uat_record *record;    // in a secret
	struct esp_directive pending; // for the next SA
	uint32_t pending_line;	      // 0: there is none
	struct sa_list *list;
	struct sa_item *item; // in a secret
	struct error *err;
};

static int fault(struct parse *p, uint32_t column, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int fault(struct parse *p, uint32_t column, const char *fmt, ...)
{
	char text[FAULT_TEXT_MAX];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	error_set(p->err, "%s: line %u, column %u: %s.", p->name, p->reader.line, column, text);
	return -EINVAL;
}

static const struct uat_field *field_at(const struct parse *p, enum column column)
{
	return &p->record->fields[column];
}

/* A field as a sentence may show it on a terminal, a blank and quotes with it: ASCII only.  Nothing of it if it
 * may be a key that stands in the wrong column.
 */
static const char *shown(const struct uat_field *field, char text[SHOWN_TEXT_MAX])
{
	size_t at = 0;

	text[0] = '\0';
	if (!sa_text_is_no_key(field->text))
		return text;
	at += (size_t)snprintf(text, SHOWN_TEXT_MAX, " \"");
	for (uint32_t i = 0; i < field->n; i++) {
		unsigned char c = (unsigned char)field->text[i];
		bool is_plain = c >= 0x20 && c < 0x7f && c != '"' && c != '\\';

		at += (size_t)snprintf(text + at, SHOWN_TEXT_MAX - at, is_plain ? "%c" : "\\x%02x",
				       c);
	}
	(void)snprintf(text + at, SHOWN_TEXT_MAX - at, "\"");
	return text;
}

/* ---- Addresses and SPI ---- */

static int read_addresses(struct parse *p, struct sa_record *record)
{
	static const char *const names[] = {"source", "destination"};
	const struct uat_field *protocol = field_at(p, PROTOCOL);
	struct sa_address *const addresses[] = {&record->src, &record->dst};
	char text[SHOWN_TEXT_MAX];
	bool is_v6 = strcmp(protocol->text, "IPv6") == 0;

	if (!is_v6 && strcmp(protocol->text, "IPv4") != 0)
		return fault(p, protocol->column,
			     "the protocol%s is neither IPv4 nor IPv6, in this spelling",
			     shown(protocol, text));
	for (unsigned i = 0; i < 2; i++) {
		const struct uat_field *field = field_at(p, i == 0 ? SOURCE : DESTINATION);
		const char *why;
		size_t at;

		if (sa_address_parse(field->text, is_v6 ? 6 : 4, addresses[i], &why, &at) != 0)
			return fault(p, field->columns[at],
				     "the %s address%s is not understood: %s", names[i],
				     shown(field, text), why);
	}
	return 0;
}

static int read_spi(struct parse *p, struct sa_record *record)
{
	const struct uat_field *field = field_at(p, SPI);
	char text[SHOWN_TEXT_MAX];
	const char *why;
	size_t at;

	if (sa_spi_parse(field->text, &record->spi, &record->spi_mask, &why, &at) == 0)
		return 0;
	return fault(p, field->columns[at], "the SPI%s is not understood: %s", shown(field, text),
		     why);
}

/* ---- Keys ---- */

/* The key's bytes into `out`, which holds `max`; *n is how many there are, be it more. */
static int read_key(struct parse *p, enum column column, uint8_t *out, size_t max, size_t *n)
{
	const struct uat_field *field = field_at(p, column);
	bool is_hex = field->n >= 2 && field->text[0] == '0' &&
		      (field->text[1] == 'x' || field->text[1] == 'X');
	size_t n_digits = field->n - 2;

	*n = is_hex ? (n_digits + 1) / 2 : field->n;
	if (!is_hex) {
		memcpy(out, field->text, *n < max ? *n : max);
		return 0;
	}
	// An odd number of digits: a 0 in front of them, as Wireshark has it.
	for (size_t i = 0, at = n_digits % 2; i < n_digits; i++, at++) {
		int digit = hex_value(field->text[2 + i]);

		if (digit < 0)
			return fault(p, field->columns[2 + i],
				     "the %s key begins with 0x, and this is no hexadecimal digit",
				     column == ENCRYPTION_KEY ? "encryption" : "authentication");
		if (at / 2 < max)
			out[at / 2] = (uint8_t)((at % 2 == 0 ? 0 : out[at / 2] << 4) | digit);
	}
	return 0;
}

static int read_encryption_key(struct parse *p, const struct esp_cipher_name *name,
			       struct sa_record *record)
{
	char fits[ESP_KEYS_TEXT_MAX];
	size_t n;
	int rc;

	if (name->cipher == ESP_NULL || name->cipher == ESP_UNSUPPORTED)
		return 0; // Wireshark, too, ignores a key there; and we have no use for it
	rc = read_key(p, ENCRYPTION_KEY, record->enc_key, sizeof(record->enc_key), &n);
	if (rc != 0)
		return rc;
	if (!esp_takes_key(name->cipher, n))
		return fault(p, field_at(p, ENCRYPTION_KEY)->column,
			     "the encryption key has %zu bytes; %s takes %s", n, name->name,
			     esp_cipher_keys_text(name->cipher, fits));
	record->enc_key_bytes = (uint8_t)n;
	return 0;
}

/* Without a key nothing can be checked, but how long the ICV is is known: as Wireshark has it. */
static int read_authentication_key(struct parse *p, const struct esp_auth_name *name,
				   struct sa_record *record)
{
	unsigned fits = esp_auths[name->auth].key_bytes;
	size_t n;
	int rc;

	if (fits == 0)
		return 0;
	rc = read_key(p, AUTHENTICATION_KEY, record->auth_key, sizeof(record->auth_key), &n);
	if (rc != 0)
		return rc;
	if (n == 0)
		record->auth = ESP_AUTH_UNCHECKED;
	else if (n != fits)
		return fault(p, field_at(p, AUTHENTICATION_KEY)->column,
			     "the authentication key has %zu bytes; %s takes %u bytes", n,
			     name->name, fits);
	record->auth_key_bytes = (uint8_t)n;
	return 0;
}

/* ---- Algorithms ---- */

/* The ICV of an AEAD: its name says it, or, of the old "AES-GCM [RFC4106]", the authentication does. */
static int read_aead(struct parse *p, const struct esp_cipher_name *cipher,
		     const struct esp_auth_name *auth, struct sa_record *record)
{
	uint8_t icv_bytes = cipher->icv_bytes;

	if (icv_bytes == 0)
		icv_bytes = auth->auth == ESP_AUTH_UNCHECKED ? auth->icv_bytes
			    : auth->auth == ESP_AUTH_NONE    ? 16
							     : 0;
	else if (auth->auth != ESP_AUTH_NONE)
		icv_bytes = 0;
	if (!esp_takes_icv(cipher->cipher, ESP_AUTH_NONE, icv_bytes))
		return fault(p, field_at(p, AUTHENTICATION)->column,
			     "%s has an ICV of its own: the authentication has to be \"NULL\", "
			     "not \"%s\"",
			     cipher->name, auth->name);
	record->icv_bytes = icv_bytes;
	return read_encryption_key(p, cipher, record);
}

static int read_two(struct parse *p, const struct esp_cipher_name *cipher,
		    const struct esp_auth_name *auth, struct sa_record *record)
{
	int rc = read_encryption_key(p, cipher, record);

	record->auth = auth->auth;
	record->icv_bytes = auth->icv_bytes > 0 ? auth->icv_bytes : esp_auths[auth->auth].icv_bytes;
	return rc != 0 ? rc : read_authentication_key(p, auth, record);
}

static int read_algorithms(struct parse *p, struct sa_item *item)
{
	const struct uat_field *encryption = field_at(p, ENCRYPTION);
	const struct uat_field *authentication = field_at(p, AUTHENTICATION);
	const struct esp_cipher_name *cipher = esp_cipher_find(encryption->text);
	const struct esp_auth_name *auth = esp_auth_find(authentication->text);
	char text[SHOWN_TEXT_MAX];
	int rc = 0;

	if (cipher == NULL)
		return fault(p, encryption->column,
			     "the encryption%s is not known; the nearest known one is \"%s\"",
			     shown(encryption, text), esp_cipher_nearest(encryption->text));
	if (auth == NULL)
		return fault(p, authentication->column,
			     "the authentication%s is not known; the nearest known one is \"%s\"",
			     shown(authentication, text), esp_auth_nearest(authentication->text));
	item->record.cipher = cipher->cipher;
	if (esp_is_aead(cipher->cipher))
		rc = read_aead(p, cipher, auth, &item->record);
	else if (cipher->cipher != ESP_UNSUPPORTED)
		rc = read_two(p, cipher, auth, &item->record);
	esp_algorithm_text(cipher->name, item->record.auth != ESP_AUTH_NONE ? auth->name : NULL,
			   item->algorithm);
	return rc;
}

/* ---- Sequence numbers ---- */

static int read_sequence(struct parse *p, struct sa_record *record)
{
	const struct uat_field *field = field_at(p, SEQUENCE);
	const struct uat_field *high = field_at(p, ESN_HIGH);
	char text[SHOWN_TEXT_MAX];
	uint32_t mask = UINT32_MAX;
	const char *why;
	size_t at;

	if (p->record->n > SEQUENCE && strcmp(field->text, "64-bit") == 0)
		record->flags |= SA_ESN;
	else if (p->record->n > SEQUENCE && field->n > 0 && strcmp(field->text, "32-bit") != 0)
		return fault(p, field->column,
			     "the length of sequence numbers%s is neither 32-bit nor 64-bit",
			     shown(field, text));
	if (p->record->n <= ESN_HIGH || high->n == 0)
		return 0;
	if (sa_spi_parse(high->text, &record->esn_high, &mask, &why, &at) != 0 ||
	    mask != UINT32_MAX)
		return fault(p, high->column,
			     "the high half of sequence numbers%s is no number of 32 bits",
			     shown(high, text));
	return 0;
}

/* ---- Lines ---- */

static void apply_pending(struct parse *p, struct sa_item *item)
{
	const struct esp_directive *pending = &p->pending;

	memcpy(item->connection, pending->connection, sizeof(item->connection));
	item->record.mode = pending->mode;
	if (pending->has_esn)
		item->record.flags =
			(uint8_t)((item->record.flags & ~SA_ESN) | (pending->is_esn ? SA_ESN : 0));
	p->pending = (struct esp_directive){0};
	p->pending_line = 0;
}

static int read_record(struct parse *p)
{
	struct sa_item *item = p->item;
	int rc;

	if (p->record->n < COLUMNS_LEAST)
		return fault(p, 1,
			     "the line has %u fields, and 8 are needed: protocol, source, "
			     "destination, SPI, encryption, its key, authentication, its key",
			     p->record->n);
	explicit_bzero(item, sizeof(*item));
	item->line = p->reader.line;
	rc = read_addresses(p, &item->record);
	if (rc == 0)
		rc = read_spi(p, &item->record);
	if (rc == 0)
		rc = read_algorithms(p, item);
	if (rc == 0)
		rc = read_sequence(p, &item->record);
	if (rc != 0)
		return rc;
	apply_pending(p, item);
	rc = sa_list_add(p->list, item);
	if (rc == -E2BIG)
		return fault(p, 1, "the file has more than %d SAs", SA_MAX);
	if (rc != 0)
		return fault(p, 1, "there is no memory for so many SAs");
	return 0;
}

/* An SA in a comment: one that Wireshark is not to read. */
static int read_hidden(struct parse *p, size_t offset)
{
	struct uat_reader *r = &p->reader, inner = *r;

	inner.at = (size_t)(r->comment - r->text) + offset;
	inner.len = (size_t)(r->comment - r->text) + r->comment_len;
	inner.next_line = r->line;
	inner.next_line_start = r->line_start;
	if (uat_next(&inner, p->record) != UAT_RECORD)
		return fault(p, inner.column, "%s", inner.why);
	return read_record(p);
}

static int read_comment(struct parse *p)
{
	const struct uat_reader *r = &p->reader;
	size_t offset = esp_directive_prefix(r->comment, r->comment_len), at = 0;
	char why[ESP_DIRECTIVE_FAULT_MAX];

	if (offset == 0)
		return 0;
	if (offset < r->comment_len && r->comment[offset] == '"')
		return read_hidden(p, offset);
	p->pending_line = r->line;
	if (esp_directive_parse(r->comment + offset, r->comment_len - offset, &p->pending, why,
				&at) != 0)
		return fault(p, r->comment_column + (uint32_t)(offset + at), "%s", why);
	return 0;
}

static int read_lines(struct parse *p)
{
	int rc = 0;

	while (rc == 0) {
		switch (uat_next(&p->reader, p->record)) {
		case UAT_RECORD:
			rc = read_record(p);
			break;
		case UAT_COMMENT:
			rc = read_comment(p);
			break;
		case UAT_FAULT:
			return fault(p, p->reader.column, "%s", p->reader.why);
		case UAT_END:
			if (p->pending_line == 0)
				return 0;
			p->reader.line = p->pending_line;
			return fault(p, 1, "no SA follows that this directive could be of");
		}
	}
	return rc;
}

int esp_sa_parse(const char *text, size_t len, const char *name, struct sa_list *list,
		 struct error *err)
{
	static const char bom[] = "\xef\xbb\xbf";
	struct parse p = {.name = name, .list = list, .err = err};
	int rc = -EINVAL;

	uat_reader_init(&p.reader, text, len);
	if (len >= 3 && memcmp(text, bom, 3) == 0)
		p.reader.at = 3;
	p.record = secret_alloc(sizeof(*p.record));
	p.item = secret_alloc(sizeof(*p.item));
	if (p.record == NULL || p.item == NULL)
		(void)fault(&p, 1, "there is no memory to read it");
	else
		rc = read_lines(&p);
	secret_free(p.record);
	secret_free(p.item);
	if (rc != 0)
		sa_list_fini(list);
	return rc;
}

/* ---- Files ---- */

/* Up to `bytes` of it into `text`; how many there were, or -errno. */
static ssize_t read_all(int fd, char *text, size_t bytes)
{
	size_t n = 0;

	while (n < bytes) {
		ssize_t got = read(fd, text + n, bytes - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		n += (size_t)got;
	}
	return (ssize_t)n;
}

static int load(int fd, const char *path, struct sa_list *list, struct error *err)
{
	struct stat st;
	char *text;
	ssize_t n;
	int rc;

	if (fstat(fd, &st) != 0)
		return -errno;
	if (!S_ISREG(st.st_mode)) {
		error_set(err, "%s is no file with lines of SAs: it is not a regular file.", path);
		return -EINVAL;
	}
	if (st.st_size > ESP_SA_FILE_BYTES_MAX) {
		error_set(err,
			  "%s has %lld bytes, and a file of SAs at most %d: it was not read. Is it "
			  "the right file?",
			  path, (long long)st.st_size, ESP_SA_FILE_BYTES_MAX);
		return -EFBIG;
	}
	text = secret_alloc((size_t)st.st_size + 1);
	if (text == NULL) {
		error_set(err, "There is no memory to read %s (%lld bytes).", path,
			  (long long)st.st_size);
		return -ENOMEM;
	}
	n = read_all(fd, text, (size_t)st.st_size);
	if (n < 0)
		error_set(err, "%s could not be read: %s.", path, strerror((int)-n));
	rc = n < 0 ? (int)n : esp_sa_parse(text, (size_t)n, path, list, err);
	secret_free(text);
	return rc;
}

int esp_sa_load(const char *path, struct sa_list *list, struct error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), rc;

	if (fd < 0) {
		rc = -errno;
		error_set(err, "The file of SAs %s could not be opened: %s.", path, strerror(-rc));
		return rc;
	}
	rc = load(fd, path, list, err);
	(void)close(fd);
	return rc;
}
