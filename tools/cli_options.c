/* cli_options.c - options, the texts they name, and the two ends of every command: asking, failing.
 *
 * One table of options; a command takes those whose bit is in its spec, so that an option that
 * means nothing to it is refused and not ignored.  A SAS URL on the command line is copied and
 * wiped in the loop itself, before anything else can fail.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "filters/limits.h"
#include "tools/cli.h"

enum { SAS_TEXT_BYTES_MAX = 16384 };

enum option_id {
	OPT_SOCKET = 256,
	OPT_JSON,
	OPT_HELP,
	OPT_CONNECTION,
	OPT_FILTER_DATA,
	OPT_SAS_FILE,
	OPT_SAS_URL,
	OPT_OUTPUT,
	OPT_FORCE,
	OPT_FOLLOW,
	OPT_FILE,
	OPT_FORMAT,
	OPT_SPI,
	OPT_DST,
};

static const struct {
	struct option option;
	unsigned takes; // 0: all commands
} all_options[] = {
	{{"socket", required_argument, NULL, OPT_SOCKET}, 0},
	{{"json", no_argument, NULL, OPT_JSON}, 0},
	{{"help", no_argument, NULL, OPT_HELP}, 0},
	{{"connection", required_argument, NULL, OPT_CONNECTION}, TAKES_CONNECTION},
	{{"filter-data", required_argument, NULL, OPT_FILTER_DATA}, TAKES_FILTER_DATA},
	{{"sas-url-file", required_argument, NULL, OPT_SAS_FILE}, TAKES_SAS_FILE},
	{{"sas-url", required_argument, NULL, OPT_SAS_URL}, TAKES_SAS_URL},
	{{"output", required_argument, NULL, OPT_OUTPUT}, TAKES_OUTPUT},
	{{"force", no_argument, NULL, OPT_FORCE}, TAKES_FORCE},
	{{"follow", no_argument, NULL, OPT_FOLLOW}, TAKES_FOLLOW},
	{{"file", required_argument, NULL, OPT_FILE}, TAKES_KEYS},
	{{"format", required_argument, NULL, OPT_FORMAT}, TAKES_KEYS},
	{{"spi", required_argument, NULL, OPT_SPI}, TAKES_SA},
	{{"dst", required_argument, NULL, OPT_DST}, TAKES_SA},
};

enum { N_OPTIONS = sizeof(all_options) / sizeof(all_options[0]) };

int cli_misuse(const struct cli_spec *spec, const char *fmt, ...)
{
	va_list args;

	(void)fprintf(stderr, "gatecap %s: ", spec->name);
	va_start(args, fmt);
	(void)vfprintf(stderr, fmt, args);
	va_end(args);
	(void)fprintf(stderr, "; \"gatecap %s --help\" shows how it is used.\n", spec->name);
	return CLI_USAGE;
}

int cli_fail(const struct cli *cli, const char *sentence)
{
	(void)fprintf(stderr, "gatecap %s: ", cli->spec->name);
	print_clean(stderr, sentence);
	(void)fputc('\n', stderr);
	return CLI_FAILED;
}

/* Gives all of an open file, NUL-terminated, or NULL: -EFBIG, -EILSEQ (a NUL byte) or errno. */
static char *read_all(FILE *in, size_t bytes_max, int *rc)
{
	char *text = malloc(bytes_max + 2);
	size_t len = text != NULL ? fread(text, 1, bytes_max + 1, in) : 0;

	*rc = 0;
	if (text == NULL)
		*rc = -ENOMEM;
	else if (ferror(in))
		*rc = -errno;
	else if (len > bytes_max)
		*rc = -EFBIG;
	else if (memchr(text, '\0', len) != NULL)
		*rc = -EILSEQ;
	if (*rc == 0) {
		text[len] = '\0';
		return text;
	}
	if (text != NULL)
		explicit_bzero(text, len);
	free(text);
	return NULL;
}

char *cli_read_file(const char *path, size_t bytes_max, struct error *err)
{
	bool is_stdin = strcmp(path, "-") == 0;
	FILE *in = is_stdin ? stdin : fopen(path, "re");
	char *text = NULL;
	int rc = -errno;

	if (in != NULL)
		text = read_all(in, bytes_max, &rc);
	if (in != NULL && !is_stdin)
		(void)fclose(in);
	if (text == NULL)
		error_set(err, "%s cannot be used: %s.", is_stdin ? "Standard input" : path,
			  rc == -EFBIG	  ? "it is too large"
			  : rc == -EILSEQ ? "it contains a NUL byte, so it is not text"
					  : strerror(-rc));
	return text;
}

