/* test_file_watch.c - each way in which a file becomes another one is heard of.
 *
 * Nothing here waits for a time: the loop runs until changed() comes, and a change that is not heard of
 * is a test that is killed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// cmocka wants the above first
#include <cmocka.h>

#include <event2/event.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/file_watch.h"

enum { PATH_BYTES = 128, LATE_SECONDS = 30, POLL_MS = 10 };

struct rig {
	struct event_base *base;
	struct file_watch *watch;
	char folder[PATH_BYTES], path[PATH_BYTES + 8], other[PATH_BYTES + 8];
	unsigned n_changes;
};

static void on_changed(void *ctx)
{
	struct rig *rig = ctx;

	rig->n_changes++;
	(void)event_base_loopbreak(rig->base);
}

static void write_file(const char *path, const char *text)
{
	FILE *out = fopen(path, "we");

	assert_non_null(out);
	assert_int_equal(fputs(text, out) >= 0, 1);
	assert_int_equal(fclose(out), 0);
}

static struct rig *open_rig(const char *text)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	(void)strcpy(rig->folder, "/tmp/gatecap-watch-XXXXXX");
	assert_non_null(mkdtemp(rig->folder));
	(void)snprintf(rig->path, sizeof(rig->path), "%s/sa", rig->folder);
	(void)snprintf(rig->other, sizeof(rig->other), "%s/sa.new", rig->folder);
	if (text != NULL)
		write_file(rig->path, text);
	rig->base = event_base_new();
	rig->watch = file_watch_open(rig->base, rig->path, POLL_MS, on_changed, rig);
	assert_non_null(rig->watch);
	return rig;
}

static void close_rig(struct rig *rig)
{
	file_watch_close(rig->watch);
	event_base_free(rig->base);
	(void)unlink(rig->path);
	(void)unlink(rig->other);
	(void)rmdir(rig->folder);
	free(rig);
}

/* Run the loop until the change is heard of. */
static void hear(struct rig *rig)
{
	const struct timeval late = {.tv_sec = LATE_SECONDS};
	unsigned n = rig->n_changes;

	assert_int_equal(event_base_loopexit(rig->base, &late), 0);
	(void)event_base_dispatch(rig->base);
	assert_int_equal(rig->n_changes, n + 1);
}

static void a_file_that_is_written_is_heard_of(void **state)
{
	struct rig *rig = open_rig("a");

	(void)state;
	write_file(rig->path, "b");
	hear(rig);
	write_file(rig->path, "c");
	hear(rig);
	close_rig(rig);
}

static void a_file_that_is_renamed_over_it_is_heard_of_each_time(void **state)
{
	struct rig *rig = open_rig("a");

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		write_file(rig->other, "b");
		assert_int_equal(rename(rig->other, rig->path), 0);
		hear(rig);
	}
	close_rig(rig);
}

static void a_file_that_comes_goes_or_may_be_read_is_heard_of(void **state)
{
	struct rig *rig = open_rig(NULL);

	(void)state;
	write_file(rig->path, "a");
	hear(rig);
	assert_int_equal(chmod(rig->path, 0600), 0);
	hear(rig);
	assert_int_equal(unlink(rig->path), 0);
	hear(rig);
	close_rig(rig);
}

/* inotify watches the link's folder and not the target's: stat() sees it. */
static void the_target_of_a_link_is_heard_of(void **state)
{
	struct rig *rig = open_rig(NULL);
	char target[] = "/tmp/gatecap-target-XXXXXX";
	int fd = mkstemp(target);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(symlink(target, rig->path), 0);
	hear(rig);
	assert_int_equal(write(fd, "b", 1), 1);
	assert_int_equal(close(fd), 0);
	hear(rig);
	(void)unlink(target);
	close_rig(rig);
}

static void a_folder_that_is_made_later_or_again_is_watched(void **state)
{
	struct rig *rig = open_rig(NULL);

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(rmdir(rig->folder), 0);
		if (i == 0) // the watch itself went
			hear(rig);
		assert_int_equal(mkdir(rig->folder, 0700), 0);
		write_file(rig->path, "a");
		hear(rig);
		assert_int_equal(unlink(rig->path), 0);
		hear(rig);
	}
	close_rig(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_that_is_written_is_heard_of),
		cmocka_unit_test(a_file_that_is_renamed_over_it_is_heard_of_each_time),
		cmocka_unit_test(a_file_that_comes_goes_or_may_be_read_is_heard_of),
		cmocka_unit_test(the_target_of_a_link_is_heard_of),
		cmocka_unit_test(a_folder_that_is_made_later_or_again_is_watched),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
