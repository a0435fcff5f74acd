/*
 * Remembered headers: a file that stays the same is read once, by this program and by the next; a file that changed, a
 * damaged or foreign memory, and a file too young to be trusted are read again.
 */
#include "scratch_tree.h"

#include <pool/catalog.h>
#include <time.h>

#include "base/cleanup.h"
#include "core/catalog/header_cache.h"
#include "core/catalog/header_facts.h"
#include "core/catalog/proof.h"
#include "gguf_writer.h"

struct fixture {
    struct scratch_tree tree;
    char model[PATH_MAX];
    char folder[PATH_MAX];
    struct header_cache *cache;
};

static void write_model(const char *path, uint32_t n_context, int layers)
{
    struct gguf_writer w;
    gguf_writer_init(&w);
    gguf_writer_string(&w, "general.architecture", "llama");
    gguf_writer_string(&w, "general.name", "remembered");
    gguf_writer_u32(&w, "llama.block_count", (uint32_t)layers);
    gguf_writer_u32(&w, "llama.context_length", n_context);
    gguf_writer_u32(&w, "llama.embedding_length", 64);
    gguf_writer_u32(&w, "llama.attention.head_count", 4);
    gguf_writer_u32(&w, "llama.attention.head_count_kv", 2);
    gguf_writer_tensor(&w, "token_embd.weight", 64, 0, 0, 256);
    for (int i = 0; i < layers; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.attn_k.weight", i);
        gguf_writer_tensor(&w, name, 64, 0, 0, 256);
    }
    gguf_writer_finish(&w);
    gguf_writer_add_data(&w);
    gguf_writer_save(&w, path);
    gguf_writer_done(&w);
}

/* Until the file's clock has moved on, so that it is remembered. */
static void wait_until_settled(const char *path)
{
    for (;;) {
        struct stat st;
        struct timespec now, pause = { 0, 5 * 1000 * 1000 };
        assert_int_equal(stat(path, &st), 0);
        clock_gettime(CLOCK_REALTIME, &now);
        if (proof_is_settled(&st, &now))
            return;
        nanosleep(&pause, NULL);
    }
}

static void open_cache(struct fixture *f)
{
    header_cache_close(f->cache);
    f->cache = NULL;
    assert_int_equal(header_cache_open(f->folder, &f->cache, NULL), POOL_OK);
}

static const struct pool_model_header *read_model(struct fixture *f)
{
    const char *paths[] = { f->model };
    const struct pool_model_header *header = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    if (header_cache_read(f->cache, paths, 1, &header, &err) != POOL_OK)
        fail_msg("%s", err.message);
    assert_non_null(header);
    return header;
}

static char *memory_path(struct fixture *f)
{
    static char path[PATH_MAX];
    struct stat st;
    assert_int_equal(stat(f->model, &st), 0);
    snprintf(path, sizeof path, "%.3000s/%jx-%jx.header", f->folder, (uintmax_t)st.st_dev,
             (uintmax_t)st.st_ino);
    return path;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    scratch_tree_make(&f->tree);
    SCRATCH_PATH(&f->tree, "proofs", f->folder);
    SCRATCH_PATH(&f->tree, "model.gguf", f->model);
    write_model(f->model, 512, 3);
    wait_until_settled(f->model);
    open_cache(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    header_cache_close(f->cache);
    scratch_tree_remove(&f->tree);
    free(f);
    return 0;
}

static void test_second_read_is_the_same_object(void **state)
{
    struct fixture *f = *state;
    const struct pool_model_header *first = read_model(f);
    assert_int_equal(first->context_length.value, 512);
    assert_ptr_equal(read_model(f), first);
}

static void test_next_program_reads_what_was_remembered(void **state)
{
    struct fixture *f = *state;
    read_model(f);
    assert_int_equal(access(memory_path(f), R_OK), 0);
    open_cache(f);
    const struct pool_model_header *header = read_model(f);
    assert_string_equal(header->architecture, "llama");
    assert_string_equal(header->name, "remembered");
    assert_null(header->type);
    assert_int_equal(header->n_layers, 3);
    assert_int_equal(header->layers[2].head_count_kv, 2);
    assert_true(header->layers[2].has_attention);
    assert_int_equal(header->layers[2].weight_bytes, 256);
    assert_int_equal(header->tensor_bytes, 4 * 256);
    assert_false(header->kv_lora_rank.is_present);
}

static void test_changed_file_is_read_again(void **state)
{
    struct fixture *f = *state;
    read_model(f);
    write_model(f->model, 1024, 2);
    assert_int_equal(read_model(f)->context_length.value, 1024); /* too young to be remembered */
    wait_until_settled(f->model);
    assert_int_equal(read_model(f)->n_layers, 2);
    open_cache(f);
    assert_int_equal(read_model(f)->context_length.value, 1024);
}

static void test_young_file_is_not_remembered(void **state)
{
    struct fixture *f = *state;
    scratch_tree_write_text(&f->tree, "other", "x");
    struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_NOW } };
    struct stat st;
    struct timespec now;
    do { /* its ctime is now; a machine that was away for 50 ms tries again */
        assert_int_equal(utimensat(AT_FDCWD, f->model, times, 0), 0);
        unlink(memory_path(f));
        read_model(f);
        assert_int_equal(stat(f->model, &st), 0);
        clock_gettime(CLOCK_REALTIME, &now);
    } while (proof_is_settled(&st, &now));
    assert_int_not_equal(access(memory_path(f), F_OK), 0);
}

