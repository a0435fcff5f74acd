/*
 * HTTP by libcurl's multi interface, which can wait for an interruption beside the transfer.
 *
 * Source: the manual pages libcurl-multi(3), curl_easy_setopt(3), curl_multi_poll(3).
 */
#include "cli/remote_http.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "cli/curl_library.h"

#define CONNECT_TIMEOUT_MS 5000L
#define POLL_MAX_MS        1000
#define HEADER_MAX_BYTES   1024

struct remote_http {
    struct remote_address address;
    char *authorization; /* the whole header line; NULL: none */
    struct curl_library curl;
    CURLM *multi;
    CURL *easy;
};

/* One request that is under way. */
struct transfer {
    struct remote_http *http;
    struct remote_exchange *exchange;
    struct strbuf body;
    struct curl_slist *headers;
    long status; /* of the answer, as soon as a body comes */
    bool is_ended_by_sink;
    char why[CURL_ERROR_SIZE];
};

enum pool_code remote_http_open(struct remote_address *address, struct remote_http **ret_http,
                                struct pool_error *err)
{
    struct remote_http *http = calloc(1, sizeof *http);
    if (!http) {
        remote_address_done(address);
        return pool_error_no_memory(err);
    }
    http->address = *address;
    *address = (struct remote_address){ 0 };
    enum pool_code code = curl_library_load(&http->curl, "asking a daemon", err);
    if (code == POOL_OK) {
        http->multi = http->curl.curl_multi_init();
        http->easy = http->curl.curl_easy_init();
        code = http->multi && http->easy ? POOL_OK : pool_error_no_memory(err);
    }
    if (code == POOL_OK)
        *ret_http = http;
    else
        remote_http_close(http);
    return code;
}

void remote_http_close(struct remote_http *http)
{
    if (!http)
        return;
    if (http->easy)
        http->curl.curl_easy_cleanup(http->easy);
    if (http->multi)
        http->curl.curl_multi_cleanup(http->multi);
    remote_address_done(&http->address);
    if (http->authorization)
        explicit_bzero(http->authorization, strlen(http->authorization));
    free(http->authorization);
    free(http);
}

bool remote_http_set_token(struct remote_http *http, const char *token)
{
    char *line = NULL;
    if (asprintf(&line, "Authorization: Bearer %s", token) < 0)
        return false;
    free(http->authorization);
    http->authorization = line;
    return true;
}

const struct remote_address *remote_http_address(const struct remote_http *http)
{
    return &http->address;
}

/* ---- answers ---- */

static size_t take_body(char *bytes, size_t size, size_t n, void *context)
{
    struct transfer *transfer = context;
    const struct remote_exchange *exchange = transfer->exchange;
    size_t n_bytes = size * n;
    if (transfer->status == 0)
        transfer->http->curl.curl_easy_getinfo(transfer->http->easy, CURLINFO_RESPONSE_CODE,
                                               &transfer->status);
    if (!exchange->sink || transfer->status >= 300)
        return strbuf_add(&transfer->body, bytes, n_bytes) ? n_bytes : 0;
    if (exchange->sink(bytes, n_bytes, exchange->context))
        return n_bytes;
    transfer->is_ended_by_sink = true;
    return 0;
}

static size_t take_header(char *line, size_t size, size_t n, void *context)
{
    static const char name[] = "X-Correlation-Id:";
    struct transfer *transfer = context;
    size_t n_bytes = size * n;
    size_t n_name = sizeof name - 1;
    transfer->exchange->is_answered = true;
    if (n_bytes <= n_name || strncasecmp(line, name, n_name) != 0)
        return n_bytes;
    const char *value = line + n_name;
    size_t n_value = n_bytes - n_name;
    while (n_value > 0 && *value == ' ') {
        value++;
        n_value--;
    }
    while (n_value > 0 && strchr("\r\n ", value[n_value - 1]))
        n_value--;
    char *id = transfer->exchange->correlation_id;
    if (n_value <= POOL_CORRELATION_ID_MAX) {
        memcpy(id, value, n_value);
        id[n_value] = '\0';
        if (!pool_correlation_id_is_valid(id))
            id[0] = '\0';
    }
    return n_bytes;
}

/* Connecting takes the right to write, to the socket and to search its folders. */
static bool is_forbidden(const char *socket_path)
{
    return socket_path && faccessat(AT_FDCWD, socket_path, W_OK, AT_EACCESS) < 0 && errno == EACCES;
}

