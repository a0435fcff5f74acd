/*
 * The fields of requests about workers, of their answers, and of workers as the API shows them.
 */
#include <pool/api.h>

#include "core/api/tables.h"

_Static_assert(sizeof(struct pool_label) == 2 * sizeof(char *) &&
                   sizeof(struct pool_env_var) == 2 * sizeof(char *) &&
                   offsetof(struct pool_label, name) == 0 && offsetof(struct pool_env_var, name) == 0,
               "PAIRS are two char pointers in a row");
_Static_assert(sizeof(enum pool_worker_status) == sizeof(unsigned) &&
                   sizeof(enum pool_stop_reason) == sizeof(unsigned) &&
                   sizeof(enum pool_port_proof) == sizeof(unsigned) &&
                   sizeof(enum pool_activity) == sizeof(unsigned) &&
                   sizeof(enum pool_gpu_health) == sizeof(unsigned) &&
                   sizeof(enum pool_model_format) == sizeof(unsigned),
               "an ENUM is read and written as unsigned");

#define NAME_ROW(name, text) text,
static const char *const status_names[] = { POOL_WORKER_STATUSES(NAME_ROW) };
static const char *const stop_reason_names[] = { POOL_STOP_REASONS(NAME_ROW) };
static const char *const port_proof_names[] = { POOL_PORT_PROOFS(NAME_ROW) };
static const char *const activity_names[] = { POOL_ACTIVITIES(NAME_ROW) };
#undef NAME_ROW
#define NAMES(list) .names = (list), .n_names = sizeof(list) / sizeof(list)[0]

#define AT(member) offsetof(struct pool_may_displace, member)
static const struct field may_displace_fields[] = {
    { "worker_ids", FIELD_TEXTS, AT(worker_ids), 0,
      .about = "workers by their ids; who is not there is no error", .n_offset = AT(n_worker_ids),
      .max_items = POOL_DISPLACE_IDS_MAX, .grammar = GRAMMAR_WORKER_ID },
    { "labels", FIELD_PAIRS, AT(labels), 0,
      .about = "workers that have all of these labels, with these values", .n_offset = AT(n_labels),
      .max_items = POOL_LABELS_MAX, .max_bytes = POOL_LABEL_VALUE_MAX, .grammar = GRAMMAR_VALUE,
      .name_grammar = GRAMMAR_LABEL_NAME, .max_name_bytes = POOL_LABEL_NAME_MAX },
    { "idle_only", FIELD_FLAG_READING, AT(idle_only), 0,
      .about =
          "absent or true: only workers that say, asked at that moment, that they work on no request; false: "
          "busy ones too" },
};
#undef AT
FIELD_TABLE(may_displace_table, struct pool_may_displace, "MayDisplace", true, may_displace_fields);

