/*
 * What a download is about: the repository, the commit and the files that a reference means, and what the Hub and the
 * catalog say of them.
 */
#ifndef DOWNLOAD_PLAN_H
#define DOWNLOAD_PLAN_H

#include <pool/catalog.h>

#include "cli/download/file_job.h"

struct download_plan {
    struct pool_model_ref *ref;              /* hf: */
    const struct pool_model_metadata *entry; /* borrowed from the catalog; NULL: none */
    char commit[HUB_COMMIT_HEX + 1];         /* "" until the Hub was asked, unless the reference names it */
    char *first_file;                        /* NULL: the model is the whole directory */
    char *repo_dir;                          /* MODELS/ORG/REPO */
    size_t n_jobs;
    struct file_job *jobs; /* by path, so that all take locks in the same order */
};

void download_plan_done(struct download_plan *plan);
/**
 * Reads the reference, an id or hf:. Nobody is asked yet.
 * Errors: INVALID_REQUEST (not a model of the Hub), MODEL_NOT_FOUND (no such id), INSUFFICIENT_MEMORY.
 */
POOL_MUST_CHECK enum pool_code download_plan_init(struct download_plan *plan,
                                                  const struct pool_model_catalog *catalog,
                                                  const char *model_ref, const char *models_dir,
                                                  struct pool_error *err);
/* The revision that is asked for: the commit as soon as it is known. */
struct hub_place_name download_plan_place(const struct download_plan *plan);
/* hf:ORG/REPO@COMMIT[::file=FIRST]; owned by the caller, NULL: no memory. The commit is known. */
char *download_plan_pinned_ref(const struct download_plan *plan);
/**
 * Asks the Hub which files it is about, and what each of them is.
 * Errors: INVALID_REQUEST (several could be meant: they are named), MODEL_INCOMPATIBLE (no model is in the repository),
 * MODEL_CORRUPT (the catalog says something else), those of hub_look_up.
 */
POOL_MUST_CHECK enum pool_code download_plan_ask(struct download_plan *plan, struct hub_client *client,
                                                 struct pool_error *err);

/* ---- which files, from names alone ---- */

/**
 * Chooses from the files of a repository: the only GGUF that may be meant with all its parts, else the safetensors in the
 * top folder with what belongs to them.
 * Errors: INVALID_REQUEST (several), MODEL_INCOMPATIBLE (none), INSUFFICIENT_MEMORY.
 */
POOL_MUST_CHECK enum pool_code choose_files(const struct string_list *all, struct string_list *ret_files,
                                            bool *ret_is_directory, struct pool_error *err);
/* All files of a split GGUF by the name of its first, or the file alone. Errors: INVALID_REQUEST (not the first). */
POOL_MUST_CHECK enum pool_code add_split_files(const char *first, struct string_list *ret_files,
                                               struct pool_error *err);

#endif
