/*
 * The answer to a check as a plan, as far as people are shown one. What is missing in it is shown as nothing.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "cli/remote.h"

static void free_texts(char **texts)
{
    for (char **text = texts; texts && *text; text++)
        free(*text);
    free(texts);
}

/* Not pool_plan_free: this plan was not made by the library, which may know a longer one. */
void remote_plan_free(struct pool_plan *plan)
{
    if (!plan)
        return;
    free(plan->worker_id);
    free(plan->program);
    free(plan->gpu_uuid);
    free_texts(plan->argv);
    free_texts(plan->environment);
    pool_worker_info_free(plan->worker);
    pool_start_room_done(&plan->room);
    free(plan);
}

static void release_plan(struct pool_plan **plan)
{
    remote_plan_free(*plan);
}

static enum pool_code refuse(const char *field, struct pool_error *err)
{
    pool_error_set(err, POOL_INVALID_REQUEST, "not a plan of the API: \"%s\" is missing or of a wrong type",
                   field);
    pool_error_set_field(err, "%s", field);
    return POOL_INVALID_REQUEST;
}

/* false: memory ran out. NULL is copied as NULL. */
static bool copy_text(const char *text, char **ret_copy)
{
    *ret_copy = text ? strdup(text) : NULL;
    return !text || *ret_copy;
}

static int64_t number_of(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

static enum pool_code read_texts(const json_t *document, const char *name, char ***ret_texts,
                                 struct pool_error *err)
{
    const json_t *list = json_object_get(document, name);
    size_t n = json_array_size(list);
    char **texts = calloc(n + 1, sizeof *texts);
    if (!texts)
        return pool_error_no_memory(err);
    *ret_texts = texts;
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (!text)
            return refuse(name, err);
        if (!copy_text(text, &texts[i]))
            return pool_error_no_memory(err);
    }
    return POOL_OK;
}

static enum pool_code read_worker(const json_t *document, struct pool_plan *plan, struct pool_error *err)
{
    const json_t *worker = json_object_get(document, "worker");
    if (!json_is_object(worker))
        return refuse("worker", err);
    CLEANUP_FREE char *text = json_print(worker);
    if (!text)
        return pool_error_no_memory(err);
    enum pool_code code = pool_worker_info_decode(text, strlen(text), &plan->worker, err);
    if (code != POOL_OK)
        return code;
    plan->gpu_id = plan->worker->gpu_id;
    plan->port = plan->worker->port;
    return copy_text(plan->worker->worker_id, &plan->worker_id) &&
                   copy_text(plan->worker->gpu_uuid, &plan->gpu_uuid)
               ? POOL_OK
               : pool_error_no_memory(err);
}

static void read_ledger(const json_t *object, struct pool_ledger *ledger)
{
    const char *device = json_string_value(json_object_get(object, "device"));
    snprintf(ledger->device, sizeof ledger->device, "%s", device ? device : "");
    ledger->total_bytes = number_of(object, "total_bytes");
    ledger->used_bytes = number_of(object, "used_bytes");
    ledger->free_bytes = number_of(object, "free_bytes");
    ledger->pending_bytes = number_of(object, "pending_bytes");
    ledger->releasing_bytes = number_of(object, "releasing_bytes");
    ledger->headroom_bytes = number_of(object, "headroom_bytes");
    ledger->available_bytes = number_of(object, "available_bytes");
    ledger->allocated_bytes = number_of(object, "allocated_bytes");
    ledger->foreign_bytes = number_of(object, "foreign_bytes");
    ledger->n_workers = number_of(object, "n_workers");
    ledger->elsewhere_bytes = number_of(object, "elsewhere_bytes");
}

/* An older daemon says the parts of it apart. */
static enum pool_code read_need(const json_t *document, struct pool_memory_need *need, struct pool_error *err)
{
    const json_t *said = json_object_get(document, "need");
    CLEANUP_JSON json_t *object =
        said ? json_incref((json_t *)(uintptr_t)said)
             : json_pack("{s:O?, s:O?, s:O?}", "bytes", json_object_get(document, "reserved_bytes"), "source",
                         json_object_get(document, "reserved_source"), "estimate",
                         json_object_get(document, "estimate"));
    if (object && !json_is_object(object))
        return refuse("need", err);
    CLEANUP_FREE char *text = object ? json_print(object) : NULL;
    return text ? pool_memory_need_decode(text, strlen(text), need, err) : pool_error_no_memory(err);
}

static enum pool_code read_room(const json_t *document, struct pool_start_room *room, struct pool_error *err)
{
    const json_t *said = json_object_get(document, "room");
    if (!said || json_is_null(said))
        return POOL_OK;
    if (!json_is_object(said))
        return refuse("room", err);
    CLEANUP_FREE char *text = json_print(said);
    return text ? pool_start_room_decode(text, strlen(text), room, err) : pool_error_no_memory(err);
}

enum pool_code remote_plan_decode(const char *json, size_t n, struct pool_plan **ret_plan,
                                  struct pool_error *err)
{
    CLEANUP(release_plan) struct pool_plan *plan = calloc(1, sizeof *plan);
    struct json_failure failure = { 0 };
    CLEANUP_JSON json_t *document = plan ? json_parse(json, n, &failure) : NULL;
    if (!plan || failure.is_no_memory)
        return pool_error_no_memory(err);
    if (!json_is_object(document))
        return refuse("", err);
    enum pool_code code = read_worker(document, plan, err);
    if (code == POOL_OK)
        code = read_texts(document, "command", &plan->argv, err);
    if (code == POOL_OK)
        code = read_texts(document, "environment_names", &plan->environment, err);
    if (code == POOL_OK)
        code = read_need(document, &plan->need, err);
    if (code == POOL_OK)
        code = read_room(document, &plan->room, err);
    if (code != POOL_OK)
        return code;
    plan->reserved_bytes = number_of(document, "reserved_bytes");
    const char *placement = json_string_value(json_object_get(document, "placement"));
    snprintf(plan->placement, sizeof plan->placement, "%s", placement ? placement : "");
    plan->reserved_source = plan->need.source;
    plan->estimate = plan->need.estimate;
    read_ledger(json_object_get(document, "ledger"), &plan->ledger);
    *ret_plan = take_ptr(&plan);
    return POOL_OK;
}
