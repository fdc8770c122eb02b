/* download.h - a file that appears under its name only when it is whole.
 *
 * Flow:    download_open() -> download_fetch() -> download_seal() -> download_place()
 * Threads: one.
 * Memory:  download_open() fills; download_end() is always due, and removes what was not placed.
 * File:    ".NAME.XXXXXX.part" in the folder of NAME, mode 0600.  Placing is one rename: without
 *          `force` it refuses to replace (also what came into being meanwhile), with it it replaces
 *          a regular file and nothing else.
 * Proof:   tests/test_cli.py
 */
#ifndef GATECAP_TOOLS_DOWNLOAD_H
#define GATECAP_TOOLS_DOWNLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "filters/error.h"

enum { MD5_TEXT_BYTES = 33 };

struct download {
	char *path, *folder, *part;
	bool has_force;
	int fd;
	uint64_t n_bytes;
	struct evp_md_ctx_st *md5;
};

/* Returns 0, or -errno with a sentence; nothing is left then. */
int download_open(struct download *d, const char *path, bool has_force, struct error *err);

struct client;

/* GET `path` into it.  0 when all bytes are there; else -errno with a sentence (-ENODATA: the
 * daemon refused, and the sentence is its own).
 */
int download_fetch(struct download *d, struct client *client, const char *path,
		   void (*progress)(void *ctx, uint64_t got, uint64_t total), void *ctx,
		   struct error *err);

/* Append; 0 or -errno. */
int download_write(struct download *d, const void *data, size_t len);

/* All is there: bring it to the disk and give its MD5, lower-case hex. */
int download_seal(struct download *d, char md5[MD5_TEXT_BYTES], struct error *err);

/* Give it its name.  When that fails the part file stays, and the sentence names it. */
int download_place(struct download *d, struct error *err);

void download_end(struct download *d);

#endif
