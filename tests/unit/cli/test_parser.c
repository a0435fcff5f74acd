/*
 * Command lines: what is understood, what is refused and with what suggestion.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cli/parser.h"
#include "cli/worker_spawn_request.h"

#define WORDS_MAX 16

/* Takes words up to NULL behind the program's name. */
static enum pool_code parse(const char *const *words, struct cli_globals *globals,
                            struct parsed_line *ret_line, struct pool_error *err)
{
    const char *argv[WORDS_MAX + 1] = { "rbees-pool" };
    int argc = 1;
    while (words[argc - 1]) {
        argv[argc] = words[argc - 1];
        argc++;
    }
    *globals = (struct cli_globals){ 0 };
    *ret_line = (struct parsed_line){ 0 };
    return parse_line(argc, argv, globals, ret_line, err);
}

static void test_all_of_spawn(void **state)
{
    (void)state;
    static const char *const words[] = { "--json", "worker", "-v",   "spawn", "cpu", "--model=m",
                                         "-g0",    "--port", "8010", "-l",    "a=b", "--label=c=",
                                         "-wn",    "--vram", "2GiB", NULL };
    struct cli_globals globals;
    struct parsed_line line;
    struct pool_error error = POOL_ERROR_INIT;
    assert_int_equal(parse(words, &globals, &line, &error), POOL_OK);
    assert_string_equal(line.command->path, "worker spawn");
    assert_true(globals.is_json && globals.is_verbose && !globals.is_local);
    const struct worker_spawn_arguments *arguments = line.arguments;
    assert_string_equal(arguments->backend, "cpu");
    assert_string_equal(arguments->model, "m");
    assert_string_equal(arguments->gpu, "0");
    assert_int_equal(arguments->port.value, 8010);
    assert_true(arguments->vram_bytes.is_present);
    assert_int_equal(arguments->vram_bytes.value, INT64_C(2) << 30);
    assert_int_equal(arguments->labels.n, 2);
    assert_string_equal(arguments->labels.at[1], "c=");
    assert_true(arguments->wait && arguments->is_dry_run);
    assert_false(arguments->grace_ms.is_present);
    parsed_line_done(&line);
}

static void test_what_stands_behind_two_dashes(void **state)
{
    (void)state;
    static const char *const words[] = { "worker",  "spawn", "cpu",    "-m", "m", "--arg",
                                         "--first", "--",    "--json", "--", "x", NULL };
    struct cli_globals globals;
    struct parsed_line line;
    struct pool_error error = POOL_ERROR_INIT;
    assert_int_equal(parse(words, &globals, &line, &error), POOL_OK);
    const struct worker_spawn_arguments *arguments = line.arguments;
    assert_false(globals.is_json);
    assert_int_equal(arguments->extra_args.n, 4);
    assert_string_equal(arguments->extra_args.at[0], "--first");
    assert_string_equal(arguments->extra_args.at[1], "--json");
    assert_string_equal(arguments->extra_args.at[2], "--");
    assert_string_equal(arguments->extra_args.at[3], "x");
    parsed_line_done(&line);
}

static void test_two_dashes_only_end_options_elsewhere(void **state)
{
    (void)state;
    static const char *const words[] = { "worker", "show", "--", "--json", NULL };
    struct cli_globals globals;
    struct parsed_line line;
    struct pool_error error = POOL_ERROR_INIT;
    assert_int_equal(parse(words, &globals, &line, &error), POOL_OK);
    const char *const *worker_id = line.arguments; /* its only argument */
    assert_string_equal(*worker_id, "--json");
    assert_false(globals.is_json);
    parsed_line_done(&line);
}

static void test_help_needs_nothing_else(void **state)
{
    (void)state;
    static const char *const of_command[] = { "worker", "spawn", "--help", NULL };
    static const char *const of_group[] = { "worker", "-h", NULL };
    struct cli_globals globals;
    struct parsed_line line;
    struct pool_error error = POOL_ERROR_INIT;
    assert_int_equal(parse(of_command, &globals, &line, &error), POOL_OK);
    assert_true(globals.wants_help);
    assert_string_equal(line.command->path, "worker spawn");
    parsed_line_done(&line);
    assert_int_equal(parse(of_group, &globals, &line, &error), POOL_OK);
    assert_null(line.command);
    assert_string_equal(line.group, "worker");
    parsed_line_done(&line);
}

struct refusal {
    const char *words[WORDS_MAX];
    const char *field;    /* of the error */
    const char *mentions; /* the suggestion is a fact, not a wording */
    const char *about;    /* the command or group that help is offered for; NULL: none */
};

