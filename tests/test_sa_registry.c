/* test_sa_registry.c - three sources, one set: order, slots, limits, connections.
 *
 * The resolver's sorted tables are compared with a walk over the whole configuration, on random SAs.
 * Every set that is built here has passed sa_set_check().
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// cmocka wants the above first
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>

#include "control/sa_registry.h"
#include "control/sa_resolve.h"
#include "control/secret.h"
#include "tests/dice.h"

static const char gateway[] =
	"{\"gateway\":{\"public_addresses\":[\"192.0.2.1\",\"2001:db8::1\"]},\"connections\":["
	"{\"name\":\"a\",\"type\":\"IPsec\",\"peer\":{\"addresses\":[\"198.51.100.1\"]},"
	"\"remote_subnets\":[\"10.1.0.0/16\"],\"if_id\":41,\"mark\":7,\"reqid\":1},"
	"{\"name\":\"b\",\"type\":\"IPsec\",\"peer\":{\"addresses\":[\"198.51.100.2\","
	"\"2001:db8:b::/48\"]},\"remote_subnets\":[\"10.2.0.0/16\",\"10.1.9.0/24\"],\"if_id\":42,"
	"\"mark\":7,\"reqid\":2},"
	"{\"name\":\"shared-1\",\"type\":\"IPsec\",\"peer\":{\"addresses\":[\"203.0.113.0/24\"]}},"
	"{\"name\":\"shared-2\",\"type\":\"IPsec\",\"peer\":{\"addresses\":[\"203.0.113.9\"]}},"
	"{\"name\":\"roaming\",\"type\":\"IPsec\",\"peer\":\"any\"},"
	"{\"name\":\"named\",\"type\":\"IPsec\",\"peer\":{\"names\":[\"vpn.example.com\"]}},"
	"{\"name\":\"users\",\"type\":\"OpenVPN\",\"peer\":{\"addresses\":[\"198.51.100.3\"]},"
	"\"remote_subnets\":[\"10.3.0.0/16\"]}]}";

static const struct resolved_peer resolved[] = {
	{.connection = 5, .address = {.addr = {198, 51, 100, 77}, .prefix_len = 32, .family = 4}}};

static struct config config_of(const char *text)
{
	struct faults faults = {0};
	struct config config;

	if (config_parse(text, strlen(text), &config, &faults) != 0)
		fail_msg("%s", faults_text(&faults));
	return config;
}

static void whole_address(struct sa_address *out, const char *text)
{
	*out = (struct sa_address){.family = strchr(text, ':') != NULL ? 6 : 4};
	assert_int_equal(inet_pton(out->family == 4 ? AF_INET : AF_INET6, text, out->value), 1);
	memset(out->mask, 0xff, out->family == 4 ? 4 : 16);
}

/* An AES-GCM SA from src to dst (NULL: any address). */
static struct sa_item item_of(uint32_t spi, const char *src, const char *dst)
{
	struct sa_item item = {.record = {.spi = spi,
					  .spi_mask = (uint32_t)SA_SPI_WHOLE,
					  .cipher = ESP_AES_GCM,
					  .icv_bytes = 16,
					  .enc_key_bytes = 20}};

	memset(item.record.enc_key, (int)(spi & 0xff), 20);
	if (src != NULL)
		whole_address(&item.record.src, src);
	if (dst != NULL)
		whole_address(&item.record.dst, dst);
	return item;
}

static void put(struct sa_registry *r, enum sa_origin origin, const struct sa_item *item)
{
	struct error err = {0};

	if (sa_registry_put(r, origin, item, &err) != 0)
		fail_msg("%s", err.text);
}

/* A checked set; *mem is to be freed. */
static struct sa_set set_of(struct sa_registry *r, const struct config *config, void **mem)
{
	struct error err = {0};
	struct sa_set set;
	size_t bytes;

	*mem = sa_registry_build(r, config, resolved, 1, 17, &bytes);
	assert_non_null(*mem);
	if (sa_set_check(*mem, bytes, &set, &err) != 0)
		fail_msg("%s", err.text);
	assert_int_equal(set.header->generation, 17);
	assert_false(sa_registry_is_changed(r));
	return set;
}

