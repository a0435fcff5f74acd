/*
 * TOML by toml++, copied into one flat block; see toml.h. This is the only C++ in the project: every exception,
 * std::bad_alloc included, ends here, and nothing of toml++ lives longer than the call that parsed. It does not know
 * what the keys mean.
 *
 * We compile with exceptions and tell toml++ to return its errors all the same: the error it would throw allocates in a
 * constructor that may not throw, which would end the program when memory is out.
 *
 * Two limits are ours. Brackets nest at most NESTING_MAX deep (toml++ itself would allow 256), and a dotted key has
 * at most KEY_PARTS_MAX parts: toml++ 3.3 does not bound these, and the tables such a key makes are destroyed by
 * recursion, so that one long line would exhaust the stack. Together they bound the depth of every tree.
 */
#include "base/toml.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <string_view>
#include <vector>

#define NESTING_MAX   64
#define KEY_PARTS_MAX 32

namespace
{

struct broken_assumption {
};

/*
 * toml++ states what it believes of its input by assertions, and some texts prove it wrong. In 3.3 `[` with a stranger
 * behind it breaks the two about the start of a key; the code behind them then says so properly. Any other broken
 * one becomes an error of ours instead of an abort or, without assertions, of undefined behaviour.
 */
void report_broken_assumption(const char *text)
{
    if (std::strcmp(text, "is_bare_key_character(*cp) || is_string_delimiter(*cp)") == 0 ||
        std::strcmp(text, "is_string_delimiter(*cp) || is_bare_key_character(*cp)") == 0)
        return;
    throw broken_assumption();
}

} // namespace

#undef NDEBUG /* toml++ turns its assertions into hints to the optimiser when it is set */
#define TOML_ASSERT(...)       ((__VA_ARGS__) ? static_cast<void>(0) : report_broken_assumption(#__VA_ARGS__))
#define TOML_HEADER_ONLY       1
#define TOML_EXCEPTIONS        0
#define TOML_ENABLE_FORMATTERS 0
#define TOML_MAX_NESTED_VALUES NESTING_MAX
/*
 * The table behind is_whitespace() says "unreachable" for some letters that do reach it, such as one behind a
 * backslash at the end of a line. They are no whitespace.
 */
#include <toml++/impl/forward_declarations.h>
#undef TOML_UNREACHABLE
#define TOML_UNREACHABLE return false
#include <toml++/impl/unicode.h>
#undef TOML_UNREACHABLE
#define TOML_UNREACHABLE __builtin_unreachable()
#include <toml++/toml.h>

struct toml_document {
    size_t n_nodes;
    /* behind it in the same block: struct toml_node nodes[n_nodes], the root first; then all strings */
};

