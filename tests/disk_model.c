/* disk_model.c - see disk_model.h. */
#include "tests/disk_model.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { SIZES = 3 };

int __real_openat64(int dir_fd, const char *name, int flags, ...);
int __wrap_openat64(int dir_fd, const char *name, int flags, ...);
ssize_t __real_write(int fd, const void *buf, size_t n);
ssize_t __wrap_write(int fd, const void *buf, size_t n);
ssize_t __real_pwrite64(int fd, const void *buf, size_t n, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t n, off_t at);
int __real_posix_fallocate64(int fd, off_t at, off_t n);
int __wrap_posix_fallocate64(int fd, off_t at, off_t n);
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);
int __real_renameat(int from_fd, const char *from, int to_fd, const char *to);
int __wrap_renameat(int from_fd, const char *from, int to_fd, const char *to);
int __real_unlinkat(int fd, const char *name, int flags);
int __wrap_unlinkat(int fd, const char *name, int flags);
int __real_fstatfs64(int fd, struct statfs *fs);
int __wrap_fstatfs64(int fd, struct statfs *fs);

/* ---- recording ---- */

static struct disk_trace *tracing;

void disk_trace_start(struct disk_trace *trace, int folder_fd)
{
	*trace = (struct disk_trace){.folder_fd = folder_fd};
	tracing = trace;
}

void disk_trace_stop(void)
{
	tracing = NULL;
}

void disk_trace_fini(struct disk_trace *trace)
{
	for (size_t i = 0; i < trace->n_ops; i++)
		free(trace->ops[i].bytes);
	free(trace->ops);
}

static uint64_t inode_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

static bool is_folder(int fd)
{
	return tracing != NULL && inode_of(fd) == inode_of(tracing->folder_fd);
}

/* The newest file with this inode: a number is given again when its file is gone. */
static bool find_file(int fd, unsigned *file)
{
	uint64_t inode;

	if (tracing == NULL)
		return false;
	inode = inode_of(fd);
	for (*file = tracing->n_files; (*file)-- > 0;)
		if (tracing->inodes[*file] == inode)
			return true;
	return false;
}

static struct disk_op *add_op(enum disk_op_kind kind, unsigned file, const char *name)
{
	struct disk_trace *t = tracing;
	struct disk_op *op;

	if (t->n_ops == t->n_allocated) {
		t->n_allocated = t->n_allocated > 0 ? 2 * t->n_allocated : 256;
		t->ops = reallocarray(t->ops, t->n_allocated, sizeof(struct disk_op));
		if (t->ops == NULL)
			abort();
	}
	op = &t->ops[t->n_ops++];
	*op = (struct disk_op){.kind = kind, .file = file};
	(void)snprintf(op->name, sizeof(op->name), "%s", name);
	return op;
}

int __wrap_openat64(int dir_fd, const char *name, int flags, ...)
{
	va_list args;
	int mode = 0, fd;

	va_start(args, flags);
	if (flags & O_CREAT)
		mode = va_arg(args, int);
	va_end(args);
	fd = __real_openat64(dir_fd, name, flags, mode);
	if (fd >= 0 && (flags & O_CREAT) && dir_fd >= 0 && is_folder(dir_fd)) {
		if (tracing->n_files == DISK_FILES_MAX)
			abort();
		tracing->inodes[tracing->n_files] = inode_of(fd);
		(void)add_op(DISK_CREATE, tracing->n_files++, name);
	}
	return fd;
}

static void add_write(unsigned file, const void *buf, size_t n, uint64_t at)
{
	struct disk_op *op = add_op(DISK_WRITE, file, "");

	op->at = at;
	op->n = n;
	op->bytes = malloc(n);
	if (op->bytes == NULL)
		abort();
	memcpy(op->bytes, buf, n);
}

ssize_t __wrap_write(int fd, const void *buf, size_t n)
{
	unsigned file;

	if (n > 0 && find_file(fd, &file))
		add_write(file, buf, n, (uint64_t)lseek(fd, 0, SEEK_CUR));
	return __real_write(fd, buf, n);
}

ssize_t __wrap_pwrite64(int fd, const void *buf, size_t n, off_t at)
{
	unsigned file;

	if (n > 0 && find_file(fd, &file))
		add_write(file, buf, n, (uint64_t)at);
	return __real_pwrite64(fd, buf, n, at);
}

int __wrap_posix_fallocate64(int fd, off_t at, off_t n)
{
	unsigned file;

	if (find_file(fd, &file)) {
		struct disk_op *op = add_op(DISK_GROW, file, "");

		op->at = (uint64_t)at;
		op->n = (size_t)n;
		return ftruncate(fd, at + n) == 0 ? 0 : errno; // no room is needed here
	}
	return __real_posix_fallocate64(fd, at, n);
}

