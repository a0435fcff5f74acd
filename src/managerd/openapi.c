/*
 * GET /v2/openapi.json: the OpenAPI 3.1 description of the API, made of the route table that requests are checked by and of
 * the schemas that the library makes of its field tables. Made once, when it is first asked for.
 *
 * Source: https://spec.openapis.org/oas/v3.1.0
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "managerd/routes.h"

#define STATUS_TEXT_MAX 12
#define ABOUT_MAX       512

/* What any route may refuse with. Those that concern the body only where there may be one. */
static const enum pool_code common_errors[] = { POOL_INVALID_REQUEST,   POOL_UNAUTHENTICATED,
                                                POOL_PERMISSION_DENIED, POOL_RATE_LIMITED,
                                                POOL_OVERLOADED,        POOL_INSUFFICIENT_MEMORY,
                                                POOL_INTERNAL,          POOL_OK };
static const enum pool_code body_errors[] = { POOL_PAYLOAD_TOO_LARGE, POOL_UNSUPPORTED_MEDIA_TYPE, POOL_OK };

static const struct {
    const char *prefix; /* what comes before the id in the path */
    const char *about;
    const char *pattern;
} path_ids[] = {
    { "/v2/gpus/", "index or UUID of the GPU", "^[A-Za-z0-9][A-Za-z0-9._:-]*$" },
    { "/v2/models/", "the model's id in the catalog", "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" },
    { "/v2/workers/", "the worker's id", "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" },
    { "/v2/explain/", "the id of what is explained", "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" },
};

/*
 * jansson's *_set_new and *_append_new take over what they are given, also when they fail, and fail for NULL: so a
 * document is built without looking, and whether all went well is told by one flag at its end.
 */
struct builder {
    bool has_failed;
};

static void set(struct builder *b, json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) < 0)
        b->has_failed = true;
}

static void append(struct builder *b, json_t *array, json_t *value)
{
    if (json_array_append_new(array, value) < 0)
        b->has_failed = true;
}

static json_t *reference(const char *type)
{
    return json_pack("{s:s+}", "$ref", "#/components/schemas/", type);
}

static json_t *content(const char *media, json_t *schema)
{
    return json_pack("{s:{s:o}}", media ? media : "application/json", "schema", schema);
}

/* ---- parameters ---- */

static void add_path_param(struct builder *b, json_t *params, const struct route *route)
{
    if (!strchr(route->path, '{'))
        return;
    for (size_t i = 0; i < sizeof path_ids / sizeof path_ids[0]; i++) {
        if (strncmp(route->path, path_ids[i].prefix, strlen(path_ids[i].prefix)) == 0)
            append(b, params,
                   json_pack("{s:s, s:s, s:b, s:s, s:{s:s, s:s}}", "name", "id", "in", "path", "required", 1,
                             "description", path_ids[i].about, "schema", "type", "string", "pattern",
                             path_ids[i].pattern));
    }
}

static json_t *params_of(struct builder *b, const struct route *route)
{
    json_t *params = json_array();
    add_path_param(b, params, route);
    for (const struct route_param *param = route->params; param && param->name; param++) {
        json_t *schema = param->is_flag ? json_pack("{s:s, s:[i, i], s:I}", "type", "integer", "enum", 0, 1,
                                                    "default", (json_int_t)param->otherwise)
                                        : json_pack("{s:s, s:I, s:I, s:I}", "type", "integer", "minimum",
                                                    (json_int_t)param->min, "maximum", (json_int_t)param->max,
                                                    "default", (json_int_t)param->otherwise);
        append(b, params,
               json_pack("{s:s, s:s, s:b, s:s, s:o}", "name", param->name, "in", "query", "required", 0,
                         "description", param->about, "schema", schema));
    }
    return params;
}

/* ---- answers ---- */

/* Several codes share a status: they are named in its description. */
static void add_error(struct builder *b, json_t *responses, enum pool_code code)
{
    char status[STATUS_TEXT_MAX];
    char about[ABOUT_MAX];
    snprintf(status, sizeof status, "%d", pool_code_http_status(code));
    json_t *response = json_object_get(responses, status);
    const char *before = json_string_value(json_object_get(response, "description"));
    if (!response) {
        set(b, responses, status,
            json_pack("{s:s, s:o}", "description", pool_code_name(code), "content",
                      content(NULL, reference("Error"))));
    } else if (before && !strstr(before, pool_code_name(code))) {
        snprintf(about, sizeof about, "%s, %s", before, pool_code_name(code));
        set(b, response, "description", json_string(about));
    }
}

static void add_errors(struct builder *b, json_t *responses, const enum pool_code *codes)
{
    for (const enum pool_code *code = codes; code && *code != POOL_OK; code++)
        add_error(b, responses, *code);
}

static json_t *responses_of(struct builder *b, const struct route *route)
{
    json_t *responses = json_object();
    for (const struct route_answer *answer = route->answers; answer && answer->status; answer++) {
        char status[STATUS_TEXT_MAX];
        snprintf(status, sizeof status, "%u", answer->status);
        json_t *response = json_pack("{s:s}", "description", answer->about);
        bool is_json = answer->media && strcmp(answer->media, "application/json") == 0;
        if (answer->type)
            set(b, response, "content", content(answer->media, reference(answer->type)));
        else if (answer->media)
            set(b, response, "content",
                content(answer->media, json_pack("{s:s}", "type", is_json ? "object" : "string")));
        set(b, responses, status, response);
    }
    add_errors(b, responses, common_errors);
    if (route->request)
        add_errors(b, responses, body_errors);
    add_errors(b, responses, route->errors);
    return responses;
}

