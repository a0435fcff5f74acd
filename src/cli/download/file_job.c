/*
 * One file of a download; see file_job.h.
 *
 * When the whole is wrong although every byte came: first the pieces are read back, and those that are not what came are
 * fetched again. When the disk is not to blame, everything is fetched once more, and from then on only the pieces that
 * came out differently the last time: bytes that come the same twice are what the server has.
 */
#include "cli/download/file_job.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "base/random.h"
#include "cli/download/seed.h"

#define LOOKS_MAX     5   /* at a whole that is wrong */
#define WAIT_MS       200 /* between looks at a lock that another process has, or at the hash */
#define READ_BYTES    ((int64_t)1 << 20)
#define HEAD_TEXT_MAX 64

void file_job_done(struct file_job *job)
{
    free(job->path);
    hub_file_facts_done(&job->facts);
    part_done(&job->part);
    *job = (struct file_job){ .part = PART_INIT };
}

/* The SHA-256 that it must have; NULL: not known. */
static const char *known_sha256(const struct file_job *job)
{
    if (job->expected_sha256)
        return job->expected_sha256;
    return strlen(job->facts.content_name) == HUB_NAME_MAX ? job->facts.content_name : NULL;
}

struct part_content file_job_content(const struct file_job *job)
{
    struct part_content content = { .size_bytes = job->facts.size_bytes };
    snprintf(content.name, sizeof content.name, "%s",
             job->facts.content_name[0] || !job->expected_sha256 ? job->facts.content_name
                                                                 : job->expected_sha256);
    return content;
}

enum pool_code file_job_check(const struct file_job *job, struct pool_error *err)
{
    const struct hub_file_facts *facts = &job->facts;
    if (job->expected_bytes >= 0 && job->expected_bytes != facts->size_bytes) {
        pool_error_set(err, POOL_MODEL_CORRUPT, "the catalog says that %s has %jd bytes, the Hub says %jd",
                       job->path, (intmax_t)job->expected_bytes, (intmax_t)facts->size_bytes);
        pool_error_add_number(err, "expected_size_bytes", job->expected_bytes);
        pool_error_add_number(err, "actual_size_bytes", facts->size_bytes);
        return POOL_MODEL_CORRUPT;
    }
    if (job->expected_sha256 && strlen(facts->content_name) == HUB_NAME_MAX &&
        strcmp(job->expected_sha256, facts->content_name) != 0) {
        pool_error_set(err, POOL_MODEL_CORRUPT,
                       "the SHA-256 of %s is another one in the catalog than at the Hub", job->path);
        pool_error_add_text(err, "expected_sha256", job->expected_sha256);
        pool_error_add_text(err, "actual_sha256", facts->content_name);
        return POOL_MODEL_CORRUPT;
    }
    return POOL_OK;
}

/* ---- the lock ---- */

static bool is_in_place(const struct file_job *job, const struct file_context *context)
{
    struct stat st;
    return !context->is_forced && stat(job->part.final_path, &st) == 0 && S_ISREG(st.st_mode) &&
           st.st_size == job->facts.size_bytes;
}

enum pool_code file_job_lock(struct file_job *job, const struct file_context *context, struct pool_error *err)
{
    struct part_content content = file_job_content(job);
    bool is_locked = false;
    bool has_waited = false;
    job->is_there = is_in_place(job, context);
    while (!job->is_there && !is_locked) {
        enum pool_code code = part_try_lock(&job->part, &is_locked, err);
        if (code == POOL_OK && !is_locked) {
            int64_t done_bytes = part_peek_done_bytes(&job->part, &content);
            if (!has_waited)
                meter_begin(context->meter, job->path, "wait", 0, content.size_bytes);
            has_waited = true;
            meter_set(context->meter, done_bytes < 0 ? 0 : done_bytes);
            code = hub_pause(context->client, WAIT_MS, err);
        }
        if (code != POOL_OK)
            return code;
        /* The one we waited for has done it, with --force too. */
        if (is_locked || has_waited)
            job->is_there = is_in_place(job, context) && (!context->is_forced || has_waited);
    }
    if (job->is_there && is_locked)
        part_discard(&job->part); /* only the lock; nothing else is left of it */
    meter_clear(context->meter);
    return POOL_OK;
}

