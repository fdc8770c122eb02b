/* sa_set.c - prove a set of SAs before anything reads it.
 *
 * The size follows from the count; both must agree to the byte.  Then record by record: each enumeration
 * against its range, each length against its algorithm, each address against its family, each slot against
 * those before it.  What is proven here the table (dataplane/sa_table.c) and the cipher rely on.
 * Sentences are made of numbers and names of algorithms; bytes of keys never go into one.
 */
#include "filters/sa_set.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

static_assert(sizeof(struct sa_set_header) == 32 && sizeof(struct sa_record) == 264 &&
		      sizeof(struct sa_address) == 36,
	      "what crosses dp.sock has no padding and one layout");
static_assert(offsetof(struct sa_record, slot) == 80 && offsetof(struct sa_record, enc_key) == 100,
	      "tests/dp_control.py has these offsets");

/* What has been seen of the records before. */
struct progress {
	uint32_t slots[SA_MAX / 32]; // a bit each
	uint32_t n_wildcards;
};

static bool address_ok(const struct sa_address *a)
{
	unsigned n = a->family == 4 ? 4 : a->family == 6 ? 16 : 0;

	if ((a->family != 0 && n == 0) || a->reserved[0] || a->reserved[1] || a->reserved[2])
		return false;
	for (unsigned i = 0; i < sizeof(a->value); i++)
		if ((a->value[i] & ~a->mask[i]) != 0 || (i >= n && a->mask[i] != 0))
			return false;
	return true;
}

static bool slot_ok(struct progress *p, uint32_t slot)
{
	uint32_t bit = UINT32_C(1) << slot % 32;

	if (slot >= SA_MAX || (p->slots[slot / 32] & bit) != 0)
		return false;
	p->slots[slot / 32] |= bit;
	return true;
}

/* HMACs take a key of any length, a block cipher's MAC one of its own; nothing is to be checked without. */
static bool auth_key_ok(const struct sa_record *r)
{
	switch (r->auth) {
	case ESP_AUTH_NONE:
		return r->auth_key_bytes == 0;
	case ESP_AUTH_UNCHECKED:
		return r->auth_key_bytes <= ESP_AUTH_KEY_MAX; // not looked at
	case ESP_AUTH_AES_XCBC_96:
		return r->auth_key_bytes == esp_auths[ESP_AUTH_AES_XCBC_96].key_bytes;
	default:
		return r->auth_key_bytes > 0 && r->auth_key_bytes <= ESP_AUTH_KEY_MAX;
	}
}

/* NULL, or what is wrong with algorithms and lengths. */
static const char *keys_wrong(const struct sa_record *r)
{
	enum esp_cipher cipher = (enum esp_cipher)r->cipher;

	if (r->cipher >= ESP_CIPHER_COUNT || r->auth >= ESP_AUTH_COUNT)
		return "its cipher or authentication is none of those that there are";
	if (cipher == ESP_UNSUPPORTED) {
		if (r->enc_key_bytes != 0 || r->auth_key_bytes != 0)
			return "it has keys and an algorithm that is not supported";
		return r->icv_bytes <= ESP_ICV_MAX ? NULL : "its ICV is too long";
	}
	if (esp_is_aead(cipher) && r->auth != ESP_AUTH_NONE)
		return "its cipher brings its own ICV, and an authentication is named, too";
	if (r->enc_key_bytes > ESP_ENC_KEY_MAX || !esp_takes_key(cipher, r->enc_key_bytes))
		return "its cipher takes no key of that length";
	if (r->icv_bytes > ESP_ICV_MAX ||
	    !esp_takes_icv(cipher, (enum esp_auth)r->auth, r->icv_bytes))
		return "its ICV is not as long as its algorithm has it";
	return auth_key_ok(r) ? NULL : "its authentication takes no key of that length";
}

/* NULL, or what is wrong with the record. */
static const char *record_wrong(const struct sa_record *r, struct progress *p)
{
	if ((r->spi & ~r->spi_mask) != 0)
		return "its SPI has bits outside its mask";
	if (!address_ok(&r->src) || !address_ok(&r->dst))
		return "an address of it is none";
	if (!slot_ok(p, r->slot))
		return "its slot is out of range or another's";
	if (r->connection_kind > SA_CONNECTION_FIXED ||
	    (r->connection_kind != SA_CONNECTION_NONE && r->connection >= CONNECTIONS_MAX))
		return "its connection is out of range";
	if (r->mode > SA_MODE_TRANSPORT || (r->flags & ~(SA_NEW | SA_ESN)) != 0)
		return "its mode or flags are out of range";
	if (sa_record_is_wildcard(r) && ++p->n_wildcards > SA_WILDCARDS_MAX)
		return "it is one with wildcards too many";
	return keys_wrong(r);
}

static int refuse_record(const struct sa_record *r, uint32_t i, const char *why, struct error *err)
{
	const char *cipher = r->cipher < ESP_CIPHER_COUNT ? esp_ciphers[r->cipher].name : "?";
	const char *auth = r->auth < ESP_AUTH_COUNT ? esp_auths[r->auth].name : "?";

	error_set(err,
		  "SA %u of the set (SPI 0x%08x, %s with a key of %u bytes, %s with one of %u, ICV "
		  "of %u) was refused: %s; the keys in force stay.",
		  i + 1, r->spi, cipher, r->enc_key_bytes, auth, r->auth_key_bytes, r->icv_bytes,
		  why);
	return -EINVAL;
}

int sa_set_check(const void *mem, size_t bytes, struct sa_set *out, struct error *err)
{
	const struct sa_set_header *h = mem;
	const struct sa_record *sas;
	struct progress progress = {0};
	const char *why = NULL;

	if (bytes < sizeof(*h) || h->magic != SA_SET_MAGIC || h->version != SA_SET_VERSION)
		why = "it does not begin as one of this version does";
	else if (h->total_bytes != bytes || h->n_sas > SA_MAX ||
		 bytes - sizeof(*h) != h->n_sas * sizeof(struct sa_record))
		why = "its count does not add up to its size";
	else if ((h->flags & ~(uint32_t)SA_SET_VERIFY_ICV) != 0 || h->reserved != 0)
		why = "a flag in it means nothing";
	if (why != NULL) {
		error_set(err,
			  "The set of SAs of %zu bytes was refused: %s; the keys in force stay.",
			  bytes, why);
		return -EINVAL;
	}
	sas = (const struct sa_record *)(h + 1);
	for (uint32_t i = 0; i < h->n_sas; i++) {
		why = record_wrong(&sas[i], &progress);
		if (why != NULL)
			return refuse_record(&sas[i], i, why, err);
	}
	*out = (struct sa_set){h, sas};
	return 0;
}
