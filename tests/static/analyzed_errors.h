/*
 * For clang-tidy alone (./dev lint puts it in front of every source but src/core/error.c): tells the analyzer what it
 * cannot see across files, that these functions return the code they are given, which is never POOL_OK. Without it,
 * it follows paths on which a failed call "returned POOL_OK" and left its ret_* unwritten.
 */
#include <pool/error.h>

void analyzed_use(struct pool_error *err, ...);

#define pool_error_set(err, code, ...) (analyzed_use((err), __VA_ARGS__), (code))
#define pool_error_set_errno(err, code, sys_errno, ...) \
    (analyzed_use((err), (sys_errno), __VA_ARGS__), (code))
#define pool_error_no_memory(err) (analyzed_use((err), 0), POOL_INSUFFICIENT_MEMORY)
