/*
 * The whole state as one text, made at most once between two changes: readers in between share it, readers who come while
 * it is being made wait for it together.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "managerd/daemon.h"

struct waiting {
    state_reader *reader;
    void *context;
    struct waiting *next;
};

/* Read by several answers at a time, for as long as the slowest of them takes. */
struct state_text {
    size_t n_users;
    size_t n;
    char *json;
};

struct state_cache {
    struct pool_status_response *status;
    struct state_text *text;
    char etag[EVENT_ID_MAX + sizeof "\"\""];
    bool is_fresh;
    bool is_under_way;
    bool is_spoiled_meanwhile;
    struct waiting *waiting;
};

struct making {
    struct daemon *daemon;
    char generation[EVENT_ID_MAX]; /* when it was begun: events since then may be in the state or not */
    enum pool_code code;
    struct pool_error error;
    struct pool_status_response *status;
    struct state_text *text;
};

void state_text_release(void *context)
{
    struct state_text *text = context;
    if (!text || --text->n_users > 0)
        return;
    free(text->json);
    free(text);
}

struct state_text *state_text_share(struct state_text *text)
{
    text->n_users++;
    return text;
}

enum pool_code state_cache_open(struct daemon *daemon, struct pool_error *err)
{
    daemon->state = calloc(1, sizeof *daemon->state);
    return daemon->state ? POOL_OK : pool_error_no_memory(err);
}

void state_cache_close(struct daemon *daemon)
{
    struct state_cache *cache = daemon->state;
    if (!cache)
        return;
    while (cache->waiting) {
        struct waiting *waiting = cache->waiting;
        cache->waiting = waiting->next;
        free(waiting);
    }
    pool_status_response_free(cache->status);
    state_text_release(cache->text);
    free(cache);
    daemon->state = NULL;
}

void state_cache_spoil(struct daemon *daemon)
{
    daemon->state->is_fresh = false;
    daemon->state->is_spoiled_meanwhile = true;
}

static void make_state(void *context)
{
    struct making *making = context;
    making->code = pool_manager_status(making->daemon->manager, &making->status, &making->error);
    if (making->code != POOL_OK)
        return;
    free(making->status->generation);
    making->status->generation = strdup(making->generation);
    making->text = calloc(1, sizeof *making->text);
    if (!making->status->generation || !making->text) {
        making->code = pool_error_no_memory(&making->error);
        return;
    }
    making->text->n_users = 1;
    making->code = pool_status_response_encode(making->status, &making->text->json, &making->error);
    if (making->code == POOL_OK)
        making->text->n = strlen(making->text->json);
}

static struct state_view view_of(const struct state_cache *cache)
{
    return (struct state_view){ .status = cache->status,
                                .text = cache->text,
                                .json = cache->text ? cache->text->json : NULL,
                                .n_json = cache->text ? cache->text->n : 0,
                                .etag = cache->etag };
}

static void tell_waiting(struct state_cache *cache, const struct pool_error *error)
{
    struct state_view view = view_of(cache);
    struct waiting *waiting = take_ptr(&cache->waiting);
    while (waiting) {
        struct waiting *next = waiting->next;
        waiting->reader(error ? NULL : &view, error, waiting->context);
        free(waiting);
        waiting = next;
    }
}

static void begin_making(struct daemon *daemon);

static void finish_state(void *context)
{
    struct making *making = context;
    struct daemon *daemon = making->daemon;
    struct state_cache *cache = daemon->state;
    cache->is_under_way = false;
    if (making->code == POOL_OK) {
        pool_status_response_free(cache->status);
        state_text_release(cache->text);
        cache->status = take_ptr(&making->status);
        cache->text = take_ptr(&making->text);
        snprintf(cache->etag, sizeof cache->etag, "\"%s\"", making->generation);
        cache->is_fresh = !cache->is_spoiled_meanwhile;
    }
    tell_waiting(cache, making->code == POOL_OK ? NULL : &making->error);
    pool_status_response_free(making->status);
    state_text_release(making->text);
    free(making);
}

static void begin_making(struct daemon *daemon)
{
    struct state_cache *cache = daemon->state;
    struct making *making = calloc(1, sizeof *making);
    struct pool_error error = POOL_ERROR_INIT;
    if (making) {
        making->daemon = daemon;
        event_log_format_id(daemon->events, event_log_revision(daemon->events), making->generation);
        cache->is_under_way = true;
        cache->is_spoiled_meanwhile = false;
        if (executor_submit(daemon->executor, make_state, finish_state, making, &error) == POOL_OK)
            return;
        cache->is_under_way = false;
        free(making);
    }
    pool_error_no_memory(&error);
    tell_waiting(cache, &error);
}

const struct pool_status_response *state_cache_last(const struct daemon *daemon)
{
    return daemon->state->status;
}

void state_cache_read(struct daemon *daemon, state_reader *reader, void *context)
{
    struct state_cache *cache = daemon->state;
    struct pool_error error = POOL_ERROR_INIT;
    if (cache->is_fresh) {
        struct state_view view = view_of(cache);
        reader(&view, NULL, context);
        return;
    }
    struct waiting *waiting = calloc(1, sizeof *waiting);
    if (!waiting) {
        pool_error_no_memory(&error);
        reader(NULL, &error, context);
        return;
    }
    *waiting = (struct waiting){ reader, context, cache->waiting };
    cache->waiting = waiting;
    if (!cache->is_under_way)
        begin_making(daemon);
}
