/*
 * The connection to the Hub, and what its answers mean; see hub_client.h. What is asked is hub_questions.c's.
 */
#include "cli/download/hub_client.h"

#include <poll.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/random.h"
#include "cli/download/hub_headers.h"

#define CONNECT_TIMEOUT_MS 10000L
#define BUFFER_BYTES       (512L << 10)

enum pool_code hub_client_open(struct hub_client *client, struct hub_settings *settings, int cancel_fd,
                               struct pool_error *err)
{
    *client =
        (struct hub_client){ .settings = *settings, .cancel_fd = cancel_fd, .n_tries = HUB_TRIES_DEFAULT };
    *settings = (struct hub_settings){ 0 };
    enum pool_code code = curl_library_load(&client->curl, "a download", err);
    if (code != POOL_OK)
        return code;
    client->multi = client->curl.curl_multi_init();
    client->easy = client->curl.curl_easy_init();
    return client->multi && client->easy ? POOL_OK : pool_error_no_memory(err);
}

void hub_client_close(struct hub_client *client)
{
    if (client->easy)
        client->curl.curl_easy_cleanup(client->easy);
    if (client->multi)
        client->curl.curl_multi_cleanup(client->multi);
    client->easy = NULL;
    client->multi = NULL;
    hub_settings_done(&client->settings);
}

/* ---- addresses ---- */

static char *url_part(const struct hub_client *client, CURLU *url, CURLUPart part)
{
    char *text = NULL;
    return client->curl.curl_url_get(url, part, &text, CURLU_DEFAULT_PORT) == CURLUE_OK ? text : NULL;
}

static bool is_same_part(const struct hub_client *client, CURLU *a, CURLU *b, CURLUPart part)
{
    char *of_a = url_part(client, a, part);
    char *of_b = url_part(client, b, part);
    bool is_same = of_a && of_b && strcasecmp(of_a, of_b) == 0;
    client->curl.curl_free(of_a);
    client->curl.curl_free(of_b);
    return is_same;
}

bool hub_is_ours(const struct hub_client *client, const char *url)
{
    CURLU *a = client->curl.curl_url();
    CURLU *b = client->curl.curl_url();
    bool is_same = a && b &&
                   client->curl.curl_url_set(a, CURLUPART_URL, client->settings.endpoint, 0) == CURLUE_OK &&
                   client->curl.curl_url_set(b, CURLUPART_URL, url, 0) == CURLUE_OK &&
                   is_same_part(client, a, b, CURLUPART_SCHEME) &&
                   is_same_part(client, a, b, CURLUPART_HOST) && is_same_part(client, a, b, CURLUPART_PORT);
    client->curl.curl_url_cleanup(a);
    client->curl.curl_url_cleanup(b);
    return is_same;
}

bool hub_may_follow(const struct hub_client *client, const char *url)
{
    if (strncasecmp(url, "https://", 8) == 0)
        return true;
    return strncasecmp(url, "http://", 7) == 0 && strncasecmp(client->settings.endpoint, "http://", 7) == 0;
}

const char *hub_redirect_of(const struct hub_client *client, CURL *easy)
{
    char *url = NULL;
    client->curl.curl_easy_getinfo(easy, CURLINFO_REDIRECT_URL, &url);
    return url;
}

