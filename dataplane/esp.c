/* esp.c - six passes over a burst, so that each waits for its memory while the others go on.
 *
 *   locate   where ESP begins in each frame; ask for the SA's hash line
 *   find     the SA, and whether anybody's filter looks inside
 *   decrypt  of all that are looked into: the beginning and the trailer, in one call of the engine
 *   judge    is it plausible; its headers; the verdict
 *   extend   of those that are wanted and longer: the rest, up to the snap length
 *   emit     outer packets and inner ones in order
 *
 * A piece of TCP may carry several ESP packets, so what is looked into is an `item`, not a packet.
 */
#include "dataplane/esp.h"

#include <assert.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/classify.h"
#include "dataplane/esp_frame.h"
#include "dataplane/headers_fast.h"

enum {
	ITEMS_MAX = 2 * BURST_MAX,
	PREFIX_BYTES = 128, // decrypted at first, at the most
	PREFIX_BYTES_MIN = 64,
	LINK_BYTES_MIN = ETHER_BYTES,
	BLOCK_BYTES = 16,
	HEADERS_BYTES = 512, // what a long chain of headers is given at the second try
	// Of an item that is decrypted further, twice at the most.
	LONG_BYTES = 2 * ESP_HEAD_BYTES + HEADERS_BYTES + UINT16_MAX + 1 + 2 * CACHE_LINE_BYTES,
	TAIL_BYTES = 2 * BLOCK_BYTES,
};

/* One ESP packet on its way. */
struct item {
	struct esp_frame frame;
	const struct sa *sa;
	struct match_sa scope;
	uint8_t at;	// its outer packet, in the burst
	uint8_t count;	// enum esp_count
	uint8_t looks;	// captures whose filters look inside
	uint8_t wanted; // captures that want what is inside
	uint8_t outer;	// that want the outer packet because of it
	bool has_tail;
	bool is_planned;	// looked into
	bool is_unchecked;	// its ICV should have been looked at and cannot be
	uint32_t payload_bytes; // between IV and ICV; 0: not known
	uint32_t readable;	// of it
	uint32_t prefix_bytes;	// decrypted, from its beginning
	uint32_t head_bytes;	// in front of that
	uint8_t *plain;		// where the prefix was decrypted to
	struct esp_inside inside;
	struct pkt inner;
};

struct esp_stage {
	struct esp_engine *engine;
	unsigned n_items, n_jobs;
	uint32_t prefix_bytes; // of this burst
	uint8_t *more;	       // free in `longer`
	struct item items[ITEMS_MAX];
	struct esp_job jobs[2 * ITEMS_MAX];
	struct pkt out[BURST_MAX + ITEMS_MAX];
	uint8_t tails[ITEMS_MAX][TAIL_BYTES];
	alignas(CACHE_LINE_BYTES) uint8_t short_[ITEMS_MAX][ESP_HEAD_BYTES + PREFIX_BYTES];
	uint32_t esn_high[SA_MAX]; // + 1, of the newest packet whose ICV was right; 0: none yet
	uint8_t longer[];	   // ITEMS_MAX * LONG_BYTES, touched as far as it is needed
};

static_assert(2 * (int)ITEMS_MAX <= (int)ESP_JOBS_MAX, "a burst is one call");
static_assert(BURST_MAX + ITEMS_MAX <= RECORD_MAX, "what a burst may give");
static_assert((ESP_HEAD_BYTES + PREFIX_BYTES) % CACHE_LINE_BYTES == 0, "prefixes begin alike");

size_t esp_bytes(void)
{
	return sizeof(struct esp_stage) + (size_t)ITEMS_MAX * LONG_BYTES;
}

struct esp_stage *esp_open(enum esp_engine_kind kind)
{
	size_t bytes = (esp_bytes() + CACHE_LINE_BYTES - 1) / CACHE_LINE_BYTES * CACHE_LINE_BYTES;
	struct esp_stage *e = aligned_alloc(CACHE_LINE_BYTES, bytes);

