/*
 * The front of catalogs: opening an implementation, collecting the problems it finds, asking it. Also copies
 * metadata. What a catalog looks like on disk is the implementation's affair (parser.c).
 */
#include "core/catalog/catalog.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "core/catalog/model_ref.h"

struct pool_model_catalog {
    const struct pool_model_catalog_ops *ops;
    void *self;
    atomic_int n_owners;
    bool is_open;
    /* while it is being opened: */
    struct pool_catalog_problem *problems;
    size_t n_problems, problems_capacity;
    size_t n_errors, n_left_out;
    size_t first_error; /* index in problems */
};

/* ---- metadata ---- */

/* Carves pieces out of one block. Run once with base NULL to measure, and again to copy. */
struct packer {
    char *base;
    size_t n;
};

static void *pack_bytes(struct packer *packer, const void *from, size_t n, size_t alignment)
{
    packer->n = (packer->n + alignment - 1) / alignment * alignment;
    void *to = packer->base ? packer->base + packer->n : NULL;
    if (to && n > 0)
        memcpy(to, from, n);
    packer->n += n;
    return to;
}

static char *pack_text(struct packer *packer, const char *text)
{
    return text ? pack_bytes(packer, text, strlen(text) + 1, 1) : NULL;
}

static struct pool_model_metadata *pack_model(struct packer *packer, const struct pool_model_metadata *from)
{
    struct pool_model_metadata into = *from;
    struct pool_model_metadata *model =
        pack_bytes(packer, from, sizeof *from, _Alignof(struct pool_model_metadata));
    into.files = pack_bytes(packer, from->files, from->n_files * sizeof *from->files,
                            _Alignof(struct pool_model_file));
    into.backends =
        pack_bytes(packer, from->backends, from->n_backends * sizeof *from->backends, _Alignof(char *));
    into.id = pack_text(packer, from->id);
    into.name = pack_text(packer, from->name);
    into.repo = pack_text(packer, from->repo);
    into.file = pack_text(packer, from->file);
    into.revision = pack_text(packer, from->revision);
    into.catalog_path = pack_text(packer, from->catalog_path);
    for (size_t i = 0; i < from->n_files; i++) {
        char *file = pack_text(packer, from->files[i].file);
        char *sha256 = pack_text(packer, from->files[i].sha256);
        if (packer->base) {
            into.files[i].file = file;
            into.files[i].sha256 = sha256;
        }
    }
    for (size_t i = 0; i < from->n_backends; i++) {
        char *backend = pack_text(packer, from->backends[i]);
        if (packer->base)
            into.backends[i] = backend;
    }
    if (packer->base)
        *model = into;
    return model;
}

struct pool_model_metadata *model_metadata_pack(const struct pool_model_metadata *model)
{
    struct packer packer = { 0 };
    pack_model(&packer, model);
    packer.base = malloc(packer.n);
    if (!packer.base)
        return NULL;
    packer.n = 0;
    return pack_model(&packer, model);
}

struct pool_model_metadata *pool_model_metadata_copy(const struct pool_model_metadata *model)
{
    return model_metadata_pack(model);
}

void pool_model_metadata_free(struct pool_model_metadata *model)
{
    free(model);
}

/* ---- problems ---- */

void pool_catalog_problems_free(struct pool_catalog_problem *problems, size_t n_problems)
{
    for (size_t i = 0; problems && i < n_problems; i++) {
        free(problems[i].path);
        free(problems[i].message);
    }
    free(problems);
}

static bool reserve_problem(struct pool_model_catalog *front)
{
    if (front->n_problems < front->problems_capacity)
        return true;
    size_t capacity = front->problems_capacity ? 2 * front->problems_capacity : 8;
    struct pool_catalog_problem *problems = realloc(front->problems, capacity * sizeof *problems);
    if (!problems)
        return false;
    front->problems = problems;
    front->problems_capacity = capacity;
    return true;
}

bool pool_catalog_report_problem(struct pool_model_catalog *front, bool is_warning, const char *path,
                                 uint32_t line, uint32_t column, const char *format, ...)
{
    /* The first error is always kept, however many warnings came before it. */
    bool is_first_error = !is_warning && front->n_errors == 0;
    if (front->n_problems >= POOL_CATALOG_PROBLEMS_MAX && !is_first_error) {
        front->n_left_out++;
        front->n_errors += !is_warning;
        return true;
    }
    if (!reserve_problem(front))
        return false;
    struct pool_catalog_problem problem = { .is_warning = is_warning, .line = line, .column = column };
    problem.path = strdup(path);
    va_list args;
    va_start(args, format);
    if (vasprintf(&problem.message, format, args) < 0)
        problem.message = NULL;
    va_end(args);
    if (!problem.path || !problem.message) {
        free(problem.path);
        free(problem.message);
        return false;
    }
    if (is_first_error)
        front->first_error = front->n_problems;
    front->n_errors += !is_warning;
    front->problems[front->n_problems++] = problem;
    return true;
}

