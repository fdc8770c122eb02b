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
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/capture_state.h"
#include "control/captures_internal.h"
#include "control/secret.h"
#include "filters/log.h"
#include "tests/disk_model.h"
#include "tests/store_items.h"

enum { FILE_BYTES = 300000, RANGE = 200, THOUSAND = 1000, ITEMS = 40 };

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
	struct span second_url, ending, finishing;
	size_t begun, told, synced, forgetting;
	uint32_t n_synced;
	struct saved saves[SAVES_MAX];
	unsigned n_saves;
	struct disk_trial trial;
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
	(void)snprintf(rig->dir, sizeof(rig->dir), "%s/test_state_loss.XXXXXX", disk_scratch());
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
	rig->begun = now(rig);
	save(rig, 0, false);
	c->state = CAPTURE_RUNNING;
	save(rig, 0, false);
	rig->told = now(rig); // the client has its answer
}

static void run(struct rig *rig)
{
	record(rig, ITEMS);
	if (rig->config.captures.sync_ms > 0)
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

	if (rig->config.captures.sync_ms > 0)
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
	rig->forgetting = now(rig);
	captures_unlink(&rig->m, rig->capture);
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

/* captures.sync_ms 0: nothing is promised, but what is shown was recorded, and what is lost is said. */
static void check_unsynced(const struct rig *rig, const struct captures *m)
{
	const struct capture *c = m->list;

	if (c == NULL) {
		char name[FILE_NAME_BYTES];
		struct stat st;

		(void)captures_file_name(rig->id, "capture", name);
		if (fstatat(m->state_dir_fd, name, &st, 0) == 0)
			assert_non_null(strstr(said, "left alone"));
		return;
	}
	assert_string_equal(c->id, rig->id);
	if (capture_holds_scope(c))
		check_data(rig, c, 0);
}

static void check_restored(const struct rig *rig, const struct captures *m, size_t n)
{
	const struct capture *c = m->list;
	int dir_fd = m->state_dir_fd;

	if (c == NULL) {
		if (n >= rig->told && n <= rig->forgetting)
			fail_msg("lost, the power lost after step %zu: %s", n, said);
		check_files(dir_fd, "", "", n);
		return;
	}
	assert_null(c->next);
	assert_string_equal(c->id, rig->id);
	assert_true(n > rig->begun);
	if (capture_holds_scope(c)) {
		check_held(rig, c, n);
		return;
	}
	assert_int_equal(c->state, CAPTURE_SUCCEEDED);
	assert_true(n > rig->finishing.begin);
	check_files(dir_fd, ".capture", ".tally", n);
}

/* An image of the moment after n steps. */
static void restore(void *ctx, size_t n)
{
	struct rig *rig = ctx;
	struct captures m;

	for (unsigned i = 0; i < 2; i++) { // and once more, from what the first one has left
		said[0] = '\0';
		gatecapd_open(rig, &m, rig->after_fd, "another run");
		captures_restore(&m);
		if (rig->config.captures.sync_ms > 0)
			check_restored(rig, &m, n);
		else
			check_unsynced(rig, &m);
		gatecapd_kill(&m);
	}
}

/* The life of a capture, and a power loss after each of its steps. */
static void live_and_lose_power(struct rig *rig)
{
	live(rig);
	disk_trace_stop();
	check_files(rig->state_fd, "", "", now(rig));
	assert_int_equal(mkdirat(rig->state_fd, "after", 0700), 0);
	rig->after_fd = openat(rig->state_fd, "after", O_RDONLY | O_DIRECTORY);
	rig->trial = (struct disk_trial){.trace = &rig->trace,
					 .dice = &rig->d,
					 .folder_fd = rig->after_fd,
					 .all_max = 600,
					 .n_some = 40,
					 .look = restore,
					 .ctx = rig};
	for (size_t n = 0; n <= rig->trace.n_ops; n++)
		disk_trial_crash(&rig->trial, n, DISK_PAGE_BYTES);
	disk_trial_print(&rig->trial);
	disk_empty(rig->after_fd);
	(void)close(rig->after_fd);
}

static void capture_is_restored_from_every_image_of_its_files(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, "capture_is_restored_from_every_image_of_its_files");
	live_and_lose_power(&rig);
	assert_true(4 * rig.trial.n_whole > 3 * rig.trial.n_crashes);
	rig_close(&rig);
}

