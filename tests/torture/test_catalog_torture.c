/*
 * Running out of memory in the catalog, at every single allocation: parsing TOML, references, opening catalogs with and
 * without problems, finding models, verifying them. Nothing may leak, and nothing half-made may come out.
 */
#include "scratch_tree.h"

#include <errno.h>
#include <pool/catalog.h>

#include "base/toml.h"
#include "torture.h"

#define COMMIT "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SUM    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" /* of "abc" */

struct scene {
    struct scratch_tree tree;
    char models[PATH_MAX], cache[PATH_MAX], proofs[PATH_MAX], good[PATH_MAX], bad[PATH_MAX];
    const char *ref;
    enum pool_code expected; /* when memory is there */
};

static struct scene scene;

static int set_up(void **state)
{
    (void)state;
    struct scratch_tree *tree = &scene.tree;
    scratch_tree_make(tree);
    SCRATCH_PATH(tree, "models", scene.models);
    SCRATCH_PATH(tree, "cache", scene.cache);
    SCRATCH_PATH(tree, "proofs", scene.proofs);
    SCRATCH_PATH(tree, "good.toml", scene.good);
    SCRATCH_PATH(tree, "bad.toml", scene.bad);
    scratch_tree_write_text(tree, "models/o/r/" COMMIT "/m-00001-of-00002.gguf", "abc");
    scratch_tree_write_text(tree, "models/o/r/" COMMIT "/m-00002-of-00002.gguf", "abc");
    scratch_tree_write_text(tree, "models/o/r/refs/main", COMMIT);
    scratch_tree_write_text(tree, "models/o/many/" COMMIT "/q/a.gguf", "abc");
    scratch_tree_write_text(tree, "models/o/many/" COMMIT "/q/b.gguf", "abc");
    scratch_tree_write_text(tree, "models/st/config.json", "{}");
    scratch_tree_write_text(tree, "models/st/a.safetensors", "abc");
    scratch_tree_write_text(tree, "cache/models--o--c/blobs/1", "abc");
    scratch_tree_link(tree, "cache/models--o--c/snapshots/" COMMIT "/c.gguf", "../../blobs/1");
    scratch_tree_write_text(tree, "good.toml",
                            "unknown = 1\n"
                            "[[models]]\nid = \"r\"\nname = \"R\"\nrepo = \"o/r\"\nrevision = \"main\"\n"
                            "backends = [\"cpu\"]\n"
                            "files = [{ file = \"m-00001-of-00002.gguf\", size = 3, sha256 = \"" SUM "\" },\n"
                            "         { file = \"m-00002-of-00002.gguf\", size = 3, sha256 = \"" SUM "\" }]\n"
                            "[[models]]\nid = \"c\"\nrepo = \"o/c\"\nfile = \"c.gguf\"\n");
    scratch_tree_write_text(tree, "bad.toml", "[[models]]\nid = \"r\"\nfile = 1\nsize = -1\n");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    scratch_tree_remove(&scene.tree);
    return 0;
}

/* A run's answer must be the one that is expected, or that memory is out; torture_scenario wants POOL_OK for the first. */
static enum pool_code judge(enum pool_code code, enum pool_code expected, const struct pool_error *err)
{
    if (code != POOL_OK)
        assert_int_equal(err->code, code);
    if (code == expected)
        return POOL_OK;
    assert_int_equal(code, POOL_INSUFFICIENT_MEMORY);
    assert_int_equal(err->sys_errno, ENOMEM);
    return code;
}

static enum pool_code parse_toml(void *text)
{
    struct toml_error error = { 0 };
    struct toml_document *document = toml_parse(text, strlen(text), &error);
    if (!document)
        return error.is_no_memory ? POOL_INSUFFICIENT_MEMORY : POOL_OK;
    toml_free(document);
    return POOL_OK;
}

static void test_toml(void **state)
{
    (void)state;
    torture_scenario(
        "toml", parse_toml,
        "a = \"a text that is longer than what a string keeps in itself\"\n"
        "b = [1, [2.5, true], { c.d = 1979-05-27 }]\n"
        "[a-table-with-quite-a-long-name.and-another-below-it]\n\"key in quotes, also long\" = '''\nx\n'''\n"
        "[[list]]\nx = 1\n[[list]]\nx = 2\n[list.more]\ny = inf\n");
    torture_scenario("toml that is wrong", parse_toml,
                     "[[list-with-a-name-that-is-not-short]]\nx = { a = [1, 2, 3 }\n");
    torture_scenario("toml with a double", parse_toml,
                     "[table-with-a-name-that-is-not-short]\n[a]\nx=1\nx=2\n");
}

