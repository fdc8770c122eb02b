/* cli_stop.c - stop: upload by the daemon, or a file that comes through this process; and snapshot.
 *
 * The order of a download is what makes it safe: the file is whole, checked for its length and on
 * the disk (seal) before the daemon is told (finish); the daemon deletes only if the MD5 is the
 * same; the file gets its name last.  Killed anywhere, the daemon or a sealed file has the data.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "tools/cli.h"
#include "tools/download.h"

enum { POLL_FIRST_MS = 50, POLL_MAX_MS = 1000 };

static const char help_stop[] =
	"Usage: gatecap stop [--connection NAME] (--sas-url-file FILE|- | --sas-url URL |\n"
	"                    --output PATH [--force]) [--socket PATH] [--json]\n\n"
	"Stop a capture and upload it to a container, or write it to a file here.  With a SAS\n"
	"URL that cannot work the capture goes on.  A capture whose upload failed is stopped\n"
	"again with a better URL, or with --output.  Without any of the three, the URL that\n"
	"start was given is used.\n\n"
	"  --sas-url-file FILE  a file with the SAS URL of a container; - is standard input\n"
	"  --sas-url URL        the URL itself (other users may see it: use a file)\n"
	"  --output PATH        write the PCAP to PATH and its report to PATH.json; PATH must not\n"
	"                       be there yet\n"
	"  --force              replace PATH and PATH.json\n"
	"  --connection NAME    the capture of this connection\n"
	"  --socket PATH        socket of gatecapd\n"
	"  --json               print the finished capture as JSON\n\n"
	"Example: gatecap stop --connection site-b --output site-b.pcap\n";

static const struct cli_spec spec_stop = {
	.name = "stop",
	.takes = TAKES_CONNECTION | TAKES_SAS_FILE | TAKES_SAS_URL | TAKES_OUTPUT | TAKES_FORCE,
	.help = help_stop,
};

static const char help_snapshot[] =
	"Usage: gatecap snapshot [--connection NAME] --output PATH|- [--force] [--socket PATH]\n"
	"                        [--json]\n\n"
	"Write a consistent copy of what a capture holds now; it goes on.  - is standard "
	"output.\n\n"
	"Example: gatecap snapshot --output - | tshark -r -\n";

static const struct cli_spec spec_snapshot = {
	.name = "snapshot",
	.takes = TAKES_CONNECTION | TAKES_OUTPUT | TAKES_FORCE,
	.help = help_snapshot,
};

/* One command at work. */
struct stop {
	struct cli cli;
	struct client *client;
	struct progress progress;
	struct download pcap, report;
	bool is_asked; // the stop is on its way to the daemon
	bool is_taken; // the daemon has said yes
};

static void sleep_ms(unsigned ms)
{
	struct timespec delay = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	(void)nanosleep(&delay, NULL); // a signal ends it: wanted
}

/* What was reached when the user gave up, and how to go on. */
static int interrupted(const struct stop *s)
{
	const char *scope = s->cli.connection != NULL ? " --connection " : "";
	const char *name = s->cli.connection != NULL ? s->cli.connection : "";
	char text[ERROR_TEXT_MAX], name_word[512], path_word[512];

	name = *name != '\0' ? shell_word(name, name_word, sizeof(name_word)) : "";
	if (!s->is_asked)
		(void)snprintf(text, sizeof(text), "Interrupted; the capture goes on.");
	else if (!s->is_taken)
		(void)snprintf(
			text, sizeof(text),
			"Interrupted; gatecapd may have stopped the capture already: \"gatecap "
			"show%s%s\" shows its state.",
			scope, name);
	else if (s->cli.output != NULL)
		(void)snprintf(
			text, sizeof(text),
			"Interrupted; nothing is in %s. The capture has stopped and gatecapd keeps "
			"its data: run \"gatecap stop%s%s --output %s\" again.",
			s->cli.output, scope, name,
			shell_word(s->cli.output, path_word, sizeof(path_word)));
	else
		(void)snprintf(
			text, sizeof(text),
			"Interrupted; gatecapd goes on with the upload: \"gatecap show%s%s\" "
			"shows how far it is.",
			scope, name);
	return cli_fail(&s->cli, text);
}

/* How a transfer that failed is taken up again. */
static int lost_transfer(const struct stop *s, const struct error *err)
{
	char text[2 * ERROR_TEXT_MAX];

	if (client_interrupted)
		return interrupted(s);
	(void)snprintf(text, sizeof(text),
		       "%s Nothing is in %s; gatecapd keeps the data: run the same command again.",
		       err->text, s->cli.output);
	return cli_fail(&s->cli, text);
}

