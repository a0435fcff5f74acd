/*
 * From a reference to files: models directories, the Hub's cache, shards, directory models, and everything that
 * tries to get out of the allowed directories.
 */
#include "scratch_tree.h"

#include <pool/catalog.h>

#define COMMIT_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define COMMIT_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

struct fixture {
    struct scratch_tree tree;
    char models[PATH_MAX / 2], more[PATH_MAX / 2], cache[PATH_MAX / 2];
    const char *dirs[2];
    struct pool_model_paths paths;
    struct pool_model_catalog *catalog;
    struct pool_model *model;
    struct pool_error err;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    scratch_tree_make(&f->tree);
    SCRATCH_PATH(&f->tree, "models", f->models);
    SCRATCH_PATH(&f->tree, "more", f->more);
    SCRATCH_PATH(&f->tree, "cache", f->cache);
    f->dirs[0] = f->models;
    f->dirs[1] = f->more;
    f->paths = (struct pool_model_paths){
        .struct_size = sizeof f->paths, .n_models_dirs = 2, .models_dirs = f->dirs, .hf_cache_dir = f->cache
    };
    assert_int_equal(mkdir(f->models, 0755), 0);
    *state = f;
    return 0;
}

static void forget(struct fixture *f)
{
    pool_model_free(f->model);
    f->model = NULL;
    memset(&f->err, 0, sizeof f->err);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    forget(f);
    pool_model_catalog_close(f->catalog);
    scratch_tree_remove(&f->tree);
    free(f);
    return 0;
}

static void put(struct fixture *f, const char *name)
{
    scratch_tree_write_text(&f->tree, name, "model");
}

static void open_catalog(struct fixture *f, const char *text)
{
    char path[PATH_MAX];
    SCRATCH_PATH(&f->tree, "catalog.toml", path);
    scratch_tree_write_text(&f->tree, "catalog.toml", text);
    const char *list[] = { path };
    pool_model_catalog_close(f->catalog);
    f->catalog = NULL;
    if (pool_model_catalog_open(list, 1, &f->catalog, NULL, NULL, &f->err) != POOL_OK)
        fail_msg("%s", f->err.message);
}

static enum pool_code resolve(struct fixture *f, const char *ref)
{
    forget(f);
    return pool_model_resolve(f->catalog, &f->paths, ref, &f->model, &f->err);
}

/* The reference is found, and its first file is this one of the tree. */
static void check_found(struct fixture *f, const char *ref, const char *name)
{
    enum pool_code code = resolve(f, ref);
    if (code != POOL_OK)
        fail_msg("%s: %s: %s", ref, pool_code_name(code), f->err.message);
    char path[PATH_MAX];
    SCRATCH_PATH(&f->tree, name, path);
    assert_string_equal(f->model->path, path);
}

static void check_code(struct fixture *f, const char *ref, enum pool_code expected)
{
    enum pool_code code = resolve(f, ref);
    if (code != expected)
        fail_msg("%s: %s: %s", ref, pool_code_name(code), f->err.message);
    assert_int_equal(f->err.code, expected);
    assert_null(f->model);
}

/* file: and a name in the tree */
static const char *file_ref(const struct fixture *f, const char *name)
{
    static char ref[PATH_MAX];
    snprintf(ref, sizeof ref, "file:%s/%s", f->tree.root, name);
    return ref;
}

static void test_files(void **state)
{
    struct fixture *f = *state;
    put(f, "models/a.gguf");
    put(f, "more/deep/er/b.bin");
    check_found(f, file_ref(f, "models/a.gguf"), "models/a.gguf");
    assert_int_equal(f->model->n_files, 1);
    assert_string_equal(f->model->file_paths[0], f->model->path);
    assert_int_equal(f->model->size_bytes, 5);
    assert_string_equal(f->model->ref, file_ref(f, "models/a.gguf"));
    assert_null(f->model->id);
    assert_null(f->model->metadata);
    check_found(f, file_ref(f, "more/deep/er/b.bin"), "more/deep/er/b.bin");
    check_code(f, file_ref(f, "models/absent.gguf"), POOL_MODEL_NOT_FOUND);
    assert_string_equal(f->err.field, "model_ref");
    check_code(f, file_ref(f, "models/a.gguf/b"), POOL_MODEL_NOT_FOUND);
    check_code(f, "file:relative", POOL_INVALID_REQUEST);
    check_code(f, "some-id", POOL_MODEL_NOT_FOUND);
}

