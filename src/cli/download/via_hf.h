/*
 * Downloads by the Hub's own program, `hf`, into its own cache, for those who have set it up for their network.
 */
#ifndef DOWNLOAD_VIA_HF_H
#define DOWNLOAD_VIA_HF_H

#include "cli/download/download_plan.h"

/**
 * Runs `hf download` for the files of the plan. No shell; it has the terminal for its progress.
 * Errors: DOWNLOAD_FAILED (there is no such program, or it failed: details.exit_code), INVALID_REQUEST,
 * INSUFFICIENT_MEMORY.
 */
POOL_MUST_CHECK enum pool_code via_hf_fetch(const struct cli *cli, const struct download_plan *plan,
                                            struct pool_error *err);

#endif
