/* cli_capture.c - start, abort, list, show: one question each. */
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "tools/cli.h"

static const char help_start[] =
	"Usage: gatecap start [--connection NAME] [--filter-data JSON|@FILE|-]\n"
	"                     [--sas-url-file FILE|-] [--socket PATH] [--json]\n\n"
	"Start a capture: of the whole gateway, or of one connection.  Prints the settings in\n"
	"force; a document that is wrong is refused with all its faults, and nothing starts.\n\n"
	"  --connection NAME      only what belongs to this connection\n"
	"  --filter-data DOC      filterData as JSON text, @FILE, or - for standard input\n"
	"  --sas-url-file FILE    a file with the SAS URL to upload to at the stop; it is probed\n"
	"                         now.  - is standard input\n"
	"  --socket PATH          socket of gatecapd\n"
	"  --json                 print the capture as JSON\n\n"
	"Example: gatecap start --connection site-b --filter-data \\\n"
	"  '{\"MaxFileSize\": 50, \"Filters\": [{\"DestinationPort\": [443], \"Protocol\": "
	"[6]}]}'\n";

static const struct cli_spec spec_start = {
	.name = "start",
	.takes = TAKES_CONNECTION | TAKES_FILTER_DATA | TAKES_SAS_FILE,
	.help = help_start,
};

static const char help_abort[] =
	"Usage: gatecap abort [--connection NAME] [--socket PATH] [--json]\n\n"
	"End a capture and delete its data, whatever its state.  There is no way back.\n\n"
	"Example: gatecap abort --connection site-b\n";

static const struct cli_spec spec_abort = {
	.name = "abort",
	.takes = TAKES_CONNECTION,
	.help = help_abort,
};

static const char help_list[] =
	"Usage: gatecap list [--socket PATH] [--json]\n\n"
	"List the captures that run, those that hold data, and the last finished one of each\n"
	"scope.\n\n"
	"Example: gatecap list\n";

static const struct cli_spec spec_list = {
	.name = "list",
	.takes = 0,
	.help = help_list,
};

static const char help_show[] =
	"Usage: gatecap show [--connection NAME] [--socket PATH] [--json]\n\n"
	"Show all that is known of one capture: state, settings, counters, losses by cause.\n\n"
	"Example: gatecap show --connection site-b\n";

static const struct cli_spec spec_show = {
	.name = "show",
	.takes = TAKES_CONNECTION,
	.help = help_show,
};

/* Gives the body of a start, or NULL with a sentence. */
static cJSON *start_body(const struct cli *cli, struct error *err)
{
	cJSON *body = cJSON_CreateObject();
	char *filter = NULL;

	error_set(err, "There is no memory for the request.");
	if (cli->connection != NULL)
		(void)cJSON_AddStringToObject(body, "connection", cli->connection);
	if (cli->filter_data != NULL) {
		filter = cli_text_of(cli->filter_data, err);
		if (filter == NULL) {
			cJSON_Delete(body);
			return NULL;
		}
		(void)cJSON_AddStringToObject(body, "filter_data", filter);
		free(filter);
	}
	if (cli->sas_url != NULL)
		(void)cJSON_AddStringToObject(body, "sas_url", cli->sas_url);
	return body;
}

static void body_wipe(cJSON *body)
{
	cJSON *sas = cJSON_GetObjectItemCaseSensitive(body, "sas_url");

	if (cJSON_IsString(sas))
		explicit_bzero(sas->valuestring, strlen(sas->valuestring));
	cJSON_Delete(body);
}

static void print_started(const struct cli *cli, const cJSON *capture)
{
	char scope[160], word[512];

	capture_scope(capture, scope, sizeof(scope));
	(void)fputs("The capture of ", stdout);
	print_clean(stdout, scope);
	(void)fputs(" runs since ", stdout);
	print_clean(stdout, json_text(capture, "started", "now"));
	(void)fputs(" with these settings:\n", stdout);
	print_settings(capture);
	(void)fputs("Stop it with: gatecap stop", stdout);
	if (cli->connection != NULL) {
		(void)fputs(" --connection ", stdout);
		print_clean(stdout, shell_word(cli->connection, word, sizeof(word)));
	}
	(void)puts(cli->sas_url != NULL ? "" : " --output FILE.pcap");
}