	if (e == NULL)
		return NULL;
	memset(e, 0, sizeof(*e));
	e->engine = esp_engine_open(kind);
	if (e->engine == NULL) {
		free(e);
		return NULL;
	}
	return e;
}

void esp_close(struct esp_stage *e)
{
	if (e == NULL)
		return;
	esp_engine_close(e->engine);
	free(e);
}

/* ---- locate ---- */

static struct item *add_item(struct esp_stage *e, unsigned at, const struct esp_frame *frame,
			     enum esp_count count)
{
	struct item *item = &e->items[e->n_items++];

	item->frame = *frame;
	item->sa = NULL;
	item->at = (uint8_t)at;
	item->count = (uint8_t)count;
	item->looks = item->wanted = item->outer = 0;
	item->is_unchecked = false;
	return item;
}

static const struct esp_frame no_frame;

static uint32_t spi_at(const struct esp_frame *frame)
{
	return load_be32(frame->esp);
}

/* At most `places` items, and one at least. */
static void locate_tcp(struct esp_stage *e, const struct esp_context *c, const struct pkt *p,
		       unsigned at, unsigned places)
{
	struct esp_frame frames[ESP_MESSAGES_MAX];
	bool fits;
	unsigned n = esp_locate_tcp(p, frames, &fits);

	// The middle of a message looks like anything: its first four bytes must be an SPI that is known,
	// or all lengths in a row must lead to the segment's end.
	if (n == 0 ||
	    (!fits && (c->sas == NULL || sa_table_find(c->sas, spi_at(&frames[0]), p->h.family,
						       p->h.src, p->h.dst) == NULL))) {
		(void)add_item(e, at, &no_frame, ESP_COUNT_TCP_PARTIAL);
		return;
	}
	for (unsigned i = 0; i < n && i < places; i++) {
		if (i == places - 1 && n > places)
			(void)add_item(e, at, &no_frame, ESP_COUNT_TCP_PARTIAL);
		else
			(void)add_item(e, at, &frames[i], ESP_COUNT_MALFORMED);
	}
}

/* The items of one packet.  n_after: packets behind it, each of which needs a place. */
static void locate(struct esp_stage *e, const struct esp_context *c, const struct pkt *p,
		   unsigned at, unsigned n_after)
{
	struct esp_frame frame;

	if (p->h.flags & PKT_FRAGMENT_LATER) {
		(void)add_item(e, at, &no_frame, ESP_COUNT_FRAGMENT);
	} else if (p->h.protocol == PROTO_TCP) {
		locate_tcp(e, c, p, at, ITEMS_MAX - e->n_items - n_after);
	} else if (!esp_locate(p, &frame)) {
		(void)add_item(e, at, &no_frame, ESP_COUNT_MALFORMED);
	} else {
		(void)add_item(e, at, &frame, ESP_COUNT_MALFORMED);
		if (c->sas != NULL)
			sa_table_prefetch(c->sas, spi_at(&frame), p->h.family, p->h.dst);
	}
}

/* ---- find ---- */

static void count_sa(struct worker_shared *shared, const struct sa *sa, uint64_t time_ns)
{
	struct sa_counters *counters = &shared->sas[sa->slot];

	counter_add(&counters->packets, 1);
	atomic_store_explicit(&counters->last_ns, time_ns, memory_order_relaxed);
}

/* The SA, and the captures that look inside. */
static void find(const struct esp_context *c, const struct pkt *p, struct item *item)
{
	struct match_key key = match_key_of(&p->h);

	if (item->frame.esp != NULL && c->sas != NULL)
		item->sa = sa_table_find(c->sas, spi_at(&item->frame), p->h.family, p->h.src,
					 p->h.dst);
	if (item->sa != NULL) {
		count_sa(c->shared, item->sa, p->time_ns);
		item->scope = (struct match_sa){item->sa->connection, item->sa->connection_kind,
						item->sa->flags};
	}
	item->looks = match_looks_inside(c->matcher, &key, item->sa != NULL ? &item->scope : NULL);
	if (item->frame.esp == NULL)
		return;
	if (item->sa == NULL)
		item->count = ESP_COUNT_WITHOUT_KEY;
	else if (item->sa->key == NULL)
		item->count = ESP_COUNT_UNSUPPORTED;
}

