/*
 * Asking a daemon: addresses as people write them, plans as a daemon tells them, and one exchange with a server of a
 * few lines: what an error answer holds has to arrive.
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
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/remote.h"

#define LONGEST_SOCKET 107 /* bytes of a path in sun_path, without its end */

static void test_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *url, *socket_path; /* url NULL: refused */
    } cases[] = {
        { "http://127.0.0.1:9200", "http://127.0.0.1:9200", NULL },
        { "http://127.0.0.1:9200/", "http://127.0.0.1:9200", NULL },
        { "http://pool.example", "http://pool.example", NULL },
        { "http://[::1]:9200", "http://[::1]:9200", NULL },
        { "http://[fe80::1%eth0]:1", "http://[fe80::1%eth0]:1", NULL },
        { "unix:/run/pool-core/daemon.sock", REMOTE_SOCKET_URL, "/run/pool-core/daemon.sock" },
        { "unix:/a b", REMOTE_SOCKET_URL, "/a b" },
        { "", NULL, NULL },
        { "http", NULL, NULL },
        { "http://", NULL, NULL },
        { "http:///", NULL, NULL },
        { "http://:9200", NULL, NULL },
        { "http://h:", NULL, NULL },
        { "http://h:0", NULL, NULL },
        { "http://h:65536", NULL, NULL },
        { "http://h:00000000001", NULL, NULL },
        { "http://h:80x", NULL, NULL },
        { "http://h:80:81", NULL, NULL },
        { "http://h//", NULL, NULL },
        { "http://h/v2", NULL, NULL },
        { "http://u@h", NULL, NULL },
        { "http://h?q", NULL, NULL },
        { "http://h#f", NULL, NULL },
        { "http://h\r\nX: y", NULL, NULL },
        { "http://[::1", NULL, NULL },
        { "http://::1]", NULL, NULL },
        { "http://[::1]x", NULL, NULL },
        { "https://h", NULL, NULL },
        { "HTTP://h", NULL, NULL },
        { "file:///etc/passwd", NULL, NULL },
        { "unix:", NULL, NULL },
        { "unix:relative", NULL, NULL },
        { "/run/pool-core/daemon.sock", NULL, NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct remote_address address = { 0 };
        struct pool_error error = POOL_ERROR_INIT;
        enum pool_code code = remote_address_parse(cases[i].text, &address, &error);
        if (!cases[i].url) {
            if (code != POOL_INVALID_REQUEST)
                fail_msg("'%s' was taken for an address", cases[i].text);
            assert_string_equal(error.field, "url");
            assert_null(address.url);
            continue;
        }
        if (code != POOL_OK)
            fail_msg("'%s': %s", cases[i].text, error.message);
        assert_string_equal(address.url, cases[i].url);
        assert_string_equal(address.name, cases[i].text);
        if (cases[i].socket_path)
            assert_string_equal(address.socket_path, cases[i].socket_path);
        else
            assert_null(address.socket_path);
        remote_address_done(&address);
    }
}

static void test_length_of_socket_path(void **state)
{
    (void)state;
    char text[8 + LONGEST_SOCKET + 1] = "unix:/";
    struct remote_address address = { 0 };
    memset(text + 6, 'x', LONGEST_SOCKET - 1);
    assert_int_equal(remote_address_parse(text, &address, NULL), POOL_OK);
    assert_int_equal(strlen(address.socket_path), LONGEST_SOCKET);
    remote_address_done(&address);
    text[6 + LONGEST_SOCKET - 1] = 'x';
    assert_int_equal(remote_address_parse(text, &address, NULL), POOL_INVALID_REQUEST);
}

