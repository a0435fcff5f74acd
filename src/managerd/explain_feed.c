/*
 * See explain_feed.h.
 */
#include "managerd/explain_feed.h"

#include <stdlib.h>

#include "base/cleanup.h"

struct item {
    enum pool_explain_kind kind;
    char *json;
};

struct explain_feed {
    uv_async_t wake;
    uv_mutex_t mutex;
    size_t n;
    struct item items[EXPLAIN_FEED_MAX];
    explain_feed_fn *tell;
    void *context;
};

static const char *event_type(enum pool_explain_kind kind)
{
    static const char *const types[] = {
#define POOL_X(name, text) "explain." text,
        POOL_EXPLAIN_KINDS(POOL_X)
#undef POOL_X
    };
    return (size_t)kind < sizeof types / sizeof types[0] ? types[kind] : "explain.unknown";
}

static void tell_all(uv_async_t *wake)
{
    struct explain_feed *feed = wake->data;
    for (size_t i = 0;; i++) {
        struct item item = { 0 };
        uv_mutex_lock(&feed->mutex);
        bool is_there = i < feed->n;
        if (is_there)
            item = feed->items[i];
        else
            feed->n = 0;
        uv_mutex_unlock(&feed->mutex);
        if (!is_there)
            return;
        feed->tell(event_type(item.kind), item.json, feed->context);
    }
}

enum pool_code explain_feed_open(uv_loop_t *loop, explain_feed_fn *tell, void *context,
                                 struct explain_feed **ret_feed, struct pool_error *err)
{
    struct explain_feed *feed = calloc(1, sizeof *feed);
    if (!feed)
        return pool_error_no_memory(err);
    if (uv_mutex_init(&feed->mutex) != 0) {
        free(feed);
        return pool_error_no_memory(err);
    }
    if (uv_async_init(loop, &feed->wake, tell_all) != 0) {
        uv_mutex_destroy(&feed->mutex);
        free(feed);
        return pool_error_no_memory(err);
    }
    uv_unref((uv_handle_t *)&feed->wake); /* it alone keeps no loop running */
    feed->wake.data = feed;
    feed->tell = tell;
    feed->context = context;
    *ret_feed = feed;
    return POOL_OK;
}

void explain_feed_put(const struct pool_explanation *explanation, void *context)
{
    struct explain_feed *feed = context;
    char *json = NULL;
    if (pool_explanation_encode(explanation, &json, NULL) != POOL_OK)
        return;
    uv_mutex_lock(&feed->mutex);
    if (feed->n < EXPLAIN_FEED_MAX) {
        feed->items[feed->n++] = (struct item){ explanation->kind, json };
        json = NULL;
    }
    uv_mutex_unlock(&feed->mutex);
    free(json);
    uv_async_send(&feed->wake);
}

static void free_feed(uv_handle_t *handle)
{
    struct explain_feed *feed = handle->data;
    for (size_t i = 0; i < feed->n; i++)
        free(feed->items[i].json);
    uv_mutex_destroy(&feed->mutex);
    free(feed);
}

void explain_feed_close(struct explain_feed *feed)
{
    if (feed)
        uv_close((uv_handle_t *)&feed->wake, free_feed);
}
