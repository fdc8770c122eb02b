/* file_watch.c - inotify on the folder, and stat() at each poll, once a second.
 *
 * On the folder, since editors and careful writers rename a new file over the old one, and a watch of the
 * file itself would stay with the old one.  What inotify does not tell (a symbolic link whose target is
 * another file, a network file system, a folder that may not be read) stat() shows; there a file must
 * look the same at two polls before it counts as written: a writer may be in the middle of it.
 * IN_MODIFY is not asked for: half a file is not worth reading.
 */
#include "control/file_watch.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EVENTS_BYTES = 4096 };

#define EVENTS_WATCHED (IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ATTRIB)
#define EVENTS_SELF    (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_Q_OVERFLOW)

/* What stat() says; all zero but for `error`: there is nothing to be seen. */
struct identity {
	uint64_t dev, ino, bytes;
	int64_t mtime_s, mtime_ns, ctime_s, ctime_ns;
	int64_t error;
};

struct file_watch {
	char *path, *folder;
	const char *name; // within path
	void (*changed)(void *ctx);
	void *ctx;
	int fd, wd; // of inotify; -1: none
	struct event *readable, *poll, *delay;
	struct identity noted, seen; // as it was read, and as the last poll saw it
};

static struct identity identify(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return (struct identity){.error = errno};
	return (struct identity){.dev = st.st_dev,
				 .ino = st.st_ino,
				 .bytes = (uint64_t)st.st_size,
				 .mtime_s = st.st_mtim.tv_sec,
				 .mtime_ns = st.st_mtim.tv_nsec,
				 .ctime_s = st.st_ctim.tv_sec,
				 .ctime_ns = st.st_ctim.tv_nsec};
}

static bool is_same(const struct identity *a, const struct identity *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static void watch_folder(struct file_watch *w)
{
	if (w->fd >= 0 && w->wd < 0)
		w->wd = inotify_add_watch(w->fd, w->folder, EVENTS_WATCHED | IN_ONLYDIR);
}

/* Not pushed back by further events: a file that is written all the time is read all the same. */
static void come_soon(struct file_watch *w)
{
	const struct timeval delay = {.tv_usec = FILE_WATCH_DELAY_MS * 1000};

	if (!event_pending(w->delay, EV_TIMEOUT, NULL))
		(void)event_add(w->delay, &delay);
}

static void on_delay(evutil_socket_t fd, short what, void *ctx)
{
	struct file_watch *w = ctx;

	(void)fd;
	(void)what;
	file_watch_note(w);
	w->changed(w->ctx);
}

static void take_event(struct file_watch *w, const struct inotify_event *event)
{
	if ((event->mask & EVENTS_SELF) != 0) {
		if (w->wd >= 0 && (event->mask & IN_IGNORED) == 0)
			(void)inotify_rm_watch(w->fd, w->wd); // a folder that was moved away
		w->wd = -1;				      // the next poll tries again
		come_soon(w);
	} else if (event->len > 0 && strcmp(event->name, w->name) == 0) {
		come_soon(w);
	}
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct file_watch *w = ctx;
	union {
		struct inotify_event first;
		char bytes[EVENTS_BYTES];
	} buf;
	ssize_t n = read(fd, &buf, sizeof(buf));

	(void)what;
	for (ssize_t at = 0; at + (ssize_t)sizeof(struct inotify_event) <= n;) {
		const struct inotify_event *event = (const void *)(buf.bytes + at);

		take_event(w, event);
		at += (ssize_t)(sizeof(*event) + event->len);
	}
}

static void on_poll(evutil_socket_t fd, short what, void *ctx)
{
	struct file_watch *w = ctx;
	struct identity now = identify(w->path);

	(void)fd;
	(void)what;
	watch_folder(w);
	if (!is_same(&now, &w->noted) && is_same(&now, &w->seen))
		come_soon(w);
	w->seen = now;
}

void file_watch_note(struct file_watch *w)
{
	w->noted = w->seen = identify(w->path);
}

/* Room and names; false: memory is short. */
static bool prepare(struct file_watch *w, struct event_base *base, const char *path,
		    unsigned poll_ms)
{
	const struct timeval poll = {.tv_sec = poll_ms / 1000, .tv_usec = poll_ms % 1000 * 1000};
	char *slash;

	w->path = strdup(path);
	w->folder = strdup(path);
	w->poll = event_new(base, -1, EV_PERSIST, on_poll, w);
	w->delay = event_new(base, -1, 0, on_delay, w);
	if (w->path == NULL || w->folder == NULL || w->poll == NULL || w->delay == NULL)
		return false;
	slash = strrchr(w->folder, '/');
	w->name = w->path + (slash - w->folder) + 1;
	slash[slash == w->folder] = '\0'; // "/" stays
	return event_add(w->poll, &poll) == 0;
}

struct file_watch *file_watch_open(struct event_base *base, const char *path, unsigned poll_ms,
				   void (*changed)(void *ctx), void *ctx)
{
	struct file_watch *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return NULL;
	*w = (struct file_watch){.changed = changed, .ctx = ctx, .fd = -1, .wd = -1};
	if (!prepare(w, base, path, poll_ms)) {
		file_watch_close(w);
		return NULL;
	}
	w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC); // without it the polls do
	if (w->fd >= 0) {
		w->readable = event_new(base, w->fd, EV_READ | EV_PERSIST, on_readable, w);
		if (w->readable == NULL || event_add(w->readable, NULL) != 0) {
			file_watch_close(w);
			return NULL;
		}
	}
	watch_folder(w);
	file_watch_note(w);
	return w;
}

static void event_gone(struct event *event)
{
	if (event != NULL)
		event_free(event);
}

void file_watch_close(struct file_watch *w)
{
	if (w == NULL)
		return;
	event_gone(w->readable);
	event_gone(w->poll);
	event_gone(w->delay);
	if (w->fd >= 0)
		(void)close(w->fd);
	free(w->path);
	free(w->folder);
	free(w);
}
