/*
 * The table of routes, who may use them, and how a request finds its handler. Contract, section 4.
 */
#include <string.h>

#include "managerd/daemon.h"

#define SEGMENTS_MAX 5

/* A '*' stands for one segment. */
static const struct route {
    const char *method;
    const char *path; /* as metrics and people know it */
    const char *segments[SEGMENTS_MAX];
    enum scope scope;
    route_handler *handle;
} routes[] = {
    { "GET", "/health", { "health" }, SCOPE_NONE, handle_health },
    { "GET", "/metrics", { "metrics" }, SCOPE_READ, handle_metrics },
    { "GET", "/v2/state", { "v2", "state" }, SCOPE_READ, handle_state },
    { "GET", "/v2/gpus", { "v2", "gpus" }, SCOPE_READ, handle_gpus },
    { "GET", "/v2/gpus/{id}", { "v2", "gpus", "*" }, SCOPE_READ, handle_gpu },
    { "GET", "/v2/models", { "v2", "models" }, SCOPE_READ, handle_models },
    { "GET", "/v2/models/{id}", { "v2", "models", "*" }, SCOPE_READ, handle_model },
    { "GET", "/v2/workers", { "v2", "workers" }, SCOPE_READ, handle_workers },
    { "POST", "/v2/workers/start", { "v2", "workers", "start" }, SCOPE_OPERATE, handle_worker_start },
    { "POST", "/v2/workers/check", { "v2", "workers", "check" }, SCOPE_OPERATE, handle_worker_check },
    { "POST", "/v2/workers/stop", { "v2", "workers", "stop" }, SCOPE_OPERATE, handle_worker_stop },
    { "GET", "/v2/workers/{id}", { "v2", "workers", "*" }, SCOPE_READ, handle_worker },
    { "POST",
      "/v2/workers/{id}/drain",
      { "v2", "workers", "*", "drain" },
      SCOPE_OPERATE,
      handle_worker_drain },
    { "GET", "/v2/workers/{id}/logs", { "v2", "workers", "*", "logs" }, SCOPE_READ, handle_worker_logs },
    { "GET", "/v2/events", { "v2", "events" }, SCOPE_READ, handle_events },
};

#define N_ROUTES (sizeof routes / sizeof routes[0])

static bool is_path_of(const struct route *route, const struct http_request *request)
{
    size_t n = http_request_n_segments(request);
    for (size_t i = 0; i < SEGMENTS_MAX; i++) {
        const char *wanted = route->segments[i];
        if (!wanted || i >= n)
            return !wanted && i >= n;
        if (strcmp(wanted, "*") != 0 && strcmp(wanted, http_request_segment(request, i)) != 0)
            return false;
    }
    return n <= SEGMENTS_MAX;
}

/* The route of a request. NULL: none; *ret_is_path says whether another method would have one. */
static const struct route *find_route(const struct http_request *request, const struct route **ret_same_path)
{
    *ret_same_path = NULL;
    for (size_t i = 0; i < N_ROUTES; i++) {
        if (!is_path_of(&routes[i], request))
            continue;
        if (strcmp(routes[i].method, http_request_method(request)) == 0)
            return &routes[i];
        *ret_same_path = &routes[i];
    }
    return NULL;
}

enum pool_code routes_early_check(struct http_request *request, void *context, struct pool_error *err)
{
    const struct daemon *daemon = context;
    const struct route *same_path;
    const struct route *route = find_route(request, &same_path);
    if (route)
        http_request_set_route(request, route->path);
    /* Who may see nothing is not told what there is either. */
    if (!route || route->scope > SCOPE_NONE) {
        enum pool_code code = access_identify(daemon->access, request, err);
        if (code != POOL_OK)
            return code;
    }
    if (!route && same_path) {
        http_request_set_route(request, same_path->path);
        http_request_add_header(request, "Allow",
                                strcmp(same_path->method, "GET") == 0 ? "GET, HEAD" : same_path->method);
        return pool_error_set(err, POOL_METHOD_NOT_ALLOWED, "%s takes %s", same_path->path,
                              same_path->method);
    }
    if (!route)
        return pool_error_set(err, POOL_NOT_FOUND, "there is nothing here; GET /v2/state shows the pool");
    return access_require(request, route->scope, err);
}

void routes_on_request(struct http_request *request, void *context)
{
    struct daemon *daemon = context;
    const struct route *same_path;
    const struct route *route = find_route(request, &same_path);
    if (route) { /* the early check let nothing else through */
        route->handle(daemon, request);
        return;
    }
    struct pool_error error = POOL_ERROR_INIT;
    pool_error_set(&error, POOL_NOT_FOUND, "there is nothing here");
    http_respond_error(request, &error);
}

void respond_json(struct http_request *request, unsigned status, char *json)
{
    struct pool_error error = POOL_ERROR_INIT;
    if (json) {
        http_respond(request, status, "application/json", json, strlen(json), HTTP_TAKE);
        return;
    }
    pool_error_no_memory(&error);
    http_respond_error(request, &error);
}

void respond_encoded(struct http_request *request, unsigned status, enum pool_code code, char *json,
                     const struct pool_error *error)
{
    if (code == POOL_OK)
        respond_json(request, status, json);
    else
        http_respond_error(request, error);
}
