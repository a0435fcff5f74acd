/*
 * HTTP requests over libcurl and libuv; see http_client.h. Owns the multi handle, its sockets in the loop, and the
 * calls. What is asked and what the answers mean is the business of others.
 *
 * No callback of libcurl's calls into the rest of the daemon: results are collected after each turn of libcurl, when
 * it may be called again (curl_multi_socket_action(3)).
 */
#include "managerd/http_client.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <pool/version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/strbuf.h"

#define HEADERS_MAX_BYTES ((size_t)64 << 10) /* of an answer; more is an attack or a mistake */
#define CONNECTIONS_KEPT  4L
#define HANDLES_KEPT      8
#define HEADER_LINE_MAX   8192

struct socket_watch {
    LIST_ENTRY(socket_watch) link;
    uv_poll_t poll;
    curl_socket_t fd;
    struct http_client *client;
};

struct http_call {
    LIST_ENTRY(http_call) link;
    struct http_client *client;
    CURL *easy;
    struct curl_slist *headers;
    char *body;
    struct strbuf answer;
    size_t n_header_bytes;
    bool has_whole_head;
    char problem[CURL_ERROR_SIZE];
    int socket_failure; /* errno of a socket that could not be made */
    http_client_done_fn *on_done;
    void *ctx;
};

struct http_client {
    uv_loop_t *loop;
    CURLM *
        multi; /* NULL before the first call: starting libcurl costs a megabyte, and some never call anybody */
    size_t n_spare;
    CURL *
        spare[HANDLES_KEPT]; /* of calls that are over; making one costs more than the rest of a small call */
    uv_timer_t timer;
    LIST_HEAD(http_calls, http_call) calls;
    LIST_HEAD(socket_watches, socket_watch) watches;
    size_t n_handles; /* that the loop has not let go of */
    bool is_closing;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
};

/* ---- results ---- */

static CURL *take_handle(struct http_client *client)
{
    return client->n_spare > 0 ? client->spare[--client->n_spare] : curl_easy_init();
}

/* Nothing of the call that it was of is left in it. */
static void give_handle_back(struct http_client *client, CURL *easy)
{
    if (!easy || client->is_closing || client->n_spare == HANDLES_KEPT) {
        curl_easy_cleanup(easy);
        return;
    }
    curl_easy_reset(easy);
    client->spare[client->n_spare++] = easy;
}

static void free_call(struct http_call *call)
{
    if (!call)
        return;
    give_handle_back(call->client, call->easy);
    curl_slist_free_all(call->headers);
    strbuf_done(&call->answer);
    free(call->body);
    free(call);
}

static void release_call(struct http_call **call)
{
    free_call(*call);
}

static enum http_client_result result_of(CURLcode code)
{
    if (code == CURLE_OK)
        return HTTP_CLIENT_ANSWERED;
    if (code == CURLE_OPERATION_TIMEDOUT)
        return HTTP_CLIENT_TIMEOUT;
    if (code == CURLE_OUT_OF_MEMORY)
        return HTTP_CLIENT_NO_MEMORY;
    static const CURLcode unreachable[] = {
        CURLE_COULDNT_RESOLVE_PROXY,    CURLE_COULDNT_RESOLVE_HOST,
        CURLE_COULDNT_CONNECT,          CURLE_SSL_CONNECT_ERROR,
        CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CACERT_BADFILE,
        CURLE_SSL_CERTPROBLEM,          CURLE_SSL_ISSUER_ERROR,
        CURLE_SSL_INVALIDCERTSTATUS,    CURLE_PROXY,
        CURLE_INTERFACE_FAILED,
    };
    for (size_t i = 0; i < sizeof unreachable / sizeof unreachable[0]; i++) {
        if (code == unreachable[i])
            return HTTP_CLIENT_UNREACHABLE;
    }
    return HTTP_CLIENT_BAD_ANSWER;
}

/* So that what is our own trouble can be told from that of the other side. */
static curl_socket_t make_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)purpose;
    struct http_call *call = context;
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    call->socket_failure = fd < 0 ? errno : 0;
    return fd < 0 ? CURL_SOCKET_BAD : fd;
}

static bool has_no_descriptors(const struct http_call *call)
{
    return call->socket_failure == EMFILE || call->socket_failure == ENFILE ||
           call->socket_failure == ENOBUFS || call->socket_failure == ENOMEM;
}

