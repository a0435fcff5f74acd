/*
 * Headers of models as files on disk: what is no regular file, large files, limits, shards that belong together or do
 * not, names made fit to be shown, and the models that the real engine is tested with.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pool/catalog.h>
#include <cmocka.h>

#include "core/catalog/header.h"
#include "gguf_writer.h"

static char directory[] = "/tmp/test_gguf.XXXXXX";

static int make_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
    (void)state;
    return rmdir(directory);
}

static char *path_of(const char *name)
{
    static char paths[8][128];
    static size_t next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

#define assert_reading(reading, expected)              \
    do {                                               \
        assert_true((reading).is_present);             \
        assert_int_equal((reading).value, (expected)); \
    } while (0)

/* Writes the file and reads it back. */
static struct pool_model_header *read_saved(const struct gguf_writer *w)
{
    char *path = path_of("model.gguf");
    gguf_writer_save(w, path);
    struct pool_model_header *header = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    if (pool_model_header_read(path, &header, &err) != POOL_OK)
        fail_msg("%s", err.message);
    unlink(path);
    return header;
}

static void expect_path(const char *path, enum pool_code expected)
{
    struct pool_model_header *header = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    enum pool_code code = pool_model_header_read(path, &header, &err);
    if (code != expected)
        fail_msg("%s: expected %s, got %s: %s", path, pool_code_name(expected), pool_code_name(code),
                 err.message);
    if (code == POOL_OK) {
        assert_int_equal(header->format, POOL_MODEL_FORMAT_UNKNOWN);
        assert_string_equal(pool_model_format_name(header->format), "unknown");
    } else {
        assert_string_equal(pool_error_detail(&err, "path")->text, path);
    }
    pool_model_header_free(header);
}

static void refuses_what_is_no_regular_file(void **state)
{
    (void)state;
    char *fifo = path_of("fifo"), *empty = path_of("empty"), *text = path_of("text"),
         *name = path_of("socket");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    expect_path(fifo, POOL_MODEL_INCOMPATIBLE); /* must not wait for a writer */
    unlink(fifo);
    expect_path(directory, POOL_MODEL_INCOMPATIBLE);
    expect_path("/dev/zero", POOL_MODEL_INCOMPATIBLE);
    expect_path(path_of("missing"), POOL_MODEL_NOT_FOUND);
    expect_path(path_of("missing/below"), POOL_MODEL_NOT_FOUND);

    int fd = open(empty, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    expect_path(empty, POOL_OK);
    /* Root may read anything, so as somebody else. */
    assert_int_equal(chmod(empty, 0), 0);
    uid_t me = geteuid();
    if (me == 0)
        assert_int_equal(seteuid(65534), 0);
    expect_path(empty, POOL_PERMISSION_DENIED);
    assert_int_equal(seteuid(me), 0);
    unlink(empty);

    FILE *file = fopen(text, "we");
    assert_non_null(file);
    fputs("not a model at all, just a few words\n", file);
    fclose(file);
    expect_path(text, POOL_OK);
    unlink(text);

    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof address.sun_path, "%s", name);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    expect_path(name, POOL_MODEL_INCOMPATIBLE);
    close(fd);
    unlink(name);
}

/* A header whose keys are wider than the reader's window, and a file of many gigabytes, most of it a hole. */
static void reads_large_files(void **state)
{
    (void)state;
    struct gguf_writer w;
    gguf_writer_init(&w);
    gguf_writer_tokens(&w, "tokenizer.ggml.tokens", 50000);
    gguf_writer_string(&w, "general.architecture", "llama");
    gguf_writer_u32(&w, "llama.block_count", 1);
    gguf_writer_tensor(&w, "blk.0.attn_k.weight", 1 << 16, 1 << 16, 0, UINT64_C(4) << 32);
    gguf_writer_finish(&w);
    struct pool_model_header *header = read_saved(&w);
    assert_reading(header->vocabulary_size, 50000);
    assert_string_equal(header->architecture, "llama");
    assert_int_equal(header->tensor_bytes, INT64_C(4) << 32);
    pool_model_header_free(header);
    gguf_writer_done(&w);
}

