/* sa_json.c - the object's keys by the tables of config_read.h, then what one key asks of another.
 *
 * Stricter than the file: there an authentication without its key means that nothing is checked, as Wireshark
 * has it; here it is what a program has forgotten, and "unchecked" says the other.
 */
#include "control/sa_json.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "control/config_read.h"
#include "control/esp_names.h"
#include "control/sa_address.h"
#include "control/secret.h"
#include "filters/filter_data.h"
#include "filters/hex.h"
#include "filters/json_scan.h"

enum { N_KEYS = 11, N_NAME_KEYS = 3, ALGORITHM_BYTES_MAX = 64 };

struct draft_key {
	uint8_t bytes[ESP_AUTH_KEY_MAX];
	size_t n; // be it more than there is room for
	bool is_given;
};

struct draft_address {
	struct sa_address address;
};

/* What the object says, before one part is held against another. */
struct draft {
	uint32_t spi, spi_mask;
	struct draft_address src, dst;
	char encryption[ALGORITHM_BYTES_MAX], authentication[ALGORITHM_BYTES_MAX];
	struct draft_key encryption_key, authentication_key;
	uint8_t icv_bytes; // 0: not given
	uint8_t mode;
	bool is_esn;
	char connection[NAME_MAX_BYTES];
};

static void *field_of(const struct config_key *key, void *draft)
{
	return (char *)draft + key->offset;
}

/* What a fault may show: not a key that somebody has put under another name. */
static const struct cJSON *shown(const struct cJSON *value)
{
	return !cJSON_IsString(value) || sa_text_is_no_key(value->valuestring) ? value : NULL;
}

/* ---- Readers of keys ---- */

static void read_spi(struct faults *faults, const struct json_place *place,
		     const struct cJSON *value, const struct config_key *key, void *object)
{
	struct draft *draft = object;
	const char *why;
	int64_t number;
	size_t at;

	(void)key;
	draft->spi_mask = UINT32_MAX;
	if (!cJSON_IsString(value)) {
		if (json_integer(faults, place, value, 0, UINT32_MAX, &number))
			draft->spi = (uint32_t)number;
	} else if (sa_spi_parse(value->valuestring, &draft->spi, &draft->spi_mask, &why, &at) !=
		   0) {
		json_fault(faults, place, shown(value), "%s", why);
	}
}

static void read_address(struct faults *faults, const struct json_place *place,
			 const struct cJSON *value, const struct config_key *key, void *object)
{
	struct draft_address *out = field_of(key, object);
	const char *why;
	size_t at;

	if (!cJSON_IsString(value)) {
		json_fault(faults, place, value, "must be a string such as \"192.0.2.1\" or \"*\"");
		return;
	}
	if (strcmp(value->valuestring, "*") == 0)
		out->address = (struct sa_address){0};
	else if (sa_address_parse(value->valuestring,
				  strchr(value->valuestring, ':') != NULL ? 6 : 4, &out->address,
				  &why, &at) != 0)
		json_fault(faults, place, shown(value), "%s", why);
}

/* Neither the string nor a digit of it is shown: it may be a key with one letter too many. */
static void read_key(struct faults *faults, const struct json_place *place,
		     const struct cJSON *value, const struct config_key *key, void *object)
{
	struct draft_key *out = field_of(key, object);
	const char *text = cJSON_IsString(value) ? value->valuestring : "?";
	size_t n_digits;

	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
		text += 2;
	n_digits = strlen(text);
	for (size_t i = 0; i < n_digits; i++) {
		int digit = hex_value(text[i]);

		if (digit < 0) {
			json_fault(faults, place, NULL, "must be a string of hexadecimal digits");
			return;
		}
		if (i / 2 < sizeof(out->bytes))
			out->bytes[i / 2] = (uint8_t)(out->bytes[i / 2] << 4 | digit);
	}
	if (n_digits % 2 != 0)
		json_fault(faults, place, NULL,
			   "has %zu hexadecimal digits; two make a byte, so one is missing",
			   n_digits);
	out->n = n_digits / 2;
	out->is_given = true;
}

