/*
 * Answers about workers: lists, starts, checks, stops.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "managerd/first_snapshot.h"
#include "managerd/routes.h"
#include "managerd/verify_first.h"

static void refuse(struct http_request *request, enum pool_code code, const char *text)
{
    struct pool_error error = POOL_ERROR_INIT;
    pool_error_set(&error, code, "%s", text);
    http_respond_error(request, &error);
}

static void answer_worker(struct http_request *request, unsigned status,
                          const struct pool_worker_info *worker)
{
    char *json = NULL;
    struct pool_error error = POOL_ERROR_INIT;
    enum pool_code code = pool_worker_info_encode(worker, &json, &error);
    respond_encoded(request, status, code, json, &error);
}

/* ---- lists ---- */

static void collect(const struct pool_worker_info *worker, void *context)
{
    struct pool_worker_list *list = context;
    list->workers[list->n_workers++] =
        (struct pool_worker_info *)(uintptr_t)worker; /* read only, by the encoder */
}

/* As the registry lists them: in the order of their creation. */
static int compare_age(const void *a, const void *b)
{
    const struct pool_worker_info *one = *(struct pool_worker_info *const *)a;
    const struct pool_worker_info *other = *(struct pool_worker_info *const *)b;
    if (one->created_wall_ms != other->created_wall_ms)
        return one->created_wall_ms < other->created_wall_ms ? -1 : 1;
    return strcmp(one->worker_id, other->worker_id);
}

struct rows_job {
    struct daemon *daemon;
    struct http_request *request;
    char *worker_id; /* NULL: all, live and stopped */
    enum pool_code code;
    struct pool_error error;
    char *json;
};

static enum pool_code encode_all(struct rows_job *job)
{
    struct pool_worker_list *live = NULL, *history = NULL;
    struct pool_worker_list all = { 0 };
    enum pool_code code = pool_manager_rows(job->daemon->manager, POOL_REGISTRY_LIVE, &live, &job->error);
    if (code == POOL_OK)
        code = pool_manager_rows(job->daemon->manager, POOL_REGISTRY_HISTORY, &history, &job->error);
    if (code == POOL_OK) {
        all.workers = calloc(live->n_workers + history->n_workers + 1, sizeof(struct pool_worker_info *));
        code = all.workers ? POOL_OK : pool_error_no_memory(&job->error);
    }
    for (size_t i = 0; code == POOL_OK && i < live->n_workers; i++)
        collect(live->workers[i], &all);
    for (size_t i = 0; code == POOL_OK && i < history->n_workers; i++)
        collect(history->workers[i], &all);
    if (code == POOL_OK)
        code = pool_worker_list_encode(&all, &job->json, &job->error);
    free(all.workers);
    pool_worker_list_free(live);
    pool_worker_list_free(history);
    return code;
}

static void work_rows(void *context)
{
    struct rows_job *job = context;
    struct pool_worker_info *worker = NULL;
    if (!job->worker_id) {
        job->code = encode_all(job);
        return;
    }
    job->code = pool_manager_row(job->daemon->manager, job->worker_id, &worker, &job->error);
    if (job->code == POOL_OK)
        job->code = pool_worker_info_encode(worker, &job->json, &job->error);
    pool_worker_info_free(worker);
}

static void finish_rows(void *context)
{
    struct rows_job *job = context;
    respond_encoded(job->request, 200, job->code, job->json, &job->error);
    free(job->worker_id);
    free(job);
}

/* Rows that are not in memory: the history. */
static void ask_rows(struct daemon *daemon, struct http_request *request, const char *worker_id)
{
    struct rows_job *job = calloc(1, sizeof *job);
    if (job) {
        *job = (struct rows_job){ .daemon = daemon,
                                  .request = request,
                                  .worker_id = worker_id ? strdup(worker_id) : NULL };
        if ((!worker_id || job->worker_id) &&
            executor_submit(daemon->executor, work_rows, finish_rows, job, &job->error) == POOL_OK)
            return;
        free(job->worker_id);
        free(job);
    }
    refuse(request, POOL_INSUFFICIENT_MEMORY, "no memory for the request");
}

void handle_workers(struct daemon *daemon, struct http_request *request)
{
    if (route_number(request, "all") == 1) {
        ask_rows(daemon, request, NULL);
        return;
    }
    size_t n = supervisor_n_workers(daemon->supervisor);
    struct pool_worker_list list = { .workers = calloc(n + 1, sizeof(struct pool_worker_info *)) };
    char *json = NULL;
    struct pool_error error = POOL_ERROR_INIT;
    if (!list.workers) {
        refuse(request, POOL_INSUFFICIENT_MEMORY, "no memory for the request");
        return;
    }
    supervisor_each(daemon->supervisor, collect, &list);
    qsort(list.workers, list.n_workers, sizeof(struct pool_worker_info *), compare_age);
    enum pool_code code = pool_worker_list_encode(&list, &json, &error);
    free(list.workers);
    respond_encoded(request, 200, code, json, &error);
}

