/*
 * The fields of crash bundles and of the answer to "why".
 */
#include <pool/crash.h>

#include "core/api/tables.h"

#define NAME_ROW(name, text) text,
static const char *const cause_names[] = { POOL_CRASH_CAUSES(NAME_ROW) };
static const char *const stop_reason_names[] = { POOL_STOP_REASONS(NAME_ROW) };
static const char *const event_kind_names[] = { POOL_GPU_EVENT_KINDS(NAME_ROW) };
#undef NAME_ROW
#define NAMES(list) .names = (list), .n_names = sizeof(list) / sizeof(list)[0]

_Static_assert(sizeof(enum pool_crash_cause) == sizeof(unsigned), "an ENUM is read and written as unsigned");

const char *pool_crash_cause_name(enum pool_crash_cause cause)
{
    return (size_t)cause < sizeof cause_names / sizeof cause_names[0] ? cause_names[cause] : "unknown";
}

#define UUID_BYTES POOL_GPU_UUID_MAX

#define AT(member) offsetof(struct pool_vram_sample, member)
static const struct field sample_fields[] = {
    { "at", FIELD_TIME, AT(at_wall_ms), 0, .about = "when the driver was asked" },
    { "gpu_uuid", FIELD_CHARS, AT(gpu_uuid), 0, .about = "the device", .capacity = UUID_BYTES },
    { "observed_bytes", FIELD_READING, AT(observed_bytes), 0,
      .about = "what the worker's processes held of it; null: it can not be told" },
    { "free_bytes", FIELD_READING, AT(free_bytes), 0, .about = "what the device had free" },
};
#undef AT
FIELD_TABLE(vram_sample_table, struct pool_vram_sample, "VramSample", false, sample_fields);

#define AT(member) offsetof(struct pool_device_fault, member)
static const struct field fault_fields[] = {
    { "at", FIELD_TIME, AT(at_wall_ms), 0, .about = "when it was reported" },
    { "gpu_uuid", FIELD_CHARS, AT(gpu_uuid), 0, .about = "the device", .capacity = UUID_BYTES },
    { "kind", FIELD_ENUM, AT(kind), 0, .about = "what was reported", NAMES(event_kind_names) },
    { "data", FIELD_INTEGER, AT(data), 0, .about = "the number of an XID, or of the driver's own meaning" },
    { "is_serious", FIELD_BOOL, AT(is_serious), 0, .about = "the device was cordoned because of it" },
    { "text", FIELD_CHARS, AT(text), 0, .about = "the same for people",
      .capacity = sizeof(((struct pool_device_fault *)0)->text) },
};
#undef AT
FIELD_TABLE(device_fault_table, struct pool_device_fault, "DeviceFault", false, fault_fields);

#define AT(member) offsetof(struct pool_crash_device, member)
static const struct field device_fields[] = {
    { "gpu_uuid", FIELD_CHARS, AT(gpu_uuid), 0, .about = "the device; \"host\": the host's memory",
      .capacity = UUID_BYTES },
    { "reserved_bytes", FIELD_INTEGER, AT(reserved_bytes), 0, .about = "what it was promised there" },
};
#undef AT
FIELD_TABLE(crash_device_table, struct pool_crash_device, "CrashDevice", false, device_fields);

#define AT(member) offsetof(struct pool_crash_memory, member)
static const struct field memory_fields[] = {
    { "is_counted", FIELD_BOOL, AT(is_counted), 0,
      .about = "false: it had no control group of its own, or the kernel does not count memory there" },
    { "ooms", FIELD_READING, AT(n_ooms), 0,
      .about = "times that the group's limit was reached and nothing could be freed" },
    { "oom_kills", FIELD_READING, AT(n_oom_kills), 0,
      .about = "processes of it that the kernel ended for want of memory, at whatever limit" },
    { "peak_bytes", FIELD_READING, AT(peak_bytes), 0, .about = "the most of the host's memory that it had" },
    { "limit_bytes", FIELD_READING, AT(limit_bytes), 0, .about = "the group's limit; null: none of its own" },
};
#undef AT
FIELD_TABLE(crash_memory_table, struct pool_crash_memory, "CrashMemory", false, memory_fields);

