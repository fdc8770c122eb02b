/* pcap_source.c - load once, sort into queues, lend pointers.
 *
 * net_pcap was refused: it cuts times to microseconds, loses the original length and copies every
 * packet.  Here a burst costs a few ns a packet: pointer, two lengths and a time.
 */
#include "dataplane/pcap_source.h"

#include <assert.h>
#include <errno.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "dataplane/capture_file.h"
#include "dataplane/classify.h"

enum {
	LOOP_GAP_MIN_NS = 1000,
	FRAME_ALIGN_BYTES = 16,
	PREFETCH_AHEAD = 8,
};

struct frame {
	uint64_t offset_ns; // from the first frame of the loop
	const uint8_t *data;
	uint32_t len, wire_len;
};

/* Frames of one worker.  `frames`, `n` are set at open, the rest is the worker's. */
struct queue {
	alignas(128) const struct frame *frames;
	uint64_t n;
	uint64_t next;	       // frame to play
	uint64_t loop_base_ns; // what loops before this one took
	uint64_t n_loops;      // played
	_Atomic bool is_done;  // main reads it
};

struct pcap_source {
	uint8_t *bytes; // frames' data, mapped
	uint64_t mapped_bytes;
	struct frame *frames; // sorted by queue
	uint64_t n_frames;
	uint64_t period_ns; // from loop to loop
	unsigned n_queues, loops;
	bool is_fast;
	_Atomic uint64_t start_ns; // 0: not started
	struct queue queues[];
};

static_assert(sizeof(struct queue) % 128 == 0 && offsetof(struct pcap_source, queues) % 128 == 0,
	      "each queue's lines are one worker's");

/* What grows while the file is read. */
struct load {
	uint8_t *bytes;
	uint64_t used, mapped;
	struct frame *frames; // in the order of the file
	uint8_t *queue_of;
	uint64_t n, room;
	uint64_t first_ns;
};

/* FNV over one address; the sum of two is the same in both directions. */
static uint32_t hash_address(const uint8_t *address, unsigned n)
{
	uint32_t hash = 2166136261u;

	for (unsigned i = 0; i < n; i++)
		hash = (hash ^ address[i]) * 16777619u;
	return hash;
}

static uint8_t choose_queue(const uint8_t *data, uint32_t len, unsigned n_queues)
{
	struct headers h = {0};
	unsigned n;
	uint64_t sum;

	if (n_queues == 1)
		return 0;
	(void)headers_parse(data, len, &h); // a lying header behind the addresses changes nothing
	if (h.family == 0)
		return 0;
	n = h.family == 4 ? 4 : 16;
	sum = (uint64_t)hash_address(h.src, n) + hash_address(h.dst, n);
	return (uint8_t)((sum ^ sum >> 16) % n_queues);
}

static int grow(struct load *load)
{
	uint64_t room = load->room == 0 ? 4096 : 2 * load->room;
	struct frame *frames = realloc(load->frames, room * sizeof(*frames));
	uint8_t *queue_of;

	if (frames == NULL)
		return -ENOMEM;
	load->frames = frames;
	queue_of = realloc(load->queue_of, room);
	if (queue_of == NULL)
		return -ENOMEM;
	load->queue_of = queue_of;
	load->room = room;
	return 0;
}

/* Bytes that the frames and the table take together. */
static uint64_t load_bytes(const struct load *load)
{
	return load->used + load->n * (2 * sizeof(struct frame) + 1);
}

static int add_frame(struct load *load, const struct file_frame *in, unsigned n_queues)
{
	uint64_t last_ns = load->n > 0 ? load->frames[load->n - 1].offset_ns : 0;
	uint64_t offset_ns = 0;
	struct frame *frame;

	if (load->n == load->room && grow(load) != 0)
		return -ENOMEM;
	if (load->n == 0)
		load->first_ns = in->time_ns;
	if (in->time_ns > load->first_ns)
		offset_ns = in->time_ns - load->first_ns;
	frame = &load->frames[load->n];
	*frame = (struct frame){
		.offset_ns = offset_ns > last_ns ? offset_ns : last_ns,
		.data = load->bytes + load->used,
		.len = in->len,
		.wire_len = in->wire_len,
	};
	memcpy(load->bytes + load->used, in->data, in->len);
	load->queue_of[load->n++] = choose_queue(in->data, in->len, n_queues);
	load->used += (in->len + FRAME_ALIGN_BYTES - 1) & ~(uint64_t)(FRAME_ALIGN_BYTES - 1);
	return 0;
}

static int load_file(struct load *load, const char *path, unsigned n_queues, struct error *err)
{
	struct capture_file *file = capture_file_open(path, err);
	struct file_frame in;
	int rc;

	if (file == NULL)
		return -EINVAL;
	while ((rc = capture_file_read(file, &in, err)) == 1) {
		if (load_bytes(load) + in.len + 2 * CAPTURE_FILE_PAD_BYTES +
			    sizeof(struct frame) * 2 >
		    PCAP_SOURCE_BYTES_MAX) {
			error_set(
				err,
				"%s: the file needs more than 1 GiB of memory to be played; cut it, "
				"for example with editcap -c.",
				path);
			rc = -EFBIG;
			break;
		}
		rc = add_frame(load, &in, n_queues);
		if (rc != 0) {
			error_set(err, "%s: memory is short for frame %llu.", path,
				  (unsigned long long)load->n + 1);
			break;
		}
	}
	capture_file_close(file);
	if (rc == 0 && load->n == 0) {
		error_set(err, "%s: the file holds no frame, so there is nothing to play.", path);
		rc = -EINVAL;
	}
	return rc;
}

