/* lanes.h - eight packets side by side: a vector has one number of each.
 *
 * GCC's and clang's vector extension: operators work lane by lane, a comparison gives 0 or -1 in each.
 * Threads: plain values.
 * Refused: the gather instruction for v8_look_up().  On an EPYC 7001 reject_64 fell from 66 to
 *          58 Mpps by it, and on Intel's it waits for a fence since the mitigation of Downfall.
 */
#ifndef GATECAP_FILTERS_LANES_H
#define GATECAP_FILTERS_LANES_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum { LANES = 8 };

typedef int32_t v8 __attribute__((vector_size(4 * LANES)));
typedef uint32_t v8u __attribute__((vector_size(4 * LANES)));

/* Built in registers: a vector that is read from memory would wait for eight narrow stores. */
#define V8_OF(a) ((v8){(a)[0], (a)[1], (a)[2], (a)[3], (a)[4], (a)[5], (a)[6], (a)[7]})

/* A bit for each lane that is -1. */
static inline unsigned v8_bits(v8 mask)
{
	return (unsigned)_mm256_movemask_ps((__m256)mask);
}

/* table[at] for each lane. */
static inline v8 v8_look_up(const uint32_t *table, v8 at)
{
	uint32_t index[LANES];
	int32_t found[LANES];

	memcpy(index, &at, sizeof(index));
	for (unsigned i = 0; i < LANES; i++)
		found[i] = (int32_t)table[index[i]];
	return V8_OF(found);
}

#endif