/* ---- decrypt ---- */

/* How long the payload is.  False: it cannot be. */
static bool measure(struct item *item)
{
	const struct sa *sa = item->sa;
	uint32_t front = ESP_HEADER_BYTES + sa->iv_bytes, around = front + sa->icv_bytes;
	const struct esp_frame *f = &item->frame;

	if (f->readable < front)
		return false;
	item->readable = f->readable - front;
	item->payload_bytes = 0;
	if (f->whole != 0) {
		if (f->whole < around + ESP_TRAILER_BYTES)
			return false;
		item->payload_bytes = f->whole - around;
		if (item->payload_bytes % sa->block_bytes != 0)
			return false;
		if (item->readable > item->payload_bytes)
			item->readable = item->payload_bytes;
	}
	item->readable -= item->readable % sa->block_bytes;
	return item->readable > 0;
}

static void add_job(struct esp_stage *e, const struct item *item, uint32_t offset, uint32_t len,
		    uint8_t *out)
{
	e->jobs[e->n_jobs++] = (struct esp_job){
		.key = item->sa->key,
		.iv = item->frame.esp + ESP_HEADER_BYTES,
		.offset = offset,
		.len = len,
		.out = out,
	};
}

/* Where the piece with the trailer begins: a block, or two when the trailer is across a border. */
static uint32_t tail_offset(const struct item *item)
{
	return (item->payload_bytes - ESP_TRAILER_BYTES) & ~(uint32_t)(BLOCK_BYTES - 1);
}

static void plan(struct esp_stage *e, struct item *item)
{
	unsigned i = (unsigned)(item - e->items);
	uint32_t tail;

	item->plain = e->short_[i] + ESP_HEAD_BYTES;
	item->prefix_bytes = item->readable < e->prefix_bytes ? item->readable : e->prefix_bytes;
	add_job(e, item, 0, item->prefix_bytes, item->plain);
	item->has_tail = item->payload_bytes != 0 && item->readable == item->payload_bytes;
	if (!item->has_tail || item->prefix_bytes == item->payload_bytes)
		return;
	tail = tail_offset(item);
	add_job(e, item, tail, item->payload_bytes - tail, e->tails[i]);
}

/* The high half of an extended sequence number is not in the packet: what it was, what it would be behind a
 * wrap, what the kernel says, and the beginning of an SA's life.
 */
static enum esp_icv check_extended(struct esp_stage *e, const struct item *item)
{
	const struct sa *sa = item->sa;
	uint32_t last = e->esn_high[sa->slot];
	uint32_t tries[] = {last != 0 ? last - 1 : sa->esn_high,
			    last != 0 ? last : sa->esn_high + 1, sa->esn_high, 0, 1};

	for (unsigned i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		enum esp_icv icv = esp_check_icv(e->engine, sa->key, item->frame.esp,
						 item->frame.whole, true, tries[i]);

		if (icv == ESP_ICV_OK)
			e->esn_high[sa->slot] = tries[i] + 1;
		if (icv != ESP_ICV_BAD)
			return icv;
	}
	return ESP_ICV_BAD;
}

static enum esp_icv check_icv(struct esp_stage *e, const struct item *item)
{
	const struct esp_frame *f = &item->frame;

	if (f->whole == 0 || f->readable < f->whole)
		return ESP_ICV_UNCHECKED;
	if (item->sa->flags & SA_ESN)
		return check_extended(e, item);
	return esp_check_icv(e->engine, item->sa->key, f->esp, f->whole, false, 0);
}

