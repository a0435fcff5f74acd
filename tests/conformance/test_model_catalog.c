/*
 * What every implementation of struct pool_model_catalog_ops must do, asked through the public functions. Two take
 * the suite: the TOML files of the library, and a list of words of this file's own, which shows that nothing of the
 * front depends on TOML.
 */
#include "scratch_tree.h"

#include <pool/catalog.h>

#include "core/catalog/catalog.h"

/* ---- a catalog that is a line of words: each an id of the model /m/ID.gguf ---- */

#define WORDS_MAX 16

struct words {
    size_t n;
    struct pool_model_metadata models[WORDS_MAX];
    struct pool_model_file files[WORDS_MAX];
    char ids[WORDS_MAX][65];
    char paths[WORDS_MAX][80];
};

static const struct pool_model_metadata *find_word(const void *self, const char *id)
{
    const struct words *words = self;
    for (size_t i = 0; i < words->n; i++) {
        if (strcmp(words->models[i].id, id) == 0)
            return &words->models[i];
    }
    return NULL;
}

static int compare_words(const void *a, const void *b)
{
    return strcmp(((const struct pool_model_metadata *)a)->id, ((const struct pool_model_metadata *)b)->id);
}

static bool add_word(struct words *words, struct pool_model_catalog *front, const char *source,
                     uint32_t column, const char *word, size_t n)
{
    if (words->n == WORDS_MAX || n >= sizeof words->ids[0] || memchr(word, '?', n))
        return pool_catalog_report_problem(front, false, source, 1, column, "\"%.*s\" is no id", (int)n,
                                           word);
    if (n == 1 && *word == '~')
        return pool_catalog_report_problem(front, true, source, 1, column, "\"~\" is ignored");
    char *id = words->ids[words->n];
    memcpy(id, word, n);
    if (find_word(words, id))
        return pool_catalog_report_problem(front, false, source, 1, column, "\"%s\" is there twice", id);
    char text[80];
    snprintf(text, sizeof text, "/m/%.*s.gguf", (int)n, word);
    char *path = words->paths[words->n];
    memcpy(path, text, sizeof text);
    words->files[words->n] = (struct pool_model_file){ .file = path, .size_bytes = -1 };
    words->models[words->n] = (struct pool_model_metadata){ .id = id,
                                                            .file = path,
                                                            .size_bytes = -1,
                                                            .n_files = 1,
                                                            .files = &words->files[words->n],
                                                            .catalog_path = (char *)source,
                                                            .line = 1 };
    words->n++;
    return true;
}

static enum pool_code open_words(void *self, struct pool_model_catalog *front, const char *const *sources,
                                 size_t n_sources, struct pool_error *err)
{
    struct words *words = self;
    for (size_t i = 0; i < n_sources; i++) {
        if (sources[i][0] == '!')
            return pool_error_set(err, POOL_INVALID_CONFIG, "this source can not be read at all");
        const char *at = sources[i];
        while (*at) {
            size_t n = strcspn(at, " ");
            if (n > 0 && !add_word(words, front, sources[i], (uint32_t)(at - sources[i] + 1), at, n))
                return pool_error_no_memory(err);
            at += n + (at[n] == ' ');
        }
    }
    qsort(words->models, words->n, sizeof *words->models, compare_words);
    return POOL_OK;
}

static size_t count_words(const void *self)
{
    return ((const struct words *)self)->n;
}

static const struct pool_model_metadata *word_at(const void *self, size_t index)
{
    return &((const struct words *)self)->models[index];
}

static void close_words(void *self)
{
    memset(self, 0x55, sizeof(struct words));
}

static const struct pool_model_catalog_ops words_ops = {
    .name = "words",
    .private_bytes = sizeof(struct words),
    .open = open_words,
    .n_models = count_words,
    .at = word_at,
    .find = find_word,
    .close = close_words,
};

/* ---- the implementations under test ---- */

enum source { THREE, FOURTH, EMPTY, DOUBLE, WRONG, WARNED, UNREADABLE, N_SOURCES };

struct subject {
    const struct pool_model_catalog_ops *ops;
    const char *texts[N_SOURCES];
    bool is_file;
    struct scratch_tree tree;
    char sources[N_SOURCES][PATH_MAX];
};

#define TOML_ENTRY(id) "[[models]]\nid = \"" id "\"\nfile = \"/m/" id ".gguf\"\n"