void file_job_clean(struct file_job *job)
{
    bool is_locked = false;
    if (access(job->part.lock_path, F_OK) == 0 && part_try_lock(&job->part, &is_locked, NULL) == POOL_OK &&
        is_locked)
        part_discard(&job->part);
}

/* ---- hashes ---- */

static void show_fetched(int64_t done_bytes, void *context)
{
    meter_set(context, done_bytes);
}

static enum pool_code start_hash(const struct file_job *job, bool is_git, struct whole_sum *whole,
                                 struct pool_error *err)
{
    char head[HEAD_TEXT_MAX];
    size_t n_head = 0;
    if (is_git) {
        /* Source: git's "hash-object": the word, the length, a NUL, the content. */
        int n = snprintf(head, sizeof head, "blob %" PRId64, job->facts.size_bytes);
        n_head = (size_t)n + 1;
    }
    return whole_sum_start(whole, job->part.data_fd, job->facts.size_bytes,
                           is_git ? DIGEST_SHA1 : DIGEST_SHA256, head, n_head, err);
}

/* Until the hash has come to the end, and its text. */
static enum pool_code finish_hash(const struct file_job *job, const struct file_context *context,
                                  struct whole_sum *whole, char text[SHA256_TEXT_MAX], struct pool_error *err)
{
    bool is_finished = false;
    enum pool_code code = POOL_OK;
    whole_sum_advance(whole, job->facts.size_bytes);
    meter_begin(context->meter, job->path, "check", whole_sum_hashed_bytes(whole), job->facts.size_bytes);
    while (code == POOL_OK && !is_finished) {
        code = whole_sum_wait(whole, context->client->cancel_fd, WAIT_MS, &is_finished, err);
        meter_set(context->meter, whole_sum_hashed_bytes(whole));
        if (code == POOL_OK && !is_finished && hub_is_cancelled(context->client))
            code = pool_error_set(err, POOL_CANCELLED, "interrupted");
    }
    size_t n_bytes = whole->digest.n_bytes;
    whole_sum_stop(whole);
    if (code == POOL_OK)
        hex_encode(whole->sum, n_bytes, text);
    return code;
}

/* Of the whole part, from the disk. */
static enum pool_code hash_again(const struct file_job *job, const struct file_context *context,
                                 char text[SHA256_TEXT_MAX], struct pool_error *err)
{
    CLEANUP(whole_sum_stop) struct whole_sum whole = { 0 };
    enum pool_code code = start_hash(job, false, &whole, err);
    return code == POOL_OK ? finish_hash(job, context, &whole, text, err) : code;
}

/* ---- pieces that are looked at again ---- */