static void test_outside_is_refused(void **state)
{
    struct fixture *f = *state;
    put(f, "outside/secret.gguf");
    put(f, "models/a.gguf");
    put(f, "models-too/a.gguf");
    scratch_tree_link(&f->tree, "models/link.gguf", "../outside/secret.gguf");
    scratch_tree_link(&f->tree, "models/folder", "../outside");
    scratch_tree_link(&f->tree, "models/absolute.gguf", "/etc/passwd");
    scratch_tree_link(&f->tree, "models/chain.gguf", "link.gguf");
    scratch_tree_link(&f->tree, "models/up", "..");
    scratch_tree_link(&f->tree, "models/loop", "loop");
    scratch_tree_link(&f->tree, "outside/in.gguf", "../models/a.gguf");

    check_code(f, file_ref(f, "outside/secret.gguf"), POOL_PERMISSION_DENIED);
    /* the same answer when there is nothing: no way to ask what exists */
    check_code(f, file_ref(f, "outside/absent.gguf"), POOL_PERMISSION_DENIED);
    check_code(f, "file:/etc/passwd", POOL_PERMISSION_DENIED);
    check_code(f, "file:/absent", POOL_PERMISSION_DENIED);
    check_code(f, "file:/dev/zero", POOL_PERMISSION_DENIED);
    check_code(f, file_ref(f, "models/link.gguf"), POOL_PERMISSION_DENIED);
    check_code(f, file_ref(f, "models/chain.gguf"), POOL_PERMISSION_DENIED);
    check_code(f, file_ref(f, "models/folder/secret.gguf"), POOL_PERMISSION_DENIED);
    check_code(f, file_ref(f, "models/absolute.gguf"), POOL_PERMISSION_DENIED);
    check_code(f, file_ref(f, "models/up/outside/secret.gguf"), POOL_PERMISSION_DENIED);
    check_code(f, file_ref(f, "models-too/a.gguf"), POOL_PERMISSION_DENIED);
    check_code(f, file_ref(f, "models"), POOL_PERMISSION_DENIED);
    check_code(f, file_ref(f, "models/loop"), POOL_MODEL_NOT_FOUND);
    /* what counts is where it is, not how one gets there */
    check_found(f, file_ref(f, "outside/in.gguf"), "outside/in.gguf");
    check_found(f, file_ref(f, "models/up/models/a.gguf"), "models/a.gguf");

    f->paths.allow_any_file = true;
    check_found(f, file_ref(f, "outside/secret.gguf"), "outside/secret.gguf");
    check_found(f, file_ref(f, "models/link.gguf"), "models/link.gguf");
    check_code(f, file_ref(f, "outside/absent.gguf"), POOL_MODEL_NOT_FOUND);
    check_code(f, "file:/dev/zero", POOL_INVALID_REQUEST);
}

static void test_odd_files(void **state)
{
    struct fixture *f = *state;
    char path[PATH_MAX];
    SCRATCH_PATH(&f->tree, "models/pipe.gguf", path);
    assert_int_equal(mkfifo(path, 0600), 0);
    check_code(f, file_ref(f, "models/pipe.gguf"), POOL_INVALID_REQUEST);
    put(f, "models/locked.gguf");
    SCRATCH_PATH(&f->tree, "models/locked.gguf", path);
    assert_int_equal(chmod(path, 0), 0);
    if (geteuid() != 0)
        check_code(f, file_ref(f, "models/locked.gguf"), POOL_PERMISSION_DENIED);
}

