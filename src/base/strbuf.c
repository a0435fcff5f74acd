/*
 * Bounded byte strings; see strbuf.h. Growth doubles, so n appends cost O(n).
 */
#include "base/strbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void strbuf_done(struct strbuf *b)
{
    free(b->data);
    b->data = NULL;
    b->n = b->capacity = 0;
}

void strbuf_reset(struct strbuf *b)
{
    b->n = 0;
    b->failure = STRBUF_FINE;
    if (b->data)
        b->data[0] = '\0';
}

static bool reserve(struct strbuf *b, size_t n)
{
    if (b->failure != STRBUF_FINE)
        return false;
    if (n > b->limit - b->n) {
        b->failure = STRBUF_FULL;
        return false;
    }
    size_t need = b->n + n + 1;
    if (need <= b->capacity)
        return true;
    size_t capacity = b->capacity ? b->capacity : 64;
    while (capacity < need)
        capacity *= 2;
    char *data = realloc(b->data, capacity);
    if (!data) {
        b->failure = STRBUF_NO_MEMORY;
        return false;
    }
    b->data = data;
    b->capacity = capacity;
    return true;
}

bool strbuf_add(struct strbuf *b, const void *data, size_t n)
{
    if (!reserve(b, n))
        return false;
    if (n)
        memcpy(b->data + b->n, data, n);
    b->n += n;
    b->data[b->n] = '\0';
    return true;
}

bool strbuf_add_text(struct strbuf *b, const char *text)
{
    return strbuf_add(b, text, strlen(text));
}

bool strbuf_add_char(struct strbuf *b, char c)
{
    return strbuf_add(b, &c, 1);
}

bool strbuf_vprintf(struct strbuf *b, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    if (n < 0 && b->failure == STRBUF_FINE) /* longer than an int can say */
        b->failure = STRBUF_FULL;
    bool is_done = n >= 0 && reserve(b, (size_t)n);
    if (is_done) {
        vsnprintf(b->data + b->n, (size_t)n + 1, format, again);
        b->n += (size_t)n;
    }
    va_end(again);
    return is_done;
}

bool strbuf_printf(struct strbuf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    bool is_done = strbuf_vprintf(b, format, args);
    va_end(args);
    return is_done;
}

const char *strbuf_text(const struct strbuf *b)
{
    return b->data ? b->data : "";
}

char *strbuf_take(struct strbuf *b)
{
    if (!reserve(b, 0)) {
        strbuf_done(b);
        return NULL;
    }
    char *data = b->data;
    data[b->n] = '\0';
    b->data = NULL;
    b->n = b->capacity = 0;
    return data;
}
