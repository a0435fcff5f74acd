/*
 * Downloading a model; see download.h. What is asked of the Hub is download_plan.c's, one file file_job.c's.
 */
#include "cli/download/download.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/number.h"
#include "cli/download/via_hf.h"
#include "cli/folder_usage.h"
#include "cli/model_state.h"
#include "cli/report.h"

#define SUMS_FILE      ".sha256" /* read by the library, in the form of sha256sum(1) */
#define SUMS_MAX_BYTES (4 << 20)
#define FILE_MODE      0644
#define DIRECTORY_MODE 0777

struct download {
    struct cli *cli;
    const struct pool_config *config;
    const struct pool_model_catalog *catalog;
    const struct download_request *request;
    struct hub_client client;
    struct download_plan plan;
    struct meter meter;
    struct download_result result;
};

void download_result_done(struct download_result *result)
{
    free(result->model_ref);
    pool_model_free(result->model);
    *result = (struct download_result){ 0 };
}

static void download_done(struct download *download)
{
    meter_clear(&download->meter);
    download_plan_done(&download->plan);
    if (download->client.curl.curl_easy_cleanup)
        hub_client_close(&download->client);
    hub_settings_done(&download->client.settings);
    download_result_done(&download->result);
}

/* ---- what is on disk already ---- */

/* *ret_is_there false: not all of it. */
static enum pool_code look_on_disk(struct download *download, const char *model_ref, bool *ret_is_there,
                                   struct pool_error *err)
{
    struct pool_error why = POOL_ERROR_INIT;
    struct pool_model *model = NULL;
    *ret_is_there = false;
    enum pool_code code = pool_config_resolve_model(download->config, download->cli->environment,
                                                    download->catalog, true, model_ref, &model, &why);
    if (code == POOL_INSUFFICIENT_MEMORY)
        return pool_error_no_memory(err);
    if (code != POOL_OK)
        return POOL_OK;
    pool_model_free(download->result.model);
    download->result.model = model;
    free(download->result.model_ref);
    download->result.model_ref = strdup(model->ref);
    *ret_is_there = true;
    return download->result.model_ref ? POOL_OK : pool_error_no_memory(err);
}

/* ---- the folder ---- */

static char *repo_path(const struct download *download, const char *first, const char *second)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s/%s", download->plan.repo_dir, first, second) < 0 ? NULL : path;
}

/*
 * What is kept of a repository beside its files is read, changed and replaced by one process at a time. Its folder is
 * locked, which leaves nothing behind. -1: it can not be, and then two at once may forget a line of each other.
 */
static int lock_repository(const struct download *download)
{
    int fd = open(download->plan.repo_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd >= 0 && flock(fd, LOCK_EX) < 0 && errno == EINTR)
        ;
    return fd;
}

/* Which commit a branch or tag was: by this the reference is found again without asking anybody. */
static enum pool_code write_ref(const struct download *download, struct pool_error *err)
{
    const char *revision = download->plan.ref->revision ? download->plan.ref->revision : "main";
    if (strcasecmp(revision, download->plan.commit) == 0)
        return POOL_OK;
    CLEANUP_FREE char *path = repo_path(download, "refs", revision);
    CLEANUP_FREE char *dir = path ? strdup(path) : NULL;
    if (!dir)
        return pool_error_no_memory(err);
    *strrchr(dir, '/') = '\0';
    int failure = make_directories(dir, DIRECTORY_MODE);
    if (!failure)
        failure = file_replace(path, download->plan.commit, HUB_COMMIT_HEX, FILE_MODE);
    return failure ? part_report(err, failure, "write", path) : POOL_OK;
}

/* The lines of the old file that speak of none of ours. */
static void keep_other_sums(const struct download *download, const char *path, struct strbuf *sums)
{
    CLEANUP(strbuf_done) struct strbuf old = STRBUF_INIT(SUMS_MAX_BYTES);
    if (file_read(path, &old) != 0)
        return;
    for (const char *line = strbuf_text(&old); *line;) {
        size_t n = strcspn(line, "\n");
        bool is_ours = n < SHA256_TEXT_MAX + 1;
        for (size_t i = 0; i < download->plan.n_jobs && !is_ours; i++) {
            const struct file_job *job = &download->plan.jobs[i];
            size_t n_path = strlen(job->path);
            is_ours = job->sha256[0] && n == SHA256_TEXT_MAX + 1 + n_path &&
                      memcmp(line + SHA256_TEXT_MAX + 1, job->path, n_path) == 0;
        }
        if (!is_ours) {
            strbuf_add(sums, line, n);
            strbuf_add_char(sums, '\n');
        }
        line += n + (line[n] == '\n');
    }
}

