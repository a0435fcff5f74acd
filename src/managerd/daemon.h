/*
 * The daemon as one object: what it is made of, and what the routes need of it. Everything happens on the loop; the
 * library is called through the executor.
 */
#ifndef MANAGERD_DAEMON_H
#define MANAGERD_DAEMON_H

#include <pool/pool.h>
#include <uv.h>

#include "base/random.h"
#include "base/strbuf.h"
#include "managerd/access.h"
#include "managerd/events.h"
#include "managerd/executor.h"
#include "managerd/gpu_monitor.h"
#include "managerd/http_server.h"
#include "managerd/service.h"
#include "managerd/supervisor.h"

struct daemon_options {
    const struct pool_config *config;
    const char *const *environment;
    const char *probe_path; /* of pool-gpu-probe */
    struct service *service;
};

struct state_cache;
struct upward;
struct snapshot_inventory;
struct gpu_faults;
struct reaper;
struct sights;
struct models;
struct metrics;
struct explain_feed;
struct first_snapshot;

struct daemon {
    uv_loop_t *loop;
    const struct pool_config *config;
    const char *const *environment;
    char epoch[9]; /* new at every start */
    int64_t started_boottime_ns;
    struct pool_manager *manager;
    struct executor *executor;
    struct supervisor *supervisor;
    struct reaper *reaper; /* NULL: this is not the first process */
    struct sights *sights; /* what is seen of workers that serve */
    struct event_log *events;
    struct explain_feed *explain_feed;
    struct gpu_monitor *gpu_monitor;
    struct gpu_faults *gpu_faults;
    struct snapshot_inventory *snapshots;
    struct first_snapshot *first_snapshot; /* who waits for it */
    struct pool_attribution *attribution;  /* of the last snapshot; NULL: none yet */
    struct pool_gpu_inventory *inventory;  /* over snapshots, for the manager */
    struct state_cache *state;
    struct upward *upward; /* NULL without an orchestrator */
    struct access *access;
    struct service *service; /* borrowed */
    struct http_server *http;
    struct models *models;
    char *openapi; /* made when it is first asked for */
    bool is_stopping;
    bool is_closing;       /* also when it could not be opened: signals find nothing to do */
    bool may_be_releasing; /* a worker on a GPU stopped, and its memory may not be free yet */
    bool is_looking_at_releases;
    bool is_noting_processes;
    uint64_t noted_processes; /* digest of who was noted last */
    bool is_quiet;            /* no request is under way any more */
    int64_t longest_grace_ms; /* of the workers that are stopped at the end */
    int exit_status;
    struct metrics *metrics;
};

/* Runs a daemon until it is told to stop (SIGTERM, SIGINT). Returns the exit status. */
int daemon_run(const struct daemon_options *options);

/* ---- state.c: the whole state, made at most once between two changes ---- */

POOL_MUST_CHECK enum pool_code state_cache_open(struct daemon *daemon, struct pool_error *err);
void state_cache_close(struct daemon *daemon);
/* Something changed: the next reader gets a new one. */
void state_cache_spoil(struct daemon *daemon);
/*
 * Called on the loop with the state; NULL and the error when it could not be made. `json` (shared until the next state)
 * and `etag` belong to the same state.
 */
struct state_text; /* what `json` belongs to */
struct state_view {
    const struct pool_status_response *status;
    struct state_text *text;
    const char *json;
    size_t n_json;
    const char *etag;
};
/* Keeps `json` for an answer that is sent later; each has to be released. */
struct state_text *state_text_share(struct state_text *text);
void state_text_release(void *text);
typedef void state_reader(const struct state_view *view, const struct pool_error *error, void *context);
void state_cache_read(struct daemon *daemon, state_reader *reader, void *context);

/* ---- snapshot_inventory.c: the monitor's snapshots as an inventory for the manager's thread ---- */

POOL_MUST_CHECK enum pool_code snapshot_inventory_open(struct snapshot_inventory **ret_snapshots,
                                                       struct pool_gpu_inventory **ret_inventory,
                                                       struct pool_error *err);
void snapshot_inventory_close(struct snapshot_inventory *snapshots, struct pool_gpu_inventory *inventory);
/* From the loop. */
void snapshot_inventory_put(struct snapshot_inventory *snapshots, const struct pool_gpu_list *list);

/* The last state that was made; NULL before the first. Borrowed until the loop goes on. */
const struct pool_status_response *state_cache_last(const struct daemon *daemon);

/* ---- release_watch.c: memory of stopped workers ---- */

void release_watch_stopped(struct daemon *daemon, const struct pool_worker_info *worker);
void release_watch_snapshot(struct daemon *daemon);

/* ---- upward.c: what an orchestrator is told ---- */

POOL_MUST_CHECK enum pool_code upward_open(struct daemon *daemon, struct pool_error *err);
/* There is a snapshot of the GPUs. */
void upward_see_gpus(const struct daemon *daemon);
void upward_worker_stopped(struct daemon *daemon, const struct pool_worker_info *worker);
/* Runs the loop for a moment, for what is still to be said. `is_leaving`: no worker is left, so that the pool signs off. */
void upward_close(struct daemon *daemon, bool is_leaving);
void upward_add_metrics(const struct daemon *daemon, struct strbuf *out);

/* ---- listening.c: where clients come in ---- */

POOL_MUST_CHECK enum pool_code listening_open(struct daemon *daemon, struct pool_error *err);
/* The end of an exchange; an http_on_answered. */
void daemon_on_answered(const struct http_request *request, unsigned status, int64_t duration_ns,
                        void *context);

/* ---- daemon_log.c: what the log says of workers, starts and requests ---- */

void tell_worker_change(const struct pool_worker_info *worker);
void tell_stop_decided(const char *worker_id, enum pool_stop_reason reason);
void tell_start(const char *worker_id, enum pool_code outcome, double seconds);
void tell_answered(const struct http_request *request, unsigned status, int64_t duration_ns);

/* ---- routes.c ---- */

void routes_on_request(struct http_request *request, void *context);
enum pool_code routes_early_check(struct http_request *request, void *context, struct pool_error *err);

/* A handler answers its request, now or later. */
typedef void route_handler(struct daemon *daemon, struct http_request *request);
route_handler handle_health, handle_state, handle_gpus, handle_gpu, handle_models, handle_model,
    handle_workers, handle_worker, handle_worker_start, handle_worker_check, handle_worker_stop,
    handle_worker_drain, handle_worker_logs, handle_worker_why, handle_explain, handle_events, handle_metrics,
    handle_openapi, handle_worker_ready, handle_gpu_cordon, handle_gpu_uncordon, handle_model_verify,
    handle_model_stage, handle_model_unstage;

/* Answers with JSON text made by malloc, which is taken over; NULL: no memory. */
void respond_json(struct http_request *request, unsigned status, char *json);
/* The same with the result of an encoder. */
void respond_encoded(struct http_request *request, unsigned status, enum pool_code code, char *json,
                     const struct pool_error *error);

#endif
