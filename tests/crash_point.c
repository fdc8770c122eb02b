/* crash_point.c - preloaded into gatecapd by tests: it dies at the n-th step that it takes in its state folder.
 *
 * A step is a file made, written, synced, renamed or removed there; the stores' own writes and syncs are not
 * (test_store_crash.c has those).  Each is a line of the file $GATECAP_TEST_STEPS.  While there is a file
 * $GATECAP_TEST_STEPS.crash with a number in it, the process ends before the step of that number, counted
 * from its own start; half of a write is done before.  The file is removed first: it dies once.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int openat64(int dir_fd, const char *name, int flags, ...);

static const char *steps_path(void)
{
	const char *path = getenv("GATECAP_TEST_STEPS");

	return strcmp(program_invocation_short_name, "gatecapd") == 0 ? path : NULL;
}

/* The path of an open file, if it is in the state folder, or that folder. */
static bool is_in_state(int fd, char *path, size_t n)
{
	const char *folder = getenv("GATECAP_TEST_STATE");
	char link[64];
	ssize_t len;

	if (folder == NULL || steps_path() == NULL)
		return false;
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, n - 1);
	if (len < 0)
		return false;
	path[len] = '\0';
	return strncmp(path, folder, strlen(folder)) == 0 && strstr(path, ".data") == NULL &&
	       strstr(path, ".index") == NULL;
}

/* Is this the step to die before?  It is written down in any case. */
static bool is_last(const char *what, const char *name)
{
	static _Atomic int n_steps;
	char crash[4096], line[4200];
	int fd = (int)syscall(SYS_openat, AT_FDCWD, steps_path(),
			      O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	const char *slash = strrchr(name, '/');
	FILE *file;
	int n = 0;

	n_steps++;
	(void)snprintf(line, sizeof(line), "%s %s\n", what, slash != NULL ? slash + 1 : name);
	(void)syscall(SYS_write, fd, line, strlen(line));
	(void)syscall(SYS_close, fd);
	(void)snprintf(crash, sizeof(crash), "%s.crash", steps_path());
	file = fopen(crash, "re");
	if (file == NULL)
		return false;
	if (fscanf(file, "%d", &n) != 1)
		n = 0;
	(void)fclose(file);
	if (n == 0 || n != n_steps)
		return false;
	(void)syscall(SYS_unlinkat, AT_FDCWD, crash, 0);
	return true;
}

static void die(void)
{
	(void)syscall(SYS_exit_group, 137);
}

int openat64(int dir_fd, const char *name, int flags, ...)
{
	char path[4096];
	va_list args;
	int mode = 0;

	va_start(args, flags);
	if (flags & O_CREAT)
		mode = va_arg(args, int);
	va_end(args);
	if ((flags & O_CREAT) && name[0] != '/' && is_in_state(dir_fd, path, sizeof(path)) &&
	    is_last("create", name))
		die();
	return (int)syscall(SYS_openat, dir_fd, name, flags, mode);
}

ssize_t write(int fd, const void *buf, size_t n)
{
	char path[4096];

	if (fd > 2 && is_in_state(fd, path, sizeof(path)) && is_last("write", path)) {
		(void)syscall(SYS_write, fd, buf, n / 2);
		die();
	}
	return syscall(SYS_write, fd, buf, n);
}

int fsync(int fd)
{
	char path[4096];

	if (is_in_state(fd, path, sizeof(path)) && is_last("sync", path))
		die();
	return (int)syscall(SYS_fsync, fd);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
	char path[4096];

	if (is_in_state(to_fd, path, sizeof(path)) && is_last("rename", to))
		die();
	return (int)syscall(SYS_renameat, from_fd, from, to_fd, to);
}

int unlinkat(int fd, const char *name, int flags)
{
	char path[4096];

	if (is_in_state(fd, path, sizeof(path)) && is_last("remove", name))
		die();
	return (int)syscall(SYS_unlinkat, fd, name, flags);
}
