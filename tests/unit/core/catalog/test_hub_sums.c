/*
 * Sums beside downloaded files: what is found in texts from outside, and in the names of the Hub's cache.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/catalog/hub_sums.h"

#define A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B64 "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"

static void test_texts(void **state)
{
    (void)state;
    static const struct {
        const char *text, *file, *sum;
    } cases[] = {
        { A64 "  m.gguf\n", "m.gguf", A64 },
        { A64 " *m.gguf", "m.gguf", A64 },
        { "\n\n" A64 "  x\n" B64 "  q/m.gguf\n", "q/m.gguf",
          "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" },
        { A64 "  m.gguf\n", "m.ggu", NULL },
        { A64 "  m.gguf\n", "", NULL },
        { A64 "m.gguf\n", "m.gguf", NULL },
        { "zz" A64 "  m.gguf\n", "m.gguf", NULL },
        { "z  m.gguf\n", "m.gguf", NULL },
        { "", "m.gguf", NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char sum[SHA256_TEXT_MAX] = "";
        bool is_found = hub_sums_find(cases[i].text, strlen(cases[i].text), cases[i].file, sum);
        if (is_found != (cases[i].sum != NULL))
            fail_msg("case %zu", i);
        if (is_found)
            assert_string_equal(sum, cases[i].sum);
    }
}

static void test_files(void **state)
{
    (void)state;
    char dir[] = "/tmp/pool-test-sums-XXXXXX";
    char names[4][64];
    char text[] = A64 "  a.gguf\n";
    assert_non_null(mkdtemp(dir));
    static const char *const files[] = { ".sha256", "a.gguf", "blob", "none" };
    for (size_t i = 0; i < 4; i++)
        snprintf(names[i], sizeof names[i], "%s/%s", dir, files[i]);
    FILE *file = fopen(names[0], "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(symlink("../../blobs/" A64, names[2]), 0);
    char *paths[] = { names[1], names[2], names[3] };
    for (int is_cache = 0; is_cache < 2; is_cache++) {
        char **sums = hub_sums_of_files(dir, is_cache, 3, paths);
        if (!sums)
            continue; /* torture */
        assert_string_equal(sums[is_cache ? 1 : 0], A64);
        assert_null(sums[is_cache ? 0 : 1]);
        assert_null(sums[2]);
        hub_sums_free(sums, 3);
    }
    unlink(names[0]);
    unlink(names[2]);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
