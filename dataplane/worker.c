/* worker.c - the order of the stages, and the books.
 *
 * A worker takes over a published matcher only between bursts, so that within a burst every packet is
 * judged by one generation.  Its counters live in memory that others read: they are stored once a
 * burst, never added to with a lock.
 *
 * Held segments (OpenVPN on a shared port) keep a ticket: the captures that ran and those that wanted
 * them when they arrived.  A capture that starts later never sees them, one that stops gets them as long
 * as the watermark stays behind them.  A control process that follows the protocol gives a slot to
 * another capture only after that; one that was killed and started anew does not know what is held, so
 * the worker itself sees to it that a new owner's books begin at nothing.
 */
#include "dataplane/worker.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/audit.h"
#include "dataplane/classify.h"
#include "dataplane/costs.h"
#include "dataplane/esp.h"
#include "dataplane/sa_table.h"
#include "dataplane/stage.h"

/* What is remembered of a held segment.  `set` counts the sets that this worker took over: enough bits
 * for a million of them while a segment is held.
 */
union ticket {
	uint64_t word;
	struct {
		uint64_t wanted : CAPTURES_MAX;
		uint64_t running : CAPTURES_MAX;
		uint64_t generation : 16; // says which captures `wanted` means
		uint64_t
			snap_bytes : 16; // theirs; the tables forget it when the last of them stops
		uint64_t set : 22;
	};
};

static_assert(sizeof(union ticket) == sizeof(uint64_t), "a ticket is one word to classify");
static_assert(SNAP_BYTES_MAX < 1 << 16, "a ticket has 16 bits for it");

enum { TICKET_SETS = 1 << 22 };

struct worker {
	struct recorder recorder;
	struct classifier *classifier;
	struct fragment_table *fragments; // verdicts of inner first fragments
	struct esp_stage *esp;
	const struct matcher *matcher;
	const struct sa_table *sas;	  // or NULL: no keys
	bool has_inner_port;		  // inner packets come from there
	uint8_t slots;			  // running captures
	uint32_t n_sets;		  // taken over
	uint32_t first_set[CAPTURES_MAX]; // of each slot's owner
	struct tally tally;
	struct audit audit;
	uint64_t n_received;
	uint64_t n_class[CLASS_COUNT]; // of the burst in hand
	uint64_t last_ns;	       // of the newest packet seen
	struct set_endpoint endpoints[SET_ENDPOINTS_MAX];
	uint32_t n_endpoints;

	// Written by the publisher.
	alignas(CACHE_LINE_BYTES) _Atomic(const struct matcher *) next;
	_Atomic(const struct sa_table *) next_sas;
};

static_assert(offsetof(struct worker, next) % CACHE_LINE_BYTES == 0 &&
		      sizeof(struct worker) - offsetof(struct worker, next) == CACHE_LINE_BYTES,
	      "nothing of the worker's lies in the publisher's line");

/* Of the captures on a ticket, those whose slot is theirs still. */
static uint8_t still_owners(const struct worker *w, union ticket ticket, uint8_t captures)
{
	uint32_t age = (w->n_sets - (uint32_t)ticket.set) % TICKET_SETS;

	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if (w->n_sets - w->first_set[slot] < age)
			captures &= (uint8_t) ~(1U << slot);
	return captures;
}

/* A segment is held for these captures, or (-1) is not any more: before it is counted anywhere else. */
static void count_held(struct worker *w, uint8_t captures, unsigned port, int change)
{
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if (captures >> slot & 1)
			counter_settle(&w->recorder.shared->slots[slot][port].held,
				       (uint64_t)(int64_t)change);
}

static uint64_t hold_wanted(void *ctx, const struct pkt *p)
{
	struct worker *w = ctx;
	struct match_key key = match_key_of(&p->h);
	uint8_t wanted = w->slots != 0 ? match_outer(w->matcher, TRACE_OVPN, &key) : 0;
	union ticket ticket;

	if (wanted == 0)
		return 0;
	ticket.wanted = wanted & ((1U << CAPTURES_MAX) - 1);
	ticket.running = w->slots & ((1U << CAPTURES_MAX) - 1);
	ticket.generation = w->recorder.generation;
	ticket.snap_bytes = w->recorder.snap_bytes[wanted] & UINT16_MAX;
	ticket.set = w->n_sets % TICKET_SETS;
	count_held(w, wanted, p->port, 1);
	audit_hold(&w->audit, w->recorder.shared, w->slots, wanted, p->port);
	return ticket.word;
}

/* A held segment is decided: its class goes into the books of the port that it came from and of the
 * captures that ran then.  Gives those that wanted it.
 */
