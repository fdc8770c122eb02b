/* test_ledger.c - known traffic through two workers, the merger and stores, while captures come and go.
 *
 * Five threads: two workers, each with a ring that is deliberately too small; the merger, with pauses; an
 * accountant, who looks at the books and takes snapshots at any moment; and control, which starts and ends
 * captures as control/captures_set.c does and gives slots to new ones, once in a while without waiting, as
 * a gatecapd that was killed and started anew.
 * The clock is the number of packets sent, so nothing here depends on time but the order of the threads,
 * and a record's time says which packet it was.
 * When a capture has ended, a slow twin says what it must have got, and the ledger is checked to the packet.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka wants the above first
#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include "control/merge.h"
#include "control/report.h"
#include "control/store.h"
#include "dataplane/worker.h"
#include "filters/matcher.h"
#include "tests/known_traffic.h"
#include "tests/ring_pair.h"

enum {
	WORKERS = 2,
	RING = 1 << 14,
	SENT_MAX = 1 << 20,
	STEP_NS = 500000, // from packet to packet: held segments see their second pass, too
	AHEAD = 4000,	  // packets, more than OVPN_HOLD_NS of them
	CHANGES = 100,	  // of the set of captures
	PCAP_RECORD = 16,
};

struct capture {
	struct known_capture known;
	unsigned slot;
	/* Places in time: nothing before is its; in force; nothing before is another's; its end. */
	uint32_t begun, applied, end_begun, end;
	uint64_t first_generation, end_generation;
	struct store *store;
	uint64_t wall_ns; // of time 0, in the file
};

struct world;

struct worker_thread {
	struct world *world;
	struct ring_pair pair;
	struct worker *worker;
	struct dice d;
	pthread_t thread;
};

struct world {
	struct dice d;
	struct config config;
	struct sent *sent;
	_Atomic uint32_t clock, budget; // packets sent; that may be sent
	struct worker_thread workers[WORKERS];
	struct merger *merger;
	pthread_t merge_thread, accountant;
	struct dice merge_dice, accountant_dice;
	_Atomic bool workers_end, merge_ends, accountant_ends;
	_Atomic(const char *) fault; // of a thread that is not cmocka's

	char dir[64];
	int dir_fd;
	unsigned n_stores;
	struct capture *slots[CAPTURES_MAX];
	pthread_mutex_t lock;
	struct capture *shown[CAPTURES_MAX]; // under the lock: what the accountant may look at
	uint32_t passed;		     // by the merger, and so by every worker
	struct matcher *matcher;
	uint64_t generation;

	uint64_t n_verified, n_recorded, n_lost, n_overwritten, n_looks, n_snapshots, n_late;
};

static uint64_t time_of(uint32_t index)
{
	return UINT64_C(5000000000) + (uint64_t)index * STEP_NS;
}

static uint32_t index_of(uint64_t time_ns)
{
	return (uint32_t)((time_ns - time_of(0)) / STEP_NS);
}

/* Threads that are not cmocka's say what is wrong and go on. */
static void expect(struct world *w, bool is_right, const char *what)
{
	if (!is_right)
		atomic_store(&w->fault, what);
}

/* ---- the workers' threads ---- */

static void send_burst(struct worker_thread *t)
{
	uint8_t frames[BURST_MAX][FRAME_BYTES_MAX];
	struct world *w = t->world;
	unsigned n = 1 + dice_below(&t->d, BURST_MAX), port = dice_below(&t->d, KNOWN_PORTS);
	uint32_t first = atomic_fetch_add(&w->clock, n);
	struct pkt p[BURST_MAX];

	for (uint32_t i = 0; i < n; i++) {
		struct sent *sent = &w->sent[first + i];

		known_packet_throw(&t->d, sent, port);
		p[i] = (struct pkt){.data = frames[i],
				    .len = known_frame(first + i, sent, frames[i]),
				    .time_ns = time_of(first + i)};
		p[i].wire_len = p[i].len;
	}
	worker_burst(t->worker, p, n, port, port == PORT_INNER);
	for (uint32_t i = 0; i < n; i++)
		w->sent[first + i].generation = worker_generation(t->worker);
}

