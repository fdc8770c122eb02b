/* fuzz_log.h - the log of a fuzz target: lines are put together, and go nowhere.
 *
 * Included once by a target that does not link filters/log.c.
 */
#ifndef GATECAP_TESTS_FUZZ_LOG_H
#define GATECAP_TESTS_FUZZ_LOG_H

#include <stdarg.h>
#include <stdio.h>

#include "filters/log.h"

__attribute__((format(printf, 1, 0))) static void log_line(const char *fmt, va_list args)
{
	char line[2048];

	(void)vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
}

#define LOG_FUNCTION(name)              \
	void name(const char *fmt, ...) \
	{                               \
		va_list args;           \
		va_start(args, fmt);    \
		log_line(fmt, args);    \
	}
LOG_FUNCTION(log_info)
LOG_FUNCTION(log_warning)
LOG_FUNCTION(log_error)

#endif