static void stops_at_the_limit_for_headers(void **state)
{
    (void)state;
    struct gguf_writer w;
    gguf_writer_init(&w);
    gguf_writer_key(&w, "a.b", W_STRING);
    gguf_writer_integer(&w, UINT64_C(300) << 20, 8);
    w.data_bytes = UINT64_C(1) << 30;
    memcpy(w.data, "GGUF\x03", 5);
    gguf_writer_patch(&w, 16, 1, 8);
    char *path = path_of("limit.gguf");
    gguf_writer_save(&w, path);
    expect_path(path, POOL_MODEL_INCOMPATIBLE);
    unlink(path);
    gguf_writer_done(&w);
}

/* ---- shards ---- */

struct shard {
    int no, count, total;
    const char *architecture;
    int n_tensors;
};

static void write_shard(const char *path, const struct shard *shard, int first_layer)
{
    struct gguf_writer w;
    gguf_writer_init(&w);
    if (shard->architecture) {
        gguf_writer_string(&w, "general.architecture", shard->architecture);
        gguf_writer_u32(&w, "llama.block_count", 4);
    }
    gguf_writer_number(&w, "split.no", W_U16, (uint64_t)shard->no);
    gguf_writer_number(&w, "split.count", W_U16, (uint64_t)shard->count);
    gguf_writer_number(&w, "split.tensors.count", W_I32, (uint64_t)shard->total);
    for (int i = 0; i < shard->n_tensors; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.attn_k.weight", first_layer + i);
        /* Of the two shards, the second has most of the bytes, in another type. */
        if (first_layer == 0)
            gguf_writer_tensor(&w, name, 256, 0, 0, 1024);
        else
            gguf_writer_tensor(&w, name, 256, 64, 12, 64 * 144);
    }
    gguf_writer_finish(&w);
    gguf_writer_save(&w, path);
    gguf_writer_done(&w);
}

static void puts_shards_together(void **state)
{
    (void)state;
    const char *paths[] = { path_of("1.gguf"), path_of("2.gguf") };
    write_shard(paths[0], &(struct shard){ 0, 2, 4, "llama", 2 }, 0);
    write_shard(paths[1], &(struct shard){ 1, 2, 4, NULL, 2 }, 2);
    struct pool_model_header *header = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(pool_model_header_read_all(paths, 2, &header, &err), POOL_OK);
    assert_int_equal(header->n_tensors, 4);
    assert_int_equal(header->shard_count, 2);
    assert_int_equal(header->tensor_bytes, 2 * 1024 + 2 * 64 * 144);
    assert_string_equal(header->quantization, "Q4_K");
    assert_int_equal(header->n_layers, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_true(header->layers[i].has_attention);
        assert_int_equal(header->layers[i].weight_bytes, i < 2 ? 1024 : 64 * 144);
    }
    pool_model_header_free(header);

    static const struct {
        size_t n_paths;
        struct shard first, second;
    } bad[] = {
        { 1, { 0, 2, 4, "llama", 2 }, { 1, 2, 4, NULL, 2 } },    /* one is missing */
        { 2, { 0, 2, 4, "llama", 2 }, { 0, 2, 4, NULL, 2 } },    /* the same twice */
        { 2, { 1, 2, 4, "llama", 2 }, { 0, 2, 4, NULL, 2 } },    /* in the wrong order */
        { 2, { 0, 2, 4, "llama", 2 }, { 1, 3, 4, NULL, 2 } },    /* of another count */
        { 2, { 0, 2, 4, "llama", 2 }, { 1, 2, 5, NULL, 2 } },    /* of another model */
        { 2, { 0, 2, 4, "llama", 2 }, { 1, 2, 4, "gemma", 2 } }, /* of another architecture */
        { 2, { 0, 2, 5, "llama", 2 }, { 1, 2, 5, NULL, 2 } },    /* a tensor is missing */
        { 2, { 0, 1, 4, "llama", 2 }, { 0, 1, 4, NULL, 2 } },    /* not split at all */
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_shard(paths[0], &bad[i].first, 0);
        write_shard(paths[1], &bad[i].second, 2);
        header = NULL;
        assert_int_equal(pool_model_header_read_all(paths, bad[i].n_paths, &header, &err),
                         POOL_MODEL_CORRUPT);
        assert_non_null(pool_error_detail(&err, "path"));
        assert_null(header);
    }
    write_shard(paths[0], &(struct shard){ 5, 2, 4, "llama", 2 }, 0);
    assert_int_equal(pool_model_header_read(paths[0], &header, &err), POOL_MODEL_CORRUPT);
    write_shard(paths[0], &(struct shard){ 0, 1, 4, "llama", 4 }, 0);
    FILE *file = fopen(paths[1], "we");
    assert_non_null(file);
    fputs("no model", file);
    fclose(file);
    assert_int_equal(pool_model_header_read_all(paths, 2, &header, &err), POOL_MODEL_CORRUPT);
    assert_int_equal(pool_model_header_read_all(paths, 0, &header, &err), POOL_INVALID_REQUEST);
    unlink(paths[0]);
    unlink(paths[1]);
}

