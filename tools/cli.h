/* cli.h - what the sub-commands of gatecap share.
 *
 * Flow:    gatecap.c -> table of commands -> cli_parse() -> cli_*.c -> client.h
 * Output:  answers on stdout; errors, warnings and progress on stderr.  With --json, stdout has
 *          JSON and nothing else, one document a line, also for a refusal.
 * Exit:    enum cli_exit; a refusal says why and what to do in a sentence.
 * Shown:   texts of the daemon are printed without control characters: they may quote a storage's
 *          answer, which must not write to a terminal.
 * Proof:   tests/test_cli.py
 */
#ifndef GATECAP_TOOLS_CLI_H
#define GATECAP_TOOLS_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "filters/error.h"
#include "tools/client.h"

#define CLI_SOCKET_DEFAULT "/run/gatecap/gatecap.sock"
#define CLI_PATH_PREFIX	   "/gatecap/v1"

enum cli_exit { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_GO_ON = -1 };

/* Which options a command takes; --socket, --json and --help belong to all. */
enum cli_takes {
	TAKES_CONNECTION = 1 << 0,
	TAKES_FILTER_DATA = 1 << 1,
	TAKES_SAS_FILE = 1 << 2,
	TAKES_SAS_URL = 1 << 3,
	TAKES_OUTPUT = 1 << 4,
	TAKES_FORCE = 1 << 5,
	TAKES_FOLLOW = 1 << 6,
	TAKES_OPERAND = 1 << 7, // exactly one
	TAKES_KEYS = 1 << 8,	// --file, --format
	TAKES_SA = 1 << 9,	// --spi, --dst
};

struct cli_spec {
	const char *name;
	unsigned takes;	  // of enum cli_takes
	const char *help; // printed by --help: usage, what it does, options, an example
};

struct cli {
	const struct cli_spec *spec;
	const char *socket;
	bool is_json, has_force, has_follow;
	const char *connection;
	const char *filter_data; // as given: JSON, @FILE or -
	const char *output;
	const char *operand;
	const char *file, *format;
	const char *spi, *dst;
	char *sas_url; // read and trimmed; a secret
};

/* Parse argv (argv[0] is the command's name).  Returns CLI_GO_ON, or the exit code at once;
 * cli_fini() is due in either case.  Reads the SAS file.  Wipes a SAS URL from argv.
 */
int cli_parse(const struct cli_spec *spec, int argc, char **argv, struct cli *out);
void cli_fini(struct cli *cli); // wipes the secret

/* Gives the text of JSON, @FILE or - (stdin), at most 1 MiB, or NULL with a sentence. */
char *cli_text_of(const char *given, struct error *err);

/* Gives (free) all of a file, - is standard input, or NULL with a sentence.  May be a secret: to be wiped. */
char *cli_read_file(const char *path, size_t bytes_max, struct error *err);

/* "gatecap start: SENTENCE" on stderr.  Returns CLI_FAILED. */
int cli_fail(const struct cli *cli, const char *sentence);

/* The same and a hint at --help.  Returns CLI_USAGE. */
int cli_misuse(const struct cli_spec *spec, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Ask, and end if it fails: CLI_GO_ON with *out to be ended, or CLI_FAILED and all is said, but for
 * a signal that was caught: then the caller says what it means.
 */
int cli_ask(const struct cli *cli, struct client *client, const char *method, const char *path,
	    const struct cJSON *body, struct answer *out);

/* The same for a path of the command's scope. */
int cli_ask_scope(const struct cli *cli, struct client *client, const char *method,
		  const char *suffix, const struct cJSON *body, struct answer *out);

/* Say why the daemon refused: message, details one a line.  Returns CLI_FAILED. */
int cli_refused(const struct cli *cli, const struct answer *answer);

/* Open the client; NULL and all is said. */
struct client *cli_client(const struct cli *cli);

/* SIGINT, SIGTERM and SIGHUP set client_interrupted instead of ending the process. */
void cli_catch_signals(void);

/* cli_print.c */
void print_clean(FILE *out, const char *text);			  // control characters become '?'
const char *shell_word(const char *text, char *buf, size_t size); // quoted where it must be
void print_json_line(const struct cJSON *json);
void print_warnings(const struct cJSON *list); // "warning: POINTER: MESSAGE" on stderr
const char *json_text(const struct cJSON *object, const char *key, const char *otherwise);
double json_number(const struct cJSON *object, const char *key); // 0 if it is not there
double capture_lost(const struct cJSON *capture);		 // sum over the causes
void capture_scope(const struct cJSON *capture, char *buf, size_t size);
void print_settings(const struct cJSON *capture); // one a line
void print_capture(const struct cJSON *capture);  // all of it, for people

enum { SIZE_TEXT_BYTES = 32 };
const char *size_text(double n_bytes, char *buf);  // "12.3 MB"
const char *number_text(double number, char *buf); // "1,234,567"

/* A line on stderr that overwrites itself; only on a terminal. */
struct progress {
	bool is_on, is_shown;
	uint64_t first_bytes, last_ms, first_ms;
};

void progress_start(struct progress *p);
void progress_show(struct progress *p, const char *stage, uint64_t done, uint64_t total);
void progress_end(struct progress *p);
uint64_t cli_now_ms(void);

/* Commands: cli_capture.c, cli_stop.c, cli_stats.c, cli_check.c, cli_sa.c. */
int cmd_start(int argc, char **argv);
int cmd_abort(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_stop(int argc, char **argv);
int cmd_snapshot(int argc, char **argv);
int cmd_stats(int argc, char **argv);
int cmd_check_filter(int argc, char **argv);
int cmd_check_sas(int argc, char **argv);
int cmd_sa(int argc, char **argv);

#endif
