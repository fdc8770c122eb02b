/* cli_sa.c - sa add, delete, list: the SAs of ESP that gatecapd has keys for.
 *
 * Keys come from a file or standard input, never from the command line, where everybody sees them.  What has
 * been read is wiped; so is what cJSON gives back.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "control/esp_sa_file.h"
#include "control/sa_address.h"
#include "control/sa_json.h"
#include "control/secret.h"
#include "filters/json_scan.h"
#include "tools/cli.h"

static const char help_sa[] =
	"Usage: gatecap sa add|delete|list [options]\n\n"
	"The SAs of ESP whose keys gatecapd knows, so that filters can look inside.\n\n"
	"  add     add SAs, or replace those of the same SPI and destination\n"
	"  delete  delete SAs that were added so\n"
	"  list    show all: of the file, of the kernel, and added\n\n"
	"\"gatecap sa add --help\" and so on show more.\n"
	"Example: gatecap sa list\n";

static const char help_add[] =
	"Usage: gatecap sa add [--file FILE|-] [--format json|esp_sa] [--socket PATH] [--json]\n\n"
	"Add SAs with their keys, all of the file or none.  They live in gatecapd's memory only: add\n"
	"them again when gatecapd was restarted, or use esp.sa_file of the configuration.\n\n"
	"  --file FILE      one SA as a JSON object, several as an array or {\"sas\": [...]}, or lines of\n"
	"                   Wireshark's esp_sa; - (the default): standard input\n"
	"  --format WORD    json or esp_sa; else the first character tells\n"
	"  --socket PATH    socket of gatecapd\n"
	"  --json           the answer as JSON\n\n"
	"Keys are never taken from the command line.\n"
	"Example: gatecap sa add --file new-sa.json, with\n"
	"  {\"spi\": \"0xc0ffee01\", \"dst\": \"192.0.2.1\", \"encryption\": \"aes-gcm\",\n"
	"   \"encryption_key\": \"<key and salt in hexadecimal>\", \"connection\": \"site-a\"}\n";

static const char help_delete[] =
	"Usage: gatecap sa delete --spi SPI [--dst ADDRESS] [--socket PATH] [--json]\n\n"
	"Delete SAs that were added with \"gatecap sa add\" or over the HTTP API.\n\n"
	"  --spi SPI        as \"gatecap sa list\" shows it: 0xc0ffee01\n"
	"  --dst ADDRESS    only the one with this destination\n"
	"  --socket PATH    socket of gatecapd\n"
	"  --json           the answer as JSON\n\n"
	"Example: gatecap sa delete --spi 0xc0ffee01 --dst 192.0.2.1\n";

static const char help_list[] =
	"Usage: gatecap sa list [--socket PATH] [--json]\n\n"
	"List all SAs that gatecapd knows, without their keys, with the packets that came.\n\n"
	"  --socket PATH    socket of gatecapd\n"
	"  --json           as JSON\n\n"
	"Example: gatecap sa list\n";

static const struct cli_spec spec_sa = {.name = "sa", .help = help_sa};
static const struct cli_spec spec_add = {
	.name = "sa add",
	.takes = TAKES_KEYS,
	.help = help_add,
};
static const struct cli_spec spec_delete = {
	.name = "sa delete",
	.takes = TAKES_SA,
	.help = help_delete,
};
static const struct cli_spec spec_list = {.name = "sa list", .help = help_list};

/* ---- add ---- */

static void add_key(cJSON *to, const char *name, const uint8_t *key, unsigned n)
{
	char text[2 * ESP_AUTH_KEY_MAX + 1];

	if (n == 0)
		return;
	for (unsigned i = 0; i < n; i++)
		(void)snprintf(text + 2 * (size_t)i, 3, "%02x", key[i]);
	(void)cJSON_AddStringToObject(to, name, text);
	explicit_bzero(text, sizeof(text));
}