/* The record of an SPI in the set. */
static const struct sa_record *record_of(const struct sa_set *set, uint32_t spi)
{
	for (uint32_t i = 0; i < set->header->n_sas; i++)
		if (set->sas[i].spi == spi)
			return &set->sas[i];
	fail_msg("SPI %u is not in the set", spi);
	return NULL;
}

static void an_empty_registry_is_a_set_of_none_and_worth_telling(void **state)
{
	struct sa_registry *r = sa_registry_open();
	struct config config = config_of("{\"esp\":{\"verify_icv\":true}}");
	void *mem;

	(void)state;
	assert_true(sa_registry_is_changed(r));
	assert_int_equal(set_of(r, &config, &mem).header->n_sas, 0);
	assert_int_equal(((struct sa_set_header *)mem)->flags, SA_SET_VERIFY_ICV);
	secret_free(mem);
	sa_registry_close(r);
	config_fini(&config);
}

static void file_goes_before_api_and_api_before_kernel(void **state)
{
	static const struct {
		enum sa_origin origin;
		uint32_t spi;
	} rows[] = {{SA_FROM_KERNEL, 500}, {SA_FROM_API, 400}, {SA_FROM_FILE, 300},
		    {SA_FROM_KERNEL, 501}, {SA_FROM_API, 401}, {SA_FROM_FILE, 301}};
	static const uint32_t wanted[] = {300, 301, 400, 401, 500, 501};
	struct sa_registry *r = sa_registry_open();
	struct config config = config_of("{}");
	enum sa_origin origin;
	struct sa_set set;
	void *mem;

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		struct sa_item item = item_of(rows[i].spi, NULL, "192.0.2.1");

		put(r, rows[i].origin, &item);
	}
	set = set_of(r, &config, &mem);
	for (uint32_t i = 0; i < 6; i++) {
		assert_int_equal(set.sas[i].spi, wanted[i]);
		assert_int_equal(sa_registry_at(r, i, &origin)->record.spi, wanted[i]);
		assert_int_equal(origin, i < 2	 ? SA_FROM_FILE
					 : i < 4 ? SA_FROM_API
						 : SA_FROM_KERNEL);
	}
	assert_null(sa_registry_at(r, 6, &origin));
	secret_free(mem);
	sa_registry_close(r);
	config_fini(&config);
}

/* ---- Slots ---- */

static void a_slot_is_new_until_a_set_with_it_was_applied(void **state)
{
	struct sa_registry *r = sa_registry_open();
	struct config config = config_of("{}");
	struct sa_item item = item_of(300, NULL, "192.0.2.1"), more = item_of(301, NULL, "::1");
	enum sa_origin origin;
	struct sa_set set;
	void *mem;

	(void)state;
	put(r, SA_FROM_API, &item);
	for (unsigned i = 0; i < 2; i++) { // the first one was refused
		set = set_of(r, &config, &mem);
		assert_int_equal(record_of(&set, 300)->flags, SA_NEW);
		assert_false(sa_registry_is_counted(r, sa_registry_at(r, 0, &origin)));
		secret_free(mem);
	}
	put(r, SA_FROM_API, &more); // while the set is on its way
	sa_registry_applied(r);
	assert_true(sa_registry_is_counted(r, sa_registry_at(r, 0, &origin)));
	assert_false(sa_registry_is_counted(r, sa_registry_at(r, 1, &origin)));
	set = set_of(r, &config, &mem);
	assert_int_equal(record_of(&set, 300)->flags, 0);
	assert_int_equal(record_of(&set, 301)->flags, SA_NEW);
	secret_free(mem);
	sa_registry_close(r);
	config_fini(&config);
}