static void test_the_models_directory_may_be_a_link(void **state)
{
    struct fixture *f = *state;
    put(f, "disk/store/a.gguf");
    scratch_tree_link(&f->tree, "more", "disk/store");
    check_found(f, file_ref(f, "more/a.gguf"), "disk/store/a.gguf");
    check_found(f, file_ref(f, "disk/store/a.gguf"), "disk/store/a.gguf");
    put(f, "disk/other.gguf");
    check_code(f, file_ref(f, "disk/other.gguf"), POOL_PERMISSION_DENIED);
}

static void test_models_directories(void **state)
{
    struct fixture *f = *state;
    put(f, "models/o/r/" COMMIT_A "/dir/m.gguf");
    check_found(f, "hf:o/r@" COMMIT_A "::file=dir/m.gguf", "models/o/r/" COMMIT_A "/dir/m.gguf");
    assert_string_equal(f->model->ref, "hf:o/r@" COMMIT_A "::file=dir/m.gguf");
    /* hex digits of either case, one commit */
    check_found(f, "hf:o/r@AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA::file=dir/m.gguf",
                "models/o/r/" COMMIT_A "/dir/m.gguf");
    /* the only commit there is, the only file there is */
    check_found(f, "hf:o/r::file=dir/m.gguf", "models/o/r/" COMMIT_A "/dir/m.gguf");
    check_found(f, "hf:o/r", "models/o/r/" COMMIT_A "/dir/m.gguf");
    assert_string_equal(f->model->ref, "hf:o/r@" COMMIT_A "::file=dir/m.gguf");
    check_code(f, "hf:o/r@" COMMIT_B, POOL_MODEL_NOT_FOUND);
    check_code(f, "hf:o/r@v1", POOL_MODEL_NOT_FOUND);
    check_code(f, "hf:o/r::file=absent.gguf", POOL_MODEL_NOT_FOUND);
    check_code(f, "hf:O/r", POOL_MODEL_NOT_FOUND);

    /* a second one, and it is open which is meant */
    put(f, "models/o/r/" COMMIT_B "/n.gguf");
    check_code(f, "hf:o/r", POOL_INVALID_REQUEST);
    assert_non_null(strstr(f->err.message, COMMIT_A));
    assert_non_null(strstr(f->err.message, COMMIT_B));
    check_found(f, "hf:o/r@" COMMIT_B, "models/o/r/" COMMIT_B "/n.gguf");

    /* until refs say it */
    scratch_tree_write_text(&f->tree, "models/o/r/refs/main", COMMIT_B "\n");
    scratch_tree_write_text(&f->tree, "models/o/r/refs/refs/pr/1", COMMIT_A);
    check_found(f, "hf:o/r", "models/o/r/" COMMIT_B "/n.gguf");
    check_found(f, "hf:o/r@main", "models/o/r/" COMMIT_B "/n.gguf");
    check_found(f, "hf:o/r@refs/pr/1", "models/o/r/" COMMIT_A "/dir/m.gguf");
    assert_string_equal(f->model->ref, "hf:o/r@" COMMIT_A "::file=dir/m.gguf");
    /* a damaged one says nothing */
    scratch_tree_write_text(&f->tree, "models/o/r/refs/bad", "../../x\n");
    scratch_tree_write_text(&f->tree, "models/o/r/refs/long", COMMIT_A COMMIT_A);
    check_code(f, "hf:o/r@bad", POOL_MODEL_NOT_FOUND);
    check_code(f, "hf:o/r@long", POOL_MODEL_NOT_FOUND);

    /* the second directory has what the first has not */
    put(f, "more/o/s/" COMMIT_A "/s.gguf");
    check_found(f, "hf:o/s", "more/o/s/" COMMIT_A "/s.gguf");
}

