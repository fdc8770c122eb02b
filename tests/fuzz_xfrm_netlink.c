/* fuzz_xfrm_netlink.c - libFuzzer target: any bytes as a datagram of NETLINK_XFRM.
 *
 * Seeds: what a kernel sent (tests/data/xfrm).
 * Checks: an SA that is given has lengths that fit its algorithm and whole addresses, so that it can be in
 * a set; one that is not read has no key; the reader comes to an end.
 */
#include "control/xfrm_netlink.h"
#include "tests/fuzz_insist.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_put(const struct xfrm_message *m)
{
	const struct sa_record *r = &m->item.record;
	enum esp_cipher cipher = (enum esp_cipher)r->cipher;

	insist(sa_address_is_whole(&r->dst), "the destination is whole");
	insist(r->src.family == 0 || sa_address_is_whole(&r->src),
	       "so is the source, or it is any");
	insist(r->mode <= SA_MODE_TRANSPORT && (r->flags & ~SA_ESN) == 0, "mode and flags");
	insist(r->spi != 0 && r->spi_mask == UINT32_MAX, "an SPI");
	if (r->cipher == ESP_UNSUPPORTED) {
		insist(m->fault != XFRM_FINE && r->enc_key_bytes + r->auth_key_bytes == 0,
		       "no key of what is not read");
		return;
	}
	insist(m->fault == XFRM_FINE && r->cipher < ESP_CIPHER_COUNT && r->auth < ESP_AUTH_COUNT,
	       "algorithms");
	insist(r->enc_key_bytes <= ESP_ENC_KEY_MAX && esp_takes_key(cipher, r->enc_key_bytes),
	       "a key that fits");
	insist(esp_takes_icv(cipher, (enum esp_auth)r->auth, r->icv_bytes), "an ICV that fits");
	insist(r->auth_key_bytes <= ESP_AUTH_KEY_MAX, "an authentication key that fits");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size > 0 ? size : 1); // aligned, and its end is watched
	struct xfrm_reader reader = xfrm_reader_over(copy, size);
	struct xfrm_message m;
	size_t n = 0;

	insist(copy != NULL, "memory");
	if (size > 0)
		memcpy(copy, data, size);
	while (xfrm_read(&reader, &m)) {
		insist(++n <= size / 16 + 1, "each message takes its header at least");
		insist(m.kind <= XFRM_MALFORMED, "a kind");
		insist(memchr(m.item.algorithm, '\0', sizeof(m.item.algorithm)) != NULL,
		       "text ends");
		if (m.kind == XFRM_PUT)
			check_put(&m);
	}
	free(copy);
	return 0;
}
