/*
 * Server-sent events from bytes: the examples of the HTML standard, ends of lines of every kind, pieces of every size, and
 * the limits.
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

#include "cli/event_stream.h"

struct heard {
    char text[512]; /* "id|type|data;" of each message */
    int n_left;     /* messages that are still wanted; -1: all */
};

static bool hear(const struct event_message *message, void *context)
{
    struct heard *heard = context;
    size_t n = strlen(heard->text);
    snprintf(heard->text + n, sizeof heard->text - n, "%s|%s|%s;", message->id, message->type, message->data);
    if (heard->n_left > 0)
        heard->n_left--;
    return heard->n_left != 0;
}

static void check(const char *bytes, size_t n, const char *expected)
{
    for (size_t piece = 1; piece <= n; piece++) {
        struct heard heard = { .n_left = -1 };
        struct event_stream stream;
        event_stream_init(&stream, hear, &heard);
        for (size_t i = 0; i < n; i += piece)
            assert_true(event_stream_feed(&stream, bytes + i, n - i < piece ? n - i : piece));
        event_stream_done(&stream);
        assert_string_equal(heard.text, expected);
    }
}

#define CHECK(bytes, expected) check(bytes, sizeof(bytes) - 1, expected)

static void test_messages(void **state)
{
    (void)state;
    CHECK("data: a\n\n", "|message|a;");
    CHECK("id: e-1\nevent: worker.ready\ndata: {}\n\n", "e-1|worker.ready|{};");
    CHECK(": a comment\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
          "1|message|first event;|message|second event;|message| third event;");
    CHECK("data\n\ndata\ndata\n\ndata:", "|message|;|message|\n;");
    CHECK("data: YHOO\ndata: +2\ndata: 10\n\n", "|message|YHOO\n+2\n10;");
    CHECK("data: a\r\n\r\ndata: b\r\rdata: c\n\n", "|message|a;|message|b;|message|c;");
    CHECK("\xef\xbb\xbf"
          "data: a\n\n\xef\xbb\xbf"
          "data: b\n\n",
          "|message|a;");
    CHECK("event: x\n\ndata: a\n\n", "|message|a;"); /* without data there is nothing to tell */
    CHECK("id: 7\n\ndata: a\n\n", "7|message|a;");
    CHECK("nonsense: x\nretry: 5\nDATA: x\ndata : x\n\n", "");
    CHECK("data: not ended\n", "");
}

static void test_limits(void **state)
{
    (void)state;
    struct heard heard = { .n_left = -1 };
    struct event_stream stream;
    event_stream_init(&stream, hear, &heard);
    char *line = malloc(EVENT_LINE_MAX + 2);
    assert_non_null(line);
    memset(line, 'x', EVENT_LINE_MAX + 1);
    line[0] = ':';
    assert_true(event_stream_feed(&stream, line, EVENT_LINE_MAX));
    assert_true(event_stream_feed(&stream, "\ndata: a\n\n", 10));
    assert_string_equal(heard.text, "|message|a;");
    assert_true(event_stream_feed(&stream, line, EVENT_LINE_MAX));
    assert_false(event_stream_feed(&stream, "x", 1));
    assert_int_equal(stream.line.failure, STRBUF_FULL);
    event_stream_reset(&stream);
    char id[EVENT_LAST_ID_MAX + 8] = "id: ";
    memset(id + 4, 'i', EVENT_LAST_ID_MAX - 1);
    assert_true(event_stream_feed(&stream, id, 4 + EVENT_LAST_ID_MAX - 1));
    assert_true(event_stream_feed(&stream, "\nid: ", 5));
    memset(id, 'j', EVENT_LAST_ID_MAX);
    assert_true(event_stream_feed(&stream, id, EVENT_LAST_ID_MAX)); /* one too long is not remembered */
    assert_true(event_stream_feed(&stream, "\n", 1));
    assert_int_equal(strlen(stream.last_id), EVENT_LAST_ID_MAX - 1);
    assert_int_equal(stream.last_id[0], 'i');
    event_stream_done(&stream);
    free(line);
}

static void test_enough(void **state)
{
    (void)state;
    struct heard heard = { .n_left = 2 };
    struct event_stream stream;
    static const char bytes[] = "id: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\ndata: c\n\n";
    event_stream_init(&stream, hear, &heard);
    assert_false(event_stream_feed(&stream, bytes, sizeof bytes - 1));
    assert_true(stream.is_ended);
    assert_string_equal(heard.text, "1|message|a;2|message|b;");
    assert_string_equal(stream.last_id, "2"); /* what was not told is not behind us */
    event_stream_reset(&stream);
    assert_string_equal(stream.last_id, "2");
    event_stream_done(&stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
