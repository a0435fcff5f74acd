/*
 * The parts of a download that need no network: headers, states of unfinished files, the choice among files, settings,
 * the bar.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/number.h"
#include "cli/download/download_plan.h"
#include "cli/download/hub_headers.h"
#include "cli/download/hub_settings.h"
#include "cli/download/meter.h"
#include "cli/download/part_state.h"

/* ---- headers ---- */

static void test_limits(void **state)
{
    (void)state;
    static const struct {
        const char *rate_limit, *retry_after;
        int64_t ms;
    } cases[] = {
        { NULL, NULL, -1 },
        { "\"resolvers\";r=0;t=12", NULL, 13000 },
        { "\"resolvers\"; r=0; t=12", "99", 13000 },
        { "\"a;r=5;t=6\";r=0;t=1", NULL, 2000 },
        { "\"resolvers\";r=7;t=12", NULL, -1 },
        { "\"resolvers\";r=7;t=12", "3", 3000 },
        { "\"resolvers\";r=0", "3", 3000 },
        { "\"resolvers\";t=5, \"api\";r=0;t=9", NULL, -1 }, /* the first item counts */
        { "nonsense", "0", 0 },
        { NULL, "120 ", 120000 },
        { NULL, "Wed, 21 Oct 2026 07:28:00 GMT", -1 },
        { NULL, "-5", -1 },
        { NULL, "", -1 },
        { NULL, "99999999999999999999", -1 },
        { NULL, "9999999", 86400000 },
        { "\"x\";r=0;t=9223372036854775807", NULL, 86400000 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (hub_limit_ms(cases[i].rate_limit, cases[i].retry_after) != cases[i].ms)
            fail_msg("case %zu", i);
    }
}

static void test_content_ranges(void **state)
{
    (void)state;
    int64_t first;
    int64_t last;
    int64_t total;
    assert_true(hub_read_content_range("bytes 5-9/10", &first, &last, &total));
    assert_true(first == 5 && last == 9 && total == 10);
    assert_true(hub_read_content_range("Bytes 0-0/1", &first, &last, &total));
    static const char *const wrong[] = { "",
                                         "bytes",
                                         "bytes */10",
                                         "bytes 5-9/*",
                                         "bytes 9-5/10",
                                         "bytes 5-10/10",
                                         "bytes -5-9/10",
                                         "bytes 5-9/10 ",
                                         "5-9/10",
                                         "bytes 5-9",
                                         "bytes 5-9/99999999999999999999" };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (hub_read_content_range(wrong[i], &first, &last, &total))
            fail_msg("%s", wrong[i]);
    }
}

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define HEX40 "0123456789abcdef0123456789abcdef01234567"

static void test_content_names(void **state)
{
    (void)state;
    char name[HUB_NAME_MAX + 1];
    assert_true(hub_read_content_name("\"" HEX64 "\"", name));
    assert_string_equal(name, HEX64);
    assert_true(hub_read_content_name("W/\"" HEX40 "\"", name));
    assert_string_equal(name, HEX40);
    assert_true(hub_read_content_name("ABCDEF0123456789ABCDEF0123456789ABCDEF01", name));
    assert_string_equal(name, "abcdef0123456789abcdef0123456789abcdef01");
    assert_false(hub_read_content_name("", name));
    assert_false(hub_read_content_name("\"", name));
    assert_false(hub_read_content_name("\"" HEX40, name));
    assert_false(hub_read_content_name("\"" HEX64 "0\"", name));
    assert_false(hub_read_content_name("\"xyz\"", name));
    char commit[HUB_COMMIT_HEX + 1];
    assert_true(hub_read_commit(HEX40, commit));
    assert_false(hub_read_commit(HEX64, commit));
    assert_false(hub_read_commit("main", commit));
}

/* ---- states ---- */

static size_t write_state(const struct part_state *part, unsigned char *bytes)
{
    part_state_head(part, bytes);
    size_t n = PART_HEAD_BYTES;
    for (size_t i = 0; i < part->n_pieces; i++) {
        unsigned char record[PART_RECORD_BYTES];
        int64_t at = part_state_record(part, i, record);
        assert_int_equal(at, n);
        memcpy(bytes + at, record, sizeof record);
        n += PART_RECORD_BYTES;
    }
    return n;
}

static void test_states(void **state)
{
    (void)state;
    static const int64_t sizes[] = { 0,       1,       (1 << 20) - 1,     1 << 20,         (1 << 20) + 1,
                                     5300000, 1 << 30, INT64_C(40) << 30, INT64_C(1) << 40 };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        CLEANUP(part_state_done) struct part_state part;
        struct part_content content = { .size_bytes = sizes[i], .name = HEX64 };
        if (!part_state_init(&part, &content, "boot"))
            return; /* torture */
        int64_t sum_bytes = 0;
        for (size_t k = 0; k < part.n_pieces; k++)
            sum_bytes += part_piece_length(&part, k);
        assert_int_equal(sum_bytes, sizes[i]);
        assert_true(part.n_pieces <= PART_PIECES_MAX && part.piece_bytes >= PART_PIECE_MIN_BYTES);
        assert_int_equal(part_state_frontier(&part), 0);
        assert_int_equal(part_state_done_bytes(&part), 0);
    }
}

