/* record.h - copy what a capture wants into the worker's ring, once, cut to the longest snap.
 *
 * Flow:    match.c -> record.c -> ring.h -> control/merge.c
 * Threads: record_burst: the owning worker.  Readers see a record only behind the ring's head.
 * Layout:  struct record, then caplen bytes of frame, padded with nothing in particular to 8 bytes.
 * When full: the record is lost, whole, and counted for each capture that wanted it.
 * Proof:   tests/test_record.c
 */
#ifndef GATECAP_DATAPLANE_RECORD_H
#define GATECAP_DATAPLANE_RECORD_H

#include <assert.h>
#include <stdint.h>
#include <string.h>

enum record_flags {
	RECORD_LATE =
		1, // its time is before that of records pushed earlier: held by the OVPN table
};

/* In shared memory: host byte order, both processes are of one build (see shared.h version). */
struct record {
	uint64_t time_ns;    // the timeline of struct shared_header.clock
	uint32_t wire_len;   // original length, >= caplen
	uint16_t caplen;     // bytes behind this header
	uint16_t generation; // low bits of the filter set's: what `captures` means
	uint8_t captures;    // one bit a capture slot
	uint8_t port;	     // index of the capture port
	uint8_t flags;	     // of enum record_flags
	uint8_t class_;	     // enum pkt_class
	uint32_t reserved;   // 0; ESP will keep the SA's connection here
};
static_assert(sizeof(struct record) == 24, "records are in shared memory");

/* Bytes that a record of caplen takes in a ring. */
static inline uint64_t record_bytes(uint32_t caplen)
{
	return (sizeof(struct record) + caplen + 7) & ~(uint64_t)7;
}

/* Copy n bytes of a frame: in steps of 32, the last of them ending exactly at n.  Reads and writes those
 * n bytes and nothing else; four loads and stores for the default 120, where memcpy's dispatch alone
 * costs as much.
 */
static inline void record_copy(uint8_t *dst, const uint8_t *src, uint32_t n)
{
	uint8_t *end = dst + n;
	const uint8_t *src_end = src + n;

	if (__builtin_expect(n < 32, 0)) {
		memcpy(dst, src, n);
		return;
	}
	for (const uint8_t *last = src_end - 32; src < last; src += 32, dst += 32)
		memcpy(dst, src, 32);
	memcpy(end - 32, src_end - 32, 32);
}

#endif