static void finish_call(struct http_call *call, CURLcode code)
{
    long status = 0;
    curl_off_t retry_after_s = 0;
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(call->easy, CURLINFO_RETRY_AFTER, &retry_after_s);
    struct http_client_answer answer = {
        .result = result_of(code),
        .status = (int)status,
        .body = strbuf_text(&call->answer),
        .n_body = call->answer.n,
        .retry_after_ms = retry_after_s > 0 && retry_after_s < INT32_MAX ? (int64_t)retry_after_s * 1000 : 0,
        .problem = "",
    };
    if (code != CURLE_OK)
        answer.problem = call->problem[0] ? call->problem : curl_easy_strerror(code);
    if (call->answer.failure == STRBUF_NO_MEMORY || (code != CURLE_OK && has_no_descriptors(call))) {
        answer.result = HTTP_CLIENT_NO_MEMORY;
    } else if (call->answer.failure == STRBUF_FULL) {
        answer.problem = "the answer is too long";
    } else if (code == CURLE_OK && !call->has_whole_head) {
        answer.result = HTTP_CLIENT_BAD_ANSWER;
        answer.problem = "the answer is cut off";
    }
    LIST_REMOVE(call, link);
    curl_multi_remove_handle(call->client->multi, call->easy);
    call->on_done(call->ctx, &answer);
    free_call(call);
}

static void collect_results(struct http_client *client)
{
    int n_left = 0;
    for (CURLMsg *message; !client->is_closing && (message = curl_multi_info_read(client->multi, &n_left));) {
        struct http_call *call = NULL;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
        if (message->msg == CURLMSG_DONE && call)
            finish_call(call, code);
    }
}

/* ---- libcurl in the loop ---- */

static void turn_curl(struct http_client *client, curl_socket_t fd, int events)
{
    int n_running = 0;
    curl_multi_socket_action(client->multi, fd, events, &n_running);
    collect_results(client);
}

