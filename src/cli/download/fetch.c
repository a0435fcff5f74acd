/*
 * Fetching the pieces of a file; see fetch.h. What comes over one connection is fetch_slot.c's.
 */
#include "cli/download/fetch.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/download/fetch_slot.h"

#define POLL_MAX_MS 100 /* progress is shown that often */

struct fetch {
    const struct fetch_request *request;
    CURLM *multi;
    struct fetch_slot slots[FETCH_CONNECTIONS_MAX];
    int n_slots;           /* that may be active at once */
    bool is_single;        /* the server does not know ranges */
    int n_failed;          /* in a row, without a byte between them */
    int64_t failed_ns;     /* when the last of them was */
    int64_t not_before_ns; /* nothing is started earlier */
    int generation;        /* of the address */
};

static void fetch_done(struct fetch *fetch)
{
    const struct curl_library *curl = &fetch->request->client->curl;
    for (int i = 0; i < FETCH_CONNECTIONS_MAX; i++) {
        struct fetch_slot *slot = &fetch->slots[i];
        if (slot->is_active)
            curl->curl_multi_remove_handle(fetch->multi, slot->easy);
        slot_close(slot);
    }
    if (fetch->multi)
        curl->curl_multi_cleanup(fetch->multi);
}

/* ---- starting ---- */

static bool is_taken(const struct fetch *fetch, int64_t at)
{
    for (int i = 0; i < fetch->n_slots; i++) {
        const struct fetch_slot *slot = &fetch->slots[i];
        if (slot->is_active && at >= slot->at && at < slot->end)
            return true;
    }
    return false;
}

/* The lowest piece that is missing and that nobody fetches. false: none. */
static bool find_piece(const struct fetch *fetch, int64_t *ret_at, int64_t *ret_end)
{
    const struct part_state *state = &fetch->request->part->state;
    for (size_t i = 0; i < state->n_pieces; i++) {
        int64_t at = part_piece_start(state, i) + state->pieces[i].done_bytes;
        if (part_piece_is_whole(state, i) || is_taken(fetch, at))
            continue;
        *ret_at = at;
        *ret_end = part_piece_start(state, i) + part_piece_length(state, i);
        return true;
    }
    return false;
}

static enum pool_code start_slot(struct fetch *fetch, struct fetch_slot *slot, int64_t at, int64_t end,
                                 struct pool_error *err)
{
    enum pool_code code = slot->request ? POOL_OK : slot_open(slot, fetch->request, err);
    if (code != POOL_OK)
        return code;
    if (!slot_prepare(slot, at, end, fetch->is_single) ||
        fetch->request->client->curl.curl_multi_add_handle(fetch->multi, slot->easy) != CURLM_OK)
        return pool_error_no_memory(err);
    slot->generation = fetch->generation;
    slot->is_active = true;
    return POOL_OK;
}

static bool is_any_active(const struct fetch *fetch)
{
    for (int i = 0; i < FETCH_CONNECTIONS_MAX; i++) {
        if (fetch->slots[i].is_active)
            return true;
    }
    return false;
}

/* *ret_is_over: everything is there. */
static enum pool_code start_slots(struct fetch *fetch, bool *ret_is_over, struct pool_error *err)
{
    int64_t at;
    int64_t end;
    bool is_missing = find_piece(fetch, &at, &end);
    *ret_is_over = !is_missing && !is_any_active(fetch);
    if (clock_boottime_ns() < fetch->not_before_ns)
        return POOL_OK;
    if (fetch->is_single) {
        return !is_missing || is_any_active(fetch)
                   ? POOL_OK
                   : start_slot(fetch, &fetch->slots[0], 0, fetch->request->part->state.content.size_bytes,
                                err);
    }
    for (int i = 0; i < fetch->n_slots && is_missing; i++) {
        if (fetch->slots[i].is_active)
            continue;
        enum pool_code code = start_slot(fetch, &fetch->slots[i], at, end, err);
        if (code != POOL_OK)
            return code;
        is_missing = find_piece(fetch, &at, &end);
    }
    return POOL_OK;
}

/* ---- ending ---- */

static void stop_slot(struct fetch *fetch, struct fetch_slot *slot)
{
    fetch->request->client->curl.curl_multi_remove_handle(fetch->multi, slot->easy);
    slot->is_active = false;
}

