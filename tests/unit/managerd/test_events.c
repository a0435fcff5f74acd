/*
 * The event log: what is kept, what can be resumed, who is told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "managerd/events.h"

struct seen {
    size_t n;
    uint64_t first, last;
    struct event_log *log;
    struct event_reader *reader; /* to be unsubscribed at the first event; NULL: none */
};

static void see(const struct event *event, void *context)
{
    struct seen *seen = context;
    if (seen->n++ == 0)
        seen->first = event->revision;
    seen->last = event->revision;
    if (seen->reader) {
        event_log_unsubscribe(seen->log, seen->reader);
        seen->reader = NULL;
    }
}

static struct event_log *open_log(void)
{
    struct event_log *log = NULL;
    assert_int_equal(event_log_open("0badcafe", &log, NULL), POOL_OK);
    return log;
}

static void publish(struct event_log *log, size_t n, size_t n_bytes)
{
    for (size_t i = 0; i < n; i++) {
        char *json = malloc(n_bytes + 1);
        assert_non_null(json);
        memset(json, ' ', n_bytes);
        memcpy(json, "{}", 2);
        json[n_bytes] = '\0';
        event_log_publish(log, "test", json);
    }
}

/* Whether it can be resumed there; *ret_seen: what is told then. */
static bool replay(const struct event_log *log, const char *last_id, struct seen *ret_seen)
{
    *ret_seen = (struct seen){ 0 };
    event_log_replay(log, last_id, see, ret_seen);
    return event_log_is_resumable(log, last_id);
}

static void test_what_is_behind_an_id_is_told(void **state)
{
    (void)state;
    struct event_log *log = open_log();
    struct seen seen;
    publish(log, 5, 2);
    assert_true(replay(log, "0badcafe-2", &seen));
    assert_int_equal(seen.n, 3);
    assert_int_equal(seen.first, 3);
    assert_int_equal(seen.last, 5);
    assert_true(replay(log, "0badcafe-0", &seen));
    assert_int_equal(seen.n, 5);
    assert_true(replay(log, "0badcafe-5", &seen));
    assert_int_equal(seen.n, 0);
    event_log_close(log);
}

static void test_behind_what_is_no_id_of_ours_is_all_that_is_kept(void **state)
{
    (void)state;
    static const char *const bad[] = { "",
                                       "0badcafe",
                                       "0badcafe-",
                                       "0badcafe-6",
                                       "0badcafe-x",
                                       "0badcafe--1",
                                       "0badcafe- 1",
                                       "0badcaff-1",
                                       "0badcafe-1 ",
                                       "0badcafe-18446744073709551616" };
    struct event_log *log = open_log();
    struct seen seen;
    publish(log, 5, 2);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (replay(log, bad[i], &seen))
            fail_msg("\"%s\" was taken", bad[i]);
        assert_int_equal(seen.n, 5);
    }
    event_log_close(log);
}

static void test_the_number_kept_is_bounded(void **state)
{
    (void)state;
    struct event_log *log = open_log();
    struct seen seen;
    publish(log, EVENTS_KEPT_MAX + 10, 2);
    assert_false(replay(log, "0badcafe-9", &seen));
    assert_int_equal(seen.n, EVENTS_KEPT_MAX);
    assert_true(replay(log, "0badcafe-10", &seen));
    assert_int_equal(seen.n, EVENTS_KEPT_MAX);
    event_log_close(log);
}

static void test_the_bytes_kept_are_bounded(void **state)
{
    (void)state;
    struct event_log *log = open_log();
    struct seen seen;
    publish(log, 5, EVENTS_KEPT_MAX_BYTES / 4);
    assert_false(replay(log, "0badcafe-0", &seen));
    assert_true(replay(log, "0badcafe-1", &seen));
    assert_int_equal(seen.n, 4);
    publish(log, 1, EVENTS_KEPT_MAX_BYTES + 1); /* larger than all: it is kept alone */
    assert_true(replay(log, "0badcafe-5", &seen));
    assert_int_equal(seen.n, 1);
    event_log_close(log);
}

/* Nobody may believe that nothing happened. */
static void test_an_event_that_is_lost_cannot_be_resumed_over(void **state)
{
    (void)state;
    struct event_log *log = open_log();
    struct seen seen;
    publish(log, 2, 2);
    event_log_publish(log, "test", NULL);
    publish(log, 1, 2);
    assert_int_equal(event_log_revision(log), 4);
    assert_false(replay(log, "0badcafe-2", &seen));
    assert_true(replay(log, "0badcafe-3", &seen));
    assert_int_equal(seen.n, 1);
    event_log_close(log);
}

static void test_readers_are_told_and_may_leave_meanwhile(void **state)
{
    (void)state;
    struct event_log *log = open_log();
    struct seen stays = { 0 }, leaves = { .log = log };
    struct event_reader *reader = NULL;
    assert_int_equal(event_log_subscribe(log, see, &stays, &reader, NULL), POOL_OK);
    assert_int_equal(event_log_subscribe(log, see, &leaves, &leaves.reader, NULL), POOL_OK);
    publish(log, 3, 2);
    assert_int_equal(stays.n, 3);
    assert_int_equal(leaves.n, 1);
    event_log_unsubscribe(log, reader);
    event_log_unsubscribe(log, NULL);
    publish(log, 1, 2);
    assert_int_equal(stays.n, 3);
    event_log_close(log);
    event_log_close(NULL);
}

static void test_ids_are_epoch_and_revision(void **state)
{
    (void)state;
    struct event_log *log = open_log();
    char id[EVENT_ID_MAX];
    event_log_format_id(log, UINT64_MAX, id);
    assert_string_equal(id, "0badcafe-18446744073709551615");
    event_log_close(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_behind_an_id_is_told),
        cmocka_unit_test(test_behind_what_is_no_id_of_ours_is_all_that_is_kept),
        cmocka_unit_test(test_the_number_kept_is_bounded),
        cmocka_unit_test(test_the_bytes_kept_are_bounded),
        cmocka_unit_test(test_an_event_that_is_lost_cannot_be_resumed_over),
        cmocka_unit_test(test_readers_are_told_and_may_leave_meanwhile),
        cmocka_unit_test(test_ids_are_epoch_and_revision),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
