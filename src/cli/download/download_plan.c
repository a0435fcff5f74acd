/*
 * What a download is about; see download_plan.h.
 */
#include "cli/download/download_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/random.h"
#include "cli/download/hub_headers.h"

#define KEY_SUM_BYTES 8
#define KEY_NAME_MAX  96

void download_plan_done(struct download_plan *plan)
{
    for (size_t i = 0; i < plan->n_jobs; i++)
        file_job_done(&plan->jobs[i]);
    free(plan->jobs);
    free(plan->first_file);
    free(plan->repo_dir);
    pool_model_ref_free(plan->ref);
    *plan = (struct download_plan){ 0 };
}

/* ---- the reference ---- */

static enum pool_code refuse_ref(struct pool_error *err, const char *why)
{
    pool_error_set(err, POOL_INVALID_REQUEST, "%s", why);
    pool_error_set_field(err, "model_ref");
    return POOL_INVALID_REQUEST;
}

static enum pool_code read_entry(struct download_plan *plan, const struct pool_model_metadata *entry,
                                 struct pool_error *err)
{
    CLEANUP_FREE char *text = NULL;
    if (!entry->repo)
        return refuse_ref(err, "this entry of the catalog is a local file, there is nothing to download");
    int n = asprintf(&text, "hf:%s%s%s::file=%s", entry->repo, entry->revision ? "@" : "",
                     entry->revision ? entry->revision : "", entry->file);
    if (n < 0) {
        text = NULL;
        return pool_error_no_memory(err);
    }
    plan->entry = entry;
    return pool_model_ref_parse(text, (size_t)n, &plan->ref, err);
}

/* A reference may mean what the catalog has an entry of: then the catalog's sums hold for it. */
static bool is_of_entry(const struct pool_model_metadata *entry, const struct pool_model_ref *ref)
{
    size_t n = strlen(ref->org);
    return entry->repo && ref->file && strncmp(entry->repo, ref->org, n) == 0 && entry->repo[n] == '/' &&
           strcmp(entry->repo + n + 1, ref->repo) == 0 && strcmp(entry->file, ref->file) == 0 &&
           strcasecmp(entry->revision ? entry->revision : "main", ref->revision ? ref->revision : "main") ==
               0;
}

static void find_entry(struct download_plan *plan, const struct pool_model_catalog *catalog)
{
    size_t n = pool_model_catalog_n_models(catalog);
    for (size_t i = 0; i < n && !plan->entry; i++) {
        const struct pool_model_metadata *entry = pool_model_catalog_at(catalog, i);
        if (is_of_entry(entry, plan->ref))
            plan->entry = entry;
    }
}

enum pool_code download_plan_init(struct download_plan *plan, const struct pool_model_catalog *catalog,
                                  const char *model_ref, const char *models_dir, struct pool_error *err)
{
    *plan = (struct download_plan){ 0 };
    enum pool_code code = pool_model_ref_parse(model_ref, strlen(model_ref), &plan->ref, err);
    if (code == POOL_OK && plan->ref->kind == POOL_MODEL_REF_FILE)
        code =
            refuse_ref(err, "file: is on this machine already; hf:ORG/REPO[@REV][::file=PATH] is downloaded");
    if (code == POOL_OK && plan->ref->kind == POOL_MODEL_REF_ID) {
        const struct pool_model_metadata *entry;
        code = pool_model_catalog_get(catalog, plan->ref->id, &entry, err);
        pool_model_ref_free(take_ptr(&plan->ref));
        if (code == POOL_OK)
            code = read_entry(plan, entry, err);
    } else if (code == POOL_OK) {
        find_entry(plan, catalog);
    }
    if (code != POOL_OK)
        return code;
    if (plan->ref->revision)
        (void)hub_read_commit(plan->ref->revision, plan->commit);
    if (plan->ref->file && !(plan->first_file = strdup(plan->ref->file)))
        return pool_error_no_memory(err);
    if (asprintf(&plan->repo_dir, "%s/%s/%s", models_dir, plan->ref->org, plan->ref->repo) < 0) {
        plan->repo_dir = NULL;
        return pool_error_no_memory(err);
    }
    return POOL_OK;
}