static void an_sa_keeps_its_slot_when_its_key_is_another_one(void **state)
{
	struct sa_registry *r = sa_registry_open();
	struct config config = config_of("{}");
	struct sa_item first = item_of(300, NULL, "192.0.2.1"),
		       second = item_of(301, NULL, "192.0.2.1");
	struct sa_list list = {0};
	struct error err = {0};
	uint32_t slots[2];
	struct sa_set set;
	void *mem;

	(void)state;
	put(r, SA_FROM_FILE, &first);
	put(r, SA_FROM_FILE, &second);
	set = set_of(r, &config, &mem);
	slots[0] = record_of(&set, 300)->slot;
	slots[1] = record_of(&set, 301)->slot;
	assert_int_not_equal(slots[0], slots[1]);
	secret_free(mem);
	sa_registry_applied(r);

	first.record.enc_key[0] ^= 1;
	put(r, SA_FROM_FILE, &first);
	assert_true(sa_registry_is_changed(r));
	set = set_of(r, &config, &mem);
	assert_int_equal(record_of(&set, 300)->slot, slots[0]);
	assert_int_equal(record_of(&set, 300)->flags, 0);
	assert_int_equal(record_of(&set, 300)->enc_key[0], (300 & 0xff) ^ 1);
	secret_free(mem);

	second.record.enc_key[0] ^= 1; // the whole file again, in another order, one SA more
	assert_int_equal(sa_list_add(&list, &second), 0);
	second.record.spi = 299;
	assert_int_equal(sa_list_add(&list, &second), 0);
	assert_int_equal(sa_list_add(&list, &first), 0);
	assert_int_equal(sa_registry_replace(r, SA_FROM_FILE, &list, &err), 0);
	assert_int_equal(list.n, 0);
	set = set_of(r, &config, &mem);
	assert_int_equal(record_of(&set, 300)->slot, slots[0]);
	assert_int_equal(record_of(&set, 301)->slot, slots[1]);
	assert_int_equal(record_of(&set, 301)->flags, 0);
	assert_int_equal(record_of(&set, 299)->flags, SA_NEW);
	secret_free(mem);
	sa_registry_close(r);
	config_fini(&config);
}

static void what_is_known_already_changes_nothing(void **state)
{
	struct sa_registry *r = sa_registry_open();
	struct config config = config_of("{}");
	struct sa_item items[3] = {item_of(300, NULL, "192.0.2.1"), item_of(301, NULL, "192.0.2.1"),
				   item_of(302, NULL, "192.0.2.1")};
	struct error err = {0};
	void *mem;

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		put(r, SA_FROM_KERNEL, &items[i]);
	(void)set_of(r, &config, &mem);
	secret_free(mem);
	put(r, SA_FROM_KERNEL, &items[1]);
	assert_false(sa_registry_is_changed(r));
	for (unsigned round = 0; round < 4; round++) {
		struct sa_list list = {0};

		for (unsigned i = 0; i < 3; i++) // a dump, in another order each time
			assert_int_equal(sa_list_add(&list, &items[(i * 2 + round) % 3]), 0);
		if (round == 3)
			list.items[0].record.esn_high = 1;
		assert_int_equal(sa_registry_replace(r, SA_FROM_KERNEL, &list, &err), 0);
		assert_int_equal(sa_registry_is_changed(r), round == 3);
	}
	sa_registry_touch(r);
	assert_true(sa_registry_is_changed(r));
	sa_registry_close(r);
	config_fini(&config);
}

static void the_order_of_wildcards_is_a_change(void **state)
{
	struct sa_registry *r = sa_registry_open();
	struct config config = config_of("{}");
	struct sa_item items[2] = {item_of(300, NULL, NULL), item_of(301, NULL, NULL)};
	struct error err = {0};
	void *mem;

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		struct sa_list list = {0};

		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(sa_list_add(&list, &items[i ^ (round == 2)]), 0);
		assert_int_equal(sa_registry_replace(r, SA_FROM_FILE, &list, &err), 0);
		assert_int_equal(sa_registry_is_changed(r), round != 1);
		(void)set_of(r, &config, &mem);
		secret_free(mem);
	}
	sa_registry_close(r);
	config_fini(&config);
}

