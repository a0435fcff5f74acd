/*
 * The words of model references, one by one, for those who meet them outside of a reference: catalogs and lookups.
 */
#ifndef CATALOG_MODEL_REF_H
#define CATALOG_MODEL_REF_H

#include <stdbool.h>
#include <stddef.h>

#define MODEL_COMMIT_HEX 40 /* a git commit */

/* Each looks at a NUL-terminated word and returns NULL when it is fine, else what is wrong with it (static). */
const char *model_id_problem(const char *id);
const char *model_repo_problem(const char *repo); /* "ORG/REPO" */
const char *model_revision_problem(const char *revision);
const char *model_relative_path_problem(const char *path); /* inside a repository */
const char *model_absolute_path_problem(const char *path);
/* Whether a revision is a whole commit: 40 hex digits. */
bool model_revision_is_commit(const char *revision);

#endif
