/*
 * rbees-pool gpu list. Without a daemon it asks the inventory itself and needs no state directory.
 */
#include <stdlib.h>

#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/device_text.h"
#include "cli/gpu_source.h"
#include "cli/remote.h"
#include "cli/report.h"

static void close_inventory(struct pool_gpu_inventory **inventory)
{
    pool_gpu_inventory_close(*inventory);
}

static void release_list(struct pool_gpu_list **list)
{
    pool_gpu_list_free(*list);
}

static enum pool_code print_list(const struct cli *cli, const struct pool_gpu_list *list,
                                 struct pool_error *err)
{
    if (list->n_gpus > 0) {
        report_notice(cli, list->reason);
        return print_gpu_table(cli, list, cli->globals.is_verbose, err);
    }
    fputs("no GPUs", cli->out);
    if (list->reason[0]) {
        fputs(": ", cli->out);
        terminal_print(&cli->terminal, cli->out, list->reason);
    }
    fputc('\n', cli->out);
    return POOL_OK;
}

static enum pool_code get_list(struct cli *cli, struct pool_gpu_list **ret_list, struct pool_error *err)
{
    CLEANUP(close_inventory) struct pool_gpu_inventory *inventory = NULL;
    const struct pool_config *config;
    struct remote_http *daemon;
    enum pool_code code = cli_find_daemon(cli, &daemon, err);
    if (code == POOL_OK && daemon)
        return remote_list_gpus(cli, ret_list, err);
    if (code == POOL_OK)
        code = cli_get_config(cli, &config, err);
    if (code == POOL_OK)
        code = gpu_source_open(config, &inventory, err);
    return code == POOL_OK ? pool_gpu_inventory_list(inventory, ret_list, err) : code;
}

static enum pool_code run_list(struct cli *cli, const void *data, struct pool_error *err)
{
    (void)data;
    CLEANUP(release_list) struct pool_gpu_list *list = NULL;
    CLEANUP_FREE char *json = NULL;
    enum pool_code code = get_list(cli, &list, err);
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
        "driver the list is empty and the reason is said; that is no error. With -v the UUID, the bus and "
        "the driver's version are shown too.",
    CLI_EXAMPLES(examples),
    .run = run_list,
};
