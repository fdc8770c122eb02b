/* filter_data.c - Azure's filterData, read with one table an object.
 *
 * How it works: json_parse() lets only sound JSON through; then each object is walked once.  Every
 * property has a reader that checks, stores, and reports; readers never stop each other, so that a
 * user learns of all faults in one reply.
 * Azure's schema calls its properties required and Azure's own examples leave most of them out, so
 * a missing one is a warning.  Its schema allows additional properties, so an unknown one is too.
 */
#include "filters/filter_data.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "filters/json_place.h"
#include "filters/json_scan.h"

enum { TRACE_KNOWN = TRACE_DEFAULT | TRACE_UNDOCUMENTED, PROPERTIES_MAX = 9, TCP_FLAGS_ANY = -1 };

#define TRACE_HELP "it is the sum of 1 (ESP), 2 (IKE) and 8 (OVPN)"

struct parse {
	const struct filter_data_rules *rules;
	struct faults *faults, *warnings;
};

/* One property: what reads it into the struct, and what a document without it means. */
struct property {
	const char *name;
	void (*read)(struct parse *p, const struct json_place *place, const struct cJSON *value,
		     void *object);
	const char *without;	  // NULL: may be left out silently
	const char *without_vwan; // if single_direction_by_default makes a difference
};

/* ---- Objects ---- */

/* What a document without this property means. */
static const char *default_text(const struct parse *p, const struct property *property)
{
	if (p->rules->single_direction_by_default && property->without_vwan != NULL)
		return property->without_vwan;
	return property->without;
}

static const struct property *find_property(const struct property *known, unsigned n,
					    const char *name)
{
	for (unsigned i = 0; i < n; i++)
		if (strcmp(known[i].name, name) == 0)
			return &known[i];
	return NULL;
}

static void warn_unknown(struct parse *p, const struct json_place *place, const char *name,
			 const struct property *known, unsigned n)
{
	const char *names[PROPERTIES_MAX];
	unsigned n_names = 0;

	if (p->warnings->n >= FAULTS_LISTED_MAX) { // 100,000 names fit: compare those listed
		p->warnings->n_omitted++;
		return;
	}
	for (unsigned i = 0; i < n; i++)
		if (known[i].without != NULL)
			names[n_names++] = known[i].name;
	json_fault(p->warnings, place, NULL,
		   "unknown property, ignored; the nearest known one is %s",
		   json_nearest(name, names, n_names));
}

/* Read each member of `object` by its property; warn of what is unknown and what is missing. */
static void read_object(struct parse *p, const struct json_place *place, const struct cJSON *object,
			const struct property *known, unsigned n, void *out)
{
	const struct cJSON *member;

	cJSON_ArrayForEach(member, object)
	{
		const struct json_place at = {.parent = place, .key = member->string};
		const struct property *property = find_property(known, n, member->string);

		if (property == NULL)
			warn_unknown(p, &at, member->string, known, n);
		else
			property->read(p, &at, member, out);
	}
	for (unsigned i = 0; i < n; i++) {
		const struct json_place at = {.parent = place, .key = known[i].name};

		if (known[i].without != NULL &&
		    cJSON_GetObjectItemCaseSensitive(object, known[i].name) == NULL)
			json_fault(p->warnings, &at, NULL, "missing; %s",
				   default_text(p, &known[i]));
	}
}

/* ---- Lists ---- */

/* Gives zeroed room for the items of an array, or NULL: not an array (a fault), or empty. */
static void *list_room(struct parse *p, const struct json_place *place, const struct cJSON *value,
		       size_t item_bytes, const char *example, unsigned *n)
{
	void *room;

	if (!cJSON_IsArray(value)) {
		json_fault(p->faults, place, value, "must be an array, such as %s", example);
		return NULL;
	}
	if (cJSON_GetArraySize(value) == 0)
		return NULL;
	room = calloc((size_t)cJSON_GetArraySize(value), item_bytes);
	if (room == NULL)
		json_fault(p->faults, place, NULL, "out of memory for this list");
	else
		*n = (unsigned)cJSON_GetArraySize(value);
	return room;
}

static void read_subnet(struct parse *p, const struct json_place *place, const struct cJSON *value,
			struct subnet *out)
{
	char used[SUBNET_TEXT_MAX];
	bool had_host_bits;
	const char *why;

