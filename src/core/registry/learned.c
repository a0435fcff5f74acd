/*
 * Lists of what was learned; see learned.h.
 */
#include "core/registry/learned.h"

#include <stdlib.h>
#include <string.h>

static void clear_use(struct pool_learned_use *use)
{
    free(use->key);
    free(use->model_ref);
}

void learned_list_clear(struct pool_learned_list *list)
{
    for (size_t i = 0; i < list->n_uses; i++)
        clear_use(&list->uses[i]);
    free(list->uses);
    *list = (struct pool_learned_list){ 0 };
}

void pool_learned_list_free(struct pool_learned_list *list)
{
    if (!list)
        return;
    learned_list_clear(list);
    free(list);
}

bool learned_list_append(struct pool_learned_list *list, const struct pool_learned_use *use)
{
    struct pool_learned_use *uses = reallocarray(list->uses, list->n_uses + 1, sizeof *uses);
    if (!uses)
        return false;
    list->uses = uses;
    struct pool_learned_use copy = *use;
    copy.key = strdup(use->key);
    copy.model_ref = strdup(use->model_ref);
    if (!copy.key || !copy.model_ref) {
        clear_use(&copy);
        return false;
    }
    list->uses[list->n_uses++] = copy;
    return true;
}

static void remove_at(struct pool_learned_list *list, size_t i)
{
    clear_use(&list->uses[i]);
    memmove(&list->uses[i], &list->uses[i + 1], (list->n_uses - i - 1) * sizeof *list->uses);
    list->n_uses--;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Newest last. */
bool learned_list_merge(struct pool_learned_list *list, const struct pool_learned_use *use)
{
    struct pool_learned_use merged = *use;
    size_t found = 0;
    while (found < list->n_uses && strcmp(list->uses[found].key, use->key) != 0)
        found++;
    if (found < list->n_uses) {
        merged.ready_bytes = larger(merged.ready_bytes, list->uses[found].ready_bytes);
        merged.peak_bytes = larger(merged.peak_bytes, list->uses[found].peak_bytes);
        merged.n_starts += list->uses[found].n_starts;
    }
    if (!learned_list_append(list, &merged))
        return false;
    if (found < list->n_uses - 1)
        remove_at(list, found);
    else if (list->n_uses > POOL_LEARNED_MAX)
        remove_at(list, 0);
    return true;
}

bool learned_list_select(const struct pool_learned_list *from, const char *key, struct pool_learned_list *to)
{
    for (size_t i = from->n_uses; i > 0; i--) {
        const struct pool_learned_use *use = &from->uses[i - 1];
        if ((!key || strcmp(use->key, key) == 0) && !learned_list_append(to, use))
            return false;
    }
    return true;
}

int64_t learned_list_remove(struct pool_learned_list *list, const char *key)
{
    int64_t n = 0;
    for (size_t i = list->n_uses; i > 0; i--) {
        if (key && strcmp(list->uses[i - 1].key, key) != 0)
            continue;
        remove_at(list, i - 1);
        n++;
    }
    return n;
}