namespace
{

constexpr std::size_t NODES_OFFSET =
    (sizeof(toml_document) + alignof(toml_node) - 1) / alignof(toml_node) * alignof(toml_node);

struct position {
    std::uint32_t line, column;
};

/* A node on its way into the flat tree. */
struct entry {
    const toml::node *value;
    const toml::key *key; /* nullptr for array elements and the root */
    std::size_t first_child, n_children;
};

void set_error(toml_error *error, position at, std::string_view message) noexcept
{
    if (!error)
        return;
    *error = {};
    error->line = at.line;
    error->column = at.column;
    std::size_t n = std::min(message.size(), sizeof error->message - 1);
    /* Never cut inside a UTF-8 sequence. */
    if (n < message.size()) {
        while (n > 0 && (static_cast<unsigned char>(message[n]) & 0xC0) == 0x80)
            n--;
    }
    std::memcpy(error->message, message.data(), n);
    error->message[n] = '\0';
}

void set_no_memory(toml_error *error) noexcept
{
    set_error(error, { 0, 0 }, "out of memory");
    if (error)
        error->is_no_memory = true;
}

bool is_bare_key_char(unsigned char c) noexcept
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

/* The position behind a string that starts at `at`; the end of the text when it does not end. */
std::size_t skip_string(std::string_view text, std::size_t at) noexcept
{
    const char quote = text[at];
    const bool has_escapes = quote == '"';
    const bool is_long = at + 2 < text.size() && text[at + 1] == quote && text[at + 2] == quote;
    std::size_t i = at + (is_long ? 3 : 1);
    for (; i < text.size(); i++) {
        if (has_escapes && text[i] == '\\') {
            i++;
        } else if (text[i] == '\n' && !is_long) {
            return text.size(); /* no string: the parser will say so and stop there */
        } else if (text[i] == quote) {
            if (!is_long)
                return i + 1;
            std::size_t n_quotes = 1;
            while (n_quotes < 5 && i + n_quotes < text.size() && text[i + n_quotes] == quote)
                n_quotes++;
            if (n_quotes >= 3)
                return i + n_quotes;
        }
    }
    return text.size();
}

/* Something this reader refuses before toml++ sees it. */
struct refusal {
    std::size_t offset; /* npos: nothing */
    const char *message;
};

/*
 * Looks for keys of more than KEY_PARTS_MAX parts (names and strings with nothing but dots and blanks between them)
 * and for characters outside ASCII that are neither in a string nor in a comment: no TOML has them, but toml++ 3.3
 * takes some for blanks. Everything else is the parser's word.
 */
refusal find_refused(std::string_view text) noexcept
{
    constexpr std::size_t NOWHERE = std::string_view::npos;
    std::size_t n_dots = 0;
    std::size_t start = NOWHERE;
    for (std::size_t i = text.substr(0, 3) == "\xEF\xBB\xBF" ? 3 : 0; i < text.size();) {
        const unsigned char c = static_cast<unsigned char>(text[i]);
        if (c >= 0x80) {
            return { i, "a character outside ASCII must be in quotes" };
        } else if (c == '.') {
            if (++n_dots >= KEY_PARTS_MAX)
                return { start == NOWHERE ? i : start,
                         "a key has more than 32 parts with dots between them" };
            i++;
        } else if (is_bare_key_char(c) || c == '"' || c == '\'') {
            if (start == NOWHERE)
                start = i;
            i = c == '"' || c == '\'' ? skip_string(text, i) : i + 1;
        } else if (c == ' ' || c == '\t') {
            i++;
        } else {
            n_dots = 0;
            start = NOWHERE;
            i = c == '#' ? std::min(text.find('\n', i), text.size()) : i + 1;
        }
    }
    return { NOWHERE, nullptr };
}

position position_of(std::string_view text, std::size_t offset) noexcept
{
    position at = { 1, 1 };
    for (std::size_t i = 0; i < offset; i++) {
        if (text[i] == '\n') {
            at.line++;
            at.column = 1;
        } else if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) {
            at.column++;
        }
    }
    return at;
}

bool is_before(const entry &a, const entry &b) noexcept
{
    const toml::source_position &x = a.key->source().begin;
    const toml::source_position &y = b.key->source().begin;
    return x.line != y.line ? x.line < y.line : x.column < y.column;
}

/*
 * Lists the nodes breadth first, so that the children of each lie together, and adds up the bytes of their strings.
 * Returns a key with a NUL in it, which a C string cannot hold, or nullptr.
 */
const toml::key *list_nodes(const toml::table &root, std::vector<entry> &entries, std::size_t &n_string_bytes)
{
    entries.push_back({ &root, nullptr, 0, 0 });
    for (std::size_t i = 0; i < entries.size(); i++) {
        const toml::node *value = entries[i].value;
        const std::size_t first = entries.size();
        if (const toml::table *table = value->as_table()) {
            for (auto &&[key, child] : *table) {
                if (key.str().find('\0') != std::string_view::npos)
                    return &key;
                n_string_bytes += key.str().size() + 1;
                entries.push_back({ &child, &key, 0, 0 });
            }
            std::sort(entries.begin() + static_cast<std::ptrdiff_t>(first), entries.end(), is_before);
        } else if (const toml::array *array = value->as_array()) {
            for (const toml::node &child : *array)
                entries.push_back({ &child, nullptr, 0, 0 });
        } else if (const auto *text = value->as_string()) {
            n_string_bytes += text->get().size() + 1;
        }
        entries[i].first_child = first;
        entries[i].n_children = entries.size() - first;
    }
    return nullptr;
}

const char *copy_string(char *&strings, std::string_view text) noexcept
{
    char *copy = strings;
    std::memcpy(copy, text.data(), text.size());
    copy[text.size()] = '\0';
    strings += text.size() + 1;
    return copy;
}

