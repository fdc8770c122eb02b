/* config_read.h - tables of keys, and the typed readers they name.
 *
 * One row a key; an object is read by walking its members once.  Readers report and go on, so that
 * all faults of a document come in one reply; a faulty field keeps its default.
 * Threads: any.  Memory: readers of lists and strings free what the field held and allocate anew.
 * Used by: control/config.c and control/config_keys.c only.
 */
#ifndef GATECAP_CONTROL_CONFIG_READ_H
#define GATECAP_CONTROL_CONFIG_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "filters/error.h"
#include "filters/json_place.h"

/* A key of an object.  Which of the lines below count depends on `read`. */
struct config_key {
	const char *name;
	/* `object` is the struct that the offsets are of. */
	void (*read)(struct faults *faults, const struct json_place *place,
		     const struct cJSON *value, const struct config_key *key, void *object);
	size_t offset, size;	  // of the field
	size_t n_offset;	  // lists: of their unsigned count
	int64_t min, max;	  // integers: their range; lists: at most max items
	const char *const *words; // enumerations: the names in the order of their values, then NULL
	const char *(*check)(const char *text); // texts: NULL, or what is wrong with it
	const struct config_key *keys;		// objects
	unsigned n_keys;
	const char *required; // not NULL: what is missing without it
	bool is_secret;	      // faults do not show the value
};

/* The whole configuration file; offsets are of struct config.  In config_keys.c. */
extern const struct config_key config_document;

void config_read_object(struct faults *faults, const struct json_place *place,
			const struct cJSON *value, const struct config_key *key, void *object);

/* Any integer field: of 1, 2, 4 or 8 bytes, within min..max. */
void config_read_integer(struct faults *faults, const struct json_place *place,
			 const struct cJSON *value, const struct config_key *key, void *object);
void config_read_boolean(struct faults *faults, const struct json_place *place,
			 const struct cJSON *value, const struct config_key *key, void *object);
void config_read_word(struct faults *faults, const struct json_place *place,
		      const struct cJSON *value, const struct config_key *key, void *object);

/* Text without control characters; empty only if its check allows that.
 * _text: into char[size].  _string: a malloc'ed char *.  _strings: a list of those.
 */
void config_read_text(struct faults *faults, const struct json_place *place,
		      const struct cJSON *value, const struct config_key *key, void *object);
void config_read_string(struct faults *faults, const struct json_place *place,
			const struct cJSON *value, const struct config_key *key, void *object);
void config_read_strings(struct faults *faults, const struct json_place *place,
			 const struct cJSON *value, const struct config_key *key, void *object);

/* Lists of struct subnet; _hosts takes whole addresses only.  Host bits are a fault here. */
void config_read_subnets(struct faults *faults, const struct json_place *place,
			 const struct cJSON *value, const struct config_key *key, void *object);
void config_read_hosts(struct faults *faults, const struct json_place *place,
		       const struct cJSON *value, const struct config_key *key, void *object);
/* One struct subnet that is a whole address. */
void config_read_host(struct faults *faults, const struct json_place *place,
		      const struct cJSON *value, const struct config_key *key, void *object);

/* A list of uint16_t within min..max, at most `size` of them. */
void config_read_u16s(struct faults *faults, const struct json_place *place,
		      const struct cJSON *value, const struct config_key *key, void *object);

/* True if value is an array of at most max items; else a fault. */
bool config_is_list(struct faults *faults, const struct json_place *place,
		    const struct cJSON *value, int64_t max);

/* NULL, or what is wrong: the checks of texts. */
const char *config_check_name(const char *text);
const char *config_check_source(const char *text);
const char *config_check_dns_name(const char *text);
const char *config_check_allowed_host(const char *text);
const char *config_check_proxy(const char *text);
const char *config_check_prefix(const char *text);
const char *config_check_file(const char *text); // an absolute path

#endif
