/* fuzz_insist.h - what all fuzz targets need: a check that is there in every build, input taken bite by
 * bite, and a look at the descriptors.
 *
 * Memory: struct bytes borrows the input.
 */
#ifndef GATECAP_TESTS_FUZZ_INSIST_H
#define GATECAP_TESTS_FUZZ_INSIST_H

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FUZZ_DESCRIPTORS_MAX = 100 };

static inline void insist(bool holds, const char *what)
{
	if (holds)
		return;
	(void)fprintf(stderr, "does not hold: %s\n", what);
	abort();
}

struct bytes {
	const uint8_t *at;
	size_t left;
};

/* The next byte; 0 at the end. */
static inline uint8_t bytes_u8(struct bytes *b)
{
	if (b->left == 0)
		return 0;
	b->left--;
	return *b->at++;
}

static inline uint16_t bytes_u16(struct bytes *b)
{
	uint16_t high = bytes_u8(b);

	return (uint16_t)(high << 8 | bytes_u8(b));
}

/* At most n bytes; gives how many there are. */
static inline size_t bytes_take(struct bytes *b, size_t n, const uint8_t **out)
{
	if (n > b->left)
		n = b->left;
	*out = b->at;
	b->at += n;
	b->left -= n;
	return n;
}

/* How many descriptors are open: as many before as after, nothing was left open. */
static inline int open_descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < FUZZ_DESCRIPTORS_MAX; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

#endif