static void read_algorithm(struct faults *faults, const struct json_place *place,
			   const struct cJSON *value, const struct config_key *key, void *object)
{
	if (!cJSON_IsString(value) || strlen(value->valuestring) >= ALGORITHM_BYTES_MAX)
		json_fault(faults, place, NULL, "must be the name of an algorithm");
	else
		(void)strcpy(field_of(key, object), value->valuestring);
}

static void read_mode(struct faults *faults, const struct json_place *place,
		      const struct cJSON *value, const struct config_key *key, void *object)
{
	static const char *const modes[] = {
		[SA_MODE_ANY] = "any",
		[SA_MODE_TUNNEL] = "tunnel",
		[SA_MODE_TRANSPORT] = "transport",
	};

	for (uint8_t i = 0; cJSON_IsString(value) && i < 3; i++) {
		if (strcmp(value->valuestring, modes[i]) == 0) {
			*(uint8_t *)field_of(key, object) = i;
			return;
		}
	}
	json_fault(faults, place, shown(value), "must be \"tunnel\", \"transport\" or \"any\"");
}

/* The readers of config_read.h show what they refuse; what may be a key goes no further than this. */
static bool is_key_perhaps(struct faults *faults, const struct json_place *place,
			   const struct cJSON *value, const char *why)
{
	if (shown(value) != NULL)
		return false;
	json_fault(faults, place, NULL, "%s", why);
	return true;
}

static void read_icv_bytes(struct faults *faults, const struct json_place *place,
			   const struct cJSON *value, const struct config_key *key, void *object)
{
	if (!is_key_perhaps(faults, place, value, "must be an integer, not a string"))
		config_read_integer(faults, place, value, key, object);
}

static void read_esn(struct faults *faults, const struct json_place *place,
		     const struct cJSON *value, const struct config_key *key, void *object)
{
	if (!is_key_perhaps(faults, place, value, "must be true or false, not a string"))
		config_read_boolean(faults, place, value, key, object);
}

static void read_connection(struct faults *faults, const struct json_place *place,
			    const struct cJSON *value, const struct config_key *key, void *object)
{
	if (cJSON_IsString(value) && strlen(value->valuestring) >= NAME_MAX_BYTES)
		json_fault(faults, place, NULL, "has %zu bytes; a connection's name has at most %d",
			   strlen(value->valuestring), NAME_MAX_BYTES - 1);
	else
		config_read_text(faults, place, value, key, object);
}

#define OF(member) \
	.offset = offsetof(struct draft, member), .size = sizeof(((struct draft *)NULL)->member)

/* The first N_NAME_KEYS name an SA. */
static const struct config_key keys[N_KEYS] = {
	{"spi", read_spi, .required = "the number that its packets begin with"},
	{"dst", read_address, OF(dst), .required = "the outer destination, or \"*\""},
	{"src", read_address, OF(src)},
	{"encryption", read_algorithm, OF(encryption), .required = "aes-gcm, for instance"},
	{"encryption_key", read_key, OF(encryption_key), .is_secret = true},
	{"icv_bytes", read_icv_bytes, OF(icv_bytes), .min = 1, .max = ESP_ICV_MAX},
	{"authentication", read_algorithm, OF(authentication)},
	{"authentication_key", read_key, OF(authentication_key), .is_secret = true},
	{"mode", read_mode, OF(mode)},
	{"esn", read_esn, OF(is_esn)},
	{"connection", read_connection, OF(connection), .check = config_check_name},
};

static const struct config_key extents[] = {
	[SA_JSON_WHOLE] = {.keys = keys, .n_keys = N_KEYS},
	[SA_JSON_NAME] = {.keys = keys, .n_keys = N_NAME_KEYS},
};

/* ---- Algorithms ---- */

/* A draft on its way to a record. */
struct work {
	const struct draft *draft;
	const struct json_place *place;
	struct faults *faults;
	struct sa_item *item;
};

