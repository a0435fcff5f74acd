/*
 * The shares of a worker on its devices, one by one.
 */
#ifndef CORE_WORKER_SHARES_H
#define CORE_WORKER_SHARES_H

#include <pool/worker.h>

/* The device ("host" for none) and what is reserved there; of a worker with one device the only one. false: no more. */
bool worker_share_at(const struct pool_worker_info *worker, size_t index, char device[POOL_GPU_UUID_MAX],
                     int64_t *ret_bytes);

#endif
