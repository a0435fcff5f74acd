/*
 * How a request finds its handler, and what of it is checked before: who asks, the method, the parameters, whether there
 * may be a body. What may be asked is the table's, route_table.c.
 */
#include "managerd/routes.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "managerd/log.h"

#define ALLOW_MAX_BYTES 64

/* Whether a path of decoded segments is one of the route's. */
static bool is_path_of(const struct route *route, const struct http_request *request)
{
    size_t n = http_request_n_segments(request);
    const char *at = route->path;
    for (size_t i = 0; i < n; i++) {
        const char *segment = http_request_segment(request, i);
        if (*at != '/')
            return false;
        at++;
        size_t n_wanted = strcspn(at, "/");
        bool is_fitting =
            *at == '{' ? *segment != '\0' : strncmp(at, segment, n_wanted) == 0 && segment[n_wanted] == '\0';
        if (!is_fitting)
            return false;
        at += n_wanted;
    }
    return *at == '\0';
}

/* The route of a request; NULL: none, and *ret_same_path is one of the same path with another method, or NULL. */
static const struct route *find_route(const struct http_request *request, const struct route **ret_same_path)
{
    const struct route *route;
    *ret_same_path = NULL;
    for (size_t i = 0; (route = route_at(i)); i++) {
        if (!is_path_of(route, request))
            continue;
        if (strcmp(route->method, http_request_method(request)) == 0)
            return route;
        *ret_same_path = route;
    }
    return NULL;
}

const struct route *route_of(const struct http_request *request)
{
    const struct route *same_path;
    return find_route(request, &same_path);
}

/* ---- what a request may be ---- */

/* Every method of the path. */
static void add_allow(struct http_request *request)
{
    char methods[ALLOW_MAX_BYTES] = "";
    size_t n = 0;
    const struct route *route;
    for (size_t i = 0; (route = route_at(i)); i++) {
        if (!is_path_of(route, request) || strstr(methods, route->method))
            continue;
        const char *head = strcmp(route->method, "GET") == 0 ? ", HEAD" : "";
        n += (size_t)snprintf(methods + n, sizeof methods - n, "%s%s%s", n > 0 ? ", " : "", route->method,
                              head);
    }
    http_request_add_header(request, "Allow", methods);
}

static const struct route_param *find_param(const struct route *route, const char *name)
{
    for (const struct route_param *param = route->params; param && param->name; param++) {
        if (strcmp(param->name, name) == 0)
            return param;
    }
    return NULL;
}

static enum pool_code check_params(const struct route *route, const struct http_request *request,
                                   struct pool_error *err)
{
    for (size_t i = 0; i < http_request_n_params(request); i++) {
        const char *name = http_request_param_name(request, i);
        const struct route_param *param = find_param(route, name);
        int64_t value;
        if (!param)
            pool_error_set(err, POOL_INVALID_REQUEST, "%s has no parameter \"%.100s\"", route->path, name);
        else if (!parse_int64(http_request_param(request, name), param->min, param->max, &value))
            pool_error_set(err, POOL_INVALID_REQUEST,
                           "\"%s\" must be an integer from %" PRId64 " to %" PRId64, name, param->min,
                           param->max);
        else
            continue;
        pool_error_set_field(err, "%.100s", name);
        return POOL_INVALID_REQUEST;
    }
    return POOL_OK;
}

int64_t route_number(const struct http_request *request, const char *name)
{
    const struct route *route = route_of(request);
    const struct route_param *param = route ? find_param(route, name) : NULL;
    const char *text = http_request_param(request, name);
    int64_t value = 0;
    if (!param)
        return 0;
    return text && parse_int64(text, param->min, param->max, &value) ? value : param->otherwise;
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
        if (code != POOL_OK) {
            access_tell_denial(daemon->access, request, err);
            return code;
        }
    }
    if (!route && same_path) {
        http_request_set_route(request, same_path->path);
        add_allow(request);
        return pool_error_set(err, POOL_METHOD_NOT_ALLOWED, "%s does not take %s", same_path->path,
                              http_request_method(request));
    }
    if (!route)
        return pool_error_set(err, POOL_NOT_FOUND, "there is nothing here; GET /v2/state shows the pool");
    enum pool_code code = access_require(request, route->scope, err);
    if (code == POOL_OK)
        return check_params(route, request, err);
    access_tell_denial(daemon->access, request, err);
    return code;
}

/* Apart from the rest: an error has nine kilobytes, not to be cleared for each request. */
static void refuse(struct http_request *request, const struct route *route)
{
    struct pool_error error = POOL_ERROR_INIT;
    if (!route) /* the early check lets none through */
        pool_error_set(&error, POOL_NOT_FOUND, "there is nothing here");
    else
        pool_error_set(&error, POOL_INVALID_REQUEST, "%s %s takes no body", route->method, route->path);
    http_respond_error(request, &error);
}

void routes_on_request(struct http_request *request, void *context)
{
    struct daemon *daemon = context;
    const struct route *route = route_of(request);
    size_t n_body;
    /* What it leads to says in the log whose doing it was. */
    CLEANUP(log_leave_cause)
    __attribute__((unused)) struct log_cause before = log_enter_cause(http_request_correlation_id(request));
    (void)http_request_body(request, &n_body);
    if (!route || (!route->request && n_body > 0))
        refuse(request, route);
    else
        route->handle(daemon, request);
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