static void without_syncs_what_is_lost_is_said(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, "without_syncs_what_is_lost_is_said");
	rig.config.captures.sync_ms = 0;
	live_and_lose_power(&rig);
	rig_close(&rig);
}

/* ---- file by file ---- */

enum damage { EMPTY, TORN, ZEROS, NOTES, DAMAGES };

static const char notes[] = "My notes.\n";

/* What a file holds (malloc). */
static char *bytes_of(const struct rig *rig, const char *ending, size_t *n)
{
	char name[FILE_NAME_BYTES];
	struct error err = {0};
	char *bytes = captures_read_file(rig->state_fd, captures_file_name(rig->id, ending, name),
					 1 << 20, n, &err);

	if (bytes == NULL)
		fail_msg("%s: %s", name, err.text);
	return bytes;
}

static void put(const struct rig *rig, const char *ending, const char *bytes, size_t n)
{
	char name[FILE_NAME_BYTES];
	int fd = openat(rig->state_fd, captures_file_name(rig->id, ending, name),
			O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, n), n);
	(void)close(fd);
}

static void damage_file(const struct rig *rig, const char *ending, enum damage damage)
{
	size_t n;
	char *bytes = bytes_of(rig, ending, &n);

	if (damage == ZEROS)
		memset(bytes, 0, n);
	if (damage == NOTES)
		put(rig, ending, notes, sizeof(notes) - 1);
	else
		put(rig, ending, bytes, damage == EMPTY ? 0 : damage == TORN ? n / 2 : n);
	free(bytes);
}

/* A capture that runs, with data, tally and SAS URL, when the power goes. */
static void run_until_power_loss(struct rig *rig, const char *name)
{
	rig_open(rig, name);
	start(rig);
	run(rig);
	disk_trace_stop();
	gatecapd_kill(&rig->m);
	gatecapd_open(rig, &rig->m, rig->state_fd, "another run");
}

/* All of it is there; its counters are those of so many thousands. */
static void check_recovered(const struct rig *rig, unsigned thousands)
{
	const struct capture *c = rig->m.list;
	const struct port_tally *base;

	if (c == NULL)
		fail_msg("lost: %s", said);
	assert_int_equal(c->state, CAPTURE_RECOVERED);
	check_data(rig, c, rig->n_synced);
	base = &c->base.ports[0];
	assert_int_equal(base->received - base->recorded, thousands * THOUSAND);
}

/* Another capture's file, whole, under this one's name. */
static void put_other_capture(struct rig *rig, const char *ending)
{
	struct capture *other = capture_new("site-a");
	char *text;

	assert_string_not_equal(other->id, rig->id);
	take_filter(other);
	(void)strcpy(other->run, "one run");
	other->n_saves = 1000;
	other->state = CAPTURE_RUNNING;
	other->slot = 3;
	text = capture_state_text(other);
	put(rig, ending, text, strlen(text));
	free(text);
	capture_free(other);
}

static void tally_after_power_loss(const char *name, enum damage damage)
{
	struct rig rig;

	run_until_power_loss(&rig, name);
	damage_file(&rig, "tally", damage);
	captures_restore(&rig.m);
	check_recovered(&rig, 0); // as ID.capture has it
	assert_string_equal(rig.m.list->sas_url, url_1);
	rig_close(&rig);
}

static void whole_tally_is_believed(void **state)
{
	struct rig rig;

	(void)state;
	run_until_power_loss(&rig, "whole_tally_is_believed");
	captures_restore(&rig.m);
	check_recovered(&rig, 3);
	rig_close(&rig);
}

static void empty_tally_gives_what_was_synced(void **state)
{
	(void)state;
	tally_after_power_loss("empty_tally_gives_what_was_synced", EMPTY);
}

static void torn_tally_gives_what_was_synced(void **state)
{
	(void)state;
	tally_after_power_loss("torn_tally_gives_what_was_synced", TORN);
	tally_after_power_loss("torn_tally_gives_what_was_synced", ZEROS);
}

