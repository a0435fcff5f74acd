/*
 * Finding secrets in single texts; see redact.h. Command lines and environments are in redact_command.c.
 */
#include "core/lifecycle/redact.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

/* ---- names ---- */

/* A word of a name is one of these, or has one of the others in it. Words are what "_", "-", "." or a capital separate. */
static const char *const secret_words[] = { "key",       "keys",   "pass",    "auth", "authorization",
                                            "oauth",     "oauth2", "sig",     "pat",  "dsn",
                                            "hft",       "cookie", "cookies", "cred", "creds",
                                            "signature", "jwt",    "bearer",  "psk",  "webhook" };
static const char *const secret_parts[] = { "secret", "credential", "apikey", "authkey" };
static const char *const secret_ends[] = { "key", "keys" }; /* "accesskey"; not "keyfile" */
/* What people type: a number is one, too. "PIN" ends a name: "pin-memory" pins. */
static const char *const typed_words[] = { "pwd", "pw", "otp", "totp" };
static const char *const typed_parts[] = { "password", "passwd", "passphrase", "passcode" };
static const char *const typed_ends[] = { "pass" }; /* "SSHPASS"; "pass" alone is also a part of something */
static const char *const typed_last[] = { "pin" };
/* The working directory, which "pwd" would be. */
static const char *const plain_names[] = { "PWD", "OLDPWD" };

static bool is_word(const char *word, size_t n, const char *other)
{
    return strlen(other) == n && strncasecmp(word, other, n) == 0;
}

static const char *find_part(const char *word, size_t n, const char *part)
{
    size_t n_part = strlen(part);
    for (size_t i = 0; i + n_part <= n; i++) {
        if (strncasecmp(word + i, part, n_part) == 0)
            return word + i;
    }
    return NULL;
}

static bool has_any(const char *word, size_t n, const char *const *list, size_t n_list,
                    bool (*is_match)(const char *word, size_t n, const char *other))
{
    for (size_t i = 0; i < n_list; i++) {
        if (is_match(word, n, list[i]))
            return true;
    }
    return false;
}
#define HAS_ANY(word, n, list, is_match) has_any(word, n, list, sizeof(list) / sizeof(list)[0], is_match)

static bool is_part(const char *word, size_t n, const char *other)
{
    return find_part(word, n, other) != NULL;
}

static bool is_end(const char *word, size_t n, const char *other)
{
    size_t n_other = strlen(other);
    return n >= n_other && strncasecmp(word + n - n_other, other, n_other) == 0;
}

static enum redact_name word_kind(const char *word, size_t n, bool is_last)
{
    if (HAS_ANY(word, n, typed_words, is_word) || HAS_ANY(word, n, typed_parts, is_part) ||
        (n > strlen("pass") && HAS_ANY(word, n, typed_ends, is_end)) ||
        (is_last && HAS_ANY(word, n, typed_last, is_word)))
        return REDACT_NAME_TYPED;
    if (HAS_ANY(word, n, secret_words, is_word) || HAS_ANY(word, n, secret_parts, is_part) ||
        HAS_ANY(word, n, secret_ends, is_end))
        return REDACT_NAME_SECRET;
    const char *token = find_part(word, n, "token"); /* "hftoken"; not "tokenizer" */
    if (!token)
        return REDACT_NAME_PLAIN;
    const char *rest = token + strlen("token");
    size_t n_rest = (size_t)(word + n - rest);
    if (n_rest >= 2 && strncasecmp(rest, "iz", 2) == 0)
        return REDACT_NAME_PLAIN;
    return is_word(rest, n_rest, "s") ? REDACT_NAME_COUNT : REDACT_NAME_SECRET;
}

enum redact_name redact_name_kind(const char *name, size_t n)
{
    enum redact_name kind = REDACT_NAME_PLAIN;
    size_t begin = 0;
    if (HAS_ANY(name, n, plain_names, is_word))
        return kind;
    for (size_t i = 0; i <= n; i++) {
        bool is_boundary = i == n || !isalnum((unsigned char)name[i]);
        bool is_hump = !is_boundary && i > begin && isupper((unsigned char)name[i]) &&
                       islower((unsigned char)name[i - 1]);
        if (!is_boundary && !is_hump)
            continue;
        enum redact_name word = word_kind(name + begin, i - begin, i == n);
        kind = word > kind ? word : kind;
        begin = is_boundary ? i + 1 : i;
    }
    return kind;
}

