/* test_clock.c - the timeline never goes back and always comes back to CLOCK_MONOTONIC. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "dataplane/clock.h"

#define SECOND UINT64_C(1000000000)
#define RATE   (UINT64_C(1) << 31) /* half a ns a tick: 2 GHz */

static const struct clock_params start = {.tsc0 = 1000, .ns0 = 5000, .mult = RATE};

static void scale_counts_from_the_anchor(void **state)
{
	(void)state;
	assert_int_equal(clock_scale(&start, 1000), 5000);
	assert_int_equal(clock_scale(&start, 3000), 6000);
	assert_int_equal(clock_scale(&start, 999), 5000); // before it: not earlier
	assert_int_equal(clock_scale(&start, 1000 + 200 * SECOND * 2),
			 5000 + 200 * SECOND); // no overflow
}

static void following_starts_where_the_old_one_is(void **state)
{
	struct clock_params next = clock_follow(&start, 3000, 6000, RATE);

	(void)state;
	assert_int_equal(clock_scale(&next, 3000), 6000);
	assert_int_equal(next.mult, RATE);
}

static void ahead_is_slowed_down_not_set_back(void **state)
{
	uint64_t tsc = 1000 + 2 * SECOND;
	struct clock_params next = clock_follow(&start, tsc, 5000 + SECOND - 100000, RATE);

	(void)state;
	assert_int_equal(clock_scale(&next, tsc), 5000 + SECOND);
	assert_true(next.mult < RATE && next.mult >= RATE - RATE / 2048);
	// A second later the 100 us are made up for, to the rounding.
	assert_in_range(clock_scale(&next, tsc + 2 * SECOND), 5000 + 2 * SECOND - 100001,
			5000 + 2 * SECOND - 99999);
}

static void behind_is_sped_up_and_far_behind_is_set_forward(void **state)
{
	uint64_t tsc = 1000 + 2 * SECOND;
	struct clock_params near = clock_follow(&start, tsc, 5000 + SECOND + 100000, RATE);
	struct clock_params far = clock_follow(&start, tsc, 5000 + SECOND + 2000000, RATE);

	(void)state;
	assert_int_equal(clock_scale(&near, tsc), 5000 + SECOND);
	assert_true(near.mult > RATE);
	assert_int_equal(clock_scale(&far, tsc), 5000 + SECOND + 2000000);
	assert_int_equal(far.mult, RATE);
}

static void any_sequence_of_anchors_never_goes_back(void **state)
{
	unsigned seed = (unsigned)time(NULL);
	struct clock_params params = start;
	uint64_t tsc = 1000, mono = 5000, last = 0;

	(void)state;
	print_message("seed %u\n", seed);
	srandom(seed);
	for (unsigned i = 0; i < 100000; i++) {
		uint64_t ticks = (uint64_t)random() % (4 * SECOND);

		tsc += ticks;
		mono = mono + ticks / 2 + (uint64_t)random() % 4000 - 2000;
		assert_true(clock_scale(&params, tsc) >= last);
		params = clock_follow(&params, tsc, mono, RATE);
		last = clock_scale(&params, tsc);
		assert_true(clock_scale(&params, tsc + 1) >= last);
	}
	assert_in_range(last - mono + 1000000, 0, 2000000); // within 1 ms of it all the time
}

static void real_clock_follows_monotonic(void **state)
{
	static struct clock clock;
	uint64_t last = 0;

	(void)state;
	clock_open(&clock);
	for (unsigned i = 0; i < 200000; i++) {
		struct timespec before, after;
		uint64_t now;

		clock_gettime(CLOCK_MONOTONIC, &before);
		now = clock_now_ns(&clock);
		clock_gettime(CLOCK_MONOTONIC, &after);
		assert_true(now >= last);
		last = now;
		if (i % 20000 == 0) {
			uint64_t low = (uint64_t)before.tv_sec * SECOND + (uint64_t)before.tv_nsec;
			uint64_t high = (uint64_t)after.tv_sec * SECOND + (uint64_t)after.tv_nsec;

			assert_true(now + 50000 >= low && now <= high + 50000);
			clock_anchor(&clock);
			last = 0; // the moment of an anchor: see "Order" in clock.h
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scale_counts_from_the_anchor),
		cmocka_unit_test(following_starts_where_the_old_one_is),
		cmocka_unit_test(ahead_is_slowed_down_not_set_back),
		cmocka_unit_test(behind_is_sped_up_and_far_behind_is_set_forward),
		cmocka_unit_test(any_sequence_of_anchors_never_goes_back),
		cmocka_unit_test(real_clock_follows_monotonic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
