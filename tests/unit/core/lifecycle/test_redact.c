/*
 * What is taken out of texts, command lines and environments, and what stays; with the tricks that secrets play.
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

#include <pool/crash.h>

#include "base/cleanup.h"
#include "core/lifecycle/redact.h"
#include "core/lifecycle/secret_marks.h"

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum redact_name kind;
    } cases[] = {
        { "HF_TOKEN", REDACT_NAME_SECRET },
        { "hf_token", REDACT_NAME_SECRET },
        { "HFTOKEN", REDACT_NAME_SECRET },
        { "POOL_SPAWN_TOKEN", REDACT_NAME_SECRET },
        { "api-key", REDACT_NAME_SECRET },
        { "apiKey", REDACT_NAME_SECRET },
        { "APIKEY", REDACT_NAME_SECRET },
        { "AccessKeyId", REDACT_NAME_SECRET },
        { "AWS_SECRET_ACCESS_KEY", REDACT_NAME_SECRET },
        { "DB_PASSWORD", REDACT_NAME_TYPED },
        { "dbpassword2", REDACT_NAME_TYPED },
        { "MYSQL_PWD", REDACT_NAME_TYPED },
        { "PGPASSWORD", REDACT_NAME_TYPED },
        { "SSHPASS", REDACT_NAME_TYPED },
        { "sshPass", REDACT_NAME_SECRET },
        { "PASSPHRASE", REDACT_NAME_TYPED },
        { "GPG_PASSPHRASE", REDACT_NAME_TYPED },
        { "PIN", REDACT_NAME_TYPED },
        { "CARD_PIN", REDACT_NAME_TYPED },
        { "user-pin", REDACT_NAME_TYPED },
        { "WIFI_PASSCODE", REDACT_NAME_TYPED },
        { "VAULT_OTP", REDACT_NAME_TYPED },
        { "DB_PASS", REDACT_NAME_SECRET },
        { "AWS_SESSION_TOKEN", REDACT_NAME_SECRET },
        { "COOKIES", REDACT_NAME_SECRET },
        { "SESSION_COOKIE", REDACT_NAME_SECRET },
        { "WIFI_PSK", REDACT_NAME_SECRET },
        { "SLACK_WEBHOOK_URL", REDACT_NAME_SECRET },
        { "OAUTH2_ACCESS", REDACT_NAME_SECRET },
        { "pin-memory", REDACT_NAME_PLAIN },
        { "PINNED", REDACT_NAME_PLAIN },
        { "spin", REDACT_NAME_PLAIN },
        { "passthrough", REDACT_NAME_PLAIN },
        { "GOOGLE_APPLICATION_CREDENTIALS", REDACT_NAME_SECRET },
        { "Authorization", REDACT_NAME_SECRET },
        { "proxy-authorization", REDACT_NAME_SECRET },
        { "x-api-key", REDACT_NAME_SECRET },
        { "Set-Cookie", REDACT_NAME_SECRET },
        { "SENTRY_DSN", REDACT_NAME_SECRET },
        { "ssl-key", REDACT_NAME_SECRET },
        { "hft", REDACT_NAME_SECRET },
        { "max-tokens", REDACT_NAME_COUNT },
        { "n_tokens", REDACT_NAME_COUNT },
        { "tokenizer", REDACT_NAME_PLAIN },
        { "tokenizer-mode", REDACT_NAME_PLAIN },
        { "PWD", REDACT_NAME_PLAIN },
        { "ssl-keyfile", REDACT_NAME_PLAIN },
        { "PATH", REDACT_NAME_PLAIN },
        { "CUDA_VISIBLE_DEVICES", REDACT_NAME_PLAIN },
        { "ctx-size", REDACT_NAME_PLAIN },
        { "keyboard", REDACT_NAME_PLAIN },
        { "author", REDACT_NAME_PLAIN },
        { "", REDACT_NAME_PLAIN },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (redact_name_kind(cases[i].name, strlen(cases[i].name)) != cases[i].kind)
            fail_msg("%s", cases[i].name);
    }
}

static void test_texts(void **state)
{
    (void)state;
    static const struct {
        const char *text, *expected;
    } cases[] = {
        { "plain words, 12 tokens and a key.", "plain words, 12 tokens and a key." },
        { "Authorization: Bearer abc.def-123", "Authorization: [redacted]" },
        { "> authorization: Basic dXNlcjpwYXNz\nnext line", "> authorization: [redacted]\nnext line" },
        { "sent BEARER  abcdefgh12 to it", "sent BEARER  [redacted] to it" },
        { "bearer of news", "bearer of news" },
        { "https://user:pa%40ss@host/path", "https://[redacted]@host/path" },
        { "https://u:p@ss@host:1/x", "https://[redacted]@host:1/x" },
        { "redis://:secretpw@10.0.0.1:6379/0", "redis://[redacted]@10.0.0.1:6379/0" },
        { "git+https://tok3n@github.com/a", "git+https://[redacted]@github.com/a" },
        { "https://host/a@b?x=1", "https://host/a@b?x=1" },
        { "https://host/?token=abcdef&x=1", "https://host/?token=[redacted]&x=1" },
        { "https://host/?a=1&X-Amz-Signature=0a1b2c&b=2",
          "https://host/?a=1&X-Amz-Signature=[redacted]&b=2" },
        { "{\"api_key\": \"abc\\\"def\", \"port\": 8001}", "{\"api_key\": \"[redacted]\", \"port\": 8001}" },
        { "Namespace(api_key=['k1', 'k2'], port=1)", "Namespace(api_key=[redacted], port=1)" },
        { "api_key=None, seed=1", "api_key=None, seed=1" },
        { "args: --api-key s3cret --port 8001", "args: --api-key [redacted] --port 8001" },
        { "args: --api-key=s3cret --port 8001", "args: --api-key=[redacted] --port 8001" },
        { "password = hunter2; next", "password = [redacted]; next" },
        { "PASSWORD:hunter2", "PASSWORD:[redacted]" },
        { "SSHPASS=hunter2 PIN=1234 and pass=2", "SSHPASS=[redacted] PIN=[redacted] and pass=2" },
        { "password: 31337, pin_memory: 1", "password: [redacted], pin_memory: 1" },
        { "Cookie: sid=abc; other=def", "Cookie: [redacted]" },
        { "Set-Cookie: sid=abc; Path=/", "Set-Cookie: [redacted]" },
        { "AccountName=a;AccountKey=Zm9v+/==;End=x", "AccountName=a;AccountKey=[redacted];End=x" },
        { "loaded hf_abcdefghijklmnopqrstu", "loaded [redacted]" },
        { "(sk-abcdefghijklmnop)", "([redacted])" },
        { "eyJhbGciOiJIUzI1NiJ9.e30.abc", "[redacted]" },
        { "sk-short", "sk-short" },
        { "BOS token        = 1 '<s>'", "BOS token        = 1 '<s>'" },
        { "n_tokens = 512, n_keys: 3", "n_tokens = 512, n_keys: 3" },
        { "tokenizer.ggml.model str = llama", "tokenizer.ggml.model str = llama" },
        { "x\n-----BEGIN RSA PRIVATE KEY-----\nMIIB\nAAAA\n-----END RSA PRIVATE KEY-----\ny",
          "x\n[redacted]-----END RSA PRIVATE KEY-----\ny" },
        { "-----BEGIN PRIVATE KEY-----\nMIIBcut", "[redacted]" },
        { "-----BEGIN CERTIFICATE-----\nMIIB", "-----BEGIN CERTIFICATE-----\nMIIB" },
        { "known one: needle77!", "known one: [redacted]!" },
        { "needle77needle77", "[redacted][redacted]" },
        { "", "" },
        { "token=", "token=" },
        { "token", "token" },
        { "api_key=\"never closed", "api_key=\"[redacted]" },
        { "a://", "a://" },
        { "\xff\xfe key=\xff\xff", "\xff\xfe key=[redacted]" },
    };
    CLEANUP(string_list_done) struct string_list known = { 0 };
    assert_true(string_list_add(&known, "needle77"));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CLEANUP(strbuf_done) struct strbuf out = STRBUF_INIT(4096);
        redact_text(cases[i].text, strlen(cases[i].text), &known, &out);
        assert_string_equal(strbuf_text(&out), cases[i].expected);
    }
}

/* A text is not read behind its end. */
static void test_lengths(void **state)
{
    (void)state;
    static const char text[] =
        "key=abcdefgh Bearer abcdefghij https://u:p@h -----BEGIN PRIVATE KEY----- sk-aaaaaaaaaaaaaaaaaaaa";
    for (size_t n = 0; n < sizeof text; n++) {
        CLEANUP(strbuf_done) struct strbuf out = STRBUF_INIT(4096);
        CLEANUP_FREE char *exact = malloc(n ? n : 1); /* a sanitizer sees one byte too many */
        assert_non_null(exact);
        memcpy(exact, text, n);
        CLEANUP_FREE char *whole = strndup(exact, n);
        assert_non_null(whole);
        redact_text(whole, n, NULL, &out);
        assert_null(strstr(strbuf_text(&out), "abcdefghij"));
    }
}

