/*
 * One line an event; see log.h.
 */
#include "managerd/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"

static const char *const level_names[] = { "error", "warning", "info", "debug" };

static struct {
    enum log_level level;
    bool is_text;
} settings = { LOG_LEVEL_INFO, false };

void log_open(const char *level)
{
    for (int i = 0; i <= LOG_LEVEL_DEBUG; i++) {
        if (strcmp(level, level_names[i]) == 0)
            settings.level = (enum log_level)i;
    }
    settings.is_text = isatty(STDERR_FILENO) == 1;
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
    if (level > settings.level)
        return;
    char message[1024], now[RFC3339_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    clock_format_rfc3339(clock_wall_ms(), now);
    if (settings.is_text) {
        fprintf(stderr, "%s %-7s %s: %s\n", now, level_names[level], event, message);
        return;
    }
    json_t *line = json_pack("{s:s, s:s, s:s, s:s%}", "time", now, "level", level_names[level], "event",
                             event, "message", message, strlen(message));
    char *text = line ? json_print(line) : NULL;
    /* What is not UTF-8 can not be JSON: the event is told all the same. */
    if (text)
        fprintf(stderr, "%s\n", text);
    else
        fprintf(stderr, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\"}\n", now, level_names[level],
                event);
    free(text);
    json_decref(line);
}
