/* block_list.h - names of blocks, and the list that makes a blob of them.
 *
 * Ids:     of equal length within a blob, as the storage demands, and different from job to job, so
 *          that two uploads of one name never mix their blocks.  Letters and digits only: nothing in
 *          them needs to be encoded in a URL or in XML.
 * Threads: any.  Memory: block_list_xml() gives a malloc'ed text.
 * Proof:   tests/test_block_list.c
 */
#ifndef GATECAP_CONTROL_BLOCK_LIST_H
#define GATECAP_CONTROL_BLOCK_LIST_H

#include <stdint.h>

enum { BLOCK_ID_CHARS = 32 };

struct block_id {
	char text[BLOCK_ID_CHARS + 1]; // base64
};

struct block_id block_id(uint64_t job, uint32_t index);

/* The body of Put Block List: blocks 0 .. n - 1 of the job, in order.  NULL: no memory. */
char *block_list_xml(uint64_t job, uint32_t n);

/* Bytes a block so that n_bytes need at most n_max blocks: block_bytes, or more. */
uint64_t block_bytes_for(uint64_t n_bytes, uint64_t block_bytes, uint32_t n_max);

#endif