/* ---- forms ---- */

static bool is_token_char(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("-._~+/=", c));
}

static size_t token_length(const char *p, const char *end)
{
    const char *q = p;
    while (q < end && is_token_char(*q))
        q++;
    return (size_t)(q - p);
}

/* How tokens of well-known services begin. */
static const char *const token_beginnings[] = { "hf_",    "sk-",   "ghp_",  "gho_",  "ghu_",       "ghs_",
                                                "glpat-", "xoxb-", "xoxp-", "xoxa-", "nvapi-",     "AIza",
                                                "AKIA",   "ASIA",  "ya29.", "eyJ",   "github_pat_" };
#define TOKEN_MIN_BYTES  16 /* of all of it */
#define BEARER_MIN_BYTES 8

/* Bytes of a token of a service at p, 0: there is none. */
static size_t service_token(const char *p, const char *end)
{
    size_t n = token_length(p, end);
    if (n < TOKEN_MIN_BYTES)
        return 0;
    for (size_t i = 0; i < sizeof token_beginnings / sizeof token_beginnings[0]; i++) {
        const char *beginning = token_beginnings[i];
        if (strncmp(p, beginning, strlen(beginning)) != 0)
            continue;
        return strcmp(beginning, "eyJ") != 0 || memchr(p, '.', n) ? n : 0; /* a JWT has parts */
    }
    return 0;
}

/* Bytes of the userinfo behind "://", with its '@'. RFC 3986, section 3.2.1. */
static size_t userinfo_length(const char *authority, const char *end)
{
    size_t n = 0;
    for (const char *p = authority; p < end && !strchr("/?# \t\"'<>", *p); p++) {
        if (*p == '@')
            n = (size_t)(p - authority) + 1;
    }
    return n;
}

/* Bytes of a private key in PEM at p. RFC 7468. */
static size_t private_key_length(const char *p, const char *end)
{
    static const char begin_mark[] = "-----BEGIN ", end_mark[] = "-----END ";
    size_t n = (size_t)(end - p);
    if (n < sizeof begin_mark - 1 || memcmp(p, begin_mark, sizeof begin_mark - 1) != 0)
        return 0;
    const char *line_end = memchr(p, '\n', n);
    size_t n_line = line_end ? (size_t)(line_end - p) : n;
    if (!memmem(p, n_line, "PRIVATE KEY", strlen("PRIVATE KEY")))
        return 0;
    const char *last = memmem(p, n, end_mark, sizeof end_mark - 1);
    return last ? (size_t)(last - p) : n;
}

/* ---- values behind names ---- */

static bool is_harmless(const char *value, size_t n, enum redact_name kind)
{
    static const char *const nothing[] = { "none", "null", "true", "false", "nil" };
    size_t n_digits = 0;
    while (n_digits < n && (isdigit((unsigned char)value[n_digits]) || value[n_digits] == '.'))
        n_digits++;
    /* Engines say "BOS token = 1": a short number in a line is no secret. */
    bool is_number = n_digits == n && (kind == REDACT_NAME_COUNT || (kind == REDACT_NAME_SECRET && n <= 8));
    return n == 0 || is_number || HAS_ANY(value, n, nothing, is_word);
}

/* Length of an unquoted value, or of a list in brackets. */
static size_t plain_value_length(const char *p, const char *end, bool is_to_line_end)
{
    static const char brackets[] = "[](){}";
    const char *bracket = *p ? strchr(brackets, *p) : NULL;
    const char *q = p;
    if (bracket && (bracket - brackets) % 2 == 0) {
        const char *close = memchr(p, bracket[1], (size_t)(end - p));
        return (size_t)((close ? close + 1 : end) - p);
    }
    while (q < end && *q != '\n' && (is_to_line_end || !strchr(" \t,;&\"'`)}]", *q)))
        q++;
    return (size_t)(q - p);
}

/* Adds `p` up to the value that is a secret, the mark instead of that, and says where to go on. */
static const char *take_value(const char *p, const char *end, enum redact_name kind, bool is_to_line_end,
                              struct strbuf *out)
{
    char quote = p < end && (*p == '"' || *p == '\'') ? *p : '\0';
    if (quote) {
        const char *close = p + 1;
        while (close < end && *close != quote)
            close += *close == '\\' && close + 1 < end ? 2 : 1;
        if (is_harmless(p + 1, (size_t)(close - p - 1), kind))
            return p;
        strbuf_printf(out, "%c" REDACTED, quote);
        return close;
    }
    size_t n = p < end ? plain_value_length(p, end, is_to_line_end) : 0;
    if (is_harmless(p, n, kind))
        return p;
    strbuf_add_text(out, REDACTED);
    return p + n;
}

