/* cli_stats.c - counters once, or every second with rates.
 *
 * A rate is the difference of two answers over the time between them on our own monotonic clock:
 * the daemon's wall clock may step.  A counter that went back (a restart) shows no rate.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "tools/cli.h"

enum { FOLLOW_MS = 1000 };

static const char help_stats[] = "Usage: gatecap stats [--follow] [--socket PATH] [--json]\n\n"
				 "Show the counters of ports, workers and captures.\n\n"
				 "  --follow       again every second, with rates; Ctrl-C ends it\n"
				 "  --socket PATH  socket of gatecapd\n"
				 "  --json         one JSON object a line\n\n"
				 "Example: gatecap stats --follow\n";

static const struct cli_spec spec_stats = {
	.name = "stats",
	.takes = TAKES_FOLLOW,
	.help = help_stats,
};

/* The last answer, for rates. */
struct sample {
	cJSON *json; // NULL: there is none
	uint64_t at_ms;
};

static const cJSON *entry_named(const cJSON *list, const char *key, const char *name)
{
	const cJSON *entry;

	cJSON_ArrayForEach(entry, list)
	{
		if (strcmp(json_text(entry, key, ""), name) == 0)
			return entry;
	}
	return NULL;
}

/* "1,234/s" since the last sample, or "-". */
static const char *rate_text(const cJSON *now, const cJSON *before, const char *key, double seconds,
			     char *buf)
{
	double n = json_number(now, key) - json_number(before, key);
	char number[SIZE_TEXT_BYTES];

	if (before == NULL || seconds <= 0 || n < 0)
		(void)snprintf(buf, SIZE_TEXT_BYTES, "-");
	else
		(void)snprintf(buf, SIZE_TEXT_BYTES, "%.28s/s", number_text(n / seconds, number));
	return buf;
}

static void print_pairs(const cJSON *object)
{
	char text[SIZE_TEXT_BYTES];
	const cJSON *item;

	cJSON_ArrayForEach(item, object)
	{
		if (!cJSON_IsNumber(item) || item->valuedouble <= 0)
			continue;
		(void)fputs("  ", stdout);
		print_clean(stdout, item->string);
		(void)printf(" %s", number_text(item->valuedouble, text));
	}
	(void)putchar('\n');
}

static void print_ports(const cJSON *json, const struct sample *last, double seconds)
{
	const cJSON *before = cJSON_GetObjectItemCaseSensitive(last->json, "ports");
	char received[SIZE_TEXT_BYTES], rate[SIZE_TEXT_BYTES], lost[SIZE_TEXT_BYTES];
	const cJSON *port;

	(void)printf("%-16s %-6s %18s %14s %14s  CLASSES\n", "PORT", "ROLE", "RECEIVED", "RATE",
		     "LOST BY NIC");
	cJSON_ArrayForEach(port, cJSON_GetObjectItemCaseSensitive(json, "ports"))
	{
		const char *name = json_text(port, "name", "?");

		(void)printf("%-16s %-6s %18s %14s %14s", name, json_text(port, "role", "?"),
			     number_text(json_number(port, "received"), received),
			     rate_text(port, entry_named(before, "name", name), "received", seconds,
				       rate),
			     number_text(json_number(port, "lost_nic"), lost));
		print_pairs(cJSON_GetObjectItemCaseSensitive(port, "classes"));
	}
}

static void print_workers(const cJSON *json)
{
	char used[SIZE_TEXT_BYTES], size[SIZE_TEXT_BYTES];
	const cJSON *worker;
	unsigned i = 0;

	(void)printf("\n%-16s %12s %12s  VERDICTS\n", "WORKER", "RING USED", "RING SIZE");
	cJSON_ArrayForEach(worker, cJSON_GetObjectItemCaseSensitive(json, "workers"))
	{
		(void)printf("%-16u %12s %12s", i++,
			     size_text(json_number(worker, "ring_used_bytes"), used),
			     size_text(json_number(worker, "ring_bytes"), size));
		print_pairs(cJSON_GetObjectItemCaseSensitive(worker, "verdicts"));
	}
}

