/*
 * One entry of a catalog: its values, their kinds, and the rules between them (contract, section 10). Everything wrong
 * with an entry is reported, not only the first thing. Which entries there are, and whose id is taken, is parser.c's.
 */
#include "core/catalog/entry.h"

#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"
#include "base/utf8.h"
#include "core/catalog/model_ref.h"

#define NAME_BYTES_MAX     256 /* of a model's name for people */
#define MODEL_BACKENDS_MAX 64
#define SHA256_HEX         64
#define N_OF(array)        (sizeof(array) / sizeof *(array))

static const char *const model_keys[] = { "id",   "name",   "repo",     "file",     "files",
                                          "size", "sha256", "revision", "verified", "backends" };
static const char *const file_keys[] = { "file", "size", "sha256" };
static const char *const top_keys[] = { "models" };

/* ---- values ---- */

const struct toml_node *entry_take_value(struct catalog_reader *reader, const struct toml_node *table,
                                         const char *key, enum toml_kind kind)
{
    const struct toml_node *node = toml_child(table, key);
    if (!node || node->kind == kind)
        return node;
    entry_refuse_value(reader, node, "%s must be %s, not %s", key, toml_kind_name(kind),
                       toml_kind_name(node->kind));
    return NULL;
}

/* The same for a text, without a NUL in it. */
static const struct toml_node *take_text(struct catalog_reader *reader, const struct toml_node *table,
                                         const char *key)
{
    const struct toml_node *node = entry_take_value(reader, table, key, TOML_STRING);
    if (node && strlen(node->text) != node->n_text) {
        entry_refuse_value(reader, node, "%s has a NUL in it", key);
        return NULL;
    }
    return node;
}

/* A text that one of the rules of model_ref.h is about. */
static char *take_word(struct catalog_reader *reader, const struct toml_node *table, const char *key,
                       const char *(*find_problem)(const char *))
{
    const struct toml_node *node = take_text(reader, table, key);
    if (!node)
        return NULL;
    const char *problem = find_problem(node->text);
    if (problem) {
        entry_refuse_value(reader, node, "%s %s", key, problem);
        return NULL;
    }
    return (char *)node->text; /* a copy is made before anybody writes */
}

static const char *name_problem(const char *name)
{
    if (name[0] == '\0')
        return "is empty";
    if (strlen(name) > NAME_BYTES_MAX)
        return "is longer than 256 bytes";
    return utf8_has_control(name) ? "has a control character in it" : NULL;
}

static const char *sha256_problem(const char *sha256)
{
    if (strlen(sha256) != SHA256_HEX || strspn(sha256, "0123456789abcdefABCDEF") != SHA256_HEX)
        return "must be 64 hex digits";
    return NULL;
}

static int64_t take_size(struct catalog_reader *reader, const struct toml_node *table)
{
    const struct toml_node *node = entry_take_value(reader, table, "size", TOML_INTEGER);
    if (!node)
        return -1;
    if (node->integer < 0) {
        entry_refuse_value(reader, node, "size is negative");
        return -1;
    }
    return node->integer;
}

static bool warn_unknown_keys(struct catalog_reader *reader, const struct toml_node *table,
                              const char *const *known, size_t n_known)
{
    for (size_t i = 0; i < table->n_children; i++) {
        const struct toml_node *node = &table->children[i];
        bool is_known = false;
        for (size_t k = 0; k < n_known && !is_known; k++)
            is_known = strcmp(known[k], node->key) == 0;
        if (is_known)
            continue;
        const char *nearest = nearest_name(node->key, known, n_known);
        if (!pool_catalog_report_problem(reader->front, true, reader->source->path, node->key_line,
                                         node->key_column, "unknown key \"%s\" is ignored%s%s%s", node->key,
                                         nearest ? "; did you mean \"" : "", nearest ? nearest : "",
                                         nearest ? "\"?" : ""))
            reader->is_memory_out = true;
    }
    return !reader->is_memory_out;
}

