/*
 * Samples of the API's structs with every field of their tables filled, so that a new row is tested without a word.
 * For the tests of the API alone; include after cmocka.h.
 */
#ifndef TESTS_API_SAMPLES_H
#define TESTS_API_SAMPLES_H

#include <pool/api.h>
#include <pool/gpu.h>

#include "core/api/tables.h"

static inline void fill_fields(const struct field_table *table, void *object, int64_t seed);

static inline char *sample_text(const struct field *field)
{
    char text[160];
    switch (field->grammar) {
    case GRAMMAR_GPU_ID: return strdup("GPU-11111111-2222-3333-4444-555555555555");
    case GRAMMAR_ENV_NAME: return strdup("NAME_1");
    case GRAMMAR_WORKER_ID:
    case GRAMMAR_LABEL_NAME: return strdup("name-1.x");
    case GRAMMAR_ANY:
    case GRAMMAR_VALUE:
    case GRAMMAR_LINE: break;
    }
    snprintf(text, sizeof text, "%s \"\\/\xc3\xa9\xf0\x9f\x98\x80%s", field->name,
             field->grammar == GRAMMAR_ANY ? "\x01\b\f\n\r\t\x1f\x7f" : "");
    return strdup(text);
}

static inline void fill_items(const struct field *field, void *object, int64_t seed)
{
    size_t *n = field_at(object, field->n_offset);
    if (field->kind == FIELD_OBJECTS) {
        char *items = calloc(2, field->table->size_bytes);
        assert_non_null(items);
        field_set_pointer(object, field->offset, items);
        *n = 2;
        fill_fields(field->table, items, seed);
        fill_fields(field->table, items + field->table->size_bytes, seed + 1);
        return;
    }
    bool is_pairs = field->kind == FIELD_PAIRS;
    char **items = calloc(is_pairs ? 4 : 2, sizeof *items);
    assert_non_null(items);
    field_set_pointer(object, field->offset, items);
    *n = 2;
    items[0] = is_pairs ? strdup("first") : sample_text(field);
    items[1] = is_pairs || field->grammar == GRAMMAR_WORKER_ID ? sample_text(field) : strdup("");
    if (is_pairs) {
        items[2] = strdup("second");
        items[3] = strdup("");
    }
}

static inline void fill_field(const struct field *field, void *object, int64_t seed)
{
    void *at = field_at(object, field->offset);
    unsigned choice = field->n_names ? (unsigned)(1 + (size_t)seed % (field->n_names - 1)) : 1;
    if (field->flags & FIELD_IF_KNOWN)
        *(bool *)field_at(object, field->known_offset) = true;
    switch (field->kind) {
    case FIELD_TEXT: *(char **)at = sample_text(field); break;
    case FIELD_CHARS:
        memset(at, 'a' + (int)(seed % 26), field->capacity - 1);
        ((char *)at)[field->capacity - 1] = '\0';
        break;
    case FIELD_WORDS: *(char **)at = strdup("one,two"); break;
    case FIELD_INTEGER: *(int64_t *)at = field->max ? field->max : INT64_MAX - seed; break;
    case FIELD_UINT32: *(uint32_t *)at = UINT32_MAX; break;
    case FIELD_UINT64: *(uint64_t *)at = INT64_MAX; break;
    case FIELD_READING:
        *(struct pool_reading *)at =
            (struct pool_reading){ true, field->max ? field->max : INT64_MIN + seed };
        break;
    case FIELD_FLAG_READING: *(struct pool_reading *)at = (struct pool_reading){ true, 1 }; break;
    case FIELD_SIGNAL_NAME: *(struct pool_reading *)at = (struct pool_reading){ true, 9 }; break;
    case FIELD_BOOL: *(bool *)at = true; break;
    case FIELD_ENUM:
    case FIELD_IS_FIRST: memcpy(at, &choice, sizeof choice); break;
    case FIELD_TIME: *(int64_t *)at = INT64_C(1760011200123) + seed; break;
    case FIELD_TEXTS:
    case FIELD_PAIRS:
    case FIELD_OBJECTS: fill_items(field, object, seed); break;
    case FIELD_OBJECT: fill_fields(field->table, at, seed); break;
    }
}

/* Different seeds give different values. Fields that share a member are filled once. */
static inline void fill_fields(const struct field_table *table, void *object, int64_t seed)
{
    for (size_t i = 0; i < table->n_fields; i++) {
        bool is_filled = false;
        for (size_t other = 0; other < i; other++)
            is_filled |= table->fields[other].offset == table->fields[i].offset &&
                         table->fields[i].kind != FIELD_SIGNAL_NAME;
        if (!is_filled)
            fill_field(&table->fields[i], object, seed + (int64_t)i);
    }
}

/* seed is even: on a GPU, else on the CPU */
static inline struct pool_worker_info *sample_worker(int64_t seed)
{
    struct pool_worker_info *worker = pool_worker_info_new();
    assert_non_null(worker);
    fill_fields(&worker_table, worker, seed);
    if (seed % 2) {
        free(worker->gpu_uuid);
        worker->gpu_uuid = NULL;
        worker->gpu_id = -1;
    }
    return worker;
}

static inline struct pool_worker_list *sample_workers(size_t n)
{
    struct pool_worker_list *list = calloc(1, sizeof *list);
    assert_non_null(list);
    list->workers = calloc(n, sizeof(struct pool_worker_info *));
    assert_non_null(list->workers);
    for (size_t i = 0; i < n; i++)
        list->workers[list->n_workers++] = sample_worker((int64_t)i);
    return list;
}

static inline struct pool_gpu_list *sample_gpus(size_t n)
{
    struct pool_gpu_list *list = calloc(1, sizeof *list);
    assert_non_null(list);
    fill_fields(&gpu_list_table, list, 1);
    for (size_t i = 0; i < n; i++) {
        struct pool_gpu_info *gpu = pool_gpu_list_append(list);
        assert_non_null(gpu);
        fill_fields(&gpu_table, gpu, (int64_t)i);
        snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-%zu", i);
    }
    return list;
}

/* Of two GPUs, one of them without a ledger, of the host, and of a GPU that is not there. */
static inline struct pool_status_response *sample_status(void)
{
    struct pool_status_response *status = calloc(1, sizeof *status);
    assert_non_null(status);
    fill_fields(&status_table, status, 1);
    fill_fields(&capacity_table, status, 1);
    status->gpus = sample_gpus(2);
    status->workers = sample_workers(2);
    status->ledgers = calloc(3, sizeof *status->ledgers);
    assert_non_null(status->ledgers);
    status->n_ledgers = 3;
    for (size_t i = 0; i < 3; i++)
        fill_fields(&ledger_table, &status->ledgers[i], (int64_t)(10 * i));
    snprintf(status->ledgers[0].device, sizeof status->ledgers[0].device, "GPU-lost");
    snprintf(status->ledgers[1].device, sizeof status->ledgers[1].device, "host");
    snprintf(status->ledgers[2].device, sizeof status->ledgers[2].device, "GPU-1");
    return status;
}

#endif