static enum pool_code explain_failure(const struct transfer *transfer, CURLcode result,
                                      struct pool_error *err)
{
    const char *name = transfer->http->address.name;
    const char *why = transfer->why[0] ? transfer->why : transfer->http->curl.curl_easy_strerror(result);
    switch ((int)result) {
    case CURLE_OUT_OF_MEMORY: return pool_error_no_memory(err);
    case CURLE_OPERATION_TIMEDOUT:
        transfer->exchange->is_lost = transfer->exchange->silence_ms > 0;
        return pool_error_set(err, POOL_DEADLINE_EXCEEDED, "the daemon at %s does not answer in time", name);
    case CURLE_WRITE_ERROR:
        if (transfer->body.failure == STRBUF_NO_MEMORY)
            return pool_error_no_memory(err);
        return pool_error_set(err, POOL_REGISTRY_UNAVAILABLE,
                              "what answers at %s is no pool-managerd: it says more than %d bytes", name,
                              POOL_ANSWER_MAX_BYTES);
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
        if (is_forbidden(transfer->http->address.socket_path))
            return pool_error_set(err, POOL_PERMISSION_DENIED,
                                  "%s is not for this user: its owner and its group may use it", name);
        transfer->exchange->is_lost = true;
        return pool_error_set(err, POOL_REGISTRY_UNAVAILABLE, "no daemon answers at %s: %s", name, why);
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
        transfer->exchange->is_lost = true;
        return pool_error_set(err, POOL_REGISTRY_UNAVAILABLE, "the connection to the daemon at %s broke: %s",
                              name, why);
    default:
        return pool_error_set(err, POOL_REGISTRY_UNAVAILABLE, "what answers at %s is no pool-managerd: %s",
                              name, why);
    }
}

/* A refusal of the daemon as it said it; anything else that is no good answer did not come from one. */
static enum pool_code explain_answer(const struct transfer *transfer, struct pool_error *err)
{
    struct pool_error refusal = POOL_ERROR_INIT;
    enum pool_code code = pool_error_decode(strbuf_text(&transfer->body), transfer->body.n, &refusal, NULL);
    if (code == POOL_INSUFFICIENT_MEMORY)
        return pool_error_no_memory(err);
    if (code != POOL_OK)
        return pool_error_set(err, POOL_REGISTRY_UNAVAILABLE,
                              "what answers at %s is no pool-managerd: HTTP status %ld",
                              transfer->http->address.name, transfer->status);
    if (err)
        *err = refusal;
    return refusal.code;
}

/* ---- asking ---- */

static bool add_header(struct transfer *transfer, const char *line)
{
    struct curl_slist *longer = transfer->http->curl.curl_slist_append(transfer->headers, line);
    if (longer)
        transfer->headers = longer;
    return longer != NULL;
}

static bool add_last_event_id(struct transfer *transfer)
{
    CLEANUP(strbuf_done) struct strbuf line = STRBUF_INIT(HEADER_MAX_BYTES);
    strbuf_printf(&line, "Last-Event-ID: %s", transfer->exchange->last_event_id);
    return line.failure == STRBUF_FINE && add_header(transfer, strbuf_text(&line));
}