/* What nobody looks into, or cannot be looked into, is left as it is. */
static void plan_all(struct esp_stage *e, const struct esp_context *c)
{
	bool verifies = c->sas != NULL && sa_table_verifies_icv(c->sas);

	e->n_jobs = 0;
	for (unsigned i = 0; i < e->n_items; i++) {
		struct item *item = &e->items[i];
		enum esp_icv icv = ESP_ICV_OK;

		item->is_planned = item->looks != 0 && item->sa != NULL && item->sa->key != NULL &&
				   measure(item);
		if (!item->is_planned)
			continue;
		if (verifies)
			icv = check_icv(e, item);
		item->is_unchecked = icv == ESP_ICV_UNCHECKED;
		item->is_planned = icv != ESP_ICV_BAD;
		if (icv == ESP_ICV_BAD)
			item->count = ESP_COUNT_BAD_ICV;
		else
			plan(e, item);
	}
	if (e->n_jobs > 0)
		esp_decrypt_burst(e->engine, e->jobs, e->n_jobs);
}

/* ---- judge ---- */

static struct esp_plain plain_of(const struct esp_stage *e, const struct item *item)
{
	unsigned i = (unsigned)(item - e->items);
	struct esp_plain plain = {.prefix = item->plain,
				  .prefix_bytes = item->prefix_bytes,
				  .payload_bytes = item->payload_bytes};

	if (!item->has_tail)
		return plain;
	if (item->prefix_bytes == item->payload_bytes) {
		plain.tail = item->plain;
		plain.tail_bytes = item->payload_bytes;
	} else {
		uint32_t tail = tail_offset(item);

		plain.tail = e->tails[i];
		plain.tail_bytes = item->payload_bytes - tail;
	}
	return plain;
}

/* The frame as far as it is decrypted. */
static void make_frame(const struct pkt *outer, struct item *item)
{
	uint32_t body = item->prefix_bytes;

	if (body > item->inside.bytes)
		body = item->inside.bytes;
	item->inner.data = item->plain - item->head_bytes;
	item->inner.len = item->head_bytes + body;
	item->inner.wire_len = item->head_bytes + item->inside.bytes;
	item->inner.time_ns = outer->time_ns;
}

/* Decrypt to `bytes` of the body: another place, the rest behind what is there. */
static void plan_more(struct esp_stage *e, struct item *item, uint32_t bytes)
{
	uint8_t *plain = e->more + ESP_HEAD_BYTES;
	uint32_t block = item->sa->block_bytes, end = (bytes + block - 1) / block * block;

	if (end > item->readable)
		end = item->readable;
	memcpy(plain - item->head_bytes, item->plain - item->head_bytes,
	       item->head_bytes + item->prefix_bytes);
	add_job(e, item, item->prefix_bytes, end - item->prefix_bytes, plain + item->prefix_bytes);
	e->more = plain + (end + CACHE_LINE_BYTES - 1) / CACHE_LINE_BYTES * CACHE_LINE_BYTES;
	item->plain = plain;
	item->prefix_bytes = end;
}

/* Is there more of the body than is decrypted?  The trailer is none of it. */
static bool has_more(const struct item *item, uint32_t bytes)
{
	if (bytes > item->inside.bytes)
		bytes = item->inside.bytes;
	return bytes > item->prefix_bytes && item->readable > item->prefix_bytes;
}

/* Long chains of headers: a second try with more bytes, here and now. */
static void parse(struct esp_stage *e, const struct pkt *outer, struct item *item)
{
	int rc = headers_parse(item->inner.data, item->inner.len, &item->inner.h);

	if (__builtin_expect(rc == 0 || !has_more(item, HEADERS_BYTES), 1))
		return;
	e->n_jobs = 0;
	plan_more(e, item, HEADERS_BYTES);
	esp_decrypt_burst(e->engine, e->jobs, e->n_jobs);
	make_frame(outer, item);
	(void)headers_parse(item->inner.data, item->inner.len, &item->inner.h);
}