int __wrap_fsync(int fd)
{
	unsigned file;

	if (is_folder(fd))
		(void)add_op(DISK_SYNC_FOLDER, 0, "");
	else if (find_file(fd, &file))
		(void)add_op(DISK_SYNC, file, "");
	return 0;
}

int __wrap_fdatasync(int fd)
{
	return __wrap_fsync(fd);
}

/* No file is in memory: all that is written comes through here. */
int __wrap_fstatfs64(int fd, struct statfs *fs)
{
	int rc = __real_fstatfs64(fd, fs);

	fs->f_type = 0;
	return rc;
}

/* The file of a name of the folder. */
static bool find_name(const char *name, unsigned *file)
{
	int fd = __real_openat64(tracing->folder_fd, name, O_PATH | O_NOFOLLOW);
	bool is_found = fd >= 0 && find_file(fd, file);

	if (fd >= 0)
		(void)close(fd);
	return is_found;
}

int __wrap_renameat(int from_fd, const char *from, int to_fd, const char *to)
{
	unsigned file = 0;
	bool is_ours = is_folder(to_fd) && find_name(from, &file);
	int rc = __real_renameat(from_fd, from, to_fd, to);

	if (rc == 0 && is_ours) {
		struct disk_op *op = add_op(DISK_RENAME, file, from);

		(void)snprintf(op->to, sizeof(op->to), "%s", to);
	}
	return rc;
}

int __wrap_unlinkat(int fd, const char *name, int flags)
{
	unsigned file = 0;
	bool is_ours = is_folder(fd) && find_name(name, &file);
	int rc = __real_unlinkat(fd, name, flags);

	if (rc == 0 && is_ours)
		(void)add_op(DISK_REMOVE, file, name);
	return rc;
}

/* ---- what a crash leaves open ---- */

enum choice_kind { CHOICE_UNIT, CHOICE_SIZE, CHOICE_ENTRY };

struct choice {
	enum choice_kind kind;
	unsigned file, n_versions;
	uint64_t unit;	       // CHOICE_UNIT
	uint64_t sizes[SIZES]; // CHOICE_SIZE
	size_t op;	       // CHOICE_ENTRY
};

struct content {
	size_t first;	     // op behind the last sync
	uint64_t size, room; // as synced; the greatest ever
	bool is_reachable;
};

struct disk_crash {
	const struct disk_trace *trace;
	size_t n, folder_first; // op behind the folder's last sync
	uint32_t unit_bytes;
	struct content files[DISK_FILES_MAX];
	struct choice choices[DISK_CHOICES_MAX];
	unsigned n_choices;
};

static struct choice *add_choice(struct disk_crash *c, enum choice_kind kind, unsigned file,
				 unsigned n_versions)
{
	struct choice *choice = &c->choices[c->n_choices++];

	if (c->n_choices == DISK_CHOICES_MAX || n_versions > UINT8_MAX)
		abort(); // a run with more between two syncs than this is for
	*choice = (struct choice){.kind = kind, .file = file, .n_versions = n_versions};
	return choice;
}

static bool is_of(const struct disk_op *op, enum disk_op_kind kind, unsigned file)
{
	return op->kind == kind && op->file == file;
}

static uint64_t grown(uint64_t size, const struct disk_op *op)
{
	bool grows = op->kind == DISK_WRITE || op->kind == DISK_GROW;

	return grows && op->at + op->n > size ? op->at + op->n : size;
}

static bool touches(const struct disk_op *op, uint64_t from, uint64_t to)
{
	return op->kind == DISK_WRITE && op->at < to && op->at + op->n > from;
}

/* Put the part of a write that lies in [from, to) in its place. */
static void apply(const struct disk_op *op, uint64_t from, uint64_t to, uint8_t *bytes)
{
	if (op->at > from)
		from = op->at;
	if (op->at + op->n < to)
		to = op->at + op->n;
	memcpy(bytes + from, op->bytes + (from - op->at), to - from);
}

static void add_units(struct disk_crash *c, unsigned file)
{
	const struct content *f = &c->files[file];

	for (uint64_t unit = 0; unit * c->unit_bytes < f->room; unit++) {
		uint64_t from = unit * c->unit_bytes;
		unsigned n = 0;

		for (size_t i = f->first; i < c->n; i++)
			n += c->trace->ops[i].file == file &&
			     touches(&c->trace->ops[i], from, from + c->unit_bytes);
		if (n > 0)
			add_choice(c, CHOICE_UNIT, file, n + 1)->unit = unit;
	}
}