static uint8_t let_go(struct worker *w, const struct held_segment *segment, enum pkt_class class_)
{
	struct worker_shared *shared = w->recorder.shared;
	union ticket ticket = {.word = segment->ticket};
	uint8_t running = still_owners(w, ticket, ticket.running);
	uint8_t wanted = still_owners(w, ticket, ticket.wanted);

	w->tally.n_held--;
	count_held(w, wanted, segment->port, -1);
	audit_let_go(&w->audit, shared, running, wanted, segment->port);
	counter_add(&shared->classes[segment->port][class_], 1);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if (running >> slot & 1)
			counter_add(&shared->slot_classes[slot][class_], 1);
	return wanted;
}

static void release_held(void *ctx, const struct held_segment *segment)
{
	struct worker *w = ctx;
	union ticket ticket = {.word = segment->ticket};
	uint8_t wanted = let_go(w, segment, CLASS_OVPN);
	uint16_t generation = w->recorder.generation;
	uint32_t snap_bytes = w->recorder.snap_bytes[wanted];
	struct pkt p = {
		.data = segment->data,
		.len = segment->len,
		.wire_len = segment->wire_len,
		.time_ns = segment->time_ns,
		.class_ = CLASS_OVPN,
		.flags = PKT_LATE,
		.port = segment->port,
		.wanted = wanted,
	};

	if (wanted == 0) { // its captures are gone, and others have their slots
		w->tally.verdicts[VERDICT_NOT_MATCHED]++;
		return;
	}
	w->recorder.generation = ticket.generation;
	w->recorder.snap_bytes[wanted] = ticket.snap_bytes;
	record_burst(&w->recorder, &p, 1, &w->tally);
	w->recorder.generation = generation;
	w->recorder.snap_bytes[wanted] = snap_bytes;
	audit_check(w->recorder.shared, wanted, segment->port);
}

static void drop_held(void *ctx, const struct held_segment *segment, enum verdict why)
{
	struct worker *w = ctx;

	(void)let_go(w, segment, CLASS_OTHER);
	w->tally.verdicts[why]++;
}

struct worker *worker_open(struct worker_shared *shared, const struct ring_writer *ring)
{
	struct worker *w = aligned_alloc(2 * CACHE_LINE_BYTES,
					 (sizeof(*w) + 2 * CACHE_LINE_BYTES - 1) /
						 (2 * CACHE_LINE_BYTES) * (2 * CACHE_LINE_BYTES));
	struct classify_hooks hooks = {hold_wanted, release_held, drop_held, w};

	if (w == NULL)
		return NULL;
	memset(w, 0, sizeof(*w));
	w->recorder.ring = *ring;
	w->recorder.shared = shared;
	w->classifier = classifier_open(&hooks);
	w->fragments = fragment_open();
	w->esp = esp_open(ESP_FAST);
	if (w->esp == NULL) // a CPU that the library does not know
		w->esp = esp_open(ESP_OPENSSL);
	if (w->classifier == NULL || w->fragments == NULL || w->esp == NULL) {
		worker_close(w);
		return NULL;
	}
	return w;
}

void worker_close(struct worker *w)
{
	if (w == NULL)
		return;
	classifier_close(w->classifier);
	fragment_close(w->fragments);
	esp_close(w->esp);
	free(w);
}

size_t worker_bytes(void)
{
	return sizeof(struct worker) + classifier_bytes() + fragment_bytes() + esp_bytes();
}

static void set_endpoints(struct worker *w, const struct set_endpoint *endpoints, uint32_t n)
{
	struct ovpn_endpoint out[SET_ENDPOINTS_MAX] = {0};

	// An unchanged list must not forget the flows that were decided by it.
	if (n == w->n_endpoints && memcmp(endpoints, w->endpoints, n * sizeof(*endpoints)) == 0)
		return;
	memcpy(w->endpoints, endpoints, n * sizeof(*endpoints));
	w->n_endpoints = n;
	for (uint32_t i = 0; i < n; i++) {
		memcpy(out[i].address, endpoints[i].address.addr, sizeof(out[i].address));
		out[i].family = endpoints[i].address.family;
		out[i].port = endpoints[i].port;
		out[i].protocol = endpoints[i].protocol;
		out[i].shared = endpoints[i].shared;
	}
	classifier_set_endpoints(w->classifier, out, n);
}

/* A slot gets a new owner, whose counters start at zero. */
static void start_slot(struct worker *w, unsigned slot)
{
	struct worker_shared *shared = w->recorder.shared;

	w->first_set[slot] = w->n_sets;
	memset(shared->slots[slot], 0, sizeof(shared->slots[slot]));
	memset(shared->slot_classes[slot], 0, sizeof(shared->slot_classes[slot]));
	audit_start(&w->audit, slot);
}

