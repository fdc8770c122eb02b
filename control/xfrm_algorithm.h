/* xfrm_algorithm.h - the kernel's names of algorithms, and what an SA's algorithms are to us.
 *
 * Flow:    xfrm_netlink.c has read the attributes -> xfrm_algorithm_decide() -> struct sa_record
 * Threads: any; no globals.
 * Memory:  borrows the names and keys; copies the keys into the record.
 * Source:  net/xfrm/xfrm_algo.c of Linux: a name there is a template of the crypto API.
 * Proof:   tests/test_xfrm_netlink.c
 */
#ifndef GATECAP_CONTROL_XFRM_ALGORITHM_H
#define GATECAP_CONTROL_XFRM_ALGORITHM_H

#include <stdbool.h>
#include <stdint.h>

#include "control/xfrm_netlink.h"

enum { XFRM_NAME_MAX = 64 }; // CRYPTO_MAX_ALG_NAME

/* One algorithm of an SA, as an attribute has it.  name "": there is none. */
struct xfrm_algorithm {
	char name[XFRM_NAME_MAX];
	uint32_t key_bytes;
	uint32_t icv_bits; // 0: not said
	const uint8_t *key;
};

struct xfrm_algorithms {
	struct xfrm_algorithm aead, crypt, auth;
};

/* Fill cipher, auth, lengths and keys of item's record, and the text for people.  Gives what is wrong. */
enum xfrm_fault xfrm_algorithm_decide(const struct xfrm_algorithms *algorithms,
				      struct sa_item *item);

/* The SA is known, gatecap does not read it: no keys, and the text begins with `why`. */
void xfrm_algorithm_give_up(struct sa_item *item, const char *why);

#endif