static void read_file(struct disk_crash *c, unsigned file)
{
	const struct disk_op *ops = c->trace->ops;
	struct content *f = &c->files[file];

	for (size_t i = 0; i < c->n; i++) {
		if (ops[i].file == file)
			f->room = grown(f->room, &ops[i]);
		if (is_of(&ops[i], DISK_SYNC, file)) {
			f->first = i + 1;
			f->size = f->room;
		}
	}
	if (!f->is_reachable)
		return;
	add_units(c, file);
	if (f->room != f->size) {
		struct choice *choice = add_choice(c, CHOICE_SIZE, file, SIZES);

		choice->sizes[0] = f->size;
		choice->sizes[1] = (f->size + f->room) / 2;
		choice->sizes[2] = f->room;
	}
}

/* ---- the folder's entries ---- */

struct entries {
	struct {
		char name[DISK_NAME_BYTES];
		unsigned file;
	} list[DISK_FILES_MAX];
	unsigned n;
};

static void forget(struct entries *e, const char *name)
{
	for (unsigned i = 0; i < e->n; i++)
		if (strcmp(e->list[i].name, name) == 0)
			e->list[i--] = e->list[--e->n];
}

static void enter(struct entries *e, const char *name, unsigned file)
{
	forget(e, name);
	(void)snprintf(e->list[e->n].name, DISK_NAME_BYTES, "%s", name);
	e->list[e->n++].file = file;
}

static bool is_entry_op(const struct disk_op *op)
{
	return op->kind == DISK_CREATE || op->kind == DISK_RENAME || op->kind == DISK_REMOVE;
}

static void apply_entry(struct entries *e, const struct disk_op *op)
{
	if (op->kind == DISK_CREATE) {
		enter(e, op->name, op->file);
	} else if (op->kind == DISK_RENAME) {
		forget(e, op->name);
		enter(e, op->to, op->file);
	} else if (op->kind == DISK_REMOVE) {
		forget(e, op->name);
	}
}

static void read_entries(struct disk_crash *c)
{
	const struct disk_op *ops = c->trace->ops;
	struct entries durable = {0};

	for (size_t i = 0; i < c->n; i++)
		if (ops[i].kind == DISK_SYNC_FOLDER)
			c->folder_first = i + 1;
	for (size_t i = 0; i < c->folder_first; i++)
		apply_entry(&durable, &ops[i]);
	for (unsigned i = 0; i < durable.n; i++)
		c->files[durable.list[i].file].is_reachable = true;
	for (size_t i = c->folder_first; i < c->n; i++) {
		if (!is_entry_op(&ops[i]))
			continue;
		if (ops[i].kind != DISK_REMOVE)
			c->files[ops[i].file].is_reachable = true;
		add_choice(c, CHOICE_ENTRY, ops[i].file, 2)->op = i;
	}
}

struct disk_crash *disk_crash_open(const struct disk_trace *trace, size_t n, uint32_t unit_bytes)
{
	struct disk_crash *c = calloc(1, sizeof(*c));

	if (c == NULL)
		abort();
	c->trace = trace;
	c->n = n;
	c->unit_bytes = unit_bytes;
	read_entries(c);
	for (unsigned file = 0; file < trace->n_files; file++)
		read_file(c, file);
	return c;
}

void disk_crash_close(struct disk_crash *c)
{
	free(c);
}

/* ---- images ---- */

uint64_t disk_crash_images(const struct disk_crash *c)
{
	uint64_t n = 1;

	for (unsigned i = 0; i < c->n_choices; i++)
		if (__builtin_mul_overflow(n, c->choices[i].n_versions, &n))
			return UINT64_MAX;
	return n;
}

bool disk_image_next(const struct disk_crash *c, struct disk_image *image)
{
	for (unsigned i = 0; i < c->n_choices; i++) {
		if (++image->versions[i] < c->choices[i].n_versions)
			return true;
		image->versions[i] = 0;
	}
	return false;
}

void disk_image_any(const struct disk_crash *c, struct dice *dice, struct disk_image *image)
{
	unsigned mode = dice_below(dice, 8);

	for (unsigned i = 0; i < c->n_choices; i++) {
		unsigned newest = c->choices[i].n_versions - 1;

		image->versions[i] = (uint8_t)dice_below(dice, newest + 1);
		if (mode < 2 || (mode < 6 && !dice_one_in(dice, 4)))
			image->versions[i] = (uint8_t)(mode % 2 == 0 ? newest : 0);
	}
}

