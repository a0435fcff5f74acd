/*
 * Tokens with each allocation failing in turn: opening and reloading leave all or nothing, and what was in force stays.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pool/config.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bearer_token.h"
#include "managerd/access.h"
#include "torture.h"

static char path[64];

static int make_file(void **state)
{
    static const char text[] = "read a aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n";
    (void)state;
    snprintf(path, sizeof path, "/tmp/pool-test-tokens-XXXXXX");
    int fd = mkstemp(path);
    bool is_written = fd >= 0 && write(fd, text, sizeof text - 1) == (ssize_t)sizeof text - 1;
    return is_written ? close(fd) : -1;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static enum pool_code run_open(void *context)
{
    struct pool_config config = { .daemon_token_file = path };
    struct pool_error error = POOL_ERROR_INIT;
    struct access *access = NULL;
    (void)context;
    enum pool_code code = access_open(&config, &access, &error);
    assert_true((code == POOL_OK) == (access != NULL));
    assert_int_equal(code, error.code);
    access_close(access);
    return code;
}

static enum pool_code run_reload(void *context)
{
    struct access *access = context;
    struct pool_error error = POOL_ERROR_INIT;
    enum pool_code code = access_reload(access, &error);
    assert_int_equal(access_n_tokens(access), 1);
    return code;
}

static enum pool_code run_read(void *context)
{
    struct pool_error error = POOL_ERROR_INIT;
    char *token = NULL;
    (void)context;
    enum pool_code code = bearer_token_read(path, &token, &error);
    free(token);
    /* the line is no token, for it has blanks; only that it was read counts here */
    return code == POOL_INVALID_CONFIG ? POOL_OK : code;
}

static void test_open(void **state)
{
    (void)state;
    torture_scenario("access_open", run_open, NULL);
}

static void test_reload(void **state)
{
    (void)state;
    struct pool_config config = { .daemon_token_file = path };
    struct access *access = NULL;
    assert_int_equal(access_open(&config, &access, NULL), POOL_OK);
    torture_scenario("access_reload", run_reload, access);
    access_close(access);
}

static void test_read(void **state)
{
    (void)state;
    torture_scenario("bearer_token_read", run_read, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_open), cmocka_unit_test(test_reload),
                                        cmocka_unit_test(test_read) };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