bool entry_check_top_keys(struct catalog_reader *reader, const struct toml_node *root)
{
    return warn_unknown_keys(reader, root, top_keys, N_OF(top_keys));
}

/* ---- entries ---- */

static void read_file_name(struct catalog_reader *reader, const struct toml_node *table, bool is_local,
                           struct pool_model_file *file)
{
    const struct toml_node *node = toml_child(table, "file");
    if (!node) {
        entry_refuse_value(reader, table, "file is missing");
        return;
    }
    if (is_local && node->kind == TOML_STRING && node->text[0] != '/') {
        entry_refuse_value(reader, node, "file must be an absolute path, or repo is missing");
        return;
    }
    file->file = take_word(reader, table, "file",
                           is_local ? model_absolute_path_problem : model_relative_path_problem);
}

static bool read_shards(struct catalog_reader *reader, const struct toml_node *entry,
                        const struct toml_node *list, bool is_local, struct pool_model_metadata *model)
{
    if (toml_child(entry, "file"))
        entry_refuse_value(reader, toml_child(entry, "file"), "file and files exclude each other");
    if (toml_child(entry, "sha256"))
        entry_refuse_value(reader, toml_child(entry, "sha256"), "sha256 belongs into each of files");
    if (list->n_children == 0)
        entry_refuse_value(reader, list, "files is empty");
    if (list->n_children > POOL_MODEL_FILES_MAX) {
        entry_refuse_value(reader, list, "files has more than %d entries", POOL_MODEL_FILES_MAX);
        return true;
    }
    free(reader->files);
    reader->files = calloc(list->n_children + 1, sizeof *reader->files);
    if (!reader->files)
        return false;
    model->files = reader->files;
    model->n_files = list->n_children;
    for (size_t i = 0; i < list->n_children; i++) {
        const struct toml_node *shard = &list->children[i];
        if (shard->kind != TOML_TABLE) {
            entry_refuse_value(reader, shard, "an entry of files must be a table, not %s",
                               toml_kind_name(shard->kind));
            continue;
        }
        read_file_name(reader, shard, is_local, &model->files[i]);
        model->files[i].size_bytes = take_size(reader, shard);
        model->files[i].sha256 = take_word(reader, shard, "sha256", sha256_problem);
        for (size_t k = 0; k < i && model->files[i].file; k++) {
            if (model->files[k].file && strcmp(model->files[k].file, model->files[i].file) == 0) {
                entry_refuse_value(reader, shard, "files has \"%s\" twice", model->files[i].file);
                break;
            }
        }
        if (!warn_unknown_keys(reader, shard, file_keys, N_OF(file_keys)))
            return false;
    }
    return true;
}

static bool read_files(struct catalog_reader *reader, const struct toml_node *entry,
                       struct pool_model_metadata *model)
{
    int64_t size_bytes = take_size(reader, entry);
    bool is_local = toml_child(entry, "repo") == NULL;
    const struct toml_node *list = entry_take_value(reader, entry, "files", TOML_ARRAY);
    if (list) {
        if (!read_shards(reader, entry, list, is_local, model))
            return false;
    } else if (!toml_child(entry, "files")) {
        read_file_name(reader, entry, is_local, &model->files[0]);
        model->files[0].size_bytes = size_bytes;
        model->files[0].sha256 = take_word(reader, entry, "sha256", sha256_problem);
    }

    int64_t sum_bytes = 0;
    for (size_t i = 0; i < model->n_files && sum_bytes >= 0; i++) {
        if (model->files[i].size_bytes < 0 ||
            __builtin_add_overflow(sum_bytes, model->files[i].size_bytes, &sum_bytes))
            sum_bytes = -1;
    }
    if (list && size_bytes >= 0 && sum_bytes >= 0 && size_bytes != sum_bytes)
        entry_refuse_value(reader, toml_child(entry, "size"), "size is not the sum of the sizes of files");
    model->size_bytes = size_bytes >= 0 ? size_bytes : sum_bytes;
    model->file = model->n_files > 0 ? model->files[0].file : NULL;
    return true;
}