void handle_worker(struct daemon *daemon, struct http_request *request)
{
    const char *id = http_request_segment(request, 2);
    if (!pool_worker_id_is_valid(id)) {
        refuse(request, POOL_INVALID_REQUEST, "that is no worker id");
        return;
    }
    const struct pool_worker_info *worker = supervisor_find(daemon->supervisor, id);
    if (worker)
        answer_worker(request, 200, worker);
    else
        ask_rows(daemon, request, id);
}

/* ---- start ---- */

static void answer_start(enum pool_code code, const struct pool_worker_info *worker,
                         const struct pool_error *error, void *context)
{
    struct http_request *request = context;
    if (code != POOL_OK) {
        http_respond_error(request, error);
        return;
    }
    /* The row has what the response has; its strings are lent. */
    struct pool_worker_spawn_response response = {
        .worker_id = worker->worker_id,
        .status = worker->status,
        .pid = worker->process.pid,
        .port = worker->port,
        .uri = worker->uri,
        .gpu_id = worker->gpu_uuid,
        .reserved_vram_bytes = worker->gpu_uuid ? worker->reserved_bytes : 0,
        .reserved_memory_bytes = worker->gpu_uuid ? 0 : worker->reserved_bytes,
        .log_path = worker->log_path,
    };
    char *json = NULL;
    struct pool_error why = POOL_ERROR_INIT;
    code = pool_worker_spawn_response_encode(&response, &json, &why);
    respond_encoded(request, worker->status == POOL_WORKER_SPAWNING ? 202 : 200, code, json, &why);
}

struct start_wish {
    struct daemon *daemon;
    struct http_request *request;
    struct pool_worker_spawn_request *wanted;
    bool is_free;
};

static void start_verified(enum pool_code code, const struct pool_error *error, void *context)
{
    struct pool_error why = POOL_ERROR_INIT;
    struct start_wish *wish = context;
    if (code == POOL_OK && wish->daemon->is_stopping) {
        code = pool_error_set(&why, POOL_CONFLICT, "the daemon is stopping");
        error = &why;
    }
    if (code == POOL_OK) {
        supervisor_start(wish->daemon->supervisor, wish->wanted, wish->wanted->wait, wish->is_free,
                         answer_start, wish->request);
    } else {
        http_respond_error(wish->request, error);
        pool_worker_spawn_request_free(wish->wanted);
    }
    free(wish);
}

static void verify_start(void *context)
{
    struct start_wish *wish = context;
    verify_first(wish->daemon, wish->wanted, wish->is_free, true, start_verified, wish);
}

void handle_worker_start(struct daemon *daemon, struct http_request *request)
{
    size_t n;
    struct pool_error error = POOL_ERROR_INIT;
    struct pool_worker_spawn_request *wanted = NULL;
    const char *body = http_request_body(request, &n);
    struct start_wish *wish = calloc(1, sizeof *wish);
    enum pool_code code =
        wish ? pool_worker_spawn_request_decode(body, n, &wanted, &error) : pool_error_no_memory(&error);
    if (code != POOL_OK) {
        free(wish);
        http_respond_error(request, &error);
        return;
    }
    *wish = (struct start_wish){ .daemon = daemon,
                                 .request = request,
                                 .wanted = wanted,
                                 .is_free = access_scope(request) == SCOPE_ADMIN };
    first_snapshot_await(daemon, wanted->backend, verify_start, wish);
}

/* ---- check ---- */

struct check_job {
    struct daemon *daemon;
    struct http_request *request;
    struct pool_worker_spawn_request *wanted;
    bool is_free;
    enum pool_code code;
    struct pool_error error;
    char *json;
};

static json_t *ledger_document(const struct pool_ledger *ledger)
{
    return json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "device", ledger->device,
        "total_bytes", (json_int_t)ledger->total_bytes, "used_bytes", (json_int_t)ledger->used_bytes,
        "free_bytes", (json_int_t)ledger->free_bytes, "pending_bytes", (json_int_t)ledger->pending_bytes,
        "releasing_bytes", (json_int_t)ledger->releasing_bytes, "headroom_bytes",
        (json_int_t)ledger->headroom_bytes, "available_bytes", (json_int_t)ledger->available_bytes,
        "allocated_bytes", (json_int_t)ledger->allocated_bytes, "foreign_bytes",
        (json_int_t)ledger->foreign_bytes, "n_workers", (json_int_t)ledger->n_workers, "elsewhere_bytes",
        (json_int_t)ledger->elsewhere_bytes);
}

/* NULL: memory ran out. */
static json_t *need_document(const struct pool_memory_need *need)
{
    struct json_failure failure;
    CLEANUP_FREE char *text = NULL;
    return pool_memory_need_encode(need, &text, NULL) == POOL_OK ? json_parse(text, strlen(text), &failure)
                                                                 : NULL;
}

