/*
 * JSON documents of the command line.
 */
#include "cli/json_document.h"

#include <string.h>

#include <pool/api.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "base/utf8.h"
#include "cli/report.h"

#define BYTES_MAX ((size_t)256 << 20)

json_t *json_of_bytes(const char *bytes, size_t n)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(BYTES_MAX);
    for (size_t i = 0; i < n;) {
        size_t length = bytes[i] ? utf8_length(bytes + i) : 0;
        if (length == 0 || length > n - i) {
            strbuf_add_text(&text, UTF8_REPLACEMENT);
            i++;
        } else {
            strbuf_add(&text, bytes + i, length);
            i += length;
        }
    }
    return text.failure == STRBUF_FINE ? json_stringn(strbuf_text(&text), text.n) : NULL;
}

json_t *json_of_text(const char *text)
{
    return text ? json_of_bytes(text, strlen(text)) : json_null();
}

json_t *json_of_encoded(char **text)
{
    struct json_failure failure;
    json_t *value = *text ? json_parse(*text, strlen(*text), &failure) : NULL;
    free(take_ptr(text));
    return value;
}

json_t *json_of_error(const struct pool_error *error)
{
    char *text = NULL;
    if (error->code == POOL_OK)
        return json_null();
    if (pool_error_encode(error, NULL, &text, NULL) != POOL_OK)
        return NULL;
    CLEANUP_JSON json_t *document = json_of_encoded(&text);
    return json_incref(json_object_get(document, "error"));
}

json_t *json_of_estimate(const struct pool_estimate *estimate)
{
    struct pool_memory_need need = { .estimate = *estimate };
    char *text = NULL;
    if (pool_memory_need_encode(&need, &text, NULL) != POOL_OK)
        return NULL;
    CLEANUP_JSON json_t *document = json_of_encoded(&text);
    return json_incref(json_object_get(document, "estimate"));
}

enum pool_code print_document(const struct cli *cli, const json_t *document, struct pool_error *err)
{
    char *text = document ? json_print(document) : NULL;
    if (!text)
        return pool_error_no_memory(err);
    print_json(cli, &text);
    return POOL_OK;
}
