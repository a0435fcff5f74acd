/*
 * Writing JSON; see writer.h.
 */
#include "core/api/writer.h"

#include <string.h>

#include "base/utf8.h"

void writer_done(struct writer *w)
{
    strbuf_done(&w->text);
}

/* A comma, unless a value may follow what is there. A value never ends in one of these. */
static void separate(struct writer *w)
{
    char last = '{';
    if (w->text.n > 0)
        last = w->text.data[w->text.n - 1];
    if (last != '{' && last != '[' && last != ':')
        strbuf_add_char(&w->text, ',');
}

void write_open(struct writer *w, char bracket)
{
    separate(w);
    strbuf_add_char(&w->text, bracket);
}

void write_close(struct writer *w, char bracket)
{
    strbuf_add_char(&w->text, bracket);
}

void write_key(struct writer *w, const char *key)
{
    write_text(w, key);
    strbuf_add_char(&w->text, ':');
}

void write_null(struct writer *w)
{
    separate(w);
    strbuf_add_text(&w->text, "null");
}

void write_bool(struct writer *w, bool value)
{
    separate(w);
    strbuf_add_text(&w->text, value ? "true" : "false");
}

void write_integer(struct writer *w, int64_t value)
{
    separate(w);
    /* By hand: half of a state is numbers, and printf took a third of the time. */
    char digits[20];
    size_t at = sizeof digits;
    uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
    do {
        digits[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (value < 0)
        digits[--at] = '-';
    strbuf_add(&w->text, digits + at, sizeof digits - at);
}

/* Source: RFC 8259, section 7: quotation mark, reverse solidus and what is below U+0020 must be escaped. */
static void write_escaped(struct strbuf *b, char c)
{
    static const char short_forms[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    for (const char *form = short_forms; *form; form += 2) {
        if (*form == c) {
            strbuf_add(b, (const char[]){ '\\', form[1] }, 2);
            return;
        }
    }
    strbuf_printf(b, "\\u%04x", (unsigned)c);
}

static void write_quoted(struct writer *w, const char *text, size_t n, size_t max_bytes)
{
    struct strbuf *b = &w->text;
    separate(w);
    strbuf_add_char(b, '"');
    const char *plain = text; /* start of what can be copied as it is */
    const char *p = text;
    const char *end = text + n;
    size_t n_written = 0; /* bytes of the text that a reader gets */
    while (p < end) {
        /* Most of it is plain. */
        unsigned char c = (unsigned char)*p;
        if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && n_written < max_bytes) {
            n_written++;
            p++;
            continue;
        }
        size_t n_bytes = utf8_length(p);
        bool is_broken = n_bytes == 0 || n_bytes > (size_t)(end - p);
        size_t n_shown = is_broken ? strlen(UTF8_REPLACEMENT) : n_bytes;
        if (n_shown > max_bytes - n_written)
            break;
        n_written += n_shown;
        bool is_escaped = *p == '"' || *p == '\\' || (unsigned char)*p < 0x20;
        if (is_broken || is_escaped) {
            strbuf_add(b, plain, (size_t)(p - plain));
            if (is_broken)
                strbuf_add_text(b, UTF8_REPLACEMENT);
            else
                write_escaped(b, *p);
            p++;
            plain = p;
        } else {
            p += n_bytes;
        }
    }
    strbuf_add(b, plain, (size_t)(p - plain));
    strbuf_add_char(b, '"');
}

void write_text(struct writer *w, const char *text)
{
    write_text_cut(w, text, SIZE_MAX);
}

void write_text_cut(struct writer *w, const char *text, size_t max_bytes)
{
    if (text)
        write_quoted(w, text, strlen(text), max_bytes);
    else
        write_null(w);
}

void write_text_n(struct writer *w, const char *text, size_t n)
{
    write_quoted(w, text, n, SIZE_MAX);
}

enum pool_code writer_take(struct writer *w, char **ret_json, struct pool_error *err)
{
    char *json = strbuf_take(&w->text);
    if (!json) {
        if (w->text.failure != STRBUF_FULL)
            return pool_error_no_memory(err);
        return pool_error_set(err, POOL_INTERNAL, "an answer of more than %zu MiB", w->text.limit >> 20);
    }
    *ret_json = json;
    return POOL_OK;
}
