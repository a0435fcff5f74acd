/*
 * The types of the API, all of them: the field tables, and the answers made of several.
 */
#include "core/api/shapes.h"

#include "core/api/tables.h"

static const struct field_table *const tables[] = {
    &worker_spawn_request_table,
    &may_displace_table,
    &displacement_table,
    &start_room_table,
    &worker_spawn_response_table,
    &worker_stop_request_table,
    &worker_drain_request_table,
    &worker_ready_callback_table,
    &gpu_cordon_request_table,
    &gpu_cordon_table,
    &model_verify_request_table,
    &model_stage_request_table,
    &model_verification_table,
    &model_staging_table,
    &worker_table,
    &identity_table,
    &gpu_process_table,
    &nvlink_table,
    &gpu_peer_table,
    &gpu_list_table,
    &ledger_table,
    &gpu_locks_table,
    &model_file_table,
    &model_on_disk_table,
    &model_header_table,
    &explanation_table,
    &explain_candidate_table,
    &fact_table,
    &crash_table,
    &crash_device_table,
    &crash_memory_table,
    &crash_progress_table,
    &crash_command_table,
    &vram_sample_table,
    &device_fault_table,
};

#define SHAPE(title, text, rows)                                                                 \
    {                                                                                            \
        .name = title, .about = text, .members = rows, .n_members = sizeof rows / sizeof rows[0] \
    }

static const struct shape_member health_members[] = {
    { "status", SHAPE_TEXT, .about = "\"ok\"" },
    { "version", SHAPE_TEXT, .about = "of the daemon" },
    { "pool_id", SHAPE_TEXT, .about = "the pool" },
    { "epoch", SHAPE_TEXT, .about = "new at every start of the daemon" },
    { "uptime_ms", SHAPE_INTEGER, .about = "since that start" },
};

static const struct shape_member gpu_members[] = {
    { NULL, SHAPE_FIELDS, NULL, .table = &gpu_table },
    { "ledger", SHAPE_TYPE,
      .about = "who holds its memory, and what is left; null: it is not placeable, or unknown",
      .type = "Ledger", .may_be_null = true, .may_lack = true },
};

static const struct shape_member gpu_list_members[] = {
    { "gpus", SHAPE_TYPES, .about = "in the driver's order, a device before its MIG instances",
      .type = "Gpu" },
    { NULL, SHAPE_FIELDS, NULL, .table = &gpu_list_table },
};

static const struct shape_member worker_list_members[] = {
    { "workers", SHAPE_TYPES, .about = "in the order of their creation, stopped ones last",
      .type = "Worker" },
};

static const struct shape_member explanation_list_members[] = {
    { "explanations", SHAPE_TYPES, .about = "newest first", .type = "Explanation" },
};

static const struct shape_member worker_why_members[] = {
    { NULL, SHAPE_FIELDS, NULL, .table = &worker_why_table },
    { "crash", SHAPE_TYPE, .about = "of the last start of this id that died; null: none is kept",
      .type = "CrashBundle", .may_be_null = true },
};

static const struct shape_member capacity_members[] = {
    { "workers", SHAPE_INTEGER, .about = "workers that live" },
    { NULL, SHAPE_FIELDS, NULL, .table = &capacity_table },
};

static const struct shape_member status_members[] = {
    { NULL, SHAPE_FIELDS, NULL, .table = &status_table },
    { "gpus", SHAPE_TYPES, .about = "in the driver's order", .type = "Gpu" },
    { "gpu_inventory", SHAPE_TYPE, .about = "what is said of the list of GPUs as a whole",
      .type = "GpuInventory" },
    { "host_memory", SHAPE_TYPE, .about = "the ledger of the host's memory", .type = "Ledger",
      .may_be_null = true },
    { "lost_ledgers", SHAPE_TYPES, .about = "of devices that the driver does not list any more",
      .type = "Ledger" },
    { "workers", SHAPE_TYPES, .about = "those that live", .type = "Worker" },
    { "gpu_locks", SHAPE_TYPE, .about = "whether pools of other users of this host are seen",
      .type = "GpuLocks" },
    { "capacity", SHAPE_TYPE, .about = "how many workers there can be", .type = "Capacity" },
};

