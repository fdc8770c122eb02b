/* captures_files.c - what the state folder says of each capture, so that it outlives the process.
 *
 *   ID.capture  the capture (capture_state.h), written before each step that depends on it, and synced
 *   ID.tally    the same, written once a second while it runs and not synced: the newer one of the two is
 *               believed.  Two files, because after a power loss a file that was replaced without a sync
 *               may be empty, and ID.capture must not be that.  Once a minute it is ID.capture that is
 *               written instead: so much of the counters a power loss may cost.  (To sync each tally would
 *               have the event loop wait for the disk once a second.)
 *   ID.sas      the SAS URL of an upload that is not over, a secret
 *   ID.new      one of these while it is written; what is left of it at the start is dropped
 *
 * Every write goes to ID.new and is renamed: a reader finds the old text or the new one.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/capture_state.h"
#include "control/captures_internal.h"
#include "control/secret.h"
#include "filters/log.h"

enum { SAS_BYTES_MAX = 64 << 10, RUN_RANDOM_BYTES = 16, BOOT_TEXT_BYTES = 37 };

static const uint64_t SYNCED_NS = 60000000000;

const char *captures_file_name(const char *id, const char *ending, char out[FILE_NAME_BYTES])
{
	(void)snprintf(out, FILE_NAME_BYTES, "%s.%s", id, ending);
	return out;
}

/* ---- reading and writing ---- */

static int write_all(int fd, const char *text, size_t n)
{
	while (n > 0) {
		ssize_t done = write(fd, text, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? -errno : -EIO;
		text += done;
		n -= (size_t)done;
	}
	return 0;
}

/* Replace a file of the folder as a whole.  0, or -errno and the old one is there still. */
static int replace_file(int dir_fd, const char *name, const char *new_name, const char *text,
			size_t n, bool do_sync)
{
	int fd, rc;

	(void)unlinkat(dir_fd, new_name, 0);
	fd = openat(dir_fd, new_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	rc = write_all(fd, text, n);
	if (rc == 0 && do_sync && fsync(fd) != 0)
		rc = -errno;
	(void)close(fd);
	if (rc == 0 && renameat(dir_fd, new_name, dir_fd, name) != 0)
		rc = -errno;
	if (rc != 0)
		captures_wipe_file(dir_fd, new_name); // it may be part of a secret
	else if (do_sync && fsync(dir_fd) != 0)
		rc = -errno;
	return rc;
}

char *captures_read_file(int dir_fd, const char *name, size_t bytes_max, size_t *n,
			 struct error *err)
{
	// O_NONBLOCK: a FIFO of that name would have us wait.
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char *text = NULL;
	struct stat st;

	if (fd < 0) {
		error_set(err, "it cannot be opened: %s",
			  errno == ELOOP ? "it is a symbolic link" : strerror(errno));
		return NULL;
	}
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		error_set(err, "it is not a regular file");
	} else if ((uint64_t)st.st_size > bytes_max) {
		error_set(err, "it has %lld bytes, and none of gatecap's has more than %zu",
			  (long long)st.st_size, bytes_max);
	} else if ((text = malloc((size_t)st.st_size + 1)) == NULL) {
		error_set(err, "memory is short");
	} else {
		ssize_t got = pread(fd, text, (size_t)st.st_size, 0);

		*n = got > 0 ? (size_t)got : 0;
		text[*n] = '\0';
	}
	(void)close(fd);
	return text;
}

/* ---- the capture ---- */

static int save_as(struct captures *m, struct capture *c, const char *ending, bool do_sync)
{
	char name[FILE_NAME_BYTES], new_name[FILE_NAME_BYTES];
	char *text;
	int rc = -ENOMEM;

	c->n_saves++;
	c->saved_ns = wall_now_ns();
	text = capture_state_text(c);
	if (text != NULL)
		rc = replace_file(m->state_dir_fd, captures_file_name(c->id, ending, name),
				  captures_file_name(c->id, "new", new_name), text, strlen(text),
				  do_sync);
	free(text);
	if (rc == 0) {
		c->saved = c->last;
		if (c->is_unsaved)
			log_info("Capture %s: its state is on disk again.", c->id);
	} else if (!c->is_unsaved) {
		log_error(
			"Capture %s: its state cannot be written to %s: %s.  The capture goes on, but a "
			"crash now would lose what changed; it is tried again every second.",
			c->id, m->config->control.state_dir, strerror(-rc));
	}
	c->is_unsaved = rc != 0;
	return rc;
}

int captures_save(struct captures *m, struct capture *c)
{
	int rc = save_as(m, c, "capture", m->config->captures.sync_ms > 0);
	char name[FILE_NAME_BYTES];

	if (rc == 0)
		c->synced_ns = captures_clock_ns();
	if (rc == 0 && !capture_is_running(c))
		(void)unlinkat(m->state_dir_fd, captures_file_name(c->id, "tally", name), 0);
	return rc;
}

/* The data goes next: without a file that says so nobody must believe that it is there. */
void captures_save_finished(struct captures *m, struct capture *c)
{
	char name[FILE_NAME_BYTES];

	if (captures_save(m, c) != 0)
		(void)unlinkat(m->state_dir_fd, captures_file_name(c->id, "capture", name), 0);
}

void captures_save_often(struct captures *m)
{
	for (struct capture *c = m->list; c != NULL; c = c->next) {
		captures_read_tally(m, c);
		if (c->is_unsaved)
			(void)captures_save(m, c);
		else if (!capture_is_running(c) ||
			 memcmp(&c->saved, &c->last, sizeof(c->last)) == 0)
			continue;
		else if (captures_clock_ns() >= c->synced_ns + SYNCED_NS)
			(void)captures_save(m, c);
		else
			(void)save_as(m, c, "tally", false);
	}
}

void captures_unlink(struct captures *m, const struct capture *c)
{
	char name[FILE_NAME_BYTES];

	captures_drop_sas(m, c);
	(void)unlinkat(m->state_dir_fd, captures_file_name(c->id, "capture", name), 0);
	(void)unlinkat(m->state_dir_fd, captures_file_name(c->id, "tally", name), 0);
}

/* ---- the SAS URL ---- */

int captures_save_sas(struct captures *m, const struct capture *c)
{
	char name[FILE_NAME_BYTES], new_name[FILE_NAME_BYTES];

	return replace_file(m->state_dir_fd, captures_file_name(c->id, "sas", name),
			    captures_file_name(c->id, "new", new_name), c->sas_url,
			    strlen(c->sas_url), m->config->captures.sync_ms > 0);
}

void captures_load_sas(struct captures *m, struct capture *c)
{
	char name[FILE_NAME_BYTES];
	struct error err = {0};
	char *text;
	size_t n;

	text = captures_read_file(m->state_dir_fd, captures_file_name(c->id, "sas", name),
				  SAS_BYTES_MAX, &n, &err);
	if (text == NULL)
		return;
	if (n > 0 && strlen(text) == n)
		c->sas_url = secret_dup(text);
	OPENSSL_cleanse(text, n);
	free(text);
}

void captures_wipe_file(int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	static const char zeros[4096];
	struct stat st;

	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
		for (off_t at = 0; at < st.st_size && at < SAS_BYTES_MAX;
		     at += (off_t)sizeof(zeros))
			if (pwrite(fd, zeros, sizeof(zeros), at) < 0)
				break; // it goes all the same
		(void)fdatasync(fd);
		(void)unlinkat(dir_fd, name, 0);
	}
	(void)close(fd);
}