static void removal_frees_the_slot_and_what_is_not_there_is_said(void **state)
{
	struct sa_registry *r = sa_registry_open();
	struct config config = config_of("{}");
	struct sa_item items[3] = {item_of(300, NULL, "192.0.2.1"), item_of(301, NULL, "192.0.2.1"),
				   item_of(302, NULL, "192.0.2.1")};
	struct sa_set set;
	void *mem;

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		put(r, SA_FROM_API, &items[i]);
	assert_int_equal(sa_registry_remove(r, SA_FROM_FILE, &items[0]), -ENOENT);
	assert_int_equal(sa_registry_remove(r, SA_FROM_API, &items[0]), 0);
	assert_int_equal(sa_registry_remove(r, SA_FROM_API, &items[0]), -ENOENT);
	set = set_of(r, &config, &mem);
	assert_int_equal(set.header->n_sas, 2);
	(void)record_of(&set, 301);
	(void)record_of(&set, 302);
	secret_free(mem);
	assert_int_equal(sa_registry_remove(r, SA_FROM_API, &items[2]), 0);
	assert_int_equal(sa_registry_remove(r, SA_FROM_API, &items[1]), 0);
	assert_int_equal(sa_registry_n(r), 0);
	sa_registry_close(r);
	config_fini(&config);
}

/* Random changes: each SA is where it was put, and no slot has two. */
static void slots_are_never_shared(void **state)
{
	enum { STEPS = 3000, SPIS = 60 };
	struct dice dice = dice_open("test_sa_registry");
	struct sa_registry *r = sa_registry_open();
	struct config config = config_of("{}");
	bool is_there[SA_ORIGINS][SPIS] = {0};
	void *mem;

	(void)state;
	for (unsigned step = 0; step < STEPS; step++) {
		enum sa_origin origin = (enum sa_origin)dice_below(&dice, SA_ORIGINS);
		uint32_t spi = dice_below(&dice, SPIS);
		struct sa_item item = item_of(256 + spi, NULL, spi == 7 ? NULL : "192.0.2.1");
		bool taken[SA_MAX] = {false};
		unsigned n = 0;
		struct sa_set set;

		if (dice_one_in(&dice, 2)) {
			put(r, origin, &item);
			is_there[origin][spi] = true;
		} else {
			assert_int_equal(sa_registry_remove(r, origin, &item),
					 is_there[origin][spi] ? 0 : -ENOENT);
			is_there[origin][spi] = false;
		}
		set = set_of(r, &config, &mem);
		for (uint32_t i = 0; i < set.header->n_sas; i++) {
			assert_false(taken[set.sas[i].slot]);
			taken[set.sas[i].slot] = true;
		}
		for (unsigned o = 0; o < SA_ORIGINS; o++)
			for (unsigned i = 0; i < SPIS; i++)
				n += is_there[o][i];
		assert_int_equal(set.header->n_sas, n);
		secret_free(mem);
	}
	sa_registry_close(r);
	config_fini(&config);
}

/* ---- Limits ---- */

static struct sa_list list_of(uint32_t n, uint32_t first)
{
	struct sa_list list = {0};

	assert_int_equal(sa_list_grow(&list, n), 0);
	for (uint32_t i = 0; i < n; i++) {
		struct sa_item item = item_of(first + i, NULL, "192.0.2.1");

		assert_int_equal(sa_list_add(&list, &item), 0);
	}
	return list;
}

static void ten_thousand_sas_fit_and_one_too_many_is_refused_with_all_of_its_list(void **state)
{
	struct sa_registry *r = sa_registry_open();
	struct config config = config_of("{}");
	struct sa_list kernel = list_of(10000, 1000), file = list_of(SA_MAX - 10000, 20000),
		       longer = list_of(SA_MAX - 9999, 40000);
	struct sa_item item = item_of(90000, NULL, "192.0.2.1");
	struct error err = {0};
	struct sa_set set;
	void *mem;

	(void)state;
	assert_int_equal(sa_registry_replace(r, SA_FROM_KERNEL, &kernel, &err), 0);
	assert_int_equal(sa_registry_replace(r, SA_FROM_FILE, &file, &err), 0);
	assert_int_equal(sa_registry_replace(r, SA_FROM_FILE, &longer, &err), -E2BIG);
	assert_non_null(strstr(err.text, "There would be 16385 SAs"));
	assert_int_equal(longer.n, 0);
	assert_int_equal(sa_registry_put(r, SA_FROM_API, &item, &err), -E2BIG);
	assert_int_equal(sa_registry_n(r), SA_MAX);
	set = set_of(r, &config, &mem);
	assert_int_equal(set.header->n_sas, SA_MAX);
	assert_int_equal(record_of(&set, 20000)->enc_key[0], 20000 & 0xff);
	secret_free(mem);
	sa_registry_close(r);
	config_fini(&config);
}

