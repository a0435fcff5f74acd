/*
 * The rows of the API: contract, section 4. A new route is a row here; it is in the OpenAPI document by that alone.
 */
#include "managerd/routes.h"
#include "managerd/stream_limits.h"

#define PARAMS(...)              \
    (const struct route_param[]) \
    {                            \
        __VA_ARGS__,             \
        {                        \
            .name = NULL         \
        }                        \
    }
#define ANSWERS(...)              \
    (const struct route_answer[]) \
    {                             \
        __VA_ARGS__,              \
        {                         \
            .status = 0           \
        }                         \
    }
#define ERRORS(...)          \
    (const enum pool_code[]) \
    {                        \
        __VA_ARGS__, POOL_OK \
    }
#define EXAMPLES(...)              \
    (const struct route_example[]) \
    {                              \
        __VA_ARGS__,               \
        {                          \
            .status = 0            \
        }                          \
    }

#define START_ERRORS                                                                                      \
    POOL_BACKEND_NOT_FOUND, POOL_MODEL_NOT_FOUND, POOL_GPU_NOT_FOUND, POOL_ALREADY_EXISTS, POOL_CONFLICT, \
        POOL_MODEL_INCOMPATIBLE, POOL_MODEL_UNVERIFIED, POOL_MODEL_CORRUPT, POOL_INSUFFICIENT_VRAM,       \
        POOL_INSUFFICIENT_MEMORY, POOL_INSUFFICIENT_DISK, POOL_GPU_UNAVAILABLE, POOL_PORT_UNAVAILABLE,    \
        POOL_BACKEND_UNAVAILABLE, POOL_REGISTRY_UNAVAILABLE

