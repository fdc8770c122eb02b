/* log.h - one line a change of state, on stderr, for people and for journald.
 *
 * Format:  "<N>text" when stderr is the journal ($JOURNAL_STREAM) or no terminal, so that journald
 *          reads the priority; "gatecap-x: text" on a terminal.
 * Threads: any; each line is one write(), so that lines of two threads never mix.
 * Cold:    never per packet, never in a loop that a peer can drive.
 * Secrets: callers never pass keys, tokens, payload or the query of a SAS URL.
 */
#ifndef GATECAP_FILTERS_LOG_H
#define GATECAP_FILTERS_LOG_H

/* Name the program for terminals (borrowed for life) and look once at what stderr is. */
void log_open(const char *program);

void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
