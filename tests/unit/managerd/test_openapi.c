/*
 * The OpenAPI document against the route table and the types of the library: whatever one names, the other has.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pool/api.h>

#include "base/json.h"
#include "managerd/routes.h"

static json_t *make_document(void)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct json_failure failure;
    char *text = NULL;
    if (openapi_make(&text, &err) != POOL_OK)
        fail_msg("%s", err.message);
    json_t *document = json_parse(text, strlen(text), &failure);
    if (!document)
        fail_msg("line %d: %s", failure.line, failure.message);
    free(text);
    return document;
}

static const json_t *schemas_of(const json_t *document)
{
    return json_object_get(json_object_get(document, "components"), "schemas");
}

/* Every reference below a value leads to a schema. */
static size_t check_references(const json_t *value, const json_t *schemas)
{
    static const char prefix[] = "#/components/schemas/";
    const char *name;
    json_t *member;
    size_t i, n = 0;
    json_object_foreach((json_t *)(uintptr_t)value, name, member) {
        if (strcmp(name, "$ref") == 0) {
            const char *target = json_string_value(member);
            assert_memory_equal(target, prefix, sizeof prefix - 1);
            if (!json_object_get(schemas, target + sizeof prefix - 1))
                fail_msg("there is no %s", target);
            n++;
        }
        n += check_references(member, schemas);
    }
    if (json_is_array(value)) {
        json_array_foreach(value, i, member)
            n += check_references(member, schemas);
    }
    return n;
}

static void test_references_lead_somewhere(void **state)
{
    (void)state;
    json_t *document = make_document();
    assert_true(check_references(document, schemas_of(document)) > 100);
    json_decref(document);
}

static void test_every_route_is_described(void **state)
{
    (void)state;
    json_t *document = make_document();
    const json_t *paths = json_object_get(document, "paths");
    const struct route *route;
    for (size_t i = 0; (route = route_at(i)); i++) {
        char method[HTTP_METHOD_MAX + 1] = "";
        for (size_t k = 0; route->method[k]; k++)
            method[k] = (char)(route->method[k] + 'a' - 'A');
        const json_t *operation = json_object_get(json_object_get(paths, route->path), method);
        if (!operation)
            fail_msg("%s %s is missing", route->method, route->path);
        assert_non_null(route->handle);
        assert_non_null(route->answers);
        assert_string_equal(json_string_value(json_object_get(operation, "operationId")), route->operation);
        size_t n_params = 0;
        while (route->params && route->params[n_params].name)
            n_params++;
        n_params += strchr(route->path, '{') != NULL;
        assert_int_equal(json_array_size(json_object_get(operation, "parameters")), n_params);
        assert_int_equal(json_object_get(operation, "requestBody") != NULL, route->request != NULL);
    }
    json_decref(document);
}

/* A request is closed, an answer is open. */
static void test_schemas_of_requests_refuse_what_they_do_not_know(void **state)
{
    (void)state;
    json_t *document = make_document();
    const struct route *route;
    for (size_t i = 0; (route = route_at(i)); i++) {
        const json_t *schema = route->request ? json_object_get(schemas_of(document), route->request) : NULL;
        bool is_callback = route->request && strcmp(route->request, "WorkerReadyCallback") == 0;
        if (schema && !is_callback)
            assert_true(json_is_false(json_object_get(schema, "additionalProperties")));
    }
    assert_null(json_object_get(json_object_get(schemas_of(document), "Worker"), "additionalProperties"));
    json_decref(document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_references_lead_somewhere),
        cmocka_unit_test(test_every_route_is_described),
        cmocka_unit_test(test_schemas_of_requests_refuse_what_they_do_not_know),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
