/* dp_socket.c - the bookkeeping of sendmsg() and recvmsg(), in one place.
 *
 * Descriptors are received close-on-exec and counted before anything else is looked at, so that a
 * hostile packet cannot leak one.
 */
#include "dataplane/dp_socket.h"

#include <errno.h>
#include <stdalign.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 128 }; // a connect() beyond it fails at once: who floods would keep others out

/* A socket at the path that refuses connections is a left-over. */
static bool is_served(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool is_dead;

	if (fd < 0)
		return true;
	is_dead = connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0 &&
		  errno == ECONNREFUSED;
	close(fd);
	return !is_dead;
}

static int remove_left_over(const struct sockaddr_un *address, struct error *err)
{
	struct stat st;

	if (lstat(address->sun_path, &st) != 0)
		return 0;
	if (!S_ISSOCK(st.st_mode)) {
		error_set(err, "%s is not a socket; give another path with --socket.",
			  address->sun_path);
		return -EEXIST;
	}
	if (is_served(address)) {
		error_set(err,
			  "%s: another process serves it; stop it first, or give another path with "
			  "--socket.",
			  address->sun_path);
		return -EADDRINUSE;
	}
	(void)unlink(address->sun_path);
	return 0;
}

int dp_socket_listen(const char *path, uid_t owner, struct error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	mode_t mask;
	int fd, rc;

	if (strlen(path) >= sizeof(address.sun_path)) {
		error_set(err, "%s: the path is too long for a socket.", path);
		return -ENAMETOOLONG;
	}
	strcpy(address.sun_path, path);
	rc = remove_left_over(&address, err);
	if (rc != 0)
		return rc;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mask = umask(0177);
	rc = fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ? -errno
											 : 0;
	(void)umask(mask);
	if (rc == 0 && owner != geteuid() && chown(path, owner, (gid_t)-1) != 0)
		rc = -errno;
	if (rc == 0 && listen(fd, BACKLOG) != 0)
		rc = -errno;
	if (rc == 0)
		return fd;
	error_set(err,
		  "%s: the control socket cannot be made: %s; does its folder exist, and may this "
		  "user write to it?",
		  path, strerror(-rc));
	if (fd >= 0)
		close(fd);
	return rc;
}

int dp_socket_send(int fd, const void *message, size_t bytes, const int *fds, unsigned n_fds)
{
	alignas(struct cmsghdr) char control[CMSG_SPACE(DP_SOCKET_FDS_MAX * sizeof(int))] = {0};
	struct iovec data = {.iov_base = (void *)(size_t)message, .iov_len = bytes};
	struct msghdr msg = {.msg_iov = &data, .msg_iovlen = 1};

	if (n_fds > 0) {
		struct cmsghdr *c;

		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	return sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)bytes ? 0 : -errno;
}

static void take_descriptors(struct msghdr *msg, int *fds, unsigned *n_fds)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) /
		    sizeof(int); // fits: the buffer has room for no more
		memcpy(fds + *n_fds, CMSG_DATA(c), n * sizeof(int));
		*n_fds += (unsigned)n;
	}
}

ssize_t dp_socket_receive(int fd, void *message, size_t bytes, int fds[static DP_SOCKET_FDS_MAX],
			  unsigned *n_fds)
{
	alignas(struct cmsghdr) char control[CMSG_SPACE(DP_SOCKET_FDS_MAX * sizeof(int))];
	struct iovec data = {.iov_base = message, .iov_len = bytes};
	struct msghdr msg = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	*n_fds = 0;
	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	take_descriptors(&msg, fds, n_fds);
	if ((msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0)
		return n;
	for (unsigned i = 0; i < *n_fds; i++)
		close(fds[i]);
	*n_fds = 0;
	return -EMSGSIZE;
}
