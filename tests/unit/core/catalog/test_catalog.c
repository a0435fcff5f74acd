/*
 * Catalogs as TOML: what an entry becomes, every problem with its place, several files merged, limits.
 */
#include "scratch_tree.h"

#include <errno.h>
#include <pool/catalog.h>

#define SUM_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SUM_B "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

struct fixture {
    struct scratch_tree tree;
    struct pool_model_catalog *catalog;
    struct pool_catalog_problem *problems;
    size_t n_problems;
    struct pool_error err;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    scratch_tree_make(&f->tree);
    *state = f;
    return 0;
}

static void close_all(struct fixture *f)
{
    pool_model_catalog_close(f->catalog);
    pool_catalog_problems_free(f->problems, f->n_problems);
    f->catalog = NULL;
    f->problems = NULL;
    f->n_problems = 0;
    memset(&f->err, 0, sizeof f->err);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    close_all(f);
    scratch_tree_remove(&f->tree);
    free(f);
    return 0;
}

/* Opens up to two texts as a.toml and b.toml. */
static enum pool_code open_texts(struct fixture *f, const char *a, const char *b)
{
    close_all(f);
    char paths[2][PATH_MAX];
    SCRATCH_PATH(&f->tree, "a.toml", paths[0]);
    SCRATCH_PATH(&f->tree, "b.toml", paths[1]);
    scratch_tree_write_text(&f->tree, "a.toml", a);
    if (b)
        scratch_tree_write_text(&f->tree, "b.toml", b);
    const char *list[] = { paths[0], paths[1] };
    return pool_model_catalog_open(list, b ? 2 : 1, &f->catalog, &f->problems, &f->n_problems, &f->err);
}

static void check_fine(struct fixture *f, const char *a, const char *b)
{
    enum pool_code code = open_texts(f, a, b);
    if (code != POOL_OK)
        fail_msg("%s", f->err.message);
}

static void test_every_key(void **state)
{
    struct fixture *f = *state;
    check_fine(f,
               "[[models]]\n"
               "id = \"zeta\"\n"
               "name = \"Zeta, the last\"\n"
               "repo = \"Org/Repo\"\n"
               "file = \"dir/m.gguf\"\n"
               "size = 123\n"
               "sha256 = \"0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef\"\n"
               "revision = \"main\"\n"
               "verified = true\n"
               "backends = [\"cpu\", \"cuda\"]\n"
               "\n"
               "[[models]]\n"
               "id = \"alpha\"\n"
               "file = \"/m/a.gguf\"\n",
               NULL);
    assert_int_equal(f->n_problems, 0);
    assert_int_equal(pool_model_catalog_n_models(f->catalog), 2);
    assert_string_equal(pool_model_catalog_at(f->catalog, 0)->id, "alpha");
    assert_null(pool_model_catalog_at(f->catalog, 2));

    const struct pool_model_metadata *model = NULL;
    assert_int_equal(pool_model_catalog_get(f->catalog, "zeta", &model, &f->err), POOL_OK);
    assert_ptr_equal(model, pool_model_catalog_at(f->catalog, 1));
    assert_string_equal(model->name, "Zeta, the last");
    assert_string_equal(model->repo, "Org/Repo");
    assert_string_equal(model->file, "dir/m.gguf");
    assert_string_equal(model->revision, "main");
    assert_int_equal(model->size_bytes, 123);
    assert_true(model->is_verified);
    assert_int_equal(model->n_files, 1);
    assert_string_equal(model->files[0].file, "dir/m.gguf");
    assert_int_equal(model->files[0].size_bytes, 123);
    assert_string_equal(model->files[0].sha256, SUM_B);
    assert_int_equal(model->n_backends, 2);
    assert_string_equal(model->backends[1], "cuda");
    assert_int_equal(model->line, 1);
    char path[PATH_MAX];
    SCRATCH_PATH(&f->tree, "a.toml", path);
    assert_string_equal(model->catalog_path, path);

    assert_int_equal(pool_model_catalog_get(f->catalog, "alpha", &model, &f->err), POOL_OK);
    assert_null(model->name);
    assert_null(model->repo);
    assert_null(model->revision);
    assert_null(model->files[0].sha256);
    assert_int_equal(model->size_bytes, -1);
    assert_int_equal(model->files[0].size_bytes, -1);
    assert_int_equal(model->n_backends, 0);
    assert_false(model->is_verified);
    assert_int_equal(model->line, 12);
}

