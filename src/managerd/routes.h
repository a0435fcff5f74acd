/*
 * A route as data: what the daemon serves, who may ask, what is taken and what is answered. Requests are checked by these
 * rows and GET /v2/openapi.json is made of them, so that the two cannot disagree. The rows are in route_table.c.
 */
#ifndef MANAGERD_ROUTES_H
#define MANAGERD_ROUTES_H

#include "managerd/daemon.h"

/* A parameter of the query: an integer, or a flag (0 or 1). Others are refused. */
struct route_param {
    const char *name;
    bool is_flag;
    int64_t min, max;  /* both ends included */
    int64_t otherwise; /* when it is not there */
    const char *about;
};

/* One way in which a request succeeds. */
struct route_answer {
    unsigned status;
    const char *type;  /* of the API's types; NULL: no JSON */
    const char *media; /* NULL: application/json, or no body when there is no type either */
    const char *about;
};

/*
 * A request that shows the route at work, good or bad. They are in the OpenAPI document, and a test sends every one of
 * them to a daemon: chat-1 is a worker that runs there, qwen2.5-0.5b a model of its catalog, GPU 0 a device of its.
 */
struct route_example {
    const char *about;
    const char *target; /* path and query */
    const char *body;   /* JSON; NULL: none */
    unsigned status;
    enum pool_code code; /* of a refusal */
};

struct route {
    const char *method;
    const char *path; /* as metrics and people know it; a segment in braces stands for any */
    enum scope scope;
    route_handler *handle;
    const char *operation; /* a name for clients that are generated */
    const char *summary;
    const char *request; /* type of the body; NULL: a body is refused */
    bool may_lack_body;
    const struct route_param *params;     /* up to one without a name; NULL: none */
    const struct route_answer *answers;   /* up to one without a status */
    const enum pool_code *errors;         /* beside those of every route; up to POOL_OK; NULL: none */
    const struct route_example *examples; /* up to one without a status; NULL: none */
};

/* NULL behind the last. */
const struct route *route_at(size_t i);
/* The route that a request was let in by. NULL before it was. */
const struct route *route_of(const struct http_request *request);
/* A parameter of its route's table, which was checked when the request was let in; or what it is when it is not there. */
int64_t route_number(const struct http_request *request, const char *name);

/* The OpenAPI document of the table; freed with free(). openapi.c. */
POOL_MUST_CHECK enum pool_code openapi_make(char **ret_json, struct pool_error *err);

#endif
