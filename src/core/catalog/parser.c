/*
 * Catalogs as TOML files: reads them, merges them, finds ids that are taken. The syntax of all files comes first; when
 * it is right, every semantic problem is found in one pass, in the order of the files. What an entry may say is
 * entry.c's affair.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "core/catalog/entry.h"
#include "core/catalog/model_ref.h"

struct toml_catalog {
    size_t n_models;
    struct pool_model_metadata **models; /* ordered by id */
};

static void reader_done(struct catalog_reader *reader)
{
    for (size_t i = 0; reader->sources && i < reader->n_sources; i++)
        toml_free(reader->sources[i].document);
    free(reader->sources);
    free(reader->sightings);
    free(reader->files);
    free(reader->backends);
}

/* ---- reading ---- */

static int read_catalog(const char *path, struct strbuf *text)
{
    /* Not blocked by a FIFO, nor fooled by a device. */
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return errno;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return errno;
    if (S_ISDIR(st.st_mode))
        return EISDIR;
    if (!S_ISREG(st.st_mode))
        return EINVAL;
    return fd_read_all(fd, text);
}

static enum pool_code read_source(struct catalog_reader *reader, struct catalog_source *source,
                                  struct pool_error *err)
{
    CLEANUP(strbuf_done) struct strbuf text = STRBUF_INIT(POOL_CATALOG_FILE_MAX_BYTES);
    int failure = read_catalog(source->path, &text);
    if (failure == ENOMEM)
        return pool_error_no_memory(err);
    reader->source = source;
    if (failure == EFBIG)
        entry_refuse(reader, 0, 0, "the catalog is larger than %d MiB", POOL_CATALOG_FILE_MAX_BYTES >> 20);
    else if (failure == EINVAL)
        entry_refuse(reader, 0, 0, "the catalog is not a regular file");
    else if (failure)
        entry_refuse(reader, 0, 0, "the catalog cannot be read: %s", strerrordesc_np(failure));
    if (failure)
        return reader->is_memory_out ? pool_error_no_memory(err) : POOL_OK;

    struct toml_error error = { 0 };
    source->document = toml_parse(strbuf_text(&text), text.n, &error);
    if (!source->document && error.is_no_memory)
        return pool_error_no_memory(err);
    if (!source->document)
        entry_refuse(reader, error.line, error.column, "%s", error.message);
    return reader->is_memory_out ? pool_error_no_memory(err) : POOL_OK;
}

/* ---- ids ---- */

static int compare_sightings(const void *a, const void *b)
{
    const struct catalog_sighting *x = *(const struct catalog_sighting *const *)a;
    const struct catalog_sighting *y = *(const struct catalog_sighting *const *)b;
    int order = strcmp(x->id, y->id);
    return order != 0 ? order : (x > y) - (x < y);
}

/* Says of every id that was seen before where that was. */
static bool find_doubles(struct catalog_reader *reader)
{
    CLEANUP_FREE struct catalog_sighting **sorted =
        calloc(reader->n_entries + 1, sizeof(struct catalog_sighting *));
    if (!sorted)
        return false;
    size_t n = 0;
    for (size_t i = 0; i < reader->n_entries; i++) {
        if (reader->sightings[i].id)
            sorted[n++] = &reader->sightings[i];
    }
    qsort(sorted, n, sizeof *sorted, compare_sightings);
    for (size_t i = 1; i < n; i++) {
        if (strcmp(sorted[i]->id, sorted[i - 1]->id) == 0)
            sorted[i]->first = sorted[i - 1]->first ? sorted[i - 1]->first : sorted[i - 1];
    }
    return true;
}

