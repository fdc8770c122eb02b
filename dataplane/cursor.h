/* cursor.h - read untrusted bytes without ever running past their end.
 *
 * Flow:    headers.c, capture_file.c: a cursor by value on the stack, one call a field.
 * Threads: none of its own.
 * Memory:  borrows the bytes.
 * When short: a read says no (false or NULL), stores nothing and does not move.
 * Why not pointers and lengths by hand: every overrun in a parser was once a sum that looked right;
 *          here there is one comparison, `left >= n`, and it cannot overflow.
 * Proof:   tests/test_headers.c (each prefix of each header in front of a page that faults)
 */
#ifndef GATECAP_DATAPLANE_CURSOR_H
#define GATECAP_DATAPLANE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cursor {
	const uint8_t *at;
	size_t left;
};

static inline struct cursor cursor_over(const uint8_t *data, size_t len)
{
	return (struct cursor){.at = data, .left = len};
}

/* The next n bytes, and move behind them; NULL when fewer are left. */
static inline const uint8_t *cursor_take(struct cursor *c, size_t n)
{
	const uint8_t *at = c->at;

	if (c->left < n)
		return NULL;
	c->at += n;
	c->left -= n;
	return at;
}

static inline bool cursor_skip(struct cursor *c, size_t n)
{
	return cursor_take(c, n) != NULL;
}

static inline bool cursor_u8(struct cursor *c, uint8_t *value)
{
	const uint8_t *at = cursor_take(c, 1);

	if (at == NULL)
		return false;
	*value = at[0];
	return true;
}

static inline bool cursor_be16(struct cursor *c, uint16_t *value)
{
	const uint8_t *at = cursor_take(c, 2);

	if (at == NULL)
		return false;
	*value = (uint16_t)(at[0] << 8 | at[1]);
	return true;
}

/* Forget what lies beyond the next n bytes. */
static inline void cursor_cut(struct cursor *c, size_t n)
{
	if (c->left > n)
		c->left = n;
}

#endif
