/*
 * Command lines and environments: what templates become, what a request may add to them, what a worker inherits, and
 * what nobody can take away from it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "core/lifecycle/plan.h"

#define UUID "GPU-00000000-0000-4000-8000-000000000001"

static const struct command_values values = { .model_path = "/models/a b.gguf",
                                              .host = "127.0.0.1",
                                              .worker_id = "w-1",
                                              .gpu_uuid = UUID,
                                              .callback_url = "http://127.0.0.1:9200/cb",
                                              .port = 8001,
                                              .gpu_ordinal = 0,
                                              .gpu_index = 3,
                                              .ctx_size = 4096,
                                              .parallel = 2,
                                              .gpu_memory_fraction = 432 };

static void test_expansion(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *expanded; /* NULL: refused */
    } cases[] = {
        { "", "" },
        { "plain -text", "plain -text" },
        { "{model_path}", "/models/a b.gguf" },
        { "{port}", "8001" },
        { "{host}:{port}", "127.0.0.1:8001" },
        { "{gpu_ordinal}/{gpu_index}/{gpu_uuid}", "0/3/" UUID },
        { "{worker_id}{worker_id}", "w-1w-1" },
        { "{callback_url}", "http://127.0.0.1:9200/cb" },
        { "-c{ctx_size},{parallel}", "-c4096,2" },
        { "{gpu_memory_fraction}", "0.0432" },
        { "{{port}}", "{port}" },
        { "{{{port}}}", "{8001}" },
        { "{{\"a\": {port}}}", "{\"a\": 8001}" },
        { "{{{{", "{{" },
        { "$HOME `id` ; 'x'", "$HOME `id` ; 'x'" },
        { "{unknown}", NULL },
        { "{}", NULL },
        { "{ port}", NULL },
        { "{Port}", NULL },
        { "{por}", NULL },
        { "{portx}", NULL },
        { "{port", NULL },
        { "{", NULL },
        { "}", NULL },
        { "a}b", NULL },
        { "{{port}", NULL },
        { "{port}}", NULL },
        { "{{{port}}", NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CLEANUP(strbuf_done) struct strbuf out = STRBUF_INIT(4096);
        struct pool_error err = POOL_ERROR_INIT;
        enum pool_code code = command_expand(cases[i].text, &values, &out, &err);
        if (!cases[i].expanded) {
            assert_int_equal(code, POOL_INVALID_CONFIG);
            assert_int_equal(err.code, POOL_INVALID_CONFIG);
            continue;
        }
        assert_int_equal(code, POOL_OK);
        assert_string_equal(strbuf_text(&out), cases[i].expanded);
    }
}

static void test_values_are_not_expanded_again(void **state)
{
    (void)state;
    struct command_values tricky = values;
    tricky.model_path = "/m/{port}/{{x";
    CLEANUP(strbuf_done) struct strbuf out = STRBUF_INIT(4096);
    assert_int_equal(command_expand("<{model_path}>", &tricky, &out, NULL), POOL_OK);
    assert_string_equal(strbuf_text(&out), "</m/{port}/{{x>");
}

static void test_numbers_to_their_ends(void **state)
{
    (void)state;
    struct command_values ends = values;
    ends.gpu_index = -1;
    ends.ctx_size = INT64_MAX;
    ends.gpu_uuid = "";
    CLEANUP(strbuf_done) struct strbuf out = STRBUF_INIT(4096);
    assert_int_equal(command_expand("{gpu_index} {ctx_size} [{gpu_uuid}]", &ends, &out, NULL), POOL_OK);
    assert_string_equal(strbuf_text(&out), "-1 9223372036854775807 []");
}

/* ---- command lines ---- */

static void test_command_line(void **state)
{
    (void)state;
    char *command[] = { (char[]){ "engine" }, (char[]){ "-m" }, (char[]){ "{model_path}" },
                        (char[]){ "--at={host}:{port}" }, (char[]){ "" } };
    char *extra[] = { (char[]){ "--chat-template" }, (char[]){ "{{ x }} {port}" }, (char[]){ "" } };
    struct pool_backend backend = { .name = (char[]){ "b" }, .n_command = 5, .command = command };
    struct pool_worker_spawn_request request = { .n_extra_args = 3, .extra_args = extra };
    CLEANUP(string_list_done) struct string_list argv = { 0 };
    assert_int_equal(command_build(&backend, "/opt/engine", &request, &values, &argv, NULL), POOL_OK);
    static const char *const wanted[] = { "/opt/engine",         "-m", "/models/a b.gguf",
                                          "--at=127.0.0.1:8001", "",   "--chat-template",
                                          "{{ x }} {port}",      "" };
    assert_int_equal(argv.n, sizeof wanted / sizeof wanted[0]);
    for (size_t i = 0; i < argv.n; i++)
        assert_string_equal(argv.at[i], wanted[i]);
    assert_null(argv.at[argv.n]);
}

