/*
 * Tests of the hashes of a libcrypto that is loaded when it is needed: known answers, and a library that is not there or
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
#include "base/digest.h"

struct answer {
    const char *text;
    size_t n_times;
    enum digest_kind kind;
    unsigned char sum[DIGEST_BYTES_MAX];
};

/* Source: FIPS 180-4 example values (NIST, "SHA256.pdf", "SHA1.pdf"); the empty text: "ShortMsg" of NIST's SHAVS. */
static const struct answer answers[] = {
    { "abc", 1, DIGEST_SHA256, { 0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40,
                                 0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17,
                                 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad } },
    { "", 1, DIGEST_SHA256, { 0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4,
                              0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b,
                              0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55 } },
    { "a", 1000000, DIGEST_SHA256, { 0xcd, 0xc7, 0x6e, 0x5c, 0x99, 0x14, 0xfb, 0x92, 0x81, 0xa1, 0xc7,
                                     0xe2, 0x84, 0xd7, 0x3e, 0x67, 0xf1, 0x80, 0x9a, 0x48, 0xa4, 0x97,
                                     0x20, 0x0e, 0x04, 0x6d, 0x39, 0xcc, 0xc7, 0x11, 0x2c, 0xd0 } },
    { "abc", 1, DIGEST_SHA1, { 0xa9, 0x99, 0x3e, 0x36, 0x47, 0x06, 0x81, 0x6a, 0xba, 0x3e,
                               0x25, 0x71, 0x78, 0x50, 0xc2, 0x6c, 0x9c, 0xd0, 0xd8, 0x9d } },
};

static void check_answers(enum digest_kind kind)
{
    CLEANUP(digest_close) struct digest hash = DIGEST_INIT;
    struct digest_failure failure;
    if (!digest_open(&hash, kind, &failure)) { /* without memory (torture), and only then */
        assert_true(failure.is_no_memory);
        return;
    }
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        unsigned char sum[DIGEST_BYTES_MAX] = { 0 };
        if (answers[i].kind != kind)
            continue;
        assert_true(digest_begin(&hash));
        for (size_t j = 0; j < answers[i].n_times; j++)
            assert_true(digest_add(&hash, answers[i].text, strlen(answers[i].text)));
        assert_true(digest_end(&hash, sum));
        assert_memory_equal(sum, answers[i].sum, hash.n_bytes);
    }
}

static void test_known_answers_one_after_the_other(void **state)
{
    (void)state;
    check_answers(DIGEST_SHA256);
    check_answers(DIGEST_SHA1);
}

static void test_a_library_that_is_missing_or_another_one(void **state)
{
    (void)state;
    static const char *const libraries[] = { "libcrypto-of-nobody.so.3", "libm.so.6" };
    for (size_t i = 0; i < 2; i++) {
        struct digest hash = DIGEST_INIT;
        struct digest_failure failure;
        assert_false(digest_open_library(&hash, DIGEST_SHA256, libraries[i], &failure));
        if (failure.is_no_memory)
            continue;
        assert_non_null(strstr(failure.message, libraries[i]));
        assert_null(hash.library);
        digest_close(&hash);
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
