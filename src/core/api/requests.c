/*
 * Requests as JSON: what a person or program asks for. The fields are in worker_tables.c.
 */
#include <pool/api.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "core/api/tables.h"

/* Decodes into a fresh struct of the table; the caller frees what is in it, also on failure. */
static enum pool_code decode_request(const struct field_table *table, const char *json, size_t n,
                                     void *request, struct pool_error *err)
{
    CLEANUP_JSON json_t *parsed = NULL;
    enum pool_code code = fields_parse(json, n, POOL_REQUEST_MAX_BYTES, &parsed, err);
    return code == POOL_OK ? fields_decode(table, parsed, request, err) : code;
}

static enum pool_code encode_request(const struct field_table *table, const void *request, char **ret_json,
                                     struct pool_error *err)
{
    CLEANUP(writer_done) struct writer w = WRITER_INIT(POOL_ANSWER_MAX_BYTES);
    fields_write_object(table, request, &w);
    return writer_take(&w, ret_json, err);
}

struct pool_worker_spawn_request *pool_worker_spawn_request_new(void)
{
    return calloc(1, sizeof(struct pool_worker_spawn_request));
}

void pool_worker_spawn_request_free(struct pool_worker_spawn_request *request)
{
    if (!request)
        return;
    fields_clear(&worker_spawn_request_table, request);
    free(request);
}

static void release_spawn_request(struct pool_worker_spawn_request **request)
{
    pool_worker_spawn_request_free(*request);
}

/* What no table says: a willingness to displace that names nobody is a mistake of who wrote it. */
static enum pool_code check_displace(const struct pool_may_displace *may_displace, struct pool_error *err)
{
    if (!may_displace->idle_only.is_present || may_displace->n_worker_ids > 0 || may_displace->n_labels > 0)
        return POOL_OK;
    pool_error_set(err, POOL_INVALID_REQUEST, "\"may_displace\" names nobody: it needs worker_ids or labels");
    pool_error_set_field(err, "may_displace");
    return POOL_INVALID_REQUEST;
}

enum pool_code pool_worker_spawn_request_decode(const char *json, size_t n,
                                                struct pool_worker_spawn_request **ret_request,
                                                struct pool_error *err)
{
    CLEANUP(release_spawn_request)
    struct pool_worker_spawn_request *request = pool_worker_spawn_request_new();
    if (!request)
        return pool_error_no_memory(err);
    enum pool_code code = decode_request(&worker_spawn_request_table, json, n, request, err);
    if (code == POOL_OK)
        code = check_displace(&request->may_displace, err);
    if (code == POOL_OK)
        *ret_request = take_ptr(&request);
    return code;
}

enum pool_code pool_worker_spawn_request_validate(const struct pool_worker_spawn_request *request,
                                                  struct pool_error *err)
{
    enum pool_code code = fields_check(&worker_spawn_request_table, request, err);
    return code == POOL_OK ? check_displace(&request->may_displace, err) : code;
}

enum pool_code pool_worker_spawn_request_encode(const struct pool_worker_spawn_request *request,
                                                char **ret_json, struct pool_error *err)
{
    return encode_request(&worker_spawn_request_table, request, ret_json, err);
}

struct pool_worker_stop_request *pool_worker_stop_request_new(void)
{
    return calloc(1, sizeof(struct pool_worker_stop_request));
}

void pool_worker_stop_request_free(struct pool_worker_stop_request *request)
{
    if (!request)
        return;
    fields_clear(&worker_stop_request_table, request);
    free(request);
}

static void release_stop_request(struct pool_worker_stop_request **request)
{
    pool_worker_stop_request_free(*request);
}

enum pool_code pool_worker_stop_request_decode(const char *json, size_t n,
                                               struct pool_worker_stop_request **ret_request,
                                               struct pool_error *err)
{
    CLEANUP(release_stop_request) struct pool_worker_stop_request *request = pool_worker_stop_request_new();
    if (!request)
        return pool_error_no_memory(err);
    enum pool_code code = decode_request(&worker_stop_request_table, json, n, request, err);
    if (code == POOL_OK)
        *ret_request = take_ptr(&request);
    return code;
}

enum pool_code pool_worker_stop_request_validate(const struct pool_worker_stop_request *request,
                                                 struct pool_error *err)
{
    return fields_check(&worker_stop_request_table, request, err);
}

enum pool_code pool_worker_stop_request_encode(const struct pool_worker_stop_request *request,
                                               char **ret_json, struct pool_error *err)
{
    return encode_request(&worker_stop_request_table, request, ret_json, err);
}

