/* shared.h - the memory that the dataplane shows to the control process.
 *
 * Two memfds, handed over in WELCOME (dp_proto.h):
 *   shared  struct shared_header, one struct worker_shared a worker, then the rings' data.  Sealed
 *           SHRINK|GROW|FUTURE_WRITE|SEAL: the dataplane alone can ever write it.
 *   tails   one struct ring_tail a worker.  Sealed SHRINK|GROW|SEAL; control writes, the dataplane
 *           treats it as hostile.
 * Threads: each block names its writer; every counter is written by one thread with relaxed stores
 *          and may be read at any time.  Counters of a capture slot are final once APPLIED of the set
 *          that ends the slot has come and the merger has passed its time.
 * Units:   bytes, packets, ns of the dataplane's timeline (see clock_ below).
 * Change:  any change of layout raises SHARED_VERSION.
 */
#ifndef GATECAP_DATAPLANE_SHARED_H
#define GATECAP_DATAPLANE_SHARED_H

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

#include "dataplane/packet.h"
#include "dataplane/ring.h"
#include "dataplane/verdict.h"
#include "filters/limits.h"

#define SHARED_MAGIC UINT64_C(0x6761746563617031) /* "gatecap1" */

enum { SHARED_VERSION = 4, SHARED_PAGE_BYTES = 4096 };

/* One capture port.  Names and role: written once.  Counters: the dataplane's main thread. */
struct port_shared {
	char name[NAME_MAX_BYTES];
	char source[NAME_MAX_BYTES]; // cut, for display
	uint32_t role;		     // 0 outer, 1 inner
	uint32_t n_queues;
	_Atomic uint64_t lost_nic; // frames the device dropped for want of descriptors or memory
	_Atomic uint64_t done;	   // 1: a pcap: port has played its file to the end
};

/* What one worker did for one capture slot on one port, since the slot was started.
 * received = not matched (the rest) + held + recorded + ring_full.
 * A held segment is one that the slot wants if its flow turns out to be OpenVPN.  Of one segment are
 * stored: received; held, up; held, down; recorded or ring_full; all but the first with release.
 * slot_counters_read() loads them the other way round.
 */
struct slot_counters {
	_Atomic uint64_t received, recorded, ring_full;
	_Atomic uint64_t held;			      // now
	_Atomic uint64_t lost_first_ns, lost_last_ns; // of ring_full; 0: never
};

static_assert(sizeof(struct slot_counters) == 48, "docs/formats.md has the offsets behind it");

/* At any moment received >= recorded + ring_full + held. */
struct slot_seen {
	uint64_t received, recorded, ring_full, held;
};

/* What became of ESP packets in which a capture's filter looked for an inner packet.  Each has one of these,
 * but UNCHECKED, which is said of some that are decrypted.
 */
#define ESP_COUNT_LIST(X)                                                                 \
	X(DECRYPTED, "decrypted")     /* its inner packet was read */                     \
	X(WITHOUT_KEY, "without_key") /* no SA for its SPI and destination */             \
	X(UNSUPPORTED, "unsupported") /* the SA's algorithm is none of ours */            \
	X(BAD_ICV, "bad_icv")	      /* verify_icv: the ICV is not that of its bytes */  \
	X(MALFORMED, "malformed")     /* cut, or not plausible: a wrong key */            \
	X(FRAGMENT, "fragment")	      /* a later fragment of an outer packet */           \
	X(DUMMY, "dummy")	      /* next header 59: nothing is in it */              \
	X(TCP_PARTIAL, "tcp_partial") /* in TCP, and no message begins in this segment */ \
	X(UNCHECKED, "unchecked")     /* verify_icv: decrypted, its ICV not to be checked */

enum esp_count {
#define X(name, text) ESP_COUNT_##name,
	ESP_COUNT_LIST(X)
#undef X
		ESP_COUNTS,
};

/* The name of a count as reports spell it. */
const char *esp_count_name(enum esp_count count);

/* What one worker saw of the SA in this slot. */
struct sa_counters {
	_Atomic uint64_t packets; // that came, decrypted or not
	_Atomic uint64_t last_ns; // of the newest of them; 0: none
};

/* Writer: its worker only. */
struct worker_shared {
	struct ring_head ring;
	_Atomic uint64_t generation; // of the filter set in use
	_Atomic uint64_t heartbeat;  // loop passes
	_Atomic uint64_t received[PORTS_MAX];
	_Atomic uint64_t classes[PORTS_MAX][CLASS_COUNT];
	_Atomic uint64_t verdicts[VERDICT_COUNT];
	_Atomic uint64_t n_held;
	struct slot_counters slots[CAPTURES_MAX][PORTS_MAX];
	_Atomic uint64_t slot_classes[CAPTURES_MAX][CLASS_COUNT]; // of `received`, by class
	_Atomic uint64_t slot_esp[CAPTURES_MAX][ESP_COUNTS];
	_Atomic uint64_t sa_generation; // of the SA set in use
	struct sa_counters sas[SA_MAX]; // by struct sa_record.slot
	uint8_t pad[] __attribute__((aligned(SHARED_PAGE_BYTES)));
};

static_assert(offsetof(struct worker_shared, generation) >= 2 * CACHE_LINE_BYTES,
	      "the merger polls the ring's head and no counter");
static_assert(sizeof(struct worker_shared) % SHARED_PAGE_BYTES == 0, "workers share no line");

/* Written before WELCOME, constant afterwards but for the ports' counters. */
struct shared_header {
	uint64_t magic;
	uint32_t version;
	uint32_t n_workers, n_ports;
	uint64_t boot_id;	 // random, new with each start of the dataplane
	uint64_t total_bytes;	 // of the whole memfd
	uint64_t workers_offset; // of the first struct worker_shared; then one every worker_bytes
	uint64_t worker_bytes;
	uint64_t rings_offset; // of the first ring's data; then one every ring_bytes
	uint64_t ring_bytes;
	/* Wall clock = time_ns + wall_offset_ns.  The timeline is CLOCK_MONOTONIC. */
	int64_t wall_offset_ns;
	struct port_shared ports[PORTS_MAX];
};

/* Any thread, any moment.  `held` falls, too, so it is not enough that what is loaded first is covered by
 * what is loaded after it: a segment must not be seen twice.  Who sees it recorded sees after that that it
 * is held no more.  One that moves on between two loads is seen in neither place, so among the rest.
 */
static inline struct slot_seen slot_counters_read(const struct slot_counters *c)
{
	struct slot_seen seen;

	// B2 pairs with B1 in counter_settle(): what was stored before these is seen by what is
	// loaded after them.
	seen.recorded = atomic_load_explicit(&c->recorded, memory_order_acquire);
	seen.ring_full = atomic_load_explicit(&c->ring_full, memory_order_acquire);
	seen.held = atomic_load_explicit(&c->held, memory_order_acquire);
	seen.received = atomic_load_explicit(&c->received, memory_order_relaxed);
	return seen;
}

/* Offsets and sizes of the shared memfd for so many workers. */
void shared_layout(struct shared_header *header, uint32_t n_workers, uint64_t ring_bytes,
		   uint64_t huge_page_bytes);

#endif