static void fault_at(const struct work *w, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void fault_at(const struct work *w, const char *key, const char *fmt, ...)
{
	const struct json_place at = {.parent = w->place, .key = key};
	char text[512];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	json_fault(w->faults, &at, NULL, "%s", text);
}

/* By its short name; ESP_CIPHER_COUNT: there is none such. */
static enum esp_cipher short_cipher(const char *name)
{
	for (enum esp_cipher i = 0; i < ESP_UNSUPPORTED; i++)
		if (strcmp(esp_ciphers[i].name, name) == 0)
			return i;
	return ESP_CIPHER_COUNT;
}

static enum esp_auth short_auth(const char *name)
{
	for (enum esp_auth i = 0; i < ESP_AUTH_COUNT; i++)
		if (strcmp(esp_auths[i].name, name) == 0)
			return i;
	return ESP_AUTH_COUNT;
}

static bool find_cipher(const struct work *w, struct esp_cipher_name *out)
{
	const char *name = w->draft->encryption, *known[ESP_UNSUPPORTED];
	const struct esp_cipher_name *found = esp_cipher_find(name);
	enum esp_cipher cipher = short_cipher(name);

	if (found != NULL)
		*out = *found;
	else
		*out = (struct esp_cipher_name){.name = name, .cipher = (uint8_t)cipher};
	if (found != NULL || cipher != ESP_CIPHER_COUNT)
		return true;
	for (enum esp_cipher i = 0; i < ESP_UNSUPPORTED; i++)
		known[i] = esp_ciphers[i].name;
	fault_at(w, "encryption", "is not known; the nearest known ones are \"%s\" and \"%s\"",
		 json_nearest(name, known, ESP_UNSUPPORTED), esp_cipher_nearest(name));
	return false;
}

static bool find_auth(const struct work *w, struct esp_auth_name *out)
{
	const char *name = w->draft->authentication, *known[ESP_AUTH_COUNT];
	const struct esp_auth_name *found = esp_auth_find(name);
	enum esp_auth auth = name[0] == '\0' ? ESP_AUTH_NONE : short_auth(name);

	if (found != NULL)
		*out = *found;
	else
		*out = (struct esp_auth_name){.name = name, .auth = (uint8_t)auth};
	if (found != NULL || auth != ESP_AUTH_COUNT)
		return true;
	for (enum esp_auth i = 0; i < ESP_AUTH_COUNT; i++)
		known[i] = esp_auths[i].name;
	fault_at(w, "authentication", "is not known; the nearest known ones are \"%s\" and \"%s\"",
		 json_nearest(name, known, ESP_AUTH_COUNT), esp_auth_nearest(name));
	return false;
}

static void set_icv(const struct work *w, const struct esp_cipher_name *cipher,
		    const struct esp_auth_name *auth)
{
	struct sa_record *record = &w->item->record;
	bool is_aead = esp_is_aead(cipher->cipher);
	uint8_t given = w->draft->icv_bytes, own;

	own = is_aead ? cipher->icv_bytes
		      : (auth->icv_bytes > 0 ? auth->icv_bytes : esp_auths[auth->auth].icv_bytes);
	if (own == 0 && given == 0 && is_aead)
		own = 16;
	record->icv_bytes = given > 0 ? given : own;
	if (own > 0 && given > 0 && given != own)
		fault_at(w, "icv_bytes", "%u does not fit: the ICV of %s has %u bytes", given,
			 is_aead ? cipher->name : auth->name, own);
	else if (auth->auth == ESP_AUTH_UNCHECKED && record->icv_bytes == 0)
		fault_at(w, "icv_bytes",
			 "missing; of \"unchecked\" the length of the ICV has to be known");
	else if (!esp_takes_icv(cipher->cipher, auth->auth, record->icv_bytes))
		fault_at(w, "icv_bytes", "%u does not fit: %s has no ICV of that length",
			 record->icv_bytes,
			 is_aead || given == 0 ? cipher->name : "this algorithm");
}

static void set_encryption_key(const struct work *w, const struct esp_cipher_name *cipher)
{
	const struct draft_key *key = &w->draft->encryption_key;
	struct sa_record *record = &w->item->record;
	char fits[ESP_KEYS_TEXT_MAX];

	if (cipher->cipher == ESP_NULL && key->n > 0) {
		fault_at(w, "encryption_key", "%s takes no key; leave it out", cipher->name);
	} else if (cipher->cipher != ESP_NULL && !key->is_given) {
		fault_at(w, "encryption_key", "missing; %s takes %s", cipher->name,
			 esp_cipher_keys_text(cipher->cipher, fits));
	} else if (cipher->cipher != ESP_NULL && !esp_takes_key(cipher->cipher, key->n)) {
		fault_at(w, "encryption_key", "has %zu bytes; %s takes %s", key->n, cipher->name,
			 esp_cipher_keys_text(cipher->cipher, fits));
	} else {
		record->enc_key_bytes = (uint8_t)key->n;
		memcpy(record->enc_key, key->bytes, key->n);
	}
}

static void set_authentication_key(const struct work *w, const struct esp_auth_name *auth)
{
	const struct draft_key *key = &w->draft->authentication_key;
	struct sa_record *record = &w->item->record;
	unsigned fits = esp_auths[auth->auth].key_bytes;

	if (fits == 0 && key->n > 0) {
		fault_at(w, "authentication_key",
			 "there is no authentication that takes a key; leave it out");
	} else if (fits > 0 && !key->is_given) {
		fault_at(w, "authentication_key",
			 "missing; %s takes %u bytes. Without a key, write \"authentication\": "
			 "\"unchecked\" and \"icv_bytes\"",
			 auth->name, fits);
	} else if (key->n != fits) {
		fault_at(w, "authentication_key", "has %zu bytes; %s takes %u bytes", key->n,
			 auth->name, fits);
	} else {
		record->auth_key_bytes = (uint8_t)key->n;
		memcpy(record->auth_key, key->bytes, key->n);
	}
}

static void set_algorithms(const struct work *w)
{
	struct sa_item *item = w->item;
	struct esp_cipher_name cipher;
	struct esp_auth_name auth;
	bool is_known = find_cipher(w, &cipher);

	if (!find_auth(w, &auth) || !is_known)
		return;
	item->record.cipher = cipher.cipher;
	esp_algorithm_text(cipher.name, auth.auth != ESP_AUTH_NONE ? auth.name : NULL,
			   item->algorithm);
	if (cipher.cipher == ESP_UNSUPPORTED) // known, so that its packets are counted as that
		return;
	if (esp_is_aead(cipher.cipher) && auth.auth != ESP_AUTH_NONE) {
		fault_at(w, "authentication", "%s has an ICV of its own; leave it out",
			 cipher.name);
		return;
	}
	item->record.auth = auth.auth;
	set_icv(w, &cipher, &auth);
	set_encryption_key(w, &cipher);
	set_authentication_key(w, &auth);
}

/* ---- In ---- */

/* Without a family of its own, an address has that of the other. */
static void set_addresses(const struct work *w)
{
	struct sa_record *record = &w->item->record;

	record->spi = w->draft->spi;
	record->spi_mask = w->draft->spi_mask;
	record->src = w->draft->src.address;
	record->dst = w->draft->dst.address;
	if (record->src.family != 0 && record->dst.family != 0 &&
	    record->src.family != record->dst.family)
		fault_at(w, "src", "is IPv%u, and dst is IPv%u", record->src.family,
			 record->dst.family);
}

static void finish(const struct work *w, enum sa_json_extent extent)
{
	struct sa_item *item = w->item;

	set_addresses(w);
	if (extent == SA_JSON_NAME)
		return;
	item->record.mode = w->draft->mode;
	item->record.flags = w->draft->is_esn ? SA_ESN : 0;
	memcpy(item->connection, w->draft->connection, sizeof(item->connection));
	set_algorithms(w);
}

int sa_json_read(const struct cJSON *value, const struct json_place *place,
		 enum sa_json_extent extent, struct sa_item *item, struct faults *faults)
{
	unsigned n_before = json_fault_count(faults);
	struct memory {
		struct draft draft;
		struct sa_item item;
	} *memory = secret_alloc(sizeof(*memory));
	struct work work = {.place = place, .faults = faults};
	int rc = -EINVAL;

	if (memory == NULL) {
		json_fault(faults, place, NULL, "out of memory while this is read");
		return rc;
	}
	config_read_object(faults, place, value, &extents[extent], &memory->draft);
	work.draft = &memory->draft;
	work.item = &memory->item;
	if (json_fault_count(faults) == n_before)
		finish(&work, extent);
	if (json_fault_count(faults) == n_before) {
		*item = memory->item;
		rc = 0;
	}
	secret_free(memory);
	return rc;
}

void sa_json_wipe(struct cJSON *tree)
{
	for (; tree != NULL; tree = tree->next) {
		if (cJSON_IsString(tree) && tree->valuestring != NULL)
			explicit_bzero(tree->valuestring, strlen(tree->valuestring));
		if (tree->child != NULL) // json_scan lets nothing deep through
			sa_json_wipe(tree->child);
	}
}

int sa_json_parse(const char *text, size_t len, enum sa_json_extent extent, struct sa_item *item,
		  struct faults *faults)
{
	struct cJSON *tree = json_parse(text, len, SA_JSON_BYTES_MAX, faults);
	int rc = -EINVAL;

	if (tree == NULL)
		return rc;
	rc = sa_json_read(tree, NULL, extent, item, faults);
	sa_json_wipe(tree);
	cJSON_Delete(tree);
	return rc;
}

/* ---- Out ---- */

const char *sa_origin_name(enum sa_origin origin)
{
	static const char *const names[] = {
		[SA_FROM_FILE] = "file", [SA_FROM_KERNEL] = "kernel", [SA_FROM_API] = "api"};

	return names[origin];
}

static bool add_number(struct cJSON *object, const char *key, uint32_t value)
{
	return value == 0 || cJSON_AddNumberToObject(object, key, value) != NULL;
}

static bool add_remote(struct cJSON *object, const struct set_subnet *remote)
{
	struct subnet subnet = {.prefix_len = remote->prefix_len, .family = remote->family};
	char text[SUBNET_TEXT_MAX];

	memcpy(subnet.addr, remote->addr, sizeof(subnet.addr));
	return remote->family == 0 ||
	       cJSON_AddStringToObject(object, "remote", subnet_text(&subnet, text)) != NULL;
}

static bool add_texts(struct cJSON *object, const struct sa_item *item, enum sa_origin origin)
{
	static const char *const modes[] = {"any", "tunnel", "transport"};
	const struct sa_record *record = &item->record;
	char spi[SA_SPI_TEXT_MAX], src[SA_ADDRESS_TEXT_MAX], dst[SA_ADDRESS_TEXT_MAX];
	const char *const texts[][2] = {
		{"spi", sa_spi_text(record->spi, record->spi_mask, spi)},
		{"src", sa_address_text(&record->src, src)},
		{"dst", sa_address_text(&record->dst, dst)},
		{"algorithm", item->algorithm},
		{"mode", modes[record->mode]},
		{"connection", item->connection},
		{"origin", sa_origin_name(origin)},
	};

	for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if ((texts[i][1][0] != '\0'
			     ? cJSON_AddStringToObject(object, texts[i][0], texts[i][1])
			     : cJSON_AddNullToObject(object, texts[i][0])) == NULL)
			return false;
	return true;
}

struct cJSON *sa_json_write(const struct sa_item *item, enum sa_origin origin)
{
	struct cJSON *object = cJSON_CreateObject();
	const struct sa_record *record = &item->record;

	if (object != NULL && add_texts(object, item, origin) &&
	    cJSON_AddBoolToObject(object, "esn", (record->flags & SA_ESN) != 0) != NULL &&
	    cJSON_AddNumberToObject(object, "icv_bytes", record->icv_bytes) != NULL &&
	    add_number(object, "line", item->line) && add_number(object, "if_id", item->if_id) &&
	    add_number(object, "mark", item->mark) && add_number(object, "reqid", item->reqid) &&
	    add_remote(object, &item->remote))
		return object;
	cJSON_Delete(object);
	return NULL;
}
