/* test_state_loss.c - a capture from every image of the state folder that a power loss may leave.
 *
 * A capture is written down as gatecapd does it: SAS URL, start, tallies, another SAS URL, stop, end, gone
 * (captures_files.c), with a store beside.  After each step of that in the folder the power is lost
 * (disk_model.h), and captures_restore() takes up every image: what was said to be so is so, the data is
 * there until the capture is over, and no file stays behind.  Then file by file what a power loss does to
 * it: empty, torn, somebody else's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka wants the above first
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/captures_internal.h"
#include "control/secret.h"
#include "filters/log.h"
#include "tests/disk_model.h"
#include "tests/store_items.h"

enum { FILE_BYTES = 300000, RANGE = 200, THOUSAND = 1000, ITEMS = 40 };
enum { EXHAUSTIVE_MAX = 600, EXHAUSTIVE_MAX_LONG = 1 << 16, SAMPLES = 60, SAMPLES_LONG = 2000 };

static const char url_1[] = "https://one.blob.core.windows.net/c?sv=1&sig=first";
static const char url_2[] = "https://two.blob.core.windows.net/c?sv=1&sig=second";

/* What is said is kept. */
static char said[1 << 14];

__attribute__((format(printf, 1, 0))) static void say(const char *fmt, va_list args)
{
	size_t used = strlen(said);

	(void)vsnprintf(said + used, sizeof(said) - used, fmt, args);
	va_end(args);
}

void log_info(const char *fmt, ...)
{
	(void)fmt;
}

void log_warning(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	say(fmt, args);
}

void log_error(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	say(fmt, args);
}

/* ---- a gatecapd without a dataplane ---- */

/* Operations from begin to end, as the trace counts them. */
struct span {
	size_t begin, end;
};

/* Not matched thousands of packets, as a file says since `end`. */
struct saved {
	size_t begin, end;
	unsigned thousands;
	bool is_durable; // promised to be
};

enum { SAVES_MAX = 16 };

struct rig {
	struct dice d;
	char dir[64];
	int state_fd, after_fd;
	struct config config;
	struct captures m;
	struct capture *capture;
	char id[CAPTURE_ID_BYTES];
	uint32_t n_items;
	struct disk_trace trace;

	/* The capture's life. */
	struct span starting, second_url, ending, finishing, forgetting;
	size_t told, synced; // ended by then
	uint32_t n_synced;
	struct saved saves[SAVES_MAX];
	unsigned n_saves;
	unsigned n_images, n_crashes, n_whole_crashes;
};

static size_t now(const struct rig *rig)
{
	return rig->trace.n_ops;
}

static void gatecapd_open(struct rig *rig, struct captures *m, int dir_fd, const char *run)
{
	*m = (struct captures){.config = &rig->config, .state_dir_fd = dir_fd};
	(void)snprintf(m->run, sizeof(m->run), "%s", run);
}

/* It is killed: nothing is written any more. */
static void gatecapd_kill(struct captures *m)
{
	while (m->list != NULL) {
		struct capture *c = m->list;

		m->list = c->next;
		if (c->store != NULL)
			store_keep(c->store);
		capture_free(c);
	}
}

static void rig_open(struct rig *rig, const char *name)
{
	memset(rig, 0, sizeof(*rig));
	said[0] = '\0';
	rig->d = dice_open(name);
	(void)snprintf(rig->dir, sizeof(rig->dir), "%s/test_state_loss.XXXXXX", P_tmpdir);
	assert_non_null(mkdtemp(rig->dir));
	rig->state_fd = open(rig->dir, O_RDONLY | O_DIRECTORY);
	assert_int_equal(config_defaults(&rig->config), 0);
	rig->config.n_ports = 1;
	(void)strcpy(rig->config.ports[0].name, "wan");
	(void)strcpy(rig->config.control.state_dir, "the state folder");
	gatecapd_open(rig, &rig->m, rig->state_fd, "one run");
	disk_trace_start(&rig->trace, rig->state_fd);
}

static void rig_close(struct rig *rig)
{
	disk_trace_stop();
	gatecapd_kill(&rig->m);
	disk_empty(rig->state_fd);
	(void)close(rig->state_fd);
	assert_int_equal(rmdir(rig->dir), 0);
	config_fini(&rig->config);
	disk_trace_fini(&rig->trace);
}

/* ---- the life of a capture ---- */

static void take_filter(struct capture *c)
{
	const struct filter_data_rules rules = {.filters_max = FILTERS_PER_CAPTURE_MAX};
	struct faults faults = {0};

	assert_int_equal(filter_data_parse("{}", 2, &rules, &c->data, &faults, &c->warnings), 0);
	c->filter_json = filter_data_json(&c->data);
}

