/*
 * rbees-pool models disk.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "cli/commands.h"
#include "cli/disk_models.h"
#include "cli/json_document.h"
#include "cli/model_state.h"
#include "cli/report.h"
#include "cli/table.h"

#define DEPTH_MAX 10

/* One models directory, or the Hub's cache. */
struct place {
    const char *dir;
    bool is_cache;
    int64_t used_bytes;              /* blocks of all files in it */
    int64_t unfinished_bytes;        /* of these, of downloads that have not ended */
    int64_t total_bytes, free_bytes; /* of its file system; -1: it is not there */
};

static void measure_folder(struct place *place, const char *dir, bool is_unfinished, unsigned depth)
{
    CLEANUP(close_directory) DIR *stream = opendir(dir);
    for (const struct dirent *entry = stream ? readdir(stream) : NULL; entry; entry = readdir(stream)) {
        struct stat st;
        CLEANUP_FREE char *path = NULL;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (asprintf(&path, "%s/%s", dir, entry->d_name) < 0) {
            path = NULL;
            return;
        }
        if (lstat(path, &st) < 0) /* a link has no blocks worth the name, and what it leads to is elsewhere */
            continue;
        if (S_ISREG(st.st_mode) && st.st_nlink > 0) {
            place->used_bytes += (int64_t)st.st_blocks * 512;
            place->unfinished_bytes += is_unfinished ? (int64_t)st.st_blocks * 512 : 0;
        } else if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX) {
            measure_folder(place, path, is_unfinished || strcmp(entry->d_name, ".downloads") == 0, depth + 1);
        }
    }
}

static void measure(struct place *place)
{
    struct statvfs fs;
    place->total_bytes = place->free_bytes = -1;
    if (statvfs(place->dir, &fs) < 0)
        return;
    place->total_bytes = (int64_t)(fs.f_blocks * fs.f_frsize);
    place->free_bytes = (int64_t)(fs.f_bavail * fs.f_frsize);
    measure_folder(place, place->dir, false, 0);
}

static void add_place_row(struct table *table, const struct place *place)
{
    char text[HUMAN_BYTES_MAX];
    const int64_t sizes[] = { place->used_bytes, place->unfinished_bytes, place->free_bytes,
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
                     (json_int_t)place->used_bytes, "unfinished_bytes", (json_int_t)place->unfinished_bytes,
                     "free_bytes", (json_int_t)(place->total_bytes >= 0 ? place->free_bytes : 0),
                     "total_bytes", (json_int_t)(place->total_bytes >= 0 ? place->total_bytes : 0));
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
                                  const struct sized_model *models, size_t n_models, struct pool_error *err)
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
    if (is_printed && n_models > 0) {
        fputc('\n', cli->out);
        is_printed = table_print(&model_table, cli->out);
    }
    return is_printed ? POOL_OK : pool_error_no_memory(err);
}

static enum pool_code print_usage_document(struct cli *cli, const struct place *places, size_t n_places,
                                           const struct sized_model *models, size_t n_models,
                                           struct pool_error *err)
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
    CLEANUP_JSON json_t *document = json_pack("{s:O, s:O}", "places", place_list, "models", model_list);
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
    return cli->globals.is_json ? print_usage_document(cli, places, n_places, sized, models.n, err)
                                : print_usage(cli, places, n_places, sized, models.n, err);
}

static const char *const examples[] = { "rbees-pool models disk", "rbees-pool models disk --json" };

const struct cli_command models_disk_command = {
    .path = "models disk",
    .summary = "Show how much space models take, and how much is free",
    .description =
        "Shows for each of pool.models_dirs and for the Hub's own cache what is used, what of it belongs to "
        "downloads that have not ended, and how much the file system has free; then the models on disk, the "
        "largest first.",
    CLI_EXAMPLES(examples),
    .run = run_disk,
};
