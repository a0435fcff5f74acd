/*
 * The one list of all keys: from it come parsing, defaults, limits, environment names, `config show`, the
 * manual and the check of examples/pool.toml. Nothing here is code. To add a key: a field in pool/config.h and
 * a row here.
 *
 * A row: X(name, environment, type, field, count field, min, max, default, note, words, summary)
 *   type         one of CONFIG_TYPES; it says how the text is read and written, and the unit
 *   count field  of a list, its n_…; of a port range, its last port; else the field again
 *   min, max     of numbers; of lists the largest number of elements
 *   default      as TOML, without escapes; NULL: worked out (config_places.c, config_backends.c), the note says how
 *   words        of a WORD, CHOICE or WORDS: "a|b|c"
 */
#ifndef CORE_CONFIG_KEYS_H
#define CORE_CONFIG_KEYS_H

#include <pool/config.h>

/* The types: how a value is read, checked and written. */
enum config_type {
    CONFIG_TEXT, /* printable ASCII, no blanks */
    CONFIG_NAME, /* letters, digits, . _ - */
    CONFIG_PATH, /* made absolute */
    CONFIG_PATHS,
    CONFIG_BOOL,
    CONFIG_MILLISECONDS,
    CONFIG_BYTES, /* integer, or text as "512MiB" */
    CONFIG_PORTS, /* "8001-8999" */
    CONFIG_ADDRESS,
    CONFIG_HOST, /* numeric, or localhost */
    CONFIG_REGISTRY,
    CONFIG_INVENTORY,
    CONFIG_HTTP_URL,
    CONFIG_WORD,   /* text field, one of the words */
    CONFIG_CHOICE, /* enum field, one of the words in the enum's order */
    CONFIG_BACKEND,
    CONFIG_COMMAND,
    CONFIG_ARGUMENTS,
    CONFIG_OPTIONS, /* each starts with '-' */
    CONFIG_VARIABLES,
    CONFIG_NAMES,
    CONFIG_WORDS,
    CONFIG_ENV,
    CONFIG_HTTP_PATH,
    CONFIG_SIGNAL,
};

/* How they are called in the manual; a choice by its words. */
#define CONFIG_SHOW_TEXT(words)         .type = "text", .unit = ""
#define CONFIG_SHOW_NAME(words)         .type = "name", .unit = ""
#define CONFIG_SHOW_PATH(words)         .type = "path", .unit = ""
#define CONFIG_SHOW_PATHS(words)        .type = "list of paths", .unit = ""
#define CONFIG_SHOW_BOOL(words)         .type = "boolean", .unit = ""
#define CONFIG_SHOW_MILLISECONDS(words) .type = "integer", .unit = "ms"
#define CONFIG_SHOW_BYTES(words)        .type = "size", .unit = "bytes"
#define CONFIG_SHOW_PORTS(words)        .type = "port range", .unit = ""
#define CONFIG_SHOW_ADDRESS(words)      .type = "address:port", .unit = ""
#define CONFIG_SHOW_HOST(words)         .type = "address", .unit = ""
#define CONFIG_SHOW_REGISTRY(words)     .type = "registry URL", .unit = ""
#define CONFIG_SHOW_INVENTORY(words)    .type = "inventory URL", .unit = ""
#define CONFIG_SHOW_HTTP_URL(words)     .type = "HTTP URL", .unit = ""
#define CONFIG_SHOW_WORD(words)         .type = words, .unit = ""
#define CONFIG_SHOW_CHOICE(words)       .type = words, .unit = ""
#define CONFIG_SHOW_BACKEND(words)      .type = "backend", .unit = ""
#define CONFIG_SHOW_COMMAND(words)      .type = "list of arguments", .unit = ""
#define CONFIG_SHOW_ARGUMENTS(words)    .type = "list of arguments", .unit = ""
#define CONFIG_SHOW_OPTIONS(words)      .type = "list of options", .unit = ""
#define CONFIG_SHOW_VARIABLES(words)    .type = "list of names", .unit = ""
#define CONFIG_SHOW_NAMES(words)        .type = "list of names", .unit = ""
#define CONFIG_SHOW_WORDS(words)        .type = words, .unit = ""
#define CONFIG_SHOW_ENV(words)          .type = "table of texts", .unit = ""
#define CONFIG_SHOW_HTTP_PATH(words)    .type = "HTTP path", .unit = ""
#define CONFIG_SHOW_SIGNAL(words)       .type = "signal", .unit = ""

#define CONFIG_MS_MAX   (INT64_C(7) * 24 * 3600 * 1000) /* a week: longer is a typing error */
#define CONFIG_HOUR_MS  (INT64_C(3600) * 1000)
#define CONFIG_LIST_MAX 256