static void take_timer(uv_timer_t *timer)
{
    turn_curl(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static int set_timer(CURLM *multi, long timeout_ms, void *ctx)
{
    (void)multi;
    struct http_client *client = ctx;
    if (client->is_closing)
        return 0;
    /* 0 comes back from the loop too: libcurl may not be called from here. */
    if (timeout_ms < 0)
        uv_timer_stop(&client->timer);
    else
        uv_timer_start(&client->timer, take_timer, (uint64_t)timeout_ms, 0);
    return 0;
}

static void take_poll(uv_poll_t *poll, int status, int events)
{
    struct socket_watch *watch = poll->data;
    int flags = status < 0 ? CURL_CSELECT_ERR : 0;
    if (events & UV_READABLE)
        flags |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE)
        flags |= CURL_CSELECT_OUT;
    turn_curl(watch->client, watch->fd, flags);
}

static void finish_close(struct http_client *client)
{
    if (!client->is_closing || client->n_handles > 0)
        return;
    void (*on_closed)(void *) = client->on_closed;
    void *ctx = client->closed_ctx;
    bool has_curl = client->multi != NULL;
    free(client);
    if (has_curl)
        curl_global_cleanup();
    if (on_closed)
        on_closed(ctx);
}

static void take_closed_watch(uv_handle_t *handle)
{
    struct socket_watch *watch = handle->data;
    struct http_client *client = watch->client;
    free(watch);
    client->n_handles--;
    finish_close(client);
}

static void take_closed_timer(uv_handle_t *handle)
{
    struct http_client *client = handle->data;
    client->n_handles--;
    finish_close(client);
}

static void close_watch(struct socket_watch *watch)
{
    LIST_REMOVE(watch, link);
    uv_close((uv_handle_t *)&watch->poll, take_closed_watch);
}

/* NULL when there is no memory; the transfer then ends by its time. */
static struct socket_watch *open_watch(struct http_client *client, curl_socket_t fd)
{
    struct socket_watch *watch = calloc(1, sizeof *watch);
    if (!watch || uv_poll_init_socket(client->loop, &watch->poll, fd) < 0) {
        free(watch);
        return NULL;
    }
    watch->poll.data = watch;
    watch->fd = fd;
    watch->client = client;
    LIST_INSERT_HEAD(&client->watches, watch, link);
    client->n_handles++;
    curl_multi_assign(client->multi, fd, watch);
    return watch;
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx)
{
    (void)easy;
    struct http_client *client = ctx;
    struct socket_watch *watch = socket_ctx;
    if (what == CURL_POLL_REMOVE) {
        if (watch) {
            curl_multi_assign(client->multi, fd, NULL);
            close_watch(watch);
        }
        return 0;
    }
    if (!watch && !client->is_closing)
        watch = open_watch(client, fd);
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    if (watch)
        uv_poll_start(&watch->poll, events, take_poll);
    return 0;
}

/* ---- one call ---- */

static size_t take_body(char *data, size_t size, size_t n, void *ctx)
{
    struct http_call *call = ctx;
    return strbuf_add(&call->answer, data, size * n) ? size * n : 0;
}

static size_t take_header(char *data, size_t size, size_t n, void *ctx)
{
    struct http_call *call = ctx;
    call->n_header_bytes += size * n;
    /* The line that ends a head is empty; trailers come here, too. libcurl is content with a head that was cut off. */
    if (size * n >= 5 && memcmp(data, "HTTP/", 5) == 0)
        call->has_whole_head = false;
    else if (size * n > 0 && (data[0] == '\r' || data[0] == '\n'))
        call->has_whole_head = true;
    return call->n_header_bytes <= HEADERS_MAX_BYTES ? size * n : 0;
}

static bool add_header(struct http_call *call, const char *name, const char *value)
{
    char line[HEADER_LINE_MAX];
    int n = snprintf(line, sizeof line, "%s%s", name, value);
    struct curl_slist *headers =
        n > 0 && (size_t)n < sizeof line ? curl_slist_append(call->headers, line) : NULL;
    explicit_bzero(line, sizeof line); /* it may have been a token */
    if (headers)
        call->headers = headers;
    return headers;
}

static bool add_headers(struct http_call *call, const struct http_client_request *request)
{
    /* No "Expect: 100-continue": it costs a round trip, and servers forget about it. */
    return add_header(call, "Expect:", "") && add_header(call, "Accept: ", "application/json") &&
           (!request->body || add_header(call, "Content-Type: ", "application/json")) &&
           (!request->bearer_token || add_header(call, "Authorization: Bearer ", request->bearer_token)) &&
           (!request->correlation_id || add_header(call, "X-Correlation-Id: ", request->correlation_id));
}

static CURLcode set_body(struct http_call *call)
{
    CURLcode code = curl_easy_setopt(call->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(call->body));
    return code ? code : curl_easy_setopt(call->easy, CURLOPT_POSTFIELDS, call->body);
}

static CURLcode set_options(struct http_call *call, const struct http_client_request *request)
{
    CURL *easy = call->easy;
    CURLcode code = CURLE_OK;
#define SET(option, value) code = code ? code : curl_easy_setopt(easy, option, value)
    SET(CURLOPT_URL, request->url);
    if (call->body)
        code = code ? code : set_body(call);
    SET(CURLOPT_CUSTOMREQUEST, request->method);
    SET(CURLOPT_HTTPHEADER, call->headers);
    SET(CURLOPT_USERAGENT, "pool-managerd/" POOL_VERSION);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_HTTP09_ALLOWED, 0L);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_TCP_KEEPALIVE, request->is_this_host ? 0L : 1L);
    SET(CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)request->timeout_ms);
    /* Or the end of a call would wait for a resolver thread whose name server does not answer. */
    SET(CURLOPT_QUICK_EXIT, 1L);
    SET(CURLOPT_FORBID_REUSE, request->is_last ? 1L : 0L);
    if (request->is_this_host || http_client_url_is_loopback(request->url))
        SET(CURLOPT_PROXY, ""); /* whatever the environment says */
    SET(CURLOPT_WRITEFUNCTION, take_body);
    SET(CURLOPT_WRITEDATA, call);
    SET(CURLOPT_HEADERFUNCTION, take_header);
    SET(CURLOPT_HEADERDATA, call);
    SET(CURLOPT_OPENSOCKETFUNCTION, make_socket);
    SET(CURLOPT_OPENSOCKETDATA, call);
    SET(CURLOPT_ERRORBUFFER, call->problem);
    SET(CURLOPT_PRIVATE, call);
#undef SET
    return code;
}

static enum pool_code start_curl(struct http_client *client, struct pool_error *err)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return pool_error_set(err, POOL_INTERNAL, "libcurl can not be initialised");
    CURLM *multi = curl_multi_init();
    if (!multi) {
        curl_global_cleanup();
        return pool_error_no_memory(err);
    }
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, client);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, client);
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_KEPT);
    client->multi = multi;
    return POOL_OK;
}