static void *work(void *ctx)
{
	struct worker_thread *t = ctx;
	struct world *w = t->world;

	while (!atomic_load(&w->workers_end)) {
		uint32_t now = atomic_load(&w->clock);

		if (now < atomic_load(&w->budget) && now < SENT_MAX - WORKERS * BURST_MAX)
			send_burst(t);
		if (dice_one_in(&t->d, 4)) {
			worker_idle(t->worker, time_of(atomic_load(&w->clock)));
			sched_yield();
		}
	}
	return NULL;
}

/* ---- the merger's thread ---- */

static uint64_t refused(const struct world *w)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < WORKERS; i++)
		n += atomic_load(&w->workers[i].pair.shared->verdicts[VERDICT_RING_FULL]);
	return n;
}

static void *merge(void *ctx)
{
	struct world *w = ctx;
	struct dice *d = &w->merge_dice;

	while (!atomic_load(&w->merge_ends)) {
		uint64_t n = merge_step(w->merger,
					dice_one_in(d, 3) ? 1 + dice_below(d, 50) : UINT64_MAX);
		uint64_t before = refused(w);

		if (n == 0 || !dice_one_in(d, 4))
			merge_commit(w->merger);
		if (n == 0)
			sched_yield();
		// A pause until a ring is full, if that comes to pass.
		for (unsigned i = 0; n > 0 && i < 300 && refused(w) == before; i++) {
			if (i == 0 && !dice_one_in(d, 30))
				break;
			sched_yield();
		}
	}
	return NULL;
}

static void merge_begin(struct world *w)
{
	struct ring_reader rings[WORKERS];

	for (unsigned i = 0; i < WORKERS; i++) {
		struct ring_pair *pair = &w->workers[i].pair;

		ring_reader_init(&rings[i], pair->data, pair->size, &pair->shared->ring, pair->tail);
	}
	w->merger = merge_open(rings, WORKERS, 1);
	assert_non_null(w->merger);
	atomic_store(&w->merge_ends, false);
	assert_int_equal(pthread_create(&w->merge_thread, NULL, merge, w), 0);
}

static void merge_end(struct world *w)
{
	atomic_store(&w->merge_ends, true);
	assert_int_equal(pthread_join(w->merge_thread, NULL), 0);
	assert_int_equal(merge_corrupt(w->merger), 0);
	merge_close(w->merger);
}

/* ---- the books ---- */

struct books {
	struct ledger_input ports[KNOWN_PORTS];
	uint64_t lost_first_ns[KNOWN_PORTS], lost_last_ns[KNOWN_PORTS];
	uint64_t classes[CLASS_COUNT];
};

/* B2 pairs with B1 in counter_settle(). */
static uint64_t load(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_acquire);
}

/* The store first, then what became of the packets, then the packets: each covers what was read before. */
static void read_books(const struct world *w, const struct capture *c,
		       const struct store_counts *counts, struct books *b)
{
	memset(b, 0, sizeof(*b));
	for (unsigned port = 0; port < KNOWN_PORTS; port++) {
		struct ledger_input *in = &b->ports[port];

		in->in_file = counts->in_file[port];
		in->overwritten = counts->overwritten[port];
		in->lost_disk = counts->lost_disk[port];
		for (unsigned i = 0; i < WORKERS; i++) {
			const struct slot_counters *s =
				&w->workers[i].pair.shared->slots[c->slot][port];
			uint64_t first_ns = load(&s->lost_first_ns), last_ns = load(&s->lost_last_ns);

			in->recorded += load(&s->recorded);
			in->ring_full += load(&s->ring_full);
			in->received += load(&s->received);
			if (first_ns != 0 && (b->lost_first_ns[port] == 0 ||
					      first_ns < b->lost_first_ns[port]))
				b->lost_first_ns[port] = first_ns;
			if (last_ns > b->lost_last_ns[port])
				b->lost_last_ns[port] = last_ns;
		}
	}
	for (unsigned i = 0; i < WORKERS; i++)
		for (unsigned k = 0; k < CLASS_COUNT; k++)
			b->classes[k] +=
				load(&w->workers[i].pair.shared->slot_classes[c->slot][k]);
}

/* A record of a PCAP that lies in memory, and the packet that it must be. */
struct stored_record {
	uint32_t index, caplen, wire_len;
	const uint8_t *frame;
};

static struct stored_record record_at(const struct capture *c, const uint8_t *at)
{
	uint32_t header[4];
	struct stored_record r;
	uint64_t wall_ns;