void captures_drop_sas(struct captures *m, const struct capture *c)
{
	char name[FILE_NAME_BYTES];

	captures_wipe_file(m->state_dir_fd, captures_file_name(c->id, "sas", name));
}

/* ---- the run ---- */

/* Of the kernel: new with each boot.  "-" where it cannot be read. */
static void read_boot(char out[BOOT_TEXT_BYTES])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, out, BOOT_TEXT_BYTES - 1) : 0;

	if (fd >= 0)
		(void)close(fd);
	out[n > 0 ? n : 0] = '\0';
	out[strcspn(out, "\n")] = '\0';
	if (out[0] == '\0')
		(void)strcpy(out, "-");
}

static void new_run(const char boot[BOOT_TEXT_BYTES], char out[RUN_TEXT_BYTES])
{
	unsigned char random[RUN_RANDOM_BYTES] = {0};
	size_t used = 0;

	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		abort(); // the kernel always has some, once it is up
	for (unsigned i = 0; i < RUN_RANDOM_BYTES; i++)
		used += (size_t)snprintf(out + used, RUN_TEXT_BYTES - used, "%02x", random[i]);
	(void)snprintf(out + used, RUN_TEXT_BYTES - used, " %s", boot);
}

/* Of this boot, and of the form that new_run() gives? */
static bool is_run(const char *text, size_t n, const char boot[BOOT_TEXT_BYTES])
{
	return n < RUN_TEXT_BYTES && strlen(text) == n && n > 2 * RUN_RANDOM_BYTES + 1 &&
	       strspn(text, "0123456789abcdef") == 2 * RUN_RANDOM_BYTES &&
	       text[2 * RUN_RANDOM_BYTES] == ' ' &&
	       strcmp(text + 2 * RUN_RANDOM_BYTES + 1, boot) == 0;
}

int captures_read_run(struct captures *m, struct error *err)
{
	char path[PATH_TEXT_MAX + 8], new_path[PATH_TEXT_MAX + 16], boot[BOOT_TEXT_BYTES];
	struct error ignored = {0};
	size_t n = 0;
	char *text;
	int rc = 0;

	(void)snprintf(path, sizeof(path), "%s.run", m->config->control.socket);
	(void)snprintf(new_path, sizeof(new_path), "%s.new", path);
	read_boot(boot);
	text = captures_read_file(AT_FDCWD, path, RUN_TEXT_BYTES, &n, &ignored);
	if (text != NULL && is_run(text, n, boot)) {
		memcpy(m->run, text, n + 1);
	} else {
		new_run(boot, m->run);
		rc = replace_file(AT_FDCWD, path, new_path, m->run, strlen(m->run), false);
		if (rc != 0)
			error_set(err, "The file %s cannot be written: %s.", path, strerror(-rc));
	}
	free(text);
	return rc;
}
