/*
 * The arithmetic of the ledger: DESIGN's formulas on fixed cases, and its promises over random ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pool/lifecycle.h>

#include "base/number.h"

#define GIB  (INT64_C(1) << 30)
#define UUID "GPU-00000000-0000-0000-0000-000000000001"

struct entry {
    const char *device; /* NULL: the host's memory */
    int64_t reserved;
    int64_t observed; /* -1: started after the snapshot */
};

static struct pool_worker_list *make_workers(const struct entry *entries, size_t n,
                                             struct pool_worker_usage *usages, size_t *ret_n_usages)
{
    struct pool_worker_list *list = calloc(1, sizeof *list);
    assert_non_null(list);
    list->workers = calloc(n + 1, sizeof(struct pool_worker_info *));
    assert_non_null(list->workers);
    *ret_n_usages = 0;
    for (size_t i = 0; i < n; i++) {
        char id[32];
        snprintf(id, sizeof id, "w%zu", i);
        struct pool_worker_info *worker = pool_worker_info_new();
        assert_non_null(worker);
        worker->worker_id = strdup(id);
        worker->gpu_uuid = entries[i].device ? strdup(entries[i].device) : NULL;
        worker->reserved_bytes = entries[i].reserved;
        list->workers[list->n_workers++] = worker;
        if (entries[i].observed >= 0)
            usages[(*ret_n_usages)++] = (struct pool_worker_usage){ .worker_id = worker->worker_id,
                                                                    .observed_bytes = entries[i].observed };
    }
    return list;
}

static struct pool_ledger compute(const char *device, int64_t total, int64_t used, int64_t headroom,
                                  int64_t releasing, const struct entry *entries, size_t n)
{
    struct pool_worker_usage usages[64];
    size_t n_usages;
    struct pool_worker_list *list = make_workers(entries, n, usages, &n_usages);
    struct pool_ledger_input input = { .struct_size = sizeof input,
                                       .device = device,
                                       .total_bytes = total,
                                       .used_bytes = used,
                                       .free_bytes = total - used,
                                       .headroom_bytes = headroom,
                                       .releasing_bytes = releasing,
                                       .workers = list,
                                       .n_usages = n_usages,
                                       .usages = usages };
    struct pool_ledger ledger;
    pool_ledger_compute(&input, &ledger);
    pool_worker_list_free(list);
    return ledger;
}

static void test_empty_device(void **state)
{
    (void)state;
    struct pool_ledger ledger = compute(UUID, 24 * GIB, 1 * GIB, GIB / 4, 0, NULL, 0);
    assert_int_equal(ledger.available_bytes, 23 * GIB - GIB / 4);
    assert_int_equal(ledger.foreign_bytes, 1 * GIB);
    assert_int_equal(ledger.pending_bytes, 0);
    assert_int_equal(ledger.allocated_bytes, 0);
}

static void test_promises_count_until_taken(void **state)
{
    (void)state;
    const struct entry entries[] = { { UUID, 8 * GIB, 3 * GIB },
                                     { UUID, 4 * GIB, -1 },
                                     { NULL, 50 * GIB, 0 } };
    struct pool_ledger ledger = compute(UUID, 24 * GIB, 5 * GIB, 0, 0, entries, 3);
    assert_int_equal(ledger.pending_bytes, 5 * GIB + 4 * GIB);
    assert_int_equal(ledger.available_bytes, 19 * GIB - 9 * GIB);
    assert_int_equal(ledger.allocated_bytes, 12 * GIB);
    assert_int_equal(ledger.foreign_bytes, 2 * GIB);
    assert_int_equal(ledger.n_workers, 2);
}

static void test_more_than_promised_is_not_pending(void **state)
{
    (void)state;
    const struct entry entries[] = { { UUID, 2 * GIB, 6 * GIB } };
    struct pool_ledger ledger = compute(UUID, 24 * GIB, 7 * GIB, 0, 0, entries, 1);
    assert_int_equal(ledger.pending_bytes, 0);
    assert_int_equal(ledger.allocated_bytes, 6 * GIB);
    assert_int_equal(ledger.foreign_bytes, 1 * GIB);
}

static void test_releasing_is_not_foreign(void **state)
{
    (void)state;
    struct pool_ledger ledger = compute(UUID, 24 * GIB, 10 * GIB, 0, 4 * GIB, NULL, 0);
    assert_int_equal(ledger.releasing_bytes, 4 * GIB);
    assert_int_equal(ledger.foreign_bytes, 6 * GIB);
    ledger = compute(UUID, 24 * GIB, 1 * GIB, 0, 4 * GIB, NULL, 0);
    assert_int_equal(ledger.releasing_bytes, 1 * GIB);
    assert_int_equal(ledger.foreign_bytes, 0);
}

static void test_host_memory_is_a_device(void **state)
{
    (void)state;
    const struct entry entries[] = { { NULL, 4 * GIB, 1 * GIB }, { UUID, 8 * GIB, 0 } };
    struct pool_ledger ledger = compute("host", 16 * GIB, 6 * GIB, 0, 0, entries, 2);
    assert_int_equal(ledger.pending_bytes, 3 * GIB);
    assert_int_equal(ledger.available_bytes, 7 * GIB);
}