static void cleans_names(void **state)
{
    (void)state;
    static const struct {
        const char *raw;
        const char *clean;
    } cases[] = {
        { "Mod\xc3\xa8le \xf0\x9f\xa6\x99", "Mod\xc3\xa8le \xf0\x9f\xa6\x99" },
        { "a\x1b[31mb\nc\x7f", "a?[31mb?c?" },
        { "\xc3(\xff\xed\xa0\x80", "?(????" }, /* cut character, no byte of UTF-8, surrogate */
        { "\xc2\x9b"
          "31m\xe2\x80\xae"
          "x\xef\xbb\xbf",
          "?31m?x?" }, /* C1, right-to-left override, byte order mark */
        { "", "" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gguf_writer w;
        gguf_writer_init(&w);
        gguf_writer_string(&w, "general.name", cases[i].raw);
        gguf_writer_finish(&w);
        struct pool_model_header *header = read_saved(&w);
        assert_string_equal(header->name, cases[i].clean);
        pool_model_header_free(header);
        gguf_writer_done(&w);
    }
    /* Cut between characters, whatever the length. */
    char text[8];
    header_copy_printable("\xc3\xa8\xc3\xa8\xc3\xa8\xc3\xa8", 8, text, sizeof text);
    assert_string_equal(text, "\xc3\xa8\xc3\xa8\xc3\xa8");
    header_copy_printable("abcdefgh", 8, text, 1);
    assert_string_equal(text, "");
}

/* The generator of the models that the real engine is tested with, when it is there to be run. */
static void reads_a_made_model(void **state)
{
    (void)state;
    const char *source = getenv("POOL_SOURCE_DIR");
    if (!source) {
        print_message("skipped: POOL_SOURCE_DIR is not set\n");
        skip();
    }
    char *path = path_of("tiny.gguf"), program[1024];
    snprintf(program, sizeof program, "%s/tests/support/make-tiny-gguf", source);
    char *arguments[] = { program, path, NULL };
    pid_t pid;
    int status;
    assert_int_equal(posix_spawn(&pid, program, NULL, NULL, arguments, environ), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    struct pool_model_header *header = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(pool_model_header_read(path, &header, &err), POOL_OK);
    assert_string_equal(header->architecture, "llama");
    assert_string_equal(header->quantization, "F16");
    assert_true(header->has_chat_template);
    assert_int_equal(header->n_layers, header->block_count.value);
    int64_t layers = 0;
    for (size_t i = 0; i < header->n_layers; i++)
        layers += header->layers[i].weight_bytes;
    assert_int_equal(header->tensor_bytes, header->token_embedding_bytes + layers + header->output_bytes);
    /* All of the file is header, tensors and padding. */
    assert_in_range(header->file_size_bytes - header->data_offset_bytes - header->tensor_bytes, 0,
                    32 * header->n_tensors);
    pool_model_header_free(header);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cleans_names),         cmocka_unit_test(refuses_what_is_no_regular_file),
        cmocka_unit_test(reads_large_files),    cmocka_unit_test(stops_at_the_limit_for_headers),
        cmocka_unit_test(puts_shards_together), cmocka_unit_test(reads_a_made_model),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
