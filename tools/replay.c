/* replay.c - one worker, one merger and one store, fed from files.
 *
 * Frames are taken in order of time from both files (outer first when equal), in bursts of one port as
 * a device would give them, so that the same code runs as in the appliance.  After each burst the ring
 * is merged; nothing runs at the same time, so nothing depends on chance.
 */
#include "tools/replay.h"

#include <cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/config.h"
#include "control/report.h"
#include "tools/frames.h"
#include "tools/pipeline.h"
#include "tools/text_file.h"

enum {
	RING_BYTES = 64 << 20, // what may wait behind a segment that is held
	ARENA_BYTES = 1 << 20,
	PORT_OUTER = 0,
	PORT_INNER = 1,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
};

struct options {
	const char *config, *connection, *filter_data, *inner, *report, *in, *out;
	bool json;
};

/* Everything that one replay owns. */
struct replay {
	struct config config;
	struct filter_data data;
	struct faults warnings;
	uint32_t connection; // or SET_GATEWAY_WIDE
	struct frames *inputs[2];
	struct pipeline pipeline;
	uint8_t arena[ARENA_BYTES];
};

static const char usage[] =
	"Usage: gatecap replay [OPTION]... IN OUT\n"
	"Write to OUT (PCAP) what a capture of the traffic in IN (pcap or pcapng) would have recorded.\n"
	"\n"
	"  --filter-data JSON|@FILE  the capture's filterData; default: all defaults\n"
	"  --config FILE             gateway and connections; default: one gateway that takes all as outer\n"
	"  --connection NAME         capture on this connection of the configuration\n"
	"  --inner FILE              traffic of the inner (plaintext) side, merged by time\n"
	"  --report FILE             write the report (JSON) there\n"
	"  --json                    print the report on standard output\n"
	"  --help                    print this\n"
	"\n"
	"IN and OUT may be - (standard input and output).\n"
	"Example: gatecap replay --filter-data '{\"TracingFlags\":3}' gateway.pcapng vpn.pcap\n";

static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{"config", required_argument, NULL, 'c'},
		{"connection", required_argument, NULL, 'n'},
		{"filter-data", required_argument, NULL, 'f'},
		{"inner", required_argument, NULL, 'i'},
		{"report", required_argument, NULL, 'r'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int c;

	optind = 1;
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'c':
			o->config = optarg;
			break;
		case 'n':
			o->connection = optarg;
			break;
		case 'f':
			o->filter_data = optarg;
			break;
		case 'i':
			o->inner = optarg;
			break;
		case 'r':
			o->report = optarg;
			break;
		case 'j':
			o->json = true;
			break;
		case 'h':
			(void)fputs(usage, stdout);
			return -1;
		default:
			(void)fputs("See gatecap replay --help.\n", stderr);
			return EXIT_USAGE;
		}
	}
	if (argc - optind != 2) {
		(void)fprintf(stderr,
			      "gatecap replay takes two files, IN and OUT, and got %d. "
			      "See gatecap replay --help.\n",
			      argc - optind);
		return EXIT_USAGE;
	}
	o->in = argv[optind];
	o->out = argv[optind + 1];
	return 0;
}

static void print_faults(const char *what, const struct faults *faults)
{
	char *text = faults_text(faults);

	(void)fprintf(stderr, "%s\n%s", what, text != NULL ? text : "");
	free(text);
}

static int load_config(struct replay *r, const struct options *o, struct error *err)
{
	struct faults faults = {0};
	int rc;

	r->connection = SET_GATEWAY_WIDE;
	rc = o->config != NULL ? config_load(o->config, &r->config, &faults)
			       : config_defaults(&r->config);
	if (rc != 0) {
		print_faults("The configuration is not valid:", &faults);
		error_set(err, "Nothing was replayed: mend the configuration first.");
		faults_fini(&faults);
		return rc;
	}
	if (r->config.gateway.vpn_type == VPN_POLICY_BASED) {
		error_set(err,
			  "The gateway %s is policy-based: captures need a route-based gateway.",
			  r->config.gateway.name);
		return -EINVAL;
	}
	if (o->connection == NULL)
		return 0;
	for (unsigned i = 0; i < r->config.n_connections; i++)
		if (strcmp(r->config.connections[i].name, o->connection) == 0)
			r->connection = i;
	if (r->connection != SET_GATEWAY_WIDE)
		return 0;
	error_set(err, "There is no connection named %s%s.", o->connection,
		  o->config != NULL ? " in the configuration"
				    : ": name the configuration with --config");
	return -EINVAL;
}

