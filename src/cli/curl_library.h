/*
 * libcurl, loaded when a command needs the network: it costs 3 ms of start-up that no other command shall pay.
 *
 * Source: the manual pages libcurl-multi(3), curl_easy_setopt(3).
 */
#ifndef CLI_CURL_LIBRARY_H
#define CLI_CURL_LIBRARY_H

#define CURL_DISABLE_TYPECHECK /* its macros want the functions by name, not by pointer */
#include <curl/curl.h>

#include <pool/error.h>

#define CURL_LIBRARY_FUNCTIONS(X) \
    X(curl_global_init)           \
    X(curl_easy_init)             \
    X(curl_easy_cleanup)          \
    X(curl_easy_reset)            \
    X(curl_easy_setopt)           \
    X(curl_easy_getinfo)          \
    X(curl_easy_strerror)         \
    X(curl_easy_header)           \
    X(curl_free)                  \
    X(curl_slist_append)          \
    X(curl_slist_free_all)        \
    X(curl_multi_init)            \
    X(curl_multi_cleanup)         \
    X(curl_multi_setopt)          \
    X(curl_multi_add_handle)      \
    X(curl_multi_remove_handle)   \
    X(curl_multi_perform)         \
    X(curl_multi_poll)            \
    X(curl_multi_info_read)       \
    X(curl_url)                   \
    X(curl_url_cleanup)           \
    X(curl_url_set)               \
    X(curl_url_get)

struct curl_library {
#define CURL_LIBRARY_MEMBER(name) __typeof__(&(name)) name;
    CURL_LIBRARY_FUNCTIONS(CURL_LIBRARY_MEMBER)
#undef CURL_LIBRARY_MEMBER
};

/**
 * Loads it for good: it has state of its own that can not be taken down safely.
 * @param purpose what needs it, for the message: "asking a daemon"
 * Errors: UNIMPLEMENTED (there is no libcurl, or an old one), INSUFFICIENT_MEMORY.
 */
POOL_MUST_CHECK enum pool_code curl_library_load(struct curl_library *ret_curl, const char *purpose,
                                                 struct pool_error *err);

#endif
