/*
 * Running other programs: outputs, ends, what is not there, what hangs, and that nothing of ours leaks into it.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/child_process.h"

static const char *const environment[] = { "PATH=/usr/bin:/bin", "COLOUR=blue", NULL };

static enum pool_code run(const char *program, const char *script, int64_t timeout_ms,
                          struct child_result *result)
{
    const char *argv[] = { program, "-c", script, NULL };
    struct child_options options = {
        .program = program, .argv = argv, .environment = environment, .timeout_ms = timeout_ms
    };
    return child_run(&options, result, NULL);
}

static void test_outputs(void **state)
{
    (void)state;
    struct child_result result = CHILD_RESULT_INIT;
    assert_int_equal(run("sh", "echo out $COLOUR; echo err >&2; exit 3", 0, &result), POOL_OK);
    assert_string_equal(strbuf_text(&result.out), "out blue\n");
    assert_string_equal(strbuf_text(&result.err), "err\n");
    assert_false(result.is_signal);
    assert_int_equal(result.value, 3);
    child_result_done(&result);

    struct child_result killed = CHILD_RESULT_INIT;
    assert_int_equal(run("sh", "kill -TERM $$", 0, &killed), POOL_OK);
    assert_true(killed.is_signal);
    assert_int_equal(killed.value, SIGTERM);
    child_result_done(&killed);
}

static void test_much_output(void **state)
{
    (void)state;
    struct child_result result = CHILD_RESULT_INIT;
    assert_int_equal(run("sh",
                         "head -c 1000000 /dev/zero | tr '\\0' x; head -c 1000000 /dev/zero | tr '\\0' y >&2",
                         0, &result),
                     POOL_OK);
    assert_int_equal(result.out.n, 1000000);
    assert_int_equal(result.err.n, 1000000);
    child_result_done(&result);

    struct child_result more = CHILD_RESULT_INIT;
    assert_int_equal(run("sh", "head -c 17000000 /dev/zero | tr '\\0' x", 0, &more), POOL_OK);
    assert_int_equal(more.out.failure, STRBUF_FULL);
    assert_int_equal(more.value, 0);
    child_result_done(&more);
}

static void test_what_is_not_there(void **state)
{
    (void)state;
    struct child_result result = CHILD_RESULT_INIT;
    assert_int_equal(run("no-such-program-of-ours", "", 0, &result), POOL_NOT_FOUND);
    assert_int_equal(run("/etc/passwd", "", 0, &result), POOL_PERMISSION_DENIED);
    child_result_done(&result);
}

/* It is killed when its time is over; a grandchild that holds the pipe is not waited for. */
static void test_what_hangs(void **state)
{
    (void)state;
    struct child_result result = CHILD_RESULT_INIT;
    assert_int_equal(run("sh", "trap '' TERM; echo begun; exec sleep 1000", 200, &result),
                     POOL_DEADLINE_EXCEEDED);
    child_result_done(&result);

    struct child_result left = CHILD_RESULT_INIT;
    assert_int_equal(run("sh", "sleep 60 & echo $!", 0, &left), POOL_OK);
    assert_true(left.out.n > 0);
    char script[64];
    snprintf(script, sizeof script, "kill %.20s", strbuf_text(&left.out));
    struct child_result ended = CHILD_RESULT_INIT;
    assert_int_equal(run("sh", script, 0, &ended), POOL_OK);
    child_result_done(&ended);
    child_result_done(&left);
}

static void test_what_it_gets(void **state)
{
    (void)state;
    struct child_result result = CHILD_RESULT_INIT;
    int inherited = dup(STDERR_FILENO); /* not close-on-exec */
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(run("sh", "ls /proc/self/fd | wc -l; readlink /proc/$$/fd/0; kill -PIPE $$", 0, &result),
                     POOL_OK);
    close(inherited);
    /* 0, 1, 2 and the folder that ls reads */
    assert_string_equal(strbuf_text(&result.out), "4\n/dev/null\n");
    assert_true(result.is_signal); /* not ignored, as it is by us */
    assert_int_equal(result.value, SIGPIPE);
    child_result_done(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outputs),           cmocka_unit_test(test_much_output),
        cmocka_unit_test(test_what_is_not_there), cmocka_unit_test(test_what_hangs),
        cmocka_unit_test(test_what_it_gets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
