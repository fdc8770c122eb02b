/* xfrm_main.c - gatecap-xfrm: read the kernel's SAs, tell gatecapd.
 *
 * Why a process of its own: an XFRM dump needs CAP_NET_ADMIN at each request, and gatecapd, which parses
 * what comes from outside, has no capability.
 * It holds no list and decides nothing: a message of the kernel becomes a message to gatecapd, and the
 * memory of both is wiped.  Dump and events come through one socket, so their order is the kernel's.
 * The order helps only where nothing is missing in it, so a dump begins when all events of before are read.
 * Lost events (ENOBUFS) and dumps that the kernel calls interrupted are mended by another dump, as is,
 * once a minute, whatever else may have gone wrong; the high halves of sequence numbers come that way, too.
 * A dump whose end does not come for DUMP_MAX_MS is the end of the process: the supervisor starts it anew.
 * SIGTERM ends it where it stands: there is nothing to save.
 */
#include <errno.h>
#include <getopt.h>
#include <libmnl/libmnl.h>
#include <limits.h>
#include <linux/netlink.h>
#include <linux/xfrm.h>
#include <poll.h>
#include <signal.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "control/xfrm_confine.h"
#include "control/xfrm_netlink.h"
#include "control/xfrm_proto.h"
#include "filters/log.h"

enum {
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	DUMP_EVERY_MS = 60 * 1000,
	DUMP_AGAIN_MS = 200,	 // between two dumps, however often events are lost
	DUMP_MAX_MS = 10 * 1000, // without a message of it
	DRAIN_MAX_MS = 1000,	 // for events that came before a dump
	TORN_MAX = 5,		 // dumps in a row that are interrupted, then one is taken as it is
	CONNECT_EVERY_MS = 250,
	SEND_MAX_MS = 5000,	 // gatecapd may stand still for so long
	RECEIVE_BYTES = 4 << 20, // events that may wait: some thousands
	DATAGRAM_MAX = 1 << 16,	 // the kernel's are 32 KiB at the most
};

static const char usage[] =
	"Usage: gatecap-xfrm [--socket PATH] [--control-uid UID] [--control-gid GID]\n"
	"Reads the kernel's IPsec SAs, keys included, and tells them to gatecapd.\n"
	"Started by gatecap-supervisor when esp.kernel is true.\n"
	"\n"
	"  --socket PATH       where gatecapd listens (default: /run/gatecap/xfrm.sock)\n"
	"  --control-uid UID   whose process may listen there, besides root (default: 0)\n"
	"  --control-gid GID   the group to become, that of the socket (default: as it is)\n"
	"  --help, --version\n"
	"\n"
	"It needs CAP_NET_ADMIN in the network namespace whose SAs it reads, and keeps nothing else.\n"
	"Exit status: 1 when something failed, 2 for a wrong command line.\n"
	"\n"
	"Example: gatecap-xfrm --control-uid 990 --control-gid 990\n";

struct options {
	struct sockaddr_un address;
	uid_t uid;
	gid_t gid;
};

struct teller {
	const struct options *options;
	struct mnl_socket *netlink;
	int control; // -1: not connected
	uint64_t connect_due_ms, dump_due_ms, dump_began_ms, heard_ms;
	bool is_dumping;
	bool is_stale; // the dump that is under way is for a connection that is gone
	bool is_torn;  // it was interrupted
	bool has_lost; // events were lost since the last dump began
	bool is_malformed_told;
	bool is_turned_away_told;
	unsigned n_torn; // in a row
	uint32_t n_foreign, n_malformed;
};

static alignas(8) char datagram[DATAGRAM_MAX];

static uint64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- gatecapd ---- */

static void disconnect(struct teller *t)
{
	(void)close(t->control);
	t->control = -1;
	t->connect_due_ms = now_ms() + CONNECT_EVERY_MS;
	t->is_stale = t->is_dumping;
	log_warning("gatecapd at %s has gone; trying again.", t->options->address.sun_path);
}

