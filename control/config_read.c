/* config_read.c - the typed readers of the configuration's tables.
 *
 * A table row says where a field lies and what it may hold; the readers know nothing of struct
 * config.  Refused: one function a key (60 of them, each a chance to forget a check).
 */
#include "control/config_read.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "filters/filter_data.h"

enum { KEYS_MAX = 16 };

static void *field_of(const struct config_key *key, void *object)
{
	return (char *)object + key->offset;
}

static unsigned *count_of(const struct config_key *key, void *object)
{
	return (unsigned *)(void *)((char *)object + key->n_offset);
}

static void out_of_memory(struct faults *faults, const struct json_place *place)
{
	json_fault(faults, place, NULL, "out of memory while this is read");
}

/* ---- Objects ---- */

static const struct config_key *find_key(const struct config_key *object, const char *name)
{
	for (unsigned i = 0; i < object->n_keys; i++)
		if (strcmp(object->keys[i].name, name) == 0)
			return &object->keys[i];
	return NULL;
}

static void refuse_unknown(struct faults *faults, const struct json_place *place, const char *name,
			   const struct config_key *object)
{
	const char *names[KEYS_MAX];
	unsigned n = 0;

	for (; n < object->n_keys && n < KEYS_MAX; n++)
		names[n] = object->keys[n].name;
	json_fault(faults, place, NULL, "unknown key; the nearest known one is \"%s\"",
		   json_nearest(name, names, n));
}

void config_read_object(struct faults *faults, const struct json_place *place,
			const struct cJSON *value, const struct config_key *key, void *object)
{
	const struct cJSON *member;

	if (!cJSON_IsObject(value)) {
		json_fault(faults, place, value, "must be an object");
		return;
	}
	cJSON_ArrayForEach(member, value)
	{
		const struct json_place at = {.parent = place, .key = member->string};
		const struct config_key *known = find_key(key, member->string);

		if (known == NULL)
			refuse_unknown(faults, &at, member->string, key);
		else
			known->read(faults, &at, member, known, object);
	}
	for (unsigned i = 0; i < key->n_keys; i++) {
		const struct config_key *known = &key->keys[i];
		const struct json_place at = {.parent = place, .key = known->name};

		if (known->required != NULL &&
		    cJSON_GetObjectItemCaseSensitive(value, known->name) == NULL)
			json_fault(faults, &at, NULL, "missing; it has no default: %s",
				   known->required);
	}
}

/* ---- Numbers and words ---- */

static void store(void *field, size_t size, int64_t value)
{
	switch (size) {
	case 1:
		*(uint8_t *)field = (uint8_t)value;
		break;
	case 2:
		*(uint16_t *)field = (uint16_t)value;
		break;
	case 4:
		*(uint32_t *)field = (uint32_t)value;
		break;
	default:
		*(uint64_t *)field = (uint64_t)value;
		break;
	}
}

void config_read_integer(struct faults *faults, const struct json_place *place,
			 const struct cJSON *value, const struct config_key *key, void *object)
{
	int64_t number;

	if (json_integer(faults, place, value, key->min, key->max, &number))
		store(field_of(key, object), key->size, number);
}

void config_read_boolean(struct faults *faults, const struct json_place *place,
			 const struct cJSON *value, const struct config_key *key, void *object)
{
	(void)json_boolean(faults, place, value, field_of(key, object));
}

void config_read_word(struct faults *faults, const struct json_place *place,
		      const struct cJSON *value, const struct config_key *key, void *object)
{
	if (cJSON_IsString(value)) {
		for (int64_t i = 0; key->words[i] != NULL; i++) {
			if (strcmp(value->valuestring, key->words[i]) == 0) {
				store(field_of(key, object), key->size, i);
				return;
			}
		}
	}
	json_fault(faults, place, value, "must be \"%s\" or \"%s\"", key->words[0], key->words[1]);
}

/* ---- Texts ---- */

static bool has_control_character(const char *text)
{
	const unsigned char *u = (const unsigned char *)text;

	for (; *u != 0; u++)
		if (*u < 0x20 || *u == 0x7f || (*u == 0xc2 && u[1] < 0xa0)) // C0, DEL, C1
			return true;
	return false;
}

/* True if value is a string that the key accepts. */
static bool is_text(struct faults *faults, const struct json_place *place,
		    const struct cJSON *value, const struct config_key *key)
{
	const char *why = NULL;

	if (!cJSON_IsString(value))
		why = "must be a string";
	else if (has_control_character(value->valuestring))
		why = "must not hold control characters";
	else if (key->check != NULL)
		why = key->check(value->valuestring);
	else if (value->valuestring[0] == '\0')
		why = "must not be empty";
	if (why != NULL)
		json_fault(faults, place, key->is_secret ? NULL : value, "%s", why);
	return why == NULL;
}

void config_read_text(struct faults *faults, const struct json_place *place,
		      const struct cJSON *value, const struct config_key *key, void *object)
{
	size_t len;

	if (!is_text(faults, place, value, key))
		return;
	len = strlen(value->valuestring);
	if (len >= key->size)
		json_fault(faults, place, value, "has %zu bytes; at most %zu are accepted", len,
			   key->size - 1);
	else
		memcpy(field_of(key, object), value->valuestring, len + 1);
}

