/*
 * What is said over the API, as structs, and its JSON form. No input or output here: text in, text out.
 *
 * Requests are decoded strictly: unknown fields, wrong types, reals for integers and values out of range are
 * INVALID_REQUEST with the field's path ("labels.team", "extra_args[3]"). Answers are decoded leniently:
 * unknown fields are ignored. An explicit null is the same as a field left out. Sizes are bytes, times RFC 3339 UTC.
 * Texts that are not UTF-8 (a GPU's name, a log) are written with U+FFFD in place of what is broken.
 *
 * Every decode makes a new struct that its _free takes, and writes it to ret_* only when all is well. Every
 * function here is pure: it blocks on nothing, and any thread may call it. The fields are in docs/api-types.md.
 */
#ifndef POOL_API_H
#define POOL_API_H

#include <pool/catalog.h>
#include <pool/config.h>
#include <pool/error.h>
#include <pool/gpu.h>
#include <pool/worker.h>

#ifdef __cplusplus
extern "C" {
#endif

#define POOL_REQUEST_MAX_BYTES  (1 << 20)
#define POOL_ANSWER_MAX_BYTES   (64 << 20) /* 4096 workers with all the labels they may have */
#define POOL_BACKEND_NAME_MAX   128        /* bytes */
#define POOL_EXTRA_ARGS_MAX     128
#define POOL_REQUEST_ENV_MAX    64
#define POOL_ENV_NAME_MAX       128 /* bytes */
#define POOL_ARGUMENT_MAX_BYTES 8192
#define POOL_CTX_SIZE_MAX       INT64_C(0x7fffffff) /* engines read it as an int */
#define POOL_PARALLEL_MAX       1024
#define POOL_TIMEOUT_MAX_MS     (INT64_C(7) * 24 * 3600 * 1000)
#define POOL_CORRELATION_ID_MAX 64
#define POOL_SPLIT_DEVICES_MAX  16 /* llama.cpp src/llama-model.cpp takes as many */
#define POOL_DISPLACE_IDS_MAX   64 /* more are named by a label */

/** Whom a start may stop to make room for itself: the workers of these ids, and those that have all of these labels. */
struct pool_may_displace {
    size_t n_worker_ids;
    char **worker_ids;
    size_t n_labels;
    struct pool_label
        *labels; /**< all of them have to be there, with these values; 0: no label names anybody */
    struct pool_reading
        idle_only; /**< 1 or absent: only those that say that they work on no request; 0: any */
};

/** POST /v2/workers/start and /check. Made by _new or _decode; strings owned by the struct. */
struct pool_worker_spawn_request {
    char *backend;
    char *model_ref;
    char *gpu_id;                            /**< index, UUID or "auto"; NULL: not given */
    int64_t port;                            /**< 0: chosen */
    char *worker_id;                         /**< NULL: "worker-" and a UUID */
    struct pool_reading required_vram_bytes; /**< absent: estimated */
    int64_t ctx_size;                        /**< 0: min(trained, 8192) */
    int64_t parallel;                        /**< 0: 1 */
    size_t n_extra_args;
    char **extra_args;
    size_t n_env;
    struct pool_env_var *env;
    struct pool_reading start_timeout_ms;
    struct pool_reading idle_timeout_ms;
    struct pool_reading stop_grace_ms;
    size_t n_labels;
    struct pool_label *labels;
    bool wait;
    size_t n_gpu_ids; /**< several devices for one worker, in place of gpu_id; 0: not given */
    char **gpu_ids;   /**< indexes or UUIDs */
    char *split;      /**< "3,1": weights of the devices; NULL: by how much room each has */
    struct pool_may_displace may_displace; /**< nobody is stopped who is not named in it */
};

struct pool_worker_spawn_response {
    char *worker_id;
    enum pool_worker_status status;
    int64_t pid;
    int64_t port;
    char *uri;
    char *gpu_id;                  /**< UUID; NULL for the CPU */
    int64_t reserved_vram_bytes;   /**< 0 for the CPU */
    int64_t reserved_memory_bytes; /**< of the host; 0 for a GPU */
    char *log_path;
};

/**
 * What a worker needs of its device, and why that is believed. All parts are those of one record: plans, answers and text
 * are made from it.
 */
struct pool_memory_need {
    int64_t bytes; /**< what is reserved */
    const char *
        source; /**< static: "request", "measured", "engine" (its own tool), "estimate", "file_size", or "gpu_memory_utilization" (as its engine is told) */
    struct pool_estimate estimate;      /**< from the header; total_bytes 0: its header does not say enough */
    struct pool_reading measured_bytes; /**< the most that workers started like this one took */
    int64_t n_measured;                 /**< such workers */
};

/** POST /v2/workers/stop */
struct pool_worker_stop_request {
    char *worker_id;
    struct pool_reading grace_ms;
    bool force; /**< SIGKILL at once */
    bool wait;
};

/** POST /v2/workers/{id}/drain; every field may be left out. */
struct pool_worker_drain_request {
    struct pool_reading timeout_ms; /**< how long it may go on; absent: 5 minutes */
    bool wait;
};

/** PUT /v2/gpus/{id}/cordon; every field may be left out. */
struct pool_gpu_cordon_request {
    char *reason; /**< NULL: "requested" */
};

/** What was cordoned or uncordoned; the answer to both and the data of their events. */
struct pool_gpu_cordon {
    int64_t gpu_id; /**< index, for people; -1: the driver does not list it */
    char uuid[POOL_GPU_UUID_MAX];
    bool is_cordoned;
    char reason[POOL_CORDON_REASON_MAX + 1]; /**< "" when it is not */
    int64_t since_wall_ms;                   /**< 0 when it is not */
};

/** POST /v2/models/{id}/verify; every field may be left out. */
struct pool_model_verify_request {
    bool ignore_proof; /**< hash again although the sum is known */
    bool wait;
};

/** PUT /v2/models/{id}/stage; every field may be left out. */
struct pool_model_stage_request {
    bool lock; /**< keep its pages in memory whatever happens (mlock) */
    bool wait;
};

/** POST /v2/internal/workers/ready. Decoded leniently: a worker may tell more. */
struct pool_worker_ready_callback {
    char *worker_id;
    char *spawn_token;
};

/* X(name, text): how far the verification of a model is */
#define POOL_VERIFY_STATES(X)     \
    X(UNVERIFIED, "unverified")   \
    X(VERIFYING, "verifying")     \
    X(VERIFIED, "verified")       \
    X(NO_CHECKSUM, "no_checksum") \
    X(FAILED, "failed")
enum pool_verify_state {
#define POOL_VERIFY_STATE_ENUM(name, text) POOL_VERIFY_##name,
    POOL_VERIFY_STATES(POOL_VERIFY_STATE_ENUM)
#undef POOL_VERIFY_STATE_ENUM
};

/** What is known of a model's verification. Strings are borrowed when it is encoded. */
struct pool_model_verification {
    char *model_id;
    enum pool_verify_state state; /**< NO_CHECKSUM: hashed, and no catalog says what it should be */
    int64_t done_bytes;
    int64_t total_bytes;
    char *sha256;          /**< of the first file; NULL: not known */
    char *error_code;      /**< of FAILED */
    char *error_message;   /**< of FAILED */
    int64_t ended_wall_ms; /**< 0: not since the daemon was started */
};

/* X(name, text): how far the staging of a model is */
#define POOL_STAGE_STATES(X) \
    X(NONE, "none")          \
    X(STAGING, "staging")    \
    X(STAGED, "staged")      \
    X(FAILED, "failed")
enum pool_stage_state {
#define POOL_STAGE_STATE_ENUM(name, text) POOL_STAGE_##name,
    POOL_STAGE_STATES(POOL_STAGE_STATE_ENUM)
#undef POOL_STAGE_STATE_ENUM
};

/** What is known of a model in RAM. Strings are borrowed when it is encoded. */
struct pool_model_staging {
    char *model_id;
    enum pool_stage_state state;
    int64_t done_bytes;
    int64_t total_bytes;
    struct pool_reading
        resident_bytes; /**< in the page cache as measured; absent: the kernel does not tell */
    bool is_locked;
    int64_t staged_wall_ms; /**< 0: it is not */
    int64_t used_wall_ms;   /**< when it was staged or a worker was started with it last; 0: never */
    char *reason;           /**< of NONE after something else: "requested", "evicted" or "cancelled" */
    char *error_code;       /**< of FAILED */
    char *error_message;    /**< of FAILED */
};

/** The ledger of one device: who holds, who was promised, what is left. */
struct pool_ledger {
    char device[POOL_GPU_UUID_MAX]; /**< UUID, or "host" for host memory */
    int64_t total_bytes;
    int64_t used_bytes;
    int64_t free_bytes;      /**< as the driver says */
    int64_t pending_bytes;   /**< promised, not yet taken: sum of max(0, reserved - observed) */
    int64_t releasing_bytes; /**< of stopped workers whose bytes the driver does not show free yet */
    int64_t headroom_bytes;
    int64_t available_bytes; /**< free - pending - elsewhere - headroom, never below 0 */
    int64_t allocated_bytes; /**< sum of max(reserved, observed) */
    int64_t foreign_bytes;   /**< used - sum of observed: everybody else */
    int64_t n_workers;
    int64_t elsewhere_bytes; /**< promised to workers of other managers of this host, not yet taken by them */
    char elsewhere_state_id[37]; /**< the one that promised most of it, "" when there is none */
};

#define POOL_GPU_LOCKS_REASON_MAX 384

/** Whether the managers of this host see what others promise of its GPUs: gpu.lock_dir. */
struct pool_gpu_locks {
    char directory[256]; /**< cut when it is longer */
    bool is_shared;      /**< false: the directory can not be had, and others are not seen */
    char reason[POOL_GPU_LOCKS_REASON_MAX]; /**< why not, or what else is to be known of it; "" otherwise */
};

/** A worker that a start would stop, or has stopped, to make room for itself. */
struct pool_displacement {
    char worker_id[POOL_WORKER_ID_MAX + 1];
    enum pool_worker_status status; /**< before its stop */
    int64_t gives_back_bytes;       /**< what that gives back, on all of its devices */
    struct pool_reading idle_ms;    /**< since when it has had no request; absent: it has one */
};

/** What has to come free before a start that does not fit now. Made empty by {0}. */
struct pool_start_room {
    char wait_reason[16];            /**< "displacing", "stopping" or "releasing"; "": it fits now */
    struct pool_ledger ledger_after; /**< of its device, before the start */
    size_t n_displaces;
    struct pool_displacement *displaces; /**< in the order in which they are stopped */
};

/**
 * GET /v2/state. Everything borrowed when it is encoded; owned when it was decoded. In JSON each GPU has its ledger
 * inside, host memory is `host_memory`, and ledgers of devices that are not in the list follow in `lost_ledgers`.
 */
struct pool_status_response {
    char *pool_id;
    int64_t timestamp_wall_ms;
    char *generation; /**< EPOCH-REVISION */
    struct pool_gpu_list *gpus;
    size_t n_ledgers;
    struct pool_ledger *ledgers; /**< one per placeable device, then the host's memory */
    struct pool_worker_list *workers;
    int64_t n_workers_max;
    int64_t n_ports_free;
    struct pool_gpu_locks gpu_locks;
};

/* What an explanation is about. X(name, text) */
#define POOL_EXPLAIN_KINDS(X)                                                           \
    X(START, "start")               /* a worker was started */                          \
    X(REFUSAL, "refusal")           /* a start was refused */                           \
    X(STOP, "stop")                 /* a stop began */                                  \
    X(END, "end")                   /* a worker is gone */                              \
    X(DISPLACEMENT, "displacement") /* a worker is stopped to make room */              \
    X(RELEASE, "release")           /* what a stopped worker held is free, or is not */ \
    X(PRESENCE, "presence")         /* a worker is not on its GPU, or is there again */

enum pool_explain_kind {
#define POOL_X(name, text) POOL_EXPLAIN_##name,
    POOL_EXPLAIN_KINDS(POOL_X)
#undef POOL_X
};

#define POOL_EXPLAIN_CANDIDATES_MAX 16 /* devices shown in one record; the chosen one is among them */
#define POOL_EXPLAIN_FACTS_MAX      32
#define POOL_EXPLAIN_SHOWN_MAX      100 /* records of one id that are given at once */

/** A device that was looked at for a start. */
struct pool_explain_candidate {
    int64_t gpu_id;    /**< index, -1 for the host's memory */
    char verdict[160]; /**< "chosen", "fits", "too small", or why it can not be used */
    bool is_chosen;
    int64_t left_bytes; /**< available - required; below 0: so much is missing */
    struct pool_ledger ledger;
};

/** One more input of a decision. Either a number, its unit in the name, or a text. */
struct pool_fact {
    char *name;
    struct pool_reading number;
    char *text; /**< NULL when it is a number */
};

/**
 * Why something was done or refused: the inputs and the arithmetic. Texts are owned by the struct. Its JSON and its text
 * for people are made from it alone.
 */
struct pool_explanation {
    char *record_id; /**< its own id */
    enum pool_explain_kind kind;
    char *worker_id;      /**< NULL: none was named */
    char *correlation_id; /**< of the request behind it, NULL: none */
    int64_t made_wall_ms;
    char *code; /**< name of the error of a refusal, "OK" otherwise */
    bool is_retriable;
    char *message; /**< one sentence */
    char *backend;
    char *model_ref;
    char *asked_gpu; /**< as the request named it */
    struct pool_reading required_bytes;
    char *required_source;
    enum pool_stop_reason stop_reason;
    struct pool_reading exit_code;
    struct pool_reading exit_signal;
    size_t n_candidates;
    struct pool_explain_candidate *candidates;
    size_t n_facts;
    struct pool_fact *facts;
};

POOL_EXPORT const char *pool_explain_kind_name(enum pool_explain_kind kind);
/** Empty; NULL when memory is out. Owner: pool_explanation_free. */
POOL_EXPORT struct pool_explanation *pool_explanation_new(void);
POOL_EXPORT void pool_explanation_free(struct pool_explanation *explanation);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_explanation_encode(const struct pool_explanation *explanation,
                                                                   char **ret_json, struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_explanation_decode(const char *json, size_t n,
                                                                   struct pool_explanation **ret_explanation,
                                                                   struct pool_error *err);
/** The same for people, some lines of text that the caller frees. Texts of others are in it as they are. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_explanation_format(const struct pool_explanation *explanation,
                                                                   char **ret_text, struct pool_error *err);

/** Several, newest first. Owned by the caller. */
struct pool_explanation_list {
    size_t n_explanations;
    struct pool_explanation **explanations;
};
POOL_EXPORT void pool_explanation_list_free(struct pool_explanation_list *list);
/** {"explanations": […]} */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_explanation_list_encode(
    const struct pool_explanation_list *list, char **ret_json, struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_explanation_list_decode(
    const char *json, size_t n, struct pool_explanation_list **ret_list, struct pool_error *err);

POOL_EXPORT struct pool_worker_spawn_request *pool_worker_spawn_request_new(void);
POOL_EXPORT void pool_worker_spawn_request_free(struct pool_worker_spawn_request *request);
/** Strict. Errors: INVALID_REQUEST with field, PAYLOAD_TOO_LARGE, INSUFFICIENT_MEMORY. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_spawn_request_decode(
    const char *json, size_t n, struct pool_worker_spawn_request **ret_request, struct pool_error *err);
/** Checks the fields of a request by themselves (grammar, ranges); what decode does for each field. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_spawn_request_validate(
    const struct pool_worker_spawn_request *request, struct pool_error *err);
/** Every _encode gives JSON text that the caller frees with free(). Errors: INSUFFICIENT_MEMORY, INTERNAL (too large). */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_spawn_request_encode(
    const struct pool_worker_spawn_request *request, char **ret_json, struct pool_error *err);

POOL_EXPORT struct pool_worker_spawn_response *pool_worker_spawn_response_new(void);
POOL_EXPORT void pool_worker_spawn_response_free(struct pool_worker_spawn_response *response);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_spawn_response_decode(
    const char *json, size_t n, struct pool_worker_spawn_response **ret_response, struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_spawn_response_encode(
    const struct pool_worker_spawn_response *response, char **ret_json, struct pool_error *err);

POOL_EXPORT struct pool_worker_stop_request *pool_worker_stop_request_new(void);
POOL_EXPORT void pool_worker_stop_request_free(struct pool_worker_stop_request *request);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_stop_request_decode(
    const char *json, size_t n, struct pool_worker_stop_request **ret_request, struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_stop_request_validate(
    const struct pool_worker_stop_request *request, struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_stop_request_encode(
    const struct pool_worker_stop_request *request, char **ret_json, struct pool_error *err);

POOL_EXPORT struct pool_worker_drain_request *pool_worker_drain_request_new(void);
POOL_EXPORT void pool_worker_drain_request_free(struct pool_worker_drain_request *request);
/** As that of a start; no text at all is an empty object. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_drain_request_decode(
    const char *json, size_t n, struct pool_worker_drain_request **ret_request, struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_drain_request_encode(
    const struct pool_worker_drain_request *request, char **ret_json, struct pool_error *err);

POOL_EXPORT void pool_gpu_cordon_request_free(struct pool_gpu_cordon_request *request);
/** As that of a drain. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_gpu_cordon_request_decode(
    const char *json, size_t n, struct pool_gpu_cordon_request **ret_request, struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_gpu_cordon_request_encode(
    const struct pool_gpu_cordon_request *request, char **ret_json, struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_gpu_cordon_encode(const struct pool_gpu_cordon *cordon,
                                                                  char **ret_json, struct pool_error *err);
/** Writes the struct itself, which owns nothing. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_gpu_cordon_decode(const char *json, size_t n,
                                                                  struct pool_gpu_cordon *ret_cordon,
                                                                  struct pool_error *err);

/** As that of a drain; the struct owns nothing. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_model_verify_request_decode(
    const char *json, size_t n, struct pool_model_verify_request *ret_request, struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_model_verify_request_encode(
    const struct pool_model_verify_request *request, char **ret_json, struct pool_error *err);
/** As that of a drain; the struct owns nothing. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_model_stage_request_decode(
    const char *json, size_t n, struct pool_model_stage_request *ret_request, struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_model_stage_request_encode(
    const struct pool_model_stage_request *request, char **ret_json, struct pool_error *err);

POOL_EXPORT void pool_worker_ready_callback_free(struct pool_worker_ready_callback *callback);
/** Lenient: unknown fields are ignored. Errors: INVALID_REQUEST with field, PAYLOAD_TOO_LARGE. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_ready_callback_decode(
    const char *json, size_t n, struct pool_worker_ready_callback **ret_callback, struct pool_error *err);

POOL_EXPORT void pool_status_response_free(struct pool_status_response *response);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_status_response_decode(
    const char *json, size_t n, struct pool_status_response **ret_response, struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_status_response_encode(
    const struct pool_status_response *response, char **ret_json, struct pool_error *err);

/** One worker as the API shows it: all of it but the hash of its spawn token. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_info_encode(const struct pool_worker_info *worker,
                                                                   char **ret_json, struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_info_decode(const char *json, size_t n,
                                                                   struct pool_worker_info **ret_worker,
                                                                   struct pool_error *err);
/** {"workers": […]} */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_list_encode(const struct pool_worker_list *list,
                                                                   char **ret_json, struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_worker_list_decode(const char *json, size_t n,
                                                                   struct pool_worker_list **ret_list,
                                                                   struct pool_error *err);
/**
 * {"gpus": […], "source": …, "reason": …, "taken_boottime_ns": …}.
 * @param ledgers may be NULL; else the one of the same device is shown inside each GPU. Decoding ignores them.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_gpu_list_encode(const struct pool_gpu_list *list,
                                                                const struct pool_ledger *ledgers,
                                                                size_t n_ledgers, char **ret_json,
                                                                struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_gpu_list_decode(const char *json, size_t n,
                                                                struct pool_gpu_list **ret_list,
                                                                struct pool_error *err);
/** One model: what a catalog says of it, and under `on_disk` and `header` what was found. Each may be NULL. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_model_encode(const struct pool_model_metadata *metadata,
                                                             const struct pool_model *model,
                                                             const struct pool_model_header *header,
                                                             char **ret_json, struct pool_error *err);
/** The same with what a daemon knows beside, under `verification` and `staging`. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_model_entry_encode(
    const struct pool_model_metadata *metadata, const struct pool_model *model,
    const struct pool_model_header *header, const struct pool_model_verification *verification,
    const struct pool_model_staging *staging, char **ret_json, struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_model_verification_encode(
    const struct pool_model_verification *verification, char **ret_json, struct pool_error *err);
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_model_staging_encode(const struct pool_model_staging *staging,
                                                                     char **ret_json, struct pool_error *err);
/**
 * {"bytes", "source", "estimate": {…} or null, "measured_bytes", "n_measured", "error_percent"}. The error is that of the
 * estimate without its margin, in percent of what was measured.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_memory_need_encode(const struct pool_memory_need *need,
                                                                   char **ret_json, struct pool_error *err);
/** Lenient, as answers are. Errors: INVALID_REQUEST when it is no object, INSUFFICIENT_MEMORY. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_memory_need_decode(const char *json, size_t n,
                                                                   struct pool_memory_need *ret_need,
                                                                   struct pool_error *err);
POOL_EXPORT void pool_start_room_done(struct pool_start_room *room);
/** {"wait_reason", "ledger_after", "displaces": [{"worker_id", "status", "gives_back_bytes", "idle_ms"}]} */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_start_room_encode(const struct pool_start_room *room,
                                                                  char **ret_json, struct pool_error *err);
/** Lenient, as answers are. Owner: pool_start_room_done. */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_start_room_decode(const char *json, size_t n,
                                                                  struct pool_start_room *ret_room,
                                                                  struct pool_error *err);
/** Error of the estimate in tenths of a percent; absent without both an estimate and a measurement. */
POOL_EXPORT struct pool_reading pool_memory_need_error_permille(const struct pool_memory_need *need);
/**
 * {"error": {"code", "message", "retriable", "details", "correlation_id"}}. The details are those of the error, with
 * `field` in front and `log_tail`, an array of lines, behind. Errors: INTERNAL when `error` is none (POOL_OK).
 * @param correlation_id NULL or not a valid one: left out
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_error_encode(const struct pool_error *error,
                                                             const char *correlation_id, char **ret_json,
                                                             struct pool_error *err);
/**
 * Reads an error answer of the API. A code that this version does not know becomes INTERNAL, with its name in the
 * detail `unknown_code`. Errors: INVALID_REQUEST when it has not that shape.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_error_decode(const char *json, size_t n,
                                                             struct pool_error *ret_error,
                                                             struct pool_error *err);
/**
 * The JSON Schemas (2020-12) of every request and answer of the API, made from the tables that they are read and written
 * by: an object {"WorkerSpawnRequest": {…}, …}, to stand below components.schemas of an OpenAPI document.
 */
POOL_EXPORT POOL_MUST_CHECK enum pool_code pool_api_schemas_encode(char **ret_json, struct pool_error *err);
/** ^[A-Za-z0-9-]{1,64}$ */
POOL_EXPORT bool pool_correlation_id_is_valid(const char *id);

#ifdef __cplusplus
}
#endif
#endif