static void one_wildcard_too_many_is_refused(void **state)
{
	struct sa_registry *r = sa_registry_open();
	struct sa_item item = item_of(300, NULL, NULL);
	struct error err = {0};

	(void)state;
	for (uint32_t i = 0; i < SA_WILDCARDS_MAX; i++) {
		item.record.spi = 0x100 * i;
		item.record.spi_mask = i % 2 != 0 ? 0xffffff00 : (uint32_t)SA_SPI_WHOLE;
		put(r, i % 3 != 0 ? SA_FROM_FILE : SA_FROM_API, &item);
	}
	item.record.spi = 0xff000000;
	assert_int_equal(sa_registry_put(r, SA_FROM_KERNEL, &item, &err), -E2BIG);
	assert_non_null(strstr(err.text, "65 SAs with a wildcard"));
	item = item_of(300, NULL, "192.0.2.1"); // a whole one is none
	put(r, SA_FROM_KERNEL, &item);
	sa_registry_close(r);
}

static void a_batch_replaces_and_adds_or_changes_nothing(void **state)
{
	struct sa_registry *r = sa_registry_open();
	struct config config = config_of("{}");
	struct sa_list list = list_of(100, 1000), more = list_of(100, 1050),
		       too_long = list_of(SA_MAX, 50000);
	struct error err = {0};
	struct sa_set set;
	void *mem;

	(void)state;
	assert_int_equal(sa_registry_put_all(r, SA_FROM_API, &list, &err), 0);
	more.items[0].record.enc_key[0] = 0xee;
	assert_int_equal(sa_registry_put_all(r, SA_FROM_API, &more, &err), 0);
	assert_int_equal(sa_registry_put_all(r, SA_FROM_API, &too_long, &err), -E2BIG);
	assert_non_null(strstr(err.text, "16534 SAs"));
	assert_int_equal(too_long.n, 0);
	set = set_of(r, &config, &mem);
	assert_int_equal(set.header->n_sas, 150);
	assert_int_equal(record_of(&set, 1050)->enc_key[0], 0xee);
	assert_int_equal(record_of(&set, 1000)->enc_key[0], 1000 & 0xff);
	secret_free(mem);
	sa_registry_close(r);
	config_fini(&config);
}

/* ---- Connections ---- */

struct row {
	unsigned number;
	const char *src, *dst, *name, *remote;
	uint32_t if_id, mark, reqid;
	enum sa_connection kind;
	const char *connection; // NULL: none
};

