/* test_sa_table.c - the table finds what a list that is read from its beginning finds; keys are locked,
 * left out of core files and wiped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka wants the above first
#include <cmocka.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dataplane/locked_memory.h"
#include "dataplane/sa_table.h"
#include "tests/random_sas.h"

enum { ROUNDS = 60, PACKETS = 2000, MANY = 10000 };

/* ---- the slow twin ---- */

static bool slow_address_fits(const struct sa_address *a, uint8_t family, const uint8_t *address)
{
	if (a->family != 0 && a->family != family)
		return false;
	for (unsigned i = 0; i < (family == 4 ? 4U : 16U); i++)
		if (a->family != 0 && (address[i] & a->mask[i]) != a->value[i])
			return false;
	return true;
}

/* The first whose SPI and destination are whole, else the first of the others. */
static const struct sa_record *slow_find(const struct random_sas *set, const struct sa_packet *p)
{
	const struct sa_record *wildcard = NULL;

	for (uint32_t i = 0; i < set->header->n_sas; i++) {
		const struct sa_record *r = &set->sas[i];
		bool is_whole = r->spi_mask == UINT32_MAX && sa_address_is_whole(&r->dst);

		if ((p->spi & r->spi_mask) != r->spi ||
		    !slow_address_fits(&r->dst, p->family, p->dst) ||
		    !slow_address_fits(&r->src, p->family, p->src))
			continue;
		if (is_whole)
			return r;
		if (wildcard == NULL)
			wildcard = r;
	}
	return wildcard;
}

static struct sa_table *open_table(const struct random_sas *set)
{
	struct sa_set checked;
	struct error err = {0};
	struct sa_table *t;

	if (sa_set_check(set->header, set->bytes, &checked, &err) != 0)
		fail_msg("%s", err.text);
	t = sa_table_open(&checked, &err);
	if (t == NULL)
		fail_msg("%s", err.text);
	return t;
}

static void assert_same_sa(const struct sa *sa, const struct sa_record *r)
{
	assert_int_equal(sa->slot, r->slot);
	assert_int_equal(sa->connection, r->connection);
	assert_int_equal(sa->connection_kind, r->connection_kind);
	assert_int_equal(sa->mode, r->mode);
	assert_int_equal(sa->flags, r->flags);
	assert_int_equal(sa->esn_high, r->esn_high);
	assert_int_equal(sa->icv_bytes, r->icv_bytes);
	assert_int_equal(sa->iv_bytes, esp_ciphers[r->cipher].iv_bytes);
	assert_int_equal(sa->block_bytes, esp_ciphers[r->cipher].block_bytes);
	assert_int_equal(sa->key == NULL, r->cipher == ESP_UNSUPPORTED);
}

/* Gives how many were found. */
static unsigned compare(const struct random_sas *set, struct dice *d, unsigned n_packets)
{
	struct sa_table *t = open_table(set);
	unsigned n_found = 0;

	assert_int_equal(sa_table_n(t), set->header->n_sas);
	assert_int_equal(sa_table_generation(t), set->header->generation);
	assert_int_equal(sa_table_verifies_icv(t), set->header->flags);
	for (unsigned i = 0; i < n_packets; i++) {
		struct sa_packet p;
		const struct sa_record *r;
		const struct sa *sa;

		random_sas_packet(set, d, &p);
		sa_table_prefetch(t, p.spi, p.family, p.dst);
		sa = sa_table_find(t, p.spi, p.family, p.src, p.dst);
		r = slow_find(set, &p);
		assert_int_equal(sa == NULL, r == NULL);
		if (r != NULL)
			assert_same_sa(sa, r);
		n_found += r != NULL;
	}
	sa_table_close(t);
	return n_found;
}

/* ---- tests ---- */