/* The words of a choice as "a|b|c", from the list that makes its enum: "|a|b|c" without the first character. */
#define CONFIG_OR(name, text) "|" text
#define CONFIG_WORDS(list)    (&(list(CONFIG_OR))[1])

#define CONFIG_GLOBAL_KEYS(X)                                                                                \
    X("pool.id", "POOL_ID", NAME, pool_id, pool_id, 0, 0, NULL, "the host name", NULL,                       \
      "Name of this pool, as the orchestrator and other hosts see it.")                                      \
    X("pool.state_dir", "POOL_STATE_DIR", PATH, state_dir, state_dir, 0, 0, NULL,                            \
      "/var/lib/pool-core for root and the user pool, else $XDG_STATE_HOME/pool-core/MACHINE-ID", NULL,      \
      "Where the registry, the locks and the logs of workers lie.")                                          \
    X("pool.models_dirs", "POOL_MODELS_DIRS", PATHS, models_dirs, n_models_dirs, 0, CONFIG_LIST_MAX, NULL,   \
      "/var/lib/pool-core/models for root and the user pool, else $XDG_DATA_HOME/pool-core/models", NULL,    \
      "Folders that models may come from; downloads go to the first.")                                       \
    X("pool.models_quota_bytes", "POOL_MODELS_QUOTA_BYTES", BYTES, models_quota_bytes, models_quota_bytes,   \
      0, INT64_C(1) << 60, "0", NULL, NULL,                                                                  \
      "What files in all of pool.models_dirs may take together; a download that needs more is refused. 0: "  \
      "no quota.")                                                                                           \
    X("pool.catalogs", "POOL_CATALOGS", PATHS, catalogs, n_catalogs, 0, CONFIG_LIST_MAX, NULL,               \
      "catalog.toml in the folder of the default configuration file, if it is there", NULL,                  \
      "Catalog files, all of them together are the catalog.")                                                \
    X("pool.advertise_host", "POOL_ADVERTISE_HOST", TEXT, advertise_host, advertise_host, 0, 0, NULL,        \
      "the host name", NULL, "Host name or address under which other hosts reach this one.")                 \
    X("daemon.bind", "POOL_DAEMON_BIND", ADDRESS, daemon_bind, daemon_bind, 0, 0, "\"127.0.0.1:9200\"",      \
      NULL, NULL, "Where the daemon listens. An address that other hosts reach needs daemon.token_file.")    \
    X("daemon.socket", "POOL_DAEMON_SOCKET", PATH, daemon_socket, daemon_socket, 0, 0, NULL,                 \
      "daemon.sock in pool.state_dir when that is set, else in /run/pool-core for root and the user pool, "  \
      "else in $XDG_RUNTIME_DIR/pool-core, else in the state folder",                                        \
      NULL, "Unix socket of the daemon; its peer's user id gives the scope.")                                \
    X("daemon.token_file", "POOL_DAEMON_TOKEN_FILE", PATH, daemon_token_file, daemon_token_file, 0, 0,       \
      "\"\"", NULL, NULL,                                                                                    \
      "File (0600) of lines \"scope name sha256\"; scopes are read, operate, admin. Empty: no tokens.")      \
    X("daemon.stop_workers_on_exit", "POOL_DAEMON_STOP_WORKERS_ON_EXIT", BOOL, daemon_stop_workers_on_exit,  \
      daemon_stop_workers_on_exit, 0, 0, "false", NULL, NULL,                                                \
      "Whether an orderly end of the daemon stops its workers.")                                             \
    X("registry.url", "POOL_REGISTRY_URL", REGISTRY, registry_url, registry_url, 0, 0, "\"sqlite:\"", NULL,  \
      NULL, "\"sqlite:\" (pool.db in the state folder), \"sqlite:/path/pool.db\" or \"memory:\".")           \
    X("orchestrator.url", "POOL_ORCHESTRATOR_URL", HTTP_URL, orchestrator_url, orchestrator_url, 0, 0,       \
      "\"\"", NULL, NULL, "Where to register and send heartbeats. Empty: nowhere.")                          \
    X("orchestrator.token_file", "POOL_ORCHESTRATOR_TOKEN_FILE", PATH, orchestrator_token_file,              \
      orchestrator_token_file, 0, 0, "\"\"", NULL, NULL,                                                     \
      "File (0600) with the bearer token for the orchestrator.")                                             \
    X("orchestrator.heartbeat_interval_ms", "POOL_ORCHESTRATOR_HEARTBEAT_INTERVAL_MS", MILLISECONDS,         \
      orchestrator_heartbeat_interval_ms, orchestrator_heartbeat_interval_ms, 100, CONFIG_HOUR_MS, "15000",  \
      NULL, NULL, "Time between heartbeats.")                                                                \
    X("workers.port_range", "POOL_WORKERS_PORT_RANGE", PORTS, port_first, port_last, 1, 65535,               \
      "\"8001-8999\"", NULL, NULL,                                                                           \
      "Ports for workers, both ends included. Best below the ephemeral ports of the system.")                \
    X("workers.start_timeout_ms", "POOL_WORKERS_START_TIMEOUT_MS", MILLISECONDS, start_timeout_ms,           \
      start_timeout_ms, 1, CONFIG_MS_MAX, "120000", NULL, NULL,                                              \
      "How long a worker may take to become ready; extended while it makes progress.")                       \
    X("workers.stop_grace_ms", "POOL_WORKERS_STOP_GRACE_MS", MILLISECONDS, stop_grace_ms, stop_grace_ms, 0,  \
      CONFIG_MS_MAX, "30000", NULL, NULL, "Time between the polite stop signal and SIGKILL.")                \
    X("workers.queue_timeout_ms", "POOL_WORKERS_QUEUE_TIMEOUT_MS", MILLISECONDS, queue_timeout_ms,           \
      queue_timeout_ms, 0, CONFIG_MS_MAX, "600000", NULL, NULL,                                              \
      "How long a start waits for its turn on a device; 0: it is refused instead. Only a daemon waits.")     \
    X("workers.health_interval_ms", "POOL_WORKERS_HEALTH_INTERVAL_MS", MILLISECONDS, health_interval_ms,     \
      health_interval_ms, 100, CONFIG_HOUR_MS, "10000", NULL, NULL,                                          \
      "Time between health probes of a worker.")                                                             \
    X("workers.require_verified", "POOL_WORKERS_REQUIRE_VERIFIED", BOOL, require_verified, require_verified, \
      0, 0, "false", NULL, NULL, "Refuse models whose size and SHA-256 were not checked.")                   \
    X("workers.bind_host", "POOL_WORKERS_BIND_HOST", HOST, workers_bind_host, workers_bind_host, 0, 0,       \
      "\"127.0.0.1\"", NULL, NULL, "Address that workers listen on.")                                        \
    X("workers.on_unhealthy", "POOL_WORKERS_ON_UNHEALTHY", CHOICE, on_unhealthy, on_unhealthy, 0, 0,         \
      "\"report\"", NULL, "report|stop", "What to do about a worker whose health probes fail.")              \
    X("gpu.inventory", "POOL_GPU_INVENTORY", INVENTORY, gpu_inventory, gpu_inventory, 0, 0, "\"nvml:\"",     \
      NULL, NULL, "\"nvml:\" (the driver), \"nvml:/path/libnvidia-ml.so.1\" or \"static:/path/gpus.toml\".") \
    X("gpu.refresh_interval_ms", "POOL_GPU_REFRESH_INTERVAL_MS", MILLISECONDS, gpu_refresh_interval_ms,      \
      gpu_refresh_interval_ms, 100, CONFIG_HOUR_MS, "2000", NULL, NULL,                                      \
      "Time between two readings of the GPUs.")                                                              \
    X("gpu.vram_headroom_bytes", "POOL_GPU_VRAM_HEADROOM_BYTES", BYTES, gpu_vram_headroom_bytes,             \
      gpu_vram_headroom_bytes, 0, INT64_C(1) << 50, "\"256MiB\"", NULL, NULL,                                \
      "Bytes of each device that are never given away.")                                                     \
    X("gpu.lock_dir", "POOL_GPU_LOCK_DIR", PATH, gpu_lock_dir, gpu_lock_dir, 0, 0,                           \
      "\"/run/lock/pool-core\"", NULL, NULL,                                                                 \
      "Where the pools of this host, of all users, see what others promised of its GPUs. One for all.")      \
    X("staging.max_bytes", "POOL_STAGING_MAX_BYTES", BYTES, staging_max_bytes, staging_max_bytes, 0,         \
      INT64_C(1) << 50, "0", NULL, NULL, "Host memory for models kept ready in RAM. 0: off.")                \
    X("log_level", "POOL_LOG_LEVEL", WORD, log_level, log_level, 0, 0, "\"info\"", NULL,                     \
      "error|warning|info|debug", "How much is logged.")