static void record(struct rig *rig, uint32_t n)
{
	const struct store_mark mark = {.epoch = 7};

	for (; n > 0; n--)
		item_append(rig->capture->store, rig->n_items++, RANGE);
	assert_int_equal(store_commit(rig->capture->store, &mark), 0);
}

/* So many packets more that no filter matched, and a save of whichever kind. */
static void save(struct rig *rig, unsigned thousands, bool is_tally)
{
	struct saved *saved = &rig->saves[rig->n_saves++];

	rig->capture->last.ports[0].received = thousands * THOUSAND;
	*saved = (struct saved){.begin = now(rig), .thousands = thousands, .is_durable = !is_tally};
	if (is_tally)
		captures_save_often(&rig->m);
	else
		assert_int_equal(captures_save(&rig->m, rig->capture), 0);
	saved->end = now(rig);
}

static void start(struct rig *rig)
{
	const struct store_settings settings = {.dir_fd = rig->state_fd,
						.file_bytes_max = FILE_BYTES,
						.snap_bytes = ITEM_SNAP,
						.timestamps = TIMESTAMPS_NANO,
						.reserve = true,
						.is_durable = true};
	struct capture *c = rig->capture = rig->m.list = capture_new(NULL);
	struct store_settings named = settings;
	struct error err = {0};

	memcpy(rig->id, c->id, sizeof(rig->id));
	named.name = c->id;
	memcpy(c->run, rig->m.run, sizeof(c->run));
	take_filter(c);
	c->n_ports = 1;
	(void)strcpy(c->port_names[0], "wan");
	c->sas_url = secret_dup(url_1);
	c->slot = 0;
	c->store = store_open(&named, &err);
	if (c->store == NULL)
		fail_msg("%s", err.text);
	assert_int_equal(captures_save_sas(&rig->m, c), 0);
	c->epoch = 7;
	c->first_generation = 1;
	rig->starting.begin = now(rig);
	save(rig, 0, false);
	c->state = CAPTURE_RUNNING;
	save(rig, 0, false);
	rig->starting.end = rig->told = now(rig); // the client has its answer
}

static void run(struct rig *rig)
{
	record(rig, ITEMS);
	assert_int_equal(store_sync(rig->capture->store), 0);
	rig->synced = now(rig);
	rig->n_synced = rig->n_items;
	for (unsigned i = 1; i <= 3; i++)
		save(rig, i, true);
}

static void stop_with_another_url(struct rig *rig)
{
	struct capture *c = rig->capture;

	secret_free(c->sas_url);
	c->sas_url = secret_dup(url_2);
	rig->second_url.begin = now(rig);
	assert_int_equal(captures_save_sas(&rig->m, c), 0);
	rig->second_url.end = now(rig);
	c->state = CAPTURE_STOPPING;
	c->aim = AIM_DOWNLOAD;
	save(rig, 4, false);
}

static void end(struct rig *rig)
{
	struct capture *c = rig->capture;

	assert_int_equal(store_sync(c->store), 0);
	c->slot = -1;
	c->state = CAPTURE_UPLOADING;
	rig->ending.begin = now(rig);
	save(rig, 5, false);
	rig->ending.end = now(rig);
	c->state = CAPTURE_SUCCEEDED;
	rig->finishing.begin = now(rig);
	captures_save_finished(&rig->m, c);
	rig->finishing.end = now(rig);
	capture_drop_data(&rig->m, c);
}

static void live(struct rig *rig)
{
	start(rig);
	run(rig);
	stop_with_another_url(rig);
	end(rig);
	rig->forgetting.begin = now(rig);
	captures_unlink(&rig->m, rig->capture);
	rig->forgetting.end = now(rig);
}

/* ---- what an image has to give ---- */

static bool ends_with(const char *name, const char *ending)
{
	size_t len = strlen(name), wanted = strlen(ending);

	return wanted > 0 && len >= wanted && strcmp(name + len - wanted, ending) == 0;
}

/* No files but of these endings; "": none at all. */
static void check_files(int dir_fd, const char *a, const char *b, size_t n)
{
	DIR *dir = fdopendir(openat(dir_fd, ".", O_RDONLY | O_DIRECTORY));
	const struct dirent *entry;

	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.' && !ends_with(entry->d_name, a) &&
		    !ends_with(entry->d_name, b))
			fail_msg("%s is left behind, the power lost after step %zu: %s",
				 entry->d_name, n, said);
	(void)closedir(dir);
}

/* The data is there: in order, and all that was synced. */
static void check_data(const struct rig *rig, const struct capture *c, uint32_t n_owed)
{
	struct found found;

	assert_non_null(c->store);
	found = items_read(c->store, FILE_BYTES, RANGE);
	for (uint32_t n = 0; n < n_owed; n++)
		assert_true(found_has(&found, n));
	assert_true(found.n <= rig->n_items);
	found_fini(&found);
}

