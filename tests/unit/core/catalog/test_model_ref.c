/*
 * The grammar of model references: what is one, what each part becomes, and the attacks that are refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pool/catalog.h>

#define COMMIT "0123456789abcdef0123456789abcdef01234567"

static void check_same(const char *name, const char *actual, const char *expected, const char *text)
{
    if (!actual != !expected || (actual && strcmp(actual, expected) != 0))
        fail_msg("%s: %s is %s", text, name, actual ? actual : "absent");
}

static void test_hub_references(void **state)
{
    (void)state;
    static const struct {
        const char *text, *org, *repo, *revision, *file;
    } cases[] = {
        { "hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF", "Qwen", "Qwen2.5-0.5B-Instruct-GGUF", NULL, NULL },
        { "hf:o/r@main", "o", "r", "main", NULL },
        { "hf:o/r@" COMMIT, "o", "r", COMMIT, NULL },
        { "hf:o/r@refs/pr/12", "o", "r", "refs/pr/12", NULL },
        { "hf:o/r@v1.0-rc_2", "o", "r", "v1.0-rc_2", NULL },
        { "hf:o/r::file=a.gguf", "o", "r", NULL, "a.gguf" },
        { "hf:o/r@main::file=Q4/a b.gguf", "o", "r", "main", "Q4/a b.gguf" },
        /* behind ::file= everything is the path */
        { "hf:o/r::file=a@b.gguf", "o", "r", NULL, "a@b.gguf" },
        { "hf:o/r::file=a::file=b", "o", "r", NULL, "a::file=b" },
        { "hf:o/r::file=a=b+c:d", "o", "r", NULL, "a=b+c:d" },
        { "hf:o/r::file=...", "o", "r", NULL, "..." },
        { "hf:o/r::file=.hidden/..a", "o", "r", NULL, ".hidden/..a" },
        /* nothing is decoded */
        { "hf:o/r::file=%2e%2e/x", "o", "r", NULL, "%2e%2e/x" },
        { "hf:o/r::file=%00", "o", "r", NULL, "%00" },
        { "hf:o/r::file=\xe6\xa8\xa1\xe5\x9e\x8b.gguf", "o", "r", NULL, "\xe6\xa8\xa1\xe5\x9e\x8b.gguf" },
        { "hf:A1_b.c-d/r_", "A1_b.c-d", "r_", NULL, NULL },
        { "hf:hf/file", "hf", "file", NULL, NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pool_error err = POOL_ERROR_INIT;
        struct pool_model_ref *ref = NULL;
        if (pool_model_ref_parse(cases[i].text, strlen(cases[i].text), &ref, &err) != POOL_OK)
            fail_msg("%s: %s", cases[i].text, err.message);
        assert_int_equal(ref->kind, POOL_MODEL_REF_HF);
        check_same("org", ref->org, cases[i].org, cases[i].text);
        check_same("repo", ref->repo, cases[i].repo, cases[i].text);
        check_same("revision", ref->revision, cases[i].revision, cases[i].text);
        check_same("file", ref->file, cases[i].file, cases[i].text);
        assert_null(ref->path);
        assert_null(ref->id);
        char *text = pool_model_ref_format(ref);
        check_same("the canonical text", text, cases[i].text, cases[i].text);
        free(text);
        pool_model_ref_free(ref);
    }
}

static void test_files_and_ids(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum pool_model_ref_kind kind;
        const char *value;
    } cases[] = {
        { "file:/m/a.gguf", POOL_MODEL_REF_FILE, "/m/a.gguf" },
        { "file:/a", POOL_MODEL_REF_FILE, "/a" },
        { "file:/m/with space/\xc3\xa9.gguf", POOL_MODEL_REF_FILE, "/m/with space/\xc3\xa9.gguf" },
        { "file:/m/%2e%2e/a", POOL_MODEL_REF_FILE, "/m/%2e%2e/a" },
        { "file:/m/a::file=b", POOL_MODEL_REF_FILE, "/m/a::file=b" },
        { "file:/m/...", POOL_MODEL_REF_FILE, "/m/..." },
        { "qwen2.5-0.5b", POOL_MODEL_REF_ID, "qwen2.5-0.5b" },
        { "7", POOL_MODEL_REF_ID, "7" },
        { "hf", POOL_MODEL_REF_ID, "hf" },
        { "a123456789b123456789c123456789d123456789e123456789f123456789g123", POOL_MODEL_REF_ID,
          "a123456789b123456789c123456789d123456789e123456789f123456789g123" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pool_error err = POOL_ERROR_INIT;
        struct pool_model_ref *ref = NULL;
        if (pool_model_ref_parse(cases[i].text, strlen(cases[i].text), &ref, &err) != POOL_OK)
            fail_msg("%s: %s", cases[i].text, err.message);
        assert_int_equal(ref->kind, cases[i].kind);
        check_same("path", ref->path, cases[i].kind == POOL_MODEL_REF_FILE ? cases[i].value : NULL,
                   cases[i].text);
        check_same("id", ref->id, cases[i].kind == POOL_MODEL_REF_ID ? cases[i].value : NULL, cases[i].text);
        assert_null(ref->org);
        char *text = pool_model_ref_format(ref);
        check_same("the canonical text", text, cases[i].text, cases[i].text);
        free(text);
        pool_model_ref_free(ref);
    }
}