static void test_admission_shows_its_arithmetic(void **state)
{
    (void)state;
    const struct entry entries[] = { { UUID, 8 * GIB, 3 * GIB } };
    struct pool_ledger ledger = compute(UUID, 24 * GIB, 4 * GIB, GIB, 0, entries, 1);
    struct pool_error err = POOL_ERROR_INIT;
    assert_int_equal(ledger.available_bytes, 14 * GIB);
    assert_int_equal(pool_ledger_admit(&ledger, 14 * GIB, &err), POOL_OK);
    assert_int_equal(pool_ledger_admit(&ledger, 14 * GIB + 1, &err), POOL_INSUFFICIENT_VRAM);
    assert_true(err.is_retriable);
    assert_int_equal(pool_error_detail(&err, "required_vram_bytes")->number, 14 * GIB + 1);
    assert_int_equal(pool_error_detail(&err, "available_vram_bytes")->number,
                     pool_error_detail(&err, "free_bytes")->number -
                         pool_error_detail(&err, "pending_bytes")->number -
                         pool_error_detail(&err, "headroom_bytes")->number);
    assert_int_equal(pool_ledger_admit(&ledger, 25 * GIB, &err), POOL_INSUFFICIENT_VRAM);
    assert_false(err.is_retriable); /* larger than the device: waiting does not help */
    assert_int_equal(pool_ledger_admit(&ledger, -1, &err), POOL_INSUFFICIENT_VRAM);
    snprintf(ledger.device, sizeof ledger.device, "host");
    assert_int_equal(pool_ledger_admit(&ledger, 15 * GIB, &err), POOL_INSUFFICIENT_MEMORY);
    assert_non_null(pool_error_detail(&err, "required_memory_bytes"));
}

/* xorshift64, Marsaglia 2003. */
static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* Starts as admitted, loads and stops at random: promised and taken bytes never exceed the device. */
static void test_never_over_committed(void **state)
{
    (void)state;
    uint64_t seed = 20251009;
    const int64_t total = 80 * GIB, headroom = GIB;
    struct entry entries[64];
    size_t n = 0;
    int64_t foreign = 2 * GIB;
    for (int step = 0; step < 20000; step++) {
        uint64_t dice = next_random(&seed) % 3;
        int64_t used = foreign, promised = 0;
        for (size_t i = 0; i < n; i++) {
            used += entries[i].observed;
            promised += entries[i].reserved;
        }
        struct pool_ledger ledger = compute(UUID, total, used, headroom, 0, entries, n);
        assert_int_equal(ledger.available_bytes, total - foreign - promised - headroom);
        if (dice == 0 && n < 64) {
            int64_t bytes = (int64_t)(next_random(&seed) % (uint64_t)(12 * GIB));
            bool fits = foreign + promised + bytes + headroom <= total;
            assert_int_equal(pool_ledger_admit(&ledger, bytes, NULL) == POOL_OK, fits);
            if (fits)
                entries[n++] = (struct entry){ UUID, bytes, 0 };
        } else if (dice == 1 && n > 0) {
            struct entry *entry = &entries[next_random(&seed) % n];
            entry->observed +=
                (int64_t)(next_random(&seed) % (uint64_t)(entry->reserved - entry->observed + 1));
        } else if (n > 0) {
            entries[next_random(&seed) % n] = entries[n - 1];
            n--;
        }
    }
}

static void test_nonsense_never_overflows(void **state)
{
    (void)state;
    const int64_t values[] = { INT64_MIN, -1, 0, 1, INT64_MAX };
    for (size_t a = 0; a < 5; a++) {
        for (size_t b = 0; b < 5; b++) {
            const struct entry entries[] = { { UUID, values[a], INT64_MAX }, { UUID, values[b], INT64_MAX } };
            struct pool_ledger_input input = { .struct_size = sizeof input,
                                               .device = UUID,
                                               .total_bytes = values[a],
                                               .used_bytes = values[b],
                                               .free_bytes = values[a],
                                               .headroom_bytes = values[b],
                                               .releasing_bytes = values[a] };
            struct pool_worker_usage usages[2];
            struct pool_ledger ledger;
            input.workers = make_workers(entries, 2, usages, &input.n_usages);
            input.usages = usages;
            pool_ledger_compute(&input, &ledger);
            pool_worker_list_free((struct pool_worker_list *)(uintptr_t)input.workers);
            assert_true(ledger.available_bytes >= 0 && ledger.pending_bytes >= 0 &&
                        ledger.foreign_bytes >= 0 && ledger.releasing_bytes >= 0 &&
                        ledger.allocated_bytes >= 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_device),
        cmocka_unit_test(test_promises_count_until_taken),
        cmocka_unit_test(test_more_than_promised_is_not_pending),
        cmocka_unit_test(test_releasing_is_not_foreign),
        cmocka_unit_test(test_host_memory_is_a_device),
        cmocka_unit_test(test_admission_shows_its_arithmetic),
        cmocka_unit_test(test_never_over_committed),
        cmocka_unit_test(test_nonsense_never_overflows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