struct hub_place_name download_plan_place(const struct download_plan *plan)
{
    const char *revision = plan->ref->revision ? plan->ref->revision : "main";
    return (struct hub_place_name){ .org = plan->ref->org,
                                    .repo = plan->ref->repo,
                                    .revision = plan->commit[0] ? plan->commit : revision };
}

char *download_plan_pinned_ref(const struct download_plan *plan)
{
    char *text = NULL;
    int n = asprintf(&text, "hf:%s/%s@%s%s%s", plan->ref->org, plan->ref->repo, plan->commit,
                     plan->first_file ? "::file=" : "", plan->first_file ? plan->first_file : "");
    return n < 0 ? NULL : text;
}

/* ---- the files ---- */

/* What the Hub calls a file becomes a path here: by the rules for references, which let nothing out of the folder. */
static bool is_safe_path(const struct download_plan *plan, const char *path)
{
    CLEANUP_FREE char *text = NULL;
    struct pool_model_ref *ref = NULL;
    int n = asprintf(&text, "hf:%s/%s::file=%s", plan->ref->org, plan->ref->repo, path);
    if (n < 0) {
        text = NULL;
        return false;
    }
    enum pool_code code = pool_model_ref_parse(text, (size_t)n, &ref, NULL);
    pool_model_ref_free(ref);
    return code == POOL_OK;
}

static enum pool_code list_from_hub(struct download_plan *plan, struct hub_client *client,
                                    struct string_list *ret_files, struct pool_error *err)
{
    CLEANUP(string_list_done) struct string_list all = { 0 };
    CLEANUP(string_list_done) struct string_list safe = { 0 };
    struct hub_place_name place = download_plan_place(plan);
    bool is_directory = false;
    enum pool_code code = hub_list_files(client, &place, plan->commit, &all, err);
    for (size_t i = 0; i < all.n && code == POOL_OK; i++) {
        if (is_safe_path(plan, all.at[i]) && !string_list_add(&safe, all.at[i]))
            code = pool_error_no_memory(err);
    }
    if (code == POOL_OK)
        code = choose_files(&safe, ret_files, &is_directory, err);
    if (code == POOL_OK && ret_files->n > POOL_MODEL_FILES_MAX)
        code = pool_error_set(err, POOL_INVALID_REQUEST, "a model has at most %d files, this one has %zu",
                              POOL_MODEL_FILES_MAX, ret_files->n);
    if (code == POOL_OK && !is_directory && !(plan->first_file = strdup(ret_files->at[0])))
        code = pool_error_no_memory(err);
    return code;
}

static enum pool_code list_files(struct download_plan *plan, struct hub_client *client,
                                 struct string_list *ret_files, struct pool_error *err)
{
    const struct pool_model_metadata *entry = plan->entry;
    if (!plan->first_file)
        return list_from_hub(plan, client, ret_files, err);
    if (!entry || entry->n_files == 1)
        return add_split_files(plan->first_file, ret_files, err);
    for (size_t i = 0; i < entry->n_files; i++)
        string_list_add(ret_files, entry->files[i].file);
    return ret_files->has_failed ? pool_error_no_memory(err) : POOL_OK;
}

/* One entry for a model of several files speaks of the first one's sum, and of the size of all together. */
static void expect(struct file_job *job, const struct pool_model_metadata *entry, size_t n_files)
{
    job->expected_bytes = -1;
    for (size_t i = 0; entry && i < entry->n_files; i++) {
        if (strcmp(entry->files[i].file, job->path) != 0)
            continue;
        job->expected_sha256 = entry->files[i].sha256;
        if (entry->n_files == n_files)
            job->expected_bytes = entry->files[i].size_bytes;
    }
}

static int compare_jobs(const void *a, const void *b)
{
    return strcmp(((const struct file_job *)a)->path, ((const struct file_job *)b)->path);
}