static char *encode_worker(void)
{
    struct pool_worker_info *worker = pool_worker_info_new();
    char *json = NULL;
    assert_non_null(worker);
    assert_non_null(worker->worker_id = strdup("w"));
    assert_non_null(worker->backend = strdup("fake"));
    assert_non_null(worker->model_ref = strdup("file:/m.gguf"));
    worker->port = 8001;
    assert_int_equal(pool_worker_info_encode(worker, &json, NULL), POOL_OK);
    pool_worker_info_free(worker);
    return json;
}

static void test_plans(void **state)
{
    (void)state;
    char *worker = encode_worker();
    char *text = NULL;
    struct pool_plan *plan = NULL;
    struct pool_error error = POOL_ERROR_INIT;
    assert_true(asprintf(&text,
                         "{\"fits\": true, \"new\": 1, \"worker\": %s, \"command\": [\"/p\", \"--x\"], "
                         "\"environment_names\": [\"HOME\"], \"reserved_bytes\": 7, \"reserved_source\": "
                         "\"file_size\", \"estimate\": null, \"ledger\": {\"device\": \"host\", "
                         "\"available_bytes\": 9}}",
                         worker) > 0);
    assert_int_equal(remote_plan_decode(text, strlen(text), &plan, &error), POOL_OK);
    assert_string_equal(plan->worker_id, "w");
    assert_int_equal(plan->port, 8001);
    assert_string_equal(plan->argv[1], "--x");
    assert_null(plan->argv[2]);
    assert_string_equal(plan->environment[0], "HOME");
    assert_string_equal(plan->reserved_source, "file_size");
    assert_int_equal(plan->reserved_bytes, 7);
    assert_int_equal(plan->estimate.total_bytes, 0);
    assert_string_equal(plan->ledger.device, "host");
    assert_int_equal(plan->ledger.available_bytes, 9);
    remote_plan_free(plan);
    plan = NULL;
    for (size_t n = 0; n < strlen(text); n++) /* no beginning of it is one */
        assert_int_not_equal(remote_plan_decode(text, n, &plan, &error), POOL_OK);
    free(text);
    assert_true(asprintf(&text, "{\"worker\": %s, \"command\": [3]}", worker) > 0);
    assert_int_equal(remote_plan_decode(text, strlen(text), &plan, &error), POOL_INVALID_REQUEST);
    assert_string_equal(error.field, "command");
    free(text);
    free(worker);
    static const char *const others[] = { "[]", "{}", "{\"worker\": 3}", "{\"worker\": {}}", "\"x\"" };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_int_equal(remote_plan_decode(others[i], strlen(others[i]), &plan, &error),
                         POOL_INVALID_REQUEST);
    assert_null(plan);
}

/* ---- an exchange ---- */

static char directory[64];
static char socket_path[96];

static int make_directory(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/pool-test-remote-XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    snprintf(socket_path, sizeof socket_path, "%s/s", directory);
    return 0;
}

static int remove_directory(void **state)
{
    (void)state;
    unlink(socket_path);
    return rmdir(directory);
}

/* A process that gives one answer to one request. */
static pid_t serve_once(const char *answer)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path);
    unlink(socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(20); /* when nobody comes */
        char request[4096];
        int client = accept(fd, NULL, NULL);
        bool is_good = client >= 0 && read(client, request, sizeof request) > 0 &&
                       write(client, answer, strlen(answer)) == (ssize_t)strlen(answer);
        _exit(is_good ? 0 : 1);
    }
    close(fd);
    return pid;
}

static enum pool_code exchange_once(const char *answer, struct remote_exchange *exchange, char **ret_body,
                                    size_t *ret_n, struct pool_error *error)
{
    char text[128];
    int status = 0;
    struct remote_address address = { 0 };
    struct remote_http *http = NULL;
    snprintf(text, sizeof text, "unix:%s", socket_path);
    assert_int_equal(remote_address_parse(text, &address, error), POOL_OK);
    assert_int_equal(remote_http_open(&address, &http, error), POOL_OK);
    pid_t pid = serve_once(answer);
    enum pool_code code = remote_http_ask(http, exchange, ret_body, ret_n, error);
    remote_http_close(http);
    if (code == POOL_INSUFFICIENT_MEMORY) /* perhaps nobody was asked */
        kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    return code;
}

