/* dice.h - random numbers for tests, with a seed that is printed and can be given again.
 *
 * Threads: one struct dice a thread.
 * Usage:   struct dice d = dice_open("test_ring"); ... GATECAP_SEED=<printed> repeats a run.
 */
#ifndef GATECAP_TESTS_DICE_H
#define GATECAP_TESTS_DICE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

struct dice {
	uint64_t state;
};

/* splitmix64 */
static inline uint64_t dice_next(struct dice *d)
{
	uint64_t z = d->state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* 0 .. n - 1 */
static inline uint32_t dice_below(struct dice *d, uint32_t n)
{
	return (uint32_t)(dice_next(d) >> 33) % n;
}

/* True once in n throws. */
static inline bool dice_one_in(struct dice *d, uint32_t n)
{
	return dice_below(d, n) == 0;
}

static inline struct dice dice_open(const char *test)
{
	const char *given = getenv("GATECAP_SEED");
	uint64_t seed = 1;

	if (given != NULL)
		seed = strtoull(given, NULL, 0);
	else if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		seed = 1;
	printf("%s: GATECAP_SEED=%llu\n", test, (unsigned long long)seed);
	return (struct dice){seed};
}

#endif