/* Before a file has its name: one that has it has its sum. */
static enum pool_code write_sums(void *context, struct pool_error *err)
{
    const struct download *download = context;
    CLEANUP_FREE char *path = repo_path(download, download->plan.commit, SUMS_FILE);
    CLEANUP_FREE char *dir = repo_path(download, download->plan.commit, "");
    CLEANUP(strbuf_done) struct strbuf sums = STRBUF_INIT(SUMS_MAX_BYTES);
    size_t n_sums = 0;
    if (!path || !dir)
        return pool_error_no_memory(err);
    CLEANUP_CLOSE __attribute__((unused)) int lock_fd = lock_repository(download);
    keep_other_sums(download, path, &sums);
    for (size_t i = 0; i < download->plan.n_jobs; i++) {
        const struct file_job *job = &download->plan.jobs[i];
        n_sums += job->sha256[0] != '\0';
        if (job->sha256[0])
            strbuf_printf(&sums, "%s  %s\n", job->sha256, job->path);
    }
    if (n_sums == 0)
        return POOL_OK;
    if (sums.failure != STRBUF_FINE)
        return pool_error_no_memory(err);
    int failure = make_directories(dir, DIRECTORY_MODE);
    if (!failure)
        failure = file_replace(path, strbuf_text(&sums), sums.n, FILE_MODE);
    return failure ? part_report(err, failure, "write", path) : POOL_OK;
}

/* ---- the files ---- */

/*
 * Who reserves space within a quota does so alone, so that two that fit one at a time do not both take it. Nobody holds
 * the lock for longer than it takes to look and to reserve.
 */
