/*
 * Answers about the pool as a whole: health, state, GPUs, models.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/strbuf.h"
#include "managerd/daemon.h"

#define HEALTH_MAX 512

/* Asked more often than anything else, and by those who want to know how soon: written without a tree. None of the texts
 * has anything to escape: a version, a name of letters, digits and ". _ -", hex digits. */
void handle_health(struct daemon *daemon, struct http_request *request)
{
    char body[HEALTH_MAX];
    int64_t up_ms = (clock_boottime_ns() - daemon->started_boottime_ns) / NS_PER_MS;
    int n = snprintf(
        body, sizeof body,
        "{\"status\":\"ok\",\"version\":\"%s\",\"pool_id\":\"%s\",\"epoch\":\"%s\",\"uptime_ms\":%" PRId64
        "}",
        pool_version(), daemon->config->pool_id, daemon->epoch, up_ms);
    http_respond(request, 200, "application/json", body, (size_t)n, HTTP_COPY);
}

/* ---- state ---- */

/* Whether one of a list of entity tags is ours; compared weakly, as for a GET. RFC 9110, section 13.1.2. */
static bool is_etag_listed(const char *list, const char *etag)
{
    size_t n_etag = strlen(etag);
    while (*list) {
        list += strspn(list, " \t,");
        if (strncmp(list, "W/", 2) == 0)
            list += 2;
        size_t n = strcspn(list, ",");
        while (n > 0 && (list[n - 1] == ' ' || list[n - 1] == '\t'))
            n--;
        if ((n == 1 && *list == '*') || (n == n_etag && strncmp(list, etag, n) == 0))
            return true;
        list += strcspn(list, ",");
    }
    return false;
}

static void answer_state(const struct state_view *view, const struct pool_error *error, void *context)
{
    struct http_request *request = context;
    if (error) {
        http_respond_error(request, error);
        return;
    }
    const char *known = http_request_header(request, "If-None-Match");
    http_request_add_header(request, "ETag", view->etag);
    if (known && is_etag_listed(known, view->etag))
        http_respond(request, 304, NULL, NULL, 0, HTTP_STATIC);
    else
        http_respond_shared(request, 200, "application/json", view->json, view->n_json, state_text_release,
                            state_text_share(view->text));
}

void handle_state(struct daemon *daemon, struct http_request *request)
{
    state_cache_read(daemon, answer_state, request);
}

static void answer_gpus(const struct state_view *view, const struct pool_error *error, void *context)
{
    char *json = NULL;
    struct pool_error why = POOL_ERROR_INIT;
    if (error) {
        http_respond_error(context, error);
        return;
    }
    enum pool_code code =
        pool_gpu_list_encode(view->status->gpus, view->status->ledgers, view->status->n_ledgers, &json, &why);
    respond_encoded(context, 200, code, json, &why);
}

void handle_gpus(struct daemon *daemon, struct http_request *request)
{
    state_cache_read(daemon, answer_gpus, request);
}

static void answer_gpu(const struct state_view *view, const struct pool_error *error, void *context)
{
    struct http_request *request = context;
    struct pool_error why = POOL_ERROR_INIT;
    if (error) {
        http_respond_error(request, error);
        return;
    }
    const char *id = http_request_segment(request, 2);
    const struct pool_gpu_info *gpu = pool_gpu_list_find(view->status->gpus, id);
    if (!gpu) {
        pool_error_set(&why, POOL_GPU_NOT_FOUND, "there is no GPU %.100s", id);
        http_respond_error(request, &why);
        return;
    }
    struct pool_gpu_info *one = (struct pool_gpu_info *)(uintptr_t)gpu; /* a list of one, of the same GPU */
    struct pool_gpu_list list = *view->status->gpus;
    list.n_gpus = 1;
    list.gpus = &one;
    char *json = NULL;
    enum pool_code code =
        pool_gpu_list_encode(&list, view->status->ledgers, view->status->n_ledgers, &json, &why);
    respond_encoded(request, 200, code, json, &why);
}

void handle_gpu(struct daemon *daemon, struct http_request *request)
{
    state_cache_read(daemon, answer_gpu, request);
}
