/* fuzz_sa_set.c - libFuzzer target: any bytes as a set of SAs.
 *
 * Most inputs get a header that is right, so that the fuzzer spends its time on the records; a fifth go in as they
 * are.  What passes is compiled, with the real ciphers, and each of its SAs is looked up.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/sa_table.h"
#include "tests/fuzz_insist.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_BYTES_MAX = 1 << 16 };

/* A packet that fits this record finds an SA: this one or one that goes before it. */
static void look_up(const struct sa_table *t, const struct sa_record *r)
{
	static const uint8_t zero[16];
	uint8_t family = r->dst.family != 0   ? r->dst.family
			 : r->src.family != 0 ? r->src.family
					      : 4;
	const struct sa *sa = sa_table_find(t, r->spi, family, r->src.value, r->dst.value);

	sa_table_prefetch(t, r->spi, family, r->dst.value);
	insist(sa != NULL || (r->src.family != 0 && r->src.family != family), "it is found");
	if (sa != NULL)
		insist(sa->slot < SA_MAX && sa->icv_bytes <= ESP_ICV_MAX, "in range");
	(void)sa_table_find(t, ~r->spi, 6, zero, r->dst.value);
}

static void use(const struct sa_set *set)
{
	struct error err = {0};
	struct sa_table *t = sa_table_open(set, &err);
	const uint32_t *slots;
	uint32_t n;

	if (t == NULL) { // too many of one SPI and destination, or a key that a library refuses
		insist(err.text[0] != '\0', "with a sentence");
		return;
	}
	for (uint32_t i = 0; i < set->header->n_sas; i++)
		look_up(t, &set->sas[i]);
	slots = sa_table_new_slots(t, &n);
	for (uint32_t i = 0; i < n; i++)
		insist(slots[i] < SA_MAX, "slots are in range");
	sa_table_close(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error err = {0};
	struct sa_set set;
	uint8_t *copy;

	if (size > INPUT_BYTES_MAX)
		return 0;
	copy = malloc(size > 0 ? size : 1);
	insist(copy != NULL, "memory");
	memcpy(copy, data, size);
	if (size >= sizeof(struct sa_set_header) && data[size - 1] % 5 != 0) {
		struct sa_set_header *h = (struct sa_set_header *)copy;

		h->magic = SA_SET_MAGIC;
		h->version = SA_SET_VERSION;
		h->flags &= SA_SET_VERIFY_ICV;
		h->reserved = 0;
		h->n_sas = (uint32_t)((size - sizeof(*h)) / sizeof(struct sa_record));
		size = sizeof(*h) + h->n_sas * sizeof(struct sa_record);
		h->total_bytes = (uint32_t)size;
	}
	if (sa_set_check(copy, size, &set, &err) == 0)
		use(&set);
	else
		insist(err.text[0] != '\0', "refused with a sentence");
	free(copy);
	return 0;
}
