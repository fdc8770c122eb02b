/* block_list.c - ids are counted, not stored: 50,000 of them can be written again from two numbers.
 *
 * <Latest> and not <Uncommitted>: a list whose answer was lost can then be sent again.
 */
#include "control/block_list.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

enum { RAW_ID_CHARS = 24 };
_Static_assert(RAW_ID_CHARS % 3 == 0, "base64 without padding");
_Static_assert(RAW_ID_CHARS / 3 * 4 == BLOCK_ID_CHARS, "base64 is four for three");

struct block_id block_id(uint64_t job, uint32_t index)
{
	struct block_id id;
	char raw[RAW_ID_CHARS + 1];
	int n;

	(void)snprintf(raw, sizeof(raw), "%016" PRIx64 "%08" PRIx32, job, index);
	n = EVP_EncodeBlock((unsigned char *)id.text, (const unsigned char *)raw, RAW_ID_CHARS);
	assert(n == BLOCK_ID_CHARS);
	(void)n;
	return id;
}

char *block_list_xml(uint64_t job, uint32_t n)
{
	static const char head[] = "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>";
	static const char foot[] = "</BlockList>";
	static const char open[] = "<Latest>", close[] = "</Latest>";
	size_t each = sizeof(open) - 1 + BLOCK_ID_CHARS + sizeof(close) - 1;
	char *xml = malloc(sizeof(head) + sizeof(foot) + n * each);
	char *at = xml;

	if (xml == NULL)
		return NULL;
	at = stpcpy(at, head);
	for (uint32_t i = 0; i < n; i++) {
		at = stpcpy(at, open);
		at = stpcpy(at, block_id(job, i).text);
		at = stpcpy(at, close);
	}
	(void)stpcpy(at, foot);
	return xml;
}

uint64_t block_bytes_for(uint64_t n_bytes, uint64_t block_bytes, uint32_t n_max)
{
	uint64_t needed = n_bytes / n_max + (n_bytes % n_max != 0);

	return needed > block_bytes ? needed : block_bytes;
}