static bool state_is(const cJSON *capture, const char *state)
{
	return strcmp(json_text(capture, "state", ""), state) == 0;
}

/* Does the polling end here? */
static bool is_settled(const cJSON *capture, bool is_download)
{
	return state_is(capture, "Succeeded") || state_is(capture, "UploadFailed") ||
	       state_is(capture, "Failed") || (is_download && state_is(capture, "Uploading"));
}

static void show_stage(struct stop *s, const cJSON *capture)
{
	const cJSON *upload = cJSON_GetObjectItemCaseSensitive(capture, "upload");

	progress_show(&s->progress, json_text(capture, "state", ""),
		      (uint64_t)json_number(upload, "bytes_sent"),
		      (uint64_t)json_number(upload, "bytes_total"));
}

/* Ask until the capture has settled.  CLI_GO_ON with the last answer, or the exit code. */
static int poll_until_settled(struct stop *s, struct answer *answer)
{
	unsigned delay_ms = POLL_FIRST_MS;
	int rc = CLI_GO_ON;

	while (!is_settled(answer->json, s->cli.output != NULL)) {
		show_stage(s, answer->json);
		sleep_ms(delay_ms);
		delay_ms = delay_ms * 2 < POLL_MAX_MS ? delay_ms * 2 : POLL_MAX_MS;
		answer_fini(answer);
		if (client_interrupted)
			rc = CLI_FAILED;
		else
			rc = cli_ask_scope(&s->cli, s->client, "GET", "", NULL, answer);
		if (rc != CLI_GO_ON)
			break;
	}
	progress_end(&s->progress);
	return rc != CLI_GO_ON && client_interrupted ? interrupted(s) : rc;
}

static cJSON *stop_body(const struct cli *cli)
{
	cJSON *body = cJSON_CreateObject();

	if (cli->output != NULL)
		(void)cJSON_AddTrueToObject(body, "download");
	else if (cli->sas_url != NULL)
		(void)cJSON_AddStringToObject(body, "sas_url", cli->sas_url);
	return body;
}

static int stop_ask(struct stop *s, struct answer *answer)
{
	cJSON *body = stop_body(&s->cli);
	cJSON *sas = cJSON_GetObjectItemCaseSensitive(body, "sas_url");
	int rc;

	s->is_asked = true;
	rc = cli_ask_scope(&s->cli, s->client, "POST", "/stop", body, answer);
	if (sas != NULL)
		explicit_bzero(sas->valuestring, strlen(sas->valuestring));
	cJSON_Delete(body);
	s->is_taken = rc == CLI_GO_ON;
	return rc != CLI_GO_ON && client_interrupted ? interrupted(s) : rc;
}

static void print_stopped(const struct stop *s, const cJSON *capture)
{
	char size[SIZE_TEXT_BYTES];

	print_warnings(cJSON_GetObjectItemCaseSensitive(capture, "warnings"));
	if (s->cli.is_json) {
		print_json_line(capture);
		return;
	}
	if (s->cli.output != NULL)
		(void)printf("%s (%s) and %s.json are written.\n", s->cli.output,
			     size_text((double)s->pcap.n_bytes, size), s->cli.output);
	print_capture(capture);
}

/* The capture has ended without success: say why, and that nothing is lost if so. */
static int stop_failed(const struct stop *s, const cJSON *capture)
{
	const char *why = json_text(capture, "error", "gatecapd does not say why.");
	char text[2 * ERROR_TEXT_MAX];

	if (s->cli.is_json)
		print_json_line(capture);
	if (state_is(capture, "UploadFailed"))
		(void)snprintf(text, sizeof(text),
			       "%s The data is kept: stop again with a better SAS URL or with "
			       "--output PATH.",
			       why);
	else if (state_is(capture, "Succeeded"))
		(void)snprintf(text, sizeof(text),
			       "The capture was finished by someone else; its data went to %s.",
			       json_text(capture, "blob_url", "another file"));
	else
		(void)snprintf(text, sizeof(text), "The capture has failed: %s", why);
	return cli_fail(&s->cli, text);
}

/* Fetches. */

static void on_progress(void *ctx, uint64_t got, uint64_t total)
{
	progress_show(ctx, "Receiving", got, total);
}

/* GET a file of the scope into s->pcap.  CLI_GO_ON when it is whole. */
static int fetch_pcap(struct stop *s, const char *suffix, struct error *err)
{
	char *path = client_scope_path(s->client, s->cli.connection, suffix);
	int rc;

	if (path == NULL) {
		error_set(err, "There is no memory for the request.");
		return CLI_FAILED;
	}
	rc = download_fetch(&s->pcap, s->client, path, on_progress, &s->progress, err);
	free(path);
	progress_end(&s->progress);
	return rc == 0 ? CLI_GO_ON : CLI_FAILED;
}