/* As in inner.c, with the SA in the key. */
static uint32_t match_fragment(const struct esp_context *c, const struct item *item,
			       const struct match_key *key)
{
	uint64_t generation = matcher_generation(c->matcher) << 32, value;
	const struct headers *h = &item->inner.h;
	uint64_t time_ns = item->inner.time_ns, sa = item->sa->slot + UINT64_C(1);
	uint32_t mask;

	if (h->flags & PKT_FRAGMENT_FIRST) {
		mask = match_decrypted(c->matcher, key, &item->scope);
		fragment_put(c->fragments, h, sa, time_ns, generation | mask);
		return mask;
	}
	if (fragment_get(c->fragments, h, sa, time_ns, &value) &&
	    (value & ~(uint64_t)UINT32_MAX) == generation)
		return (uint32_t)value;
	return match_decrypted_no_first(c->matcher, key, &item->scope);
}

/* The verdict on what is inside. */
static void match_inside(const struct esp_context *c, struct item *item)
{
	struct match_key key = match_key_of(&item->inner.h);
	uint32_t mask;

	if (item->inner.h.flags & (PKT_FRAGMENT_FIRST | PKT_FRAGMENT_LATER))
		mask = match_fragment(c, item, &key);
	else
		mask = match_decrypted(c->matcher, &key, &item->scope);
	item->outer = match_fold_outer(c->matcher, mask);
	item->wanted = c->has_inner_port ? 0 : match_fold(mask);
}

static void judge(struct esp_stage *e, const struct esp_context *c, const struct pkt *outer,
		  struct item *item)
{
	struct esp_plain plain = plain_of(e, item);

	item->inside = esp_look((enum sa_mode)item->sa->mode, &plain);
	if (item->inside.form == ESP_DUMMY)
		item->count = ESP_COUNT_DUMMY;
	if (item->inside.form != ESP_TUNNEL && item->inside.form != ESP_TRANSPORT)
		return;
	item->head_bytes = esp_head(outer, &item->inside, item->plain);
	if (item->head_bytes == 0)
		return;
	make_frame(outer, item);
	parse(e, outer, item);
	if (item->inner.h.family == 0)
		return;
	item->count = ESP_COUNT_DECRYPTED;
	match_inside(c, item);
}

/* ---- extend ---- */

static uint32_t longest_snap(const struct esp_context *c, uint8_t captures)
{
	uint32_t longest = 0;

	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if ((captures >> slot & 1) && c->snap_bytes[slot] > longest)
			longest = c->snap_bytes[slot];
	return longest;
}

static void extend(struct esp_stage *e, const struct esp_context *c, const struct pkt *p)
{
	e->n_jobs = 0;
	for (unsigned i = 0; i < e->n_items; i++) {
		struct item *item = &e->items[i];
		uint32_t snap = longest_snap(c, item->wanted);

		if (snap <= item->inner.len || item->wanted == 0 ||
		    !has_more(item, snap - item->head_bytes))
			continue;
		plan_more(e, item, snap - item->head_bytes);
		make_frame(&p[item->at], item);
	}
	if (e->n_jobs > 0)
		esp_decrypt_burst(e->engine, e->jobs, e->n_jobs);
}

/* ---- emit ---- */

static void count_item(const struct esp_context *c, const struct item *item,
		       struct esp_found *found)
{
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++) {
		_Atomic uint64_t *counts = c->shared->slot_esp[slot];

		if (!(item->looks >> slot & 1))
			continue;
		counter_add(&counts[item->count], 1);
		if (item->count != ESP_COUNT_DECRYPTED)
			continue;
		found->of_slot[slot]++;
		if (item->is_unchecked)
			counter_add(&counts[ESP_COUNT_UNCHECKED], 1);
	}
	if (item->count == ESP_COUNT_DECRYPTED && item->looks != 0)
		found->n++;
}