static const struct refusal refusals[] = {
    { { NULL }, "", "", NULL },
    { { "worker", NULL }, "", "", "worker" },
    { { "wrker", NULL }, "", "'worker'", NULL },
    { { "worker", "spwan", NULL }, "", "'worker spawn'", "worker" },
    { { "worker", "zzzzzz", NULL }, "", "'worker zzzzzz'", "worker" },
    { { "", NULL }, "", "", NULL },
    { { "worker", "", NULL }, "", "", "worker" },
    { { "--jsno", "status", NULL }, "jsno", "--json", NULL },
    { { "--model", "m", "worker", "spawn", NULL }, "model", "", NULL },
    { { "worker", "spawn", "cpu", "--modle", "m", NULL }, "modle", "--model", "worker spawn" },
    { { "worker", "spawn", "cpu", "--zzzzzzzz", NULL }, "zzzzzzzz", "worker spawn", "worker spawn" },
    { { "worker", "spawn", "cpu", NULL }, "model", "--model", "worker spawn" },
    { { "worker", "spawn", "-mm", NULL }, "BACKEND", "", "worker spawn" },
    { { "worker", "spawn", "cpu", "--model", NULL }, "model", "", "worker spawn" },
    { { "worker", "spawn", "cpu", "-m", NULL }, "model", "", "worker spawn" },
    { { "worker", "spawn", "cpu", "-mm", "--wait=yes", NULL }, "wait", "", "worker spawn" },
    { { "worker", "spawn", "cpu", "-mm", "--port", "65536", NULL }, "port", "65535", "worker spawn" },
    { { "worker", "spawn", "cpu", "-mm", "--port", "-1", NULL }, "port", "", "worker spawn" },
    { { "worker", "spawn", "cpu", "-mm", "--port", "80x", NULL }, "port", "80x", "worker spawn" },
    { { "worker", "spawn", "cpu", "-mm", "--port=", NULL }, "port", "", "worker spawn" },
    { { "worker", "spawn", "cpu", "-mm", "--vram", "2XB", NULL }, "vram", "2XB", "worker spawn" },
    { { "worker", "spawn", "cpu", "-mm", "--start-timeout", "0", NULL },
      "start-timeout",
      "",
      "worker spawn" },
    { { "worker", "spawn", "cpu", "-mm", "-wz", NULL }, "", "-z", "worker spawn" },
    { { "worker", "show", "a", "b", NULL }, "", "'b'", "worker show" },
    { { "worker", "show", NULL }, "ID", "ID", "worker show" },
    { { "status", "x", NULL }, "", "", "status" },
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const struct refusal *refusal = &refusals[i];
        struct cli_globals globals;
        struct parsed_line line;
        struct pool_error error = POOL_ERROR_INIT;
        enum pool_code code = parse(refusal->words, &globals, &line, &error);
        if (code == POOL_INSUFFICIENT_MEMORY)
            fail_msg("no memory");
        const char *about = line.command ? line.command->path : line.group;
        if (code != POOL_INVALID_REQUEST || strcmp(error.field, refusal->field) != 0 ||
            !strstr(error.message, refusal->mentions))
            fail_msg("case %zu: %s, field '%s', '%s'", i, pool_code_name(code), error.field, error.message);
        if (!about != !refusal->about || (about && strcmp(about, refusal->about) != 0))
            fail_msg("case %zu: help for %s", i, about ? about : "nothing");
        assert_null(line.arguments);
    }
}

static void test_globals_are_read_before_an_error(void **state)
{
    (void)state;
    static const char *const words[] = { "--json", "nothing", NULL };
    struct cli_globals globals;
    struct parsed_line line;
    struct pool_error error = POOL_ERROR_INIT;
    assert_int_equal(parse(words, &globals, &line, &error), POOL_INVALID_REQUEST);
    assert_true(globals.is_json);
}

static void test_requests(void **state)
{
    (void)state;
    const char *env[] = { "A=1", "B=x=y" };
    const char *labels[] = { "team=search" };
    struct worker_spawn_arguments arguments = { .backend = "cpu",
                                                .model = "m",
                                                .env = { 2, env },
                                                .labels = { 1, labels },
                                                .grace_ms = { true, 0 },
                                                .wait = true };
    struct pool_error error = POOL_ERROR_INIT;
    struct pool_worker_spawn_request *request = NULL;
    assert_int_equal(make_spawn_request(&arguments, &request, &error), POOL_OK);
    assert_string_equal(request->backend, "cpu");
    assert_null(request->gpu_id);
    assert_int_equal(request->n_env, 2);
    assert_string_equal(request->env[1].name, "B");
    assert_string_equal(request->env[1].value, "x=y");
    assert_string_equal(request->labels[0].value, "search");
    assert_true(request->stop_grace_ms.is_present && request->wait);
    assert_false(request->start_timeout_ms.is_present || request->required_vram_bytes.is_present);
    pool_worker_spawn_request_free(request);

    static const char *const bad[] = { "A", "=1", "" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        labels[0] = bad[i];
        assert_int_equal(make_spawn_request(&arguments, &request, &error), POOL_INVALID_REQUEST);
        assert_string_equal(error.field, "label");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_of_spawn),
        cmocka_unit_test(test_what_stands_behind_two_dashes),
        cmocka_unit_test(test_two_dashes_only_end_options_elsewhere),
        cmocka_unit_test(test_help_needs_nothing_else),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_globals_are_read_before_an_error),
        cmocka_unit_test(test_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
