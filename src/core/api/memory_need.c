/*
 * What a worker needs of its device as JSON: the estimate in parts, and what was measured beside it.
 */
#include <pool/api.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/number.h"
#include "core/api/fields.h"

/* Parts of an estimate under their names, in the order in which they are written. */
static const struct {
    const char *name;
    size_t offset;
} parts[] = {
#define PART(member)                                    \
    {                                                   \
#member, offsetof(struct pool_estimate, member) \
    }
    PART(ctx_size),      PART(weights_bytes),  PART(kv_cache_bytes), PART(recurrent_bytes),
    PART(compute_bytes), PART(overhead_bytes), PART(margin_bytes),   PART(total_bytes),
#undef PART
};
#define N_PARTS (sizeof parts / sizeof parts[0])

static const char *const sources[] = { "request",  "measured",  "engine",
                                       "estimate", "file_size", "gpu_memory_utilization" };

struct pool_reading pool_memory_need_error_permille(const struct pool_memory_need *need)
{
    int64_t measured = need->measured_bytes.value;
    int64_t expected = excess_bytes(need->estimate.total_bytes, need->estimate.margin_bytes);
    if (!need->measured_bytes.is_present || measured <= 0 || need->estimate.total_bytes <= 0)
        return (struct pool_reading){ false, 0 };
    /* as a double: the difference times 1000 can be beyond int64, and nobody needs its last digit */
    double permille = 1000.0 * ((double)expected - (double)measured) / (double)measured;
    return (struct pool_reading){ true, permille > 1e15 ? (int64_t)1e15 : (int64_t)permille };
}

static json_t *estimate_of(const struct pool_estimate *estimate)
{
    if (estimate->total_bytes <= 0)
        return json_null();
    json_t *object = json_object();
    for (size_t i = 0; object && i < N_PARTS; i++) {
        int64_t value;
        memcpy(&value, (const char *)estimate + parts[i].offset, sizeof value);
        if (json_object_set_new(object, parts[i].name, json_integer(value)) < 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

static json_t *reading_of(struct pool_reading reading)
{
    return reading.is_present ? json_integer(reading.value) : json_null();
}

enum pool_code pool_memory_need_encode(const struct pool_memory_need *need, char **ret_json,
                                       struct pool_error *err)
{
    struct pool_reading error = pool_memory_need_error_permille(need);
    /* json_pack takes over what "o" is given, and fails as a whole when one of them is NULL */
    CLEANUP_JSON json_t *document = json_pack(
        "{s:I, s:s, s:o, s:o, s:I, s:o}", "bytes", (json_int_t)need->bytes, "source",
        need->source ? need->source : "", "estimate", estimate_of(&need->estimate), "measured_bytes",
        reading_of(need->measured_bytes), "n_measured", (json_int_t)need->n_measured, "error_percent",
        error.is_present ? json_real((double)error.value / 10.0) : json_null());
    char *text = document ? json_print(document) : NULL;
    if (!text)
        return pool_error_no_memory(err);
    *ret_json = text;
    return POOL_OK;
}

static const char *source_of(const json_t *document)
{
    const char *source = json_string_value(json_object_get(document, "source"));
    for (size_t i = 0; source && i < sizeof sources / sizeof sources[0]; i++) {
        if (strcmp(source, sources[i]) == 0)
            return sources[i];
    }
    return "";
}

enum pool_code pool_memory_need_decode(const char *json, size_t n, struct pool_memory_need *ret_need,
                                       struct pool_error *err)
{
    CLEANUP_JSON json_t *document = NULL;
    enum pool_code code = fields_parse(json, n, POOL_ANSWER_MAX_BYTES, &document, err);
    if (code != POOL_OK)
        return code;
    if (!json_is_object(document))
        return pool_error_set(err, POOL_INVALID_REQUEST, "what is needed is no object");
    const json_t *estimate = json_object_get(document, "estimate");
    const json_t *measured = json_object_get(document, "measured_bytes");
    struct pool_memory_need need = {
        .bytes = json_integer_value(json_object_get(document, "bytes")),
        .source = source_of(document),
        .measured_bytes = { json_is_integer(measured), json_integer_value(measured) },
        .n_measured = json_integer_value(json_object_get(document, "n_measured"))
    };
    for (size_t i = 0; i < N_PARTS; i++) {
        int64_t value = json_integer_value(json_object_get(estimate, parts[i].name));
        memcpy((char *)&need.estimate + parts[i].offset, &value, sizeof value);
    }
    *ret_need = need;
    return POOL_OK;
}
