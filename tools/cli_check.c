/* cli_check.c - check-filter and check-sas: is it right, before a capture depends on it.
 *
 * A filter is checked by the daemon, which knows the appliance's limits; where none answers, by the
 * same parser here, so that a document can be written anywhere.
 */
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "filters/filter_data.h"
#include "tools/cli.h"

static const char help_filter[] =
	"Usage: gatecap check-filter JSON|@FILE|- [--socket PATH] [--json]\n\n"
	"Check a filterData document and show how it is understood.  All faults are printed,\n"
	"each with its place.  Works without gatecapd, too; then one filter is the limit, as\n"
	"it is by default.\n\n"
	"Example: gatecap check-filter '{\"TracingFlags\": 11, \"MaxFileSize\": 50}'\n";

static const struct cli_spec spec_filter = {
	.name = "check-filter",
	.takes = TAKES_OPERAND,
	.help = help_filter,
};

static const char help_sas[] =
	"Usage: gatecap check-sas (--sas-url-file FILE|- | --sas-url URL) [--socket PATH]\n"
	"                         [--json]\n\n"
	"Check a container's SAS URL: its parts, and a probe (one block that is never\n"
	"committed, so that nothing is left in the container).\n\n"
	"Example: gatecap check-sas --sas-url-file sas.txt\n";

static const struct cli_spec spec_sas = {
	.name = "check-sas",
	.takes = TAKES_SAS_FILE | TAKES_SAS_URL,
	.help = help_sas,
};

static int print_checked(const struct cli *cli, const cJSON *json, const char *note)
{
	char *text = NULL;

	print_warnings(cJSON_GetObjectItemCaseSensitive(json, "warnings"));
	if (cli->is_json) {
		print_json_line(json);
		return CLI_DONE;
	}
	text = cJSON_Print(cJSON_GetObjectItemCaseSensitive(json, "filter_data"));
	(void)printf("The document is valid%s. It is understood as:\n%s\n", note,
		     text != NULL ? text : "");
	cJSON_free(text);
	return CLI_DONE;
}

static int check_by_daemon(const struct cli *cli, const char *text)
{
	struct client *client = cli_client(cli);
	cJSON *body = cJSON_CreateObject();
	struct answer answer;
	int rc = CLI_FAILED;

	(void)cJSON_AddStringToObject(body, "filter_data", text);
	if (client != NULL)
		rc = cli_ask(cli, client, "POST", CLI_PATH_PREFIX "/check-filter", body, &answer);
	if (rc == CLI_GO_ON) {
		rc = print_checked(cli, answer.json, "");
		answer_fini(&answer);
	}
	cJSON_Delete(body);
	client_close(client);
	return rc;
}

static cJSON *faults_json(const struct faults *faults, const char *where, bool has_code)
{
	cJSON *list = cJSON_CreateArray();

	for (unsigned i = 0; i < faults->n; i++) {
		cJSON *entry = cJSON_CreateObject();

		if (has_code)
			(void)cJSON_AddStringToObject(entry, "code", "InvalidPacketCaptureFilter");
		(void)cJSON_AddStringToObject(entry, where, faults->list[i].pointer);
		(void)cJSON_AddStringToObject(entry, "message", faults->list[i].text);
		(void)cJSON_AddItemToArray(list, entry);
	}
	return list;
}

/* The same answer that the daemon would give. */
static cJSON *valid_json(const struct filter_data *data, const struct faults *warnings)
{
	cJSON *json = cJSON_CreateObject();
	char *text = filter_data_json(data);

	(void)cJSON_AddTrueToObject(json, "valid");
	(void)cJSON_AddItemToObject(json, "filter_data", cJSON_Parse(text != NULL ? text : "{}"));
	(void)cJSON_AddItemToObject(json, "warnings", faults_json(warnings, "pointer", false));
	free(text);
	return json;
}

static cJSON *invalid_json(const struct faults *faults)
{
	cJSON *json = cJSON_CreateObject();
	cJSON *error = cJSON_AddObjectToObject(json, "error");

	(void)cJSON_AddStringToObject(error, "code", "InvalidPacketCaptureFilter");
	(void)cJSON_AddStringToObject(error, "message", "The filterData document is not valid.");
	(void)cJSON_AddItemToObject(error, "details", faults_json(faults, "target", true));
	return json;
}

static int check_here(const struct cli *cli, const char *text)
{
	const struct filter_data_rules rules = {.filters_max = 1};
	struct faults faults = {0}, warnings = {0};
	struct answer answer = {.status = 400};
	struct filter_data data;
	int rc;

	if (filter_data_parse(text, strlen(text), &rules, &data, &faults, &warnings) == 0) {
		answer.json = valid_json(&data, &warnings);
		rc = print_checked(cli, answer.json, " (checked here, without gatecapd)");
		filter_data_fini(&data);
	} else {
		answer.json = invalid_json(&faults);
		rc = cli_refused(cli, &answer);
	}
	answer_fini(&answer);
	faults_fini(&faults);
	faults_fini(&warnings);
	return rc;
}

int cmd_check_filter(int argc, char **argv)
{
	struct error err = {{0}};
	char *text = NULL;
	struct cli cli;
	int rc = cli_parse(&spec_filter, argc, argv, &cli);

	if (rc != CLI_GO_ON)
		goto end;
	text = cli_text_of(cli.operand, &err);
	if (text == NULL)
		rc = cli_fail(&cli, err.text);
	else if (client_probe(cli.socket, &err) == 0)
		rc = check_by_daemon(&cli, text);
	else
		rc = check_here(&cli, text);
end:
	free(text);
	cli_fini(&cli);
	return rc;
}

int cmd_check_sas(int argc, char **argv)
{
	cJSON *sas, *body = NULL;
	struct client *client = NULL;
	struct answer answer;
	struct cli cli;
	int rc = cli_parse(&spec_sas, argc, argv, &cli);

	if (rc == CLI_GO_ON && cli.sas_url == NULL)
		rc = cli_misuse(&spec_sas, "--sas-url-file is missing");
	if (rc != CLI_GO_ON)
		goto end;
	rc = CLI_FAILED;
	client = cli_client(&cli);
	if (client == NULL)
		goto end;
	body = cJSON_CreateObject();
	sas = cJSON_AddStringToObject(body, "sas_url", cli.sas_url);
	rc = cli_ask(&cli, client, "POST", CLI_PATH_PREFIX "/check-sas", body, &answer);
	if (sas != NULL)
		explicit_bzero(sas->valuestring, strlen(sas->valuestring));
	if (rc != CLI_GO_ON)
		goto end;
	rc = CLI_DONE;
	print_warnings(cJSON_GetObjectItemCaseSensitive(answer.json, "warnings"));
	if (cli.is_json) {
		print_json_line(answer.json);
	} else {
		(void)fputs("A capture can be uploaded to ", stdout);
		print_clean(stdout, json_text(answer.json, "url", "this container"));
		(void)puts(".");
	}
	answer_fini(&answer);
end:
	cJSON_Delete(body);
	client_close(client);
	cli_fini(&cli);
	return rc;
}