/* A file's unit as its first `version` writes since the sync left it. */
static void choose_unit(const struct disk_crash *c, const struct choice *choice, unsigned version,
			uint8_t *bytes)
{
	uint64_t from = choice->unit * c->unit_bytes, to = from + c->unit_bytes;
	const struct content *f = &c->files[choice->file];

	if (to > f->room)
		to = f->room;
	for (size_t i = f->first; i < c->n && version > 0; i++) {
		const struct disk_op *op = &c->trace->ops[i];

		if (op->file == choice->file && touches(op, from, to)) {
			apply(op, from, to, bytes);
			version--;
		}
	}
}

/* The pages that somebody wrote to; the others are holes. */
static void write_pages(const struct disk_crash *c, unsigned file, const uint8_t *bytes, int fd)
{
	for (size_t i = 0; i < c->n; i++) {
		const struct disk_op *op = &c->trace->ops[i];
		uint64_t n = op->n;

		if (is_of(op, DISK_WRITE, file) &&
		    __real_pwrite64(fd, bytes + op->at, n, (off_t)op->at) != (ssize_t)n)
			abort();
	}
}

static void lay_out_file(const struct disk_crash *c, const struct disk_image *image, unsigned file,
			 int fd)
{
	const struct content *f = &c->files[file];
	uint8_t *bytes = calloc(1, f->room + 1);
	uint64_t size = f->room;

	if (bytes == NULL)
		abort();
	for (size_t i = 0; i < f->first; i++)
		if (is_of(&c->trace->ops[i], DISK_WRITE, file))
			apply(&c->trace->ops[i], 0, f->room, bytes);
	for (unsigned i = 0; i < c->n_choices; i++) {
		const struct choice *choice = &c->choices[i];

		if (choice->file == file && choice->kind == CHOICE_UNIT)
			choose_unit(c, choice, image->versions[i], bytes);
		if (choice->file == file && choice->kind == CHOICE_SIZE)
			size = choice->sizes[image->versions[i]];
	}
	write_pages(c, file, bytes, fd);
	if (ftruncate(fd, (off_t)size) != 0)
		abort();
	free(bytes);
}

void disk_image_lay_out(const struct disk_crash *c, const struct disk_image *image, int folder_fd)
{
	const struct disk_op *ops = c->trace->ops;
	struct entries entries = {0};

	disk_empty(folder_fd);
	for (size_t i = 0; i < c->folder_first; i++)
		apply_entry(&entries, &ops[i]);
	for (unsigned i = 0; i < c->n_choices; i++)
		if (c->choices[i].kind == CHOICE_ENTRY && image->versions[i] == 1)
			apply_entry(&entries, &ops[c->choices[i].op]);
	for (unsigned i = 0; i < entries.n; i++) {
		int fd = __real_openat64(folder_fd, entries.list[i].name,
					 O_WRONLY | O_CREAT | O_TRUNC, 0600);

		if (fd < 0)
			abort();
		lay_out_file(c, image, entries.list[i].file, fd);
		(void)close(fd);
	}
}

void disk_trial_crash(struct disk_trial *t, size_t n, uint32_t unit_bytes)
{
	struct disk_crash *crash = disk_crash_open(t->trace, n, unit_bytes);
	unsigned times = getenv("GATECAP_EVERY") != NULL ? DISK_EVERY_TIMES : 1;
	bool is_whole = disk_crash_images(crash) <= times * t->all_max, is_more = true;
	struct disk_image image = {0};

	for (unsigned i = 0; is_whole ? is_more : i < times * t->n_some; i++) {
		if (!is_whole)
			disk_image_any(crash, t->dice, &image);
		disk_image_lay_out(crash, &image, t->folder_fd);
		t->look(t->ctx, n);
		t->n_images++;
		is_more = disk_image_next(crash, &image);
	}
	t->n_crashes++;
	t->n_whole += is_whole;
	disk_crash_close(crash);
}

void disk_trial_print(const struct disk_trial *t)
{
	(void)printf(
		"%u images of %u moments at which the power was lost, of %u of them every one\n",
		t->n_images, t->n_crashes, t->n_whole);
}

const char *disk_scratch(void)
{
	return access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : P_tmpdir;
}

void disk_empty(int folder_fd)
{
	int fd = dup(folder_fd);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *entry;

	if (dir == NULL)
		abort();
	rewinddir(dir);
	while ((entry = readdir(dir)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
		    __real_unlinkat(folder_fd, entry->d_name, 0) != 0 && errno == EISDIR)
			(void)__real_unlinkat(folder_fd, entry->d_name, AT_REMOVEDIR);
	(void)closedir(dir);
}
