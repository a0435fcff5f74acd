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

/* The small ones: what is taken is written, and taken again. */
static void try_drain_request(const char *json, size_t n)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_drain_request *request = NULL;
    struct pool_worker_drain_request *again = NULL;
    char *text = NULL;
    enum pool_code code = pool_worker_drain_request_decode(json, n, &request, &err);
    if (code != POOL_OK) {
        check_refusal(code, &err);
        return;
    }
    check(!request->timeout_ms.is_present ||
          (request->timeout_ms.value >= 0 && request->timeout_ms.value <= POOL_TIMEOUT_MAX_MS));
    check(pool_worker_drain_request_encode(request, &text, &err) == POOL_OK);
    check(pool_worker_drain_request_decode(text, strlen(text), &again, &err) == POOL_OK);
    check(again->wait == request->wait && again->timeout_ms.value == request->timeout_ms.value);
    free(text);
    pool_worker_drain_request_free(request);
    pool_worker_drain_request_free(again);
}

static void try_cordon_request(const char *json, size_t n)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_gpu_cordon_request *request = NULL;
    struct pool_gpu_cordon_request *again = NULL;
    char *text = NULL;
    enum pool_code code = pool_gpu_cordon_request_decode(json, n, &request, &err);
    if (code != POOL_OK) {
        check_refusal(code, &err);
        return;
    }
    check(!request->reason || (*request->reason && strlen(request->reason) <= POOL_CORDON_REASON_MAX));
    check(pool_gpu_cordon_request_encode(request, &text, &err) == POOL_OK);
    check(pool_gpu_cordon_request_decode(text, strlen(text), &again, &err) == POOL_OK);
    check(request->reason ? strcmp(request->reason, again->reason) == 0 : !again->reason);
    free(text);
    pool_gpu_cordon_request_free(request);
    pool_gpu_cordon_request_free(again);
}

static void try_ready_callback(const char *json, size_t n)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_worker_ready_callback *callback = NULL;
    enum pool_code code = pool_worker_ready_callback_decode(json, n, &callback, &err);
    if (code != POOL_OK) {
        check_refusal(code, &err);
        return;
    }
    check(pool_worker_id_is_valid(callback->worker_id));
    check(callback->spawn_token && *callback->spawn_token && strlen(callback->spawn_token) <= 64);
    pool_worker_ready_callback_free(callback);
}

static void try_model_requests(const char *json, size_t n)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_model_verify_request verify = { 0 };
    struct pool_model_stage_request stage = { 0 };
    enum pool_code code = pool_model_verify_request_decode(json, n, &verify, &err);
    if (code != POOL_OK)
        check_refusal(code, &err);
    err = (struct pool_error)POOL_ERROR_INIT;
    code = pool_model_stage_request_decode(json, n, &stage, &err);
    if (code != POOL_OK)
        check_refusal(code, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    /* Not terminated: decoding must not look behind the end. */
    const char *json = (const char *)data + 1;
    switch (data[0]) {
    case 's': try_stop_request(json, size - 1); break;
    case 'd': try_drain_request(json, size - 1); break;
    case 'c': try_cordon_request(json, size - 1); break;
    case 'r': try_ready_callback(json, size - 1); break;
    case 'm': try_model_requests(json, size - 1); break;
    default: try_spawn_request(json, size - 1); break;
    }
    return 0;
}