static void check_refused(const char *text, size_t n)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_model_ref *ref = NULL;
    enum pool_code code = pool_model_ref_parse(text, n, &ref, &err);
    if (code != POOL_INVALID_REQUEST)
        fail_msg("%.*s: %s", (int)n, text, pool_code_name(code));
    assert_null(ref);
    assert_int_equal(err.code, POOL_INVALID_REQUEST);
    assert_string_equal(err.field, "model_ref");
    assert_int_equal(pool_model_ref_parse(text, n, &ref, NULL), POOL_INVALID_REQUEST);
}

static void test_attacks_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        /* the scheme */
        "hf:",
        "file:",
        "http://x/y",
        "https:/x/y",
        "HF:o/r",
        "File:/a",
        " hf:o/r",
        "hf :o/r",
        "s3:o/r",
        "hf:/o/r",
        "o/r",
        "/m/a.gguf",
        "./a.gguf",
        "~/a",
        "hf:hf:o/r",
        ":",
        "data:text,x",
        /* the repository */
        "hf:o",
        "hf:o/",
        "hf:/r",
        "hf:o//r",
        "hf:o/r/",
        "hf:o/r/s",
        "hf:../r",
        "hf:o/..",
        "hf:./r",
        "hf:o/.",
        "hf:.o/r",
        "hf:-o/r",
        "hf:_o/r",
        "hf:o/-r",
        "hf:o/r-",
        "hf:o/r.",
        "hf:o--p/r",
        "hf:o/r--s",
        "hf:o..p/r",
        "hf:o/a..b",
        "hf:o/r s",
        "hf:o/r?x=1",
        "hf:o/r#x",
        "hf:o\\r/s",
        "hf:o/r\\s",
        "hf:o/%2e%2e",
        "hf:o/\xc3\xa9",
        "hf:o/r;ls",
        "hf:o/$(ls)",
        "hf:o/r'",
        "hf:o/r\"",
        "hf:o:p/r",
        "hf:o/r*",
        "hf:o,p/r",
        /* the revision */
        "hf:o/r@",
        "hf:o/r@@main",
        "hf:o/r@a@b",
        "hf:o@a/r",
        "hf:o/r@../x",
        "hf:o/r@a..b",
        "hf:o/r@/a",
        "hf:o/r@a/",
        "hf:o/r@a//b",
        "hf:o/r@-x",
        "hf:o/r@a b",
        "hf:o/r@a\\b",
        "hf:o/r@a%2fb",
        "hf:o/r@./a",
        "hf:o/r@a/./b",
        "hf:o/r@.",
        "hf:o/r@..",
        "hf:o/r@a:b",
        "hf:o/r@a~1",
        "hf:o/r@^",
        "hf:@main",
        "hf:o/r@::file=x",
        /* the file */
        "hf:o/r::file=",
        "hf:o/r::file=/etc/passwd",
        "hf:o/r::file=../x",
        "hf:o/r::file=a/../b",
        "hf:o/r::file=a/..",
        "hf:o/r::file=..",
        "hf:o/r::file=.",
        "hf:o/r::file=a/./b",
        "hf:o/r::file=a//b",
        "hf:o/r::file=a/",
        "hf:o/r::file=a\\b",
        "hf:o/r::file=..\\x",
        "hf:o/r::file=//x",
        "hf:o/r::File=a",
        "hf:o/r:file=a",
        "hf:::file=a",
        "hf:o/r::file",
        "hf:o/r::files=a",
        "hf:o/r::",
        "hf:o/r:",
        /* paths */
        "file:a",
        "file:./a",
        "file:../a",
        "file:~/a",
        "file:/",
        "file://a",
        "file:///a",
        "file:/a/",
        "file:/a//b",
        "file:/..",
        "file:/a/../b",
        "file:/a/./b",
        "file:/.",
        "file:/a/..",
        "file:/a\\b",
        "file:C:\\a",
        "file:\\\\h\\a",
        "file: /a",
        "file:.test-models/a.gguf",
        /* control characters and what is no UTF-8 */
        "hf:o/r\n",
        "\nhf:o/r",
        "hf:o/r@a\tb",
        "hf:o/r::file=a\nb",
        "hf:o/r::file=a\x1b[31m",
        "hf:o/r::file=a\x7f",
        "hf:o/r::file=a\xc2\x85",
        "file:/a\r",
        "file:/a\x01",
        "hf:o/r::file=\xff",
        "file:/\xc0\xae\xc0\xae/a",
        "file:/\xed\xa0\x80",
        "file:/a\xe2\x82",
        "file:/\xf4\x90\x80\x80",
        /* ids */
        ".",
        "..",
        "-a",
        "_a",
        ".a",
        "a b",
        "a/b",
        "a\\b",
        "a@b",
        "a::file=b",
        "\xc3\xa9",
        "a*",
        "a$b",
        "a123456789b123456789c123456789d123456789e123456789f123456789g1234",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        check_refused(texts[i], strlen(texts[i]));
}