static void test_shards(void **state)
{
    struct fixture *f = *state;
    check_fine(f,
               "[[models]]\nid = \"s\"\nrepo = \"o/r\"\n"
               "files = [{ file = \"a-00001-of-00002.gguf\", size = 5, sha256 = \"" SUM_A "\" },\n"
               "         { file = \"a-00002-of-00002.gguf\", size = 7 }]\n"
               "[[models]]\nid = \"t\"\nrepo = \"o/r\"\nsize = 99\n"
               "[[models.files]]\nfile = \"x\"\n[[models.files]]\nfile = \"y\"\nsize = 1\n",
               NULL);
    const struct pool_model_metadata *model = pool_model_catalog_at(f->catalog, 0);
    assert_int_equal(model->n_files, 2);
    assert_string_equal(model->file, "a-00001-of-00002.gguf");
    assert_string_equal(model->files[0].sha256, SUM_A);
    assert_null(model->files[1].sha256);
    assert_int_equal(model->files[1].size_bytes, 7);
    assert_int_equal(model->size_bytes, 12);
    model = pool_model_catalog_at(f->catalog, 1);
    assert_int_equal(model->size_bytes, 99);
    assert_int_equal(model->files[0].size_bytes, -1);
}

static void test_get(void **state)
{
    struct fixture *f = *state;
    check_fine(f, "[[models]]\nid = \"a\"\nfile = \"/a\"\n", NULL);
    const struct pool_model_metadata *model = NULL;
    assert_int_equal(pool_model_catalog_get(f->catalog, "b", &model, &f->err), POOL_MODEL_NOT_FOUND);
    assert_int_equal(pool_model_catalog_get(f->catalog, "A", &model, &f->err), POOL_MODEL_NOT_FOUND);
    assert_int_equal(pool_model_catalog_get(f->catalog, "../a", &model, &f->err), POOL_INVALID_REQUEST);
    assert_int_equal(pool_model_catalog_get(f->catalog, "", &model, &f->err), POOL_INVALID_REQUEST);
    assert_null(model);
}

static void test_copy(void **state)
{
    struct fixture *f = *state;
    check_fine(f,
               "[[models]]\nid = \"s\"\nrepo = \"o/r\"\nbackends = [\"cpu\"]\n"
               "files = [{ file = \"a\", sha256 = \"" SUM_A "\" }, { file = \"b\" }]\n",
               NULL);
    struct pool_model_metadata *copy = pool_model_metadata_copy(pool_model_catalog_at(f->catalog, 0));
    close_all(f);
    assert_non_null(copy);
    assert_string_equal(copy->id, "s");
    assert_string_equal(copy->repo, "o/r");
    assert_string_equal(copy->files[0].sha256, SUM_A);
    assert_string_equal(copy->files[1].file, "b");
    assert_string_equal(copy->backends[0], "cpu");
    assert_null(copy->name);
    pool_model_metadata_free(copy);
    pool_model_metadata_free(NULL);
}

#define ENTRY "[[models]]\nid = \"m\"\n" /* two lines; the next is line 3 */

