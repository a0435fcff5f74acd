/*
 * Answers from anywhere: the state of a pool ('s'), workers ('w'), GPUs ('g'), a started worker ('p') and errors ('e'),
 * chosen by the first byte. What is taken is written, and that is taken again and written the same.
 * With 'l' the bytes are a log and other texts of an error, which may be anything and must become valid JSON.
 */
#include <jansson.h>
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

/* Decodes n bytes and gives what they are written as, or NULL when they are refused. */
typedef char *rewrite_fn(const char *json, size_t n);

static char *rewrite_status(const char *json, size_t n)
{
    struct pool_status_response *status = NULL;
    char *text = NULL;
    if (pool_status_response_decode(json, n, &status, NULL) != POOL_OK)
        return NULL;
    check(pool_status_response_encode(status, &text, NULL) == POOL_OK);
    pool_status_response_free(status);
    return text;
}

static char *rewrite_workers(const char *json, size_t n)
{
    struct pool_worker_list *list = NULL;
    char *text = NULL;
    if (pool_worker_list_decode(json, n, &list, NULL) != POOL_OK)
        return NULL;
    check(pool_worker_list_encode(list, &text, NULL) == POOL_OK);
    pool_worker_list_free(list);
    return text;
}

static char *rewrite_gpus(const char *json, size_t n)
{
    struct pool_gpu_list *list = NULL;
    char *text = NULL;
    if (pool_gpu_list_decode(json, n, &list, NULL) != POOL_OK)
        return NULL;
    check(pool_gpu_list_encode(list, NULL, 0, &text, NULL) == POOL_OK);
    pool_gpu_list_free(list);
    return text;
}

static char *rewrite_spawn_response(const char *json, size_t n)
{
    struct pool_worker_spawn_response *response = NULL;
    char *text = NULL;
    if (pool_worker_spawn_response_decode(json, n, &response, NULL) != POOL_OK)
        return NULL;
    check(pool_worker_spawn_response_encode(response, &text, NULL) == POOL_OK);
    pool_worker_spawn_response_free(response);
    return text;
}

static char *rewrite_error(const char *json, size_t n)
{
    struct pool_error error = POOL_ERROR_INIT;
    char *text = NULL;
    if (pool_error_decode(json, n, &error, NULL) != POOL_OK)
        return NULL;
    check(pool_error_encode(&error, NULL, &text, NULL) == POOL_OK);
    return text;
}

/* What was cut or replaced at the first reading stays as it is from then on. */
static void try_rewrite(rewrite_fn *rewrite, const char *json, size_t n)
{
    char *first = rewrite(json, n);
    if (!first)
        return;
    char *second = rewrite(first, strlen(first));
    check(second && strcmp(first, second) == 0);
    free(first);
    free(second);
}

static void copy_text(char *to, size_t room, const char *from, size_t n)
{
    size_t n_copied = n < room - 1 ? n : room - 1;
    memcpy(to, from, n_copied);
    to[n_copied] = '\0';
}

static void try_texts(const char *text, size_t n)
{
    struct pool_error error = { .code = POOL_WORKER_START_FAILED, .n_details = 1 };
    copy_text(error.message, sizeof error.message, text, n);
    copy_text(error.field, sizeof error.field, text, n);
    copy_text(error.details[0].name, sizeof error.details[0].name, "text", 4);
    copy_text(error.details[0].text, sizeof error.details[0].text, text, n);
    error.details[0].kind = POOL_DETAIL_TEXT;
    copy_text(error.log_tail, sizeof error.log_tail, text, n);
    char *json = NULL;
    check(pool_error_encode(&error, NULL, &json, NULL) == POOL_OK);
    json_t *parsed = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    check(parsed != NULL);
    json_decref(parsed);
    char *again = rewrite_error(json, strlen(json));
    check(again && strcmp(json, again) == 0);
    free(json);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const char *json = (const char *)data + 1;
    switch (data[0]) {
    case 's': try_rewrite(rewrite_status, json, size - 1); break;
    case 'w': try_rewrite(rewrite_workers, json, size - 1); break;
    case 'g': try_rewrite(rewrite_gpus, json, size - 1); break;
    case 'p': try_rewrite(rewrite_spawn_response, json, size - 1); break;
    case 'e': try_rewrite(rewrite_error, json, size - 1); break;
    case 'l': try_texts(json, size - 1); break;
    default: break;
    }
    return 0;
}
