/* pipeline.c - see pipeline.h.
 *
 * The filter set is built, checked and compiled as it is on its way to the dataplane, so that what is
 * replayed or measured is what the appliance does.
 */
#include "tools/pipeline.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "control/set_build.h"

struct matcher *pipeline_matcher(const struct pipeline_settings *settings, struct error *err)
{
	struct set_source_capture captures[CAPTURES_MAX];
	const struct set_source source = {.config = settings->config,
					  .captures = captures,
					  .n_captures = settings->n_captures,
					  .generation = 1};
	struct matcher *matcher = NULL;
	struct filter_set set;
	size_t bytes;
	void *mem;

	for (unsigned slot = 0; slot < settings->n_captures; slot++)
		captures[slot] = (struct set_source_capture){.slot = slot,
							     .is_new = true,
							     .connection = settings->connection,
							     .data = &settings->data[slot]};
	mem = set_build(&source, &bytes);
	if (mem == NULL)
		error_set(err, "The filter set could not be built: out of memory.");
	else if (filter_set_check(mem, bytes, &set, err) == 0)
		matcher = matcher_open(&set, err);
	free(mem);
	return matcher;
}

static void *aligned_zeros(size_t align, size_t size)
{
	size_t rounded = (size + align - 1) / align * align;
	void *mem = aligned_alloc(align, rounded);

	return mem != NULL ? memset(mem, 0, rounded) : NULL;
}

static int open_ring(struct pipeline *p, bool has_huge_pages, struct ring_writer *writer,
		     struct ring_reader *reader)
{
	int fd = memfd_create("gatecap-ring", MFD_CLOEXEC | (has_huge_pages ? MFD_HUGETLB : 0));

	p->shared = aligned_zeros(SHARED_PAGE_BYTES, sizeof(*p->shared));
	p->tail = aligned_zeros(sizeof(*p->tail), sizeof(*p->tail));
	if (fd >= 0 && ftruncate(fd, (off_t)p->ring_bytes) == 0)
		p->ring_data = ring_map(fd, 0, p->ring_bytes, PROT_READ | PROT_WRITE);
	if (fd >= 0)
		(void)close(fd);
	if (p->shared == NULL || p->tail == NULL || p->ring_data == NULL)
		return -ENOMEM;
	ring_writer_init(writer, p->ring_data, p->ring_bytes, &p->shared->ring, p->tail);
	ring_reader_init(reader, p->ring_data, p->ring_bytes, &p->shared->ring, p->tail);
	return 0;
}

static int open_store(struct pipeline *p, const struct pipeline_settings *settings, unsigned slot,
		      int dir_fd, struct error *err)
{
	const struct filter_data *data = &settings->data[slot];
	char name[NAME_MAX_BYTES];
	const struct store_settings store = {
		.dir_fd = dir_fd,
		.name = name,
		.file_bytes_max = (uint64_t)data->file_mb * FILE_MB_BYTES,
		.snap_bytes = data->snap_bytes,
		.timestamps = settings->config->captures.timestamps,
		.reserve = settings->reserve,
		.is_durable = settings->reserve, // as captures are; replay needs no index
	};

	if (slot == 0)
		(void)snprintf(name, sizeof(name), "%s", settings->name);
	else
		(void)snprintf(name, sizeof(name), "%s.%u", settings->name, slot);
	p->stores[slot] = store_open(&store, err);
	return p->stores[slot] != NULL ? 0 : -EIO;
}

static int open_stores(struct pipeline *p, const struct pipeline_settings *settings,
		       struct error *err)
{
	int dir_fd, rc = 0;

	if (settings->dir == NULL)
		return 0;
	dir_fd = open(settings->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0) {
		rc = -errno;
		error_set(err, "The folder %s cannot be opened: %s.", settings->dir,
			  strerror(errno));
		return rc;
	}
	for (unsigned slot = 0; rc == 0 && slot < settings->n_captures; slot++)
		rc = open_store(p, settings, slot, dir_fd, err);
	(void)close(dir_fd);
	return rc;
}

int pipeline_open(struct pipeline *p, const struct pipeline_settings *settings, struct error *err)
{
	struct ring_writer writer;
	struct ring_reader reader;
	int rc;

	*p = (struct pipeline){.ring_bytes = settings->ring_bytes};
	rc = open_stores(p, settings, err);
	if (rc == 0) {
		p->matcher = pipeline_matcher(settings, err);
		rc = p->matcher != NULL ? 0 : -EINVAL;
	}
	if (rc != 0)
		goto failed;
	if (open_ring(p, settings->has_huge_pages, &writer, &reader) == 0) {
		p->worker = worker_open(p->shared, &writer);
		p->merger = merge_open(&reader, 1, 1);
	}
	if (p->worker == NULL || p->merger == NULL) {
		error_set(err, "The capture could not be set up: out of memory%s.",
			  settings->has_huge_pages ? ", or of huge pages" : "");
		rc = -ENOMEM;
		goto failed;
	}
	if (settings->has_inner_port)
		worker_has_inner_port(p->worker);
	worker_publish_sas(p->worker, settings->sas);
	worker_publish(p->worker, p->matcher);
	for (unsigned slot = 0; slot < settings->n_captures; slot++)
		merge_set_store(p->merger, slot, p->stores[slot], 1);
	return 0;
failed:
	pipeline_close(p);
	return rc;
}

void pipeline_close(struct pipeline *p)
{
	merge_close(p->merger);
	worker_close(p->worker);
	matcher_close(p->matcher);
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		store_close(p->stores[slot]);
	ring_unmap(p->ring_data, p->ring_bytes);
	free(p->shared);
	free(p->tail);
	*p = (struct pipeline){0};
}