static const struct shape_member model_entry_members[] = {
    { NULL, SHAPE_FIELDS, NULL, .table = &model_table },
    { "on_disk", SHAPE_TYPE, .about = "where it lies; null: it does not", .type = "ModelOnDisk",
      .may_be_null = true },
    { "header", SHAPE_TYPE, .about = "what its file says; null: not read, as in a list",
      .type = "ModelHeader", .may_be_null = true },
    { "verification", SHAPE_TYPE, .about = "whether its bytes are the right ones",
      .type = "ModelVerification" },
    { "staging", SHAPE_TYPE, .about = "whether it is in RAM", .type = "ModelStaging" },
};

static const struct shape_member model_list_members[] = {
    { "models", SHAPE_TYPES, .about = "in the order of their ids", .type = "ModelEntry" },
};

static const struct shape_member check_members[] = {
    { "fits", SHAPE_BOOL, .about = "true; what does not fit is refused" },
    { "gpu_id", SHAPE_TEXT, .about = "UUID of the device; null: the host's memory", .may_be_null = true },
    { "port", SHAPE_INTEGER, .about = "that it would get now" },
    { "reserved_bytes", SHAPE_INTEGER, .about = "that it would be promised" },
    { "reserved_source", SHAPE_TEXT, .about = "where that figure comes from" },
    { "ledger", SHAPE_DETAILS, .about = "of its device, before the start" },
    { "estimate", SHAPE_DETAILS, .about = "the parts of the estimate; null: it was not made",
      .may_be_null = true },
    { "need", SHAPE_DETAILS, .about = "what it needs, and where the figures come from", .may_be_null = true,
      .may_lack = true },
    { "placement", SHAPE_TEXT, .about = "why this device and no other", .may_be_null = true,
      .may_lack = true },
    { "room", SHAPE_TYPE, .about = "what has to come free first; null: it fits now", .type = "StartRoom",
      .may_be_null = true, .may_lack = true },
    { "worker", SHAPE_TYPE, .about = "the record that it would have", .type = "Worker" },
    { "command", SHAPE_TEXTS, .about = "program and arguments" },
    { "environment_names", SHAPE_TEXTS, .about = "names of its environment variables" },
};

static const struct shape_member error_body_members[] = {
    { "code", SHAPE_CODE, .about = "what it is; stable" },
    { "message", SHAPE_TEXT, .about = "what is wrong and, where there is something, what to do; for people" },
    { "retriable", SHAPE_BOOL, .about = "whether the same request may succeed later" },
    { "details", SHAPE_DETAILS, .about = "the numbers that led to it; `field` names the offending field" },
    { "correlation_id", SHAPE_TEXT, .about = "that of the request", .may_lack = true },
};

static const struct shape_member error_members[] = {
    { "error", SHAPE_TYPE, .about = "what went wrong", .type = "ErrorBody" },
};

static const struct shape shapes[] = {
    SHAPE("Health", "The daemon lives.", health_members),
    SHAPE("Gpu", "A device, or a MIG instance.", gpu_members),
    SHAPE("GpuList", "GPUs at one moment.", gpu_list_members),
    SHAPE("WorkerList", "Workers.", worker_list_members),
    SHAPE("ExplanationList", "Why something was done or refused.", explanation_list_members),
    SHAPE("WorkerWhy", "Why a worker ended.", worker_why_members),
    SHAPE("Capacity", "Room for workers.", capacity_members),
    SHAPE("PoolStatusResponse", "The pool at one moment.", status_members),
    SHAPE("ModelEntry", "A model: what the catalog says, and what was found.", model_entry_members),
    SHAPE("ModelList", "Models of the catalogs.", model_list_members),
    SHAPE("WorkerCheckResponse", "What a start would do.", check_members),
    SHAPE("ErrorBody", "An error.", error_body_members),
    SHAPE("Error", "Every refusal and failure.", error_members),
};

const struct shape *shape_at(size_t i)
{
    return i < sizeof shapes / sizeof shapes[0] ? &shapes[i] : NULL;
}

const struct field_table *shape_table_at(size_t i)
{
    return i < sizeof tables / sizeof tables[0] ? tables[i] : NULL;
}