#define AT(member) offsetof(struct pool_worker_spawn_request, member)
static const struct field spawn_request_fields[] = {
    { "backend", FIELD_TEXT, AT(backend), FIELD_REQUIRED,
      .about = "the engine, by its name in the configuration", .grammar = GRAMMAR_LINE,
      .max_bytes = POOL_BACKEND_NAME_MAX },
    { "model_ref", FIELD_TEXT, AT(model_ref), FIELD_REQUIRED,
      .about =
          "the model: `hf:ORG/REPO[@REV][::file=PATH]`, `file:/absolute/path` or the id of a catalog entry",
      .grammar = GRAMMAR_LINE, .max_bytes = POOL_MODEL_REF_MAX },
    { "gpu_id", FIELD_TEXT, AT(gpu_id), FIELD_INTEGER_TOO,
      .about = "the device, by index or UUID, or \"auto\"; needed by backends that use one where there are "
               "several",
      .grammar = GRAMMAR_GPU_ID, .max_bytes = POOL_GPU_UUID_MAX - 1 },
    { "port", FIELD_INTEGER, AT(port), FIELD_ZERO_IS_NULL,
      .about = "the port to listen on; 0 or absent: one is chosen", .min = 0, .max = 65535 },
    { "worker_id", FIELD_TEXT, AT(worker_id), 0, .about = "the worker's id; absent: `worker-` and a UUID",
      .grammar = GRAMMAR_WORKER_ID },
    { "required_vram_bytes", FIELD_READING, AT(required_vram_bytes), 0,
      .about = "what is reserved on the device (of host memory for a CPU backend) in place of an estimate",
      .min = 0, .max = INT64_MAX },
    { "ctx_size", FIELD_INTEGER, AT(ctx_size), FIELD_ZERO_IS_NULL,
      .about = "tokens of context over all slots; 0 or absent: what the model was trained for, at most 8192",
      .min = 0, .max = POOL_CTX_SIZE_MAX },
    { "parallel", FIELD_INTEGER, AT(parallel), FIELD_ZERO_IS_NULL,
      .about = "requests served at once; 0 or absent: 1", .min = 0, .max = POOL_PARALLEL_MAX },
    { "extra_args", FIELD_TEXTS, AT(extra_args), 0,
      .about = "arguments put behind the backend's, as far as it allows them", .n_offset = AT(n_extra_args),
      .max_items = POOL_EXTRA_ARGS_MAX, .max_bytes = POOL_ARGUMENT_MAX_BYTES },
    { "env", FIELD_PAIRS, AT(env), 0, .about = "environment variables, as far as the backend allows them",
      .n_offset = AT(n_env), .max_items = POOL_REQUEST_ENV_MAX, .max_bytes = POOL_ARGUMENT_MAX_BYTES,
      .name_grammar = GRAMMAR_ENV_NAME, .max_name_bytes = POOL_ENV_NAME_MAX },
    { "start_timeout_ms", FIELD_READING, AT(start_timeout_ms), 0,
      .about = "how long it may take until ready without progress; absent: as configured", .min = 1,
      .max = POOL_TIMEOUT_MAX_MS },
    { "idle_timeout_ms", FIELD_READING, AT(idle_timeout_ms), 0,
      .about = "stopped when it had no request for so long; 0 or absent: never", .min = 0,
      .max = POOL_TIMEOUT_MAX_MS },
    { "stop_grace_ms", FIELD_READING, AT(stop_grace_ms), 0,
      .about = "time between asking it to stop and killing it; absent: as configured", .min = 0,
      .max = POOL_TIMEOUT_MAX_MS },
    { "labels", FIELD_PAIRS, AT(labels), 0, .about = "names and values of the caller's own",
      .n_offset = AT(n_labels), .max_items = POOL_LABELS_MAX, .max_bytes = POOL_LABEL_VALUE_MAX,
      .grammar = GRAMMAR_VALUE, .name_grammar = GRAMMAR_LABEL_NAME, .max_name_bytes = POOL_LABEL_NAME_MAX },
    { "wait", FIELD_BOOL, AT(wait), 0, .about = "answer when it is ready or has failed, not at once" },
    { "gpu_ids", FIELD_TEXTS, AT(gpu_ids), 0,
      .about = "several devices for one worker, by index or UUID, in place of `gpu_id`",
      .grammar = GRAMMAR_VALUE, .n_offset = AT(n_gpu_ids), .max_items = POOL_SPLIT_DEVICES_MAX,
      .max_bytes = POOL_GPU_UUID_MAX - 1 },
    { "split", FIELD_TEXT, AT(split), 0,
      .about = "how much of it goes to each of `gpu_ids`, as \"3,1\"; absent: by how much room each has",
      .grammar = GRAMMAR_LINE, .max_bytes = 256 },
    { "may_displace", FIELD_OBJECT, AT(may_displace), 0,
      .about = "workers that may be stopped to make room, no more of them than that takes; absent: nobody",
      .table = &may_displace_table },
};
#undef AT
FIELD_TABLE(worker_spawn_request_table, struct pool_worker_spawn_request, "WorkerSpawnRequest", true,
            spawn_request_fields);

