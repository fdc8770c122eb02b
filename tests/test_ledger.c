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
#include "dataplane/worker.h"
#include "filters/matcher.h"
#include "tests/ledger_check.h"
#include "tests/ring_pair.h"
#include "tests/simple_frame.h"

enum {
	RING = 1 << 14,
	AHEAD = 4000,  // packets, more than OVPN_HOLD_NS of them
	CHANGES = 100, // of the set of captures
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
	struct ledger_log log;
	_Atomic uint32_t budget; // packets that may be sent
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

	bool is_alone; // no threads: control does the others' work, too
	struct ledger_sums sums;
	uint64_t n_looks, n_snapshots, n_late, n_held;
};

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
	uint32_t first = atomic_fetch_add(&w->log.clock, n);
	struct pkt p[BURST_MAX];

	for (uint32_t i = 0; i < n; i++) {
		struct sent *sent = &w->log.sent[first + i];

		known_packet_throw(&t->d, sent, port);
		p[i] = (struct pkt){.data = frames[i],
				    .len = known_frame(first + i, sent, frames[i]),
				    .time_ns = ledger_time_of(first + i)};
		p[i].wire_len = p[i].len;
	}
	worker_burst(t->worker, p, n, port, port == PORT_INNER);
	for (uint32_t i = 0; i < n; i++)
		w->log.sent[first + i].generation = worker_generation(t->worker);
}