static int fetch_report(struct stop *s, struct error *err)
{
	struct answer answer;
	char *text;
	int rc;

	rc = cli_ask_scope(&s->cli, s->client, "GET", "/report", NULL, &answer);
	if (rc != CLI_GO_ON) {
		error_set(err, "The report did not come.");
		return CLI_FAILED;
	}
	text = cJSON_Print(answer.json);
	answer_fini(&answer);
	rc = text == NULL ? -ENOMEM : download_write(&s->report, text, strlen(text));
	if (rc == 0)
		rc = download_write(&s->report, "\n", 1);
	cJSON_free(text);
	if (rc != 0)
		(void)error_set(err, "The report cannot be written: %s.", strerror(-rc));
	return rc == 0 ? CLI_GO_ON : CLI_FAILED;
}

/* Give both files their names; what cannot be named is kept, and named to the user. */
static int outputs_place(struct stop *s)
{
	struct error err = {{0}};
	int rc = CLI_DONE;

	if (download_place(&s->pcap, &err) != 0)
		rc = cli_fail(&s->cli, err.text);
	if (download_place(&s->report, &err) != 0)
		rc = cli_fail(&s->cli, err.text);
	return rc;
}

/* Have the daemon compare the digest; it then deletes its copy.  Without an answer it may have done
 * so: the files, which are whole, are then kept under their names.
 */
static int finish(struct stop *s, const char *md5, struct answer *answer)
{
	char *path = client_scope_path(s->client, s->cli.connection, "/finish");
	cJSON *body = cJSON_CreateObject();
	struct error err = {{0}};
	char text[2 * ERROR_TEXT_MAX];
	int rc = -ENOMEM;

	(void)cJSON_AddStringToObject(body, "md5", md5);
	if (path != NULL)
		rc = client_call(s->client, "POST", path, body, answer, &err);
	cJSON_Delete(body);
	free(path);
	if (rc == 0 && answer_is_ok(answer))
		return CLI_GO_ON;
	if (rc == 0) {
		(void)cli_refused(&s->cli, answer);
		answer_fini(answer);
		error_set(&err, "What was received is not taken as complete.");
		return lost_transfer(s, &err);
	}
	(void)outputs_place(s);
	(void)snprintf(
		text, sizeof(text),
		"%s %s is complete, but gatecapd has not confirmed that the capture is over; "
		"\"gatecap show\" shows it, \"gatecap abort\" deletes what it may still hold.",
		err.text, s->cli.output);
	return cli_fail(&s->cli, text);
}

static int receive(struct stop *s, struct answer *answer)
{
	char md5[MD5_TEXT_BYTES] = "", report_md5[MD5_TEXT_BYTES];
	struct error err = {{0}};
	int rc;

	if (fetch_pcap(s, "/pcap", &err) != CLI_GO_ON || fetch_report(s, &err) != CLI_GO_ON ||
	    download_seal(&s->pcap, md5, &err) != 0 ||
	    download_seal(&s->report, report_md5, &err) != 0)
		return lost_transfer(s, &err);
	rc = finish(s, md5, answer);
	if (rc != CLI_GO_ON)
		return rc;
	rc = outputs_place(s);
	if (rc == CLI_DONE)
		print_stopped(s, answer->json);
	answer_fini(answer);
	return rc;
}

/* Make both part files first: a folder that cannot be written must not cost a running capture. */
static int outputs_open(struct stop *s, const char *report_path)
{
	struct error err = {{0}};

	if (download_open(&s->pcap, s->cli.output, s->cli.has_force, &err) != 0 ||
	    (report_path != NULL &&
	     download_open(&s->report, report_path, s->cli.has_force, &err) != 0))
		return cli_fail(&s->cli, err.text);
	return CLI_GO_ON;
}

static int outputs_open_with_report(struct stop *s)
{
	char *report_path = NULL;
	int rc;

	if (s->cli.output == NULL)
		return CLI_GO_ON;
	if (asprintf(&report_path, "%s.json", s->cli.output) < 0)
		return cli_fail(&s->cli, "There is no memory.");
	rc = outputs_open(s, report_path);
	free(report_path);
	return rc;
}

