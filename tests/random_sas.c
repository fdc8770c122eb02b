/* random_sas.c - see random_sas.h. */
#include "tests/random_sas.h"

#include <assert.h>
#include <string.h>

static void throw_bytes(struct dice *d, uint8_t *out, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		out[i] = (uint8_t)dice_next(d);
}

/* One of few: a number stands for the same address each time. */
static void pick_address(const struct random_sas *set, struct dice *d, uint8_t family,
			 uint8_t out[16])
{
	unsigned n = family == 4 ? 4 : 16;
	struct dice of_number;

	memset(out, 0, 16);
	if (set->kind.n_addresses == 0) {
		throw_bytes(d, out, n);
		return;
	}
	of_number.state = dice_below(d, set->kind.n_addresses);
	throw_bytes(&of_number, out, n);
	out[0] = 10; // bytes that all share, as real ones do
}

static uint32_t pick_spi(const struct random_sas *set, struct dice *d)
{
	if (set->kind.n_spis == 0)
		return (uint32_t)dice_next(d);
	return 0x10000000 * (1 + dice_below(d, set->kind.n_spis));
}

static uint8_t pick_family(struct dice *d)
{
	return dice_one_in(d, 3) ? 6 : 4;
}

/* Half of the time not every bit is asked for: by a prefix, or by nibbles, as the esp_sa file has them. */
static void throw_mask(struct dice *d, struct sa_address *a)
{
	unsigned n = a->family == 4 ? 4 : 16;

	if (a->family == 0)
		return;
	memset(a->mask, 0xff, n);
	if (dice_one_in(d, 2))
		return;
	if (dice_one_in(d, 2)) {
		unsigned whole = dice_below(d, n);

		memset(a->mask + whole, 0, n - whole);
		a->mask[whole] = (uint8_t)(0xff00 >> dice_below(d, 8));
	} else {
		for (unsigned i = 0; i < n; i++)
			a->mask[i] = (uint8_t)(dice_one_in(d, 4)   ? 0xf0
					       : dice_one_in(d, 6) ? 0
								   : 0xff);
	}
	for (unsigned i = 0; i < n; i++)
		a->value[i] &= a->mask[i];
}

static void throw_address(const struct random_sas *set, struct dice *d, uint8_t family,
			  struct sa_address *out)
{
	memset(out, 0, sizeof(*out));
	out->family = family;
	if (family == 0)
		return;
	pick_address(set, d, family, out->value);
	memset(out->mask, 0xff, family == 4 ? 4 : 16);
}

static void throw_algorithms(struct dice *d, struct sa_record *r)
{
	const struct esp_cipher_info *cipher;
	const struct esp_auth_info *auth;
	unsigned n = 0;

	r->cipher = (uint8_t)dice_below(d, ESP_CIPHER_COUNT);
	if (r->cipher == ESP_UNSUPPORTED)
		return;
	cipher = &esp_ciphers[r->cipher];
	while (n < 3 && cipher->key_bytes[n] != 0)
		n++;
	if (n > 0)
		r->enc_key_bytes =
			(uint8_t)(cipher->key_bytes[dice_below(d, n)] + cipher->salt_bytes);
	throw_bytes(d, r->enc_key, r->enc_key_bytes);
	if (esp_is_aead((enum esp_cipher)r->cipher)) {
		for (n = 0; n < 3 && cipher->icv_bytes[n] != 0; n++)
			;
		r->icv_bytes = cipher->icv_bytes[dice_below(d, n)];
		return;
	}
	r->auth = (uint8_t)dice_below(d, ESP_AUTH_COUNT);
	auth = &esp_auths[r->auth];
	r->icv_bytes = r->auth == ESP_AUTH_UNCHECKED ? 12 : auth->icv_bytes;
	r->auth_key_bytes = auth->key_bytes;
	throw_bytes(d, r->auth_key, r->auth_key_bytes);
}