static void test_faults_of_templates_are_named(void **state)
{
    (void)state;
    char *command[] = { (char[]){ "engine" }, (char[]){ "fine" }, (char[]){ "{gpu}" } };
    struct pool_env_var env[] = { { (char[]){ "BAD" }, (char[]){ "{gpu}" } } };
    struct pool_backend backend = { .name = (char[]){ "b" }, .n_command = 3, .command = command };
    struct pool_worker_spawn_request request = { 0 };
    struct pool_error err = POOL_ERROR_INIT;
    CLEANUP(string_list_done) struct string_list list = { 0 };
    assert_int_equal(command_build(&backend, "/opt/engine", &request, &values, &list, &err),
                     POOL_INVALID_CONFIG);
    assert_string_equal(err.field, "backends.b.command[2]");
    backend = (struct pool_backend){ .name = (char[]){ "b" }, .n_env = 1, .env = env };
    assert_int_equal(environment_build(NULL, &backend, &request, &values, &list, &err), POOL_INVALID_CONFIG);
    assert_string_equal(err.field, "backends.b.env.BAD");
}

static void test_an_argument_has_a_limit(void **state)
{
    (void)state;
    CLEANUP_FREE char *path = malloc(128 * 1024 + 1);
    assert_non_null(path);
    memset(path, 'x', 128 * 1024);
    path[128 * 1024] = '\0';
    struct command_values longest = values;
    longest.model_path = path;
    char *command[] = { (char[]){ "engine" }, (char[]){ "{model_path}" } };
    struct pool_backend backend = { .name = (char[]){ "b" }, .n_command = 2, .command = command };
    struct pool_worker_spawn_request request = { 0 };
    CLEANUP(string_list_done) struct string_list argv = { 0 };
    assert_int_equal(command_build(&backend, "/e", &request, &longest, &argv, NULL), POOL_INVALID_REQUEST);
    path[128 * 1024 - 1] = '\0';
    CLEANUP(string_list_done) struct string_list again = { 0 };
    assert_int_equal(command_build(&backend, "/e", &request, &longest, &again, NULL), POOL_OK);
}

/* ---- allow-lists ---- */