static void test_semantic_problems(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text;
        uint32_t line, column;
    } cases[] = {
        { "[[models]]\nfile = \"/a\"\n", 1, 1 },
        { "[[models]]\nid = 7\nfile = \"/a\"\n", 2, 6 },
        { "[[models]]\nid = \"\"\nfile = \"/a\"\n", 2, 6 },
        { "[[models]]\nid = \"a b\"\nfile = \"/a\"\n", 2, 6 },
        { "[[models]]\nid = \"-a\"\nfile = \"/a\"\n", 2, 6 },
        { "[[models]]\nid = \"a\\u0000\"\nfile = \"/a\"\n", 2, 6 },
        { ENTRY, 1, 1 },
        { ENTRY "file = 7\n", 3, 8 },
        { ENTRY "file = \"a.gguf\"\n", 3, 8 },
        { ENTRY "file = \"/a/../b\"\n", 3, 8 },
        { ENTRY "file = \"/a\\u0000b\"\n", 3, 8 },
        { ENTRY "repo = \"o/r\"\nfile = \"/a\"\n", 4, 8 },
        { ENTRY "repo = \"o/r\"\nfile = \"../a\"\n", 4, 8 },
        { ENTRY "repo = \"o/r\"\nfile = \"a\\\\b\"\n", 4, 8 },
        { ENTRY "repo = \"o/r\"\n", 1, 1 },
        { ENTRY "repo = \"o\"\nfile = \"a\"\n", 3, 8 },
        { ENTRY "repo = \"o/r/s\"\nfile = \"a\"\n", 3, 8 },
        { ENTRY "repo = \"o/..\"\nfile = \"a\"\n", 3, 8 },
        { ENTRY "repo = false\nfile = \"a\"\n", 3, 8 },
        { ENTRY "file = \"/a\"\nname = \"\"\n", 4, 8 },
        { ENTRY "file = \"/a\"\nname = \"a\\u001b[31m\"\n", 4, 8 },
        { ENTRY "file = \"/a\"\nsize = -1\n", 4, 8 },
        { ENTRY "file = \"/a\"\nsize = 1.5\n", 4, 8 },
        { ENTRY "file = \"/a\"\nsize = \"1\"\n", 4, 8 },
        { ENTRY "file = \"/a\"\nsha256 = \"abc\"\n", 4, 10 },
        { ENTRY "file = \"/a\"\nsha256 = \"g" SUM_A "\"\n", 4, 10 },
        { ENTRY "file = \"/a\"\nsha256 = 1\n", 4, 10 },
        { ENTRY "file = \"/a\"\nrevision = \"main\"\n", 4, 12 },
        { ENTRY "repo = \"o/r\"\nfile = \"a\"\nrevision = \"a..b\"\n", 5, 12 },
        { ENTRY "file = \"/a\"\nverified = \"yes\"\n", 4, 12 },
        { ENTRY "file = \"/a\"\nverified = 1979-05-27\n", 4, 12 },
        { ENTRY "file = \"/a\"\nbackends = \"cpu\"\n", 4, 12 },
        { ENTRY "file = \"/a\"\nbackends = [1]\n", 4, 13 },
        { ENTRY "file = \"/a\"\nbackends = [\"cpu\", \"a b\"]\n", 4, 20 },
        { ENTRY "files = []\n", 3, 9 },
        { ENTRY "files = \"a\"\n", 3, 9 },
        { ENTRY "files = [\"/a\"]\n", 3, 10 },
        { ENTRY "files = [{ size = 1 }]\n", 3, 10 },
        { ENTRY "files = [{ file = \"/a\", sha256 = \"x\" }]\n", 3, 34 },
        { ENTRY "files = [{ file = \"/a\" }, { file = \"/a\" }]\n", 3, 27 },
        { ENTRY "files = [{ file = \"/a\", size = -2 }]\n", 3, 32 },
        { ENTRY "files = [{ file = \"a\" }]\n", 3, 19 },
        { ENTRY "file = \"/a\"\nfiles = [{ file = \"/a\" }]\n", 3, 8 },
        { ENTRY "sha256 = \"" SUM_A "\"\nfiles = [{ file = \"/a\" }]\n", 3, 10 },
        { ENTRY "size = 4\nfiles = [{ file = \"/a\", size = 5 }]\n", 3, 8 },
        { "models = 7\n", 1, 10 },
        { "models = [7]\n", 1, 11 },
        { "[models]\nid = \"a\"\n", 1, 1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum pool_code code = open_texts(f, cases[i].text, NULL);
        if (code != POOL_INVALID_CONFIG || f->n_problems != 1)
            fail_msg("%s: %s, %zu problems: %s", cases[i].text, pool_code_name(code), f->n_problems,
                     f->err.message);
        const struct pool_catalog_problem *problem = &f->problems[0];
        if (problem->line != cases[i].line || problem->column != cases[i].column || problem->is_warning)
            fail_msg("%s: at %u:%u: %s", cases[i].text, problem->line, problem->column, problem->message);
        assert_int_equal(pool_error_detail(&f->err, "line")->number, cases[i].line);
        assert_int_equal(pool_error_detail(&f->err, "column")->number, cases[i].column);
        assert_int_equal(pool_error_detail(&f->err, "n_problems")->number, 1);
        assert_string_equal(pool_error_detail(&f->err, "path")->text, problem->path);
        assert_null(f->catalog);
    }
}

