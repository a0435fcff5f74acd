/*
 * Requests from anywhere. What is taken passes validation, and what it is written as is taken again and written the
 * same. The first byte chooses which request.
 */
#include <pool/api.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool is_right)
{
    if (!is_right)
        abort();
}

/* A refusal has a message and names a code of its own. */
static void check_refusal(enum pool_code code, const struct pool_error *err)
{
    check(code == POOL_INVALID_REQUEST || code == POOL_PAYLOAD_TOO_LARGE);
    check(err->code == code && err->message[0] != '\0');
}

static void try_spawn_request(const char *json, size_t n)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_spawn_request *request = NULL;
    struct pool_worker_spawn_request *again = NULL;
    char *first = NULL;
    char *second = NULL;
    enum pool_code code = pool_worker_spawn_request_decode(json, n, &request, &err);
    if (code != POOL_OK) {
        check_refusal(code, &err);
        check(!request);
        return;
    }
    check(pool_worker_spawn_request_validate(request, &err) == POOL_OK);
    check(pool_worker_spawn_request_encode(request, &first, &err) == POOL_OK);
    check(pool_worker_spawn_request_decode(first, strlen(first), &again, &err) == POOL_OK);
    check(pool_worker_spawn_request_encode(again, &second, &err) == POOL_OK);
    check(strcmp(first, second) == 0);
    free(first);
    free(second);
    pool_worker_spawn_request_free(request);
    pool_worker_spawn_request_free(again);
}

static void try_stop_request(const char *json, size_t n)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_stop_request *request = NULL;
    struct pool_worker_stop_request *again = NULL;
    char *first = NULL;
    char *second = NULL;
    enum pool_code code = pool_worker_stop_request_decode(json, n, &request, &err);
    if (code != POOL_OK) {
        check_refusal(code, &err);
        check(!request);
        return;
    }
    check(pool_worker_stop_request_validate(request, &err) == POOL_OK);
    check(pool_worker_stop_request_encode(request, &first, &err) == POOL_OK);
    check(pool_worker_stop_request_decode(first, strlen(first), &again, &err) == POOL_OK);
    check(pool_worker_stop_request_encode(again, &second, &err) == POOL_OK);
    check(strcmp(first, second) == 0);
    free(first);
    free(second);
    pool_worker_stop_request_free(request);
    pool_worker_stop_request_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    /* Not terminated: decoding must not look behind the end. */
    const char *json = (const char *)data + 1;
    if (data[0] == 's')
        try_stop_request(json, size - 1);
    else
        try_spawn_request(json, size - 1);
    return 0;
}
