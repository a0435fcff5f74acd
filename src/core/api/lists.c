/*
 * Lists of GPUs and workers; see lists.h. Lists are laid out as the rooms that own them do (every member and every
 * array allocated by itself), so that pool_gpu_list_free and pool_worker_list_free take what is made here.
 */
#include "core/api/lists.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "core/api/tables.h"

struct pool_gpu_list *gpu_list_new(void)
{
    return calloc(1, sizeof(struct pool_gpu_list));
}

static void release_gpu(struct pool_gpu_info **gpu)
{
    if (*gpu)
        fields_clear(&gpu_table, *gpu);
    free(*gpu);
}

void gpu_list_release(struct pool_gpu_list **list)
{
    if (!*list)
        return;
    for (size_t i = 0; i < (*list)->n_gpus; i++)
        release_gpu(&(*list)->gpus[i]);
    free((*list)->gpus);
    free(*list);
}

void worker_list_release(struct pool_worker_list **list)
{
    pool_worker_list_free(*list);
}

const struct pool_ledger *find_ledger(const struct pool_ledger *ledgers, size_t n_ledgers, const char *device)
{
    for (size_t i = 0; i < n_ledgers; i++) {
        if (strcmp(ledgers[i].device, device) == 0)
            return &ledgers[i];
    }
    return NULL;
}

void write_gpus(struct writer *w, const struct pool_gpu_list *list, bool with_ledgers,
                const struct pool_ledger *ledgers, size_t n_ledgers)
{
    write_key(w, "gpus");
    write_open(w, '[');
    for (size_t i = 0; list && i < list->n_gpus; i++) {
        write_open(w, '{');
        fields_write(&gpu_table, list->gpus[i], w);
        if (with_ledgers) {
            write_key(w, "ledger");
            fields_write_object(&ledger_table, find_ledger(ledgers, n_ledgers, list->gpus[i]->uuid), w);
        }
        write_close(w, '}');
    }
    write_close(w, ']');
}

void write_workers(struct writer *w, const struct pool_worker_list *list)
{
    write_key(w, "workers");
    write_open(w, '[');
    for (size_t i = 0; list && i < list->n_workers; i++)
        fields_write_object(&worker_table, list->workers[i], w);
    write_close(w, ']');
}

static enum pool_code refuse_array(const char *name, struct pool_error *err)
{
    pool_error_set(err, POOL_INVALID_REQUEST, "\"%s\" must be an array of objects", name);
    pool_error_set_field(err, "%s", name);
    return POOL_INVALID_REQUEST;
}

/* One member of an array; with an error its path is told. */
static enum pool_code read_member(const struct field_table *table, const char *name, size_t i, json_t *json,
                                  void *object, struct pool_error *err)
{
    enum pool_code code =
        json_is_object(json) ? fields_decode(table, json, object, err) : refuse_array(name, err);
    if (code == POOL_INVALID_REQUEST && json_is_object(json))
        field_prefix(err, "%s[%zu].", name, i);
    return code;
}

/* *ret_json: the array, or NULL when there is nothing to read. */
static enum pool_code find_array(json_t *json, const char *name, json_t **ret_json, struct pool_error *err)
{
    json_t *array = json_object_get(json, name);
    bool is_absent = !array || json_is_null(array);
    if (!is_absent && !json_is_array(array))
        return refuse_array(name, err);
    *ret_json = is_absent || json_array_size(array) == 0 ? NULL : array;
    return POOL_OK;
}

enum pool_code read_gpus(json_t *json, struct pool_gpu_list *list, struct pool_error *err)
{
    json_t *array = NULL;
    enum pool_code code = find_array(json, "gpus", &array, err);
    if (code != POOL_OK || !array)
        return code;
    list->gpus = calloc(json_array_size(array), sizeof(struct pool_gpu_info *));
    if (!list->gpus)
        return pool_error_no_memory(err);
    for (size_t i = 0; code == POOL_OK && i < json_array_size(array); i++) {
        struct pool_gpu_info *gpu = calloc(1, sizeof *gpu);
        if (!gpu)
            return pool_error_no_memory(err);
        list->gpus[list->n_gpus++] = gpu;
        code = read_member(&gpu_table, "gpus", i, json_array_get(array, i), gpu, err);
    }
    return code;
}

enum pool_code read_workers(json_t *json, struct pool_worker_list *list, struct pool_error *err)
{
    json_t *array = NULL;
    enum pool_code code = find_array(json, "workers", &array, err);
    if (code != POOL_OK || !array)
        return code;
    list->workers = calloc(json_array_size(array), sizeof(struct pool_worker_info *));
    if (!list->workers)
        return pool_error_no_memory(err);
    for (size_t i = 0; code == POOL_OK && i < json_array_size(array); i++) {
        struct pool_worker_info *worker = pool_worker_info_new();
        if (!worker)
            return pool_error_no_memory(err);
        list->workers[list->n_workers++] = worker;
        code = read_member(&worker_table, "workers", i, json_array_get(array, i), worker, err);
    }
    return code;
}
