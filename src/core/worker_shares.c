/*
 * The shares of a worker on several devices: "UUID=BYTES,UUID=BYTES" in its record.
 */
#include <inttypes.h>
#include <pool/worker.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "base/strbuf.h"
#include "core/worker_shares.h"

#define SHARES_MAX_BYTES 65536

/* Takes the next share apart. false at the end, and where it is none. */
static bool next_share(const char **text, const char **ret_device, size_t *ret_n_device, int64_t *ret_bytes)
{
    size_t n = strcspn(*text, "=,");
    const char *digits = *text + n + 1;
    if (n == 0 || (*text)[n] != '=')
        return false;
    size_t n_digits = strspn(digits, "0123456789");
    if (!parse_int64_n(digits, n_digits, 0, INT64_MAX, ret_bytes))
        return false;
    *ret_device = *text;
    *ret_n_device = n;
    *text = digits + n_digits + (digits[n_digits] == ',');
    return true;
}

bool worker_share_at(const struct pool_worker_info *worker, size_t index, char device[POOL_GPU_UUID_MAX],
                     int64_t *ret_bytes)
{
    const char *text = worker->shares ? worker->shares : "", *uuid = NULL;
    size_t n = 0;
    if (!worker->shares) {
        snprintf(device, POOL_GPU_UUID_MAX, "%s", worker->gpu_uuid ? worker->gpu_uuid : "host");
        *ret_bytes = worker->reserved_bytes > 0 ? worker->reserved_bytes : 0;
        return index == 0;
    }
    for (size_t i = 0; i <= index; i++) {
        if (!next_share(&text, &uuid, &n, ret_bytes) || n >= POOL_GPU_UUID_MAX)
            return false;
    }
    memcpy(device, uuid, n);
    device[n] = '\0';
    return true;
}

int64_t pool_worker_info_reserved_on(const struct pool_worker_info *worker, const char *device,
                                     bool *ret_is_there)
{
    char here[POOL_GPU_UUID_MAX];
    int64_t bytes;
    bool is_there = false;
    if (!worker->shares) { /* by far the most */
        is_there = strcmp(worker->gpu_uuid ? worker->gpu_uuid : "host", device) == 0;
        bytes = worker->reserved_bytes > 0 ? worker->reserved_bytes : 0;
    } else {
        for (size_t i = 0; !is_there && worker_share_at(worker, i, here, &bytes); i++)
            is_there = strcmp(here, device) == 0;
    }
    if (ret_is_there)
        *ret_is_there = is_there;
    return is_there ? bytes : 0;
}

bool pool_worker_info_scale_reserve(struct pool_worker_info *worker, int64_t reserved_bytes)
{
    CLEANUP(strbuf_done) struct strbuf shares = STRBUF_INIT(SHARES_MAX_BYTES);
    const char *text = worker->shares ? worker->shares : "", *uuid;
    size_t n;
    int64_t bytes;
    double factor =
        worker->reserved_bytes > 0 ? (double)reserved_bytes / (double)worker->reserved_bytes : 1.0;
    while (next_share(&text, &uuid, &n, &bytes))
        strbuf_printf(&shares, "%s%.*s=%" PRId64, shares.n ? "," : "", (int)n, uuid,
                      (int64_t)((double)bytes * factor));
    if (shares.failure != STRBUF_FINE)
        return false;
    if (worker->shares) {
        char *copy = strbuf_take(&shares);
        if (!copy)
            return false;
        free(worker->shares);
        worker->shares = copy;
    }
    worker->reserved_bytes = reserved_bytes;
    return true;
}