int cmd_start(int argc, char **argv)
{
	struct client *client = NULL;
	struct answer answer = {0};
	struct error err = {{0}};
	cJSON *body = NULL;
	struct cli cli;
	int rc = cli_parse(&spec_start, argc, argv, &cli);

	if (rc != CLI_GO_ON)
		goto end;
	rc = CLI_FAILED;
	body = start_body(&cli, &err);
	if (body == NULL) {
		rc = cli_fail(&cli, err.text);
		goto end;
	}
	client = cli_client(&cli);
	if (client == NULL)
		goto end;
	rc = cli_ask(&cli, client, "POST", CLI_PATH_PREFIX "/captures", body, &answer);
	if (rc != CLI_GO_ON)
		goto end;
	rc = CLI_DONE;
	print_warnings(cJSON_GetObjectItemCaseSensitive(answer.json, "warnings"));
	if (cli.is_json)
		print_json_line(answer.json);
	else
		print_started(&cli, answer.json);
	answer_fini(&answer);
end:
	body_wipe(body);
	client_close(client);
	cli_fini(&cli);
	return rc;
}

/* Ask one question of the command's scope, or of a path, and print the answer. */
static int ask_and_print(const struct cli_spec *spec, int argc, char **argv, const char *method,
			 const char *path, const char *suffix,
			 void (*print)(const struct cJSON *json))
{
	struct client *client = NULL;
	struct answer answer = {0};
	struct cli cli;
	int rc = cli_parse(spec, argc, argv, &cli);

	if (rc != CLI_GO_ON)
		goto end;
	client = cli_client(&cli);
	if (client == NULL)
		rc = CLI_FAILED;
	else if (path != NULL)
		rc = cli_ask(&cli, client, method, path, NULL, &answer);
	else
		rc = cli_ask_scope(&cli, client, method, suffix, NULL, &answer);
	if (rc != CLI_GO_ON)
		goto end;
	rc = CLI_DONE;
	if (cli.is_json)
		print_json_line(answer.json);
	else
		print(answer.json);
	answer_fini(&answer);
end:
	client_close(client);
	cli_fini(&cli);
	return rc;
}

static void print_aborted(const struct cJSON *capture)
{
	char scope[160], text[SIZE_TEXT_BYTES];
	const cJSON *counters = cJSON_GetObjectItemCaseSensitive(capture, "counters");

	capture_scope(capture, scope, sizeof(scope));
	(void)fputs("The capture of ", stdout);
	print_clean(stdout, scope);
	(void)printf(" has ended; its data (%s packets) is deleted.\n",
		     number_text(json_number(counters, "in_file"), text));
}

static void print_row(const struct cJSON *capture)
{
	const cJSON *counters = cJSON_GetObjectItemCaseSensitive(capture, "counters");
	char scope[160], started[20], recorded[SIZE_TEXT_BYTES], in_file[SIZE_TEXT_BYTES];
	char lost[SIZE_TEXT_BYTES], size[SIZE_TEXT_BYTES];

	capture_scope(capture, scope, sizeof(scope));
	(void)snprintf(started, sizeof(started), "%s", json_text(capture, "started", "-"));
	print_clean(stdout, scope);
	(void)printf("%*s  %-12s  %-19s  %14s  %14s  %10s  %10s\n",
		     strlen(scope) < 24 ? 24 - (int)strlen(scope) : 0, "",
		     json_text(capture, "state", "-"), started,
		     number_text(json_number(counters, "recorded"), recorded),
		     number_text(json_number(counters, "in_file"), in_file),
		     number_text(capture_lost(capture), lost),
		     size_text(json_number(capture, "file_bytes"), size));
}

static void print_list(const struct cJSON *json)
{
	const cJSON *captures = cJSON_GetObjectItemCaseSensitive(json, "captures");
	const cJSON *capture;

	if (cJSON_GetArraySize(captures) == 0) {
		(void)puts("There are no captures; \"gatecap start\" starts one.");
		return;
	}
	(void)printf("%-24s  %-12s  %-19s  %14s  %14s  %10s  %10s\n", "SCOPE", "STATE",
		     "STARTED (UTC)", "RECORDED", "IN FILE", "LOST", "FILE SIZE");
	cJSON_ArrayForEach(capture, captures)
	{
		print_row(capture);
	}
}

static void print_shown(const struct cJSON *capture)
{
	print_capture(capture);
	(void)fflush(stdout);
	print_warnings(cJSON_GetObjectItemCaseSensitive(capture, "warnings"));
}

int cmd_abort(int argc, char **argv)
{
	return ask_and_print(&spec_abort, argc, argv, "POST", NULL, "/abort", print_aborted);
}

int cmd_list(int argc, char **argv)
{
	return ask_and_print(&spec_list, argc, argv, "GET", CLI_PATH_PREFIX "/captures", NULL,
			     print_list);
}

int cmd_show(int argc, char **argv)
{
	return ask_and_print(&spec_show, argc, argv, "GET", NULL, "", print_shown);
}
