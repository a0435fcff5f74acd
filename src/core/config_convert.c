/*
 * From a value of the file, a variable, a flag or a default to the field of its key, by the key's type; lists
 * are in config_lists.c. Also the rules of single texts: names, addresses, URLs, paths.
 */
#include "core/config_loader.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "base/utf8.h"

#define URL_MAX        2048
#define NAME_MAX_CHARS 64 /* of a pool id, as of a worker id */
#define TEXT_MAX_CHARS 255

const char *config_text(struct config_loader *l, const char *name, const struct config_input *in)
{
    if (!in->node) {
        if (utf8_is_valid(in->text) && strlen(in->text) <= CONFIG_TEXT_MAX)
            return in->text;
        config_problem(l, in, name, "is not UTF-8, or longer than %d bytes", CONFIG_TEXT_MAX);
        return NULL;
    }
    if (in->node->kind != TOML_STRING)
        config_problem(l, in, name, "expected a text in quotes, not %s", toml_kind_name(in->node->kind));
    else if (strlen(in->node->text) != in->node->n_text)
        config_problem(l, in, name, "there is a NUL character in it");
    else if (in->node->n_text > CONFIG_TEXT_MAX)
        config_problem(l, in, name, "is longer than %d bytes", CONFIG_TEXT_MAX);
    else
        return in->node->text;
    return NULL;
}

const char *config_word_at(const char *words, size_t index, size_t *ret_n)
{
    for (; index > 0; index--)
        words += strcspn(words, "|") + 1;
    *ret_n = strcspn(words, "|");
    return words;
}

size_t config_word_index(const char *words, const char *text)
{
    size_t n_text = strlen(text);
    for (size_t i = 0;; i++) {
        size_t n = strcspn(words, "|");
        if (n == n_text && memcmp(words, text, n) == 0)
            return i;
        if (words[n] == '\0')
            return SIZE_MAX;
        words += n + 1;
    }
}

static const struct {
    int number;
    const char *name;
} stop_signals[] = {
    { SIGTERM, "SIGTERM" }, { SIGINT, "SIGINT" },   { SIGQUIT, "SIGQUIT" },
    { SIGHUP, "SIGHUP" },   { SIGUSR1, "SIGUSR1" }, { SIGUSR2, "SIGUSR2" },
};
#define N_STOP_SIGNALS (sizeof stop_signals / sizeof stop_signals[0])

int config_signal_number(const char *name)
{
    for (size_t i = 0; i < N_STOP_SIGNALS; i++) {
        if (strcmp(stop_signals[i].name, name) == 0 || strcmp(stop_signals[i].name + 3, name) == 0)
            return stop_signals[i].number;
    }
    return 0;
}

const char *config_signal_name(int number)
{
    for (size_t i = 0; i < N_STOP_SIGNALS; i++) {
        if (stop_signals[i].number == number)
            return stop_signals[i].name;
    }
    return "";
}

/* ---- the rules of a text; each returns why it is wrong, NULL when it is right ---- */

static bool is_printable(const char *text, size_t max)
{
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c <= 0x20 || c >= 0x7f)
            return false;
    }
    return n > 0 && n <= max;
}

static bool is_name(const char *text)
{
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
    return n > 0 && n <= NAME_MAX_CHARS && text[n] == '\0' && !strchr("._-", text[0]);
}

static bool is_address(const char *text)
{
    struct in6_addr address;
    return strcmp(text, "localhost") == 0 || inet_pton(AF_INET, text, &address) == 1 ||
           inet_pton(AF_INET6, text, &address) == 1;
}

static const char *judge_bind(const char *text)
{
    const char *const form =
        "expected ADDRESS:PORT, for example 127.0.0.1:9200 or [::1]:9200; the address is "
        "numeric or localhost, the port 0 (chosen by the system) to 65535";
    char host[INET6_ADDRSTRLEN + 1];
    const char *colon = strrchr(text, ':');
    int64_t port;
    if (!colon || !parse_int64(colon + 1, 0, 65535, &port))
        return form;
    bool has_brackets = text[0] == '[' && colon[-1] == ']';
    const char *start = has_brackets ? text + 1 : text;
    const char *end = has_brackets ? colon - 1 : colon;
    if (end <= start || (size_t)(end - start) >= sizeof host)
        return form;
    memcpy(host, start, (size_t)(end - start));
    host[end - start] = '\0';
    /* An IPv6 address without brackets could be read in two ways. */
    return is_address(host) && has_brackets == (strchr(host, ':') != NULL) ? NULL : form;
}

static const char *judge_http_url(const char *text)
{
    const char *rest = strncmp(text, "http://", 7) == 0    ? text + 7
                       : strncmp(text, "https://", 8) == 0 ? text + 8
                                                           : NULL;
    if (!rest || strchr("/?#:", *rest) || !is_printable(text, URL_MAX))
        return "expected http://HOST:PORT or https://HOST";
    if (memchr(rest, '@', strcspn(rest, "/?#")))
        return "a user or password in a URL ends up in logs; use the token file";
    if (strpbrk(rest, "?#"))
        return "a query or fragment has no place here";
    return NULL;
}

