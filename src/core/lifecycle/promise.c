/*
 * See promise.h. The lines, in this order, each ended by a newline:
 *
 *   pool-core promise 1
 *   state UUID
 *   boot BOOT-ID
 *   process PID START-TICKS PID-NAMESPACE
 *   times CREATED READY UNTIL          CLOCK_BOOTTIME in ns
 *   device UUID BYTES                  once for each device, at least one
 *   sum HEX                            FNV-1a of all before it: what is read while it is written is told from the whole
 */
#include "core/lifecycle/promise.h"

#include <inttypes.h>
#include <pool/lifecycle.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/number.h"
#include "core/worker_shares.h"

static const char first_line[] = "pool-core promise 1\n";

static uint64_t digest_of(const char *text, size_t n)
{
    uint64_t digest = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++)
        digest = (digest ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    return digest;
}

void promise_of_worker(const char *state_id, const struct pool_worker_info *worker,
                       struct promise *ret_promise)
{
    struct promise promise = { .process = worker->process,
                               .created_boottime_ns = worker->created_boottime_ns,
                               .ready_boottime_ns = worker->ready_boottime_ns };
    snprintf(promise.state_id, sizeof promise.state_id, "%s", state_id);
    if (worker->start_timeout_ms > 0 &&
        worker->start_timeout_ms <= INT64_MAX / NS_PER_MS / POOL_START_CAP_FACTOR)
        promise.until_boottime_ns = add_bytes(worker->created_boottime_ns,
                                              worker->start_timeout_ms * POOL_START_CAP_FACTOR * NS_PER_MS);
    while (promise.n_devices < POOL_SPLIT_DEVICES_MAX &&
           worker_share_at(worker, promise.n_devices, promise.devices[promise.n_devices].uuid,
                           &promise.devices[promise.n_devices].bytes))
        promise.n_devices++;
    *ret_promise = promise;
}

bool promise_encode(const struct promise *promise, struct strbuf *out)
{
    const struct pool_process_identity *process = &promise->process;
    strbuf_printf(out, "%sstate %s\nboot %s\nprocess %" PRId64 " %" PRId64 " %" PRIu64 "\n", first_line,
                  promise->state_id, process->boot_id[0] ? process->boot_id : "-", process->pid,
                  process->start_time_ticks, process->pid_namespace);
    strbuf_printf(out, "times %" PRId64 " %" PRId64 " %" PRId64 "\n", promise->created_boottime_ns,
                  promise->ready_boottime_ns, promise->until_boottime_ns);
    for (size_t i = 0; i < promise->n_devices; i++)
        strbuf_printf(out, "device %s %" PRId64 "\n", promise->devices[i].uuid, promise->devices[i].bytes);
    if (out->failure != STRBUF_FINE)
        return false;
    strbuf_printf(out, "sum %016" PRIx64 "\n", digest_of(strbuf_text(out), out->n));
    return out->failure == STRBUF_FINE && out->n <= PROMISE_MAX_BYTES;
}

/* ---- reading ---- */

struct reader {
    const char *at, *end;
};

/* "NAME " at the beginning of the next line. */
static bool take_name(struct reader *r, const char *name)
{
    size_t n = strlen(name);
    if ((size_t)(r->end - r->at) <= n || memcmp(r->at, name, n) != 0 || r->at[n] != ' ')
        return false;
    r->at += n + 1;
    return true;
}

/* A word up to the character that ends it, at most max - 1 characters; printable, and none that lists are made of. */
static bool take_word(struct reader *r, char ending, char *word, size_t max)
{
    size_t n = 0;
    while (r->at<r->end && * r->at> ' ' && *r->at < 0x7f && *r->at != ',' && *r->at != '=' && n + 1 < max)
        word[n++] = *r->at++;
    word[n] = '\0';
    return n > 0 && r->at < r->end && *r->at++ == ending;
}

static bool take_number(struct reader *r, char ending, int64_t *ret_value)
{
    size_t n = 0, left = (size_t)(r->end - r->at);
    while (n < left && r->at[n] >= '0' && r->at[n] <= '9')
        n++;
    if (n == left || r->at[n] != ending || !parse_int64_n(r->at, n, 0, INT64_MAX, ret_value))
        return false;
    r->at += n + 1;
    return true;
}

static bool read_head(struct reader *r, struct promise *promise)
{
    int64_t pid_namespace;
    struct pool_process_identity *process = &promise->process;
    if (!take_name(r, "state") || !take_word(r, '\n', promise->state_id, sizeof promise->state_id) ||
        !take_name(r, "boot") || !take_word(r, '\n', process->boot_id, sizeof process->boot_id) ||
        !take_name(r, "process") || !take_number(r, ' ', &process->pid) ||
        !take_number(r, ' ', &process->start_time_ticks) || !take_number(r, '\n', &pid_namespace) ||
        !take_name(r, "times") || !take_number(r, ' ', &promise->created_boottime_ns) ||
        !take_number(r, ' ', &promise->ready_boottime_ns) ||
        !take_number(r, '\n', &promise->until_boottime_ns))
        return false;
    process->pid_namespace = (uint64_t)pid_namespace;
    if (strcmp(process->boot_id, "-") == 0)
        process->boot_id[0] = '\0';
    return process->pid <= INT32_MAX;
}

bool promise_parse(const char *text, size_t n, struct promise *ret_promise)
{
    struct promise promise = { 0 };
    struct reader r = { text, text + n };
    char sum[17], expected[17];
    if (n > PROMISE_MAX_BYTES || n < sizeof first_line - 1 ||
        memcmp(text, first_line, sizeof first_line - 1) != 0)
        return false;
    r.at += sizeof first_line - 1;
    if (!read_head(&r, &promise))
        return false;
    while (take_name(&r, "device")) {
        if (promise.n_devices == POOL_SPLIT_DEVICES_MAX)
            return false;
        struct promise_device *device = &promise.devices[promise.n_devices++];
        if (!take_word(&r, ' ', device->uuid, sizeof device->uuid) || !take_number(&r, '\n', &device->bytes))
            return false;
    }
    snprintf(expected, sizeof expected, "%016" PRIx64, digest_of(text, (size_t)(r.at - text)));
    if (promise.n_devices == 0 || !take_name(&r, "sum") || !take_word(&r, '\n', sum, sizeof sum) ||
        r.at != r.end || strcmp(sum, expected) != 0)
        return false;
    *ret_promise = promise;
    return true;
}
