/*
 * rbees-pool gpu list. Without a daemon it asks the inventory itself and needs no state directory.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/device_text.h"
#include "cli/gpu_status.h"
#include "cli/report.h"

static enum pool_code print_list(const struct cli *cli, const struct pool_gpu_list *list,
                                 struct pool_error *err)
{
    if (list->n_gpus == 0) {
        print_no_gpus(cli, list);
        return POOL_OK;
    }
    report_notice(cli, list->reason);
    return print_gpu_table(cli, list, cli->globals.is_verbose, err);
}

/*
 * Who never used the state directory has cordoned nothing, and is not made to have one by a look. Cordons that can not be
 * read (a daemon keeps the registry, with --local) are said to be unknown; the devices are shown all the same.
 */
static enum pool_code mark_cordons(struct cli *cli, const struct pool_config *config,
                                   struct pool_gpu_list *list, struct pool_error *err)
{
    CLEANUP_FREE char *path = NULL;
    struct pool_manager *manager;
    struct pool_error why = POOL_ERROR_INIT;
    char text[POOL_ERROR_MESSAGE_MAX + 64];
    if (asprintf(&path, "%s/state-id", config->state_dir) < 0) {
        path = NULL;
        return pool_error_no_memory(err);
    }
    if (list->n_gpus == 0 || access(path, F_OK) < 0)
        return POOL_OK;
    enum pool_code code = cli_get_manager(cli, &manager, &why);
    if (code == POOL_OK)
        code = pool_manager_mark_cordons(manager, list, &why);
    if (code != POOL_OK) {
        snprintf(text, sizeof text, "which GPUs are cordoned is not known: %s", why.message);
        report_notice(cli, text);
    }
    return POOL_OK;
}

static enum pool_code run_list(struct cli *cli, const void *data, struct pool_error *err)
{
    (void)data;
    CLEANUP(release_gpus) struct pool_gpu_list *list = NULL;
    CLEANUP_FREE char *json = NULL;
    const struct pool_config *config;
    enum pool_code code = get_gpus(cli, &list, &config, err);
    if (code == POOL_OK && config)
        code = mark_cordons(cli, config, list, err);
    if (code != POOL_OK)
        return code;
    if (!cli->globals.is_json)
        return print_list(cli, list, err);
    code = pool_gpu_list_encode(list, NULL, 0, &json, err);
    if (code == POOL_OK)
        print_json(cli, &json);
    return code;
}

static const char *const examples[] = { "rbees-pool gpu list", "rbees-pool gpu list -v",
                                        "rbees-pool gpu list --json" };

const struct cli_command gpu_list_command = {
    .path = "gpu list",
    .summary = "List the GPUs",
    .description =
        "Asks the driver for its devices. A reading that it does not give is shown as '-'. Without a "
        "driver the list is empty and the reason is said; that is no error. A device that was cordoned says "
        "why "
        "in place of its health. With -v the UUID, the bus, the driver's version, the NUMA node and how many "
        "NVLinks are active are shown too; 'gpu topology' shows what they lead to.",
    CLI_EXAMPLES(examples),
    .run = run_list,
};
