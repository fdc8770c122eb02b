/* wall_clock.c - preloaded into gatecapd by tests: a wall clock that can be set.
 *
 * CLOCK_REALTIME is moved by as many seconds as the file $GATECAP_TEST_CLOCK says (none: 0); all other
 * clocks, and all other programs, are left alone.  Setting the machine's clock would touch everyone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *now)
{
	const char *path = getenv("GATECAP_TEST_CLOCK");
	long rc = syscall(SYS_clock_gettime, id, now);
	FILE *file = NULL;
	long seconds;

	if (rc == 0 && id == CLOCK_REALTIME && path != NULL &&
	    strcmp(program_invocation_short_name, "gatecapd") == 0)
		file = fopen(path, "re");
	if (file == NULL)
		return (int)rc;
	if (fscanf(file, "%ld", &seconds) == 1)
		now->tv_sec += seconds;
	(void)fclose(file);
	return (int)rc;
}
