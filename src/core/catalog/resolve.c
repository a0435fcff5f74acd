/*
 * From a reference to files on disk. It decides which file is meant, finds its shards, lets every one of them through
 * roots.c and puts the model together. How the Hub's repositories lie on disk is hub.c's; the bytes are verify.c's.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "base/strbuf.h"
#include "core/catalog/catalog.h"
#include "core/catalog/hub.h"
#include "core/catalog/hub_sums.h"
#include "core/catalog/match.h"
#include "core/catalog/model_ref.h"
#include "core/catalog/roots.h"

/* What is known so far of the model that is looked for. */
struct search {
    const struct pool_model_catalog *catalog; /* may be NULL */
    const struct pool_model_paths *paths;
    struct model_roots roots;
    struct pool_model_ref *ref;              /* hf: or file: by now */
    const struct pool_model_metadata *entry; /* NULL: none */
    struct hub_snapshot snapshot;            /* hf: the one that is looked at */
    struct pool_model *model;
};

static void search_done(struct search *search)
{
    model_roots_done(&search->roots);
    pool_model_ref_free(search->ref);
    hub_snapshot_done(&search->snapshot);
    pool_model_free(search->model);
}

static void clear_model(struct pool_model *model)
{
    hub_sums_free(model->known_sha256s, model->n_files);
    for (size_t i = 0; i < model->n_files; i++)
        free(model->file_paths[i]);
    free(model->file_paths);
    free(model->ref);
    free(model->id);
    free(model->path);
    *model = (struct pool_model){ 0 };
}

void pool_model_free(struct pool_model *model)
{
    if (!model)
        return;
    clear_model(model);
    free(model);
}

static void free_ref(struct pool_model_ref **ref)
{
    pool_model_ref_free(*ref);
}

static enum pool_code refuse_ref(struct pool_error *err, enum pool_code code)
{
    pool_error_set_field(err, "model_ref");
    return code;
}

/* ---- files ---- */

/* Adds a file to the model. ret_code of a file that is not there stays MODEL_NOT_FOUND. */
static enum pool_code add_file(struct search *search, const char *path, struct pool_error *err)
{
    struct pool_model *model = search->model;
    struct stat st;
    CLEANUP_FREE char *admitted = NULL;
    enum pool_code code = model_roots_admit(&search->roots, path, &admitted, &st, err);
    if (code != POOL_OK)
        return code;
    if (!S_ISREG(st.st_mode)) {
        pool_error_set(err, POOL_INVALID_REQUEST, "%s is not a regular file", path);
        return refuse_ref(err, POOL_INVALID_REQUEST);
    }
    char **file_paths = realloc(model->file_paths, (model->n_files + 1) * sizeof *file_paths);
    if (!file_paths)
        return pool_error_no_memory(err);
    model->file_paths = file_paths;
    file_paths[model->n_files++] = take_ptr(&admitted);
    model->size_bytes = add_bytes(model->size_bytes, st.st_size);
    return POOL_OK;
}

/* The same for a file that has to be there because the first one is. */
static enum pool_code add_shard(struct search *search, const char *path, size_t number, size_t total,
                                struct pool_error *err)
{
    struct pool_error why = POOL_ERROR_INIT;
    enum pool_code code = add_file(search, path, &why);
    if (code == POOL_MODEL_NOT_FOUND) {
        pool_error_set(err, POOL_MODEL_CORRUPT, "file %zu of %zu is missing: %s", number, total, path);
        pool_error_add_text(err, "path", path);
        return POOL_MODEL_CORRUPT;
    }
    if (code != POOL_OK && err)
        *err = why;
    return code;
}

/* The further files an entry lists. Inside a repository they lie under `dir`, else they are absolute. */
static enum pool_code add_listed_files(struct search *search, const char *dir, struct pool_error *err)
{
    const struct pool_model_metadata *entry = search->entry;
    for (size_t i = 1; i < entry->n_files; i++) {
        CLEANUP_FREE char *path = NULL;
        if (asprintf(&path, "%s%s%s", dir ? dir : "", dir ? "/" : "", entry->files[i].file) < 0) {
            path = NULL;
            return pool_error_no_memory(err);
        }
        enum pool_code code = add_shard(search, path, i + 1, entry->n_files, err);
        if (code != POOL_OK)
            return code;
    }
    return POOL_OK;
}