static const char *judge_store(const char *text)
{
    if (strcmp(text, "memory:") == 0 || strncmp(text, "sqlite:", 7) == 0)
        return NULL;
    return "expected \"sqlite:\", \"sqlite:/path/pool.db\" or \"memory:\"";
}

static const char *judge_inventory(const char *text)
{
    if (strncmp(text, "nvml:", 5) == 0 || (strncmp(text, "static:", 7) == 0 && text[7]))
        return NULL;
    return "expected \"nvml:\", \"nvml:/path/libnvidia-ml.so.1\" or \"static:/path/gpus.toml\"";
}

static const char *judge_text(const struct config_key *key, const char *text)
{
    switch (key->type) {
    case CONFIG_TEXT:
        return is_printable(text, TEXT_MAX_CHARS) ? NULL : "expected up to 255 characters without blanks";
    case CONFIG_NAME:
    case CONFIG_NAMES:
        return is_name(text) ? NULL : "expected up to 64 letters, digits, . _ -, the first a letter or digit";
    case CONFIG_ADDRESS: return judge_bind(text);
    case CONFIG_HOST:
        return is_address(text) ? NULL : "expected a numeric IPv4 or IPv6 address, or localhost";
    case CONFIG_REGISTRY: return judge_store(text);
    case CONFIG_INVENTORY: return judge_inventory(text);
    case CONFIG_HTTP_URL: return judge_http_url(text);
    case CONFIG_BACKEND: return config_is_backend_name(text) ? NULL : "this can not be a backend's name";
    case CONFIG_HTTP_PATH:
        return text[0] == '/' && is_printable(text, URL_MAX) ? NULL : "expected a path such as \"/health\"";
    case CONFIG_SIGNAL:
        return config_signal_number(text) ? NULL
                                          : "expected SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1 or SIGUSR2";
    case CONFIG_PATH:
    case CONFIG_PATHS:
    case CONFIG_BOOL:
    case CONFIG_MILLISECONDS:
    case CONFIG_BYTES:
    case CONFIG_PORTS:
    case CONFIG_WORD:
    case CONFIG_CHOICE:
    case CONFIG_COMMAND:
    case CONFIG_ARGUMENTS:
    case CONFIG_OPTIONS:
    case CONFIG_VARIABLES:
    case CONFIG_WORDS:
    case CONFIG_ENV: break;
    }
    return NULL;
}

static bool may_be_empty(const struct config_key *key)
{
    return key->shown.default_value && strcmp(key->shown.default_value, "\"\"") == 0;
}

bool config_check_text(struct config_loader *l, const struct config_key *key, const char *name,
                       const struct config_input *in, const char *text)
{
    if (text[0] == '\0' && may_be_empty(key))
        return true;
    const char *why = text[0] ? judge_text(key, text) : "is empty";
    if (!why && utf8_has_control(text))
        why = "there are control characters in it";
    if (why)
        config_problem(l, in, name, "%s", why);
    return !why;
}

/* ---- fields ---- */

static bool set_owned(char **field, char *text)
{
    free(*field);
    *field = text;
    return true;
}

/* A text field; "" is stored as NULL ("none"), but a name that may be empty is never NULL. */
static bool store_text(const struct config_key *key, char **field, const char *text)
{
    if (text[0] == '\0' && key->type != CONFIG_NAME)
        return set_owned(field, NULL);
    char *copy = strdup(text);
    return copy && set_owned(field, copy);
}

static bool convert_path(struct config_loader *l, const struct config_key *key, const char *name,
                         const struct config_input *in, const char *text, char **field)
{
    if (text[0] == '\0')
        return store_text(key, field, text);
    char *path = NULL;
    if (!config_resolve_path(l, in, name, text, &path))
        return false;
    if (path)
        set_owned(field, path);
    return true;
}

/* "SCHEME:" and perhaps a path, which is made absolute. */
static bool convert_scheme(struct config_loader *l, const char *name, const struct config_input *in,
                           const char *text, char **field)
{
    const char *path = strchr(text, ':') + 1;
    CLEANUP_FREE char *absolute = NULL;
    if (path[0] && strcmp(text, "memory:") != 0) {
        if (!config_resolve_path(l, in, name, path, &absolute))
            return false;
        if (!absolute)
            return true;
    }
    char *url;
    if (asprintf(&url, "%.*s%s", (int)(path - text), text, absolute ? absolute : "") < 0)
        return false;
    return set_owned(field, url);
}

static bool convert_text(struct config_loader *l, const struct config_key *key, const char *name,
                         const struct config_input *in, void *base)
{
    char **field = (char **)((char *)base + key->offset);
    const char *text = config_text(l, name, in);
    if (!text || !config_check_text(l, key, name, in, text))
        return true;
    if (key->type == CONFIG_PATH)
        return convert_path(l, key, name, in, text, field);
    if (key->type == CONFIG_REGISTRY || key->type == CONFIG_INVENTORY)
        return convert_scheme(l, name, in, text, field);
    if (!store_text(key, field, text))
        return false;
    if (key->type == CONFIG_HTTP_URL && *field) {
        for (size_t n = strlen(*field); n > 0 && (*field)[n - 1] == '/'; n--)
            (*field)[n - 1] = '\0';
    }
    return true;
}