/* ---- examples ---- */

static json_t *parse_example(struct builder *b, const char *text)
{
    struct json_failure failure;
    json_t *json = json_parse(text, strlen(text), &failure);
    b->has_failed = b->has_failed || !json;
    return json;
}

/* All of them, with what is answered; the test that sends them reads this. */
static json_t *examples_of(struct builder *b, const struct route *route)
{
    json_t *examples = json_array();
    for (const struct route_example *example = route->examples; example->status; example++) {
        json_t *one = json_pack("{s:s, s:s, s:i}", "summary", example->about, "target", example->target,
                                "status", (int)example->status);
        if (example->body)
            set(b, one, "body", parse_example(b, example->body));
        if (example->code != POOL_OK)
            set(b, one, "code", json_string(pool_code_name(example->code)));
        append(b, examples, one);
    }
    return examples;
}

/* The bodies of the good ones, where readers of OpenAPI look for them. */
static json_t *body_examples_of(struct builder *b, const struct route *route)
{
    json_t *examples = json_object();
    for (const struct route_example *example = route->examples; example && example->status; example++) {
        char name[32];
        snprintf(name, sizeof name, "example-%zu", json_object_size(examples) + 1);
        if (example->body && example->code == POOL_OK)
            set(b, examples, name,
                json_pack("{s:s, s:o}", "summary", example->about, "value", parse_example(b, example->body)));
    }
    return examples;
}

static json_t *body_of(struct builder *b, const struct route *route)
{
    return json_pack("{s:b, s:{s:{s:o, s:o}}}", "required", !route->may_lack_body, "content",
                     "application/json", "schema", reference(route->request), "examples",
                     body_examples_of(b, route));
}

/* ---- the whole ---- */

static json_t *operation_of(struct builder *b, const struct route *route)
{
    json_t *operation = json_pack("{s:s, s:s, s:s, s:o, s:o}", "operationId", route->operation, "summary",
                                  route->summary, "x-scope", scope_name(route->scope), "parameters",
                                  params_of(b, route), "responses", responses_of(b, route));
    if (route->scope == SCOPE_NONE)
        set(b, operation, "security", json_array());
    if (route->request)
        set(b, operation, "requestBody", body_of(b, route));
    if (route->examples)
        set(b, operation, "x-examples", examples_of(b, route));
    return operation;
}

static json_t *paths_of(struct builder *b)
{
    json_t *paths = json_object();
    const struct route *route;
    for (size_t i = 0; (route = route_at(i)); i++) {
        char method[HTTP_METHOD_MAX + 1];
        size_t n = 0;
        for (; n < HTTP_METHOD_MAX && route->method[n]; n++)
            method[n] = (char)(route->method[n] - 'A' + 'a');
        method[n] = '\0';
        if (!json_object_get(paths, route->path))
            set(b, paths, route->path, json_object());
        set(b, json_object_get(paths, route->path), method, operation_of(b, route));
    }
    return paths;
}

static json_t *make_document(struct pool_error *err)
{
    CLEANUP_FREE char *schemas = NULL;
    struct builder b = { 0 };
    if (pool_api_schemas_encode(&schemas, err) != POOL_OK)
        return NULL;
    json_t *document = json_pack(
        "{s:s, s:{s:s, s:s, s:s, s:{s:s, s:s}}, s:[{s:s, s:s}], s:[{s:[]}, {}], s:o, s:{s:o, s:{s:{s:s, "
        "s:s}}}}",
        "openapi", "3.1.0", "info", "title", "pool-managerd", "version", pool_version(), "description",
        "The model workers of one host: started, watched and stopped.", "license", "name", "MIT",
        "identifier", "MIT", "servers", "url", "http://127.0.0.1:9200", "description",
        "where it listens by default", "security", "bearer", "paths", paths_of(&b), "components", "schemas",
        parse_example(&b, schemas), "securitySchemes", "bearer", "type", "http", "scheme", "bearer");
    if (!document || b.has_failed) {
        json_decref(document);
        pool_error_no_memory(err);
        return NULL;
    }
    return document;
}

enum pool_code openapi_make(char **ret_json, struct pool_error *err)
{
    CLEANUP_JSON json_t *document = make_document(err);
    if (!document)
        return POOL_INSUFFICIENT_MEMORY;
    char *text = json_print(document);
    if (!text)
        return pool_error_no_memory(err);
    *ret_json = text;
    return POOL_OK;
}

void handle_openapi(struct daemon *daemon, struct http_request *request)
{
    struct pool_error error = POOL_ERROR_INIT;
    if (!daemon->openapi && openapi_make(&daemon->openapi, &error) != POOL_OK) {
        http_respond_error(request, &error);
        return;
    }
    http_respond(request, 200, "application/json", daemon->openapi, strlen(daemon->openapi), HTTP_COPY);
}
