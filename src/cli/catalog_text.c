/*
 * Entries of catalogs as text; see catalog_file.h. No file is touched here.
 *
 * Source: TOML 1.0, "String", "Comment", "Array of Tables".
 */
#include <inttypes.h>
#include <string.h>

#include "cli/catalog_file.h"

static void add_string(struct strbuf *text, const char *value)
{
    strbuf_add_char(text, '"');
    for (const char *c = value; *c; c++) {
        if (*c == '"' || *c == '\\')
            strbuf_printf(text, "\\%c", *c);
        else if ((unsigned char)*c < 0x20 || *c == 0x7f)
            strbuf_printf(text, "\\u%04X", (unsigned)(unsigned char)*c);
        else
            strbuf_add_char(text, *c);
    }
    strbuf_add_char(text, '"');
}

static void add_text(struct strbuf *text, const char *key, const char *value)
{
    if (!value)
        return;
    strbuf_printf(text, "%-8s = ", key);
    add_string(text, value);
    strbuf_add_char(text, '\n');
}

static void add_files(struct strbuf *text, const struct catalog_entry *entry)
{
    if (entry->n_files == 1) {
        add_text(text, "file", entry->files[0].file);
        strbuf_printf(text, "%-8s = %" PRId64 "\n", "size", entry->files[0].size_bytes);
        add_text(text, "sha256", entry->files[0].sha256);
        return;
    }
    strbuf_printf(text, "%-8s = [\n", "files");
    for (size_t i = 0; i < entry->n_files; i++) {
        strbuf_add_text(text, "    { file = ");
        add_string(text, entry->files[i].file);
        strbuf_printf(text, ", size = %" PRId64 ", sha256 = ", entry->files[i].size_bytes);
        add_string(text, entry->files[i].sha256);
        strbuf_add_text(text, " },\n");
    }
    strbuf_add_text(text, "]\n");
}

void catalog_text_add(struct strbuf *text, const struct catalog_entry *entry)
{
    bool ends_line = text->n == 0 || text->data[text->n - 1] == '\n';
    strbuf_add_text(text, text->n == 0 ? "" : ends_line ? "\n" : "\n\n");
    strbuf_add_text(text, "[[models]]\n");
    add_text(text, "id", entry->id);
    add_text(text, "name", entry->name);
    add_text(text, "repo", entry->repo);
    add_files(text, entry);
    add_text(text, "revision", entry->revision);
    if (entry->n_backends == 0)
        return;
    strbuf_printf(text, "%-8s = [", "backends");
    for (size_t i = 0; i < entry->n_backends; i++) {
        strbuf_add_text(text, i > 0 ? ", " : "");
        add_string(text, entry->backends[i]);
    }
    strbuf_add_text(text, "]\n");
}

/* ---- finding ---- */

static size_t next_line(const char *text, size_t at)
{
    size_t n = strcspn(text + at, "\n");
    return at + n + (text[at + n] == '\n');
}

static const char *behind_blanks(const char *line)
{
    return line + strspn(line, " \t");
}

static bool is_blank_or_comment(const char *line)
{
    const char *c = behind_blanks(line);
    return *c == '#' || *c == '\r' || *c == '\n' || *c == '\0';
}

bool catalog_text_find(const char *text, uint32_t line, size_t *ret_from, size_t *ret_to)
{
    size_t at = 0;
    for (uint32_t i = 1; i < line && text[at]; i++)
        at = next_line(text, at);
    if (line == 0 || strncmp(behind_blanks(text + at), "[[", 2) != 0)
        return false;
    *ret_from = at;
    size_t end = next_line(text, at); /* behind the last line that says something of this entry */
    for (at = end; text[at] && *behind_blanks(text + at) != '['; at = next_line(text, at)) {
        if (!is_blank_or_comment(text + at))
            end = next_line(text, at);
    }
    /* The blank line that parts it from what follows goes too; comments stay where they are. */
    if (text[end] == '\n')
        end++;
    *ret_to = end;
    return true;
}