/* Asks for a new address, and that it is still the same file. */
static enum pool_code renew_address(struct fetch *fetch, struct pool_error *err)
{
    const struct fetch_request *request = fetch->request;
    CLEANUP(hub_file_facts_done) struct hub_file_facts facts = { 0 };
    enum pool_code code = hub_look_up(request->client, &request->place, request->path, &facts, err);
    if (code != POOL_OK)
        return code;
    if (strcmp(facts.content_name, request->facts->content_name) != 0 ||
        facts.size_bytes != request->facts->size_bytes || strcmp(facts.commit, request->facts->commit) != 0)
        return pool_error_set(err, POOL_DOWNLOAD_FAILED,
                              "the Hub has another file under the same commit than a moment ago");
    free(request->facts->url);
    request->facts->url = take_ptr(&facts.url);
    fetch->generation++;
    return POOL_OK;
}

static enum pool_code follow_redirect(struct fetch *fetch, const struct fetch_slot *slot,
                                      struct pool_error *err)
{
    const struct hub_client *client = fetch->request->client;
    const char *target = hub_redirect_of(client, slot->easy);
    if (!target || !hub_may_follow(client, target))
        return pool_error_set(err, POOL_DOWNLOAD_FAILED,
                              "the server redirects to where it is not safe to follow");
    if (slot->generation != fetch->generation)
        return POOL_OK;
    char *url = strdup(target);
    if (!url)
        return pool_error_no_memory(err);
    free(fetch->request->facts->url);
    fetch->request->facts->url = url;
    fetch->generation++;
    return POOL_OK;
}

/*
 * Counts a failure, unless the transfer began before the last one that was counted: connections that break together are
 * one failure. Errors: what `why` says, when there were too many.
 */
static enum pool_code count_failure(struct fetch *fetch, const struct fetch_slot *slot, int64_t wait_ms,
                                    const struct pool_error *why, struct pool_error *err)
{
    int64_t now_ns = clock_boottime_ns();
    if (slot->stored_bytes > 0)
        fetch->n_failed = 0;
    if (slot->started_ns >= fetch->failed_ns) {
        fetch->n_failed++;
        fetch->failed_ns = now_ns;
    }
    if (fetch->n_failed >= fetch->request->client->n_tries) {
        if (err)
            *err = *why;
        pool_error_prefix(err, "tried %d times without getting on", fetch->n_failed);
        return why->code;
    }
    int64_t backoff_ms = hub_backoff_ms(fetch->n_failed);
    int64_t until_ns = now_ns + (wait_ms > backoff_ms ? wait_ms : backoff_ms) * NS_PER_MS;
    if (until_ns > fetch->not_before_ns)
        fetch->not_before_ns = until_ns;
    return POOL_OK;
}

/* A server that can not serve so many at once is asked by fewer. */
static void use_fewer(struct fetch *fetch, const struct pool_error *why)
{
    const struct pool_detail *status = pool_error_detail(why, "http_status");
    bool is_overloaded = why->code == POOL_RATE_LIMITED || (status && status->number == 503);
    if (is_overloaded && fetch->n_slots > 1)
        fetch->n_slots = (fetch->n_slots + 1) / 2;
}

static enum pool_code read_without_ranges(struct fetch *fetch)
{
    fetch->is_single = true;
    for (int i = 0; i < FETCH_CONNECTIONS_MAX; i++) {
        if (fetch->slots[i].is_active)
            stop_slot(fetch, &fetch->slots[i]);
    }
    return POOL_OK;
}

static enum pool_code finish_by_verdict(struct fetch *fetch, const struct fetch_slot *slot, CURLcode result,
                                        struct pool_error *err)
{
    struct pool_error why = POOL_ERROR_INIT;
    int64_t wait_ms = 0;
    enum pool_code code = POOL_OK;
    switch (hub_judge(fetch->request->client, slot->easy, result, slot->why, &wait_ms, &why)) {
    case HUB_FINE:
        pool_error_set(&why, POOL_DOWNLOAD_FAILED, "the server sends less than it was asked for");
        break;
    case HUB_REDIRECTED:
        code = follow_redirect(fetch, slot, err);
        pool_error_set(&why, POOL_DOWNLOAD_FAILED, "the server redirects in a circle");
        break;
    case HUB_EXPIRED:
        if (slot->generation == fetch->generation)
            code = renew_address(fetch, err);
        break;
    case HUB_REFUSED:
        if (err)
            *err = why;
        return why.code;
    case HUB_LIMITED:
    case HUB_AGAIN: use_fewer(fetch, &why); break;
    }
    return code == POOL_OK ? count_failure(fetch, slot, wait_ms, &why, err) : code;
}