static void test_the_hub_cache(void **state)
{
    struct fixture *f = *state;
    put(f, "cache/models--o--r/blobs/0123");
    scratch_tree_link(&f->tree, "cache/models--o--r/snapshots/" COMMIT_A "/q/m.gguf", "../../../blobs/0123");
    scratch_tree_write_text(&f->tree, "cache/models--o--r/refs/main", COMMIT_A);
    /* the name stays: engines need it */
    static const char *const refs[] = { "hf:o/r", "hf:o/r@main", ("hf:o/r@" COMMIT_A),
                                        "hf:o/r::file=q/m.gguf" };
    for (size_t i = 0; i < sizeof refs / sizeof *refs; i++) {
        check_found(f, refs[i], "cache/models--o--r/snapshots/" COMMIT_A "/q/m.gguf");
        assert_string_equal(f->model->ref, "hf:o/r@" COMMIT_A "::file=q/m.gguf");
        assert_int_equal(f->model->size_bytes, 5);
    }
    check_code(f, "hf:o/r@" COMMIT_B, POOL_MODEL_NOT_FOUND);
    /* a models directory comes first */
    put(f, "more/o/r/" COMMIT_A "/q/m.gguf");
    check_found(f, "hf:o/r", "more/o/r/" COMMIT_A "/q/m.gguf");
    f->paths.hf_cache_dir = NULL;
    f->paths.n_models_dirs = 1;
    check_code(f, "hf:o/r", POOL_MODEL_NOT_FOUND);
}

static void test_links_out_of_a_repository(void **state)
{
    struct fixture *f = *state;
    put(f, "outside/secret.gguf");
    scratch_tree_link(&f->tree, "models/o/r/" COMMIT_A "/m.gguf", "../../../../outside/secret.gguf");
    scratch_tree_link(&f->tree, "models/o/s/" COMMIT_A, "../../../outside");
    scratch_tree_link(&f->tree, "cache/models--o--t/snapshots/" COMMIT_A "/m.gguf", "/etc/passwd");
    check_code(f, "hf:o/r@" COMMIT_A "::file=m.gguf", POOL_PERMISSION_DENIED);
    check_code(f, "hf:o/r", POOL_PERMISSION_DENIED);
    check_code(f, "hf:o/s@" COMMIT_A "::file=secret.gguf", POOL_PERMISSION_DENIED);
    check_code(f, "hf:o/t@" COMMIT_A "::file=m.gguf", POOL_PERMISSION_DENIED);
    /* into another allowed directory is no escape */
    put(f, "cache/blob");
    scratch_tree_link(&f->tree, "models/o/u/" COMMIT_A "/m.gguf", f->cache);
    check_code(f, "hf:o/u@" COMMIT_A "::file=m.gguf", POOL_PERMISSION_DENIED);
    scratch_tree_link(&f->tree, "models/o/v/" COMMIT_A "/m.gguf", "../../../../cache/blob");
    check_found(f, "hf:o/v", "models/o/v/" COMMIT_A "/m.gguf");
}

static void test_the_command_to_download(void **state)
{
    struct fixture *f = *state;
    check_code(f, "hf:o/r@main::file=a.gguf", POOL_MODEL_NOT_FOUND);
    assert_string_equal(pool_error_detail(&f->err, "download_command")->text,
                        "rbees-pool models download hf:o/r@main::file=a.gguf");
    assert_non_null(strstr(f->err.message, "rbees-pool models download hf:o/r@main::file=a.gguf"));
    /* it is for copying: nothing in it may be more than a word to a shell */
    check_code(f, "hf:o/r::file=a';$(reboot) b", POOL_MODEL_NOT_FOUND);
    assert_string_equal(pool_error_detail(&f->err, "download_command")->text,
                        "rbees-pool models download 'hf:o/r::file=a'\\'';$(reboot) b'");
}

