/* captures_set.c - what the dataplane is told, and what happens when it comes and goes.
 *
 * The dataplane's books are read where they lie: its memory stays mapped until down() has returned,
 * even when its process is gone.  After a crash the records that were counted but not published are
 * taken out of the books again: nobody can say whether they were ever whole.  So are the segments that
 * were held: nobody can say whether they were OpenVPN, and "not matched" would be invented.  The gap
 * begins where the first of them came, up to a second before the crash.
 *
 * When we go and the dataplane stays nothing is closed: what the watermarks allow is merged and
 * committed, the rest waits in the rings for the next gatecapd (captures_restore.c).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "control/captures_internal.h"
#include "filters/log.h"
#include "control/set_build.h"

enum { DRAIN_MS_MAX = 2000, RETRY_NS = 1000000000, LEAVE_NS_MAX = 500000000 };

static uint64_t load(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void read_nic(const struct captures *m, struct capture *c)
{
	const struct shared_header *shared = dp_client_shared(m->dp);

	for (unsigned port = 0; port < shared->n_ports; port++)
		c->last.ports[port].lost_nic =
			load(&shared->ports[port].lost_nic) - c->nic_base[port];
}

/* Add up what all workers counted for the capture's slot; NIC losses stay as read_nic() left them. */
static void read_workers(const struct captures *m, struct capture *c)
{
	const struct shared_header *shared = dp_client_shared(m->dp);
	struct worker_tally sum = {0};

	for (unsigned port = 0; port < PORTS_MAX; port++)
		sum.ports[port].lost_nic = c->last.ports[port].lost_nic;
	for (unsigned i = 0; i < shared->n_workers; i++) {
		const struct worker_shared *w = dp_client_worker(m->dp, i);

		for (unsigned port = 0; port < PORTS_MAX; port++) {
			const struct slot_counters *s = &w->slots[c->slot][port];
			uint64_t first_ns = load(&s->lost_first_ns),
				 last_ns = load(&s->lost_last_ns);
			struct slot_seen seen = slot_counters_read(s);

			sum.ports[port].received += seen.received;
			sum.ports[port].recorded += seen.recorded;
			sum.ports[port].ring_full += seen.ring_full;
			sum.ports[port].held += seen.held;
			if (first_ns != 0 &&
			    (sum.lost_first_ns == 0 || first_ns < sum.lost_first_ns))
				sum.lost_first_ns = first_ns;
			if (last_ns > sum.lost_last_ns)
				sum.lost_last_ns = last_ns;
		}
		for (unsigned k = 0; k < CLASS_COUNT; k++)
			sum.classes[k] += load(&w->slot_classes[c->slot][k]);
		for (unsigned k = 0; k < ESP_COUNTS; k++)
			sum.esp[k] += load(&w->slot_esp[c->slot][k]);
	}
	c->last = sum;
}

void captures_read_tally(struct captures *m, struct capture *c)
{
	if (!m->is_up || c->slot < 0 || !c->is_sent || c->state == CAPTURE_STARTING)
		return;
	if (c->end_ns == 0)
		read_nic(m, c);
	read_workers(m, c);
}

static bool is_wanted(const struct capture *c)
{
	return c->state == CAPTURE_STARTING || c->state == CAPTURE_RUNNING;
}

/* Gather what the next set holds; gives the number of captures in it. */
static unsigned gather(struct captures *m, struct set_source_capture *out)
{
	unsigned n = 0;

	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		const struct capture *c = m->slots[slot];

		if (c == NULL || !is_wanted(c))
			continue;
		out[n++] = (struct set_source_capture){
			.slot = slot,
			.is_new = !c->is_sent,
			.connection = c->connection != NULL
					      ? captures_connection_index(m, c->connection)
					      : SET_GATEWAY_WIDE,
			.data = &c->data,
		};
	}
	return n;
}

/* Slot, generation and dataplane of those who are new in the next set, written down before it goes. */
static void prepare_new(struct captures *m, uint64_t generation)
{
	const struct shared_header *shared = dp_client_shared(m->dp);

	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		struct capture *c = m->slots[slot];
		struct refusal refusal = {0};

		if (c == NULL || !is_wanted(c) || c->is_sent)
			continue;
		c->epoch = shared->boot_id;
		c->first_generation = generation;
		for (unsigned port = 0; port < shared->n_ports; port++) // again when it is applied
			c->nic_base[port] = load(&shared->ports[port].lost_nic);
		if (captures_save(m, c) == 0 || c->state != CAPTURE_STARTING)
			continue;
		refusal_set(
			&refusal, 507, "InsufficientStorage",
			"The capture's file %s.capture cannot be written to %s: is the disk full?",
			c->id, m->config->control.state_dir);
		m->slots[slot] = NULL;
		capture_start_refused(m, c, &refusal);
	}
}

/* The set goes: mark who is in it, and who is not any more. */
static void mark_sent(struct captures *m, uint64_t generation)
{
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		struct capture *c = m->slots[slot];

		if (c == NULL)
			continue;
		if (!is_wanted(c)) {
			c->is_left_out = true;
		} else if (!c->is_sent) {
			c->is_sent = true;
			merge_set_store(m->merger, slot, c->store, generation);
		}
	}
}