static const struct row rows[] = {
	/* The name goes before all else, and one that nobody has is no reason to guess. */
	{1, "198.51.100.1", "192.0.2.1", "b", "10.1.0.0/16", 41, 0, 0, SA_CONNECTION_FIXED, "b"},
	{2, "198.51.100.1", "192.0.2.1", "c", NULL, 41, 0, 0, SA_CONNECTION_NONE, NULL},
	{3, "198.51.100.1", "192.0.2.1", "users", NULL, 0, 0, 0, SA_CONNECTION_NONE, NULL},
	/* if_id, then mark, then reqid; what two have decides nothing. */
	{10, "198.51.100.1", "192.0.2.1", "", "10.1.0.0/16", 42, 0, 1, SA_CONNECTION_FIXED, "b"},
	{11, "198.51.100.1", "192.0.2.1", "", NULL, 0, 7, 2, SA_CONNECTION_FIXED, "b"},
	{12, "198.51.100.1", "192.0.2.1", "", NULL, 99, 7, 99, SA_CONNECTION_PEER, "a"},
	{13, "198.51.100.2", "192.0.2.1", "", NULL, 0, 0, 1, SA_CONNECTION_FIXED, "a"},
	/* The selector's remote subnet: the longest prefix, and all of the selector. */
	{20, NULL, "192.0.2.1", "", "10.1.0.0/16", 0, 0, 0, SA_CONNECTION_FIXED, "a"},
	{21, NULL, "192.0.2.1", "", "10.1.9.64/26", 0, 0, 0, SA_CONNECTION_FIXED, "b"},
	{22, NULL, "192.0.2.1", "", "10.1.8.0/22", 0, 0, 0, SA_CONNECTION_FIXED, "a"},
	{23, "198.51.100.2", "192.0.2.1", "", "10.0.0.0/8", 0, 0, 0, SA_CONNECTION_PEER, "b"},
	{24, "198.51.100.2", "192.0.2.1", "", "0.0.0.0/0", 0, 0, 0, SA_CONNECTION_PEER, "b"},
	{25, NULL, "192.0.2.1", "", "10.3.0.0/16", 0, 0, 0, SA_CONNECTION_NONE, NULL}, // OpenVPN's
	/* The peer's address, of whichever end is not ours. */
	{30, "198.51.100.1", "192.0.2.1", "", NULL, 0, 0, 0, SA_CONNECTION_PEER, "a"},
	{31, "192.0.2.1", "198.51.100.1", "", NULL, 0, 0, 0, SA_CONNECTION_PEER, "a"},
	{32, NULL, "198.51.100.2", "", NULL, 0, 0, 0, SA_CONNECTION_PEER, "b"},
	{33, "2001:db8:b::7", "2001:db8::1", "", NULL, 0, 0, 0, SA_CONNECTION_PEER, "b"},
	{34, "203.0.113.8", "192.0.2.1", "", NULL, 0, 0, 0, SA_CONNECTION_PEER, "shared-1"},
	{35, "203.0.113.9", "192.0.2.1", "", NULL, 0, 0, 0, SA_CONNECTION_NONE, NULL}, // of two
	{36, "198.51.100.77", "192.0.2.1", "", NULL, 0, 0, 0, SA_CONNECTION_PEER, "named"},
	{37, "198.51.100.3", "192.0.2.1", "", NULL, 0, 0, 0, SA_CONNECTION_NONE, NULL}, // OpenVPN's
	{38, "198.51.100.4", "192.0.2.1", "", NULL, 0, 0, 0, SA_CONNECTION_NONE, NULL}, // nobody's
	{39, "198.51.100.1", "198.51.100.2", "", NULL, 0, 0, 0, SA_CONNECTION_NONE, NULL}, // two
	{40, NULL, NULL, "", NULL, 0, 0, 0, SA_CONNECTION_NONE, NULL},
};

static struct sa_item item_of_row(const struct row *row)
{
	struct sa_item item = item_of(256 + row->number, row->src, row->dst);
	bool had_host_bits;
	struct subnet remote;
	const char *why;

	(void)snprintf(item.connection, sizeof(item.connection), "%s", row->name);
	item.if_id = row->if_id;
	item.mark = row->mark;
	item.reqid = row->reqid;
	if (row->remote != NULL) {
		assert_int_equal(subnet_parse(row->remote, &remote, &had_host_bits, &why), 0);
		item.remote = (struct set_subnet){.prefix_len = remote.prefix_len,
						  .family = remote.family};
		memcpy(item.remote.addr, remote.addr, sizeof(remote.addr));
	}
	return item;
}

static void each_sa_is_its_connections(void **state)
{
	struct sa_registry *r = sa_registry_open();
	struct config config = config_of(gateway);
	const struct faults *warnings;
	struct sa_set set;
	void *mem;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct sa_item item = item_of_row(&rows[i]);

		put(r, SA_FROM_KERNEL, &item);
	}
	set = set_of(r, &config, &mem);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct sa_record *record = record_of(&set, 256 + rows[i].number);

		if (record->connection_kind != rows[i].kind)
			fail_msg("row %u: kind %u", rows[i].number, record->connection_kind);
		if (rows[i].connection != NULL &&
		    strcmp(config.connections[record->connection].name, rows[i].connection) != 0)
			fail_msg("row %u: %s", rows[i].number,
				 config.connections[record->connection].name);
	}
	warnings = sa_registry_warnings(r);
	assert_int_equal(warnings->n, 2); // rows 2 and 3
	assert_string_equal(warnings->list[0].text,
			    "The SA with SPI 0x00000102 asks for connection \"c\", and there is no "
			    "IPsec connection of that name: it belongs to none.");
	secret_free(mem);
	sa_registry_close(r);
	config_fini(&config);
}

