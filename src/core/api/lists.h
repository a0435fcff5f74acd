/*
 * Lists of GPUs and workers as members of a JSON object, for every answer that has them.
 */
#ifndef CORE_API_LISTS_H
#define CORE_API_LISTS_H

#include <pool/api.h>

#include "core/api/fields.h"

struct pool_gpu_list *gpu_list_new(void);
/* Releases a list made here; also half-built ones. */
void gpu_list_release(struct pool_gpu_list **list);
void worker_list_release(struct pool_worker_list **list);
/* NULL lists are written as empty ones. With ledgers, each GPU has a member `ledger`, which may be null. */
void write_gpus(struct writer *w, const struct pool_gpu_list *list, bool with_ledgers,
                const struct pool_ledger *ledgers, size_t n_ledgers);
void write_workers(struct writer *w, const struct pool_worker_list *list);
/* Read the array `gpus` or `workers` of an object; absent is empty. Errors: INVALID_REQUEST with field. */
enum pool_code read_gpus(json_t *json, struct pool_gpu_list *list, struct pool_error *err);
enum pool_code read_workers(json_t *json, struct pool_worker_list *list, struct pool_error *err);
/* The ledger of a device, or NULL. */
const struct pool_ledger *find_ledger(const struct pool_ledger *ledgers, size_t n_ledgers,
                                      const char *device);

#endif