static const char *copy_blanks(const char *p, const char *end, struct strbuf *out)
{
    while (p < end && (*p == ' ' || *p == '\t'))
        strbuf_add_char(out, *p++);
    return p;
}

/* What follows a name that says "secret": `= value`, `": "value"`, or for an option ` value`. */
static const char *take_assignment(const char *name, size_t n_name, bool is_option, const char *end,
                                   enum redact_name kind, struct strbuf *out)
{
    const char *p = name + n_name;
    if (p < end && (*p == '"' || *p == '\''))
        strbuf_add_char(out, *p++);
    const char *before_blanks = p;
    p = copy_blanks(p, end, out);
    bool is_colon = p < end && *p == ':';
    if (p < end && (*p == '=' || (is_colon && (p + 1 == end || p[1] != '/')))) {
        strbuf_add_char(out, *p++);
        p = copy_blanks(p, end, out);
    } else if (!is_option || p == before_blanks) {
        return p;
    }
    bool is_header = is_colon && (is_part(name, n_name, "authorization") || is_part(name, n_name, "cookie"));
    return take_value(p, end, kind, is_header, out);
}

/* ---- a text ---- */

static bool begins_word(const char *text, const char *p)
{
    return p == text || !(isalnum((unsigned char)p[-1]) || p[-1] == '_');
}

/* Takes one word and what belongs to it. */
static const char *take_word(const char *text, const char *p, const char *end, struct strbuf *out)
{
    size_t n = service_token(p, end);
    if (n > 0) {
        strbuf_add_text(out, REDACTED);
        return p + n;
    }
    n = 0;
    while (p + n < end && (isalnum((unsigned char)p[n]) || strchr("_-.", p[n])))
        n++;
    strbuf_add(out, p, n);
    if (is_word(p, n, "bearer")) {
        const char *token = copy_blanks(p + n, end, out);
        size_t n_token = token_length(token, end);
        if (token > p + n && n_token >= BEARER_MIN_BYTES) {
            strbuf_add_text(out, REDACTED);
            return token + n_token;
        }
        return token;
    }
    enum redact_name kind = redact_name_kind(p, n);
    bool is_option = p > text && p[-1] == '-';
    return kind == REDACT_NAME_PLAIN ? p + n : take_assignment(p, n, is_option, end, kind, out);
}

static void redact_forms(const char *text, size_t n, struct strbuf *out)
{
    const char *end = text + n;
    const char *p = text;
    while (p < end) {
        size_t n_key = *p == '-' ? private_key_length(p, end) : 0;
        if (n_key > 0) {
            strbuf_add_text(out, REDACTED);
            p += n_key;
        } else if (*p == ':' && end - p > 2 && p[1] == '/' && p[2] == '/') {
            size_t n_userinfo = userinfo_length(p + 3, end);
            strbuf_add_text(out, n_userinfo > 0 ? "://" REDACTED "@" : "://");
            p += 3 + n_userinfo;
        } else if (isalpha((unsigned char)*p) && begins_word(text, p)) {
            p = take_word(text, p, end, out);
        } else {
            strbuf_add_char(out, *p++);
        }
    }
}

void redact_text(const char *text, size_t n, const struct string_list *known, struct strbuf *out)
{
    struct strbuf b = STRBUF_INIT(out->limit);
    const char *end = text + n;
    for (const char *p = text; p < end;) {
        size_t n_hit = 0;
        for (size_t i = 0; known && i < known->n; i++) {
            size_t n_known = strlen(known->at[i]);
            if (n_known > n_hit && n_known <= (size_t)(end - p) && memcmp(p, known->at[i], n_known) == 0)
                n_hit = n_known;
        }
        if (n_hit > 0)
            strbuf_add_text(&b, REDACTED);
        else
            strbuf_add_char(&b, *p);
        p += n_hit > 0 ? n_hit : 1;
    }
    if (b.failure == STRBUF_FINE)
        redact_forms(strbuf_text(&b), b.n, out);
    else
        strbuf_add_text(out, REDACTED);
    strbuf_done(&b);
}
