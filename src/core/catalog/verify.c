/*
 * Whether the bytes of a model are the right ones: sizes first, then SHA-256, with proofs so that what was hashed once
 * is not read again. It changes no file but proofs, and does not know where the expected sums come from.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/number.h"
#include "base/random.h"
#include "core/catalog/catalog.h"
#include "core/catalog/proof.h"

#define CHUNK_BYTES    ((size_t)1 << 20)
#define PROGRESS_BYTES ((int64_t)4 << 20) /* between two calls of progress */
#define BUFFER_ALIGN   4096

struct target {
    const char *path; /* borrowed */
    struct stat st;
    int64_t expected_bytes;      /* -1: not known */
    const char *expected_sha256; /* NULL: not known */
    bool is_proven;
    char sha256[SHA256_TEXT_MAX];
};

struct verification {
    struct pool_verify_options options;
    size_t n_targets;
    struct target *targets;
    int64_t total_bytes, done_bytes; /* to be hashed */
    int64_t next_report_bytes;
    struct digest hash;
    unsigned char *buffer;
};

static void verification_done(struct verification *verification)
{
    free(verification->targets);
    free(verification->buffer);
    digest_close(&verification->hash);
}

/* ---- what is expected ---- */

/*
 * What the metadata, else the Hub, says of the file at an index. One entry for a model of several files, as of a split GGUF of which
 * it names the first, speaks of that one's sum, and its size is that of all together.
 */
static void expect(const struct pool_model *model, size_t index, struct target *target)
{
    const struct pool_model_metadata *metadata = model->metadata;
    target->expected_bytes = -1;
    if (model->known_sha256s)
        target->expected_sha256 = model->known_sha256s[index];
    if (!metadata || index >= metadata->n_files)
        return;
    if (metadata->files[index].sha256)
        target->expected_sha256 = metadata->files[index].sha256;
    if (metadata->n_files == model->n_files)
        target->expected_bytes = metadata->files[index].size_bytes;
}

static enum pool_code report_size(const char *path, int64_t expected_bytes, int64_t actual_bytes,
                                  struct pool_error *err)
{
    pool_error_set(err, POOL_MODEL_CORRUPT, "%s has %jd bytes, the catalog says %jd", path,
                   (intmax_t)actual_bytes, (intmax_t)expected_bytes);
    pool_error_add_text(err, "path", path);
    pool_error_add_number(err, "expected_size_bytes", expected_bytes);
    pool_error_add_number(err, "actual_size_bytes", actual_bytes);
    return POOL_MODEL_CORRUPT;
}

static enum pool_code check_sum(const struct target *target, struct pool_error *err)
{
    if (!target->expected_sha256 || strcmp(target->expected_sha256, target->sha256) == 0)
        return POOL_OK;
    pool_error_set(err, POOL_MODEL_CORRUPT, "%s has another SHA-256 than the catalog or the Hub says",
                   target->path);
    pool_error_add_text(err, "path", target->path);
    pool_error_add_text(err, "expected_sha256", target->expected_sha256);
    pool_error_add_text(err, "actual_sha256", target->sha256);
    return POOL_MODEL_CORRUPT;
}

static enum pool_code report_failure(const char *path, int failure, struct pool_error *err)
{
    enum pool_code code = failure == ENOENT || failure == ENOTDIR ? POOL_MODEL_NOT_FOUND
                          : failure == EACCES || failure == EPERM ? POOL_PERMISSION_DENIED
                                                                  : POOL_INTERNAL;
    pool_error_set_errno(err, code, failure, "cannot read %s", path);
    pool_error_add_text(err, "path", path);
    return code;
}

static enum pool_code check_size(struct target *target, struct pool_error *err)
{
    if (stat(target->path, &target->st) < 0)
        return report_failure(target->path, errno, err);
    if (!S_ISREG(target->st.st_mode)) {
        pool_error_set(err, POOL_MODEL_CORRUPT, "%s is not a regular file", target->path);
        pool_error_add_text(err, "path", target->path);
        return POOL_MODEL_CORRUPT;
    }
    if (target->expected_bytes >= 0 && target->expected_bytes != target->st.st_size)
        return report_size(target->path, target->expected_bytes, target->st.st_size, err);
    return POOL_OK;
}