static void test_choosing_a_file(void **state)
{
    struct fixture *f = *state;
    put(f, "models/o/r/" COMMIT_A "/m-Q4_K_M.gguf");
    put(f, "models/o/r/" COMMIT_A "/mmproj-f16.gguf");
    put(f, "models/o/r/" COMMIT_A "/m.imatrix.gguf");
    put(f, "models/o/r/" COMMIT_A "/README.md");
    put(f, "models/o/r/" COMMIT_A "/.hidden.gguf");
    check_found(f, "hf:o/r", "models/o/r/" COMMIT_A "/m-Q4_K_M.gguf");
    check_found(f, "hf:o/r::file=mmproj-f16.gguf", "models/o/r/" COMMIT_A "/mmproj-f16.gguf");

    char name[PATH_MAX];
    for (int i = 1; i <= 7; i++) {
        snprintf(name, sizeof name, "models/o/r/" COMMIT_A "/Q%d/m-Q%d.gguf", i, i);
        put(f, name);
    }
    check_code(f, "hf:o/r", POOL_INVALID_REQUEST);
    assert_string_equal(f->err.field, "model_ref");
    assert_int_equal(pool_error_detail(&f->err, "n_choices")->number, 8);
    assert_non_null(
        strstr(f->err.message, "Q1/m-Q1.gguf, Q2/m-Q2.gguf, Q3/m-Q3.gguf, Q4/m-Q4.gguf, Q5/m-Q5.gguf"));
    assert_null(strstr(f->err.message, "Q6"));
    assert_non_null(strstr(f->err.message, "3 more"));

    /* a catalog that speaks of one of them decides */
    open_catalog(f, "[[models]]\nid = \"five\"\nrepo = \"o/r\"\nfile = \"Q5/m-Q5.gguf\"\n"
                    "[[models]]\nid = \"gone\"\nrepo = \"o/r\"\nfile = \"Q9/m-Q9.gguf\"\n");
    check_found(f, "hf:o/r", "models/o/r/" COMMIT_A "/Q5/m-Q5.gguf");
    assert_string_equal(f->model->id, "five");
    /* and one that speaks of two does not */
    open_catalog(f, "[[models]]\nid = \"five\"\nrepo = \"o/r\"\nfile = \"Q5/m-Q5.gguf\"\n"
                    "[[models]]\nid = \"four\"\nrepo = \"o/r\"\nfile = \"Q4/m-Q4.gguf\"\n");
    check_code(f, "hf:o/r", POOL_INVALID_REQUEST);
}

static void test_split_models(void **state)
{
    struct fixture *f = *state;
    put(f, "models/o/r/" COMMIT_A "/Q4/m-00001-of-00003.gguf");
    put(f, "models/o/r/" COMMIT_A "/Q4/m-00002-of-00003.gguf");
    put(f, "models/o/r/" COMMIT_A "/Q4/m-00003-of-00003.gguf");
    check_found(f, "hf:o/r", "models/o/r/" COMMIT_A "/Q4/m-00001-of-00003.gguf");
    assert_int_equal(f->model->n_files, 3);
    assert_int_equal(f->model->size_bytes, 15);
    assert_non_null(strstr(f->model->file_paths[2], "/m-00003-of-00003.gguf"));

    check_code(f, "hf:o/r::file=Q4/m-00002-of-00003.gguf", POOL_INVALID_REQUEST);
    assert_non_null(strstr(f->err.message, "Q4/m-00001-of-00003.gguf"));

    char path[PATH_MAX];
    SCRATCH_PATH(&f->tree, "models/o/r/" COMMIT_A "/Q4/m-00002-of-00003.gguf", path);
    assert_int_equal(unlink(path), 0);
    check_code(f, "hf:o/r", POOL_MODEL_CORRUPT);
    assert_string_equal(pool_error_detail(&f->err, "path")->text, path);
    scratch_tree_link(&f->tree, "models/o/r/" COMMIT_A "/Q4/m-00002-of-00003.gguf", "/etc/passwd");
    check_code(f, "hf:o/r", POOL_PERMISSION_DENIED);

    put(f, "models/x-00001-of-00002.gguf");
    put(f, "models/x-00002-of-00002.gguf");
    check_found(f, file_ref(f, "models/x-00001-of-00002.gguf"), "models/x-00001-of-00002.gguf");
    assert_int_equal(f->model->n_files, 2);
    check_code(f, file_ref(f, "models/x-00002-of-00002.gguf"), POOL_INVALID_REQUEST);
    /* these are no split models */
    static const char *const single[] = { "x-1-of-2.gguf",         "x-00000-of-00002.gguf",
                                          "x-00003-of-00002.gguf", "x-00001-of-00002.bin",
                                          "x-0000a-of-00002.gguf", "-00001-of-00001.gguf" };
    for (size_t i = 0; i < sizeof single / sizeof *single; i++) {
        char name[64];
        snprintf(name, sizeof name, "models/%s", single[i]);
        put(f, name);
        check_found(f, file_ref(f, name), name);
        assert_int_equal(f->model->n_files, 1);
    }
    put(f, "models/x-00001-of-99999.gguf");
    check_code(f, file_ref(f, "models/x-00001-of-99999.gguf"), POOL_INVALID_REQUEST);
}