	if (!cJSON_IsString(value))
		json_fault(p->faults, place, value, "must be a string, such as \"10.1.0.0/24\"");
	else if (subnet_parse(value->valuestring, out, &had_host_bits, &why) != 0)
		json_fault(p->faults, place, value, "%s", why);
	else if (had_host_bits)
		json_fault(p->warnings, place, value, "host bits are set; %s is used",
			   subnet_text(out, used));
}

static void read_subnets(struct parse *p, const struct json_place *place, const struct cJSON *value,
			 struct subnet **list, unsigned *n)
{
	struct json_place at = {.parent = place};
	const struct cJSON *item;

	*list = list_room(p, place, value, sizeof(**list), "[\"10.1.0.0/24\"]", n);
	if (*list == NULL)
		return;
	cJSON_ArrayForEach(item, value)
	{
		read_subnet(p, &at, item, &(*list)[at.index]);
		at.index++;
	}
}

static void read_ports(struct parse *p, const struct json_place *place, const struct cJSON *value,
		       uint16_t **list, unsigned *n)
{
	struct json_place at = {.parent = place};
	const struct cJSON *item;
	int64_t port;

	*list = list_room(p, place, value, sizeof(**list), "[443]", n);
	if (*list == NULL)
		return;
	cJSON_ArrayForEach(item, value)
	{
		if (json_integer(p->faults, &at, item, 0, UINT16_MAX, &port))
			(*list)[at.index] = (uint16_t)port;
		at.index++;
	}
}

/* ---- Properties of a filter ---- */

static void read_source_subnets(struct parse *p, const struct json_place *place,
				const struct cJSON *value, void *object)
{
	struct filter *filter = object;

	read_subnets(p, place, value, &filter->src, &filter->n_src);
}

static void read_destination_subnets(struct parse *p, const struct json_place *place,
				     const struct cJSON *value, void *object)
{
	struct filter *filter = object;

	read_subnets(p, place, value, &filter->dst, &filter->n_dst);
}

static void read_source_port(struct parse *p, const struct json_place *place,
			     const struct cJSON *value, void *object)
{
	struct filter *filter = object;

	read_ports(p, place, value, &filter->src_port, &filter->n_src_port);
}

static void read_destination_port(struct parse *p, const struct json_place *place,
				  const struct cJSON *value, void *object)
{
	struct filter *filter = object;

	read_ports(p, place, value, &filter->dst_port, &filter->n_dst_port);
}

static void read_protocol(struct parse *p, const struct json_place *place,
			  const struct cJSON *value, void *object)
{
	struct filter *filter = object;
	struct json_place at = {.parent = place};
	const struct cJSON *item;
	int64_t protocol;

	filter->protocol = list_room(p, place, value, 1, "[6]", &filter->n_protocol);
	if (filter->protocol == NULL)
		return;
	cJSON_ArrayForEach(item, value)
	{
		if (json_integer(p->faults, &at, item, 0, UINT8_MAX, &protocol))
			filter->protocol[at.index] = (uint8_t)protocol;
		at.index++;
	}
}

static void read_tcp_flags(struct parse *p, const struct json_place *place,
			   const struct cJSON *value, void *object)
{
	struct filter *filter = object;
	int64_t flags;

	if (json_integer(p->faults, place, value, TCP_FLAGS_ANY, UINT8_MAX, &flags))
		filter->tcp_flags = flags == TCP_FLAGS_ANY ? 0 : (uint8_t)flags;
}

static void read_single_direction(struct parse *p, const struct json_place *place,
				  const struct cJSON *value, void *object)
{
	struct filter *filter = object;

	(void)json_boolean(p->faults, place, value, &filter->single_direction);
}

/* IpSubnetValueAsAny and PortValueAsAny: see warn_value_as_any(). */
static void read_value_as_any(struct parse *p, const struct json_place *place,
			      const struct cJSON *value, void *object)
{
	(void)object;
	if (!cJSON_IsBool(value))
		json_fault(p->warnings, place, value,
			   "ignored; it is true or false in Azure's "
			   "examples");
}

