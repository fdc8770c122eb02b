/* match.c - which captures want each outer packet of a burst: by class and peer. */
#include "dataplane/stage.h"

static unsigned trace_of(uint8_t class_)
{
	return class_ == CLASS_ESP ? TRACE_ESP : class_ == CLASS_IKE ? TRACE_IKE : TRACE_OVPN;
}

unsigned match_outer_burst(const struct matcher *matcher, struct pkt *p, unsigned n,
			   struct tally *tally)
{
	uint8_t wanted_at[BURST_MAX];
	unsigned n_wanted = 0;

	for (unsigned i = 0; i < n; i++) {
		struct match_key key = match_key_of(&p[i].h);

		p[i].wanted = match_outer(matcher, trace_of(p[i].class_), &key);
		wanted_at[n_wanted] = (uint8_t)i;
		n_wanted += p[i].wanted != 0;
	}
	if (n_wanted < n)
		pkt_gather(p, wanted_at, n_wanted);
	tally->verdicts[VERDICT_NOT_MATCHED] += n - n_wanted;
	return n_wanted;
}