/* Up to NULL. Of a variable only its name: a token may be its value. What is no UTF-8 can not be shown. */
static json_t *texts_document(char *const *texts, bool are_names_only)
{
    json_t *list = json_array();
    for (char *const *text = texts; list && *text; text++) {
        json_t *item = json_stringn(*text, are_names_only ? strcspn(*text, "=") : strlen(*text));
        if (json_array_append_new(list, item ? item : json_string("?")) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *worker_document(const struct pool_worker_info *worker)
{
    struct json_failure failure;
    CLEANUP_FREE char *text = NULL;
    return pool_worker_info_encode(worker, &text, NULL) == POOL_OK ? json_parse(text, strlen(text), &failure)
                                                                   : NULL;
}

/* What has to come free first; null: nothing. NULL: memory ran out. */
static json_t *room_document(const struct pool_start_room *room)
{
    struct json_failure failure;
    CLEANUP_FREE char *text = NULL;
    if (!room->wait_reason[0])
        return json_null();
    return pool_start_room_encode(room, &text, NULL) == POOL_OK ? json_parse(text, strlen(text), &failure)
                                                                : NULL;
}

/* It fits: where, and why. What does not fit is the error that a start would get. */
static char *encode_plan(const struct pool_plan *plan)
{
    /* json_pack takes over what "o" is given, and fails as a whole when one of them is NULL */
    CLEANUP_JSON json_t *need = need_document(&plan->need);
    if (!need)
        return NULL;
    CLEANUP_JSON json_t *document = json_pack(
        "{s:b, s:s?, s:I, s:I, s:s, s:s, s:o, s:O, s:O, s:o, s:o, s:o, s:o}", "fits", 1, "gpu_id",
        plan->gpu_uuid, "port", (json_int_t)plan->port, "reserved_bytes", (json_int_t)plan->reserved_bytes,
        "reserved_source", plan->reserved_source, "placement", plan->placement, "ledger",
        ledger_document(&plan->ledger), "estimate", json_object_get(need, "estimate"), "need", need, "room",
        room_document(&plan->room), "worker", worker_document(plan->worker), "command",
        texts_document(plan->argv, false), "environment_names", texts_document(plan->environment, true));
    return document ? json_print(document) : NULL;
}

static void work_check(void *context)
{
    struct check_job *job = context;
    struct pool_plan *plan = NULL;
    pool_manager_set_unrestricted(job->daemon->manager, job->is_free);
    job->code = pool_manager_check(job->daemon->manager, job->wanted, &plan, &job->error);
    if (job->code == POOL_OK)
        job->json = encode_plan(plan);
    pool_plan_free(plan);
}

static void finish_check(void *context)
{
    struct check_job *job = context;
    respond_encoded(job->request, 200, job->code, job->json, &job->error);
    pool_worker_spawn_request_free(job->wanted);
    free(job);
}

static void check_verified(enum pool_code code, const struct pool_error *error, void *context)
{
    struct check_job *job = context;
    if (code == POOL_OK)
        code = executor_submit(job->daemon->executor, work_check, finish_check, job, &job->error);
    else
        job->error = *error;
    if (code == POOL_OK)
        return; /* the job is another thread's from here on */
    job->code = code;
    finish_check(job);
}

static void verify_check(void *context)
{
    struct check_job *job = context;
    verify_first(job->daemon, job->wanted, job->is_free, false, check_verified, job);
}

void handle_worker_check(struct daemon *daemon, struct http_request *request)
{
    size_t n;
    struct check_job *job = calloc(1, sizeof *job);
    if (!job) {
        refuse(request, POOL_INSUFFICIENT_MEMORY, "no memory for the request");
        return;
    }
    *job = (struct check_job){ .daemon = daemon,
                               .request = request,
                               .is_free = access_scope(request) == SCOPE_ADMIN };
    const char *body = http_request_body(request, &n);
    job->code = pool_worker_spawn_request_decode(body, n, &job->wanted, &job->error);
    if (job->code == POOL_OK)
        first_snapshot_await(daemon, job->wanted->backend, verify_check, job);
    else
        finish_check(job);
}

/* ---- stop ---- */

static void answer_stop(enum pool_code code, const struct pool_worker_info *worker,
                        const struct pool_error *error, void *context)
{
    if (code != POOL_OK)
        http_respond_error(context, error);
    else
        answer_worker(context, worker->status == POOL_WORKER_STOPPED ? 200 : 202, worker);
}

void handle_worker_stop(struct daemon *daemon, struct http_request *request)
{
    size_t n;
    struct pool_error error = POOL_ERROR_INIT;
    struct pool_worker_stop_request *wanted = NULL;
    const char *body = http_request_body(request, &n);
    enum pool_code code = pool_worker_stop_request_decode(body, n, &wanted, &error);
    if (code != POOL_OK) {
        http_respond_error(request, &error);
        return;
    }
    supervisor_stop(daemon->supervisor, wanted->worker_id, POOL_STOP_REQUESTED,
                    wanted->grace_ms.is_present ? wanted->grace_ms.value : -1, wanted->force, wanted->wait,
                    answer_stop, request);
    pool_worker_stop_request_free(wanted);
}