/* An SA of a file as the API takes it, with its keys. */
static cJSON *item_with_keys(const struct sa_item *item)
{
	static const char *const modes[] = {"any", "tunnel", "transport"};
	const struct sa_record *r = &item->record;
	char text[SA_ADDRESS_TEXT_MAX], algorithm[ALGORITHM_TEXT_MAX];
	cJSON *json = cJSON_CreateObject();

	(void)cJSON_AddStringToObject(json, "spi", sa_spi_text(r->spi, r->spi_mask, text));
	(void)cJSON_AddStringToObject(json, "src", sa_address_text(&r->src, text));
	(void)cJSON_AddStringToObject(json, "dst", sa_address_text(&r->dst, text));
	(void)cJSON_AddStringToObject(json, "mode", modes[r->mode]);
	(void)cJSON_AddBoolToObject(json, "esn", (r->flags & SA_ESN) != 0);
	if (item->connection[0] != '\0')
		(void)cJSON_AddStringToObject(json, "connection", item->connection);
	if (r->cipher == ESP_UNSUPPORTED) { // known by its name alone
		(void)snprintf(algorithm, sizeof(algorithm), "%s", item->algorithm);
		algorithm[strcspn(algorithm, ",")] = '\0';
		(void)cJSON_AddStringToObject(json, "encryption", algorithm);
		return json;
	}
	(void)cJSON_AddStringToObject(json, "encryption", esp_ciphers[r->cipher].name);
	add_key(json, "encryption_key", r->enc_key, r->enc_key_bytes);
	if (r->icv_bytes != 0)
		(void)cJSON_AddNumberToObject(json, "icv_bytes", r->icv_bytes);
	if (r->auth != ESP_AUTH_NONE)
		(void)cJSON_AddStringToObject(json, "authentication", esp_auths[r->auth].name);
	add_key(json, "authentication_key", r->auth_key, r->auth_key_bytes);
	return json;
}

/* Gives the body, or NULL and a sentence. */
static cJSON *body_of_lines(const char *text, const char *name, struct error *err)
{
	struct sa_list list = {0};
	cJSON *body = NULL, *sas;

	if (esp_sa_parse(text, strlen(text), name, &list, err) == 0) {
		body = cJSON_CreateObject();
		sas = cJSON_AddArrayToObject(body, "sas");
		for (uint32_t i = 0; i < list.n; i++)
			(void)cJSON_AddItemToArray(sas, item_with_keys(&list.items[i]));
	}
	sa_list_fini(&list);
	return body;
}

static cJSON *body_of_json(const char *text, const char *name, struct error *err)
{
	struct faults faults = {0};
	cJSON *json = json_parse(text, strlen(text), ESP_SA_FILE_BYTES_MAX, &faults), *body;

	if (json == NULL)
		error_set(err, "%s is no JSON: %s.", name, faults.n > 0 ? faults.list[0].text : "");
	faults_fini(&faults);
	if (!cJSON_IsArray(json))
		return json;
	body = cJSON_CreateObject();
	(void)cJSON_AddItemToObject(body, "sas", json);
	return body;
}

static cJSON *read_body(const struct cli *cli, struct error *err)
{
	const char *path = cli->file != NULL ? cli->file : "-";
	const char *name = strcmp(path, "-") == 0 ? "Standard input" : path;
	char *text = cli_read_file(path, ESP_SA_FILE_BYTES_MAX, err);
	bool is_json;
	cJSON *body;

	if (text == NULL)
		return NULL;
	is_json = strchr("{[", text[strspn(text, " \t\r\n")]) != NULL;
	if (cli->format != NULL)
		is_json = strcmp(cli->format, "json") == 0;
	body = is_json ? body_of_json(text, name, err) : body_of_lines(text, name, err);
	explicit_bzero(text, strlen(text));
	free(text);
	return body;
}

static void print_added(const struct cli *cli, const cJSON *json)
{
	double n = json_number(json, "added");

	print_warnings(cJSON_GetObjectItemCaseSensitive(json, "warnings"));
	if (cli->is_json)
		print_json_line(json);
	else
		(void)printf("%.0f SA%s added.\n", n, n == 1 ? " was" : "s were");
}

static int sa_add(const struct cli *cli)
{
	struct error err = {{0}};
	struct client *client;
	struct answer answer;
	cJSON *body;
	int rc = CLI_FAILED;

	if (cli->format != NULL && strcmp(cli->format, "json") != 0 &&
	    strcmp(cli->format, "esp_sa") != 0)
		return cli_misuse(cli->spec, "--format is json or esp_sa");
	(void)secret_no_dumps();
	body = read_body(cli, &err);
	if (body == NULL)
		return cli_fail(cli, err.text);
	client = cli_client(cli);
	if (client != NULL)
		rc = cli_ask(cli, client, "POST", CLI_PATH_PREFIX "/sas", body, &answer);
	sa_json_wipe(body);
	cJSON_Delete(body);
	if (rc == CLI_GO_ON) {
		print_added(cli, answer.json);
		answer_fini(&answer);
		rc = CLI_DONE;
	}
	client_close(client);
	return rc;
}

/* ---- delete ---- */

/* Only what an SPI or address is made of: nothing to be escaped. */
static bool is_plain(const char *text)
{
	return text[0] != '\0' && text[strspn(text, "0123456789abcdefABCDEFxX.:*/")] == '\0';
}

