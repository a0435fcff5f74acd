/*
 * What the daemon knows and does about models: which are being verified, which are in RAM. A record for every model that
 * somebody asked this for; what is on disk and what the catalog says is looked up each time.
 */
#ifndef MANAGERD_MODELS_H
#define MANAGERD_MODELS_H

#include <pool/worker.h>

/* Whole disks and processors are busy with one; more than these would only wait for each other. */
#define MODEL_VERIFICATIONS_MAX 4
#define MODEL_STAGINGS_MAX      4
#define MODEL_PROGRESS_MS       500   /* between two events about one model's progress */
#define MODEL_MEASURE_MS        30000 /* how often it is looked how much of what was staged is still there */

struct daemon;
struct models;

POOL_MUST_CHECK enum pool_code models_open(struct daemon *daemon, struct models **ret_models,
                                           struct pool_error *err);
/* Looks whether a catalog was changed, and tells how many models there are now. */
void models_reread_catalogs(struct models *models);
/* What is under way ends soon. */
void models_cancel(struct models *models);
/* After the loop has ended. Unlocks what was locked; the pages stay as long as the kernel likes. NULL is fine. */
void models_close(struct models *models);
/* A worker was started: its model is in use, and was used last now. */
void models_note_start(struct models *models, const struct pool_worker_info *worker);
/* Of staged models, in the page cache as it was measured last; where nobody can tell, all of them. */
int64_t models_staged_bytes(const struct models *models);

#endif
