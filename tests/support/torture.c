/*
 * The allocator wrappers behind torture.h: counting, failing the n-th, and the list of live blocks. Owns no policy
 * about which n to try from outside; that is tests/torture/run-torture.
 *
 * The list of live blocks lies in anonymous mappings, which LeakSanitizer does not take for references, so it
 * hides no leak from it.
 */
#include "torture.h"

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define BUCKETS          (1U << 16)
#define BLOCKS_A_MAPPING 4096
#define SCENARIO_MAX     100000 /* more allocations than any scenario has: a run that never gets by is stuck */
#define LEAKS_SHOWN      8

#define WRAP(type, name, ...)        \
    type __real_##name(__VA_ARGS__); \
    type __wrap_##name(__VA_ARGS__); \
    type __wrap_##name(__VA_ARGS__)

struct block {
    struct block *next;
    void *address;
    size_t size_bytes;
    long number; /* the how manieth allocation of the program it was */
    void *caller;
};

static pthread_mutex_t blocks_lock = PTHREAD_MUTEX_INITIALIZER;
static struct block *buckets[BUCKETS];
static struct block *spare_blocks;
static long n_live;

static atomic_long n_allocations;   /* since the program started */
static atomic_long n_until_failure; /* counts down to the failing one; 0 or less: nothing will fail */
static atomic_bool has_failed;

extern char __executable_start; /* from the linker: where this program lies in memory */

static struct block **bucket_of(const void *address)
{
    uintptr_t hash = (uintptr_t)address >> 4;
    return &buckets[(hash ^ (hash >> 16)) % BUCKETS];
}

static struct block *take_spare_block(void)
{
    if (!spare_blocks) {
        struct block *fresh = mmap(NULL, BLOCKS_A_MAPPING * sizeof(*fresh), PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (fresh == MAP_FAILED)
            abort();
        for (size_t i = 0; i < BLOCKS_A_MAPPING; i++) {
            fresh[i].next = spare_blocks;
            spare_blocks = &fresh[i];
        }
    }
    struct block *block = spare_blocks;
    spare_blocks = block->next;
    return block;
}

static void forget_locked(const void *address)
{
    for (struct block **at = bucket_of(address); *at; at = &(*at)->next) {
        if ((*at)->address == address) {
            struct block *block = *at;
            *at = block->next;
            block->next = spare_blocks;
            spare_blocks = block;
            n_live--;
            return;
        }
    }
}

static void forget_block(const void *address)
{
    if (!address)
        return;
    pthread_mutex_lock(&blocks_lock);
    forget_locked(address);
    pthread_mutex_unlock(&blocks_lock);
}

static void *remember_block(void *address, size_t size_bytes, void *caller)
{
    if (!address)
        return NULL;
    pthread_mutex_lock(&blocks_lock);
    /* An address known already was freed behind our back, by a shared library that was given the block. */
    forget_locked(address);
    struct block *block = take_spare_block();
    struct block **bucket = bucket_of(address);
    *block = (struct block){ .next = *bucket,
                             .address = address,
                             .size_bytes = size_bytes,
                             .number = atomic_load(&n_allocations),
                             .caller = caller };
    *bucket = block;
    n_live++;
    pthread_mutex_unlock(&blocks_lock);
    return address;
}

/* Counts one allocation; true when it is the one that has to fail, with errno set. */
static bool is_to_fail(void)
{
    atomic_fetch_add(&n_allocations, 1);
    if (atomic_load(&n_until_failure) <= 0 || atomic_fetch_sub(&n_until_failure, 1) != 1)
        return false;
    atomic_store(&has_failed, true);
    errno = ENOMEM;
    return true;
}

#define CALLER __builtin_return_address(0)

WRAP(void *, malloc, size_t size)
{
    return is_to_fail() ? NULL : remember_block(__real_malloc(size), size, CALLER);
}

WRAP(void *, calloc, size_t n, size_t size)
{
    return is_to_fail() ? NULL : remember_block(__real_calloc(n, size), n * size, CALLER);
}

WRAP(char *, strdup, const char *text)
{
    return is_to_fail() ? NULL : remember_block(__real_strdup(text), strlen(text) + 1, CALLER);
}

WRAP(char *, strndup, const char *text, size_t n)
{
    return is_to_fail() ? NULL : remember_block(__real_strndup(text, n), n, CALLER);
}

WRAP(void *, aligned_alloc, size_t alignment, size_t size)
{
    return is_to_fail() ? NULL : remember_block(__real_aligned_alloc(alignment, size), size, CALLER);
}

WRAP(int, posix_memalign, void **ret, size_t alignment, size_t size)
{
    if (is_to_fail())
        return ENOMEM;
    int rc = __real_posix_memalign(ret, alignment, size);
    if (rc == 0)
        remember_block(*ret, size, CALLER);
    return rc;
}

/*
 * The old block is forgotten before the call, not after: once realloc has let go of it, another thread may be given
 * that address. When realloc fails, it is remembered again.
 */
static void *replace_block(void *old, size_t n, size_t size, void *caller,
                           void *(*replace)(void *, size_t, size_t))
{
    if (is_to_fail())
        return NULL;
    forget_block(old);
    void *fresh = replace(old, n, size);
    size_t size_bytes = n * size;
    if (!fresh && old && size_bytes > 0) {
        int saved_errno = errno;
        remember_block(old, 0, caller);
        errno = saved_errno;
    }
    return remember_block(fresh, size_bytes, caller);
}

void *__real_realloc(void *old, size_t size);

static void *replace_plainly(void *old, size_t n, size_t size)
{
    return __real_realloc(old, n * size);
}

WRAP(void *, reallocarray, void *old, size_t n, size_t size)
{
    return replace_block(old, n, size, CALLER, __real_reallocarray);
}

void *__wrap_realloc(void *old, size_t size);

void *__wrap_realloc(void *old, size_t size)
{
    return replace_block(old, 1, size, CALLER, replace_plainly);
}

WRAP(int, vasprintf, char **ret, const char *format, va_list arguments)
{
    if (is_to_fail())
        return -1;
    int length = __real_vasprintf(ret, format, arguments);
    if (length >= 0)
        remember_block(*ret, (size_t)length + 1, CALLER);
    return length;
}

int __wrap_asprintf(char **ret, const char *format, ...) __attribute__((format(printf, 2, 3)));

int __wrap_asprintf(char **ret, const char *format, ...)
{
    if (is_to_fail())
        return -1;
    va_list arguments;
    va_start(arguments, format);
    int length = __real_vasprintf(ret, format, arguments);
    va_end(arguments);
    if (length >= 0)
        remember_block(*ret, (size_t)length + 1, CALLER);
    return length;
}

WRAP(void, free, void *address)
{
    forget_block(address);
    __real_free(address);
}

void torture_arm(long n)
{
    atomic_store(&has_failed, false);
    atomic_store(&n_until_failure, n);
}

bool torture_disarm(void)
{
    atomic_store(&n_until_failure, 0);
    return atomic_load(&has_failed);
}

long torture_live_blocks(void)
{
    pthread_mutex_lock(&blocks_lock);
    long n = n_live;
    pthread_mutex_unlock(&blocks_lock);
    return n;
}

void torture_include_jansson(void)
{
    json_set_alloc_funcs(malloc, free);
}

static void show_blocks_since(long number)
{
    int n_shown = 0;
    char program[512] = "PROGRAM";
    ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);
    if (length > 0)
        program[length] = '\0';
    for (size_t i = 0; i < BUCKETS; i++) {
        for (const struct block *block = buckets[i]; block && n_shown < LEAKS_SHOWN; block = block->next) {
            if (block->number <= number)
                continue;
            print_error("  left: %zu bytes; where from: addr2line -ife %s 0x%tx\n", block->size_bytes,
                        program, (char *)block->caller - &__executable_start - 1);
            n_shown++;
        }
    }
}