char *cli_text_of(const char *given, struct error *err)
{
	if (strcmp(given, "-") == 0)
		return cli_read_file("-", FILTER_DATA_BYTES_MAX, err);
	if (*given == '@')
		return cli_read_file(given + 1, FILTER_DATA_BYTES_MAX, err);
	return strdup(given);
}

/* The URL in a file: its only line, without white space around it. */
static int sas_from_file(struct cli *cli, const char *path)
{
	static const char blank[] = " \t\r\n";
	struct stat stat_buf;
	struct error err = {{0}};
	char *text, *start;

	if (strcmp(path, "-") != 0 && stat(path, &stat_buf) == 0 && (stat_buf.st_mode & 077) != 0)
		(void)fprintf(
			stderr,
			"warning: %s can be read by others; a SAS URL is a key (chmod 600).\n",
			path);
	text = cli_read_file(path, SAS_TEXT_BYTES_MAX, &err);
	if (text == NULL)
		return cli_fail(cli, err.text);
	start = text + strspn(text, blank);
	start[strcspn(start, blank)] = '\0';
	cli->sas_url = strdup(start);
	explicit_bzero(text, strlen(text));
	explicit_bzero(start, strlen(start));
	free(text);
	if (cli->sas_url == NULL || *cli->sas_url == '\0')
		return cli_fail(cli,
				"The SAS URL file is empty; put the container's SAS URL on its "
				"first line.");
	return CLI_GO_ON;
}

static void sas_from_argv(struct cli *cli, char *arg)
{
	if (cli->sas_url != NULL)
		explicit_bzero(cli->sas_url, strlen(cli->sas_url));
	free(cli->sas_url);
	cli->sas_url = strdup(arg);
	explicit_bzero(arg, strlen(arg));
	(void)fprintf(stderr,
		      "warning: --sas-url shows its secret to other users and to the shell's "
		      "history; use --sas-url-file FILE, or - for standard input.\n");
}

static unsigned options_of(const struct cli_spec *spec, struct option *out)
{
	unsigned n = 0;

	for (unsigned i = 0; i < N_OPTIONS; i++)
		if (all_options[i].takes == 0 || (all_options[i].takes & spec->takes) != 0 ||
		    all_options[i].option.val == OPT_SAS_URL) // known everywhere: to be wiped
			out[n++] = all_options[i].option;
	out[n] = (struct option){0};
	return n;
}

/* What was not understood, without what it may have as a value: that could be a secret. */
static int option_unknown(const struct cli *cli, char **argv)
{
	char *word = argv[optind - 1];
	size_t len = strcspn(word, "=");

	if (optopt > 0 && optopt < 256)
		return cli_misuse(cli->spec, "there is no option \"-%c\"", optopt);
	if (word[len] == '=')
		explicit_bzero(word + len + 1, strlen(word + len + 1));
	return cli_misuse(cli->spec, "there is no option \"%.*s\"", (int)len, word);
}

/* One option.  Returns CLI_GO_ON or an exit code; the SAS file is read at the end. */
static int option_take(struct cli *cli, int id, char **argv, const char **sas_file)
{
	switch (id) {
	case OPT_SOCKET:
		cli->socket = optarg;
		break;
	case OPT_JSON:
		cli->is_json = true;
		break;
	case OPT_HELP:
		(void)fputs(cli->spec->help, stdout);
		return CLI_DONE;
	case OPT_CONNECTION:
		cli->connection = optarg;
		break;
	case OPT_FILTER_DATA:
		cli->filter_data = optarg;
		break;
	case OPT_SAS_FILE:
		*sas_file = optarg;
		break;
	case OPT_SAS_URL:
		sas_from_argv(cli, optarg);
		if ((cli->spec->takes & TAKES_SAS_URL) == 0)
			return cli_misuse(cli->spec, "there is no option \"--sas-url\"");
		break;
	case OPT_OUTPUT:
		cli->output = optarg;
		break;
	case OPT_FORCE:
		cli->has_force = true;
		break;
	case OPT_FOLLOW:
		cli->has_follow = true;
		break;
	case OPT_FILE:
		cli->file = optarg;
		break;
	case OPT_FORMAT:
		cli->format = optarg;
		break;
	case OPT_SPI:
		cli->spi = optarg;
		break;
	case OPT_DST:
		cli->dst = optarg;
		break;
	case ':':
		return cli_misuse(cli->spec, "%s needs a value", argv[optind - 1]);
	default:
		return option_unknown(cli, argv);
	}
	return CLI_GO_ON;
}

