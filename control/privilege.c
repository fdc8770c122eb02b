/* privilege.c - see privilege.h.
 *
 * Started by anyone else than root nothing is dropped: there is nothing to drop.
 */
#include "control/privilege.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

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

int privilege_drop(const struct config *config, struct error *err)
{
	const struct passwd *user = NULL;
	const struct group *group;
	gid_t groups[2];
	size_t n_groups = 0;
	int death_signal = 0;

	if (geteuid() == 0 && (user = find_user(config, err)) == NULL)
		return -ENOENT;
	if (own_folder(config->control.state_dir, 0700, user, err) != 0 ||
	    own_socket_folder(config->control.socket, user, err) != 0)
		return -EACCES;
	if (user != NULL) {
		// A change of user clears the signal that a supervisor's death sends us.
		(void)prctl(PR_GET_PDEATHSIG, &death_signal);
		groups[n_groups++] = user->pw_gid;
		group = getgrnam(config->control.group);
		if (group != NULL)
			groups[n_groups++] = group->gr_gid;
		if (setgroups(n_groups, groups) != 0 ||
		    setresgid(user->pw_gid, user->pw_gid, user->pw_gid) != 0 ||
		    setresuid(user->pw_uid, user->pw_uid, user->pw_uid) != 0) {
			error_set(err, "gatecapd could not become user %s: %s.",
				  config->control.user, strerror(errno));
			return -EPERM;
		}
		(void)prctl(PR_SET_PDEATHSIG, death_signal);
	}
	if (prctl(PR_SET_DUMPABLE, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
		error_set(err, "gatecapd could not give up its privileges: %s.", strerror(errno));
		return -EPERM;
	}
	return 0;
}
