/*
 * How much of what was staged is still in the page cache, looked at now and then on a thread.
 */
#include <stdlib.h>
#include <string.h>

#include "managerd/model_stage.h"

struct measure_job {
    struct models *models;
    size_t n;
    struct measured {
        char *id;
        char **paths;
        size_t n_paths;
        struct pool_reading resident_bytes;
    } * at;
};

static void free_measure_job(struct measure_job *job)
{
    for (size_t i = 0; i < job->n; i++) {
        for (size_t k = 0; k < job->at[i].n_paths; k++)
            free(job->at[i].paths[k]);
        free(job->at[i].paths);
        free(job->at[i].id);
    }
    free(job->at);
    free(job);
}

static void work_measure_all(void *context)
{
    struct measure_job *job = context;
    for (size_t i = 0; i < job->n; i++)
        job->at[i].resident_bytes.is_present = stage_measure(
            (const char *const *)job->at[i].paths, job->at[i].n_paths, &job->at[i].resident_bytes.value);
}

static void finish_measure_all(void *context)
{
    struct measure_job *job = context;
    job->models->is_measuring = false;
    for (size_t i = 0; i < job->n; i++) {
        struct model_record *record = model_record_find(job->models, job->at[i].id);
        if (record && record->staging.state == POOL_STAGE_STAGED)
            record->staging.resident_bytes = job->at[i].resident_bytes;
    }
    free_measure_job(job);
}

static size_t count_staged(const struct models *models)
{
    size_t n = 0;
    for (const struct model_record *record = models->records; record; record = record->next)
        n += record->staging.state == POOL_STAGE_STAGED;
    return n;
}

static bool fill_measure_job(struct measure_job *job, size_t n)
{
    job->at = calloc(n + 1, sizeof *job->at);
    const struct model_record *record = job->at ? job->models->records : NULL;
    for (; record; record = record->next) {
        if (record->staging.state != POOL_STAGE_STAGED)
            continue;
        struct measured *one = &job->at[job->n++];
        one->id = strdup(record->id);
        if (!one->id || !stage_paths_copy(record->paths, record->n_paths, &one->paths))
            return false;
        one->n_paths = record->n_paths;
    }
    return job->at != NULL;
}

void staging_measure(uv_timer_t *timer)
{
    struct models *models = timer->data;
    size_t n = count_staged(models);
    if (n == 0)
        uv_timer_stop(timer);
    if (n == 0 || models->is_measuring)
        return;
    struct measure_job *job = calloc(1, sizeof *job);
    if (!job)
        return; /* the next time */
    job->models = models;
    if (fill_measure_job(job, n) && executor_run_beside(models->daemon->executor, work_measure_all,
                                                        finish_measure_all, job, NULL) == POOL_OK)
        models->is_measuring = true;
    else
        free_measure_job(job);
}