static enum pool_code parse_ref(void *text)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_model_ref *ref = NULL;
    enum pool_code code = judge(pool_model_ref_parse(text, strlen(text), &ref, &err), POOL_OK, &err);
    if (code != POOL_OK) {
        assert_null(ref);
        return code;
    }
    char *again = pool_model_ref_format(ref);
    pool_model_ref_free(ref);
    if (!again)
        return POOL_INSUFFICIENT_MEMORY;
    assert_string_equal(again, text);
    free(again);
    return POOL_OK;
}

static void test_references(void **state)
{
    (void)state;
    torture_scenario("hf:", parse_ref, "hf:o/r@main::file=a/b.gguf");
    torture_scenario("file:", parse_ref, "file:/a/b.gguf");
    torture_scenario("id", parse_ref, "an-id");
}

static enum pool_code open_catalog(void *with_bad)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_model_catalog *catalog = NULL;
    struct pool_catalog_problem *problems = NULL;
    size_t n_problems = 0;
    const char *paths[] = { scene.good, scene.bad };
    enum pool_code code =
        judge(pool_model_catalog_open(paths, with_bad ? 2 : 1, &catalog, &problems, &n_problems, &err),
              with_bad ? POOL_INVALID_CONFIG : POOL_OK, &err);
    if (code != POOL_OK || with_bad)
        assert_null(catalog);
    else
        assert_int_equal(pool_model_catalog_n_models(catalog), 2);
    if (code == POOL_OK)
        assert_int_equal(n_problems, with_bad ? 4 : 1);
    pool_catalog_problems_free(problems, n_problems);
    pool_model_catalog_close(catalog);
    return code;
}

static void test_catalogs(void **state)
{
    (void)state;
    torture_scenario("a good catalog", open_catalog, NULL);
    torture_scenario("a good one and a bad one", open_catalog, scene.bad);
}

static enum pool_code resolve_model(void *context)
{
    struct scene *s = context;
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_model_catalog *catalog = NULL;
    struct pool_model *model = NULL;
    const char *catalogs[] = { s->good };
    const char *dirs[] = { s->models };
    struct pool_model_paths paths = {
        .struct_size = sizeof paths, .n_models_dirs = 1, .models_dirs = dirs, .hf_cache_dir = s->cache
    };
    enum pool_code code =
        judge(pool_model_catalog_open(catalogs, 1, &catalog, NULL, NULL, &err), POOL_OK, &err);
    if (code != POOL_OK)
        return code;
    code = judge(pool_model_resolve(catalog, &paths, s->ref, &model, &err), s->expected, &err);
    if (code != POOL_OK || s->expected != POOL_OK)
        assert_null(model);
    pool_model_free(model);
    pool_model_catalog_close(catalog);
    return code;
}

static void test_resolving(void **state)
{
    (void)state;
    char dir_ref[PATH_MAX + 16];
    char absent_ref[PATH_MAX + 16];
    snprintf(dir_ref, sizeof dir_ref, "file:%s/st", scene.models);
    snprintf(absent_ref, sizeof absent_ref, "file:%s/absent", scene.models);
    const struct {
        const char *ref;
        enum pool_code expected;
    } cases[] = {
        { "r", POOL_OK },
        { "hf:o/r", POOL_OK },
        { "hf:o/c", POOL_OK },
        { dir_ref, POOL_OK },
        { "hf:o/many", POOL_INVALID_REQUEST },
        { "hf:o/absent::file=it's", POOL_MODEL_NOT_FOUND },
        { "file:/etc/passwd", POOL_PERMISSION_DENIED },
        { absent_ref, POOL_MODEL_NOT_FOUND },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scene.ref = cases[i].ref;
        scene.expected = cases[i].expected;
        torture_scenario(cases[i].ref, resolve_model, &scene);
    }
}

static enum pool_code verify_model(void *context)
{
    struct scene *s = context;
    struct pool_error err = POOL_ERROR_INIT;
    struct pool_model_catalog *catalog = NULL;
    const char *catalogs[] = { s->good };
    const char *dirs[] = { s->models };
    struct pool_model_paths paths = { .struct_size = sizeof paths, .n_models_dirs = 1, .models_dirs = dirs };
    struct pool_verify_options options = { .struct_size = sizeof options, .proof_dir = s->proofs };
    struct pool_verify_result result = { 0 };
    enum pool_code code =
        judge(pool_model_catalog_open(catalogs, 1, &catalog, NULL, NULL, &err), POOL_OK, &err);
    if (code != POOL_OK)
        return code;
    code = judge(pool_model_catalog_verify(catalog, &paths, "r", &options, &result, &err), POOL_OK, &err);
    assert_true(result.is_verified == (code == POOL_OK));
    pool_model_catalog_close(catalog);
    return code;
}

static void test_verifying(void **state)
{
    (void)state;
    torture_scenario("verify", verify_model, &scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_toml),      cmocka_unit_test(test_references), cmocka_unit_test(test_catalogs),
        cmocka_unit_test(test_resolving), cmocka_unit_test(test_verifying),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
