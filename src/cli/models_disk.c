/*
 * rbees-pool models disk.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "cli/commands.h"
#include "cli/disk_models.h"
#include "cli/folder_usage.h"
#include "cli/json_document.h"
#include "cli/model_state.h"
#include "cli/report.h"
#include "cli/table.h"

/* One models directory, or the Hub's cache. */
struct place {
    const char *dir;
    bool is_cache;
    struct folder_usage usage;
    int64_t total_bytes, free_bytes; /* of its file system; -1: it is not there */
};

static void measure(struct place *place)
{
    struct statvfs fs;
    place->total_bytes = place->free_bytes = -1;
    if (statvfs(place->dir, &fs) < 0)
        return;
    place->total_bytes = (int64_t)(fs.f_blocks * fs.f_frsize);
    place->free_bytes = (int64_t)(fs.f_bavail * fs.f_frsize);
    folder_usage_add(&place->usage, place->dir);
}

static void add_place_row(struct table *table, const struct place *place)
{
    char text[HUMAN_BYTES_MAX];
    const int64_t sizes[] = { place->usage.used_bytes, place->usage.unfinished_bytes, place->free_bytes,
                              place->total_bytes };
    table_add(table, place->dir);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        format_bytes(sizes[i], text);
        table_add(table, place->total_bytes >= 0 ? text : NULL);
    }
}

static json_t *json_of_place(const struct place *place)
{
    return json_pack("{s:o, s:b, s:b, s:I, s:I, s:I, s:I}", "path", json_of_text(place->dir), "hub_cache",
                     place->is_cache, "present", place->total_bytes >= 0, "used_bytes",
                     (json_int_t)place->usage.used_bytes, "unfinished_bytes",
                     (json_int_t)place->usage.unfinished_bytes, "free_bytes",
                     (json_int_t)(place->total_bytes >= 0 ? place->free_bytes : 0), "total_bytes",
                     (json_int_t)(place->total_bytes >= 0 ? place->total_bytes : 0));
}

/* ---- the quota ---- */

struct quota {
    int64_t quota_bytes; /* 0: none */
    int64_t used_bytes;  /* of all places that it is about */
};

static struct quota read_quota(const struct pool_config *config, const struct place *places, size_t n_places)
{
    struct quota quota = { .quota_bytes = config->models_quota_bytes };
    for (size_t i = 0; i < n_places; i++)
        quota.used_bytes = add_bytes(quota.used_bytes, places[i].is_cache ? 0 : places[i].usage.used_bytes);
    return quota;
}

static void print_quota(const struct cli *cli, const struct quota *quota)
{
    char total[HUMAN_BYTES_MAX];
    char used[HUMAN_BYTES_MAX];
    char left[HUMAN_BYTES_MAX];
    if (quota->quota_bytes == 0)
        return;
    format_bytes(quota->quota_bytes, total);
    format_bytes(quota->used_bytes, used);
    format_bytes(excess_bytes(quota->quota_bytes, quota->used_bytes), left);
    fprintf(cli->out, "\nquota %s: %s used, %s left\n", total, used, left);
}

static json_t *json_of_quota(const struct quota *quota)
{
    return quota->quota_bytes == 0
               ? json_null()
               : json_pack("{s:I, s:I, s:I}", "quota_bytes", (json_int_t)quota->quota_bytes, "used_bytes",
                           (json_int_t)quota->used_bytes, "left_bytes",
                           (json_int_t)excess_bytes(quota->quota_bytes, quota->used_bytes));
}

/* ---- models, the largest first ---- */

struct sized_model {
    char *ref;
    int64_t size_bytes;
    bool is_in_cache;
};

static int compare_sizes(const void *a, const void *b)
{
    int64_t first = ((const struct sized_model *)a)->size_bytes;
    int64_t second = ((const struct sized_model *)b)->size_bytes;
    return first < second ? 1 : first > second ? -1 : 0;
}

static enum pool_code size_models(struct cli *cli, const struct disk_models *models,
                                  struct sized_model *ret_sized, struct pool_error *err)
{
    const struct pool_config *config;
    enum pool_code code = cli_get_config(cli, &config, err);
    for (size_t i = 0; i < models->n && code == POOL_OK; i++) {
        CLEANUP(release_model) struct pool_model *model = NULL;
        struct pool_error error = POOL_ERROR_INIT;
        ret_sized[i] =
            (struct sized_model){ .ref = models->at[i].ref, .is_in_cache = models->at[i].is_in_cache };
        if (pool_config_resolve_model(config, cli->environment, NULL, true, models->at[i].ref, &model,
                                      &error) == POOL_OK)
            ret_sized[i].size_bytes = model->size_bytes;
        else if (error.code == POOL_INSUFFICIENT_MEMORY)
            code = pool_error_no_memory(err);
    }
    if (models->n > 0)
        qsort(ret_sized, models->n, sizeof *ret_sized, compare_sizes);
    return code;
}

