/*
 * Asking the Hub: what a revision is, which files it has, how large a file is, what its content is called, and where it
 * lies. A file's bytes are fetched elsewhere (fetch.h), by the same rules of what may be asked of whom:
 *
 * - The token goes to the Hub's own origin (scheme, host and port of the endpoint) and to nobody else. Redirects are never
 *   followed by libcurl, each is looked at here.
 * - What may pass is tried again, with growing pauses; what will not is not. A limit of the rate is waited for.
 *
 * Source: huggingface_hub, file_download.py and utils/_http.py; hub documentation, "Rate limits".
 */
#ifndef DOWNLOAD_HUB_CLIENT_H
#define DOWNLOAD_HUB_CLIENT_H

#include "base/strbuf.h"
#include "base/string_list.h"
#include "cli/curl_library.h"
#include "cli/download/hub_settings.h"

#define HUB_COMMIT_HEX    40
#define HUB_NAME_MAX      64    /* of a content: hex digits of a SHA-256, or 40 of a git object */
#define HUB_URL_MAX       16384 /* signed ones have a few kilobytes */
#define HUB_ANSWER_MAX    (32 << 20)
#define HUB_FILES_MAX     100000
#define HUB_WAIT_MAX_MS   (INT64_C(600) * 1000) /* for a rate limit; its windows are 5 minutes long */
#define HUB_TRIES_DEFAULT 6

struct hub_client {
    struct curl_library curl;
    CURLM *multi;
    CURL *easy; /* for the questions here, one at a time */
    struct hub_settings settings;
    int cancel_fd; /* readable: give up; -1: none */
    int n_tries;   /* in a row without progress */
    /* Told of a pause that a person may wonder about; may be NULL. */
    void (*tell)(const char *text, void *context);
    void *context;
};

/* Takes the settings over, also when it fails. Errors: those of curl_library_load. */
POOL_MUST_CHECK enum pool_code hub_client_open(struct hub_client *client, struct hub_settings *settings,
                                               int cancel_fd, struct pool_error *err);
void hub_client_close(struct hub_client *client);

/* ---- what is asked ---- */

/* A repository and what is wanted of it. Borrowed. */
struct hub_place_name {
    const char *org, *repo, *revision;
};

/* What the Hub says of one file. */
struct hub_file_facts {
    char commit[HUB_COMMIT_HEX + 1];
    char content_name[HUB_NAME_MAX + 1]; /* 64 digits: SHA-256; 40: git's name of it; "": not said */
    int64_t size_bytes;
    char *url; /* where its bytes are, signed and short-lived when that is not the Hub itself; owned */
};
void hub_file_facts_done(struct hub_file_facts *facts);

/**
 * Errors: MODEL_NOT_FOUND, UNAUTHENTICATED, PERMISSION_DENIED, RATE_LIMITED (longer than we wait), DOWNLOAD_FAILED,
 * CANCELLED, INSUFFICIENT_MEMORY.
 */
POOL_MUST_CHECK enum pool_code hub_look_up(struct hub_client *client, const struct hub_place_name *place,
                                           const char *path, struct hub_file_facts *ret_facts,
                                           struct pool_error *err);
/* The files of a revision and the commit that it is. Errors: as above. */
POOL_MUST_CHECK enum pool_code hub_list_files(struct hub_client *client, const struct hub_place_name *place,
                                              char ret_commit[HUB_COMMIT_HEX + 1],
                                              struct string_list *ret_files, struct pool_error *err);

/* ---- for those who fetch ---- */

enum hub_verdict {
    HUB_FINE,
    HUB_REDIRECTED, /* to hub_redirect_of */
    HUB_AGAIN,      /* it may pass by itself */
    HUB_LIMITED,    /* it passes after the wait */
    HUB_EXPIRED,    /* a signed address that is not honoured (any more): ask for a new one */
    HUB_REFUSED,    /* for good */
};

/* What an ended transfer means. The error is set for all but the first two. */
enum hub_verdict hub_judge(const struct hub_client *client, CURL *easy, CURLcode result, const char *why,
                           int64_t *ret_wait_ms, struct pool_error *err);
/* Whether a URL is of the endpoint's origin. */
bool hub_is_ours(const struct hub_client *client, const char *url);
/* Whether an address may be followed: HTTPS, or HTTP where the endpoint is that too. */
bool hub_may_follow(const struct hub_client *client, const char *url);
/* Where a redirect leads, absolute; borrowed until the next use of the handle, NULL: nowhere. */
const char *hub_redirect_of(const struct hub_client *client, CURL *easy);
/* The value of an answer's header, the last one of that name; NULL: none. Borrowed likewise. */
const char *hub_header_of(const struct hub_client *client, CURL *easy, const char *name);
/* Options of every request; *headers is for the caller to free after the transfer. false: no memory. */
bool hub_prepare(const struct hub_client *client, CURL *easy, const char *url, struct curl_slist **headers);
bool hub_add_header(const struct hub_client *client, struct curl_slist **headers, const char *line);
/* Waits. Errors: CANCELLED. */
POOL_MUST_CHECK enum pool_code hub_pause(const struct hub_client *client, int64_t ms, struct pool_error *err);
/* How long to wait before the next try, after so many in a row that failed. */
int64_t hub_backoff_ms(int n_failed);
bool hub_is_cancelled(const struct hub_client *client);

#endif