static void say(struct teller *t, void *message, size_t bytes, enum xfrm_type type)
{
	struct xfrm_header *h = message;

	*h = (struct xfrm_header){XFRM_MAGIC, XFRM_VERSION, (uint16_t)type};
	if (t->control >= 0 && send(t->control, message, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
		disconnect(t);
}

static void say_word(struct teller *t, enum xfrm_type type)
{
	struct xfrm_hello word;

	say(t, &word, sizeof(word), type);
}

static void say_sa(struct teller *t, const struct xfrm_message *m, enum xfrm_type type)
{
	struct xfrm_sa sa;

	explicit_bzero(&sa, sizeof(sa)); // padding included
	sa.fault = m->fault;
	memcpy(&sa.item, &m->item, sizeof(sa.item));
	say(t, &sa, sizeof(sa), type);
	explicit_bzero(&sa, sizeof(sa));
}

/* Keys go to those who were named, whoever has put a socket at the path. */
static bool is_trusted(struct teller *t, int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
		return false;
	if (peer.uid == 0 || peer.uid == t->options->uid)
		return true;
	if (!t->is_turned_away_told)
		log_error("A process of user %u listens at %s, and not one of user %u: it is told "
			  "nothing.  --control-uid says whose process may listen.",
			  peer.uid, t->options->address.sun_path, t->options->uid);
	t->is_turned_away_told = true;
	return false;
}

static void try_connect(struct teller *t)
{
	const struct timeval limit = {.tv_sec = SEND_MAX_MS / 1000};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	t->connect_due_ms = now_ms() + CONNECT_EVERY_MS;
	if (fd < 0)
		return;
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0 ||
	    connect(fd, (const struct sockaddr *)&t->options->address,
		    sizeof(t->options->address)) != 0 ||
	    !is_trusted(t, fd)) {
		(void)close(fd);
		return;
	}
	t->control = fd;
	t->is_turned_away_told = false;
	t->dump_due_ms = now_ms();
	log_info("Connected with gatecapd at %s.", t->options->address.sun_path);
	say_word(t, XFRM_HELLO);
}

/* ---- The kernel ---- */

static int begin_dump(struct teller *t)
{
	struct nlmsghdr *request = mnl_nlmsg_put_header(datagram);

	request->nlmsg_type = XFRM_MSG_GETSA;
	request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	request->nlmsg_seq = 1;
	if (mnl_socket_sendto(t->netlink, request, request->nlmsg_len) < 0) {
		log_error("The kernel takes no request for its SAs: %s.", strerror(errno));
		return -1;
	}
	t->dump_began_ms = t->heard_ms = now_ms();
	t->dump_due_ms = t->dump_began_ms + DUMP_EVERY_MS;
	t->is_dumping = true;
	t->is_stale = t->is_torn = t->has_lost = false;
	t->n_foreign = 0;
	say_word(t, XFRM_BEGIN);
	return 0;
}

/* Soon, but not all the time. */
static void dump_again(struct teller *t)
{
	uint64_t soonest_ms = t->dump_began_ms + DUMP_AGAIN_MS;

	if (soonest_ms < now_ms())
		soonest_ms = now_ms();
	if (t->dump_due_ms > soonest_ms)
		t->dump_due_ms = soonest_ms;
}

static void end_dump(struct teller *t, int error)
{
	struct xfrm_end end = {.n_foreign = t->n_foreign, .n_malformed = t->n_malformed};

	t->is_dumping = false;
	t->is_torn = t->is_torn || error != 0;
	t->n_torn = t->is_torn ? t->n_torn + 1 : 0;
	if (t->is_stale || t->has_lost || t->is_torn)
		dump_again(t);
	// Lost events cost the list little; an interrupted list may miss any SA.
	if (!t->is_stale && (!t->is_torn || t->n_torn > TORN_MAX))
		say(t, &end, sizeof(end), XFRM_END);
}

static void take_malformed(struct teller *t)
{
	t->n_malformed++;
	if (!t->is_malformed_told)
		log_warning(
			"The kernel sent a message on its SAs that gatecap-xfrm cannot read; it is "
			"counted and left out.  A newer kernel than gatecap knows could be why.");
	t->is_malformed_told = true;
}

/* -1: the process has to end. */
static int take(struct teller *t, const struct xfrm_message *m)
{
	t->is_torn = t->is_torn || (m->is_dump && m->is_interrupted);
	switch (m->kind) {
	case XFRM_PUT:
		if (!m->is_dump)
			say_sa(t, m, XFRM_PUT_ONE);
		else if (!t->is_stale)
			say_sa(t, m, XFRM_LISTED);
		break;
	case XFRM_REMOVED:
		say_sa(t, m, XFRM_GONE);
		break;
	case XFRM_FLUSHED:
		say_word(t, XFRM_FLUSH);
		break;
	case XFRM_MIGRATED:
		t->has_lost = t->is_dumping;
		dump_again(t);
		break;
	case XFRM_FOREIGN:
		t->n_foreign += m->is_dump;
		break;
	case XFRM_DUMP_END:
		end_dump(t, m->error);
		break;
	case XFRM_REFUSED:
		log_error("The kernel refuses to tell its SAs: %s; does the process still have "
			  "CAP_NET_ADMIN?",
			  strerror(-m->error));
		return -1;
	case XFRM_MALFORMED:
		take_malformed(t);
		break;
	case XFRM_LARVAL:
	case XFRM_IGNORED:
		break;
	}
	return 0;
}

static int take_datagram(struct teller *t, size_t bytes)
{
	struct xfrm_reader reader = xfrm_reader_over(datagram, bytes);
	struct xfrm_message m;
	int rc = 0;

	while (rc == 0 && xfrm_read(&reader, &m))
		rc = take(t, &m);
	explicit_bzero(&m, sizeof(m));
	explicit_bzero(datagram, bytes);
	return rc;
}

/* One datagram; -1: the process has to end. */
static int receive(struct teller *t)
{
	struct sockaddr_nl from = {0};
	socklen_t size = sizeof(from);
	ssize_t n = recvfrom(mnl_socket_get_fd(t->netlink), datagram, sizeof(datagram),
			     MSG_DONTWAIT | MSG_TRUNC, (struct sockaddr *)&from, &size);

	if (n < 0 && errno == ENOBUFS) {
		t->has_lost = true;
		dump_again(t);
		return 0;
	}
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (from.nl_pid != 0) // not the kernel
		return 0;
	t->heard_ms = now_ms();
	if ((size_t)n > sizeof(datagram)) {
		take_malformed(t);
		n = sizeof(datagram);
	}
	return take_datagram(t, (size_t)n);
}

/* ---- The loop ---- */

/* Events of before are taken first: where later ones were lost they would undo what the dump says.  A
 * storm that does not end must not keep it off for ever.
 */
static bool may_dump(const struct teller *t, uint64_t now)
{
	struct pollfd waiting = {.fd = mnl_socket_get_fd(t->netlink), .events = POLLIN};

	if (t->control < 0 || t->is_dumping || now < t->dump_due_ms)
		return false;
	return now >= t->dump_due_ms + DRAIN_MAX_MS || poll(&waiting, 1, 0) == 0;
}

/* Begin what is due; gives how long nothing will be, in ms, or -2: the process has to end. */
static int begin_due(struct teller *t)
{
	uint64_t now = now_ms(), due;

	if (t->control < 0 && now >= t->connect_due_ms)
		try_connect(t);
	if (may_dump(t, now) && begin_dump(t) != 0)
		return -2;
	due = t->is_dumping ? t->heard_ms + DUMP_MAX_MS : UINT64_MAX;
	if (t->control < 0 && t->connect_due_ms < due)
		due = t->connect_due_ms;
	if (t->control >= 0 && !t->is_dumping)
		due = t->dump_due_ms;
	return due > now ? (int)(due - now) : 0;
}

static bool is_stuck(const struct teller *t)
{
	return t->is_dumping && now_ms() >= t->heard_ms + DUMP_MAX_MS;
}

static void run(struct teller *t)
{
	for (;;) {
		int wait_ms = begin_due(t);
		struct pollfd fds[] = {
			{.fd = mnl_socket_get_fd(t->netlink), .events = POLLIN},
			{.fd = t->control, .events = POLLIN}, // it says nothing: this is its end
		};

		if (wait_ms == -2)
			return;
		if (poll(fds, 2, wait_ms) == 0 && is_stuck(t)) {
			log_error(
				"The kernel stopped in the middle of telling its SAs; starting anew.");
			return;
		}
		if (fds[1].revents != 0)
			disconnect(t);
		if (fds[0].revents != 0 && receive(t) != 0)
			return;
	}
}

/* ---- Start ---- */

static struct mnl_socket *open_netlink(struct error *err)
{
	const unsigned groups = 1U << (XFRMNLGRP_SA - 1) | 1U << (XFRMNLGRP_EXPIRE - 1) |
				1U << (XFRMNLGRP_MIGRATE - 1);
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_XFRM, SOCK_CLOEXEC);
	int bytes = RECEIVE_BYTES;

	if (nl == NULL) {
		error_set(
			err,
			"The kernel's SAs cannot be read: %s; the kernel has no IPsec, or its module "
			"xfrm_user cannot be loaded (`modprobe xfrm_user` as root).",
			strerror(errno));
		return NULL;
	}
	if (mnl_socket_bind(nl, groups, MNL_SOCKET_AUTOPID) != 0) {
		error_set(
			err,
			"The kernel's SAs cannot be followed: %s; gatecap-xfrm needs CAP_NET_ADMIN in "
			"this network namespace: start it as root, as gatecap-supervisor does.",
			strerror(errno));
		(void)mnl_socket_close(nl);
		return NULL;
	}
	(void)setsockopt(mnl_socket_get_fd(nl), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
	return nl;
}

static int parse_id(const char *name, const char *text, unsigned *id)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (*text >= '0' && *text <= '9' && *end == '\0' && errno == 0 && value < UINT_MAX) {
		*id = (unsigned)value;
		return 0;
	}
	log_error("--%s %.100s: must be a number, 0 to %u; see --help.", name, text, UINT_MAX - 1);
	return EXIT_USAGE;
}