static const struct property filter_properties[] = {
	{"SourceSubnets", read_source_subnets, "the default [] matches any source"},
	{"DestinationSubnets", read_destination_subnets, "the default [] matches any destination"},
	{"SourcePort", read_source_port, "the default [] matches any source port"},
	{"DestinationPort", read_destination_port, "the default [] matches any destination port"},
	{"Protocol", read_protocol, "the default [] matches any protocol"},
	{"TcpFlags", read_tcp_flags, "the default 0 tests no flag"},
	{"CaptureSingleDirectionTrafficOnly", read_single_direction,
	 "the default false records both directions, inner and outer",
	 "the default true of the vWAN routes records one direction, inner only"},
	{"IpSubnetValueAsAny", read_value_as_any, NULL},
	{"PortValueAsAny", read_value_as_any, NULL},
};

/* ---- Filters ---- */

/* Azure's clients send these beside lists; the lists decide. */
static void warn_value_as_any(struct parse *p, const struct json_place *place,
			      const struct cJSON *object, const char *name, unsigned n_listed)
{
	const struct json_place at = {.parent = place, .key = name};

	if (n_listed > 0 && cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, name)))
		json_fault(p->warnings, &at, NULL, "ignored; the lists of this filter decide");
}

static void read_filter(struct parse *p, const struct json_place *place, const struct cJSON *value,
			struct filter *filter)
{
	*filter = (struct filter){.single_direction = p->rules->single_direction_by_default};
	if (!cJSON_IsObject(value)) {
		json_fault(p->faults, place, value, "must be an object; {} matches any packet");
		return;
	}
	read_object(p, place, value, filter_properties,
		    sizeof(filter_properties) / sizeof(filter_properties[0]), filter);
	warn_value_as_any(p, place, value, "IpSubnetValueAsAny", filter->n_src + filter->n_dst);
	warn_value_as_any(p, place, value, "PortValueAsAny",
			  filter->n_src_port + filter->n_dst_port);
}

static void filter_fini(struct filter *filter)
{
	free(filter->src);
	free(filter->dst);
	free(filter->src_port);
	free(filter->dst_port);
	free(filter->protocol);
	*filter = (struct filter){0};
}

/* Every element is checked, also those too many: a fault in them counts as well. */
static void read_filters(struct parse *p, const struct json_place *place, const struct cJSON *value,
			 void *object)
{
	struct filter_data *data = object;
	struct json_place at = {.parent = place};
	unsigned n_max = p->rules->filters_max;
	const struct cJSON *item;

	if (n_max > FILTERS_PER_CAPTURE_MAX)
		n_max = FILTERS_PER_CAPTURE_MAX;
	if (!cJSON_IsArray(value)) {
		json_fault(p->faults, place, value, "must be an array of filters");
		return;
	}
	if ((unsigned)cJSON_GetArraySize(value) > n_max)
		json_fault(p->faults, place, NULL,
			   "%d filters; this appliance allows %u (its setting "
			   "captures.max_filters_per_capture)",
			   cJSON_GetArraySize(value), n_max);
	cJSON_ArrayForEach(item, value)
	{
		struct filter filter;

		read_filter(p, &at, item, &filter);
		if (at.index++ < n_max)
			data->filters[data->n_filters++] = filter;
		else
			filter_fini(&filter);
	}
}

/* ---- Properties of the document ---- */

enum { BITS_TEXT_MAX = 320 }; // all 32, ten digits each

/* "bit 16 is" or "bits 16, 32 are". */
static void name_bits(char text[static BITS_TEXT_MAX], uint32_t bits)
{
	bool are_many = (bits & (bits - 1)) != 0;
	const char *before = are_many ? "bits " : "bit ";
	size_t used = 0;

	for (uint32_t bit = 1; bit != 0; bit <<= 1) {
		if ((bits & bit) == 0)
			continue;
		used += (size_t)snprintf(text + used, BITS_TEXT_MAX - used, "%s%" PRIu32, before,
					 bit);
		before = ", ";
	}
	(void)snprintf(text + used, BITS_TEXT_MAX - used, are_many ? " are" : " is");
}

static void read_tracing_flags(struct parse *p, const struct json_place *place,
			       const struct cJSON *value, void *object)
{
	struct filter_data *data = object;
	char bits[BITS_TEXT_MAX];
	int64_t flags;

	if (!json_is_integer(value, 0, UINT32_MAX, &flags)) {
		json_fault(p->faults, place, value, "must be a positive integer; " TRACE_HELP);
	} else if (flags == 0) {
		json_fault(p->faults, place, value, "would capture nothing; " TRACE_HELP);
	} else if (flags & ~TRACE_KNOWN) {
		name_bits(bits, (uint32_t)flags & ~(uint32_t)TRACE_KNOWN);
		json_fault(p->faults, place, value, "%s not known; " TRACE_HELP, bits);
	} else if (flags == TRACE_UNDOCUMENTED) {
		json_fault(p->faults, place, value,
			   "bit 4 is ignored and no other is set, so this would capture "
			   "nothing; " TRACE_HELP);
	} else {
		data->tracing_flags = (unsigned)flags & TRACE_DEFAULT;
		if (flags & TRACE_UNDOCUMENTED)
			json_fault(p->warnings, place, value,
				   "bit 4 is documented nowhere and ignored");
	}
}