static char *join(char *const *list)
{
    struct strbuf out = STRBUF_INIT(1 << 20);
    for (size_t i = 0; list[i]; i++)
        strbuf_printf(&out, "%s%s", i ? "|" : "", list[i]);
    char *text = strbuf_take(&out);
    assert_non_null(text);
    return text;
}

static void check_command(char *const *argv, char *const *environment, const char *expected_argv,
                          const char *expected_environment)
{
    CLEANUP(string_list_done) struct string_list known = { 0 };
    CLEANUP(string_list_done) struct string_list arguments = { 0 };
    CLEANUP(string_list_done) struct string_list variables = { 0 };
    assert_true(redact_command(argv, environment, &known, &arguments, &variables));
    CLEANUP_FREE char *one = join(arguments.at);
    CLEANUP_FREE char *other = variables.at ? join(variables.at) : strdup("");
    assert_string_equal(one, expected_argv);
    assert_string_equal(other, expected_environment);
}
#define LIST(...)         \
    (char *[])            \
    {                     \
        __VA_ARGS__, NULL \
    }
#define T(text) ((char[]){ text })

static void test_commands(void **state)
{
    (void)state;
    check_command(
        LIST(T("/bin/e"), T("--port"), T("8001"), T("--api-key"), T("s3cretvalue"), T("-m"), T("/m")),
        LIST(T("HOME=/h"), T("HF_TOKEN=hunter22"), T("EMPTY_TOKEN=")),
        "/bin/e|--port|8001|--api-key|[redacted]|-m|/m", "HOME=/h|HF_TOKEN=[redacted]|EMPTY_TOKEN=");
    /* several values, one that looks like an option, one inside, none at all */
    check_command(LIST(T("e"), T("--api-key"), T("k1"), T("k2"), T("--seed"), T("1")), LIST(T("A=b")),
                  "e|--api-key|[redacted]|[redacted]|--seed|1", "A=b");
    check_command(LIST(T("e"), T("--api-key"), T("-startswithdash"), T("x")), LIST(T("A=b")),
                  "e|--api-key|[redacted]|[redacted]", "A=b");
    check_command(LIST(T("e"), T("--api-key=abc"), T("--hf-token="), T("--max-tokens"), T("512")),
                  LIST(T("A=b")), "e|--api-key=[redacted]|--hf-token=|--max-tokens|512", "A=b");
    check_command(LIST(T("e"), T("--max-tokens"), T("abcdef"), T("--token")), LIST(T("NO_SIGN")),
                  "e|--max-tokens|[redacted]|--token", "NO_SIGN");
    /* the same text elsewhere: in another argument, in a URL, in a harmless variable, and the other way round */
    check_command(
        LIST(T("e"), T("--x=s3cretvalue"), T("http://h/hunter22"), T("--api-key"), T("s3cretvalue")),
        LIST(T("COPY=is s3cretvalue too"), T("DB_PASSWORD=hunter22")),
        "e|--x=[redacted]|http://h/[redacted]|--api-key|[redacted]",
        "COPY=is [redacted] too|DB_PASSWORD=[redacted]");
    check_command(LIST(T("e"), T("-H"), T("Authorization: Bearer abcdef123456")),
                  LIST(T("HTTPS_PROXY=http://u:p@proxy:3128"), T("POOL_WORKER_SPEC={\"a\":1}"),
                       T("POOL_SPAWN_TOKEN=00112233445566778899aabbccddeeff")),
                  "e|-H|Authorization: [redacted]",
                  "HTTPS_PROXY=http://[redacted]@proxy:3128|POOL_SPAWN_TOKEN=[redacted]");
}