static enum pool_code make_jobs(struct download_plan *plan, const struct string_list *files,
                                struct pool_error *err)
{
    plan->jobs = calloc(files->n + 1, sizeof *plan->jobs);
    if (!plan->jobs)
        return pool_error_no_memory(err);
    for (size_t i = 0; i < files->n; i++) {
        struct file_job *job = &plan->jobs[plan->n_jobs++];
        *job = (struct file_job){ .part = PART_INIT, .path = strdup(files->at[i]) };
        if (!job->path)
            return pool_error_no_memory(err);
        expect(job, plan->entry, files->n);
    }
    qsort(plan->jobs, plan->n_jobs, sizeof *plan->jobs, compare_jobs);
    return POOL_OK;
}

/* A name for the unfinished file, unique in its repository. */
static enum pool_code make_key(const struct download_plan *plan, const char *path, char **ret_key,
                               struct pool_error *err)
{
    CLEANUP(digest_close) struct digest digest = DIGEST_INIT;
    struct digest_failure failure;
    unsigned char sum[DIGEST_BYTES_MAX];
    char hex[HEX_TEXT_MAX(KEY_SUM_BYTES)];
    if (!digest_open(&digest, DIGEST_SHA256, &failure))
        return failure.is_no_memory ? pool_error_no_memory(err)
                                    : pool_error_set(err, POOL_INTERNAL, "%s", failure.message);
    if (!digest_begin(&digest) || !digest_add(&digest, plan->commit, HUB_COMMIT_HEX) ||
        !digest_add(&digest, path, strlen(path)) || !digest_end(&digest, sum))
        return pool_error_set(err, POOL_INTERNAL, "OpenSSL failed to hash");
    hex_encode(sum, KEY_SUM_BYTES, hex);
    const char *slash = strrchr(path, '/');
    if (asprintf(ret_key, "%s-%.*s", hex, KEY_NAME_MAX, slash ? slash + 1 : path) < 0) {
        *ret_key = NULL;
        return pool_error_no_memory(err);
    }
    return POOL_OK;
}

static enum pool_code place_part(const struct download_plan *plan, struct file_job *job,
                                 struct pool_error *err)
{
    CLEANUP_FREE char *final_path = NULL;
    CLEANUP_FREE char *dir = NULL;
    CLEANUP_FREE char *key = NULL;
    enum pool_code code = make_key(plan, job->path, &key, err);
    if (code != POOL_OK)
        return code;
    if (asprintf(&final_path, "%s/%s/%s", plan->repo_dir, plan->commit, job->path) < 0) {
        final_path = NULL;
        return pool_error_no_memory(err);
    }
    if (asprintf(&dir, "%s/.downloads", plan->repo_dir) < 0) {
        dir = NULL;
        return pool_error_no_memory(err);
    }
    return part_init(&job->part, final_path, dir, key, err);
}

static enum pool_code ask_of_job(struct download_plan *plan, struct hub_client *client, struct file_job *job,
                                 struct pool_error *err)
{
    struct hub_place_name place = download_plan_place(plan);
    enum pool_code code = hub_look_up(client, &place, job->path, &job->facts, err);
    if (code != POOL_OK) {
        pool_error_prefix(err, "%s/%s: %s", plan->ref->org, plan->ref->repo, job->path);
        return code;
    }
    if (!plan->commit[0])
        memcpy(plan->commit, job->facts.commit, sizeof plan->commit);
    if (strcmp(plan->commit, job->facts.commit) != 0)
        return pool_error_set(err, POOL_DOWNLOAD_FAILED,
                              "the Hub answers for another commit than it was asked for");
    code = file_job_check(job, err);
    return code == POOL_OK ? place_part(plan, job, err) : code;
}

enum pool_code download_plan_ask(struct download_plan *plan, struct hub_client *client,
                                 struct pool_error *err)
{
    CLEANUP(string_list_done) struct string_list files = { 0 };
    enum pool_code code = list_files(plan, client, &files, err);
    if (code == POOL_OK)
        code = make_jobs(plan, &files, err);
    for (size_t i = 0; i < plan->n_jobs && code == POOL_OK; i++)
        code = ask_of_job(plan, client, &plan->jobs[i], err);
    return code;
}
