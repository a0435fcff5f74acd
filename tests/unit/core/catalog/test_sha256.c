/*
 * Tests of SHA-256 by a libcrypto that is loaded when it is needed: known answers, and a library that is not there or
 * not the right one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "core/catalog/sha256.h"

struct answer {
    const char *text;
    size_t n_times;
    unsigned char sum[SHA256_BYTES];
};

/* Source: FIPS 180-4 example values (NIST, "SHA256.pdf"); the empty text: "ShortMsg" of NIST's SHAVS. */
static const struct answer answers[] = {
    { "abc", 1, { 0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40,
                  0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17,
                  0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad } },
    { "",
      1,
      { 0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
        0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55 } },
    { "a", 1000000, { 0xcd, 0xc7, 0x6e, 0x5c, 0x99, 0x14, 0xfb, 0x92, 0x81, 0xa1, 0xc7,
                      0xe2, 0x84, 0xd7, 0x3e, 0x67, 0xf1, 0x80, 0x9a, 0x48, 0xa4, 0x97,
                      0x20, 0x0e, 0x04, 0x6d, 0x39, 0xcc, 0xc7, 0x11, 0x2c, 0xd0 } },
};

static void test_known_answers_one_after_the_other(void **state)
{
    (void)state;
    CLEANUP(sha256_close) struct sha256 hash = SHA256_INIT;
    struct pool_error err = POOL_ERROR_INIT;
    enum pool_code code = sha256_open(&hash, &err);
    if (code != POOL_OK) { /* without memory (torture), and only then */
        assert_int_equal(code, POOL_INSUFFICIENT_MEMORY);
        return;
    }
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        unsigned char sum[SHA256_BYTES] = { 0 };
        assert_true(sha256_begin(&hash));
        for (size_t j = 0; j < answers[i].n_times; j++)
            assert_true(sha256_add(&hash, answers[i].text, strlen(answers[i].text)));
        assert_true(sha256_end(&hash, sum));
        assert_memory_equal(sum, answers[i].sum, SHA256_BYTES);
    }
}

static void test_a_library_that_is_missing_or_another_one(void **state)
{
    (void)state;
    static const char *const libraries[] = { "libcrypto-of-nobody.so.3", "libm.so.6" };
    for (size_t i = 0; i < 2; i++) {
        struct sha256 hash = SHA256_INIT;
        struct pool_error err = POOL_ERROR_INIT;
        enum pool_code code = sha256_open_library(&hash, libraries[i], &err);
        if (code == POOL_INSUFFICIENT_MEMORY)
            continue;
        assert_int_equal(code, POOL_INTERNAL);
        assert_non_null(strstr(err.message, libraries[i]));
        assert_null(hash.library);
        sha256_close(&hash);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers_one_after_the_other),
        cmocka_unit_test(test_a_library_that_is_missing_or_another_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
