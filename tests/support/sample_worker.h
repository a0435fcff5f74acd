/*
 * Workers for tests: small ones, ones with every field set, and a comparison that names the first field in
 * which two differ. Goes by the product's list of fields; that the list is whole is tested in test_worker.c.
 */
#ifndef SAMPLE_WORKER_H
#define SAMPLE_WORKER_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pool/worker.h>

#include "base/cleanup.h"
#include "core/worker_fields.h"

static inline void free_worker(struct pool_worker_info **worker)
{
    pool_worker_info_free(*worker);
}
#define CLEANUP_WORKER CLEANUP(free_worker)

static inline void free_list(struct pool_worker_list **list)
{
    pool_worker_list_free(*list);
}
#define CLEANUP_LIST CLEANUP(free_list)

/* What a spawn would register; NULL when memory is out. */
static inline struct pool_worker_info *small_worker(const char *worker_id, int64_t port)
{
    struct pool_worker_info *worker = pool_worker_info_new();
    if (!worker)
        return NULL;
    worker->worker_id = strdup(worker_id);
    worker->backend = strdup("cpu");
    worker->port = port;
    worker->created_wall_ms = 1700000000000;
    if (!worker->worker_id || !worker->backend) {
        pool_worker_info_free(worker);
        return NULL;
    }
    return worker;
}

static inline bool fill_text(char **text, const char *name, unsigned seed)
{
    free(*text);
    if (asprintf(text, "%s \xc3\xa4\'\"%%\n\t%u", name, seed) < 0)
        *text = NULL;
    return *text != NULL;
}

/* Gives a field a value that depends on its place in the list and the seed, of every kind of value there is. */
static inline bool fill_field(struct pool_worker_info *worker, size_t i, unsigned seed)
{
    const struct worker_field *field = &worker_fields[i];
    void *member = (char *)worker + field->offset;
    int64_t number = (int64_t)(seed * 1000U + i);
    switch (field->kind) {
    case WORKER_FIELD_TEXT: return fill_text(member, field->name, seed);
    case WORKER_FIELD_CHARS: snprintf(member, field->n_bytes, "%036u", seed); break;
    case WORKER_FIELD_INTEGER:
        *(int64_t *)member = field->max > INT32_MAX ? INT64_MAX / 2 - number : number % 30000;
        break;
    case WORKER_FIELD_UNSIGNED: *(uint64_t *)member = UINT64_MAX - (uint64_t)number; break;
    case WORKER_FIELD_BOOL: *(bool *)member = (seed & 1) == 0; break;
    case WORKER_FIELD_CHOICE: *(unsigned *)member = (seed + (unsigned)i) % (unsigned)field->n_choices; break;
    case WORKER_FIELD_READING:
        *(struct pool_reading *)member = (struct pool_reading){ .is_present = true, .value = -number };
        break;
    }
    return true;
}

/* Every field set, and labels up to the limits. NULL when memory is out. */
static inline struct pool_worker_info *full_worker(const char *worker_id, unsigned seed)
{
    struct pool_worker_info *worker = small_worker(worker_id, 0);
    if (!worker)
        return NULL;
    bool is_filled = true;
    for (size_t i = 1; i < WORKER_N_FIELDS; i++)
        is_filled = is_filled && fill_field(worker, i, seed);
    worker->status = (enum pool_worker_status)(seed % POOL_WORKER_STOPPED);
    worker->revision = 0;
    char value[POOL_LABEL_VALUE_MAX + 1];
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    for (unsigned i = 0; i < POOL_LABELS_MAX; i++) {
        char name[POOL_LABEL_NAME_MAX + 1];
        snprintf(name, sizeof name, "team.a/b-%053u", seed + i);
        is_filled = is_filled && pool_worker_info_set_label(worker, name,
                                                            i == 0   ? ""
                                                            : i == 1 ? "a=b =\xe2\x82\xac"
                                                                     : value,
                                                            NULL) == POOL_OK;
    }
    if (!is_filled) {
        pool_worker_info_free(worker);
        return NULL;
    }
    return worker;
}

static inline bool is_same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static inline bool is_same_field(const struct worker_field *field, const void *a, const void *b)
{
    switch (field->kind) {
    case WORKER_FIELD_TEXT: return is_same_text(*(const char *const *)a, *(const char *const *)b);
    case WORKER_FIELD_CHARS: return strcmp(a, b) == 0;
    case WORKER_FIELD_INTEGER:
    case WORKER_FIELD_UNSIGNED: return *(const int64_t *)a == *(const int64_t *)b;
    case WORKER_FIELD_BOOL: return *(const bool *)a == *(const bool *)b;
    case WORKER_FIELD_CHOICE: return *(const unsigned *)a == *(const unsigned *)b;
    case WORKER_FIELD_READING: {
        const struct pool_reading *x = a;
        const struct pool_reading *y = b;
        return x->is_present == y->is_present && (!x->is_present || x->value == y->value);
    }
    }
    return false;
}

/* NULL when two workers are the same. */
static inline const char *differing_field(const struct pool_worker_info *a, const struct pool_worker_info *b)
{
    for (size_t i = 0; i < WORKER_N_FIELDS; i++) {
        const struct worker_field *field = &worker_fields[i];
        if (!is_same_field(field, (const char *)a + field->offset, (const char *)b + field->offset))
            return field->name;
    }
    if (a->n_labels != b->n_labels)
        return "labels";
    for (size_t i = 0; i < a->n_labels; i++) {
        if (!is_same_text(a->labels[i].name, b->labels[i].name) ||
            !is_same_text(a->labels[i].value, b->labels[i].value))
            return "labels";
    }
    return NULL;
}

#endif
