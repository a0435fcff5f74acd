/*
 * What the terminal can show, and texts made safe for it. Tables are laid out elsewhere (table.c).
 */
#include "cli/terminal.h"

#include <inttypes.h>
#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "base/utf8.h"

#define SAFE_TEXT_MAX_BYTES (256 << 20)
#define COLUMNS_MIN         40

static int columns_of(int fd)
{
    int64_t columns;
    const char *text = getenv("COLUMNS");
    if (text && parse_int64(text, COLUMNS_MIN, 10000, &columns))
        return (int)columns;
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col >= COLUMNS_MIN)
        return size.ws_col;
    return 80;
}

void terminal_look(struct terminal *terminal, bool has_no_color)
{
    const char *no_color = getenv("NO_COLOR"); /* https://no-color.org: set and not empty */
    const char *term = getenv("TERM");
    terminal->is_out_terminal = isatty(STDOUT_FILENO) == 1;
    terminal->is_err_terminal = isatty(STDERR_FILENO) == 1;
    terminal->is_utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    terminal->has_color = terminal->is_out_terminal && !has_no_color && !(no_color && *no_color) && term &&
                          *term && strcmp(term, "dumb") != 0;
    terminal->columns = terminal->is_out_terminal ? columns_of(STDOUT_FILENO) : 0;
    terminal->err_columns = terminal->is_err_terminal ? columns_of(STDERR_FILENO) : 0;
}

/* ---- safe texts ---- */

/* Of a well-formed character of n bytes. */
static uint32_t decode(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;
    if (n == 1)
        return p[0];
    uint32_t c = p[0] & (0xffU >> (n + 1));
    for (size_t i = 1; i < n; i++)
        c = c << 6 | (p[i] & 0x3fU);
    return c;
}

/* Characters that change what is shown around them: C1 controls, line and paragraph separators, and those that turn
 * the direction of writing (Unicode TR 36, "Bidirectional Text Spoofing"), the byte order mark, tags. */
static bool is_deceiving(uint32_t c)
{
    return (c >= 0x80 && c <= 0x9f) || c == 0x061c || c == 0x200e || c == 0x200f ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff ||
           (c >= 0xfff9 && c <= 0xfffb) || (c >= 0xe0000 && c <= 0xe007f);
}

static void add_escaped(struct strbuf *b, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c == '\n')
            strbuf_add_text(b, "\\n");
        else if (c == '\t')
            strbuf_add_text(b, "\\t");
        else if (c == '\r')
            strbuf_add_text(b, "\\r");
        else
            strbuf_printf(b, "\\x%02x", c);
    }
}

static void add_safe(const struct terminal *terminal, struct strbuf *b, const char *text, size_t n,
                     bool are_lines)
{
    const char *end = text + n;
    for (const char *p = text; p < end;) {
        size_t length = *p ? utf8_length(p) : 1;
        if (length > (size_t)(end - p))
            length = 0;
        uint32_t c = length ? decode(p, length) : 0;
        bool is_layout = are_lines && (c == '\n' || c == '\t');
        if ((c >= 0x20 && c < 0x7f) || is_layout)
            strbuf_add_char(b, *p);
        else if (length <= 1 || is_deceiving(c))
            add_escaped(b, p, length ? length : 1);
        else if (!terminal->is_utf8)
            strbuf_add_char(b, '?');
        else
            strbuf_add(b, p, length);
        p += length ? length : 1;
    }
}

void terminal_add_safe(const struct terminal *terminal, struct strbuf *b, const char *text)
{
    add_safe(terminal, b, text, strlen(text), false);
}

void terminal_add_safe_lines(const struct terminal *terminal, struct strbuf *b, const char *text, size_t n)
{
    add_safe(terminal, b, text, n, true);
}

size_t terminal_width(const struct terminal *terminal, const char *text)
{
    size_t width = 0;
    for (const char *p = text; *p;) {
        size_t length = utf8_length(p);
        if (length > 1 && terminal->is_utf8) {
            int columns = wcwidth((wchar_t)decode(p, length)); /* glibc: wchar_t is the code point */
            width += columns < 0 ? 1 : (size_t)columns;
        } else {
            width++;
        }
        p += length ? length : 1;
    }
    return width;
}

void terminal_print(const struct terminal *terminal, FILE *file, const char *text)
{
    CLEANUP(strbuf_done) struct strbuf b = STRBUF_INIT(SAFE_TEXT_MAX_BYTES);
    terminal_add_safe(terminal, &b, text);
    fputs(strbuf_text(&b), file);
}

void terminal_print_lines(const struct terminal *terminal, FILE *file, const char *text, size_t n)
{
    /* In pieces that end at a line's end where there is one, so that a long log needs no second copy of itself. */
    while (n > 0) {
        CLEANUP(strbuf_done) struct strbuf b = STRBUF_INIT(SAFE_TEXT_MAX_BYTES);
        size_t piece = n;
        const char *feed = n > 65536 ? memchr(text + 65536, '\n', n - 65536) : NULL;
        if (feed)
            piece = (size_t)(feed + 1 - text);
        terminal_add_safe_lines(terminal, &b, text, piece);
        fwrite(strbuf_text(&b), 1, b.n, file);
        text += piece;
        n -= piece;
    }
}

const char *terminal_style_on(const struct terminal *terminal, enum terminal_style style)
{
    static const char *const sequences[] = {
        [STYLE_PLAIN] = "",        [STYLE_HEAD] = "\033[1m", [STYLE_GOOD] = "\033[32m",
        [STYLE_WARN] = "\033[33m", [STYLE_BAD] = "\033[31m", [STYLE_DIM] = "\033[2m",
    };
    return terminal->has_color ? sequences[style] : "";
}

const char *terminal_style_off(const struct terminal *terminal, enum terminal_style style)
{
    return terminal->has_color && style != STYLE_PLAIN ? "\033[0m" : "";
}

const char *terminal_ellipsis(const struct terminal *terminal)
{
    return terminal->is_utf8 ? "…" : "..";
}

void format_duration(int64_t ms, char text[DURATION_TEXT_MAX])
{
    int64_t s = ms > 0 ? ms / 1000 : 0;
    if (s < 60)
        snprintf(text, DURATION_TEXT_MAX, "%" PRId64 " s", s);
    else if (s < 3600)
        snprintf(text, DURATION_TEXT_MAX, "%" PRId64 " min", s / 60);
    else if (s < INT64_C(86400))
        snprintf(text, DURATION_TEXT_MAX, "%" PRId64 " h %02" PRId64 " min", s / 3600, s / 60 % 60);
    else
        snprintf(text, DURATION_TEXT_MAX, "%" PRId64 " d %02" PRId64 " h", s / 86400, s / 3600 % 24);
}
