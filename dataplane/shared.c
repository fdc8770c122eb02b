/* shared.c - where the blocks of shared.h lie. */
#include "dataplane/shared.h"

const char *esp_count_name(enum esp_count count)
{
	static const char *const names[] = {
#define X(name, text) text,
		ESP_COUNT_LIST(X)
#undef X
	};

	return names[count];
}

static uint64_t round_up(uint64_t n, uint64_t unit)
{
	return (n + unit - 1) / unit * unit;
}

void shared_layout(struct shared_header *header, uint32_t n_workers, uint64_t ring_bytes,
		   uint64_t huge_page_bytes)
{
	uint64_t page = huge_page_bytes > 0 ? huge_page_bytes : SHARED_PAGE_BYTES;

	header->magic = SHARED_MAGIC;
	header->version = SHARED_VERSION;
	header->n_workers = n_workers;
	header->workers_offset = round_up(sizeof(*header), SHARED_PAGE_BYTES);
	header->worker_bytes = round_up(sizeof(struct worker_shared), SHARED_PAGE_BYTES);
	header->rings_offset =
		round_up(header->workers_offset + n_workers * header->worker_bytes, page);
	header->ring_bytes = ring_bytes;
	header->total_bytes = header->rings_offset + n_workers * ring_bytes;
}
