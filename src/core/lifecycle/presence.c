/*
 * Whether workers are on their GPUs: the verdict and its words; see pool/presence.h. Who records it is in supervise.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "base/strbuf.h"
#include "core/lifecycle/presence.h"
#include "core/worker_shares.h"

/*
 * What proves that a device is used. An engine that goes on with the CPU holds nothing, or the context that it opened when
 * it looked at the device: with the workspaces of cuBLAS some 500 MiB (src/core/catalog/estimate.c), and with more code of
 * larger devices somewhat more. So more than CONTEXT_MAX_BYTES is no mere context. A model that needs little more than that
 * is held to half of what is expected: a bare context can pass for it, which holds nothing can not.
 *
 * No more than an eighth is asked of a large one: estimates count all of the context's cache, which some engines take as
 * it fills, and what was asked for says what may be taken. Less than that is no use of a device that anybody meant.
 */
#define CONTEXT_MAX_BYTES (INT64_C(768) << 20)
#define EXPECTED_PART     2
#define LARGE_PART        8

/* MPS up to Volta lists its server in place of the processes behind it. Cut as the kernel cuts the name. */
static const char mps_server[] = "nvidia-cuda-mps";

static int64_t least_of(int64_t expected_bytes)
{
    int64_t part = expected_bytes / EXPECTED_PART, large = expected_bytes / LARGE_PART;
    int64_t least = part < CONTEXT_MAX_BYTES ? part : CONTEXT_MAX_BYTES;
    least = large > least ? large : least;
    return expected_bytes > 0 && least == 0 ? 1 : least;
}

/* What is reserved there, or its share of the estimate where that is less: a request may reserve more than is needed. */
static int64_t expected_of(const struct pool_worker_info *worker, int64_t share_bytes)
{
    if (worker->estimated_bytes <= 0 || worker->estimated_bytes >= worker->reserved_bytes)
        return share_bytes;
    double part = (double)worker->estimated_bytes / (double)worker->reserved_bytes;
    return (int64_t)((double)share_bytes * part);
}

static void list_seats(const struct pool_worker_info *worker, struct pool_presence *presence)
{
    int64_t share_bytes;
    for (size_t i = 0; worker->gpu_uuid && i < POOL_SPLIT_DEVICES_MAX; i++) {
        struct pool_presence_seat *seat = &presence->seats[i];
        if (!worker_share_at(worker, i, seat->gpu_uuid, &share_bytes))
            return;
        seat->expected_bytes = expected_of(worker, share_bytes);
        seat->least_bytes = least_of(seat->expected_bytes);
        presence->n_seats++;
    }
}

/* One that was there before may sleep: it has given its model back, and keeps a context. */
static void relax_seats(const struct pool_worker_info *worker, struct pool_presence *presence)
{
    int64_t least = 0;
    for (size_t i = 0; i < presence->n_seats; i++)
        least = add_bytes(least, presence->seats[i].least_bytes);
    if (worker->ready_boottime_ns == 0 || !worker->peak_bytes.is_present || worker->peak_bytes.value < least)
        return;
    for (size_t i = 0; i < presence->n_seats; i++)
        presence->seats[i].least_bytes = presence->seats[i].expected_bytes > 0;
}

static const struct pool_device_use *find_use(const struct pool_attribution *attribution,
                                              const char *gpu_uuid)
{
    for (size_t i = 0; i < attribution->n_devices; i++) {
        if (strcmp(attribution->devices[i].gpu_uuid, gpu_uuid) == 0)
            return &attribution->devices[i];
    }
    return NULL;
}

/* What is listed of a worker on a device. false: it is listed there, and not with how much. */
static bool sum_of(const struct pool_attribution *attribution, const char *worker_id, const char *gpu_uuid,
                   int64_t *ret_bytes)
{
    bool is_said = true;
    *ret_bytes = 0;
    for (size_t i = 0; i < attribution->n_processes; i++) {
        const struct pool_attributed_process *process = &attribution->processes[i];
        if (strcmp(process->worker_id, worker_id) != 0 || strcmp(process->gpu_uuid, gpu_uuid) != 0)
            continue;
        is_said = is_said && process->used_vram_bytes.is_present;
        *ret_bytes = add_bytes(*ret_bytes, process->used_vram_bytes.value);
    }
    return is_said;
}