/* Captures that want the outer packet of an item. */
static uint8_t outer_wanted(const struct esp_context *c, const struct pkt *p,
			    const struct item *item)
{
	const struct match_sa *scope = item->sa != NULL ? &item->scope : NULL;
	struct match_key key = match_key_of(&p->h);

	if (item->count == ESP_COUNT_DECRYPTED || item->count == ESP_COUNT_DUMMY)
		return item->outer | match_esp(c->matcher, &key, scope);
	return match_esp_unread(c->matcher, &key, scope);
}

static unsigned trace_of(uint8_t class_)
{
	return class_ == CLASS_IKE ? TRACE_IKE : TRACE_OVPN;
}

/* Give each packet its captures, and put the wanted ones in order, inner behind outer. */
static unsigned emit(struct esp_stage *e, const struct esp_context *c, struct pkt *p, unsigned n,
		     struct esp_found *found)
{
	const struct item *item = e->items, *end = e->items + e->n_items;
	unsigned n_out = 0;

	for (unsigned i = 0; i < n; i++) {
		struct match_key key = match_key_of(&p[i].h);
		struct pkt *outer = &e->out[n_out];
		uint8_t wanted = 0;

		if (p[i].class_ != CLASS_ESP)
			wanted = match_outer(c->matcher, trace_of(p[i].class_), &key);
		*outer = p[i];
		n_out++;
		for (; item < end && item->at == i; item++) {
			wanted |= outer_wanted(c, &p[i], item);
			count_item(c, item, found);
			if (item->wanted == 0)
				continue;
			e->out[n_out] = item->inner;
			e->out[n_out].fate = item->wanted | (uint32_t)p[i].port << FATE_PORT |
					     CLASS_INNER << FATE_CLASS;
			n_out++;
		}
		outer->wanted = wanted;
		if (wanted != 0)
			continue;
		n_out--; // the inner ones move to its place
		memmove(outer, outer + 1, (size_t)(&e->out[n_out] - outer) * sizeof(*outer));
	}
	return n_out;
}

/* The longest snap of those who look inside decides how much is decrypted at first. */
static uint32_t first_bytes(const struct esp_context *c, const struct esp_stage *e)
{
	uint32_t bytes, looks = 0;

	for (unsigned i = 0; i < e->n_items; i++)
		looks |= e->items[i].looks;
	bytes = longest_snap(c, (uint8_t)looks);
	bytes = bytes > LINK_BYTES_MIN ? bytes - LINK_BYTES_MIN : 0;
	bytes = (bytes + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
	return bytes < PREFIX_BYTES_MIN ? PREFIX_BYTES_MIN
	       : bytes > PREFIX_BYTES	? PREFIX_BYTES
					: bytes;
}

unsigned esp_burst(struct esp_stage *e, const struct esp_context *c, struct pkt *p, unsigned n,
		   struct pkt **out, struct esp_found *found)
{
	unsigned n_out;

	assert(n <= BURST_MAX);
	*found = (struct esp_found){0};
	e->n_items = 0;
	for (unsigned i = 0; i < n; i++)
		if (p[i].class_ == CLASS_ESP)
			locate(e, c, &p[i], i, n - 1 - i);
	for (unsigned i = 0; i < e->n_items; i++)
		find(c, &p[e->items[i].at], &e->items[i]);
	e->prefix_bytes = first_bytes(c, e);
	e->more = e->longer;
	plan_all(e, c);
	for (unsigned i = 0; i < e->n_items; i++)
		if (e->items[i].is_planned)
			judge(e, c, &p[e->items[i].at], &e->items[i]);
	extend(e, c, p);
	n_out = emit(e, c, p, n, found);
	c->tally->verdicts[VERDICT_NOT_MATCHED] += n + found->n - n_out;
	*out = e->out;
	return n_out;
}

void esp_forget(struct esp_stage *e, uint32_t slot)
{
	e->esn_high[slot] = 0;
}