static int stop_run(struct stop *s)
{
	struct answer answer = {0};
	int rc = outputs_open_with_report(s);

	if (rc != CLI_GO_ON)
		return rc;
	s->client = cli_client(&s->cli);
	if (s->client == NULL)
		return CLI_FAILED;
	rc = stop_ask(s, &answer);
	if (rc == CLI_GO_ON)
		rc = poll_until_settled(s, &answer);
	if (rc != CLI_GO_ON)
		return rc;
	if (s->cli.output != NULL && state_is(answer.json, "Uploading")) {
		answer_fini(&answer);
		return receive(s, &answer);
	}
	if (state_is(answer.json, "Succeeded") && s->cli.output == NULL) {
		rc = CLI_DONE;
		print_stopped(s, answer.json);
	} else {
		rc = stop_failed(s, answer.json);
	}
	answer_fini(&answer);
	return rc;
}

static void stop_fini(struct stop *s)
{
	download_end(&s->pcap);
	download_end(&s->report);
	client_close(s->client);
	cli_fini(&s->cli);
}

int cmd_stop(int argc, char **argv)
{
	struct stop s = {.pcap.fd = -1, .report.fd = -1};
	int rc = cli_parse(&spec_stop, argc, argv, &s.cli);

	if (rc == CLI_GO_ON && s.cli.output != NULL && s.cli.sas_url != NULL)
		rc = cli_misuse(&spec_stop, "--output and a SAS URL exclude each other");
	if (rc == CLI_GO_ON && s.cli.output == NULL && s.cli.has_force)
		rc = cli_misuse(&spec_stop, "--force belongs to --output");
	if (rc == CLI_GO_ON) {
		cli_catch_signals();
		progress_start(&s.progress);
		rc = stop_run(&s);
	}
	stop_fini(&s);
	return rc;
}

/* Snapshot. */

static int on_stdout(void *ctx, const void *data, size_t len)
{
	struct download *d = ctx;

	d->n_bytes += len;
	return fwrite(data, 1, len, stdout) == len ? 0 : errno != 0 ? -errno : -EIO;
}

static int snapshot_stdout(struct stop *s)
{
	struct sink sink = {on_stdout, NULL, &s->pcap};
	char *path = client_scope_path(s->client, s->cli.connection, "/snapshot");
	struct answer answer = {0};
	struct error err = {{0}};
	int rc = path != NULL ? client_stream(s->client, path, &sink, &answer, &err) : -ENOMEM;

	free(path);
	if (rc == 0 && answer.status != 200) {
		rc = cli_refused(&s->cli, &answer);
		answer_fini(&answer);
		return rc;
	}
	if (rc == 0 && fflush(stdout) == 0)
		return CLI_DONE;
	return cli_fail(&s->cli, err.text[0] ? err.text : "Standard output cannot be written.");
}

static int snapshot_file(struct stop *s)
{
	char md5[MD5_TEXT_BYTES] = "", size[SIZE_TEXT_BYTES];
	struct error err = {{0}};
	int rc = outputs_open(s, NULL);

	if (rc != CLI_GO_ON)
		return rc;
	if (fetch_pcap(s, "/snapshot", &err) != CLI_GO_ON ||
	    download_seal(&s->pcap, md5, &err) != 0 || download_place(&s->pcap, &err) != 0)
		return cli_fail(&s->cli, err.text);
	if (s->cli.is_json) {
		cJSON *json = cJSON_CreateObject();

		(void)cJSON_AddStringToObject(json, "output", s->cli.output);
		(void)cJSON_AddNumberToObject(json, "bytes", (double)s->pcap.n_bytes);
		(void)cJSON_AddStringToObject(json, "md5", md5);
		print_json_line(json);
		cJSON_Delete(json);
	} else {
		(void)printf("%s (%s) is written; the capture goes on.\n", s->cli.output,
			     size_text((double)s->pcap.n_bytes, size));
	}
	return CLI_DONE;
}

static int snapshot_run(struct stop *s)
{
	bool is_stdout = strcmp(s->cli.output, "-") == 0;

	if (is_stdout && isatty(STDOUT_FILENO))
		return cli_fail(&s->cli,
				"A PCAP is not written to a terminal; use --output PATH, or "
				"pipe it: gatecap snapshot --output - | tshark -r -");
	s->client = cli_client(&s->cli);
	if (s->client == NULL)
		return CLI_FAILED;
	return is_stdout ? snapshot_stdout(s) : snapshot_file(s);
}

int cmd_snapshot(int argc, char **argv)
{
	struct stop s = {.pcap.fd = -1, .report.fd = -1};
	int rc = cli_parse(&spec_snapshot, argc, argv, &s.cli);

	if (rc == CLI_GO_ON && s.cli.output == NULL)
		rc = cli_misuse(&spec_snapshot, "--output is missing");
	if (rc == CLI_GO_ON) {
		cli_catch_signals();
		progress_start(&s.progress);
		rc = snapshot_run(&s);
	}
	stop_fini(&s);
	return rc;
}
