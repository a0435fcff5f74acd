/*
 * rbees-pool version.
 */
#include <stdlib.h>

#include <pool/pool.h>

#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/report.h"

static enum pool_code run_version(struct cli *cli, const void *arguments, struct pool_error *err)
{
    (void)arguments;
    (void)err;
    if (cli->globals.is_json)
        fprintf(cli->out, "{\"version\":\"%s\",\"library_version\":\"%s\"}\n", POOL_VERSION, pool_version());
    else
        fprintf(cli->out, CLI_PROGRAM_NAME " %s\n", POOL_VERSION);
    return POOL_OK;
}

static const char *const examples[] = { "rbees-pool version", "rbees-pool --version" };

const struct cli_command version_command = {
    .path = "version",
    .summary = "Print the version",
    .description = "Prints the version of this program; with --json also that of the library it uses.",
    CLI_EXAMPLES(examples),
    .run = run_version,
};