static struct subject subjects[] = {
    { .ops = &model_catalog_toml,
      .is_file = true,
      .texts = { [THREE] = TOML_ENTRY("zulu") TOML_ENTRY("alpha") TOML_ENTRY("mike"),
                 [FOURTH] = TOML_ENTRY("november"),
                 [EMPTY] = "# nothing yet\n",
                 [DOUBLE] = TOML_ENTRY("yankee") TOML_ENTRY("mike"),
                 [WRONG] = TOML_ENTRY("wh?") TOML_ENTRY("x-ray") TOML_ENTRY("?"),
                 [WARNED] = "unknown = 1\n" TOML_ENTRY("oscar"),
                 [UNREADABLE] = "[[models\n" } },
    { .ops = &words_ops,
      .texts = { [THREE] = "zulu alpha mike",
                 [FOURTH] = "november",
                 [EMPTY] = "",
                 [DOUBLE] = "yankee mike",
                 [WRONG] = "wh? x-ray ?",
                 [WARNED] = "~ oscar",
                 [UNREADABLE] = "!" } },
};

struct opened {
    enum pool_code code;
    struct pool_model_catalog *catalog;
    struct pool_catalog_problem *problems;
    size_t n_problems;
    struct pool_error err;
};

static void make_sources(struct subject *subject)
{
    scratch_tree_make(&subject->tree);
    for (size_t i = 0; i < N_SOURCES; i++) {
        const char *text = subject->texts[i];
        char name[16];
        snprintf(name, sizeof name, "%zu", i);
        if (subject->is_file) {
            scratch_tree_write_text(&subject->tree, name, text);
            scratch_tree_path(&subject->tree, name, subject->sources[i], sizeof subject->sources[i]);
        } else {
            snprintf(subject->sources[i], sizeof subject->sources[i], "%s", text);
        }
    }
}

static void open_sources(struct subject *subject, size_t n, const enum source *kinds, struct opened *opened)
{
    const char *sources[N_SOURCES] = { 0 };
    for (size_t i = 0; i < n; i++)
        sources[i] = subject->sources[kinds[i]];
    memset(opened, 0, sizeof *opened);
    opened->code = pool_model_catalog_open_ops(subject->ops, sources, n, &opened->catalog, &opened->problems,
                                               &opened->n_problems, &opened->err);
}

#define OPEN(subject, opened, ...)                                                        \
    open_sources((subject), sizeof((enum source[]){ __VA_ARGS__ }) / sizeof(enum source), \
                 (enum source[]){ __VA_ARGS__ }, (opened))

static void close_opened(struct opened *opened)
{
    pool_model_catalog_close(opened->catalog);
    pool_catalog_problems_free(opened->problems, opened->n_problems);
}

static int set_up(void **state)
{
    make_sources(*state);
    return 0;
}

static int tear_down(void **state)
{
    struct subject *subject = *state;
    scratch_tree_remove(&subject->tree);
    return 0;
}

static void check_ids(const struct pool_model_catalog *catalog, size_t n, const char *const *ids)
{
    assert_int_equal(pool_model_catalog_n_models(catalog), n);
    for (size_t i = 0; i < n; i++)
        assert_string_equal(pool_model_catalog_at(catalog, i)->id, ids[i]);
    assert_null(pool_model_catalog_at(catalog, n));
    assert_null(pool_model_catalog_at(catalog, SIZE_MAX));
}

static void test_list_is_ordered_by_id(void **state)
{
    struct opened opened;
    OPEN(*state, &opened, THREE);
    assert_int_equal(opened.code, POOL_OK);
    assert_int_equal(opened.n_problems, 0);
    static const char *const ids[] = { "alpha", "mike", "zulu" };
    check_ids(opened.catalog, 3, ids);
    close_opened(&opened);
}

static void test_get(void **state)
{
    struct opened opened;
    OPEN(*state, &opened, THREE);
    assert_int_equal(opened.code, POOL_OK);
    for (size_t i = 0; i < 3; i++) {
        const struct pool_model_metadata *listed = pool_model_catalog_at(opened.catalog, i);
        const struct pool_model_metadata *found = NULL;
        assert_int_equal(pool_model_catalog_get(opened.catalog, listed->id, &found, NULL), POOL_OK);
        assert_ptr_equal(found, listed);
    }
    const struct pool_model_metadata *found = NULL;
    assert_int_equal(pool_model_catalog_get(opened.catalog, "november", &found, &opened.err),
                     POOL_MODEL_NOT_FOUND);
    assert_int_equal(opened.err.code, POOL_MODEL_NOT_FOUND);
    assert_int_equal(pool_model_catalog_get(opened.catalog, "Alpha", &found, NULL), POOL_MODEL_NOT_FOUND);
    assert_int_equal(pool_model_catalog_get(opened.catalog, "alph", &found, NULL), POOL_MODEL_NOT_FOUND);
    assert_int_equal(pool_model_catalog_get(opened.catalog, "alphaa", &found, NULL), POOL_MODEL_NOT_FOUND);
    assert_int_equal(pool_model_catalog_get(opened.catalog, "", &found, NULL), POOL_INVALID_REQUEST);
    assert_int_equal(pool_model_catalog_get(opened.catalog, "al pha", &found, NULL), POOL_INVALID_REQUEST);
    assert_null(found);
    close_opened(&opened);
}

