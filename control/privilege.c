/* privilege.c - see privilege.h.
 *
 * Started by anyone else than root there is no user to become; what capabilities there are go all the
 * same.
 */
#include "control/privilege.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/secret.h"

/* 16,384 SAs in a list, once more while a file is read, the file's text, and the set that goes to the
 * dataplane: 7 + 7 + 16 + 4 MiB at the worst.
 */
enum { LOCKED_BYTES = 64 << 20 };

static const struct passwd *find_user(const struct config *config, struct error *err)
{
	const struct passwd *user = getpwnam(config->control.user);

	if (user == NULL)
		error_set(err,
			  "There is no user %s for gatecapd to run as: make one (useradd --system "
			  "--user-group %s) or name another in control.user.",
			  config->control.user, config->control.user);
	return user;
}

int privilege_uid(const struct config *config, uid_t *uid, struct error *err)
{
	const struct passwd *user;

	*uid = geteuid();
	if (*uid != 0)
		return 0;
	user = find_user(config, err);
	if (user == NULL)
		return -ENOENT;
	*uid = user->pw_uid;
	return 0;
}

/* Make a folder if it is missing; when root, it belongs to the user in any case. */
static int own_folder(const char *path, mode_t mode, const struct passwd *user, struct error *err)
{
	int fd = -1;

	if (mkdir(path, mode) != 0 && errno != EEXIST)
		goto failed;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || (user != NULL && fchown(fd, user->pw_uid, user->pw_gid) != 0))
		goto failed;
	(void)close(fd);
	return 0;
failed:
	error_set(err, "The folder %s cannot be used: %s.", path, strerror(errno));
	if (fd >= 0)
		(void)close(fd);
	return -EACCES;
}

/* The folder of a socket, so that the socket can be made and removed in it. */
static int own_socket_folder(const char *socket, const struct passwd *user, struct error *err)
{
	char folder[PATH_TEXT_MAX];
	char *slash;

	memcpy(folder, socket, sizeof(folder));
	slash = strrchr(folder, '/');
	if (slash == NULL || slash == folder)
		return 0;
	*slash = '\0';
	// A folder that many use, like /tmp, is nobody's to give away.
	if (access(folder, F_OK) == 0 && strcmp(folder, "/run/gatecap") != 0)
		return 0;
	return own_folder(folder, 0755, user, err);
}

/* Room for secrets, while it may be had: the usual limit of locked memory can be 64 KiB. */
static void raise_locked_memory(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur >= LOCKED_BYTES)
		return;
	limit.rlim_cur = LOCKED_BYTES;
	if (limit.rlim_max < LOCKED_BYTES)
		limit.rlim_max = LOCKED_BYTES;
	(void)setrlimit(RLIMIT_MEMLOCK, &limit); // secret.h does with less
}

/* What no program started from here could get back.  Refused when this is not root: nothing to do. */
static void empty_bounding_set(void)
{
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
}

/* Permitted, effective, inheritable, and with them ambient: for root's user 0, and for whoever was
 * given some.
 */
static int drop_capabilities(void)
{
	cap_t none = cap_init();
	int rc = none != NULL && cap_set_proc(none) == 0 ? 0 : -errno;

	cap_free(none);
	return rc;
}

/* Become the user.  0 or -errno. */
static int become(const struct passwd *user, const char *group_name)
{
	const struct group *group = getgrnam(group_name);
	gid_t groups[2] = {user->pw_gid, group != NULL ? group->gr_gid : 0};
	int death_signal = 0;

	// A change of user clears the signal that a supervisor's death sends us.
	(void)prctl(PR_GET_PDEATHSIG, &death_signal);
	if (setgroups(group != NULL ? 2 : 1, groups) != 0 ||
	    setresgid(user->pw_gid, user->pw_gid, user->pw_gid) != 0 ||
	    setresuid(user->pw_uid, user->pw_uid, user->pw_uid) != 0)
		return -errno;
	(void)prctl(PR_SET_PDEATHSIG, death_signal);
	return 0;
}

int privilege_drop(const struct config *config, struct error *err)
{
	const struct passwd *user = NULL;
	int rc;

	if (geteuid() == 0 && (user = find_user(config, err)) == NULL)
		return -ENOENT;
	if (own_folder(config->control.state_dir, 0700, user, err) != 0 ||
	    own_socket_folder(config->control.socket, user, err) != 0)
		return -EACCES;
	raise_locked_memory();
	empty_bounding_set();
	rc = user != NULL ? become(user, config->control.group) : 0;
	if (rc != 0) {
		error_set(err, "gatecapd could not become user %s: %s.", config->control.user,
			  strerror(-rc));
		return rc;
	}
	if (drop_capabilities() != 0 || secret_no_dumps() != 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
		error_set(err, "gatecapd could not give up its privileges: %s.", strerror(errno));
		return -EPERM;
	}
	return 0;
}