static void test_allowed_arguments(void **state)
{
    (void)state;
    char *allowed[] = { (char[]){ "--temp" }, (char[]){ "-t" }, (char[]){ "--flag" } };
    struct pool_backend backend = { .name = (char[]){ "b" }, .n_allow_args = 3, .allow_args = allowed };
    static const struct {
        const char *words[5];
        int refused; /* index, -1: none */
    } cases[] = {
        { { "--temp", "0.5" }, -1 },
        { { "--temp=0.5" }, -1 },
        { { "--temp=" }, -1 },
        { { "--temp", "-1" }, -1 },
        { { "--temp", "-.5" }, -1 },
        { { "-t", "4", "--temp", "1" }, -1 },
        { { "--flag", "--temp", "1" }, -1 },
        { { "--flag" }, -1 },
        { { "--temp", "" }, -1 },
        { { "--other" }, 0 },
        { { "--tem" }, 0 },
        { { "--temperature" }, 0 },
        { { "--other=--temp" }, 0 },
        { { "word" }, 0 },
        { { "--api-key=s3cret" }, 0 },
        { { "s3cret" }, 0 },
        { { "" }, 0 },
        { { "-1" }, 0 },
        { { "-" }, 0 },
        { { "--" }, 0 },
        { { "=--temp" }, 0 },
        { { "--temp", "1", "word" }, 2 },
        { { "--temp=1", "word" }, 1 },
        { { "--temp", "--other" }, 1 },
        { { "--temp", "1", "-m", "/etc/shadow" }, 2 },
        { { "-t4" }, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pool_worker_spawn_request request = { .extra_args = (char **)(uintptr_t)cases[i].words };
        while (request.n_extra_args < 5 && cases[i].words[request.n_extra_args])
            request.n_extra_args++;
        struct pool_error err = POOL_ERROR_INIT;
        enum pool_code code = command_check_allowed(&backend, &request, &err);
        assert_int_equal(code, cases[i].refused < 0 ? POOL_OK : POOL_INVALID_REQUEST);
        char field[32] = "";
        if (cases[i].refused >= 0)
            snprintf(field, sizeof field, "extra_args[%d]", cases[i].refused);
        assert_string_equal(err.field, field);
        assert_null(strstr(err.message, "s3cret")); /* it may be a secret, and is kept as an explanation */
    }
}

static void test_allowed_variables(void **state)
{
    (void)state;
    char *allowed[] = { (char[]){ "OMP_NUM_THREADS" } };
    struct pool_backend backend = { .name = (char[]){ "b" }, .n_allow_env = 1, .allow_env = allowed };
    static const struct {
        const char *name;
        enum pool_code code;
    } cases[] = {
        { "OMP_NUM_THREADS", POOL_OK },
        { "OMP_NUM_THREAD", POOL_INVALID_REQUEST },
        { "OMP_NUM_THREADS2", POOL_INVALID_REQUEST },
        { "omp_num_threads", POOL_INVALID_REQUEST },
        { "LD_PRELOAD", POOL_INVALID_REQUEST },
        { "LD_LIBRARY_PATH", POOL_INVALID_REQUEST },
        { "PATH", POOL_INVALID_REQUEST },
        { "LLAMA_ARG_TOOLS", POOL_INVALID_REQUEST },
        { "CUDA_VISIBLE_DEVICES", POOL_INVALID_REQUEST },
        { "POOL_WORKER_ID", POOL_INVALID_REQUEST },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pool_env_var env = { (char *)(uintptr_t)cases[i].name, (char[]){ "1" } };
        struct pool_worker_spawn_request request = { .n_env = 1, .env = &env };
        struct pool_error err = POOL_ERROR_INIT;
        assert_int_equal(command_check_allowed(&backend, &request, &err), cases[i].code);
        char field[64] = "";
        if (cases[i].code != POOL_OK)
            snprintf(field, sizeof field, "env.%s", cases[i].name);
        assert_string_equal(err.field, field);
    }
}

/* ---- environments ---- */

/* The only value of a name; the test fails when it stands there more than once. */
static const char *value_of(const struct string_list *environment, const char *name)
{
    const char *value = NULL;
    size_t n = strlen(name);
    for (size_t i = 0; i < environment->n; i++) {
        if (strncmp(environment->at[i], name, n) != 0 || environment->at[i][n] != '=')
            continue;
        assert_null(value);
        value = environment->at[i] + n + 1;
    }
    return value;
}

static void test_what_is_inherited(void **state)
{
    (void)state;
    static const struct {
        const char *entry;
        bool is_inherited;
    } cases[] = {
        { "PATH=/bin", true },
        { "HOME=/home/x", true },
        { "USER=x", true },
        { "LANG=C.UTF-8", true },
        { "LC_ALL=C", true },
        { "LC_CTYPE=de", true },
        { "TZ=UTC", true },
        { "TMPDIR=/t", true },
        { "NVIDIA_DRIVER_CAPABILITIES=all", true },
        { "CUDA_CACHE_PATH=/c", true },
        { "PATHX=1", false },
        { "XPATH=1", false },
        { "LC=1", false },
        { "LCX=1", false },
        { "CUDA=1", false },
        { "LD_PRELOAD=/x.so", false },
        { "LD_LIBRARY_PATH=/x", false },
        { "LLAMA_ARG_TOOLS=all", false },
        { "HF_TOKEN=secret", false },
        { "HUGGING_FACE_HUB_TOKEN=s", false },
        { "POOL_TOKEN=secret", false },
        { "POOL_SPAWN_TOKEN=s", false },
        { "OPENAI_API_KEY=s", false },
        { "AWS_SECRET_ACCESS_KEY=s", false },
        { "SSH_AUTH_SOCK=/s", false },
        { "POOL_STATE_ID=other", false },
        { "TZ", false },
        { "=x", false },
        { "", false },
    };
    const struct pool_backend backend = { .name = (char[]){ "b" } };
    const struct pool_worker_spawn_request request = { 0 };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *const inherited[] = { cases[i].entry, NULL };
        CLEANUP(string_list_done) struct string_list environment = { 0 };
        assert_int_equal(environment_build(inherited, &backend, &request, &values, &environment, NULL),
                         POOL_OK);
        bool is_there = false;
        for (size_t k = 0; k < environment.n; k++)
            is_there = is_there || strcmp(environment.at[k], cases[i].entry) == 0;
        assert_int_equal(is_there, cases[i].is_inherited);
        assert_int_equal(environment.n, 3 + cases[i].is_inherited);
    }
}