static void test_a_state_comes_back(void **state)
{
    (void)state;
    CLEANUP(part_state_done) struct part_state part;
    CLEANUP(part_state_done) struct part_state back = { 0 };
    struct part_content content = { .size_bytes = (3 << 20) + 5, .name = HEX40 };
    unsigned char bytes[PART_HEAD_BYTES + 4 * PART_RECORD_BYTES];
    if (!part_state_init(&part, &content, "boot"))
        return;
    assert_int_equal(part.n_pieces, 4);
    part.pieces[0] = (struct part_piece){ .done_bytes = 1 << 20, .is_summed = true, .sum = { 1, 2, 3 } };
    part.pieces[2].done_bytes = 77;
    part.pieces[3] = (struct part_piece){ .done_bytes = 5, .is_summed = true };
    size_t n = write_state(&part, bytes);
    assert_int_equal(n, sizeof bytes);
    if (!part_state_read(&back, &content, bytes, n))
        return; /* torture */
    assert_string_equal(back.boot_id, "boot");
    assert_int_equal(part_state_done_bytes(&back), (1 << 20) + 77 + 5);
    assert_int_equal(part_state_frontier(&back), 1 << 20);
    assert_memory_equal(back.pieces[0].sum, part.pieces[0].sum, SHA256_BYTES);

    /* Another content, and every way of being damaged that can be told. */
    struct part_state none;
    struct part_content other = content;
    other.size_bytes++;
    assert_false(part_state_read(&none, &other, bytes, n));
    other = content;
    other.name[0] = 'f';
    assert_false(part_state_read(&none, &other, bytes, n));
    for (size_t cut = 0; cut < n; cut += 13)
        assert_false(part_state_read(&none, &content, bytes, cut));
    bytes[0] ^= 1;
    assert_false(part_state_read(&none, &content, bytes, n));
    bytes[0] ^= 1;
    part.pieces[1].done_bytes = (1 << 20) + 1;
    n = write_state(&part, bytes);
    assert_false(part_state_read(&none, &content, bytes, n));
    part.pieces[1] = (struct part_piece){ .done_bytes = 5, .is_summed = true };
    n = write_state(&part, bytes);
    assert_false(part_state_read(&none, &content, bytes, n));
}

/* ---- files ---- */

struct choice {
    const char *files[12];
    enum pool_code code;
    const char *chosen[8];
};

static const struct choice choices[] = {
    { { "README.md", "m.gguf" }, POOL_OK, { "m.gguf" } },
    { { "m.gguf", "mmproj-m.gguf", "imatrix.gguf", "m.imatrix.gguf" }, POOL_OK, { "m.gguf" } },
    { { "q/m-00001-of-00003.gguf", "q/m-00002-of-00003.gguf", "q/m-00003-of-00003.gguf" },
      POOL_OK,
      { "q/m-00001-of-00003.gguf", "q/m-00002-of-00003.gguf", "q/m-00003-of-00003.gguf" } },
    { { "a.gguf", "b.gguf" }, POOL_INVALID_REQUEST, { NULL } },
    { { "README.md" }, POOL_MODEL_INCOMPATIBLE, { NULL } },
    { { "model.safetensors" }, POOL_MODEL_INCOMPATIBLE, { NULL } },
    { { "model.safetensors", "config.json", "pytorch_model.bin", "onnx/x.json", ".gitattributes",
        "tokenizer.model" },
      POOL_OK,
      { "model.safetensors", "config.json", "tokenizer.model" } },
    { { "consolidated.safetensors", "model-1.safetensors", "config.json" },
      POOL_OK,
      { "model-1.safetensors", "config.json" } },
    { { "consolidated.safetensors", "config.json" }, POOL_OK, { "consolidated.safetensors", "config.json" } },
};

static void test_choice(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        CLEANUP(string_list_done) struct string_list all = { 0 };
        CLEANUP(string_list_done) struct string_list chosen = { 0 };
        bool is_directory;
        for (size_t k = 0; choices[i].files[k]; k++)
            string_list_add(&all, choices[i].files[k]);
        enum pool_code code = choose_files(&all, &chosen, &is_directory, NULL);
        if (code == POOL_INSUFFICIENT_MEMORY || all.has_failed)
            continue;
        if (code != choices[i].code)
            fail_msg("case %zu: %s", i, pool_code_name(code));
        for (size_t k = 0; code == POOL_OK && (k < chosen.n || choices[i].chosen[k]); k++)
            assert_string_equal(k < chosen.n ? chosen.at[k] : "",
                                choices[i].chosen[k] ? choices[i].chosen[k] : "");
    }
    CLEANUP(string_list_done) struct string_list files = { 0 };
    assert_int_not_equal(add_split_files("m-00002-of-00003.gguf", &files, NULL), POOL_OK);
    assert_int_not_equal(add_split_files("m-00001-of-02000.gguf", &files, NULL), POOL_OK);
}