void fill_value(toml_node &node, const toml::node &value, char *&strings) noexcept
{
    switch (value.type()) {
    case toml::node_type::table: node.kind = TOML_TABLE; break;
    case toml::node_type::array: node.kind = TOML_ARRAY; break;
    case toml::node_type::string:
        node.kind = TOML_STRING;
        node.n_text = value.as_string()->get().size();
        node.text = copy_string(strings, value.as_string()->get());
        break;
    case toml::node_type::integer:
        node.kind = TOML_INTEGER;
        node.integer = value.as_integer()->get();
        break;
    case toml::node_type::floating_point:
        node.kind = TOML_REAL;
        node.real = value.as_floating_point()->get();
        break;
    case toml::node_type::boolean:
        node.kind = TOML_BOOL;
        node.boolean = value.as_boolean()->get();
        break;
    case toml::node_type::none:
    case toml::node_type::date:
    case toml::node_type::time:
    case toml::node_type::date_time: node.kind = TOML_DATE; break;
    }
}

void fill_node(toml_node &node, const entry &from, const toml_node *nodes, char *&strings) noexcept
{
    node = {};
    const toml::source_position &at = from.value->source().begin;
    const toml::source_position &key_at = from.key ? from.key->source().begin : at;
    node.line = at.line;
    node.column = at.column;
    node.key_line = key_at.line;
    node.key_column = key_at.column;
    if (from.key)
        node.key = copy_string(strings, from.key->str());
    node.n_children = from.n_children;
    node.children = from.n_children > 0 ? nodes + from.first_child : nullptr;
    fill_value(node, *from.value, strings);
}

toml_document *parse(std::string_view text, toml_error *error)
{
    const refusal refused = find_refused(text);
    if (refused.message) {
        set_error(error, position_of(text, refused.offset), refused.message);
        return nullptr;
    }
    const toml::parse_result parsed = toml::parse(text);
    if (!parsed) {
        const toml::source_position &at = parsed.error().source().begin;
        set_error(error, { at.line, at.column }, parsed.error().description());
        return nullptr;
    }
    const toml::table &root = parsed.table();

    std::vector<entry> entries;
    std::size_t n_string_bytes = 0;
    if (const toml::key *bad = list_nodes(root, entries, n_string_bytes)) {
        set_error(error, { bad->source().begin.line, bad->source().begin.column },
                  "a key has a NUL character in it");
        return nullptr;
    }

    char *block =
        static_cast<char *>(std::malloc(NODES_OFFSET + entries.size() * sizeof(toml_node) + n_string_bytes));
    if (!block) {
        set_no_memory(error);
        return nullptr;
    }
    toml_document *document = ::new (block) toml_document{ entries.size() };
    toml_node *nodes = reinterpret_cast<toml_node *>(block + NODES_OFFSET);
    char *strings = reinterpret_cast<char *>(nodes + entries.size());
    for (std::size_t i = 0; i < entries.size(); i++)
        fill_node(nodes[i], entries[i], nodes, strings);
    return document;
}

} // namespace

toml_document *toml_parse(const char *text, size_t n, toml_error *error)
{
    try {
        return parse(std::string_view(n > 0 ? text : "", n), error);
    } catch (const std::bad_alloc &) {
        set_no_memory(error);
    } catch (const std::exception &failure) {
        set_error(error, { 0, 0 }, failure.what());
    } catch (...) {
        set_error(error, { 0, 0 }, "the parser failed");
    }
    return nullptr;
}

void toml_free(toml_document *document)
{
    std::free(document);
}

const toml_node *toml_root(const toml_document *document)
{
    return reinterpret_cast<const toml_node *>(reinterpret_cast<const char *>(document) + NODES_OFFSET);
}

const toml_node *toml_child(const toml_node *table, const char *key)
{
    if (table->kind != TOML_TABLE)
        return nullptr;
    for (size_t i = 0; i < table->n_children; i++) {
        if (std::strcmp(table->children[i].key, key) == 0)
            return &table->children[i];
    }
    return nullptr;
}

const char *toml_kind_name(enum toml_kind kind)
{
    switch (kind) {
    case TOML_TABLE: return "a table";
    case TOML_ARRAY: return "an array";
    case TOML_STRING: return "a string";
    case TOML_INTEGER: return "an integer";
    case TOML_REAL: return "a real number";
    case TOML_BOOL: return "a boolean";
    case TOML_DATE: return "a date or time";
    }
    return "a value";
}
