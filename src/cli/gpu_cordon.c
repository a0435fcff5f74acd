/*
 * rbees-pool gpu cordon, uncordon: keep new workers off a GPU, and let them onto it again.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/remote.h"
#include "cli/report.h"

struct gpu_cordon_arguments {
    const char *gpu;
    const char *reason;
};

static enum pool_code print_cordon(const struct cli *cli, const struct pool_gpu_cordon *cordon,
                                   struct pool_error *err)
{
    char *json = NULL;
    if (cli->globals.is_json) {
        enum pool_code code = pool_gpu_cordon_encode(cordon, &json, err);
        if (code == POOL_OK)
            print_json(cli, &json);
        return code;
    }
    fputs("GPU ", cli->out);
    if (cordon->gpu_id >= 0)
        fprintf(cli->out, "%" PRId64 " (", cordon->gpu_id);
    terminal_print(&cli->terminal, cli->out, cordon->uuid);
    if (cordon->gpu_id >= 0)
        fputc(')', cli->out);
    fputs(cordon->is_cordoned ? " is cordoned: " : " is not cordoned", cli->out);
    terminal_print(&cli->terminal, cli->out, cordon->reason);
    fputc('\n', cli->out);
    return POOL_OK;
}

static enum pool_code run_cordon(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct gpu_cordon_arguments *arguments = data;
    struct pool_gpu_cordon cordon = { .gpu_id = -1 };
    struct remote_http *daemon;
    struct pool_manager *manager;
    bool is_changed;
    enum pool_code code = cli_get_pool(cli, &daemon, &manager, err);
    if (code == POOL_OK)
        code = daemon ? remote_cordon_gpu(cli, arguments->gpu, arguments->reason, &cordon, err)
                      : pool_manager_cordon_gpu(manager, arguments->gpu, arguments->reason, &cordon,
                                                &is_changed, err);
    return code == POOL_OK ? print_cordon(cli, &cordon, err) : code;
}

static enum pool_code run_uncordon(struct cli *cli, const void *data, struct pool_error *err)
{
    const struct gpu_cordon_arguments *arguments = data;
    struct pool_gpu_cordon cordon = { .gpu_id = -1 };
    struct remote_http *daemon;
    struct pool_manager *manager;
    bool is_changed;
    enum pool_code code = cli_get_pool(cli, &daemon, &manager, err);
    if (code == POOL_OK)
        code = daemon ? remote_uncordon_gpu(cli, arguments->gpu, &cordon, err)
                      : pool_manager_uncordon_gpu(manager, arguments->gpu, &cordon, &is_changed, err);
    return code == POOL_OK ? print_cordon(cli, &cordon, err) : code;
}

#define AT(field) .offset = offsetof(struct gpu_cordon_arguments, field)

static const struct cli_option cordon_options[] = {
    { .name = "reason",
      .value = CLI_TEXT,
      .unit = "TEXT",
      AT(reason),
      .field = "reason",
      .default_text = "requested",
      .summary = "Why, for whoever asks what keeps workers off it" },
};
static const struct cli_positional positionals[] = {
    { .name = "GPU",
      .value = CLI_TEXT,
      AT(gpu),
      .field = "gpu_id",
      .summary = "The device by its index or UUID" },
};
static const char *const cordon_examples[] = { "rbees-pool gpu cordon 0",
                                               "rbees-pool gpu cordon 0 --reason maintenance" };
static const char *const uncordon_examples[] = { "rbees-pool gpu uncordon 0" };

const struct cli_command gpu_cordon_command = {
    .path = "gpu cordon",
    .summary = "Keep new workers off a GPU",
    .description =
        "No new worker is placed on the device, or on a MIG instance of it, until 'gpu uncordon'; workers "
        "that "
        "are on it go on. Kept in the registry: it outlives daemons and the machine's restarts. May be "
        "repeated; another reason replaces the first. 'gpu list' and 'gpu show' say what is cordoned and "
        "why.",
    CLI_OPTIONS(cordon_options),
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(cordon_examples),
    .arguments_bytes = sizeof(struct gpu_cordon_arguments),
    .run = run_cordon,
};

const struct cli_command gpu_uncordon_command = {
    .path = "gpu uncordon",
    .summary = "Let new workers onto a GPU again",
    .description =
        "Takes back 'gpu cordon', and what a daemon cordoned because the device reported an error. "
        "That it was not cordoned is no error. A device that the driver lists no more is meant by "
        "its UUID.",
    CLI_POSITIONALS(positionals),
    CLI_EXAMPLES(uncordon_examples),
    .arguments_bytes = sizeof(struct gpu_cordon_arguments),
    .run = run_uncordon,
};
