/*
 * From a checked request to what will be executed. `start_request_prepare` asks the disk (model, program);
 * `plan_make` is pure: the same inputs give the same plan, and nothing is asked.
 */
#ifndef LIFECYCLE_PLAN_H
#define LIFECYCLE_PLAN_H

#include <pool/lifecycle.h>

#include "base/strbuf.h"
#include "base/string_list.h"
#include "core/catalog/header_cache.h"
#include "core/lifecycle/engine_options.h"
#include "core/lifecycle/engine_version.h"

/* ---- command construction (command.c) ---- */

/* What placeholders stand for. */
struct command_values {
    const char *model_path;
    const char *host;
    const char *worker_id;
    const char *gpu_uuid;     /* "" without a GPU */
    const char *callback_url; /* "" without a daemon */
    int64_t port;
    bool is_every_device_visible; /* CUDA_VISIBLE_DEVICES is left alone */
    int64_t gpu_ordinal;          /* inside the worker: 0 */
    int64_t gpu_index;            /* for people; -1 without a GPU */
    int64_t ctx_size;
    int64_t parallel;
    int64_t gpu_memory_fraction; /* of FRACTION_ONE; 0 without a GPU */
};
#define FRACTION_ONE 10000

/* Expands {placeholders}; "{{" and "}}" are braces. Errors: INVALID_CONFIG for an unknown one. */
POOL_MUST_CHECK enum pool_code command_expand(const char *text, const struct command_values *values,
                                              struct strbuf *out, struct pool_error *err);
/* argv of a backend: its command expanded, then the request's extra arguments as they are. */
POOL_MUST_CHECK enum pool_code command_build(const struct pool_backend *backend, const char *program,
                                             const struct pool_worker_spawn_request *request,
                                             const struct command_values *values, struct string_list *argv,
                                             struct pool_error *err);
/*
 * A worker's environment: what it may inherit (an allow-list), then the backend's, then the request's, then the
 * device's variables and ours. Later ones replace earlier ones of the same name.
 */
POOL_MUST_CHECK enum pool_code environment_build(const char *const *inherited,
                                                 const struct pool_backend *backend,
                                                 const struct pool_worker_spawn_request *request,
                                                 const struct command_values *values,
                                                 struct string_list *environment, struct pool_error *err);
/* Names that a worker may inherit from whoever starts it; a final '*' stands for any rest. NULL behind the last. */
const char *environment_inherited_name(size_t i);
/* Sets NAME=value in a list, replacing. */
bool environment_set(struct string_list *environment, const char *name, const char *value);
/* Whether extra_args and env of a request are within what the backend allows. Errors: INVALID_REQUEST with field. */
POOL_MUST_CHECK enum pool_code command_check_allowed(const struct pool_backend *backend,
                                                     const struct pool_worker_spawn_request *request,
                                                     struct pool_error *err);

/* ---- preparation (validate.c) ---- */

struct start_request {
    const struct pool_worker_spawn_request *request; /* borrowed */
    const struct pool_backend *backend;              /* borrowed from the configuration */
    struct pool_model *model;
    char *program;                          /* absolute */
    const struct pool_model_header *header; /* borrowed from context->headers until it reads the next one */
    struct engine_options engine;
    struct engine_version version;
    int64_t ctx_size;
    int64_t parallel;
    struct pool_memory_need need; /* on one device */
    size_t n_needs;
    struct pool_memory_need
        *needs; /* with what was measured on each, in the order of placement_input; may be none */
    struct pool_memory_need
        split_need; /* of all devices that the request names together; source NULL: it names one */
};
#define START_REQUEST_INIT \
    {                      \
        0                  \
    }
void start_request_done(struct start_request *start);

struct start_context {
    const struct pool_config *config;
    const struct pool_model_catalog *catalog;
    struct header_cache *headers;
    const char *const *environment;
    const char *state_dir; /* device checks are remembered below it */
    bool takes_calls;      /* somebody listens who workers can tell that they are ready */
    bool is_unrestricted;
};
/* Everything that can be told without the driver and without a lock. */
POOL_MUST_CHECK enum pool_code start_request_prepare(const struct start_context *context,
                                                     const struct pool_worker_spawn_request *request,
                                                     struct start_request *ret_start, struct pool_error *err);
/* Takes the header of the model, and from it the context where the request names none. */
void start_take_header(struct start_request *start, const struct pool_model_header *header);
/* Fills start->need, and on the way what the engine is and how it is started. Errors: those of an estimate's options. */
POOL_MUST_CHECK enum pool_code start_find_need(const struct start_context *context,
                                               struct start_request *start, struct pool_error *err);