#define AT(member) offsetof(struct pool_worker_spawn_response, member)
static const struct field spawn_response_fields[] = {
    { "worker_id", FIELD_TEXT, AT(worker_id), FIELD_REQUIRED, .about = "the worker's id" },
    { "status", FIELD_ENUM, AT(status), FIELD_REQUIRED, .about = "where it is in its life",
      NAMES(status_names) },
    { "pid", FIELD_INTEGER, AT(pid), FIELD_ZERO_IS_NULL, .about = "its main process; null: none yet" },
    { "port", FIELD_INTEGER, AT(port), 0, .about = "the port it listens on, or will" },
    { "uri", FIELD_TEXT, AT(uri), 0, .about = "where it is asked" },
    { "gpu_id", FIELD_TEXT, AT(gpu_id), 0, .about = "UUID of its device; null for the CPU" },
    { "reserved_vram_bytes", FIELD_INTEGER, AT(reserved_vram_bytes), 0,
      .about = "admitted on its device; 0 for the CPU" },
    { "reserved_memory_bytes", FIELD_INTEGER, AT(reserved_memory_bytes), 0,
      .about = "admitted of the host's memory; 0 on a GPU" },
    { "log_path", FIELD_TEXT, AT(log_path), 0, .about = "the file with its output" },
};
#undef AT
FIELD_TABLE(worker_spawn_response_table, struct pool_worker_spawn_response, "WorkerSpawnResponse", false,
            spawn_response_fields);

#define AT(member) offsetof(struct pool_worker_stop_request, member)
static const struct field stop_request_fields[] = {
    { "worker_id", FIELD_TEXT, AT(worker_id), FIELD_REQUIRED, .about = "the worker to stop",
      .grammar = GRAMMAR_WORKER_ID },
    { "grace_ms", FIELD_READING, AT(grace_ms), 0,
      .about = "time between asking it to stop and killing it; absent: what it was started with", .min = 0,
      .max = POOL_TIMEOUT_MAX_MS },
    { "force", FIELD_BOOL, AT(force), 0, .about = "kill it at once" },
    { "wait", FIELD_BOOL, AT(wait), 0, .about = "answer when it is gone, not at once" },
};
#undef AT
FIELD_TABLE(worker_stop_request_table, struct pool_worker_stop_request, "WorkerStopRequest", true,
            stop_request_fields);

#define AT(member) offsetof(struct pool_worker_drain_request, member)
static const struct field drain_request_fields[] = {
    { "timeout_ms", FIELD_READING, AT(timeout_ms), 0,
      .about = "how long it may go on with what it has in flight; absent: 5 minutes", .min = 0,
      .max = POOL_TIMEOUT_MAX_MS },
    { "wait", FIELD_BOOL, AT(wait), 0, .about = "answer when it is gone, not at once" },
};
#undef AT
FIELD_TABLE(worker_drain_request_table, struct pool_worker_drain_request, "WorkerDrainRequest", true,
            drain_request_fields);

#define AT(member) offsetof(struct pool_worker_ready_callback, member)
static const struct field ready_callback_fields[] = {
    { "worker_id", FIELD_TEXT, AT(worker_id), FIELD_REQUIRED,
      .about = "the worker that calls, POOL_WORKER_ID", .grammar = GRAMMAR_WORKER_ID },
    { "spawn_token", FIELD_TEXT, AT(spawn_token), FIELD_REQUIRED,
      .about = "what it was given as POOL_SPAWN_TOKEN; good once", .grammar = GRAMMAR_LINE, .max_bytes = 64 },
};
#undef AT
FIELD_TABLE(worker_ready_callback_table, struct pool_worker_ready_callback, "WorkerReadyCallback", false,
            ready_callback_fields);

#define AT(member) offsetof(struct pool_process_identity, member)
static const struct field identity_fields[] = {
    { "start_time_ticks", FIELD_INTEGER, AT(start_time_ticks), FIELD_ZERO_IS_NULL,
      .about = "start of the process in clock ticks since boot" },
    { "boot_id", FIELD_CHARS, AT(boot_id), 0, .about = "the boot it belongs to", .capacity = 37 },
    { "pid_namespace", FIELD_UINT64, AT(pid_namespace), FIELD_ZERO_IS_NULL,
      .about = "inode of the pid namespace in which `pid` counts" },
    { "pidfd_inode", FIELD_UINT64, AT(pidfd_inode), FIELD_ZERO_IS_NULL,
      .about = "number of the process that is unique in its boot; null on kernels before 6.9" },
};
#undef AT
FIELD_TABLE(identity_table, struct pool_process_identity, "Identity", false, identity_fields);

static bool is_on_gpu(const void *object)
{
    return ((const struct pool_worker_info *)object)->gpu_uuid != NULL;
}

static bool is_on_host(const void *object)
{
    return !is_on_gpu(object);
}

