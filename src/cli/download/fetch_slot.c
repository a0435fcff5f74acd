/*
 * One connection of a fetch; see fetch_slot.h.
 */
#include "cli/download/fetch_slot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/download/hub_headers.h"

#define RANGE_TEXT_MAX   64
#define READ_BACK_BYTES  ((int64_t)256 << 10)
#define ERROR_BODY_BYTES (64 << 10) /* of an answer that is an error; more is not listened to */

enum pool_code slot_open(struct fetch_slot *slot, const struct fetch_request *request, struct pool_error *err)
{
    slot->request = request;
    slot->easy = request->client->curl.curl_easy_init();
    struct digest_failure failure = { .is_no_memory = true };
    if (slot->easy && digest_open(&slot->digest, DIGEST_SHA256, &failure))
        return POOL_OK;
    return failure.is_no_memory ? pool_error_no_memory(err)
                                : pool_error_set(err, POOL_INTERNAL, "%s", failure.message);
}

void slot_close(struct fetch_slot *slot)
{
    if (!slot->request)
        return;
    const struct curl_library *curl = &slot->request->client->curl;
    if (slot->easy)
        curl->curl_easy_cleanup(slot->easy);
    curl->curl_slist_free_all(slot->headers);
    digest_close(&slot->digest);
    *slot = (struct fetch_slot){ 0 };
}

static size_t fail(struct fetch_slot *slot, enum slot_fault fault)
{
    slot->fault = fault;
    return 0;
}

static size_t say_wrong(struct fetch_slot *slot, const char *what)
{
    pool_error_set(&slot->error, POOL_DOWNLOAD_FAILED, "the server %s", what);
    return fail(slot, SLOT_WRONG);
}

/* ---- the answer ---- */