/* The quiet point: no packet is in hand. */
static void take_over(struct worker *w, const struct matcher *next)
{
	const struct set_endpoint *endpoints;
	uint32_t n;

	w->n_sets++;
	w->matcher = next;
	w->slots = matcher_slots(next);
	w->recorder.generation = (uint16_t)matcher_generation(next);
	for (unsigned captures = 0; captures < 1 << CAPTURES_MAX; captures++)
		w->recorder.snap_bytes[captures] = matcher_snap_bytes(next, (uint8_t)captures);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if (matcher_new_slots(next) >> slot & 1)
			start_slot(w, slot);
	endpoints = matcher_endpoints(next, &n);
	set_endpoints(w, endpoints, n);
	// Pairs with worker_generation(): after this the old matcher is not touched again.
	atomic_store_explicit(&w->recorder.shared->generation, matcher_generation(next),
			      memory_order_release);
}

static inline void look_for_matcher(struct worker *w)
{
	const struct matcher *next = atomic_load_explicit(&w->next, memory_order_acquire);

	if (__builtin_expect(next != w->matcher, 0))
		take_over(w, next);
}

/* The quiet point, for keys: a new SA's counters start at zero. */
static void take_over_sas(struct worker *w, const struct sa_table *next)
{
	struct worker_shared *shared = w->recorder.shared;
	uint32_t n = 0;
	const uint32_t *slots = next != NULL ? sa_table_new_slots(next, &n) : NULL;

	for (uint32_t i = 0; i < n; i++) {
		memset(&shared->sas[slots[i]], 0, sizeof(shared->sas[slots[i]]));
		esp_forget(w->esp, slots[i]);
	}
	w->sas = next;
	// Pairs with worker_sa_generation(): after this the old table is not touched again.
	atomic_store_explicit(&shared->sa_generation, next != NULL ? sa_table_generation(next) : 0,
			      memory_order_release);
}

static inline void look_for_sas(struct worker *w)
{
	const struct sa_table *next = atomic_load_explicit(&w->next_sas, memory_order_acquire);

	if (__builtin_expect(next != w->sas, 0))
		take_over_sas(w, next);
}

static void show_verdicts(struct worker *w)
{
	struct worker_shared *shared = w->recorder.shared;

	for (unsigned i = 0; i < VERDICT_COUNT; i++)
		atomic_store_explicit(&shared->verdicts[i], w->tally.verdicts[i],
				      memory_order_relaxed);
	atomic_store_explicit(&shared->n_held, w->tally.n_held, memory_order_relaxed);
}

/* The watermark: behind everything that is still held. */
static void publish(struct worker *w, uint64_t now_ns)
{
	uint64_t held_ns = classifier_oldest_held_ns(w->classifier);

	// What is held keeps the merger from all that is younger.  Before that costs packets, the held
	// ones go: anybody can send a SYN to a shared port and never a word after it.
	if (__builtin_expect(held_ns != UINT64_MAX, 0) && ring_is_half_full(&w->recorder.ring)) {
		classifier_drop_held(w->classifier);
		show_verdicts(w);
		held_ns = UINT64_MAX;
	}
	ring_publish(&w->recorder.ring, held_ns < now_ns ? held_ns : now_ns);
	// Each burst, not each idle pass: bursts of packets that are costly to match are signs of life.
	counter_add(&w->recorder.shared->heartbeat, 1);
}

/* First of all counters of a burst, so that it covers what is seen of the others: see shared.h. */
static void show_received(struct worker *w, unsigned n, unsigned port)
{
	struct worker_shared *shared = w->recorder.shared;

	counter_add(&shared->received[port], n);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if (w->slots >> slot & 1)
			counter_add(&shared->slots[slot][port].received, n);
}

static void show_classes(struct worker *w, unsigned port)
{
	struct worker_shared *shared = w->recorder.shared;

	for (unsigned i = 0; i < CLASS_COUNT; i++) {
		if (w->n_class[i] == 0)
			continue;
		counter_add(&shared->classes[port][i], w->n_class[i]);
		for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
			if (w->slots >> slot & 1)
				counter_add(&shared->slot_classes[slot][i], w->n_class[i]);
	}
	memset(w->n_class, 0, sizeof(w->n_class));
}

static unsigned judge_inner(struct worker *w, struct pkt *p, unsigned n, unsigned port)
{
	const struct inner_stage stage = {.matcher = w->matcher,
					  .fragments = w->fragments,
					  .tally = &w->tally,
					  .n_class = w->n_class,
					  .port = (uint8_t)port};

	if (w->slots != 0)
		return inner_burst(&stage, p, n);
	// Nobody asks, and no state is to be kept up: the frames are not even looked at.
	w->tally.verdicts[VERDICT_NOT_MATCHED] += n;
	return 0;
}

