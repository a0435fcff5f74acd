/*
 * The options that every command takes, before and behind its name.
 */
#include <stddef.h>

#include "cli/parser.h"

#define AT(field) .offset = offsetof(struct cli_globals, field)

const struct cli_option cli_global_options[] = {
    { .name = "json",
      AT(is_json),
      .summary = "Print one JSON document, errors included, on standard output" },
    { .name = "no-color",
      AT(has_no_color),
      .summary = "No colours; as a variable NO_COLOR that is not empty" },
    { .name = "config",
      .value = CLI_TEXT,
      .unit = "FILE",
      AT(config_file),
      .default_text = "POOL_CONFIG, else the default place",
      .summary = "The configuration file" },
    { .name = "state-dir",
      .value = CLI_TEXT,
      .unit = "DIR",
      AT(state_dir),
      .summary = "Where the registry, the locks and the logs of workers lie" },
    { .name = "log-level",
      .value = CLI_TEXT,
      .unit = "LEVEL",
      AT(log_level),
      .summary = "error, warning, info or debug" },
    { .name = "url",
      .value = CLI_TEXT,
      .unit = "URL",
      AT(url),
      .default_text = "POOL_URL, else the daemon of the state directory, or of the system, when one runs",
      .summary = "The daemon to ask: http://HOST:PORT or unix:/PATH" },
    { .name = "token-file",
      .value = CLI_TEXT,
      .unit = "FILE",
      AT(token_file),
      .default_text = "POOL_TOKEN_FILE; or the token itself in POOL_TOKEN",
      .summary = "File (0600) with the token for a daemon that is asked by http://" },
    { .name = "local", AT(is_local), .summary = "Work on the state directory itself, ask no daemon" },
    { .name = "verbose",
      .letter = 'v',
      AT(is_verbose),
      .summary = "Errors with all their details, and warnings" },
    { .name = "help", .letter = 'h', AT(wants_help), .summary = "Explain the command" },
    { .name = "version", AT(wants_version), .summary = "Print the version" },
};
const size_t cli_n_global_options = CLI_COUNT(cli_global_options);