/* One run, its n-th allocation failing when n > 0. Returns whether that one was reached. */
static bool run_once(const char *name, long n, enum pool_code (*run)(void *ctx), void *ctx, bool check_leaks)
{
    long live_before = torture_live_blocks();
    long first_number = atomic_load(&n_allocations);
    torture_arm(n);
    enum pool_code code = run(ctx);
    bool was_reached = torture_disarm();

    long n_left = torture_live_blocks() - live_before;
    if (check_leaks && n_left > 0) {
        print_error("%s: allocation %ld failing: %ld blocks left behind\n", name, n, n_left);
        show_blocks_since(first_number);
        fail();
    }
    if (!was_reached && code != POOL_OK)
        fail_msg("%s: no allocation failed (%ld was not reached), and yet it returned code %d", name, n,
                 (int)code);
    return was_reached;
}

void torture_scenario(const char *name, enum pool_code (*run)(void *ctx), void *ctx)
{
    /* The first run may set up what lives as long as the program, in us or in a library: no leak. */
    run_once(name, 0, run, ctx, false);
    for (long n = 1; n <= SCENARIO_MAX; n++) {
        if (!run_once(name, n, run, ctx, true))
            return;
    }
    fail_msg("%s: still not through with %d allocations", name, SCENARIO_MAX);
}

static pid_t first_pid;

__attribute__((constructor)) static void arm_from_environment(void)
{
    first_pid = getpid();
    const char *n = getenv("POOL_TORTURE_N");
    if (n)
        torture_arm(strtol(n, NULL, 10));
}

__attribute__((destructor)) static void write_count(void)
{
    const char *path = getenv("POOL_TORTURE_COUNT");
    if (!path || getpid() != first_pid)
        return;
    FILE *file = fopen(path, "we");
    if (!file)
        return;
    fprintf(file, "%ld\n", atomic_load(&n_allocations));
    fclose(file);
}