static void table_finds_what_a_list_finds(void **state)
{
	struct dice d = dice_open("table_finds_what_a_list_finds");
	unsigned n_found = 0;
	struct random_sas set;

	(void)state;
	random_sas_open(&set);
	for (unsigned i = 0; i < ROUNDS; i++) {
		const struct random_sas_kind kind = {.n = 1 + dice_below(&d, 200),
						     .n_wildcards = dice_below(&d, 65),
						     .n_spis = dice_below(&d, 12),
						     .n_addresses = 4 + dice_below(&d, 6)};

		random_sas_throw(&set, &d, &kind);
		n_found += compare(&set, &d, PACKETS);
	}
	assert_in_range(n_found, ROUNDS * PACKETS / 5, ROUNDS * PACKETS - ROUNDS * PACKETS / 10);
	random_sas_close(&set);
}

static void ten_thousand_are_found_as_in_a_list(void **state)
{
	const struct random_sas_kind kind = {.n = MANY, .n_wildcards = SA_WILDCARDS_MAX};
	struct dice d = dice_open("ten_thousand_are_found_as_in_a_list");
	struct random_sas set;

	(void)state;
	random_sas_open(&set);
	random_sas_throw(&set, &d, &kind);
	assert_true(compare(&set, &d, PACKETS) > PACKETS / 4);
	random_sas_close(&set);
}

static void empty_table_finds_nothing(void **state)
{
	const struct random_sas_kind kind = {0};
	struct dice d = dice_open("empty_table_finds_nothing");
	static const uint8_t address[16];
	struct random_sas set;
	struct sa_table *t;
	uint32_t n = 7;

	(void)state;
	random_sas_open(&set);
	random_sas_throw(&set, &d, &kind);
	t = open_table(&set);
	for (uint32_t spi = 0; spi < 1000; spi++) {
		assert_null(sa_table_find(t, spi, 4, address, address));
		assert_null(sa_table_find(t, spi, 6, address, address));
	}
	(void)sa_table_new_slots(t, &n);
	assert_int_equal(n, 0);
	sa_table_close(t);
	random_sas_close(&set);
}

/* A set of n SAs of one SPI and destination, each with a source of its own. */
static void make_twins(struct random_sas *set, struct dice *d, uint32_t n)
{
	const struct random_sas_kind kind = {.n = n, .n_spis = 1, .n_addresses = 1};

	random_sas_throw(set, d, &kind);
	for (uint32_t i = 0; i < n; i++) {
		struct sa_record *r = &set->sas[i];

		r->dst = (struct sa_address){
			.value = {10, 0, 0, 1}, .mask = {255, 255, 255, 255}, .family = 4};
		r->src = r->dst;
		r->src.value[3] = (uint8_t)i;
	}
}

static void twins_of_one_spi_and_destination_are_told_by_their_source(void **state)
{
	struct dice d = dice_open("twins_of_one_spi_and_destination_are_told_by_their_source");
	const uint8_t dst[4] = {10, 0, 0, 1};
	struct random_sas set;
	struct sa_table *t;

	(void)state;
	random_sas_open(&set);
	make_twins(&set, &d, 64);
	t = open_table(&set);
	for (uint8_t i = 0; i < 65; i++) {
		const uint8_t src[4] = {10, 0, 0, i};
		const struct sa *sa = sa_table_find(t, set.sas[0].spi, 4, src, dst);

		if (i < 64)
			assert_int_equal(sa->slot, set.sas[i].slot);
		else
			assert_null(sa);
	}
	sa_table_close(t);
	random_sas_close(&set);
}

static void too_many_twins_are_refused_for_they_would_hold_a_worker_up(void **state)
{
	struct dice d = dice_open("too_many_twins_are_refused_for_they_would_hold_a_worker_up");
	size_t n_missing = locked_missing();
	struct error err = {0};
	struct sa_set checked;
	struct random_sas set;

	(void)state;
	random_sas_open(&set);
	make_twins(&set, &d, 65);
	assert_int_equal(sa_set_check(set.header, set.bytes, &checked, NULL), 0);
	assert_null(sa_table_open(&checked, &err));
	assert_non_null(strstr(err.text, "more than 64 of SPI 0x10000000"));
	assert_int_equal(locked_missing(), n_missing);
	random_sas_close(&set);
}

