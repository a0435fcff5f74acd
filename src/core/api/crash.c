/*
 * Crash bundles as JSON, and the answer that has one in it. How they are made is the lifecycle's.
 */
#include <pool/crash.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "core/api/tables.h"

struct pool_crash *pool_crash_new(void)
{
    struct pool_crash *crash = calloc(1, sizeof *crash);
    if (!crash)
        return NULL;
    crash->format = POOL_CRASH_FORMAT;
    crash->gpu_id = -1;
    return crash;
}

void pool_crash_free(struct pool_crash *crash)
{
    if (!crash)
        return;
    fields_clear(&crash_table, crash);
    free(crash);
}

static void release_crash(struct pool_crash **crash)
{
    pool_crash_free(*crash);
}

enum pool_code pool_crash_encode(const struct pool_crash *crash, char **ret_json, struct pool_error *err)
{
    CLEANUP(writer_done) struct writer w = WRITER_INIT(POOL_CRASH_MAX_BYTES);
    fields_write_object(&crash_table, crash, &w);
    return writer_take(&w, ret_json, err);
}

/* A later format may mean other things by the same names. */
static enum pool_code check_format(const struct pool_crash *crash, struct pool_error *err)
{
    if (crash->format <= POOL_CRASH_FORMAT)
        return POOL_OK;
    pool_error_set(err, POOL_INVALID_REQUEST,
                   "the bundle is of format %lld, and %d is the last one known here",
                   (long long)crash->format, POOL_CRASH_FORMAT);
    pool_error_set_field(err, "format");
    return POOL_INVALID_REQUEST;
}

static enum pool_code read_crash(json_t *json, struct pool_crash **ret_crash, struct pool_error *err)
{
    CLEANUP(release_crash) struct pool_crash *crash = pool_crash_new();
    if (!crash)
        return pool_error_no_memory(err);
    enum pool_code code = fields_decode(&crash_table, json, crash, err);
    if (code == POOL_OK)
        code = check_format(crash, err);
    for (size_t i = 0; code == POOL_OK && i < crash->n_candidates; i++) { /* the host's memory has no index */
        if (strcmp(crash->candidates[i].ledger.device, "host") == 0)
            crash->candidates[i].gpu_id = -1;
    }
    if (code == POOL_OK)
        *ret_crash = take_ptr(&crash);
    return code;
}

enum pool_code pool_crash_decode(const char *json, size_t n, struct pool_crash **ret_crash,
                                 struct pool_error *err)
{
    CLEANUP_JSON json_t *parsed = NULL;
    enum pool_code code = fields_parse(json, n, POOL_CRASH_MAX_BYTES, &parsed, err);
    return code == POOL_OK ? read_crash(parsed, ret_crash, err) : code;
}

/* ---- why ---- */

void pool_worker_why_free(struct pool_worker_why *why)
{
    if (!why)
        return;
    fields_clear(&worker_why_table, why);
    pool_crash_free(why->crash);
    free(why);
}

static void release_why(struct pool_worker_why **why)
{
    pool_worker_why_free(*why);
}

enum pool_code pool_worker_why_encode(const struct pool_worker_why *why, char **ret_json,
                                      struct pool_error *err)
{
    CLEANUP(writer_done) struct writer w = WRITER_INIT(POOL_ANSWER_MAX_BYTES);
    write_open(&w, '{');
    fields_write(&worker_why_table, why, &w);
    write_key(&w, "crash");
    fields_write_object(&crash_table, why->crash, &w);
    write_close(&w, '}');
    return writer_take(&w, ret_json, err);
}

enum pool_code pool_worker_why_decode(const char *json, size_t n, struct pool_worker_why **ret_why,
                                      struct pool_error *err)
{
    CLEANUP_JSON json_t *parsed = NULL;
    CLEANUP(release_why) struct pool_worker_why *why = calloc(1, sizeof *why);
    if (!why)
        return pool_error_no_memory(err);
    enum pool_code code = fields_parse(json, n, POOL_ANSWER_MAX_BYTES, &parsed, err);
    if (code == POOL_OK)
        code = fields_decode(&worker_why_table, parsed, why, err);
    json_t *crash = code == POOL_OK ? json_object_get(parsed, "crash") : NULL;
    if (crash && !json_is_null(crash)) {
        if (!json_is_object(crash)) {
            pool_error_set(err, POOL_INVALID_REQUEST, "\"crash\" must be an object");
            pool_error_set_field(err, "crash");
            return POOL_INVALID_REQUEST;
        }
        code = read_crash(crash, &why->crash, err);
        if (code == POOL_INVALID_REQUEST)
            field_prefix(err, "crash.");
    }
    if (code == POOL_OK)
        *ret_why = take_ptr(&why);
    return code;
}
