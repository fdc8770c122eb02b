/* file_watch.h - hear of it when a file becomes another one.
 *
 * Threads: the event loop.
 * Memory:  file_watch_open() gives.
 * Often:   changed() comes FILE_WATCH_DELAY_MS after the file was closed by a writer, renamed to, removed or
 *          given other permissions; and within three polls of any change that only stat() shows.
 * Proof:   tests/test_file_watch.c, tests/test_live_esp.py
 */
#ifndef GATECAP_CONTROL_FILE_WATCH_H
#define GATECAP_CONTROL_FILE_WATCH_H

enum { FILE_WATCH_DELAY_MS = 50, FILE_WATCH_POLL_MS = 1000 };

struct event_base;
struct file_watch;

/* path is absolute; the file need not be there, nor its folder.  Gives NULL when memory is short.
 * changed() is not called for what the file is now.
 */
struct file_watch *file_watch_open(struct event_base *base, const char *path, unsigned poll_ms,
				   void (*changed)(void *ctx), void *ctx);
void file_watch_close(struct file_watch *watch); // NULL: nothing

/* The file is read now: only what happens from here on is a change. */
void file_watch_note(struct file_watch *watch);

#endif
