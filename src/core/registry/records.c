/*
 * Records in memory and the set of them; see records.h.
 */
#include "core/registry/records.h"

#include <stdlib.h>
#include <string.h>

#include "base/random.h"

#define N_PORTS     65536
#define N_SLOTS_MIN 64

bool record_set_init(struct record_set *set)
{
    /* Ids come from outside: with a seed nobody can choose ones that collide. */
    if (!random_bytes(&set->seed, sizeof set->seed))
        set->seed = (uint64_t)(uintptr_t)set;
    set->slots = calloc(N_SLOTS_MIN, sizeof *set->slots);
    set->n_slots = set->slots ? N_SLOTS_MIN : 0;
    set->by_port = calloc(N_PORTS, sizeof *set->by_port);
    return set->slots && set->by_port;
}

void record_set_done(struct record_set *set)
{
    for (size_t i = 0; i < set->n; i++)
        free(set->ordered[i]);
    free(set->slots);
    free(set->ordered);
    free(set->by_port);
}

/* Multiply and fold, eight bytes at a time; the multiplier is that of Knuth's multiplicative hashing, 2^64 / phi. */
uint64_t record_hash(const struct record_set *set, const char *worker_id)
{
    size_t n = strlen(worker_id);
    uint64_t hash = set->seed ^ n;
    while (n > 0) {
        uint64_t chunk = 0;
        size_t n_chunk = n < sizeof chunk ? n : sizeof chunk;
        memcpy(&chunk, worker_id, n_chunk);
        hash = (hash ^ chunk) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 32;
        worker_id += n_chunk;
        n -= n_chunk;
    }
    return hash;
}

static uint32_t text_bytes(const char *text)
{
    return text ? (uint32_t)strlen(text) + 1 : 0; /* at most POOL_WORKER_TEXT_MAX + 1 */
}

/* Copies a text of n bytes, the NUL among them, to *end and moves *end behind it. */
static char *pack_text(const char *text, uint32_t n, char **end)
{
    if (!text)
        return NULL;
    char *copy = memcpy(*end, text, n);
    *end += n;
    return copy;
}

struct record *record_new(const struct record_set *set, const struct pool_worker_info *worker)
{
    size_t n_labels_bytes = worker->n_labels * sizeof(struct pool_label);
    size_t n_bytes = sizeof(struct record) + n_labels_bytes;
    struct record header = { .hash = record_hash(set, worker->worker_id), .worker = *worker };
    for (size_t i = 0; i < WORKER_N_TEXTS; i++) {
        header.n_text_bytes[i] = text_bytes(*worker_text(&header.worker, i));
        n_bytes += header.n_text_bytes[i];
    }
    uint32_t n_id = text_bytes(worker->worker_id);
    header.worker.worker_id = NULL; /* has a place of its own */
    n_bytes -= n_id;
    for (size_t i = 0; i < worker->n_labels; i++)
        n_bytes += text_bytes(worker->labels[i].name) + text_bytes(worker->labels[i].value);

    struct record *record = malloc(n_bytes);
    if (!record)
        return NULL;
    *record = header;
    memcpy(record->id, worker->worker_id, n_id);
    struct pool_label *labels = (struct pool_label *)(record + 1);
    char *end = (char *)(record + 1) + n_labels_bytes;
    record->worker.labels = worker->n_labels > 0 ? labels : NULL;
    for (size_t i = 0; i < WORKER_N_TEXTS; i++)
        *worker_text(&record->worker, i) =
            pack_text(*worker_text(&record->worker, i), record->n_text_bytes[i], &end);
    for (size_t i = 0; i < worker->n_labels; i++) {
        const struct pool_label *label = &worker->labels[i];
        labels[i].name = pack_text(label->name, text_bytes(label->name), &end);
        labels[i].value = pack_text(label->value, text_bytes(label->value), &end);
    }
    record->worker.worker_id = record->id;
    return record;
}

static bool copy_labels(struct pool_worker_info *copy, const struct pool_worker_info *worker)
{
    if (worker->n_labels == 0)
        return true;
    copy->labels = calloc(worker->n_labels, sizeof *copy->labels);
    if (!copy->labels)
        return false;
    for (size_t i = 0; i < worker->n_labels; i++) {
        struct pool_label *label = &copy->labels[copy->n_labels++];
        label->name = strdup(worker->labels[i].name);
        label->value = strdup(worker->labels[i].value);
        if (!label->name || !label->value)
            return false;
    }
    return true;
}

