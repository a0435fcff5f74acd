/* Catalogs that are changed while a manager has them: a change is seen, and a fault in it costs nothing. */
#include "scratch_tree.h"

#include <time.h>

#include "core/lifecycle/catalogs.h"

struct fixture {
    struct scratch_tree tree;
    char *paths[2];
    struct pool_config config;
    struct catalogs catalogs;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    scratch_tree_make(&f->tree);
    for (int i = 0; i < 2; i++)
        assert_true(asprintf(&f->paths[i], "%s/%d.toml", f->tree.root, i) > 0);
    f->config.catalogs = f->paths;
    f->config.n_catalogs = 2;
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    catalogs_done(&f->catalogs);
    scratch_tree_remove(&f->tree);
    free(f->paths[0]);
    free(f->paths[1]);
    free(f);
    return 0;
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

#define ENTRY(id) "[[models]]\nid = \"" id "\"\nfile = \"/models/" id ".gguf\"\n"

static bool has(struct fixture *f, const char *id)
{
    struct pool_error err = POOL_ERROR_INIT;
    const struct pool_model_metadata *model;
    enum pool_code code = catalogs_read(&f->catalogs, &f->config, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(code, POOL_OK);
    code = pool_model_catalog_get(f->catalogs.in_force, id, &model, NULL);
    assert_true(code == POOL_OK || code == POOL_MODEL_NOT_FOUND);
    return code == POOL_OK;
}

static void test_changes_are_seen(void **state)
{
    struct fixture *f = *state;
    write_text(f->paths[0], ENTRY("a"));
    write_text(f->paths[1], "");
    assert_true(has(f, "a"));
    assert_false(has(f, "b"));
    write_text(f->paths[1], ENTRY("b")); /* at once: within a tick of the file system's clock */
    assert_true(has(f, "b"));
    write_text(f->paths[1], ENTRY("c")); /* as long as the one before */
    assert_true(has(f, "c"));
    assert_false(has(f, "b"));
    assert_int_equal(unlink(f->paths[0]), 0);
    assert_int_equal(rename(f->paths[1], f->paths[0]), 0);
    write_text(f->paths[1], "");
    assert_false(has(f, "a"));
    assert_true(has(f, "c"));
    assert_string_equal(f->catalogs.fault, "");
}

static void test_what_is_unchanged_is_not_read(void **state)
{
    struct fixture *f = *state;
    write_text(f->paths[0], ENTRY("a"));
    write_text(f->paths[1], ENTRY("b"));
    const struct timespec past[2] = { { .tv_sec = 1000000000 }, { .tv_sec = 1000000000 } };
    const struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 }; /* more than a tick: proof.c */
    for (int i = 0; i < 2; i++)
        assert_int_equal(utimensat(AT_FDCWD, f->paths[i], past, 0), 0);
    nanosleep(&pause, NULL);
    const struct pool_model_catalog *first;
    /* a file system that counts whole seconds is trusted later */
    do {
        assert_true(has(f, "a"));
        first = f->catalogs.in_force;
        nanosleep(&pause, NULL);
    } while (f->catalogs.seen[0].st_size < 0 || f->catalogs.seen[1].st_size < 0);
    assert_true(has(f, "b"));
    assert_ptr_equal(f->catalogs.in_force, first);
    assert_int_equal(chmod(f->paths[0], 0600), 0); /* another ctime */
    assert_true(has(f, "b"));
    assert_true(f->catalogs.seen[0].st_ctim.tv_sec > 0);
}

static void test_a_fault_leaves_what_was_before(void **state)
{
    struct fixture *f = *state;
    write_text(f->paths[0], ENTRY("a"));
    write_text(f->paths[1], ENTRY("b"));
    assert_true(has(f, "b"));
    write_text(f->paths[1], ENTRY("b") "[[models]]\nid = ");
    assert_true(has(f, "a"));
    assert_true(has(f, "b"));
    assert_non_null(strstr(f->catalogs.fault, "1.toml:5:"));
    write_text(f->paths[1], ENTRY("a")); /* defined in the other one */
    assert_true(has(f, "b"));
    assert_non_null(strstr(f->catalogs.fault, "1.toml:"));
    assert_int_equal(unlink(f->paths[1]), 0);
    assert_true(has(f, "b"));
    assert_non_null(strstr(f->catalogs.fault, "1.toml"));
    write_text(f->paths[1], ENTRY("c"));
    assert_false(has(f, "b"));
    assert_true(has(f, "c"));
    assert_string_equal(f->catalogs.fault, "");
}

static void test_a_fault_at_the_first_look(void **state)
{
    struct fixture *f = *state;
    struct pool_error err = POOL_ERROR_INIT;
    write_text(f->paths[0], "= 1");
    write_text(f->paths[1], "");
    assert_int_equal(catalogs_read(&f->catalogs, &f->config, &err), POOL_INVALID_CONFIG);
    assert_null(f->catalogs.in_force);
    write_text(f->paths[0], ENTRY("a"));
    assert_true(has(f, "a"));
}

static void test_a_share_outlives_a_change(void **state)
{
    struct fixture *f = *state;
    const struct pool_model_metadata *model;
    write_text(f->paths[0], ENTRY("a"));
    write_text(f->paths[1], "");
    assert_true(has(f, "a"));
    struct pool_model_catalog *share = pool_model_catalog_share(f->catalogs.in_force);
    write_text(f->paths[0], ENTRY("b"));
    assert_true(has(f, "b"));
    assert_int_equal(pool_model_catalog_get(share, "a", &model, NULL), POOL_OK);
    assert_string_equal(model->id, "a");
    pool_model_catalog_close(share);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_changes_are_seen, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_unchanged_is_not_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_fault_leaves_what_was_before, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_fault_at_the_first_look, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_share_outlives_a_change, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