static void throw_wildcard(const struct random_sas *set, struct dice *d, struct sa_record *r)
{
	if (dice_one_in(d, 3)) {
		static const uint32_t masks[] = {0, 0xfffffff0, 0x0fffffff, 0xff00ff00};

		r->spi_mask = masks[dice_below(d, 4)];
		r->spi &= r->spi_mask;
		return;
	}
	if (dice_one_in(d, 3))
		throw_address(set, d, 0, &r->dst);
	else
		throw_mask(d, &r->dst);
	if (r->dst.family != 0 && sa_address_is_whole(&r->dst)) {
		r->dst.mask[0] &= 0xf0;
		r->dst.value[0] &= 0xf0;
	}
}

static void throw_record(const struct random_sas *set, struct dice *d, struct sa_record *r)
{
	uint8_t family = pick_family(d);

	memset(r, 0, sizeof(*r));
	r->spi = pick_spi(set, d);
	r->spi_mask = UINT32_MAX;
	throw_address(set, d, family, &r->dst);
	throw_address(set, d, dice_one_in(d, 3) ? 0 : family, &r->src);
	if (dice_one_in(d, 20)) // fits no packet
		throw_address(set, d, family == 4 ? 6 : 4, &r->src);
	throw_mask(d, &r->src);
	r->connection_kind = (uint8_t)dice_below(d, 3);
	r->connection = dice_below(d, CONNECTIONS_MAX);
	r->mode = (uint8_t)dice_below(d, 3);
	r->flags = (uint8_t)dice_below(d, 4);
	r->esn_high = (uint32_t)dice_next(d);
	throw_algorithms(d, r);
}

void random_sas_open(struct random_sas *set)
{
	size_t bytes = sizeof(struct sa_set_header) + SA_MAX * sizeof(struct sa_record);

	memset(set, 0, sizeof(*set));
	set->header = malloc(bytes);
	assert(set->header != NULL);
	set->sas = (struct sa_record *)(set->header + 1);
}

void random_sas_close(struct random_sas *set)
{
	free(set->header);
}

void random_sas_throw(struct random_sas *set, struct dice *d, const struct random_sas_kind *kind)
{
	uint32_t first_slot = dice_below(d, SA_MAX);

	set->kind = *kind;
	set->bytes = sizeof(struct sa_set_header) + kind->n * sizeof(struct sa_record);
	*set->header = (struct sa_set_header){.magic = SA_SET_MAGIC,
					      .version = SA_SET_VERSION,
					      .generation = 1 + dice_below(d, 1000),
					      .total_bytes = (uint32_t)set->bytes,
					      .n_sas = kind->n,
					      .flags = dice_below(d, 2)};
	for (uint32_t i = 0; i < kind->n; i++) {
		throw_record(set, d, &set->sas[i]);
		set->sas[i].slot = (first_slot + i * 5) % SA_MAX; // 5 and SA_MAX: no slot twice
	}
	for (uint32_t i = 0; i < kind->n_wildcards; i++)
		throw_wildcard(set, d, &set->sas[dice_below(d, kind->n)]);
}

void random_sas_packet(const struct random_sas *set, struct dice *d, struct sa_packet *out)
{
	const struct sa_record *r = &set->sas[dice_below(d, set->header->n_sas)];

	memset(out, 0, sizeof(*out));
	out->spi = pick_spi(set, d);
	out->family = pick_family(d);
	pick_address(set, d, out->family, out->src);
	pick_address(set, d, out->family, out->dst);
	if (dice_one_in(d, 4))
		return;
	// As one of them is, but perhaps for one field.
	if (r->dst.family != 0)
		out->family = r->dst.family;
	out->spi = r->spi | ((uint32_t)dice_next(d) & ~r->spi_mask);
	for (unsigned i = 0; i < 16; i++) {
		out->dst[i] = (uint8_t)(r->dst.value[i] | (dice_next(d) & ~r->dst.mask[i]));
		out->src[i] = (uint8_t)(r->src.value[i] | (dice_next(d) & ~r->src.mask[i]));
	}
	switch (dice_below(d, 8)) {
	case 0:
		out->spi ^= UINT32_C(1) << dice_below(d, 32);
		break;
	case 1:
		out->dst[dice_below(d, 16)] ^= (uint8_t)(1U << dice_below(d, 8));
		break;
	case 2:
		out->src[dice_below(d, 16)] ^= (uint8_t)(1U << dice_below(d, 8));
		break;
	case 3:
		out->family ^= 4 ^ 6;
		break;
	default:
		break;
	}
}
