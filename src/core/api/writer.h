/*
 * JSON as it is written: straight into one buffer, no tree in between, so that an answer costs a few
 * allocations and not two a field. Failures stick in the buffer and are reported once, by writer_take. Text
 * from outside need not be valid UTF-8: what is not becomes U+FFFD, a byte at a time.
 */
#ifndef CORE_API_WRITER_H
#define CORE_API_WRITER_H

#include <pool/error.h>

#include "base/strbuf.h"

struct writer {
    struct strbuf text;
};

#define WRITER_INIT(limit_bytes)         \
    {                                    \
        .text = STRBUF_INIT(limit_bytes) \
    }

void writer_done(struct writer *w);
void write_open(struct writer *w, char bracket);  /* '{' or '[' */
void write_close(struct writer *w, char bracket); /* '}' or ']' */
void write_key(struct writer *w, const char *key);
void write_null(struct writer *w);
void write_bool(struct writer *w, bool value);
void write_integer(struct writer *w, int64_t value);
/* NULL is written as null. */
void write_text(struct writer *w, const char *text);
/* At most max_bytes of UTF-8, whole characters, so that it fits where it is read into; NULL: null. */
void write_text_cut(struct writer *w, const char *text, size_t max_bytes);
/* n bytes without a NUL. */
void write_text_n(struct writer *w, const char *text, size_t n);
/* The text, which the caller frees. Errors: INSUFFICIENT_MEMORY, INTERNAL (over the limit). */
enum pool_code writer_take(struct writer *w, char **ret_json, struct pool_error *err);

#endif