static void test_limits(void **state)
{
    (void)state;
    enum { N = 100, BYTES = 3 * POOL_CRASH_TEXT_MAX };
    CLEANUP(string_list_done) struct string_list argv = { 0 };
    CLEANUP(string_list_done) struct string_list known = { 0 };
    CLEANUP(string_list_done) struct string_list arguments = { 0 };
    CLEANUP(string_list_done) struct string_list variables = { 0 };
    char long_text[BYTES + 1];
    memset(long_text, 'x', BYTES);
    memcpy(long_text + POOL_CRASH_TEXT_MAX - 1, "é", 2); /* is not cut in two */
    long_text[BYTES] = '\0';
    for (size_t i = 0; i < N; i++)
        assert_true(string_list_add(&argv, long_text));
    assert_true(redact_command(argv.at, argv.at, &known, &arguments, &variables));
    for (size_t i = 0; i < 2; i++) {
        const struct string_list *list = i ? &variables : &arguments;
        size_t n_bytes = 0;
        for (size_t k = 0; k + 1 < list->n; k++) {
            assert_in_range(strlen(list->at[k]), 1, POOL_CRASH_TEXT_MAX + strlen("…"));
            n_bytes += strlen(list->at[k]);
        }
        assert_in_range(n_bytes, POOL_CRASH_COMMAND_MAX_BYTES / 4,
                        POOL_CRASH_COMMAND_MAX_BYTES + list->n * strlen("…"));
        assert_non_null(strstr(list->at[list->n - 1], " more"));
    }
    assert_memory_equal(arguments.at[0] + POOL_CRASH_TEXT_MAX - 1, "…", strlen("…"));
}