static void print_captures(const cJSON *json, const struct sample *last, double seconds)
{
	const cJSON *captures = cJSON_GetObjectItemCaseSensitive(json, "captures");
	const cJSON *before = cJSON_GetObjectItemCaseSensitive(last->json, "captures");
	char recorded[SIZE_TEXT_BYTES], rate[SIZE_TEXT_BYTES], lost[SIZE_TEXT_BYTES];
	const cJSON *capture;
	char scope[160];

	(void)printf("\n%-24s %-12s %18s %14s %14s\n", "CAPTURE", "STATE", "RECORDED", "RATE",
		     "LOST");
	cJSON_ArrayForEach(capture, captures)
	{
		const cJSON *counters = cJSON_GetObjectItemCaseSensitive(capture, "counters");
		const cJSON *old = entry_named(before, "id", json_text(capture, "id", ""));

		capture_scope(capture, scope, sizeof(scope));
		print_clean(stdout, scope);
		(void)printf("%*s %-12s %18s %14s %14s\n",
			     strlen(scope) < 24 ? 24 - (int)strlen(scope) : 0, "",
			     json_text(capture, "state", "?"),
			     number_text(json_number(counters, "recorded"), recorded),
			     rate_text(counters, cJSON_GetObjectItemCaseSensitive(old, "counters"),
				       "recorded", seconds, rate),
			     number_text(capture_lost(capture), lost));
		if (cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(capture, "esp"))) {
			(void)fputs("  ESP looked into:", stdout);
			print_pairs(cJSON_GetObjectItemCaseSensitive(capture, "esp"));
		}
	}
}

static void print_stats(const struct cli *cli, const cJSON *json, const struct sample *last,
			uint64_t now_ms)
{
	double seconds = last->json != NULL ? (double)(now_ms - last->at_ms) / 1000 : 0;

	if (cli->is_json) {
		print_json_line(json);
		return;
	}
	if (cli->has_follow && isatty(STDOUT_FILENO))
		(void)fputs("\033[H\033[J", stdout);
	else if (last->json != NULL)
		(void)putchar('\n');
	(void)printf("%s\n", json_text(json, "time", ""));
	print_ports(json, last, seconds);
	print_workers(json);
	print_captures(json, last, seconds);
	(void)fflush(stdout);
}

static void follow_wait(void)
{
	struct timespec delay = {.tv_sec = FOLLOW_MS / 1000};

	(void)nanosleep(&delay, NULL);
}

static int stats_run(const struct cli *cli, struct client *client)
{
	struct sample last = {0};
	struct answer answer = {0};
	int rc;

	do {
		rc = cli_ask(cli, client, "GET", CLI_PATH_PREFIX "/stats", NULL, &answer);
		if (rc != CLI_GO_ON)
			break;
		rc = CLI_DONE;
		print_stats(cli, answer.json, &last, cli_now_ms());
		cJSON_Delete(last.json);
		last = (struct sample){answer.json, cli_now_ms()};
		if (cli->has_follow)
			follow_wait();
	} while (cli->has_follow && !client_interrupted && !ferror(stdout));
	cJSON_Delete(last.json);
	return client_interrupted ? CLI_DONE : rc;
}

int cmd_stats(int argc, char **argv)
{
	struct client *client = NULL;
	struct cli cli;
	int rc = cli_parse(&spec_stats, argc, argv, &cli);

	if (rc == CLI_GO_ON) {
		cli_catch_signals(); // Ctrl-C ends --follow: that is how it ends well
		client = cli_client(&cli);
		rc = client != NULL ? stats_run(&cli, client) : CLI_FAILED;
	}
	client_close(client);
	cli_fini(&cli);
	return rc;
}