	memcpy(header, at, sizeof(header));
	wall_ns = header[0] * UINT64_C(1000000000) + header[1];
	r = (struct stored_record){index_of(wall_ns - c->wall_ns), header[2], header[3],
				   at + PCAP_RECORD};
	if (time_of(r.index) != wall_ns - c->wall_ns)
		r.index = UINT32_MAX; // of no packet
	return r;
}

/* Is it the packet that its time names, and one that the capture wants? */
static bool is_known(const struct world *w, const struct capture *c, const struct stored_record *r)
{
	uint8_t frame[FRAME_BYTES_MAX];
	uint32_t snap = c->known.data.snap_bytes, len;
	const struct sent *sent;

	if (r->index >= atomic_load(&w->clock))
		return false;
	sent = &w->sent[r->index];
	len = known_frame(r->index, sent, frame);
	return r->wire_len == len && r->caplen == (len < snap ? len : snap) &&
	       memcmp(r->frame, frame, r->caplen) == 0 &&
	       known_is_wanted(&w->config, &c->known, sent);
}

static uint8_t *read_view(struct store_view *view)
{
	uint64_t n = store_view_bytes(view);
	uint8_t *bytes = malloc(n);

	if (bytes != NULL && store_view_read(view, bytes, n) != 0) {
		free(bytes);
		bytes = NULL;
	}
	return bytes;
}

/* ---- the accountant's thread ---- */

/* The inequalities that hold at every moment. */
static void look_at_books(struct world *w, const struct capture *c)
{
	struct store_counts counts;
	struct books b;

	expect(w, store_count(c->store, &counts) == 0, "a store cannot be counted");
	read_books(w, c, &counts, &b);
	for (unsigned port = 0; port < KNOWN_PORTS; port++) {
		const struct ledger_input *in = &b.ports[port];
		struct ledger ledger = ledger_make(in);

		expect(w, in->received >= in->recorded + in->ring_full,
		       "more became of packets than were received");
		expect(w, in->recorded >= in->in_file + in->overwritten + in->lost_disk,
		       "a store has more than was recorded");
		expect(w, ledger_balances(&ledger), "a ledger does not balance");
	}
	w->n_looks++;
}

static void look_at_snapshot(struct world *w, const struct capture *c)
{
	struct error err = {0};
	struct store_view *view = store_view_snapshot(c->store, &err);
	uint8_t *bytes = view != NULL ? read_view(view) : NULL;
	uint32_t last = 0;

	expect(w, bytes != NULL, "a snapshot cannot be read");
	for (uint64_t at = PCAP_HEADER_BYTES; bytes != NULL && at < store_view_bytes(view);) {
		struct stored_record r = record_at(c, bytes + at);

		expect(w, is_known(w, c, &r), "a snapshot has a record of no packet");
		expect(w, last == 0 || r.index > last, "a snapshot is not in order of time");
		last = r.index;
		at += PCAP_RECORD + r.caplen;
	}
	free(bytes);
	store_view_close(view);
	w->n_snapshots++;
}

static void *look(void *ctx)
{
	struct world *w = ctx;
	struct dice *d = &w->accountant_dice;

	while (!atomic_load(&w->accountant_ends)) {
		const struct capture *c;

		(void)pthread_mutex_lock(&w->lock);
		c = w->shown[dice_below(d, CAPTURES_MAX)];
		if (c != NULL && dice_one_in(d, 20))
			look_at_snapshot(w, c);
		else if (c != NULL)
			look_at_books(w, c);
		(void)pthread_mutex_unlock(&w->lock);
		sched_yield();
	}
	return NULL;
}

/* ---- what must have come to pass ---- */

struct expected {
	uint64_t received[KNOWN_PORTS], matched[KNOWN_PORTS], undecided[KNOWN_PORTS];
	uint64_t stored[KNOWN_PORTS], missing[KNOWN_PORTS];
	uint32_t first_missing[KNOWN_PORTS], last_missing[KNOWN_PORTS];
	uint64_t classes[CLASS_COUNT];
};

static bool is_of(const struct capture *c, const struct sent *sent)
{
	return sent->generation >= c->first_generation && sent->generation < c->end_generation;
}

