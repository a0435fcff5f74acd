/*
 * Errors. Every function that can fail returns an enum pool_code and takes, as its last
 * argument, a struct pool_error that the caller owns and may leave out (NULL). Nothing in it is
 * allocated and nothing has to be freed. It is set once, where the cause is; callers on the way
 * up may put a prefix before the message, never replace the code.
 *
 * The codes are those of the API (SYS-5.5.x). One list, POOL_CODES, gives each its name in JSON,
 * its HTTP status, its exit code and whether a retry usually helps.
 */
#ifndef POOL_ERROR_H
#define POOL_ERROR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define POOL_EXPORT            __attribute__((visibility("default")))
#define POOL_MUST_CHECK        __attribute__((warn_unused_result))
#define POOL_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* X(name, HTTP status, exit code of a program, usually retriable) */
#define POOL_CODES(X)                        \
    X(OK, 200, 0, false)                     \
    X(INVALID_REQUEST, 400, 2, false)        \
    X(INVALID_CONFIG, 500, 2, false)         \
    X(UNAUTHENTICATED, 401, 4, false)        \
    X(PERMISSION_DENIED, 403, 4, false)      \
    X(NOT_FOUND, 404, 3, false)              \
    X(MODEL_NOT_FOUND, 404, 3, false)        \
    X(WORKER_NOT_FOUND, 404, 3, false)       \
    X(GPU_NOT_FOUND, 404, 3, false)          \
    X(BACKEND_NOT_FOUND, 404, 3, false)      \
    X(METHOD_NOT_ALLOWED, 405, 2, false)     \
    X(UNSUPPORTED_MEDIA_TYPE, 415, 2, false) \
    X(ALREADY_EXISTS, 409, 5, false)         \
    X(CONFLICT, 409, 5, true)                \
    X(PAYLOAD_TOO_LARGE, 413, 2, false)      \
    X(CANCELLED, 499, 130, true)             \
    X(MODEL_INCOMPATIBLE, 422, 6, false)     \
    X(MODEL_UNVERIFIED, 422, 6, false)       \
    X(MODEL_CORRUPT, 422, 6, false)          \
    X(INSUFFICIENT_VRAM, 507, 7, true)       \
    X(INSUFFICIENT_MEMORY, 507, 7, true)     \
    X(INSUFFICIENT_DISK, 507, 7, true)       \
    X(GPU_UNAVAILABLE, 503, 7, true)         \
    X(PORT_UNAVAILABLE, 503, 7, true)        \
    X(RATE_LIMITED, 429, 7, true)            \
    X(OVERLOADED, 503, 7, true)              \
    X(BACKEND_UNAVAILABLE, 503, 7, false)    \
    X(WORKER_START_FAILED, 502, 8, true)     \
    X(WORKER_START_TIMEOUT, 504, 8, true)    \
    X(DOWNLOAD_FAILED, 502, 8, true)         \
    X(REGISTRY_UNAVAILABLE, 503, 7, true)    \
    X(DEADLINE_EXCEEDED, 504, 8, true)       \
    X(UNIMPLEMENTED, 501, 9, false)          \
    X(INTERNAL, 500, 1, false)

enum pool_code {
#define POOL_CODE_ENUM(name, http, exit_code, retriable) POOL_##name,
    POOL_CODES(POOL_CODE_ENUM)
#undef POOL_CODE_ENUM
};

#define POOL_ERROR_MESSAGE_MAX  768
#define POOL_ERROR_FIELD_MAX    128
#define POOL_ERROR_DETAILS_MAX  20
#define POOL_ERROR_LOG_TAIL_MAX 2048

enum pool_detail_kind { POOL_DETAIL_NUMBER, POOL_DETAIL_TEXT, POOL_DETAIL_BOOL };

/** One named fact behind an error, shown under `details` in JSON. */
struct pool_detail {
    char name[40];
    enum pool_detail_kind kind;
    int64_t number; /**< NUMBER and BOOL; the unit is in the name */
    char text[256]; /**< TEXT, cut at the end when longer */
};

/** Why a call failed. Initialise with POOL_ERROR_INIT; a successful call leaves it as it was. */
struct pool_error {
    enum pool_code code;
    bool is_retriable;
    int sys_errno; /**< the errno behind it, 0 when there is none */
    size_t n_details;
    char field
        [POOL_ERROR_FIELD_MAX]; /**< offending field of the request or key of the configuration, "" if none */
    char message[POOL_ERROR_MESSAGE_MAX];
    struct pool_detail details[POOL_ERROR_DETAILS_MAX];
    char log_tail[POOL_ERROR_LOG_TAIL_MAX]; /**< last log lines of a worker that failed, "" if none */
    uint64_t reserved[8];
};

#define POOL_ERROR_INIT \
    {                   \
        .code = POOL_OK \
    }

/** Name of a code as in JSON, for example "INSUFFICIENT_VRAM". Static; never NULL. */
POOL_EXPORT const char *pool_code_name(enum pool_code code);
/** HTTP status of a code (contract, section 2). */
POOL_EXPORT int pool_code_http_status(enum pool_code code);
/** Exit status of a program that ends with this code. */
POOL_EXPORT int pool_code_exit_status(enum pool_code code);
/** Whether trying again usually helps. */
POOL_EXPORT bool pool_code_is_retriable(enum pool_code code);
/** Looks a code up by its name. Returns false for an unknown name. */
POOL_EXPORT bool pool_code_from_name(const char *name, enum pool_code *ret_code);

/**
 * Sets an error: code, its usual retriability, and a printf-style message. Clears what was there.
 * @param err may be NULL
 * @return code, so that `return pool_error_set(err, POOL_X, "...")` reads well
 */
POOL_EXPORT enum pool_code pool_error_set(struct pool_error *err, enum pool_code code, const char *format,
                                          ...) POOL_PRINTF(3, 4);
/** The same with the errno behind it; ": strerror(errno)" is put behind the message. */
POOL_EXPORT enum pool_code pool_error_set_errno(struct pool_error *err, enum pool_code code, int sys_errno,
                                                const char *format, ...) POOL_PRINTF(4, 5);
/** Reports that memory ran out: INSUFFICIENT_MEMORY with ENOMEM. */
POOL_EXPORT enum pool_code pool_error_no_memory(struct pool_error *err);
/** Puts "prefix: " before the message of an error that is set. */
POOL_EXPORT void pool_error_prefix(struct pool_error *err, const char *format, ...) POOL_PRINTF(2, 3);
/** Names the offending field (a path such as "labels.team" or "backends.cpu.command[2]"). */
POOL_EXPORT void pool_error_set_field(struct pool_error *err, const char *format, ...) POOL_PRINTF(2, 3);
/** Adds a number to the details; the last one of a name wins; silently dropped when the table is full. */
POOL_EXPORT void pool_error_add_number(struct pool_error *err, const char *name, int64_t number);
POOL_EXPORT void pool_error_add_text(struct pool_error *err, const char *name, const char *text);
POOL_EXPORT void pool_error_add_bool(struct pool_error *err, const char *name, bool value);
/** The detail of a name, or NULL. Borrowed until the error changes. */
POOL_EXPORT const struct pool_detail *pool_error_detail(const struct pool_error *err, const char *name);

#ifdef __cplusplus
}
#endif
#endif