/* ---- marks ---- */

static void test_marks(void **state)
{
    (void)state;
    CLEANUP(string_list_done) struct string_list secrets = { 0 };
    CLEANUP(strbuf_done) struct strbuf line = STRBUF_INIT(SECRET_MARKS_TEXT_MAX);
    CLEANUP(strbuf_done) struct strbuf other = STRBUF_INIT(SECRET_MARKS_TEXT_MAX);
    char too_long[SECRET_MARK_BYTES_MAX + 2];
    memset(too_long, 'z', sizeof too_long - 1);
    too_long[sizeof too_long - 1] = '\0';
    assert_true(secret_marks_make(&secrets, &line));
    assert_string_equal(strbuf_text(&line), "");
    static const char *const texts[] = { "hunter22", "short", "another secret", "hunter22x" };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_true(string_list_add(&secrets, texts[i]));
    assert_true(string_list_add(&secrets, too_long));
    assert_true(secret_marks_make(&secrets, &line));
    assert_true(secret_marks_make(&secrets, &other));
    assert_string_not_equal(strbuf_text(&line), strbuf_text(&other)); /* salted */
    assert_null(strstr(strbuf_text(&line), "hunter"));
    static const struct {
        const char *text;
        const char *found; /* joined */
    } cases[] = {
        { "", "" },
        { "hunter2", "" },
        { "hunter22", "hunter22" },
        { "arg 4 hunter22\narg 5 another secret", "hunter22|another secret" },
        { "xhunter22y", "hunter22" },
        { "hunter22x", "hunter22|hunter22x" },
        { "short", "" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CLEANUP(string_list_done) struct string_list known = { 0 };
        assert_true(secret_marks_find(strbuf_text(&line), cases[i].text, strlen(cases[i].text), &known));
        CLEANUP_FREE char *found = known.n ? join(known.at) : strdup("");
        assert_string_equal(found, cases[i].found);
    }
    /* The longest that is known is taken out. */
    CLEANUP(string_list_done) struct string_list known = { 0 };
    CLEANUP(strbuf_done) struct strbuf out = STRBUF_INIT(4096);
    assert_true(secret_marks_find(strbuf_text(&line), "hunter22x", 9, &known));
    redact_text("a hunter22x b", 13, &known, &out);
    assert_string_equal(strbuf_text(&out), "a [redacted] b");
}

static void test_lines_that_are_no_marks(void **state)
{
    (void)state;
    static const char *const lines[] = { "",
                                         "x",
                                         "00",
                                         "00112233445566778899aabbccddeeff",
                                         "00112233445566778899aabbccddeeff 8",
                                         "00112233445566778899aabbccddeeff 8:",
                                         "00112233445566778899aabbccddeeff 99999999:00",
                                         "00112233445566778899aabbccddeeff 8:0011",
                                         "{\"format\":1}" };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        CLEANUP(string_list_done) struct string_list known = { 0 };
        assert_true(secret_marks_find(lines[i], "hunter22", 8, &known));
        assert_int_equal(known.n, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_lines_that_are_no_marks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
