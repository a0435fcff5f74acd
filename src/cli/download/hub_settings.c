/*
 * The variables of the Hub's tools; see hub_settings.h.
 */
#include "cli/download/hub_settings.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/number.h"

#define ENDPOINT_DEFAULT "https://huggingface.co"
#define TOKEN_FILE_MAX   4096

/* NULL when it is not set or empty: the Hub's tools make no difference either. */
static const char *variable(const char *const *environment, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; environment && environment[i]; i++) {
        if (strncmp(environment[i], name, n) == 0 && environment[i][n] == '=')
            return environment[i][n + 1] ? environment[i] + n + 1 : NULL;
    }
    return NULL;
}

static bool is_true(const char *text)
{
    static const char *const words[] = { "1", "ON", "YES", "TRUE" };
    for (size_t i = 0; text && i < sizeof words / sizeof words[0]; i++) {
        if (strcasecmp(text, words[i]) == 0)
            return true;
    }
    return false;
}

static enum pool_code refuse(struct pool_error *err, const char *name, const char *why)
{
    pool_error_set(err, POOL_INVALID_REQUEST, "%s: %s", name, why);
    pool_error_set_field(err, "%s", name);
    return POOL_INVALID_REQUEST;
}

/* Without what surrounds it, as it may come from an editor. What goes into a header must be printable. */
static enum pool_code take_token(const char *text, const char *name, char **ret_token, struct pool_error *err)
{
    while (isspace((unsigned char)*text))
        text++;
    size_t n = strlen(text);
    while (n > 0 && isspace((unsigned char)text[n - 1]))
        n--;
    if (n == 0)
        return POOL_OK;
    if (n > HUB_TOKEN_MAX)
        return refuse(err, name, "the token is too long");
    for (size_t i = 0; i < n; i++) {
        if (text[i] <= ' ' || text[i] > '~')
            return refuse(err, name, "the token has characters that no token has");
    }
    *ret_token = strndup(text, n);
    return *ret_token ? POOL_OK : pool_error_no_memory(err);
}

/* HF_TOKEN_PATH, else token in HF_HOME, which is huggingface in the user's cache. NULL: no memory. */
static char *token_path(const char *const *environment)
{
    char *path = NULL;
    const char *value;
    int n;
    if ((value = variable(environment, "HF_TOKEN_PATH")))
        return strdup(value);
    if ((value = variable(environment, "HF_HOME")))
        n = asprintf(&path, "%s/token", value);
    else if ((value = variable(environment, "XDG_CACHE_HOME")))
        n = asprintf(&path, "%s/huggingface/token", value);
    else
        n = asprintf(&path, "%s/.cache/huggingface/token",
                     (value = variable(environment, "HOME")) ? value : "/nonexistent");
    return n < 0 ? NULL : path;
}

static enum pool_code read_token(const char *const *environment, char **ret_token, struct pool_error *err)
{
    const char *given = variable(environment, "HF_TOKEN");
    if (given)
        return take_token(given, "HF_TOKEN", ret_token, err);
    if (is_true(variable(environment, "HF_HUB_DISABLE_IMPLICIT_TOKEN")))
        return POOL_OK;
    CLEANUP_FREE char *path = token_path(environment);
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(TOKEN_FILE_MAX);
    if (!path)
        return pool_error_no_memory(err);
    int failure = file_read(path, &text);
    if (failure == ENOMEM)
        return pool_error_no_memory(err);
    /* One that can not be read is as good as none: what is public needs no token. */
    return failure ? POOL_OK : take_token(strbuf_text(&text), "the token file", ret_token, err);
}

static enum pool_code read_endpoint(const char *const *environment, char **ret_endpoint,
                                    struct pool_error *err)
{
    const char *given = variable(environment, "HF_ENDPOINT");
    const char *text = given ? given : ENDPOINT_DEFAULT;
    size_t n = strlen(text);
    while (n > 0 && text[n - 1] == '/')
        n--;
    bool is_http = strncasecmp(text, "https://", 8) == 0 || strncasecmp(text, "http://", 7) == 0;
    if (!is_http || n > HUB_ENDPOINT_MAX)
        return refuse(err, "HF_ENDPOINT", "not a URL that begins with https:// or http://");
    for (size_t i = 0; i < n; i++) {
        if (text[i] <= ' ' || text[i] > '~' || strchr("?#@\\", text[i]))
            return refuse(err, "HF_ENDPOINT", "a scheme, a host, perhaps a port and a path, nothing else");
    }
    *ret_endpoint = strndup(text, n);
    return *ret_endpoint ? POOL_OK : pool_error_no_memory(err);
}

enum pool_code hub_settings_read(const char *const *environment, struct hub_settings *ret_settings,
                                 struct pool_error *err)
{
    CLEANUP(hub_settings_done) struct hub_settings settings = { .timeout_s = HUB_TIMEOUT_DEFAULT_S };
    const char *timeout = variable(environment, "HF_HUB_DOWNLOAD_TIMEOUT");
    const char *cert_file = variable(environment, "SSL_CERT_FILE");
    if (timeout && !parse_int64(timeout, 1, HUB_TIMEOUT_MAX_S, &settings.timeout_s))
        return refuse(err, "HF_HUB_DOWNLOAD_TIMEOUT", "not a number of seconds from 1 to 3600");
    settings.is_offline = is_true(variable(environment, "HF_HUB_OFFLINE")) ||
                          is_true(variable(environment, "TRANSFORMERS_OFFLINE"));
    enum pool_code code = read_endpoint(environment, &settings.endpoint, err);
    if (code == POOL_OK)
        code = read_token(environment, &settings.token, err);
    if (code == POOL_OK && cert_file && !(settings.cert_file = strdup(cert_file)))
        code = pool_error_no_memory(err);
    if (code != POOL_OK)
        return code;
    *ret_settings = settings;
    /* NOLINTNEXTLINE(clang-analyzer-deadcode.DeadStores): the cleanup reads it */
    settings = (struct hub_settings){ 0 };
    return POOL_OK;
}

void hub_settings_done(struct hub_settings *settings)
{
    free(settings->endpoint);
    free(settings->token);
    free(settings->cert_file);
    *settings = (struct hub_settings){ 0 };
}
