/*
 * The server as its users see it: requests, answers now and later, clients that leave, sockets, the end.
 */
#include "http_ground.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/cleanup.h"

#define POST_HEAD "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

static void test_answers_and_keeps_the_connection(void **state)
{
    (void)state;
    struct ground ground;
    struct client client;
    struct answer answer = { 0 };
    ground_open(&ground);
    client_open(&ground, &client);
    for (int i = 0; i < 3; i++) {
        client_get(&ground, &client, "/now?q=a%20b");
        client_answer(&ground, &client, &answer);
        assert_int_equal(answer.status, 200);
        assert_string_equal(strbuf_text(&answer.body), "{\"ok\":true}");
        assert_string_equal(answer_field(&answer, "Content-Type"), "application/json");
        assert_string_equal(answer_field(&answer, "Cache-Control"), "no-store");
        assert_string_equal(answer_field(&answer, "Server"), "");
        assert_string_not_equal(answer_field(&answer, "Date"), "");
        assert_int_equal(strlen(answer_field(&answer, "X-Correlation-Id")), 36);
        assert_false(client.is_closed);
    }
    assert_string_equal(ground.last_path, "/now");
    assert_string_equal(ground.last_param, "a b");
    assert_string_equal(ground.last_host, "localhost");
    assert_memory_equal(ground.last_peer, "127.0.0.1:", 10);
    assert_false(ground.has_uid);
    assert_int_equal(http_server_n_connections(ground.server), 1);
    assert_int_equal(ground.n_answered, 3);
    assert_int_equal(ground.last_status, 200);
    /* An answer of NOT_FOUND has the contract's shape and does not end the connection. */
    client_get(&ground, &client, "/nowhere");
    client_answer(&ground, &client, &answer);
    assert_int_equal(answer.status, 404);
    assert_non_null(strstr(strbuf_text(&answer.body), "\"code\":\"NOT_FOUND\""));
    assert_non_null(strstr(strbuf_text(&answer.body), answer_field(&answer, "X-Correlation-Id")));
    assert_false(client.is_closed);
    client_close(&client);
    wait_connections(&ground, 0);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

static void test_head_is_get_without_the_body(void **state)
{
    (void)state;
    struct ground ground;
    struct client client;
    struct answer answer = { 0 };
    ground_open(&ground);
    client_open(&ground, &client);
    client_send(&ground, &client, "HEAD /now HTTP/1.1\r\nHost: localhost\r\n\r\n");
    struct reading reading = { &client, &answer, true };
    answer.body = (struct strbuf)STRBUF_INIT(ECHO_ANSWER_MAX);
    assert_true(run_until(&ground, has_answer, &reading));
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer_field(&answer, "Content-Length"), "11");
    assert_string_equal(ground.last_method, "GET");
    assert_true(ground.was_head);
    /* Nothing of a body came in between. */
    client_get(&ground, &client, "/now");
    client_answer(&ground, &client, &answer);
    assert_int_equal(answer.status, 200);
    client_close(&client);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

static void test_correlation_ids(void **state)
{
    (void)state;
    static const struct {
        const char *given;
        bool is_taken;
    } rows[] = {
        { "a", true },
        { "Trace-01", true },
        { "0123456789012345678901234567890123456789012345678901234567890123", true },
        { "01234567890123456789012345678901234567890123456789012345678901234", false },
        { "a_b", false },
        { "a b", false },
        { "", false },
        { "\xc3\xbc", false },
    };
    struct ground ground;
    struct answer answer = { 0 };
    ground_open(&ground);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[512];
        snprintf(text, sizeof(text), "GET /now HTTP/1.1\r\nHost: localhost\r\nX-Correlation-Id: %s\r\n\r\n",
                 rows[i].given);
        assert_int_equal(ask(&ground, text, strlen(text), &answer), 200);
        const char *id = answer_field(&answer, "X-Correlation-Id");
        assert_string_equal(id, ground.last_id);
        if (rows[i].is_taken) {
            assert_string_equal(id, rows[i].given);
        } else {
            assert_int_equal(strlen(id), 36);
            /* A UUID of version 4. */
            assert_int_equal(strspn(id, "0123456789abcdef-"), 36);
            assert_true(id[8] == '-' && id[13] == '-' && id[14] == '4' && id[18] == '-' && id[23] == '-');
            assert_true(strchr("89ab", id[19]) != NULL);
        }
    }
    strbuf_done(&answer.body);
    ground_close(&ground);
}

