/*
 * A growing byte string that carries its own limit. A write that would pass the limit, or that
 * finds no memory, fails and marks the buffer; later writes fail too, so that a chain of appends
 * needs one check at its end. The content is always NUL-terminated.
 */
#ifndef BASE_STRBUF_H
#define BASE_STRBUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

enum strbuf_failure { STRBUF_FINE, STRBUF_FULL, STRBUF_NO_MEMORY };

struct strbuf {
    char *data; /* NULL until the first append */
    size_t n;
    size_t capacity;
    size_t limit; /* bytes, without the NUL */
    enum strbuf_failure failure;
};

#define STRBUF_INIT(limit_bytes) \
    {                            \
        .limit = (limit_bytes)   \
    }

void strbuf_done(struct strbuf *b);
/* Empties it and forgets a failure; keeps the memory. */
void strbuf_reset(struct strbuf *b);
bool strbuf_add(struct strbuf *b, const void *data, size_t n);
bool strbuf_add_text(struct strbuf *b, const char *text);
bool strbuf_add_char(struct strbuf *b, char c);
bool strbuf_printf(struct strbuf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool strbuf_vprintf(struct strbuf *b, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
/* The content; "" when empty. Borrowed until the next change. */
const char *strbuf_text(const struct strbuf *b);
/* Hands the content over to the caller, who frees it; NULL when an append failed or memory is out. */
char *strbuf_take(struct strbuf *b);

#endif
