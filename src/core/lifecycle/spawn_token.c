/*
 * Spawn tokens; see spawn_token.h.
 */
#include "core/lifecycle/spawn_token.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/digest.h"
#include "base/random.h"
#include "core/lifecycle/manager.h"

#define TOKEN_TEXT_MAX (2 * SPAWN_TOKEN_BYTES + 1)
#define SUM_TEXT_MAX   (2 * SHA256_BYTES + 1)

static enum pool_code hash(const char *token, char ret_sum[SUM_TEXT_MAX], struct pool_error *err)
{
    CLEANUP(digest_close) struct digest digest = DIGEST_INIT;
    struct digest_failure failure = { 0 };
    unsigned char sum[DIGEST_BYTES_MAX];
    if (!digest_open(&digest, DIGEST_SHA256, &failure))
        return failure.is_no_memory ? pool_error_no_memory(err)
                                    : pool_error_set(err, POOL_INTERNAL, "%s", failure.message);
    if (!digest_begin(&digest) || !digest_add(&digest, token, strlen(token)) || !digest_end(&digest, sum))
        return pool_error_set(err, POOL_INTERNAL, "OpenSSL failed to hash a spawn token");
    hex_encode(sum, SHA256_BYTES, ret_sum);
    return POOL_OK;
}

static bool add_variable(struct pool_plan *plan, const char *token)
{
    size_t n = 0;
    while (plan->environment[n])
        n++;
    char **environment = reallocarray(plan->environment, n + 2, sizeof *environment);
    if (!environment)
        return false;
    plan->environment = environment;
    environment[n + 1] = NULL;
    if (asprintf(&environment[n], SPAWN_TOKEN_VARIABLE "=%s", token) >= 0)
        return true;
    environment[n] = NULL;
    return false;
}

enum pool_code spawn_token_give(struct pool_plan *plan, struct pool_error *err)
{
    uint8_t random[SPAWN_TOKEN_BYTES];
    char token[TOKEN_TEXT_MAX];
    char sum[SUM_TEXT_MAX];
    if (!random_bytes(random, sizeof random))
        return pool_error_set(err, POOL_INTERNAL, "the kernel has no random numbers");
    hex_encode(random, sizeof random, token);
    enum pool_code code = hash(token, sum, err);
    if (code != POOL_OK)
        return code;
    free(plan->worker->spawn_token_sha256);
    plan->worker->spawn_token_sha256 = strdup(sum);
    return plan->worker->spawn_token_sha256 && add_variable(plan, token) ? POOL_OK
                                                                         : pool_error_no_memory(err);
}

/* Looks at every character of a sum, whatever the first of them are. */
static bool is_equal_sum(const char *a, const char *b)
{
    unsigned difference = 0;
    for (size_t i = 0; i < SUM_TEXT_MAX - 1; i++)
        difference |= (unsigned)(unsigned char)a[i] ^ (unsigned)(unsigned char)b[i];
    return difference == 0;
}

static enum pool_code refuse(struct pool_error *err)
{
    return pool_error_set(err, POOL_UNAUTHENTICATED,
                          "no worker is awaited that has this id and this spawn token");
}

static enum pool_code take_call(struct pool_manager *manager, const char *worker_id, const char *sum,
                                struct pool_worker_info **ret_worker, struct pool_error *err)
{
    CLEANUP(free_worker) struct pool_worker_info *worker = NULL;
    enum pool_code code = pool_worker_registry_get(manager->registry, worker_id, &worker, err);
    if (code == POOL_WORKER_NOT_FOUND)
        return refuse(err);
    if (code != POOL_OK)
        return code;
    if (worker->status != POOL_WORKER_SPAWNING || !spawn_token_is_awaited(worker) ||
        strlen(worker->spawn_token_sha256) != SUM_TEXT_MAX - 1 ||
        !is_equal_sum(worker->spawn_token_sha256, sum))
        return refuse(err);
    char *used = strdup(POOL_SPAWN_TOKEN_USED);
    if (!used)
        return pool_error_no_memory(err);
    free(worker->spawn_token_sha256);
    worker->spawn_token_sha256 = used;
    code = pool_worker_registry_update(manager->registry, worker, err);
    if (code == POOL_OK)
        *ret_worker = take_ptr(&worker);
    return code;
}

enum pool_code pool_manager_take_ready_call(struct pool_manager *manager, const char *worker_id,
                                            const char *spawn_token, struct pool_worker_info **ret_worker,
                                            struct pool_error *err)
{
    char sum[SUM_TEXT_MAX];
    if (!pool_worker_id_is_valid(worker_id))
        return refuse(err);
    enum pool_code code = hash(spawn_token, sum, err);
    if (code == POOL_OK)
        code = manager_lock(manager, err);
    if (code != POOL_OK)
        return code;
    code = take_call(manager, worker_id, sum, ret_worker, err);
    state_dir_unlock(&manager->state);
    return code;
}

enum pool_code pool_manager_set_callback_url(struct pool_manager *manager, const char *url,
                                             struct pool_error *err)
{
    char *copy = url ? strdup(url) : NULL;
    if (url && !copy)
        return pool_error_no_memory(err);
    free(manager->callback_url);
    manager->callback_url = copy;
    return POOL_OK;
}