static void foreign_tally_gives_what_was_synced(void **state)
{
	struct rig rig;

	(void)state;
	tally_after_power_loss("foreign_tally_gives_what_was_synced", NOTES);
	run_until_power_loss(&rig, "foreign_tally_gives_what_was_synced");
	put_other_capture(&rig, "tally");
	captures_restore(&rig.m);
	check_recovered(&rig, 0);
	rig_close(&rig);
}

static void power_loss_costs_a_minute_of_counters_at_most(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, "power_loss_costs_a_minute_of_counters_at_most");
	start(&rig);
	run(&rig);
	rig.capture->synced_ns -= 59000000000;
	save(&rig, 4, true);
	rig.capture->synced_ns -= 1000000000;
	save(&rig, 5, true);
	save(&rig, 6, true);
	disk_trace_stop();
	gatecapd_kill(&rig.m);
	damage_file(&rig, "tally", EMPTY);
	gatecapd_open(&rig, &rig.m, rig.state_fd, "another run");
	captures_restore(&rig.m);
	check_recovered(&rig, 5);
	rig_close(&rig);
}

/* It is said, nothing is touched, and with the right file in its place all is there again. */
static void check_left_alone(struct rig *rig, const char *good, size_t n_good)
{
	size_t n_before, n_after;
	char *before = bytes_of(rig, "capture", &n_before), *after;

	captures_restore(&rig->m);
	assert_null(rig->m.list);
	assert_non_null(strstr(said, rig->id));
	assert_non_null(strstr(said, "left alone"));
	after = bytes_of(rig, "capture", &n_after);
	assert_int_equal(n_after, n_before);
	assert_memory_equal(after, before, n_before);
	put(rig, "capture", good, n_good);
	captures_restore(&rig->m);
	check_recovered(rig, 3);
	assert_string_equal(rig->m.list->sas_url, url_1);
	free(before);
	free(after);
}

static void capture_file_after_power_loss(const char *name, enum damage damage)
{
	struct rig rig;
	char *good;
	size_t n;

	run_until_power_loss(&rig, name);
	good = bytes_of(&rig, "capture", &n);
	if (damage == DAMAGES)
		put_other_capture(&rig, "capture");
	else
		damage_file(&rig, "capture", damage);
	check_left_alone(&rig, good, n);
	free(good);
	rig_close(&rig);
}

static void empty_capture_file_is_said_and_costs_no_data(void **state)
{
	(void)state;
	capture_file_after_power_loss("empty_capture_file_is_said_and_costs_no_data", EMPTY);
}

static void torn_capture_file_is_said_and_costs_no_data(void **state)
{
	(void)state;
	capture_file_after_power_loss("torn_capture_file_is_said_and_costs_no_data", TORN);
	capture_file_after_power_loss("torn_capture_file_is_said_and_costs_no_data", ZEROS);
}

static void foreign_capture_file_is_said_and_costs_no_data(void **state)
{
	(void)state;
	capture_file_after_power_loss("foreign_capture_file_is_said_and_costs_no_data", NOTES);
	capture_file_after_power_loss("foreign_capture_file_is_said_and_costs_no_data", DAMAGES);
}

static void sas_after_power_loss(const char *name, enum damage damage, const char *url)
{
	struct rig rig;

	run_until_power_loss(&rig, name);
	damage_file(&rig, "sas", damage);
	captures_restore(&rig.m);
	check_recovered(&rig, 3);
	if (url == NULL)
		assert_null(rig.m.list->sas_url);
	else
		assert_string_equal(rig.m.list->sas_url, url);
	rig_close(&rig);
}

static void empty_sas_file_is_no_url(void **state)
{
	(void)state;
	sas_after_power_loss("empty_sas_file_is_no_url", EMPTY, NULL);
}