/* Every byte that is cut off or turned makes the memory worthless, and the file is read instead. */
static void test_damaged_memory_is_not_believed(void **state)
{
    struct fixture *f = *state;
    read_model(f);
    struct stat st;
    assert_int_equal(stat(f->model, &st), 0);
    struct file_identity identity = file_identity_of(&st);
    CLEANUP(strbuf_done) struct strbuf bytes = STRBUF_INIT(HEADER_FACTS_MAX_BYTES);
    assert_true(header_facts_encode(&identity, 1, read_model(f), &bytes));
    struct pool_model_header *header = header_facts_decode(strbuf_text(&bytes), bytes.n, &identity, 1);
    assert_non_null(header);
    pool_model_header_free(header);
    char *data = malloc(bytes.n);
    assert_non_null(data);
    for (size_t i = 0; i < bytes.n; i++) {
        memcpy(data, strbuf_text(&bytes), bytes.n);
        assert_null(header_facts_decode(data, i, &identity, 1));
        data[i] = (char)(data[i] ^ 0x20);
        assert_null(header_facts_decode(data, bytes.n, &identity, 1));
    }
    scratch_tree_write(&f->tree, "proofs/damaged", data, bytes.n);
    assert_int_equal(rename(strcat(strcpy(data, f->folder), "/damaged"), memory_path(f)), 0);
    free(data);
    identity.ctime_ns++;
    assert_null(header_facts_decode(strbuf_text(&bytes), bytes.n, &identity, 1));
    open_cache(f);
    assert_int_equal(read_model(f)->context_length.value, 512);
}

static void test_memory_that_others_can_write_is_not_believed(void **state)
{
    struct fixture *f = *state;
    read_model(f);
    struct stat st;
    assert_int_equal(stat(f->model, &st), 0);
    struct file_identity identity = file_identity_of(&st);
    struct pool_model_header lie = { .format = POOL_MODEL_FORMAT_GGUF, .context_length = { true, 7 } };
    CLEANUP(strbuf_done) struct strbuf bytes = STRBUF_INIT(HEADER_FACTS_MAX_BYTES);
    assert_true(header_facts_encode(&identity, 1, &lie, &bytes));
    unlink(memory_path(f));
    FILE *file = fopen(memory_path(f), "w");
    assert_non_null(file);
    assert_int_equal(fwrite(strbuf_text(&bytes), bytes.n, 1, file), 1);
    fclose(file);
    assert_int_equal(chmod(memory_path(f), 0600), 0);
    open_cache(f);
    assert_int_equal(read_model(f)->context_length.value,
                     7); /* our own is believed: it is there that it is read */
    assert_int_equal(chmod(memory_path(f), 0666), 0);
    open_cache(f);
    assert_int_equal(read_model(f)->context_length.value, 512);
}

static void test_more_models_than_entries(void **state)
{
    struct fixture *f = *state;
    char last[PATH_MAX] = "";
    for (int i = 0; i < 2 * HEADER_CACHE_ENTRIES_MAX; i++) {
        char name[32];
        snprintf(name, sizeof name, "many-%d.gguf", i);
        scratch_tree_path(&f->tree, name, last, sizeof last);
        write_model(last, (uint32_t)i + 1, 1);
    }
    wait_until_settled(last);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 2 * HEADER_CACHE_ENTRIES_MAX; i++) {
            char name[32];
            snprintf(name, sizeof name, "many-%d.gguf", i);
            scratch_tree_path(&f->tree, name, f->model, sizeof f->model);
            assert_int_equal(read_model(f)->context_length.value, i + 1);
        }
    }
}

static void test_failures_are_those_of_the_reader(void **state)
{
    struct fixture *f = *state;
    const char *paths[] = { "/nonexistent/model.gguf" };
    const struct pool_model_header *header = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(header_cache_read(f->cache, paths, 1, &header, &err), POOL_MODEL_NOT_FOUND);
    assert_int_equal(header_cache_read(f->cache, paths, 0, &header, &err), POOL_INVALID_REQUEST);
    assert_null(header);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_second_read_is_the_same_object, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_next_program_reads_what_was_remembered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_changed_file_is_read_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_young_file_is_not_remembered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged_memory_is_not_believed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_memory_that_others_can_write_is_not_believed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_more_models_than_entries, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failures_are_those_of_the_reader, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