static enum pool_code refuse_split(const char *file, struct pool_error *err)
{
    struct hub_split split = hub_parse_split(file);
    if (split.total > POOL_MODEL_FILES_MAX)
        pool_error_set(err, POOL_INVALID_REQUEST, "a model has at most %d files, the name says %u",
                       POOL_MODEL_FILES_MAX, split.total);
    else
        pool_error_set(err, POOL_INVALID_REQUEST,
                       "this is file %u of a split model; name the first one: %.*s-00001-of-%05u.gguf",
                       split.number, (int)split.n_stem, file, split.total);
    return refuse_ref(err, POOL_INVALID_REQUEST);
}

/* The other shards of a split GGUF, beside the first. */
static enum pool_code add_split(struct search *search, const char *first_path, struct pool_error *err)
{
    struct hub_split split = hub_parse_split(first_path);
    for (unsigned number = 2; number <= split.total; number++) {
        CLEANUP_FREE char *path = NULL;
        if (asprintf(&path, "%.*s-%05u-of-%05u.gguf", (int)split.n_stem, first_path, number, split.total) <
            0) {
            path = NULL;
            return pool_error_no_memory(err);
        }
        enum pool_code code = add_shard(search, path, number, split.total, err);
        if (code != POOL_OK)
            return code;
    }
    return POOL_OK;
}

/* A model that is one file or several. `dir`: of the repository, NULL for a local file. */
static enum pool_code collect_files(struct search *search, const char *dir, const char *first_path,
                                    struct pool_error *err)
{
    struct hub_split split = hub_parse_split(first_path);
    if (split.number > 1 || split.total > POOL_MODEL_FILES_MAX)
        return refuse_split(search->ref->file ? search->ref->file : first_path, err);
    enum pool_code code = add_file(search, first_path, err);
    if (code != POOL_OK)
        return code;
    if (search->entry && search->entry->n_files > 1)
        code = add_listed_files(search, dir, err);
    else
        code = add_split(search, first_path, err);
    if (code != POOL_OK)
        return code;
    search->model->path = strdup(search->model->file_paths[0]);
    return search->model->path ? POOL_OK : pool_error_no_memory(err);
}

static int is_weights_file(const struct dirent *entry)
{
    size_t n = strlen(entry->d_name);
    return n > 12 && entry->d_name[0] != '.' && strcmp(entry->d_name + n - 12, ".safetensors") == 0;
}

static enum pool_code add_named(struct search *search, const char *dir, const char *name,
                                struct pool_error *err)
{
    CLEANUP_FREE char *path = NULL;
    if (asprintf(&path, "%s/%s", dir, name) < 0) {
        path = NULL;
        return pool_error_no_memory(err);
    }
    return add_file(search, path, err);
}

/* Adds the weights of a directory, ordered by name. MODEL_NOT_FOUND when there are none. */
static enum pool_code add_weights(struct search *search, const char *dir, struct pool_error *err)
{
    struct dirent **entries = NULL;
    int n = scandir(dir, &entries, is_weights_file, alphasort);
    if (n < 0)
        return errno == ENOMEM
                   ? pool_error_no_memory(err)
                   : pool_error_set_errno(err, POOL_INTERNAL, errno, "cannot read the directory %s", dir);
    enum pool_code code = POOL_OK;
    if (n == 0)
        code = pool_error_set(err, POOL_MODEL_NOT_FOUND, "%s has no *.safetensors in it", dir);
    else if (n > POOL_MODEL_FILES_MAX)
        code = pool_error_set(err, POOL_INVALID_REQUEST, "%s has more than %d *.safetensors in it", dir,
                              POOL_MODEL_FILES_MAX);
    for (int i = 0; i < n; i++) {
        if (code == POOL_OK)
            code = add_named(search, dir, entries[i]->d_name, err);
        free(entries[i]);
    }
    free(entries);
    return code;
}

/* A model that is a directory: weights as safetensors, and config.json behind them. */
static enum pool_code collect_directory(struct search *search, const char *dir, struct pool_error *err)
{
    struct stat st;
    enum pool_code code = model_roots_admit(&search->roots, dir, &search->model->path, &st, err);
    if (code != POOL_OK)
        return code;
    code = add_weights(search, search->model->path, err);
    if (code == POOL_OK)
        code = add_named(search, search->model->path, "config.json", err);
    if (code == POOL_MODEL_NOT_FOUND) {
        pool_error_set(err, POOL_MODEL_INCOMPATIBLE,
                       "%s is no model: a directory needs *.safetensors and config.json", dir);
        pool_error_add_text(err, "path", dir);
        return refuse_ref(err, POOL_MODEL_INCOMPATIBLE);
    }
    return code;
}

/* ---- the two schemes ---- */

