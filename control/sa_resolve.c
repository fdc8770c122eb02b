/* sa_resolve.c - sorted tables of what ties SAs to connections.
 *
 * 10,000 SAs meet 10,000 connections with their subnets in one turn of the event loop, so nothing here
 * is looked for from the top.  Prefixes are sorted by family, length and address; one search for each
 * length that occurs finds the longest that covers an address.
 * What two connections share decides nothing: the next rule is asked.
 */
#include "control/sa_resolve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LENGTHS = 129, FAMILIES = 2, KEYS = 3 };
enum { NO_CONNECTION = -1, SEVERAL = -2 };

struct named {
	const char *name;
	uint32_t connection;
};

struct keyed {
	uint32_t key, connection;
};

struct prefix {
	struct subnet subnet;
	uint32_t connection;
};

struct prefixes {
	struct prefix *list;
	uint32_t n;
	bool has_length[FAMILIES][LENGTHS];
};

struct sa_resolver {
	const struct config *config;
	struct named *names;
	uint32_t n_names;
	struct keyed *keys[KEYS]; // by if_id, mark, reqid
	uint32_t n_keys[KEYS];
	struct prefixes remotes, peers;
};

/* ---- Order ---- */

static int name_order(const void *a, const void *b)
{
	return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

static int key_order(const void *a, const void *b)
{
	const struct keyed *x = a, *y = b;

	return (x->key > y->key) - (x->key < y->key);
}

static int subnet_order(const struct subnet *x, const struct subnet *y)
{
	if (x->family != y->family)
		return x->family < y->family ? -1 : 1;
	if (x->prefix_len != y->prefix_len)
		return x->prefix_len < y->prefix_len ? -1 : 1;
	return memcmp(x->addr, y->addr, sizeof(x->addr));
}

static int prefix_order(const void *a, const void *b)
{
	return subnet_order(&((const struct prefix *)a)->subnet,
			    &((const struct prefix *)b)->subnet);
}

/* ---- Filling ---- */

static void add_prefix(struct prefixes *to, const struct subnet *subnet, uint32_t connection)
{
	to->list[to->n++] = (struct prefix){*subnet, connection};
	to->has_length[subnet->family == 6][subnet->prefix_len] = true;
}

static void add_connection(struct sa_resolver *r, uint32_t index)
{
	const struct connection *c = &r->config->connections[index];
	const uint32_t keys[KEYS] = {c->if_id, c->mark, c->reqid};

	if (c->type != CONNECTION_IPSEC)
		return;
	r->names[r->n_names++] = (struct named){c->name, index};
	for (unsigned k = 0; k < KEYS; k++)
		if (keys[k] != 0)
			r->keys[k][r->n_keys[k]++] = (struct keyed){keys[k], index};
	for (unsigned i = 0; i < c->n_remote_subnets; i++)
		add_prefix(&r->remotes, &c->remote_subnets[i], index);
	for (unsigned i = 0; i < c->peer.n_addresses; i++)
		add_prefix(&r->peers, &c->peer.addresses[i], index);
}

/* Room for all connections; one more, so that nothing asks for zero bytes. */
static bool make_room(struct sa_resolver *r, unsigned n_resolved)
{
	size_t n = r->config->n_connections + 1U, n_remotes = 1, n_peers = n_resolved + 1U;
	bool ok;

	for (unsigned i = 0; i < r->config->n_connections; i++) {
		n_remotes += r->config->connections[i].n_remote_subnets;
		n_peers += r->config->connections[i].peer.n_addresses;
	}
	r->names = calloc(n, sizeof(*r->names));
	r->remotes.list = calloc(n_remotes, sizeof(*r->remotes.list));
	r->peers.list = calloc(n_peers, sizeof(*r->peers.list));
	ok = r->names != NULL && r->remotes.list != NULL && r->peers.list != NULL;
	for (unsigned k = 0; k < KEYS; k++) {
		r->keys[k] = calloc(n, sizeof(*r->keys[k]));
		ok = ok && r->keys[k] != NULL;
	}
	return ok;
}

struct sa_resolver *sa_resolver_open(const struct config *config,
				     const struct resolved_peer *resolved, unsigned n_resolved)
{
	struct sa_resolver *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->config = config;
	if (!make_room(r, n_resolved)) {
		sa_resolver_close(r);
		return NULL;
	}
	for (uint32_t i = 0; i < config->n_connections; i++)
		add_connection(r, i);
	for (unsigned i = 0; i < n_resolved; i++)
		if (resolved[i].connection < config->n_connections &&
		    config->connections[resolved[i].connection].type == CONNECTION_IPSEC)
			add_prefix(&r->peers, &resolved[i].address, resolved[i].connection);
	qsort(r->names, r->n_names, sizeof(*r->names), name_order);
	for (unsigned k = 0; k < KEYS; k++)
		qsort(r->keys[k], r->n_keys[k], sizeof(*r->keys[k]), key_order);
	qsort(r->remotes.list, r->remotes.n, sizeof(*r->remotes.list), prefix_order);
	qsort(r->peers.list, r->peers.n, sizeof(*r->peers.list), prefix_order);
	return r;
}

void sa_resolver_close(struct sa_resolver *r)
{
	if (r == NULL)
		return;
	free(r->names);
	for (unsigned k = 0; k < KEYS; k++)
		free(r->keys[k]);
	free(r->remotes.list);
	free(r->peers.list);
	free(r);
}

/* ---- Looking up ---- */

/* What is known so far, and one connection more. */
static int64_t join(int64_t found, uint32_t connection)
{
	if (found == NO_CONNECTION || found == (int64_t)connection)
		return connection;
	return SEVERAL;
}

static const struct named *find_name(const struct sa_resolver *r, const char *name)
{
	const struct named wanted = {.name = name};

	return bsearch(&wanted, r->names, r->n_names, sizeof(*r->names), name_order);
}

static int64_t find_key(const struct sa_resolver *r, unsigned k, uint32_t key)
{
	const struct keyed wanted = {.key = key};
	const struct keyed *list = r->keys[k], *end = list + r->n_keys[k], *at;
	int64_t found = NO_CONNECTION;

	at = key != 0 ? bsearch(&wanted, list, r->n_keys[k], sizeof(*list), key_order) : NULL;
	if (at == NULL)
		return NO_CONNECTION;
	while (at > list && at[-1].key == key)
		at--;
	for (; at < end && at->key == key; at++)
		found = join(found, at->connection);
	return found;
}

/* The first `len` bits of an address. */
static struct subnet cut(uint8_t family, const uint8_t *address, unsigned len)
{
	struct subnet out = {.family = family, .prefix_len = (uint8_t)len};
	unsigned whole = len / 8, rest = len % 8;

	memcpy(out.addr, address, whole);
	if (rest != 0)
		out.addr[whole] = (uint8_t)(address[whole] & 0xffU << (8 - rest));
	return out;
}

/* All who have exactly this prefix, joined to what is known. */
static int64_t find_prefix(const struct prefixes *p, const struct subnet *subnet, int64_t found)
{
	const struct prefix wanted = {.subnet = *subnet}, *list = p->list, *end = list + p->n, *at;

	at = bsearch(&wanted, list, p->n, sizeof(*list), prefix_order);
	if (at == NULL)
		return found;
	while (at > list && subnet_order(&at[-1].subnet, subnet) == 0)
		at--;
	for (; at < end && subnet_order(&at->subnet, subnet) == 0; at++)
		found = join(found, at->connection);
	return found;
}

/* The longest prefix, of at most `len` bits, that covers the address. */
static int64_t find_longest(const struct prefixes *p, uint8_t family, const uint8_t *address,
			    unsigned len)
{
	int64_t found = NO_CONNECTION;

	for (unsigned n = len + 1; n-- > 0 && found == NO_CONNECTION;) {
		struct subnet subnet = cut(family, address, n);

		if (p->has_length[family == 6][n])
			found = find_prefix(p, &subnet, found);
	}
	return found;
}

/* Everybody who covers the address. */
static int64_t find_all(const struct prefixes *p, uint8_t family, const uint8_t *address,
			int64_t found)
{
	for (unsigned n = 0; n <= (family == 6 ? 128U : 32U); n++) {
		struct subnet subnet = cut(family, address, n);

		if (p->has_length[family == 6][n])
			found = find_prefix(p, &subnet, found);
	}
	return found;
}

static bool is_ours(const struct config *config, const struct sa_address *a)
{
	for (unsigned i = 0; i < config->gateway.n_public_addresses; i++) {
		const struct subnet *own = &config->gateway.public_addresses[i];

		if (own->family == a->family && sa_address_is_whole(a) &&
		    memcmp(own->addr, a->value, own->family == 4 ? 4 : 16) == 0)
			return true;
	}
	return false;
}

uint8_t sa_resolver_direction(const struct sa_resolver *r, const struct sa_item *item)
{
	bool from_us = is_ours(r->config, &item->record.src);
	bool to_us = is_ours(r->config, &item->record.dst) || item->is_inbound;

	if (from_us == to_us)
		return 0;
	return to_us ? SA_INBOUND : SA_OUTBOUND;
}

/* The sole connection with the peer's address, of the two ends of the SA. */
static int64_t find_peer(const struct sa_resolver *r, const struct sa_record *record)
{
	const struct sa_address *const ends[] = {&record->dst, &record->src};
	int64_t found = NO_CONNECTION;

	for (unsigned i = 0; i < 2; i++)
		if (sa_address_is_whole(ends[i]) && !is_ours(r->config, ends[i]))
			found = find_all(&r->peers, ends[i]->family, ends[i]->value, found);
	return found;
}

static int64_t find_fixed(const struct sa_resolver *r, const struct sa_item *item)
{
	const uint32_t keys[KEYS] = {item->if_id, item->mark, item->reqid};
	int64_t found = NO_CONNECTION;

	for (unsigned k = 0; k < KEYS && found < 0; k++)
		found = find_key(r, k, keys[k]);
	if (found < 0 && item->remote.family != 0)
		found = find_longest(&r->remotes, item->remote.family, item->remote.addr,
				     item->remote.prefix_len);
	return found;
}

enum sa_connection sa_resolver_find(const struct sa_resolver *r, const struct sa_item *item,
				    uint32_t *connection)
{
	enum sa_connection kind = SA_CONNECTION_FIXED;
	int64_t found = NO_CONNECTION;

	if (item->connection[0] != '\0') { // a name that nobody has is no reason to guess
		const struct named *named = find_name(r, item->connection);

		found = named != NULL ? (int64_t)named->connection : NO_CONNECTION;
	} else {
		found = find_fixed(r, item);
		if (found < 0) {
			kind = SA_CONNECTION_PEER;
			found = find_peer(r, &item->record);
		}
	}
	*connection = found >= 0 ? (uint32_t)found : 0;
	return found >= 0 ? kind : SA_CONNECTION_NONE;
}

bool sa_resolver_has_name(const struct sa_resolver *r, const char *name)
{
	return find_name(r, name) != NULL;
}