static void test_all_problems_in_one_pass(void **state)
{
    struct fixture *f = *state;
    enum pool_code code =
        open_texts(f,
                   "[[models]]\nid = \"a\"\nfile = \"a\"\nsize = -1\nverified = 3\ncolour = 1\n"
                   "[[models]]\nid = \"b\"\n",
                   "[[models]]\nid = \"a\"\nfile = \"/a\"\n");
    assert_int_equal(code, POOL_INVALID_CONFIG);
    assert_int_equal(pool_error_detail(&f->err, "n_problems")->number, 5);
    static const struct {
        uint32_t line;
        bool is_warning;
        char file;
    } expected[] = { { 5, false, 'a' }, { 4, false, 'a' }, { 3, false, 'a' },
                     { 6, true, 'a' },  { 7, false, 'a' }, { 2, false, 'b' } };
    assert_int_equal(f->n_problems, sizeof expected / sizeof *expected);
    for (size_t i = 0; i < f->n_problems; i++) {
        const struct pool_catalog_problem *problem = &f->problems[i];
        size_t n = strlen(problem->path);
        if (problem->line != expected[i].line || problem->is_warning != expected[i].is_warning ||
            problem->path[n - 6] != expected[i].file)
            fail_msg("%zu: %s:%u: %s", i, problem->path, problem->line, problem->message);
    }
    /* the same without asking for the list */
    char path[PATH_MAX];
    SCRATCH_PATH(&f->tree, "a.toml", path);
    const char *list[] = { path };
    assert_int_equal(pool_model_catalog_open(list, 1, &f->catalog, NULL, NULL, NULL), POOL_INVALID_CONFIG);
    assert_null(f->catalog);
}

static void test_warnings_do_not_stop(void **state)
{
    struct fixture *f = *state;
    check_fine(f,
               "model = 1\n"
               "[[models]]\nid = \"a\"\nfile = \"/a\"\nrevison = \"x\"\nzzz = 2\n"
               "[[models]]\nid = \"b\"\nfiles = [{ file = \"/b\", sha265 = \"\" }]\n",
               NULL);
    assert_int_equal(pool_model_catalog_n_models(f->catalog), 2);
    assert_int_equal(f->n_problems, 4);
    static const struct {
        uint32_t line, column;
        const char *nearest;
    } expected[] = {
        { 1, 1, "\"models\"" }, { 5, 1, "\"revision\"" }, { 6, 1, NULL }, { 9, 25, "\"sha256\"" }
    };
    for (size_t i = 0; i < 4; i++) {
        assert_true(f->problems[i].is_warning);
        assert_int_equal(f->problems[i].line, expected[i].line);
        assert_int_equal(f->problems[i].column, expected[i].column);
        if (expected[i].nearest)
            assert_non_null(strstr(f->problems[i].message, expected[i].nearest));
        else
            assert_null(strstr(f->problems[i].message, "mean"));
    }
}

static void test_ids_are_unique(void **state)
{
    struct fixture *f = *state;
    static const char twice[] =
        "[[models]]\nid = \"x\"\nfile = \"/a\"\n[[models]]\nid = \"x\"\nfile = \"/b\"\n";
    assert_int_equal(open_texts(f, twice, NULL), POOL_INVALID_CONFIG);
    assert_int_equal(f->n_problems, 1);
    assert_int_equal(f->problems[0].line, 5);
    assert_non_null(strstr(f->problems[0].message, "a.toml:2:6"));

    static const char once[] = "[[models]]\nid = \"x\"\nfile = \"/a\"\n";
    assert_int_equal(open_texts(f, once, twice), POOL_INVALID_CONFIG);
    assert_int_equal(f->n_problems, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_non_null(strstr(f->problems[i].path, "b.toml"));
        assert_non_null(strstr(f->problems[i].message, "a.toml:2:6"));
    }
    check_fine(f, once, "[[models]]\nid = \"X\"\nfile = \"/a\"\n");
    assert_int_equal(pool_model_catalog_n_models(f->catalog), 2);
}

