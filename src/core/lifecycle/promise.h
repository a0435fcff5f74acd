/*
 * The record of what a worker was promised of GPUs, as the managers of a host show it to each other: a small file of lines
 * (see gpu_locks.h). Whoever may write into that directory may have written it, so it is read as hostile input. Pure.
 */
#ifndef LIFECYCLE_PROMISE_H
#define LIFECYCLE_PROMISE_H

#include <pool/api.h>
#include <pool/worker.h>

#include "base/random.h"
#include "base/strbuf.h"

#define PROMISE_MAX_BYTES 4096 /* one page: it is written and read as a whole */
#define PROMISE_NAME_MAX  64   /* STATE-ID.START, a worker's start on this host */

struct promise {
    char state_id[UUID_TEXT_MAX];
    struct pool_process_identity process; /* pid 0: not there yet, or never recorded */
    int64_t created_boottime_ns;
    int64_t ready_boottime_ns; /* 0: not yet */
    int64_t until_boottime_ns; /* when its start is over at the latest; 0: it has no end */
    size_t n_devices;
    struct promise_device {
        char uuid[POOL_GPU_UUID_MAX];
        int64_t bytes;
    } devices[POOL_SPLIT_DEVICES_MAX];
};

/* Of a worker on GPUs. */
void promise_of_worker(const char *state_id, const struct pool_worker_info *worker,
                       struct promise *ret_promise);
/* false: no memory, or longer than PROMISE_MAX_BYTES. */
bool promise_encode(const struct promise *promise, struct strbuf *out);
/* false: it is none, or not all of it. */
bool promise_parse(const char *text, size_t n, struct promise *ret_promise);

#endif