static void test_good_answer(void **state)
{
    (void)state;
    struct remote_exchange exchange = { .method = "GET", .path = "/x", .timeout_ms = 20000, .cancel_fd = -1 };
    struct pool_error error = POOL_ERROR_INIT;
    char *body = NULL;
    size_t n = 0;
    enum pool_code code =
        exchange_once("HTTP/1.1 200 OK\r\nx-correlation-id:  ab-1 \r\nContent-Length: 2\r\n\r\n{}", &exchange,
                      &body, &n, &error);
    assert_int_equal(code, POOL_OK);
    assert_int_equal(n, 2);
    assert_string_equal(body, "{}");
    assert_string_equal(exchange.correlation_id, "ab-1");
    assert_false(exchange.is_lost);
    free(body);
}

static void test_refusal_keeps_all(void **state)
{
    (void)state;
    static const char body[] =
        "{\"error\":{\"code\":\"INSUFFICIENT_VRAM\",\"message\":\"no\",\"retriable\":false,"
        "\"details\":{\"gpu_id\":3,\"log_tail\":[\"a\",\"b\"],\"field\":\"vram\"},"
        "\"correlation_id\":\"c\"}}";
    struct remote_exchange exchange = { .method = "POST", .path = "/x", .body = "{}", .cancel_fd = -1 };
    struct pool_error error = POOL_ERROR_INIT;
    char answer[1024];
    char *none = NULL;
    size_t n = 0;
    snprintf(answer, sizeof answer,
             "HTTP/1.1 507 Full\r\nX-Correlation-Id: c\r\nContent-Length: %zu\r\n\r\n%s", sizeof body - 1,
             body);
    assert_int_equal(exchange_once(answer, &exchange, &none, &n, &error), POOL_INSUFFICIENT_VRAM);
    assert_null(none);
    assert_false(error.is_retriable);
    assert_string_equal(error.message, "no");
    assert_string_equal(error.field, "vram");
    assert_string_equal(error.log_tail, "a\nb");
    assert_int_equal(pool_error_detail(&error, "gpu_id")->number, 3);
    assert_string_equal(exchange.correlation_id, "c");
}

static void test_broken_connection_is_lost(void **state)
{
    (void)state;
    struct remote_exchange exchange = { .method = "POST", .path = "/x", .body = "{}", .cancel_fd = -1 };
    struct pool_error error = POOL_ERROR_INIT;
    char *none = NULL;
    size_t n = 0;
    assert_int_equal(exchange_once("", &exchange, &none, &n, &error), POOL_REGISTRY_UNAVAILABLE);
    assert_true(exchange.is_lost);
    assert_true(error.is_retriable);
}

static bool refuse_more(const char *bytes, size_t n, void *context)
{
    (void)bytes;
    *(size_t *)context += n;
    return false;
}

static void test_sink_that_has_enough(void **state)
{
    (void)state;
    size_t n_seen = 0;
    struct remote_exchange exchange = {
        .method = "GET", .path = "/x", .cancel_fd = -1, .sink = refuse_more, .context = &n_seen
    };
    struct pool_error error = POOL_ERROR_INIT;
    char *body = NULL;
    size_t n = 0;
    enum pool_code code =
        exchange_once("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", &exchange, &body, &n, &error);
    assert_int_equal(code, POOL_OK);
    assert_int_equal(n_seen, 3);
    assert_int_equal(n, 0);
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_length_of_socket_path),
        cmocka_unit_test(test_plans),
        cmocka_unit_test(test_good_answer),
        cmocka_unit_test(test_refusal_keeps_all),
        cmocka_unit_test(test_broken_connection_is_lost),
        cmocka_unit_test(test_sink_that_has_enough),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