/* ---- settings ---- */

static void test_settings(void **state)
{
    (void)state;
    static const struct {
        const char *environment[4];
        enum pool_code code;
        const char *endpoint, *token;
        bool is_offline;
        int64_t timeout_s;
    } cases[] = {
        { { "HF_TOKEN_PATH=/nonexistent" }, POOL_OK, "https://huggingface.co", NULL, false, 10 },
        { { "HF_ENDPOINT=http://h:1/x//", "HF_TOKEN= hf_a \n" }, POOL_OK, "http://h:1/x", "hf_a", false, 10 },
        { { "HF_ENDPOINT=", "HF_TOKEN=", "HF_HOME=/nonexistent" },
          POOL_OK,
          "https://huggingface.co",
          NULL,
          false,
          10 },
        { { "HF_HUB_OFFLINE=yes", "HF_TOKEN=t" }, POOL_OK, "https://huggingface.co", "t", true, 10 },
        { { "TRANSFORMERS_OFFLINE=1", "HF_TOKEN=t" }, POOL_OK, "https://huggingface.co", "t", true, 10 },
        { { "HF_HUB_OFFLINE=0", "HF_TOKEN=t", "HF_HUB_DOWNLOAD_TIMEOUT=3" },
          POOL_OK,
          "https://huggingface.co",
          "t",
          false,
          3 },
        { { "HF_HUB_DOWNLOAD_TIMEOUT=0" }, POOL_INVALID_REQUEST, NULL, NULL, false, 0 },
        { { "HF_ENDPOINT=ftp://x" }, POOL_INVALID_REQUEST, NULL, NULL, false, 0 },
        { { "HF_ENDPOINT=https://user@x" }, POOL_INVALID_REQUEST, NULL, NULL, false, 0 },
        { { "HF_ENDPOINT=https://x?y" }, POOL_INVALID_REQUEST, NULL, NULL, false, 0 },
        { { "HF_TOKEN=a\r\nX: y" }, POOL_INVALID_REQUEST, NULL, NULL, false, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CLEANUP(hub_settings_done) struct hub_settings settings = { 0 };
        enum pool_code code = hub_settings_read(cases[i].environment, &settings, NULL);
        if (code == POOL_INSUFFICIENT_MEMORY)
            continue;
        if (code != cases[i].code)
            fail_msg("case %zu: %s", i, pool_code_name(code));
        if (code != POOL_OK)
            continue;
        assert_string_equal(settings.endpoint, cases[i].endpoint);
        assert_string_equal(settings.token ? settings.token : "", cases[i].token ? cases[i].token : "");
        assert_true(settings.is_offline == cases[i].is_offline && settings.timeout_s == cases[i].timeout_s);
    }
}

/* ---- the bar ---- */

static void test_bar(void **state)
{
    (void)state;
    struct cli cli = { .out = stdout, .err = stderr };
    static const char *const subjects[] = { "m.gguf",
                                            "a-very-long-name-of-a-model-that-does-not-fit-anywhere-q4.gguf",
                                            "\033[31mred", "" };
    for (int utf8 = 0; utf8 < 2; utf8++) {
        cli.terminal.is_utf8 = utf8;
        for (int columns = 20; columns <= 200; columns += 7) {
            for (size_t i = 0; i < sizeof subjects / sizeof subjects[0]; i++) {
                struct strbuf text = STRBUF_INIT(4096);
                struct meter meter = { .cli = &cli,
                                       .subject = subjects[i],
                                       .activity = "download",
                                       .done_bytes = 1 << 20,
                                       .total_bytes = 3 << 20,
                                       .n_samples = 2,
                                       .samples = { { .at_ns = 0 },
                                                    { .at_ns = NS_PER_SEC, .bytes = 1 << 20 } } };
                meter_draw(&meter, columns, &text);
                if (text.failure == STRBUF_NO_MEMORY) {
                    strbuf_done(&text);
                    continue;
                }
                assert_null(strchr(strbuf_text(&text), '\033'));
                if (columns >= 60) {
                    assert_true(terminal_width(&cli.terminal, strbuf_text(&text)) < (size_t)columns);
                    assert_non_null(
                        strstr(strbuf_text(&text), "33 %  1.0 MiB of 3.0 MiB  1.0 MiB/s  2 s left"));
                }
                strbuf_done(&text);
            }
        }
    }
}

static void test_rate(void **state)
{
    (void)state;
    struct meter meter = { .n_samples = 1 };
    assert_int_equal(meter_rate(&meter), -1);
    meter.n_samples = METER_SAMPLES + 5; /* the ring has turned: the oldest is the one that comes next */
    for (size_t i = 0; i < METER_SAMPLES + 5; i++)
        meter.samples[i % METER_SAMPLES] =
            (struct meter_sample){ .at_ns = (int64_t)i * NS_PER_SEC, .bytes = (int64_t)i * 1000 };
    assert_int_equal(meter_rate(&meter), 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_content_ranges),
        cmocka_unit_test(test_content_names),
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_a_state_comes_back),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_bar),
        cmocka_unit_test(test_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
