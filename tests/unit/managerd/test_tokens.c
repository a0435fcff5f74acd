/*
 * The token file: what a line may be, what is refused and on which line, limits, and that no error quotes a line.
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

#include "base/strbuf.h"
#include "managerd/tokens.h"

#define A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B64 "BbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbB"
/* SHA-256 of nothing, FIPS 180-4 */
#define EMPTY64 "E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define NAME64  "n123456789012345678901234567890123456789012345678901234567890123"

static enum pool_code parse(const char *text, struct tokens **ret_tokens, struct pool_error *error)
{
    *error = (struct pool_error)POOL_ERROR_INIT;
    return tokens_parse(text, strlen(text), "tokens", ret_tokens, error);
}

static void test_three_scopes(void **state)
{
    (void)state;
    struct pool_error error;
    struct tokens *tokens = NULL;
    assert_int_equal(parse("# people\n\n  read\tgrafana  " A64 " \r\noperate ci.1_x-Y " B64 "\nadmin " NAME64
                           " 00" A64 "\n" /* too long a hash */
                           ,
                           &tokens, &error),
                     POOL_INVALID_CONFIG);
    assert_null(tokens);
    assert_int_equal(parse("# people\n\n  read\tgrafana  " A64 " \r\n#admin x y\noperate ci.1_x-Y " B64
                           "\nadmin " NAME64 " 0123456789abcdefABCDEF" /* the file ends without a newline */
                           "0123456789abcdefABCDEF01234567899876543210",
                           &tokens, &error),
                     POOL_OK);
    assert_int_equal(tokens->n, 3);
    static const enum scope scopes[] = { SCOPE_READ, SCOPE_OPERATE, SCOPE_ADMIN };
    static const char *const names[] = { "grafana", "ci.1_x-Y", NAME64 };
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(tokens->items[i].scope, scopes[i]);
        assert_string_equal(tokens->items[i].name, names[i]);
        assert_ptr_equal(tokens_find(tokens, tokens->items[i].sha256), &tokens->items[i]);
    }
    static const uint8_t last[] = { 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xab, 0xcd, 0xef };
    assert_memory_equal(tokens->items[2].sha256, last, sizeof last);
    /* every bit counts */
    for (size_t bit = 0; bit < (size_t)8 * TOKEN_SHA256_BYTES; bit++) {
        uint8_t other[TOKEN_SHA256_BYTES];
        memcpy(other, tokens->items[1].sha256, sizeof other);
        other[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_null(tokens_find(tokens, other));
    }
    free(tokens);
}

static const struct {
    const char *text;
    const char *where; /* the message begins so */
} refused[] = {
    { "", "tokens: " },
    { "# none\n\n", "tokens: " },
    { "read a", "tokens:1: " },
    { "read a " A64 " " B64, "tokens:1: " },
    { "read a " A64 " extra more\n", "tokens:1: " },
    { "\n#\nnone a " A64, "tokens:3: " },
    { "Read a " A64, "tokens:1: " },
    { "rea a " A64, "tokens:1: " },
    { "reads a " A64, "tokens:1: " },
    { "read -a " A64, "tokens:1: " },
    { "read .a " A64, "tokens:1: " },
    { "read a/b " A64, "tokens:1: " },
    { "read \303\244 " A64, "tokens:1: " },
    { "read " NAME64 "x " A64, "tokens:1: " },
    { "read a " A64 "a", "tokens:1: " },
    { "read a a", "tokens:1: " },
    { "read a 0x" A64, "tokens:1: " },
    { "read a g" A64, "tokens:1: " },
    { "read a " EMPTY64, "tokens:1: " },
    { "read a " A64 "\nadmin a " B64, "tokens:2: " },
    { "read a " A64 "\n\nadmin b " A64, "tokens:3: " },
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct pool_error error;
        struct tokens *tokens = NULL;
        if (parse(refused[i].text, &tokens, &error) != POOL_INVALID_CONFIG || tokens ||
            strncmp(error.message, refused[i].where, strlen(refused[i].where)) != 0)
            fail_msg("'%s': %s", refused[i].text, error.message);
    }
}

static void test_a_nul_is_no_end(void **state)
{
    (void)state;
    static const char text[] = "read a " A64 "\0\nadmin b " B64 "\n";
    struct pool_error error = POOL_ERROR_INIT;
    struct tokens *tokens = NULL;
    assert_int_equal(tokens_parse(text, sizeof text - 1, "tokens", &tokens, &error), POOL_INVALID_CONFIG);
    static const char name[] = "read a\0b " A64 "\n";
    assert_int_equal(tokens_parse(name, sizeof name - 1, "tokens", &tokens, &error), POOL_INVALID_CONFIG);
    assert_null(tokens);
}

/* Who writes the token itself into the file must not find it in the log. */
static void test_no_line_is_quoted(void **state)
{
    (void)state;
    static const char *const texts[] = { "hunter2", "hunter2 a " A64, "read hunter2/ " A64, "read a hunter2",
                                         "read a " A64 " hunter2" };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct pool_error error;
        struct tokens *tokens = NULL;
        assert_int_equal(parse(texts[i], &tokens, &error), POOL_INVALID_CONFIG);
        assert_null(strstr(error.message, "hunter2"));
        assert_null(strstr(error.field, "hunter2"));
        assert_int_equal(error.n_details, 0);
    }
}

static void test_limit(void **state)
{
    (void)state;
    struct strbuf text = STRBUF_INIT(TOKENS_FILE_MAX_BYTES);
    struct pool_error error;
    struct tokens *tokens = NULL;
    for (int i = 0; i < TOKENS_MAX; i++)
        assert_true(strbuf_printf(&text, "read t%d %064x\n", i, (unsigned)i));
    assert_int_equal(parse(strbuf_text(&text), &tokens, &error), POOL_OK);
    assert_int_equal(tokens->n, TOKENS_MAX);
    const struct token *last = &tokens->items[TOKENS_MAX - 1];
    assert_ptr_equal(tokens_find(tokens, last->sha256), last);
    free(tokens);
    tokens = NULL;
    assert_true(strbuf_add_text(&text, "# a remark is no token\n"));
    assert_int_equal(parse(strbuf_text(&text), &tokens, &error), POOL_OK);
    free(tokens);
    tokens = NULL;
    assert_true(strbuf_printf(&text, "read more %064x\n", TOKENS_MAX));
    assert_int_equal(parse(strbuf_text(&text), &tokens, &error), POOL_INVALID_CONFIG);
    assert_null(tokens);
    strbuf_done(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_scopes),    cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_a_nul_is_no_end), cmocka_unit_test(test_no_line_is_quoted),
        cmocka_unit_test(test_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
