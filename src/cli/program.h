/*
 * One run of rbees-pool: what it was asked in general, where it writes, and what it has opened so far. Nothing is
 * opened before a command asks for it: the configuration and the manager cost time that `--version` must not pay.
 */
#ifndef CLI_PROGRAM_H
#define CLI_PROGRAM_H

#include <stdio.h>

#include <pool/api.h>
#include <pool/config.h>
#include <pool/lifecycle.h>

#include "cli/command.h"
#include "cli/terminal.h"

#define CLI_PROGRAM_NAME "rbees-pool"

/* What the options that every command takes are put into; see global_options.c. */
struct cli_globals {
    const char *config_file;
    const char *state_dir;
    const char *log_level;
    const char *url;
    const char *token_file;
    bool is_json;
    bool has_no_color;
    bool is_local;
    bool is_verbose;
    bool wants_help;
    bool wants_version;
};

struct remote_http;

struct cli {
    FILE *out; /* data */
    FILE *err; /* everything else */
    const char *const *environment;
    struct terminal terminal;
    struct cli_globals globals;
    bool is_reported;             /* what was printed says the error already: it only makes the exit status */
    struct pool_config *config;   /* NULL until cli_get_config */
    struct pool_manager *manager; /* NULL until cli_get_manager */
    struct pool_gpu_inventory *gpu_inventory; /* for the manager, NULL: it opens its own */
    /* of a daemon that is asked; remote.h */
    struct remote_http *daemon;                       /* NULL until one was found */
    bool is_daemon_ours;                              /* it has our state directory */
    bool is_daemon_lost;                              /* what was asked last got no answer */
    int n_runs;                                       /* of the command, that ended so */
    int64_t began_wall_ms;                            /* of a spawn, over all its runs */
    char spawn_id[POOL_WORKER_ID_MAX + 1];            /* of the worker of a spawn, over all its runs */
    char correlation_id[POOL_CORRELATION_ID_MAX + 1]; /* of the daemon's last answer, "" without one */
};

/* Runs a whole command line and returns the exit status. Leaves out and err open, flushed. */
int cli_run(struct cli *cli, int argc, const char *const *argv);

/* The sources of the configuration: flags, environment, file. `overrides` has room for CLI_OVERRIDES_MAX. */
#define CLI_OVERRIDES_MAX 2
struct pool_config_sources cli_config_sources(const struct cli *cli, struct pool_config_override *overrides);
/* Both load or open at the first call and are borrowed from then on. */
POOL_MUST_CHECK enum pool_code cli_get_config(struct cli *cli, const struct pool_config **ret_config,
                                              struct pool_error *err);
POOL_MUST_CHECK enum pool_code cli_get_manager(struct cli *cli, struct pool_manager **ret_manager,
                                               struct pool_error *err);
/* Closes the manager before the command ends, with what it has to tell; it can be opened again. */
void cli_release_manager(struct cli *cli);

#endif