enum pool_code http_client_send(struct http_client *client, const struct http_client_request *request,
                                http_client_done_fn *on_done, void *ctx, struct http_call **ret_call,
                                struct pool_error *err)
{
    enum pool_code started = client->multi ? POOL_OK : start_curl(client, err);
    if (started != POOL_OK)
        return started;
    CLEANUP(release_call) struct http_call *call = calloc(1, sizeof *call);
    if (!call)
        return pool_error_no_memory(err);
    call->client = client;
    call->answer = (struct strbuf)STRBUF_INIT(request->answer_max_bytes);
    call->on_done = on_done;
    call->ctx = ctx;
    call->easy = take_handle(client);
    if (request->body)
        call->body = strdup(request->body);
    if (!call->easy || (request->body && !call->body) || !add_headers(call, request))
        return pool_error_no_memory(err);
    CURLcode code = set_options(call, request);
    if (code == CURLE_OUT_OF_MEMORY)
        return pool_error_no_memory(err);
    if (code != CURLE_OK)
        return pool_error_set(err, POOL_INVALID_REQUEST, "libcurl: %s", curl_easy_strerror(code));
    CURLMcode multi_code = curl_multi_add_handle(client->multi, call->easy);
    if (multi_code != CURLM_OK)
        return pool_error_set(err, POOL_INTERNAL, "libcurl: %s", curl_multi_strerror(multi_code));
    LIST_INSERT_HEAD(&client->calls, call, link);
    *ret_call = take_ptr(&call);
    return POOL_OK;
}

void http_client_cancel(struct http_call *call)
{
    if (!call)
        return;
    LIST_REMOVE(call, link);
    curl_multi_remove_handle(call->client->multi, call->easy);
    free_call(call);
}

/* ---- the client ---- */

enum pool_code http_client_open(uv_loop_t *loop, struct http_client **ret_client, struct pool_error *err)
{
    struct http_client *client = calloc(1, sizeof *client);
    if (!client)
        return pool_error_no_memory(err);
    client->loop = loop;
    LIST_INIT(&client->calls);
    LIST_INIT(&client->watches);
    uv_timer_init(loop, &client->timer); /* can not fail */
    client->timer.data = client;
    client->n_handles = 1;
    *ret_client = client;
    return POOL_OK;
}

void http_client_close(struct http_client *client, void (*on_closed)(void *ctx), void *ctx)
{
    if (!client || client->is_closing)
        return;
    client->is_closing = true;
    client->on_closed = on_closed;
    client->closed_ctx = ctx;
    for (struct http_call *call; (call = LIST_FIRST(&client->calls));)
        http_client_cancel(call);
    while (client->n_spare > 0)
        curl_easy_cleanup(client->spare[--client->n_spare]);
    if (client->multi)
        curl_multi_cleanup(client->multi);
    for (struct socket_watch *watch; (watch = LIST_FIRST(&client->watches));)
        close_watch(watch);
    uv_close((uv_handle_t *)&client->timer, take_closed_timer);
}

/* ---- URLs ---- */

static void free_url(CURLU **url)
{
    curl_url_cleanup(*url);
}

static void free_curl_text(char **text)
{
    curl_free(*text);
}
#define CLEANUP_CURL_TEXT CLEANUP(free_curl_text)

static CURLU *parse_url(const char *text)
{
    CURLU *url = curl_url();
    if (url && curl_url_set(url, CURLUPART_URL, text, 0) != CURLUE_OK) {
        curl_url_cleanup(url);
        return NULL;
    }
    return url;
}

bool http_client_url_is_usable(const char *text)
{
    CLEANUP(free_url) CURLU *url = parse_url(text);
    CLEANUP_CURL_TEXT char *scheme = NULL;
    CLEANUP_CURL_TEXT char *user = NULL;
    if (!url || curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK)
        return false;
    return (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) &&
           curl_url_get(url, CURLUPART_USER, &user, 0) == CURLUE_NO_USER;
}

bool http_client_url_is_loopback(const char *text)
{
    CLEANUP(free_url) CURLU *url = parse_url(text);
    CLEANUP_CURL_TEXT char *host = NULL;
    if (!url || curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK)
        return false;
    struct in_addr address;
    bool is_loopback_4 = inet_pton(AF_INET, host, &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
    return is_loopback_4 || strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0;
}