static int sa_delete(const struct cli *cli)
{
	struct client *client;
	struct answer answer;
	char path[256];
	int rc;

	if (cli->spi == NULL)
		return cli_misuse(cli->spec, "--spi is missing");
	if (!is_plain(cli->spi) || strlen(cli->spi) > 64)
		return cli_misuse(cli->spec, "--spi is a number such as 0xc0ffee01");
	if (cli->dst != NULL && (!is_plain(cli->dst) || strlen(cli->dst) > 64))
		return cli_misuse(cli->spec, "--dst is an address such as 192.0.2.1");
	(void)snprintf(path, sizeof(path), "%s/sas?spi=%s%s%s", CLI_PATH_PREFIX, cli->spi,
		       cli->dst != NULL ? "&dst=" : "", cli->dst != NULL ? cli->dst : "");
	client = cli_client(cli);
	if (client == NULL)
		return CLI_FAILED;
	rc = cli_ask(cli, client, "DELETE", path, NULL, &answer);
	if (rc == CLI_GO_ON) {
		double n = json_number(answer.json, "deleted");

		if (cli->is_json)
			print_json_line(answer.json);
		else
			(void)printf("%.0f SA%s deleted.\n", n, n == 1 ? " was" : "s were");
		answer_fini(&answer);
		rc = CLI_DONE;
	}
	client_close(client);
	return rc;
}

/* ---- list ---- */

static void print_cell(const cJSON *sa, const char *key, int width)
{
	const char *text = json_text(sa, key, "-");
	int n = (int)strlen(text);

	print_clean(stdout, text);
	(void)printf("%*s  ", n < width ? width - n : 0, "");
}

static void print_sa(const cJSON *sa)
{
	char packets[SIZE_TEXT_BYTES];

	print_cell(sa, "spi", 10);
	print_cell(sa, "src", 15);
	print_cell(sa, "dst", 15);
	print_cell(sa, "algorithm", 34);
	print_cell(sa, "mode", 9);
	print_cell(sa, "connection", 16);
	print_cell(sa, "origin", 6);
	(void)printf("%14s  ", number_text(json_number(sa, "packets"), packets));
	(void)printf("%.19s\n", json_text(sa, "last_seen", "-"));
}

static int sa_list(const struct cli *cli)
{
	struct client *client = cli_client(cli);
	struct answer answer;
	const cJSON *sas, *sa;
	int rc = client != NULL ? cli_ask(cli, client, "GET", CLI_PATH_PREFIX "/sas", NULL, &answer)
				: CLI_FAILED;

	if (rc == CLI_GO_ON) {
		sas = cJSON_GetObjectItemCaseSensitive(answer.json, "sas");
		rc = CLI_DONE;
		if (cli->is_json) {
			print_json_line(answer.json);
		} else if (cJSON_GetArraySize(sas) == 0) {
			(void)puts("There are no SAs; \"gatecap sa add\" adds some, and "
				   "esp.sa_file of the configuration names a file.");
		} else {
			(void)printf("%-10s  %-15s  %-15s  %-34s  %-9s  %-16s  %-6s  %14s  %s\n",
				     "SPI", "SOURCE", "DESTINATION", "ALGORITHM", "MODE",
				     "CONNECTION", "ORIGIN", "PACKETS", "LAST SEEN (UTC)");
			cJSON_ArrayForEach(sa, sas)
			{
				print_sa(sa);
			}
		}
		answer_fini(&answer);
	}
	client_close(client);
	return rc;
}

static const struct {
	const char *word;
	const struct cli_spec *spec;
	int (*run)(const struct cli *cli);
} sa_commands[] = {
	{"add", &spec_add, sa_add},
	{"delete", &spec_delete, sa_delete},
	{"list", &spec_list, sa_list},
};

int cmd_sa(int argc, char **argv)
{
	cJSON_Hooks hooks = {.malloc_fn = malloc, .free_fn = wiping_free};
	const char *word = argc > 1 ? argv[1] : "";
	struct cli cli;
	int rc;

	cJSON_InitHooks(&hooks);
	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
		(void)fputs(help_sa, stdout);
		return CLI_DONE;
	}
	for (unsigned i = 0; i < sizeof(sa_commands) / sizeof(sa_commands[0]); i++) {
		if (strcmp(word, sa_commands[i].word) != 0)
			continue;
		rc = cli_parse(sa_commands[i].spec, argc - 1, argv + 1, &cli);
		if (rc == CLI_GO_ON)
			rc = sa_commands[i].run(&cli);
		cli_fini(&cli);
		return rc;
	}
	return cli_misuse(&spec_sa, "it is \"gatecap sa add\", \"delete\" or \"list\"");
}
