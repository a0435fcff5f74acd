/*
 * The log: lines that are JSON whatever was put into them, levels, causes, and readers that do not read.
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

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "managerd/log.h"
#include "managerd/log_sink.h"

#define READ_MAX (1 << 17)

static int saved_stderr = -1;
static int ends[2]; /* of a pipe; standard error is the second */
static char text[READ_MAX + 1];

static void begin(const char *level, const char *const *environment)
{
    fflush(stderr);
    saved_stderr = dup(STDERR_FILENO);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    log_open(level, environment);
}

/* What is in the pipe. */
static const char *read_all(void)
{
    size_t n = 0;
    for (ssize_t got; n < READ_MAX && (got = read(ends[0], text + n, READ_MAX - n)) > 0;)
        n += (size_t)got;
    text[n] = '\0';
    return text;
}

static int end(void **state)
{
    (void)state;
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(ends[0]);
    close(ends[1]);
    return 0;
}

/* Exactly one line, as an object. */
static json_t *read_line(void)
{
    const char *line = read_all();
    size_t n = strlen(line);
    assert_true(n > 0 && n <= LOG_LINE_MAX && line[n - 1] == '\n' && strchr(line, '\n') == line + n - 1);
    json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
    if (!object)
        fail_msg("no JSON: %s", line);
    return object;
}

static const char *member(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

static void test_a_line(void **state)
{
    (void)state;
    begin("info", NULL);
    struct log_fields fields = { .correlation_id = "c-1",
                                 .worker_id = "w",
                                 .caller = "ci",
                                 .peer = "127.0.0.1:1",
                                 .method = "POST",
                                 .route = "/v2/workers/start",
                                 .code = "OK",
                                 .reason = "requested",
                                 .pid = 17,
                                 .port = 8001,
                                 .http_status = 202,
                                 .duration_us = INT64_MAX };
    log_tell(LOG_HTTP_CHANGED, &fields, "%s %d", "POST", 202);
    json_t *line = read_line();
    assert_string_equal(member(line, "level"), "info");
    assert_string_equal(member(line, "event"), "http.changed");
    assert_string_equal(member(line, "message"), "POST 202");
    assert_string_equal(member(line, "correlation_id"), "c-1");
    assert_string_equal(member(line, "reason"), "requested");
    assert_int_equal(json_integer_value(json_object_get(line, "duration_us")), INT64_MAX);
    assert_int_equal(json_object_size(line), 4 + 8 + 4);
    const char *time = member(line, "time");
    assert_int_equal(strlen(time), 24);
    assert_true(time[10] == 'T' && time[23] == 'Z');
    json_decref(line);
    log_tell(LOG_STARTED, NULL, "x");
    line = read_line();
    assert_int_equal(json_object_size(line), 4);
    json_decref(line);
}

static void test_levels(void **state)
{
    (void)state;
    static const char *const levels[] = { "error", "warning", "info", "debug" };
    static const enum log_event events[] = { LOG_CONFIG_ERROR, LOG_CONFIG_WARNING, LOG_STARTED, LOG_REAPED };
    begin("error", NULL);
    for (size_t level = 0; level < 4; level++) {
        log_open(levels[level], NULL);
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(log_has((enum log_level)i), i <= level);
            log_tell(events[i], NULL, "x");
            if (i <= level)
                json_decref(read_line());
            else
                assert_string_equal(read_all(), "");
        }
    }
    log_open("info", NULL);
}

static void test_everything_for_a_while(void **state)
{
    (void)state;
    begin("warning", NULL);
    for (int i = 0; i < 2; i++) {
        static const char *const levels[] = { "debug", "warning" };
        for (int is_back = 0; is_back < 2; is_back++) {
            log_toggle_debug();
            json_t *line = read_line();
            assert_string_equal(member(line, "event"), "log.level");
            assert_string_equal(member(line, "message"), levels[is_back]);
            json_decref(line);
            log_tell(LOG_REAPED, NULL, "x");
            if (is_back)
                assert_string_equal(read_all(), "");
            else
                json_decref(read_line());
        }
    }
    log_open("info", NULL);
}

static void test_whatever_is_put_in(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        { "a\nb\tc", "a b c" },
        { "\033[31mred\a", "?[31mred?" },
        { "\302\205next\302\240", "?next\302\240" }, /* NEL is a C1 control, a no-break space is not */
        { "\377\300\200\355\240\200", "??????" },    /* no UTF-8, overlong, a surrogate */
        { "\303\244\342\202\254\360\237\230\200", "\303\244\342\202\254\360\237\230\200" },
        { "\"\\/", "\"\\/" },
        { "\303", "?" },
        { "\177", "?" },
    };
    begin("info", NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct log_fields fields = { .reason = cases[i].in };
        log_tell(LOG_STARTED, &fields, "%s", cases[i].in);
        json_t *line = read_line();
        assert_string_equal(member(line, "message"), cases[i].out);
        assert_string_equal(member(line, "reason"), cases[i].out);
        json_decref(line);
    }
}

