/* test_worker_sas.c - a worker takes over SAs between bursts, and begins the counters of new ones. */
#include "tests/worker_rig.h"

#include "dataplane/sa_table.h"
#include "tests/random_sas.h"

enum { SAS = 100 };

/* n SAs in slots 0, 1, ...; those whose slot is odd are new. */
static struct sa_table *make_table(uint64_t generation, uint32_t n, struct dice *d)
{
	const struct random_sas_kind kind = {.n = n};
	struct random_sas set;
	struct sa_set checked;
	struct sa_table *table;

	random_sas_open(&set);
	random_sas_throw(&set, d, &kind);
	set.header->generation = generation;
	for (uint32_t i = 0; i < n; i++) {
		set.sas[i].slot = i;
		set.sas[i].flags = i % 2 != 0 ? SA_NEW : 0;
	}
	assert_int_equal(sa_set_check(set.header, set.bytes, &checked, NULL), 0);
	table = sa_table_open(&checked, NULL);
	assert_non_null(table);
	random_sas_close(&set);
	return table;
}

static void count_in_all(struct worker_shared *shared)
{
	for (uint32_t i = 0; i < SA_MAX; i++) {
		shared->sas[i].packets = 7;
		shared->sas[i].last_ns = 8;
	}
}

static void sas_are_taken_over_between_bursts_and_new_slots_begin_at_zero(void **state)
{
	struct dice d = dice_open("sas_are_taken_over_between_bursts");
	struct sa_table *table = make_table(3, SAS, &d);
	struct rig rig;

	(void)state;
	rig_open(&rig);
	count_in_all(rig.pair.shared);
	assert_int_equal(worker_sa_generation(rig.worker), 0);
	worker_publish_sas(rig.worker, table);
	assert_int_equal(worker_sa_generation(rig.worker), 0); // not by itself
	worker_idle(rig.worker, rig.now_ns);
	assert_int_equal(worker_sa_generation(rig.worker), 3);
	for (uint32_t i = 0; i < SA_MAX; i++) {
		bool is_new = i < SAS && i % 2 != 0;

		assert_int_equal(rig.pair.shared->sas[i].packets, is_new ? 0 : 7);
		assert_int_equal(rig.pair.shared->sas[i].last_ns, is_new ? 0 : 8);
	}
	// Once: what is counted from now on stays.
	count_in_all(rig.pair.shared);
	worker_idle(rig.worker, rig.now_ns);
	assert_int_equal(rig.pair.shared->sas[1].packets, 7);
	rig_close(&rig);
	sa_table_close(table);
}

static void burst_takes_sas_over_and_filters_stay_as_they_are(void **state)
{
	struct dice d = dice_open("burst_takes_sas_over_and_filters_stay_as_they_are");
	struct sa_table *first = make_table(1, SAS, &d), *second = make_table(2, 0, &d);
	struct rig rig;

	(void)state;
	rig_open(&rig);
	publish_one(&rig, 0, true, 120);
	worker_publish_sas(rig.worker, first);
	send_esp(&rig);
	assert_int_equal(worker_sa_generation(rig.worker), 1);
	assert_int_equal(worker_generation(rig.worker), 1);
	worker_publish_sas(rig.worker, second);
	publish_none(&rig);
	send_esp(&rig);
	assert_int_equal(worker_sa_generation(rig.worker), 2);
	assert_int_equal(worker_generation(rig.worker), 2);
	sa_table_close(first); // nobody looks at it any more: ASan would tell
	send_esp(&rig);
	worker_publish_sas(rig.worker, NULL); // no keys
	worker_idle(rig.worker, rig.now_ns);
	assert_int_equal(worker_sa_generation(rig.worker), 0);
	sa_table_close(second);
	send_esp(&rig);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sas_are_taken_over_between_bursts_and_new_slots_begin_at_zero),
		cmocka_unit_test(burst_takes_sas_over_and_filters_stay_as_they_are),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