/* One packet beside the next record of the file, which it is or is not. */
static void expect_packet(const struct world *w, const struct capture *c, uint32_t index,
			  bool is_stored, struct expected *e)
{
	const struct sent *sent = &w->sent[index];
	unsigned port = sent->port;

	e->received[port]++;
	e->classes[sent->class_]++;
	if (is_stored)
		e->stored[port]++;
	if (!known_is_wanted(&w->config, &c->known, sent))
		return;
	e->matched[port]++;
	e->undecided[port] += sent->is_undecided;
	if (is_stored)
		return;
	if (e->missing[port]++ == 0)
		e->first_missing[port] = index;
	e->last_missing[port] = index;
}

/* Walk the packets and the file together: each record must be one of them, in order, none twice. */
static void walk(const struct world *w, const struct capture *c, const uint8_t *bytes, uint64_t n,
		 struct expected *e)
{
	uint64_t at = PCAP_HEADER_BYTES;

	memset(e, 0, sizeof(*e));
	for (uint32_t i = c->begun; i < c->end; i++) {
		struct stored_record r = {.index = UINT32_MAX};

		// In force means in force: between the two answers no packet was judged by another set.
		if (i >= c->applied && i < c->end_begun && !is_of(c, &w->sent[i]))
			fail_msg("packet %u of generation %llu was judged by another set", i,
				 (unsigned long long)w->sent[i].generation);
		if (at < n)
			r = record_at(c, bytes + at);
		if (r.index == i) {
			at += PCAP_RECORD + r.caplen;
			if (!is_of(c, &w->sent[i]) || !is_known(w, c, &r))
				fail_msg("record %u is not the capture's", i);
		}
		if (is_of(c, &w->sent[i]))
			expect_packet(w, c, i, r.index == i, e);
	}
	assert_int_equal(at, n); // else: one twice, out of order, or of before or after
}

static void check_port(const struct expected *e, const struct books *b, unsigned port)
{
	const struct ledger_input *in = &b->ports[port];
	struct ledger ledger = ledger_make(in);
	uint64_t settled = in->recorded + in->ring_full;

	assert_int_equal(in->received, e->received[port]);
	assert_int_equal(in->recorded, in->in_file + in->overwritten);
	assert_int_equal(in->in_file, e->stored[port]);
	assert_int_equal(in->lost_disk, 0);
	assert_true(ledger_balances(&ledger));
	assert_int_equal(ledger.in_flight, 0);
	// What was held and let go is wanted by nobody in the end: known only of the plain ports.
	assert_in_range(settled, e->matched[port] - e->undecided[port], e->matched[port]);
	assert_in_range(ledger.not_matched, e->received[port] - e->matched[port],
			e->received[port] - e->matched[port] + e->undecided[port]);
	if (in->overwritten > 0)
		return;
	assert_in_range(e->missing[port], in->ring_full, in->ring_full + e->undecided[port]);
	assert_true((in->ring_full == 0) == (b->lost_first_ns[port] == 0));
	if (in->ring_full == 0 || e->undecided[port] > 0)
		return;
	assert_int_equal(b->lost_first_ns[port], time_of(e->first_missing[port]));
	assert_int_equal(b->lost_last_ns[port], time_of(e->last_missing[port]));
}

static void check_classes(const struct expected *e, const struct books *b)
{
	static const enum pkt_class exact[] = {CLASS_ESP, CLASS_IKE, CLASS_INNER};

	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(b->classes[exact[i]], e->classes[exact[i]]);
	assert_true(b->classes[CLASS_OVPN] >= e->classes[CLASS_OVPN]);
	assert_int_equal(b->classes[CLASS_OVPN] + b->classes[CLASS_OTHER],
			 e->classes[CLASS_OVPN] + e->classes[CLASS_OTHER]);
}

/* Everything that the capture will ever get is in its store. */
static void verify(struct world *w, const struct capture *c)
{
	struct error err = {0};
	struct store_view *view = store_view_final(c->store, &err);
	struct expected e;
	struct books b;
	uint8_t *bytes;

	assert_non_null(view);
	bytes = read_view(view);
	assert_non_null(bytes);
	read_books(w, c, store_view_counts(view), &b);
	walk(w, c, bytes, store_view_bytes(view), &e);
	for (unsigned port = 0; port < KNOWN_PORTS; port++) {
		check_port(&e, &b, port);
		w->n_recorded += b.ports[port].recorded;
		w->n_lost += b.ports[port].ring_full;
		w->n_overwritten += b.ports[port].overwritten;
	}
	check_classes(&e, &b);
	w->n_verified++;
	free(bytes);
	store_view_close(view);
}

