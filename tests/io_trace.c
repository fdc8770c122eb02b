/* io_trace.c - see io_trace.h. */
#include "tests/io_trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

ssize_t __real_pwrite64(int fd, const void *buf, size_t n, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t n, off_t at);
int __real_fstatfs64(int fd, struct statfs *fs);
int __wrap_fstatfs64(int fd, struct statfs *fs);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

static struct io_trace *tracing;
static struct {
	enum io_fault kind;
	int errno_;
	unsigned one_in; // 0: no faults
	struct dice *dice;
	bool was_short;
} fault;

void io_trace_start(struct io_trace *trace, const uint64_t inodes[IO_FILES_MAX])
{
	*trace = (struct io_trace){0};
	memcpy(trace->inodes, inodes, sizeof(trace->inodes));
	tracing = trace;
}

void io_trace_stop(void)
{
	tracing = NULL;
}

void io_trace_fini(struct io_trace *trace)
{
	for (size_t i = 0; i < trace->n_ops; i++)
		free(trace->ops[i].bytes);
	free(trace->ops);
}

void io_trace_fail(enum io_fault kind, int errno_, unsigned one_in, struct dice *dice)
{
	fault.kind = kind;
	fault.errno_ = errno_;
	fault.one_in = one_in;
	fault.dice = dice;
	fault.was_short = false;
}

/* A new op for the file that fd is of, or NULL when nobody traces it. */
static struct io_op *new_op(int fd)
{
	struct stat st;
	unsigned file = 0;

	if (tracing == NULL || fstat(fd, &st) != 0)
		return NULL;
	while (file < IO_FILES_MAX && tracing->inodes[file] != st.st_ino)
		file++;
	if (file == IO_FILES_MAX)
		return NULL;
	if (tracing->n_ops == tracing->n_allocated) {
		tracing->n_allocated = tracing->n_allocated > 0 ? 2 * tracing->n_allocated : 256;
		tracing->ops =
			reallocarray(tracing->ops, tracing->n_allocated, sizeof(struct io_op));
		if (tracing->ops == NULL)
			abort();
	}
	tracing->ops[tracing->n_ops] = (struct io_op){.file = file};
	return &tracing->ops[tracing->n_ops++];
}

static bool is_failing(void)
{
	return fault.one_in > 0 && dice_one_in(fault.dice, fault.one_in);
}

ssize_t __wrap_pwrite64(int fd, const void *buf, size_t n, off_t at)
{
	struct io_op *op;

	if (fault.was_short || is_failing()) {
		if (fault.kind == IO_ERRNO) {
			errno = fault.errno_;
			return -1;
		}
		// Less than half, then nothing any more: as a disk that becomes full.
		n = fault.was_short ? 0 : dice_below(fault.dice, (uint32_t)n / 2 + 1);
		fault.was_short = !fault.was_short;
	}
	op = new_op(fd);
	if (op != NULL && n > 0) {
		op->at = at;
		op->n = n;
		op->bytes = malloc(n);
		if (op->bytes == NULL)
			abort();
		memcpy(op->bytes, buf, n);
	}
	return n > 0 ? __real_pwrite64(fd, buf, n, at) : 0;
}

/* No file is in memory: all that is written comes through here. */
int __wrap_fstatfs64(int fd, struct statfs *fs)
{
	int rc = __real_fstatfs64(fd, fs);

	fs->f_type = 0;
	return rc;
}

int __wrap_fdatasync(int fd)
{
	struct io_op *op;

	if (is_failing() && fault.kind == IO_ERRNO) {
		errno = fault.errno_;
		return -1;
	}
	op = new_op(fd);
	if (op != NULL)
		op->is_sync = true;
	return 0; // the disk is a model here: nothing to wait for
}

static void write_part(const struct io_op *op, size_t from, size_t n, uint8_t *image, size_t bytes)
{
	if ((size_t)op->at + from + n > bytes)
		abort(); // a write behind the end of what was reserved
	memcpy(image + op->at + from, op->bytes + from, n);
}

void io_trace_after_death(const struct io_trace *trace, unsigned file, size_t n, size_t part_bytes,
			  const uint8_t *base, uint8_t *image, size_t bytes)
{
	memcpy(image, base, bytes);
	for (size_t i = 0; i <= n && i < trace->n_ops; i++) {
		const struct io_op *op = &trace->ops[i];
		size_t done = i < n || part_bytes > op->n ? op->n : part_bytes;

		if (op->file == file && !op->is_sync && (i < n || part_bytes > 0))
			write_part(op, 0, done, image, bytes);
	}
}

void io_trace_after_power_loss(const struct io_trace *trace, unsigned file, size_t n,
			       struct dice *dice, const uint8_t *base, uint8_t *image, size_t bytes)
{
	unsigned mode = dice_below(dice, 8); // all, none, or one in so many of what was not synced
	size_t synced = 0;

	memcpy(image, base, bytes);
	for (size_t i = 0; i < n; i++)
		if (trace->ops[i].file == file && trace->ops[i].is_sync)
			synced = i;
	for (size_t i = 0; i < n; i++) {
		const struct io_op *op = &trace->ops[i];

		for (size_t from = 0; op->file == file && from < op->n;) {
			size_t in_block = (size_t)(op->at + (off_t)from) % IO_BLOCK_BYTES;
			size_t part = IO_BLOCK_BYTES - in_block;

			if (part > op->n - from)
				part = op->n - from;
			if (i < synced || mode == 0 || (mode > 1 && dice_one_in(dice, mode)))
				write_part(op, from, part, image, bytes);
			from += part;
		}
	}
}