const char *hub_header_of(const struct hub_client *client, CURL *easy, const char *name)
{
    struct curl_header *header = NULL;
    if (client->curl.curl_easy_header(easy, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
        return NULL;
    if (header->amount > 1 &&
        client->curl.curl_easy_header(easy, name, header->amount - 1, CURLH_HEADER, -1, &header) != CURLHE_OK)
        return NULL;
    return header->value;
}

/* ---- one request ---- */

bool hub_add_header(const struct hub_client *client, struct curl_slist **headers, const char *line)
{
    struct curl_slist *longer = client->curl.curl_slist_append(*headers, line);
    if (longer)
        *headers = longer;
    return longer != NULL;
}

bool hub_prepare(const struct hub_client *client, CURL *easy, const char *url, struct curl_slist **headers)
{
    __typeof__(&curl_easy_setopt) set = client->curl.curl_easy_setopt;
    const struct hub_settings *settings = &client->settings;
    client->curl.curl_easy_reset(easy);
    /* Else its size and bytes would be those of what is compressed. */
    bool is_set = hub_add_header(client, headers, "Accept-Encoding: identity") &&
                  set(easy, CURLOPT_URL, url) == CURLE_OK &&
                  set(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
                  set(easy, CURLOPT_USERAGENT, "rbees-pool") == CURLE_OK;
    if (settings->token && hub_is_ours(client, url)) {
        CLEANUP(strbuf_done) struct strbuf line = STRBUF_INIT(HUB_TOKEN_MAX + 64);
        strbuf_printf(&line, "Authorization: Bearer %s", settings->token);
        is_set = is_set && line.failure == STRBUF_FINE && hub_add_header(client, headers, strbuf_text(&line));
    }
    if (settings->cert_file)
        is_set = is_set && set(easy, CURLOPT_CAINFO, settings->cert_file) == CURLE_OK;
    set(easy, CURLOPT_HTTPHEADER, *headers);
    set(easy, CURLOPT_FOLLOWLOCATION, 0L);
    set(easy, CURLOPT_NOSIGNAL, 1L);
    set(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    set(easy, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
    /* Streams of one HTTP/2 connection would share its window, which several connections are there to avoid. */
    set(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    set(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    set(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(easy, CURLOPT_LOW_SPEED_TIME, (long)settings->timeout_s);
    return is_set;
}

bool hub_is_cancelled(const struct hub_client *client)
{
    struct pollfd fd = { .fd = client->cancel_fd, .events = POLLIN };
    return client->cancel_fd >= 0 && poll(&fd, 1, 0) > 0;
}

enum pool_code hub_pause(const struct hub_client *client, int64_t ms, struct pool_error *err)
{
    struct pollfd fd = { .fd = client->cancel_fd, .events = POLLIN };
    if (ms > HUB_WAIT_MAX_MS)
        ms = HUB_WAIT_MAX_MS;
    int n = poll(&fd, 1, (int)ms);
    return n > 0 ? pool_error_set(err, POOL_CANCELLED, "interrupted") : POOL_OK;
}

int64_t hub_backoff_ms(int n_failed)
{
    static const int64_t steps[] = { 100, 500, 1000, 2000, 4000, 8000 };
    const int n_steps = sizeof steps / sizeof steps[0];
    int64_t step = steps[n_failed < 1 ? 0 : n_failed > n_steps ? n_steps - 1 : n_failed - 1];
    uint8_t jitter = 0;
    (void)random_bytes(&jitter, sizeof jitter);
    return step / 2 + step / 2 * jitter / 255; /* many clients of one outage shall not come back at once */
}

/* ---- judging ---- */

static enum hub_verdict judge_transfer(const struct hub_client *client, CURLcode result, const char *why,
                                       struct pool_error *err)
{
    const char *text = why && why[0] ? why : client->curl.curl_easy_strerror(result);
    switch ((int)result) {
    case CURLE_OUT_OF_MEMORY: pool_error_no_memory(err); return HUB_REFUSED;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        pool_error_set(err, POOL_DOWNLOAD_FAILED, "%s", text);
        if (err)
            err->is_retriable = false;
        return HUB_REFUSED;
    default: pool_error_set(err, POOL_DOWNLOAD_FAILED, "%s", text); return HUB_AGAIN;
    }
}

static enum hub_verdict refuse(struct pool_error *err, enum pool_code code, long status, const char *text)
{
    pool_error_set(err, code, "%s", text);
    pool_error_add_number(err, "http_status", status);
    if (err && code == POOL_DOWNLOAD_FAILED)
        err->is_retriable = false;
    return HUB_REFUSED;
}

/* What the Hub itself refuses; private and missing repositories look the same on purpose. */
static enum hub_verdict judge_refusal(const struct hub_client *client, CURL *easy, long status,
                                      struct pool_error *err)
{
    const char *name = hub_header_of(client, easy, "X-Error-Code");
    const char *text = hub_header_of(client, easy, "X-Error-Message");
    if (name && strcmp(name, "GatedRepo") == 0)
        return refuse(
            err, status == 401 ? POOL_UNAUTHENTICATED : POOL_PERMISSION_DENIED, status,
            "the repository is gated: accept its licence on its page at the Hub, and give a token of that "
            "account in HF_TOKEN");
    if (name && strcmp(name, "EntryNotFound") == 0)
        return refuse(err, POOL_MODEL_NOT_FOUND, status, "the repository has no such file in this revision");
    if (name && strcmp(name, "RevisionNotFound") == 0)
        return refuse(err, POOL_MODEL_NOT_FOUND, status, "the repository has no such revision");
    if (status == 401 && text && strstr(text, "Invalid credentials"))
        return refuse(err, POOL_UNAUTHENTICATED, status, "the Hub does not know the token in HF_TOKEN");
    if ((name && strcmp(name, "RepoNotFound") == 0) || status == 401)
        return refuse(err, client->settings.token ? POOL_MODEL_NOT_FOUND : POOL_UNAUTHENTICATED, status,
                      client->settings.token
                          ? "the Hub has no such repository, or it is private and the token may not see it"
                          : "the Hub has no such repository, or it is private: HF_TOKEN is not set");
    if (status == 403)
        return refuse(err, POOL_PERMISSION_DENIED, status, text ? text : "the Hub refuses");
    if (status == 404)
        return refuse(err, POOL_MODEL_NOT_FOUND, status, text ? text : "the Hub has no such thing");
    pool_error_set(err, POOL_DOWNLOAD_FAILED, "the Hub answers with HTTP status %ld%s%s", status,
                   text ? ": " : "", text ? text : "");
    pool_error_add_number(err, "http_status", status);
    if (err)
        err->is_retriable = false;
    return HUB_REFUSED;
}

static enum hub_verdict judge_limit(const struct hub_client *client, CURL *easy, int64_t *ret_wait_ms,
                                    struct pool_error *err)
{
    int64_t ms =
        hub_limit_ms(hub_header_of(client, easy, "RateLimit"), hub_header_of(client, easy, "Retry-After"));
    pool_error_set(err, POOL_RATE_LIMITED, "the Hub limits the rate of requests%s",
                   client->settings.token ? "" : "; with HF_TOKEN the limits are higher");
    if (ms >= 0)
        pool_error_add_number(err, "retry_after_ms", ms);
    if (ms < 0)
        return HUB_AGAIN;
    *ret_wait_ms = ms;
    return ms > HUB_WAIT_MAX_MS ? HUB_REFUSED : HUB_LIMITED;
}

enum hub_verdict hub_judge(const struct hub_client *client, CURL *easy, CURLcode result, const char *why,
                           int64_t *ret_wait_ms, struct pool_error *err)
{
    long status = 0;
    char *url = NULL;
    *ret_wait_ms = 0;
    client->curl.curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    client->curl.curl_easy_getinfo(easy, CURLINFO_EFFECTIVE_URL, &url);
    bool is_refusal = status >= 400 && result != CURLE_OUT_OF_MEMORY;
    if (result != CURLE_OK && !is_refusal)
        return judge_transfer(client, result, why, err);
    if (status >= 200 && status < 300)
        return HUB_FINE;
    if (status >= 300 && status < 400 && status != 304)
        return HUB_REDIRECTED;
    if (status == 429)
        return judge_limit(client, easy, ret_wait_ms, err);
    if (status == 408 || status >= 500) {
        int64_t ms = hub_limit_ms(NULL, hub_header_of(client, easy, "Retry-After"));
        pool_error_set(err, POOL_DOWNLOAD_FAILED, "the server answers with HTTP status %ld", status);
        pool_error_add_number(err, "http_status", status);
        *ret_wait_ms = ms > HUB_WAIT_MAX_MS ? HUB_WAIT_MAX_MS : ms > 0 ? ms : 0;
        return HUB_AGAIN;
    }
    bool is_foreign = url && !hub_is_ours(client, url);
    if ((is_foreign && (status == 401 || status == 403 || status == 404 || status == 410)) || status == 416) {
        pool_error_set(err, POOL_DOWNLOAD_FAILED, "the place of the file answers with HTTP status %ld",
                       status);
        pool_error_add_number(err, "http_status", status);
        return HUB_EXPIRED;
    }
    return judge_refusal(client, easy, status, err);
}