static enum pool_code set_first_error(const struct pool_model_catalog *front, struct pool_error *err)
{
    const struct pool_catalog_problem *first = &front->problems[front->first_error];
    enum pool_code code;
    if (first->line > 0)
        code = pool_error_set(err, POOL_INVALID_CONFIG, "%s:%u:%u: %s", first->path, first->line,
                              first->column, first->message);
    else
        code = pool_error_set(err, POOL_INVALID_CONFIG, "%s: %s", first->path, first->message);
    pool_error_add_number(err, "n_problems", (int64_t)front->n_errors);
    pool_error_add_text(err, "path", first->path);
    if (first->line > 0) {
        pool_error_add_number(err, "line", first->line);
        pool_error_add_number(err, "column", first->column);
    }
    return code;
}

/* ---- catalogs ---- */

static void close_catalog(struct pool_model_catalog **catalog)
{
    pool_model_catalog_close(*catalog);
}

void pool_model_catalog_close(struct pool_model_catalog *catalog)
{
    if (!catalog || atomic_fetch_sub(&catalog->n_owners, 1) > 1)
        return;
    if (catalog->is_open)
        catalog->ops->close(catalog->self);
    pool_catalog_problems_free(catalog->problems, catalog->n_problems);
    free(catalog->self);
    free(catalog);
}

struct pool_model_catalog *pool_model_catalog_share(struct pool_model_catalog *catalog)
{
    atomic_fetch_add(&catalog->n_owners, 1);
    return catalog;
}

static enum pool_code open_front(struct pool_model_catalog *front, const char *const *sources,
                                 size_t n_sources, struct pool_error *err)
{
    enum pool_code code = front->ops->open(front->self, front, sources, n_sources, err);
    if (code != POOL_OK)
        return code;
    front->is_open = true;
    if (front->n_left_out > 0) {
        const char *path = front->problems[front->n_problems - 1].path;
        size_t n_left_out = front->n_left_out;
        if (!reserve_problem(front))
            return pool_error_no_memory(err);
        struct pool_catalog_problem last = { .is_warning = front->n_errors == 0, .path = strdup(path) };
        if (asprintf(&last.message, "and %zu more", n_left_out) < 0)
            last.message = NULL;
        if (!last.path || !last.message) {
            free(last.path);
            free(last.message);
            return pool_error_no_memory(err);
        }
        front->problems[front->n_problems++] = last;
    }
    return front->n_errors > 0 ? set_first_error(front, err) : POOL_OK;
}

enum pool_code pool_model_catalog_open_ops(const struct pool_model_catalog_ops *ops,
                                           const char *const *sources, size_t n_sources,
                                           struct pool_model_catalog **ret_catalog,
                                           struct pool_catalog_problem **ret_problems, size_t *ret_n_problems,
                                           struct pool_error *err)
{
    if (ret_problems)
        *ret_problems = NULL;
    if (ret_n_problems)
        *ret_n_problems = 0;
    CLEANUP(close_catalog) struct pool_model_catalog *front = calloc(1, sizeof *front);
    if (!front)
        return pool_error_no_memory(err);
    front->ops = ops;
    atomic_init(&front->n_owners, 1);
    front->self = calloc(1, ops->private_bytes ? ops->private_bytes : 1);
    if (!front->self)
        return pool_error_no_memory(err);
    enum pool_code code = open_front(front, sources, n_sources, err);

    if (ret_problems && ret_n_problems) {
        *ret_n_problems = front->n_problems;
        *ret_problems = take_ptr(&front->problems);
    }
    pool_catalog_problems_free(front->problems, front->n_problems);
    front->problems = NULL;
    front->n_problems = front->problems_capacity = 0;
    if (code == POOL_OK)
        *ret_catalog = take_ptr(&front);
    return code;
}

enum pool_code pool_model_catalog_open(const char *const *paths, size_t n_paths,
                                       struct pool_model_catalog **ret_catalog,
                                       struct pool_catalog_problem **ret_problems, size_t *ret_n_problems,
                                       struct pool_error *err)
{
    return pool_model_catalog_open_ops(&model_catalog_toml, paths, n_paths, ret_catalog, ret_problems,
                                       ret_n_problems, err);
}

size_t pool_model_catalog_n_models(const struct pool_model_catalog *catalog)
{
    return catalog->ops->n_models(catalog->self);
}

const struct pool_model_metadata *pool_model_catalog_at(const struct pool_model_catalog *catalog,
                                                        size_t index)
{
    return index < pool_model_catalog_n_models(catalog) ? catalog->ops->at(catalog->self, index) : NULL;
}

enum pool_code pool_model_catalog_get(const struct pool_model_catalog *catalog, const char *id,
                                      const struct pool_model_metadata **ret_model, struct pool_error *err)
{
    const char *problem = model_id_problem(id);
    if (problem) {
        pool_error_set(err, POOL_INVALID_REQUEST, "the model id %s", problem);
        pool_error_set_field(err, "id");
        return POOL_INVALID_REQUEST;
    }
    const struct pool_model_metadata *model = catalog->ops->find(catalog->self, id);
    if (!model) {
        pool_error_set(err, POOL_MODEL_NOT_FOUND, "no catalog has a model with the id \"%s\"", id);
        pool_error_add_text(err, "id", id);
        return POOL_MODEL_NOT_FOUND;
    }
    *ret_model = model;
    return POOL_OK;
}
