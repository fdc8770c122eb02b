/* test_secret.c - what the kernel says of a secret's pages, and what is left when it is freed.
 *
 * /proc/self/smaps tells whether pages are locked (lo), out of dumps (dd) and out of forks (dc).
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
// cmocka wants the above first
#include <cmocka.h>

#include "control/secret.h"

#define URL "https://account.blob.core.windows.net/captures?sig=bm90IGEga2V5"

enum { LINE_BYTES = 512, PAGE_BYTES = 4096, LONG_BYTES = 9000 };

/* The VmFlags of the mapping that has the address. */
static void flags_of(const void *at, char out[LINE_BYTES])
{
	FILE *maps = fopen("/proc/self/smaps", "re");
	char line[LINE_BYTES];
	bool is_here = false;

	assert_non_null(maps);
	out[0] = '\0';
	while (out[0] == '\0' && fgets(line, sizeof(line), maps) != NULL) {
		unsigned long from, to;

		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			is_here = (uintptr_t)at >= from && (uintptr_t)at < to;
		else if (is_here && strncmp(line, "VmFlags:", 8) == 0)
			(void)strcpy(out, line);
	}
	(void)fclose(maps);
}

/* How a child ends that touches the byte: 0, or the signal. */
static int touch(const volatile char *at)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		const struct rlimit none = {0, 0};

		(void)setrlimit(RLIMIT_CORE, &none);
		(void)signal(SIGSEGV, SIG_DFL); // a sanitizer's own handler would exit
		(void)*at;
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void secrets_are_locked_and_left_out_of_dumps_and_forks(void **state)
{
	char *secret = secret_dup(URL);
	char flags[LINE_BYTES];

	(void)state;
	assert_string_equal(secret, URL);
	flags_of(secret, flags);
	assert_non_null(strstr(flags, " lo"));
	assert_non_null(strstr(flags, " dd"));
	assert_non_null(strstr(flags, " dc"));
	assert_int_equal(secret_unlocked(), 0);
	assert_int_equal(touch(secret), SIGSEGV); // the child does not have it
	secret_free(secret);
}

static void secrets_lie_between_pages_that_nobody_may_touch(void **state)
{
	char *secret = secret_alloc(LONG_BYTES);
	char *page = secret - (uintptr_t)secret % PAGE_BYTES;

	(void)state;
	for (size_t i = 0; i < LONG_BYTES; i++)
		assert_int_equal(secret[i], 0);
	memset(secret, 1, LONG_BYTES);
	assert_int_equal(madvise(page - PAGE_BYTES, 5 * PAGE_BYTES, MADV_DOFORK), 0);
	assert_int_equal(touch(secret), 0);
	assert_int_equal(touch(page - 1), SIGSEGV);
	assert_int_equal(touch(page + 3 * PAGE_BYTES - 1), 0);
	assert_int_equal(touch(page + 3 * PAGE_BYTES), SIGSEGV);
	secret_free(secret);
}

static void freed_secrets_are_wiped_before_their_pages_go(void **state)
{
	/* The pages are moved under a second address, which stays when the first is unmapped. */
	char *secret = secret_dup(URL);
	char *page = secret - (uintptr_t)secret % PAGE_BYTES;
	int fd = memfd_create("twin", MFD_CLOEXEC);
	char *twin;

	(void)state;
	assert_true(fd >= 0 && write(fd, page, PAGE_BYTES) == PAGE_BYTES);
	assert_ptr_equal(
		mmap(page, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0),
		page);
	twin = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(twin, MAP_FAILED);
	assert_string_equal(twin + (secret - page), URL);
	secret_free(secret);
	for (size_t i = 0; i < PAGE_BYTES; i++)
		assert_int_equal(twin[i], 0);
	(void)munmap(twin, PAGE_BYTES);
	(void)close(fd);
}

static void secrets_beyond_the_limit_of_locked_memory_are_given_and_counted(void **state)
{
	pid_t pid = fork(); // a lowered limit cannot be raised again by everyone
	int status;

	(void)state;
	if (pid == 0) {
		const struct rlimit little = {PAGE_BYTES, PAGE_BYTES};
		char *one, *two;

		// The limit does not hold for who may lock memory: give root up.
		if (setrlimit(RLIMIT_MEMLOCK, &little) != 0 ||
		    (geteuid() == 0 && setuid(65534) != 0))
			_exit(1);
		one = secret_dup(URL);
		two = secret_dup(URL);
		if (one == NULL || two == NULL || strcmp(two, URL) != 0 || secret_unlocked() != 1)
			_exit(2);
		secret_free(two);
		if (secret_unlocked() != 0)
			_exit(3);
		secret_free(one);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void freeing_what_is_no_secret_ends_the_process(void **state)
{
	pid_t pid = fork();
	int status;

	(void)state;
	if (pid == 0) {
		static char memory[2 * PAGE_BYTES];
		const struct rlimit none = {0, 0};

		(void)setrlimit(RLIMIT_CORE, &none);
		(void)signal(SIGABRT, SIG_DFL);
		secret_free(memory + PAGE_BYTES);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	secret_free(NULL);
	assert_null(secret_dup(NULL));
	assert_null(secret_alloc(SIZE_MAX));
}

static void the_process_is_not_dumped(void **state)
{
	pid_t pid = fork();
	int status;

	(void)state;
	if (pid == 0) {
		struct rlimit limit;

		if (secret_no_dumps() != 0 || getrlimit(RLIMIT_CORE, &limit) != 0)
			_exit(1);
		_exit(limit.rlim_max == 0 && prctl(PR_GET_DUMPABLE) == 0 ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void memory_that_grows_leaves_nothing_behind(void **state)
{
	char *mem = malloc(64);
	const volatile char *old = mem;

	(void)state;
	assert_non_null(mem);
	(void)strcpy(mem, URL);
	mem = wiping_realloc(mem, 16); // fits: stays
	assert_ptr_equal(mem, old);
	mem = wiping_realloc(mem, 1 << 20);
	assert_ptr_not_equal(mem, old);
	assert_string_equal(mem, URL);
#ifndef __SANITIZE_ADDRESS__
	/* malloc has its own links in the first 16 bytes now; what was behind them is gone. */
	for (size_t i = 16; i < sizeof(URL); i++)
		assert_int_equal(old[i], 0);
#endif
	wiping_free(mem);
	wiping_free(NULL);
	mem = wiping_realloc(NULL, 8);
	assert_non_null(mem);
	wiping_free(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(secrets_are_locked_and_left_out_of_dumps_and_forks),
		cmocka_unit_test(secrets_lie_between_pages_that_nobody_may_touch),
		cmocka_unit_test(freed_secrets_are_wiped_before_their_pages_go),
		cmocka_unit_test(secrets_beyond_the_limit_of_locked_memory_are_given_and_counted),
		cmocka_unit_test(freeing_what_is_no_secret_ends_the_process),
		cmocka_unit_test(the_process_is_not_dumped),
		cmocka_unit_test(memory_that_grows_leaves_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
