/* failing_disk.c - preloaded into gatecapd by tests: a disk that refuses the data of captures.
 *
 * While the file $GATECAP_TEST_DISK is there, writes to files named *.data and *.index fail with the errno
 * that it says, or, if it says 0, are short.  All other files, and all other programs, are left alone.
 * A state folder in memory would be written past us: it is said to be none.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

ssize_t pwrite64(int fd, const void *buf, size_t n, off_t at);
int fstatfs64(int fd, struct statfs64 *fs);

static bool is_store(int fd)
{
	char link[64], path[4096];
	ssize_t len;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, sizeof(path) - 1);
	if (len < 0)
		return false;
	path[len] = '\0';
	return strstr(path, ".data") != NULL || strstr(path, ".index") != NULL;
}

ssize_t pwrite64(int fd, const void *buf, size_t n, off_t at)
{
	const char *path = getenv("GATECAP_TEST_DISK");
	FILE *file = NULL;
	int number = 0;

	if (path != NULL && is_store(fd) && strcmp(program_invocation_short_name, "gatecapd") == 0)
		file = fopen(path, "re");
	if (file == NULL)
		return syscall(SYS_pwrite64, fd, buf, n, at);
	if (fscanf(file, "%d", &number) != 1)
		number = EIO;
	(void)fclose(file);
	if (number == 0)
		return syscall(SYS_pwrite64, fd, buf, n / 2, at);
	errno = number;
	return -1;
}

int fstatfs64(int fd, struct statfs64 *fs)
{
	int rc = (int)syscall(SYS_fstatfs, fd, fs);

	if (is_store(fd))
		fs->f_type = 0;
	return rc;
}
