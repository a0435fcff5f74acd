/*
 * Templates: their pieces, escaped braces and faults.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/config_template.h"

/* Writes the pieces down: text as it is, <name> for a placeholder, ?name? for an unknown one, ! for a stray brace. */
static void spell_out(const char *text, char *out, size_t size)
{
    struct template_piece piece;
    size_t n = 0;
    out[0] = '\0';
    while (template_next(&text, &piece) != TEMPLATE_END) {
        switch (piece.kind) {
        case TEMPLATE_LITERAL:
            n += (size_t)snprintf(out + n, size - n, "%.*s", (int)piece.n, piece.text);
            break;
        case TEMPLATE_PLACEHOLDER:
            n += (size_t)snprintf(out + n, size - n, "<%s>", template_placeholder_name(piece.placeholder));
            break;
        case TEMPLATE_UNKNOWN:
            n += (size_t)snprintf(out + n, size - n, "?%.*s?", (int)piece.n, piece.text);
            break;
        case TEMPLATE_STRAY_BRACE: n += (size_t)snprintf(out + n, size - n, "!"); break;
        case TEMPLATE_END: break;
        }
        assert_true(n < size);
    }
}

static void test_pieces(void **state)
{
    (void)state;
    static const struct {
        const char *text, *pieces;
    } cases[] = {
        { "", "" },
        { "plain", "plain" },
        { "{port}", "<port>" },
        { "--a={model_path}:{port}.", "--a=<model_path>:<port>." },
        { "{{port}}", "{port}" },
        { "{{{port}}}", "{<port>}" },
        { "{{}}", "{}" },
        { "{}", "??" },
        { "{nope}x", "?nope?x" },
        { "{ports}{por}", "?ports??por?" },
        { "{", "!" },
        { "}", "!" },
        { "a}b", "a!b" },
        { "{port", "!port" },
        { "{a{port}", "!a<port>" },
        { "{port}}", "<port>!" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char pieces[128];
        spell_out(cases[i].text, pieces, sizeof pieces);
        assert_string_equal(pieces, cases[i].pieces);
    }
}

static void test_every_placeholder(void **state)
{
    (void)state;
    unsigned all = 0;
#define CHECK(id, name)                                                                           \
    assert_string_equal(template_placeholder_name(POOL_PLACEHOLDER_##id), name);                  \
    assert_int_equal(template_placeholders("x{" name "}y"), TEMPLATE_BIT(POOL_PLACEHOLDER_##id)); \
    all |= TEMPLATE_BIT(POOL_PLACEHOLDER_##id);
    POOL_PLACEHOLDERS(CHECK)
    assert_int_equal(all, (1U << 11) - 1);
    assert_int_equal(template_placeholders("{{port}} {nope} {"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_every_placeholder),
    };
    return cmocka_run_group_tests_name("config templates", tests, NULL, NULL);
}
