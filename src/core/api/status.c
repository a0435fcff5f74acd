/*
 * PoolStatusResponse as JSON: the whole pool at one moment. The arithmetic in it is the lifecycle's.
 */
#include <pool/api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "core/api/lists.h"
#include "core/api/tables.h"

#define HOST_DEVICE "host"

static bool is_listed(const struct pool_gpu_list *list, const char *device)
{
    for (size_t i = 0; list && i < list->n_gpus; i++) {
        if (strcmp(list->gpus[i]->uuid, device) == 0)
            return true;
    }
    return false;
}

static void write_lost_ledgers(struct writer *w, const struct pool_status_response *response)
{
    write_key(w, "lost_ledgers");
    write_open(w, '[');
    for (size_t i = 0; i < response->n_ledgers; i++) {
        const char *device = response->ledgers[i].device;
        if (strcmp(device, HOST_DEVICE) != 0 && !is_listed(response->gpus, device))
            fields_write_object(&ledger_table, &response->ledgers[i], w);
    }
    write_close(w, ']');
}

enum pool_code pool_status_response_encode(const struct pool_status_response *response, char **ret_json,
                                           struct pool_error *err)
{
    CLEANUP(writer_done) struct writer w = WRITER_INIT(POOL_ANSWER_MAX_BYTES);
    const struct pool_worker_list *workers = response->workers;
    write_open(&w, '{');
    fields_write(&status_table, response, &w);
    write_gpus(&w, response->gpus, true, response->ledgers, response->n_ledgers);
    write_key(&w, "gpu_inventory");
    fields_write_object(&gpu_list_table, response->gpus, &w);
    write_key(&w, "host_memory");
    fields_write_object(&ledger_table, find_ledger(response->ledgers, response->n_ledgers, HOST_DEVICE), &w);
    write_lost_ledgers(&w, response);
    write_workers(&w, workers);
    write_key(&w, "gpu_locks");
    fields_write_object(&gpu_locks_table, &response->gpu_locks, &w);
    write_key(&w, "capacity");
    write_open(&w, '{');
    write_key(&w, "workers");
    write_integer(&w, workers ? (int64_t)workers->n_workers : 0);
    fields_write(&capacity_table, response, &w);
    write_close(&w, '}');
    write_close(&w, '}');
    return writer_take(&w, ret_json, err);
}

void pool_status_response_free(struct pool_status_response *response)
{
    if (!response)
        return;
    fields_clear(&status_table, response);
    gpu_list_release(&response->gpus);
    pool_worker_list_free(response->workers);
    free(response->ledgers);
    free(response);
}

static void release_status(struct pool_status_response **response)
{
    pool_status_response_free(*response);
}

static enum pool_code refuse_part(const char *path, const char *what, struct pool_error *err)
{
    pool_error_set(err, POOL_INVALID_REQUEST, "\"%s\" must be %s", path, what);
    pool_error_set_field(err, "%s", path);
    return POOL_INVALID_REQUEST;
}

/* Appends the ledger that is in `json`, if there is one. There is room for it. */
static enum pool_code read_ledger(json_t *json, const char *path, struct pool_status_response *response,
                                  struct pool_error *err)
{
    if (!json || json_is_null(json))
        return POOL_OK;
    if (!json_is_object(json))
        return refuse_part(path, "an object", err);
    enum pool_code code = fields_decode(&ledger_table, json, &response->ledgers[response->n_ledgers++], err);
    if (code == POOL_INVALID_REQUEST)
        field_prefix(err, "%s.", path);
    return code;
}

/* In the order of the GPUs, then of the host, then of what is not there. */
static enum pool_code read_ledgers(json_t *json, struct pool_status_response *response,
                                   struct pool_error *err)
{
    json_t *gpus = json_object_get(json, "gpus");
    json_t *lost = json_object_get(json, "lost_ledgers");
    if (lost && !json_is_null(lost) && !json_is_array(lost))
        return refuse_part("lost_ledgers", "an array of objects", err);
    char path[64];
    response->ledgers = calloc(json_array_size(gpus) + 1 + json_array_size(lost), sizeof *response->ledgers);
    if (!response->ledgers)
        return pool_error_no_memory(err);
    enum pool_code code = POOL_OK;
    for (size_t i = 0; code == POOL_OK && i < json_array_size(gpus); i++) {
        snprintf(path, sizeof path, "gpus[%zu].ledger", i);
        code = read_ledger(json_object_get(json_array_get(gpus, i), "ledger"), path, response, err);
    }
    if (code == POOL_OK)
        code = read_ledger(json_object_get(json, "host_memory"), "host_memory", response, err);
    for (size_t i = 0; code == POOL_OK && i < json_array_size(lost); i++) {
        snprintf(path, sizeof path, "lost_ledgers[%zu]", i);
        code = read_ledger(json_array_get(lost, i), path, response, err);
    }
    return code;
}

/* A member that is an object described by a table and may be absent. */
static enum pool_code read_part(json_t *json, const char *name, const struct field_table *table, void *object,
                                struct pool_error *err)
{
    json_t *part = json_object_get(json, name);
    if (!part || json_is_null(part))
        return POOL_OK;
    if (!json_is_object(part))
        return refuse_part(name, "an object", err);
    enum pool_code code = fields_decode(table, part, object, err);
    if (code == POOL_INVALID_REQUEST)
        field_prefix(err, "%s.", name);
    return code;
}

static enum pool_code read_status(json_t *json, struct pool_status_response *response, struct pool_error *err)
{
    enum pool_code code = fields_decode(&status_table, json, response, err);
    if (code == POOL_OK)
        code = read_gpus(json, response->gpus, err);
    if (code == POOL_OK)
        code = read_part(json, "gpu_inventory", &gpu_list_table, response->gpus, err);
    if (code == POOL_OK)
        code = read_ledgers(json, response, err);
    if (code == POOL_OK)
        code = read_workers(json, response->workers, err);
    if (code == POOL_OK)
        code = read_part(json, "gpu_locks", &gpu_locks_table, &response->gpu_locks, err);
    if (code == POOL_OK)
        code = read_part(json, "capacity", &capacity_table, response, err);
    return code;
}

enum pool_code pool_status_response_decode(const char *json, size_t n,
                                           struct pool_status_response **ret_response, struct pool_error *err)
{
    CLEANUP_JSON json_t *parsed = NULL;
    enum pool_code code = fields_parse(json, n, POOL_ANSWER_MAX_BYTES, &parsed, err);
    if (code != POOL_OK)
        return code;
    CLEANUP(release_status) struct pool_status_response *response = calloc(1, sizeof *response);
    if (!response)
        return pool_error_no_memory(err);
    response->gpus = gpu_list_new();
    response->workers = calloc(1, sizeof *response->workers);
    if (!response->gpus || !response->workers)
        return pool_error_no_memory(err);
    code = read_status(parsed, response, err);
    if (code == POOL_OK)
        *ret_response = take_ptr(&response);
    return code;
}