static void test_metadata_is_whole(void **state)
{
    struct subject *subject = *state;
    struct opened opened;
    OPEN(subject, &opened, THREE);
    assert_int_equal(opened.code, POOL_OK);
    for (size_t i = 0; i < 3; i++) {
        const struct pool_model_metadata *model = pool_model_catalog_at(opened.catalog, i);
        assert_true(model->n_files >= 1);
        assert_string_equal(model->file, model->files[0].file);
        assert_string_equal(model->catalog_path, subject->sources[THREE]);
        assert_true(model->line >= 1);
        assert_true(model->size_bytes >= -1);
    }
    struct pool_model_metadata *copy = pool_model_metadata_copy(pool_model_catalog_at(opened.catalog, 0));
    close_opened(&opened);
    assert_non_null(copy);
    assert_string_equal(copy->id, "alpha");
    assert_string_equal(copy->files[0].file, "/m/alpha.gguf");
    pool_model_metadata_free(copy);
}

static void test_sources_are_merged(void **state)
{
    struct opened opened;
    OPEN(*state, &opened, THREE, EMPTY, FOURTH);
    static const char *const ids[] = { "alpha", "mike", "november", "zulu" };
    assert_int_equal(opened.code, POOL_OK);
    check_ids(opened.catalog, 4, ids);
    close_opened(&opened);
}

static void test_empty(void **state)
{
    struct opened opened;
    OPEN(*state, &opened, EMPTY);
    assert_int_equal(opened.code, POOL_OK);
    check_ids(opened.catalog, 0, NULL);
    const struct pool_model_metadata *found = NULL;
    assert_int_equal(pool_model_catalog_get(opened.catalog, "alpha", &found, NULL), POOL_MODEL_NOT_FOUND);
    close_opened(&opened);
    open_sources(*state, 0, NULL, &opened);
    assert_int_equal(opened.code, POOL_OK);
    check_ids(opened.catalog, 0, NULL);
    close_opened(&opened);
}

static void test_no_id_is_redefined(void **state)
{
    struct subject *subject = *state;
    struct opened opened;
    OPEN(subject, &opened, THREE, DOUBLE);
    assert_int_equal(opened.code, POOL_INVALID_CONFIG);
    assert_null(opened.catalog);
    assert_int_equal(opened.n_problems, 1);
    assert_false(opened.problems[0].is_warning);
    assert_string_equal(opened.problems[0].path, subject->sources[DOUBLE]);
    assert_int_equal(pool_error_detail(&opened.err, "line")->number, opened.problems[0].line);
    close_opened(&opened);
}

static void test_every_problem_is_told(void **state)
{
    struct opened opened;
    OPEN(*state, &opened, WRONG, DOUBLE, WRONG);
    assert_int_equal(opened.code, POOL_INVALID_CONFIG);
    /* two wrong ids, twice, and "x-ray" twice */
    assert_int_equal(opened.n_problems, 5);
    assert_int_equal(pool_error_detail(&opened.err, "n_problems")->number, 5);
    assert_null(opened.catalog);
    close_opened(&opened);
}

static void test_warnings_do_not_stop(void **state)
{
    struct opened opened;
    OPEN(*state, &opened, WARNED, THREE);
    assert_int_equal(opened.code, POOL_OK);
    assert_int_equal(opened.n_problems, 1);
    assert_true(opened.problems[0].is_warning);
    assert_int_equal(pool_model_catalog_n_models(opened.catalog), 4);
    close_opened(&opened);
}

static void test_unreadable(void **state)
{
    struct opened opened;
    OPEN(*state, &opened, THREE, UNREADABLE);
    assert_int_equal(opened.code, POOL_INVALID_CONFIG);
    assert_int_equal(opened.err.code, POOL_INVALID_CONFIG);
    assert_null(opened.catalog);
    close_opened(&opened);
}

#define FOR(i, test)                                 \
    {                                                \
#test, test, set_up, tear_down, &subjects[i] \
    }
#define SUITE(i)                                                                              \
    FOR(i, test_list_is_ordered_by_id), FOR(i, test_get), FOR(i, test_metadata_is_whole),     \
        FOR(i, test_sources_are_merged), FOR(i, test_empty), FOR(i, test_no_id_is_redefined), \
        FOR(i, test_every_problem_is_told), FOR(i, test_warnings_do_not_stop), FOR(i, test_unreadable)

int main(void)
{
    const struct CMUnitTest toml[] = { SUITE(0) };
    const struct CMUnitTest words[] = { SUITE(1) };
    int n_failed = cmocka_run_group_tests_name("toml", toml, NULL, NULL);
    n_failed += cmocka_run_group_tests_name("words", words, NULL, NULL);
    return n_failed > 0;
}
