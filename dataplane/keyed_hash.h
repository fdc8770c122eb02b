/* keyed_hash.h - SipHash-2-4, for tables that strangers fill.
 *
 * Flow:    fragment.c, ovpn_flow.c.  Both see only the odd packet, so its 60 cycles do not matter;
 *          a plain CRC would let a sender who can read this source put all his flows in one bucket.
 * Source:  Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012.  OpenSSL has it behind
 *          EVP_MAC, which allocates; nothing may here.
 * Memory:  none.  The key comes from getrandom() when a table is opened.
 * Proof:   tests/test_fragment.c (the paper's test vector)
 */
#ifndef GATECAP_DATAPLANE_KEYED_HASH_H
#define GATECAP_DATAPLANE_KEYED_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct hash_key {
	uint64_t k[2];
};

static inline uint64_t hash_rotate(uint64_t x, int n)
{
	return x << n | x >> (64 - n);
}

static inline void hash_round(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = hash_rotate(v[1], 13) ^ v[0];
	v[3] = hash_rotate(v[3], 16) ^ v[2];
	v[0] = hash_rotate(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = hash_rotate(v[1], 17) ^ v[2];
	v[3] = hash_rotate(v[3], 21) ^ v[0];
	v[2] = hash_rotate(v[2], 32);
}

static inline void hash_word(uint64_t v[4], uint64_t word)
{
	v[3] ^= word;
	hash_round(v);
	hash_round(v);
	v[0] ^= word;
}

static inline uint64_t keyed_hash(const struct hash_key *key, const void *data, size_t len)
{
	uint64_t v[4] = {
		key->k[0] ^ 0x736f6d6570736575,
		key->k[1] ^ 0x646f72616e646f6d,
		key->k[0] ^ 0x6c7967656e657261,
		key->k[1] ^ 0x7465646279746573,
	};
	const uint8_t *at = data;
	uint64_t word, last = (uint64_t)len << 56;

	for (size_t left = len; left >= 8; left -= 8, at += 8) {
		memcpy(&word, at, 8);
		hash_word(v, word);
	}
	for (size_t i = 0; i < len % 8; i++)
		last |= (uint64_t)at[i] << (8 * i);
	hash_word(v, last);
	v[2] ^= 0xff;
	for (unsigned i = 0; i < 4; i++)
		hash_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
