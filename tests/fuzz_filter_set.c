/* fuzz_filter_set.c - libFuzzer target: any bytes as a filter set.
 *
 * The first bytes of the input are put under a header that is right in magic, version and size, so that
 * the fuzzer spends its time behind the first comparison; a fifth of the inputs go in as they are.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "filters/filter_set.h"
#include "filters/matcher.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct filter_set *set)
{
	static const uint8_t addrs[4][16] = {
		{10, 1, 2, 3}, {0x20, 1, 0xd, 0xb8}, {0}, {255, 255, 255}};
	struct matcher *m = matcher_open(set, NULL);

	if (m == NULL)
		abort(); // nothing that the check lets through is that large
	for (unsigned i = 0; i < 16; i++) {
		struct match_key key = {.src = addrs[i % 4],
					.dst = addrs[i / 4],
					.family = i & 1 ? 4 : 6,
					.protocol = (uint8_t)(i < 8 ? 6 : 17),
					.has_ports = i & 2,
					.has_tcp_flags = i < 8,
					.tcp_flags = (uint8_t)(1U << i % 8),
					.sport = (uint16_t)(i * 4369)};

		if (match_fold(match_inner(m, &key)) & ~matcher_slots(m))
			abort();
		if (match_outer(m, TRACE_OVPN, &key) & ~matcher_slots(m))
			abort();
		(void)match_inner_no_first(m, &key);
	}
	matcher_close(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct filter_set set;
	uint8_t *copy;

	if (size > 1 << 16)
		return 0;
	copy = malloc(size > 0 ? size : 1);
	if (copy == NULL)
		return 0;
	memcpy(copy, data, size);
	if (size >= sizeof(struct set_header) && data[size - 1] % 5 != 0) {
		struct set_header *h = (struct set_header *)copy;

		h->magic = SET_MAGIC;
		h->version = SET_VERSION;
		h->total_bytes = (uint32_t)size;
	}
	if (filter_set_check(copy, size, &set, NULL) == 0)
		use(&set);
	free(copy);
	return 0;
}
