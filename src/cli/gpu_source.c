/*
 * GPUs for commands; see gpu_source.h. An inventory whose refresh runs the helper.
 */
#include "cli/gpu_source.h"

#include <pool/api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/helper_path.h"
#include "cli/child_process.h"

static const char driver_scheme[] = "nvml:";
static const char helper_name[] = "pool-gpu-probe";

struct helper_inventory {
    char *url;
    char program[PATH_MAX];
};

static enum pool_code open_helper(void *self, const char *source, struct pool_error *err)
{
    struct helper_inventory *inventory = self;
    if (!helper_path_find(helper_name, inventory->program))
        return pool_error_set(err, POOL_BACKEND_UNAVAILABLE, "%s is not installed", helper_name);
    inventory->url = strdup(source);
    return inventory->url ? POOL_OK : pool_error_no_memory(err);
}

static void close_helper(void *self)
{
    struct helper_inventory *inventory = self;
    free(inventory->url);
}

/* Its last line: a snapshot, or an error in the words of the API. */
static enum pool_code take_answer(const struct child_result *result, struct pool_gpu_list *list,
                                  struct pool_error *err)
{
    static const char error_start[] = "{\"error\":";
    const char *text = strbuf_text(&result->out);
    size_t n = strcspn(text, "\n");
    struct pool_gpu_list *taken = NULL;
    if (strncmp(text, error_start, sizeof error_start - 1) == 0) {
        struct pool_error told = POOL_ERROR_INIT;
        enum pool_code code = pool_error_decode(text, n, &told, err);
        if (code != POOL_OK)
            return code;
        if (err)
            *err = told;
        return told.code == POOL_OK ? POOL_INTERNAL : told.code;
    }
    if (n == 0)
        return pool_error_set(err, POOL_GPU_UNAVAILABLE, "%s ended %s %d and said nothing", helper_name,
                              result->is_signal ? "by signal" : "with code", result->value);
    enum pool_code code = pool_gpu_list_decode(text, n, &taken, err);
    if (code != POOL_OK)
        return code;
    list->n_gpus = taken->n_gpus;
    list->gpus = take_ptr(&taken->gpus);
    taken->n_gpus = 0;
    memcpy(list->source, taken->source, sizeof list->source);
    memcpy(list->reason, taken->reason, sizeof list->reason);
    list->taken_boottime_ns = taken->taken_boottime_ns;
    pool_gpu_list_free(taken);
    return POOL_OK;
}

static enum pool_code refresh_helper(void *self, struct pool_gpu_list *list, struct pool_error *err)
{
    struct helper_inventory *inventory = self;
    const char *argv[] = { helper_name, "--once", "--inventory", inventory->url, NULL };
    struct child_options options = { .program = inventory->program,
                                     .argv = argv,
                                     .environment = (const char *const *)environ,
                                     .timeout_ms = GPU_SOURCE_TIMEOUT_MS };
    CLEANUP(child_result_done) struct child_result result = CHILD_RESULT_INIT;
    enum pool_code code = child_run(&options, &result, err);
    if (code == POOL_DEADLINE_EXCEEDED)
        return pool_error_set(err, POOL_GPU_UNAVAILABLE, "the driver did not answer within %lld ms",
                              (long long)GPU_SOURCE_TIMEOUT_MS);
    return code != POOL_OK ? code : take_answer(&result, list, err);
}

static const struct pool_gpu_inventory_ops helper_ops = {
    .name = "helper",
    .private_bytes = sizeof(struct helper_inventory),
    .open = open_helper,
    .refresh = refresh_helper,
    .close = close_helper,
};

bool gpu_source_is_helper(const struct pool_config *config)
{
    char program[PATH_MAX];
    return strncmp(config->gpu_inventory, driver_scheme, sizeof driver_scheme - 1) == 0 &&
           helper_path_find(helper_name, program);
}

enum pool_code gpu_source_open(const struct pool_config *config, struct pool_gpu_inventory **ret_inventory,
                               struct pool_error *err)
{
    return gpu_source_is_helper(config)
               ? pool_gpu_inventory_open_ops(&helper_ops, config->gpu_inventory, ret_inventory, err)
               : pool_gpu_inventory_open(config->gpu_inventory, ret_inventory, err);
}