/* Compares sizes: the cheap look comes first, at all files. */
static enum pool_code check_sizes(struct verification *verification, const struct pool_model *model,
                                  struct pool_error *err)
{
    verification->targets = calloc(model->n_files + 1, sizeof *verification->targets);
    if (!verification->targets)
        return pool_error_no_memory(err);
    int64_t sum_bytes = 0;
    for (size_t i = 0; i < model->n_files; i++) {
        struct target *target = &verification->targets[verification->n_targets++];
        target->path = model->file_paths[i];
        expect(model, i, target);
        enum pool_code code = check_size(target, err);
        if (code != POOL_OK)
            return code;
        sum_bytes = add_bytes(sum_bytes, target->st.st_size);
    }
    const struct pool_model_metadata *metadata = model->metadata;
    if (metadata && metadata->n_files < model->n_files && metadata->size_bytes >= 0 &&
        metadata->size_bytes != sum_bytes)
        return report_size(model->path, metadata->size_bytes, sum_bytes, err);
    return POOL_OK;
}

/* Looks for proofs. One that proves another sum than the expected is as good as hashing the file again. */
static enum pool_code read_proofs(struct verification *verification, struct pool_error *err)
{
    const struct pool_verify_options *options = &verification->options;
    for (size_t i = 0; i < verification->n_targets; i++) {
        struct target *target = &verification->targets[i];
        if (options->proof_dir && !options->ignore_proof)
            target->is_proven = proof_read(options->proof_dir, &target->st, target->sha256);
        if (!target->is_proven) {
            verification->total_bytes = add_bytes(verification->total_bytes, target->st.st_size);
            continue;
        }
        enum pool_code code = check_sum(target, err);
        if (code != POOL_OK)
            return code;
    }
    return POOL_OK;
}

/* ---- hashing ---- */

static enum pool_code prepare_hashing(struct verification *verification, struct pool_error *err)
{
    struct digest_failure failure;
    verification->buffer = aligned_alloc(BUFFER_ALIGN, CHUNK_BYTES);
    if (!verification->buffer)
        return pool_error_no_memory(err);
    if (digest_open(&verification->hash, DIGEST_SHA256, &failure))
        return POOL_OK;
    return failure.is_no_memory ? pool_error_no_memory(err)
                                : pool_error_set(err, POOL_INTERNAL, "%s", failure.message);
}

static bool may_go_on(const struct verification *verification)
{
    const struct pool_verify_options *options = &verification->options;
    return !options->progress ||
           options->progress(verification->done_bytes, verification->total_bytes, options->progress_context);
}

static enum pool_code report_change(const struct target *target, struct pool_error *err)
{
    pool_error_set(err, POOL_CONFLICT, "%s changed while it was hashed", target->path);
    pool_error_add_text(err, "path", target->path);
    return POOL_CONFLICT;
}