static enum pool_code read_piece_sum(const struct part *part, size_t index, struct digest *digest,
                                     unsigned char *buffer, unsigned char sum[DIGEST_BYTES_MAX],
                                     struct pool_error *err)
{
    int64_t at = part_piece_start(&part->state, index);
    int64_t left = part_piece_length(&part->state, index);
    bool is_fine = digest_begin(digest);
    while (is_fine && left > 0) {
        ssize_t got = pread(part->data_fd, buffer, (size_t)(left < READ_BYTES ? left : READ_BYTES), at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return part_report(err, got < 0 ? errno : EIO, "read back", part->data_path);
        is_fine = digest_add(digest, buffer, (size_t)got);
        at += got;
        left -= got;
    }
    return is_fine && digest_end(digest, sum) ? POOL_OK
                                              : pool_error_set(err, POOL_INTERNAL, "OpenSSL failed to hash");
}

/* Forgets the pieces that are not on disk what came, and of those that are not whole what there is of them. */
static enum pool_code check_pieces_on_disk(struct file_job *job, const struct file_context *context,
                                           size_t *ret_n_forgotten, struct pool_error *err)
{
    CLEANUP(digest_close) struct digest digest = DIGEST_INIT;
    CLEANUP_FREE unsigned char *buffer = malloc((size_t)READ_BYTES);
    struct digest_failure failure = { .is_no_memory = true };
    struct part *part = &job->part;
    enum pool_code code = POOL_OK;
    if (!buffer || !digest_open(&digest, DIGEST_SHA256, &failure))
        return failure.is_no_memory ? pool_error_no_memory(err)
                                    : pool_error_set(err, POOL_INTERNAL, "%s", failure.message);
    meter_begin(context->meter, job->path, "check", 0, job->facts.size_bytes);
    for (size_t i = 0; i < part->state.n_pieces && code == POOL_OK; i++) {
        unsigned char sum[DIGEST_BYTES_MAX] = { 0 };
        bool is_right = false;
        if (part_piece_is_whole(&part->state, i)) {
            code = read_piece_sum(part, i, &digest, buffer, sum, err);
            is_right = memcmp(sum, part->state.pieces[i].sum, SHA256_BYTES) == 0;
        } else if (part->state.pieces[i].done_bytes == 0) {
            continue;
        }
        if (code == POOL_OK && !is_right) {
            code = part_forget_piece(part, i, err);
            ++*ret_n_forgotten;
        }
        meter_set(context->meter, part_piece_start(&part->state, i) + part_piece_length(&part->state, i));
        if (code == POOL_OK && hub_is_cancelled(context->client))
            code = pool_error_set(err, POOL_CANCELLED, "interrupted");
    }
    return code;
}

/* What the pieces were before they were fetched again. */
struct earlier {
    struct part_piece *pieces; /* NULL: they were not */
};

static void earlier_done(struct earlier *earlier)
{
    free(take_ptr(&earlier->pieces));
}

static bool has_changed(const struct earlier *earlier, const struct part *part, size_t index)
{
    return !earlier->pieces ||
           memcmp(earlier->pieces[index].sum, part->state.pieces[index].sum, SHA256_BYTES) != 0;
}

/* Forgets what came out differently the last time; at the first look everything. */
static enum pool_code forget_changed(struct file_job *job, struct earlier *earlier, size_t *ret_n_forgotten,
                                     struct pool_error *err)
{
    struct part *part = &job->part;
    enum pool_code code = POOL_OK;
    struct part_piece *pieces = calloc(part->state.n_pieces + 1, sizeof *pieces);
    if (!pieces)
        return pool_error_no_memory(err);
    memcpy(pieces, part->state.pieces, part->state.n_pieces * sizeof *pieces);
    for (size_t i = 0; i < part->state.n_pieces && code == POOL_OK; i++) {
        if (!has_changed(earlier, part, i))
            continue;
        code = part_forget_piece(part, i, err);
        ++*ret_n_forgotten;
    }
    earlier_done(earlier);
    earlier->pieces = pieces;
    return code;
}

/* ---- the whole ---- */

/* Fetches what is missing and hashes all. *ret_is_right is true when nobody says what it ought to be. */
static enum pool_code fetch_and_hash(struct file_job *job, const struct file_context *context,
                                     bool *ret_is_right, char text[SHA256_TEXT_MAX], struct pool_error *err)
{
    CLEANUP(whole_sum_stop) struct whole_sum whole = { 0 };
    const char *sha256 = known_sha256(job);
    bool is_git = !sha256 && strlen(job->facts.content_name) == HUB_COMMIT_HEX;
    struct fetch_request request = { .client = context->client,
                                     .place = context->place,
                                     .path = job->path,
                                     .facts = &job->facts,
                                     .part = &job->part,
                                     .whole = &whole,
                                     .n_connections = context->n_connections,
                                     .progress = show_fetched,
                                     .context = context->meter };
    enum pool_code code = start_hash(job, is_git, &whole, err);
    if (code != POOL_OK)
        return code;
    int64_t before_bytes = part_state_done_bytes(&job->part.state);
    meter_begin(context->meter, job->path, "download", before_bytes, job->facts.size_bytes);
    code = fetch_missing(&request, err);
    job->fetched_bytes += excess_bytes(part_state_done_bytes(&job->part.state), before_bytes);
    if (code == POOL_OK)
        code = finish_hash(job, context, &whole, text, err);
    const char *expected = sha256 ? sha256 : is_git ? job->facts.content_name : NULL;
    *ret_is_right = !expected || strcmp(expected, text) == 0;
    return code;
}

static enum pool_code report_wrong(struct file_job *job, const char *text, struct pool_error *err)
{
    const char *expected = known_sha256(job) ? known_sha256(job) : job->facts.content_name;
    pool_error_set(err, POOL_MODEL_CORRUPT,
                   "what the Hub sends as %s is not what it says it is, also when it is fetched again",
                   job->path);
    pool_error_add_text(err, "path", job->path);
    pool_error_add_text(err, "expected_sha256", expected);
    pool_error_add_text(err, "actual_sha256", text);
    part_discard(&job->part);
    return POOL_MODEL_CORRUPT;
}

/* Until the whole is right, or until looking again can not help. */
static enum pool_code fetch_until_right(struct file_job *job, const struct file_context *context,
                                        char text[SHA256_TEXT_MAX], struct pool_error *err)
{
    CLEANUP(earlier_done) struct earlier earlier = { 0 };
    for (int n_looks = 0;; n_looks++) {
        bool is_right = false;
        size_t n_forgotten = 0;
        enum pool_code code = fetch_and_hash(job, context, &is_right, text, err);
        if (code != POOL_OK || is_right)
            return code;
        if (n_looks == LOOKS_MAX)
            return report_wrong(job, text, err);
        code = check_pieces_on_disk(job, context, &n_forgotten, err);
        if (code == POOL_OK && n_forgotten == 0)
            code = forget_changed(job, &earlier, &n_forgotten, err);
        if (code != POOL_OK)
            return code;
        if (n_forgotten == 0)
            return report_wrong(job, text, err);
    }
}

/* From the Hub's cache, where contents have their names. */
static enum pool_code seed_from_cache(struct file_job *job, const struct file_context *context,
                                      struct pool_error *err)
{
    CLEANUP_FREE char *path = NULL;
    if (context->is_forced || !job->facts.content_name[0])
        return POOL_OK;
    if (asprintf(&path, "%s/models--%s--%s/blobs/%s", context->cache_dir, context->place.org,
                 context->place.repo, job->facts.content_name) < 0) {
        path = NULL;
        return pool_error_no_memory(err);
    }
    if (access(path, R_OK) < 0)
        return POOL_OK;
    meter_begin(context->meter, job->path, "copy", part_state_done_bytes(&job->part.state),
                job->facts.size_bytes);
    return seed_part(&job->part, path, context->client->cancel_fd, context->meter, err);
}

enum pool_code file_job_run(struct file_job *job, const struct file_context *context, bool is_old,
                            struct pool_error *err)
{
    char text[SHA256_TEXT_MAX] = "";
    size_t n_forgotten = 0;
    enum pool_code code = is_old ? check_pieces_on_disk(job, context, &n_forgotten, err) : POOL_OK;
    if (code == POOL_OK)
        code = seed_from_cache(job, context, err);
    if (code == POOL_OK)
        code = fetch_until_right(job, context, text, err);
    /* Of what git names its SHA-256 is known now too: that is what it will be compared with later. */
    if (code == POOL_OK && strlen(text) < SHA256_TEXT_MAX - 1)
        code = hash_again(job, context, text, err);
    if (code == POOL_OK && (known_sha256(job) || job->facts.content_name[0]))
        memcpy(job->sha256, text, sizeof job->sha256);
    if (code == POOL_OK)
        code = context->before_name(context->context, err);
    if (code == POOL_OK)
        code = part_publish(&job->part, err);
    meter_clear(context->meter);
    job->is_there = code == POOL_OK;
    return code;
}
