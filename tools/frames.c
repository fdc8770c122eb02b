/* frames.c - look once, then stream or sort.
 *
 * Why two passes: sorting always would hold every file in memory; sorting within a window would be
 * wrong for a file whose disorder is larger than the window.
 */
#include "tools/frames.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY_BYTES_MAX (UINT64_C(4) << 30)

/* A frame in memory; its bytes are at offset in the arena. */
struct kept {
	uint64_t time_ns, offset;
	uint32_t len, wire_len;
};

struct frames {
	struct capture_file *file; // NULL: all in memory, or at the end
	struct file_frame next;
	bool has_next;
	uint64_t n_disordered;
	struct error fault;

	struct kept *kept;
	uint64_t n_kept, n_allocated, at;
	uint8_t *arena;
	uint64_t arena_bytes, arena_allocated;
};

static int grow(struct frames *f, uint32_t len)
{
	uint64_t need = f->arena_bytes + len + CAPTURE_FILE_PAD_BYTES;

	if (need > f->arena_allocated) {
		uint64_t bytes = need + need / 2 + (1 << 20);
		uint8_t *grown = realloc(f->arena, bytes);

		if (grown == NULL || bytes > MEMORY_BYTES_MAX)
			return -ENOMEM;
		f->arena = grown;
		f->arena_allocated = bytes;
	}
	if (f->n_kept == f->n_allocated) {
		uint64_t n = f->n_allocated > 0 ? 2 * f->n_allocated : 1024;
		void *grown = reallocarray(f->kept, n, sizeof(*f->kept));

		if (grown == NULL)
			return -ENOMEM;
		f->kept = grown;
		f->n_allocated = n;
	}
	return 0;
}

static int by_time_then_place(const void *a, const void *b)
{
	const struct kept *x = a, *y = b;

	if (x->time_ns != y->time_ns)
		return x->time_ns < y->time_ns ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Read everything and sort it.  Empty frames still move the offset, so that places differ. */
static int keep_all(struct frames *f, struct capture_file *file, struct error *err)
{
	struct file_frame frame;
	uint64_t last_ns = 0;

	f->n_disordered = 0;
	while (capture_file_read(file, &frame, &f->fault) == 1) {
		if (grow(f, frame.len) != 0) {
			error_set(
				err,
				"The frames are out of order of time and too many to be sorted in "
				"memory: sort the file with reordercap first.");
			return -ENOMEM;
		}
		f->kept[f->n_kept++] = (struct kept){.time_ns = frame.time_ns,
						     .offset = f->arena_bytes,
						     .len = frame.len,
						     .wire_len = frame.wire_len};
		memcpy(f->arena + f->arena_bytes, frame.data, frame.len);
		f->arena_bytes += frame.len > 0 ? frame.len : 1;
		f->n_disordered += frame.time_ns < last_ns;
		last_ns = frame.time_ns > last_ns ? frame.time_ns : last_ns;
	}
	qsort(f->kept, f->n_kept, sizeof(*f->kept), by_time_then_place);
	return 0;
}

/* Count the frames that are older than one before them. */
static int count_disordered(const char *path, uint64_t *n, struct error *err)
{
	struct capture_file *file = capture_file_open(path, err);
	struct file_frame frame;
	struct error ignored = {0}; // the second pass comes to it again
	uint64_t last_ns = 0;

	if (file == NULL)
		return -EINVAL;
	*n = 0;
	while (capture_file_read(file, &frame, &ignored) == 1) {
		*n += frame.time_ns < last_ns;
		last_ns = frame.time_ns > last_ns ? frame.time_ns : last_ns;
	}
	capture_file_close(file);
	return 0;
}

static void advance(struct frames *f)
{
	if (f->kept != NULL || f->file == NULL) {
		f->has_next = f->at < f->n_kept;
		if (f->has_next) {
			const struct kept *kept = &f->kept[f->at++];

			f->next = (struct file_frame){.data = f->arena + kept->offset,
						      .len = kept->len,
						      .wire_len = kept->wire_len,
						      .time_ns = kept->time_ns};
		}
		return;
	}
	f->has_next = capture_file_read(f->file, &f->next, &f->fault) == 1;
}

struct frames *frames_open(const char *path, struct error *err)
{
	struct frames *f = calloc(1, sizeof(*f));
	bool is_stdin = strcmp(path, "-") == 0;

	if (f == NULL) {
		error_set(err, "The file %s could not be read: out of memory.", path);
		return NULL;
	}
	if (!is_stdin && count_disordered(path, &f->n_disordered, err) != 0)
		goto failed;
	f->file = capture_file_open(path, err);
	if (f->file == NULL)
		goto failed;
	if (is_stdin || f->n_disordered > 0) {
		int rc = keep_all(f, f->file, err);

		capture_file_close(f->file);
		f->file = NULL;
		if (rc != 0)
			goto failed;
	}
	advance(f);
	return f;
failed:
	frames_close(f);
	return NULL;
}

void frames_close(struct frames *f)
{
	if (f == NULL)
		return;
	if (f->file != NULL)
		capture_file_close(f->file);
	free(f->kept);
	free(f->arena);
	free(f);
}

const struct file_frame *frames_peek(const struct frames *f)
{
	return f->has_next ? &f->next : NULL;
}

void frames_take(struct frames *f)
{
	advance(f);
}

uint64_t frames_disordered(const struct frames *f)
{
	return f->n_disordered;
}

const char *frames_fault(const struct frames *f)
{
	return f->fault.text;
}