static int operands_take(struct cli *cli, int argc, char **argv)
{
	int n_wanted = (cli->spec->takes & TAKES_OPERAND) != 0;

	if (argc > optind && (cli->spec->takes & TAKES_KEYS) != 0)
		return cli_misuse(cli->spec,
				  "there is a word too many, not shown since it may be a "
				  "key; keys come from --file");
	if (argc - optind > n_wanted)
		return cli_misuse(cli->spec, "\"%s\" is one word too many",
				  argv[optind + n_wanted]);
	if (argc - optind < n_wanted)
		return cli_misuse(cli->spec, "the document is missing");
	cli->operand = n_wanted ? argv[optind] : NULL;
	return CLI_GO_ON;
}

int cli_parse(const struct cli_spec *spec, int argc, char **argv, struct cli *out)
{
	struct option options[N_OPTIONS + 1];
	const char *sas_file = NULL;
	int id, rc = CLI_GO_ON;

	*out = (struct cli){.spec = spec, .socket = CLI_SOCKET_DEFAULT};
	(void)options_of(spec, options);
	optind = 1;
	// All of them, also after one that is wrong: a SAS URL behind it must be wiped.
	while ((id = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		int one = option_take(out, id == 'h' ? OPT_HELP : id, argv, &sas_file);

		if (rc == CLI_GO_ON)
			rc = one;
	}
	if (rc == CLI_GO_ON)
		rc = operands_take(out, argc, argv);
	if (rc != CLI_GO_ON)
		return rc;
	if (out->connection != NULL && *out->connection == '\0')
		return cli_misuse(spec, "--connection needs a name");
	if (sas_file != NULL && out->sas_url != NULL)
		return cli_misuse(spec, "--sas-url-file and --sas-url exclude each other");
	if (sas_file != NULL && out->filter_data != NULL && strcmp(sas_file, "-") == 0 &&
	    strcmp(out->filter_data, "-") == 0)
		return cli_misuse(spec, "only one document can come from standard input");
	return sas_file != NULL ? sas_from_file(out, sas_file) : CLI_GO_ON;
}

void cli_fini(struct cli *cli)
{
	if (cli->sas_url != NULL)
		explicit_bzero(cli->sas_url, strlen(cli->sas_url));
	free(cli->sas_url);
	cli->sas_url = NULL;
}

struct client *cli_client(const struct cli *cli)
{
	struct error err = {{0}};
	struct client *client = client_open(cli->socket, &err);

	if (client == NULL)
		(void)cli_fail(cli, err.text);
	return client;
}

int cli_refused(const struct cli *cli, const struct answer *answer)
{
	const cJSON *error = cJSON_GetObjectItemCaseSensitive(answer->json, "error");
	const cJSON *entry;
	char text[64];

	(void)snprintf(text, sizeof(text), "gatecapd refused (HTTP status %ld).", answer->status);
	if (cli->is_json)
		print_json_line(answer->json);
	(void)cli_fail(cli, json_text(error, "message", text));
	cJSON_ArrayForEach(entry, cJSON_GetObjectItemCaseSensitive(error, "details"))
	{
		const char *target = json_text(entry, "target", "");

		(void)fputs("  ", stderr);
		print_clean(stderr, target);
		(void)fputs(*target != '\0' ? ": " : "", stderr);
		print_clean(stderr, json_text(entry, "message", json_text(entry, "code", "")));
		(void)fputc('\n', stderr);
	}
	return CLI_FAILED;
}

int cli_ask(const struct cli *cli, struct client *client, const char *method, const char *path,
	    const struct cJSON *body, struct answer *out)
{
	struct error err = {{0}};
	int rc = client_call(client, method, path, body, out, &err);

	if (rc == -EINTR) // only who catches signals knows what it means
		return CLI_FAILED;
	if (rc != 0)
		return cli_fail(cli, err.text);
	if (answer_is_ok(out))
		return CLI_GO_ON;
	(void)cli_refused(cli, out);
	answer_fini(out);
	return CLI_FAILED;
}

int cli_ask_scope(const struct cli *cli, struct client *client, const char *method,
		  const char *suffix, const struct cJSON *body, struct answer *out)
{
	char *path = client_scope_path(client, cli->connection, suffix);
	int rc;

	if (path == NULL)
		return cli_fail(cli, "There is no memory for the request.");
	rc = cli_ask(cli, client, method, path, body, out);
	free(path);
	return rc;
}

static void on_signal(int number)
{
	client_interrupted = number;
}

void cli_catch_signals(void)
{
	const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction action = {.sa_handler = on_signal}; // no SA_RESTART: sleeps end

	for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		(void)sigaction(numbers[i], &action, NULL);
}