static enum pool_code resolve_file(struct search *search, struct pool_error *err)
{
    const char *path = search->ref->path;
    if (!search->entry)
        search->entry = catalog_find_entry(search->catalog, search->ref, search->snapshot.commit);
    struct stat st;
    CLEANUP_FREE char *admitted = NULL;
    enum pool_code code = model_roots_admit(&search->roots, path, &admitted, &st, err);
    if (code != POOL_OK)
        return code;
    return S_ISDIR(st.st_mode) ? collect_directory(search, path, err)
                               : collect_files(search, NULL, path, err);
}

/* Names the file when the reference did not. Nothing is named when the snapshot is a directory model. */
static enum pool_code choose_file(struct search *search, struct pool_error *err)
{
    CLEANUP(hub_names_done) struct hub_names names = { 0 };
    enum pool_code code = hub_list_ggufs(search->snapshot.dir, &names, err);
    if (code != POOL_OK || names.n == 0)
        return code;
    const char *choice =
        names.n == 1 ? names.names[0]
                     : catalog_find_choice(search->catalog, search->ref, search->snapshot.commit, &names);
    if (!choice) {
        char shown[POOL_ERROR_MESSAGE_MAX / 2];
        hub_names_show(&names, shown, sizeof shown);
        pool_error_set(err, POOL_INVALID_REQUEST,
                       "several files could be meant, add ::file=PATH with one of: %s", shown);
        pool_error_add_number(err, "n_choices", (int64_t)names.n);
        return refuse_ref(err, POOL_INVALID_REQUEST);
    }
    search->ref->file = strdup(choice);
    return search->ref->file ? POOL_OK : pool_error_no_memory(err);
}

/* Looks at the snapshot that was found. MODEL_NOT_FOUND: the file is not in it. */
static enum pool_code resolve_snapshot(struct search *search, struct pool_error *err)
{
    enum pool_code code = search->ref->file ? POOL_OK : choose_file(search, err);
    if (code != POOL_OK)
        return code;
    if (!search->entry)
        search->entry = catalog_find_entry(search->catalog, search->ref, search->snapshot.commit);
    if (!search->ref->file) {
        code = collect_directory(search, search->snapshot.dir, err);
        return code == POOL_MODEL_INCOMPATIBLE ? POOL_MODEL_NOT_FOUND : code;
    }
    CLEANUP_FREE char *path = NULL;
    if (asprintf(&path, "%s/%s", search->snapshot.dir, search->ref->file) < 0) {
        path = NULL;
        return pool_error_no_memory(err);
    }
    return collect_files(search, search->snapshot.dir, path, err);
}