static enum pool_code print_usage(struct cli *cli, const struct place *places, size_t n_places,
                                  const struct quota *quota, const struct sized_model *models,
                                  size_t n_models, struct pool_error *err)
{
    static const struct table_column place_columns[] = {
        { .title = "PLACE", .may_shrink = true },     { .title = "USED", .is_right = true },
        { .title = "UNFINISHED", .is_right = true },  { .title = "FREE", .is_right = true },
        { .title = "FILE SYSTEM", .is_right = true },
    };
    static const struct table_column model_columns[] = {
        { .title = "SIZE", .is_right = true },
        { .title = "MODEL", .may_shrink = true },
    };
    CLEANUP(table_done) struct table place_table;
    CLEANUP(table_done) struct table model_table;
    table_init(&place_table, &cli->terminal, place_columns, CLI_COUNT(place_columns));
    table_init(&model_table, &cli->terminal, model_columns, CLI_COUNT(model_columns));
    for (size_t i = 0; i < n_places; i++)
        add_place_row(&place_table, &places[i]);
    for (size_t i = 0; i < n_models; i++) {
        char size[HUMAN_BYTES_MAX];
        format_bytes(models[i].size_bytes, size);
        table_add(&model_table, size);
        table_add(&model_table, models[i].ref);
    }
    bool is_printed = table_print(&place_table, cli->out);
    if (is_printed)
        print_quota(cli, quota);
    if (is_printed && n_models > 0) {
        fputc('\n', cli->out);
        is_printed = table_print(&model_table, cli->out);
    }
    return is_printed ? POOL_OK : pool_error_no_memory(err);
}

static enum pool_code print_usage_document(struct cli *cli, const struct place *places, size_t n_places,
                                           const struct quota *quota, const struct sized_model *models,
                                           size_t n_models, struct pool_error *err)
{
    CLEANUP_JSON json_t *place_list = json_array();
    CLEANUP_JSON json_t *model_list = json_array();
    for (size_t i = 0; i < n_places; i++) {
        if (json_array_append_new(place_list, json_of_place(&places[i])) < 0)
            return pool_error_no_memory(err);
    }
    for (size_t i = 0; i < n_models; i++) {
        json_t *object = json_pack("{s:o, s:I, s:s}", "model", json_of_text(models[i].ref), "size_bytes",
                                   (json_int_t)models[i].size_bytes, "place",
                                   models[i].is_in_cache ? "hub-cache" : "models");
        if (json_array_append_new(model_list, object) < 0)
            return pool_error_no_memory(err);
    }
    CLEANUP_JSON json_t *document = json_pack("{s:O, s:o, s:O}", "places", place_list, "quota",
                                              json_of_quota(quota), "models", model_list);
    return print_document(cli, document, err);
}

static enum pool_code run_disk(struct cli *cli, const void *data, struct pool_error *err)
{
    (void)data;
    CLEANUP(disk_models_done) struct disk_models models = { 0 };
    CLEANUP_FREE char *cache_dir = pool_hub_cache_dir(cli->environment);
    const struct pool_config *config;
    enum pool_code code = cli_get_config(cli, &config, err);
    if (code == POOL_OK)
        code = disk_models_find(cli, &models, err);
    if (code != POOL_OK)
        return code;
    CLEANUP_FREE struct place *places = calloc(config->n_models_dirs + 1, sizeof *places);
    CLEANUP_FREE struct sized_model *sized = calloc(models.n + 1, sizeof *sized);
    if (!cache_dir || !places || !sized)
        return pool_error_no_memory(err);
    size_t n_places = 0;
    for (size_t i = 0; i < config->n_models_dirs; i++)
        places[n_places++] = (struct place){ .dir = config->models_dirs[i] };
    places[n_places++] = (struct place){ .dir = cache_dir, .is_cache = true };
    for (size_t i = 0; i < n_places; i++)
        measure(&places[i]);
    code = size_models(cli, &models, sized, err);
    if (code != POOL_OK)
        return code;
    struct quota quota = read_quota(config, places, n_places);
    return cli->globals.is_json ? print_usage_document(cli, places, n_places, &quota, sized, models.n, err)
                                : print_usage(cli, places, n_places, &quota, sized, models.n, err);
}

static const char *const examples[] = { "rbees-pool models disk", "rbees-pool models disk --json" };

const struct cli_command models_disk_command = {
    .path = "models disk",
    .summary = "Show how much space models take, and how much is free",
    .description =
        "Shows for each of pool.models_dirs and for the Hub's own cache what is used, what of it belongs to "
        "downloads that have not ended, and how much the file system has free; what pool.models_quota_bytes "
        "leaves for downloads, when that is set; then the models on disk, the largest first. With --json "
        "'quota' has quota_bytes, used_bytes and left_bytes, or is null.",
    CLI_EXAMPLES(examples),
    .run = run_disk,
};
