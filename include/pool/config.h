/*
 * Configuration: one TOML file, overridden by environment variables (POOL_…), overridden by flags.
 *
 * It is parsed, merged (flag > environment > file > default), and then validated as a whole. An unknown key
 * is an error that names the nearest known one; an unknown POOL_ variable is a warning. Every value knows
 * where it came from. All keys are in one table (src/core/config_keys.h), which also makes `config show` and the manual.
 *
 * A backend is data: a program with its arguments as a list with placeholders, never a shell line.
 */
#ifndef POOL_CONFIG_H
#define POOL_CONFIG_H

#include <pool/error.h>
#include <pool/worker.h>

#ifdef __cplusplus
extern "C" {
#endif

#define POOL_CONFIG_FILE_MAX_BYTES (1 << 20)
#define POOL_BACKENDS_MAX          64
#define POOL_COMMAND_ARGUMENTS_MAX 256
#define POOL_BACKEND_ENV_MAX       128

/* What may stand in braces in a command and in the values of env. `{{` and `}}` are braces. X(name, text) */
#define POOL_PLACEHOLDERS(X)                                                                           \
    X(MODEL_PATH, "model_path") /* the (first) model file */                                           \
    X(PORT, "port")                                                                                    \
    X(HOST, "host")               /* workers.bind_host */                                              \
    X(GPU_ORDINAL, "gpu_ordinal") /* of the device inside the worker: 0 */                             \
    X(GPU_INDEX, "gpu_index")     /* on the host, for people */                                        \
    X(GPU_UUID, "gpu_uuid")                                                                            \
    X(WORKER_ID, "worker_id")                                                                          \
    X(CALLBACK_URL, "callback_url") /* where a worker that speaks it says ready */                     \
    X(CTX_SIZE, "ctx_size")                                                                            \
    X(PARALLEL, "parallel")                                                                            \
    /* of its device's whole memory what is reserved, "0.4321": for vLLM's --gpu-memory-utilization */ \
    X(GPU_MEMORY_FRACTION, "gpu_memory_fraction")

enum pool_placeholder {
#define POOL_X(name, text) POOL_PLACEHOLDER_##name,
    POOL_PLACEHOLDERS(POOL_X)
#undef POOL_X
};

/* Where a backend's workers hold their model. X(name, text) */
#define POOL_DEVICE_KINDS(X)                            \
    X(CPU, "cpu")     /* host memory */                 \
    X(GPU, "gpu")     /* one device of the inventory */ \
    X(METAL, "metal") /* Apple's; refused on Linux */

enum pool_device_kind {
#define POOL_X(name, text) POOL_DEVICE_##name,
    POOL_DEVICE_KINDS(POOL_X)
#undef POOL_X
};

struct pool_env_var {
    char *name;
    char *value;
};

/** What becomes of a worker that does not hold the memory of its GPU that it should; see pool/presence.h. */
enum pool_not_on_gpu {
    POOL_NOT_ON_GPU_FAIL, /**< it is not called ready, and is unhealthy */
    POOL_NOT_ON_GPU_WARN, /**< it is said, and nothing else */
};

/** One engine. Allocated by the library, fields are added at the end only. */
struct pool_backend {
    char *name;
    char *extends;   /**< backend that it takes its defaults from, NULL for none */
    bool is_builtin; /**< its name is one of the built-in ones; the file may have changed it */
    enum pool_device_kind device;
    size_t n_command;
    char **
        command; /**< program (no placeholders; absolute when it has a '/') and arguments with placeholders */
    size_t n_env;
    struct pool_env_var *env; /**< by name; values may have placeholders */
    char *ready_http;         /**< path such as "/health"; NULL: not by HTTP */
    bool ready_callback;
    enum pool_activity activity;
    int stop_signal;
    size_t n_capabilities;
    char **capabilities;
    char *protocol; /**< of its API, "" when not said */
    size_t n_allow_args;
    char **allow_args; /**< options (up to '=') that a request's extra_args may use */
    size_t n_allow_env;
    char **allow_env;     /**< names of variables that a request's env may set */
    bool exclusive_start; /**< its start profiles free VRAM: one at a time per device */
    size_t n_model_formats;
    char **model_formats; /**< "gguf", "safetensors"; none: any */
    size_t n_device_check;
    char **device_check; /**< arguments with which the program lists its devices; none: not checked */
    enum pool_not_on_gpu not_on_gpu;
};

enum pool_on_unhealthy { POOL_ON_UNHEALTHY_REPORT, POOL_ON_UNHEALTHY_STOP };

/** Everything, merged and valid. Allocated by the library, fields are added at the end only. */
struct pool_config {
    char *pool_id;              /**< default: host name */
    char *state_dir;            /**< absolute */
    bool is_state_dir_explicit; /**< named by flag, environment or file */
    size_t n_models_dirs;
    char **models_dirs;
    int64_t models_quota_bytes; /**< that downloads leave used in all of models_dirs; 0: no quota */
    size_t n_catalogs;
    char **catalogs;
    char *advertise_host;
    char *daemon_bind;       /**< "127.0.0.1:9200" */
    char *daemon_socket;     /**< absolute path */
    char *daemon_token_file; /**< NULL: none */
    bool daemon_stop_workers_on_exit;
    char *registry_url;     /**< "sqlite:/path/pool.db" (resolved) or "memory:" */
    char *orchestrator_url; /**< NULL: none */
    char *orchestrator_token_file;
    int64_t orchestrator_heartbeat_interval_ms;
    int64_t port_first, port_last; /**< workers.port_range, inclusive */
    int64_t start_timeout_ms;
    int64_t stop_grace_ms;
    int64_t queue_timeout_ms; /**< of a start that waits for its turn on a device; 0: it is refused */
    int64_t health_interval_ms;
    bool require_verified;
    char *workers_bind_host;
    enum pool_on_unhealthy on_unhealthy;
    char *gpu_inventory; /**< URL for pool_gpu_inventory_open, "nvml:" */
    int64_t gpu_refresh_interval_ms;
    int64_t gpu_vram_headroom_bytes; /**< per device, never given away */
    char *gpu_lock_dir;              /**< where the managers of this host see each other's promises */
    int64_t staging_max_bytes;       /**< 0: staging is off */
    char *log_level;                 /**< "error", "warning", "info", "debug" */
    size_t n_backends;
    struct pool_backend **backends; /**< built-in and configured, by name */
    char *file;                     /**< absolute path that was read, NULL when there was none */
    struct pool_config_values
        *values; /**< behind pool_config_value_at; NULL in a configuration made by hand */
};

/** What there is to configure, for help and manual pages. Static. */
struct pool_config_key {
    const char *name; /**< "workers.port_range"; with "backends.NAME." in front for those of a backend */
    const char *environment;   /**< variable that sets it, NULL: none */
    const char *type;          /**< "list of paths"; of a choice the words, "report|stop" */
    const char *unit;          /**< "ms", "bytes", "" */
    const char *default_value; /**< as TOML, NULL when it depends on where the program runs */
    const char *default_note;  /**< says on what; NULL when default_value is given */
    const char *summary;
};

/** A value given on the command line, as text in the key's form ("workers.port_range", "9000-9010"). */
struct pool_config_override {
    const char *key;
    const char *value;
    const char *flag; /**< as the person wrote it, for messages: "--state-dir" */
};

/** Where a configuration comes from. */
struct pool_config_sources {
    size_t struct_size; /**< sizeof(struct pool_config_sources) */
    const char *file;   /**< NULL: POOL_CONFIG, else the default place, where a missing file is fine */
    const char *const *environment; /**< "NAME=value", NULL-terminated, as environ; NULL: empty */
    size_t n_overrides;
    const struct pool_config_override *overrides; /**< the last one of a key wins */
};

/** One value of `config show`. All borrowed from the configuration. */
struct pool_config_value {
    const char *key;    /**< "workers.port_range", "backends.cpu.command" */
    const char *value;  /**< as TOML */
    const char *origin; /**< "default", "FILE:LINE", "environment POOL_…", "flag --…" */
};

/**
 * Loads, merges and validates. What loses to a stronger source is not looked at, but every key of the file has to be
 * a known one.
 * Errors: INVALID_CONFIG with "FILE:LINE:COLUMN: [section].key: value: why" ("environment NAME: …", "flag --x: …"
 * when it came from there); details path, line, column, key, n_problems (all problems are found in one pass; the
 * message has the first, the details n). INSUFFICIENT_MEMORY.
 * Owner: pool_config_free.
 * Blocks: reads the file, /etc/machine-id, the ephemeral port range and the user's entry in the user database.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_config_load(const struct pool_config_sources *sources,
                                                            struct pool_config **ret_config,
                                                            struct pool_error *err);
POOL_EXPORT void pool_config_free(struct pool_config *config);
/** Is told of one problem or warning; the message is borrowed for the call. */
typedef void pool_config_problem_fn(bool is_warning, const char *message, void *context);
/** As pool_config_load, and reports every problem and every warning through `report`, also on failure. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_config_check(const struct pool_config_sources *sources,
                                                             pool_config_problem_fn *report, void *context,
                                                             struct pool_config **ret_config,
                                                             struct pool_error *err);
/**
 * Where the configuration file is looked for, whether it is there or not: what the sources name, else POOL_CONFIG, else
 * the default place. Owner: the caller frees *ret_path with free().
 * Errors: NOT_FOUND (nothing is named, and there is no home folder), INSUFFICIENT_MEMORY.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_config_place(const struct pool_config_sources *sources,
                                                             char **ret_path, struct pool_error *err);
POOL_EXPORT size_t pool_config_n_values(const struct pool_config *config);
POOL_EXPORT struct pool_config_value pool_config_value_at(const struct pool_config *config, size_t index);
/** Where a value came from; NULL for an unknown key. Borrowed. */
POOL_EXPORT const char *pool_config_origin(const struct pool_config *config, const char *key);
/** Errors: BACKEND_NOT_FOUND (names the known ones). Borrowed. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_config_backend(const struct pool_config *config,
                                                               const char *name,
                                                               const struct pool_backend **ret_backend,
                                                               struct pool_error *err);
POOL_EXPORT size_t pool_config_n_keys(void);
/** The keys in the order of the manual, those of backends last; NULL beyond the end. Static. */
POOL_EXPORT const struct pool_config_key *pool_config_key_at(size_t index);
POOL_EXPORT const char *pool_device_kind_name(enum pool_device_kind kind);

#ifdef __cplusplus
}
#endif
#endif