/* Fills start->needs: what was measured on each device's product, and on the host. */
POOL_MUST_CHECK enum pool_code start_find_measured(struct start_request *start,
                                                   struct pool_worker_registry *registry,
                                                   const struct pool_gpu_list *gpus, struct pool_error *err);
/* The need on the device at an index of placement_input. */
const struct pool_memory_need *start_need_at(const struct start_request *start, size_t index);
/* Estimates a prepared start for the layers [first, end) of its model; 0, 0: all that go to the device. */
POOL_MUST_CHECK enum pool_code start_estimate(const struct start_request *start, int64_t first_layer,
                                              int64_t end_layer, struct pool_estimate *ret_estimate,
                                              struct pool_error *err);
/*
 * Runs a program with a few words, in the environment of a worker that sees every device, and reads what it prints, as far
 * as `output` takes it. Errors: BACKEND_UNAVAILABLE. Blocks: until it ends, at most a minute.
 */
POOL_MUST_CHECK enum pool_code program_ask(const struct pool_backend *backend, const char *program,
                                           const char *const *words, size_t n_words,
                                           const char *const *inherited, struct strbuf *output,
                                           struct pool_error *err);
/* Runs the backend's device check on a program, remembered per binary. Errors: BACKEND_UNAVAILABLE. */
POOL_MUST_CHECK enum pool_code device_check_run(const struct pool_backend *backend, const char *program,
                                                const char *const *environment, const char *state_dir,
                                                struct pool_error *err);
/* The absolute path of a program: as it is with a '/', else looked up on PATH. Errors: BACKEND_UNAVAILABLE. */
POOL_MUST_CHECK enum pool_code program_find(const char *name, const char *const *environment, char **ret_path,
                                            struct pool_error *err);
/* The value of NAME in "NAME=value" strings, or NULL. */
const char *environment_get(const char *const *environment, const char *name);

/* ---- placement and plan (plan.c) ---- */

/* Picks the device of a request. Errors: GPU_NOT_FOUND, GPU_UNAVAILABLE, INVALID_REQUEST. */
struct placement_input {
    const struct start_request *start;
    const struct pool_gpu_list *gpus;
    size_t n_ledgers; /* one per entry of gpus, in its order, then the host's memory */
    const struct pool_ledger *ledgers;
};
/* Whether a device can take workers at all. Errors: GPU_UNAVAILABLE. */
POOL_MUST_CHECK enum pool_code placement_check_gpu(const struct pool_gpu_info *gpu, struct pool_error *err);
POOL_MUST_CHECK enum pool_code placement_choose(const struct placement_input *input,
                                                const struct pool_gpu_info **ret_gpu,
                                                const struct pool_ledger **ret_ledger,
                                                struct pool_error *err);
/* Why "auto" took this device: "of 2 GPUs with room for it, GPU 1 (UUID) has least left: 1.2 GiB". "" for one that was named. */
void placement_explain(const struct placement_input *input, const struct pool_gpu_info *gpu, char *text,
                       size_t n);
/* A worker id or port that a live worker has. */
POOL_MUST_CHECK enum pool_code plan_check_unique(const struct pool_worker_list *live,
                                                 const struct pool_worker_spawn_request *request,
                                                 struct pool_error *err);

struct split;
struct plan_input {
    const struct pool_config *config;
    const struct start_request *start;
    const struct pool_gpu_info *gpu;     /* NULL: host memory */
    const struct pool_ledger *ledger;    /* of its device */
    const struct pool_memory_need *need; /* on its device; NULL: start->need */
    const char *placement;               /* why this device; NULL: it was named */
    const struct split *split; /* of several devices, admitted already; `gpu` is the first. NULL: of one */
    const char *const *environment;
    const char *callback_url; /* NULL: nobody takes calls */
    const char *state_id;
    const char *log_dir;
    const char *worker_id; /* chosen when the request named none */
    int64_t port;
    int64_t wall_ms;
    int64_t boottime_ns;
};
POOL_MUST_CHECK enum pool_code plan_make(const struct plan_input *input, struct pool_plan **ret_plan,
                                         struct pool_error *err);
/* POOL_WORKER_SPEC of a record, and back (settle after a lost database). Owned by the caller. */
char *worker_spec_encode(const struct pool_worker_info *worker);
POOL_MUST_CHECK enum pool_code worker_spec_decode(const char *text, struct pool_worker_info **ret_worker,
                                                  struct pool_error *err);

#endif