static void send_set(struct captures *m)
{
	struct set_source_capture captures[CAPTURES_MAX];
	struct set_source source = {
		.config = m->config, .captures = captures, .generation = m->generation + 1};
	size_t bytes;
	void *set;
	int rc;

	if (!m->is_up || m->is_set_pending || !m->is_set_wanted ||
	    captures_clock_ns() < m->set_retry_ns)
		return;
	prepare_new(m, source.generation);
	source.n_captures = gather(m, captures);
	source.resolved = resolver_peers(m->resolver, &source.n_resolved);
	set = set_build(&source, &bytes);
	if (set == NULL) {
		log_error("A filter set could not be built: out of memory; trying again.");
		m->set_retry_ns = captures_clock_ns() + RETRY_NS;
		return;
	}
	// Before it goes: the first record may come before we are told.
	mark_sent(m, source.generation);
	rc = dp_client_set(m->dp, set, bytes, source.generation);
	free(set);
	if (rc != 0) // the connection is closed: down() comes, and everything is told again
		log_error("The dataplane could not be told of a change: %s.", strerror(-rc));
	m->generation = source.generation;
	m->is_set_pending = true;
	m->is_set_wanted = false;
}

void captures_want_set(struct captures *m)
{
	m->is_set_wanted = true;
	send_set(m);
}

static void on_applied(void *ctx, uint64_t generation, uint64_t time_ns)
{
	struct captures *m = ctx;
	const struct shared_header *shared = dp_client_shared(m->dp);

	if (generation != m->generation)
		return;
	m->is_set_pending = false;
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		struct capture *c = m->slots[slot];

		if (c == NULL)
			continue;
		if (c->is_sent && c->first_generation == generation)
			for (unsigned port = 0; port < shared->n_ports; port++)
				c->nic_base[port] = load(&shared->ports[port].lost_nic);
		if (c->is_sent && (c->state == CAPTURE_STARTING || capture_has_open_gap(c))) {
			capture_started(m, c);
		} else if (c->state == CAPTURE_STOPPING && c->is_left_out && c->end_ns == 0) {
			read_nic(m, c);
			c->end_ns = time_ns;
			(void)captures_save(m, c);
		}
	}
	send_set(m);
}

static void on_refused(void *ctx, uint64_t generation, const char *why)
{
	struct captures *m = ctx;

	if (generation != m->generation)
		return;
	m->is_set_pending = false;
	m->is_set_wanted =
		true; // a stop in it must get through; without what was refused, or later
	m->set_retry_ns = captures_clock_ns() + RETRY_NS;
	log_error("The dataplane refused a filter set: %s", why);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		struct capture *c = m->slots[slot];

		if (c == NULL)
			continue;
		if (c->state == CAPTURE_STOPPING && c->end_ns == 0)
			c->is_left_out = false;
		if (c->first_generation == generation)
			c->is_sent = false;
		if (c->state == CAPTURE_STARTING && !c->is_sent) {
			merge_set_store(m->merger, slot, NULL, 0);
			m->slots[slot] = NULL;
			capture_start_failed(m, c, why);
			m->set_retry_ns = 0;
		}
	}
	send_set(m);
}

static void on_up(void *ctx)
{
	struct captures *m = ctx;
	struct ring_reader rings[WORKERS_MAX];
	unsigned n = dp_client_rings(m->dp, rings);

	m->merger = merge_open(rings, n, dp_client_shared(m->dp)->boot_id);
	if (m->merger != NULL)
		captures_attach(m); // before the first record is dealt
	m->merge_thread = m->merger != NULL
				  ? merge_thread_start(m->merger, m->config->captures.sync_ms)
				  : NULL;
	if (m->merge_thread == NULL) {
		log_error("gatecapd cannot go on: out of memory.");
		abort();
	}
	m->is_up = true;
	m->is_set_pending = false;
	if (dp_client_generation(m->dp) > m->generation)
		m->generation = dp_client_generation(m->dp);
	log_info("The dataplane is connected: %u workers, %u ports.", n,
		 dp_client_shared(m->dp)->n_ports);
	captures_want_set(m);
	sa_keeper_up(m->sas, m->dp);
}

/* Merge to the end of what may be merged, commits included; not after late_ns. */
static void merge_rest(struct merger *merger, uint64_t late_ns)
{
	uint64_t n;

	do {
		n = merge_step(merger, UINT64_MAX);
		merge_commit(merger);
	} while (n > 0 && captures_clock_ns() < late_ns);
}

/* Bring everything that was published into the stores. */
static void drain(struct captures *m)
{
	const struct timespec ms = {.tv_nsec = 1000000};

	if (!dp_client_is_alive(m->dp))
		merge_ignore_watermarks(m->merger);
	for (unsigned i = 0; i < DRAIN_MS_MAX && merge_waiting_bytes(m->merger) > 0; i++)
		(void)nanosleep(&ms, NULL);
	merge_thread_stop(m->merge_thread);
	merge_rest(m->merger, captures_clock_ns() + LEAVE_NS_MAX);
}