static __attribute__((noinline)) unsigned look_inside(struct worker *w, struct pkt **p, unsigned n,
						      struct esp_found *found)
{
	struct esp_context context = {.matcher = w->matcher,
				      .sas = w->sas,
				      .fragments = w->fragments,
				      .shared = w->recorder.shared,
				      .tally = &w->tally,
				      .has_inner_port = w->has_inner_port};

	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		context.snap_bytes[slot] = w->recorder.snap_bytes[1U << slot];
	return esp_burst(w->esp, &context, *p, n, p, found);
}

/* The packets of an outer port; *p are then those that are wanted, inner ones among them. */
static unsigned judge_outer(struct worker *w, struct pkt **p, unsigned n, unsigned port,
			    struct esp_found *found)
{
	for (unsigned i = 0; i < n; i++)
		(*p)[i].fate = port << FATE_PORT;
	n = classify_outer_burst(w->classifier, *p, n, &w->tally, w->n_class);
	costs_end(COST_CLASSIFY);
	if (w->slots == 0) {
		w->tally.verdicts[VERDICT_NOT_MATCHED] += n;
		return 0;
	}
	if (w->sas == NULL && !matcher_looks_inside(w->matcher))
		return match_outer_burst(w->matcher, *p, n, &w->tally);
	return look_inside(w, p, n, found);
}

/* Inner packets count as received, too, by those who made us decrypt them: before what became of them. */
static void show_decrypted(struct worker *w, const struct esp_found *found, unsigned port)
{
	struct worker_shared *shared = w->recorder.shared;

	if (found->n == 0)
		return;
	counter_add(&shared->classes[port][CLASS_INNER], found->n);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		counter_add(&shared->slots[slot][port].received, found->of_slot[slot]);
		counter_add(&shared->slot_classes[slot][CLASS_INNER], found->of_slot[slot]);
	}
}

void worker_burst(struct worker *w, struct pkt *p, unsigned n_in, unsigned port, bool inner)
{
	unsigned n;
	uint64_t newest_ns = p[n_in - 1].time_ns;
	struct esp_found found = {0};
	struct audit_mark mark;

	look_for_matcher(w);
	look_for_sas(w);
	mark = audit_before(&w->audit, w->recorder.shared, &w->tally, port);
	show_received(w, n_in, port);
	costs_end(COST_BOOKS);
	n = inner ? judge_inner(w, p, n_in, port) : judge_outer(w, &p, n_in, port, &found);
	costs_end(inner ? COST_INNER : COST_MATCH);
	show_decrypted(w, &found, port);
	if (n > 0)
		record_burst(&w->recorder, p, n, &w->tally);
	costs_end(COST_RECORD);
	w->n_received += n_in + found.n;
	assert(tally_total(&w->tally) == w->n_received);
	show_classes(w, port);
	show_verdicts(w);
	audit_after(&w->audit, &mark, w->recorder.shared, &w->tally, w->slots, port, n_in,
		    found.of_slot);
	w->last_ns = newest_ns;
	publish(w, newest_ns);
	costs_end(COST_BOOKS);
}

void worker_idle(struct worker *w, uint64_t now_ns)
{
	uint64_t n_held = w->tally.n_held;

	look_for_matcher(w);
	look_for_sas(w);
	classifier_age(w->classifier, now_ns);
	if (__builtin_expect(w->tally.n_held != n_held, 0))
		show_verdicts(w);
	publish(w, now_ns);
}

void worker_finish(struct worker *w)
{
	classifier_flush(w->classifier);
	show_verdicts(w);
	ring_publish(&w->recorder.ring, UINT64_MAX);
}

void worker_publish(struct worker *w, const struct matcher *matcher)
{
	// Pairs with look_for_matcher(): the matcher is whole before its address is seen.
	atomic_store_explicit(&w->next, matcher, memory_order_release);
}

uint64_t worker_generation(const struct worker *w)
{
	return atomic_load_explicit(&w->recorder.shared->generation, memory_order_acquire);
}

void worker_has_inner_port(struct worker *w)
{
	w->has_inner_port = true;
}

void worker_publish_sas(struct worker *w, const struct sa_table *sas)
{
	// Pairs with look_for_sas(): the table is whole before its address is seen.
	atomic_store_explicit(&w->next_sas, sas, memory_order_release);
}

uint64_t worker_sa_generation(const struct worker *w)
{
	return atomic_load_explicit(&w->recorder.shared->sa_generation, memory_order_acquire);
}
