/*
 * The event log; see events.h. A ring with a bound on entries and on bytes.
 */
#include "managerd/events.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"

struct event_reader {
    event_fn *fn; /* NULL: unsubscribed while it was being told */
    void *context;
    struct event_reader *next;
};

struct kept {
    struct event event;
    char *json;
    size_t n_bytes;
};

struct event_log {
    char epoch[EVENT_ID_MAX / 2];
    struct kept ring[EVENTS_KEPT_MAX];
    size_t first, n;
    size_t n_bytes;
    uint64_t revision;
    struct event_reader *readers;
    bool is_telling;
};

enum pool_code event_log_open(const char *epoch, struct event_log **ret_log, struct pool_error *err)
{
    struct event_log *log = calloc(1, sizeof *log);
    if (!log)
        return pool_error_no_memory(err);
    snprintf(log->epoch, sizeof log->epoch, "%s", epoch);
    *ret_log = log;
    return POOL_OK;
}

void event_log_close(struct event_log *log)
{
    if (!log)
        return;
    for (size_t i = 0; i < log->n; i++)
        free(log->ring[(log->first + i) % EVENTS_KEPT_MAX].json);
    while (log->readers) {
        struct event_reader *reader = log->readers;
        log->readers = reader->next;
        free(reader);
    }
    free(log);
}

static void drop_first(struct event_log *log)
{
    struct kept *kept = &log->ring[log->first];
    log->n_bytes -= kept->n_bytes;
    free(kept->json);
    log->first = (log->first + 1) % EVENTS_KEPT_MAX;
    log->n--;
}

static void sweep_readers(struct event_log *log)
{
    for (struct event_reader **at = &log->readers; *at;) {
        struct event_reader *reader = *at;
        if (reader->fn) {
            at = &reader->next;
            continue;
        }
        *at = reader->next;
        free(reader);
    }
}

void event_log_publish(struct event_log *log, const char *type, char *json)
{
    log->revision++;
    if (!json) { /* whoever asks for what is behind its predecessor learns that something is missing */
        while (log->n > 0)
            drop_first(log);
        return;
    }
    size_t n_bytes = strlen(json);
    while (log->n == EVENTS_KEPT_MAX || (log->n > 0 && log->n_bytes + n_bytes > EVENTS_KEPT_MAX_BYTES))
        drop_first(log);
    struct kept *kept = &log->ring[(log->first + log->n) % EVENTS_KEPT_MAX];
    *kept = (struct kept){ .event = { log->revision, type, json }, .json = json, .n_bytes = n_bytes };
    log->n++;
    log->n_bytes += n_bytes;
    log->is_telling = true;
    for (struct event_reader *reader = log->readers; reader; reader = reader->next) {
        if (reader->fn)
            reader->fn(&kept->event, reader->context);
    }
    log->is_telling = false;
    sweep_readers(log);
}

uint64_t event_log_revision(const struct event_log *log)
{
    return log->revision;
}

void event_log_format_id(const struct event_log *log, uint64_t revision, char id[EVENT_ID_MAX])
{
    snprintf(id, EVENT_ID_MAX, "%s-%" PRIu64, log->epoch, revision);
}

/* The revision behind which somebody wants to go on; false: not one of ours, or what is behind it is gone. */
static bool find_start(const struct event_log *log, const char *last_id, uint64_t *ret_last)
{
    size_t n_epoch = strlen(log->epoch);
    int64_t last;
    uint64_t oldest = log->n > 0 ? log->ring[log->first].event.revision : log->revision + 1;
    if (strncmp(last_id, log->epoch, n_epoch) != 0 || last_id[n_epoch] != '-' ||
        !parse_int64(last_id + n_epoch + 1, 0, (int64_t)log->revision, &last) || (uint64_t)last + 1 < oldest)
        return false;
    *ret_last = (uint64_t)last;
    return true;
}

bool event_log_is_resumable(const struct event_log *log, const char *last_id)
{
    uint64_t last;
    return find_start(log, last_id, &last);
}

void event_log_replay(const struct event_log *log, const char *last_id, event_fn *fn, void *context)
{
    uint64_t last = 0;
    (void)find_start(log, last_id, &last);
    for (size_t i = 0; i < log->n; i++) {
        const struct event *event = &log->ring[(log->first + i) % EVENTS_KEPT_MAX].event;
        if (event->revision > last)
            fn(event, context);
    }
}

enum pool_code event_log_subscribe(struct event_log *log, event_fn *fn, void *context,
                                   struct event_reader **ret_reader, struct pool_error *err)
{
    struct event_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return pool_error_no_memory(err);
    reader->fn = fn;
    reader->context = context;
    reader->next = log->readers;
    log->readers = reader;
    *ret_reader = reader;
    return POOL_OK;
}

void event_log_unsubscribe(struct event_log *log, struct event_reader *reader)
{
    if (!reader)
        return;
    reader->fn = NULL;
    if (!log->is_telling)
        sweep_readers(log);
}
