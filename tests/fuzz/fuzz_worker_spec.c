/*
 * Fuzz target: the record that a worker carries in its environment, from any text. What is accepted can be registered
 * and is the same after being written and read again.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/lifecycle/plan.h"
#include "sample_worker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_FREE char *text = strndup((const char *)data, size); /* an environment has no NUL inside */
    CLEANUP_WORKER struct pool_worker_info *worker = NULL;
    CLEANUP_WORKER struct pool_worker_info *again = NULL;
    struct pool_error err = POOL_ERROR_INIT;
    enum pool_code code = text ? worker_spec_decode(text, &worker, &err) : POOL_INSUFFICIENT_MEMORY;
    if ((code == POOL_OK) != (worker != NULL) || code != err.code)
        abort();
    if (!worker)
        return 0;
    if (!pool_worker_id_is_valid(worker->worker_id) || worker->port < 1 || worker->port > 65535 ||
        worker->reserved_bytes < 0 || worker->process.pid != 0 || worker->revision != 0)
        abort();
    CLEANUP_FREE char *written = worker_spec_encode(worker);
    if (!written || worker_spec_decode(written, &again, NULL) != POOL_OK || differing_field(worker, again))
        abort();
    return 0;
}