/* A text as one word of a shell: quoted when it needs it, for a command that people copy. */
static char *quote_word(const char *text)
{
    static const char PLAIN[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-";
    if (text[strspn(text, PLAIN)] == '\0')
        return strdup(text);
    CLEANUP(strbuf_done) struct strbuf word = STRBUF_INIT((size_t)8 * POOL_MODEL_REF_MAX);
    strbuf_add_char(&word, '\'');
    for (const char *c = text; *c; c++) {
        if (*c == '\'')
            strbuf_add_text(&word, "'\\''");
        else
            strbuf_add_char(&word, *c);
    }
    strbuf_add_char(&word, '\'');
    return strbuf_take(&word);
}

static enum pool_code refuse_absent(const struct search *search, struct hub_names *commits,
                                    struct pool_error *err)
{
    if (commits->n > 0) {
        char shown[POOL_ERROR_MESSAGE_MAX / 2];
        hub_names_show(commits, shown, sizeof shown);
        pool_error_set(err, POOL_INVALID_REQUEST,
                       "several revisions are on disk, add @COMMIT with one of: %s", shown);
        pool_error_add_number(err, "n_choices", (int64_t)commits->n);
        return refuse_ref(err, POOL_INVALID_REQUEST);
    }
    CLEANUP_FREE char *text = pool_model_ref_format(search->ref);
    CLEANUP_FREE char *word = text ? quote_word(text) : NULL;
    CLEANUP_FREE char *command = NULL;
    if (!word || asprintf(&command, "rbees-pool models download %s", word) < 0) {
        command = NULL;
        return pool_error_no_memory(err);
    }
    pool_error_set(err, POOL_MODEL_NOT_FOUND, "%s is not on disk; download it with: %s", text, command);
    pool_error_add_text(err, "download_command", command);
    return refuse_ref(err, POOL_MODEL_NOT_FOUND);
}

/* Pins the reference to the commit that was found. */
static enum pool_code pin_commit(struct search *search, struct pool_error *err)
{
    char *commit = strdup(search->snapshot.commit);
    if (!commit)
        return pool_error_no_memory(err);
    free(search->ref->revision);
    search->ref->revision = commit;
    return POOL_OK;
}

/* Looks into one place. What a vain look left behind is taken back, so that the next one starts afresh. */
static enum pool_code look_into_place(struct search *search, const struct hub_place *place,
                                      struct hub_names *commits, struct pool_error *err)
{
    const struct pool_model_metadata *entry = search->entry;
    bool was_file_given = search->ref->file != NULL;
    enum pool_code code = hub_find_snapshot(place, search->ref, &search->snapshot, commits, err);
    if (code != POOL_OK)
        return code;
    code = resolve_snapshot(search, err);
    if (code == POOL_OK) {
        struct pool_model *model = search->model;
        model->known_sha256s =
            hub_sums_of_files(search->snapshot.dir, place->is_cache, model->n_files, model->file_paths);
        return model->known_sha256s ? pin_commit(search, err) : pool_error_no_memory(err);
    }
    clear_model(search->model);
    hub_snapshot_done(&search->snapshot);
    search->entry = entry;
    if (!was_file_given) {
        free(search->ref->file);
        search->ref->file = NULL;
    }
    return code;
}

static enum pool_code resolve_hub(struct search *search, struct pool_error *err)
{
    CLEANUP(hub_names_done) struct hub_names commits = { 0 };
    const struct pool_model_paths *paths = search->paths;
    for (size_t i = 0; i <= paths->n_models_dirs; i++) {
        bool is_cache = i == paths->n_models_dirs;
        struct hub_place place = { is_cache ? paths->hf_cache_dir : paths->models_dirs[i], is_cache };
        if (!place.dir)
            break;
        struct pool_error why = POOL_ERROR_INIT;
        enum pool_code code = look_into_place(search, &place, &commits, &why);
        if (code == POOL_MODEL_NOT_FOUND)
            continue;
        if (code != POOL_OK && err)
            *err = why;
        return code;
    }
    return refuse_absent(search, &commits, err);
}

/* ---- the whole ---- */

static enum pool_code look_up_id(struct search *search, struct pool_error *err)
{
    if (!search->catalog) {
        pool_error_set(err, POOL_MODEL_NOT_FOUND, "there is no catalog to look the id \"%s\" up in",
                       search->ref->id);
        return refuse_ref(err, POOL_MODEL_NOT_FOUND);
    }
    enum pool_code code = pool_model_catalog_get(search->catalog, search->ref->id, &search->entry, err);
    if (code != POOL_OK)
        return refuse_ref(err, code);
    CLEANUP(free_ref) struct pool_model_ref *ref = NULL;
    code = catalog_make_ref(search->entry, &ref, err);
    if (code != POOL_OK)
        return code;
    pool_model_ref_free(search->ref);
    search->ref = take_ptr(&ref);
    return POOL_OK;
}

static enum pool_code finish_model(struct search *search, struct pool_error *err)
{
    struct pool_model *model = search->model;
    model->metadata = search->entry;
    model->ref = pool_model_ref_format(search->ref);
    model->id = search->entry ? strdup(search->entry->id) : NULL;
    if (!model->ref || (search->entry && !model->id))
        return pool_error_no_memory(err);
    return POOL_OK;
}

enum pool_code pool_model_resolve(const struct pool_model_catalog *catalog,
                                  const struct pool_model_paths *paths, const char *model_ref,
                                  struct pool_model **ret_model, struct pool_error *err)
{
    if (paths->struct_size == 0)
        return pool_error_set(err, POOL_INVALID_REQUEST, "struct_size of the paths is not set");
    /* A caller built with an older header gives a shorter struct. */
    struct pool_model_paths known = { 0 };
    memcpy(&known, paths, paths->struct_size < sizeof known ? paths->struct_size : sizeof known);

    CLEANUP(search_done) struct search search = { .catalog = catalog, .paths = &known };
    enum pool_code code = pool_model_ref_parse(model_ref, strlen(model_ref), &search.ref, err);
    if (code == POOL_OK)
        code = model_roots_init(&search.roots, &known, err);
    if (code == POOL_OK && search.ref->kind == POOL_MODEL_REF_ID)
        code = look_up_id(&search, err);
    if (code != POOL_OK)
        return code;
    search.model = calloc(1, sizeof *search.model);
    if (!search.model)
        return pool_error_no_memory(err);
    code = search.ref->kind == POOL_MODEL_REF_HF ? resolve_hub(&search, err) : resolve_file(&search, err);
    if (code == POOL_OK)
        code = finish_model(&search, err);
    if (code != POOL_OK)
        return code;
    *ret_model = take_ptr(&search.model);
    return POOL_OK;
}