static void test_split_models_in_the_cache(void **state)
{
    struct fixture *f = *state;
    put(f, "cache/models--o--r/blobs/01");
    put(f, "cache/models--o--r/blobs/02");
    scratch_tree_link(&f->tree, "cache/models--o--r/snapshots/" COMMIT_A "/m-00001-of-00002.gguf",
                      "../../blobs/01");
    scratch_tree_link(&f->tree, "cache/models--o--r/snapshots/" COMMIT_A "/m-00002-of-00002.gguf",
                      "../../blobs/02");
    check_found(f, "hf:o/r", "cache/models--o--r/snapshots/" COMMIT_A "/m-00001-of-00002.gguf");
    assert_int_equal(f->model->n_files, 2);
    assert_non_null(strstr(f->model->file_paths[1], "/m-00002-of-00002.gguf"));
}

static void test_catalog_entries(void **state)
{
    struct fixture *f = *state;
    put(f, "models/o/r/" COMMIT_A "/one.gguf");
    put(f, "models/o/r/" COMMIT_A "/two.gguf");
    put(f, "models/o/r/" COMMIT_A "/parts/c.bin");
    put(f, "models/own.gguf");
    char text[2 * PATH_MAX];
    snprintf(text, sizeof text,
             "[[models]]\nid = \"one\"\nrepo = \"o/r\"\nfile = \"one.gguf\"\nrevision = \"main\"\n"
             "[[models]]\nid = \"pinned\"\nrepo = \"o/r\"\nfile = \"two.gguf\"\nrevision = \"" COMMIT_A "\"\n"
             "[[models]]\nid = \"other\"\nrepo = \"o/r\"\nfile = \"two.gguf\"\nrevision = \"" COMMIT_B "\"\n"
             "[[models]]\nid = \"list\"\nrepo = \"o/r\"\nfiles = [{file = \"two.gguf\"}, {file = "
             "\"parts/c.bin\"}]\n"
             "[[models]]\nid = \"short\"\nrepo = \"o/r\"\nfiles = [{file = \"two.gguf\"}, {file = "
             "\"parts/d.bin\"}]\n"
             "[[models]]\nid = \"own\"\nfile = \"%s/own.gguf\"\n"
             "[[models]]\nid = \"outside\"\nfile = \"/etc/passwd\"\n",
             f->models);
    open_catalog(f, text);

    check_found(f, "one", "models/o/r/" COMMIT_A "/one.gguf");
    assert_string_equal(f->model->id, "one");
    assert_string_equal(f->model->ref, "hf:o/r@" COMMIT_A "::file=one.gguf");
    assert_string_equal(f->model->metadata->id, "one");
    check_found(f, "pinned", "models/o/r/" COMMIT_A "/two.gguf");
    check_code(f, "other", POOL_MODEL_NOT_FOUND);
    check_found(f, "list", "models/o/r/" COMMIT_A "/two.gguf");
    assert_int_equal(f->model->n_files, 2);
    assert_int_equal(f->model->size_bytes, 10);
    check_code(f, "short", POOL_MODEL_CORRUPT);
    check_found(f, "own", "models/own.gguf");
    assert_string_equal(f->model->ref, file_ref(f, "models/own.gguf"));
    /* being in a catalog opens no doors */
    check_code(f, "outside", POOL_PERMISSION_DENIED);
    check_code(f, "absent", POOL_MODEL_NOT_FOUND);
    check_code(f, "not an id", POOL_INVALID_REQUEST);

    /* a reference finds its entry, when that speaks of the same bytes */
    check_found(f, "hf:o/r::file=one.gguf", "models/o/r/" COMMIT_A "/one.gguf");
    assert_string_equal(f->model->id, "one");
    check_found(f, "hf:o/r@" COMMIT_A "::file=two.gguf", "models/o/r/" COMMIT_A "/two.gguf");
    assert_string_equal(f->model->id, "pinned");
    check_found(f, "hf:o/r@" COMMIT_A "::file=one.gguf", "models/o/r/" COMMIT_A "/one.gguf");
    assert_null(f->model->id);
    check_found(f, file_ref(f, "models/own.gguf"), "models/own.gguf");
    assert_string_equal(f->model->id, "own");
}

