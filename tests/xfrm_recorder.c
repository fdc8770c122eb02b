/* xfrm_recorder.c - write down what the kernel says on NETLINK_XFRM, one file a datagram.
 *
 *   xfrm_recorder follow FILE      the next datagram of the groups that gatecap-xfrm follows
 *   xfrm_recorder dump FILE        the datagrams of a dump of all SAs: FILE.1, FILE.2 ...
 *
 * For tests/record_xfrm.py, which runs it inside user-mode Linux.  It knows nothing of what is in the
 * datagrams, and nothing of gatecap's own reader: what it writes down is for that one to be tested with.
 * `follow` makes FILE.ready when it is listening, and gives up after 5 s.
 */
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/netlink.h>
#include <linux/xfrm.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DATAGRAM_MAX = 1 << 16, GIVE_UP_S = 5 };

static alignas(4) char datagram[DATAGRAM_MAX];

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void save(const char *path, const void *data, size_t bytes)
{
	int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);

	if (fd < 0 || write(fd, data, bytes) != (ssize_t)bytes || close(fd) != 0)
		fail(path);
}

static struct mnl_socket *open_socket(void)
{
	unsigned groups = 1U << (XFRMNLGRP_SA - 1) | 1U << (XFRMNLGRP_EXPIRE - 1) |
			  1U << (XFRMNLGRP_MIGRATE - 1);
	struct mnl_socket *nl = mnl_socket_open(NETLINK_XFRM);

	if (nl == NULL || mnl_socket_bind(nl, groups, MNL_SOCKET_AUTOPID) != 0)
		fail("NETLINK_XFRM");
	return nl;
}

static void follow(struct mnl_socket *nl, const char *path)
{
	char ready[4096];
	ssize_t n;

	(void)snprintf(ready, sizeof(ready), "%s.ready", path);
	save(ready, "", 0);
	(void)alarm(GIVE_UP_S);
	n = mnl_socket_recvfrom(nl, datagram, sizeof(datagram));
	if (n <= 0)
		fail("recv");
	save(path, datagram, (size_t)n);
}

/* Is the end of the dump in these bytes? */
static int has_end(int n)
{
	for (const struct nlmsghdr *h = (const void *)datagram; mnl_nlmsg_ok(h, n);
	     h = mnl_nlmsg_next(h, &n))
		if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR)
			return 1;
	return 0;
}

static void dump(struct mnl_socket *nl, const char *path)
{
	struct nlmsghdr *request = mnl_nlmsg_put_header(datagram);
	char name[4096];
	ssize_t n;

	request->nlmsg_type = XFRM_MSG_GETSA;
	request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	request->nlmsg_seq = 1;
	if (mnl_socket_sendto(nl, request, request->nlmsg_len) < 0)
		fail("send");
	for (unsigned i = 1;; i++) {
		n = mnl_socket_recvfrom(nl, datagram, sizeof(datagram));
		if (n <= 0)
			fail("recv");
		(void)snprintf(name, sizeof(name), "%s.%u", path, i);
		save(name, datagram, (size_t)n);
		if (has_end((int)n))
			return;
	}
}

int main(int argc, char **argv)
{
	struct mnl_socket *nl;

	if (argc != 3 || (strcmp(argv[1], "follow") != 0 && strcmp(argv[1], "dump") != 0)) {
		(void)fputs("usage: xfrm_recorder follow|dump FILE\n", stderr);
		return 2;
	}
	nl = open_socket();
	if (argv[1][0] == 'f')
		follow(nl, argv[2]);
	else
		dump(nl, argv[2]);
	return 0;
}
