/* frames.h - the frames of a capture file in order of time.
 *
 * Files are mostly in order; one that is not is read into memory and sorted, stably, as reordercap does.
 * A first pass finds out.  Standard input cannot be read twice and is always held in memory.
 * Threads: one owner.  Memory: a frame's bytes are valid until the next call.
 */
#ifndef GATECAP_TOOLS_FRAMES_H
#define GATECAP_TOOLS_FRAMES_H

#include <stdint.h>

#include "dataplane/capture_file.h"
#include "filters/error.h"

struct frames;

/* Gives a reader, or NULL and a sentence. */
struct frames *frames_open(const char *path, struct error *err);
void frames_close(struct frames *frames);

/* The frame that comes next, without taking it; NULL at the end. */
const struct file_frame *frames_peek(const struct frames *frames);
void frames_take(struct frames *frames);

/* Frames that were older than one before them: the input was sorted if there are any. */
uint64_t frames_disordered(const struct frames *frames);

/* Why the file ended early ("" when it did not): the frames before that are all given. */
const char *frames_fault(const struct frames *frames);

#endif
