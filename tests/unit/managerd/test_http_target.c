/*
 * Targets: what is decoded, what is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "managerd/http_target.h"

/* Exactly as much memory as the contract asks for, so that a sanitizer sees a byte too many. */
struct parsed {
    char *text, *segments;
    struct http_target target;
    const char *wrong;
};

static void parse(const char *text, struct parsed *ret_parsed)
{
    size_t n = strlen(text) + 1;
    *ret_parsed = (struct parsed){ .text = malloc(n), .segments = malloc(n) };
    assert_non_null(ret_parsed->text);
    assert_non_null(ret_parsed->segments);
    memcpy(ret_parsed->text, text, n);
    ret_parsed->wrong = http_target_parse(ret_parsed->text, ret_parsed->segments, &ret_parsed->target);
}

static void release(struct parsed *parsed)
{
    free(parsed->text);
    free(parsed->segments);
}

static void test_paths_that_are_taken(void **state)
{
    (void)state;
    static const struct {
        const char *text, *path, *authority;
        size_t n_segments;
        const char *last;
    } rows[] = {
        { "/", "/", NULL, 0, NULL },
        { "/health", "/health", NULL, 1, "health" },
        { "/v2/workers/w-1/logs", "/v2/workers/w-1/logs", NULL, 4, "logs" },
        { "/a/", "/a/", NULL, 2, "" },
        { "//a", "//a", NULL, 2, "a" },
        { "/%7Euser", "/~user", NULL, 1, "~user" },
        { "/m%C3%BCller", "/m\xc3\xbcller", NULL, 1, "m\xc3\xbcller" },
        { "/a+b", "/a+b", NULL, 1, "a+b" },
        { "/%2541", "/%41", NULL, 1, "%41" }, /* decoded once */
        { "/%2e", NULL, NULL, 0, NULL },
        { "/x%3Fy", "/x?y", NULL, 1, "x?y" },
        { "http://host:1/p", "/p", "host:1", 1, "p" },
        { "HTTPS://host", "/", "host", 0, NULL },
        { "http://host?q=1", "/", "host", 0, NULL },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct parsed parsed;
        parse(rows[i].text, &parsed);
        if (!rows[i].path) {
            assert_non_null(parsed.wrong);
        } else {
            assert_null(parsed.wrong);
            assert_string_equal(parsed.target.path, rows[i].path);
            assert_int_equal(parsed.target.n_segments, rows[i].n_segments);
            if (rows[i].last)
                assert_string_equal(parsed.target.segments[rows[i].n_segments - 1], rows[i].last);
            if (rows[i].authority)
                assert_string_equal(parsed.target.authority, rows[i].authority);
            else
                assert_null(parsed.target.authority);
        }
        release(&parsed);
    }
}

static void test_targets_that_are_refused(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "",
        "*",
        "health",
        "host:443",
        "ftp://host/x",
        "/a%2Fb",
        "/a%5cb",
        "/%00",
        "/a%0d",
        "/a%7f",
        "/%",
        "/%4",
        "/%zz",
        "/%C3",
        "/%ed%a0%80",
        "/%c0%af",
        "/..",
        "/a/../b",
        "/a/.",
        "/%2e%2e/x",
        "/a b",
        "/a\tb",
        "/\xc3\xbc",
        "/a#b",
        "/a?q=%00",
        "/a?q=%f0",
        "/a?q=1&q=2",
        "/a?q&q",
        "/a?%zz=1",
        "/a?q=%0a",
        "http:/x",
        "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17",
        "/?a&b&c&d&e&f&g&h&i&j&k&l&m&n&o&p&q&r&s&t&u&v&w&x&y&z&1&2&3&4&5&6&7",
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct parsed parsed;
        parse(rows[i], &parsed);
        if (!parsed.wrong)
            print_error("taken: '%s'\n", rows[i]);
        assert_non_null(parsed.wrong);
        release(&parsed);
    }
}

static void test_parameters(void **state)
{
    (void)state;
    struct parsed parsed;
    parse("/x?tail=10&follow&&label=a%26b%3Dc+d&empty=&%C3%BC=%2F", &parsed);
    assert_null(parsed.wrong);
    static const struct http_param expected[] = {
        { "tail", "10" }, { "follow", "" }, { "label", "a&b=c d" }, { "empty", "" }, { "\xc3\xbc", "/" },
    };
    assert_int_equal(parsed.target.n_params, sizeof(expected) / sizeof(expected[0]));
    for (size_t i = 0; i < parsed.target.n_params; i++) {
        assert_string_equal(parsed.target.params[i].name, expected[i].name);
        assert_string_equal(parsed.target.params[i].value, expected[i].value);
    }
    assert_string_equal(parsed.target.path, "/x");
    release(&parsed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths_that_are_taken),
        cmocka_unit_test(test_targets_that_are_refused),
        cmocka_unit_test(test_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