static void a_new_configuration_is_asked_again(void **state)
{
	struct sa_registry *r = sa_registry_open();
	struct config before = config_of("{}"), after = config_of(gateway);
	struct sa_item item = item_of(300, "198.51.100.1", "192.0.2.1");
	struct sa_set set;
	void *mem;

	(void)state;
	put(r, SA_FROM_FILE, &item);
	set = set_of(r, &before, &mem);
	assert_int_equal(record_of(&set, 300)->connection_kind, SA_CONNECTION_NONE);
	secret_free(mem);
	sa_registry_touch(r);
	set = set_of(r, &after, &mem);
	assert_int_equal(record_of(&set, 300)->connection_kind, SA_CONNECTION_PEER);
	secret_free(mem);
	sa_registry_close(r);
	config_fini(&before);
	config_fini(&after);
}

/* ---- The slow twin: one connection after the other, bit by bit ---- */

static bool covers(const struct subnet *subnet, uint8_t family, const uint8_t *address,
		   unsigned len)
{
	if (subnet->family != family || subnet->prefix_len > len)
		return false;
	for (unsigned bit = 0; bit < subnet->prefix_len; bit++)
		if (((subnet->addr[bit / 8] ^ address[bit / 8]) & 0x80 >> bit % 8) != 0)
			return false;
	return true;
}

/* The sole one of those marked, or -1. */
static int sole(const bool *marked, unsigned n)
{
	int found = -1;

	for (unsigned i = 0; i < n; i++) {
		if (marked[i] && found >= 0)
			return -1;
		if (marked[i])
			found = (int)i;
	}
	return found;
}

static int slow_by_remote(const struct config *config, const struct set_subnet *remote)
{
	bool marked[64] = {false};
	int best = -1;

	if (remote->family == 0)
		return -1;
	for (unsigned i = 0; i < config->n_connections; i++)
		for (unsigned j = 0; j < config->connections[i].n_remote_subnets; j++) {
			const struct subnet *s = &config->connections[i].remote_subnets[j];

			if (!covers(s, remote->family, remote->addr, remote->prefix_len))
				continue;
			if (s->prefix_len > best)
				memset(marked, 0, sizeof(marked));
			if (s->prefix_len >= best) {
				best = s->prefix_len;
				marked[i] = true;
			}
		}
	return sole(marked, config->n_connections);
}

static int slow_by_peer(const struct config *config, const struct sa_record *record)
{
	const struct sa_address *const ends[] = {&record->src, &record->dst};
	bool marked[64] = {false};

	for (unsigned e = 0; e < 2; e++) {
		bool is_ours = false;

		for (unsigned i = 0; i < config->gateway.n_public_addresses; i++)
			is_ours |= covers(&config->gateway.public_addresses[i], ends[e]->family,
					  ends[e]->value, 32);
		for (unsigned i = 0; !is_ours && i < config->n_connections; i++)
			for (unsigned j = 0; j < config->connections[i].peer.n_addresses; j++)
				marked[i] |= covers(&config->connections[i].peer.addresses[j],
						    ends[e]->family, ends[e]->value, 32);
	}
	return sole(marked, config->n_connections);
}

static int slow_find(const struct config *config, const struct sa_item *item, bool *is_fixed)
{
	int found = -1;

	for (unsigned k = 0; k < 3 && found < 0; k++) {
		uint32_t key = k == 0 ? item->if_id : k == 1 ? item->mark : item->reqid;
		bool marked[64] = {false};

		for (unsigned i = 0; i < config->n_connections; i++) {
			const struct connection *c = &config->connections[i];

			marked[i] = key != 0 && key == (k == 0	 ? c->if_id
							: k == 1 ? c->mark
								 : c->reqid);
		}
		found = sole(marked, config->n_connections);
	}
	if (found < 0)
		found = slow_by_remote(config, &item->remote);
	*is_fixed = found >= 0;
	return found >= 0 ? found : slow_by_peer(config, &item->record);
}

/* 20 connections in a small space, so that they overlap. */
static struct config random_config(struct dice *dice)
{
	char text[20000] = "{\"gateway\":{\"public_addresses\":[\"10.0.0.1\",\"10.0.0.2\"]},"
			   "\"connections\":[";
	size_t len = strlen(text);