static void test_syntax_errors(void **state)
{
    struct fixture *f = *state;
    /* meaning is not looked at, but every file's syntax is */
    assert_int_equal(open_texts(f, "[[models]]\nid = \n", "[[models]]\nid = -1\n[[models]\n"),
                     POOL_INVALID_CONFIG);
    assert_int_equal(f->n_problems, 2);
    assert_int_equal(f->problems[0].line, 2);
    assert_int_equal(f->problems[1].line, 3);
    assert_true(f->problems[0].column > 0);
    assert_int_equal(pool_error_detail(&f->err, "line")->number, 2);

    check_fine(f, "", "# nothing\n");
    assert_int_equal(pool_model_catalog_n_models(f->catalog), 0);
    close_all(f);
    assert_int_equal(pool_model_catalog_open(NULL, 0, &f->catalog, NULL, NULL, &f->err), POOL_OK);
    assert_int_equal(pool_model_catalog_n_models(f->catalog), 0);
    check_fine(f, "models = []\n", NULL);
}

static void test_files_that_cannot_be_read(void **state)
{
    struct fixture *f = *state;
    char paths[3][PATH_MAX];
    SCRATCH_PATH(&f->tree, "absent.toml", paths[0]);
    SCRATCH_PATH(&f->tree, "pipe.toml", paths[1]);
    assert_int_equal(mkfifo(paths[1], 0600), 0);
    const char *list[] = { paths[0], paths[1], f->tree.root };
    assert_int_equal(pool_model_catalog_open(list, 3, &f->catalog, &f->problems, &f->n_problems, &f->err),
                     POOL_INVALID_CONFIG);
    assert_int_equal(f->n_problems, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(f->problems[i].path, list[i]);
        assert_int_equal(f->problems[i].line, 0);
    }
    assert_null(pool_error_detail(&f->err, "line"));
}

static void test_size_of_the_file_is_bounded(void **state)
{
    struct fixture *f = *state;
    char path[PATH_MAX];
    SCRATCH_PATH(&f->tree, "big.toml", path);
    scratch_tree_write_text(&f->tree, "big.toml", "");
    assert_int_equal(truncate(path, POOL_CATALOG_FILE_MAX_BYTES + 1), 0);
    const char *list[] = { path };
    assert_int_equal(pool_model_catalog_open(list, 1, &f->catalog, &f->problems, &f->n_problems, &f->err),
                     POOL_INVALID_CONFIG);
    assert_non_null(strstr(f->problems[0].message, "16 MiB"));
}

/* head, then `part` with a number in it n times, then tail */
static char *repeat(const char *head, const char *before, const char *after, size_t n, const char *tail)
{
    size_t n_text = strlen(head) + n * (strlen(before) + strlen(after) + 20) + strlen(tail) + 1;
    char *text = malloc(n_text);
    assert_non_null(text);
    size_t at = (size_t)snprintf(text, n_text, "%s", head);
    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(text + at, n_text - at, "%s%zu%s", before, i, after);
    snprintf(text + at, n_text - at, "%s", tail);
    return text;
}

static void test_numbers_are_bounded(void **state)
{
    struct fixture *f = *state;
    char *text = repeat(ENTRY "files = [", "{file=\"/", "\"},", POOL_MODEL_FILES_MAX, "]\n");
    check_fine(f, text, NULL);
    assert_int_equal(pool_model_catalog_at(f->catalog, 0)->n_files, POOL_MODEL_FILES_MAX);
    free(text);
    text = repeat(ENTRY "files = [", "{file=\"/", "\"},", POOL_MODEL_FILES_MAX + 1, "]\n");
    assert_int_equal(open_texts(f, text, NULL), POOL_INVALID_CONFIG);
    assert_int_equal(f->n_problems, 1);
    free(text);

    text = repeat("models=[", "{id=\"", "\"},\n", POOL_CATALOG_ENTRIES_MAX + 1, "]\n");
    assert_int_equal(open_texts(f, text, NULL), POOL_INVALID_CONFIG);
    assert_int_equal(f->n_problems, 1);
    assert_int_equal(f->problems[0].line, 0);
    free(text);
}

