/*
 * Answers that grow: what arrives, who is dropped, who is pinged.
 */
#include "http_ground.h"

struct expecting {
    struct client *client;
    const char *text;
};

static bool has_text(struct ground *ground, void *context)
{
    struct expecting *expecting = context;
    (void)ground;
    client_receive(expecting->client);
    return strstr(strbuf_text(&expecting->client->in), expecting->text) != NULL;
}

static void wait_text(struct ground *ground, struct client *client, const char *text)
{
    struct expecting expecting = { client, text };
    assert_true(run_until(ground, has_text, &expecting));
}

/* Opens a stream; its header is read. */
static void open_stream(struct ground *ground, struct client *client)
{
    size_t n = ground->n_held + 1;
    client_open(ground, client);
    client_get(ground, client, "/stream");
    wait_held(ground, n);
}

static void test_events_arrive_one_by_one(void **state)
{
    (void)state;
    struct ground ground;
    struct client client;
    struct answer answer = { 0 };
    ground_open(&ground);
    open_stream(&ground, &client);
    client_answer(&ground, &client, &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer_field(&answer, "Content-Type"), "text/event-stream");
    assert_string_equal(answer_field(&answer, "Transfer-Encoding"), "chunked");
    assert_string_not_equal(answer_field(&answer, "X-Correlation-Id"), "");
    /* Each is there before the next one is sent. */
    static const char *const events[] = { "data: one\n\n", "data: two\n\n", "data: three\n\n" };
    for (size_t i = 0; i < 3; i++) {
        assert_true(http_stream_send(ground.held[0], events[i], strlen(events[i])));
        wait_text(&ground, &client, events[i]);
    }
    assert_true(http_stream_send(ground.held[0], "end", 3));
    http_stream_end(take_held(&ground));
    wait_text(&ground, &client, "end\r\n0\r\n\r\n");
    /* The connection can be used again. */
    strbuf_reset(&client.in);
    client_get(&ground, &client, "/now");
    client_answer(&ground, &client, &answer);
    assert_int_equal(answer.status, 200);
    assert_int_equal(ground.n_gone, 0);
    assert_int_equal(http_server_n_requests(ground.server), 0);
    client_close(&client);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

static void test_large_streams_arrive_whole(void **state)
{
    (void)state;
    struct ground ground;
    struct client client;
    ground_open(&ground);
    client_open(&ground, &client);
    /* HTTP/1.0: no chunks, so that the bytes can be compared; the end is the end of the connection. */
    client_send(&ground, &client, "GET /stream HTTP/1.0\r\nHost: localhost\r\n\r\n");
    wait_held(&ground, 1);
    const size_t n = 900000;
    char *data = malloc(n);
    assert_non_null(data);
    for (size_t i = 0; i < n; i++)
        data[i] = (char)(i * 2654435761U >> 24);
    for (size_t i = 0; i < n; i += 90000)
        assert_true(http_stream_send(ground.held[0], data + i, 90000));
    http_stream_end(take_held(&ground));
    assert_true(run_until(&ground, is_client_closed, &client));
    assert_true(client.in.n > n);
    assert_memory_equal(client.in.data + client.in.n - n, data, n);
    free(data);
    client_close(&client);
    ground_close(&ground);
}

static void test_a_client_that_leaves(void **state)
{
    (void)state;
    struct ground ground;
    struct client client;
    ground_open(&ground);
    open_stream(&ground, &client);
    assert_true(http_stream_send(ground.held[0], "data: 1\n\n", 9));
    wait_text(&ground, &client, "data: 1");
    client_close(&client);
    wait_gone(&ground, 1);
    wait_connections(&ground, 0);
    assert_false(http_stream_send(ground.held[0], "data: 2\n\n", 9));
    http_stream_end(take_held(&ground));
    assert_int_equal(http_server_n_requests(ground.server), 0);
    ground_close(&ground);
}

static void test_slow_readers_are_dropped(void **state)
{
    (void)state;
    struct ground ground;
    struct http_server_options options;
    struct client slow, quick;
    ground_open_loop(&ground);
    ground_defaults(&ground, &options);
    options.stream_backlog_bytes = 64 << 10;
    ground_open_with(&ground, &options);
    open_stream(&ground, &slow);
    open_stream(&ground, &quick);
    static char event[16 << 10];
    memset(event, 'x', sizeof(event));
    /* One reads all, one nothing: what the kernel holds for it fills up, then the backlog. */
    size_t n_sent = 0;
    bool is_slow_there = true;
    while (is_slow_there && n_sent < (256U << 20)) {
        is_slow_there = http_stream_send(ground.held[0], event, sizeof(event));
        assert_true(http_stream_backlog_bytes(ground.held[0]) <= options.stream_backlog_bytes);
        assert_true(http_stream_send(ground.held[1], event, sizeof(event)));
        n_sent += sizeof(event);
        strbuf_reset(&quick.in);
        while (http_stream_backlog_bytes(ground.held[1]) > 0) {
            uv_run(&ground.loop, UV_RUN_NOWAIT);
            client_receive(&quick);
        }
    }
    assert_false(is_slow_there);
    wait_gone(&ground, 1);
    assert_true(http_request_is_gone(ground.held[0]));
    assert_false(http_request_is_gone(ground.held[1]));
    http_stream_end(take_held(&ground));
    strbuf_reset(&quick.in);
    assert_true(http_stream_send(ground.held[0], "still here", 10));
    wait_text(&ground, &quick, "still here");
    http_stream_end(take_held(&ground));
    client_close(&slow);
    client_close(&quick);
    ground_close(&ground);
}

static void test_pings(void **state)
{
    (void)state;
    struct ground ground;
    struct http_server_options options;
    struct client with, without;
    ground_open_loop(&ground);
    ground_defaults(&ground, &options);
    options.ping_interval_ms = 100;
    ground_open_with(&ground, &options);
    open_stream(&ground, &with);
    open_stream(&ground, &without);
    http_stream_ping(ground.held[0]);
    wait_text(&ground, &with, ": ping\n\n");
    strbuf_reset(&with.in);
    wait_text(&ground, &with, ": ping\n\n");
    client_receive(&without);
    assert_null(strstr(strbuf_text(&without.in), "ping"));
    http_stream_end(take_held(&ground));
    http_stream_end(take_held(&ground));
    client_close(&with);
    client_close(&without);
    ground_close(&ground);
}

static void test_too_many_streams(void **state)
{
    (void)state;
    struct ground ground;
    struct http_server_options options;
    struct client clients[3];
    struct answer answer = { 0 };
    ground_open_loop(&ground);
    ground_defaults(&ground, &options);
    options.max_streams = 2;
    ground_open_with(&ground, &options);
    open_stream(&ground, &clients[0]);
    open_stream(&ground, &clients[1]);
    client_open(&ground, &clients[2]);
    client_get(&ground, &clients[2], "/stream");
    client_answer(&ground, &clients[2], &answer);
    assert_int_equal(answer.status, 503);
    assert_non_null(strstr(strbuf_text(&answer.body), "\"code\":\"OVERLOADED\""));
    assert_string_not_equal(answer_field(&answer, "Retry-After"), "");
    /* A place that is free again can be had. */
    http_stream_end(take_held(&ground));
    wait_text(&ground, &clients[0], "0\r\n\r\n");
    client_get(&ground, &clients[2], "/stream");
    wait_held(&ground, 2);
    http_stream_end(take_held(&ground));
    http_stream_end(take_held(&ground));
    for (size_t i = 0; i < 3; i++)
        client_close(&clients[i]);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

static void test_head_of_a_stream(void **state)
{
    (void)state;
    struct ground ground;
    struct client client;
    struct answer answer = { 0 };
    ground_open(&ground);
    client_open(&ground, &client);
    client_send(&ground, &client, "HEAD /stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wait_held(&ground, 1);
    client_answer(&ground, &client, &answer);
    assert_int_equal(answer.status, 200);
    /* There is nothing to be sent, so it is over for the client while the owner still has it. */
    wait_gone(&ground, 1);
    assert_false(http_stream_send(ground.held[0], "x", 1));
    http_stream_end(take_held(&ground));
    client_close(&client);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

static void test_the_end_of_the_server(void **state)
{
    (void)state;
    struct ground ground;
    struct client client;
    ground_open(&ground);
    open_stream(&ground, &client);
    http_server_close(ground.server, note_closed, &ground);
    assert_true(run_until(&ground, has_closed, NULL));
    assert_int_equal(ground.n_gone, 1);
    /* The stream outlives the server until it is ended. */
    assert_false(http_stream_send(ground.held[0], "x", 1));
    http_stream_end(take_held(&ground));
    ground.server = NULL;
    client_close(&client);
    ground_close(&ground);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_arrive_one_by_one),
        cmocka_unit_test(test_large_streams_arrive_whole),
        cmocka_unit_test(test_a_client_that_leaves),
        cmocka_unit_test(test_slow_readers_are_dropped),
        cmocka_unit_test(test_pings),
        cmocka_unit_test(test_too_many_streams),
        cmocka_unit_test(test_head_of_a_stream),
        cmocka_unit_test(test_the_end_of_the_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