/* One of what was saved, and nothing older than what was promised to be on disk. */
static void check_counters(const struct rig *rig, const struct capture *c, size_t n)
{
	const struct port_tally *base = &c->base.ports[0], *last = &c->last.ports[0];
	uint64_t not_matched = base->received + last->received - base->recorded - last->recorded;
	uint64_t least = 0, most = 0;

	for (unsigned i = 0; i < rig->n_saves; i++) {
		if (rig->saves[i].is_durable && rig->saves[i].end <= n)
			least = rig->saves[i].thousands;
		if (rig->saves[i].begin <= n)
			most = rig->saves[i].thousands;
	}
	assert_int_equal(not_matched % THOUSAND, 0);
	assert_in_range(not_matched / THOUSAND, least, most);
}

static void check_url(const struct rig *rig, const struct capture *c, size_t n)
{
	assert_non_null(c->sas_url);
	if (n <= rig->second_url.begin)
		assert_string_equal(c->sas_url, url_1);
	else if (n >= rig->second_url.end)
		assert_string_equal(c->sas_url, url_2);
	else
		assert_true(strcmp(c->sas_url, url_1) == 0 || strcmp(c->sas_url, url_2) == 0);
}

static void check_held(const struct rig *rig, const struct capture *c, size_t n)
{
	if (n <= rig->ending.begin)
		assert_int_equal(c->state, CAPTURE_RECOVERED);
	else if (n >= rig->ending.end)
		assert_int_equal(c->state, CAPTURE_UPLOADING);
	else
		assert_true(c->state == CAPTURE_RECOVERED || c->state == CAPTURE_UPLOADING);
	check_data(rig, c, n >= rig->synced ? rig->n_synced : 0);
	check_counters(rig, c, n);
	check_url(rig, c, n);
	assert_true(n < rig->finishing.end);
}

static void check_restored(const struct rig *rig, const struct captures *m, size_t n)
{
	const struct capture *c = m->list;
	int dir_fd = m->state_dir_fd;

	if (c == NULL) {
		if (n >= rig->told && n <= rig->forgetting.begin)
			fail_msg("lost, the power lost after step %zu: %s", n, said);
		check_files(dir_fd, "", "", n);
		return;
	}
	assert_null(c->next);
	assert_string_equal(c->id, rig->id);
	assert_true(n > rig->starting.begin);
	if (capture_holds_scope(c)) {
		check_held(rig, c, n);
		return;
	}
	assert_int_equal(c->state, CAPTURE_SUCCEEDED);
	assert_true(n > rig->finishing.begin);
	check_files(dir_fd, ".capture", ".tally", n);
}

static void restore(struct rig *rig, size_t n)
{
	struct captures m;

	for (unsigned i = 0; i < 2; i++) { // and once more, from what the first one has left
		said[0] = '\0';
		gatecapd_open(rig, &m, rig->after_fd, "another run");
		captures_restore(&m);
		check_restored(rig, &m, n);
		gatecapd_kill(&m);
	}
	rig->n_images++;
}

static bool is_long(void)
{
	return getenv("GATECAP_EVERY") != NULL;
}

static void lose_power_after(struct rig *rig, size_t n)
{
	struct disk_crash *crash = disk_crash_open(&rig->trace, n, DISK_PAGE_BYTES);
	bool is_whole =
		disk_crash_images(crash) <= (is_long() ? EXHAUSTIVE_MAX_LONG : EXHAUSTIVE_MAX);
	unsigned n_samples = is_long() ? SAMPLES_LONG : SAMPLES;
	struct disk_image image = {0};
	bool is_more = true;

	for (unsigned i = 0; is_whole ? is_more : i < n_samples; i++) {
		if (!is_whole)
			disk_image_any(crash, &rig->d, &image);
		disk_image_lay_out(crash, &image, rig->after_fd);
		restore(rig, n);
		is_more = disk_image_next(crash, &image);
	}
	rig->n_crashes++;
	rig->n_whole_crashes += is_whole;
	disk_crash_close(crash);
}

static void capture_is_restored_from_every_image_of_its_files(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, "capture_is_restored_from_every_image_of_its_files");
	live(&rig);
	disk_trace_stop();
	check_files(rig.state_fd, "", "", now(&rig));
	assert_int_equal(mkdirat(rig.state_fd, "after", 0700), 0);
	rig.after_fd = openat(rig.state_fd, "after", O_RDONLY | O_DIRECTORY);
	for (size_t n = 0; n <= rig.trace.n_ops; n++)
		lose_power_after(&rig, n);
	(void)printf("%u images: every one of %u of the %u moments at which the power was lost, "
		     "some of the others\n",
		     rig.n_images, rig.n_whole_crashes, rig.n_crashes);
	assert_true(4 * rig.n_whole_crashes > 3 * rig.n_crashes);
	disk_empty(rig.after_fd);
	(void)close(rig.after_fd);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(capture_is_restored_from_every_image_of_its_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