static void test_problems_are_bounded(void **state)
{
    struct fixture *f = *state;
    char *text =
        repeat(ENTRY "file = \"/a\"\n", "unknown-", " = 1\n", POOL_CATALOG_PROBLEMS_MAX + 5, "size = -1\n");
    assert_int_equal(open_texts(f, text, NULL), POOL_INVALID_CONFIG);
    free(text);
    /* The error is among those that were kept, and the last one counts the rest. */
    assert_int_equal(f->n_problems, POOL_CATALOG_PROBLEMS_MAX + 1);
    assert_int_equal(pool_error_detail(&f->err, "n_problems")->number, 1);
    assert_non_null(strstr(f->problems[f->n_problems - 1].message, "and 6 more"));

    text = repeat("", "unknown-", " = 1\n", POOL_CATALOG_PROBLEMS_MAX + 5,
                  "[[models]]\nid = 1\nfile = \"/a\"\n");
    assert_int_equal(open_texts(f, text, NULL), POOL_INVALID_CONFIG);
    free(text);
    assert_int_equal(pool_error_detail(&f->err, "line")->number, POOL_CATALOG_PROBLEMS_MAX + 7);
}

static void test_many_models(void **state)
{
    struct fixture *f = *state;
    char *text = repeat("", "[[models]]\nfile = \"/m\"\nid = \"m", "\"\n", 5000, "");
    check_fine(f, text, NULL);
    free(text);
    assert_int_equal(pool_model_catalog_n_models(f->catalog), 5000);
    for (size_t i = 1; i < 5000; i++)
        assert_true(strcmp(pool_model_catalog_at(f->catalog, i - 1)->id,
                           pool_model_catalog_at(f->catalog, i)->id) < 0);
    for (size_t i = 0; i < 5000; i++) {
        char id[32];
        snprintf(id, sizeof id, "m%zu", i);
        const struct pool_model_metadata *model = NULL;
        assert_int_equal(pool_model_catalog_get(f->catalog, id, &model, &f->err), POOL_OK);
        assert_string_equal(model->id, id);
    }
}

static void test_the_example(void **state)
{
    struct fixture *f = *state;
    const char *sources = getenv("POOL_SOURCE_DIR");
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/examples/catalog.toml", sources ? sources : ".");
    const char *list[] = { path };
    enum pool_code code =
        pool_model_catalog_open(list, 1, &f->catalog, &f->problems, &f->n_problems, &f->err);
    if (code != POOL_OK)
        fail_msg("%s", f->err.message);
    assert_int_equal(f->n_problems, 0);
    assert_int_equal(pool_model_catalog_n_models(f->catalog), 3);
    const struct pool_model_metadata *model = NULL;
    assert_int_equal(pool_model_catalog_get(f->catalog, "example-70b", &model, &f->err), POOL_OK);
    assert_int_equal(model->n_files, 2);
    assert_int_equal(model->size_bytes, INT64_C(42500000000));
}

#define WITH_TREE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_TREE(test_every_key),
        WITH_TREE(test_shards),
        WITH_TREE(test_get),
        WITH_TREE(test_copy),
        WITH_TREE(test_semantic_problems),
        WITH_TREE(test_all_problems_in_one_pass),
        WITH_TREE(test_warnings_do_not_stop),
        WITH_TREE(test_ids_are_unique),
        WITH_TREE(test_syntax_errors),
        WITH_TREE(test_files_that_cannot_be_read),
        WITH_TREE(test_size_of_the_file_is_bounded),
        WITH_TREE(test_numbers_are_bounded),
        WITH_TREE(test_problems_are_bounded),
        WITH_TREE(test_many_models),
        WITH_TREE(test_the_example),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