struct pool_worker_info *record_copy(const struct record *record)
{
    struct pool_worker_info *copy = malloc(sizeof *copy);
    if (!copy)
        return NULL;
    *copy = record->worker;
    copy->n_labels = 0;
    copy->labels = NULL;
    bool is_whole = true;
    for (size_t i = 0; i < WORKER_N_TEXTS; i++) {
        char **text = worker_text(copy, i);
        if (!*text)
            continue;
        char *own = is_whole ? malloc(record->n_text_bytes[i]) : NULL;
        is_whole = own != NULL;
        *text = own ? memcpy(own, *text, record->n_text_bytes[i]) : NULL;
    }
    if (!is_whole || !copy_labels(copy, &record->worker)) {
        pool_worker_info_free(copy);
        return NULL;
    }
    return copy;
}

static void put(struct record_slot *slots, size_t n_slots, struct record *record)
{
    size_t i = record->hash & (n_slots - 1);
    while (slots[i].record)
        i = (i + 1) & (n_slots - 1);
    slots[i] = (struct record_slot){ record->hash, record };
}

static bool grow_slots(struct record_set *set)
{
    size_t n_slots = 2 * set->n_slots;
    struct record_slot *slots = calloc(n_slots, sizeof *slots);
    if (!slots)
        return false;
    for (size_t i = 0; i < set->n; i++)
        put(slots, n_slots, set->ordered[i]);
    free(set->slots);
    set->slots = slots;
    set->n_slots = n_slots;
    return true;
}

bool record_set_reserve(struct record_set *set)
{
    if (set->n == set->n_ordered_max) {
        size_t n_max = set->n_ordered_max ? 2 * set->n_ordered_max : N_SLOTS_MIN / 2;
        struct record **ordered = reallocarray(set->ordered, n_max, sizeof *ordered);
        if (!ordered)
            return false;
        set->ordered = ordered;
        set->n_ordered_max = n_max;
    }
    return 2 * (set->n + 1) <= set->n_slots || grow_slots(set);
}

static int compare_order(const struct record *a, const struct record *b)
{
    if (a->worker.created_wall_ms != b->worker.created_wall_ms)
        return a->worker.created_wall_ms < b->worker.created_wall_ms ? -1 : 1;
    return strcmp(a->worker.worker_id, b->worker.worker_id);
}

/* Index of the first record that is not before this one. New workers come last, so look there first. */
static size_t find_place(const struct record_set *set, const struct record *record)
{
    if (set->n == 0 || compare_order(set->ordered[set->n - 1], record) < 0)
        return set->n;
    size_t low = 0;
    size_t high = set->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_order(set->ordered[middle], record) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void record_set_add(struct record_set *set, struct record *record)
{
    put(set->slots, set->n_slots, record);
    size_t place = find_place(set, record);
    memmove(&set->ordered[place + 1], &set->ordered[place], (set->n - place) * sizeof *set->ordered);
    set->ordered[place] = record;
    set->n++;
    if (record->worker.port > 0)
        set->by_port[record->worker.port] = record;
}

/* Empties slot i and moves those behind it that would no longer be found (Knuth, volume 3, 6.4, algorithm R). */
static void empty_slot(struct record_set *set, size_t i)
{
    size_t mask = set->n_slots - 1;
    for (size_t j = (i + 1) & mask; set->slots[j].record; j = (j + 1) & mask) {
        size_t home = set->slots[j].hash & mask;
        if (((j - home) & mask) >= ((j - i) & mask)) {
            set->slots[i] = set->slots[j];
            i = j;
        }
    }
    set->slots[i].record = NULL;
}

void record_set_remove(struct record_set *set, struct record *record)
{
    size_t i = record->hash & (set->n_slots - 1);
    while (set->slots[i].record != record)
        i = (i + 1) & (set->n_slots - 1);
    empty_slot(set, i);
    size_t place = find_place(set, record);
    set->n--;
    memmove(&set->ordered[place], &set->ordered[place + 1], (set->n - place) * sizeof *set->ordered);
    if (record->worker.port > 0)
        set->by_port[record->worker.port] = NULL;
}

struct record *record_set_find(const struct record_set *set, const char *worker_id)
{
    uint64_t hash = record_hash(set, worker_id);
    for (size_t i = hash & (set->n_slots - 1); set->slots[i].record; i = (i + 1) & (set->n_slots - 1)) {
        if (set->slots[i].hash == hash && strcmp(set->slots[i].record->id, worker_id) == 0)
            return set->slots[i].record;
    }
    return NULL;
}

struct record *record_set_find_port(const struct record_set *set, int64_t port)
{
    return port > 0 && port < N_PORTS ? set->by_port[port] : NULL;
}