/* Give the frames of each queue a stretch of one table, in the order of the file. */
static int sort_into_queues(struct pcap_source *source, const struct load *load)
{
	uint64_t next = 0;

	source->frames = malloc(load->n * sizeof(*source->frames));
	if (source->frames == NULL)
		return -ENOMEM;
	source->n_frames = load->n;
	for (unsigned q = 0; q < source->n_queues; q++) {
		struct queue *queue = &source->queues[q];

		queue->frames = source->frames + next;
		for (uint64_t i = 0; i < load->n; i++)
			if (load->queue_of[i] == q)
				source->frames[next++] = load->frames[i];
		queue->n = (uint64_t)(source->frames + next - queue->frames);
	}
	assert(next == load->n);
	return 0;
}

static uint64_t loop_period(const struct load *load)
{
	uint64_t span = load->frames[load->n - 1].offset_ns;
	uint64_t gap = load->n > 1 ? span / (load->n - 1) : 0;

	return span + (gap > LOOP_GAP_MIN_NS ? gap : LOOP_GAP_MIN_NS);
}

static struct pcap_source *source_new(const struct pcap_source_options *options)
{
	size_t size = sizeof(struct pcap_source) + options->n_queues * sizeof(struct queue);
	struct pcap_source *source = aligned_alloc(alignof(struct queue), size);

	if (source == NULL)
		return NULL;
	memset(source, 0, size);
	source->n_queues = options->n_queues;
	source->loops = options->loops;
	source->is_fast = options->is_fast;
	return source;
}

struct pcap_source *pcap_source_open(const struct pcap_source_options *options, struct error *err)
{
	struct pcap_source *source = source_new(options);
	struct load load = {.mapped = PCAP_SOURCE_BYTES_MAX};

	/* Reserve the most, use what the file needs: pages that nobody touches cost nothing. */
	load.bytes = mmap(NULL, load.mapped, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (source == NULL || load.bytes == MAP_FAILED) {
		error_set(err, "%s: memory is short.", options->path);
		goto fail;
	}
	if (load_file(&load, options->path, options->n_queues, err) != 0)
		goto fail;
	if (sort_into_queues(source, &load) != 0) {
		error_set(err, "%s: memory is short.", options->path);
		goto fail;
	}
	source->bytes = load.bytes;
	source->mapped_bytes = load.mapped;
	source->period_ns = loop_period(&load);
	free(load.frames);
	free(load.queue_of);
	return source;

fail:
	free(load.frames);
	free(load.queue_of);
	if (load.bytes != MAP_FAILED)
		munmap(load.bytes, load.mapped);
	free(source);
	return NULL;
}

void pcap_source_close(struct pcap_source *source)
{
	if (source == NULL)
		return;
	munmap(source->bytes, source->mapped_bytes);
	free(source->frames);
	free(source);
}

void pcap_source_start(struct pcap_source *source, uint64_t start_ns)
{
	assert(start_ns != 0 && !pcap_source_is_started(source));
	atomic_store_explicit(&source->start_ns, start_ns, memory_order_relaxed);
}

bool pcap_source_is_started(const struct pcap_source *source)
{
	return atomic_load_explicit(&source->start_ns, memory_order_relaxed) != 0;
}

bool pcap_source_is_done(const struct pcap_source *source)
{
	for (unsigned q = 0; q < source->n_queues; q++) {
		// D2 pairs with D1 in queue_ended(): what was recorded before is published.
		if (!atomic_load_explicit(&source->queues[q].is_done, memory_order_acquire))
			return false;
	}
	return true;
}

uint64_t pcap_source_frames(const struct pcap_source *source)
{
	return source->n_frames;
}

/* True when nothing is left; goes on to the next loop as needed. */
static bool queue_ended(const struct pcap_source *source, struct queue *queue)
{
	if (queue->next < queue->n)
		return false;
	if (queue->n > 0 && (source->loops == 0 || queue->n_loops + 1 < source->loops)) {
		queue->n_loops++;
		queue->loop_base_ns += source->period_ns;
		queue->next = 0;
		return false;
	}
	return true;
}

unsigned pcap_source_burst(struct pcap_source *source, unsigned q, struct pkt *p, unsigned max,
			   uint64_t now_ns, uint64_t first_ns)
{
	uint64_t start_ns = atomic_load_explicit(&source->start_ns, memory_order_relaxed);
	struct queue *queue = &source->queues[q];
	unsigned n = 0;

	if (start_ns == 0)
		return 0;
	while (n < max && !queue_ended(source, queue)) {
		const struct frame *frame = &queue->frames[queue->next];
		uint64_t due_ns = start_ns + queue->loop_base_ns + frame->offset_ns;

		if (source->is_fast)
			due_ns = now_ns + n;
		else if (due_ns > now_ns)
			break;
		if (due_ns < first_ns)
			due_ns = first_ns + (source->is_fast ? n : 0);
		if (queue->next + PREFETCH_AHEAD < queue->n)
			__builtin_prefetch(frame[PREFETCH_AHEAD].data);
		p[n].data = frame->data;
		p[n].len = frame->len;
		p[n].wire_len = frame->wire_len;
		p[n].time_ns = due_ns;
		queue->next++;
		n++;
	}
	if (n == 0 && queue_ended(source, queue))
		// D1 pairs with D2 in pcap_source_is_done().
		atomic_store_explicit(&queue->is_done, true, memory_order_release);
	return n;
}
