/* disk_model.h - every step of a run in one folder, and the folders that a power loss may leave of it.
 *
 * How:     the test is linked with DISK_MODEL_WRAPS of tests/meson.build; between disk_trace_start() and
 *          disk_trace_stop() what is asked of files of the folder is remembered, and done.  Syncs are only
 *          remembered: the disk is a model here, there is nothing to wait for.
 * Threads: one.
 * Model:   what no completed fsync or fdatasync of a file covers is there or not, each unit of the disk for
 *          itself, and of a unit that was written several times any of its states; the size may be the one
 *          of the last sync, the new one, or between.  Entries that are made, renamed and removed are there
 *          or not, each for itself, until the folder is synced; a rename is done or not done.
 * Images:  a crash has choices, each of which has versions, 0 the oldest: an image is a version of each.
 */
#ifndef GATECAP_TESTS_DISK_MODEL_H
#define GATECAP_TESTS_DISK_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/dice.h"

enum { DISK_FILES_MAX = 64, DISK_CHOICES_MAX = 4096, DISK_NAME_BYTES = 64 };
enum { DISK_SECTOR_BYTES = 512, DISK_PAGE_BYTES = 4096, DISK_EVERY_TIMES = 32 };

enum disk_op_kind {
	DISK_CREATE,
	DISK_WRITE,
	DISK_GROW,
	DISK_SYNC,
	DISK_RENAME,
	DISK_REMOVE,
	DISK_SYNC_FOLDER,
};

struct disk_op {
	enum disk_op_kind kind;
	unsigned file; // serial number of its inode, by creation
	char name[DISK_NAME_BYTES], to[DISK_NAME_BYTES];
	uint64_t at;
	size_t n; // of a write; DISK_GROW: at + n is the least size
	uint8_t *bytes;
};

struct disk_trace {
	int folder_fd;
	uint64_t inodes[DISK_FILES_MAX];
	unsigned n_files;
	struct disk_op *ops;
	size_t n_ops, n_allocated;
};

/* Of an empty folder; the descriptor is borrowed. */
void disk_trace_start(struct disk_trace *trace, int folder_fd);
void disk_trace_stop(void);
void disk_trace_fini(struct disk_trace *trace);

/* The power is lost after n ops. */
struct disk_crash;

/* Borrows the trace. */
struct disk_crash *disk_crash_open(const struct disk_trace *trace, size_t n, uint32_t unit_bytes);
void disk_crash_close(struct disk_crash *crash);

/* How many images there are; UINT64_MAX: more than a number can say. */
uint64_t disk_crash_images(const struct disk_crash *crash);

/* One version of each choice. */
struct disk_image {
	uint8_t versions[DISK_CHOICES_MAX];
};

/* The next image in order, from all zeros on; false: it was the last. */
bool disk_image_next(const struct disk_crash *crash, struct disk_image *image);

/* Any; all old, all new and few of either more often than chance would give. */
void disk_image_any(const struct disk_crash *crash, struct dice *dice, struct disk_image *image);

/* Make the folder that an image is; what was in it goes. */
void disk_image_lay_out(const struct disk_crash *crash, const struct disk_image *image,
			int folder_fd);

/* Crashes that are tried one after another in a folder. */
struct disk_trial {
	const struct disk_trace *trace;
	struct dice *dice;
	int folder_fd;
	uint64_t all_max; // with more images than that of one moment, n_some at random
	unsigned n_some;
	void (*look)(void *ctx, size_t n_ops); // the image is laid out
	void *ctx;
	unsigned n_images, n_crashes, n_whole; // so far; of so many crashes all images
};

/* The power is lost after n ops.  GATECAP_EVERY: many more images are tried. */
void disk_trial_crash(struct disk_trial *trial, size_t n, uint32_t unit_bytes);
void disk_trial_print(const struct disk_trial *trial);

/* Where images are made: in memory if there is such a folder, since each is a few files written and read once. */
const char *disk_scratch(void);

/* Remove the files of a folder. */
void disk_empty(int folder_fd);

#endif
