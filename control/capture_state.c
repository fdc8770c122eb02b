/* capture_state.c - see capture_state.h.
 *
 * The parser trusts nothing: the file lies in a folder of ours, but disks and people change bytes.  It
 * names the first member that is not what it should be and goes no further.
 */
#include "control/capture_state.h"

#include <cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "filters/json_scan.h"

enum {
	STATE_VERSION = 1,
	FILTER_BYTES_MAX = 4 << 20, // normalised, of FILTER_DATA_BYTES_MAX
	TALLY_NUMBERS = 4,
	FINAL_NUMBERS = 3,
	DIGITS_MAX = 20,
};

static const char *const aims[] = {
	[AIM_NONE] = "none",
	[AIM_UPLOAD] = "upload",
	[AIM_DOWNLOAD] = "download",
	[AIM_ABORT] = "abort",
};
static const char *const causes[] = {GAP_DATAPLANE_DOWN, GAP_CONTROL_DOWN, GAP_REBOOT};

#define COUNT(array) ((unsigned)(sizeof(array) / sizeof((array)[0])))

bool capture_id_is_sound(const char *id)
{
	size_t len = strlen(id);

	return len > 0 && len < sizeof(((struct capture *)NULL)->id) && id[0] >= '0' &&
	       id[0] <= '9' && strspn(id, "0123456789.-TZ") == len;
}

void capture_state_suffix(const char *text, size_t n, char out[CAPTURE_STATE_SUFFIX_BYTES + 1])
{
	(void)snprintf(out, CAPTURE_STATE_SUFFIX_BYTES + 1, ",\"checksum\":\"%016" PRIx64 "\"}\n",
		       (uint64_t)XXH3_64bits(text, n));
}

/* ---- writing ---- */

