/*
 * The daemon's log: one line an event on standard error, JSON, or text on a terminal. Names of events are stable.
 */
#ifndef MANAGERD_LOG_H
#define MANAGERD_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* `level` as in the configuration: "error", "warning", "info", "debug". */
void log_open(const char *level);
void log_event(enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
