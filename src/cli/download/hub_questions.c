/*
 * What is asked of the Hub; see hub_client.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/number.h"
#include "cli/download/hub_client.h"
#include "cli/download/hub_headers.h"

#define TOLD_PAUSE_MS 3000 /* shorter ones are not worth a word */
#define HOPS_MAX      5

/* ---- addresses ---- */

/* Percent-encodes what is not unreserved (RFC 3986, section 2.3), and '/' unless it parts a path. */
static void add_encoded(struct strbuf *url, const char *text, bool is_path)
{
    static const char unreserved[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    for (; *text; text++) {
        if (strchr(unreserved, *text) || (is_path && *text == '/'))
            strbuf_add_char(url, *text);
        else
            strbuf_printf(url, "%%%02X", (unsigned char)*text);
    }
}

static char *file_url(const struct hub_client *client, const struct hub_place_name *place, const char *path)
{
    CLEANUP(strbuf_done) struct strbuf url = STRBUF_INIT(HUB_URL_MAX);
    strbuf_printf(&url, "%s/%s/%s/resolve/", client->settings.endpoint, place->org, place->repo);
    add_encoded(&url, place->revision, false);
    strbuf_add_char(&url, '/');
    add_encoded(&url, path, true);
    return strbuf_take(&url);
}

static char *info_url(const struct hub_client *client, const struct hub_place_name *place)
{
    CLEANUP(strbuf_done) struct strbuf url = STRBUF_INIT(HUB_URL_MAX);
    strbuf_printf(&url, "%s/api/models/%s/%s/revision/", client->settings.endpoint, place->org, place->repo);
    add_encoded(&url, place->revision, false);
    return strbuf_take(&url);
}

/* ---- one question ---- */

struct question {
    struct hub_client *client;
    struct strbuf body;
    char why[CURL_ERROR_SIZE];
};

static size_t take_body(char *bytes, size_t size, size_t n, void *context)
{
    struct question *question = context;
    return strbuf_add(&question->body, bytes, size * n) ? size * n : 0;
}

/* Until the transfer is over. Errors: CANCELLED, INSUFFICIENT_MEMORY. */
static enum pool_code run_transfer(const struct hub_client *client, CURLcode *ret_result,
                                   struct pool_error *err)
{
    struct curl_waitfd cancel = { .fd = client->cancel_fd, .events = CURL_WAIT_POLLIN };
    unsigned n_extra = cancel.fd >= 0 ? 1 : 0;
    for (;;) {
        int n_running = 0;
        int n_messages = 0;
        if (client->curl.curl_multi_perform(client->multi, &n_running) != CURLM_OK)
            return pool_error_no_memory(err);
        const CURLMsg *message = client->curl.curl_multi_info_read(client->multi, &n_messages);
        if (message && message->msg == CURLMSG_DONE) {
            *ret_result = message->data.result;
            return POOL_OK;
        }
        cancel.revents = 0;
        if (client->curl.curl_multi_poll(client->multi, &cancel, n_extra, 1000, NULL) != CURLM_OK)
            return pool_error_no_memory(err);
        if (cancel.revents != 0)
            return pool_error_set(err, POOL_CANCELLED, "interrupted");
    }
}

static enum pool_code ask_once(struct question *question, const char *url, bool is_head,
                               enum hub_verdict *ret_verdict, int64_t *ret_wait_ms, struct pool_error *err)
{
    struct hub_client *client = question->client;
    struct curl_slist *headers = NULL;
    CURLcode result = CURLE_OK;
    enum pool_code code = POOL_OK;
    __typeof__(&curl_easy_setopt) set = client->curl.curl_easy_setopt;
    strbuf_reset(&question->body);
    question->why[0] = '\0';
    bool is_ready = hub_prepare(client, client->easy, url, &headers);
    set(client->easy, CURLOPT_NOBODY, is_head ? 1L : 0L);
    set(client->easy, CURLOPT_ERRORBUFFER, question->why);
    set(client->easy, CURLOPT_WRITEFUNCTION, take_body);
    set(client->easy, CURLOPT_WRITEDATA, question);
    if (!is_ready || client->curl.curl_multi_add_handle(client->multi, client->easy) != CURLM_OK)
        code = pool_error_no_memory(err);
    else
        code = run_transfer(client, &result, err);
    client->curl.curl_multi_remove_handle(client->multi, client->easy);
    if (code == POOL_OK && question->body.failure == STRBUF_NO_MEMORY)
        code = pool_error_no_memory(err);
    if (code == POOL_OK)
        *ret_verdict = hub_judge(client, client->easy, result, question->why, ret_wait_ms, err);
    client->curl.curl_slist_free_all(headers);
    return code;
}

static void tell_pause(const struct hub_client *client, int64_t ms, const struct pool_error *why)
{
    char text[POOL_ERROR_MESSAGE_MAX + 64];
    if (!client->tell || ms < TOLD_PAUSE_MS)
        return;
    snprintf(text, sizeof text, "%s; going on in %lld s", why->message, (long long)(ms + 999) / 1000);
    client->tell(text, client->context);
}

/* Asks until there is an answer: HUB_FINE or HUB_REDIRECTED. */
static enum pool_code ask(struct question *question, const char *url, bool is_head,
                          enum hub_verdict *ret_verdict, struct pool_error *err)
{
    struct hub_client *client = question->client;
    for (int n_failed = 0;;) {
        struct pool_error why = POOL_ERROR_INIT;
        int64_t wait_ms = 0;
        enum pool_code code = ask_once(question, url, is_head, ret_verdict, &wait_ms, &why);
        if (code == POOL_OK && (*ret_verdict == HUB_FINE || *ret_verdict == HUB_REDIRECTED))
            return POOL_OK;
        n_failed++;
        if (code != POOL_OK || *ret_verdict == HUB_REFUSED || *ret_verdict == HUB_EXPIRED ||
            n_failed >= client->n_tries) {
            if (err)
                *err = why;
            return why.code;
        }
        int64_t backoff_ms = hub_backoff_ms(n_failed);
        if (wait_ms < backoff_ms && *ret_verdict != HUB_LIMITED)
            wait_ms = backoff_ms;
        tell_pause(client, wait_ms, &why);
        code = hub_pause(client, wait_ms, err);
        if (code != POOL_OK)
            return code;
    }
}

void hub_file_facts_done(struct hub_file_facts *facts)
{
    free(facts->url);
    facts->url = NULL;
}

/* What one answer of the chain says, as far as an earlier one did not. */
static void take_facts(const struct hub_client *client, struct hub_file_facts *facts, bool is_last)
{
    CURL *easy = client->easy;
    const char *commit = hub_header_of(client, easy, "X-Repo-Commit");
    const char *name = hub_header_of(client, easy, "X-Linked-Etag");
    const char *size = hub_header_of(client, easy, "X-Linked-Size");
    curl_off_t length = -1;
    if (commit && !facts->commit[0])
        (void)hub_read_commit(commit, facts->commit);
    if (!name && is_last)
        name = hub_header_of(client, easy, "ETag");
    if (name && !facts->content_name[0])
        (void)hub_read_content_name(name, facts->content_name);
    if (size && facts->size_bytes < 0 && !parse_int64(size, 0, INT64_MAX, &facts->size_bytes))
        facts->size_bytes = -1;
    if (is_last && facts->size_bytes < 0 &&
        client->curl.curl_easy_getinfo(easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length) == CURLE_OK)
        facts->size_bytes = length;
}

static enum pool_code check_facts(const struct hub_client *client, const struct hub_file_facts *facts,
                                  struct pool_error *err)
{
    enum pool_code code = POOL_OK;
    if (!facts->commit[0])
        code = pool_error_set(
            err, POOL_DOWNLOAD_FAILED,
            "%s does not answer as the Hub does (no X-Repo-Commit); is a proxy or a login page "
            "in between?",
            client->settings.endpoint);
    else if (facts->size_bytes < 0)
        code = pool_error_set(err, POOL_DOWNLOAD_FAILED, "the Hub does not say how large the file is");
    if (code != POOL_OK && err)
        err->is_retriable = false;
    return code;
}

/* Follows redirects inside the endpoint's origin; the first one out of it is where the bytes are. */
static enum pool_code follow(struct question *question, char **url, struct hub_file_facts *facts,
                             struct pool_error *err)
{
    struct hub_client *client = question->client;
    for (int n_hops = 0; n_hops <= HOPS_MAX; n_hops++) {
        enum hub_verdict verdict = HUB_REFUSED;
        enum pool_code code = ask(question, *url, true, &verdict, err);
        if (code != POOL_OK)
            return code;
        const char *target = verdict == HUB_REDIRECTED ? hub_redirect_of(client, client->easy) : NULL;
        bool is_inside = target && hub_is_ours(client, target);
        take_facts(client, facts, verdict == HUB_FINE);
        if (verdict == HUB_FINE || (target && !is_inside)) {
            facts->url = strdup(target ? target : *url);
            return facts->url ? POOL_OK : pool_error_no_memory(err);
        }
        char *next = target ? strdup(target) : NULL;
        if (!next)
            return target ? pool_error_no_memory(err)
                          : pool_error_set(err, POOL_DOWNLOAD_FAILED, "the Hub redirects to nowhere");
        free(*url);
        *url = next;
    }
    return pool_error_set(err, POOL_DOWNLOAD_FAILED, "the Hub redirects in a circle");
}

enum pool_code hub_look_up(struct hub_client *client, const struct hub_place_name *place, const char *path,
                           struct hub_file_facts *ret_facts, struct pool_error *err)
{
    CLEANUP_FREE char *url = file_url(client, place, path);
    CLEANUP(hub_file_facts_done) struct hub_file_facts facts = { .size_bytes = -1 };
    struct question question = { .client = client, .body = STRBUF_INIT(0) };
    if (!url)
        return pool_error_no_memory(err);
    enum pool_code code = follow(&question, &url, &facts, err);
    strbuf_done(&question.body);
    if (code == POOL_OK)
        code = check_facts(client, &facts, err);
    if (code == POOL_OK && !hub_may_follow(client, facts.url))
        code = pool_error_set(err, POOL_DOWNLOAD_FAILED,
                              "the Hub sends us to an address that is not safe to follow");
    if (code != POOL_OK)
        return code;
    *ret_facts = facts;
    facts.url = NULL;
    return POOL_OK;
}

/* ---- the files of a revision ---- */

static enum pool_code take_list(const struct strbuf *body, char commit[HUB_COMMIT_HEX + 1],
                                struct string_list *files, struct pool_error *err)
{
    struct json_failure failure = { 0 };
    CLEANUP_JSON json_t *document = json_parse(strbuf_text(body), body->n, &failure);
    if (!document && failure.is_no_memory)
        return pool_error_no_memory(err);
    const char *sha = json_string_value(json_object_get(document, "sha"));
    const json_t *siblings = json_object_get(document, "siblings");
    if (!sha || !hub_read_commit(sha, commit) || !json_is_array(siblings))
        return pool_error_set(err, POOL_DOWNLOAD_FAILED, "the Hub's answer is not a description of a model");
    if (json_array_size(siblings) > HUB_FILES_MAX)
        return pool_error_set(err, POOL_DOWNLOAD_FAILED, "the repository has more than %d files",
                              HUB_FILES_MAX);
    for (size_t i = 0; i < json_array_size(siblings); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(siblings, i), "rfilename"));
        if (name && !string_list_add(files, name))
            return pool_error_no_memory(err);
    }
    return POOL_OK;
}

enum pool_code hub_list_files(struct hub_client *client, const struct hub_place_name *place,
                              char ret_commit[HUB_COMMIT_HEX + 1], struct string_list *ret_files,
                              struct pool_error *err)
{
    CLEANUP_FREE char *url = info_url(client, place);
    struct question question = { .client = client, .body = STRBUF_INIT(HUB_ANSWER_MAX) };
    enum pool_code code = url ? POOL_OK : pool_error_no_memory(err);
    for (int n_hops = 0; code == POOL_OK; n_hops++) {
        enum hub_verdict verdict = HUB_REFUSED;
        code = ask(&question, url, false, &verdict, err);
        if (code != POOL_OK || verdict == HUB_FINE)
            break;
        const char *target = hub_redirect_of(client, client->easy);
        char *next = target && hub_is_ours(client, target) && n_hops < HOPS_MAX ? strdup(target) : NULL;
        if (!next) {
            code =
                pool_error_set(err, POOL_DOWNLOAD_FAILED, "the Hub redirects to where its answers are not");
            break;
        }
        free(url);
        url = next;
    }
    if (code == POOL_OK)
        code = take_list(&question.body, ret_commit, ret_files, err);
    strbuf_done(&question.body);
    return code;
}
