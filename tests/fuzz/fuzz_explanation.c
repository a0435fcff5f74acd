/*
 * Explanations from anywhere, as `rbees-pool explain` reads them: one record ('x'), several ('l') and the room that a start
 * needs ('r'), chosen by the first byte. What is taken is written, that is taken again and written the same, and both say the
 * same to people.
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

/* Decodes n bytes; NULL when they are refused, else what they are written as. *ret_text: for people, NULL where there is none. */
typedef char *rewrite_fn(const char *json, size_t n, char **ret_text);

static char *rewrite_one(const char *json, size_t n, char **ret_text)
{
    struct pool_explanation *explanation = NULL;
    char *written = NULL;
    if (pool_explanation_decode(json, n, &explanation, NULL) != POOL_OK)
        return NULL;
    check(pool_explanation_encode(explanation, &written, NULL) == POOL_OK);
    /* A record may be longer than what people are shown at once. */
    if (pool_explanation_format(explanation, ret_text, NULL) != POOL_OK)
        *ret_text = NULL;
    pool_explanation_free(explanation);
    return written;
}

static char *rewrite_list(const char *json, size_t n, char **ret_text)
{
    struct pool_explanation_list *list = NULL;
    char *written = NULL;
    *ret_text = NULL;
    if (pool_explanation_list_decode(json, n, &list, NULL) != POOL_OK)
        return NULL;
    check(pool_explanation_list_encode(list, &written, NULL) == POOL_OK);
    pool_explanation_list_free(list);
    return written;
}

static char *rewrite_room(const char *json, size_t n, char **ret_text)
{
    struct pool_start_room room = { 0 };
    char *written = NULL;
    *ret_text = NULL;
    if (pool_start_room_decode(json, n, &room, NULL) != POOL_OK)
        return NULL;
    check(pool_start_room_encode(&room, &written, NULL) == POOL_OK);
    pool_start_room_done(&room);
    return written;
}

static void try_rewrite(rewrite_fn *rewrite, const char *json, size_t n)
{
    char *texts[2] = { NULL, NULL };
    char *first = rewrite(json, n, &texts[0]);
    if (!first)
        return;
    char *second = rewrite(first, strlen(first), &texts[1]);
    check(second && strcmp(first, second) == 0);
    check(!texts[0] == !texts[1] && (!texts[0] || strcmp(texts[0], texts[1]) == 0));
    free(first);
    free(second);
    free(texts[0]);
    free(texts[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const char *json = (const char *)data + 1;
    switch (data[0]) {
    case 'x': try_rewrite(rewrite_one, json, size - 1); break;
    case 'l': try_rewrite(rewrite_list, json, size - 1); break;
    case 'r': try_rewrite(rewrite_room, json, size - 1); break;
    default: break;
    }
    return 0;
}