	for (unsigned i = 0; i < 20; i++) {
		static const char *const wide[] = {"172.0.0.0/8", "172.16.0.0/12", "172.32.0.0/12"};
		unsigned c = dice_below(dice, 8);

		len += (size_t)snprintf(
			text + len, sizeof(text) - len,
			"%s{\"name\":\"c%u\",\"type\":\"IPsec\",\"peer\":{\"addresses\":"
			"[\"10.0.0.%u\",\"10.0.0.%u/31\"]},\"remote_subnets\":[\"%s\","
			"\"172.16.%u.0/24\"],\"if_id\":%u,\"mark\":%u,\"reqid\":%u}",
			i > 0 ? "," : "", i, dice_below(dice, 8), 2 * c, wide[dice_below(dice, 3)],
			c, dice_below(dice, 30), dice_below(dice, 30), dice_below(dice, 30));
	}
	(void)snprintf(text + len, sizeof(text) - len, "]}");
	return config_of(text);
}

static void the_resolver_agrees_with_a_walk_over_everything(void **state)
{
	enum { CONFIGS = 50, SAS = 200 };
	struct dice dice = dice_open("test_sa_registry");
	unsigned n_found = 0;

	(void)state;
	for (unsigned round = 0; round < CONFIGS; round++) {
		struct config config = random_config(&dice);
		struct sa_resolver *resolver = sa_resolver_open(&config, NULL, 0);

		assert_non_null(resolver);
		for (unsigned i = 0; i < SAS; i++) {
			char src[24], dst[24];
			struct sa_item item;
			enum sa_connection kind;
			uint32_t connection;
			bool is_fixed;
			int wanted;

			(void)snprintf(src, sizeof(src), "10.0.0.%u", dice_below(&dice, 16));
			(void)snprintf(dst, sizeof(dst), "10.0.0.%u", dice_below(&dice, 3));
			item = item_of(300, src, dst);
			item.if_id = dice_one_in(&dice, 4) ? dice_below(&dice, 30) : 0;
			item.mark = dice_one_in(&dice, 4) ? dice_below(&dice, 30) : 0;
			item.reqid = dice_one_in(&dice, 4) ? dice_below(&dice, 30) : 0;
			if (dice_one_in(&dice, 2))
				item.remote = (struct set_subnet){
					.addr = {172, (uint8_t)(16 * (1 + dice_below(&dice, 3))),
						 (uint8_t)dice_below(&dice, 10)},
					.prefix_len = (uint8_t)(24 + dice_below(&dice, 9)),
					.family = 4};
			wanted = slow_find(&config, &item, &is_fixed);
			kind = sa_resolver_find(resolver, &item, &connection);
			assert_int_equal(kind, wanted < 0 ? SA_CONNECTION_NONE
					       : is_fixed ? SA_CONNECTION_FIXED
							  : SA_CONNECTION_PEER);
			assert_int_equal(connection, wanted < 0 ? 0 : wanted);
			n_found += wanted >= 0;
		}
		sa_resolver_close(resolver);
		config_fini(&config);
	}
	print_message("%u of %u have a connection\n", n_found, CONFIGS * SAS);
	assert_in_range(n_found, CONFIGS * SAS / 8, CONFIGS * SAS * 7 / 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_registry_is_a_set_of_none_and_worth_telling),
		cmocka_unit_test(file_goes_before_api_and_api_before_kernel),
		cmocka_unit_test(a_slot_is_new_until_a_set_with_it_was_applied),
		cmocka_unit_test(an_sa_keeps_its_slot_when_its_key_is_another_one),
		cmocka_unit_test(what_is_known_already_changes_nothing),
		cmocka_unit_test(the_order_of_wildcards_is_a_change),
		cmocka_unit_test(removal_frees_the_slot_and_what_is_not_there_is_said),
		cmocka_unit_test(slots_are_never_shared),
		cmocka_unit_test(
			ten_thousand_sas_fit_and_one_too_many_is_refused_with_all_of_its_list),
		cmocka_unit_test(one_wildcard_too_many_is_refused),
		cmocka_unit_test(a_batch_replaces_and_adds_or_changes_nothing),
		cmocka_unit_test(each_sa_is_its_connections),
		cmocka_unit_test(a_new_configuration_is_asked_again),
		cmocka_unit_test(the_resolver_agrees_with_a_walk_over_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
