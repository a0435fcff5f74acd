/*
 * Answers as JSON: spawned workers, workers, GPUs, models. The state of the whole pool is in status.c, the fields
 * are in worker_tables.c, device_tables.c and model_tables.c.
 */
#include <pool/api.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "core/api/lists.h"
#include "core/api/tables.h"

struct pool_worker_spawn_response *pool_worker_spawn_response_new(void)
{
    return calloc(1, sizeof(struct pool_worker_spawn_response));
}

void pool_worker_spawn_response_free(struct pool_worker_spawn_response *response)
{
    if (!response)
        return;
    fields_clear(&worker_spawn_response_table, response);
    free(response);
}

static void release_spawn_response(struct pool_worker_spawn_response **response)
{
    pool_worker_spawn_response_free(*response);
}

static void release_worker(struct pool_worker_info **worker)
{
    pool_worker_info_free(*worker);
}

enum pool_code pool_worker_spawn_response_decode(const char *json, size_t n,
                                                 struct pool_worker_spawn_response **ret_response,
                                                 struct pool_error *err)
{
    CLEANUP_JSON json_t *parsed = NULL;
    CLEANUP(release_spawn_response)
    struct pool_worker_spawn_response *response = pool_worker_spawn_response_new();
    if (!response)
        return pool_error_no_memory(err);
    enum pool_code code = fields_parse(json, n, POOL_ANSWER_MAX_BYTES, &parsed, err);
    if (code == POOL_OK)
        code = fields_decode(&worker_spawn_response_table, parsed, response, err);
    if (code == POOL_OK)
        *ret_response = take_ptr(&response);
    return code;
}

enum pool_code pool_worker_spawn_response_encode(const struct pool_worker_spawn_response *response,
                                                 char **ret_json, struct pool_error *err)
{
    CLEANUP(writer_done) struct writer w = WRITER_INIT(POOL_ANSWER_MAX_BYTES);
    fields_write_object(&worker_spawn_response_table, response, &w);
    return writer_take(&w, ret_json, err);
}

enum pool_code pool_worker_info_decode(const char *json, size_t n, struct pool_worker_info **ret_worker,
                                       struct pool_error *err)
{
    CLEANUP_JSON json_t *parsed = NULL;
    CLEANUP(release_worker) struct pool_worker_info *worker = pool_worker_info_new();
    if (!worker)
        return pool_error_no_memory(err);
    enum pool_code code = fields_parse(json, n, POOL_ANSWER_MAX_BYTES, &parsed, err);
    if (code == POOL_OK)
        code = fields_decode(&worker_table, parsed, worker, err);
    if (code == POOL_OK)
        *ret_worker = take_ptr(&worker);
    return code;
}

enum pool_code pool_worker_info_encode(const struct pool_worker_info *worker, char **ret_json,
                                       struct pool_error *err)
{
    CLEANUP(writer_done) struct writer w = WRITER_INIT(POOL_ANSWER_MAX_BYTES);
    fields_write_object(&worker_table, worker, &w);
    return writer_take(&w, ret_json, err);
}

enum pool_code pool_worker_list_decode(const char *json, size_t n, struct pool_worker_list **ret_list,
                                       struct pool_error *err)
{
    CLEANUP_JSON json_t *parsed = NULL;
    CLEANUP(worker_list_release) struct pool_worker_list *list = calloc(1, sizeof *list);
    if (!list)
        return pool_error_no_memory(err);
    enum pool_code code = fields_parse(json, n, POOL_ANSWER_MAX_BYTES, &parsed, err);
    if (code == POOL_OK)
        code = read_workers(parsed, list, err);
    if (code == POOL_OK)
        *ret_list = take_ptr(&list);
    return code;
}

enum pool_code pool_worker_list_encode(const struct pool_worker_list *list, char **ret_json,
                                       struct pool_error *err)
{
    CLEANUP(writer_done) struct writer w = WRITER_INIT(POOL_ANSWER_MAX_BYTES);
    write_open(&w, '{');
    write_workers(&w, list);
    write_close(&w, '}');
    return writer_take(&w, ret_json, err);
}