static void test_bodies(void **state)
{
    (void)state;
    struct ground ground;
    struct client client;
    struct answer answer = { 0 };
    const size_t n = 1 << 20;
    char *body = malloc(n + 1);
    assert_non_null(body);
    for (size_t i = 0; i < n; i++)
        body[i] = (char)('a' + i % 23);
    body[n] = '\0';
    ground_open(&ground);
    client_open(&ground, &client);

    char head[256];
    snprintf(head, sizeof(head), POST_HEAD "Content-Length: %zu\r\n\r\n", n);
    client_send(&ground, &client, head);
    client_send_n(&ground, &client, body, n);
    client_answer(&ground, &client, &answer);
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.body.n, n);
    assert_memory_equal(answer.body.data, body, n);

    /* Expect: 100-continue. */
    client_send(&ground, &client, POST_HEAD "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    client_answer(&ground, &client, &answer);
    assert_int_equal(answer.status, 100);
    client_send(&ground, &client, "{}");
    client_answer(&ground, &client, &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(strbuf_text(&answer.body), "{}");
    /* All on one connection. */
    assert_int_equal(http_server_n_connections(ground.server), 1);

    /* Chunked, in pieces that have nothing to do with the chunks; with an extension and a trailer. */
    static const char *const pieces[] = { POST_HEAD "Transfer-Enco", "ding: chunked\r\n\r\n4;x=y\r\n{\"a\"",
                                          "\r", "\n1\r\n:\r\n2\r\n1}\r\n0\r\nX-Trailer: 1\r", "\n\r\n" };
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++)
        client_send(&ground, &client, pieces[i]);
    client_answer(&ground, &client, &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(strbuf_text(&answer.body), "{\"a\":1}");
    assert_string_equal(answer_field(&answer, "Connection"), "close");
    client_close(&client);
    free(body);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

static void test_large_bodies_are_refused_early(void **state)
{
    (void)state;
    struct ground ground;
    struct client client;
    struct answer answer = { 0 };
    ground_open(&ground);
    /* By its length, before a byte of it is sent; with and without asking first. */
    static const char *const heads[] = { POST_HEAD "Content-Length: 1048577\r\n\r\n", POST_HEAD
                                         "Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n" };
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(ask(&ground, heads[i], strlen(heads[i]), &answer), 413);
        assert_non_null(strstr(strbuf_text(&answer.body), "\"code\":\"PAYLOAD_TOO_LARGE\""));
        assert_string_equal(answer_field(&answer, "Connection"), "close");
    }
    /* A client that sends it all the same gets to read the answer: the connection is not reset under it. */
    const size_t n = 8 << 20;
    char *body = calloc(1, n);
    assert_non_null(body);
    client_open(&ground, &client);
    client_send(&ground, &client, POST_HEAD "Content-Length: 8388608\r\n\r\n");
    client_send_n(&ground, &client, body, n);
    assert_false(client.has_failed_sends);
    client_answer(&ground, &client, &answer);
    assert_int_equal(answer.status, 413);
    client_close(&client);

    /* Chunked, where only counting tells. */
    client_open(&ground, &client);
    client_send(&ground, &client,
                POST_HEAD "Transfer-Encoding: chunked\r\nX-Correlation-Id: big\r\n\r\n200000\r\n");
    client_send_n(&ground, &client, body, 2 << 20);
    assert_false(client.has_failed_sends);
    client_answer(&ground, &client, &answer);
    assert_int_equal(answer.status, 413);
    assert_string_equal(answer_field(&answer, "X-Correlation-Id"), "big");
    assert_non_null(strstr(strbuf_text(&answer.body), "\"code\":\"PAYLOAD_TOO_LARGE\""));
    client_close(&client);
    assert_int_equal(ground.n_handled, 0);
    wait_connections(&ground, 0);
    free(body);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

static void test_early_check_comes_before_the_body(void **state)
{
    (void)state;
    struct ground ground;
    struct client client;
    struct answer answer = { 0 };
    ground_open(&ground);
    static const char upload[] =
        "POST /denied HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n";
    assert_int_equal(ask(&ground, upload, sizeof(upload) - 1, &answer), 401);
    assert_string_equal(answer_field(&answer, "WWW-Authenticate"), "Bearer");
    /* Without a body the connection stays. */
    client_open(&ground, &client);
    client_send(&ground, &client, "DELETE /now HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client_answer(&ground, &client, &answer);
    assert_int_equal(answer.status, 405);
    assert_string_equal(answer_field(&answer, "Allow"), "GET, POST");
    client_get(&ground, &client, "/now");
    client_answer(&ground, &client, &answer);
    assert_int_equal(answer.status, 200);
    assert_int_equal(ground.n_handled, 1);
    client_close(&client);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

static void count_release(void *context)
{
    ++*(size_t *)context;
}

static void test_answers_that_come_later(void **state)
{
    (void)state;
    struct ground ground;
    struct client clients[3];
    struct answer answer = { 0 };
    ground_open(&ground);
    for (size_t i = 0; i < 3; i++) {
        client_open(&ground, &clients[i]);
        client_get(&ground, &clients[i], "/later");
        wait_held(&ground, i + 1);
    }
    assert_int_equal(http_server_n_requests(ground.server), 3);
    /* In another order than they came; with each kind of ownership. */
    char *owned = strdup("owned");
    assert_non_null(owned);
    assert_true(http_request_add_header(ground.held[2], "ETag", "\"7-1\""));
    assert_false(http_request_add_header(ground.held[2], "X-Bad", "a\r\nb"));
    http_respond(ground.held[2], 200, "text/plain", owned, 5, HTTP_TAKE);
    client_answer(&ground, &clients[2], &answer);
    assert_string_equal(strbuf_text(&answer.body), "owned");
    assert_string_equal(answer_field(&answer, "ETag"), "\"7-1\"");
    http_respond_shared(ground.held[1], 200, "text/plain", "shared", 6, count_release, &ground.n_released);
    client_answer(&ground, &clients[1], &answer);
    assert_string_equal(strbuf_text(&answer.body), "shared");
    http_respond(ground.held[0], 304, NULL, NULL, 0, HTTP_STATIC);
    client_answer(&ground, &clients[0], &answer);
    assert_int_equal(answer.status, 304);
    ground.n_held = 0;
    for (size_t i = 0; i < 3; i++)
        client_close(&clients[i]);
    wait_connections(&ground, 0);
    assert_int_equal(ground.n_released, 1);
    assert_int_equal(ground.n_gone, 0);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

static void test_disconnects_are_noticed_while_waiting(void **state)
{
    (void)state;
    struct ground ground;
    struct client clients[3];
    ground_open(&ground);
    for (size_t i = 0; i < 3; i++) {
        client_open(&ground, &clients[i]);
        client_get(&ground, &clients[i], "/later");
    }
    wait_held(&ground, 3);
    /* A close, a reset, and a shutdown of the sending side. */
    const struct linger reset = { .l_onoff = 1, .l_linger = 0 };
    assert_int_equal(setsockopt(clients[1].fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
    for (size_t i = 0; i < 3; i++) {
        if (i == 2)
            assert_int_equal(shutdown(clients[i].fd, SHUT_WR), 0);
        else
            client_close(&clients[i]);
        wait_gone(&ground, i + 1); /* not at some later write */
    }
    wait_connections(&ground, 0);
    assert_int_equal(ground.last_status, 499);
    assert_int_equal(ground.n_answered, 3);
    /* They are still ours to answer, whichever way. */
    char *owned = strdup("nobody reads this");
    struct pool_error error = POOL_ERROR_INIT;
    pool_error_set(&error, POOL_CANCELLED, "gone");
    assert_null(http_request_header(ground.held[0], "Host"));
    assert_string_equal(http_request_path(ground.held[0]), "/later");
    http_respond(ground.held[0], 200, "text/plain", owned, 17, HTTP_TAKE);
    http_respond_shared(ground.held[1], 200, "text/plain", "x", 1, count_release, &ground.n_released);
    http_respond_error(ground.held[2], &error);
    ground.n_held = 0;
    assert_int_equal(ground.n_released, 1);
    client_close(&clients[2]);
    ground_close(&ground);
}

/* The end of a connection that comes together with the last bytes. */
static void test_clients_that_shut_down_at_once(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int status;
    } rows[] = {
        { "GET /now HTTP/1.1\r\nHost: localhost\r\n\r\n", 200 },
        { "GET /now HTTP/1.1\r\nHost: localhost\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n",
          200 },
        { "GET /now HTTP/1.1\r\nHost: localhost\r\n\r\nGET /n", 200 },
        { "GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n", 0 },
        { "GET /now HT", 0 },
        { "GET /now HTTP/1.1\r\nHo", 0 },
        { POST_HEAD "Content-Length: 3\r\n\r\n{}", 0 },
        { POST_HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\n{", 0 },
        { "", 0 },
    };
    struct ground ground;
    struct client client;
    struct answer answer = { 0 };
    ground_open(&ground);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        client_open(&ground, &client);
        client_send(&ground, &client, rows[i].text);
        assert_int_equal(shutdown(client.fd, SHUT_WR), 0);
        client_answer(&ground, &client, &answer);
        assert_int_equal(answer.status, rows[i].status);
        /* The connection does not linger until some timeout. */
        assert_true(run_until(&ground, is_client_closed, &client));
        client_close(&client);
        wait_connections(&ground, 0);
    }
    assert_int_equal(ground.n_gone, 1);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

static void answer_when_gone(struct http_request *request, void *context)
{
    struct ground *ground = context;
    ground->n_gone++;
    ground->n_held = 0;
    http_respond(request, 200, NULL, NULL, 0, HTTP_STATIC);
}

static void test_on_gone_may_answer(void **state)
{
    (void)state;
    for (int round = 0; round < 2; round++) {
        struct ground ground;
        struct client client;
        ground_open(&ground);
        client_open(&ground, &client);
        client_get(&ground, &client, "/later");
        wait_held(&ground, 1);
        http_request_on_gone(ground.held[0], answer_when_gone, &ground);
        if (round == 0) {
            client_close(&client);
            wait_gone(&ground, 1);
            wait_connections(&ground, 0);
        }
        ground_close(&ground); /* in the second round, the end of the server is what it is told of */
        assert_int_equal(ground.n_gone, 1);
        if (round == 1)
            client_close(&client);
    }
}

static void test_pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    struct ground ground;
    struct client client;
    struct answer answer = { 0 };
    ground_open(&ground);
    client_open(&ground, &client);
    client_send(&ground, &client,
                "GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n"
                "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
                "2\r\n\r\n{}GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wait_held(&ground, 1);
    assert_int_equal(ground.n_handled, 1);
    http_respond(take_held(&ground), 200, "text/plain", "first", 5, HTTP_COPY);
    client_answer(&ground, &client, &answer);
    assert_string_equal(strbuf_text(&answer.body), "first");
    client_answer(&ground, &client, &answer);
    assert_string_equal(strbuf_text(&answer.body), "{}");
    client_answer(&ground, &client, &answer);
    assert_int_equal(answer.status, 404);
    client_close(&client);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

/* --- sockets ----------------------------------------------------------------------------------------------------- */

static void make_path(char *path, size_t n)
{
    char folder[] = "/tmp/pool-http-XXXXXX";
    assert_non_null(mkdtemp(folder));
    assert_true((size_t)snprintf(path, n, "%s/daemon.sock", folder) < n);
}

static void remove_folder(char *path)
{
    (void)unlink(path);
    *strrchr(path, '/') = '\0';
    assert_int_equal(rmdir(path), 0);
}

static int connect_unix(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    close(fd);
    return -1;
}

static void test_unix_socket(void **state)
{
    (void)state;
    struct ground ground;
    struct http_server_options options;
    struct client client;
    struct answer answer = { 0 };
    struct pool_error error = POOL_ERROR_INIT;
    char path[100];
    make_path(path, sizeof(path));
    ground_open_loop(&ground);
    ground_defaults(&ground, &options);
    options.n_binds = 0;
    options.socket_path = path;
    /* What a dead daemon leaves. */
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    int stale = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(stale, (struct sockaddr *)&address, sizeof(address)), 0);
    close(stale);

    ground_open_with(&ground, &options);
    struct stat about;
    assert_int_equal(lstat(path, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0660);
    /* A living one is left alone. */
    struct http_server *other = NULL;
    assert_int_equal(http_server_open(&ground.loop, &options, &other, &error), POOL_CONFLICT);
    assert_string_equal(error.field, "daemon.socket");
    assert_null(other);

    client_adopt(&ground, &client, connect_unix(path));
    /* No Host of ours is asked for here: no page can reach it. */
    client_send(&ground, &client, "GET /now HTTP/1.1\r\nHost: pool.example\r\nOrigin: http://x\r\n\r\n");
    client_answer(&ground, &client, &answer);
    assert_int_equal(answer.status, 200);
    assert_true(ground.has_uid);
    assert_int_equal(ground.uid, getuid());
    assert_memory_equal(ground.last_peer, "unix:", 5);
    /* Leaving is noticed here too. */
    client_get(&ground, &client, "/later");
    wait_held(&ground, 1);
    client_close(&client);
    wait_gone(&ground, 1);
    ground_close(&ground);
    assert_int_equal(lstat(path, &about), -1);
    remove_folder(path);
    strbuf_done(&answer.body);
}

static void test_inherited_sockets(void **state)
{
    (void)state;
    struct ground ground;
    struct http_server_options options;
    struct client client;
    struct answer answer = { 0 };
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 10), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &n), 0);

    ground_open_loop(&ground);
    ground_defaults(&ground, &options);
    options.n_binds = 0;
    options.n_inherited_fds = 2;
    const int fds[] = { fd, ground.clients_fd };
    options.inherited_fds = fds;
    /* One of the two is no socket; the other is still the caller's after that. */
    assert_int_equal(http_server_open(&ground.loop, &options, &ground.server, NULL), POOL_INVALID_CONFIG);
    assert_int_equal(fcntl(fd, F_GETFD) >= 0, 1);
    options.n_inherited_fds = 1;
    ground_open_with(&ground, &options);
    ground.port = ntohs(address.sin_port);
    client_open(&ground, &client);
    client_get(&ground, &client, "/now");
    client_answer(&ground, &client, &answer);
    assert_int_equal(answer.status, 200);
    client_close(&client);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

static void test_addresses_that_cannot_be(void **state)
{
    (void)state;
    struct ground ground;
    struct http_server_options options;
    ground_open(&ground);
    ground_defaults(&ground, &options);
    char taken[40];
    snprintf(taken, sizeof(taken), "127.0.0.1:%u", ground.port);
    const struct {
        const char *bind;
        enum pool_code code;
    } rows[] = {
        { taken, POOL_PORT_UNAVAILABLE },          { "127.0.0.1", POOL_INVALID_CONFIG },
        { "127.0.0.1:", POOL_INVALID_CONFIG },     { "127.0.0.1:65536", POOL_INVALID_CONFIG },
        { "example:80", POOL_INVALID_CONFIG },     { "::1:80", POOL_INVALID_CONFIG },
        { "[::1:80", POOL_INVALID_CONFIG },        { "", POOL_INVALID_CONFIG },
        { "192.0.2.1:80", POOL_PORT_UNAVAILABLE },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        /* The first one can be bound, and must be let go again. */
        const char *binds[] = { "127.0.0.1:0", rows[i].bind };
        struct pool_error error = POOL_ERROR_INIT;
        struct http_server *server = NULL;
        options.binds = binds;
        options.n_binds = 2;
        assert_int_equal(http_server_open(&ground.loop, &options, &server, &error), rows[i].code);
        assert_string_equal(error.field, "daemon.bind");
        assert_null(server);
    }
    ground_close(&ground);
}

/* --- the end ----------------------------------------------------------------------------------------------------- */

static void note_quiet(void *context)
{
    struct ground *ground = context;
    ground->is_quiet = true;
}

static bool is_quiet(struct ground *ground, void *context)
{
    (void)context;
    return ground->is_quiet;
}

static void test_quiesce_finishes_what_is_in_flight(void **state)
{
    (void)state;
    struct ground ground;
    struct client idle, waiting;
    struct answer answer = { 0 };
    ground_open(&ground);
    client_open(&ground, &idle);
    client_get(&ground, &idle, "/now");
    client_answer(&ground, &idle, &answer);
    client_open(&ground, &waiting);
    client_get(&ground, &waiting, "/later");
    wait_held(&ground, 1);

    http_server_quiesce(ground.server, note_quiet, &ground);
    assert_true(run_until(&ground, is_client_closed, &idle));
    assert_false(ground.is_quiet);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(ground.port) };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), -1);
    close(fd);

    http_respond(take_held(&ground), 200, "text/plain", "done", 4, HTTP_STATIC);
    client_answer(&ground, &waiting, &answer);
    assert_string_equal(strbuf_text(&answer.body), "done");
    assert_string_equal(answer_field(&answer, "Connection"), "close");
    assert_true(run_until(&ground, is_quiet, NULL));
    client_close(&idle);
    client_close(&waiting);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

/* A stream would go on for ever: its owner is told, and what it has sent still arrives. */
static void test_quiesce_ends_streams(void **state)
{
    (void)state;
    struct ground ground;
    struct client client;
    struct answer answer = { 0 };
    ground_open(&ground);
    client_open(&ground, &client);
    client_get(&ground, &client, "/stream");
    wait_held(&ground, 1);
    ground.is_quiescing = true;
    assert_true(http_stream_send(ground.held[0], "last", 4));
    http_server_quiesce(ground.server, note_quiet, &ground);
    assert_int_equal(ground.n_gone, 1);
    assert_false(ground.is_quiet);
    http_stream_end(take_held(&ground));
    assert_true(run_until(&ground, is_quiet, NULL));
    assert_true(run_until(&ground, is_client_closed, &client));
    assert_non_null(strstr(strbuf_text(&client.in), "last\r\n0\r\n\r\n"));
    client_close(&client);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

static void close_and_answer(struct http_request *request, void *context)
{
    struct ground *ground = context;
    http_server_close(ground->server, note_closed, ground);
    http_respond(request, 200, NULL, NULL, 0, HTTP_STATIC);
}

static void test_closing_from_inside_a_request(void **state)
{
    (void)state;
    struct ground ground;
    struct http_server_options options;
    struct client clients[2];
    ground_open_loop(&ground);
    ground_defaults(&ground, &options);
    options.on_request = close_and_answer;
    ground_open_with(&ground, &options);
    for (size_t i = 0; i < 2; i++) {
        client_open(&ground, &clients[i]);
        client_get(&ground, &clients[i], "/now");
    }
    assert_true(run_until(&ground, has_closed, NULL));
    ground.server = NULL;
    for (size_t i = 0; i < 2; i++) {
        assert_true(run_until(&ground, is_client_closed, &clients[i]));
        client_close(&clients[i]);
    }
    ground_close(&ground);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_and_keeps_the_connection),
        cmocka_unit_test(test_head_is_get_without_the_body),
        cmocka_unit_test(test_correlation_ids),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_large_bodies_are_refused_early),
        cmocka_unit_test(test_early_check_comes_before_the_body),
        cmocka_unit_test(test_answers_that_come_later),
        cmocka_unit_test(test_disconnects_are_noticed_while_waiting),
        cmocka_unit_test(test_clients_that_shut_down_at_once),
        cmocka_unit_test(test_on_gone_may_answer),
        cmocka_unit_test(test_pipelined_requests_are_answered_in_order),
        cmocka_unit_test(test_unix_socket),
        cmocka_unit_test(test_inherited_sockets),
        cmocka_unit_test(test_addresses_that_cannot_be),
        cmocka_unit_test(test_quiesce_finishes_what_is_in_flight),
        cmocka_unit_test(test_quiesce_ends_streams),
        cmocka_unit_test(test_closing_from_inside_a_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