void config_read_string(struct faults *faults, const struct json_place *place,
			const struct cJSON *value, const struct config_key *key, void *object)
{
	char **field = field_of(key, object), *copy;

	if (!is_text(faults, place, value, key))
		return;
	copy = strdup(value->valuestring);
	if (copy == NULL) {
		out_of_memory(faults, place);
		return;
	}
	free(*field);
	*field = copy;
}

/* ---- Lists ---- */

bool config_is_list(struct faults *faults, const struct json_place *place,
		    const struct cJSON *value, int64_t max)
{
	if (!cJSON_IsArray(value)) {
		json_fault(faults, place, value, "must be an array");
		return false;
	}
	if (cJSON_GetArraySize(value) > max) {
		json_fault(faults, place, NULL, "has %d items; at most %d are accepted",
			   cJSON_GetArraySize(value), (int)max);
		return false;
	}
	return true;
}

/* Zeroed room for the items, or NULL when there are none or memory is short (a fault). */
static void *list_room(struct faults *faults, const struct json_place *place,
		       const struct cJSON *value, size_t item_bytes)
{
	size_t n = (size_t)cJSON_GetArraySize(value);
	void *room = n > 0 ? calloc(n, item_bytes) : NULL;

	if (n > 0 && room == NULL)
		out_of_memory(faults, place);
	return room;
}

void config_read_strings(struct faults *faults, const struct json_place *place,
			 const struct cJSON *value, const struct config_key *key, void *object)
{
	char ***field = field_of(key, object);
	unsigned *n = count_of(key, object);
	struct json_place at = {.parent = place};
	const struct cJSON *item;

	if (!config_is_list(faults, place, value, key->max))
		return;
	while (*n > 0)
		free((*field)[--*n]);
	free(*field);
	*field = list_room(faults, place, value, sizeof(**field));
	if (*field == NULL)
		return;
	cJSON_ArrayForEach(item, value)
	{
		if (is_text(faults, &at, item, key)) {
			(*field)[*n] = strdup(item->valuestring);
			if ((*field)[*n] == NULL)
				out_of_memory(faults, &at);
			else
				++*n;
		}
		at.index++;
	}
}

/* One address or subnet without host bits. */
static void read_subnet(struct faults *faults, const struct json_place *place,
			const struct cJSON *value, bool is_host, struct subnet *out)
{
	char masked[SUBNET_TEXT_MAX];
	struct subnet subnet;
	bool had_host_bits;
	const char *why;

	if (!cJSON_IsString(value))
		json_fault(faults, place, value, "must be a string such as \"%s\"",
			   is_host ? "192.0.2.1" : "10.1.0.0/24");
	else if (subnet_parse(value->valuestring, &subnet, &had_host_bits, &why) != 0)
		json_fault(faults, place, value, "%s", why);
	else if (is_host && subnet.prefix_len != (subnet.family == 4 ? 32 : 128))
		json_fault(faults, place, value, "must be one address, not a subnet");
	else if (had_host_bits)
		json_fault(faults, place, value, "host bits are set; write %s",
			   subnet_text(&subnet, masked));
	else
		*out = subnet;
}

static void read_subnet_list(struct faults *faults, const struct json_place *place,
			     const struct cJSON *value, const struct config_key *key, void *object,
			     bool is_host)
{
	struct subnet **field = field_of(key, object);
	unsigned *n = count_of(key, object);
	struct json_place at = {.parent = place};
	const struct cJSON *item;

	if (!config_is_list(faults, place, value, key->max))
		return;
	free(*field);
	*n = 0;
	*field = list_room(faults, place, value, sizeof(**field));
	if (*field == NULL)
		return;
	cJSON_ArrayForEach(item, value)
	{
		read_subnet(faults, &at, item, is_host, &(*field)[(*n)++]);
		at.index++;
	}
}

void config_read_subnets(struct faults *faults, const struct json_place *place,
			 const struct cJSON *value, const struct config_key *key, void *object)
{
	read_subnet_list(faults, place, value, key, object, false);
}

void config_read_hosts(struct faults *faults, const struct json_place *place,
		       const struct cJSON *value, const struct config_key *key, void *object)
{
	read_subnet_list(faults, place, value, key, object, true);
}

void config_read_host(struct faults *faults, const struct json_place *place,
		      const struct cJSON *value, const struct config_key *key, void *object)
{
	read_subnet(faults, place, value, true, field_of(key, object));
}

void config_read_u16s(struct faults *faults, const struct json_place *place,
		      const struct cJSON *value, const struct config_key *key, void *object)
{
	uint16_t **field = field_of(key, object);
	unsigned *n = count_of(key, object);
	struct json_place at = {.parent = place};
	const struct cJSON *item;
	int64_t number;

	if (!config_is_list(faults, place, value, (int64_t)key->size))
		return;
	free(*field);
	*n = 0;
	*field = list_room(faults, place, value, sizeof(**field));
	if (*field == NULL)
		return;
	cJSON_ArrayForEach(item, value)
	{
		if (json_integer(faults, &at, item, key->min, key->max, &number))
			(*field)[(*n)++] = (uint16_t)number;
		at.index++;
	}
}
