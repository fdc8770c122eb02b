/* match_esp.c - which captures want an ESP packet, and which the packet that was in it.
 *
 * The scope of both is the SA's connection.  Where the SA does not say it, the inner packet does, by the
 * remote subnets: what comes from a site comes from its subnets, what goes there goes to them.  An outer
 * packet that is not looked into has only its addresses then.
 * Source: docs/semantics.md "What is recorded".
 */
#include "filters/matcher.h"

#include "filters/matcher_tables.h"

/* The connection that the SA names, + 1, or 0.  It may be one of a configuration that is gone. */
static uint32_t named_by(const struct matcher *m, const struct match_sa *sa)
{
	if (sa == NULL || sa->connection_kind == SA_CONNECTION_NONE ||
	    sa->connection >= m->n_connections)
		return 0;
	return sa->connection + 1;
}

bool matcher_looks_inside(const struct matcher *m)
{
	return m->decrypt != 0;
}

/* Slots in scope of an outer packet. */
static uint8_t outer_scope(const struct matcher *m, const struct match_key *key,
			   const struct match_sa *sa)
{
	uint32_t connection = named_by(m, sa);

	return connection != 0 ? m->connection_slots[connection] : match_peer_slots(m, key);
}

static uint8_t in_scope(const struct matcher *m, uint8_t slots, const struct match_key *key,
			const struct match_sa *sa)
{
	if ((slots & ~m->gateway_wide) == 0)
		return slots;
	return slots & outer_scope(m, key, sa);
}

uint8_t match_looks_inside(const struct matcher *m, const struct match_key *key,
			   const struct match_sa *sa)
{
	// Its inner packet may turn out to be any connection's.
	if (sa != NULL && sa->connection_kind != SA_CONNECTION_FIXED && m->has_remotes)
		return m->decrypt;
	return in_scope(m, m->decrypt, key, sa);
}

uint8_t match_esp(const struct matcher *m, const struct match_key *key, const struct match_sa *sa)
{
	return in_scope(m, m->esp_unfiltered, key, sa);
}

uint8_t match_esp_unread(const struct matcher *m, const struct match_key *key,
			 const struct match_sa *sa)
{
	return in_scope(m, m->outer[TRACE_ESP], key, sa);
}

/* Bits of the captures in scope of a decrypted packet. */
static uint32_t inner_scope(const struct matcher *m, const struct match_key *key,
			    const struct match_sa *sa)
{
	const struct trie *remotes = &m->remotes[key->family == 6];
	uint32_t connection = named_by(m, sa), from = 0, to = 0;

	if (connection != 0 && sa->connection_kind == SA_CONNECTION_FIXED)
		return m->connection_masks[connection];
	if (m->has_remotes && !(sa->flags & SA_OUTBOUND))
		from = trie_lookup(remotes, key->src);
	if (m->has_remotes && !(sa->flags & SA_INBOUND))
		to = trie_lookup(remotes, key->dst);
	if ((from | to) != 0)
		return m->connection_masks[from] | m->connection_masks[to];
	return connection != 0 ? m->connection_masks[connection] : m->no_connection_mask;
}

uint32_t match_decrypted(const struct matcher *m, const struct match_key *key,
			 const struct match_sa *sa)
{
	return match_dimensions(m, key) & inner_scope(m, key, sa);
}

uint32_t match_decrypted_no_first(const struct matcher *m, const struct match_key *key,
				  const struct match_sa *sa)
{
	return match_dimensions_no_first(m, key) & inner_scope(m, key, sa);
}

uint8_t match_fold_outer(const struct matcher *m, uint32_t verdict)
{
	return match_fold(verdict & m->both_forms);
}