/* Bytes of the UTF-8 character at p (RFC 3629), 0: it is none. */
static unsigned utf8_bytes(const unsigned char *p)
{
	unsigned n = p[0] < 0x80 ? 1 : p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;

	if (n > 1 && (p[0] < 0xc2 || p[0] > 0xf4))
		return 0;
	for (unsigned i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80) // also the NUL behind a cut text
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

/* Sentences are cut at a length, and the storage's words are anybody's: what is written must be read. */
static cJSON *clean_string(const char *text)
{
	char *copy = text != NULL ? strdup(text) : NULL;
	cJSON *item;

	for (unsigned char *p = (unsigned char *)copy; p != NULL && *p != '\0';) {
		unsigned n = utf8_bytes(p);

		if (n == 0)
			*p = '?';
		p += n > 0 ? n : 1;
	}
	item = copy != NULL ? cJSON_CreateString(copy) : cJSON_CreateNull();
	free(copy);
	return item;
}

static void add_text(cJSON *to, const char *key, const char *text)
{
	(void)cJSON_AddItemToObject(to, key, clean_string(text));
}

static cJSON *number(uint64_t value)
{
	char text[DIGITS_MAX + 4];

	(void)snprintf(text, sizeof(text), "%" PRIu64, value);
	return cJSON_CreateString(text);
}

static void add_number(cJSON *to, const char *key, uint64_t value)
{
	(void)cJSON_AddItemToObject(to, key, number(value));
}

static cJSON *add_numbers(cJSON *to, const char *key, const uint64_t *values, unsigned n)
{
	cJSON *list = cJSON_AddArrayToObject(to, key);

	for (unsigned i = 0; i < n; i++)
		(void)cJSON_AddItemToArray(list, number(values[i]));
	return list;
}

/* Without what is held: whoever reads this asks the dataplane that holds it, or it is gone. */
static void add_port_tally(cJSON *to, const char *key, const struct port_tally *t)
{
	const uint64_t values[TALLY_NUMBERS] = {t->received - t->held, t->recorded, t->ring_full,
						t->lost_nic};

	(void)add_numbers(to, key, values, TALLY_NUMBERS);
}

static void add_tally(cJSON *to, const char *key, const struct worker_tally *t)
{
	cJSON *tally = cJSON_AddObjectToObject(to, key);

	(void)add_numbers(tally, "classes", t->classes, CLASS_COUNT);
	(void)add_numbers(tally, "esp", t->esp, ESP_COUNTS);
	add_number(tally, "lost_first_ns", t->lost_first_ns);
	add_number(tally, "lost_last_ns", t->lost_last_ns);
}

/* All ports: a store may hold records of one that no configuration names any more. */
static void add_ports(cJSON *to, const struct capture *c)
{
	cJSON *list = cJSON_AddArrayToObject(to, "ports");

	for (unsigned i = 0; i < PORTS_MAX; i++) {
		const uint64_t final[FINAL_NUMBERS] = {c->final.in_file[i], c->final.overwritten[i],
						       c->final.lost_disk[i]};
		cJSON *port = cJSON_CreateObject();

		add_text(port, "name", i < c->n_ports ? c->port_names[i] : NULL);
		add_number(port, "nic_base", c->nic_base[i]);
		add_port_tally(port, "base", &c->base.ports[i]);
		add_port_tally(port, "last", &c->last.ports[i]);
		(void)add_numbers(port, "final", final, FINAL_NUMBERS);
		(void)cJSON_AddItemToArray(list, port);
	}
}

static void add_final(cJSON *to, const struct capture *c)
{
	cJSON *final = cJSON_AddObjectToObject(to, "final");

	(void)cJSON_AddBoolToObject(final, "is_known", c->has_final);
	add_number(final, "file_bytes", c->final.file_bytes);
	add_number(final, "first_ns", c->final.first_ns);
	add_number(final, "last_ns", c->final.last_ns);
	add_number(final, "lost_first_ns", c->final.lost_first_ns);
	add_number(final, "lost_last_ns", c->final.lost_last_ns);
}

static void add_gaps(cJSON *to, const struct capture *c)
{
	cJSON *list = cJSON_AddArrayToObject(to, "gaps");

	for (unsigned i = 0; i < c->n_gaps; i++) {
		cJSON *gap = cJSON_CreateObject();

		add_number(gap, "from_ns", c->gaps[i].from_ns);
		add_number(gap, "to_ns", c->gaps[i].to_ns);
		add_text(gap, "cause", c->gaps[i].cause);
		(void)cJSON_AddItemToArray(list, gap);
	}
}

static void add_faults(cJSON *to, const char *key, const struct faults *faults)
{
	cJSON *list = cJSON_AddArrayToObject(to, key);

	for (unsigned i = 0; i < faults->n; i++) {
		cJSON *fault = cJSON_CreateObject();

		add_text(fault, "pointer", faults->list[i].pointer);
		add_text(fault, "text", faults->list[i].text);
		(void)cJSON_AddItemToArray(list, fault);
	}
}

static void add_origin(cJSON *to, const struct capture *c)
{
	char offset[DIGITS_MAX + 4];

	add_number(to, "saves", c->n_saves);
	add_number(to, "saved_ns", c->saved_ns);
	add_text(to, "run", c->run);
	add_text(to, "connection", c->connection);
	add_text(to, "state", capture_state_name(c->state));
	add_text(to, "aim", aims[c->aim]);
	(void)cJSON_AddNumberToObject(to, "slot", c->slot);
	add_number(to, "epoch", c->epoch);
	add_number(to, "first_generation", c->first_generation);
	add_number(to, "end_ns", c->end_ns);
	add_number(to, "cut_from_ns", c->cut_from_ns);
	add_number(to, "cut_to_ns", c->cut_to_ns);
	(void)snprintf(offset, sizeof(offset), "%" PRId64, c->wall_offset_ns);
	add_text(to, "wall_offset_ns", offset);
	add_number(to, "started_ns", c->started_ns);
	add_number(to, "stopped_ns", c->stopped_ns);
}

static void add_way_out(cJSON *to, const struct capture *c)
{
	add_text(to, "blob_name", c->blob_name);
	add_text(to, "blob_url", c->blob_url);
	add_text(to, "redacted_url", c->redacted_url);
	add_number(to, "upload_bytes", c->upload_bytes);
	add_text(to, "md5", c->md5);
	add_text(to, "error", c->error.text);
}

/* Put the checksum in.  Gives (malloc) the text, or NULL. */
static char *seal(const char *object)
{
	size_t n = strlen(object) - 1; // without its brace
	char *text = malloc(n + CAPTURE_STATE_SUFFIX_BYTES + 1);

	if (text == NULL)
		return NULL;
	memcpy(text, object, n);
	capture_state_suffix(text, n, text + n);
	return text;
}

char *capture_state_text(const struct capture *c)
{
	cJSON *json = cJSON_CreateObject();
	char *object, *text;

	(void)cJSON_AddNumberToObject(json, "gatecap_capture", STATE_VERSION);
	add_text(json, "id", c->id);
	add_origin(json, c);
	(void)cJSON_AddRawToObject(json, "filter_data",
				   c->filter_json != NULL ? c->filter_json : "{}");
	add_ports(json, c);
	add_tally(json, "base", &c->base);
	add_tally(json, "last", &c->last);
	add_final(json, c);
	add_gaps(json, c);
	add_faults(json, "warnings", &c->warnings);
	add_faults(json, "notes", &c->notes);
	add_way_out(json, c);
	object = cJSON_PrintUnformatted(json);
	text = object != NULL ? seal(object) : NULL;
	cJSON_free(object);
	cJSON_Delete(json);
	return text;
}

/* ---- reading ---- */

struct reader {
	const char *wrong; // the first member that is not what it should be
};

static const cJSON *member(struct reader *r, const cJSON *object, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

	if (item == NULL && r->wrong == NULL)
		r->wrong = key;
	return item;
}

static void expect(struct reader *r, const char *key, bool is_right)
{
	if (!is_right && r->wrong == NULL)
		r->wrong = key;
}

static bool to_number(const cJSON *item, uint64_t *out)
{
	const char *text = cJSON_IsString(item) ? item->valuestring : "";
	size_t len = strlen(text);

	if (len == 0 || len > DIGITS_MAX || strspn(text, "0123456789") != len ||
	    (len > 1 && text[0] == '0'))
		return false;
	errno = 0;
	*out = strtoull(text, NULL, 10);
	return errno == 0;
}

static uint64_t get_number(struct reader *r, const cJSON *object, const char *key)
{
	uint64_t value = 0;

	expect(r, key, to_number(member(r, object, key), &value));
	return value;
}

static int64_t get_signed(struct reader *r, const cJSON *object, const char *key)
{
	const cJSON *item = member(r, object, key);
	const char *text = cJSON_IsString(item) ? item->valuestring : "";
	long long value = 0;
	char *end = NULL;

	errno = 0;
	if (text[0] == '-' || (text[0] >= '0' && text[0] <= '9'))
		value = strtoll(text, &end, 10);
	expect(r, key, end != NULL && end != text && *end == '\0' && errno == 0);
	return value;
}

static void get_numbers(struct reader *r, const cJSON *object, const char *key, uint64_t *out,
			unsigned n)
{
	const cJSON *list = member(r, object, key), *item;
	unsigned i = 0;

	expect(r, key, cJSON_IsArray(list) && cJSON_GetArraySize(list) == (int)n);
	if (r->wrong != NULL)
		return;
	cJSON_ArrayForEach(item, list) expect(r, key, to_number(item, &out[i++]));
}

static bool get_flag(struct reader *r, const cJSON *object, const char *key)
{
	const cJSON *item = member(r, object, key);

	expect(r, key, cJSON_IsBool(item));
	return cJSON_IsTrue(item);
}

/* NULL: it is null, or wrong. */
static const char *get_text(struct reader *r, const cJSON *object, const char *key,
			    bool may_be_null)
{
	const cJSON *item = member(r, object, key);

	expect(r, key, cJSON_IsString(item) || (may_be_null && cJSON_IsNull(item)));
	return cJSON_IsString(item) ? item->valuestring : NULL;
}

static void copy_text(struct reader *r, const cJSON *object, const char *key, char *out,
		      size_t room)
{
	const char *text = get_text(r, object, key, false);

	expect(r, key, text != NULL && strlen(text) < room);
	if (r->wrong == NULL)
		(void)snprintf(out, room, "%s", text);
}

static char *dup_text(struct reader *r, const cJSON *object, const char *key)
{
	const char *text = get_text(r, object, key, true);
	char *copy = text != NULL ? strdup(text) : NULL;

	expect(r, key, text == NULL || copy != NULL);
	return copy;
}

static unsigned get_word(struct reader *r, const cJSON *object, const char *key,
			 const char *const *words, unsigned n)
{
	const char *text = get_text(r, object, key, false);

	for (unsigned i = 0; text != NULL && i < n; i++)
		if (strcmp(text, words[i]) == 0)
			return i;
	expect(r, key, false);
	return 0;
}

static void read_origin(struct reader *r, const cJSON *json, struct capture *c)
{
	const char *states[CAPTURE_STATES];
	const cJSON *slot;

	for (unsigned i = 0; i < CAPTURE_STATES; i++)
		states[i] = capture_state_name((enum capture_state)i);
	copy_text(r, json, "id", c->id, sizeof(c->id));
	expect(r, "id", capture_id_is_sound(c->id));
	c->n_saves = get_number(r, json, "saves");
	c->saved_ns = get_number(r, json, "saved_ns");
	copy_text(r, json, "run", c->run, sizeof(c->run));
	c->connection = dup_text(r, json, "connection");
	expect(r, "connection",
	       c->connection == NULL ||
		       (c->connection[0] != '\0' && strlen(c->connection) < NAME_MAX_BYTES));
	c->state = (enum capture_state)get_word(r, json, "state", states, CAPTURE_STATES);
	c->aim = (enum capture_aim)get_word(r, json, "aim", aims, COUNT(aims));
	expect(r, "aim",
	       c->aim != AIM_NONE ||
		       (c->state != CAPTURE_STOPPING && c->state != CAPTURE_UPLOADING));
	slot = member(r, json, "slot");
	expect(r, "slot",
	       cJSON_IsNumber(slot) && slot->valuedouble == (double)slot->valueint &&
		       slot->valueint >= (capture_is_running(c) ? 0 : -1) &&
		       slot->valueint < (capture_is_running(c) ? CAPTURES_MAX : 0));
	c->slot = r->wrong == NULL ? slot->valueint : -1;
	c->epoch = get_number(r, json, "epoch");
	c->first_generation = get_number(r, json, "first_generation");
	c->end_ns = get_number(r, json, "end_ns");
	c->cut_from_ns = get_number(r, json, "cut_from_ns");
	c->cut_to_ns = get_number(r, json, "cut_to_ns");
	c->wall_offset_ns = get_signed(r, json, "wall_offset_ns");
	c->started_ns = get_number(r, json, "started_ns");
	c->stopped_ns = get_number(r, json, "stopped_ns");
}

/* With the parser that read it first; its warnings were said then and are among the capture's. */
static void read_filter(struct reader *r, const cJSON *json, struct capture *c)
{
	const struct filter_data_rules rules = {.filters_max = FILTERS_PER_CAPTURE_MAX,
						.len_max = FILTER_BYTES_MAX};
	struct faults faults = {0}, warnings = {0};
	const cJSON *item = member(r, json, "filter_data");
	char *text = cJSON_IsObject(item) ? cJSON_PrintUnformatted(item) : NULL;

	expect(r, "filter_data",
	       text != NULL && filter_data_parse(text, strlen(text), &rules, &c->data, &faults,
						 &warnings) == 0);
	if (r->wrong == NULL) {
		c->filter_json = filter_data_json(&c->data);
		expect(r, "filter_data", c->filter_json != NULL);
	}
	cJSON_free(text);
	faults_fini(&faults);
	faults_fini(&warnings);
}

static struct port_tally get_port_tally(struct reader *r, const cJSON *object, const char *key)
{
	uint64_t values[TALLY_NUMBERS] = {0};

	get_numbers(r, object, key, values, TALLY_NUMBERS);
	return (struct port_tally){.received = values[0],
				   .recorded = values[1],
				   .ring_full = values[2],
				   .lost_nic = values[3]};
}

static void read_ports(struct reader *r, const cJSON *json, struct capture *c)
{
	const cJSON *list = member(r, json, "ports"), *port;
	unsigned i = 0;

	expect(r, "ports", cJSON_IsArray(list) && cJSON_GetArraySize(list) == PORTS_MAX);
	if (r->wrong != NULL)
		return;
	cJSON_ArrayForEach(port, list)
	{
		uint64_t final[FINAL_NUMBERS] = {0};
		const char *name = get_text(r, port, "name", true);

		expect(r, "ports", name == NULL || (i == c->n_ports && *name != '\0'));
		if (name != NULL && r->wrong == NULL)
			copy_text(r, port, "name", c->port_names[c->n_ports++], NAME_MAX_BYTES);
		c->nic_base[i] = get_number(r, port, "nic_base");
		c->base.ports[i] = get_port_tally(r, port, "base");
		c->last.ports[i] = get_port_tally(r, port, "last");
		get_numbers(r, port, "final", final, FINAL_NUMBERS);
		c->final.in_file[i] = final[0];
		c->final.overwritten[i] = final[1];
		c->final.lost_disk[i] = final[2];
		i++;
	}
}

static void read_tally(struct reader *r, const cJSON *json, const char *key, struct worker_tally *t)
{
	const cJSON *tally = member(r, json, key);

	get_numbers(r, tally, "classes", t->classes, CLASS_COUNT);
	// A gatecapd that decrypted nothing wrote none.
	if (r->wrong == NULL && cJSON_HasObjectItem(tally, "esp"))
		get_numbers(r, tally, "esp", t->esp, ESP_COUNTS);
	t->lost_first_ns = get_number(r, tally, "lost_first_ns");
	t->lost_last_ns = get_number(r, tally, "lost_last_ns");
}

static void read_final(struct reader *r, const cJSON *json, struct capture *c)
{
	const cJSON *final = member(r, json, "final");

	c->has_final = get_flag(r, final, "is_known");
	c->final.file_bytes = get_number(r, final, "file_bytes");
	c->final.first_ns = get_number(r, final, "first_ns");
	c->final.last_ns = get_number(r, final, "last_ns");
	c->final.lost_first_ns = get_number(r, final, "lost_first_ns");
	c->final.lost_last_ns = get_number(r, final, "lost_last_ns");
}

static void read_gaps(struct reader *r, const cJSON *json, struct capture *c)
{
	const cJSON *list = member(r, json, "gaps"), *gap;

	expect(r, "gaps", cJSON_IsArray(list) && cJSON_GetArraySize(list) <= GAPS_MAX);
	if (r->wrong != NULL)
		return;
	cJSON_ArrayForEach(gap, list)
	{
		c->gaps[c->n_gaps++] = (struct gap){
			.from_ns = get_number(r, gap, "from_ns"),
			.to_ns = get_number(r, gap, "to_ns"),
			.cause = causes[get_word(r, gap, "cause", causes, COUNT(causes))],
		};
	}
}

static void read_faults(struct reader *r, const cJSON *json, const char *key, struct faults *out)
{
	const cJSON *list = member(r, json, key), *fault;

	expect(r, key, cJSON_IsArray(list) && cJSON_GetArraySize(list) <= FAULTS_LISTED_MAX);
	if (r->wrong != NULL)
		return;
	cJSON_ArrayForEach(fault, list)
	{
		const char *pointer = get_text(r, fault, "pointer", false);
		const char *text = get_text(r, fault, "text", false);

		if (pointer != NULL && text != NULL)
			faults_add(out, pointer, "%s", text);
	}
}

static void read_way_out(struct reader *r, const cJSON *json, struct capture *c)
{
	c->blob_name = dup_text(r, json, "blob_name");
	c->blob_url = dup_text(r, json, "blob_url");
	c->redacted_url = dup_text(r, json, "redacted_url");
	c->upload_bytes = get_number(r, json, "upload_bytes");
	copy_text(r, json, "md5", c->md5, sizeof(c->md5));
	copy_text(r, json, "error", c->error.text, sizeof(c->error.text));
}

static void read_all(struct reader *r, const cJSON *json, struct capture *c)
{
	read_origin(r, json, c);
	read_filter(r, json, c);
	read_ports(r, json, c);
	read_tally(r, json, "base", &c->base);
	read_tally(r, json, "last", &c->last);
	read_final(r, json, c);
	read_gaps(r, json, c);
	read_faults(r, json, "warnings", &c->warnings);
	read_faults(r, json, "notes", &c->notes);
	read_way_out(r, json, c);
	c->saved = c->last;
}

/* Gives the document, or NULL and a phrase. */
static cJSON *parse_sealed(const char *text, size_t len, struct error *err)
{
	char suffix[CAPTURE_STATE_SUFFIX_BYTES + 1];
	struct faults faults = {0};
	const cJSON *version;
	cJSON *json = NULL;

	if (len > CAPTURE_STATE_BYTES_MAX) {
		error_set(err, "it has more than %d bytes", CAPTURE_STATE_BYTES_MAX);
		return NULL;
	}
	if (len > CAPTURE_STATE_SUFFIX_BYTES) {
		capture_state_suffix(text, len - CAPTURE_STATE_SUFFIX_BYTES, suffix);
		if (memcmp(text + len - CAPTURE_STATE_SUFFIX_BYTES, suffix,
			   CAPTURE_STATE_SUFFIX_BYTES) == 0)
			json = json_parse(text, len, CAPTURE_STATE_BYTES_MAX, &faults);
	}
	faults_fini(&faults);
	version = cJSON_GetObjectItemCaseSensitive(json, "gatecap_capture");
	if (cJSON_IsNumber(version) && version->valuedouble == STATE_VERSION)
		return json;
	if (cJSON_IsNumber(version))
		error_set(err, "it is of version %g, and this gatecapd reads %d",
			  version->valuedouble, STATE_VERSION);
	else
		error_set(err, "it is damaged, or not gatecap's");
	cJSON_Delete(json);
	return NULL;
}

struct capture *capture_state_parse(const char *text, size_t len, struct error *err)
{
	struct reader reader = {0};
	cJSON *json = parse_sealed(text, len, err);
	struct capture *c;

	if (json == NULL)
		return NULL;
	c = calloc(1, sizeof(*c));
	if (c == NULL) {
		error_set(err, "memory is short");
	} else {
		read_all(&reader, json, c);
		if (reader.wrong != NULL) {
			error_set(err, "its member \"%s\" is not what it should be", reader.wrong);
			capture_free(c);
			c = NULL;
		}
	}
	cJSON_Delete(json);
	return c;
}