static int load_filter(struct replay *r, const struct options *o, struct error *err)
{
	struct filter_data_rules rules = {.filters_max =
						  r->config.captures.filters_per_capture_max};
	struct faults faults = {0};
	char *from_file = NULL;
	const char *text = o->filter_data;
	size_t len = text != NULL ? strlen(text) : 0;
	int rc;

	if (text != NULL && text[0] == '@') {
		from_file = text_file_read(text + 1, FILTER_DATA_BYTES_MAX + 1, &len, err);
		if (from_file == NULL)
			return -EINVAL;
		text = from_file;
	}
	rc = filter_data_parse(text, len, &rules, &r->data, &faults, &r->warnings);
	if (rc != 0) {
		print_faults("The filter data is not valid:", &faults);
		error_set(err, "Nothing was replayed: mend the filter data first.");
	}
	faults_fini(&faults);
	free(from_file);
	return rc;
}

/* One regular file under both names, or one name that is not there yet. */
static bool same_file(const char *a, const char *b)
{
	struct stat x, y;

	if (a == NULL || b == NULL || strcmp(a, "-") == 0 || strcmp(b, "-") == 0)
		return false;
	if (stat(a, &x) != 0 || stat(b, &y) != 0)
		return strcmp(a, b) == 0;
	return x.st_dev == y.st_dev && x.st_ino == y.st_ino && S_ISREG(x.st_mode);
}

/* What is read is never written over, and what is written is two files. */
static int check_files(const struct options *o, struct error *err)
{
	const struct {
		const char *what, *path, *written, *written_path;
	} pairs[] = {
		{"IN", o->in, "OUT", o->out},
		{"The inner file", o->inner, "OUT", o->out},
		{"IN", o->in, "the report", o->report},
		{"The inner file", o->inner, "the report", o->report},
		{"OUT", o->out, "the report", o->report},
	};

	for (unsigned i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		if (!same_file(pairs[i].path, pairs[i].written_path))
			continue;
		error_set(err, "%s and %s are the same file, %s: give %s another name.",
			  pairs[i].what, pairs[i].written, pairs[i].path, pairs[i].written);
		return -EINVAL;
	}
	return 0;
}

