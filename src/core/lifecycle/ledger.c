/*
 * The ledger of a device: pure arithmetic over what the driver reports and what was promised.
 * Source: DESIGN, "The ledger of one device". It asks nobody and keeps nothing.
 */
#include <inttypes.h>
#include <pool/lifecycle.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"

/*
 * What a worker holds of its device. Workers and usages come in the same order most of the time, so the search
 * starts where the last one ended.
 */
static int64_t observed_bytes(const struct pool_ledger_input *input, const char *worker_id, size_t *cursor)
{
    for (size_t i = 0; i < input->n_usages; i++) {
        size_t at = (*cursor + i) % input->n_usages;
        const struct pool_worker_usage *usage = &input->usages[at];
        if (strcmp(usage->worker_id, worker_id) == 0 &&
            (!usage->device || strcmp(usage->device, input->device) == 0)) {
            *cursor = at + 1;
            return excess_bytes(input->usages[at].observed_bytes, 0);
        }
    }
    return 0;
}

void pool_ledger_compute(const struct pool_ledger_input *input, struct pool_ledger *ret_ledger)
{
    struct pool_ledger ledger = { .total_bytes = excess_bytes(input->total_bytes, 0),
                                  .used_bytes = excess_bytes(input->used_bytes, 0),
                                  .free_bytes = excess_bytes(input->free_bytes, 0),
                                  .headroom_bytes = excess_bytes(input->headroom_bytes, 0) };
    snprintf(ledger.device, sizeof ledger.device, "%s", input->device);
    ledger.elsewhere_bytes = excess_bytes(input->elsewhere_bytes, 0);
    if (ledger.elsewhere_bytes > 0 && input->elsewhere_state_id)
        snprintf(ledger.elsewhere_state_id, sizeof ledger.elsewhere_state_id, "%s",
                 input->elsewhere_state_id);
    int64_t observed_sum = 0;
    size_t cursor = 0;
    for (size_t i = 0; input->workers && i < input->workers->n_workers; i++) {
        const struct pool_worker_info *worker = input->workers->workers[i];
        bool is_here;
        int64_t reserved = pool_worker_info_reserved_on(worker, input->device, &is_here);
        if (!is_here)
            continue;
        int64_t observed = observed_bytes(input, worker->worker_id, &cursor);
        ledger.pending_bytes = add_bytes(ledger.pending_bytes, excess_bytes(reserved, observed));
        ledger.allocated_bytes = add_bytes(ledger.allocated_bytes, reserved > observed ? reserved : observed);
        observed_sum = add_bytes(observed_sum, observed);
        ledger.n_workers++;
    }
    int64_t others = excess_bytes(ledger.used_bytes, observed_sum);
    ledger.releasing_bytes =
        input->releasing_bytes < others ? excess_bytes(input->releasing_bytes, 0) : others;
    ledger.foreign_bytes = others - ledger.releasing_bytes;
    ledger.available_bytes =
        excess_bytes(ledger.free_bytes, add_bytes(add_bytes(ledger.pending_bytes, ledger.elsewhere_bytes),
                                                  ledger.headroom_bytes));
    *ret_ledger = ledger;
}

enum pool_code pool_ledger_admit(const struct pool_ledger *ledger, int64_t required_bytes,
                                 struct pool_error *err)
{
    if (required_bytes >= 0 && required_bytes <= ledger->available_bytes)
        return POOL_OK;
    bool is_host = strcmp(ledger->device, "host") == 0;
    enum pool_code code = is_host ? POOL_INSUFFICIENT_MEMORY : POOL_INSUFFICIENT_VRAM;
    char elsewhere[HUMAN_BYTES_MAX + 64] = "", required[HUMAN_BYTES_MAX], available[HUMAN_BYTES_MAX],
                                     free_text[HUMAN_BYTES_MAX], pending[HUMAN_BYTES_MAX],
                                     headroom[HUMAN_BYTES_MAX];
    format_bytes(required_bytes, required);
    format_bytes(ledger->available_bytes, available);
    format_bytes(ledger->free_bytes, free_text);
    format_bytes(ledger->pending_bytes, pending);
    format_bytes(ledger->headroom_bytes, headroom);
    if (ledger->elsewhere_bytes > 0) {
        char bytes[HUMAN_BYTES_MAX];
        format_bytes(ledger->elsewhere_bytes, bytes);
        snprintf(elsewhere, sizeof elsewhere, " - %s promised by another manager (state %.8s)", bytes,
                 ledger->elsewhere_state_id);
    }
    pool_error_set(err, code,
                   "%s has %s available, the worker needs %s (%s free - %s promised to %" PRId64
                   " worker%s%s - %s headroom)",
                   is_host ? "this host's memory" : ledger->device, available, required, free_text, pending,
                   ledger->n_workers, ledger->n_workers == 1 ? "" : "s", elsewhere, headroom);
    if (err) /* what is larger than the whole device will never fit */
        err->is_retriable = required_bytes <= excess_bytes(ledger->total_bytes, ledger->headroom_bytes);
    pool_error_add_text(err, "device", ledger->device);
    pool_error_add_number(err, is_host ? "required_memory_bytes" : "required_vram_bytes", required_bytes);
    pool_error_add_number(err, is_host ? "available_memory_bytes" : "available_vram_bytes",
                          ledger->available_bytes);
    pool_error_add_number(err, "free_bytes", ledger->free_bytes);
    pool_error_add_number(err, "pending_bytes", ledger->pending_bytes);
    pool_error_add_number(err, "headroom_bytes", ledger->headroom_bytes);
    pool_error_add_number(err, "total_bytes", ledger->total_bytes);
    pool_error_add_number(err, "used_bytes", ledger->used_bytes);
    pool_error_add_number(err, "allocated_bytes", ledger->allocated_bytes);
    pool_error_add_number(err, "foreign_bytes", ledger->foreign_bytes);
    pool_error_add_number(err, "releasing_bytes", ledger->releasing_bytes);
    pool_error_add_number(err, "n_workers", ledger->n_workers);
    if (ledger->elsewhere_bytes > 0) {
        pool_error_add_number(err, "elsewhere_bytes", ledger->elsewhere_bytes);
        pool_error_add_text(err, "elsewhere_state_id", ledger->elsewhere_state_id);
    }
    return code;
}
