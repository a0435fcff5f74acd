/*
 * The table of error codes and the error value; see pool/error.h. JSON is made elsewhere (api).
 */
#include <pool/error.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int http_status;
    int exit_status;
    bool is_retriable;
} codes[] = {
#define CODE_ROW(name, http, exit_code, retriable) [POOL_##name] = { #name, http, exit_code, retriable },
    POOL_CODES(CODE_ROW)
#undef CODE_ROW
};

#define N_CODES (sizeof codes / sizeof codes[0])

static size_t row_of(enum pool_code code)
{
    return (size_t)code < N_CODES ? (size_t)code : (size_t)POOL_INTERNAL;
}

const char *pool_code_name(enum pool_code code)
{
    return codes[row_of(code)].name;
}

int pool_code_http_status(enum pool_code code)
{
    return codes[row_of(code)].http_status;
}

int pool_code_exit_status(enum pool_code code)
{
    return codes[row_of(code)].exit_status;
}

bool pool_code_is_retriable(enum pool_code code)
{
    return codes[row_of(code)].is_retriable;
}

bool pool_code_from_name(const char *name, enum pool_code *ret_code)
{
    for (size_t i = 0; i < N_CODES; i++) {
        if (strcmp(codes[i].name, name) == 0) {
            *ret_code = (enum pool_code)i;
            return true;
        }
    }
    return false;
}

static __attribute__((format(printf, 4, 0))) void set(struct pool_error *err, enum pool_code code,
                                                      int sys_errno, const char *format, va_list args)
{
    /* The arguments may point into *err (a message wrapped in another), so format first. */
    char message[POOL_ERROR_MESSAGE_MAX];
    vsnprintf(message, sizeof message, format, args);
    err->code = code;
    err->is_retriable = pool_code_is_retriable(code);
    err->sys_errno = sys_errno;
    err->n_details = 0;
    err->field[0] = '\0';
    err->log_tail[0] = '\0';
    memcpy(err->message, message, sizeof message);
    if (sys_errno != 0) {
        size_t n = strlen(err->message);
        const char *description = strerrordesc_np(sys_errno); /* NULL for a number that is no errno */
        if (description)
            snprintf(err->message + n, sizeof err->message - n, ": %s", description);
        else
            snprintf(err->message + n, sizeof err->message - n, ": errno %d", sys_errno);
    }
}

enum pool_code pool_error_set(struct pool_error *err, enum pool_code code, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        set(err, code, 0, format, args);
        va_end(args);
    }
    return code;
}

enum pool_code pool_error_set_errno(struct pool_error *err, enum pool_code code, int sys_errno,
                                    const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        set(err, code, sys_errno, format, args);
        va_end(args);
    }
    return code;
}

enum pool_code pool_error_no_memory(struct pool_error *err)
{
    return pool_error_set_errno(err, POOL_INSUFFICIENT_MEMORY, ENOMEM, "no memory for the request");
}

void pool_error_prefix(struct pool_error *err, const char *format, ...)
{
    if (!err || err->code == POOL_OK)
        return;
    char prefix[POOL_ERROR_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(prefix, sizeof prefix - 2, format, args);
    va_end(args);
    if (n < 0)
        return;
    strncat(prefix, ": ", sizeof prefix - strlen(prefix) - 1);
    size_t n_prefix = strlen(prefix);
    size_t n_message = strlen(err->message);
    if (n_message > sizeof err->message - 1 - n_prefix)
        n_message = sizeof err->message - 1 - n_prefix;
    memmove(err->message + n_prefix, err->message, n_message);
    memcpy(err->message, prefix, n_prefix);
    err->message[n_prefix + n_message] = '\0';
}

void pool_error_set_field(struct pool_error *err, const char *format, ...)
{
    if (!err)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(err->field, sizeof err->field, format, args);
    va_end(args);
}

static struct pool_detail *detail_slot(struct pool_error *err, const char *name)
{
    for (size_t i = 0; i < err->n_details; i++) {
        if (strcmp(err->details[i].name, name) == 0)
            return &err->details[i];
    }
    if (err->n_details == POOL_ERROR_DETAILS_MAX)
        return NULL;
    struct pool_detail *detail = &err->details[err->n_details++];
    memset(detail, 0, sizeof *detail);
    snprintf(detail->name, sizeof detail->name, "%s", name);
    return detail;
}

void pool_error_add_number(struct pool_error *err, const char *name, int64_t number)
{
    struct pool_detail *detail = err ? detail_slot(err, name) : NULL;
    if (detail) {
        detail->kind = POOL_DETAIL_NUMBER;
        detail->number = number;
    }
}

void pool_error_add_text(struct pool_error *err, const char *name, const char *text)
{
    struct pool_detail *detail = err ? detail_slot(err, name) : NULL;
    if (detail) {
        detail->kind = POOL_DETAIL_TEXT;
        snprintf(detail->text, sizeof detail->text, "%s", text);
    }
}

void pool_error_add_bool(struct pool_error *err, const char *name, bool value)
{
    struct pool_detail *detail = err ? detail_slot(err, name) : NULL;
    if (detail) {
        detail->kind = POOL_DETAIL_BOOL;
        detail->number = value;
    }
}

const struct pool_detail *pool_error_detail(const struct pool_error *err, const char *name)
{
    for (size_t i = 0; i < err->n_details; i++) {
        if (strcmp(err->details[i].name, name) == 0)
            return &err->details[i];
    }
    return NULL;
}
