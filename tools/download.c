/* download.c - write beside, then rename.
 *
 * O_EXCL on the final name was refused: a kill in mid-transfer would leave half a file under it.
 * renameat2(RENAME_NOREPLACE) is as exclusive, at the one moment that counts.
 */
#include "tools/download.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <openssl/evp.h>

#include "tools/client.h"

/* May the final name be used?  Asked before a capture is stopped for it. */
static int name_check(const char *path, bool has_force, struct error *err)
{
	struct stat stat_buf;

	if (lstat(path, &stat_buf) != 0)
		return 0; // what is wrong with the folder shows when the part file is made
	if (!S_ISREG(stat_buf.st_mode)) {
		error_set(err, "%s is there and is not a regular file; give another name.", path);
		return -EEXIST;
	}
	if (!has_force) {
		error_set(err, "%s is there already; give another name, or --force to replace it.",
			  path);
		return -EEXIST;
	}
	return 0;
}

static int part_open(struct download *d, struct error *err)
{
	const char *slash = strrchr(d->path, '/');
	const char *base = slash != NULL ? slash + 1 : d->path;
	int n_folder = slash != NULL ? (int)(slash - d->path) + 1 : 2;

	if (*base == '\0') {
		error_set(err, "%s is a folder; give the name of a file.", d->path);
		return -EISDIR;
	}
	if (asprintf(&d->folder, "%.*s", n_folder, slash != NULL ? d->path : "./") < 0)
		return -ENOMEM;
	if (asprintf(&d->part, "%s.%s.XXXXXX.part", d->folder, base) < 0) {
		d->part = NULL;
		return -ENOMEM;
	}
	d->fd = mkostemps(d->part, 5, O_CLOEXEC);
	if (d->fd >= 0)
		return 0;
	free(d->part);
	d->part = NULL;
	return -errno;
}

int download_open(struct download *d, const char *path, bool has_force, struct error *err)
{
	int rc = name_check(path, has_force, err);

	*d = (struct download){.fd = -1, .has_force = has_force};
	if (rc != 0)
		return rc;
	error_set(err, "%s", "");
	rc = -ENOMEM;
	d->path = strdup(path);
	d->md5 = EVP_MD_CTX_new();
	if (d->path != NULL && d->md5 != NULL && EVP_DigestInit_ex(d->md5, EVP_md5(), NULL) == 1)
		rc = part_open(d, err);
	if (rc != 0) {
		if (err->text[0] == '\0')
			error_set(err, "%s cannot be written: %s.", path, strerror(-rc));
		download_end(d);
	}
	return rc;
}

int download_write(struct download *d, const void *data, size_t len)
{
	const char *next = data;

	if (EVP_DigestUpdate(d->md5, data, len) != 1)
		return -EIO;
	d->n_bytes += len;
	while (len > 0) {
		ssize_t n = write(d->fd, next, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		next += n;
		len -= (size_t)n;
	}
	return 0;
}

/* What a stream needs: the file, and who watches. */
struct fetch {
	struct download *download;
	void (*progress)(void *ctx, uint64_t got, uint64_t total);
	void *ctx;
};

static int fetch_write(void *ctx, const void *data, size_t len)
{
	const struct fetch *fetch = ctx;

	return download_write(fetch->download, data, len);
}

static void fetch_progress(void *ctx, uint64_t got, uint64_t total)
{
	const struct fetch *fetch = ctx;

	fetch->progress(fetch->ctx, got, total);
}

int download_fetch(struct download *d, struct client *client, const char *path,
		   void (*progress)(void *ctx, uint64_t got, uint64_t total), void *ctx,
		   struct error *err)
{
	struct fetch fetch = {d, progress, ctx};
	struct sink sink = {fetch_write, fetch_progress, &fetch};
	struct answer answer = {0};
	int rc = client_stream(client, path, &sink, &answer, err);

	if (rc == 0 && answer.status != 200) {
		const cJSON *error = cJSON_GetObjectItemCaseSensitive(answer.json, "error");
		const cJSON *message = cJSON_GetObjectItemCaseSensitive(error, "message");

		error_set(err, "%s",
			  cJSON_IsString(message) ? message->valuestring
						  : "gatecapd did not send the file.");
		rc = -ENODATA;
	}
	answer_fini(&answer);
	return rc;
}

/* A name is on the disk when its folder is. */
static int folder_sync(const char *folder)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = 0;

	if (fd < 0)
		return -errno;
	if (fsync(fd) != 0 && errno != EINVAL && errno != EROFS) // some file systems cannot
		rc = -errno;
	(void)close(fd);
	return rc;
}

int download_seal(struct download *d, char md5[MD5_TEXT_BYTES], struct error *err)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	int rc = EVP_DigestFinal_ex(d->md5, digest, &n) == 1 ? 0 : -EIO;

	if (rc == 0 && fsync(d->fd) != 0)
		rc = -errno;
	if (rc == 0)
		rc = folder_sync(d->folder);
	if (rc != 0) {
		error_set(err, "%s cannot be written to the disk: %s.", d->path, strerror(-rc));
		return rc;
	}
	for (unsigned i = 0; i < n && 2 * i + 2 < MD5_TEXT_BYTES; i++)
		(void)snprintf(md5 + 2 * i, 3, "%02x", digest[i]);
	return 0;
}

static int name_give(const struct download *d)
{
	if (d->has_force)
		return rename(d->part, d->path) == 0 ? 0 : -errno;
	if (renameat2(AT_FDCWD, d->part, AT_FDCWD, d->path, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	// a file system without it: a hard link refuses as well
	if (link(d->part, d->path) != 0)
		return -errno;
	(void)unlink(d->part);
	return 0;
}

int download_place(struct download *d, struct error *err)
{
	int rc = name_give(d);

	if (rc != 0)
		error_set(err, "The file is complete but cannot be named %s (%s): it is in %s.",
			  d->path, strerror(-rc), d->part);
	free(d->part);
	d->part = NULL; // placed, or named to the user: not ours to remove
	if (rc == 0)
		(void)folder_sync(d->folder);
	return rc;
}

void download_end(struct download *d)
{
	if (d->part != NULL)
		(void)unlink(d->part);
	if (d->fd >= 0)
		(void)close(d->fd);
	EVP_MD_CTX_free(d->md5);
	free(d->part);
	free(d->folder);
	free(d->path);
	*d = (struct download){.fd = -1};
}