/* ---- control ---- */

/* What the merger has passed no set of later will judge. */
static void look_how_far(struct world *w)
{
	uint64_t time_ns = merge_time_ns(w->merger);

	if (time_ns > time_of(w->passed))
		w->passed = index_of(time_ns);
}

/* Let the threads go on a little, and time with them: but not further ahead of the merger than it takes
 * for held segments to be let go, for it may be the one that waits for a core.
 */
static void breathe(struct world *w)
{
	const char *fault = atomic_load(&w->fault);

	if (fault != NULL)
		fail_msg("%s", fault);
	look_how_far(w);
	if (dice_one_in(&w->d, 4) && atomic_load(&w->budget) < w->passed + AHEAD)
		atomic_fetch_add(&w->budget, dice_below(&w->d, 32));
	sched_yield();
	assert_true(atomic_load(&w->clock) < SENT_MAX - WORKERS * BURST_MAX);
}

static void let_traffic_pass(struct world *w, uint32_t n)
{
	uint32_t until = atomic_load(&w->clock) + n;

	if (atomic_load(&w->budget) < until)
		atomic_store(&w->budget, until);
	while (atomic_load(&w->clock) < until)
		breathe(w);
}

static struct capture *capture_begin(struct world *w, unsigned slot)
{
	struct capture *c = calloc(1, sizeof(*c));
	struct store_settings settings = {.dir_fd = w->dir_fd, .timestamps = TIMESTAMPS_NANO};
	struct error err = {0};
	char name[32];

	assert_non_null(c);
	known_capture_throw(&w->d, &c->known, slot);
	c->slot = slot;
	c->wall_ns = UINT64_C(1700000000000000000) + dice_below(&w->d, 1000);
	(void)snprintf(name, sizeof(name), "%u.data", w->n_stores++);
	settings.name = name;
	settings.snap_bytes = c->known.data.snap_bytes;
	settings.wall_offset_ns = (int64_t)c->wall_ns;
	settings.file_bytes_max = dice_one_in(&w->d, 3) ? 3000 + dice_below(&w->d, 20000) : 4000000;
	c->store = store_open(&settings, &err);
	assert_non_null(c->store);
	c->end_generation = UINT64_MAX;
	return c;
}

static void show(struct world *w, unsigned slot, struct capture *c)
{
	(void)pthread_mutex_lock(&w->lock);
	w->shown[slot] = c;
	(void)pthread_mutex_unlock(&w->lock);
}

static void capture_close(struct world *w, unsigned slot)
{
	struct capture *c = w->slots[slot];

	show(w, slot, NULL);
	w->slots[slot] = NULL;
	store_close(c->store);
	free(c);
}

static bool is_running(const struct capture *c)
{
	return c != NULL && c->end_generation == UINT64_MAX;
}

static struct matcher *compile(struct world *w)
{
	struct set_source_capture entries[CAPTURES_MAX];
	struct set_source source = {.config = &w->config, .captures = entries};
	struct filter_set set;
	struct matcher *matcher;
	size_t bytes;
	void *mem;

	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if (is_running(w->slots[slot])) {
			entries[source.n_captures] = w->slots[slot]->known.entry;
			entries[source.n_captures++].is_new =
				w->slots[slot]->first_generation == w->generation;
		}
	source.generation = w->generation;
	mem = set_build(&source, &bytes);
	assert_non_null(mem);
	assert_int_equal(filter_set_check(mem, bytes, &set, NULL), 0);
	matcher = matcher_open(&set, NULL);
	assert_non_null(matcher);
	free(mem);
	return matcher;
}

/* Hand the set to the workers; gives the time from which it is in force everywhere. */
static uint32_t apply(struct world *w)
{
	struct matcher *matcher = compile(w);

	for (unsigned i = 0; i < WORKERS; i++)
		worker_publish(w->workers[i].worker, matcher);
	for (unsigned i = 0; i < WORKERS; i++)
		while (worker_generation(w->workers[i].worker) != w->generation)
			breathe(w);
	matcher_close(w->matcher);
	w->matcher = matcher;
	return atomic_load(&w->clock);
}