/* Half a text is one: the storage, or its host's name, will be refused with a sentence. */
static void torn_sas_file_costs_the_capture_nothing(void **state)
{
	char half[sizeof(url_1)];

	(void)state;
	(void)snprintf(half, sizeof(half), "%.*s", (int)(sizeof(url_1) - 1) / 2, url_1);
	sas_after_power_loss("torn_sas_file_costs_the_capture_nothing", TORN, half);
	sas_after_power_loss("torn_sas_file_costs_the_capture_nothing", ZEROS, NULL);
}

static void foreign_sas_file_costs_the_capture_nothing(void **state)
{
	char name[FILE_NAME_BYTES];
	struct rig rig;

	(void)state;
	sas_after_power_loss("foreign_sas_file_costs_the_capture_nothing", NOTES, notes);
	run_until_power_loss(&rig, "foreign_sas_file_costs_the_capture_nothing");
	(void)captures_file_name(rig.id, "sas", name);
	assert_int_equal(unlinkat(rig.state_fd, name, 0), 0);
	assert_int_equal(mkdirat(rig.state_fd, name, 0700), 0);
	captures_restore(&rig.m);
	check_recovered(&rig, 3);
	assert_null(rig.m.list->sas_url);
	rig_close(&rig);
}

static void new_after_power_loss(const char *name, enum damage damage, const char *ending)
{
	struct stat st;
	struct rig rig;
	char *bytes, file[FILE_NAME_BYTES];
	size_t n;

	run_until_power_loss(&rig, name);
	bytes = bytes_of(&rig, ending, &n);
	put(&rig, "new", bytes, n);
	damage_file(&rig, "new", damage);
	free(bytes);
	captures_restore(&rig.m);
	check_recovered(&rig, 3);
	(void)captures_file_name(rig.id, "new", file);
	assert_int_equal(fstatat(rig.state_fd, file, &st, 0), -1);
	rig_close(&rig);
}

static void empty_new_file_is_removed(void **state)
{
	(void)state;
	new_after_power_loss("empty_new_file_is_removed", EMPTY, "capture");
}

static void torn_new_file_is_removed(void **state)
{
	(void)state;
	new_after_power_loss("torn_new_file_is_removed", TORN, "capture");
	new_after_power_loss("torn_new_file_is_removed", TORN, "sas");
	new_after_power_loss("torn_new_file_is_removed", ZEROS, "capture");
}

static void foreign_new_file_is_removed_and_a_folder_stays(void **state)
{
	char name[FILE_NAME_BYTES];
	struct stat st;
	struct rig rig;

	(void)state;
	new_after_power_loss("foreign_new_file_is_removed_and_a_folder_stays", NOTES, "capture");
	run_until_power_loss(&rig, "foreign_new_file_is_removed_and_a_folder_stays");
	(void)captures_file_name(rig.id, "new", name);
	assert_int_equal(mkdirat(rig.state_fd, name, 0700), 0);
	captures_restore(&rig.m);
	check_recovered(&rig, 3);
	assert_int_equal(fstatat(rig.state_fd, name, &st, 0), 0);
	assert_non_null(strstr(said, "cannot be written")); // Recovered is not on disk: said
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(capture_is_restored_from_every_image_of_its_files),
		cmocka_unit_test(without_syncs_what_is_lost_is_said),
		cmocka_unit_test(whole_tally_is_believed),
		cmocka_unit_test(empty_tally_gives_what_was_synced),
		cmocka_unit_test(torn_tally_gives_what_was_synced),
		cmocka_unit_test(foreign_tally_gives_what_was_synced),
		cmocka_unit_test(power_loss_costs_a_minute_of_counters_at_most),
		cmocka_unit_test(empty_capture_file_is_said_and_costs_no_data),
		cmocka_unit_test(torn_capture_file_is_said_and_costs_no_data),
		cmocka_unit_test(foreign_capture_file_is_said_and_costs_no_data),
		cmocka_unit_test(empty_sas_file_is_no_url),
		cmocka_unit_test(torn_sas_file_costs_the_capture_nothing),
		cmocka_unit_test(foreign_sas_file_costs_the_capture_nothing),
		cmocka_unit_test(empty_new_file_is_removed),
		cmocka_unit_test(torn_new_file_is_removed),
		cmocka_unit_test(foreign_new_file_is_removed_and_a_folder_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
