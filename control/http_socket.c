/* http_socket.c - the unix socket file: made with the right mode, never stolen from a live daemon.
 *
 * The mode is set on the socket before bind(), which gives it to the file: chmod() after bind would
 * leave a moment in which umask decides who may connect.  Until listen() nobody can connect anyway,
 * so group and final mode are set in between.
 */
#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "control/http_internal.h"

enum { SOCKET_BACKLOG = 128, GROUP_BUFFER_BYTES = 1 << 16 };

static int address_of(const char *path, struct sockaddr_un *address, struct error *err)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (*path == '\0' || strlen(path) >= sizeof(address->sun_path)) {
		error_set(err, "The socket path \"%s\" must have 1 to %zu bytes.", path,
			  sizeof(address->sun_path) - 1);
		return -ENAMETOOLONG;
	}
	memcpy(address->sun_path, path, strlen(path) + 1);
	return 0;
}

/* True if a daemon answers on the socket file, or if that cannot be found out. */
static bool socket_is_alive(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool is_dead;

	if (fd < 0)
		return true;
	is_dead = connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0 &&
		  errno == ECONNREFUSED;
	(void)close(fd);
	return !is_dead;
}

/* Remove a socket file that a killed daemon left. */
static int stale_remove(const struct sockaddr_un *address, struct error *err)
{
	const char *path = address->sun_path;
	struct stat stat_buf;

	if (lstat(path, &stat_buf) != 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(stat_buf.st_mode)) {
		error_set(err, "%s is there and is not a socket; remove it or set another path.",
			  path);
		return -EEXIST;
	}
	if (socket_is_alive(address)) {
		error_set(err, "Another daemon answers on %s; stop it first, or set another path.",
			  path);
		return -EADDRINUSE;
	}
	return unlink(path) == 0 || errno == ENOENT ? 0 : -errno;
}

static int group_find(const char *group, gid_t *gid)
{
	struct group entry, *found = NULL;
	char *buf = malloc(GROUP_BUFFER_BYTES);
	int rc;

	if (buf == NULL)
		return -ENOMEM;
	rc = getgrnam_r(group, &entry, buf, GROUP_BUFFER_BYTES, &found);
	if (found != NULL)
		*gid = found->gr_gid;
	free(buf);
	return found != NULL ? 0 : rc != 0 ? -rc : -ENOENT;
}

static int group_give(const struct sockaddr_un *address, const char *group, struct error *err)
{
	const char *path = address->sun_path;
	gid_t gid = 0;

	if (group == NULL || *group == '\0')
		return 0;
	if (group_find(group, &gid) != 0) {
		error_set(err,
			  "There is no group \"%s\" to give the socket %s to; create it (groupadd "
			  "--system GROUP) or set another control.group.",
			  group, path);
		return -ENOENT;
	}
	if (lchown(path, (uid_t)-1, gid) != 0) {
		int rc = -errno;

		error_set(err,
			  "The socket %s cannot be given to the group \"%s\": %s; start as root or "
			  "as a member of the group.",
			  path, group, strerror(-rc));
		return rc;
	}
	return 0;
}

int http_socket_open(const char *path, const char *group, struct error *err)
{
	struct sockaddr_un address;
	int rc = address_of(path, &address, err);
	int fd;

	if (rc != 0)
		return rc;
	error_set(err, "%s", "");
	rc = stale_remove(&address, err);
	if (rc != 0)
		goto fail_plain;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		rc = -errno;
		goto fail_plain;
	}
	if (fchmod(fd, 0600) != 0 ||
	    bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
		rc = -errno;
		goto fail_socket;
	}
	rc = group_give(&address, group, err);
	if (rc == 0 && (chmod(path, 0660) != 0 || listen(fd, SOCKET_BACKLOG) != 0))
		rc = -errno;
	if (rc == 0)
		return fd;
	(void)unlink(path);
fail_socket:
	(void)close(fd);
fail_plain:
	if (err != NULL && err->text[0] == '\0')
		error_set(err,
			  "The socket %s cannot be opened: %s; check that its folder is there "
			  "and can be written by this user.",
			  path, strerror(-rc));
	return rc;
}