/* Finds the list of entries in each file, and the id of each entry. */
static bool list_entries(struct catalog_reader *reader)
{
    for (size_t i = 0; i < reader->n_sources; i++) {
        struct catalog_source *source = &reader->sources[i];
        reader->source = source;
        const struct toml_node *root = toml_root(source->document);
        source->models = entry_take_value(reader, root, "models", TOML_ARRAY);
        reader->n_entries += source->models ? source->models->n_children : 0;
        if (reader->is_memory_out || !entry_check_top_keys(reader, root))
            return false;
    }
    if (reader->n_entries > POOL_CATALOG_ENTRIES_MAX) {
        entry_refuse(reader, 0, 0, "the catalogs have more than %d models together",
                     POOL_CATALOG_ENTRIES_MAX);
        return !reader->is_memory_out;
    }
    reader->sightings = calloc(reader->n_entries + 1, sizeof *reader->sightings);
    if (!reader->sightings)
        return false;
    struct catalog_sighting *sighting = reader->sightings;
    for (size_t i = 0; i < reader->n_sources; i++) {
        const struct toml_node *models = reader->sources[i].models;
        for (size_t k = 0; models && k < models->n_children; k++, sighting++) {
            const struct toml_node *id = toml_child(&models->children[k], "id");
            sighting->source = i;
            sighting->node = id;
            if (id && id->kind == TOML_STRING && !model_id_problem(id->text))
                sighting->id = id->text;
        }
    }
    return find_doubles(reader);
}

static int compare_models(const void *a, const void *b)
{
    const struct pool_model_metadata *const *x = a;
    const struct pool_model_metadata *const *y = b;
    return strcmp((*x)->id, (*y)->id);
}

static bool read_entries(struct catalog_reader *reader, struct toml_catalog *catalog)
{
    if (!list_entries(reader))
        return false;
    if (!reader->sightings)
        return true;
    catalog->models = calloc(reader->n_entries + 1, sizeof(struct pool_model_metadata *));
    if (!catalog->models)
        return false;
    const struct catalog_sighting *sighting = reader->sightings;
    for (size_t i = 0; i < reader->n_sources; i++) {
        reader->source = &reader->sources[i];
        const struct toml_node *models = reader->source->models;
        for (size_t k = 0; models && k < models->n_children; k++, sighting++) {
            struct pool_model_metadata *model = NULL;
            if (!entry_read(reader, &models->children[k], sighting, &model))
                return false;
            if (model)
                catalog->models[catalog->n_models++] = model;
        }
    }
    qsort(catalog->models, catalog->n_models, sizeof *catalog->models, compare_models);
    return true;
}

/* ---- the slots ---- */

static void close_toml(void *self)
{
    struct toml_catalog *catalog = self;
    for (size_t i = 0; i < catalog->n_models; i++)
        pool_model_metadata_free(catalog->models[i]);
    free(catalog->models);
}

static enum pool_code open_toml(void *self, struct pool_model_catalog *front, const char *const *sources,
                                size_t n_sources, struct pool_error *err)
{
    struct toml_catalog *catalog = self;
    CLEANUP(reader_done)
    struct catalog_reader reader = { .front = front, .n_sources = n_sources, .is_fine = true };
    reader.sources = calloc(n_sources + 1, sizeof *reader.sources);
    if (!reader.sources)
        return pool_error_no_memory(err);
    for (size_t i = 0; i < n_sources; i++) {
        reader.sources[i].path = sources[i];
        enum pool_code code = read_source(&reader, &reader.sources[i], err);
        if (code != POOL_OK)
            return code;
    }
    /* Any syntax error, and the meaning is not looked at. */
    if (!reader.is_fine)
        return POOL_OK;
    if (!read_entries(&reader, catalog)) {
        close_toml(catalog);
        return pool_error_no_memory(err);
    }
    return POOL_OK;
}

static size_t count_toml(const void *self)
{
    return ((const struct toml_catalog *)self)->n_models;
}

static const struct pool_model_metadata *at_toml(const void *self, size_t index)
{
    return ((const struct toml_catalog *)self)->models[index];
}

static int compare_id(const void *id, const void *model)
{
    return strcmp(id, (*(const struct pool_model_metadata *const *)model)->id);
}

static const struct pool_model_metadata *find_toml(const void *self, const char *id)
{
    const struct toml_catalog *catalog = self;
    if (catalog->n_models == 0)
        return NULL;
    struct pool_model_metadata *const *found =
        bsearch(id, catalog->models, catalog->n_models, sizeof *catalog->models, compare_id);
    return found ? *found : NULL;
}

const struct pool_model_catalog_ops model_catalog_toml = {
    .name = "toml",
    .private_bytes = sizeof(struct toml_catalog),
    .open = open_toml,
    .n_models = count_toml,
    .at = at_toml,
    .find = find_toml,
    .close = close_toml,
};