/* Feeds the file to the hash. Stops behind the size it had, so that a growing file has an end. */
static enum pool_code hash_bytes(struct verification *verification, const struct target *target, int fd,
                                 struct pool_error *err)
{
    int64_t n_read = 0;
    for (;;) {
        ssize_t n = read(fd, verification->buffer, CHUNK_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return report_failure(target->path, errno, err);
        if (n == 0)
            return n_read == target->st.st_size ? POOL_OK : report_change(target, err);
        if (n > target->st.st_size - n_read)
            return report_change(target, err);
        if (!digest_add(&verification->hash, verification->buffer, (size_t)n))
            return pool_error_set(err, POOL_INTERNAL, "OpenSSL failed to hash %s", target->path);
        n_read += n;
        verification->done_bytes += n;
        if (verification->done_bytes < verification->next_report_bytes)
            continue;
        verification->next_report_bytes = verification->done_bytes + PROGRESS_BYTES;
        if (!may_go_on(verification))
            return pool_error_set(err, POOL_CANCELLED, "hashing %s was cancelled", target->path);
    }
}

static enum pool_code hash_target(struct verification *verification, struct target *target,
                                  struct pool_error *err)
{
    CLEANUP_CLOSE int fd = open(target->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return report_failure(target->path, errno, err);
    /* The clock file systems stamp with, read before the state, which is read before the bytes. */
    struct timespec began;
    struct stat before;
    struct stat after;
    clock_gettime(CLOCK_REALTIME_COARSE, &began);
    if (fstat(fd, &before) < 0)
        return report_failure(target->path, errno, err);
    if (!file_is_unchanged(&target->st, &before))
        return report_change(target, err);
    if (!digest_begin(&verification->hash))
        return pool_error_set(err, POOL_INTERNAL, "OpenSSL failed to begin a SHA-256");
    /* The pages stay in the cache: who verifies a model is about to load it. */
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    enum pool_code code = hash_bytes(verification, target, fd, err);
    if (code != POOL_OK)
        return code;
    if (fstat(fd, &after) < 0)
        return report_failure(target->path, errno, err);
    if (!file_is_unchanged(&before, &after))
        return report_change(target, err);

    unsigned char sum[SHA256_BYTES];
    if (!digest_end(&verification->hash, sum))
        return pool_error_set(err, POOL_INTERNAL, "OpenSSL failed to end the SHA-256 of %s", target->path);
    hex_encode(sum, sizeof sum, target->sha256);
    if (verification->options.proof_dir)
        proof_write(verification->options.proof_dir, &after, &began, target->sha256);
    return check_sum(target, err);
}

static enum pool_code hash_targets(struct verification *verification, struct pool_error *err)
{
    enum pool_code code = prepare_hashing(verification, err);
    verification->next_report_bytes = PROGRESS_BYTES;
    if (code == POOL_OK && !may_go_on(verification))
        code = pool_error_set(err, POOL_CANCELLED, "the verification was cancelled");
    for (size_t i = 0; code == POOL_OK && i < verification->n_targets; i++) {
        if (!verification->targets[i].is_proven)
            code = hash_target(verification, &verification->targets[i], err);
    }
    if (code == POOL_OK)
        (void)may_go_on(verification); /* all is done: nothing left to cancel */
    return code;
}

/* ---- the whole ---- */

static enum pool_code take_options(const struct pool_verify_options *options,
                                   struct pool_verify_options *known, struct pool_error *err)
{
    *known = (struct pool_verify_options){ 0 };
    if (!options)
        return POOL_OK;
    if (options->struct_size == 0)
        return pool_error_set(err, POOL_INVALID_REQUEST, "struct_size of the options is not set");
    /* A caller built with an older header gives a shorter struct. */
    memcpy(known, options, options->struct_size < sizeof *known ? options->struct_size : sizeof *known);
    if (known->only_proof && known->ignore_proof)
        return pool_error_set(err, POOL_INVALID_REQUEST, "only_proof and ignore_proof exclude each other");
    return POOL_OK;
}

static bool has_unproven(const struct verification *verification)
{
    for (size_t i = 0; i < verification->n_targets; i++) {
        if (!verification->targets[i].is_proven)
            return true;
    }
    return false;
}

enum pool_code pool_model_verify(const struct pool_model *model, const struct pool_verify_options *options,
                                 struct pool_verify_result *ret_result, struct pool_error *err)
{
    CLEANUP(verification_done) struct verification verification = { 0 };
    enum pool_code code = take_options(options, &verification.options, err);
    if (code == POOL_OK)
        code = check_sizes(&verification, model, err);
    if (code == POOL_OK)
        code = read_proofs(&verification, err);
    if (code != POOL_OK)
        return code;

    bool has_to_hash = has_unproven(&verification);
    if (has_to_hash && verification.options.only_proof) {
        pool_error_set(err, POOL_MODEL_UNVERIFIED, "%s has not been verified yet, or was changed since",
                       model->path);
        pool_error_add_text(err, "path", model->path);
        return POOL_MODEL_UNVERIFIED;
    }
    code = has_to_hash ? hash_targets(&verification, err) : POOL_OK;
    if (code != POOL_OK)
        return code;

    struct pool_verify_result result = { .is_verified = model->n_files > 0,
                                         .was_remembered = !has_to_hash,
                                         .hashed_bytes = verification.done_bytes };
    for (size_t i = 0; i < verification.n_targets; i++)
        result.is_verified = result.is_verified && verification.targets[i].expected_sha256;
    if (verification.n_targets > 0)
        memcpy(result.sha256, verification.targets[0].sha256, sizeof result.sha256);
    *ret_result = result;
    return POOL_OK;
}

static void free_model(struct pool_model **model)
{
    pool_model_free(*model);
}

enum pool_code pool_model_catalog_verify(const struct pool_model_catalog *catalog,
                                         const struct pool_model_paths *paths, const char *id,
                                         const struct pool_verify_options *options,
                                         struct pool_verify_result *ret_result, struct pool_error *err)
{
    const struct pool_model_metadata *entry;
    enum pool_code code = pool_model_catalog_get(catalog, id, &entry, err);
    CLEANUP(free_model) struct pool_model *model = NULL;
    if (code == POOL_OK)
        code = pool_model_resolve(catalog, paths, entry->id, &model, err);
    return code == POOL_OK ? pool_model_verify(model, options, ret_result, err) : code;
}
