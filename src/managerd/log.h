/*
 * The daemon's log: one line an event on standard error. JSON; text on a terminal; journald's own protocol when systemd
 * has connected standard error to the journal. It never waits for whoever reads it: what is not taken at once is counted,
 * and told when there is room again.
 *
 * Everything of a line that came from elsewhere is made fit to be shown: valid UTF-8, no control characters.
 *
 * The loop's thread alone may log.
 */
#ifndef MANAGERD_LOG_H
#define MANAGERD_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "managerd/log_events.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

enum log_event {
#define LOG_EVENT_ENUM(name, text, level, about) LOG_##name,
    LOG_EVENTS(LOG_EVENT_ENUM)
#undef LOG_EVENT_ENUM
};

/* What a line may have beside its message; the names in JSON. NULL and 0: not there. */
#define LOG_TEXT_FIELDS(X) \
    X(correlation_id)      \
    X(worker_id)           \
    X(caller)              \
    X(peer)                \
    X(method)              \
    X(route)               \
    X(code)                \
    X(reason)
#define LOG_NUMBER_FIELDS(X) \
    X(pid)                   \
    X(port)                  \
    X(http_status)           \
    X(duration_us)

struct log_fields {
#define LOG_FIELD_TEXT(name) const char *name;
    LOG_TEXT_FIELDS(LOG_FIELD_TEXT)
#undef LOG_FIELD_TEXT
#define LOG_FIELD_NUMBER(name) int64_t name;
    LOG_NUMBER_FIELDS(LOG_FIELD_NUMBER)
#undef LOG_FIELD_NUMBER
};

#define LOG_MESSAGE_MAX \
    800 /* bytes; with all fields, and all of it escaped, a line is no longer than LOG_LINE_MAX */
#define LOG_TEXT_MAX 96 /* of a field */

/* `level` as in the configuration: "error", "warning", "info", "debug". The environment says where stderr leads. */
void log_open(const char *level, const char *const *environment);
/* Everything, and back to the level of log_open. */
void log_toggle_debug(void);
/* Whether events of a level are told at all. */
bool log_has(enum log_level level);
/* fields may be NULL. The correlation id is that of the cause unless it is given. */
void log_tell(enum log_event event, const struct log_fields *fields, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
const char *log_event_name(enum log_event event);

/*
 * The cause: the request that what happens now belongs to, by its correlation id. What is done later for the same
 * request takes a copy along and enters it again:
 *
 *     CLEANUP(log_leave_cause) struct log_cause before = log_enter_cause(job->cause.id);
 */
#define LOG_CAUSE_MAX 64
struct log_cause {
    char id[LOG_CAUSE_MAX + 1]; /* "": none */
};
struct log_cause log_enter_cause(const char *id);
void log_leave_cause(struct log_cause *before);
struct log_cause log_cause(void);

#endif