static void test_nul_is_refused_everywhere(void **state)
{
    (void)state;
    static const char text[] = "hf:org/repo@main::file=a/b.gguf";
    for (size_t i = 0; i < sizeof text - 1; i++) {
        char copy[sizeof text];
        memcpy(copy, text, sizeof text);
        copy[i] = '\0';
        check_refused(copy, sizeof text - 1);
    }
    check_refused("file:/a\0", 8);
    check_refused("id\0", 3);
}

static void test_the_text_need_not_be_terminated(void **state)
{
    (void)state;
    char *text = malloc(6);
    assert_non_null(text);
    memcpy(text, "hf:o/r", 6);
    struct pool_model_ref *ref = NULL;
    assert_int_equal(pool_model_ref_parse(text, 6, &ref, NULL), POOL_OK);
    assert_string_equal(ref->repo, "r");
    pool_model_ref_free(ref);
    free(text);
    pool_model_ref_free(NULL);
}

/* prefix + n times c + suffix */
static void check_length(const char *prefix, char c, size_t n, const char *suffix, bool is_fine)
{
    size_t n_text = strlen(prefix) + n + strlen(suffix);
    char *text = malloc(n_text + 1);
    assert_non_null(text);
    memcpy(text, prefix, strlen(prefix));
    memset(text + strlen(prefix), c, n);
    memcpy(text + strlen(prefix) + n, suffix, strlen(suffix) + 1);
    struct pool_model_ref *ref = NULL;
    enum pool_code code = pool_model_ref_parse(text, n_text, &ref, NULL);
    if ((code == POOL_OK) != is_fine)
        fail_msg("%s%c*%zu%s: %s", prefix, c, n, suffix, pool_code_name(code));
    if (code == POOL_OK)
        pool_model_ref_free(ref);
    free(text);
}

static void test_lengths(void **state)
{
    (void)state;
    check_length("hf:", 'o', 96, "/r", true);
    check_length("hf:", 'o', 97, "/r", false);
    check_length("hf:o/", 'r', 96, "", true);
    check_length("hf:o/", 'r', 97, "", false);
    check_length("hf:o/r@", 'v', 255, "", true);
    check_length("hf:o/r@", 'v', 256, "", false);
    check_length("hf:o/r::file=", 'f', 255, "", true);
    check_length("hf:o/r::file=", 'f', 256, "", false);
    check_length("hf:o/r::file=a/", 'f', 255, "/b", true);
    check_length("file:/", 'f', 255, "", true);
    check_length("file:/", 'f', 256, "", false);
    check_length("hf:o/r::file=", '/', 4090, "", false);
    check_length("", 'a', 64, "", true);
    check_length("", 'a', 65, "", false);
    check_length("", 'a', 5000, "", false);

    /* long paths: segments of 100 up to the limit, and one byte more */
    static const struct {
        const char *prefix;
        size_t n_max;
    } longest[] = { { "hf:o/r::file=", sizeof "hf:o/r::file=" - 1 + 3072 },
                    { "file:/", POOL_MODEL_REF_MAX - 1 } };
    for (size_t i = 0; i < 4; i++) {
        char text[POOL_MODEL_REF_MAX + 2];
        size_t n_text = longest[i / 2].n_max + i % 2;
        size_t n = (size_t)snprintf(text, sizeof text, "%s", longest[i / 2].prefix);
        for (; n < n_text; n++)
            text[n] = n % 100 == 99 && n < n_text - 2 ? '/' : 'x';
        struct pool_model_ref *ref = NULL;
        assert_int_equal(pool_model_ref_parse(text, n, &ref, NULL), i % 2 ? POOL_INVALID_REQUEST : POOL_OK);
        pool_model_ref_free(ref);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hub_references),
        cmocka_unit_test(test_files_and_ids),
        cmocka_unit_test(test_attacks_are_refused),
        cmocka_unit_test(test_nul_is_refused_everywhere),
        cmocka_unit_test(test_the_text_need_not_be_terminated),
        cmocka_unit_test(test_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
