/* classify_dump.c - print the class of every frame of a capture file, for oracle_classify.py.
 *
 * One line a frame, by frame number: `number class family protocol sport dport`.  The port is an
 * outer one, with the default endpoints.  Frames go through in bursts, as in a worker; segments that
 * are held get their line when the flow is decided, so all is kept and printed at the end.
 * Exit: 0; 1 when the file cannot be opened; 3 when it is broken further on (what was read is printed).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/capture_file.h"
#include "dataplane/classify.h"

struct row {
	struct headers h;
	uint8_t class_;
	bool held;
};

struct dump {
	struct row *rows; // rows[0] is frame 1
	size_t n, room;
	struct classifier *classifier;
	struct tally tally;
	uint64_t n_class[CLASS_COUNT];
	uint64_t latest_ns;
	struct pkt burst[BURST_MAX];
	uint8_t *frames[BURST_MAX];
	unsigned n_burst;
};

static void *need(void *memory)
{
	if (memory == NULL) {
		fprintf(stderr, "Out of memory.\n");
		exit(1);
	}
	return memory;
}

/* The frame's number, which lies before its bytes. */
static uint64_t row_of(const struct pkt *pkt)
{
	uint64_t row;

	memcpy(&row, pkt->data - sizeof(row), sizeof(row));
	return row;
}

/* A ticket is a frame number, so never 0. */
static uint64_t hold_wanted(void *ctx, const struct pkt *pkt)
{
	struct dump *dump = ctx;
	uint64_t ticket = row_of(pkt);

	dump->rows[ticket - 1].held = true;
	return ticket;
}

static void release(void *ctx, const struct held_segment *segment)
{
	struct dump *dump = ctx;

	dump->rows[segment->ticket - 1].class_ = CLASS_OVPN;
	dump->n_class[CLASS_OVPN]++;
	dump->tally.n_held--;
	dump->tally.verdicts[VERDICT_RECORDED]++;
}

static void drop(void *ctx, const struct held_segment *segment, enum verdict why)
{
	struct dump *dump = ctx;

	dump->rows[segment->ticket - 1].class_ = CLASS_OTHER;
	dump->n_class[CLASS_OTHER]++;
	dump->tally.n_held--;
	dump->tally.verdicts[why]++;
}

static void burst_run(struct dump *dump)
{
	unsigned n_on = classify_outer_burst(dump->classifier, dump->burst, dump->n_burst,
					     &dump->tally, dump->n_class);

	dump->tally.verdicts[VERDICT_NOT_MATCHED] += n_on;
	for (unsigned i = 0; i < dump->n_burst; i++) {
		struct row *row = &dump->rows[row_of(&dump->burst[i]) - 1];

		row->h = dump->burst[i].h;
		if (!row->held)
			row->class_ = dump->burst[i].class_;
	}
	for (unsigned i = 0; i < dump->n_burst; i++)
		free(dump->frames[i]);
	dump->n_burst = 0;
	classifier_age(dump->classifier, dump->latest_ns);
}

/* Files are not always in order; a worker's timeline is. */
static void frame_add(struct dump *dump, const struct file_frame *frame)
{
	uint64_t number = dump->n + 1;
	uint8_t *copy = need(malloc(sizeof(number) + frame->len + 1));

	if (dump->n == dump->room) {
		dump->room = dump->room * 2 + 1024;
		dump->rows = need(realloc(dump->rows, dump->room * sizeof(*dump->rows)));
	}
	dump->rows[dump->n++] = (struct row){0};
	if (frame->time_ns > dump->latest_ns)
		dump->latest_ns = frame->time_ns;
	memcpy(copy, &number, sizeof(number));
	memcpy(copy + sizeof(number), frame->data, frame->len);
	dump->frames[dump->n_burst] = copy;
	dump->burst[dump->n_burst++] = (struct pkt){
		.data = copy + sizeof(number),
		.len = frame->len,
		.wire_len = frame->wire_len,
		.time_ns = dump->latest_ns,
	};
	if (dump->n_burst == BURST_MAX)
		burst_run(dump);
}

static void print_rows(const struct dump *dump)
{
	static const char *const names[CLASS_COUNT] = {"OTHER", "ESP", "IKE", "OVPN", "INNER"};

	for (size_t i = 0; i < dump->n; i++) {
		const struct row *row = &dump->rows[i];

		printf("%zu %s %u %u %u %u\n", i + 1, names[row->class_], row->h.family,
		       row->h.protocol, row->h.sport, row->h.dport);
	}
}

/* Every frame has one verdict and one class, or this tool itself is wrong. */
static int books_balance(const struct dump *dump)
{
	uint64_t n_classes = 0;

	for (unsigned i = 0; i < CLASS_COUNT; i++)
		n_classes += dump->n_class[i];
	if (dump->tally.n_held == 0 && tally_total(&dump->tally) == dump->n && n_classes == dump->n)
		return 1;
	fprintf(stderr,
		"The books do not balance: %zu frames, %" PRIu64 " verdicts, %" PRIu64
		" classes.\n",
		dump->n, tally_total(&dump->tally), n_classes);
	return 0;
}

static int dump_file(struct dump *dump, const char *path)
{
	struct file_frame frame;
	struct error err = {0};
	struct capture_file *file = capture_file_open(path, &err);
	int rc;

	if (file == NULL) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	while ((rc = capture_file_read(file, &frame, &err)) == 1)
		frame_add(dump, &frame);
	capture_file_close(file);
	burst_run(dump);
	classifier_flush(dump->classifier);
	print_rows(dump);
	if (!books_balance(dump))
		return 2;
	if (rc < 0)
		fprintf(stderr, "%s\n", err.text);
	return rc < 0 ? 3 : 0;
}

int main(int argc, char **argv)
{
	static const struct ovpn_endpoint defaults[] = {
		{.port = 1194, .protocol = 17},
		{.port = 1194, .protocol = 6},
		{.port = 443, .protocol = 6, .shared = 1},
	};
	static struct dump dump;
	int rc;

	if (argc != 2) {
		fprintf(stderr, "Usage: classify_dump FILE.pcap\n");
		return 1;
	}
	dump.classifier = need(classifier_open(&(struct classify_hooks){
		.hold_wanted = hold_wanted, .release = release, .drop = drop, .ctx = &dump}));
	classifier_set_endpoints(dump.classifier, defaults, 3);
	rc = dump_file(&dump, argv[1]);
	classifier_close(dump.classifier);
	free(dump.rows);
	return rc;
}