/* Send a set in which the captures of the slots in `flip` have begun or ended. */
static void change(struct world *w, uint8_t flip)
{
	struct capture *started[CAPTURES_MAX] = {NULL};
	uint32_t applied;

	w->generation++;
	look_how_far(w);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		struct capture *c = w->slots[slot];

		if (!(flip >> slot & 1))
			continue;
		if (c == NULL) {
			c = started[slot] = capture_begin(w, slot);
			c->first_generation = w->generation;
			c->begun = w->passed;
			merge_set_store(w->merger, slot, c->store, w->generation);
			w->slots[slot] = c;
		} else {
			c->end_generation = w->generation;
			c->end_begun = w->passed;
		}
	}
	applied = apply(w);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		if (started[slot] != NULL) {
			started[slot]->applied = applied;
			show(w, slot, started[slot]);
		} else if (flip >> slot & 1) {
			w->slots[slot]->end = applied;
		}
	}
}

/* Captures whose last record is in: look at the books, and free the slot. */
static void close_ended(struct world *w)
{
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		const struct capture *c = w->slots[slot];

		if (c == NULL || is_running(c) || merge_time_ns(w->merger) < time_of(c->end))
			continue;
		merge_set_store(w->merger, slot, NULL, 0);
		verify(w, c);
		capture_close(w, slot);
	}
}

static bool is_draining(const struct world *w)
{
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if (w->slots[slot] != NULL && !is_running(w->slots[slot]))
			return true;
	return false;
}

static void wait_for_ends(struct world *w)
{
	while (is_draining(w)) {
		breathe(w);
		close_ended(w);
	}
}

/* Slots that may be flipped now: free ones, and those whose capture runs. */
static uint8_t throw_flip(struct world *w)
{
	uint8_t flip = 0;
	unsigned n = 1 + dice_below(&w->d, 3);

	while (n-- > 0) {
		unsigned slot = dice_below(&w->d, CAPTURES_MAX);

		if (w->slots[slot] == NULL || is_running(w->slots[slot]))
			flip |= (uint8_t)(1U << slot);
	}
	return flip;
}

/* gatecapd is killed and started anew: the rings are full of records of captures that are gone, the
 * workers hold some, and the slots are given away at once.
 */
static void start_anew(struct world *w)
{
	merge_end(w);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if (w->slots[slot] != NULL)
			capture_close(w, slot);
	merge_begin(w);
	change(w, throw_flip(w));
}

/* All but the threads. */
static void world_prepare(struct world *w, const char *name)
{
	memset(w, 0, sizeof(*w));
	w->d = dice_open(name);
	w->merge_dice.state = dice_next(&w->d);
	w->accountant_dice.state = dice_next(&w->d);
	w->sent = calloc(SENT_MAX, sizeof(*w->sent));
	assert_non_null(w->sent);
	known_config(&w->config);
	(void)snprintf(w->dir, sizeof(w->dir), "%s/test_ledger.XXXXXX", P_tmpdir);
	assert_non_null(mkdtemp(w->dir));
	w->dir_fd = open(w->dir, O_RDONLY | O_DIRECTORY);
	assert_true(w->dir_fd >= 0);
	(void)pthread_mutex_init(&w->lock, NULL);
	for (unsigned i = 0; i < WORKERS; i++) {
		struct worker_thread *t = &w->workers[i];

		t->world = w;
		t->d.state = dice_next(&w->d);
		ring_pair_open(&t->pair, RING, 0);
		t->worker = worker_open(t->pair.shared, &t->pair.writer);
		assert_non_null(t->worker);
	}
}

static void world_open(struct world *w, const char *name)
{
	world_prepare(w, name);
	for (unsigned i = 0; i < WORKERS; i++)
		assert_int_equal(pthread_create(&w->workers[i].thread, NULL, work, &w->workers[i]),
				 0);
	merge_begin(w);
	assert_int_equal(pthread_create(&w->accountant, NULL, look, w), 0);
}

static void world_release(struct world *w)
{
	for (unsigned i = 0; i < WORKERS; i++) {
		worker_close(w->workers[i].worker);
		ring_pair_close(&w->workers[i].pair);
	}
	matcher_close(w->matcher);
	(void)close(w->dir_fd);
	assert_int_equal(rmdir(w->dir), 0); // the stores left nothing behind
	free(w->sent);
}