static void test_who_wins(void **state)
{
    (void)state;
    static const char *const inherited[] = { "LANG=inherited", "TZ=inherited", "HOME=inherited", NULL };
    struct pool_env_var backend_env[] = { { (char[]){ "LANG" }, (char[]){ "backend {port}" } },
                                          { (char[]){ "TZ" }, (char[]){ "backend" } } };
    struct pool_env_var request_env[] = { { (char[]){ "TZ" }, (char[]){ "request {port}" } },
                                          { (char[]){ "EMPTY" }, (char[]){ "" } } };
    const struct pool_backend backend = { .name = (char[]){ "b" }, .n_env = 2, .env = backend_env };
    const struct pool_worker_spawn_request request = { .n_env = 2, .env = request_env };
    CLEANUP(string_list_done) struct string_list environment = { 0 };
    assert_int_equal(environment_build(inherited, &backend, &request, &values, &environment, NULL), POOL_OK);
    assert_string_equal(value_of(&environment, "HOME"), "inherited");
    assert_string_equal(value_of(&environment, "LANG"), "backend 8001");
    assert_string_equal(value_of(&environment, "TZ"), "request {port}"); /* a request has no placeholders */
    assert_string_equal(value_of(&environment, "EMPTY"), "");
}

/* Whatever is inherited, configured or asked for: the device and the worker's own id are ours to say. */
static void test_what_nobody_overrides(void **state)
{
    (void)state;
    static const char *const inherited[] = { "CUDA_VISIBLE_DEVICES=0,1", "CUDA_DEVICE_ORDER=FASTEST_FIRST",
                                             "CUDA_VISIBLE_DEVICES=1", NULL };
    static const char *const names[] = { "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "POOL_WORKER_ID" };
    for (size_t i = 0; i < 3; i++) {
        struct pool_env_var env = { (char *)(uintptr_t)names[i], (char[]){ "mine" } };
        const struct pool_backend backend = { .name = (char[]){ "b" }, .n_env = 1, .env = &env };
        const struct pool_worker_spawn_request request = { .n_env = 1, .env = &env };
        CLEANUP(string_list_done) struct string_list environment = { 0 };
        assert_int_equal(environment_build(inherited, &backend, &request, &values, &environment, NULL),
                         POOL_OK);
        assert_string_equal(value_of(&environment, "CUDA_VISIBLE_DEVICES"), UUID);
        assert_string_equal(value_of(&environment, "CUDA_DEVICE_ORDER"), "PCI_BUS_ID");
        assert_string_equal(value_of(&environment, "POOL_WORKER_ID"), "w-1");
    }
}

static void test_a_worker_without_a_gpu_sees_none(void **state)
{
    (void)state;
    static const char *const inherited[] = { "CUDA_VISIBLE_DEVICES=0", NULL };
    const struct pool_backend backend = { .name = (char[]){ "b" } };
    const struct pool_worker_spawn_request request = { 0 };
    struct command_values cpu = values;
    cpu.gpu_uuid = "";
    CLEANUP(string_list_done) struct string_list environment = { 0 };
    assert_int_equal(environment_build(inherited, &backend, &request, &cpu, &environment, NULL), POOL_OK);
    assert_string_equal(value_of(&environment, "CUDA_VISIBLE_DEVICES"), "");
    cpu.is_every_device_visible = true; /* a check of what an engine can see */
    CLEANUP(string_list_done) struct string_list all = { 0 };
    assert_int_equal(environment_build(inherited, &backend, &request, &cpu, &all, NULL), POOL_OK);
    assert_string_equal(value_of(&all, "CUDA_VISIBLE_DEVICES"), "0");
}

static void test_setting_a_variable(void **state)
{
    (void)state;
    CLEANUP(string_list_done) struct string_list environment = { 0 };
    assert_true(environment_set(&environment, "A", "1"));
    assert_true(environment_set(&environment, "AB", "2"));
    assert_true(environment_set(&environment, "A", "3=4"));
    assert_int_equal(environment.n, 2);
    assert_string_equal(environment.at[0], "A=3=4");
    assert_string_equal(environment.at[1], "AB=2");
    assert_string_equal(environment_get((const char *const *)environment.at, "AB"), "2");
    assert_null(environment_get((const char *const *)environment.at, "B"));
    assert_null(environment_get(NULL, "B"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expansion),
        cmocka_unit_test(test_values_are_not_expanded_again),
        cmocka_unit_test(test_numbers_to_their_ends),
        cmocka_unit_test(test_command_line),
        cmocka_unit_test(test_faults_of_templates_are_named),
        cmocka_unit_test(test_an_argument_has_a_limit),
        cmocka_unit_test(test_allowed_arguments),
        cmocka_unit_test(test_allowed_variables),
        cmocka_unit_test(test_what_is_inherited),
        cmocka_unit_test(test_who_wins),
        cmocka_unit_test(test_what_nobody_overrides),
        cmocka_unit_test(test_a_worker_without_a_gpu_sees_none),
        cmocka_unit_test(test_setting_a_variable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
