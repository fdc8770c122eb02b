/* store_items.c - see store_items.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka wants the above first
#include <cmocka.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/store_items.h"

uint32_t item_caplen(uint32_t n, uint32_t range)
{
	return ITEM_BYTES_MIN + (n * 2654435761U >> 16) % range;
}

void item_fill(uint8_t *frame, uint32_t n, uint32_t range)
{
	for (uint32_t i = 0; i < item_caplen(n, range); i++)
		frame[i] = (uint8_t)(n * 31 + i * 7);
	memcpy(frame, &n, sizeof(n));
}

void item_append(struct store *store, uint32_t n, uint32_t range)
{
	const struct record r = {.time_ns = ITEM_BASE_NS + 10 * (uint64_t)n,
				 .wire_len = 2000,
				 .caplen = (uint16_t)item_caplen(n, range),
				 .captures = 1,
				 .port = (uint8_t)(n % 3)};
	uint8_t frame[ITEM_SNAP];

	item_fill(frame, n, range);
	store_append(store, &r, frame);
}

static void check_item(const struct pcap_pkthdr *h, const uint8_t *bytes, uint32_t n,
		       uint32_t range)
{
	uint8_t frame[ITEM_SNAP];

	assert_int_equal(h->caplen, item_caplen(n, range));
	assert_int_equal(h->ts.tv_usec, ITEM_BASE_NS + 10 * n);
	item_fill(frame, n, range);
	assert_memory_equal(bytes, frame, h->caplen);
}

static void read_pcap(struct found *found, uint32_t range)
{
	char why[PCAP_ERRBUF_SIZE];
	struct pcap_pkthdr *h;
	const uint8_t *bytes;
	int rc;
	pcap_t *p = pcap_fopen_offline_with_tstamp_precision(
		fmemopen(found->pcap, found->bytes, "rb"), PCAP_TSTAMP_PRECISION_NANO, why);

	assert_non_null(p);
	while ((rc = pcap_next_ex(p, &h, &bytes)) == 1) {
		uint32_t n;

		assert_true(h->caplen >= ITEM_BYTES_MIN);
		memcpy(&n, bytes, sizeof(n));
		check_item(h, bytes, n, range);
		assert_true(found->n == 0 || found->list[found->n - 1] < n); // in order, none twice
		found->list[found->n++] = n;
	}
	assert_int_equal(rc, PCAP_ERROR_BREAK);
	pcap_close(p);
}

struct found items_read(struct store *store, uint64_t file_bytes_max, uint32_t range)
{
	struct found found = {0};
	struct error err = {0};
	struct store_view *view = store_view_final(store, &err);
	uint64_t in_file = 0;

	if (view == NULL)
		fail_msg("%s", err.text);
	found.bytes = store_view_bytes(view);
	assert_true(found.bytes <= file_bytes_max);
	found.pcap = malloc(found.bytes);
	found.list = calloc(found.bytes / (ITEM_RECORD + ITEM_BYTES_MIN) + 1, sizeof(uint32_t));
	assert_int_equal(store_view_read(view, found.pcap, found.bytes), 0);
	read_pcap(&found, range);
	for (unsigned port = 0; port < PORTS_MAX; port++)
		in_file += store_view_counts(view)->in_file[port];
	assert_int_equal(in_file, found.n);
	store_view_close(view);
	return found;
}

void found_fini(struct found *found)
{
	free(found->list);
	free(found->pcap);
}

bool found_has(const struct found *found, uint32_t n)
{
	uint32_t low = 0, high = found->n;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (found->list[middle] == n)
			return true;
		if (found->list[middle] < n)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}
