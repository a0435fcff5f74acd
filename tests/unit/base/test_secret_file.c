/*
 * Files with secrets, and tokens in files: who may own them, who may read them, how large they may be.
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

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bearer_token.h"
#include "base/secret_file.h"

#define LIMIT 16

static char path[64];

static int make_file(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/pool-test-secret-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void put(const char *text, size_t n)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static enum pool_code look(struct pool_error *error)
{
    struct strbuf b = STRBUF_INIT(LIMIT);
    *error = (struct pool_error)POOL_ERROR_INIT;
    enum pool_code code = secret_file_read(path, &b, error);
    if (code == POOL_OK)
        assert_string_equal(strbuf_text(&b), "secret");
    secret_file_wipe(&b);
    return code;
}

static void test_modes(void **state)
{
    (void)state;
    struct pool_error error;
    put("secret", 6);
    for (mode_t mode = 0; mode <= 0777; mode++) {
        assert_int_equal(chmod(path, mode), 0);
        bool is_private = (mode & 077) == 0;
        if (geteuid() != 0 && !(mode & S_IRUSR))
            is_private = false; /* cannot be read at all */
        assert_int_equal(look(&error), is_private ? POOL_OK : POOL_INVALID_CONFIG);
        assert_null(strstr(error.message, "secret\""));
    }
    assert_int_equal(chmod(path, 0600), 0);
}

static void test_owner(void **state)
{
    (void)state;
    struct pool_error error;
    put("secret", 6);
    if (geteuid() != 0)
        skip(); /* files cannot be given away */
    assert_int_equal(chown(path, 12345, (gid_t)-1), 0);
    assert_int_equal(look(&error), POOL_INVALID_CONFIG);
    assert_int_equal(chown(path, 0, (gid_t)-1), 0);
    assert_int_equal(look(&error), POOL_OK);
}

static void test_what_is_no_file(void **state)
{
    (void)state;
    struct pool_error error = POOL_ERROR_INIT;
    struct strbuf b = STRBUF_INIT(LIMIT);
    assert_int_equal(secret_file_read("/tmp", &b, &error), POOL_INVALID_CONFIG);
    assert_int_equal(secret_file_read("/tmp/pool-test-there-is-none", &b, &error), POOL_INVALID_CONFIG);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(secret_file_read(path, &b, &error), POOL_INVALID_CONFIG);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(make_file(NULL), 0);
    strbuf_done(&b);
}

static void test_a_link_counts_as_what_it_leads_to(void **state)
{
    (void)state;
    char name[80];
    struct pool_error error = POOL_ERROR_INIT;
    struct strbuf b = STRBUF_INIT(LIMIT);
    put("secret", 6);
    snprintf(name, sizeof name, "%s-link", path);
    assert_int_equal(symlink(path, name), 0);
    assert_int_equal(secret_file_read(name, &b, &error), POOL_OK);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(secret_file_read(name, &b, &error), POOL_INVALID_CONFIG);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(unlink(name), 0);
    strbuf_done(&b);
}

static void test_limit(void **state)
{
    (void)state;
    struct pool_error error = POOL_ERROR_INIT;
    struct strbuf b = STRBUF_INIT(LIMIT);
    put("0123456789abcdef", LIMIT);
    assert_int_equal(secret_file_read(path, &b, &error), POOL_OK);
    strbuf_done(&b);
    b = (struct strbuf)STRBUF_INIT(LIMIT);
    put("0123456789abcdefg", LIMIT + 1);
    assert_int_equal(secret_file_read(path, &b, &error), POOL_INVALID_CONFIG);
    assert_null(strstr(error.message, "0123"));
    strbuf_done(&b);
}

static void test_tokens(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *token; /* NULL: refused */
    } cases[] = {
        { "abc", "abc" },       { "abc\n", "abc" },     { "abc \t\r\n\n", "abc" }, { "a~!\n", "a~!" },
        { "", NULL },           { "\n", NULL },         { " abc\n", NULL },        { "a b\n", NULL },
        { "abc\ndef\n", NULL }, { "\303\244\n", NULL }, { "a\tb", NULL },          { "a\177b", NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *token = NULL;
        struct pool_error error = POOL_ERROR_INIT;
        put(cases[i].text, strlen(cases[i].text));
        enum pool_code code = bearer_token_read(path, &token, &error);
        if (code != (cases[i].token ? POOL_OK : POOL_INVALID_CONFIG) ||
            (cases[i].token && strcmp(token, cases[i].token) != 0))
            fail_msg("'%s': %s", cases[i].text, error.message);
        free(token);
    }
    char *token = NULL;
    struct pool_error error = POOL_ERROR_INIT;
    put("a\0b", 3);
    assert_int_equal(bearer_token_read(path, &token, &error), POOL_INVALID_CONFIG);
    static char longest[BEARER_TOKEN_MAX_BYTES + 2];
    memset(longest, 'x', sizeof longest);
    put(longest, BEARER_TOKEN_MAX_BYTES);
    assert_int_equal(bearer_token_read(path, &token, &error), POOL_OK);
    assert_int_equal(strlen(token), BEARER_TOKEN_MAX_BYTES);
    free(token);
    put(longest, BEARER_TOKEN_MAX_BYTES + 1);
    assert_int_equal(bearer_token_read(path, &token, &error), POOL_INVALID_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_modes),           cmocka_unit_test(test_owner),
        cmocka_unit_test(test_what_is_no_file), cmocka_unit_test(test_a_link_counts_as_what_it_leads_to),
        cmocka_unit_test(test_limit),           cmocka_unit_test(test_tokens),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