/* Fields of struct pool_backend; the names follow "backends.NAME.". The default is that of a backend from scratch. */
#define CONFIG_BACKEND_KEYS(X)                                                                             \
    X("extends", NULL, BACKEND, extends, extends, 0, 0, "\"\"", NULL, NULL,                                \
      "Backend whose fields are the defaults of this one.")                                                \
    X("command", NULL, COMMAND, command, n_command, 0, POOL_COMMAND_ARGUMENTS_MAX, "[]", NULL, NULL,       \
                                                                                                           \
      "Program and arguments. Placeholders in braces are replaced, {{ and }} are braces; there is no "     \
      "shell.")                                                                                            \
    X("env", NULL, ENV, env, n_env, 0, POOL_BACKEND_ENV_MAX, "{}", NULL, NULL,                             \
      "Environment of the worker, with placeholders. Added name by name to what is inherited by extends.") \
    X("ready.http", NULL, HTTP_PATH, ready_http, ready_http, 0, 0, "\"\"", NULL, NULL,                     \
      "Path that answers 200 once the worker is ready. Empty: not by HTTP.")                               \
    X("ready.callback", NULL, BOOL, ready_callback, ready_callback, 0, 0, "false", NULL, NULL,             \
      "Whether the worker itself says that it is ready, at {callback_url}. Needs the daemon.")             \
    X("activity", NULL, CHOICE, activity, activity, 0, 0, "\"none\"", NULL, CONFIG_WORDS(POOL_ACTIVITIES), \
      "How requests in flight are read.")                                                                  \
    X("stop_signal", NULL, SIGNAL, stop_signal, stop_signal, 0, 0, "\"SIGTERM\"", NULL, NULL,              \
      "Signal that asks the worker to end.")                                                               \
    X("device", NULL, CHOICE, device, device, 0, 0, NULL,                                                  \
      "gpu when command or env has a {gpu_...} placeholder, else cpu", CONFIG_WORDS(POOL_DEVICE_KINDS),    \
      "Where the model lies.")                                                                             \
    X("model_formats", NULL, WORDS, model_formats, n_model_formats, 0, 2, "[]", NULL, "gguf|safetensors",  \
      "Formats of model files that the program reads. Empty: any.")                                        \
    X("device_check", NULL, ARGUMENTS, device_check, n_device_check, 0, 16, "[]", NULL, NULL,              \
      "Arguments with which the program lists its devices and ends. Empty: not checked.")                  \
    X("exclusive_start", NULL, BOOL, exclusive_start, exclusive_start, 0, 0, "false", NULL, NULL,          \
      "Whether it measures free VRAM when it starts, so that starts on a device have to queue.")           \
    X("not_on_gpu", NULL, CHOICE, not_on_gpu, not_on_gpu, 0, 0, "\"fail\"", NULL, "fail|warn",             \
      "What becomes of a worker that answers and does not hold its GPU's memory: fail: it is not called "  \
      "ready, or is unhealthy; warn: it is only said.")                                                    \
    X("capabilities", NULL, NAMES, capabilities, n_capabilities, 0, 32, "[]", NULL, NULL,                  \
      "What a worker can do, told to the orchestrator.")                                                   \
    X("protocol", NULL, NAME, protocol, protocol, 0, 0, "\"\"", NULL, NULL, "API that a worker speaks.")   \
    X("allow_args", NULL, OPTIONS, allow_args, n_allow_args, 0, CONFIG_LIST_MAX, "[]", NULL, NULL,         \
      "Options that a request may add.")                                                                   \
    X("allow_env", NULL, VARIABLES, allow_env, n_allow_env, 0, CONFIG_LIST_MAX, "[]", NULL, NULL,          \
      "Variables that a request may set.")