#define AT(member) offsetof(struct pool_crash_progress, member)
static const struct field progress_fields[] = {
    { "elapsed_ms", FIELD_READING, AT(elapsed_ms), 0,
      .about = "how long it had been starting; null: its start was not given up, or nobody watched" },
    { "read_bytes", FIELD_INTEGER, AT(read_bytes), 0, .about = "what it had read" },
    { "resident_bytes", FIELD_INTEGER, AT(resident_bytes), 0, .about = "what it had of the host's memory" },
    { "log_bytes", FIELD_INTEGER, AT(log_bytes), 0, .about = "what it had written to its log" },
    { "is_listening", FIELD_BOOL, AT(is_listening), 0, .about = "it listened on its port" },
    { "is_port_foreign", FIELD_BOOL, AT(is_port_foreign), 0, .about = "somebody else answered on its port" },
    { "last_status_code", FIELD_READING, AT(last_status_code), 0,
      .about = "of its readiness path; null: it never answered" },
};
#undef AT
FIELD_TABLE(crash_progress_table, struct pool_crash_progress, "CrashProgress", false, progress_fields);

#define AT(member) offsetof(struct pool_crash_command, member)
static const struct field command_fields[] = {
    { "argv", FIELD_TEXTS, AT(argv), 0, .about = "its program and arguments, secrets taken out",
      .n_offset = AT(n_argv) },
    { "environment", FIELD_TEXTS, AT(environment), 0,
      .about = "its variables as NAME=value, secrets taken out", .n_offset = AT(n_environment) },
};
#undef AT
FIELD_TABLE(crash_command_table, struct pool_crash_command, "CrashCommand", false, command_fields);