/* The folder of OUT, where room for OUT must be anyway; gives a malloc'ed path or NULL. */
static char *work_folder(const char *out)
{
	const char *slash = strrchr(out, '/');

	if (strcmp(out, "-") == 0 || strncmp(out, "/dev/", 5) == 0)
		return strdup(getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
	return slash == NULL ? strdup(".") : strndup(out, (size_t)(slash - out) + 1);
}

static int open_pipeline(struct replay *r, const struct options *o, struct error *err)
{
	char name[64], *dir = work_folder(o->out), *path = NULL;
	struct pipeline_settings settings = {.config = &r->config,
					     .data = &r->data,
					     .n_captures = 1,
					     .connection = r->connection,
					     .dir = dir,
					     .name = name,
					     .ring_bytes = RING_BYTES};
	int rc = -ENOMEM;

	(void)snprintf(name, sizeof(name), ".gatecap-replay-%d", (int)getpid());
	if (dir == NULL || asprintf(&path, "%s/%s", dir, name) < 0)
		error_set(err, "Nothing was replayed: out of memory.");
	else
		rc = pipeline_open(&r->pipeline, &settings, err);
	if (rc == 0)
		(void)unlink(path); // nobody else needs its name, and nothing is left by a kill
	free(path);
	free(dir);
	return rc;
}

static void merge_all(struct replay *r)
{
	while (merge_step(r->pipeline.merger, UINT64_MAX) > 0)
		merge_commit(r->pipeline.merger);
}

/* The input whose next frame is older; outer when equal; -1 at the end of both. */
static int next_input(const struct replay *r)
{
	const struct file_frame *outer = frames_peek(r->inputs[PORT_OUTER]);
	const struct file_frame *inner =
		r->inputs[PORT_INNER] != NULL ? frames_peek(r->inputs[PORT_INNER]) : NULL;

	if (outer == NULL && inner == NULL)
		return -1;
	if (outer == NULL)
		return PORT_INNER;
	return inner == NULL || outer->time_ns <= inner->time_ns ? PORT_OUTER : PORT_INNER;
}

/* Gather frames of one port, as long as they are next and fit; gives their number. */
static unsigned gather(struct replay *r, int port, struct pkt *p)
{
	uint32_t used = 0;
	unsigned n = 0;

	while (n < BURST_MAX && next_input(r) == port) {
		const struct file_frame *frame = frames_peek(r->inputs[port]);

		if (used + frame->len + CAPTURE_FILE_PAD_BYTES > ARENA_BYTES)
			break;
		memcpy(r->arena + used, frame->data, frame->len);
		p[n++] = (struct pkt){.data = r->arena + used,
				      .len = frame->len,
				      .wire_len = frame->wire_len,
				      .time_ns = frame->time_ns};
		used += (frame->len + CAPTURE_FILE_PAD_BYTES) & ~UINT32_C(15);
		frames_take(r->inputs[port]);
	}
	return n;
}

static void run(struct replay *r)
{
	struct pkt p[BURST_MAX];
	int port;

	while ((port = next_input(r)) >= 0) {
		unsigned n = gather(r, port, p);

		worker_idle(r->pipeline.worker, p[0].time_ns);
		worker_burst(r->pipeline.worker, p, n, (unsigned)port, port == PORT_INNER);
		merge_all(r);
	}
	worker_finish(r->pipeline.worker);
	merge_all(r);
}

static int write_out(const char *path, struct store_view *view, struct error *err)
{
	FILE *out = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");
	uint64_t left = store_view_bytes(view);
	uint8_t buf[1 << 16];
	int rc = 0;

	if (out == NULL) {
		error_set(err, "%s cannot be written: %s.", path, strerror(errno));
		return -EIO;
	}
	while (rc == 0 && left > 0) {
		size_t n = left < sizeof(buf) ? (size_t)left : sizeof(buf);

		rc = store_view_read(view, buf, n);
		if (rc == 0 && fwrite(buf, 1, n, out) != n)
			rc = -errno;
		left -= n;
	}
	if ((out == stdout ? fflush(out) : fclose(out)) != 0 && rc == 0)
		rc = -errno;
	if (rc != 0)
		error_set(err, "%s could not be written whole: %s.", path, strerror(-rc));
	return rc;
}

static void fill_report(const struct replay *r, const struct store_counts *counts,
			struct report *report)
{
	static const char *const names[] = {"outer", "inner"};

	report->gateway = r->config.gateway.name;
	report->connection = r->connection != SET_GATEWAY_WIDE
				     ? r->config.connections[r->connection].name
				     : NULL;
	report->n_ports = r->inputs[PORT_INNER] != NULL ? 2 : 1;
	for (unsigned port = 0; port < report->n_ports; port++) {
		struct slot_seen seen = slot_counters_read(&r->pipeline.shared->slots[0][port]);
		struct ledger_input input = {.received = seen.received,
					     .recorded = seen.recorded,
					     .ring_full = seen.ring_full,
					     .held = seen.held,
					     .in_file = counts->in_file[port],
					     .overwritten = counts->overwritten[port],
					     .lost_disk = counts->lost_disk[port]};

		report->ports[port].name = names[port];
		report->ports[port].ledger = ledger_make(&input);
	}
	for (unsigned i = 0; i < CLASS_COUNT; i++)
		report->classes[i] = r->pipeline.shared->slot_classes[0][i];
	for (unsigned i = 0; i < ESP_COUNTS; i++)
		report->esp[i] = r->pipeline.shared->slot_esp[0][i];
	report->has_filter = r->data.n_filters > 0;
	report->first_ns = counts->first_ns;
	report->last_ns = counts->last_ns;
	report->lost_first_ns = counts->lost_first_ns;
	report->lost_last_ns = counts->lost_last_ns;
	report->file_bytes = counts->file_bytes;
	report->warnings = &r->warnings;
}

static void add_input_warnings(struct replay *r, const struct options *o)
{
	const char *paths[] = {o->in, o->inner};

	for (unsigned i = 0; i < 2; i++) {
		if (r->inputs[i] == NULL)
			continue;
		if (frames_disordered(r->inputs[i]) > 0)
			faults_add(
				&r->warnings, "",
				"%llu frames of %s were out of order of time: sorted, as reordercap does",
				(unsigned long long)frames_disordered(r->inputs[i]), paths[i]);
		if (*frames_fault(r->inputs[i]) != '\0')
			faults_add(&r->warnings, "", "%s", frames_fault(r->inputs[i]));
	}
}

static int write_report(const struct options *o, const struct report *report, struct error *err)
{
	cJSON *json = report_json(report);
	char *text = json != NULL ? cJSON_Print(json) : NULL;
	int rc = text != NULL ? 0 : -ENOMEM;

	if (rc == 0 && o->report != NULL)
		rc = text_file_write(o->report, text, err);
	if (rc == 0 && o->json)
		(void)printf("%s\n", text);
	cJSON_free(text);
	cJSON_Delete(json);
	return rc;
}

static void print_summary(const struct options *o, const struct report *report)
{
	struct ledger total = report_total(report);
	FILE *to = strcmp(o->out, "-") == 0 || o->json ? stderr : stdout;

	(void)fprintf(to,
		      "%llu frames read, %llu recorded, %llu in %s (%llu bytes), %llu overwritten, "
		      "%llu not matched\n",
		      (unsigned long long)total.received,
		      (unsigned long long)(total.in_file + total.overwritten),
		      (unsigned long long)total.in_file, o->out,
		      (unsigned long long)report->file_bytes, (unsigned long long)total.overwritten,
		      (unsigned long long)total.not_matched);
	for (unsigned i = 0; i < report->warnings->n; i++)
		(void)fprintf(stderr, "warning: %s%s%s\n", report->warnings->list[i].pointer,
			      *report->warnings->list[i].pointer ? ": " : "",
			      report->warnings->list[i].text);
}

/* Everything behind the checks: run, write, report. */
static int finish(struct replay *r, const struct options *o, struct error *err)
{
	struct report report = {0};
	struct store_view *view;
	int rc;

	run(r);
	add_input_warnings(r, o);
	view = store_view_final(r->pipeline.stores[0], err);
	if (view == NULL)
		return -EIO;
	rc = write_out(o->out, view, err);
	if (rc == 0) {
		fill_report(r, store_view_counts(view), &report);
		print_summary(o, &report);
		rc = write_report(o, &report, err);
	}
	store_view_close(view);
	for (unsigned i = 0; rc == 0 && i < 2; i++) {
		if (r->inputs[i] == NULL || *frames_fault(r->inputs[i]) == '\0')
			continue;
		error_set(err, "%s  What came before was replayed.", frames_fault(r->inputs[i]));
		rc = -EINVAL;
	}
	return rc;
}

static void replay_close(struct replay *r)
{
	pipeline_close(&r->pipeline);
	frames_close(r->inputs[PORT_OUTER]);
	frames_close(r->inputs[PORT_INNER]);
	filter_data_fini(&r->data);
	config_fini(&r->config);
	faults_fini(&r->warnings);
	free(r);
}

static int open_inputs(struct replay *r, const struct options *o, struct error *err)
{
	r->inputs[PORT_OUTER] = frames_open(o->in, err);
	if (r->inputs[PORT_OUTER] == NULL)
		return -EINVAL;
	if (o->inner == NULL)
		return 0;
	r->inputs[PORT_INNER] = frames_open(o->inner, err);
	return r->inputs[PORT_INNER] != NULL ? 0 : -EINVAL;
}

int replay_main(int argc, char **argv)
{
	struct options o = {0};
	struct error err = {0};
	struct replay *r;
	int rc = parse_options(argc, argv, &o);

	if (rc != 0)
		return rc > 0 ? rc : 0;
	r = calloc(1, sizeof(*r));
	if (r == NULL) {
		(void)fputs("gatecap replay: out of memory.\n", stderr);
		return EXIT_FAILED;
	}
	if (check_files(&o, &err) == 0 && load_config(r, &o, &err) == 0 &&
	    load_filter(r, &o, &err) == 0 && open_inputs(r, &o, &err) == 0 &&
	    open_pipeline(r, &o, &err) == 0)
		rc = finish(r, &o, &err);
	else
		rc = -EINVAL;
	if (rc != 0)
		(void)fprintf(stderr, "gatecap replay: %s\n", err.text);
	replay_close(r);
	return rc == 0 ? 0 : EXIT_FAILED;
}