/* All of it as long as can be, and every character doubled by escaping: still one line, whole characters, no loss. */
static void test_limits(void **state)
{
    (void)state;
    static char quotes[4096], euros[4096];
    memset(quotes, '"', sizeof quotes - 1);
    for (size_t i = 0; i + 3 < sizeof euros; i += 3)
        memcpy(euros + i, "\342\202\254", 3);
    begin("info", NULL);
    for (int i = 0; i < 2; i++) {
        const char *long_text = i == 0 ? quotes : euros;
        struct log_fields fields = { .correlation_id = long_text,
                                     .worker_id = long_text,
                                     .caller = long_text,
                                     .peer = long_text,
                                     .method = long_text,
                                     .route = long_text,
                                     .code = long_text,
                                     .reason = long_text,
                                     .pid = INT64_MIN,
                                     .port = INT64_MIN,
                                     .http_status = INT64_MIN,
                                     .duration_us = INT64_MIN };
        log_tell(LOG_CONFIG_WARNING, &fields, "%s", long_text);
        json_t *line = read_line();
        size_t n = strlen(member(line, "message"));
        assert_true(n > LOG_MESSAGE_MAX - 5 && n < LOG_MESSAGE_MAX);
        assert_true(strlen(member(line, "reason")) > LOG_TEXT_MAX - 5);
        json_decref(line);
    }
}

static void test_causes(void **state)
{
    (void)state;
    begin("info", NULL);
    {
        CLEANUP(log_leave_cause) __attribute__((unused)) struct log_cause before = log_enter_cause("outer");
        {
            CLEANUP(log_leave_cause)
            __attribute__((unused)) struct log_cause inner = log_enter_cause("inner");
            assert_string_equal(log_cause().id, "inner");
            log_tell(LOG_STARTED, NULL, "x");
            json_t *line = read_line();
            assert_string_equal(member(line, "correlation_id"), "inner");
            json_decref(line);
        }
        log_tell(LOG_STARTED, &(struct log_fields){ .correlation_id = "its own" }, "x");
        json_t *line = read_line();
        assert_string_equal(member(line, "correlation_id"), "its own");
        json_decref(line);
        log_tell(LOG_STARTED, &(struct log_fields){ .worker_id = "w" }, "x");
        line = read_line();
        assert_string_equal(member(line, "correlation_id"), "outer");
        json_decref(line);
    }
    assert_string_equal(log_cause().id, "");
}

/* Fills the pipe until it takes no more; alarm() of the test program's timeout would say that somebody waited. */
static void test_nobody_reads(void **state)
{
    (void)state;
    static const char block[LOG_LINE_MAX];
    begin("info", NULL);
    log_tell(LOG_STARTED, NULL, "first");
    json_decref(read_line());
    int writer = dup(ends[1]);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", writer);
    int filler =
        open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC); /* an open file of its own: the flag stays here */
    assert_true(filler >= 0);
    while (write(filler, block, sizeof block) > 0)
        ;
    assert_int_equal(errno, EAGAIN);
    close(filler);
    close(writer);
    for (int i = 0; i < 7; i++)
        log_tell(LOG_STARTED, NULL, "lost");
    read_all();
    log_tell(LOG_STOPPED, NULL, "here again");
    const char *lines = read_all();
    assert_null(strstr(lines, "lost\""));
    const char *dropped = strstr(lines, "\"log.dropped\"");
    assert_non_null(dropped);
    assert_non_null(strstr(dropped, "7 lines"));
    assert_true(strstr(lines, "here again") > dropped);
}

/* It said where standard error leads when the unit was started; somebody has led it elsewhere since. */
static void test_a_journal_that_is_none(void **state)
{
    (void)state;
    static const char *const wrong[] = { "JOURNAL_STREAM=1:1",  "JOURNAL_STREAM=",  "JOURNAL_STREAM=x",
                                         "JOURNAL_STREAM=1",    "JOURNAL_STREAM=:", "JOURNAL_STREAM=1:1:1",
                                         "JOURNAL_STREAM=-1:-1" };
    begin("info", NULL);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const char *const environment[] = { wrong[i], NULL };
        log_open("info", environment);
        assert_int_equal(log_sink_form(), LOG_FORM_JSON);
        log_tell(LOG_STARTED, NULL, "x");
        json_decref(read_line());
    }
}

static void test_names(void **state)
{
    (void)state;
#define CHECK_NAME(name, event, level, about)               \
    assert_string_equal(log_event_name(LOG_##name), event); \
    assert_non_null(strchr(event, '.'));
    LOG_EVENTS(CHECK_NAME)
#undef CHECK_NAME
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_a_line, end),
        cmocka_unit_test_teardown(test_levels, end),
        cmocka_unit_test_teardown(test_everything_for_a_while, end),
        cmocka_unit_test_teardown(test_whatever_is_put_in, end),
        cmocka_unit_test_teardown(test_limits, end),
        cmocka_unit_test_teardown(test_causes, end),
        cmocka_unit_test_teardown(test_nobody_reads, end),
        cmocka_unit_test_teardown(test_a_journal_that_is_none, end),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