static void check_whole(struct fetch_slot *slot)
{
    curl_off_t length = -1;
    slot->request->client->curl.curl_easy_getinfo(slot->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    if (length >= 0 && length != slot->request->part->state.content.size_bytes)
        say_wrong(slot, "sends a file of another length than the Hub says");
    else if (!slot->is_whole)
        fail(slot, SLOT_IGNORES_RANGE);
}

static void check_range(struct fetch_slot *slot)
{
    int64_t first;
    int64_t last;
    int64_t total;
    const char *range = hub_header_of(slot->request->client, slot->easy, "Content-Range");
    if (!range || !hub_read_content_range(range, &first, &last, &total))
        say_wrong(slot, "answers a range without saying which one");
    else if (total != slot->request->part->state.content.size_bytes)
        say_wrong(slot, "has a file of another length than the Hub says");
    else if (first != slot->at || last >= slot->end)
        say_wrong(slot, "answers with another range than asked for");
}

static bool is_good_status(const struct fetch_slot *slot, long *ret_status)
{
    *ret_status = 0;
    slot->request->client->curl.curl_easy_getinfo(slot->easy, CURLINFO_RESPONSE_CODE, ret_status);
    return *ret_status == 200 || *ret_status == 206;
}

static void check_answer(struct fetch_slot *slot, long status)
{
    const char *encoding = hub_header_of(slot->request->client, slot->easy, "Content-Encoding");
    if (encoding && strcasecmp(encoding, "identity") != 0)
        say_wrong(slot, "sends the file in another encoding");
    else if (status == 200)
        check_whole(slot);
    else
        check_range(slot);
}

/* ---- the bytes ---- */

static size_t fail_here(struct fetch_slot *slot)
{
    return fail(slot, SLOT_FAILED);
}

/* The digest of the piece's bytes so far; those of an earlier transfer are read back. */
static bool begin_digest(struct fetch_slot *slot, size_t index)
{
    struct part *part = slot->request->part;
    int64_t at = part_piece_start(&part->state, index);
    int64_t end = at + part->state.pieces[index].done_bytes;
    if (slot->has_digest_piece && slot->digest_piece == index)
        return true;
    CLEANUP_FREE unsigned char *buffer = malloc((size_t)READ_BACK_BYTES);
    if (!buffer) {
        pool_error_no_memory(&slot->error);
        return false;
    }
    bool is_fine = digest_begin(&slot->digest);
    while (is_fine && at < end) {
        int64_t n = end - at < READ_BACK_BYTES ? end - at : READ_BACK_BYTES;
        ssize_t got = pread(part->data_fd, buffer, (size_t)n, at);
        if (got < 0 && errno == EINTR)
            continue;
        is_fine = got > 0 && digest_add(&slot->digest, buffer, (size_t)got);
        at += got;
    }
    if (!is_fine)
        pool_error_set(&slot->error, POOL_INTERNAL, "cannot read back %s", part->data_path);
    slot->has_digest_piece = is_fine;
    slot->digest_piece = index;
    return is_fine;
}

static bool finish_piece(struct fetch_slot *slot, size_t index)
{
    struct part *part = slot->request->part;
    unsigned char sum[DIGEST_BYTES_MAX];
    slot->has_digest_piece = false;
    if (!digest_end(&slot->digest, sum)) {
        pool_error_set(&slot->error, POOL_INTERNAL, "OpenSSL failed to hash");
        return false;
    }
    if (part_set_sum(part, index, sum, &slot->error) != POOL_OK)
        return false;
    /* So that the last fsync does not find everything still to be written. A hint: its failure is no failure. */
    (void)sync_file_range(part->data_fd, part_piece_start(&part->state, index),
                          part_piece_length(&part->state, index), SYNC_FILE_RANGE_WRITE);
    whole_sum_advance(slot->request->whole, part_state_frontier(&part->state));
    return true;
}

/* Bytes of one piece, from `offset` in it on. Those that are there already are passed over. */
static bool store_in_piece(struct fetch_slot *slot, size_t index, int64_t offset, const char *bytes,
                           int64_t n)
{
    struct part *part = slot->request->part;
    const struct part_piece *piece = &part->state.pieces[index];
    int64_t n_known = piece->done_bytes - offset;
    if (n_known < 0) {
        pool_error_set(&slot->error, POOL_INTERNAL, "a gap in a piece");
        return false;
    }
    if (n_known >= n)
        return true;
    bytes += n_known;
    n -= n_known;
    if (!begin_digest(slot, index))
        return false;
    if (!digest_add(&slot->digest, bytes, (size_t)n)) {
        pool_error_set(&slot->error, POOL_INTERNAL, "OpenSSL failed to hash");
        return false;
    }
    if (part_write(part, index, bytes, (size_t)n, &slot->error) != POOL_OK)
        return false;
    slot->stored_bytes += n;
    return piece->done_bytes < part_piece_length(&part->state, index) || finish_piece(slot, index);
}

static bool store(struct fetch_slot *slot, const char *bytes, int64_t n)
{
    const struct part_state *state = &slot->request->part->state;
    while (n > 0) {
        size_t index = (size_t)(slot->at / state->piece_bytes);
        int64_t offset = slot->at - part_piece_start(state, index);
        int64_t n_here = part_piece_length(state, index) - offset;
        if (n_here > n)
            n_here = n;
        if (!store_in_piece(slot, index, offset, bytes, n_here))
            return false;
        slot->at += n_here;
        bytes += n_here;
        n -= n_here;
    }
    return true;
}

static size_t take_bytes(char *bytes, size_t size, size_t n, void *context)
{
    struct fetch_slot *slot = context;
    int64_t n_bytes = (int64_t)(size * n);
    long status;
    if (!is_good_status(slot, &status)) {
        curl_off_t n_heard = 0;
        slot->request->client->curl.curl_easy_getinfo(slot->easy, CURLINFO_SIZE_DOWNLOAD_T, &n_heard);
        return n_heard < ERROR_BODY_BYTES ? size * n : 0;
    }
    if (!slot->is_checked)
        check_answer(slot, status);
    slot->is_checked = true;
    if (slot->fault != SLOT_FINE)
        return 0;
    if (n_bytes > slot->end - slot->at)
        return say_wrong(slot, "sends more than it was asked for");
    return store(slot, bytes, n_bytes) ? size * n : fail_here(slot);
}

/* ---- starting ---- */

bool slot_prepare(struct fetch_slot *slot, int64_t at, int64_t end, bool is_whole)
{
    const struct hub_client *client = slot->request->client;
    __typeof__(&curl_easy_setopt) set = client->curl.curl_easy_setopt;
    char range[RANGE_TEXT_MAX];
    client->curl.curl_slist_free_all(take_ptr(&slot->headers));
    slot->at = at;
    slot->end = end;
    slot->is_whole = is_whole || (at == 0 && end == slot->request->part->state.content.size_bytes);
    slot->stored_bytes = 0;
    slot->started_ns = clock_boottime_ns();
    slot->is_checked = false;
    slot->fault = SLOT_FINE;
    slot->error = (struct pool_error)POOL_ERROR_INIT;
    slot->why[0] = '\0';
    slot->has_digest_piece = false;
    if (!hub_prepare(client, slot->easy, slot->request->facts->url, &slot->headers))
        return false;
    snprintf(range, sizeof range, "%" PRId64 "-%" PRId64, at, end - 1);
    set(slot->easy, CURLOPT_ERRORBUFFER, slot->why);
    set(slot->easy, CURLOPT_WRITEFUNCTION, take_bytes);
    set(slot->easy, CURLOPT_WRITEDATA, slot);
    return is_whole || set(slot->easy, CURLOPT_RANGE, range) == CURLE_OK;
}
