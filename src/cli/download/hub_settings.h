/*
 * How the Hub is reached: the variables that its own tools know, so that what works for them works here.
 *
 * Source: huggingface_hub, "Environment variables" (package reference).
 */
#ifndef DOWNLOAD_HUB_SETTINGS_H
#define DOWNLOAD_HUB_SETTINGS_H

#include <pool/error.h>

#define HUB_TOKEN_MAX         1024
#define HUB_ENDPOINT_MAX      1024
#define HUB_TIMEOUT_DEFAULT_S 10
#define HUB_TIMEOUT_MAX_S     3600

struct hub_settings {
    char *endpoint;    /* without a '/' at its end */
    char *token;       /* NULL: none */
    char *cert_file;   /* NULL: the system's */
    bool is_offline;   /* no HTTP at all */
    int64_t timeout_s; /* without a byte */
};

/**
 * Reads HF_ENDPOINT, HF_TOKEN, else the file HF_TOKEN_PATH or HF_HOME/token, HF_HUB_DISABLE_IMPLICIT_TOKEN, HF_HUB_OFFLINE,
 * TRANSFORMERS_OFFLINE, HF_HUB_DOWNLOAD_TIMEOUT, SSL_CERT_FILE.
 * Errors: INVALID_REQUEST (a variable that can not be meant; field: its name), INSUFFICIENT_MEMORY.
 * Owner: hub_settings_done.
 */
POOL_MUST_CHECK enum pool_code hub_settings_read(const char *const *environment,
                                                 struct hub_settings *ret_settings, struct pool_error *err);
void hub_settings_done(struct hub_settings *settings);

#endif