enum pool_code pool_gpu_list_decode(const char *json, size_t n, struct pool_gpu_list **ret_list,
                                    struct pool_error *err)
{
    CLEANUP_JSON json_t *parsed = NULL;
    CLEANUP(gpu_list_release) struct pool_gpu_list *list = gpu_list_new();
    if (!list)
        return pool_error_no_memory(err);
    enum pool_code code = fields_parse(json, n, POOL_ANSWER_MAX_BYTES, &parsed, err);
    if (code == POOL_OK)
        code = fields_decode(&gpu_list_table, parsed, list, err);
    if (code == POOL_OK)
        code = read_gpus(parsed, list, err);
    if (code == POOL_OK)
        *ret_list = take_ptr(&list);
    return code;
}

enum pool_code pool_gpu_list_encode(const struct pool_gpu_list *list, const struct pool_ledger *ledgers,
                                    size_t n_ledgers, char **ret_json, struct pool_error *err)
{
    CLEANUP(writer_done) struct writer w = WRITER_INIT(POOL_ANSWER_MAX_BYTES);
    write_open(&w, '{');
    write_gpus(&w, list, ledgers != NULL, ledgers, n_ledgers);
    fields_write(&gpu_list_table, list, &w);
    write_close(&w, '}');
    return writer_take(&w, ret_json, err);
}

static void write_model(struct writer *w, const struct pool_model_metadata *metadata,
                        const struct pool_model *model, const struct pool_model_header *header)
{
    static const struct pool_model_metadata nothing_said = { .size_bytes = -1 };
    fields_write(&model_table, metadata ? metadata : &nothing_said, w);
    write_key(w, "on_disk");
    fields_write_object(&model_on_disk_table, model, w);
    write_key(w, "header");
    fields_write_object(&model_header_table, header, w);
}

enum pool_code pool_model_encode(const struct pool_model_metadata *metadata, const struct pool_model *model,
                                 const struct pool_model_header *header, char **ret_json,
                                 struct pool_error *err)
{
    CLEANUP(writer_done) struct writer w = WRITER_INIT(POOL_ANSWER_MAX_BYTES);
    write_open(&w, '{');
    write_model(&w, metadata, model, header);
    write_close(&w, '}');
    return writer_take(&w, ret_json, err);
}

enum pool_code pool_model_entry_encode(const struct pool_model_metadata *metadata,
                                       const struct pool_model *model, const struct pool_model_header *header,
                                       const struct pool_model_verification *verification,
                                       const struct pool_model_staging *staging, char **ret_json,
                                       struct pool_error *err)
{
    CLEANUP(writer_done) struct writer w = WRITER_INIT(POOL_ANSWER_MAX_BYTES);
    write_open(&w, '{');
    write_model(&w, metadata, model, header);
    write_key(&w, "verification");
    fields_write_object(&model_verification_table, verification, &w);
    write_key(&w, "staging");
    fields_write_object(&model_staging_table, staging, &w);
    write_close(&w, '}');
    return writer_take(&w, ret_json, err);
}

static enum pool_code encode_table(const struct field_table *table, const void *object, char **ret_json,
                                   struct pool_error *err)
{
    CLEANUP(writer_done) struct writer w = WRITER_INIT(POOL_ANSWER_MAX_BYTES);
    fields_write_object(table, object, &w);
    return writer_take(&w, ret_json, err);
}

enum pool_code pool_model_verification_encode(const struct pool_model_verification *verification,
                                              char **ret_json, struct pool_error *err)
{
    return encode_table(&model_verification_table, verification, ret_json, err);
}

enum pool_code pool_model_staging_encode(const struct pool_model_staging *staging, char **ret_json,
                                         struct pool_error *err)
{
    return encode_table(&model_staging_table, staging, ret_json, err);
}

enum pool_code pool_gpu_cordon_encode(const struct pool_gpu_cordon *cordon, char **ret_json,
                                      struct pool_error *err)
{
    return encode_table(&gpu_cordon_table, cordon, ret_json, err);
}

enum pool_code pool_gpu_cordon_decode(const char *json, size_t n, struct pool_gpu_cordon *ret_cordon,
                                      struct pool_error *err)
{
    CLEANUP_JSON json_t *parsed = NULL;
    struct pool_gpu_cordon cordon = { .gpu_id = -1 };
    enum pool_code code = fields_parse(json, n, POOL_ANSWER_MAX_BYTES, &parsed, err);
    if (code == POOL_OK)
        code = fields_decode(&gpu_cordon_table, parsed, &cordon, err);
    if (code == POOL_OK)
        *ret_cordon = cordon;
    return code;
}
