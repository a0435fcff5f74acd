/*
 * Where a repository of the Hub lies on disk: in a models directory (DIR/ORG/REPO/COMMIT/PATH, beside the commits
 * refs/REVISION with a commit in it) or in the Hub's own cache (reference: its page on the cache's layout).
 */
#ifndef CATALOG_HUB_H
#define CATALOG_HUB_H

#include <pool/catalog.h>

#include "core/catalog/model_ref.h"

#define HUB_CHOICES_MAX 64 /* kept of those found; there may be more */

/* A list of names with a limit, for choices to be shown. */
struct hub_names {
    size_t n;       /* found */
    size_t n_names; /* kept */
    char *names[HUB_CHOICES_MAX];
};
void hub_names_done(struct hub_names *names);
/* Writes the first five, by name, as text: "a, b, c and 2 more". */
void hub_names_show(struct hub_names *names, char *text, size_t text_bytes);

/* A repository in one of the places. */
struct hub_place {
    const char *dir; /* borrowed */
    bool is_cache;
};

struct hub_snapshot {
    char commit[MODEL_COMMIT_HEX + 1];
    char *dir; /* of that commit's files; not yet known to be inside of anything */
};
void hub_snapshot_done(struct hub_snapshot *snapshot);

/*
 * Finds the files of a revision (NULL: not asked for) in a place. Without refs/main, "main" is the only commit there
 * is; when there are several, they are added to `commits`.
 * Errors: MODEL_NOT_FOUND, INSUFFICIENT_MEMORY.
 */
POOL_MUST_CHECK enum pool_code hub_find_snapshot(const struct hub_place *place,
                                                 const struct pool_model_ref *ref,
                                                 struct hub_snapshot *ret_snapshot, struct hub_names *commits,
                                                 struct pool_error *err);

/*
 * Lists what could be meant in a snapshot when no file is named: GGUF files but projectors (mmproj) and importance
 * matrices, of split ones the first. Names are relative to `dir`.
 */
POOL_MUST_CHECK enum pool_code hub_list_ggufs(const char *dir, struct hub_names *names,
                                              struct pool_error *err);

/* "NAME-00002-of-00005.gguf": 2 and 5. The numbers are 0 when it is not split. */
struct hub_split {
    unsigned number, total;
    size_t n_stem; /* length of "NAME" */
};
struct hub_split hub_parse_split(const char *file);

#endif