/* The most asked for first: they are looked through in this order. */
static const struct route routes[] = {
    { "GET", "/health", SCOPE_NONE, handle_health, "getHealth",
      "Whether the daemon lives: its version, the pool's id, how long it has been up.",
      .answers = ANSWERS({ 200, "Health", NULL, "it does" }),
      .examples =
          EXAMPLES({ "it lives", "/health", NULL, 200, POOL_OK },
                   { "an unknown parameter", "/health?verbose=1", NULL, 400, POOL_INVALID_REQUEST }) },
    { "GET", "/v2/state", SCOPE_READ, handle_state, "getState",
      "The whole pool at one moment: GPUs with their ledgers, the host's memory, workers, capacity.",
      .answers = ANSWERS({ 200, "PoolStatusResponse", NULL, "with an ETag" },
                         { 304, NULL, NULL, "nothing has changed since the ETag in If-None-Match" }),
      .errors = ERRORS(POOL_REGISTRY_UNAVAILABLE),
      .examples = EXAMPLES({ "all of it", "/v2/state", NULL, 200, POOL_OK },
                           { "an unknown parameter", "/v2/state?all=1", NULL, 400, POOL_INVALID_REQUEST }) },
    { "GET", "/metrics", SCOPE_READ, handle_metrics, "getMetrics", "Metrics for Prometheus.",
      .answers = ANSWERS({ 200, NULL, "text/plain; version=0.0.4; charset=utf-8", "the text format" }),
      .errors = ERRORS(POOL_REGISTRY_UNAVAILABLE),
      .examples = EXAMPLES({ "all of them", "/metrics", NULL, 200, POOL_OK },
                           { "an unknown parameter", "/metrics?name=up", NULL, 400, POOL_INVALID_REQUEST }) },

    { "GET", "/v2/gpus", SCOPE_READ, handle_gpus, "listGpus", "Every GPU, with its readings and its ledger.",
      .answers = ANSWERS({ 200, "GpuList", NULL, "all of them" }),
      .errors = ERRORS(POOL_REGISTRY_UNAVAILABLE),
      .examples = EXAMPLES({ "all of them", "/v2/gpus", NULL, 200, POOL_OK },
                           { "an unknown parameter", "/v2/gpus?id=0", NULL, 400, POOL_INVALID_REQUEST }) },
    { "GET", "/v2/gpus/{id}", SCOPE_READ, handle_gpu, "getGpu",
      "One GPU, by index or UUID, as a list of one.",
      .answers = ANSWERS({ 200, "GpuList", NULL, "it alone" }),
      .errors = ERRORS(POOL_GPU_NOT_FOUND, POOL_REGISTRY_UNAVAILABLE),
      .examples = EXAMPLES({ "by index", "/v2/gpus/0", NULL, 200, POOL_OK },
                           { "one that is not there", "/v2/gpus/99", NULL, 404, POOL_GPU_NOT_FOUND }) },

    { "PUT", "/v2/gpus/{id}/cordon", SCOPE_OPERATE, handle_gpu_cordon, "cordonGpu",
      "Keeps new workers off a GPU, and off its MIG instances; those that are on it go on. Survives "
      "restarts.",
      .request = "GpuCordonRequest", .may_lack_body = true,
      .answers = ANSWERS({ 200, "GpuCordon", NULL, "it is cordoned" }),
      .errors = ERRORS(POOL_GPU_NOT_FOUND, POOL_CONFLICT, POOL_REGISTRY_UNAVAILABLE, POOL_INSUFFICIENT_DISK),
      .examples = EXAMPLES(
          { "with a reason", "/v2/gpus/0/cordon", "{\"reason\": \"fan fails\"}", 200, POOL_OK },
          { "without one", "/v2/gpus/0/cordon", NULL, 200, POOL_OK },
          { "a reason that is no text", "/v2/gpus/0/cordon", "{\"reason\": 7}", 400, POOL_INVALID_REQUEST },
          { "a GPU that is not there", "/v2/gpus/99/cordon", NULL, 404, POOL_GPU_NOT_FOUND }) },
    { "DELETE", "/v2/gpus/{id}/cordon", SCOPE_OPERATE, handle_gpu_uncordon, "uncordonGpu",
      "Lets new workers onto a GPU again.",
      .answers = ANSWERS({ 200, "GpuCordon", NULL, "it is not cordoned" }),
      .errors = ERRORS(POOL_GPU_NOT_FOUND, POOL_CONFLICT, POOL_REGISTRY_UNAVAILABLE, POOL_INSUFFICIENT_DISK),
      .examples =
          EXAMPLES({ "it may be repeated", "/v2/gpus/0/cordon", NULL, 200, POOL_OK },
                   { "a GPU that is not there", "/v2/gpus/99/cordon", NULL, 404, POOL_GPU_NOT_FOUND }) },

    { "GET", "/v2/models", SCOPE_READ, handle_models, "listModels", "The models of the catalogs.",
      .answers = ANSWERS({ 200, "ModelList", NULL, "all of them" }), .errors = ERRORS(POOL_INVALID_CONFIG),
      .examples =
          EXAMPLES({ "all of them", "/v2/models", NULL, 200, POOL_OK },
                   { "an unknown parameter", "/v2/models?verified=1", NULL, 400, POOL_INVALID_REQUEST }) },
    { "GET", "/v2/models/{id}", SCOPE_READ, handle_model, "getModel", "One model of the catalogs.",
      .answers = ANSWERS({ 200, "ModelEntry", NULL, "it" }),
      .errors = ERRORS(POOL_MODEL_NOT_FOUND, POOL_INVALID_CONFIG),
      .examples =
          EXAMPLES({ "one of the catalog", "/v2/models/qwen2.5-0.5b", NULL, 200, POOL_OK },
                   { "one that is not in it", "/v2/models/nothing", NULL, 404, POOL_MODEL_NOT_FOUND }) },

    { "POST", "/v2/models/{id}/verify", SCOPE_OPERATE, handle_model_verify, "verifyModel",
      "Checks size and SHA-256 of a model's files. Progress and result are events; one at a time for a "
      "model.",
      .request = "ModelVerifyRequest", .may_lack_body = true,
      .answers = ANSWERS({ 202, "ModelVerification", NULL, "it is under way" },
                         { 200, "ModelVerification", NULL, "it is done" }),
      .errors = ERRORS(POOL_MODEL_NOT_FOUND, POOL_MODEL_CORRUPT, POOL_MODEL_INCOMPATIBLE, POOL_CONFLICT,
                       POOL_CANCELLED, POOL_INVALID_CONFIG),
      .examples = EXAMPLES(
          { "and wait for it", "/v2/models/qwen2.5-0.5b/verify", "{\"wait\": true}", 200, POOL_OK },
          { "hash it again", "/v2/models/qwen2.5-0.5b/verify", "{\"ignore_proof\": true}", 202, POOL_OK },
          { "one that is not in the catalog", "/v2/models/nothing/verify", NULL, 404, POOL_MODEL_NOT_FOUND },
          { "an unknown field", "/v2/models/qwen2.5-0.5b/verify", "{\"force\": true}", 400,
            POOL_INVALID_REQUEST }) },
    { "PUT", "/v2/models/{id}/stage", SCOPE_OPERATE, handle_model_stage, "stageModel",
      "Reads a model's files into RAM, within staging.max_bytes; models that were not used for longest and "
      "that no "
      "worker uses give way.",
      .request = "ModelStageRequest", .may_lack_body = true,
      .answers = ANSWERS({ 202, "ModelStaging", NULL, "it is being read" },
                         { 200, "ModelStaging", NULL, "it is there" }),
      .errors = ERRORS(POOL_MODEL_NOT_FOUND, POOL_MODEL_CORRUPT, POOL_MODEL_INCOMPATIBLE, POOL_CONFLICT,
                       POOL_CANCELLED, POOL_INVALID_CONFIG),
      .examples = EXAMPLES(
          { "and wait for it", "/v2/models/qwen2.5-0.5b/stage", "{\"wait\": true}", 200, POOL_OK },
          { "one that is not in the catalog", "/v2/models/nothing/stage", NULL, 404, POOL_MODEL_NOT_FOUND },
          { "a lock that is no boolean", "/v2/models/qwen2.5-0.5b/stage", "{\"lock\": \"yes\"}", 400,
            POOL_INVALID_REQUEST }) },
    { "DELETE", "/v2/models/{id}/stage", SCOPE_OPERATE, handle_model_unstage, "unstageModel",
      "Lets a model's pages go, and ends its staging when it is under way.",
      .answers = ANSWERS({ 200, "ModelStaging", NULL, "it is not staged" }),
      .errors = ERRORS(POOL_MODEL_NOT_FOUND, POOL_INVALID_CONFIG),
      .examples = EXAMPLES({ "it may be repeated", "/v2/models/qwen2.5-0.5b/stage", NULL, 200, POOL_OK },
                           { "one that is not in the catalog", "/v2/models/nothing/stage", NULL, 404,
                             POOL_MODEL_NOT_FOUND }) },

    { "GET", "/v2/workers", SCOPE_READ, handle_workers, "listWorkers", "The workers that live.",
      .params = PARAMS({ "all", true, 0, 1, 0, "1: those that stopped lately as well, and why they did" }),
      .answers = ANSWERS({ 200, "WorkerList", NULL, "in the order of their creation" }),
      .errors = ERRORS(POOL_REGISTRY_UNAVAILABLE),
      .examples = EXAMPLES({ "those that live", "/v2/workers", NULL, 200, POOL_OK },
                           { "the stopped ones too", "/v2/workers?all=1", NULL, 200, POOL_OK },
                           { "a flag is 0 or 1", "/v2/workers?all=yes", NULL, 400, POOL_INVALID_REQUEST }) },
    { "POST", "/v2/workers/start", SCOPE_OPERATE, handle_worker_start, "startWorker",
      "Starts a worker. Answers at once, or with \"wait\": true when it is ready or has failed.",
      .request = "WorkerSpawnRequest",
      .answers = ANSWERS({ 202, "WorkerSpawnResponse", NULL, "its program runs" },
                         { 200, "WorkerSpawnResponse", NULL, "it is ready" }),
      .errors = ERRORS(START_ERRORS, POOL_WORKER_START_FAILED, POOL_WORKER_START_TIMEOUT, POOL_CANCELLED),
      .examples = EXAMPLES(
          { "and wait until it is ready", "/v2/workers/start",
            "{\"backend\": \"cpu\", \"model_ref\": \"qwen2.5-0.5b\", \"labels\": {\"team\": \"search\"}, "
            "\"wait\": true}",
            200, POOL_OK },
          { "answered at once", "/v2/workers/start",
            "{\"backend\": \"cpu\", \"model_ref\": \"qwen2.5-0.5b\", \"ctx_size\": 4096, \"parallel\": 2}",
            202, POOL_OK },
          { "a field is missing", "/v2/workers/start", "{\"backend\": \"cpu\"}", 400, POOL_INVALID_REQUEST },
          { "a backend that is not there", "/v2/workers/start",
            "{\"backend\": \"nothing\", \"model_ref\": \"qwen2.5-0.5b\"}", 404, POOL_BACKEND_NOT_FOUND },
          { "a model that is not there", "/v2/workers/start",
            "{\"backend\": \"cpu\", \"model_ref\": \"nothing\"}", 404, POOL_MODEL_NOT_FOUND },
          { "an id that is taken", "/v2/workers/start",
            "{\"backend\": \"cpu\", \"model_ref\": \"qwen2.5-0.5b\", \"worker_id\": \"chat-1\"}", 409,
            POOL_ALREADY_EXISTS },
          { "more than there is", "/v2/workers/start",
            "{\"backend\": \"cpu\", \"model_ref\": \"qwen2.5-0.5b\", \"required_vram_bytes\": "
            "1125899906842624}",
            507, POOL_INSUFFICIENT_MEMORY }) },
    { "POST", "/v2/workers/check", SCOPE_OPERATE, handle_worker_check, "checkWorker",
      "What a start would do, with the arithmetic; nothing is started. What does not fit is refused as a "
      "start "
      "would be.",
      .request = "WorkerSpawnRequest", .answers = ANSWERS({ 200, "WorkerCheckResponse", NULL, "it fits" }),
      .errors = ERRORS(START_ERRORS),
      .examples = EXAMPLES({ "it fits", "/v2/workers/check",
                             "{\"backend\": \"cpu\", \"model_ref\": \"qwen2.5-0.5b\"}", 200, POOL_OK },
                           { "it does not", "/v2/workers/check",
                             "{\"backend\": \"cpu\", \"model_ref\": \"qwen2.5-0.5b\", "
                             "\"required_vram_bytes\": 1125899906842624}",
                             507, POOL_INSUFFICIENT_MEMORY }) },
    { "POST", "/v2/workers/stop", SCOPE_OPERATE, handle_worker_stop, "stopWorker",
      "Stops a worker: asks it, and kills it when its time is up.", .request = "WorkerStopRequest",
      .answers =
          ANSWERS({ 202, "Worker", NULL, "its stop has begun" }, { 200, "Worker", NULL, "it is gone" }),
      .errors = ERRORS(POOL_WORKER_NOT_FOUND, POOL_CONFLICT, POOL_DEADLINE_EXCEEDED,
                       POOL_REGISTRY_UNAVAILABLE, POOL_CANCELLED),
      .examples = EXAMPLES({ "and wait until it is gone", "/v2/workers/stop",
                             "{\"worker_id\": \"chat-1\", \"wait\": true}", 200, POOL_OK },
                           { "answered at once", "/v2/workers/stop",
                             "{\"worker_id\": \"chat-1\", \"grace_ms\": 5000}", 202, POOL_OK },
                           { "one that is not there", "/v2/workers/stop", "{\"worker_id\": \"nobody\"}", 404,
                             POOL_WORKER_NOT_FOUND },
                           { "a time that is none", "/v2/workers/stop",
                             "{\"worker_id\": \"chat-1\", \"grace_ms\": -1}", 400, POOL_INVALID_REQUEST }) },
    { "GET", "/v2/workers/{id}", SCOPE_READ, handle_worker, "getWorker",
      "One worker, also one that stopped lately.", .answers = ANSWERS({ 200, "Worker", NULL, "it" }),
      .errors = ERRORS(POOL_WORKER_NOT_FOUND, POOL_REGISTRY_UNAVAILABLE),
      .examples =
          EXAMPLES({ "one that lives", "/v2/workers/chat-1", NULL, 200, POOL_OK },
                   { "one that is not there", "/v2/workers/nobody", NULL, 404, POOL_WORKER_NOT_FOUND },
                   { "no worker id", "/v2/workers/-", NULL, 400, POOL_INVALID_REQUEST }) },
    { "POST", "/v2/workers/{id}/drain", SCOPE_OPERATE, handle_worker_drain, "drainWorker",
      "Lets a worker finish what it has in flight, for a time, and stops it then. Its clients must be turned "
      "away "
      "elsewhere.",
      .request = "WorkerDrainRequest", .may_lack_body = true,
      .answers =
          ANSWERS({ 202, "Worker", NULL, "its drain has begun" }, { 200, "Worker", NULL, "it is gone" }),
      .errors = ERRORS(POOL_WORKER_NOT_FOUND, POOL_CONFLICT, POOL_DEADLINE_EXCEEDED,
                       POOL_REGISTRY_UNAVAILABLE, POOL_CANCELLED),
      .examples =
          EXAMPLES({ "and wait until it is gone", "/v2/workers/chat-1/drain",
                     "{\"timeout_ms\": 10000, \"wait\": true}", 200, POOL_OK },
                   { "one that is not there", "/v2/workers/nobody/drain", NULL, 404, POOL_WORKER_NOT_FOUND },
                   { "a time that is none", "/v2/workers/chat-1/drain", "{\"timeout_ms\": \"soon\"}", 400,
                     POOL_INVALID_REQUEST }) },
    { "GET", "/v2/workers/{id}/logs", SCOPE_READ, handle_worker_logs, "getWorkerLogs",
      "What a worker has written, also one that stopped.",
      .params = PARAMS({ "tail", false, 0, LOG_TAIL_LINES_MAX, LOG_TAIL_LINES, "so many of its last lines" },
                       { "follow", true, 0, 1, 0, "1: go on with what it writes, until it ends" }),
      .answers = ANSWERS({ 200, NULL, "text/plain; charset=utf-8", "its output" }),
      .errors = ERRORS(POOL_WORKER_NOT_FOUND),
      .examples = EXAMPLES(
          { "its last lines", "/v2/workers/chat-1/logs?tail=20", NULL, 200, POOL_OK },
          { "one that is not there", "/v2/workers/nobody/logs", NULL, 404, POOL_WORKER_NOT_FOUND },
          { "a number out of range", "/v2/workers/chat-1/logs?tail=-1", NULL, 400, POOL_INVALID_REQUEST }) },

    { "GET", "/v2/workers/{id}/why", SCOPE_READ, handle_worker_why, "getWorkerWhy",
      "Why a worker died: the crash bundle of the last start of this id that ended without being asked to. "
      "Of "
      "one that lives or was stopped on request it says so.",
      .answers = ANSWERS({ 200, "WorkerWhy", NULL, "a sentence, and the bundle where there is one" }),
      .errors = ERRORS(POOL_WORKER_NOT_FOUND, POOL_REGISTRY_UNAVAILABLE),
      .examples = EXAMPLES(
          { "one that lives", "/v2/workers/chat-1/why", NULL, 200, POOL_OK },
          { "one that is not there", "/v2/workers/nobody/why", NULL, 404, POOL_WORKER_NOT_FOUND },
          { "an unknown parameter", "/v2/workers/chat-1/why?all=1", NULL, 400, POOL_INVALID_REQUEST }) },

    { "POST", "/v2/internal/workers/ready", SCOPE_NONE, handle_worker_ready, "workerReady",
      "Called by a worker whose backend has ready.callback, when it is ready; its spawn token is its "
      "authentication. "
      "Unknown fields are ignored.",
      .request = "WorkerReadyCallback", .answers = ANSWERS({ 204, NULL, NULL, "it is noted" }),
      .errors = ERRORS(POOL_REGISTRY_UNAVAILABLE, POOL_CONFLICT),
      .examples =
          EXAMPLES({ "a token that is not the one", "/v2/internal/workers/ready",
                     "{\"worker_id\": \"chat-1\", \"spawn_token\": \"00000000000000000000000000000000\"}",
                     401, POOL_UNAUTHENTICATED },
                   { "a field is missing", "/v2/internal/workers/ready", "{\"worker_id\": \"chat-1\"}", 400,
                     POOL_INVALID_REQUEST }) },

    { "GET", "/v2/explain/{id}", SCOPE_READ, handle_explain, "explain",
      "Why: the records behind a worker, a request (its correlation id) or a refusal (its explain_id), with "
      "inputs and arithmetic.",
      .answers = ANSWERS({ 200, "ExplanationList", NULL, "newest first" }),
      .errors = ERRORS(POOL_REGISTRY_UNAVAILABLE),
      .examples =
          EXAMPLES({ "of a worker", "/v2/explain/chat-1", NULL, 200, POOL_OK },
                   { "an unknown parameter", "/v2/explain/chat-1?all=1", NULL, 400, POOL_INVALID_REQUEST }) },
    { "GET", "/v2/events", SCOPE_READ, handle_events, "followEvents",
      "Every change as it happens, as server-sent events. Last-Event-ID goes on behind an event that was "
      "seen.",
      .answers = ANSWERS({ 200, NULL, "text/event-stream", "an id EPOCH-REVISION, a type, an object" }),
      .examples =
          EXAMPLES({ "an unknown parameter", "/v2/events?since=1", NULL, 400, POOL_INVALID_REQUEST }) },
    { "GET", "/v2/openapi.json", SCOPE_READ, handle_openapi, "getOpenApi",
      "This description: OpenAPI 3.1, made of the tables that requests are checked by.",
      .answers = ANSWERS({ 200, NULL, "application/json", "the document" }),
      .examples = EXAMPLES(
          { "the document", "/v2/openapi.json", NULL, 200, POOL_OK },
          { "an unknown parameter", "/v2/openapi.json?format=yaml", NULL, 400, POOL_INVALID_REQUEST }) },
};

const struct route *route_at(size_t i)
{
    return i < sizeof routes / sizeof routes[0] ? &routes[i] : NULL;
}