static int lock_quota(const struct download *download)
{
    CLEANUP_CLOSE int fd = -1;
    if (download->config->models_quota_bytes > 0)
        fd = open(download->config->models_dirs[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd >= 0 && flock(fd, LOCK_EX) < 0) {
        if (errno != EINTR)
            return -1;
    }
    return take_fd(&fd);
}

/* What a file that was begun has taken already is in the usage, so only what is missing of it counts. */
static enum pool_code check_quota(const struct download *download, int64_t required_bytes,
                                  struct pool_error *err)
{
    int64_t quota_bytes = download->config->models_quota_bytes;
    if (quota_bytes == 0 || required_bytes == 0)
        return POOL_OK;
    int64_t used_bytes = folder_usage_of_models(download->config).used_bytes;
    if (required_bytes <= excess_bytes(quota_bytes, used_bytes))
        return POOL_OK;
    char required[HUMAN_BYTES_MAX];
    char used[HUMAN_BYTES_MAX];
    char quota[HUMAN_BYTES_MAX];
    format_bytes(required_bytes, required);
    format_bytes(used_bytes, used);
    format_bytes(quota_bytes, quota);
    pool_error_set(err, POOL_INSUFFICIENT_DISK,
                   "the download needs %s, and %s of pool.models_quota_bytes (%s) are used", required, used,
                   quota);
    pool_error_add_number(err, "required_bytes", required_bytes);
    pool_error_add_number(err, "available_bytes", excess_bytes(quota_bytes, used_bytes));
    pool_error_add_number(err, "used_bytes", used_bytes);
    pool_error_add_number(err, "quota_bytes", quota_bytes);
    return POOL_INSUFFICIENT_DISK;
}

/* All of them before the first byte of any: a disk that is too small is found out now, not in an hour. */
static enum pool_code check_space(const struct download *download, struct pool_error *err)
{
    struct statvfs fs;
    int64_t required_bytes = 0;
    size_t n = 0;
    for (size_t i = 0; i < download->plan.n_jobs; i++) {
        const struct file_job *job = &download->plan.jobs[i];
        struct part_content content = file_job_content(job);
        if (!job->is_there)
            required_bytes = add_bytes(required_bytes, part_missing_bytes(&job->part, &content));
        n += !job->is_there;
    }
    enum pool_code code = check_quota(download, required_bytes, err);
    if (code != POOL_OK || n == 0 || statvfs(download->plan.repo_dir, &fs) < 0)
        return code;
    int64_t available_bytes = (int64_t)(fs.f_bavail * fs.f_frsize);
    if (required_bytes <= available_bytes)
        return POOL_OK;
    char required[HUMAN_BYTES_MAX];
    char available[HUMAN_BYTES_MAX];
    format_bytes(required_bytes, required);
    format_bytes(available_bytes, available);
    pool_error_set(err, POOL_INSUFFICIENT_DISK, "the download needs %s, the file system of %s has %s free",
                   required, download->plan.repo_dir, available);
    pool_error_add_number(err, "required_bytes", required_bytes);
    pool_error_add_number(err, "available_bytes", available_bytes);
    pool_error_add_text(err, "path", download->plan.repo_dir);
    return POOL_INSUFFICIENT_DISK;
}

static enum pool_code reserve_space(struct download *download, bool *ret_are_old, struct pool_error *err)
{
    struct download_plan *plan = &download->plan;
    CLEANUP_CLOSE __attribute__((unused)) int lock_fd = lock_quota(download);
    enum pool_code code = check_space(download, err);
    for (size_t i = 0; i < plan->n_jobs && code == POOL_OK; i++) {
        struct part_content content = file_job_content(&plan->jobs[i]);
        if (!plan->jobs[i].is_there)
            code = part_prepare(&plan->jobs[i].part, &content, &ret_are_old[i], err);
    }
    return code;
}

static enum pool_code run_job(struct download *download, struct file_job *job,
                              const struct file_context *context, bool is_old, struct pool_error *err)
{
    CLEANUP_FREE char *proof_dir = pool_config_proof_dir(download->config);
    if (!proof_dir)
        return pool_error_no_memory(err);
    enum pool_code code = file_job_run(job, context, is_old, err);
    download->result.fetched_bytes = add_bytes(download->result.fetched_bytes, job->fetched_bytes);
    if (code != POOL_OK)
        return code;
    download->result.is_checked = download->result.is_checked && job->sha256[0];
    if (job->sha256[0])
        pool_model_remember(job->part.final_path, proof_dir, job->sha256);
    return POOL_OK;
}

static enum pool_code fetch_files(struct download *download, struct pool_error *err)
{
    struct download_plan *plan = &download->plan;
    CLEANUP_FREE char *cache_dir = pool_hub_cache_dir(download->cli->environment);
    struct file_context context = { .client = &download->client,
                                    .place = download_plan_place(plan),
                                    .meter = &download->meter,
                                    .n_connections = download->request->n_connections,
                                    .cache_dir = cache_dir,
                                    .is_forced = download->request->is_forced,
                                    .before_name = write_sums,
                                    .context = download };
    CLEANUP_FREE bool *are_old = calloc(plan->n_jobs + 1, sizeof *are_old);
    if (!are_old || !cache_dir)
        return pool_error_no_memory(err);
    enum pool_code code = POOL_OK;
    for (size_t i = 0; i < plan->n_jobs && code == POOL_OK; i++)
        code = file_job_lock(&plan->jobs[i], &context, err);
    if (code == POOL_OK)
        code = reserve_space(download, are_old, err);
    download->result.is_checked = true;
    for (size_t i = 0; i < plan->n_jobs && code == POOL_OK; i++) {
        if (!plan->jobs[i].is_there)
            code = run_job(download, &plan->jobs[i], &context, are_old[i], err);
    }
    return code;
}

/* ---- the whole ---- */

/* What is there says that the same command goes on from it. */
static void explain_rest(const struct download *download, struct pool_error *err)
{
    int64_t done_bytes = 0;
    int64_t total_bytes = 0;
    char done[HUMAN_BYTES_MAX];
    char total[HUMAN_BYTES_MAX];
    for (size_t i = 0; i < download->plan.n_jobs; i++) {
        const struct file_job *job = &download->plan.jobs[i];
        total_bytes = add_bytes(total_bytes, job->facts.size_bytes);
        done_bytes = add_bytes(done_bytes, job->is_there ? job->facts.size_bytes
                                                         : part_state_done_bytes(&job->part.state));
    }
    if (!err || total_bytes == 0 || done_bytes == 0)
        return;
    format_bytes(done_bytes, done);
    format_bytes(total_bytes, total);
    size_t n = strlen(err->message);
    snprintf(err->message + n, sizeof err->message - n,
             "; %s of %s are here, the same command goes on from there", done, total);
    pool_error_add_number(err, "done_bytes", done_bytes);
    pool_error_add_number(err, "total_bytes", total_bytes);
}

/* Whether the model that was found is where downloads go to; its path has no symbolic links in it. */
static bool is_in_repository(const struct download *download)
{
    CLEANUP_FREE char *real = realpath(download->plan.repo_dir, NULL);
    return real && strncmp(download->result.model->path, real, strlen(real)) == 0;
}

static enum pool_code ask_and_fetch(struct download *download, struct pool_error *err)
{
    CLEANUP_FREE char *pinned = NULL;
    bool is_there = false;
    enum pool_code code = download_plan_ask(&download->plan, &download->client, err);
    if (code != POOL_OK)
        return code;
    pinned = download_plan_pinned_ref(&download->plan);
    if (!pinned)
        return pool_error_no_memory(err);
    if (!download->request->is_forced)
        code = look_on_disk(download, pinned, &is_there, err);
    if (code == POOL_OK && is_there) {
        download->result.source = DOWNLOAD_FROM_DISK;
        /* A branch has moved to a commit that is here already; of one in the Hub's cache the cache knows it itself. */
        bool is_in_cache = !is_in_repository(download);
        for (size_t i = 0; i < download->plan.n_jobs && !is_in_cache; i++)
            file_job_clean(&download->plan.jobs[i]);
        return is_in_cache ? POOL_OK : write_ref(download, err);
    }
    if (code == POOL_OK)
        code = fetch_files(download, err);
    if (code == POOL_OK)
        code = write_ref(download, err);
    if (code == POOL_OK)
        code = look_on_disk(download, pinned, &is_there, err);
    if (code == POOL_OK && !is_there)
        code = pool_error_set(err, POOL_INTERNAL, "%s was downloaded and is not found", pinned);
    if (code != POOL_OK && code != POOL_MODEL_CORRUPT)
        explain_rest(download, err);
    return code;
}

/* The Hub's program checks sizes alone, so what came is hashed here. */
static enum pool_code fetch_via_hf(struct download *download, struct pool_error *err)
{
    CLEANUP_FREE char *proof_dir = pool_config_proof_dir(download->config);
    struct pool_verify_options options = { .struct_size = sizeof options, .proof_dir = proof_dir };
    struct pool_verify_result verified = { 0 };
    bool is_there = false;
    if (!proof_dir)
        return pool_error_no_memory(err);
    enum pool_code code = via_hf_fetch(download->cli, &download->plan, err);
    if (code == POOL_OK)
        code = look_on_disk(download, download->request->model_ref, &is_there, err);
    if (code == POOL_OK && !is_there)
        code = pool_error_set(
            err, POOL_DOWNLOAD_FAILED,
            "'hf download' has ended, and %s is not in the Hub's cache; name a file with ::file=PATH",
            download->request->model_ref);
    if (code == POOL_OK)
        code = pool_model_verify(download->result.model, &options, &verified, err);
    download->result.is_checked = verified.is_verified;
    return code;
}

static enum pool_code open_client(struct download *download, struct hub_settings *settings, int cancel_fd,
                                  struct pool_error *err)
{
    enum pool_code code = hub_client_open(&download->client, settings, cancel_fd, err);
    download->client.n_tries = download->request->n_tries;
    return code;
}

static enum pool_code run(struct download *download, int cancel_fd, struct pool_error *err)
{
    CLEANUP(hub_settings_done) struct hub_settings settings = { 0 };
    bool is_there = false;
    enum pool_code code = hub_settings_read(download->cli->environment, &settings, err);
    /* What can not change needs no question; what is asked for offline is what is here. */
    bool can_know = download->plan.commit[0] || settings.is_offline;
    if (code == POOL_OK && can_know && !download->request->is_forced)
        code = look_on_disk(download, download->request->model_ref, &is_there, err);
    if (code != POOL_OK)
        return code;
    if (is_there) {
        download->result.source = DOWNLOAD_FROM_DISK;
        return POOL_OK;
    }
    if (settings.is_offline) {
        pool_error_set(err, POOL_DOWNLOAD_FAILED, "%s is not on disk, and HF_HUB_OFFLINE is set",
                       download->request->model_ref);
        if (err)
            err->is_retriable = false;
        return POOL_DOWNLOAD_FAILED;
    }
    if (download->request->is_via_hf)
        return fetch_via_hf(download, err);
    code = open_client(download, &settings, cancel_fd, err);
    return code == POOL_OK ? ask_and_fetch(download, err) : code;
}

enum pool_code download_model(struct cli *cli, const struct pool_model_catalog *catalog,
                              const struct download_request *request, int cancel_fd,
                              struct download_result *ret_result, struct pool_error *err)
{
    CLEANUP(download_done)
    struct download download = {
        .cli = cli, .catalog = catalog, .request = request, .meter = { .cli = cli }
    };
    enum pool_code code = cli_get_config(cli, &download.config, err);
    if (code == POOL_OK && download.config->n_models_dirs == 0)
        code = pool_error_set(err, POOL_INVALID_CONFIG, "pool.models_dirs names no folder to download to");
    if (code == POOL_OK)
        code = download_plan_init(&download.plan, catalog, request->model_ref,
                                  download.config->models_dirs[0], err);
    if (code == POOL_OK)
        code = run(&download, cancel_fd, err);
    if (code != POOL_OK)
        return code;
    *ret_result = download.result;
    download.result = (struct download_result){ 0 };
    return POOL_OK;
}
