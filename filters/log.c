/* log.c - a line is built on the stack and leaves in one write.
 *
 * syslog(3) was refused: it opens a socket of its own, which the dataplane's seccomp filter forbids,
 * and journald reads stderr with priorities anyway (sd-daemon(3)).
 */
#include "filters/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LINE_BYTES_MAX = 2048 };

enum priority { PRIORITY_ERROR = 3, PRIORITY_WARNING = 4, PRIORITY_INFO = 6 };

static const char *program_name = "gatecap";
static bool has_priorities;

void log_open(const char *program)
{
	program_name = program;
	has_priorities = getenv("JOURNAL_STREAM") != NULL || !isatty(STDERR_FILENO);
}

__attribute__((format(printf, 2, 0))) static void line(enum priority priority, const char *fmt,
						       va_list args)
{
	char text[LINE_BYTES_MAX];
	int n, m;

	if (has_priorities)
		n = snprintf(text, sizeof(text), "<%d>", (int)priority);
	else
		n = snprintf(text, sizeof(text), "%s: ", program_name);
	m = vsnprintf(text + n, sizeof(text) - (size_t)n - 1, fmt, args);
	if (m < 0)
		return;
	n += m;
	if (n > LINE_BYTES_MAX - 2)
		n = LINE_BYTES_MAX - 2; // cut: vsnprintf says what it would have written
	text[n++] = '\n';
	if (write(STDERR_FILENO, text, (size_t)n) < 0)
		return; // nobody is left to tell
}

void log_info(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	line(PRIORITY_INFO, fmt, args);
	va_end(args);
}

void log_warning(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	line(PRIORITY_WARNING, fmt, args);
	va_end(args);
}

void log_error(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	line(PRIORITY_ERROR, fmt, args);
	va_end(args);
}