static void read_buffer_size(struct parse *p, const struct json_place *place,
			     const struct cJSON *value, void *object)
{
	struct filter_data *data = object;
	int64_t bytes;

	if (json_integer(p->faults, place, value, 1, SNAP_BYTES_MAX, &bytes))
		data->snap_bytes = (unsigned)bytes;
}

static void read_file_size(struct parse *p, const struct json_place *place,
			   const struct cJSON *value, void *object)
{
	struct filter_data *data = object;
	int64_t mb;

	if (json_integer(p->faults, place, value, 1, FILE_MB_MAX, &mb))
		data->file_mb = (unsigned)mb;
}

static const struct property document_properties[] = {
	{"TracingFlags", read_tracing_flags, "the default 11 captures ESP, IKE and OVPN"},
	{"MaxPacketBufferSize", read_buffer_size, "the default 120 bytes of each packet are kept"},
	{"MaxFileSize", read_file_size, "the default is 100 MB"},
	{"Filters", read_filters, "the default [] records outer packets only"},
};

/* ---- Documents ---- */

static bool is_blank(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (strchr(" \t\r\n", text[i]) == NULL || text[i] == '\0')
			return false;
	return true;
}

static void read_document(struct parse *p, const struct cJSON *root, struct filter_data *data)
{
	if (cJSON_IsString(root)) {
		const char *text = root->valuestring;

		if (text[strspn(text, " \t\r\n")] == '{') {
			json_fault(p->faults, NULL, NULL,
				   "the document is a string that holds an object: it was encoded "
				   "twice; give the object itself, without the quotes around it");
			return;
		}
	}
	if (!cJSON_IsObject(root)) {
		json_fault(p->faults, NULL, root,
			   "must be an object, such as {\"TracingFlags\": 11}");
		return;
	}
	read_object(p, NULL, root, document_properties,
		    sizeof(document_properties) / sizeof(document_properties[0]), data);
}

static void warn_unfiltered(struct parse *p, const struct filter_data *data)
{
	const struct json_place at = {.key = "TracingFlags"};

	if (data->n_filters > 0 && data->tracing_flags & TRACE_OVPN)
		json_fault(p->warnings, &at, NULL,
			   "filters test inner packets: with bit 8 set, all outer OVPN packets are "
			   "recorded, whatever they carry");
}

int filter_data_parse(const char *text, size_t len, const struct filter_data_rules *rules,
		      struct filter_data *out, struct faults *faults, struct faults *warnings)
{
	struct parse p = {.rules = rules, .faults = faults, .warnings = warnings};
	struct filter_data data = {.tracing_flags = TRACE_DEFAULT,
				   .snap_bytes = SNAP_BYTES_DEFAULT,
				   .file_mb = FILE_MB_DEFAULT};
	unsigned n_before = json_fault_count(faults);
	struct cJSON *root;

	if (text == NULL || is_blank(text, len)) {
		*out = data;
		return 0;
	}
	root = json_parse(text, len, rules->len_max > 0 ? rules->len_max : FILTER_DATA_BYTES_MAX,
			  faults);
	if (root == NULL)
		return -EINVAL;
	read_document(&p, root, &data);
	cJSON_Delete(root);
	if (json_fault_count(faults) != n_before) {
		filter_data_fini(&data);
		return -EINVAL;
	}
	warn_unfiltered(&p, &data);
	*out = data;
	return 0;
}

bool filter_tests_nothing(const struct filter *filter)
{
	return filter->n_src == 0 && filter->n_dst == 0 && filter->n_src_port == 0 &&
	       filter->n_dst_port == 0 && filter->n_protocol == 0 && filter->tcp_flags == 0;
}

void filter_data_fini(struct filter_data *data)
{
	for (unsigned i = 0; i < data->n_filters; i++)
		filter_fini(&data->filters[i]);
	*data = (struct filter_data){0};
}