static void test_directories(void **state)
{
    struct fixture *f = *state;
    put(f, "models/o/r/" COMMIT_A "/model-00002-of-00002.safetensors");
    put(f, "models/o/r/" COMMIT_A "/model-00001-of-00002.safetensors");
    put(f, "models/o/r/" COMMIT_A "/tokenizer.json");
    check_code(f, "hf:o/r", POOL_MODEL_NOT_FOUND);
    put(f, "models/o/r/" COMMIT_A "/config.json");
    check_found(f, "hf:o/r", "models/o/r/" COMMIT_A);
    assert_string_equal(f->model->ref, "hf:o/r@" COMMIT_A);
    assert_int_equal(f->model->n_files, 3);
    assert_int_equal(f->model->size_bytes, 15);
    assert_non_null(strstr(f->model->file_paths[0], "/model-00001-of-00002.safetensors"));
    assert_non_null(strstr(f->model->file_paths[1], "/model-00002-of-00002.safetensors"));
    assert_non_null(strstr(f->model->file_paths[2], "/config.json"));

    put(f, "models/local/a.safetensors");
    check_code(f, file_ref(f, "models/local"), POOL_MODEL_INCOMPATIBLE);
    put(f, "models/local/config.json");
    check_found(f, file_ref(f, "models/local"), "models/local");
    scratch_tree_link(&f->tree, "models/local/b.safetensors", "/etc/passwd");
    check_code(f, file_ref(f, "models/local"), POOL_PERMISSION_DENIED);
    check_code(f, file_ref(f, "models/o"), POOL_MODEL_INCOMPATIBLE);
    check_code(f, "hf:o/r::file=../" COMMIT_A, POOL_INVALID_REQUEST);
    put(f, "models/o/s/" COMMIT_A "/sub/x.gguf");
    check_code(f, "hf:o/s::file=sub", POOL_INVALID_REQUEST);
}

static void test_the_struct_of_an_older_caller(void **state)
{
    struct fixture *f = *state;
    put(f, "models/a.gguf");
    put(f, "outside/b.gguf");
    f->paths.allow_any_file = true;
    f->paths.struct_size = offsetof(struct pool_model_paths, allow_any_file);
    check_found(f, file_ref(f, "models/a.gguf"), "models/a.gguf");
    check_code(f, file_ref(f, "outside/b.gguf"), POOL_PERMISSION_DENIED);
    f->paths.struct_size = 0;
    check_code(f, file_ref(f, "models/a.gguf"), POOL_INVALID_REQUEST);
    pool_model_free(NULL);
}

#define WITH_TREE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_TREE(test_files),
        WITH_TREE(test_outside_is_refused),
        WITH_TREE(test_odd_files),
        WITH_TREE(test_the_models_directory_may_be_a_link),
        WITH_TREE(test_models_directories),
        WITH_TREE(test_the_hub_cache),
        WITH_TREE(test_links_out_of_a_repository),
        WITH_TREE(test_the_command_to_download),
        WITH_TREE(test_choosing_a_file),
        WITH_TREE(test_split_models),
        WITH_TREE(test_split_models_in_the_cache),
        WITH_TREE(test_catalog_entries),
        WITH_TREE(test_directories),
        WITH_TREE(test_the_struct_of_an_older_caller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