static enum pool_code finish_slot(struct fetch *fetch, struct fetch_slot *slot, CURLcode result,
                                  struct pool_error *err)
{
    stop_slot(fetch, slot);
    if (slot->fault == SLOT_FAILED) {
        if (err)
            *err = slot->error;
        return slot->error.code;
    }
    if (slot->at == slot->end && slot->fault == SLOT_FINE) {
        fetch->n_failed = 0;
        return POOL_OK;
    }
    if (slot->fault == SLOT_IGNORES_RANGE)
        return read_without_ranges(fetch);
    if (slot->fault == SLOT_WRONG)
        return count_failure(fetch, slot, 0, &slot->error, err);
    return finish_by_verdict(fetch, slot, result, err);
}

static struct fetch_slot *slot_of(struct fetch *fetch, const CURL *easy)
{
    for (int i = 0; i < FETCH_CONNECTIONS_MAX; i++) {
        if (fetch->slots[i].is_active && fetch->slots[i].easy == easy)
            return &fetch->slots[i];
    }
    return NULL;
}

/* ---- the loop ---- */

static enum pool_code take_ended(struct fetch *fetch, int *ret_n_ended, struct pool_error *err)
{
    const struct curl_library *curl = &fetch->request->client->curl;
    enum pool_code code = POOL_OK;
    int n_messages = 0;
    const CURLMsg *message;
    while (code == POOL_OK && (message = curl->curl_multi_info_read(fetch->multi, &n_messages))) {
        CURLcode result = message->data.result;
        struct fetch_slot *slot = message->msg == CURLMSG_DONE ? slot_of(fetch, message->easy_handle) : NULL;
        if (!slot)
            continue;
        ++*ret_n_ended;
        code = finish_slot(fetch, slot, result, err);
    }
    return code;
}

static int poll_ms(const struct fetch *fetch)
{
    int64_t ms = (fetch->not_before_ns - clock_boottime_ns()) / NS_PER_MS + 1;
    return ms > 0 && ms < POLL_MAX_MS ? (int)ms : POLL_MAX_MS;
}

static enum pool_code run(struct fetch *fetch, struct pool_error *err)
{
    const struct fetch_request *request = fetch->request;
    const struct curl_library *curl = &request->client->curl;
    struct curl_waitfd cancel = { .fd = request->client->cancel_fd, .events = CURL_WAIT_POLLIN };
    unsigned n_extra = cancel.fd >= 0 ? 1 : 0;
    for (;;) {
        int n_running = 0;
        bool is_over;
        enum pool_code code = start_slots(fetch, &is_over, err);
        if (code != POOL_OK || is_over)
            return code;
        if (curl->curl_multi_perform(fetch->multi, &n_running) != CURLM_OK)
            return pool_error_no_memory(err);
        int n_ended = 0;
        code = take_ended(fetch, &n_ended, err);
        if (request->progress)
            request->progress(part_state_done_bytes(&request->part->state), request->context);
        if (code != POOL_OK)
            return code;
        cancel.revents = 0;
        int wait_ms = n_ended > 0 ? 0 : poll_ms(fetch);
        if (curl->curl_multi_poll(fetch->multi, &cancel, n_extra, wait_ms, NULL) != CURLM_OK)
            return pool_error_no_memory(err);
        if (cancel.revents != 0)
            return pool_error_set(err, POOL_CANCELLED, "interrupted");
    }
}

enum pool_code fetch_missing(const struct fetch_request *request, struct pool_error *err)
{
    CLEANUP(fetch_done) struct fetch fetch = { .request = request, .n_slots = request->n_connections };
    if (fetch.n_slots < 1 || fetch.n_slots > FETCH_CONNECTIONS_MAX)
        return pool_error_set(err, POOL_INVALID_REQUEST, "1 to %d connections", FETCH_CONNECTIONS_MAX);
    fetch.multi = request->client->curl.curl_multi_init();
    if (!fetch.multi)
        return pool_error_no_memory(err);
    whole_sum_advance(request->whole, part_state_frontier(&request->part->state));
    return run(&fetch, err);
}
