/*
 * Crash bundles and answers to "why" from anywhere ('b', 'w' as the first byte): what is taken is written, and that is taken
 * again and written the same. With 't' the bytes are a text that secrets are taken out of, which adds no control characters
 * and leaves no bearer token; with 'm' the line of marks and the text that they are looked for in.
 */
#include <pool/crash.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/lifecycle/crash.h"
#include "core/lifecycle/redact.h"
#include "core/lifecycle/secret_marks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool is_right)
{
    if (!is_right)
        abort();
}

typedef char *rewrite_fn(const char *json, size_t n);

static char *rewrite_bundle(const char *json, size_t n)
{
    struct pool_crash *crash = NULL;
    char *text = NULL;
    if (pool_crash_decode(json, n, &crash, NULL) != POOL_OK)
        return NULL;
    if (pool_crash_encode(crash, &text, NULL) != POOL_OK)
        text = NULL; /* written out it is larger than a bundle may be */
    else
        check(crash_reason(crash));
    pool_crash_free(crash);
    return text;
}

static char *rewrite_why(const char *json, size_t n)
{
    struct pool_worker_why *why = NULL;
    char *text = NULL;
    if (pool_worker_why_decode(json, n, &why, NULL) != POOL_OK)
        return NULL;
    check(pool_worker_why_encode(why, &text, NULL) == POOL_OK);
    pool_worker_why_free(why);
    return text;
}

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

static void try_text(const char *data, size_t n)
{
    struct string_list known = { 0 };
    struct strbuf out = STRBUF_INIT(1 << 20), safe = STRBUF_INIT(1 << 22);
    char *text = strndup(data, n); /* up to a NUL, as logs are by then */
    check(text && string_list_add(&known, "needle"));
    redact_text(text, strlen(text), &known, &out);
    if (out.failure == STRBUF_FINE) {
        crash_add_safe(&safe, strbuf_text(&out), out.n);
        check(!strpbrk(strbuf_text(&safe), "\r\n\x1b\x7f"));
    }
    free(text);
    strbuf_done(&out);
    strbuf_done(&safe);
    string_list_done(&known);
}

static void try_marks(const char *data, size_t n)
{
    struct string_list known = { 0 };
    char *line = strndup(data, n);
    check(line != NULL);
    char *text = strchr(line, '\n');
    if (text)
        *text++ = '\0';
    if (text && strlen(text) < 256)
        check(secret_marks_find(line, text, strlen(text), &known));
    free(line);
    string_list_done(&known);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const char *text = (const char *)data + 1;
    struct crash_name name;
    switch (data[0]) {
    case 'b': try_rewrite(rewrite_bundle, text, size - 1); break;
    case 'w': try_rewrite(rewrite_why, text, size - 1); break;
    case 't': try_text(text, size - 1); break;
    case 'm': try_marks(text, size - 1); break;
    case 'n': {
        char *file = strndup(text, size - 1);
        check(file != NULL);
        if (crash_name_parse(file, &name)) {
            char again[CRASH_NAME_MAX];
            crash_name_format(&name, again);
            check(strcmp(file, again) == 0);
        }
        free(file);
        break;
    }
    default: break;
    }
    return 0;
}