#define AT(member) offsetof(struct pool_crash, member)
static const struct field crash_fields[] = {
    { "format", FIELD_INTEGER, AT(format), FIELD_REQUIRED, .about = "of this document: 1", .min = 1,
      .max = INT64_MAX },
    { "worker_id", FIELD_TEXT, AT(worker_id), FIELD_REQUIRED, .about = "the worker" },
    { "cause", FIELD_ENUM, AT(cause), 0, .about = "what kind of end it was, as far as the facts say",
      NAMES(cause_names) },
    { "why", FIELD_TEXT, AT(why), 0, .about = "one sentence, made of the facts below" },
    { "evidence", FIELD_TEXTS, AT(evidence), 0, .about = "those that it stands on",
      .n_offset = AT(n_evidence) },
    { "stop_reason", FIELD_ENUM, AT(stop_reason), FIELD_ZERO_IS_NULL, .about = "that of its record",
      NAMES(stop_reason_names) },
    { "exit_code", FIELD_READING, AT(exit_code), 0,
      .about = "exit code of its main process; null: none, or not known" },
    { "exit_signal", FIELD_READING, AT(exit_signal), 0,
      .about = "number of the signal that ended its main process" },
    { "exit_signal_name", FIELD_SIGNAL_NAME, AT(exit_signal), 0, .about = "the signal's name" },
    { "is_ended_by_us", FIELD_BOOL, AT(is_ended_by_us), 0, .about = "the pool ended it" },
    { "start_error_code", FIELD_TEXT, AT(start_error_code), 0,
      .about = "the error of a start that never got to run its program" },
    { "start_error", FIELD_TEXT, AT(start_error), 0, .about = "its message" },
    { "health_reason", FIELD_TEXT, AT(health_reason), 0, .about = "why it was not healthy, if it was not" },
    { "ended_with", FIELD_TEXT, AT(ended_with), 0,
      .about = "what it lived in and is there no more: \"boot\" or \"pid_namespace\"" },
    { "is_port_taken", FIELD_FLAG_READING, AT(is_port_taken), 0,
      .about = "somebody else listened on its port when it ended; null: not looked at" },
    { "created_at", FIELD_TIME, AT(created_wall_ms), 0, .about = "when it was admitted" },
    { "ready_at", FIELD_TIME, AT(ready_wall_ms), 0, .about = "when it was proven ready; null: never" },
    { "died_at", FIELD_TIME, AT(died_wall_ms), 0, .about = "when its end was seen" },
    { "created_boottime_ns", FIELD_INTEGER, AT(created_boottime_ns), FIELD_ZERO_IS_NULL,
      .about = "with created_at what tells this start from others of its id" },
    { "backend", FIELD_TEXT, AT(backend), 0, .about = "the engine, by its name in the configuration" },
    { "model_ref", FIELD_TEXT, AT(model_ref), 0, .about = "the model" },
    { "model_path", FIELD_TEXT, AT(model_path), 0, .about = "its (first) file" },
    { "engine_version", FIELD_TEXT, AT(engine_version), 0,
      .about = "as the engine says it, or size and time of its program" },
    { "program", FIELD_TEXT, AT(program), 0, .about = "the program that was started" },
    { "port", FIELD_INTEGER, AT(port), FIELD_ZERO_IS_NULL, .about = "the port it had" },
    { "pid", FIELD_INTEGER, AT(process.pid), FIELD_ZERO_IS_NULL,
      .about = "its main process; null: it never had one" },
    { "identity", FIELD_OBJECT, AT(process), 0,
      .about = "what tells that process from a later one of the same pid", .table = &identity_table },
    { "gpu_index", FIELD_INTEGER, AT(gpu_id), FIELD_NEGATIVE_IS_NULL,
      .about = "index of its first device when it was started" },
    { "devices", FIELD_OBJECTS, AT(devices), 0, .about = "what it was promised, by device",
      .n_offset = AT(n_devices), .table = &crash_device_table },
    { "reserved_bytes", FIELD_INTEGER, AT(reserved_bytes), 0, .about = "the same of all together" },
    { "observed_bytes", FIELD_READING, AT(observed_bytes), 0, .about = "what it was last recorded to hold" },
    { "peak_bytes", FIELD_READING, AT(peak_bytes), 0, .about = "the most that it was seen to hold" },
    { "estimated_bytes", FIELD_INTEGER, AT(estimated_bytes), FIELD_ZERO_IS_NULL,
      .about = "what its model was estimated to take, without margin" },
    { "free_before_start_bytes", FIELD_READING, AT(free_before_start_bytes), 0,
      .about = "free on its device (or of the host's memory) when it was planned" },
    { "memory", FIELD_OBJECT, AT(memory), 0, .about = "what its control group counted",
      .table = &crash_memory_table },
    { "start_timeout_ms", FIELD_INTEGER, AT(start_timeout_ms), 0,
      .about = "how long it might take until ready without progress" },
    { "progress", FIELD_OBJECT, AT(progress), 0, .about = "how far a start had come that was given up",
      .table = &crash_progress_table },
    { "explain_id", FIELD_TEXT, AT(explain_id), 0, .about = "the record that explains its end" },
    { "start_explain_id", FIELD_TEXT, AT(start_explain_id), 0,
      .about = "the record that explains its start" },
    { "required_bytes", FIELD_READING, AT(required_bytes), 0, .about = "what its start was found to need" },
    { "required_source", FIELD_TEXT, AT(required_source), 0, .about = "where that number came from" },
    { "candidates", FIELD_OBJECTS, AT(candidates), 0,
      .about = "the arithmetic of the devices that it was given", .n_offset = AT(n_candidates),
      .table = &explain_candidate_table },
    { "watched_since", FIELD_TIME, AT(watched_since_wall_ms), 0,
      .about = "since when a daemon took samples and listened for errors; null: none did" },
    { "samples", FIELD_OBJECTS, AT(samples), 0,
      .about = "what it held over time: its beginning, its peak and its last minutes closest",
      .n_offset = AT(n_samples), .table = &vram_sample_table },
    { "faults", FIELD_OBJECTS, AT(faults), 0,
      .about = "errors of its devices, from 5 minutes before its end to 1 minute after it",
      .n_offset = AT(n_faults), .table = &device_fault_table },
    { "log", FIELD_TEXTS, AT(log), 0, .about = "the last lines of its log, secrets taken out",
      .n_offset = AT(n_log) },
    { "is_log_cut", FIELD_BOOL, AT(is_log_cut), 0, .about = "there is more in its log" },
    { "log_path", FIELD_TEXT, AT(log_path), 0,
      .about = "its log, until another worker of the same id is started" },
    { "is_command_known", FIELD_BOOL, AT(is_command_known), 0,
      .about = "false: the copy of its command line could not be read" },
    { "command", FIELD_OBJECT, AT(command), 0, .about = "how it was started", .table = &crash_command_table },
    { "inherited", FIELD_TEXTS, AT(inherited), 0,
      .about = "names of variables that a worker may inherit; `*` stands for any rest",
      .n_offset = AT(n_inherited) },
};
#undef AT
FIELD_TABLE(crash_table, struct pool_crash, "CrashBundle", false, crash_fields);

#define AT(member) offsetof(struct pool_worker_why, member)
static const struct field why_fields[] = {
    { "worker_id", FIELD_TEXT, AT(worker_id), FIELD_REQUIRED, .about = "the worker" },
    { "status", FIELD_TEXT, AT(status), 0,
      .about = "where it is in its life; null: its record is gone, its bundle is not" },
    { "stop_reason", FIELD_ENUM, AT(stop_reason), FIELD_ZERO_IS_NULL, .about = "why it stops or stopped",
      NAMES(stop_reason_names) },
    { "why", FIELD_TEXT, AT(why), 0, .about = "one sentence" },
    { "bundle_path", FIELD_TEXT, AT(bundle_path), 0,
      .about = "file of the bundle on its host; null: there is none" },
    { "bundle_error", FIELD_TEXT, AT(bundle_error), 0,
      .about = "why the bundle that is there can not be read; null: it can" },
};
#undef AT
FIELD_TABLE(worker_why_table, struct pool_worker_why, "WorkerWhyFields", false, why_fields);