/* Every option that can fail does so for memory alone. */
static bool set_options(struct transfer *transfer, const char *url)
{
    const struct remote_http *http = transfer->http;
    const struct remote_exchange *exchange = transfer->exchange;
    __typeof__(&curl_easy_setopt) set = http->curl.curl_easy_setopt;
    CURL *easy = http->easy;
    bool is_set = set(easy, CURLOPT_URL, url) == CURLE_OK &&
                  set(easy, CURLOPT_PROTOCOLS_STR, "http") == CURLE_OK &&
                  set(easy, CURLOPT_NOPROXY, "*") == CURLE_OK &&
                  set(easy, CURLOPT_USERAGENT, "rbees-pool") == CURLE_OK && add_header(transfer, "Expect:");
    if (http->authorization)
        is_set = is_set && add_header(transfer, http->authorization);
    if (http->address.socket_path)
        is_set = is_set && set(easy, CURLOPT_UNIX_SOCKET_PATH, http->address.socket_path) == CURLE_OK;
    if (exchange->body) {
        is_set = is_set && add_header(transfer, "Content-Type: application/json") &&
                 set(easy, CURLOPT_POSTFIELDS, exchange->body) == CURLE_OK;
    }
    if (exchange->last_event_id && *exchange->last_event_id)
        is_set = is_set && add_last_event_id(transfer);
    if (exchange->silence_ms > 0) {
        set(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
        set(easy, CURLOPT_LOW_SPEED_TIME, (long)((exchange->silence_ms + 999) / 1000));
    }
    if (strcmp(exchange->method, exchange->body ? "POST" : "GET") != 0)
        is_set = is_set && set(easy, CURLOPT_CUSTOMREQUEST, exchange->method) == CURLE_OK;
    set(easy, CURLOPT_HTTPHEADER, transfer->headers);
    set(easy, CURLOPT_NOSIGNAL, 1L);
    set(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    set(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    set(easy, CURLOPT_TIMEOUT_MS, (long)exchange->timeout_ms);
    set(easy, CURLOPT_ERRORBUFFER, transfer->why);
    set(easy, CURLOPT_WRITEFUNCTION, take_body);
    set(easy, CURLOPT_WRITEDATA, transfer);
    set(easy, CURLOPT_HEADERFUNCTION, take_header);
    set(easy, CURLOPT_HEADERDATA, transfer);
    return is_set;
}

static bool is_cancelled(const struct curl_waitfd *cancel)
{
    return cancel->fd >= 0 && cancel->revents != 0;
}

/* Until the transfer is over. false: the person wants an end. */
static bool run_transfer(const struct transfer *transfer, CURLcode *ret_result)
{
    const struct remote_http *http = transfer->http;
    struct curl_waitfd cancel = { .fd = transfer->exchange->cancel_fd, .events = CURL_WAIT_POLLIN };
    unsigned n_extra = cancel.fd >= 0 ? 1 : 0;
    for (;;) {
        int n_running = 0;
        int n_messages = 0;
        if (http->curl.curl_multi_perform(http->multi, &n_running) != CURLM_OK) {
            *ret_result = CURLE_OUT_OF_MEMORY;
            return true;
        }
        const CURLMsg *message = http->curl.curl_multi_info_read(http->multi, &n_messages);
        if (message && message->msg == CURLMSG_DONE) {
            *ret_result = message->data.result;
            return true;
        }
        cancel.revents = 0;
        if (http->curl.curl_multi_poll(http->multi, &cancel, n_extra, POLL_MAX_MS, NULL) != CURLM_OK) {
            *ret_result = CURLE_OUT_OF_MEMORY;
            return true;
        }
        if (is_cancelled(&cancel))
            return false;
    }
}

static enum pool_code finish_transfer(struct transfer *transfer, CURLcode result, char **ret_body,
                                      size_t *ret_n, struct pool_error *err)
{
    if (result != CURLE_OK && !transfer->is_ended_by_sink)
        return explain_failure(transfer, result, err);
    transfer->http->curl.curl_easy_getinfo(transfer->http->easy, CURLINFO_RESPONSE_CODE, &transfer->status);
    if (transfer->status < 200 || transfer->status > 299)
        return explain_answer(transfer, err);
    size_t n = transfer->body.n;
    char *body = strbuf_take(&transfer->body);
    if (!body)
        return pool_error_no_memory(err);
    *ret_body = body;
    *ret_n = n;
    return POOL_OK;
}

enum pool_code remote_http_ask(struct remote_http *http, struct remote_exchange *exchange, char **ret_body,
                               size_t *ret_n, struct pool_error *err)
{
    CLEANUP(strbuf_done) struct strbuf url = STRBUF_INIT(POOL_REQUEST_MAX_BYTES);
    struct transfer transfer = { .http = http,
                                 .exchange = exchange,
                                 .body = STRBUF_INIT(POOL_ANSWER_MAX_BYTES) };
    exchange->is_answered = false;
    exchange->is_lost = false;
    exchange->correlation_id[0] = '\0';
    strbuf_printf(&url, "%s%s", http->address.url, exchange->path);
    enum pool_code code = POOL_OK;
    CURLcode result = CURLE_OK;
    if (url.failure != STRBUF_FINE || !set_options(&transfer, strbuf_text(&url)) ||
        http->curl.curl_multi_add_handle(http->multi, http->easy) != CURLM_OK)
        code = pool_error_no_memory(err);
    else if (!run_transfer(&transfer, &result))
        code = pool_error_set(err, POOL_CANCELLED, "interrupted");
    http->curl.curl_multi_remove_handle(http->multi, http->easy);
    if (code == POOL_OK)
        code = finish_transfer(&transfer, result, ret_body, ret_n, err);
    http->curl.curl_easy_reset(http->easy);
    http->curl.curl_slist_free_all(transfer.headers);
    strbuf_done(&transfer.body);
    return code;
}
