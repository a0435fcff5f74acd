/*
 * What happened, in order: every state change is an event with an id EPOCH-REVISION. The last ones are kept, so that a
 * reader who was away for a moment goes on where it left off. Readers are told at once.
 */
#ifndef MANAGERD_EVENTS_H
#define MANAGERD_EVENTS_H

#include <pool/error.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EVENTS_KEPT_MAX       1024
#define EVENTS_KEPT_MAX_BYTES (768 << 10) /* a reader may be given all of them at once */
#define EVENT_ID_MAX          64

struct event {
    uint64_t revision;
    const char *type; /* static, for example "worker.ready" */
    const char *json; /* one object */
};

struct event_log;
/* Called for each new event; it may not publish. */
typedef void event_fn(const struct event *event, void *context);
struct event_reader;

/* epoch: new at every start of the daemon. */
POOL_MUST_CHECK enum pool_code event_log_open(const char *epoch, struct event_log **ret_log,
                                              struct pool_error *err);
void event_log_close(struct event_log *log);
/* Takes json over (freed with free()). Without memory the event is lost and the revision grows all the same. */
void event_log_publish(struct event_log *log, const char *type, char *json);
uint64_t event_log_revision(const struct event_log *log);
/* "EPOCH-REVISION" of an event. */
void event_log_format_id(const struct event_log *log, uint64_t revision, char id[EVENT_ID_MAX]);
/*
 * Whether all that came behind an id is still there: false for one of another epoch, one that is no id, and one of whose
 * successors some were dropped already.
 */
bool event_log_is_resumable(const struct event_log *log, const char *last_id);
/* Calls `fn` for every kept event behind `last_id`; for every one that is kept when it is not resumable. */
void event_log_replay(const struct event_log *log, const char *last_id, event_fn *fn, void *context);
POOL_MUST_CHECK enum pool_code event_log_subscribe(struct event_log *log, event_fn *fn, void *context,
                                                   struct event_reader **ret_reader, struct pool_error *err);
/* May be called from within its own event_fn. NULL is fine. */
void event_log_unsubscribe(struct event_log *log, struct event_reader *reader);

#endif