#define CONFIG_COUNT(...) +1
enum {
    CONFIG_N_GLOBAL_KEYS = 0 CONFIG_GLOBAL_KEYS(CONFIG_COUNT),
    CONFIG_N_BACKEND_KEYS = 0 CONFIG_BACKEND_KEYS(CONFIG_COUNT)
};

struct config_key {
    struct pool_config_key shown;
    const char *name; /* without "backends.NAME." */
    enum config_type type;
    size_t offset;       /* of the field in struct pool_config or struct pool_backend */
    size_t count_offset; /* of the count field */
    int64_t min, max;
    const char *words; /* "a|b|c" of a WORD, CHOICE or WORDS */
};

extern const struct config_key config_global_keys[CONFIG_N_GLOBAL_KEYS];
extern const struct config_key config_backend_keys[CONFIG_N_BACKEND_KEYS];

/*
 * What somebody meant who wrote `name` among these keys: "; did you mean x?", or what there is to choose from
 * in its section. `name` is without "backends.NAME.".
 */
#define CONFIG_HINT_MAX 400
void config_hint_key(const char *name, const struct config_key *keys, size_t n_keys,
                     char hint[CONFIG_HINT_MAX]);
/* The same among plain names; "" when none is near. */
void config_hint_name(const char *name, const char *const *names, size_t n_names, char hint[CONFIG_HINT_MAX]);

#endif