static void world_close(struct world *w)
{
	atomic_store(&w->accountant_ends, true);
	assert_int_equal(pthread_join(w->accountant, NULL), 0);
	merge_end(w);
	atomic_store(&w->workers_end, true);
	for (unsigned i = 0; i < WORKERS; i++) {
		struct worker_thread *t = &w->workers[i];

		assert_int_equal(pthread_join(t->thread, NULL), 0);
		w->n_late += atomic_load(&t->pair.shared->ring.n_late);
	}
	world_release(w);
}

static void every_packet_of_every_capture_is_accounted_for(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	(void)state;
	assert_non_null(w);
	world_open(w, "every_packet_of_every_capture_is_accounted_for");
	for (unsigned i = 0; i < CHANGES; i++) {
		if (i % 25 == 24)
			start_anew(w);
		change(w, throw_flip(w));
		let_traffic_pass(w, dice_one_in(&w->d, 3) ? 0 : dice_below(&w->d, 1000));
		if (dice_one_in(&w->d, 2))
			wait_for_ends(w);
		close_ended(w);
	}
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if (is_running(w->slots[slot]))
			change(w, (uint8_t)(1U << slot));
	wait_for_ends(w);
	printf("%u packets; %llu captures: %llu recorded, %llu overwritten, %llu lost; %llu late; "
	       "%llu looks, %llu snapshots\n",
	       atomic_load(&w->clock), (unsigned long long)w->n_verified,
	       (unsigned long long)w->n_recorded, (unsigned long long)w->n_overwritten,
	       (unsigned long long)w->n_lost, (unsigned long long)w->n_late,
	       (unsigned long long)w->n_looks, (unsigned long long)w->n_snapshots);
	world_close(w);
	assert_true(w->n_verified > 20);
	assert_true(w->n_recorded > 1000 && w->n_lost > 100 && w->n_overwritten > 0);
	assert_true(w->n_late > 0 && w->n_looks > 0);
	free(w);
}

/* ---- one worker, and someone who looks at its books as fast as he can ---- */

struct watched {
	struct worker_thread *t;
	_Atomic bool is_over;
};

static void *send_esp(void *ctx)
{
	struct watched *watched = ctx;
	struct world *w = watched->t->world;

	for (unsigned i = 0; i < 3000; i++) {
		atomic_store(&w->clock, 0); // the same places again: nobody asks what was sent
		send_burst(watched->t);
	}
	atomic_store(&watched->is_over, true);
	return NULL;
}

/* A counter of what became of packets must never be seen before that of the packets. */
static void received_covers_what_became_of_it_at_every_moment(void **state)
{
	const struct store_counts none = {0};
	struct world *w = calloc(1, sizeof(*w));
	struct watched watched = {.t = &w->workers[0]};
	struct capture c = {0};
	struct books b;
	uint64_t n_looks = 0;
	pthread_t thread;

	(void)state;
	assert_non_null(w);
	world_prepare(w, "received_covers_what_became_of_it_at_every_moment");
	known_capture_throw(&w->d, &c.known, 0);
	c.known.data = (struct filter_data){
		.tracing_flags = TRACE_DEFAULT, .snap_bytes = 60, .n_filters = 1};
	c.known.entry.connection = SET_GATEWAY_WIDE;
	c.end_generation = UINT64_MAX;
	c.first_generation = w->generation = 1;
	w->slots[0] = &c;
	w->matcher = compile(w);
	worker_publish(watched.t->worker, w->matcher);
	assert_int_equal(pthread_create(&thread, NULL, send_esp, &watched), 0);
	while (!atomic_load(&watched.is_over)) {
		if (worker_generation(watched.t->worker) == 0)
			continue; // the slot is not its own yet
		read_books(w, &c, &none, &b);
		for (unsigned port = 0; port < KNOWN_PORTS; port++)
			assert_true(b.ports[port].received >=
				    b.ports[port].recorded + b.ports[port].ring_full);
		n_looks++;
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(n_looks > 100);
	assert_true(b.ports[PORT_INNER].ring_full > 1000);
	world_release(w);
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(received_covers_what_became_of_it_at_every_moment),
		cmocka_unit_test(every_packet_of_every_capture_is_accounted_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
