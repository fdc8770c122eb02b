/* match.c - which captures want each packet of a burst.
 *
 * Outer packets are decided by class and peer; inner ones by the matcher's tables.  A burst comes from
 * one port, so the branch between the two goes the same way for all of it.
 */
#include "dataplane/stage.h"

#include "filters/matcher_tables.h"

static inline struct match_key key_of(const struct headers *h)
{
	return (struct match_key){
		.src = h->src,
		.dst = h->dst,
		.family = h->family,
		.protocol = h->protocol,
		.tcp_flags = h->tcp_flags,
		.has_ports = h->flags & PKT_HAS_PORTS,
		.has_tcp_flags = h->flags & PKT_HAS_TCP_FLAGS,
		.sport = h->sport,
		.dport = h->dport,
	};
}

static unsigned trace_of(uint8_t class_)
{
	return class_ == CLASS_ESP ? TRACE_ESP : class_ == CLASS_IKE ? TRACE_IKE : TRACE_OVPN;
}

/* A fragment: the first leaves its verdict in the table, later ones take it from there.  A verdict of
 * an older generation means other captures: it is not taken.
 */
static uint32_t match_fragment(const struct matcher *matcher, struct fragment_table *fragments,
			       const struct pkt *p)
{
	uint64_t generation = matcher_generation(matcher) << 32, value;
	struct match_key key = key_of(&p->h);
	uint32_t verdict;

	if (p->h.flags & PKT_FRAGMENT_FIRST) {
		verdict = match_inner(matcher, &key);
		fragment_put(fragments, &p->h, 0, p->time_ns, generation | verdict);
		return verdict;
	}
	if (fragment_get(fragments, &p->h, 0, p->time_ns, &value) &&
	    (value & ~(uint64_t)UINT32_MAX) == generation)
		return (uint32_t)value;
	return match_inner_no_first(matcher, &key);
}

/* Out of line, so that the key of the inner path stays in registers. */
static uint8_t __attribute__((noinline))
wanted_outer(const struct matcher *matcher, const struct pkt *p)
{
	struct match_key key = key_of(&p->h);

	return match_outer(matcher, trace_of(p->class_), &key);
}

static inline uint8_t wanted_by(const struct matcher *matcher, struct fragment_table *fragments,
				const struct pkt *p)
{
	struct match_key key;

	if (p->class_ != CLASS_INNER)
		return wanted_outer(matcher, p);
	if (__builtin_expect(p->h.flags & (PKT_FRAGMENT_FIRST | PKT_FRAGMENT_LATER), 0))
		return match_fold(match_fragment(matcher, fragments, p));
	key = key_of(&p->h);
	return match_fold_inline(match_inner_inline(matcher, &key));
}

unsigned match_burst(const struct matcher *matcher, struct fragment_table *fragments, struct pkt *p,
		     unsigned n, struct tally *tally)
{
	unsigned n_wanted = 0;

	for (unsigned i = 0; i < n; i++) {
		p[i].wanted = wanted_by(matcher, fragments, &p[i]);
		if (p[i].wanted == 0)
			continue;
		if (i != n_wanted) {
			struct pkt unwanted = p[n_wanted];

			p[n_wanted] = p[i];
			p[i] = unwanted;
		}
		n_wanted++;
	}
	tally->verdicts[VERDICT_NOT_MATCHED] += n - n_wanted;
	return n_wanted;
}
