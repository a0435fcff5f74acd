/*
 * Entries of catalogs and references, matched; see match.h. The disk is resolve.c's.
 */
#include "core/catalog/match.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

enum pool_code catalog_make_ref(const struct pool_model_metadata *entry, struct pool_model_ref **ret_ref,
                                struct pool_error *err)
{
    CLEANUP_FREE char *text = NULL;
    int n = entry->repo ? asprintf(&text, "hf:%s%s%s::file=%s", entry->repo, entry->revision ? "@" : "",
                                   entry->revision ? entry->revision : "", entry->file)
                        : asprintf(&text, "file:%s", entry->file);
    if (n < 0) {
        text = NULL;
        return pool_error_no_memory(err);
    }
    return pool_model_ref_parse(text, (size_t)n, ret_ref, err);
}

static bool is_same_repo(const struct pool_model_metadata *entry, const struct pool_model_ref *ref)
{
    size_t n = strlen(ref->org);
    return entry->repo && strncmp(entry->repo, ref->org, n) == 0 && entry->repo[n] == '/' &&
           strcmp(entry->repo + n + 1, ref->repo) == 0;
}

/* No revision means "main", here and there. A pinned entry speaks of its commit, whatever that was asked for as. */
static bool is_same_revision(const struct pool_model_metadata *entry, const struct pool_model_ref *ref,
                             const char *commit)
{
    if (entry->revision && strcasecmp(entry->revision, commit) == 0)
        return true;
    return strcmp(entry->revision ? entry->revision : "main", ref->revision ? ref->revision : "main") == 0;
}

const struct pool_model_metadata *catalog_find_entry(const struct pool_model_catalog *catalog,
                                                     const struct pool_model_ref *ref, const char *commit)
{
    size_t n = catalog ? pool_model_catalog_n_models(catalog) : 0;
    for (size_t i = 0; i < n; i++) {
        const struct pool_model_metadata *entry = pool_model_catalog_at(catalog, i);
        if (ref->kind == POOL_MODEL_REF_FILE) {
            if (!entry->repo && strcmp(entry->file, ref->path) == 0)
                return entry;
        } else if (ref->file && is_same_repo(entry, ref) && strcmp(entry->file, ref->file) == 0 &&
                   is_same_revision(entry, ref, commit)) {
            return entry;
        }
    }
    return NULL;
}

static bool has_name(const struct hub_names *names, const char *name)
{
    for (size_t i = 0; i < names->n_names; i++) {
        if (strcmp(names->names[i], name) == 0)
            return true;
    }
    return false;
}

const char *catalog_find_choice(const struct pool_model_catalog *catalog, const struct pool_model_ref *ref,
                                const char *commit, const struct hub_names *names)
{
    const char *choice = NULL;
    size_t n = catalog ? pool_model_catalog_n_models(catalog) : 0;
    for (size_t i = 0; i < n; i++) {
        const struct pool_model_metadata *entry = pool_model_catalog_at(catalog, i);
        if (!is_same_repo(entry, ref) || !has_name(names, entry->file) ||
            !is_same_revision(entry, ref, commit))
            continue;
        if (choice && strcmp(choice, entry->file) != 0)
            return NULL;
        choice = entry->file;
    }
    return choice;
}