/* A request whose object may be left out, with the object. */
static enum pool_code decode_optional(const struct field_table *table, const char *json, size_t n,
                                      void *request, struct pool_error *err)
{
    return n == 0 ? POOL_OK : decode_request(table, json, n, request, err);
}

struct pool_worker_drain_request *pool_worker_drain_request_new(void)
{
    return calloc(1, sizeof(struct pool_worker_drain_request));
}

void pool_worker_drain_request_free(struct pool_worker_drain_request *request)
{
    free(request);
}

enum pool_code pool_worker_drain_request_decode(const char *json, size_t n,
                                                struct pool_worker_drain_request **ret_request,
                                                struct pool_error *err)
{
    CLEANUP_FREE struct pool_worker_drain_request *request = pool_worker_drain_request_new();
    if (!request)
        return pool_error_no_memory(err);
    enum pool_code code = decode_optional(&worker_drain_request_table, json, n, request, err);
    if (code == POOL_OK)
        *ret_request = take_ptr(&request);
    return code;
}

enum pool_code pool_worker_drain_request_encode(const struct pool_worker_drain_request *request,
                                                char **ret_json, struct pool_error *err)
{
    return encode_request(&worker_drain_request_table, request, ret_json, err);
}

void pool_gpu_cordon_request_free(struct pool_gpu_cordon_request *request)
{
    if (!request)
        return;
    fields_clear(&gpu_cordon_request_table, request);
    free(request);
}

static void release_cordon_request(struct pool_gpu_cordon_request **request)
{
    pool_gpu_cordon_request_free(*request);
}

enum pool_code pool_gpu_cordon_request_decode(const char *json, size_t n,
                                              struct pool_gpu_cordon_request **ret_request,
                                              struct pool_error *err)
{
    CLEANUP(release_cordon_request) struct pool_gpu_cordon_request *request = calloc(1, sizeof *request);
    if (!request)
        return pool_error_no_memory(err);
    enum pool_code code = decode_optional(&gpu_cordon_request_table, json, n, request, err);
    if (code == POOL_OK)
        *ret_request = take_ptr(&request);
    return code;
}

enum pool_code pool_gpu_cordon_request_encode(const struct pool_gpu_cordon_request *request, char **ret_json,
                                              struct pool_error *err)
{
    return encode_request(&gpu_cordon_request_table, request, ret_json, err);
}

enum pool_code pool_model_verify_request_decode(const char *json, size_t n,
                                                struct pool_model_verify_request *ret_request,
                                                struct pool_error *err)
{
    struct pool_model_verify_request request = { 0 };
    enum pool_code code = decode_optional(&model_verify_request_table, json, n, &request, err);
    if (code == POOL_OK)
        *ret_request = request;
    return code;
}

enum pool_code pool_model_verify_request_encode(const struct pool_model_verify_request *request,
                                                char **ret_json, struct pool_error *err)
{
    return encode_request(&model_verify_request_table, request, ret_json, err);
}

enum pool_code pool_model_stage_request_decode(const char *json, size_t n,
                                               struct pool_model_stage_request *ret_request,
                                               struct pool_error *err)
{
    struct pool_model_stage_request request = { 0 };
    enum pool_code code = decode_optional(&model_stage_request_table, json, n, &request, err);
    if (code == POOL_OK)
        *ret_request = request;
    return code;
}

enum pool_code pool_model_stage_request_encode(const struct pool_model_stage_request *request,
                                               char **ret_json, struct pool_error *err)
{
    return encode_request(&model_stage_request_table, request, ret_json, err);
}

void pool_worker_ready_callback_free(struct pool_worker_ready_callback *callback)
{
    if (!callback)
        return;
    fields_clear(&worker_ready_callback_table, callback);
    free(callback);
}

static void release_ready_callback(struct pool_worker_ready_callback **callback)
{
    pool_worker_ready_callback_free(*callback);
}

enum pool_code pool_worker_ready_callback_decode(const char *json, size_t n,
                                                 struct pool_worker_ready_callback **ret_callback,
                                                 struct pool_error *err)
{
    CLEANUP(release_ready_callback) struct pool_worker_ready_callback *callback = calloc(1, sizeof *callback);
    if (!callback)
        return pool_error_no_memory(err);
    enum pool_code code = decode_request(&worker_ready_callback_table, json, n, callback, err);
    if (code == POOL_OK)
        *ret_callback = take_ptr(&callback);
    return code;
}