static void *work(void *ctx)
{
	struct worker_thread *t = ctx;
	struct world *w = t->world;

	while (!atomic_load(&w->workers_end)) {
		uint32_t now = atomic_load(&w->log.clock);

		if (now < atomic_load(&w->budget) && now < SENT_MAX - WORKERS * BURST_MAX)
			send_burst(t);
		if (dice_one_in(&t->d, 4)) {
			worker_idle(t->worker, ledger_time_of(atomic_load(&w->log.clock)));
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

/* As a control process that was just started: at the tails that the one before has left. */
static void open_merger(struct world *w)
{
	struct ring_reader rings[WORKERS];

	for (unsigned i = 0; i < WORKERS; i++) {
		struct ring_pair *pair = &w->workers[i].pair;

		ring_reader_init(&rings[i], pair->data, pair->size, &pair->shared->ring,
				 pair->tail);
	}
	w->merger = merge_open_writers(rings, WORKERS, 1, 1 + dice_below(&w->d, 3));
	assert_non_null(w->merger);
}

static void close_merger(struct world *w)
{
	assert_int_equal(merge_corrupt(w->merger), 0);
	merge_close(w->merger);
}

static void merge_begin(struct world *w)
{
	open_merger(w);
	atomic_store(&w->merge_ends, false);
	assert_int_equal(pthread_create(&w->merge_thread, NULL, merge, w), 0);
}

static void merge_end(struct world *w)
{
	atomic_store(&w->merge_ends, true);
	assert_int_equal(pthread_join(w->merge_thread, NULL), 0);
	close_merger(w);
}

/* ---- the accountant's thread ---- */

/* The inequalities that hold at every moment. */
static void look_at_books(struct world *w, const struct capture *c)
{
	struct store_counts counts;
	struct books b;

	expect(w, store_count(c->store, &counts) == 0, "a store cannot be counted");
	ledger_read_books(&w->log, c, &counts, &b);
	for (unsigned port = 0; port < KNOWN_PORTS; port++) {
		const struct ledger_input *in = &b.ports[port];
		struct ledger ledger = ledger_make(in);

		expect(w, in->received >= in->recorded + in->ring_full + in->held,
		       "more became of packets than were received");
		expect(w, in->recorded >= in->in_file + in->overwritten + in->lost_disk,
		       "a store has more than was recorded");
		expect(w, ledger_balances(&ledger), "a ledger does not balance");
		expect(w, ledger.in_flight >= in->held, "what is held is not in flight");
		w->n_held += in->held > 0;
	}
	w->n_looks++;
}

static void look_at_snapshot(struct world *w, const struct capture *c)
{
	struct error err = {0};
	struct store_view *view = store_view_snapshot(c->store, &err);
	uint8_t *bytes = view != NULL ? ledger_read_view(view) : NULL;
	uint32_t last = 0;

	expect(w, bytes != NULL, "a snapshot cannot be read");
	for (uint64_t at = PCAP_HEADER_BYTES; bytes != NULL && at < store_view_bytes(view);) {
		struct stored_record r = ledger_record_at(c, bytes + at);

		expect(w, ledger_is_known(&w->log, c, &r), "a snapshot has a record of no packet");
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

/* ---- control ---- */

/* What the merger has passed no set of later will judge. */
static void look_how_far(struct world *w)
{
	uint64_t time_ns = merge_time_ns(w->merger);

	if (time_ns > ledger_time_of(w->passed))
		w->passed = ledger_index_of(time_ns);
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
	assert_true(atomic_load(&w->log.clock) < SENT_MAX - WORKERS * BURST_MAX);
	if (!w->is_alone)
		return;
	if (atomic_load(&w->log.clock) < atomic_load(&w->budget))
		send_burst(&w->workers[dice_below(&w->d, WORKERS)]);
	for (unsigned i = 0; i < WORKERS; i++)
		worker_idle(w->workers[i].worker, ledger_time_of(atomic_load(&w->log.clock)));
	(void)merge_step(w->merger, UINT64_MAX);
	merge_commit(w->merger);
}

static void let_traffic_pass(struct world *w, uint32_t n)
{
	uint32_t until = atomic_load(&w->log.clock) + n;

	if (atomic_load(&w->budget) < until)
		atomic_store(&w->budget, until);
	while (atomic_load(&w->log.clock) < until)
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
	struct set_source source = {.config = &w->log.config, .captures = entries};
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
	return atomic_load(&w->log.clock);
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

		if (c == NULL || is_running(c) || merge_time_ns(w->merger) < ledger_time_of(c->end))
			continue;
		merge_set_store(w->merger, slot, NULL, 0);
		ledger_verify(&w->log, c, &w->sums);
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
	w->log.sent = calloc(SENT_MAX, sizeof(*w->log.sent));
	assert_non_null(w->log.sent);
	known_config(&w->log.config);
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
		w->log.shared[i] = t->pair.shared;
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
	free(w->log.sent);
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
	world_close(w);
	printf("%u packets; %llu captures: %llu recorded, %llu overwritten, %llu lost; %llu late; "
	       "%llu looks, %llu at what was held, %llu snapshots\n",
	       atomic_load(&w->log.clock), (unsigned long long)w->sums.n_verified,
	       (unsigned long long)w->sums.n_recorded, (unsigned long long)w->sums.n_overwritten,
	       (unsigned long long)w->sums.n_lost, (unsigned long long)w->n_late,
	       (unsigned long long)w->n_looks, (unsigned long long)w->n_held,
	       (unsigned long long)w->n_snapshots);
	assert_true(w->sums.n_verified > 20);
	assert_true(w->sums.n_recorded > 1000 && w->sums.n_lost > 100 && w->sums.n_overwritten > 0);
	assert_true(w->n_late > 0 && w->n_looks > 0);
	free(w);
}

/* ---- without threads: what a control process finds that was started anew ---- */

static void records_of_an_earlier_owner_of_the_slot_are_nobodys(void **state)
{
	// In the ring generations have 16 bits.
	static const uint64_t generations[] = {0, 0x7ffe, 0xfffd, 0xfffe, 0xffff};

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		struct world *w = calloc(1, sizeof(*w));
		uint64_t n_left = 0;

		assert_non_null(w);
		world_prepare(w, "records_of_an_earlier_owner_of_the_slot_are_nobodys");
		w->is_alone = true;
		w->generation = generations[i];
		open_merger(w);
		change(w, 31);
		for (unsigned burst = 0; burst < 20; burst++)
			send_burst(&w->workers[burst % WORKERS]);
		n_left = merge_waiting_bytes(w->merger);
		close_merger(w);
		for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
			capture_close(w, slot);
		open_merger(w);
		change(w, 31);
		for (unsigned burst = 0; burst < 20; burst++)
			send_burst(&w->workers[burst % WORKERS]);
		change(w, 31);
		wait_for_ends(w);
		assert_int_equal(w->sums.n_verified, CAPTURES_MAX);
		assert_true(n_left > 0);
		close_merger(w);
		world_release(w);
		free(w);
	}
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
		atomic_store(&w->log.clock, 0); // the same places again: nobody asks what was sent
		send_burst(watched->t);
	}
	atomic_store(&watched->is_over, true);
	return NULL;
}

/* A world whose only capture, in slot 0, wants everything; no store, no merger. */
static void world_of_one(struct world *w, const char *name, struct capture *c)
{
	memset(c, 0, sizeof(*c));
	world_prepare(w, name);
	known_capture_throw(&w->d, &c->known, 0);
	c->known.data = (struct filter_data){
		.tracing_flags = TRACE_DEFAULT, .snap_bytes = 60, .n_filters = 1};
	c->known.entry.connection = SET_GATEWAY_WIDE;
	c->end_generation = UINT64_MAX;
	c->first_generation = w->generation = 1;
	w->slots[0] = c;
	w->matcher = compile(w);
	for (unsigned i = 0; i < WORKERS; i++)
		worker_publish(w->workers[i].worker, w->matcher);
}

/* A counter of what became of packets must never be seen before that of the packets. */
static void received_covers_what_became_of_it_at_every_moment(void **state)
{
	const struct store_counts none = {0};
	struct world *w = calloc(1, sizeof(*w));
	struct watched watched = {.t = &w->workers[0]};
	struct capture c;
	struct books b;
	uint64_t n_looks = 0;
	pthread_t thread;

	(void)state;
	assert_non_null(w);
	world_of_one(w, "received_covers_what_became_of_it_at_every_moment", &c);
	assert_int_equal(pthread_create(&thread, NULL, send_esp, &watched), 0);
	while (!atomic_load(&watched.is_over)) {
		if (worker_generation(watched.t->worker) == 0)
			continue; // the slot is not its own yet
		ledger_read_books(&w->log, &c, &none, &b);
		for (unsigned port = 0; port < KNOWN_PORTS; port++)
			assert_true(b.ports[port].received >= b.ports[port].recorded +
								      b.ports[port].ring_full +
								      b.ports[port].held);
		n_looks++;
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(n_looks > 100);
	assert_true(b.ports[PORT_INNER].ring_full > 1000);
	world_release(w);
	free(w);
}

/* Take all that is in the ring, as whoever empties it. */
static void empty_ring(struct worker_thread *t)
{
	t->pair.reader.tail += ring_available(&t->pair.reader);
	ring_release(&t->pair.reader);
}

/* Without threads each moment is exact: not matched is what has such a verdict, and the rest of what is
 * not recorded is in flight.
 */
static void held_segments_are_in_flight_until_they_are_decided(void **state)
{
	static const enum verdict never[] = {VERDICT_NOT_MATCHED, VERDICT_OTHER, VERDICT_MALFORMED,
					     VERDICT_FRAGMENT_NO_FIRST, VERDICT_OVPN_UNDECIDED};
	const struct store_counts none = {0};
	struct world *w = calloc(1, sizeof(*w));
	uint64_t n_held_before = 0, n_settled = 0;
	struct capture c;

	(void)state;
	assert_non_null(w);
	world_of_one(w, "held_segments_are_in_flight_until_they_are_decided", &c);
	for (unsigned step = 0; step < 5000; step++) {
		struct worker_thread *t = &w->workers[dice_below(&w->d, WORKERS)];
		uint64_t n_held = 0, n_never = 0, n_recorded = 0;
		struct ledger sum = {0};
		struct books b;

		if (dice_one_in(&w->d, 3))
			worker_idle(t->worker, ledger_time_of(atomic_load(&w->log.clock)));
		else
			send_burst(t);
		if (dice_one_in(&w->d, 2))
			empty_ring(t);
		ledger_read_books(&w->log, &c, &none, &b);
		for (unsigned port = 0; port < KNOWN_PORTS; port++) {
			struct ledger ledger = ledger_make(&b.ports[port]);

			assert_true(ledger_balances(&ledger));
			ledger_add(&sum, &ledger);
			n_recorded += b.ports[port].recorded;
			assert_true(port == PORT_SHARED || b.ports[port].held == 0);
		}
		for (unsigned i = 0; i < WORKERS; i++) {
			n_held += atomic_load(&w->log.shared[i]->n_held);
			for (unsigned k = 0; k < sizeof(never) / sizeof(never[0]); k++)
				n_never += atomic_load(&w->log.shared[i]->verdicts[never[k]]);
		}
		assert_int_equal(sum.received, atomic_load(&w->log.clock));
		assert_int_equal(sum.in_flight, n_recorded + n_held);
		assert_int_equal(sum.not_matched, n_never);
		n_settled += n_held < n_held_before;
		n_held_before = n_held;
	}
	assert_true(n_settled > 100);
	world_release(w);
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(held_segments_are_in_flight_until_they_are_decided),
		cmocka_unit_test(received_covers_what_became_of_it_at_every_moment),
		cmocka_unit_test(records_of_an_earlier_owner_of_the_slot_are_nobodys),
		cmocka_unit_test(every_packet_of_every_capture_is_accounted_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