static void new_slots_are_those_of_new_sas(void **state)
{
	const struct random_sas_kind kind = {.n = 500, .n_wildcards = 10};
	struct dice d = dice_open("new_slots_are_those_of_new_sas");
	struct random_sas set;
	const uint32_t *slots;
	struct sa_table *t;
	uint32_t n, at = 0;

	(void)state;
	random_sas_open(&set);
	random_sas_throw(&set, &d, &kind);
	t = open_table(&set);
	slots = sa_table_new_slots(t, &n);
	for (uint32_t i = 0; i < kind.n; i++)
		if (set.sas[i].flags & SA_NEW)
			assert_int_equal(slots[at++], set.sas[i].slot);
	assert_int_equal(at, n);
	assert_in_range(n, 1, kind.n - 1);
	sa_table_close(t);
	random_sas_close(&set);
}

/* The flags of /proc/self/smaps for the mapping that begins there; "": none does. */
static void flags_of(const void *mem, char *out, size_t size)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	char line[256], start[32];
	bool is_it = false;

	*out = '\0';
	assert_non_null(smaps);
	(void)snprintf(start, sizeof(start), "%lx-", (unsigned long)(uintptr_t)mem);
	while (fgets(line, sizeof(line), smaps) != NULL) {
		if (strncmp(line, start, strlen(start)) == 0)
			is_it = true;
		if (is_it && strncmp(line, "VmFlags:", 8) == 0) {
			(void)snprintf(out, size, "%s", line);
			break;
		}
	}
	(void)fclose(smaps);
}

static void locked_memory_is_locked_and_in_no_core_file_and_no_child(void **state)
{
	size_t n_missing = locked_missing();
	void *mem = locked_alloc(100000);
	char flags[256];

	(void)state;
	assert_non_null(mem);
	flags_of(mem, flags, sizeof(flags));
	assert_non_null(strstr(flags, " dd")); // not dumped
	assert_non_null(strstr(flags, " dc")); // not copied
	if (locked_missing() == n_missing)
		assert_non_null(strstr(flags, " lo"));
	locked_free(mem, 100000);
	flags_of(mem, flags, sizeof(flags));
	assert_string_equal(flags, "");
	assert_int_equal(locked_missing(), n_missing);
	locked_free(NULL, 5);
}

/* In a child, which is no root: root may lock whatever the limit. */
static void memory_that_cannot_be_locked_is_given_and_counted(void **state)
{
	const struct rlimit none = {0, 0};
	pid_t pid;
	int status;

	(void)state;
	pid = fork();
	if (pid == 0) {
		uint8_t *mem;

		if ((geteuid() == 0 && setuid(65534) != 0) || setrlimit(RLIMIT_MEMLOCK, &none) != 0)
			_exit(1);
		mem = locked_alloc(5000);
		if (mem == NULL || locked_missing() != 8192)
			_exit(2);
		mem[4999] = 1;
		locked_free(mem, 5000);
		_exit(locked_missing() == 0 ? 0 : 3);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table_finds_what_a_list_finds),
		cmocka_unit_test(ten_thousand_are_found_as_in_a_list),
		cmocka_unit_test(empty_table_finds_nothing),
		cmocka_unit_test(twins_of_one_spi_and_destination_are_told_by_their_source),
		cmocka_unit_test(too_many_twins_are_refused_for_they_would_hold_a_worker_up),
		cmocka_unit_test(new_slots_are_those_of_new_sas),
		cmocka_unit_test(locked_memory_is_locked_and_in_no_core_file_and_no_child),
		cmocka_unit_test(memory_that_cannot_be_locked_is_given_and_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
