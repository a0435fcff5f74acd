/*
 * A whole model from the Hub onto this machine: what is there is used, what is missing is fetched, and only what is right
 * gets its name.
 */
#ifndef DOWNLOAD_DOWNLOAD_H
#define DOWNLOAD_DOWNLOAD_H

#include "cli/download/download_plan.h"

struct download_request {
    const char *model_ref;
    int n_connections;
    int n_tries;
    bool is_forced; /* fetch again what is there */
    bool is_via_hf; /* by the Hub's own program, into its own cache */
};

enum download_source { DOWNLOAD_FROM_HUB, DOWNLOAD_FROM_DISK };

struct download_result {
    enum download_source source;
    char *model_ref; /* pinned; owned */
    struct pool_model *model;
    int64_t fetched_bytes;
    bool is_checked; /* what was fetched had a SHA-256 to compare with, all of it */
};
void download_result_done(struct download_result *result);

/**
 * Errors: those of download_plan_ask, fetch_missing and part_prepare; DOWNLOAD_FAILED with HF_HUB_OFFLINE. An interrupted
 * download goes on where it was when it is asked for again.
 */
POOL_MUST_CHECK enum pool_code download_model(struct cli *cli, const struct pool_model_catalog *catalog,
                                              const struct download_request *request, int cancel_fd,
                                              struct download_result *ret_result, struct pool_error *err);

#endif
