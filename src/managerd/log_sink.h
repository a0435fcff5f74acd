/*
 * Where lines of the log go, and in which form: standard error as JSON or text, or the journal.
 */
#ifndef MANAGERD_LOG_SINK_H
#define MANAGERD_LOG_SINK_H

#include <stdbool.h>
#include <stddef.h>

enum log_form { LOG_FORM_JSON, LOG_FORM_TEXT, LOG_FORM_JOURNAL };

#define LOG_LINE_MAX 4096 /* PIPE_BUF: a pipe that has room takes it at once and whole */

/* Looks where standard error leads: a terminal, the journal (JOURNAL_STREAM), something else. */
void log_sink_open(const char *const *environment);
enum log_form log_sink_form(void);
/*
 * One line with its end, or one entry of the journal. false: nobody took it; it is lost.
 * Blocks: not at all.
 */
bool log_sink_put(const char *data, size_t n);

#endif