static bool read_backends(struct catalog_reader *reader, const struct toml_node *entry,
                          struct pool_model_metadata *model)
{
    const struct toml_node *list = entry_take_value(reader, entry, "backends", TOML_ARRAY);
    if (!list)
        return true;
    if (list->n_children > MODEL_BACKENDS_MAX) {
        entry_refuse_value(reader, list, "backends has more than %d entries", MODEL_BACKENDS_MAX);
        return true;
    }
    free(reader->backends);
    reader->backends = calloc(list->n_children + 1, sizeof *reader->backends);
    if (!reader->backends)
        return false;
    model->backends = reader->backends;
    for (size_t i = 0; i < list->n_children; i++) {
        const struct toml_node *node = &list->children[i];
        const char *problem;
        if (node->kind != TOML_STRING)
            entry_refuse_value(reader, node, "a backend must be a string, not %s",
                               toml_kind_name(node->kind));
        else if (strlen(node->text) != node->n_text)
            entry_refuse_value(reader, node, "a backend's name has a NUL in it");
        else if ((problem = model_id_problem(node->text)))
            entry_refuse_value(reader, node, "a backend's name %s", problem);
        else
            model->backends[model->n_backends++] = (char *)node->text;
    }
    return true;
}

static void check_id(struct catalog_reader *reader, const struct toml_node *entry,
                     const struct catalog_sighting *sighting, struct pool_model_metadata *model)
{
    if (!toml_child(entry, "id"))
        entry_refuse_value(reader, entry, "id is missing");
    model->id = take_word(reader, entry, "id", model_id_problem);
    if (!sighting->first)
        return;
    const struct catalog_sighting *first = sighting->first;
    const struct toml_node *at = toml_child(entry, "id");
    entry_refuse_value(reader, at, "the id \"%s\" is taken: the first one is at %s:%u:%u", sighting->id,
                       reader->sources[first->source].path, first->node->line, first->node->column);
}

static struct pool_model_metadata *pack_entry(const struct pool_model_metadata *model)
{
    struct pool_model_metadata *packed = model_metadata_pack(model);
    for (size_t i = 0; packed && i < packed->n_files; i++) {
        for (char *c = packed->files[i].sha256; c && *c; c++)
            *c = (char)(*c >= 'A' && *c <= 'F' ? *c - 'A' + 'a' : *c);
    }
    return packed;
}

bool entry_read(struct catalog_reader *reader, const struct toml_node *entry,
                const struct catalog_sighting *sighting, struct pool_model_metadata **ret_model)
{
    struct pool_model_file only = { .size_bytes = -1 };
    struct pool_model_metadata model = {
        .size_bytes = -1, .n_files = 1, .files = &only, .line = entry->line
    };
    reader->is_fine = true;
    if (entry->kind != TOML_TABLE) {
        entry_refuse_value(reader, entry, "an entry of models must be a table, not %s",
                           toml_kind_name(entry->kind));
        return !reader->is_memory_out;
    }
    model.catalog_path = (char *)reader->source->path;
    check_id(reader, entry, sighting, &model);
    model.name = take_word(reader, entry, "name", name_problem);
    model.repo = take_word(reader, entry, "repo", model_repo_problem);
    model.revision = take_word(reader, entry, "revision", model_revision_problem);
    if (model.revision && !toml_child(entry, "repo"))
        entry_refuse_value(reader, toml_child(entry, "revision"), "revision needs repo");
    const struct toml_node *verified = entry_take_value(reader, entry, "verified", TOML_BOOL);
    model.is_verified = verified && verified->boolean;
    if (!read_files(reader, entry, &model) || !read_backends(reader, entry, &model) ||
        !warn_unknown_keys(reader, entry, model_keys, N_OF(model_keys)) || reader->is_memory_out)
        return false;
    if (!reader->is_fine)
        return true;
    *ret_model = pack_entry(&model);
    return *ret_model != NULL;
}
