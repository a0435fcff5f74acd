/*
 * The order of the workers in the live view, and which of them is chosen.
 */
#include "cli/gpu_top.h"

#include <stdlib.h>
#include <string.h>

int64_t top_bytes_of(const struct pool_worker_info *worker)
{
    return worker->observed_bytes.is_present && worker->observed_bytes.value > worker->reserved_bytes
               ? worker->observed_bytes.value
               : worker->reserved_bytes;
}

size_t top_index_of_selected(const struct top *top)
{
    const struct pool_worker_list *workers = top->status->workers;
    for (size_t i = 0; i < workers->n_workers; i++) {
        if (strcmp(workers->workers[i]->worker_id, top->selected) == 0)
            return i;
    }
    return 0;
}

static int compare_ids(const struct pool_worker_info *a, const struct pool_worker_info *b)
{
    return strcmp(a->worker_id, b->worker_id);
}

static int compare_numbers(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int compare(const void *left, const void *right, void *context)
{
    const struct pool_worker_info *a = *(const struct pool_worker_info *const *)left;
    const struct pool_worker_info *b = *(const struct pool_worker_info *const *)right;
    int order = 0;
    switch (*(const enum top_sort *)context) {
    case TOP_SORT_VRAM: order = compare_numbers(top_bytes_of(b), top_bytes_of(a)); break;
    case TOP_SORT_AGE: order = compare_numbers(a->created_wall_ms, b->created_wall_ms); break;
    case TOP_SORT_GPU: order = compare_numbers(a->gpu_id, b->gpu_id); break;
    case TOP_SORT_STATUS: order = compare_numbers((int64_t)a->status, (int64_t)b->status); break;
    case TOP_SORT_ID:
    case TOP_N_SORTS: break;
    }
    return order ? order : compare_ids(a, b);
}

void top_arrange(struct top *top)
{
    struct pool_worker_list *workers = top->status ? top->status->workers : NULL;
    if (!workers || workers->n_workers == 0) {
        top->selected[0] = '\0';
        return;
    }
    size_t before = top_index_of_selected(top);
    qsort_r(workers->workers, workers->n_workers, sizeof(struct pool_worker_info *), compare, &top->sort);
    if (!top_selected(top)) { /* it is gone: the one in its place */
        size_t index = before < workers->n_workers ? before : workers->n_workers - 1;
        snprintf(top->selected, sizeof top->selected, "%s", workers->workers[index]->worker_id);
    }
}

const struct pool_worker_info *top_selected(const struct top *top)
{
    const struct pool_worker_list *workers = top->status ? top->status->workers : NULL;
    for (size_t i = 0; workers && i < workers->n_workers; i++) {
        if (strcmp(workers->workers[i]->worker_id, top->selected) == 0)
            return workers->workers[i];
    }
    return NULL;
}

void top_move_selection(struct top *top, int by)
{
    const struct pool_worker_list *workers = top->status ? top->status->workers : NULL;
    if (!workers || workers->n_workers == 0)
        return;
    int64_t index = (int64_t)top_index_of_selected(top) + by;
    if (index >= (int64_t)workers->n_workers)
        index = (int64_t)workers->n_workers - 1;
    if (index < 0)
        index = 0;
    snprintf(top->selected, sizeof top->selected, "%s", workers->workers[index]->worker_id);
}