/* Wall clock before which nothing is missing of what the dataplane that is gone held for the capture, or
 * UINT64_MAX: it held nothing.  A worker's watermark stays behind what it holds.
 */
static uint64_t held_since_ns(const struct captures *m, const struct capture *c)
{
	uint64_t since_ns = UINT64_MAX;

	for (unsigned i = 0; i < dp_client_shared(m->dp)->n_workers; i++) {
		const struct worker_shared *w = dp_client_worker(m->dp, i);
		uint64_t watermark_ns = load(&w->ring.watermark_ns), n_held = 0;

		for (unsigned port = 0; port < PORTS_MAX; port++)
			n_held += load(&w->slots[c->slot][port].held);
		if (c->is_sent && n_held > 0 && watermark_ns < since_ns)
			since_ns = watermark_ns;
	}
	if (since_ns == UINT64_MAX)
		return since_ns;
	since_ns += (uint64_t)c->wall_offset_ns;
	return since_ns > c->started_ns ? since_ns : c->started_ns;
}

/* What was held is missing since it came, also of a capture that waits for nothing else to end. */
static void add_down_gap(struct captures *m, struct capture *c)
{
	uint64_t now_ns = wall_now_ns(), since_ns = held_since_ns(m, c);

	if (c->state == CAPTURE_RUNNING)
		capture_add_gap(c, since_ns < now_ns ? since_ns : now_ns, 0, GAP_DATAPLANE_DOWN);
	else if (c->state == CAPTURE_STOPPING && since_ns != UINT64_MAX)
		capture_add_gap(c, since_ns, now_ns, GAP_DATAPLANE_DOWN);
}

/* Close the books of the dataplane that is gone; see the top of the file. */
static void close_books(struct captures *m, struct capture *c)
{
	struct store_counts counts = {0};

	captures_read_tally(m, c);
	merge_set_store(m->merger, (unsigned)c->slot, NULL, 0);
	capture_settle(c, store_count(c->store, &counts) == 0 ? &counts : NULL);
	add_down_gap(m, c);
	if (c->state == CAPTURE_STOPPING && c->end_ns == 0)
		c->end_ns = 1; // nothing more can come
	c->is_sent = c->is_left_out = false;
	c->epoch = c->first_generation = 0;
	(void)captures_save(m, c);
}

/* We go: commit what may be merged, and leave the rest where it is.  captures_close() keeps the stores. */
static void leave(struct captures *m)
{
	merge_thread_stop(m->merge_thread);
	merge_rest(m->merger, captures_clock_ns() + LEAVE_NS_MAX);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		if (m->slots[slot] == NULL)
			continue;
		captures_read_tally(m, m->slots[slot]);
		merge_set_store(m->merger, slot, NULL, 0);
	}
}

static void on_down(void *ctx)
{
	struct captures *m = ctx;

	if (!m->is_up)
		return;
	if (m->is_closing && dp_client_is_alive(m->dp)) {
		leave(m);
	} else {
		drain(m);
		for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
			if (m->slots[slot] != NULL)
				close_books(m, m->slots[slot]);
	}
	sa_keeper_down(m->sas);
	merge_close(m->merger);
	m->merger = NULL;
	m->merge_thread = NULL;
	m->is_up = m->is_set_pending = false;
	if (!m->is_closing)
		log_warning("The dataplane is gone; captures go on when it is back.");
}

void captures_check_ends(struct captures *m)
{
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		struct capture *c = m->slots[slot];

		if (c == NULL)
			continue;
		if (c->is_waiting && !m->is_up && dp_client_is_absent(m->dp))
			capture_lose_dataplane(m, c);
		if (c->state != CAPTURE_STOPPING || c->is_waiting)
			continue;
		if (!m->is_up && c->end_ns == 0)
			c->end_ns = 1; // it cannot be told, and records nothing
		if (c->end_ns == 0 || (m->is_up && merge_time_ns(m->merger) < c->end_ns))
			continue;
		captures_read_tally(m, c);
		if (m->is_up)
			merge_set_store(m->merger, slot, NULL, 0);
		capture_settle_cut(c);
		m->slots[slot] = NULL;
		c->slot = -1;
		capture_sync(m, c);
		capture_ended(m, c);
	}
	if (m->is_set_wanted)
		send_set(m);
}

static void on_sas_applied(void *ctx, uint64_t generation)
{
	sa_keeper_applied(((struct captures *)ctx)->sas, generation);
}

static void on_sas_refused(void *ctx, uint64_t generation, const char *why)
{
	sa_keeper_refused(((struct captures *)ctx)->sas, generation, why);
}

int captures_connect(struct captures *m, struct error *err)
{
	const struct dp_events events = {.up = on_up,
					 .down = on_down,
					 .applied = on_applied,
					 .refused = on_refused,
					 .sas_applied = on_sas_applied,
					 .sas_refused = on_sas_refused,
					 .ctx = m};

	m->dp = dp_client_open(m->base, m->config->dataplane.socket, &events);
	if (m->dp == NULL) {
		error_set(err, "gatecapd could not start: out of memory.");
		return -ENOMEM;
	}
	return 0;
}