/*
 * Whether as much as is missing may be held by somebody who is not listed: it belongs to nobody, and it went since the
 * worker's start, as far as that is known.
 */
static bool may_be_unlisted(const struct pool_worker_info *worker, const struct pool_gpu_info *gpu,
                            const struct pool_device_use *use, int64_t least_bytes)
{
    if (use->unknown_bytes < least_bytes)
        return false;
    bool is_drop_known = worker->free_before_start_bytes.is_present && !worker->shares;
    return !is_drop_known ||
           excess_bytes(worker->free_before_start_bytes.value, gpu->vram_free_bytes) >= least_bytes;
}

static void judge_seat(const struct pool_worker_info *worker, const struct pool_gpu_list *gpus,
                       const struct pool_attribution *attribution, struct pool_presence_seat *seat)
{
    const struct pool_gpu_info *gpu = pool_gpu_list_find(gpus, seat->gpu_uuid);
    const struct pool_device_use *use = find_use(attribution, seat->gpu_uuid);
    int64_t bytes;
    /* A device that is lost, or of which nothing is heard, says nothing of its workers. */
    if (!gpu || !use || gpu->health != POOL_GPU_HEALTHY)
        return;
    bool is_said = sum_of(attribution, worker->worker_id, seat->gpu_uuid, &bytes);
    /* Somebody wrote that file, and no process is in it because it runs. */
    bool is_file = strcmp(gpus->source, "static") == 0;
    bool is_known = is_said && !is_file && use->is_known && use->are_holders_known;
    if (is_known || bytes > 0)
        seat->seen_bytes = (struct pool_reading){ true, bytes };
    if (bytes >= seat->least_bytes)
        seat->verdict = POOL_PRESENCE_ON_GPU;
    else if (is_known && !may_be_unlisted(worker, gpu, use, seat->least_bytes))
        seat->verdict = POOL_PRESENCE_NOT_ON_GPU;
}

static bool has_seat(const struct pool_presence *presence, const char *gpu_uuid)
{
    for (size_t i = 0; i < presence->n_seats; i++) {
        if (strcmp(presence->seats[i].gpu_uuid, gpu_uuid) == 0)
            return true;
    }
    return false;
}

static void look_elsewhere(const struct pool_worker_info *worker, const struct pool_gpu_list *gpus,
                           const struct pool_attribution *attribution, struct pool_presence *presence)
{
    for (size_t i = 0; i < gpus->n_gpus; i++) {
        const struct pool_gpu_info *gpu = gpus->gpus[i];
        int64_t bytes;
        if (!gpu->is_placeable || has_seat(presence, gpu->uuid))
            continue;
        (void)sum_of(attribution, worker->worker_id, gpu->uuid, &bytes);
        if (bytes <= presence->elsewhere_bytes)
            continue;
        presence->elsewhere_bytes = bytes;
        snprintf(presence->elsewhere_uuid, sizeof presence->elsewhere_uuid, "%s", gpu->uuid);
    }
}

void pool_presence_judge(const struct pool_worker_info *worker, const struct pool_gpu_list *gpus,
                         const struct pool_attribution *attribution, struct pool_presence *ret_presence)
{
    size_t n_present = 0, n_absent = 0;
    *ret_presence = (struct pool_presence){ .verdict = POOL_PRESENCE_UNKNOWN };
    list_seats(worker, ret_presence);
    relax_seats(worker, ret_presence);
    for (size_t i = 0; i < ret_presence->n_seats; i++) {
        judge_seat(worker, gpus, attribution, &ret_presence->seats[i]);
        n_present += ret_presence->seats[i].verdict == POOL_PRESENCE_ON_GPU;
        n_absent += ret_presence->seats[i].verdict == POOL_PRESENCE_NOT_ON_GPU;
    }
    if (ret_presence->n_seats == 0)
        return;
    look_elsewhere(worker, gpus, attribution, ret_presence);
    if (n_absent > 0)
        ret_presence->verdict = POOL_PRESENCE_NOT_ON_GPU;
    else if (n_present == ret_presence->n_seats)
        ret_presence->verdict = POOL_PRESENCE_ON_GPU;
}