static bool convert_word(struct config_loader *l, const struct config_key *key, const char *name,
                         const struct config_input *in, void *base)
{
    const char *text = config_text(l, name, in);
    if (!text)
        return true;
    size_t index = config_word_index(key->words, text);
    if (index == SIZE_MAX) {
        config_problem(l, in, name, "expected one of %s", key->words);
        return true;
    }
    if (key->type == CONFIG_WORD)
        return store_text(key, (char **)((char *)base + key->offset), text);
    /* The enums that are chosen have no negative members, so their type is unsigned int on our compilers. */
    _Static_assert(sizeof(enum pool_activity) == sizeof(unsigned), "enums are stored as unsigned int");
    *(unsigned *)(void *)((char *)base + key->offset) = (unsigned)index;
    return true;
}

static bool read_bool(struct config_loader *l, const char *name, const struct config_input *in, bool *ret)
{
    if (in->node && in->node->kind == TOML_BOOL) {
        *ret = in->node->boolean;
        return true;
    }
    if (!in->node && (strcmp(in->text, "true") == 0 || strcmp(in->text, "1") == 0)) {
        *ret = true;
        return true;
    }
    if (!in->node && (strcmp(in->text, "false") == 0 || strcmp(in->text, "0") == 0)) {
        *ret = false;
        return true;
    }
    config_problem(l, in, name, "expected true or false");
    return false;
}

static void convert_number(struct config_loader *l, const struct config_key *key, const char *name,
                           const struct config_input *in, void *base)
{
    bool is_size = key->type == CONFIG_BYTES;
    const char *text = in->node ? in->node->text : in->text;
    int64_t number;
    bool is_number = true;
    if (in->node && in->node->kind == TOML_INTEGER)
        number = in->node->integer;
    else if (in->node && (!is_size || in->node->kind != TOML_STRING || strlen(text) != in->node->n_text))
        is_number = false;
    else
        is_number = is_size ? parse_bytes(text, &number) : parse_int64(text, INT64_MIN, INT64_MAX, &number);
    if (!is_number)
        config_problem(l, in, name,
                       is_size ? "expected a number of bytes, or a text such as \"512MiB\""
                               : "expected an integer");
    else if (number < key->min || number > key->max)
        config_problem(l, in, name, "expected %" PRId64 " to %" PRId64 " %s", key->min, key->max,
                       key->shown.unit);
    else
        *(int64_t *)(void *)((char *)base + key->offset) = number;
}

static void convert_ports(struct config_loader *l, const struct config_key *key, const char *name,
                          const struct config_input *in, void *base)
{
    const char *text = config_text(l, name, in);
    if (!text)
        return;
    const char *dash = strchr(text, '-');
    int64_t first, last;
    if (!dash || !parse_int64_n(text, (size_t)(dash - text), key->min, key->max, &first) ||
        !parse_int64(dash + 1, key->min, key->max, &last)) {
        config_problem(l, in, name, "expected FIRST-LAST, for example \"8001-8999\", both 1 to 65535");
    } else if (first > last) {
        config_problem(l, in, name, "the first port is above the last");
    } else {
        *(int64_t *)(void *)((char *)base + key->offset) = first;
        *(int64_t *)(void *)((char *)base + key->count_offset) = last;
    }
}

bool config_convert(struct config_loader *l, const struct config_key *key, const char *name,
                    const struct config_input *in, void *base)
{
    const char *text;
    switch (key->type) {
    case CONFIG_TEXT:
    case CONFIG_NAME:
    case CONFIG_PATH:
    case CONFIG_ADDRESS:
    case CONFIG_HOST:
    case CONFIG_REGISTRY:
    case CONFIG_INVENTORY:
    case CONFIG_HTTP_URL:
    case CONFIG_BACKEND:
    case CONFIG_HTTP_PATH: return convert_text(l, key, name, in, base);
    case CONFIG_BOOL: read_bool(l, name, in, (bool *)base + key->offset); return true;
    case CONFIG_MILLISECONDS:
    case CONFIG_BYTES: convert_number(l, key, name, in, base); return true;
    case CONFIG_PORTS: convert_ports(l, key, name, in, base); return true;
    case CONFIG_WORD:
    case CONFIG_CHOICE: return convert_word(l, key, name, in, base);
    case CONFIG_SIGNAL:
        text = config_text(l, name, in);
        if (text && config_check_text(l, key, name, in, text))
            *(int *)(void *)((char *)base + key->offset) = config_signal_number(text);
        return true;
    case CONFIG_PATHS:
    case CONFIG_COMMAND:
    case CONFIG_ARGUMENTS:
    case CONFIG_OPTIONS:
    case CONFIG_VARIABLES:
    case CONFIG_NAMES:
    case CONFIG_WORDS: return config_convert_list(l, key, name, in, base);
    case CONFIG_ENV: return config_convert_env(l, key, name, in, base);
    }
    return true;
}