#define AT(member) offsetof(struct pool_worker_info, member)
static const struct field worker_fields[] = {
    { "worker_id", FIELD_TEXT, AT(worker_id), FIELD_REQUIRED, .about = "the worker's id" },
    { "backend", FIELD_TEXT, AT(backend), 0, .about = "the engine, by its name in the configuration" },
    { "model_ref", FIELD_TEXT, AT(model_ref), 0, .about = "the model, as `hf:` or `file:`" },
    { "model_path", FIELD_TEXT, AT(model_path), 0, .about = "its (first) file" },
    { "gpu_id", FIELD_TEXT, AT(gpu_uuid), 0, .about = "UUID of its device; null for the CPU" },
    { "gpu_index", FIELD_INTEGER, AT(gpu_id), FIELD_NEGATIVE_IS_NULL,
      .about = "index of its device when it was started, for people; null for the CPU" },
    { "host", FIELD_TEXT, AT(host), 0, .about = "the address it listens on" },
    { "port", FIELD_INTEGER, AT(port), 0, .about = "the port it listens on, or will" },
    { "uri", FIELD_TEXT, AT(uri), 0, .about = "where it is asked" },
    { "status", FIELD_ENUM, AT(status), FIELD_REQUIRED, .about = "where it is in its life",
      NAMES(status_names) },
    { "healthy", FIELD_BOOL, AT(is_healthy), 0, .about = "what the last probes said" },
    { "health_reason", FIELD_TEXT, AT(health_reason), 0,
      .about = "why it is not healthy; \"not_on_gpu\" of a healthy one is a warning" },
    { "revision", FIELD_INTEGER, AT(revision), 0, .about = "grows with every change of the record" },
    { "pid", FIELD_INTEGER, AT(process.pid), FIELD_ZERO_IS_NULL,
      .about = "its main process; null: none yet" },
    { "identity", FIELD_OBJECT, AT(process), 0,
      .about = "what tells this process from a later one of the same pid", .table = &identity_table },
    { "reserved_vram_bytes", FIELD_INTEGER, AT(reserved_bytes), 0,
      .about = "admitted on its device; 0 for the CPU", .applies = is_on_gpu },
    { "reserved_memory_bytes", FIELD_INTEGER, AT(reserved_bytes), 0,
      .about = "admitted of the host's memory; 0 on a GPU", .applies = is_on_host },
    { "observed_vram_bytes", FIELD_READING, AT(observed_bytes), 0,
      .about = "what its processes hold of the device", .applies = is_on_gpu },
    { "observed_memory_bytes", FIELD_READING, AT(observed_bytes), 0,
      .about = "what its processes hold of the host's memory", .applies = is_on_host },
    { "peak_vram_bytes", FIELD_READING, AT(peak_bytes), 0,
      .about = "the most that was observed on the device", .applies = is_on_gpu },
    { "peak_memory_bytes", FIELD_READING, AT(peak_bytes), 0,
      .about = "the most that was observed of the host's memory", .applies = is_on_host },
    { "free_before_start_bytes", FIELD_READING, AT(free_before_start_bytes), 0,
      .about = "free on its device (or of the host's memory) when it was planned" },
    { "log_path", FIELD_TEXT, AT(log_path), 0, .about = "the file with its output" },
    { "log_identity", FIELD_UINT64, AT(log_identity), FIELD_ZERO_IS_NULL,
      .about = "what tells that file from others of its name; another start of the same id has another" },
    { "created_at", FIELD_TIME, AT(created_wall_ms), 0, .about = "when it was admitted" },
    { "created_boottime_ns", FIELD_INTEGER, AT(created_boottime_ns), FIELD_ZERO_IS_NULL,
      .about = "the same by CLOCK_BOOTTIME of its host" },
    { "ready_at", FIELD_TIME, AT(ready_wall_ms), 0, .about = "when it was proven ready; null: not yet" },
    { "ready_boottime_ns", FIELD_INTEGER, AT(ready_boottime_ns), FIELD_ZERO_IS_NULL,
      .about = "the same by CLOCK_BOOTTIME of its host" },
    { "stopped_at", FIELD_TIME, AT(stopped_wall_ms), 0, .about = "when it was found gone; null: it is not" },
    { "queue_position", FIELD_INTEGER, AT(queue_position), FIELD_ZERO_IS_NULL,
      .about = "its turn on its device, from 1; null: it does not wait" },
    { "queue_reason", FIELD_TEXT, AT(queue_reason), 0,
      .about =
          "what it waits for: \"exclusive_start\", \"starting\", \"stopping\", \"queue\", \"releasing\" or "
          "\"displacing\"" },
    { "stop_phase", FIELD_TEXT, AT(stop_phase), 0,
      .about = "how far its stop is: \"drain\", \"wait\" (for an exclusive start), \"term\" or \"kill\"; "
               "null: not "
               "stopping" },
    { "stop_reason", FIELD_ENUM, AT(stop_reason), FIELD_ZERO_IS_NULL, .about = "why it stops or stopped",
      NAMES(stop_reason_names) },
    { "exit_code", FIELD_READING, AT(exit_code), 0,
      .about = "exit code of its main process; null: none, or not known" },
    { "exit_signal", FIELD_READING, AT(exit_signal), 0,
      .about = "number of the signal that ended its main process" },
    { "exit_signal_name", FIELD_SIGNAL_NAME, AT(exit_signal), 0,
      .about = "the signal's name, such as \"SIGKILL\"" },
    { "port_proof", FIELD_ENUM, AT(port_proof), FIELD_ZERO_IS_NULL,
      .about = "how it was shown that its port is its own; null: not yet", NAMES(port_proof_names) },
    { "program", FIELD_TEXT, AT(program), 0, .about = "the program that was started" },
    { "ready_path", FIELD_TEXT, AT(ready_path), 0,
      .about = "HTTP path that tells readiness and health; null: it calls back" },
    { "stop_signal", FIELD_INTEGER, AT(stop_signal), FIELD_ZERO_IS_NULL,
      .about = "number of the signal that asks it to stop" },
    { "activity", FIELD_ENUM, AT(activity), 0, .about = "how its requests in flight are read",
      NAMES(activity_names) },
    { "ctx_size", FIELD_INTEGER, AT(ctx_size), 0, .about = "tokens of context over all slots" },
    { "parallel", FIELD_INTEGER, AT(parallel), 0, .about = "requests served at once" },
    { "start_timeout_ms", FIELD_INTEGER, AT(start_timeout_ms), 0,
      .about = "how long it may take until ready without progress" },
    { "idle_timeout_ms", FIELD_INTEGER, AT(idle_timeout_ms), 0,
      .about = "stopped when it had no request for so long; 0: never" },
    { "stop_grace_ms", FIELD_INTEGER, AT(stop_grace_ms), 0,
      .about = "time between asking it to stop and killing it" },
    { "port_chosen", FIELD_BOOL, AT(is_port_chosen), 0, .about = "the port was chosen, not asked for" },
    { "capabilities", FIELD_WORDS, AT(capabilities), 0, .about = "what it can do, as its backend says" },
    { "protocol", FIELD_TEXT, AT(protocol), 0, .about = "the protocol of its API" },
    { "labels", FIELD_PAIRS, AT(labels), 0, .about = "names and values of the caller's own",
      .n_offset = AT(n_labels) },
    { "estimated_bytes", FIELD_INTEGER, AT(estimated_bytes), FIELD_ZERO_IS_NULL,
      .about = "what its model was estimated to take, without margin" },
    { "reserve_fixed", FIELD_BOOL, AT(is_reserve_fixed), 0,
      .about = "the request said what to reserve; else that falls to what is seen" },
    { "learned_key", FIELD_TEXT, AT(learned_key), 0, .about = "under what its use is learned" },
    { "shares", FIELD_TEXT, AT(shares), 0,
      .about = "of several devices what is reserved on each, `UUID=BYTES,…`; null: all is on one" },
    { "idle_since", FIELD_TIME, AT(idle_since_wall_ms), 0,
      .about = "when it was last seen to have become idle; null: it has had no request, or has one" },
    { "idle_since_boottime_ns", FIELD_INTEGER, AT(idle_since_boottime_ns), FIELD_ZERO_IS_NULL,
      .about = "the same by CLOCK_BOOTTIME of its host" },
    { "kill_at_boottime_ns", FIELD_INTEGER, AT(kill_at_boottime_ns), FIELD_ZERO_IS_NULL,
      .about = "when it is killed if it has not ended by then, CLOCK_BOOTTIME of its host; null: it was not "
               "asked to end" },
};
#undef AT
FIELD_TABLE(worker_table, struct pool_worker_info, "Worker", false, worker_fields);