bool presence_hides_holders(const struct pool_attributed_process *process)
{
    /* Without a name it has ended, or is hidden from us; and then it may be anybody's. */
    return process->pid <= 0 || (!process->worker_id[0] && !process->command[0]) ||
           strncmp(process->command, mps_server, sizeof mps_server - 1) == 0;
}

/* ---- words ---- */

const struct pool_presence_seat *pool_presence_cause(const struct pool_presence *presence)
{
    for (size_t i = 0; i < presence->n_seats; i++) {
        if (presence->seats[i].verdict == POOL_PRESENCE_NOT_ON_GPU)
            return &presence->seats[i];
    }
    return presence->n_seats > 0 ? &presence->seats[0] : NULL;
}

void presence_seat_format(const struct pool_presence_seat *seat, char *text, size_t n)
{
    char seen[HUMAN_BYTES_MAX], expected[HUMAN_BYTES_MAX], least[HUMAN_BYTES_MAX];
    format_bytes(seat->seen_bytes.value, seen);
    format_bytes(seat->expected_bytes, expected);
    format_bytes(seat->least_bytes, least);
    snprintf(text, n, "GPU %s lists %s of it; %s are expected, and %s would show that it is there",
             seat->gpu_uuid, seat->seen_bytes.is_present ? seen : "nothing that is known", expected, least);
}

#define SEAT_TEXT_MAX ((size_t)320)

void pool_presence_format(const struct pool_presence *presence, char *text, size_t n)
{
    struct strbuf all = STRBUF_INIT(SEAT_TEXT_MAX * (POOL_SPLIT_DEVICES_MAX + 1));
    for (size_t i = 0; i < presence->n_seats; i++) {
        char seat[SEAT_TEXT_MAX];
        presence_seat_format(&presence->seats[i], seat, sizeof seat);
        strbuf_printf(&all, "%s%s", i ? "; " : "", seat);
    }
    if (presence->elsewhere_uuid[0]) {
        char elsewhere[HUMAN_BYTES_MAX];
        format_bytes(presence->elsewhere_bytes, elsewhere);
        strbuf_printf(&all, "; GPU %s, which it was not given, lists %s", presence->elsewhere_uuid,
                      elsewhere);
    }
    snprintf(text, n, "%s", strbuf_text(&all));
    strbuf_done(&all);
}

/* ---- what follows ---- */

enum pool_not_on_gpu pool_presence_rule(const struct pool_config *config,
                                        const struct pool_worker_info *worker)
{
    const struct pool_backend *backend = NULL;
    bool is_known =
        worker->backend && pool_config_backend(config, worker->backend, &backend, NULL) == POOL_OK;
    return is_known ? backend->not_on_gpu : POOL_NOT_ON_GPU_WARN;
}

bool pool_worker_is_off_gpu(const struct pool_worker_info *worker)
{
    return worker->health_reason && strcmp(worker->health_reason, POOL_HEALTH_NOT_ON_GPU) == 0;
}

static bool is_serving(const struct pool_worker_info *worker)
{
    return worker->status == POOL_WORKER_READY || worker->status == POOL_WORKER_BUSY ||
           worker->status == POOL_WORKER_IDLE;
}

bool pool_presence_is_news(const struct pool_presence *presence, enum pool_not_on_gpu rule,
                           const struct pool_worker_info *worker)
{
    bool is_off = pool_worker_is_off_gpu(worker);
    bool is_warning = rule == POOL_NOT_ON_GPU_WARN;
    bool is_starting = worker->status == POOL_WORKER_SPAWNING && worker->process.pid > 0;
    if (!is_serving(worker) && !is_starting)
        return false;
    switch (presence->verdict) {
    case POOL_PRESENCE_UNKNOWN: return false;
    case POOL_PRESENCE_ON_GPU: return is_off;
    case POOL_PRESENCE_NOT_ON_GPU: break;
    }
    if (is_warning && is_starting)
        return false;
    /* Said already, or unhealthy for another reason: that one is said first. */
    return is_off ? worker->is_healthy != is_warning : worker->is_healthy;
}
