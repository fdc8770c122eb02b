/* captures_set.c - what the dataplane is told, and what happens when it comes and goes.
 *
 * The dataplane's books are read where they lie: its memory stays mapped until down() has returned,
 * even when its process is gone.  After a crash the records that were counted but not published are
 * taken out of the books again: nobody can say whether they were ever whole.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "control/captures_internal.h"
#include "filters/log.h"
#include "control/set_build.h"

enum { DRAIN_MS_MAX = 2000, RETRY_NS = 1000000000 };

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

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

			// received last: it is stored after the others, so it covers them
			sum.ports[port].recorded += load(&s->recorded);
			sum.ports[port].ring_full += load(&s->ring_full);
			sum.ports[port].received += load(&s->received);
			if (first_ns != 0 &&
			    (sum.lost_first_ns == 0 || first_ns < sum.lost_first_ns))
				sum.lost_first_ns = first_ns;
			if (last_ns > sum.lost_last_ns)
				sum.lost_last_ns = last_ns;
		}
		for (unsigned k = 0; k < CLASS_COUNT; k++)
			sum.classes[k] += load(&w->slot_classes[c->slot][k]);
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

/* The set has gone: mark who is in it, and who is not any more. */
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

	if (!m->is_up || m->is_set_pending || !m->is_set_wanted || now_ns() < m->set_retry_ns)
		return;
	source.n_captures = gather(m, captures);
	source.resolved = resolver_peers(m->resolver, &source.n_resolved);
	set = set_build(&source, &bytes);
	if (set == NULL) {
		log_error("A filter set could not be built: out of memory; trying again.");
		m->set_retry_ns = now_ns() + RETRY_NS;
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
		if (c->is_sent && (c->state == CAPTURE_STARTING ||
				   (c->n_gaps > 0 && c->gaps[c->n_gaps - 1].to_ns == 0))) {
			for (unsigned port = 0; port < shared->n_ports; port++)
				c->nic_base[port] = load(&shared->ports[port].lost_nic);
			capture_started(m, c);
		} else if (c->state == CAPTURE_STOPPING && c->is_left_out && c->end_ns == 0) {
			read_nic(m, c);
			c->end_ns = time_ns;
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
	m->set_retry_ns = now_ns() + RETRY_NS;
	log_error("The dataplane refused a filter set: %s", why);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		struct capture *c = m->slots[slot];

		if (c == NULL)
			continue;
		c->is_left_out = false;
		if (c->state == CAPTURE_STARTING) {
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
	m->merge_thread = m->merger != NULL ? merge_thread_start(m->merger, 0) : NULL;
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
}

/* Bring everything that was published into the stores. */
static void drain(struct captures *m)
{
	const struct timespec ms = {.tv_nsec = 1000000};

	merge_ignore_watermarks(m->merger);
	for (unsigned i = 0; i < DRAIN_MS_MAX && merge_waiting_bytes(m->merger) > 0; i++)
		(void)nanosleep(&ms, NULL);
	merge_thread_stop(m->merge_thread);
	while (merge_step(m->merger, UINT64_MAX) > 0)
		merge_commit(m->merger);
}

/* Close the books of the dataplane that is gone; see the top of the file. */
static void settle_books(struct captures *m, struct capture *c)
{
	struct store_counts counts = {0};

	captures_read_tally(m, c);
	for (unsigned port = 0; port < PORTS_MAX; port++) {
		struct port_tally *base = &c->base.ports[port], *last = &c->last.ports[port];

		if (last->received < last->recorded + last->ring_full)
			last->received = last->recorded + last->ring_full;
		base->received += last->received;
		base->recorded += last->recorded;
		base->ring_full += last->ring_full;
		base->lost_nic += last->lost_nic;
	}
	for (unsigned k = 0; k < CLASS_COUNT; k++)
		c->base.classes[k] += c->last.classes[k];
	if (c->base.lost_first_ns == 0)
		c->base.lost_first_ns = c->last.lost_first_ns;
	if (c->last.lost_last_ns != 0)
		c->base.lost_last_ns = c->last.lost_last_ns;
	c->last = (struct worker_tally){0};
	if (store_count(c->store, &counts) != 0)
		return;
	for (unsigned port = 0; port < PORTS_MAX; port++) {
		uint64_t vanished = capture_ledger(c, port, &counts).in_flight;

		c->base.ports[port].recorded -= vanished;
		c->base.ports[port].received -= vanished;
	}
}

static void on_down(void *ctx)
{
	struct captures *m = ctx;

	if (!m->is_up)
		return;
	drain(m);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		struct capture *c = m->slots[slot];

		if (c == NULL)
			continue;
		merge_set_store(m->merger, slot, NULL, 0);
		settle_books(m, c);
		if (c->state == CAPTURE_RUNNING && c->n_gaps < GAPS_MAX)
			c->gaps[c->n_gaps++] = (struct gap){wall_now_ns(), 0, "dataplane_down"};
		if (c->state == CAPTURE_STOPPING && c->end_ns == 0)
			c->end_ns = 1; // nothing more can come
		c->is_sent = c->is_left_out = false;
	}
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

		if (c == NULL || c->state != CAPTURE_STOPPING)
			continue;
		if (!m->is_up && c->end_ns == 0)
			c->end_ns = 1; // it cannot be told, and records nothing
		if (c->end_ns == 0 || (m->is_up && merge_time_ns(m->merger) < c->end_ns))
			continue;
		captures_read_tally(m, c);
		if (m->is_up)
			merge_set_store(m->merger, slot, NULL, 0);
		m->slots[slot] = NULL;
		c->slot = -1;
		capture_ended(m, c);
	}
	if (m->is_set_wanted)
		send_set(m);
}

int captures_connect(struct captures *m, struct error *err)
{
	const struct dp_events events = {.up = on_up,
					 .down = on_down,
					 .applied = on_applied,
					 .refused = on_refused,
					 .ctx = m};

	m->dp = dp_client_open(m->base, m->config->dataplane.socket, &events);
	if (m->dp == NULL) {
		error_set(err, "gatecapd could not start: out of memory.");
		return -ENOMEM;
	}
	return 0;
}