static int parse_path(const char *text, struct sockaddr_un *address)
{
	size_t bytes = strlen(text) + 1;

	if (bytes <= 1 || bytes > sizeof(address->sun_path)) {
		log_error("--socket %.200s: a path of 1 to %zu bytes is wanted.", text,
			  sizeof(address->sun_path) - 1);
		return EXIT_USAGE;
	}
	memset(address->sun_path, 0, sizeof(address->sun_path));
	memcpy(address->sun_path, text, bytes);
	return 0;
}

static int parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{"socket", required_argument, NULL, 's'},
		{"control-uid", required_argument, NULL, 'u'},
		{"control-gid", required_argument, NULL, 'g'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{0},
	};
	int id, rc = 0;

	opterr = 0;
	while (rc == 0 && (id = getopt_long(argc, argv, "+:", longs, NULL)) != -1) {
		if (id == 'h' || id == 'v') {
			(void)fputs(id == 'h' ? usage : "gatecap-xfrm " GATECAP_VERSION "\n",
				    stdout);
			exit(0);
		}
		if (id == 's')
			rc = parse_path(optarg, &o->address);
		else if (id == 'u')
			rc = parse_id("control-uid", optarg, &o->uid);
		else if (id == 'g')
			rc = parse_id("control-gid", optarg, &o->gid);
		else
			rc = EXIT_USAGE;
		if (id == ':' || id == '?')
			log_error("%.200s: %s; see --help.", argv[optind - 1],
				  id == ':' ? "the value is missing" : "there is no such option");
	}
	if (rc == 0 && optind < argc) {
		log_error("%.200s: nothing may stand behind the options; see --help.",
			  argv[optind]);
		rc = EXIT_USAGE;
	}
	return rc;
}

int main(int argc, char **argv)
{
	struct options options = {.address = {.sun_family = AF_UNIX}, .gid = getegid()};
	struct teller t = {.options = &options, .control = -1};
	struct error err = {0};
	int rc;

	log_open("gatecap-xfrm");
	(void)parse_path("/run/gatecap/xfrm.sock", &options.address);
	rc = parse(argc, argv, &options);
	if (rc != 0)
		return rc;
	t.netlink = open_netlink(&err);
	if (t.netlink == NULL || xfrm_confine(options.gid, &err) != 0) {
		log_error("%s", err.text);
		return EXIT_FAILED;
	}
	log_info("gatecap-xfrm %s follows the kernel's SAs.", GATECAP_VERSION);
	run(&t);
	return EXIT_FAILED;
}
