/*
 * One file of a download, from its lock to its name: wait for another process that works on it, reserve its space, fetch
 * it, check it, give it its name.
 */
#ifndef DOWNLOAD_FILE_JOB_H
#define DOWNLOAD_FILE_JOB_H

#include "cli/download/fetch.h"
#include "cli/download/meter.h"

#define SHA256_TEXT_MAX (2 * SHA256_BYTES + 1)

struct file_job {
    char *path;                  /* in the repository; owned */
    int64_t expected_bytes;      /* by the catalog; -1: not said */
    const char *expected_sha256; /* by the catalog, borrowed; NULL: not said */
    struct hub_file_facts facts;
    struct part part;
    bool is_there;                /* under its name, before we did anything or by now */
    int64_t fetched_bytes;        /* by us */
    char sha256[SHA256_TEXT_MAX]; /* of its content, as somebody says who ought to know; "": nobody does */
};

struct file_context {
    struct hub_client *client;
    struct hub_place_name place; /* its revision is the commit */
    struct meter *meter;
    int n_connections;
    const char *cache_dir; /* of the Hub's own tools, read only */
    bool is_forced;        /* what is there under the name is fetched again */
    /* Called when a file is whole and right, before it gets its name. */
    enum pool_code (*before_name)(void *context, struct pool_error *err);
    void *context;
};

void file_job_done(struct file_job *job);
/* What the file shall become. */
struct part_content file_job_content(const struct file_job *job);
/* The catalog against the Hub, before a byte is fetched. Errors: MODEL_CORRUPT. */
POOL_MUST_CHECK enum pool_code file_job_check(const struct file_job *job, struct pool_error *err);
/**
 * Takes the file's lock; when another process has it, shows how far that one is until it has finished or given up.
 * is_there says afterwards whether there is anything left to do. Errors: CANCELLED, those of part_try_lock.
 */
POOL_MUST_CHECK enum pool_code file_job_lock(struct file_job *job, const struct file_context *context,
                                             struct pool_error *err);
/* Takes away what a process that was killed at the very end has left beside a file that has its name. */
void file_job_clean(struct file_job *job);
/**
 * Fetches and checks it, and gives it its name. The part is locked and prepared.
 * Errors: those of fetch_missing, MODEL_CORRUPT (other bytes than the Hub or the catalog says, also after they were fetched
 * again), those of part_publish.
 */
POOL_MUST_CHECK enum pool_code file_job_run(struct file_job *job, const struct file_context *context,
                                            bool is_old, struct pool_error *err);

#endif
