/* resolve.c - getaddrinfo() in a thread, with a copy of the names.
 *
 * Refused: libevent's evdns (reads neither nsswitch.conf nor mDNS as the rest of the host does).
 */
#include "control/resolve.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "filters/log.h"
#include "control/loop_post.h"

/* One name of one connection. */
struct question {
	uint32_t connection;
	char *name;
	bool is_failed;
};

/* A round of look-ups; on its own so that it may outlive the resolver. */
struct round {
	struct resolver *resolver; // NULL: closed meanwhile
	struct question *questions;
	unsigned n_questions;
	struct resolved_peer *peers;
	unsigned n_peers, n_failed;
};

struct resolver {
	struct event_base *base;
	struct event *timer;
	const struct config *config;
	void (*changed)(void *ctx);
	void *ctx;
	struct round *round; // under way, or NULL
	struct resolved_peer *peers;
	unsigned n_peers;
};

static void round_free(struct round *round)
{
	for (unsigned i = 0; i < round->n_questions; i++)
		free(round->questions[i].name);
	free(round->questions);
	free(round->peers);
	free(round);
}

static void add_peer(struct round *round, const struct resolved_peer *peer)
{
	struct resolved_peer *grown;

	for (unsigned i = 0; i < round->n_peers; i++)
		if (memcmp(&round->peers[i], peer, sizeof(*peer)) == 0)
			return;
	grown = reallocarray(round->peers, round->n_peers + 1, sizeof(*round->peers));
	if (grown == NULL)
		return;
	round->peers = grown;
	round->peers[round->n_peers++] = *peer;
}

static void add_address(struct round *round, uint32_t connection, const struct sockaddr *address)
{
	struct resolved_peer peer;

	memset(&peer, 0, sizeof(peer)); // compared as bytes
	peer.connection = connection;
	if (address->sa_family == AF_INET) {
		peer.address.family = 4;
		peer.address.prefix_len = 32;
		memcpy(peer.address.addr, &((const struct sockaddr_in *)address)->sin_addr, 4);
	} else if (address->sa_family == AF_INET6) {
		peer.address.family = 6;
		peer.address.prefix_len = 128;
		memcpy(peer.address.addr, &((const struct sockaddr_in6 *)address)->sin6_addr, 16);
	} else {
		return;
	}
	add_peer(round, &peer);
}

static void look_up(void *ctx)
{
	struct round *round = ctx;
	const struct addrinfo hints = {.ai_socktype = SOCK_DGRAM};

	for (unsigned i = 0; i < round->n_questions; i++) {
		struct addrinfo *found = NULL;

		if (getaddrinfo(round->questions[i].name, NULL, &hints, &found) != 0) {
			round->n_failed++;
			round->questions[i].is_failed = true;
			continue;
		}
		for (struct addrinfo *at = found; at != NULL; at = at->ai_next)
			add_address(round, round->questions[i].connection, at->ai_addr);
		freeaddrinfo(found);
	}
}

/* A connection with a name that has no answer this time keeps the addresses that it had. */
static void keep_unanswered(struct round *round, const struct resolver *r)
{
	for (unsigned i = 0; i < round->n_questions; i++)
		for (unsigned j = 0; round->questions[i].is_failed && j < r->n_peers; j++)
			if (r->peers[j].connection == round->questions[i].connection)
				add_peer(round, &r->peers[j]);
}

/* The same addresses?  A name server gives them in another order each time. */
static bool same_peers(const struct round *round, const struct resolver *r)
{
	bool is_same = round->n_peers == r->n_peers;

	for (unsigned i = 0; is_same && i < round->n_peers; i++) {
		is_same = false;
		for (unsigned j = 0; !is_same && j < r->n_peers; j++)
			is_same = memcmp(&round->peers[i], &r->peers[j], sizeof(*r->peers)) == 0;
	}
	return is_same;
}

static void take_answers(void *ctx)
{
	struct round *round = ctx;
	struct resolver *r = round->resolver;
	const struct timeval again = {.tv_sec = RESOLVE_SECONDS};

	if (r != NULL) {
		r->round = NULL;
		(void)event_add(r->timer, &again);
		if (round->n_failed > 0)
			log_warning(
				"%u peer names could not be resolved; the addresses known before "
				"stay in force.",
				round->n_failed);
		keep_unanswered(round, r);
		if (!same_peers(round, r)) {
			free(r->peers);
			r->peers = round->peers;
			r->n_peers = round->n_peers;
			round->peers = NULL;
			r->changed(r->ctx);
		}
	}
	round_free(round);
}

static int add_questions(struct round *round, const struct config *config)
{
	unsigned n = 0;

	for (unsigned i = 0; i < config->n_connections; i++)
		n += config->connections[i].peer.n_names;
	round->questions = calloc(n + 1, sizeof(*round->questions));
	if (round->questions == NULL)
		return -1;
	for (unsigned i = 0; i < config->n_connections; i++) {
		const struct peer *peer = &config->connections[i].peer;

		for (unsigned j = 0; j < peer->n_names; j++) {
			char *name = strdup(peer->names[j]);

			if (name == NULL)
				return -1;
			round->questions[round->n_questions++] = (struct question){i, name};
		}
	}
	return 0;
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct resolver *r = ctx;
	struct round *round = calloc(1, sizeof(*round));
	const struct timeval again = {.tv_sec = RESOLVE_SECONDS};

	(void)fd;
	(void)what;
	if (round == NULL || add_questions(round, r->config) != 0) {
		if (round != NULL)
			round_free(round);
		(void)event_add(r->timer, &again);
		return;
	}
	if (round->n_questions == 0) {
		round_free(round);
		return; // nothing to resolve until the next configuration
	}
	round->resolver = r;
	r->round = round;
	if (loop_work(r->base, look_up, take_answers, round) != 0) {
		r->round = NULL;
		round_free(round);
		(void)event_add(r->timer, &again);
	}
}

struct resolver *resolver_open(struct event_base *base, const struct config *config,
			       void (*changed)(void *ctx), void *ctx)
{
	struct resolver *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	*r = (struct resolver){.base = base, .config = config, .changed = changed, .ctx = ctx};
	r->timer = event_new(base, -1, 0, on_timer, r);
	if (r->timer == NULL) {
		free(r);
		return NULL;
	}
	event_active(r->timer, 0, 0);
	return r;
}

void resolver_close(struct resolver *r)
{
	if (r == NULL)
		return;
	if (r->round != NULL)
		r->round->resolver = NULL;
	event_free(r->timer);
	free(r->peers);
	free(r);
}

const struct resolved_peer *resolver_peers(const struct resolver *r, unsigned *n)
{
	*n = r->n_peers;
	return r->peers;
}
