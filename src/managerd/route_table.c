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

#define START_ERRORS                                                                                      \
    POOL_BACKEND_NOT_FOUND, POOL_MODEL_NOT_FOUND, POOL_GPU_NOT_FOUND, POOL_ALREADY_EXISTS, POOL_CONFLICT, \
        POOL_MODEL_INCOMPATIBLE, POOL_MODEL_UNVERIFIED, POOL_MODEL_CORRUPT, POOL_INSUFFICIENT_VRAM,       \
        POOL_INSUFFICIENT_MEMORY, POOL_INSUFFICIENT_DISK, POOL_GPU_UNAVAILABLE, POOL_PORT_UNAVAILABLE,    \
        POOL_BACKEND_UNAVAILABLE, POOL_REGISTRY_UNAVAILABLE

/* The most asked for first: they are looked through in this order. */
static const struct route routes[] = {
    { "GET", "/health", SCOPE_NONE, handle_health, "getHealth",
      "Whether the daemon lives: its version, the pool's id, how long it has been up.",
      .answers = ANSWERS({ 200, "Health", NULL, "it does" }) },
    { "GET", "/v2/state", SCOPE_READ, handle_state, "getState",
      "The whole pool at one moment: GPUs with their ledgers, the host's memory, workers, capacity.",
      .answers = ANSWERS({ 200, "PoolStatusResponse", NULL, "with an ETag" },
                         { 304, NULL, NULL, "nothing has changed since the ETag in If-None-Match" }),
      .errors = ERRORS(POOL_REGISTRY_UNAVAILABLE) },
    { "GET", "/metrics", SCOPE_READ, handle_metrics, "getMetrics", "Metrics for Prometheus.",
      .answers = ANSWERS({ 200, NULL, "text/plain; version=0.0.4; charset=utf-8", "the text format" }),
      .errors = ERRORS(POOL_REGISTRY_UNAVAILABLE) },

    { "GET", "/v2/gpus", SCOPE_READ, handle_gpus, "listGpus", "Every GPU, with its readings and its ledger.",
      .answers = ANSWERS({ 200, "GpuList", NULL, "all of them" }),
      .errors = ERRORS(POOL_REGISTRY_UNAVAILABLE) },
    { "GET", "/v2/gpus/{id}", SCOPE_READ, handle_gpu, "getGpu",
      "One GPU, by index or UUID, as a list of one.",
      .answers = ANSWERS({ 200, "GpuList", NULL, "it alone" }),
      .errors = ERRORS(POOL_GPU_NOT_FOUND, POOL_REGISTRY_UNAVAILABLE) },

    { "GET", "/v2/models", SCOPE_READ, handle_models, "listModels", "The models of the catalogs.",
      .answers = ANSWERS({ 200, "ModelList", NULL, "all of them" }), .errors = ERRORS(POOL_INVALID_CONFIG) },
    { "GET", "/v2/models/{id}", SCOPE_READ, handle_model, "getModel", "One model of the catalogs.",
      .answers = ANSWERS({ 200, "ModelEntry", NULL, "it" }),
      .errors = ERRORS(POOL_MODEL_NOT_FOUND, POOL_INVALID_CONFIG) },

    { "GET", "/v2/workers", SCOPE_READ, handle_workers, "listWorkers", "The workers that live.",
      .params = PARAMS({ "all", true, 0, 1, 0, "1: those that stopped lately as well, and why they did" }),
      .answers = ANSWERS({ 200, "WorkerList", NULL, "in the order of their creation" }),
      .errors = ERRORS(POOL_REGISTRY_UNAVAILABLE) },
    { "POST", "/v2/workers/start", SCOPE_OPERATE, handle_worker_start, "startWorker",
      "Starts a worker. Answers at once, or with \"wait\": true when it is ready or has failed.",
      .request = "WorkerSpawnRequest",
      .answers = ANSWERS({ 202, "WorkerSpawnResponse", NULL, "its program runs" },
                         { 200, "WorkerSpawnResponse", NULL, "it is ready" }),
      .errors = ERRORS(START_ERRORS, POOL_WORKER_START_FAILED, POOL_WORKER_START_TIMEOUT, POOL_CANCELLED) },
    { "POST", "/v2/workers/check", SCOPE_OPERATE, handle_worker_check, "checkWorker",
      "What a start would do, with the arithmetic; nothing is started. What does not fit is refused as a "
      "start "
      "would be.",
      .request = "WorkerSpawnRequest", .answers = ANSWERS({ 200, "WorkerCheckResponse", NULL, "it fits" }),
      .errors = ERRORS(START_ERRORS) },
    { "POST", "/v2/workers/stop", SCOPE_OPERATE, handle_worker_stop, "stopWorker",
      "Stops a worker: asks it, and kills it when its time is up.", .request = "WorkerStopRequest",
      .answers =
          ANSWERS({ 202, "Worker", NULL, "its stop has begun" }, { 200, "Worker", NULL, "it is gone" }),
      .errors = ERRORS(POOL_WORKER_NOT_FOUND, POOL_CONFLICT, POOL_DEADLINE_EXCEEDED,
                       POOL_REGISTRY_UNAVAILABLE, POOL_CANCELLED) },
    { "GET", "/v2/workers/{id}", SCOPE_READ, handle_worker, "getWorker",
      "One worker, also one that stopped lately.", .answers = ANSWERS({ 200, "Worker", NULL, "it" }),
      .errors = ERRORS(POOL_WORKER_NOT_FOUND, POOL_REGISTRY_UNAVAILABLE) },
    { "POST", "/v2/workers/{id}/drain", SCOPE_OPERATE, handle_worker_drain, "drainWorker",
      "Lets a worker finish what it has in flight, for a time, and stops it then. Its clients must be turned "
      "away "
      "elsewhere.",
      .request = "WorkerDrainRequest", .may_lack_body = true,
      .answers =
          ANSWERS({ 202, "Worker", NULL, "its drain has begun" }, { 200, "Worker", NULL, "it is gone" }),
      .errors = ERRORS(POOL_WORKER_NOT_FOUND, POOL_CONFLICT, POOL_DEADLINE_EXCEEDED,
                       POOL_REGISTRY_UNAVAILABLE, POOL_CANCELLED) },
    { "GET", "/v2/workers/{id}/logs", SCOPE_READ, handle_worker_logs, "getWorkerLogs",
      "What a worker has written, also one that stopped.",
      .params = PARAMS({ "tail", false, 0, LOG_TAIL_LINES_MAX, LOG_TAIL_LINES, "so many of its last lines" },
                       { "follow", true, 0, 1, 0, "1: go on with what it writes, until it ends" }),
      .answers = ANSWERS({ 200, NULL, "text/plain; charset=utf-8", "its output" }),
      .errors = ERRORS(POOL_WORKER_NOT_FOUND) },

    { "GET", "/v2/explain/{id}", SCOPE_READ, handle_explain, "explain",
      "Why: the records behind a worker, a request (its correlation id) or a refusal (its explain_id), with "
      "inputs and arithmetic.",
      .answers = ANSWERS({ 200, "ExplanationList", NULL, "newest first" }),
      .errors = ERRORS(POOL_REGISTRY_UNAVAILABLE) },
    { "GET", "/v2/events", SCOPE_READ, handle_events, "followEvents",
      "Every change as it happens, as server-sent events. Last-Event-ID goes on behind an event that was "
      "seen.",
      .answers = ANSWERS({ 200, NULL, "text/event-stream", "an id EPOCH-REVISION, a type, an object" }) },
    { "GET", "/v2/openapi.json", SCOPE_READ, handle_openapi, "getOpenApi",
      "This description: OpenAPI 3.1, made of the tables that requests are checked by.",
      .answers = ANSWERS({ 200, NULL, "application/json", "the document" }) },
};

const struct route *route_at(size_t i)
{
    return i < sizeof routes / sizeof routes[0] ? &routes[i] : NULL;
}
